"""Call hooks that happen: sync or async, in order, each isolated and limited in time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from typing import Any

import pluggy

log = logging.getLogger("roost.plugins")

TIME_LIMIT = 30.0


class Dispatcher:
    """pluggy calls functions and returns; this awaits what they return."""

    def __init__(self, plugins: pluggy.PluginManager, time_limit: float = TIME_LIMIT) -> None:
        self.plugins = plugins
        self.time_limit = time_limit

    async def each(self, hook: str, **values: Any) -> AsyncIterator[Any]:
        """What each plugin answers, in order; a plugin that fails or takes too long answers nothing."""
        # pluggy keeps the last registered last and calls it first; here the first registered goes first.
        for implementation in getattr(self.plugins.hook, hook).get_hookimpls():
            answer = await self._call(hook, implementation, values)
            if answer is not None:
                yield answer

    async def all(self, hook: str, **values: Any) -> None:
        """Tell every plugin."""
        async for _ in self.each(hook, **values):
            pass

    async def first(self, hook: str, **values: Any) -> Any:
        """The first answer that is not None."""
        async for answer in self.each(hook, **values):
            return answer
        return None

    async def _call(self, hook: str, implementation: Any, values: dict[str, Any]) -> Any:
        limit = asyncio.timeout(self.time_limit)
        try:
            async with limit:
                answer = implementation.function(*(values[name] for name in implementation.argnames))
                return await answer if inspect.isawaitable(answer) else answer
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            if limit.expired():
                plugin = implementation.plugin_name
                log.error("The plugin '%s' took more than %g s in %s and was cut off.", plugin, self.time_limit, hook)
            else:
                log.error("The plugin '%s' failed in %s.", implementation.plugin_name, hook, exc_info=error)
        return None


def is_cancelled() -> bool:
    """Whether somebody cancelled the running task, rather than something it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
