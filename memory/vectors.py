"""The vectors of one archive's turns: two tables in its index, made again from the segments at any time.

A turn has a bit for each number of its vector, whether it is above 0: 32 bytes. That is enough to know the few turns
that are worth reading; how near these come is then told from their words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from zlib import crc32

from roost.contracts import Turn
from roost.errors import StoreError
from roost.memory.meaning import MODEL, SIZE, Meaning, content
from roost.memory.segments import Segments

if TYPE_CHECKING:
    from roost.cipher import Cipher
    from roost.memory.meaning import Vector

SEARCHED = 5_000  # characters of a turn
STEP = 4_000  # turns taken in at a time: an archive from before there were vectors is taken in bit by bit
ROUGHLY = 256  # turns compared more closely
REACH = 0.1  # how near a turn's bits must come, as a cosine; that of the vectors themselves is a fifth more

_NUMBER, _BITS = 8, SIZE // 8  # bytes
_ABOUT = b"vectors"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meant (model TEXT, file BLOB, end INTEGER)",
    "CREATE TABLE IF NOT EXISTS meaning (id INTEGER PRIMARY KEY, bits BLOB)",
)


class Vectors:
    """Reads and writes the tables through whatever connection the index has at the moment."""

    def __init__(self, meaning: Meaning, segments: Segments, cipher: Cipher | None) -> None:
        self.meaning = meaning
        self._segments, self._cipher = segments, cipher
        self._held: tuple[Any, Any] | None = None

    def close(self) -> None:
        self._held = None

    def update(self, db: sqlite3.Connection, most: int = STEP) -> bool:
        """Take in some of what the segments have beyond what is here; whether that was all."""
        end = self._covered(db)
        if end >= self._segments.end:
            return True
        fresh = [record for record in self._segments.records if record.offset >= end]
        sums = accumulate(record.count for record in fresh)
        some = fresh[: max(1, sum(count <= most for count in sums))]
        whole = len(some) == len(fresh)
        data = self._pack(self._segments.read(some))
        with db:
            if data:
                db.execute("INSERT INTO meaning (bits) VALUES (?)", (self._seal(data),))
            db.execute("UPDATE meant SET end = ?", (self._segments.end if whole else some[-1].end,))
        self._held = None
        return whole

    def follow(self, db: sqlite3.Connection, was: tuple[bytes, int]) -> None:
        """The segments were rewritten with the same turns: what is here holds for them if it was complete before."""
        if self._about(db) == (MODEL, *was):
            with db:
                db.execute("UPDATE meant SET file = ?, end = ?", (self._segments.id, self._segments.end))

    def near(self, db: sqlite3.Connection, vector: Vector, before: int | None, most: int) -> list[int]:
        """Numbers of at most `most` turns before `before` that may mean what `vector` does, the nearest first."""
        import numpy as np

        numbers, bits = self._held = self._held or self._read(db)
        if before is not None:
            kept = numbers < before
            numbers, bits = numbers[kept], bits[kept]
        if not len(numbers):
            return []
        asked = np.packbits(vector > 0).view(np.uint64)
        apart = np.bitwise_count(bits ^ asked).sum(axis=1)
        some = np.argpartition(apart, min(ROUGHLY, len(apart)) - 1)[:ROUGHLY]
        signs = np.unpackbits(np.ascontiguousarray(bits[some]).view(np.uint8), axis=1).astype(np.float32) * 2 - 1
        alike = signs @ vector / SIZE**0.5
        ordered = [int(numbers[some[at]]) for at in np.argsort(-alike, kind="stable") if alike[at] >= REACH]
        return list(dict.fromkeys(ordered))[:most]

    # Rows: the numbers of some turns, 8 bytes each, then their bits; before them a checksum.

    def _pack(self, turns: Mapping[int, Turn]) -> bytes:
        import numpy as np

        found = {number: self.meaning.vector(content(turn.text[:SEARCHED])) for number, turn in turns.items()}
        found = {number: vector for number, vector in found.items() if vector is not None}
        if not found:
            return b""
        bits = np.packbits(np.array(list(found.values())) > 0, axis=1)
        data = np.array(list(found), "<i8").tobytes() + bits.tobytes()
        return crc32(data).to_bytes(4, "little") + data

    def _read(self, db: sqlite3.Connection) -> tuple[Any, Any]:
        import numpy as np

        numbers, bits = [np.empty(0, np.int64)], [np.empty((0, _BITS // 8), np.uint64)]
        for (stored,) in db.execute("SELECT bits FROM meaning ORDER BY id"):
            data = self._open(stored)
            count = len(data) // (_NUMBER + _BITS)
            numbers.append(np.frombuffer(data, "<i8", count).astype(np.int64))
            bits.append(np.frombuffer(data, np.uint8, offset=count * _NUMBER).reshape(count, _BITS).view(np.uint64))
        return np.concatenate(numbers), np.concatenate(bits)

    def _seal(self, data: bytes) -> bytes:
        return self._cipher.seal(data, _ABOUT) if self._cipher is not None else data

    def _open(self, stored: object) -> bytes:
        try:
            data = bytes(stored) if isinstance(stored, bytes) else b""
            data = self._cipher.open(data, _ABOUT) if self._cipher is not None else data
        except StoreError:
            data = b""
        if len(data) % (_NUMBER + _BITS) != 4 or crc32(data[4:]) != int.from_bytes(data[:4], "little"):
            raise sqlite3.DatabaseError("vectors are damaged")
        return data[4:]

    # What is covered.

    def _covered(self, db: sqlite3.Connection) -> int:
        """Up to which byte of the segments; begins anew for another file or other vectors."""
        about = self._about(db)
        if about is not None and about[:2] == (MODEL, self._segments.id) and about[2] <= self._segments.end:
            return about[2]
        with db:
            for statement in ("DROP TABLE IF EXISTS meant", "DROP TABLE IF EXISTS meaning", *_SCHEMA):
                db.execute(statement)
            db.execute("INSERT INTO meant VALUES (?, ?, 0)", (MODEL, self._segments.id))
        self._held = None
        return 0

    @staticmethod
    def _about(db: sqlite3.Connection) -> tuple[str, bytes, int] | None:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meant'").fetchone():
            return None
        found: tuple[str, bytes, int] | None = db.execute("SELECT model, file, end FROM meant").fetchone()
        return found
