"""The pace of a channel: how many messages a second its platform takes, in all and in each place."""

from __future__ import annotations

import asyncio
import time

from roost.contracts import Channel, ChannelConfig
from roost.values import Place

PLACES = 10_000  # places whose pace is remembered
SLOW_BURST = 5  # messages at once where less than one a second is allowed


class Bucket:
    """A rate limit: `rate` a second, with a burst of up to `burst`."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = max(1.0, burst)
        self._tokens = self.burst
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one, and return the seconds to wait before using it."""
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self.rate)

    def has(self, tokens: float) -> bool:
        """Whether so many could be taken without waiting."""
        self._refill()
        return self._tokens >= min(tokens, self.burst)

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now


class Pace:
    """The rate limits of one channel: of the account and of each place. What bot.toml says goes first."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._given: ChannelConfig = channel.config
        rate = first(self._given.rate, channel.limits.rate)
        self._all = Bucket(rate, rate) if rate else None
        self._places: dict[str, Bucket] = {}

    async def wait(self, place: Place) -> None:
        """Wait for the turn of a message to `place`, and take it."""
        pause = max((bucket.take() for bucket in self._buckets(place)), default=0.0)
        if pause:
            await asyncio.sleep(pause)

    def spare(self, place: Place) -> bool:
        """Take a turn if there is more than one at hand: for what can be left out, such as a preview."""
        buckets = self._buckets(place)
        if not all(bucket.has(2) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.take()
        return True

    def _buckets(self, place: Place) -> list[Bucket]:
        rate = self._rate(place)
        own = [self._bucket(str(place), rate)] if rate else []
        return [*own, self._all] if self._all else own

    def _rate(self, place: Place) -> float | None:
        given, limits = self._given, self.channel.limits_at(place)
        if place.kind == "direct":
            return first(given.place_rate, limits.place_rate)
        return first(given.group_rate, given.place_rate, limits.group_rate, limits.place_rate)

    def _bucket(self, place: str, rate: float) -> Bucket:
        if place not in self._places:
            while len(self._places) >= PLACES:
                del self._places[next(iter(self._places))]
            self._places[place] = Bucket(rate, 3 * rate if rate >= 1 else SLOW_BURST)
        return self._places[place]


def first(*rates: float | None) -> float | None:
    """The first rate that is given at all."""
    return next((rate for rate in rates if rate is not None), None)
