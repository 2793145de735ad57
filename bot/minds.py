"""The brains of one bot: that of `[brain]`, those of `[brains.NAME]`, and which of them is down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from roost.config import BrainEntry, Config
from roost.contracts import Brain
from roost.egress import attributed
from roost.errors import RoostError

log = logging.getLogger("roost.brain")

DOWN = 60.0  # seconds for which a brain that failed is asked last
ASKED = ("load", "think", "count", "shrink", "unload")  # what a brain may connect for
MAIN = ""  # the name of the brain of [brain]


class Minds:
    """Makes brains, each when it is first needed, and lets go of those that a new configuration replaced.

    `do` runs something in the background.
    """

    def __init__(self, config: Config, home: Path, do: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._home = home
        self._do = do
        self._entries = entries(config)
        self._brains: dict[str, Brain] = {MAIN: self._made(MAIN, self._entries[MAIN])}
        self._busy: Counter[Brain] = Counter()
        self._down: dict[str, float] = {}

    @property
    def main(self) -> Brain:
        return self._brains[MAIN]

    def brain(self, name: str) -> Brain:
        """The brain called `name`, which bot.toml has."""
        if name not in self._brains:
            self._brains[name] = self._made(name, self._entries[name])
        return self._brains[name]

    @contextlib.asynccontextmanager
    async def thinking(self, name: str = MAIN) -> AsyncIterator[Brain]:
        """A brain in use. One that is replaced meanwhile is unloaded when its last answer is done."""
        brain = self.brain(name)
        self._busy[brain] += 1
        try:
            yield brain
        finally:
            self._busy[brain] -= 1
            if brain not in self._brains.values() and not self._busy[brain]:
                self._do(brain.unload())

    def names(self) -> list[str]:
        """All there are."""
        return list(self._entries)

    def chain(self, name: str) -> list[str]:
        """A brain and those that answer in its place, in the order to be asked: what is down comes last."""
        names = [name, *(one for one in self._entries[name].config.fallback if one != name)]
        return sorted(names, key=self.is_down) if len(names) > 1 else names

    def is_down(self, name: str) -> bool:
        return time.monotonic() < self._down.get(name, 0.0)

    def note(self, name: str, failed: bool) -> None:
        """Remember whether a brain answered."""
        if failed:
            self._down[name] = time.monotonic() + DOWN
        else:
            self._down.pop(name, None)

    def change(self, config: Config) -> list[str]:
        """Take up another configuration; returns the tables that changed. Raises ConfigError, and changes nothing."""
        new = entries(config)
        changed = [name for name in {**self._entries, **new} if self._entries.get(name) != new.get(name)]
        made = {name: self._made(name, new[name]) for name in changed if name in self._brains and name in new}
        old = [brain for name in changed if (brain := self._brains.pop(name, None)) is not None]
        self._entries = new
        self._brains.update(made)
        for name in changed:
            self._down.pop(name, None)
        for brain in old:
            if not self._busy[brain]:
                self._do(brain.unload())
        if MAIN in changed:
            self._do(self.load())
        return [table(name) for name in changed]

    async def load(self) -> None:
        """Load ahead of the first message. What goes wrong is said now, and again to whoever writes."""
        try:
            await self.main.load()
        except RoostError as error:
            log.error("The brain is not ready: %s", error)
        except Exception:
            log.exception("The brain is not ready.")

    async def shrink(self) -> None:
        for brain in list(self._brains.values()):
            await brain.shrink()

    async def unload(self) -> None:
        await asyncio.gather(*(brain.unload() for brain in self._brains.values()))

    def _made(self, name: str, entry: BrainEntry) -> Brain:
        return attributed(entry.cls(entry.config, self._home), f"brain {name}".strip(), ASKED)


def entries(config: Config) -> dict[str, BrainEntry]:
    return {MAIN: BrainEntry(config.brain_class, config.brain), **config.brains}


def table(name: str) -> str:
    """The table of bot.toml that a brain comes from."""
    return f"[brains.{name}]" if name else "[brain]"
