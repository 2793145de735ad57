"""Lanes: one conversation, one thing at a time, in order; many conversations side by side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger("roost")


class Lanes(Generic[T]):
    """Work queued by key. A lane exists only while it has work.

    `work` is called with one item at a time of each key. What it raises is logged, and the lane goes on.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], urgent: Callable[[str], bool] = lambda key: False) -> None:
        self._work = work
        self._urgent = urgent
        self._queues: dict[str, deque[T]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._open = asyncio.Event()
        self._open.set()

    def put(self, key: str, item: T) -> None:
        """Queue an item behind the others of its key."""
        if key in self._queues:
            self._queues[key].append(item)
            return
        self._queues[key] = deque([item])
        self._tasks[key] = asyncio.create_task(self._drive(key), name=f"lane {key}")

    def __len__(self) -> int:
        """The number of lanes that have work."""
        return len(self._tasks)

    def busy(self, key: str) -> bool:
        return key in self._queues

    def take_next(self, key: str, fits: Callable[[T], bool]) -> T | None:
        """Take out what is next in a lane, if it fits."""
        queue = self._queues.get(key)
        return queue.popleft() if queue and fits(queue[0]) else None

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let what runs come to its end and begin nothing new meanwhile, but for what is urgent."""
        self._open.clear()
        try:
            while steps := [step for key, step in self._steps.items() if not self._urgent(key)]:
                await asyncio.wait(steps)
            yield
        finally:
            self._open.set()

    def interrupt(self, key: str) -> bool:
        """Cancel what runs now in a lane; the next item goes on. False when nothing ran."""
        step = self._steps.get(key)
        return step is not None and step.cancel("interrupted")

    async def idle(self) -> None:
        """Wait until every lane is empty."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self) -> None:
        """Cancel everything; what was queued stays wherever it came from."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, key: str) -> None:
        items = self._queues[key]
        try:
            while items:
                await self._step(key, items.popleft())
        finally:
            del self._queues[key], self._tasks[key]

    async def _step(self, key: str, item: T) -> None:
        """Run one item as a task of its own, so that it can be interrupted without ending the lane."""
        if not self._urgent(key):
            await self._open.wait()
        step = self._steps[key] = asyncio.ensure_future(self._work(item))
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            step.cancel()
            await asyncio.wait([step])
            raise
        finally:
            del self._steps[key]
        if not step.cancelled() and (error := step.exception()) is not None:
            log.error("An item in the lane '%s' failed.", key, exc_info=error)
