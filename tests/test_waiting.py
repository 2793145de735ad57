"""What waits is held in memory up to a point; beyond it the journal has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from roost import Place, Reply, waiting
from roost.testing import Stage
from roost.waiting import Waiting


async def test_the_first_are_held_and_the_others_are_read_again() -> None:
    read: list[int] = []

    async def journal(number: int) -> str | None:
        read.append(number)
        return f"read {number}" if number < 9 else None

    pile: Waiting[str] = Waiting(journal, room=2)
    for number in range(4):
        pile.put(number, f"held {number}")
    assert [await pile.take(number) for number in (0, 1, 2, 9)] == ["held 0", "held 1", "read 2", None]
    assert read == [2, 9]


async def test_more_than_there_is_room_for_is_answered_in_order_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "ROOM", 3)
    monkeypatch.setattr(Waiting.__init__, "__defaults__", (3,))
    async with Stage(tmp_path) as stage:
        stage.bot.channels["stage"].state = "waiting"
        async with stage.bot.pipeline.lanes.held():
            for number in range(12):
                await stage.say(f"line {number}", chat=str(number % 2))
        await stage.bot.pipeline.lanes.idle()
        await stage.bot.outbox.still()
        stage.bot.channels["stage"].pulse()
        await stage.quiet()
        for chat in "01":
            heard = [reply.text for place, reply in stage.channel.sent if place.chat == chat]
            assert heard == [f"line {number}" for number in range(int(chat), 12, 2)]


async def test_what_waits_is_collected_also_when_only_the_journal_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waiting.__init__, "__defaults__", (1,))
    async with Stage(tmp_path, channel_config='busy = "collect"') as stage:
        async with stage.bot.pipeline.lanes.held():
            for text in ("one", "two", "/whoami", "three", "four"):
                await stage.say(text)
        await stage.quiet()
        said = [reply.text for _, reply in stage.channel.sent]
        assert [said[0], said[2]] == ["one\ntwo", "three\nfour"]


async def test_what_waits_for_a_channel_that_is_taken_away_is_delivered_when_it_is_back(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        supervisor = stage.bot.channels["stage"]
        supervisor.state = "waiting"
        parts = await stage.bot.journal.post([(Place("stage", "1"), Reply("hello"))])
        stage.bot.outbox.put(parts)
        stage.bot.outbox.put(parts)
        entry = stage.bot.config.channels["stage"]
        await stage.bot.changes.apply(replace(stage.bot.config, channels={}))
        assert await stage.bot.journal.waiting() == {"stage": 1}
        assert len(stage.bot.outbox) == 0
        await stage.bot.changes.apply(replace(stage.bot.config, channels={"stage": entry}))
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]


async def test_what_is_left_of_a_channel_that_is_switched_off_stays_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.pipeline.lanes.put = lambda key, item: None  # type: ignore[method-assign]
        await stage.receive(replace(stage.message("hi"), place=Place("gone", "1")))
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert stage.channel.sent == []
        assert await stage.bot.journal.waiting() == {"gone": 1}
    assert "The channel 'gone' is not switched on in bot.toml; messages waiting for it: 1." in caplog.text
