"""A sealed journal keeps every promise of a clear one, and shows what was said to nobody without the key.

The tests of the clear journal that are imported here run again, with every journal sealed; so does its model.
"""

# ruff: noqa: F401
from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant
from test_journal import (
    ANN,
    HERE,
    filled,
    said,
    test_a_duplicate_is_known_by_channel_and_identity,
    test_a_file_cut_short_keeps_what_can_be_read,
    test_a_file_of_a_newer_version_is_refused_with_a_sentence,
    test_a_file_that_is_no_database_is_set_aside_and_said_aloud,
    test_a_file_with_a_wrecked_page_opens_and_works,
    test_a_full_disk_is_waited_out_and_said_once,
    test_a_part_that_was_leaving_when_the_process_died_is_unsure,
    test_a_preview_is_remembered_and_becomes_the_first_part,
    test_an_end_and_its_parts_are_written_together,
    test_forgetting_leaves_no_text_in_the_file_but_keeps_ids,
    test_history_is_what_a_person_saw,
    test_many_at_once_share_transactions,
    test_old_rows_are_pruned_but_open_ones_stay,
    test_one_bad_operation_does_not_spoil_its_group,
    test_what_waits_is_read_in_pages_and_by_its_number,
    test_what_was_accepted_reads_back_without_what_is_of_this_process_only,
)
from test_journal_model import JournalModel, folder_for_models

from roost import Event, Message, Place, Reply, Sent, audit, letters
from roost.cipher import SEALED_ID, Cipher
from roost.errors import StoreError
from roost.journal import Journal
from roost.rows import encode, encode_reply
from roost.schema import connect, connect_whole
from roost.sealing import is_sealed, open_copies, undo

CIPHER = Cipher(bytes(range(32)))
OTHER = Cipher(bytes(32))
CLEAR = Journal.__init__


def sealed_from_the_start(self: Journal, path: Path, synchronous: str = "full", cipher: Cipher | None = CIPHER) -> None:
    CLEAR(self, path, synchronous, cipher)


@pytest.fixture(autouse=True)
def always_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "__init__", sealed_from_the_start)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    yield journal
    await journal.close()


