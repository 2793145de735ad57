"""The file format of memory: checksummed lines, each of them a set of changes.

    8 hexadecimal digits of CRC-32, a space, JSON, a newline

The first line's JSON is `["roost journal", 1]`, the format and its version. Every other line's is
`{table: {id: document}}`; a null document is removed, a null table is dropped. A line stands for itself, so
one that is damaged costs what it says and nothing else. Documents stay JSON bytes until somebody looks at
them: a tenth of the memory of live objects, and nothing handed out can change what is stored.

A sealed file begins with `["roost sealed", 2]`, and every other line's JSON is sealed:

    8 hexadecimal digits of CRC-32, a space, "~", base64 of (file's id, line's number, sealed JSON), a newline

The id is 8 random bytes, new with every rewrite; numbers are 4 bytes, counted from 1. Both stand in each line, so
that no line needs another to be read, and the seal vouches for both. Lines from another file, in another order,
twice, or in clear text are damage, and so are numbers that are left out. Lines missing from the end are not
noticed, nor is the whole file being replaced by one from before.
"""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from roost.errors import StoreError

if TYPE_CHECKING:
    from roost.cipher import Cipher

Rows = dict[int, bytes]
Tables = dict[str, Rows]
Changes = Mapping[str, "Mapping[int, bytes | None] | None"]

VERSION = 1
SEALED_VERSION = 2
ROWS_A_LINE = 256

# Sealed files.
SEALED = "roost sealed"
MARK = b"~"
FILE_ID, LINE_NUMBER = 8, 4  # bytes
PLACE = FILE_ID + LINE_NUMBER
NO_KEY = "It is encrypted, and there is no key to read it with. Switch encryption on again; nothing was changed."

# What a row costs in a file beyond its document, roughly.
ROW_OVERHEAD = 16

_decoder = msgspec.json.Decoder(dict[str, dict[int, msgspec.Raw] | None])
_header = msgspec.json.Decoder(tuple[str, int])
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# Half a surrogate pair has no UTF-8: platforms do send them, in names above all.
_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def encode(document: Any) -> bytes:
    """Write a document as JSON takes it. Raises TypeError for what JSON has no word for."""
    try:
        return _strict.encode(document).encode()
    except UnicodeEncodeError:
        return _ascii.encode(document).encode()


def decode(document: bytes) -> Any:
    try:
        return msgspec.json.decode(document)
    except msgspec.DecodeError:  # half a surrogate pair, or NaN
        return json.loads(document)


def seal(payload: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(payload), payload)


def unseal(line: bytes) -> bytes | None:
    """The payload of a line without its newline, None when the checksum does not match."""
    payload = line[9:]
    return payload if line[:9] == b"%08x " % crc32(payload) else None


HEADER = seal(encode(["roost journal", VERSION]))
SEALED_HEADER = seal(encode([SEALED, SEALED_VERSION]))


class Seals:
    """Seals the lines of one file, in order, and opens them again.

    `number` is that of the last line written or read. `begun` says that the file is known to be a sealed one.
    """

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher
        self.number = 0
        self.begun = False
        self.missing = self.refused = 0
        self._file = os.urandom(FILE_ID)

    def close(self, payload: bytes) -> bytes:
        """Seal the line that comes next. It is up to the caller to count it once it is written."""
        place = self._file + (self.number + 1).to_bytes(LINE_NUMBER, "big")
        return MARK + binascii.b2a_base64(place + self.cipher.seal(payload, b"store" + place), newline=False)

    def open(self, payload: bytes) -> bytes | None:
        """What a line says; None when it cannot be opened, or has no business where it is."""
        try:
            data = binascii.a2b_base64(payload[len(MARK) :])
            place, sealed = data[:PLACE], data[PLACE:]
            opened = self.cipher.open(sealed, b"store" + place)
        except (binascii.Error, StoreError):
            self.refused += 1
            return None
        return opened if self._follows(place) else None

    def _follows(self, place: bytes) -> bool:
        file, number = place[:FILE_ID], int.from_bytes(place[FILE_ID:], "big")
        if self.number and (file != self._file or number <= self.number):
            return False
        self.missing += number - self.number - 1
        self.begun, self._file, self.number = True, file, number
        return True


def write_line(changes: Changes, seals: Seals | None = None) -> bytes:
    """One line that says all of `changes`, which therefore happen together or not at all."""
    tables = (encode(name) + b":" + _rows(rows) for name, rows in changes.items())
    payload = b"{" + b",".join(tables) + b"}"
    return seal(seals.close(payload) if seals else payload)


def _rows(rows: Mapping[int, bytes | None] | None) -> bytes:
    if rows is None:
        return b"null"
    return b"{" + b",".join(b'"%d":%b' % (key, row or b"null") for key, row in rows.items()) + b"}"


def write_all(tables: Tables, seals: Seals | None = None) -> Iterator[bytes]:
    """A whole file, in pieces."""
    yield SEALED_HEADER if seals else HEADER
    for changes in _parts(tables):
        yield write_line(changes, seals)
        if seals:
            seals.number += 1


