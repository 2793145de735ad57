"""The stored turns of one place, in one TinyDB file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from re import sub
from typing import Any, TypeVar

import msgspec

from roost.contracts import Turn
from roost.memory.disk import Disk
from roost.memory.lines import decode, replay
from roost.memory.store import Fsync, Store, set_aside
from roost.values import Place, PlaceKind

log = logging.getLogger("roost.memory")

TURNS, WINDOW = "turns", "window"
RECORD = 1

T = TypeVar("T")

DEFAULTS = {one.name: list(one.default) if one.default == () else one.default for one in fields(Turn)}


@dataclass(frozen=True, slots=True)
class Record:
    """What a file says about itself: whose it is, and where the window begins.

    `start` is the id of the window's first turn, `cap` the tokens its turns are cut to, 0 for uncut.
    """

    place: str
    kind: PlaceKind
    start: int = 0
    cap: int = 0


def file_name(place: Place) -> str:
    """A name for the file of `place`: readable, and unlike any other's on every file system.

    Lower case, ASCII, at most 63 bytes, and none of the names that Windows keeps for itself.
    """
    text = str(place)
    readable = sub(r"[^a-z0-9]+", "_", text.lower())[:40].strip("_")
    return f"{readable}-{sha256(text.encode()).hexdigest()[:16]}.jsonl"


FILES = "*-" + "[0-9a-f]" * 16 + ".jsonl"


def read_place(path: Path) -> Place | None:
    """Whose file this is, without opening or repairing it; None when it does not say.

    Raises OSError, and StoreError for a file from a newer Roost.
    """
    row = replay(path.read_bytes()).tables.get(WINDOW, {}).get(RECORD)
    record = convert(row and decode(row), Record)
    try:
        return replace(Place.parse(record.place), kind=record.kind) if record else None
    except ValueError:
        return None


class Conversation:
    """Reads and writes the file of one place. One thread at a time may use it.

    `last` is the id of the newest turn; `cuts` is what long turns were cut to for the window as it is.
    """

    def __init__(self, path: Path, place: Place, fsync: Fsync = "always", disk: Disk | None = None) -> None:
        self.last = 0
        self.cuts: dict[int, Turn] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._recent: dict[int, Turn] | None = None
        self._counts: dict[int, Turn] = {}
        self._db = Store(path, fsync=fsync, disk=disk)
        try:
            self._claim(path, place, disk or Disk())
            self._turns = self._db.table(TURNS)
            self._index()
        except BaseException:
            self._db.close()
            raise

    def _claim(self, path: Path, place: Place, disk: Disk) -> None:
        record = convert(self._db.table(WINDOW).get(doc_id=RECORD), Record)
        if record is not None and record.place != str(place):
            aside = set_aside(path, path.read_bytes(), disk)
            log.warning("'%s' belongs to another place, so it is kept as '%s'.", path, aside.name)
            self._db.drop_tables()
            self._db.storage.compact()
            record = None
        self.record = record or Record(str(place), place.kind)
        if record is None:
            self._write_record()

    def _index(self) -> None:
        for document in self._turns:
            self.last = max(self.last, document.doc_id)
            if (turn := convert(document, Turn)) is not None and turn.id:
                self._keys[turn.role, turn.id] = document.doc_id

    def close(self) -> None:
        try:
            if self._counts:
                self._put({})
        finally:
            self._db.close()

    def move(self, start: int, cap: int) -> None:
        """Let the window begin at the turn with the id `start`, and cut its turns to `cap` tokens."""
        self.record = replace(self.record, start=start, cap=cap)
        if self._recent is not None:
            self._recent = {key: turn for key, turn in self._recent.items() if key >= start}
        self._write_record()

    def _write_record(self) -> None:
        self._db.table(WINDOW).put({RECORD: asdict(self.record)})

    def add(self, turns: Sequence[Turn]) -> None:
        """Append in one write; a turn whose (role, id) is here replaces that one where it is."""
        documents: dict[int, Turn] = {}
        keys: dict[tuple[str, str], int] = {}
        last = self.last
        for turn in turns:
            name = (turn.role, turn.id)
            known = (keys.get(name) or self._keys.get(name)) if turn.id else None
            last += known is None
            documents[known or last] = turn
            if turn.id:
                keys[name] = known or last
        self._put({key: self._counted(key, turn) for key, turn in documents.items()})
        self._keys |= keys
        self.last = last

    def _counted(self, key: int, turn: Turn) -> Turn:
        old = None if turn.tokens else self.turn(key)
        return replace(turn, tokens=old.tokens) if old is not None and old.text == turn.text else turn

    def _put(self, turns: Mapping[int, Turn]) -> None:
        turns = {**self._counts, **turns}
        self._turns.put({key: plain(turn) for key, turn in turns.items()})
        self._counts = {}
        for key in turns:
            self.cuts.pop(key, None)
        if self._recent is not None:
            start = max(self.record.start, 1)
            self._recent |= {key: turn for key, turn in turns.items() if key >= start}

    def keep_counts(self, counted: Mapping[int, Turn]) -> None:
        """Remember the tokens of turns that still are what was counted; the next write stores them."""
        for key, turn in counted.items():
            old = self.turn(key)
            if old is not None and old.text == turn.text:
                self._counts[key] = replace(old, tokens=turn.tokens)
                if self._recent is not None and key in self._recent:
                    self._recent[key] = self._counts[key]

    def turn(self, key: int) -> Turn | None:
        return convert(self._turns.get(doc_id=key), Turn)

    def recent(self) -> dict[int, Turn]:
        """The window's turns by id, oldest first."""
        if self._recent is None:
            found = ((key, self.turn(key)) for key in range(max(self.record.start, 1), self.last + 1))
            self._recent = {key: turn for key, turn in found if turn is not None}
        return dict(self._recent)

    def __iter__(self) -> Iterator[Turn]:
        return (turn for document in self._turns if (turn := convert(document, Turn)) is not None)

    def __len__(self) -> int:
        return len(self._turns)


def plain(turn: Turn) -> dict[str, Any]:
    """A turn as it is stored: without what is as it is in most turns."""
    values: dict[str, Any] = msgspec.to_builtins(turn)
    return {name: value for name, value in values.items() if value != DEFAULTS.get(name)}


def convert(document: Any, kind: type[T]) -> T | None:
    """A stored document as what it should be, None when it is anything else."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return None
