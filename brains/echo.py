"""A brain without a model: it says again what it was told. For demonstrations and tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from roost.brains.settings import EngineConfig
from roost.contracts import Brain, Prompt

WORD = re.compile(r"\s*\S+")


class Echo(Brain):
    """Answers with the last thing the user said, a word at a time."""

    Config = EngineConfig

    async def think(self, prompt: Prompt) -> AsyncIterator[str]:
        said = next((turn.text for turn in reversed(prompt.turns) if turn.role == "user"), "")
        for word in WORD.findall(said)[: prompt.max_tokens]:
            yield word
