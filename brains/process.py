"""A child process that serves: started, watched, ended, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from roost.errors import BrainError

READY = 600.0
GRACE = 5.0
# An engine that lived this long, in seconds, was not broken from the start.
HEALTHY = 60.0
LONGEST_PAUSE = 60.0
# Before llama.cpp's own words for why it does not take a file.
REASON = "error loading model: "
# A line of its log: the time, how grave it is, and where it comes from. What is less than an error tells nobody why.
LOGGED = re.compile(r"(?:\d+\.){3}\d+ (?P<level>[A-Z]) +")

Line = dict[str, Any]


class EngineProcess:
    """One run of the engine. It ends when its standard input does, so it cannot outlive this process.

    `module` is what is run, `limit` the longest line of its standard output, in bytes. One that cannot start writes
    `{"failed": "why"}` there, since its standard error holds the log of a library, whose threads write when they like.
    """

    module = "roost.brains.engine"
    limit = 1 << 16

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.arguments = arguments
        self.environment = environment
        self.address = ""
        self.said: deque[str] = deque(maxlen=20)
        self.why = ""
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
            *(sys.executable, "-m", self.module, *self.arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=self.limit,
            env={**os.environ, **self.environment},
            **apart(),
        )
        self._listening = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(READY):
                await self._ready()
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
        if self.why:
            reasons = [line.partition(REASON)[2] for line in self.said if REASON in line]
            return " ".join([self.why, *(f"llama.cpp says: {reason}." for reason in reasons)])
        status = self._process.returncode if self._process else None
        end = [f"It ended with status {status}."] if status is not None else []
        return " ".join([*end, *list(graver(self.said))[-4:]]) or "It said nothing."

    async def _ready(self) -> None:
        """Read its standard output until it says where it serves. Raises BrainError when it ends before."""
        while (line := await self._line()) is not None:
            if "address" in line:
                self.address = str(line["address"])
                return
            if "failed" in line:
                self.why = str(line["failed"])
        await self._gone()
        raise BrainError(f"The engine could not start. {self.last_words()}")

    async def _line(self) -> Line | None:
        """The next object of JSON on its standard output, None at the end of that."""
        assert self._process is not None and self._process.stdout is not None
        while True:
            try:
                raw = await self._process.stdout.readline()
            except ValueError:  # longer than a line of ours can be
                continue
            if not raw:
                return None
            with suppress(ValueError):
                line = json.loads(raw)
                if isinstance(line, dict):
                    return line

    async def _gone(self) -> None:
        """Wait for its end, and until all is read that it said."""
        assert self._process is not None
        await self._process.wait()
        if self._listening:
            await self._listening

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


def graver(lines: Iterable[str]) -> Iterator[str]:
    """What is left of lines without warnings of llama.cpp's log, and without the times of its errors."""
    for line in lines:
        logged = LOGGED.match(line)
        if logged is None or logged["level"] == "E":
            yield line[logged.end() :] if logged else line


def apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the engine: the bot ends it when the last answer is done."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


class Restarts:
    """Pauses before an engine is started again that keeps dying young: longer each time."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._failures = 0

    async def pause(self) -> None:
        """Wait if need be; the next start is taken to follow at once."""
        young = bool(self._begun) and time.monotonic() - self._begun < HEALTHY
        self._failures = self._failures + 1 if young else 0
        if self._failures > 1:
            await asyncio.sleep(min(2.0 ** (self._failures - 2), LONGEST_PAUSE))
        self._begun = time.monotonic()

    def excuse(self) -> None:
        """It was ended on purpose, and did not die young."""
        self._begun = 0.0
