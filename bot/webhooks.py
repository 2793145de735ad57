"""Which webhooks of the channels take what nobody has signed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from roost.config import ChannelEntry, has_routes
from roost.contracts import Route, Said, unsigned
from roost.values import Place

SAFE = ("GET", "HEAD")


class Nobody:
    """What a channel is offered while only its routes are looked at."""

    bot_name = ""

    def __init__(self, home: Path) -> None:
        self.home = home

    def pulse(self) -> None:
        pass

    def trouble(self, why: str) -> None:
        pass

    def address(self, path: str = "") -> str:
        """Some address, so that a channel has all its routes."""
        return f"https://roost.invalid{path}"

    def commands(self) -> Sequence[tuple[str, str]]:
        return ()

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        return ()


def unsigned_webhooks(channels: Mapping[str, ChannelEntry]) -> Iterator[tuple[str, str]]:
    """The name of each channel with such a webhook, and what is wrong with it."""
    for name, entry in channels.items():
        if not has_routes(entry.cls):
            continue
        with tempfile.TemporaryDirectory() as home:
            yield from ((name, found) for found in asyncio.run(_unsigned(name, entry, Path(home))))


async def _unsigned(name: str, entry: ChannelEntry, home: Path) -> list[str]:
    try:
        routes = entry.cls(name, entry.config, Nobody(home)).routes()
    except Exception:  # a channel that cannot be made has no webhooks; a start says why
        return []
    return [f"its webhook '{one.path}' takes what is not signed" for one in routes if _is_open(one)]


def _is_open(route: Route) -> bool:
    """Whether it is marked so, or lets a request through that has nothing but a body."""
    if route.method in SAFE:
        return False
    if route.verify is unsigned:
        return True
    from aiohttp.test_utils import make_mocked_request

    try:
        return bool(route.verify(make_mocked_request(route.method, route.path), b"{}"))
    except Exception:
        return False  # it looked for something that is not there
