"""The outbox: delivers parts in order, place by place, and knows three outcomes.

    sent       written down, done
    not sent   tried again: after the platform's own retry-after, or with growing pauses
    unknown    the platform drops a repetition by its key, or the repetition bears a visible mark

What a platform will never take, what has been tried long enough, or what a platform took and could not deliver
becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from roost.contracts import Channel, Limits
from roost.dispatch import is_cancelled
from roost.errors import LoginFailed, NotSent, Undeliverable
from roost.journal import Journal
from roost.lanes import Lanes, Pause
from roost.logs import redact
from roost.pace import Pace
from roost.rows import Part
from roost.values import Place, Reply, Sent
from roost.waiting import Waiting

log = logging.getLogger("roost.outbox")

LONGEST_PAUSE = 60.0  # seconds between two tries
REASON = 500  # characters of a reason that are kept
LONGEST_WAIT = 86400.0  # seconds; a part that is due later than that was put off by a clock gone wrong
UNSURE_TRIES = 5  # tries of a part whose outcome stays unknown
EARLY = 1_000  # messages of which more is known than that they were sent
PATIENCE = 1_500  # tries, about a day of them, after which a part becomes a dead letter; clocks may jump


class Outbox:
    """Delivers what the journal holds, each channel by itself.

    `running` gives a channel by name while it can deliver, None otherwise. `fill` puts into a reply what leaves
    without ever being on the disk.
    """

    def __init__(
        self,
        journal: Journal,
        running: Callable[[str], Channel | None],
        repeat_mark: str,
        fill: Callable[[Place, Reply], Awaitable[Reply]] | None = None,
    ) -> None:
        self._journal = journal
        self._running = running
        self._mark = repeat_mark
        self._fill = fill
        self._lanes: dict[str, Lanes[int]] = {}
        self._queued: dict[str, set[int]] = {}
        self._waiting: Waiting[Part] = Waiting(journal.part)
        self._paces: dict[str, Pace] = {}
        self._early: OrderedDict[tuple[str, str], str] = OrderedDict()

    def open(self, channel: str) -> None:
        """Take on a channel: from now on what is put for it is delivered."""
        if channel not in self._lanes:
            self._lanes[channel] = Lanes(self._deliver)
            self._queued[channel] = set()

    async def leave(self, channel: str) -> None:
        """Take a channel off; what waits for it stays in the journal."""
        if (lanes := self._lanes.pop(channel, None)) is not None:
            await lanes.stop()
        self._queued.pop(channel, None)
        self._waiting.drop(lambda part: part.place.channel == channel)
        self._paces.pop(channel, None)

    def put(self, parts: Iterable[Part]) -> None:
        """Deliver parts; one that was put before is not put again."""
        for part in parts:
            name = part.place.channel
            if name in self._lanes and part.id not in self._queued[name]:
                self._queued[name].add(part.id)
                self._waiting.put(part.id, part)
                self._lanes[name].put(str(part.place), part.id)

    def busy(self, place: Place) -> bool:
        """Whether something for this place has not arrived yet."""
        lanes = self._lanes.get(place.channel)
        return lanes is not None and lanes.busy(str(place))

    def __len__(self) -> int:
        """The number of places that something is to be delivered to."""
        return sum(map(len, self._lanes.values()))

    def limits(self, channel: Channel, place: Place) -> Limits:
        """A place's limits, less the room that the mark of a repetition may need."""
        limits = channel.limits_at(place)
        if limits.idempotent:
            return limits
        mark = 2 * len(self._mark.encode()) + 1
        fewer = max(1, limits.max_bytes - mark) if limits.max_bytes else 0
        return replace(limits, max_text=max(1, limits.max_text - mark), max_bytes=fewer)

    def spare(self, place: Place) -> bool:
        """Take a turn in the pace of a place, if there is one to spare for a preview."""
        channel = self._running(place.channel)
        return channel is not None and self._pace(channel).spare(place)

    async def undelivered(self, channel: str, id: str, reason: str) -> None:
        """Make a message a dead letter that the platform had taken under the id `id`, and could not deliver.

        The platform may say so before it is written down that the message was sent at all. What was sent too long ago
        is in the log alone.
        """
        reason = redact(" ".join(reason.split())[:REASON]) or "The platform did not say why."
        self._early[channel, id] = reason
        while len(self._early) > EARLY:
            self._early.popitem(last=False)
        if not await self._come_back(channel, id):
            log.info("[channels.%s] could not deliver the message '%s', which is not known: %s", channel, id, reason)

    async def _come_back(self, channel: str, id: str) -> bool:
        reason = self._early.get((channel, id))
        place = await self._journal.undelivered(channel, id, reason) if reason is not None else None
        if place is not None:
            self._early.pop((channel, id), None)
            log.warning("A message to %s became a dead letter after it was sent: %s", place, reason)
        return place is not None

    def wake(self) -> None:
        """Tell that a channel has come up."""
        for lanes in self._lanes.values():
            lanes.wake()

    async def idle(self) -> None:
        """Wait until everything has left."""
        while len(self):
            await asyncio.gather(*(lanes.idle() for lanes in self._lanes.values()))

    async def still(self) -> None:
        """Wait until everything has left or waits for better times."""
        await asyncio.gather(*(lanes.still() for lanes in self._lanes.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(lanes.stop() for lanes in self._lanes.values()))

    async def _deliver(self, id: int) -> Pause | None:
        """Bring one part to an end, sent or dead, or say when to try again."""
        part = await self._waiting.take(id)
        pause = await self._try(part) if part is not None else None
        if part is not None and pause is not None:
            self._waiting.put(id, part)
        else:
            self._delivered(id)
        return pause

    def _delivered(self, id: int) -> None:
        for queued in self._queued.values():
            queued.discard(id)

    async def _try(self, part: Part) -> Pause | None:
        early = part.due - time.time()
        part.due = 0.0  # from now on a steady clock counts
        if 0 < early < LONGEST_WAIT:
            return Pause(early)
        channel = self._running(part.place.channel)
        if channel is None:
            return Pause()
        await self._pace(channel).wait(part.place)
        if self._running(part.place.channel) is not channel:
            return Pause(0)  # it went away while we waited
        try:
            await self._journal.sending(part)
            sent = await self._send(channel, part)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            return await self._failed(part, error)
        await self._journal.sent(part, sent)
        for one in sent.ids:
            await self._come_back(part.place.channel, one)
        return None

    def _pace(self, channel: Channel) -> Pace:
        pace = self._paces.get(channel.name)
        if pace is None or pace.channel is not channel:
            pace = self._paces[channel.name] = Pace(channel)
        return pace

    async def _send(self, channel: Channel, part: Part) -> Sent:
        reply = replace(part.reply, key=part.key)
        reply = await self._fill(part.place, reply) if self._fill is not None else reply
        if part.unsure and not channel.limits_at(part.place).idempotent:
            reply = replace(reply, text=f"{self._mark}\n{reply.text}")  # a line of its own, before whatever begins
        if part.draft is not None:
            try:
                await channel.edit(part.draft, reply)
                return part.draft
            except Undeliverable as error:
                log.info("The preview in %s cannot be finished, so the answer is sent anew: %s", part.place, error)
                part.draft = None
        return await channel.send(part.place, reply)

    async def _failed(self, part: Part, error: BaseException) -> Pause | None:
        """Write down what went wrong; returns the pause before the next try, or None when there is none."""
        part.tries += 1
        known = isinstance(error, NotSent | Undeliverable | LoginFailed)
        # An edit can be repeated without anybody seeing it twice.
        part.unsure = part.unsure or (not known and part.draft is None)
        if isinstance(error, Undeliverable) or self._tired(part, known):
            log.warning("A message to %s became a dead letter: %s", part.place, error)
            await self._journal.bury(part, redact(str(error)))
            return None
        asked = error.retry_after if isinstance(error, NotSent) else None
        # Who asks for a second each time is asked less and less often, or a day's patience would last for minutes.
        pause = max(asked or 0.0, min(LONGEST_PAUSE, 2.0 ** min(part.tries, 8) / 4))
        pause += random.uniform(0, pause / 4)
        log.info("A message to %s was not delivered (try %d): %s", part.place, part.tries, error)
        await self._journal.put_off(part, time.time() + pause, redact(str(error)))
        return Pause(pause)

    def _tired(self, part: Part, known: bool) -> bool:
        return part.tries >= (PATIENCE if known else UNSURE_TRIES)
