"""Channels fall, hang and are refused; the bot goes on and says so once."""

from __future__ import annotations

import asyncio
import logging
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
        async with asyncio.timeout(10):
            while Silent.runs < 2:
                await asyncio.sleep(0.01)
        await stage.bot.channels["stage"].up.wait()
        assert await stage.talk("hello") == "hello"
    assert "has shown no sign of life" in caplog.text


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
