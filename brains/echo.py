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
        for word in WORD.findall(prompt.question)[: prompt.max_tokens]:
            yield word