def _parts(tables: Tables) -> Iterator[Changes]:
    for name, rows in tables.items():
        yield {name: {}}
        items = iter(rows.items())
        while part := dict(islice(items, ROWS_A_LINE)):
            yield {name: part}


def merge(tables: Tables, changes: Changes) -> int:
    """Make `changes` to `tables`; returns by how many bytes they grew."""
    grown = 0
    for name, rows in changes.items():
        if rows is None:
            grown -= weigh(tables.pop(name, {}))
            continue
        table = tables.setdefault(name, {})
        for key, row in rows.items():
            old = table.pop(key, None) if row is None else table.get(key)
            grown -= _weight(old)
            if row is not None:
                table[key] = row
                grown += _weight(row)
    return grown


def weigh(rows: Rows) -> int:
    return sum(map(_weight, rows.values()))


def _weight(row: bytes | None) -> int:
    return 0 if row is None else len(row) + ROW_OVERHEAD


@dataclass(slots=True)
class Replay:
    """What a file says. `torn` is the length of an unfinished last line, `bad` the number of damaged ones.

    `seals` is for writing what follows, when there is a cipher.
    """

    tables: Tables = field(default_factory=dict)
    weight: int = 0
    good: int = 0
    bad: int = 0
    torn: int = 0
    seals: Seals | None = None

    @property
    def damaged(self) -> bool:
        """More is wrong than a write that was cut off at the end."""
        return self.bad > 0 or (self.torn > 0 and not self.good)

    @property
    def clear(self) -> bool:
        """It should be sealed, and is not."""
        return self.good > 0 and self.seals is not None and not self.seals.begun


def replay(data: bytes, cipher: Cipher | None = None) -> Replay:
    """Read a file's content, sealed or clear. Never fails on damage.

    Raises StoreError for a version to come, and for a sealed file without a cipher or with another's.
    """
    *lines, rest = data.split(b"\n")
    unborn = not lines and (HEADER.startswith(rest) or SEALED_HEADER.startswith(rest))
    seen = Replay(torn=0 if unborn else len(rest), seals=Seals(cipher) if cipher else None)
    if cipher is None and _is_sealed(rest):
        raise StoreError(NO_KEY)
    for line in lines:
        changes = _read(line, seen.seals)
        if changes is None:
            seen.bad += 1
        else:
            seen.good += 1
            seen.weight += merge(seen.tables, changes)
    if seen.seals:
        _judge(seen, seen.seals)
    return seen


def _judge(seen: Replay, seals: Seals) -> None:
    if seals.refused and not seals.number:
        raise StoreError("It is encrypted with another key. Give the right one; nothing was changed.")
    seen.bad = max(seen.bad, seals.missing)


def _is_sealed(line: bytes) -> bool:
    # Damaged or not: without a key nobody can tell, and a sealed file must not be taken for a broken one.
    return line[8 : 9 + len(MARK)] == b" " + MARK


def _read(line: bytes, seals: Seals | None) -> Changes | None:
    if seals is None and _is_sealed(line):
        raise StoreError(NO_KEY)
    payload = unseal(line)
    if payload is not None and seals is not None:
        payload = _opened(payload, seals)
    if payload is None:
        return None
    try:
        if payload.startswith(b"["):
            return _check_version(payload, seals)
        return _own(_decoder.decode(payload))
    except msgspec.MsgspecError:
        return _read_slowly(payload)


def _opened(payload: bytes, seals: Seals) -> bytes | None:
    if payload.startswith(MARK):
        return seals.open(payload)
    return payload if payload.startswith(b"[") or not seals.begun else None


def _read_slowly(payload: bytes) -> Changes | None:
    """Python's JSON knows two things that msgspec does not: half surrogate pairs, and NaN."""
    try:
        return {
            name: rows and {int(key): None if row is None else encode(row) for key, row in rows.items()}
            for name, rows in json.loads(payload).items()
        }
    except (ValueError, AttributeError):
        return None


def _check_version(payload: bytes, seals: Seals | None) -> Changes:
    name, version = _header.decode(payload)
    newest = SEALED_VERSION if name == SEALED else VERSION
    if version > newest:
        raise StoreError(f"It was written by a newer Roost (format {version}, this one reads {newest}).")
    if name == SEALED:
        if seals is None:
            raise StoreError(NO_KEY)
        seals.begun = True
    return {}


def reveal(data: bytes, cipher: Cipher) -> bytes:
    """A file's content for a person to read: every line that can be opened in clear text, the others as they are."""
    lines = (line for line in data.split(b"\n") if line + b"\n" != SEALED_HEADER)
    return b"\n".join(Seals(cipher).open(line[9:]) or line if _is_sealed(line) else line for line in lines)


def _own(tables: Mapping[str, Mapping[int, msgspec.Raw] | None]) -> Changes:
    return {name: None if rows is None else dict(_copy(rows.items())) for name, rows in tables.items()}


def _copy(rows: Iterable[tuple[int, msgspec.Raw]]) -> Iterator[tuple[int, bytes | None]]:
    # A Raw keeps its whole line alive; a copy of its bytes lets go of it.
    for key, raw in rows:
        row = bytes(raw)
        yield key, None if row == b"null" else row
