"""Memory that runs short: what can be made again is given back before the system kills anything."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from roost.gauges import ALARMED, SPAN, WARNED, Reading, in_words

log = logging.getLogger("roost.pressure")

Level = Literal["ok", "high", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "high", "critical")
WORDS: dict[Level, str] = {"ok": "enough again", "high": "short", "critical": "very short"}
HINT = " There is nothing more to give back: allow the bot more memory, or use a smaller model or context."


@dataclass(frozen=True, slots=True)
class Mark:
    """A level is reached at `on` and left below `off`, so that it does not flap."""

    on: float
    off: float


# Shares of a limit. Giving back needs some memory itself, so it begins while nearly a third is left.
FILLED: dict[Level, Mark] = {"high": Mark(0.70, 0.60), "critical": Mark(0.90, 0.80)}
# Percent of stall. Under a limit of 64 MB a bot that gave back in time showed at most 1.6, and one that did
# nothing but move pages to and fro 24 to 31.
STALLED: dict[Level, Mark] = {"high": Mark(WARNED, WARNED / 2), "critical": Mark(ALARMED, ALARMED / 2)}

FAR, NEAR, SHORT = 8.0, 2.0, 1.0  # seconds to the next look: well below the marks, near them, above one
PAUSE: dict[Level, float] = {"high": 30.0, "critical": 2.0}  # seconds between two reliefs
LONGEST: dict[Level, float] = {"high": 600.0, "critical": 60.0}  # the same, when nothing was freed again and again
PATIENCE = 30.0  # seconds that one part may take to shrink
WORTH = 0.005  # the share of a limit that a relief must free, or the next one waits longer


def judge(reading: Reading, before: Level) -> Level:
    """The level of a reading, given the level before it."""
    for level in reversed(LEVELS[1:]):
        here = LEVELS.index(before) >= LEVELS.index(level)
        filled, stalled = FILLED[level], STALLED[level]
        if reading.filled >= (filled.off if here else filled.on):
            return level
        if reading.stall >= (stalled.off if here else stalled.on):
            return level
    return "ok"


@dataclass(frozen=True, slots=True)
class State:
    """The limit that is nearest and what is used of it, in bytes, and how much was freed, how many `times`, so far."""

    level: Level = "ok"
    used: int = 0
    limit: int = 0
    source: str = ""
    freed: int = 0
    times: int = 0


Relief = Callable[[], Awaitable[None]]


class Pressure:
    """Watches what `sense` reads, and has each of `reliefs` give back, in their order, when memory is short.

    Of several limits the nearest decides. Between two reliefs there are at least 30 seconds, or 2 when it is
    critical, and twice as long each time that one freed nothing.
    """

    def __init__(
        self,
        sense: Callable[[], Sequence[Reading]],
        reliefs: Mapping[str, Relief],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sense = sense
        self._reliefs = reliefs
        self._clock = clock
        self._sleep = sleep
        self._levels: dict[tuple[str, int], Level] = {}
        self._level: Level = "ok"
        self._reading: Reading | None = None
        self._freed = self._times = self._futile = 0
        self._last = float("-inf")
        self._blind = False

    def state(self) -> State:
        """What was seen at the last look."""
        now = self._reading
        if now is None:
            return State(freed=self._freed, times=self._times)
        return State(self._level, now.used, now.limit, now.source, self._freed, self._times)

    async def watch(self) -> None:
        """Look again and again, and give back when it is time, until cancelled."""
        while True:
            await self._sleep(await self.look())

    async def look(self) -> float:
        """Look once, give back if it is time, and return the seconds until the next look."""
        readings = await self._read()
        if not readings:
            return FAR
        before = self._level
        self._reading, self._level = self._nearest(readings)
        risen = LEVELS.index(self._level) > LEVELS.index(before)
        if risen or self._level == "ok":
            self._futile = 0
        if self._level != "ok" and self._due(risen):
            await self._relieve(self._reading, self._level)
        elif self._level != before:
            log.info("Memory is %s (%s).", WORDS[self._level], self._reading)
        return self._interval(self._reading)

    async def _read(self) -> Sequence[Reading]:
        """In a thread, because a system short of memory is slow to answer."""
        try:
            readings = await asyncio.to_thread(self._sense)
        except Exception:
            if not self._blind:
                log.exception("How full memory is cannot be read, so nothing is given back when it is short.")
            self._blind = True
            return ()
        self._blind = False
        return readings

    def _nearest(self, readings: Sequence[Reading]) -> tuple[Reading, Level]:
        levels = {}
        for one in sorted(readings, key=lambda one: one.filled):
            levels[limit(one)] = judge(one, self._levels.get(limit(one), "ok"))
        self._levels = levels
        nearest = max(readings, key=lambda one: (LEVELS.index(levels[limit(one)]), one.filled))
        return nearest, levels[limit(nearest)]

    def _due(self, risen: bool) -> bool:
        if risen and self._level == "critical":
            return True
        pause: float = min(PAUSE[self._level] * 2**self._futile, LONGEST[self._level])
        return self._clock() - self._last >= pause

    async def _relieve(self, reading: Reading, level: Level) -> None:
        for name, relief in self._reliefs.items():
            await ask(name, relief)
        await asyncio.to_thread(trim)
        after = [one.used for one in await self._read() if limit(one) == limit(reading)]
        freed = max(0, reading.used - max(after)) if after else 0
        self._last = self._clock()
        self._freed += freed
        self._times += 1
        self._futile = min(self._futile + 1, 16) if freed < WORTH * min(reading.limit, SPAN) else 0
        hint = HINT if self._futile == 1 and level == "critical" else ""
        loudness = logging.WARNING if level == "critical" else logging.INFO
        log.log(loudness, "Memory is %s (%s): freed %s.%s", WORDS[level], reading, in_words(freed), hint)

    def _interval(self, reading: Reading) -> float:
        if self._level != "ok":
            return SHORT
        return NEAR if reading.filled >= FILLED["high"].on / 2 or reading.stall > 0 else FAR


def limit(reading: Reading) -> tuple[str, int]:
    """Which limit a reading is of."""
    return reading.source, reading.limit


async def ask(name: str, relief: Relief) -> None:
    """Have one part give back. Whatever becomes of it, the others get their turn."""
    try:
        async with asyncio.timeout(PATIENCE):
            await relief()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except TimeoutError:
        log.warning("Memory is short, and the %s was not done with giving back after %g s.", name, PATIENCE)
    except Exception:
        log.exception("Memory is short, and the %s could not give back.", name)


def trim() -> None:
    """Hand to the system what Python has let go of.

    Of 74 MB, of which 44 were conversations that are closed now, collecting left 60, and this leaves 36: Python's cache
    of attributes holds names here and there, and each keeps a megabyte around it.
    """
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if give_back is not None:
            give_back(0)
