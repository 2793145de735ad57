"""The journal against a file."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost import Attachment, Message, Person, Place, Reply, Sent, writer
from roost.errors import StoreError
from roost.journal import Journal
from roost.rows import mend

ANN = Person("stage", "ann", "Ann")
HERE = Place("stage", "1")


def said(id: str, text: str = "hello", place: Place = HERE) -> Message:
    return Message(id, place, ANN, text, 1.0, raw=object())


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    yield journal
    await journal.close()


async def test_what_was_accepted_reads_back_without_what_is_of_this_process_only(journal: Journal) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b""

    message = Message("1", HERE, ANN, "hi", 2.0, attachments=(Attachment(ref="x", open=chunks),), raw=object())
    seq = await journal.accept(message)
    assert seq is not None
    (again,) = [one.item for one in await journal.unanswered(HERE.channel)]
    assert again == message
    assert isinstance(again, Message)
    assert again.raw is None
    assert again.attachments[0].open is None


async def test_a_duplicate_is_known_by_channel_and_identity(journal: Journal) -> None:
    assert await journal.accept(said("1")) is not None
    assert await journal.accept(said("1", "other text")) is None
    assert await journal.accept(said("1", place=Place("second", "1"))) is not None
    assert await journal.accept(said("1", place=Place("stage", "2"))) is not None


async def test_many_at_once_share_transactions(journal: Journal) -> None:
    before = await journal.do(lambda db: db.execute("PRAGMA data_version").fetchone())
    seqs = await asyncio.gather(*(journal.accept(said(str(number))) for number in range(500)))
    assert len(set(seqs)) == 500
    assert None not in seqs
    assert before == await journal.do(lambda db: db.execute("PRAGMA data_version").fetchone())


async def test_one_bad_operation_does_not_spoil_its_group(journal: Journal) -> None:
    def bad(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO inbox (channel) VALUES (NULL)")

    results = await asyncio.gather(
        journal.accept(said("1")), journal.do(bad), journal.accept(said("2")), return_exceptions=True
    )
    assert isinstance(results[1], StoreError)
    assert [one.seq for one in await journal.unanswered(HERE.channel)] == [results[0], results[2]]


async def test_what_waits_is_read_in_pages_and_by_its_number(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.journal.PAGE", 2)
    seqs = [await journal.accept(said(str(number))) for number in range(5)]
    await journal.accept(said("other", place=Place("second", "1")))
    await journal.do(lambda db: db.execute("UPDATE inbox SET body = '?' WHERE seq <= 2"))
    first = await journal.unanswered(HERE.channel)
    assert [one.seq for one in first] == seqs[2:4]
    assert [one.seq for one in await journal.unanswered(HERE.channel, first[-1].seq)] == seqs[4:]
    assert await journal.open_item(seqs[3] or 0) == first[-1]
    assert await journal.open_item(seqs[0] or 0) is None
    parts = await journal.post([(HERE, Reply(str(number))) for number in range(3)])
    assert [part.id for part in await journal.unsent(HERE.channel)] == [part.id for part in parts[:2]]
    assert [part.id for part in await journal.unsent(HERE.channel, parts[1].id)] == [parts[2].id]
    assert await journal.part(parts[2].id) == parts[2]
    assert await journal.waiting() == {"stage": 6, "second": 1}


async def test_an_end_and_its_parts_are_written_together(journal: Journal) -> None:
    seq = await journal.accept(said("1"))
    assert seq is not None
    parts = await journal.finish(seq, "reply", [(HERE, Reply("one")), (HERE, Reply("two"))])
    assert await journal.unanswered(HERE.channel) == []
    assert [part.reply.text for part in await journal.unsent(HERE.channel)] == ["one", "two"]
    assert len({part.key for part in parts}) == 2


async def test_a_part_that_was_leaving_when_the_process_died_is_unsure(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    one, two = await journal.post([(HERE, Reply("one")), (HERE, Reply("two"))])
    await journal.sending(one)
    await journal.close()
    await journal.open()
    await journal.interrupted()
    again = await journal.unsent(HERE.channel)
    assert [(part.reply.text, part.unsure, part.key) for part in again] == [
        ("one", True, one.key),
        ("two", False, two.key),
    ]
    await journal.close()


async def test_a_preview_is_remembered_and_becomes_the_first_part(journal: Journal) -> None:
    seq = await journal.accept(said("1"))
    assert seq is not None
    await journal.preview(seq, Sent(HERE))
    assert [one.earlier for one in await journal.unanswered(HERE.channel)] == [Sent(HERE, ())]
    await journal.preview(seq, Sent(HERE, ("77",)))
    assert [one.earlier for one in await journal.unanswered(HERE.channel)] == [Sent(HERE, ("77",))]
    await journal.finish(seq, "reply", [(HERE, Reply("a")), (HERE, Reply("b"))], draft=Sent(HERE, ("77",)))
    assert [part.draft for part in await journal.unsent(HERE.channel)] == [Sent(HERE, ("77",)), None]


async def test_history_is_what_a_person_saw(journal: Journal) -> None:
    seq = await journal.accept(said("1", "question"))
    assert seq is not None
    (part,) = await journal.finish(seq, "reply", [(HERE, Reply("answer"))])
    await journal.sent(part, Sent(HERE, ("m9",)))
    await journal.accept(said("2", "elsewhere", Place("stage", "2")))
    lines = await journal.history(HERE, 10, "Roost")
    assert [(line.id, line.bot, line.author, line.text) for line in lines] == [
        ("1", False, "Ann", "question"),
        ("m9", True, "Roost", "answer"),
    ]


async def test_forgetting_leaves_no_text_in_the_file_but_keeps_ids(journal: Journal, tmp_path: Path) -> None:
    seq = await journal.accept(said("1", "secret-4711"))
    assert seq is not None
    (part,) = await journal.finish(seq, "reply", [(HERE, Reply("secret-4712"))])
    await journal.sent(part, Sent(HERE, ("m",)))
    await journal.forget(HERE)
    await journal.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret-47" not in everything
    await journal.open()
    assert await journal.accept(said("1", "secret-4711")) is None


async def test_old_rows_are_pruned_but_open_ones_stay(journal: Journal) -> None:
    seq = await journal.accept(said("1"))
    await journal.accept(said("2"))
    assert seq is not None
    await journal.finish(seq, "silent", (), "test")
    assert await journal.prune(days=-1) == 1
    assert len(await journal.unanswered(HERE.channel)) == 1


async def test_a_file_of_a_newer_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(StoreError, match="newer version of Roost"):
        await Journal(tmp_path / "journal.db").open()


async def filled(path: Path, messages: int = 300) -> Journal:
    journal = Journal(path)
    await journal.open()
    await asyncio.gather(*(journal.accept(said(str(number), f"text {number} " * 20)) for number in range(messages)))
    await journal.close()
    return journal


async def test_a_file_that_is_no_database_is_set_aside_and_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    assert await journal.accept(said("1")) is not None
    await journal.close()
    assert "The journal was damaged. It is kept as" in caplog.text
    assert len(list(tmp_path.glob("journal.damaged-*.db"))) == 1


async def test_a_file_cut_short_keeps_what_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.db"
    journal = await filled(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    await journal.open()
    kept = await journal.unanswered(HERE.channel)
    await journal.close()
    assert 50 < len(kept) < 300
    assert "was damaged" in caplog.text


@pytest.mark.parametrize("seed", range(12))
async def test_a_file_with_a_wrecked_page_opens_and_works(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    journal = await filled(path)
    chance = random.Random(seed)
    with path.open("r+b") as file:
        file.seek(chance.randrange(1, path.stat().st_size // 4096) * 4096)
        file.write(chance.randbytes(4096))
    await journal.open()
    assert len(await journal.unanswered(HERE.channel)) > 150
    seq = await journal.accept(said("new"))
    assert seq is not None
    await journal.finish(seq, "reply", [(HERE, Reply("still works"))])
    await journal.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes to stand in for a full disk")
async def test_a_full_disk_is_waited_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(writer, "PAUSE", 0.01)
    caplog.set_level("INFO", "roost.journal")
    journal = await filled(tmp_path / "journal.db")
    await journal.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # every file is full from here on
    try:
        accepting = [asyncio.create_task(journal.accept(said(f"full {n}", "x" * 50_000))) for n in range(20)]
        async with asyncio.timeout(20):
            while "cannot be written" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not all(task.done() for task in accepting)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert None not in await asyncio.gather(*accepting)
    assert len(await journal.unanswered(HERE.channel)) == 320
    await journal.close()
    assert caplog.text.count("The journal cannot be written") == 1
    assert caplog.text.count("The journal can be written again") == 1


def test_lone_surrogates_are_mended_everywhere() -> None:
    message = Message("1", HERE, Person("stage", "a", "\ud83d"), "x\udfffy 😀")
    mended = mend(message)
    assert isinstance(mended, Message)
    assert mended.text == "x�y 😀"
    assert mended.sender.name == "�"
