"""Channels fall, hang and are refused; the bot goes on and says so once."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from roost import supervisor
from roost.contracts import Receive
from roost.errors import LoginFailed
from roost.testing import Stage, StageChannel


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(supervisor, "LOOK", 0.01)


class Falling(StageChannel):
    """Falls twice, then stays."""

    runs = 0

    async def run(self, receive: Receive) -> None:
        type(self).runs += 1
        if self.runs <= 2:
            raise ConnectionError("cut")
        await super().run(receive)


async def test_a_channel_that_falls_is_started_again_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roost.channels")
    async with Stage(tmp_path, channel=Falling) as stage:
        assert await stage.talk("hello") == "hello"
    assert Falling.runs == 3
    lines = [record.getMessage() for record in caplog.records if record.name == "roost.channels"]
    assert lines[:2] == [
        "The channel 'stage' is waiting: ConnectionError: cut",
        "The channel 'stage' is running.",
    ]


class Silent(StageChannel):
    """Its connection is dead the first time, without anybody having said so."""

    silence = 0.05
    runs = 0

    async def run(self, receive: Receive) -> None:
        type(self).runs += 1
        if self.runs == 1:
            self.host.pulse()
            await asyncio.Event().wait()
        self.silence = None
        await super().run(receive)


async def test_a_connection_without_a_sign_of_life_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Stage(tmp_path, channel=Silent) as stage:
        async with asyncio.timeout(30):
            while Silent.runs < 2:
                await asyncio.sleep(0.01)
        await stage.bot.channels["stage"].up.wait()
        assert await stage.talk("hello") == "hello"
    assert "has shown no sign of life" in caplog.text


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "roost.channels"]


async def test_trouble_is_told_of_once_and_what_there_is_to_send_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roost.channels")
    async with Stage(tmp_path) as stage:
        one = stage.bot.channels["stage"]
        assert await stage.talk("hello") == "hello"
        for _ in range(3):
            one.trouble("The platform is out of reach: nobody listens there.")
        assert (one.state, one.problem) == ("waiting", "The platform is out of reach: nobody listens there.")
        await stage.bot.send(stage.channel.sent[-1][0], "later")
        assert len(stage.channel.sent) == 1
        one.pulse()
        assert (one.state, one.problem) == ("running", "")
        await stage.quiet()
        assert stage.channel.sent[-1][1].text == "later"
    assert lines(caplog)[-3:] == [
        "The channel 'stage' is running.",
        "The channel 'stage' is waiting: The platform is out of reach: nobody listens there.",
        "The channel 'stage' is running.",
    ]


async def test_trouble_that_the_next_try_ends_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "roost.channels")
    async with Stage(tmp_path) as stage:
        one = stage.bot.channels["stage"]
        await one.up.wait()
        for _ in range(3):
            one.trouble("The connection was broken.")
            assert one.state == "waiting"
            one.pulse()
            assert one.state == "running"
    assert lines(caplog) == ["The channel 'stage' is running."]


async def test_a_channel_that_was_refused_stays_so_whatever_it_says_afterwards(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        one = stage.bot.channels["stage"]
        one.refuse(LoginFailed("The token is refused."))
        one.pulse()
        one.trouble("It is out of reach.")
        assert (one.state, one.problem) == ("stopped", "The token is refused.")


class Clock:
    """A time of its own, in seconds, for the supervisor."""

    time = time.time

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now


class Trying(StageChannel):
    """Cannot connect, and says so more often than it may be silent."""

    silence = 10.0
    clock = Clock()
    runs = 0

    async def run(self, receive: Receive) -> None:
        type(self).runs += 1
        for _ in range(20 if self.runs == 1 else 0):
            self.host.trouble("The platform is out of reach.")
            self.clock.now += 9.0
            looks = self.clock.looks + 3
            while self.clock.looks < looks:
                await asyncio.sleep(0.001)
        self.silence = None
        await super().run(receive)


async def test_a_channel_that_keeps_trying_is_not_taken_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "time", Trying.clock)
    async with Stage(tmp_path, channel=Trying) as stage:
        assert await stage.talk("hello") == "hello"
    assert Trying.runs == 1


class Refused(StageChannel):
    runs = 0

    async def run(self, receive: Receive) -> None:
        type(self).runs += 1
        raise LoginFailed("The token is refused.")


async def test_refused_credentials_stop_a_channel_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)
    stage.registry.channels.put("refused", Refused)
    stage.path.write_text(stage.path.read_text() + "[channels.refused]\n")
    async with stage:
        assert await stage.talk("hello") == "hello"
        assert stage.bot.channels["refused"].state == "stopped"
    assert Refused.runs == 1
    assert "The channel 'refused' is stopped: The token is refused." in caplog.text


@pytest.mark.parametrize(
    ("public", "address"),
    [("", ""), ("https://bot.example/", "https://bot.example/channels/stage")],
    ids=["none", "one"],
)
async def test_a_channel_is_told_where_others_reach_it(public: str, address: str, tmp_path: Path) -> None:
    async with Stage(tmp_path, config=f'[web]\nenabled = false\npublic_url = "{public}"\n') as stage:
        assert stage.channel.host.address("/channels/stage") == address
