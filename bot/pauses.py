"""Trying again, with growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from roost.contracts import Host
from roost.errors import ChannelError, LoginFailed, NotSent

T = TypeVar("T")


def pauses(longest: float = 30.0) -> Iterator[float]:
    """Seconds to wait: about 1 at first, twice as much each time, up to `longest`.

    Each is a little different, so that many bots do not come back to a server at the same moment.
    """
    pause = min(1.0, longest)
    while True:
        yield random.uniform(pause / 2, pause)
        pause = min(2 * pause, longest)


async def persist(step: Callable[[], Awaitable[T]], host: Host) -> T:
    """Repeat a step of a channel until it succeeds, and tell of what keeps it from that. Raises LoginFailed."""
    waits = pauses()
    while True:
        try:
            return await step()
        except LoginFailed:
            raise
        except ChannelError as error:
            host.trouble(str(error))
            asked = error.retry_after if isinstance(error, NotSent) else None
            await asyncio.sleep(next(waits) if asked is None else asked)
