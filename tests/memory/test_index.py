"""The index is made again whenever it is missing, behind or damaged, and never raises or invents anything."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from dialogues import BEGUN, CHINESE, ENGLISH, make
from seeded import seeded

from roost.contracts import Hit, Turn
from roost.memory import index as index_module
from roost.memory.archive import Archive
from roost.memory.index import Index

NOW = BEGUN + 1e8
CORPUS = make([ENGLISH, CHINESE], 40, 5)
QUESTIONS = [question for question, _ in CORPUS.questions[:5]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.cold"


def fill(path: Path, turns: dict[int, Turn] | None = None) -> Archive:
    archive = Archive(path, fsync="os")
    archive.append(turns or CORPUS.turns)
    return archive


def answers(archive: Archive) -> tuple[list[list[Hit]], list[int | None]]:
    names = [("user", CORPUS.turns[9].id), ("assistant", CORPUS.turns[10].id), ("user", "nobody's")]
    return [archive.search(one, now=NOW) for one in QUESTIONS], [archive.number(*name) for name in names]


def answers_anew(path: Path) -> tuple[list[list[Hit]], list[int | None]]:
    archive = Archive(path, fsync="os")
    try:
        return answers(archive)
    finally:
        archive.close()


def test_an_index_is_its_owners_alone(path: Path):
    fill(path).close()
    assert stat.S_IMODE(path.with_suffix(".index").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no database at all" * 99),
        lambda file: file.write_bytes(file.read_bytes()[:1500]),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: file.write_bytes(b"\0" * file.stat().st_size),
        lambda file: change(file, "DROP TABLE name"),
        lambda file: change(file, "DROP TABLE words"),
        lambda file: change(file, "DELETE FROM about"),
        lambda file: change(file, "UPDATE about SET value = '0.0' WHERE key = 'format'"),
        lambda file: change(file, "UPDATE about SET value = 'x' WHERE key = 'end'"),
        lambda file: change(file, "UPDATE about SET value = 10000000 WHERE key = 'end'"),
        lambda file: change(file, "UPDATE about SET value = x'00' WHERE key = 'file'"),
        lambda file: change(file, "UPDATE about SET value = 1 WHERE key = 'tip'"),
        lambda file: change(file, "UPDATE about SET value = 'a b' WHERE key = 'sums'"),
        lambda file: change(file, "DELETE FROM words_data"),
    ],
    ids=range(16),
)
def test_a_spoilt_index_is_made_again_and_answers_as_before(path: Path, spoil):
    archive = fill(path)
    expected = answers(archive)
    assert all(expected[0]), "every question finds something"
    assert None in expected[1]
    archive.close()
    spoil(path.with_suffix(".index"))
    assert answers_anew(path) == expected
    assert answers_anew(path) == expected


def change(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as db:
        db.execute(statement)
    db.close()


def test_flipped_bytes_in_the_index_never_raise(path: Path):
    chance = seeded()
    archive = fill(path)
    expected = answers(archive)
    archive.close()
    file = path.with_suffix(".index")
    data = file.read_bytes()
    told = {(turn.role, turn.text) for turn in CORPUS.turns.values()}
    for _ in range(60):
        spoilt = bytearray(data)
        for at in chance.choices(range(len(data)), k=chance.choice((1, 1, 20))):
            spoilt[at] ^= 1 << chance.randrange(8)
        file.write_bytes(spoilt)
        archive = Archive(path, fsync="os")
        found, _ = answers(archive)
        assert all((turn.role, turn.text) in told for hits in found for hit in hits for turn in hit.turns)
        archive.append({10**6: Turn("user", "written to a damaged index")})
        archive.rewrite(lambda turn: "damaged index" not in turn.text)
        assert answers(archive) == expected
        archive.close()


def test_asking_for_damage_mends_the_index(path: Path):
    archive = fill(path)
    expected = answers(archive)
    archive.close()
    change(path.with_suffix(".index"), "UPDATE words_data SET block = zeroblob(length(block)) WHERE id > 100")
    archive = Archive(path, fsync="os")
    assert archive.damage() == []
    assert answers(archive) == expected
    archive.close()


def test_an_index_that_is_behind_catches_up(path: Path, monkeypatch: pytest.MonkeyPatch):
    half = {number: turn for number, turn in CORPUS.turns.items() if number <= 150}
    fill(path, half).close()
    with monkeypatch.context() as died:
        died.setattr(Index, "update", lambda self: (_ for _ in ()).throw(sqlite3.OperationalError("died")))
        archive = Archive(path, fsync="os")
        archive.append(CORPUS.turns)
        archive.close()
    whole = fill(path.with_name("whole.cold"))
    assert answers_anew(path) == answers(whole)
    whole.close()


def test_an_index_of_another_archive_is_not_believed(path: Path):
    fill(path).close()
    expected = answers_anew(path)
    other = path.with_name("other.cold")
    fill(other, {1: Turn("user", "nothing of the kind")}).close()
    other.with_suffix(".index").replace(path.with_suffix(".index"))
    assert answers_anew(path) == expected


def test_an_index_that_knows_of_turns_which_a_power_cut_took_is_not_believed(path: Path):
    """The archive may have grown again since then, beyond where the index thinks it knows it."""
    index, kept = path.with_suffix(".index"), path.with_name("kept")
    fill(path).close()
    expected, data = answers_anew(path), path.read_bytes()
    fill(path, {1000: Turn("user", "taken by the power cut, gone")}).close()
    index.rename(kept)
    path.write_bytes(data)
    fill(path, {1000 + n: Turn("user", f"the giraffe number {n} came later") for n in range(9)}).close()
    assert path.stat().st_size > len(data)
    kept.replace(index)
    archive = Archive(path, fsync="os")
    assert archive.search("giraffe", now=NOW)
    assert archive.search("taken power", now=NOW) == []
    archive.rewrite(lambda turn: "giraffe" not in turn.text)
    assert answers(archive) == expected
    archive.close()


def test_an_index_that_cannot_be_made_costs_the_search_and_nothing_else(path: Path):
    path.with_suffix(".index").mkdir()
    archive = fill(path)
    assert len(archive) == len(CORPUS.turns)
    assert archive.search(QUESTIONS[0], now=NOW) == []
    assert archive.number("assistant", CORPUS.turns[10].id) == 10
    archive.close()


def test_the_index_is_the_same_however_it_came_to_be(path: Path):
    """In one piece, in small appends, and through the rewrites that put small segments together."""
    whole = fill(path)
    small = Archive(path.with_name("small.cold"), fsync="os")
    for first in range(1, len(CORPUS.turns) + 1, 7):
        small.append({number: turn for number, turn in CORPUS.turns.items() if first <= number < first + 7})
    assert answers(small) == answers(whole)
    small.close()
    whole.close()


def test_an_index_that_did_not_hear_of_a_rewrite_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Index, "follow", lambda self: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
    whole, small = fill(path), Archive(path.with_name("small.cold"), fsync="os")
    for number, turn in CORPUS.turns.items():
        small.append({number: turn})
    assert small._segments.records != whole._segments.records
    assert answers(small) == answers(whole)
    assert small.number("user", CORPUS.turns[1].id) == 1
    small.close()
    whole.close()


def test_a_big_archive_is_put_in_order_after_it_was_indexed(path: Path, monkeypatch: pytest.MonkeyPatch):
    turns = {number: Turn("user", CORPUS.turns[number % 200 + 1].text, id=str(number)) for number in range(1, 3000)}
    sizes = []
    for many in (10_000, 100):
        monkeypatch.setattr(index_module, "MANY", many)
        fill(path.with_name(f"{many}.cold"), turns).close()
        sizes.append(path.with_name(f"{many}.index").stat().st_size)
    assert sizes[1] < 0.95 * sizes[0]
