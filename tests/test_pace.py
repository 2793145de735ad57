"""How fast a platform is written to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roost import pace
from roost.contracts import Channel, ChannelConfig, Limits, Receive
from roost.pace import Bucket, Pace
from roost.testing import Stage, StageChannel
from roost.values import Place, Reply, Sent

DIRECT, GROUP = Place("stage", "1"), Place("stage", "2", kind="group")


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(pace.asyncio, "sleep", clock.sleep)
    return clock


class Slow(Channel):
    limits = Limits(rate=30, place_rate=1, group_rate=0.25)

    async def run(self, receive: Receive) -> None:
        raise NotImplementedError

    async def send(self, place: Place, reply: Reply) -> Sent:
        raise NotImplementedError


class Mixed(Slow):
    def limits_at(self, place: Place) -> Limits:
        return replace(self.limits, place_rate=0.5) if place == DIRECT else self.limits


def channel(**config: Any) -> Slow:
    return Slow("stage", ChannelConfig(**config), None)  # type: ignore[arg-type]


def test_a_bucket_lets_a_burst_through_and_then_one_at_a_time(clock: Clock) -> None:
    bucket = Bucket(rate=2, burst=3)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    clock.now = 10
    assert bucket.take() == 0


async def sent_in_a_minute(pace: Pace, place: Place, clock: Clock) -> int:
    count = 0
    while clock.now < 60:
        await pace.wait(place)
        count += 1
    return count


async def test_a_group_gets_no_more_in_a_minute_than_the_platform_takes(clock: Clock) -> None:
    assert await sent_in_a_minute(Pace(channel()), GROUP, clock) <= 21


async def test_a_person_gets_about_one_a_second(clock: Clock) -> None:
    assert 55 < await sent_in_a_minute(Pace(channel()), DIRECT, clock) <= 65


@pytest.mark.parametrize("config", [{"group_rate": 0.0}, {"place_rate": 0.0}])
async def test_what_bot_toml_says_goes_first_also_for_groups(clock: Clock, config: dict[str, float]) -> None:
    limits = Pace(channel(rate=0.0, **config))
    for _ in range(100):
        await limits.wait(GROUP)
    assert clock.now == 0


def test_a_preview_takes_no_last_turn(clock: Clock) -> None:
    limits = Pace(channel())
    assert [limits.spare(DIRECT) for _ in range(4)] == [True, True, False, False]
    assert asyncio.run(limits.wait(DIRECT)) is None
    assert clock.now == 0, "there was a turn left for the message itself"


def test_only_so_many_places_are_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PLACES", 10)
    limits = Pace(channel())
    for number in range(100):
        limits.spare(Place("stage", str(number)))
    assert len(limits._places) == 10


class Painted(StageChannel):
    limits = replace(StageChannel.limits, stream=0.001, place_rate=1e-6)

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.edits = 0

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self.edits += 1


async def test_previews_stop_where_the_platform_has_no_room_for_them_and_the_answer_comes(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Painted) as stage:
        channel = stage.channel
        assert isinstance(channel, Painted)
        think = stage.brain.think

        async def slowly(prompt: Any) -> Any:
            async for _ in think(prompt):
                for number in range(60):
                    yield f"{number} "
                    await asyncio.sleep(0.005)

        stage.brain.think = slowly  # type: ignore[method-assign]
        await stage.talk("count")
        assert 1 <= channel.edits <= pace.SLOW_BURST, "one message, its previews within the burst, and the last edit"


async def test_each_place_has_the_pace_that_its_limits_say(clock: Clock) -> None:
    limits = Pace(Mixed("stage", ChannelConfig(), None))  # type: ignore[arg-type]
    for place, expected in ((DIRECT, 2.0), (Place("stage", "3"), 1.0)):
        for _ in range(5):
            await limits.wait(place)
        began = clock.now
        await limits.wait(place)
        assert clock.now - began == pytest.approx(expected, abs=0.2)
