"""An engine that is kept running: started again when it died, ended when it is stuck."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from roost.brains.engine import KEY
from roost.brains.process import EngineProcess, Restarts


class KeptEngine:
    """`address` is where it serves now. `starts` counts how often it had to be started."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = arguments
        self.key = secrets.token_urlsafe(32)
        self.starts = 0
        self._engine: EngineProcess | None = None
        self._starting = asyncio.Lock()
        self._restarts = Restarts()

    @property
    def alive(self) -> bool:
        return self._engine is not None and self._engine.alive

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def address(self) -> str:
        """Where it serves, after a start if there has to be one. Raises BrainError."""
        async with self._starting:
            if self._engine is None or not self._engine.alive:
                await self._start()
            assert self._engine is not None
            return self._engine.address

    async def died(self, address: str) -> bool:
        """Whether the engine that was at this address is gone, or about to be."""
        engine = self._engine
        return engine is None or engine.address != address or await engine.ended(within=1.0)

    async def end(self, address: str = "") -> None:
        """End it, or only the one at this address."""
        async with self._starting:
            engine = self._engine
            if engine is not None and address in {"", engine.address}:
                self._engine = None
                await engine.stop()

    async def _start(self) -> None:
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None
        await self._restarts.pause()
        engine = EngineProcess([*self.arguments, "--port", "0", "--watch-stdin"], {KEY: self.key})
        self.starts += 1
        await engine.start()
        self._engine = engine

    def last_words(self) -> str:
        return self._engine.last_words() if self._engine is not None else ""
