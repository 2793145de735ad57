"""A child process that serves: started, watched, ended, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from roost.errors import BrainError

READY = 600.0
GRACE = 5.0


class EngineProcess:
    """One run of the engine. It ends when its standard input does, so it cannot outlive this process."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.arguments = arguments
        self.environment = environment
        self.address = ""
        self.said: deque[str] = deque(maxlen=20)
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, and return when it serves. Raises BrainError with what it said last."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roost.brains.engine", *self.arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
            **apart(),
        )
        self._listening = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(READY):
                self.address = await self._address()
        except TimeoutError:
            await self.stop()
            raise BrainError(f"The engine was not ready after {READY:g} seconds. {self.last_words()}") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it: kindly first, by force after some seconds."""
        process = self._process
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._listening:
            await self._listening
        # The transport stays half open otherwise, and complains when it is collected.
        process._transport.close()  # type: ignore[attr-defined]

    async def ended(self, within: float) -> bool:
        """Whether it has ended, or does so soon: a connection breaks a moment before its process is gone."""
        if self._process is None:
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), within)
        return not self.alive

    def last_words(self) -> str:
        """How it ended and what it said last, as sentences."""
        status = self._process.returncode if self._process else None
        end = f"It ended with status {status}. " if status is not None else ""
        return end + (" ".join([*self.said][-4:]) or "It said nothing.")

    async def _address(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        async for line in self._process.stdout:
            with suppress(ValueError, KeyError, TypeError):
                return str(json.loads(line)["address"])
        await self._process.wait()
        if self._listening:
            await self._listening
        raise BrainError(f"The engine could not start. {self.last_words()}")

    async def _listen(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        stderr = self._process.stderr
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than the reader's limit; the rest comes with the next lines
                continue
            if not line:
                return
            if text := line.decode(errors="replace").strip():
                self.said.append(text[:500])


def apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the engine: the bot ends it when the last answer is done."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}
