"""A plugin for the bench's bot: writes down when the brain began to answer, and what it had to read for that."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from roost import hookimpl
from roost.contracts import Prompt


@hookimpl
def startup(bot: Any) -> None:
    think = bot.brain.think

    async def watched(prompt: Prompt) -> AsyncIterator[str]:
        begun, first = time.perf_counter(), 0.0
        async for piece in think(prompt):
            first = first or time.perf_counter() - begun
            yield piece
        used = bot.brain.usage
        line = {"place": prompt.conversation, "first": first, "prompt": used.prompt, "cached": used.cached}
        with (bot.home / "thoughts.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    bot.brain.think = watched
