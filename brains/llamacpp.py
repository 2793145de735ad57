"""Local models, by llama.cpp in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from roost.brains import spelled
from roost.brains.answer import Usage
from roost.brains.choice import refusal, suitable
from roost.brains.client import Client
from roost.brains.counts import Counts
from roost.brains.engine import KEY, slot_context
from roost.brains.gguf import verify_gguf
from roost.brains.hygiene import cleaned
from roost.brains.machine import Build, read_machine
from roost.brains.openai import encodable, request
from roost.brains.plan import Wish
from roost.brains.process import EngineProcess, Restarts
from roost.brains.settings import SOURCES, EngineConfig
from roost.brains.store import ModelStore
from roost.contracts import Brain, Piece, Prompt
from roost.errors import BrainError, ModelError
from roost.gauges import MIB

log = logging.getLogger("roost.brain")
# Seconds without an answer after which an engine may end when memory is short.
UNUSED = 600.0


class LlamaCpp(Brain):
    """Runs the model `model` on this machine; fetches it at the first `load`, and restarts an engine that died."""

    Config = EngineConfig
    hosts = SOURCES
    config: EngineConfig

    def __init__(self, config: EngineConfig, home: Path) -> None:
        super().__init__(config, home)
        self.store = ModelStore(home / "models")
        self.engine: EngineProcess | None = None
        self._client: Client | None = None
        self._loading: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(max(1, config.slots))
        self._counts = Counts()
        self._context = config.context
        self._restarts = Restarts()
        self._answering = 0
        self._used = time.monotonic()
        self._seen: set[str] = set()
        self._knows_tools = self._sees = False

    @property
    def context(self) -> int:
        """As configured, or as much as the model was made for if that is less."""
        return self._context

    @property
    def sees(self) -> bool:
        return self._sees

    @property
    def usage(self) -> Usage:
        """What the last answer cost."""
        return self._client.usage if self._client else Usage()

    async def load(self) -> None:
        """Have an engine that runs. All who call at the same time wait for the same start.

        One of them giving up, for instance because its time is over, does not stop a download.
        """
        if self.engine is not None and self.engine.alive and self._client is not None:
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
        """End an idle engine that holds more conversations than it has slots, or that nobody has needed for long.

        llama.cpp gives nothing back while it runs. The next answer starts it again.
        """
        if self._answering or self.engine is None or (self._loading is not None and not self._loading.done()):
            return
        if len(self._seen) <= max(1, self.config.slots) and time.monotonic() - self._used < UNUSED:
            return
        self._restarts.excuse()
        log.info("The engine was ended to give memory back; the next answer starts it again.")
        await self._stop()

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        with self._busy():
            async with self._turns:
                await self.load()
                self._seen.add(prompt.conversation)
                async with aclosing(cleaned(self._answer(prompt))) as pieces:
                    async for piece in pieces:
                        yield piece

    def _answer(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        if prompt.tools and not self._knows_tools:
            return spelled.think(prompt, self._pieces)
        return self._pieces(prompt)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            self._used = time.monotonic()

    async def _pieces(self, prompt: Prompt, schema: dict[str, Any] | None = None) -> AsyncGenerator[Piece, None]:
        client, engine = self._client, self.engine
        assert client is not None and engine is not None
        # Without progress to report, the engine would find out that nobody listens only after the whole prompt.
        body = {**request(prompt, self.config), "cache_prompt": True, "return_progress": True}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
        try:
            async with aclosing(client.stream(body)) as answer:
                async for piece in answer:
                    yield piece
        except BrainError as error:
            if await engine.ended(within=1.0):
                raise BrainError(f"The engine stopped in the middle of an answer. {engine.last_words()}") from error
            raise

    async def count(self, text: str) -> int:
        """Exact while the engine runs, otherwise estimated from above."""
        known = self._counts.get(text)
        if known is not None:
            return known
        client, engine = self._client, self.engine
        if client is None or engine is None or not engine.alive:
            return await super().count(text)
        try:
            answer = await client.post(f"{engine.address}/tokenize", {"content": encodable(text)})
        except BrainError:
            return await super().count(text)
        return self._counts.put(text, len(answer["tokens"]))

    async def _start(self) -> None:
        await self._stop()
        self._seen.clear()
        progress = self.progress or Report(self.config.model).note
        name = suitable(self.config.model, self.config.precision)
        await asyncio.to_thread(self._check_size, name)
        path = await self.store.ensure(name, progress, self.config.precision)
        header = await asyncio.to_thread(verify_gguf, path)
        self._context = slot_context(self.config.context, header)
        await self._restarts.pause()
        key = secrets.token_urlsafe(32)
        engine = EngineProcess(self._arguments(path), {KEY: key})
        await engine.start()
        self.engine = engine
        address = f"{engine.address}/v1"
        self._client = Client(address, key, total=self.config.timeout, idle=self.config.timeout, local=True)
        await self._ask_abilities(self._client, engine.address)
        log.info("The model '%s' is ready.", path.stem)

    async def _ask_abilities(self, client: Client, address: str) -> None:
        """Whether the chat template has a place for tools, without which the engine drops them unsaid; and pictures."""
        try:
            properties = await client.get(f"{address}/props")
        except BrainError:
            properties = {}
        able = properties.get("chat_template_caps", {})
        self._knows_tools = bool(able.get("supports_tools") and able.get("supports_tool_calls"))
        self._sees = bool(properties.get("modalities", {}).get("vision"))

    def _check_size(self, name: str) -> None:
        """Refuse a model whose numbers are known, and too large for this machine, before fetching it.

        The engine looks at every file again. Whether it can use a card is not known here.
        """
        shape = self.store.describe(name).outline() if self.store.find(name) is None else None
        if shape is None or self.config.device == "gpu":
            return
        machine, config = read_machine(), self.config
        wish = Wish(config.context, max(1, config.slots), cache=config.cache_ram * MIB, device="cpu")
        if not machine.cards and (why := refusal(shape, machine, Build(), wish)):
            raise ModelError(why)

    async def _stop(self) -> None:
        client, engine = self._client, self.engine
        self._client = self.engine = None
        if client:
            await client.close()
        if engine:
            await engine.stop()

    def _arguments(self, path: Path) -> list[str]:
        config = self.config
        options: dict[str, object] = {
            "model-path": path,
            "port": 0,
            "device": config.device,
            "context": self._context,
            "slots": max(1, config.slots),
            "threads": config.threads,
            "cache-ram": config.cache_ram,
        }
        if config.projector:
            options["projector"] = Path(config.projector).expanduser()
        return [*(part for name, value in options.items() for part in (f"--{name}", str(value))), "--watch-stdin"]


class Report:
    """Tells the log how far a download is, a tenth at a time."""

    def __init__(self, name: str) -> None:
        self.name = name or "default"
        self.told = -1

    def note(self, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self.told:
            self.told = tenth
            log.info("Fetching the model '%s': %d of %d MB.", self.name, done // 1_000_000, total // 1_000_000)


def note(task: asyncio.Task[None]) -> None:
    """Look at the outcome, so that a failure nobody waited for is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
