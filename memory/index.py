"""The search index of one archive: an SQLite file that can be made again from the segments at any time.

It knows which words are in which window of turns, and nothing else of what was said: how often, where and in which
order is read from the segments again, for the few windows that matter. So it stays a third of the usual size.

A window is WINDOW neighbouring numbers, and a row is the words of one: rows near each other take a byte less each.
Rows are never changed. What comes to a window later, or overrides what is in it, is a row of its own above EDITS.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from roost.contracts import Turn
from roost.memory import words
from roost.memory.disk import Disk
from roost.memory.records import Record
from roost.memory.segments import Segments
from roost.memory.store import Fsync

if TYPE_CHECKING:
    from roost.cipher import Cipher
    from roost.memory.meaning import Vector
    from roost.memory.vectors import Vectors

log = logging.getLogger("roost.memory")

T = TypeVar("T")

WINDOW = 6  # numbers
EDITS = 2**27  # rows of the nth time that something came to windows that were there begin at n times this
SEARCHED = 50_000  # characters of a turn
MANY = 2000  # turns: an index of so many that was made at once is put in order
PART = 10  # it is put in order as well when one part of so many is new
SEALED_ID = 0x526F6F53  # SQLite's application_id of what holds no readable word

ASKED = 500  # words in one question to SQLite
HIDDEN = 20  # characters of a word's stand-in, 80 bits: more would tell no more words apart, and take room
RUN = 4  # turns that are found by one name

_NOT_DAMAGED = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}

# After a power cut an index may be behind, but not damaged without anybody knowing.
SYNCHRONOUS: dict[Fsync, str] = {"always": "NORMAL", "os": "OFF"}

FORMAT = f"2.{words.VERSION}"
PAGE = 1024  # bytes: most conversations are small
_SCHEMA = f"""
PRAGMA page_size = {PAGE};
CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE name (hash INTEGER, number INTEGER, PRIMARY KEY (hash, number)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (said, content = '', detail = none, columnsize = 0, tokenize = 'ascii');
CREATE VIRTUAL TABLE known USING fts5vocab (words, row);
"""


class Sums(NamedTuple):
    """Windows, turns, words of turns, the highest number, and how often something came to older windows."""

    windows: int = 0
    turns: int = 0
    words: int = 0
    highest: int = -1
    edits: int = 0


class Index:
    """Finds words and ids among the turns of `segments`. One thread at a time may use it.

    Opened, brought up to date, and made again when it is damaged, before it is asked anything. What cannot be
    helped by that raises sqlite3.Error.
    """

    def __init__(
        self,
        path: Path,
        segments: Segments,
        fsync: Fsync,
        disk: Disk,
        cipher: Cipher | None,
        vectors: Vectors | None = None,
    ) -> None:
        self.path = path
        self._vectors = vectors
        self._segments, self._fsync, self._disk = segments, fsync, disk
        self._cipher = cipher
        self._db: sqlite3.Connection | None = None
        self._file, self._end = b"", 0  # what is covered
        self._sums = Sums()
        self._loose = 0  # turns that came since the index was put in order

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()
        if self._vectors is not None:
            self._vectors.close()

    def remove(self) -> None:
        self.close()
        erase(self.path, self._disk)

    def drop_clear(self) -> None:
        """Remove an index from before the archive was encrypted: its words can be read."""
        if self._cipher is not None and self.path.is_file():
            with self.path.open("rb") as file:
                # https://www.sqlite.org/fileformat.html: the application_id is at offset 68.
                if file.read(72)[68:] != SEALED_ID.to_bytes(4, "big"):
                    self.remove()

    @property
    def is_current(self) -> bool:
        """Whether it covers everything, as far as is known without opening it."""
        return self._db is not None and (self._file, self._end) == (self._segments.id, self._segments.end)

    @property
    def count(self) -> int:
        """How many windows there are."""
        return self._sums.windows

    @property
    def turns(self) -> int:
        return self._sums.turns

    @property
    def length(self) -> float:
        """The words of a turn, on average."""
        return self._sums.words / max(1, self._sums.turns)

    # Asking.

    def ask(self, question: Callable[[Index], T]) -> T:
        """Put a question to an index that is up to date, and once more to a new one if this one is damaged."""
        try:
            self.update()
            return question(self)
        except (sqlite3.Error, UnicodeError) as error:  # what SQLite says of a damaged file may quote it
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGED:
                self.close()
                raise
            log.warning("'%s' is made again, because it cannot be used: %s.", self.path, error)
            self.remove()
        try:
            self.update()
            return question(self)
        except sqlite3.Error:
            self.close()
            raise

    def counts(self, among: Iterable[str]) -> dict[str, int]:
        """In how many pieces words are, as far as they are known."""
        hidden = {self._hide(word): word for word in among}
        found: dict[str, int] = {}
        for start in range(0, len(hidden), ASKED):
            part = list(hidden)[start : start + ASKED]
            marks = ", ".join("?" * len(part))
            rows = self._open().execute(f"SELECT term, doc FROM known WHERE term IN ({marks})", part)
            found |= {hidden[term]: count for term, count in rows if term in hidden}
        return found

    def windows(self, word: str) -> set[int]:
        """The windows that a word is in, or once was, by number // WINDOW."""
        rows = self._open().execute("SELECT rowid FROM words WHERE words MATCH ?", (f'"{self._hide(word)}"',))
        return {row % EDITS for (row,) in rows}

    def places(self, id: str) -> list[int]:
        """The numbers from which RUN on there may be turns with this id."""
        rows = self._open().execute("SELECT number FROM name WHERE hash = ?", (self._hash(id),))
        return [number for (number,) in rows if isinstance(number, int)]

    def near(self, vector: Vector, before: int | None, most: int) -> list[int]:
        """Numbers of turns that may mean what `vector` does; none where there are no vectors."""
        self.mean()
        return self._vectors.near(self._open(), vector, before, most) if self._vectors is not None else []

    def mean(self) -> bool:
        """Make vectors of some of the turns that have none, if there are to be any; whether all have theirs now."""
        return self._vectors is None or self._vectors.update(self._open())

    def check(self) -> None:
        """Raises sqlite3.Error when the index contradicts itself."""
        db = self._open()
        with db:
            db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()) != ("ok",):
            raise sqlite3.DatabaseError(str(found))

    # Keeping up.

    def update(self) -> None:
        """Take in what the segments have beyond what is here."""
        if self._db is not None and self._file != self._segments.id:
            self.close()
        db = self._open()
        if self._end == self._segments.end:
            return
        fresh = [record for record in self._segments.records if record.offset >= self._end]
        with self._changes(db):
            for record in fresh:
                self._add(db, record)
        self._loose += sum(record.count for record in fresh)
        if self._loose >= MANY and self._loose == self._sums.turns:
            self._tidy(db)

    def tidy(self) -> None:
        """Put the index in order if a good part of it is new."""
        if self._loose and PART * self._loose >= self._sums.turns:
            self._tidy(self._open())

    def follow(self) -> None:
        """The segments were rewritten with the same turns: what is here holds for the new file."""
        db, was = self._open(), (self._file, self._end)
        with self._changes(db):
            pass
        if self._vectors is not None:
            self._vectors.follow(db, was)
        self._tidy(db)

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Put together what many small changes left apart: a third of the size."""
        with db:
            db.execute("INSERT INTO words (words) VALUES ('optimize')")
        db.execute("VACUUM")
        self._loose = 0

    @contextmanager
    def _changes(self, db: sqlite3.Connection) -> Iterator[None]:
        """Everything done in here happens together with the note of what is covered by it, or not at all."""
        before = self._sums
        try:
            with db:
                yield
                self._note(db, self._segments.end)
        except BaseException:
            self._sums = before
            raise
        self._file, self._end = self._segments.id, self._segments.end

    def _add(self, db: sqlite3.Connection, record: Record) -> None:
        turns = self._segments.read([record])
        if not turns:
            return
        sums = self._sums
        newest = sums.highest // WINDOW
        edits = sums.edits + (min(turns) // WINDOW <= newest)
        said = {number: words.cut(turn.text[:SEARCHED]) for number, turn in turns.items()}
        for window, found in _pieces(turns, said):
            text = " ".join(self._hide(word) for word in found)
            row = window + (EDITS * edits if window <= newest else 0)
            db.execute("INSERT INTO words (rowid, said) VALUES (?, ?)", (row, text))
        names = [(self._hash(id), number) for number, id in _names(turns)]
        db.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", names)
        windows = {number // WINDOW for number in turns if number // WINDOW > newest}
        length = sum(map(len, said.values()))
        self._sums = Sums(
            sums.windows + len(windows), sums.turns + len(turns), sums.words + length, max(sums.highest, *turns), edits
        )

    def _hide(self, word: str) -> str:
        return self._cipher.blind(word)[:HIDDEN] if self._cipher is not None else word

    def _hash(self, id: str) -> int:
        text = self._hide(id).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=3).digest(), "big") >> 1  # SQLite takes 3 bytes for it

    # Opening.

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            if not self.path.exists():
                self._begin()
            self._db = self._connect()
            if not self._agrees(self._db):
                self.remove()
                self._begin()
                self._db = self._connect()
        return self._db

    def _connect(self) -> sqlite3.Connection:
        # One process has it open: no lock and no look for each question, and nobody to wait for.
        db = sqlite3.connect(self.path, timeout=0, check_same_thread=False)
        try:
            db.execute("PRAGMA cache_size = -512")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute(f"PRAGMA synchronous = {SYNCHRONOUS[self._fsync]}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _begin(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._sums, self._file, self._end = Sums(), self._segments.id, 0
        with closing(self._connect()) as db:
            with db:
                db.executescript(_SCHEMA)
                self._note(db, 0)
            if self._cipher is not None:  # once the size of pages is settled
                db.execute(f"PRAGMA application_id = {SEALED_ID}")

    def _agrees(self, db: sqlite3.Connection) -> bool:
        """Whether the index is of this format and this file, and not ahead of it; reads what it covers."""
        about = dict(db.execute("SELECT key, value FROM about"))
        end, sums = about.get("end"), _sums(str(about.get("sums")))
        if not isinstance(end, int) or sums is None or about != self._about(end, sums):
            return False
        self._sums, self._file, self._end = sums, self._segments.id, end
        return end <= self._segments.end

    def _note(self, db: sqlite3.Connection, end: int) -> None:
        db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", self._about(end, self._sums).items())

    def _about(self, end: int, sums: Sums) -> dict[str, object]:
        """What the index says of itself. The checksum of the last record that it covers tells files apart."""
        return {
            "format": FORMAT,
            "file": self._segments.id,
            "hidden": self._hide("roost"),
            "end": end,
            "tip": self._segments.checksum(end),
            "sums": " ".join(map(str, sums)),
        }


def _sums(text: str) -> Sums | None:
    try:
        return Sums(*map(int, text.split()))
    except (TypeError, ValueError):
        return None


def _pieces(turns: Mapping[int, Turn], said: Mapping[int, list[str]]) -> Iterator[tuple[int, dict[str, None]]]:
    """What goes into one row each: the window, and the words of its turns, authors' names included."""
    for window, together in groupby(turns, key=lambda number: number // WINDOW):
        numbers = list(together)
        found = dict.fromkeys(word for number in numbers for word in said[number])
        for author in sorted({turns[number].author for number in numbers}):
            found |= dict.fromkeys(words.cut(author))
        yield window, found


def _names(turns: Mapping[int, Turn]) -> Iterator[tuple[int, str]]:
    """Ids, and where RUN turns with the same one begin: an answer has its question's."""
    name, begun = "", 0
    for number, turn in turns.items():
        if turn.id and (turn.id != name or number >= begun + RUN):
            yield number, turn.id
            name, begun = turn.id, number


def erase(path: Path, disk: Disk) -> None:
    """Remove an index and what SQLite keeps beside it while it writes."""
    for ending in ("-journal", "-wal", "-shm", ""):
        disk.remove(path.with_name(path.name + ending))
