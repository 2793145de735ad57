"""The search index of one archive: an SQLite file that can be made again from the segments at any time.

It knows which words are in which window of turns, and nothing else of what was said: how often, where and in which
order is read from the segments again, for the few windows that matter. So it stays a third of the usual size.

A window is WINDOW neighbouring numbers. What is appended later to a window is a piece of its own: pieces are never
changed. A piece's row is the number of its first turn; turns that override older ones have rows above EDITS.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from roost.contracts import Turn
from roost.memory import words
from roost.memory.disk import Disk
from roost.memory.records import Record
from roost.memory.segments import Cipher, Segments
from roost.memory.store import Fsync

log = logging.getLogger("roost.memory")

T = TypeVar("T")

WINDOW = 6  # numbers
EDITS = 2**40  # rows of the nth time that turns were overridden begin at n times this
SEARCHED = 50_000  # characters of a turn
MANY = 2000  # turns indexed at once: after so many, the index is put in order
SEALED_ID = 0x526F6F53  # SQLite's application_id of what holds no readable word

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

FORMAT = f"1.{words.VERSION}"
PAGE = 1024  # bytes: most conversations are small
_SCHEMA = f"""
PRAGMA page_size = {PAGE};
CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE name (hash INTEGER, number INTEGER, PRIMARY KEY (hash, number)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (said, content = '', detail = none, columnsize = 0, tokenize = 'ascii');
CREATE VIRTUAL TABLE known USING fts5vocab (words, row);
"""


class Index:
    """Finds words and ids among the turns of `segments`. One thread at a time may use it.

    Opened, brought up to date, and made again when it is damaged, before it is asked anything. What cannot be
    helped by that raises sqlite3.Error.
    """

    def __init__(self, path: Path, segments: Segments, fsync: Fsync, disk: Disk, cipher: Cipher | None) -> None:
        self.path = path
        self._segments, self._fsync, self._disk = segments, fsync, disk
        self._hide: Callable[[str], str] = cipher.blind if cipher else str
        self._sealed = cipher is not None
        self._db: sqlite3.Connection | None = None
        self._file, self._end = b"", 0  # what is covered
        # Pieces, the words in them all, the highest number, and how often older turns were overridden.
        self._sums = (0, 0, 0, 0)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def remove(self) -> None:
        self.close()
        erase(self.path, self._disk)

    @property
    def is_current(self) -> bool:
        """Whether it covers everything, as far as is known without opening it."""
        return self._db is not None and (self._file, self._end) == (self._segments.id, self._segments.end)

    @property
    def pieces(self) -> int:
        return self._sums[0]

    @property
    def length(self) -> int:
        """The words of everything."""
        return self._sums[1]

    # Asking.

    def ask(self, question: Callable[[Index], T]) -> T:
        """Put a question to an index that is up to date, and once more to a new one if this one is damaged."""
        try:
            self.update()
            return question(self)
        except sqlite3.Error as error:
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

    def count(self, word: str) -> int:
        """In how many pieces a word is."""
        row = self._open().execute("SELECT doc FROM known WHERE term = ?", (self._hide(word),)).fetchone()
        return int(row[0]) if row else 0

    def windows(self, word: str) -> set[int]:
        """The windows that a word is in, or once was, by number // WINDOW."""
        rows = self._open().execute("SELECT rowid FROM words WHERE words MATCH ?", (f'"{self._hide(word)}"',))
        return {row % EDITS // WINDOW for (row,) in rows}

    def places(self, id: str) -> list[int]:
        """The numbers from which RUN on there may be turns with this id."""
        rows = self._open().execute("SELECT number FROM name WHERE hash = ?", (self._hash(id),))
        return [number for (number,) in rows if isinstance(number, int)]

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
        if sum(record.count for record in fresh) >= MANY:
            with db:
                db.execute("INSERT INTO words (words) VALUES ('optimize')")
            db.execute("VACUUM")

    def follow(self) -> None:
        """The segments were rewritten with the same turns: what is here holds for the new file."""
        with self._changes(self._open()):
            pass

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
        count, length, highest, edits = self._sums
        rows = list(_pieces(turns))
        if edited := min(turns) <= highest:
            edits += 1
        base = EDITS * edits if edited else 0
        for first, found in rows:
            text = " ".join(self._hide(word) for word in found)
            db.execute("INSERT INTO words (rowid, said) VALUES (?, ?)", (base + first, text))
        names = [(self._hash(id), number) for number, id in _names(turns)]
        db.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", names)
        length += sum(sum(found.values()) for _, found in rows)
        self._sums = (count + len(rows), length, max(highest, *turns), edits)

    def _hash(self, id: str) -> int:
        text = self._hide(id).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")

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
        db = sqlite3.connect(self.path, check_same_thread=False)
        try:
            db.execute("PRAGMA cache_size = -512")
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"PRAGMA synchronous = {'NORMAL' if self._fsync == 'always' else 'OFF'}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _begin(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._sums, self._file, self._end = (0, 0, 0, 0), self._segments.id, 0
        with closing(self._connect()) as db:
            if self._sealed:
                db.execute(f"PRAGMA application_id = {SEALED_ID}")
            with db:
                db.executescript(_SCHEMA)
                self._note(db, 0)

    def _agrees(self, db: sqlite3.Connection) -> bool:
        """Whether the index is of this format and this file, and not ahead of it; reads what it covers."""
        about = dict(db.execute("SELECT key, value FROM about"))
        end, sums = about.get("end"), [int(part) for part in str(about.get("sums")).split() if part.isdecimal()]
        if not isinstance(end, int) or len(sums) != len(self._sums) or about != self._about(end, str(about["sums"])):
            return False
        self._sums, self._file, self._end = (sums[0], sums[1], sums[2], sums[3]), self._segments.id, end
        return end <= self._segments.end

    def _note(self, db: sqlite3.Connection, end: int) -> None:
        about = self._about(end, " ".join(map(str, self._sums)))
        db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())

    def _about(self, end: int, sums: str) -> dict[str, object]:
        """What the index says of itself. The checksum of the last record that it covers tells files apart."""
        return {
            "format": FORMAT,
            "file": self._segments.id,
            "hidden": self._hide("roost"),
            "end": end,
            "tip": self._segments.checksum(end),
            "sums": sums,
        }


def _pieces(turns: Mapping[int, Turn]) -> Iterator[tuple[int, Counter[str]]]:
    """What goes into one row each: the number of its first turn, and its words."""
    for _, part in groupby(turns.items(), key=lambda item: item[0] // WINDOW):
        piece = list(part)
        found = Counter(word for _, turn in piece for word in words.cut(turn.text[:SEARCHED]))
        for author in {turn.author for _, turn in piece if turn.author}:
            found.update(words.cut(author))
        yield piece[0][0], found


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
