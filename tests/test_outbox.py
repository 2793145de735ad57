"""Three outcomes of a send, seen from the person's side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from roost import outbox
from roost.errors import MaybeSent, NotSent, Undeliverable
from roost.testing import Stage


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
