"""A brain whose library thinks in a process of its own, one answer after the other."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

from roost.brains import spelled
from roost.brains.answer import Usage
from roost.brains.counts import Counts
from roost.brains.hygiene import cleaned
from roost.brains.llamacpp import UNUSED, note
from roost.brains.openai import encodable
from roost.brains.process import Restarts
from roost.brains.settings import SOURCES, EngineConfig
from roost.brains.worker import Worker
from roost.contracts import Brain, Piece, Prompt, Turn
from roost.errors import BrainError

log = logging.getLogger("roost.brain")


class Thinker(Brain):
    """Starts its process at the first `load` and again when it died.

    It calls tools where its engine `follows_schemas`, which is what makes calls well formed.
    """

    Config = EngineConfig
    hosts = SOURCES
    config: EngineConfig
    module: ClassVar[str]
    follows_schemas: ClassVar[bool] = False

    def __init__(self, config: EngineConfig, home: Path) -> None:
        super().__init__(config, home)
        self.engine: Worker | None = None
        self._loading: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._counts = Counts()
        self._context = config.context
        self._restarts = Restarts()
        self._used = time.monotonic()

    @abstractmethod
    async def options(self) -> dict[str, Any]:
        """What the process is told: above all its model, which is found and looked at here. Raises ModelError."""

    @property
    def context(self) -> int:
        """As configured, or as much as the model was made for if that is less."""
        return self._context

    @property
    def usage(self) -> Usage:
        """What the last answer cost."""
        return self.engine.usage if self.engine else Usage()

    async def load(self) -> None:
        """Have an engine that runs. All who call at the same time wait for the same start."""
        if self.engine is not None and self.engine.alive:
            return
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._start())
            self._loading.add_done_callback(note)
        await asyncio.shield(self._loading)

    async def unload(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
            self._loading = None
        await self._stop()

    async def shrink(self) -> None:
        """Have the engine forget conversations, and end it when nobody has needed it for long."""
        if self.engine is None or self._turn.locked():
            return
        if time.monotonic() - self._used < UNUSED:
            self.engine.shrink()
            return
        self._restarts.excuse()
        log.info("The engine was ended to give memory back; the next answer starts it again.")
        await self._stop()

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        deadline = time.monotonic() + self.config.timeout
        async with self._turn:
            await self.load()
            async with aclosing(cleaned(self._answer(prompt, deadline))) as pieces:
                async for piece in pieces:
                    yield piece
            self._used = time.monotonic()

    def _answer(self, prompt: Prompt, deadline: float) -> AsyncGenerator[Piece, None]:
        async def ask(prompt: Prompt, schema: dict[str, Any] | None = None) -> AsyncGenerator[Piece, None]:
            assert self.engine is not None
            left = max(0.0, deadline - time.monotonic())
            asked = question(prompt, self.config.temperature, schema)
            async with aclosing(self.engine.think(asked, left)) as pieces:
                async for piece in pieces:
                    yield piece

        return spelled.think(prompt, ask) if prompt.tools and self.follows_schemas else ask(prompt)

    async def count(self, text: str) -> int:
        """Exact while the engine runs, otherwise estimated from above."""
        known = self._counts.get(text)
        if known is not None:
            return known
        if self.engine is None or not self.engine.alive:
            return await super().count(text)
        try:
            return self._counts.put(text, await self.engine.count(encodable(text)))
        except BrainError:
            return await super().count(text)

    async def _start(self) -> None:
        await self._stop()
        options = await self.options()
        await self._restarts.pause()
        engine = Worker(self.module, {**self._usual(), **options})
        await engine.start()
        self.engine = engine
        self._context = min(self.config.context, int(engine.about["context"]))
        log.info("The model '%s' is ready.", Path(options["model"]).name)

    async def _stop(self) -> None:
        engine, self.engine = self.engine, None
        if engine:
            await engine.stop()

    def _usual(self) -> dict[str, Any]:
        config = self.config
        return {
            "context": config.context,
            "device": config.device,
            "threads": config.threads,
            "slots": max(1, config.slots),
        }


def question(prompt: Prompt, temperature: float, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """A prompt as `thinking` takes it."""
    return {
        "messages": [{"role": turn.role, "content": encodable(told(turn))} for turn in prompt.turns],
        "conversation": prompt.conversation,
        "max_tokens": prompt.max_tokens,
        "stop": list(prompt.stop),
        "temperature": temperature,
        "schema": json.dumps(schema) if schema else "",
    }


def told(turn: Turn) -> str:
    """What a turn says, with the calls of another brain in words."""
    return "\n".join(filter(None, [turn.text, *(f"I use {call.name} {call.arguments}." for call in turn.calls)]))
