"""Plain functions of plugins, each in a thread of its own.

Not in Python's pool: there, a few that never end would hold up everybody who needs a thread, and the end of the
process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from roost.acting import plugin
from roost.errors import PluginError

T = TypeVar("T")

AT_ONCE = 16  # calls of one plugin; others wait for their turn
LOST = 8  # calls of one plugin that nobody waits for any more, and that have not ended


@dataclass(slots=True)
class Calls:
    """Those of one plugin."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    lost: int = 0


_calls: WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, Calls]] = WeakKeyDictionary()


async def aside(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns that is called in a thread. One that is not waited for any more goes on there.

    Raises PluginError when too many of its plugin have not ended.
    """
    loop, name = asyncio.get_running_loop(), plugin()
    calls = _calls.setdefault(loop, defaultdict(Calls))[name]
    async with calls.turns:
        if calls.lost >= LOST:
            raise PluginError(f"{calls.lost} calls of '{name}' have not ended; it is called again when some have.")
        ended: asyncio.Future[T] = loop.create_future()
        _begin(ended, function, arguments)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not ended.done():
                calls.lost += 1
                ended.add_done_callback(lambda one: _found(calls, one))
            raise


def _found(calls: Calls, ended: asyncio.Future[Any]) -> None:
    calls.lost -= 1
    ended.exception()  # nobody else asks for it


def _begin(ended: asyncio.Future[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
    loop, context = asyncio.get_running_loop(), copy_context()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle, value)
        except RuntimeError:  # closed: nobody listens
            return

    def work() -> None:
        try:
            result = context.run(function, *arguments)
        except StopIteration as error:  # which no future can hold
            tell(ended.set_exception, RuntimeError(f"{type(error).__name__} was raised."))
        except BaseException as error:
            tell(ended.set_exception, error)
        else:
            tell(ended.set_result, result)

    threading.Thread(target=work, name=f"roost-plugin-{plugin()}", daemon=True).start()
