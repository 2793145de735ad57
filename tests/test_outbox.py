"""Three outcomes of a send, seen from the person's side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from roost import outbox
from roost.contracts import Channel, Limits
from roost.errors import MaybeSent, NotSent, Undeliverable
from roost.rows import Part
from roost.testing import Stage, StageChannel
from roost.values import Place, Reply


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 0.0)


async def letters(stage: Stage) -> list[tuple[str, int, str]]:
    sql = "SELECT state, tries, error FROM outbox ORDER BY id"
    return await stage.bot.journal.do(lambda db: db.execute(sql).fetchall())


async def test_what_was_not_sent_is_sent_again_without_a_mark(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [NotSent("refused"), NotSent("busy", retry_after=0.01)]
        assert await stage.talk("hello") == "hello"
        assert await letters(stage) == [("sent", 2, "")]


async def test_what_may_have_been_sent_is_sent_again_with_a_mark(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [MaybeSent("cut")]
        assert await stage.talk("hello") == "(possibly repeated)\nhello"


async def test_an_error_nobody_expected_counts_as_unknown(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [ValueError("bug")]
        assert await stage.talk("hello") == "(possibly repeated)\nhello"


async def test_a_platform_that_knows_keys_gets_the_same_key_and_no_mark(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.limits = replace(stage.channel.limits, idempotent=True)
        stage.channel.fail = [MaybeSent("cut")]
        assert await stage.talk("hello") == "hello"
        assert stage.channel.sent[0][1].key != ""


async def test_what_is_refused_for_good_becomes_a_dead_letter_and_the_lane_goes_on(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [Undeliverable("blocked by the person")]
        assert await stage.talk("hello") == ""
        assert await stage.talk("again") == "again"
        assert await letters(stage) == [("dead", 0, "blocked by the person"), ("sent", 0, "")]


async def test_what_stays_unknown_ends_as_a_dead_letter(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [MaybeSent("cut")] * outbox.UNSURE_TRIES
        assert await stage.talk("hello") == ""
        assert [state for state, _, _ in await letters(stage)] == ["dead"]


async def test_a_reply_waits_for_its_channel_and_survives_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.channels["stage"].state = "waiting"
        message = stage.message("hello")
        await stage.receive(message)
        await stage.bot.pipeline.lanes.idle()
        assert stage.channel.sent == []
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]


async def test_a_long_answer_arrives_in_parts_that_fit_even_with_the_mark(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(3000))
    async with Stage(tmp_path, script=lambda said: text) as stage:
        stage.channel.fail = [MaybeSent("cut")]
        await stage.talk("tell me")
        said = [reply.text for _, reply in stage.channel.sent]
        assert max(map(len, said)) <= stage.channel.limits.max_text
        assert " ".join(said).replace("(possibly repeated)\n", "").split() == text.split()


async def test_each_place_is_written_to_within_its_own_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limits_at(channel: Channel, place: Place) -> Limits:
        narrow = replace(channel.limits, max_text=80, media={}, idempotent=True)
        return narrow if place.chat == "narrow" else channel.limits

    monkeypatch.setattr(StageChannel, "limits_at", limits_at)
    async with Stage(tmp_path, script=lambda said: "word " * 30) as stage:
        wide, narrow = Place("stage", "wide"), Place("stage", "narrow")
        await stage.talk("tell me", chat="wide")
        await stage.talk("tell me", chat="narrow")
        assert [len(shown(stage, place)) for place in (wide, narrow)] == [1, 2]
        stage.channel.fail = [MaybeSent("cut"), MaybeSent("cut")]
        await stage.bot.send(narrow, "again")
        await stage.bot.send(wide, "again")
        await stage.quiet()
        assert shown(stage, narrow)[-1] == "again", "this place drops what comes twice"
        assert shown(stage, wide)[-1] == "(possibly repeated)\nagain"


def shown(stage: Stage, place: Place) -> list[str]:
    return [reply.text for where, reply in stage.channel.sent if where == place]


async def test_a_platform_that_asks_for_a_second_each_time_is_asked_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 60.0)
    async with Stage(tmp_path) as stage:
        part = Part(10_000, Place("stage", "1"), Reply("hello"))
        pauses = [await stage.bot.outbox._failed(part, NotSent("Too fast.", 1.0)) for _ in range(10)]
        seconds = [one.seconds for one in pauses if one is not None and one.seconds is not None]
        assert 1.0 <= seconds[0] <= 1.25 and all(60.0 <= one <= 75.0 for one in seconds[-2:])
        long = await stage.bot.outbox._failed(part, NotSent("Too fast.", 600.0))
        assert long is not None and long.seconds is not None and long.seconds >= 600.0
