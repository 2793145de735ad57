"""The file format of memory: checksummed lines, each of them a set of changes.

    8 hexadecimal digits of CRC-32, a space, JSON, a newline

The first line's JSON is `["roost journal", 1]`, the format and its version. Every other line's is
`{table: {id: document}}`; a null document is removed, a null table is dropped. A line stands for itself, so
one that is damaged costs what it says and nothing else. Documents stay JSON bytes until somebody looks at
them: a tenth of the memory of live objects, and nothing handed out can change what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from zlib import crc32

import msgspec

from roost.errors import StoreError

Rows = dict[int, bytes]
Tables = dict[str, Rows]
Changes = Mapping[str, "Mapping[int, bytes | None] | None"]

VERSION = 1
ROWS_A_LINE = 256
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


def write_line(changes: Changes) -> bytes:
    """One line that says all of `changes`, which therefore happen together or not at all."""
    tables = (encode(name) + b":" + _rows(rows) for name, rows in changes.items())
    return seal(b"{" + b",".join(tables) + b"}")


def _rows(rows: Mapping[int, bytes | None] | None) -> bytes:
    if rows is None:
        return b"null"
    return b"{" + b",".join(b'"%d":%b' % (key, row or b"null") for key, row in rows.items()) + b"}"


def write_all(tables: Tables) -> Iterator[bytes]:
    """A whole file, in pieces."""
    yield HEADER
    for name, rows in tables.items():
        yield write_line({name: {}})
        items = iter(rows.items())
        while part := dict(islice(items, ROWS_A_LINE)):
            yield write_line({name: part})


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
    """What a file says. `torn` is the length of an unfinished last line, `bad` the number of damaged ones."""

    tables: Tables = field(default_factory=dict)
    weight: int = 0
    good: int = 0
    bad: int = 0
    torn: int = 0

    @property
    def damaged(self) -> bool:
        """More is wrong than a write that was cut off at the end."""
        return self.bad > 0 or (self.torn > 0 and not self.good)


def replay(data: bytes) -> Replay:
    """Read a file's content. Never fails on damage; raises StoreError for a version to come."""
    *lines, rest = data.split(b"\n")
    seen = Replay(torn=0 if HEADER.startswith(rest) and not lines else len(rest))
    for line in lines:
        changes = _read(line)
        if changes is None:
            seen.bad += 1
        else:
            seen.good += 1
            seen.weight += merge(seen.tables, changes)
    return seen


def _read(line: bytes) -> Changes | None:
    payload = unseal(line)
    if payload is None:
        return None
    try:
        if payload.startswith(b"["):
            return _check_version(payload)
        return _own(_decoder.decode(payload))
    except msgspec.MsgspecError:
        return _read_slowly(payload)


def _read_slowly(payload: bytes) -> Changes | None:
    """Python's JSON knows two things that msgspec does not: half surrogate pairs, and NaN."""
    try:
        return {
            name: rows and {int(key): None if row is None else encode(row) for key, row in rows.items()}
            for name, rows in json.loads(payload).items()
        }
    except (ValueError, AttributeError):
        return None


def _check_version(payload: bytes) -> Changes:
    _, version = _header.decode(payload)
    if version > VERSION:
        raise StoreError(f"It was written by a newer Roost (format {version}, this one reads {VERSION}).")
    return {}


def _own(tables: Mapping[str, Mapping[int, msgspec.Raw] | None]) -> Changes:
    return {name: None if rows is None else dict(_copy(rows.items())) for name, rows in tables.items()}


def _copy(rows: Iterable[tuple[int, msgspec.Raw]]) -> Iterator[tuple[int, bytes | None]]:
    # A Raw keeps its whole line alive; a copy of its bytes lets go of it.
    for key, raw in rows:
        row = bytes(raw)
        yield key, None if row == b"null" else row
