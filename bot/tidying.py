"""Compaction of memory as a scheduled job that never delays a person.

A job looks at short intervals for places whose compaction is due. It works only while nobody is being answered; when
somebody writes, what the brain was summarising is broken off and stays due. A place that had to give way three times
gets an extract, for which nobody has to wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from roost.contracts import Compaction, Trigger
from roost.jobs import Job
from roost.values import Place

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.memory")

EVERY = 20.0  # seconds between two looks for what is due
GIVE_WAY = 3  # times a compaction gives way before it does without the brain


class Tidying:
    """Compacts one place at a time."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._current: asyncio.Task[Compaction | None] | None = None
        self._gave_way: Counter[Place] = Counter()

    def job(self) -> Job:
        return Job("compact", self.run, every=EVERY, plugin="memory")

    def give_way(self) -> None:
        """Somebody wants an answer: break off what needs the brain."""
        if self._current is not None:
            self._current.cancel()

    async def run(self) -> None:
        """Compact what is due, until somebody writes or nothing is left. What gave way too often does not wait."""
        if self._current is not None or self._quiet():
            return
        tried: set[Place] = set()
        while due := [one for one in await self._bot.memory.due(time.time()) if one[0] not in tried]:
            for place, trigger in due:
                tried.add(place)
                if self._busy() and self._gave_way[place] < GIVE_WAY:
                    self._gave_way[place] += 1
                else:
                    await self._compact(place, trigger)

    async def _compact(self, place: Place, trigger: Trigger) -> None:
        async with self._bot.thinking() as brain:
            patient = self._gave_way[place] >= GIVE_WAY
            if not patient:
                await brain.load()
            asked = None if patient else self._bot.leaving.for_summary(brain, place)
            work = self._bot.memory.compact(place, asked, trigger)
            self._current = asyncio.ensure_future(work)
            try:
                await asyncio.wait([self._current])
            finally:
                current, self._current = self._current, None
                current.cancel()
        if current.cancelled():
            self._gave_way[place] += 1
            return
        self._gave_way.pop(place, None)
        if (error := current.exception()) is not None:
            log.error("The conversation in %s could not be compacted: %s", place, error)

    def _busy(self) -> bool:
        return len(self._bot.pipeline.lanes) > 0 or self._bot.pipeline.closed

    def _quiet(self) -> bool:
        """Whether these are hours that bot.toml keeps free of such work."""
        timezone = self._bot.config.bot.timezone
        now = datetime.now(ZoneInfo(timezone) if timezone else None)
        return within(self._bot.config.memory.quiet_hours, f"{now:%H:%M}")


def within(hours: str, now: str) -> bool:
    """Whether a time of day lies in a span such as `22:00-07:00`."""
    begin, _, end = hours.partition("-")
    if not end:
        return False
    return begin <= now < end if begin <= end else now >= begin or now < end
