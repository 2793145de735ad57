"""A channel by itself: what the core offers it, and a list of what it was handed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roost.contracts import Channel
from roost.values import Message

LIMIT = 30.0  # seconds


class Ear:
    """The core, as far as a channel sees it. `heard` is what came, whether or not `deaf` keeps it from being safe."""

    bot_name = "Roost"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.heard: list[Any] = []
        self.news = asyncio.Event()
        self.up = asyncio.Event()
        self.deaf = False
        self.problem = ""

    def pulse(self) -> None:
        self.problem = ""
        self.up.set()
        self.news.set()

    def trouble(self, why: str) -> None:
        self.problem = why
        self.news.set()

    def address(self, path: str = "") -> str:
        return ""

    async def receive(self, item: Any) -> bool:
        self.heard.append(item)
        self.news.set()
        if self.deaf:
            await asyncio.Event().wait()
        return True

    def commands(self) -> list[tuple[str, str]]:
        return []

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.heard if isinstance(one, Message)]

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(LIMIT):
            while not (found := condition()):
                self.news.clear()
                await asyncio.wait([asyncio.ensure_future(self.news.wait())], timeout=0.1)
        return found


@asynccontextmanager
async def running(channel: Channel, ear: Ear) -> AsyncIterator[None]:
    """Run a channel until the end of the block; what stops it before it is up is raised."""
    task = asyncio.create_task(channel.run(ear.receive))
    up = asyncio.create_task(ear.up.wait())
    try:
        await asyncio.wait([task, up], return_when=asyncio.FIRST_COMPLETED, timeout=LIMIT)
        if task.done():
            task.result()
        yield
    finally:
        for one in (up, task):
            one.cancel()
        await asyncio.gather(up, task, return_exceptions=True)
