"""Call hooks that happen: sync or async, in order, each isolated and limited in time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from roost.acting import Watch
from roost.aside import aside
from roost.registry import Registry, where_it_failed

log = logging.getLogger("roost.plugins")

T = TypeVar("T")
TIME_LIMIT = 30.0


class Dispatcher:
    """pluggy calls functions and returns; this awaits what they return."""

    def __init__(self, registry: Registry, time_limit: float = TIME_LIMIT) -> None:
        self.registry = registry
        self.watch = Watch()
        self.time_limit = time_limit

    async def each(self, hook: str, **values: Any) -> AsyncIterator[Any]:
        """What each plugin answers, in order; a plugin that fails or takes too long answers nothing."""
        for implementation in self.registry.implementations(hook):
            answer = await self.call(hook, implementation, **values)
            if answer is not None:
                yield answer

    async def all(self, hook: str, **values: Any) -> None:
        """Tell every plugin."""
        async for _ in self.each(hook, **values):
            pass

    async def call(self, hook: str, implementation: Any, **values: Any) -> Any:
        """What one plugin answers; None when it fails, which is logged, or has nothing to say."""

        async def work() -> Any:
            arguments = [values[name] for name in implementation.argnames]
            if implementation.plugin_name in self.watch.slow:
                return await threaded(implementation.function, arguments)
            answer = implementation.function(*arguments)
            return await answer if inspect.isawaitable(answer) else answer

        return await self.within(hook, implementation.plugin_name, work)

    async def within(self, hook: str, plugin: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """What some work of a plugin comes to; None when it fails or takes too long, which is logged."""
        limit = asyncio.timeout(self.time_limit)
        try:
            async with limit:
                with self.watch.of(plugin):
                    return await work()
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            if limit.expired():
                log.error("The plugin '%s' took more than %g s in %s and was cut off.", plugin, self.time_limit, hook)
            else:
                where = where_it_failed(error)
                log.error("The plugin '%s' failed in %s. %s", plugin, hook, where, exc_info=error)
        return None


async def threaded(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call a function in a thread, unless it is one that has to be awaited."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        answer = function(*arguments)
    else:
        answer = await aside(function, *arguments)
    return await answer if inspect.isawaitable(answer) else answer


def is_cancelled() -> bool:
    """Whether somebody cancelled the running task, rather than something it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
