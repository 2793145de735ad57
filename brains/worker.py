"""A child process that an engine thinks in, and the talk with it over its standard input and output.

One line of JSON each way; `thinking` is the other end. Nothing that the engine does, crash, leak or a long prompt, can
stop this process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from itertools import count

from roost.brains.answer import Usage
from roost.brains.process import EngineProcess, Line
from roost.errors import BrainError, ConfigError, ModelError

# An engine that has not let go of an answer so many seconds after nobody wanted it any more is ended.
STUCK = 60.0
LONGEST_LINE = 1 << 20
KINDS = {"ConfigError": ConfigError, "ModelError": ModelError}

ENDED: Line = {"ended": True}


class Worker(EngineProcess):
    """One run of `python -m MODULE OPTIONS`, which has to speak as `thinking` does."""

    limit = LONGEST_LINE

    def __init__(self, module: str, options: Line) -> None:
        super().__init__([json.dumps(options)], {})
        self.module = module
        self.about: Line = {}
        self.usage = Usage()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Queue[Line]] = {}
        self._leaving: dict[int, asyncio.TimerHandle] = {}
        self._talking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, and return when it is ready. Raises ConfigError, ModelError or BrainError with what it said."""
        await super().start()
        self._talking = asyncio.create_task(self._hear())

    async def stop(self) -> None:
        await super().stop()
        if self._talking:
            await self._talking
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()

    async def think(self, question: Line, within: float) -> AsyncGenerator[str, None]:
        """Pieces of the answer. Closing this frees the engine. Raises BrainError, after `within` seconds too."""
        number, deadline, over = next(self._numbers), time.monotonic() + within, False
        self._say({"do": "think", "id": number, **question}, number)
        try:
            while not over:
                reply = await self._reply(number, deadline)
                if text := reply.get("text"):
                    yield text
                over = "text" not in reply
                self._look(reply)
        finally:
            unread = self._waiting.pop(number)
            if not over and self.alive and not is_over(unread):
                self._leave(number)

    async def count(self, text: str) -> int:
        """The number of tokens in `text`. Raises BrainError."""
        number = next(self._numbers)
        self._say({"do": "count", "id": number, "text": text}, number)
        try:
            reply = await self._reply(number, time.monotonic() + STUCK)
            self._look(reply)
            return int(reply["tokens"])
        finally:
            self._waiting.pop(number, None)

    def shrink(self) -> None:
        """Have it forget the beginnings of conversations."""
        if self.alive:
            self._write({"do": "shrink"})

    async def _ready(self) -> None:
        """Read what it says of itself when it is ready."""
        while (line := await self._line()) is not None:
            if "ready" in line:
                self.about = line
                return
            if "failed" in line:
                raise KINDS.get(str(line.get("kind")), BrainError)(line["failed"])
        await self._gone()
        raise BrainError(f"The engine could not start. {self.last_words()}")

    async def _hear(self) -> None:
        """Hand every reply to who waits for it; when the process ends, tell all of them."""
        assert self._process is not None
        while (line := await self._line()) is not None:
            number = line.get("id", 0)
            if number in self._waiting:
                self._waiting[number].put_nowait(line)
            elif "text" not in line and number in self._leaving:
                self._leaving.pop(number).cancel()
        await self._process.wait()
        for queue in self._waiting.values():
            queue.put_nowait(ENDED)

    def _say(self, line: Line, number: int) -> None:
        self._waiting[number] = asyncio.Queue()
        if not self.alive:
            self._waiting[number].put_nowait(ENDED)
            return
        self._write(line)

    def _write(self, line: Line) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _reply(self, number: int, deadline: float) -> Line:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._waiting[number].get()
        except TimeoutError:
            raise BrainError("The engine took too long over an answer. Raise `timeout` in [brain].") from None

    def _look(self, reply: Line) -> None:
        """Raise what a reply says went wrong, and keep what the answer cost."""
        if reply is ENDED:
            raise BrainError(f"The engine stopped in the middle of an answer. {self.last_words()}")
        if "error" in reply:
            raise BrainError(str(reply["error"]))
        if "usage" in reply:
            self.usage = Usage(*reply["usage"])

    def _leave(self, number: int) -> None:
        """Tell the engine that nobody wants the answer; end it if it does not hear."""
        self._write({"do": "cancel", "id": number})
        self._leaving[number] = asyncio.get_running_loop().call_later(STUCK, self._end)

    def _end(self) -> None:
        if self._process and self.alive:
            with suppress(ProcessLookupError):
                self._process.kill()


def is_over(unread: asyncio.Queue[Line]) -> bool:
    """Whether the last line about an answer is among those that nobody read."""
    return any("text" not in unread.get_nowait() for _ in range(unread.qsize()))