@contextlib.contextmanager
def bare(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as somebody without a key opens it."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        yield db


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def fill(path: Path, cipher: Cipher | None, messages: int = 250) -> None:
    """More than a page of everything that is sealed, each with the word `canary`."""
    journal = Journal(path, "normal", cipher)
    await journal.open()
    seqs = await asyncio.gather(*(journal.accept(said(str(n), f"canary {n} " * 20)) for n in range(messages)))
    await journal.accept(Event("reacted", HERE, ANN, 1.0, "1", "canary"))
    pairs = [(seq, [(HERE, Reply(f"canary {seq}"))]) for seq in seqs[: messages // 2] if seq is not None]
    state = (HERE, ANN, {"step": (b'"canary"', 9e9)})
    parts = [(await journal.finish(seq, "reply", pair, state=state))[0] for seq, pair in pairs]
    await journal.bury(parts[0], "canary: gone")
    await journal.put_off(parts[1], 2.0, "canary: busy")
    await journal.sent(parts[2], Sent(HERE, ("m",)))
    await journal.let_in("stage:ann", "owner", "canary")
    wish = (journal.seals.seal("canary", "wish.what"),)
    await journal.do(lambda db: db.execute("INSERT INTO wish (what, at) VALUES (?, 1)", wish))
    await journal.close()


Told = dict[str, object]


async def told(path: Path, cipher: Cipher | None) -> Told:
    """All that a journal says of what `fill` wrote."""
    journal = Journal(path, "normal", cipher)
    await journal.open()
    try:
        seals = journal.seals
        identities = await journal.do(lambda db: db.execute("SELECT identity FROM inbox ORDER BY seq").fetchall())
        values = await journal.do(lambda db: db.execute("SELECT value, place, person, name FROM state").fetchall())
        names = await journal.do(lambda db: db.execute("SELECT name, id FROM person").fetchall())
        wishes = await journal.do(lambda db: db.execute("SELECT what FROM wish").fetchall())
        return {
            "open": await journal.unanswered("stage"),
            "unsent": await journal.unsent("stage"),
            "history": await journal.history(HERE, 1000),
            "letters": letters.dead(path, cipher=cipher),
            "identities": [seals.show(one) for (one,) in identities],
            "states": [seals.open(value, "state.value", *whose) for value, *whose in values],
            "names": [seals.text(name, "person.name", id) for name, id in names],
            "wishes": [seals.text(what, "wish.what") for (what,) in wishes],
            "again": await journal.accept(said("3")),
            "books": audit.audit(path, cipher).exceptions,
        }
    finally:
        await journal.close()


@pytest.fixture
async def clear(tmp_path: Path) -> Path:
    """A journal in clear text."""
    path = tmp_path / "clear" / "journal.db"
    path.parent.mkdir()
    await fill(path, None)
    return path


async def test_a_clear_journal_is_sealed_when_it_is_opened_and_back_again(clear: Path) -> None:
    before = await told(clear, None)
    assert everything(clear.parent).count(b"canary") > 250
    assert await told(clear, CIPHER) == before
    assert b"canary" not in everything(clear.parent)
    assert await told(clear, CIPHER) == before
    with contextlib.closing(connect(clear, cipher=CIPHER)) as db:
        undo(db, CIPHER)
    assert await told(clear, None) == before
    assert everything(clear.parent).count(b"canary") > 250
    with bare(clear) as db:
        assert not is_sealed(db)
        types = "SELECT typeof(identity), typeof(body) FROM inbox UNION SELECT typeof(error), typeof(body) FROM outbox"
        assert db.execute(types).fetchall() == [("text", "blob")]


async def test_what_is_forgotten_stays_forgotten_and_known(clear: Path) -> None:
    journal = Journal(clear, "normal", None)
    await journal.open()
    await journal.forget(HERE)
    await journal.close()
    sealed = Journal(clear, "normal", CIPHER)
    await sealed.open()
    assert await sealed.history(HERE, 1000) != []
    assert await sealed.accept(said("3")) is None
    with bare(clear) as db:
        assert db.execute("SELECT count(*) FROM inbox WHERE body = ''").fetchone() == (125,)
    await sealed.close()


# Crashes


def snapshots(path: Path, act: Callable[[], sqlite3.Connection]) -> Iterator[Path]:
    """What a kill before each of SQLite's steps of `act` would leave."""
    copies: list[Path] = []

    def copy(_: str) -> None:
        folder = path.parent.parent / f"killed-{len(copies)}"
        shutil.copytree(path.parent, folder)
        copies.append(folder / path.name)

    real = sqlite3.connect

    def traced(*arguments: object, **named: object) -> sqlite3.Connection:
        db = real(*arguments, **named)  # type: ignore[arg-type]
        db.set_trace_callback(copy)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        with contextlib.closing(act()):
            pass
    yield from copies


async def test_killed_at_any_step_of_being_sealed_a_journal_loses_nothing_and_shows_nothing_after_the_next_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "home" / "journal.db"
    path.parent.mkdir()
    await fill(path, None, 12)
    (path.parent / "journal.damaged-1.db").write_bytes(b"canary" * 1000)
    before = await told(path, None)
    count = 0
    for killed in snapshots(path, lambda: connect_whole(path, "normal", CIPHER)):
        count += 1
        assert await told(killed, CIPHER) == before
        assert b"canary" not in everything(killed.parent), killed
        shutil.rmtree(killed.parent)
    assert count > 40


async def test_killed_at_any_step_of_being_opened_for_good_a_journal_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "home" / "journal.db"
    path.parent.mkdir()
    await fill(path, CIPHER, 12)
    before = await told(path, CIPHER)

    def decrypt() -> sqlite3.Connection:
        db = connect(path, "normal", CIPHER)
        undo(db, CIPHER)
        return db

    for number, killed in enumerate(snapshots(path, decrypt)):
        with bare(killed) as db:
            sealed = is_sealed(db)
        assert await told(killed, CIPHER if sealed or number % 2 else None) == before
        shutil.rmtree(killed.parent)


async def test_what_cannot_be_swept_out_now_is_at_the_next_start(clear: Path, caplog: pytest.LogCaptureFixture) -> None:
    with bare(clear) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM inbox").fetchone()
        journal = Journal(clear, "normal", CIPHER)
        await journal.open()
        assert "may still show traces of what it said in clear text" in caplog.text
        assert b"canary" in everything(clear.parent)
        await journal.close()
        with bare(clear) as db:
            assert db.execute("SELECT swept FROM sealed").fetchall() == [(0,)]
    journal = Journal(clear, "normal", CIPHER)
    await journal.open()
    assert b"canary" not in everything(clear.parent)
    await journal.close()
    with bare(clear) as db:
        assert db.execute("SELECT swept FROM sealed").fetchall() == [(1,)]


async def test_what_was_deleted_long_ago_is_swept_out_as_well(clear: Path) -> None:
    with bare(clear) as db:
        db.execute("PRAGMA secure_delete = OFF")
        for table in ("inbox", "outbox", "person", "state", "wish"):
            db.execute(f"DELETE FROM {table}")
    assert b"canary" in everything(clear.parent)
    journal = Journal(clear, "normal", CIPHER)
    await journal.open()
    assert b"canary" not in everything(clear.parent)
    await journal.close()


async def test_a_disk_that_is_full_leaves_the_journal_as_it_was(clear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await told(clear, None)
    seals = 0

    class Full(Cipher):
        def seal(self, data: bytes, about: bytes = b"") -> bytes:
            nonlocal seals
            seals += 1
            if seals > 100:
                raise sqlite3.OperationalError("database or disk is full")
            return super().seal(data, about)

    with pytest.raises(StoreError, match="disk is full"):
        await Journal(clear, "normal", Full(bytes(range(32)))).open()
    assert await told(clear, None) == before


# Damage and foul play


@pytest.mark.parametrize("seed", range(6))
async def test_a_clear_journal_that_is_damaged_is_salvaged_and_sealed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    await fill(path, None)
    wreck(path, seed)
    journal = Journal(path)
    await journal.open()
    assert len(await journal.unanswered("stage")) > 60
    await journal.close()
    assert b"canary" not in everything(tmp_path)
    (aside,) = tmp_path.glob("journal.damaged-*.db")
    open_copies(tmp_path, CIPHER)
    assert b"canary" in aside.read_bytes()


@pytest.mark.parametrize("seed", range(6))
async def test_a_sealed_journal_that_is_damaged_is_salvaged_and_stays_sealed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    await fill(path, CIPHER)
    wreck(path, seed)
    damaged = everything(tmp_path)
    for cipher, sentence in ((None, "no key to open it with"), (OTHER, "key of another folder")):
        with pytest.raises(StoreError, match=sentence):
            await Journal(path, "normal", cipher).open()
        assert everything(tmp_path) == damaged
    journal = Journal(path)
    await journal.open()
    assert len(await journal.unanswered("stage")) > 60
    assert len(await journal.history(HERE, 1000)) > 150
    assert await journal.accept(said("new")) is not None
    await journal.close()
    with bare(path) as db:
        assert is_sealed(db)
    assert b"canary" not in everything(tmp_path)
    open_copies(tmp_path, CIPHER)
    assert list(tmp_path.glob("journal.damaged-*")) == [], "nobody could read it without the key"


def wreck(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with path.open("r+b") as file:
        file.seek(chance.randrange(8, path.stat().st_size // 4096) * 4096)
        file.write(chance.randbytes(4096))


def flip(db: sqlite3.Connection, table: str, key: str, value: int) -> None:
    (body,) = db.execute(f"SELECT body FROM {table} WHERE {key} = ?", (value,)).fetchone()
    body = body[:20] + bytes([body[20] ^ 1]) + body[21:]
    db.execute(f"UPDATE {table} SET body = ? WHERE {key} = ?", (body, value))


async def test_one_flipped_bit_costs_one_row(journal: Journal) -> None:
    for number in range(4):
        await journal.accept(said(str(number)))
    (part, _) = await journal.post([(HERE, Reply("one")), (HERE, Reply("two"))])
    await journal.do(lambda db: flip(db, "inbox", "seq", 2))
    await journal.do(lambda db: flip(db, "outbox", "id", part.id))
    assert [one.seq for one in await journal.unanswered("stage")] == [1, 3, 4]
    assert [one.reply.text for one in await journal.unsent("stage")] == ["two"]
    (letter,) = letters.dead(journal.path, cipher=CIPHER)
    assert (letter.text, letter.error) == ("(unreadable)", "(unreadable)")


async def test_a_damaged_proof_is_no_other_key(tmp_path: Path) -> None:
    await fill(tmp_path / "journal.db", CIPHER)
    with bare(tmp_path / "journal.db") as db:
        db.execute("UPDATE sealed SET proof = x'00'")
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    await journal.close()


@pytest.mark.parametrize("rows", [0, 1, 250])
async def test_another_key_or_none_is_refused_and_changes_nothing(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    await journal.open()
    for number in range(rows):
        await journal.accept(said(str(number)))
    await journal.close()
    before = everything(tmp_path)
    for cipher, sentence in ((None, "no key to open it with"), (OTHER, "key of another folder")):
        with pytest.raises(StoreError, match=sentence):
            await Journal(path, "full", cipher).open()
        with pytest.raises(StoreError, match=sentence):
            letters.drop(path, cipher=cipher)
    assert everything(tmp_path) == before
    await journal.open()
    assert len(await journal.unanswered("stage")) == rows
    await journal.close()


async def test_what_somebody_without_the_key_puts_in_is_not_read(journal: Journal) -> None:
    """Clear words, and words that were sealed for another place: nobody may have a secret sent to them."""
    await journal.accept(said("1", "the secret"))
    await journal.post([(HERE, Reply("the secret"))])
    with bare(journal.path) as db:
        inbox = "INSERT INTO inbox (channel, identity, place, kind, at, body)"
        outbox = "INSERT INTO outbox (place, kind, at, body)"
        db.execute(f"{inbox} SELECT channel, 'x', 'stage:thief', kind, at, body FROM inbox")
        db.execute(f"{outbox} SELECT 'stage:thief', kind, at, body FROM outbox")
        clear = (encode(Message("8", HERE, ANN, "do what I say")),)
        db.execute(f"{inbox} VALUES ('stage', 'y', 'stage:1', 'message', 1, ?)", clear)
        db.execute(f"{outbox} VALUES ('stage:1', 'direct', 1, ?)", (encode_reply(Reply("spam")),))
    assert [one.seq for one in await journal.unanswered("stage")] == [1]
    assert [one.id for one in await journal.unsent("stage")] == [1]
    assert await journal.history(Place("stage", "thief"), 10) == []


async def test_the_same_reaction_is_known_and_shows_nothing(journal: Journal) -> None:
    event = Event("reacted", HERE, ANN, 1.0, "1", "canary")
    assert await journal.accept(event) is not None
    assert await journal.accept(event) is None
    with bare(journal.path) as db:
        ((identity,),) = db.execute("SELECT identity FROM inbox")
    assert isinstance(identity, bytes) and b"canary" not in identity and b"stage" not in identity


class SealedModel(JournalModel):
    """After every step, and after a kill, everything is sealed."""

    def __init__(self) -> None:
        super().__init__()
        sealed = mock.patch.object(letters, "connect", lambda path, cipher: connect(path, cipher=CIPHER))
        self.patches.enter_context(sealed)

    def opened(self, path: Path) -> Journal:
        journal = Journal(path, "normal", CIPHER)
        self.run(journal.open())
        return journal

    @invariant()
    def nothing_can_be_read(self) -> None:
        with bare(self.journal.path) as db:
            assert is_sealed(db)
            assert db.execute("SELECT body FROM inbox WHERE body != '' AND typeof(body) = 'text'").fetchall() == []
        assert not any(word in everything(self.journal.path.parent) for word in (b"DROP TABLE", b'{"id":'))


TestSealedModel = SealedModel.TestCase
TestSealedModel.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
