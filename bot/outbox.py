"""The outbox: delivers parts in order, place by place, and knows three outcomes.

    sent       written down, done
    not sent   tried again: after the platform's own retry-after, or with growing pauses
    unknown    the platform drops a repetition by its key, or the repetition bears a visible mark

What a platform will never take, or what has been tried long enough, becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from roost.contracts import Channel, ChannelConfig, Limits
from roost.dispatch import is_cancelled
from roost.errors import LoginFailed, NotSent, Undeliverable
from roost.journal import Journal
from roost.lanes import Lanes
from roost.logs import redact
from roost.rows import Part
from roost.values import Place, Sent

log = logging.getLogger("roost.outbox")

LONGEST_PAUSE = 60.0  # seconds between two tries
UNSURE_TRIES = 5  # tries of a part whose outcome stays unknown
PATIENCE = 1_500  # tries, about a day of them, after which a part becomes a dead letter; clocks may jump


class Bucket:
    """A rate limit: `rate` a second, with a burst of up to `burst`."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = max(1.0, burst)
        self._tokens = self.burst
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one, and return the seconds to wait before using it."""
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self.rate)


class Pace:
    """The rate limits of one channel: of the account and of each place. What bot.toml says goes first."""

    def __init__(self, channel: Channel) -> None:
        given: ChannelConfig = channel.config
        rate = channel.limits.rate if given.rate is None else given.rate
        self.channel = channel
        self._place_rate = channel.limits.place_rate if given.place_rate is None else given.place_rate
        self._all = Bucket(rate, rate) if rate else None
        self._places: dict[str, Bucket] = {}

    async def wait(self, place: Place) -> None:
        pause = self._all.take() if self._all else 0.0
        if self._place_rate:
            pause = max(pause, self._bucket(str(place), self._place_rate).take())
        if pause:
            await asyncio.sleep(pause)

    def _bucket(self, place: str, rate: float) -> Bucket:
        if len(self._places) > 10_000:
            self._places.clear()
        return self._places.setdefault(place, Bucket(rate, 3 * rate))


class Outbox:
    """Delivers what the journal holds. `channel` gives a channel by name while it is running, None otherwise."""

    def __init__(self, journal: Journal, channel: Callable[[str], Channel | None], repeat_mark: str) -> None:
        self._journal = journal
        self._channel = channel
        self._mark = repeat_mark
        self._lanes: Lanes[Part] = Lanes(self._deliver)
        self._paces: dict[str, Pace] = {}
        self._changed = asyncio.Event()
        self._parked = 0

    def put(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._lanes.put(str(part.place), part)

    def busy(self, place: Place) -> bool:
        """Whether something for this place has not arrived yet."""
        return self._lanes.busy(str(place))

    def limits(self, channel: Channel) -> Limits:
        """A channel's limits, less the room that the mark of a repetition may need."""
        limits = channel.limits
        if limits.idempotent:
            return limits
        return replace(limits, max_text=max(1, limits.max_text - 2 * len(self._mark.encode()) - 1))

    def wake(self) -> None:
        """Tell that a channel has come up."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def idle(self) -> None:
        """Wait until everything has left."""
        await self._lanes.idle()

    async def still(self) -> None:
        """Wait until everything has left or waits for better times. Polled: it happens once, at the end."""
        while len(self._lanes) > self._parked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self._lanes.stop()

    async def _deliver(self, part: Part) -> None:
        """Bring one part to an end: sent or dead."""
        if part.due > time.time():
            with self._parking():
                await asyncio.sleep(part.due - time.time())
        while True:
            channel = await self._running(part.place.channel)
            await self._pace(channel).wait(part.place)
            if self._channel(part.place.channel) is not channel:
                continue  # it went away while we waited
            try:
                await self._journal.sending(part)
                sent = await self._send(channel, part)
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                pause = await self._failed(part, error)
            else:
                await self._journal.sent(part, sent)
                return
            if pause is None:
                return
            with self._parking():
                await asyncio.sleep(pause)

    async def _running(self, name: str) -> Channel:
        with self._parking():
            while (channel := self._channel(name)) is None:
                await self._changed.wait()
        return channel

    @contextlib.contextmanager
    def _parking(self) -> Iterator[None]:
        self._parked += 1
        try:
            yield
        finally:
            self._parked -= 1

    def _pace(self, channel: Channel) -> Pace:
        pace = self._paces.get(channel.name)
        if pace is None or pace.channel is not channel:
            pace = self._paces[channel.name] = Pace(channel)
        return pace

    async def _send(self, channel: Channel, part: Part) -> Sent:
        reply = replace(part.reply, key=part.key)
        if part.unsure and not channel.limits.idempotent:
            reply = replace(reply, text=f"{self._mark}\n{reply.text}")  # a line of its own, before whatever begins
        if part.draft is not None:
            try:
                await channel.edit(part.draft, reply)
                return part.draft
            except Undeliverable as error:
                log.info("The preview in %s cannot be finished, so the answer is sent anew: %s", part.place, error)
                part.draft = None
        return await channel.send(part.place, reply)

    async def _failed(self, part: Part, error: BaseException) -> float | None:
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
        pause = asked if asked is not None else min(LONGEST_PAUSE, 2.0 ** min(part.tries, 8) / 4)
        pause += random.uniform(0, pause / 4)
        log.info("A message to %s was not delivered (try %d): %s", part.place, part.tries, error)
        await self._journal.put_off(part, time.time() + pause, redact(str(error)))
        return pause

    def _tired(self, part: Part, known: bool) -> bool:
        return part.tries >= (PATIENCE if known else UNSURE_TRIES)
