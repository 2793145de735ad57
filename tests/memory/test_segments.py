"""The archive's file: turns come back as they were, and damage costs what it hits."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from dialogues import CHINESE, ENGLISH, make
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded import seeded

from roost.contracts import Call, Turn
from roost.errors import StoreError
from roost.memory import columns, groups, segments
from roost.memory.conversation import plain
from roost.memory.disk import Disk
from roost.memory.lines import encode
from roost.memory.records import DICTIONARY, HEADER_SIZE, RECORD_SIZE, header, scan
from roost.memory.segments import Segments

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
TURNS = st.builds(
    Turn,
    st.sampled_from(["user", "assistant", "system", "tool"]),
    TEXT,
    TEXT,
    st.one_of(st.floats(allow_nan=False), st.integers(0, 2 * 10**12).map(lambda ms: ms / 1000)),
    st.one_of(st.integers(0, 10**20).map(str), TEXT, st.sampled_from(["007", "٣", "-1", "same", "same"])),
    st.integers(0, 2**40),
    TEXT,
    st.booleans(),
    st.lists(st.builds(Call, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    TEXT,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.cold"


def open_file(path: Path) -> Segments:
    return Segments(path, "os", Disk(), None)


def everything(file: Segments) -> dict[int, Turn]:
    return {number: turn for one in file.groups for number, turn in file.read(one.records).items()}


def talk(count: int, first: int = 1) -> dict[int, Turn]:
    return {
        number: Turn("user", f"turn {number} " + "and so on " * (number % 5)) for number in range(first, first + count)
    }


@given(st.dictionaries(st.integers(1, 2**40), TURNS, min_size=1, max_size=9), st.booleans())
def test_turns_become_columns_and_come_back_as_they_were(turns: dict[int, Turn], together: bool):
    turns = dict(sorted(turns.items()))
    if together:
        turns = dict(enumerate(turns.values(), 5))
    assert columns.read(columns.write(turns)) == turns


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x92\x01\x02", columns.write(talk(3))[:-1]])
def test_what_is_no_columns_is_refused(data: bytes):
    with pytest.raises((ValueError, columns.msgspec.MsgspecError)):
        columns.read(data)


def test_nothing_is_made_before_the_first_append_and_then_for_its_owner_alone(path: Path):
    file = open_file(path)
    assert (file.last, file.groups, file.damage()) == (0, [], [])
    assert not list(path.parent.iterdir())
    file.append(talk(2))
    assert [one.name for one in path.parent.iterdir()] == ["x.cold"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(
    st.lists(st.dictionaries(st.integers(1, 400), TURNS, min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_appended_in_whatever_order_is_there(tmp_path_factory, batches, tidied: int):
    path = tmp_path_factory.mktemp("s") / "x.cold"
    file, model = open_file(path), dict[int, Turn]()
    for count, batch in enumerate(batches):
        file.append(dict(sorted(batch.items())))
        model |= batch
        if count == tidied:
            file.tidy()
        assert everything(file) == dict(sorted(model.items()))
        assert file.last == max(model)
    assert everything(open_file(path)) == dict(sorted(model.items()))
    assert not file.damage()


def test_segments_are_short_enough_and_a_long_turn_has_its_own(path: Path):
    file = open_file(path)
    turns = talk(600) | {601: Turn("user", "long " * 100_000), 602: Turn("user", "short")} | talk(3, 5000)
    file.append(turns)
    assert [one.count for one in file.records] == [256, 256, 88, 1, 1, 3]
    assert everything(open_file(path)) == turns


def test_a_dictionary_is_trained_when_there_is_enough_and_pays_for_itself(path: Path):
    corpus = make([ENGLISH, CHINESE], 700, 1)
    file = open_file(path)
    for first in range(1, len(corpus.turns), 40):
        file.append({number: turn for number, turn in corpus.turns.items() if first <= number < first + 40})
    before = path.stat().st_size
    assert file.is_loose()
    file.tidy()
    assert not file.is_loose()
    found = scan(path)
    assert sum(one.kind == DICTIONARY for one in found.records) == 2
    assert path.stat().st_size < 0.7 * before
    assert everything(open_file(path)) == corpus.turns
    file.append(more := {10**6: Turn("user", "one more, packed with the same dictionary")})
    assert everything(open_file(path)) == corpus.turns | more


def test_a_thousand_turns_take_less_than_a_quarter_of_their_json_lines(path: Path):
    turns = dict(list(make([ENGLISH], 200, 3).turns.items())[:1000])
    file = open_file(path)
    file.append(turns)
    lines = b"".join(encode(plain(turn)) + b"\n" for turn in turns.values())
    assert 4 * path.stat().st_size < len(lines)


def test_small_segments_are_put_together_and_then_left_alone(path: Path):
    file, rewrites = open_file(path), 0
    for number in range(1, 400):
        file.append(talk(1, number))
        if file.is_loose():
            file.tidy()
            rewrites += 1
    assert everything(file) == talk(399)
    assert 3 < rewrites < 30
    assert len(file.records) < 60


def test_turns_that_cannot_be_put_together_are_not_rewritten_for_ever(path: Path):
    file = open_file(path)
    for number in range(1, 60):
        file.append(talk(1, number * (groups.GAP + 1)))
    assert len(file.records) == 59
    assert not file.is_loose()


# Damage.


@pytest.fixture
def small_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LEAST", 1000)
    monkeypatch.setattr(segments, "SHARE", 8)
    monkeypatch.setattr(segments, "SAMPLE", 64)
    monkeypatch.setattr(columns, "MOST", 24)
    monkeypatch.setattr(groups, "MOST", 24)


@pytest.fixture
def whole(path: Path, small_dictionary: None) -> dict[int, Turn]:
    """A file with a dictionary in two copies, segments packed with it, and one that is appended later."""
    turns = make([ENGLISH], 14, 2).turns
    file = open_file(path)
    file.append(turns)
    file.tidy()
    file.append(late := {len(turns) + 1: Turn("user", "appended later")})
    kinds = [one.kind for one in scan(path).records]
    assert kinds[0] == kinds[-2] == DICTIONARY
    assert len(kinds) > 6
    return turns | late


def flips(data: bytes, chance: random.Random) -> Iterator[int]:
    """Every byte of the header and of the records' own headers, and some of the rest."""
    yield from range(HEADER_SIZE)
    mark = data[HEADER_SIZE : HEADER_SIZE + 4]
    at = data.find(mark)
    while at >= 0:
        yield from range(at, at + RECORD_SIZE)
        at = data.find(mark, at + 1)
    yield from chance.sample(range(len(data)), 300)


