"""What a platform took, and said later that it could not deliver: a dead letter, as if it had been refused at once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from roost import hookimpl
from roost.audit import audit
from roost.dialects import PLAIN, render
from roost.letters import Letter, dead, resend
from roost.rows import Part, read_parts
from roost.testing import Stage, StageChannel
from roost.values import Attachment, Event, Place, Reply, Sent

HERE = Place("stage", "1")


def told(id: str, reason: str = "The phone is switched off.", place: Place = HERE) -> Event:
    return Event("undelivered", place, message_id=id, value=reason)


def letters(stage: Stage) -> list[Letter]:
    return dead(stage.folder / "home" / "journal.db")


async def test_what_comes_back_is_a_dead_letter_with_the_reason_and_is_not_answered(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"
        await stage.receive(told("1", "The phone\nis switched off."))
        await stage.quiet()
        (letter,) = letters(stage)
        assert (letter.place, letter.text, letter.error) == ("stage:1", "hello", "The phone is switched off.")
        assert len(stage.channel.sent) == 1
        assert audit(tmp_path / "home" / "journal.db").exceptions == []
        assert [line.text for line in await stage.bot.history(HERE)] == ["hello"], "nobody has seen the answer"


async def test_being_told_twice_changes_nothing(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        assert await stage.receive(told("1"))
        assert not await stage.receive(told("1"))
        await stage.receive(told("1", "Another reason."))
        await stage.quiet()
        assert [letter.error for letter in letters(stage)] == ["The phone is switched off."]


@pytest.mark.parametrize("id", ["7", "", '"', "[", "é"], ids=ascii)
async def test_a_message_that_is_not_known_is_only_logged(
    tmp_path: Path, id: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        with caplog.at_level(logging.INFO, "roost.outbox"):
            await stage.receive(told(id))
            await stage.quiet()
        assert letters(stage) == []
        assert f"could not deliver the message '{id}', which is not known" in caplog.text


async def test_the_same_id_on_another_channel_is_another_message(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        for name in ("stag", "stages", "stage2"):
            await stage.bot.outbox.undelivered(name, "1", "gone")
        assert letters(stage) == []
        await stage.receive(told("1", place=Place("stage", "somebody else")))
        await stage.quiet()
        assert len(letters(stage)) == 1, "within a channel an id is enough: a receipt may not know the thread"


async def test_it_may_come_back_after_a_restart_and_before_it_was_taken_up(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        await stage.talk("again")
    async with Stage(tmp_path) as stage:
        await stage.receive(told("1"))
        await stage.quiet()
        assert [letter.text for letter in letters(stage)] == ["hello"]
        assert await stage.bot.journal.accept(told("2")) is not None  # as when the process dies right after
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [letter.text for letter in letters(stage)] == ["hello", "again"]


async def test_it_may_come_back_before_it_is_known_to_be_sent(tmp_path: Path) -> None:
    class Quick(StageChannel):
        async def send(self, place: Place, reply: Reply) -> Sent:
            sent = await super().send(place, reply)
            assert self.receive is not None
            await self.receive(told(sent.ids[0], place=Place("stage", "its own lane")))
            await came_up.wait()
            return sent

    came_up = asyncio.Event()

    class Plugin:
        @hookimpl
        def on_event(self, event: Event) -> None:
            came_up.set()

    async with Stage(tmp_path, plugins=[Plugin()], channel=Quick) as stage:
        await stage.talk("hello")
        assert [(letter.text, letter.error) for letter in letters(stage)] == [("hello", "The phone is switched off.")]


async def test_one_of_several_messages_is_enough(tmp_path: Path) -> None:
    class Several(StageChannel):
        async def send(self, place: Place, reply: Reply) -> Sent:
            sent = await super().send(place, reply)
            return Sent(place, (*sent.ids, "second"))

    async with Stage(tmp_path, channel=Several) as stage:
        await stage.talk("hello")
        await stage.receive(told("second"))
        await stage.receive(told("1", "Later."))
        await stage.quiet()
        assert [letter.error for letter in letters(stage)] == ["The phone is switched off."]


async def test_what_is_sent_again_is_sent_anew_and_may_come_back_again(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        await stage.receive(told("1"))
        await stage.quiet()
        (part,) = await parts(stage, "state = 'dead'")
        assert (part.draft, part.unsure) == (None, False)
    assert resend(tmp_path / "home" / "journal.db") == 1
    async with Stage(tmp_path) as stage:
        stage.channel._ids = iter(range(50, 60))  # type: ignore[assignment]
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]
        await stage.receive(told("1", "Once more."))
        await stage.quiet()
        assert letters(stage) == [], "that was the first try"
        await stage.receive(told("50", "Still off."))
        await stage.quiet()
        assert [letter.error for letter in letters(stage)] == ["Still off."]


async def test_a_preview_that_came_back_is_not_edited_once_more(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        await stage.bot.journal.do(lambda db: db.execute("UPDATE outbox SET draft = '[\"1\"]', unsure = 1"))
        await stage.receive(told("1"))
        await stage.quiet()
        (part,) = await parts(stage, "state = 'dead'")
        assert (part.draft, part.unsure) == (None, False)


async def test_a_line_stands_for_a_file_that_was_not_kept(tmp_path: Path) -> None:
    cup, film = Attachment("image", "cup.png", data=b"cup"), Attachment("video", "film", url="https://a.b/film")
    async with Stage(tmp_path) as stage:
        stage.channel.limits = replace(stage.channel.limits, media={"image": 9, "video": 9})
        await stage.bot.send(HERE, Reply("look", (cup, film)))
        await stage.quiet()
        await stage.receive(told("1"))
        await stage.quiet()
        (part,) = await parts(stage, "state = 'dead'")
        assert render(part.reply.text, PLAIN) == "look\n\n[image cup.png: it was not kept]"
        assert [one.url for one in part.reply.attachments] == ["https://a.b/film"]


async def parts(stage: Stage, condition: str) -> list[Part]:
    return await stage.bot.journal.do(lambda db: read_parts(db, stage.bot.journal.seals, condition))
