"""Lanes: one conversation, one thing at a time, in order; many conversations side by side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger("roost")

WIDTH = 256  # items in work at a time; a lane that has had its turn goes behind the others


@dataclass(frozen=True, slots=True)
class Pause:
    """What `work` returns for an item that is not done: it stays first in its lane, for so many seconds or until
    `wake`. It costs no task meanwhile."""

    seconds: float | None = None


class Lanes(Generic[T]):
    """Work queued by key. A lane exists only while it has work.

    `work` is called with one item at a time of each key, and of `width` keys at a time; what is `urgent` does not
    wait for that. What it raises is logged, and the lane goes on.
    """

    def __init__(
        self,
        work: Callable[[T], Awaitable[Pause | None]],
        urgent: Callable[[str], bool] = lambda key: False,
        width: int = WIDTH,
    ) -> None:
        self._work = work
        self._urgent = urgent
        self._width = width
        self._queues: dict[str, deque[T]] = {}
        self._ready: deque[str] = deque()
        self._steps: dict[str, asyncio.Future[Pause | None]] = {}
        self._paused: dict[str, asyncio.TimerHandle | None] = {}
        self._holds = 0
        self._wakes = 0
        self._changed = asyncio.Event()

    def put(self, key: str, item: T) -> None:
        """Queue an item behind the others of its key."""
        if key in self._queues:
            self._queues[key].append(item)
            return
        self._queues[key] = deque([item])
        if key not in self._steps:  # the last step of a lane that was dropped comes to its end first
            self._line_up(key)

    def __len__(self) -> int:
        """The number of lanes that have work."""
        return len(self._queues)

    def busy(self, key: str) -> bool:
        return key in self._queues

    def next(self, key: str) -> T | None:
        """What comes after the item in work."""
        queue = self._queues.get(key)
        return queue[0] if queue else None

    def take_next(self, key: str) -> T:
        """Take out what `next` showed: the item in work does it too."""
        return self._queues[key].popleft()

    def wake(self) -> None:
        """Go on with what paused for no certain time, and with what is about to."""
        self._wakes += 1
        for key in [key for key, timer in self._paused.items() if timer is None]:
            self._resume(key)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let what runs come to its end and begin nothing new meanwhile, but for what is urgent."""
        self._holds += 1
        try:
            await self._until(lambda: not self._running)
            yield
        finally:
            self._holds -= 1
            self._fill()

    def interrupt(self, key: str) -> bool:
        """Cancel what runs now in a lane; the next item goes on. False when nothing ran."""
        step = self._steps.get(key)
        return step is not None and step.cancel("interrupted")

    async def idle(self) -> None:
        """Wait until every lane is empty."""
        await self._until(lambda: not self._queues)

    async def still(self) -> None:
        """Wait until every lane is empty or pauses."""
        await self._until(lambda: len(self._queues) <= len(self._paused))

    def drop(self, concerned: Callable[[str], bool]) -> None:
        """Cancel and forget some lanes; what was queued stays wherever it came from."""
        for key in [key for key in self._queues if concerned(key)]:
            del self._queues[key]
            if (timer := self._paused.pop(key, None)) is not None:
                timer.cancel()
            if (step := self._steps.get(key)) is not None:
                step.cancel()
        self._ready = deque(key for key in self._ready if key in self._queues)
        self._note()

    async def stop(self) -> None:
        """Cancel everything, as `drop` does."""
        steps = list(self._steps.values())
        self.drop(lambda key: True)
        await asyncio.gather(*steps, return_exceptions=True)

    @property
    def _running(self) -> int:
        return sum(not self._urgent(key) for key in self._steps)

    def _line_up(self, key: str) -> None:
        if self._urgent(key):
            self._begin(key)
            return
        self._ready.append(key)
        self._fill()

    def _fill(self) -> None:
        while self._ready and not self._holds and len(self._steps) < self._width:
            self._begin(self._ready.popleft())

    def _begin(self, key: str) -> None:
        queue = self._queues[key]
        item = queue.popleft()
        step = self._steps[key] = asyncio.ensure_future(self._work(item))
        step.add_done_callback(partial(self._ended, key, queue, item, self._wakes))

    def _ended(self, key: str, queue: deque[T], item: T, wakes: int, step: asyncio.Future[Pause | None]) -> None:
        del self._steps[key]
        pause = None
        if not step.cancelled():
            if (error := step.exception()) is not None:
                log.error("An item in the lane '%s' failed.", key, exc_info=error)
            else:
                pause = step.result()
        if pause == Pause() and wakes != self._wakes:
            pause = Pause(0)  # it decided so before the wake
        if self._queues.get(key) is queue:
            self._go_on(key, queue, item, pause)
        elif key in self._queues:
            self._line_up(key)
        self._fill()
        self._note()

    def _go_on(self, key: str, queue: deque[T], item: T, pause: Pause | None) -> None:
        if pause is not None:
            queue.appendleft(item)
            later = None if pause.seconds is None else _later(pause.seconds, self._resume, key)
            self._paused[key] = later
        elif queue:
            self._line_up(key)
        else:
            del self._queues[key]

    def _resume(self, key: str) -> None:
        del self._paused[key]
        self._line_up(key)

    def _note(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            await self._changed.wait()


def _later(seconds: float, call: Callable[[str], None], key: str) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call, key)