def test_a_flipped_bit_anywhere_costs_at_most_its_own_segment(path: Path, whole: dict[int, Turn]):
    chance = seeded()
    data = path.read_bytes()
    parts = {at: set(range(one.first, one.last + 1)) for one in scan(path).records for at in range(one.offset, one.end)}
    kinds = {at: one.kind for one in scan(path).records for at in range(one.offset, one.end)}
    for at in flips(data, chance):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        file = open_file(path)
        told, left = file.damage(), everything(file)
        lost = set(whole) - set(left)
        assert told, at
        assert all("is damaged" in line for line in told)
        assert left.items() <= whole.items()
        if at < HEADER_SIZE or kinds[at] == DICTIONARY:
            assert not lost, at
        else:
            assert lost <= parts[at], at
        file.append({10**6: Turn("user", "after the damage")})
        assert everything(open_file(path)) == left | {10**6: Turn("user", "after the damage")}


def test_a_file_that_is_cut_off_anywhere_keeps_what_was_whole(path: Path, whole: dict[int, Turn]):
    data = path.read_bytes()
    ends = [one.end for one in scan(path).records]
    for size in [*range(0, len(data), 13), *ends, *(end - 1 for end in ends), *(end + 5 for end in ends[:-1])]:
        path.write_bytes(data[:size])
        file = open_file(path)
        left = everything(file)
        assert left.items() <= whole.items()
        kept = [one for one in ends if one <= size]
        assert (
            len(file.records)
            == sum(one.kind != DICTIONARY for one in scan(path).records)
            == len([end for end in kept if end in ends[1:-2] or end == ends[-1]])
        )
        assert not file.damage()
        file.append({10**6: Turn("user", "goes on")})
        assert everything(open_file(path)) == left | {10**6: Turn("user", "goes on")}


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\0", b"half", b"\xf6\xc1\xfeR" * 3])
def test_an_unfinished_write_is_cut_off_by_the_next(path: Path, tail: bytes):
    file = open_file(path)
    file.append(talk(3))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + tail)
    file = open_file(path)
    assert everything(file) == talk(3)
    assert not file.damage()
    file.append(talk(1, 4))
    data = path.read_bytes()
    assert data[size : size + 4] == data[HEADER_SIZE : HEADER_SIZE + 4]
    assert everything(open_file(path)) == talk(4)


def test_foreign_bytes_in_the_middle_are_passed_over_and_told(path: Path):
    file = open_file(path)
    file.append(talk(3))
    path.write_bytes(path.read_bytes() + b"someone else wrote here" * 9)
    file = open_file(path)
    file.append(talk(3, 4))
    file = open_file(path)
    assert everything(file) == talk(6)
    assert file.damage() == [f"'{path}' is damaged: 207 bytes at byte {file._scan.gaps[0][0]} cannot be read."]
    assert not file.is_loose()


def test_a_file_of_anything_else_opens_as_damaged(path: Path):
    path.write_bytes(bytes(range(256)) * 20)
    file = open_file(path)
    assert (file.last, everything(file)) == (0, {})
    assert file.damage()
    file.append(talk(2))
    assert everything(open_file(path)) == talk(2)


def test_a_file_from_a_newer_version_is_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as newer:
        newer.setattr("roost.memory.records.VERSION", 2)
        path.write_bytes(header(False, b"12345678"))
    with pytest.raises(StoreError, match=r"newer Roost \(format 2, this one reads 1\)"):
        open_file(path)
    assert path.stat().st_size == HEADER_SIZE


class Full(Disk):
    """A disk that is full at the second write."""

    left = 1

    def write(self, file, data: bytes) -> None:
        if not self.left:
            super().write(file, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        self.left -= 1
        super().write(file, data)


def test_a_full_disk_is_told_and_leaves_the_file_as_it_was(path: Path):
    file = Segments(path, "always", Full(), None)
    file.append(talk(2))
    data = path.read_bytes()
    with pytest.raises(OSError, match="No space"):
        file.append(talk(2, 3))
    assert path.read_bytes() == data
    assert everything(file) == talk(2)
    file._disk.left = 9
    file.append(talk(2, 3))
    assert everything(open_file(path)) == talk(4)
