"""The file format of an archive: a header, then records, each of which stands for itself.

    header:  "roost archive" or "roost sealed archive" (20 bytes), version (1), id (8), CRC-32 of these
    record:  mark (4), kind (1), length (4), CRC-32 of the payload (4), length of the payload unpacked (4),
             first number (8), last number minus the first (4), number of turns (2), CRC-32 of these; payload

All numbers are little-endian and unsigned. The id is random and new with every rewrite. A payload is compressed
by zstd (RFC 8878), of the kind DICTIONARY alone, or PACKED with the file's dictionary. A record that is damaged
is passed over: the next one is found by its mark. In a sealed archive each payload is the file's id and the
sealed rest, which opens only with the id and the record's own fields.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from struct import Struct
from zlib import crc32

from roost.errors import StoreError

VERSION = 1
PLAIN, PACKED, DICTIONARY = 1, 2, 3

_MAGIC = {False: b"roost archive", True: b"roost sealed archive"}
_HEADER, _FIELDS, _CRC = Struct("<20sB8s"), Struct("<4sBIIIQIH"), Struct("<I")
_MARK = b"\xf6\xc1\xfeR"
HEADER_SIZE, RECORD_SIZE = _HEADER.size + _CRC.size, _FIELDS.size + _CRC.size
ID = 8  # bytes


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record is and what it says of itself. `last` is the highest number in it, `raw` its size unpacked."""

    offset: int
    kind: int
    length: int
    crc: int
    raw: int
    first: int
    last: int
    count: int

    @property
    def end(self) -> int:
        return self.offset + RECORD_SIZE + self.length

    def about(self) -> bytes:
        """What a sealed payload is bound to."""
        return b"archive" + _FIELDS.pack(
            _MARK, self.kind, 0, 0, self.raw, self.first, self.last - self.first, self.count
        )

    def pack(self, payload: bytes) -> bytes:
        fields = _FIELDS.pack(
            _MARK, self.kind, len(payload), crc32(payload), self.raw, self.first, self.last - self.first, self.count
        )
        return fields + _CRC.pack(crc32(fields)) + payload


@dataclass(slots=True)
class Scan:
    """What is in a file. `end` is where the next record goes: what lies behind it is an unfinished write.

    `gaps` are offsets and lengths of what cannot be read as records. `id` is empty when there is no file.
    """

    id: bytes = b""
    sealed: bool = False
    records: list[Record] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    size: int = 0


def header(sealed: bool, id: bytes) -> bytes:
    fields = _HEADER.pack(_MAGIC[sealed], VERSION, id)
    return fields + _CRC.pack(crc32(fields))


def scan(path: Path) -> Scan:
    """Read a file's records but not their payloads. Raises OSError, and StoreError for a version to come."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return Scan()
    with file:
        found = Scan(size=os.fstat(file.fileno()).st_size)
        _read_header(file, found, path)
        if found.id:
            for record in _records(file, found):
                found.records.append(record)
    return found


def _read_header(file: BufferedReader, found: Scan, path: Path) -> None:
    data = file.read(HEADER_SIZE)
    if len(data) < HEADER_SIZE or not any(data):
        return  # a file that was being begun
    magic, version, id = _HEADER.unpack(data[: _HEADER.size])
    if data[_HEADER.size :] != _CRC.pack(crc32(data[: _HEADER.size])):
        found.gaps.append((0, HEADER_SIZE))
    elif version > VERSION:
        raise StoreError(
            f"'{path}' cannot be opened. It was written by a newer Roost (format {version}, this one reads {VERSION})."
        )
    found.id, found.sealed, found.end = id, magic == _MAGIC[True], HEADER_SIZE


def _records(file: BufferedReader, found: Scan) -> Iterator[Record]:
    while found.end < found.size:
        file.seek(found.end)
        record = _read(file.read(RECORD_SIZE), found.end)
        if record is None and (record := _next(file, found)) is None:
            return
        if record.end > found.size:
            return
        found.end = record.end
        yield record


def _next(file: BufferedReader, found: Scan) -> Record | None:
    """The first whole record behind what is no record at `found.end`, which becomes a gap or an unfinished write."""
    file.seek(found.end)
    data = file.read()
    at = data.find(_MARK, 1)
    while at >= 0:
        record = _read(data[at : at + RECORD_SIZE], found.end + at)
        if record is not None:
            found.gaps.append((found.end, at))
            found.end += at
            return record
        at = data.find(_MARK, at + 1)
    if len(data) >= RECORD_SIZE and any(data):
        found.gaps.append((found.end, len(data)))
        found.end += len(data)
    return None


def _read(data: bytes, offset: int) -> Record | None:
    if len(data) < RECORD_SIZE or data[_FIELDS.size :] != _CRC.pack(crc32(data[: _FIELDS.size])):
        return None
    mark, kind, length, crc, raw, first, more, count = _FIELDS.unpack(data[: _FIELDS.size])
    return Record(offset, kind, length, crc, raw, first, first + more, count) if mark == _MARK else None
