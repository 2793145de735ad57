"""The archive's file: segments of turns, compressed, appended, and never changed but by an atomic rewrite.

Small segments, as many small appends leave them, are put together by a rewrite now and then, so that all the
writing of an archive's life stays within a few times its size. A rewrite also trains a dictionary on the archive's
own turns. It is never shared: it holds pieces of what was said. It is stored twice, apart from each other.
"""

from __future__ import annotations

import logging
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from roost.contracts import Turn
from roost.errors import StoreError
from roost.memory import columns
from roost.memory.disk import Disk
from roost.memory.groups import Group, group, is_loose, split
from roost.memory.lines import NO_KEY
from roost.memory.records import (
    DICTIONARY,
    HEADER_SIZE,
    ID,
    PACKED,
    PLAIN,
    RECORD_SIZE,
    Record,
    Scan,
    header,
    scan,
)
from roost.memory.store import Fsync

if TYPE_CHECKING:
    from roost.cipher import Cipher

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

log = logging.getLogger("roost.memory")

LEVEL, QUICK_LEVEL = 15, 9
MUCH = 16 * 1024 * 1024  # bytes unpacked: rewriting more at LEVEL would take many seconds, to save a twentieth
LEAST = 192 * 1024  # bytes unpacked: below that, a dictionary saves less than it takes
SHARE, LARGEST = 32, 64 * 1024  # a dictionary's size: one part in SHARE of all, at most LARGEST bytes
GROWN = 3  # a rewrite is worth its while when one part of so many is new
SAMPLE, SAMPLES = 2048, 256  # bytes of one sample, and about how many there are


class Segments:
    """Reads and writes one archive file. Turns have numbers above 0; nothing is made before the first append."""

    def __init__(self, path: Path, fsync: Fsync, disk: Disk, cipher: Cipher | None) -> None:
        self.path = path
        self._fsync, self._disk, self._cipher = fsync, disk, cipher
        self._bad: dict[int, Record] = {}
        self._groups: list[Group] | None = None
        self._dictionary: zstd.ZstdDict | None = None
        self._synced = False
        self._untrained = 0  # bytes unpacked of which no dictionary could be made
        self._scan = Scan()
        self._load()
        if cipher is not None and self._scan.id and not self._scan.sealed:
            log.info("'%s' was not encrypted, and is now.", path)
            self.tidy()

    def _load(self) -> None:
        if (fresh := _fresh(self.path)).exists():
            self._disk.remove(fresh)
        self._scan = scan(self.path)
        self._bad, self._groups, self._dictionary = {}, None, None
        if self._scan.sealed and self._cipher is None:
            raise StoreError(f"'{self.path}' cannot be opened. {NO_KEY}")
        for record in reversed(self._scan.records):  # the last write may have been cut off within a record
            if self._payload(record) is not None:
                break
        self._check_key()

    def _check_key(self) -> None:
        """Raises StoreError with another key: what looks damaged for want of the right one must not be dropped."""
        if self._cipher is None or not self._scan.sealed:
            return
        whole = [one for one in self._scan.records if (data := self._stored(one)) is not None and self._id_fits(data)]
        if whole and self._payload(whole[-1]) is None and len(self._bad) == len(self._scan.records):
            raise StoreError(f"'{self.path}' cannot be opened. It was sealed with another key.")

    # What is there.

    @property
    def id(self) -> bytes:
        """Of the file's content as far as rewrites go: appending keeps it."""
        return self._scan.id

    @property
    def end(self) -> int:
        return self._scan.end

    def checksum(self, end: int) -> int:
        """Of the last record that ends at `end` or before."""
        return next((record.crc for record in reversed(self._scan.records) if record.end <= end), 0)

    @property
    def records(self) -> list[Record]:
        """The segments that are not known to be damaged, in the order of the file."""
        return [one for one in self._scan.records if one.kind != DICTIONARY and one.offset not in self._bad]

    @property
    def last(self) -> int:
        return self.groups[-1].last if self.groups else 0

    @property
    def groups(self) -> list[Group]:
        """By number; no two share one."""
        if self._groups is None:
            self._groups = list(group(self.records))
        return self._groups

    def find(self, first: int) -> Group | None:
        """The first group that ends at `first` or behind it."""
        at = bisect_left(self.groups, first, key=lambda one: one.last)
        return self.groups[at] if at < len(self.groups) else None

    def read(self, records: Iterable[Record], wanted: Container[int] | None = None) -> dict[int, Turn]:
        """The turns of some records by number, oldest first, or those that are wanted of them.

        What cannot be read is left out, and reported.
        """
        turns: dict[int, Turn] = {}
        for record in records:
            turns |= self._turns(record, wanted)
        return dict(sorted(turns.items()))

    def turns(self, numbers: Iterable[int]) -> dict[int, Turn]:
        """What there is under these numbers, in their order."""
        found: dict[int, Turn] = {}
        wanted = set(numbers)
        end = 0
        for number in sorted(wanted):
            if number > end and (group := self.find(number)) is not None:
                found |= self.read(group.records, wanted)
                end = group.last
        return found

    def damage(self) -> list[str]:
        """Read everything, and say in words what cannot be read."""
        for record in self._scan.records:
            self._turns(record)
        found = [(at, f"{length} bytes") for at, length in self._scan.gaps]
        found += [(at, _describe(record)) for at, record in self._bad.items()]
        return [f"'{self.path}' is damaged: {what} at byte {at} cannot be read." for at, what in sorted(found)]

    def _turns(self, record: Record, wanted: Container[int] | None = None) -> dict[int, Turn]:
        payload = self._payload(record)
        if payload is None or record.kind == DICTIONARY:
            return {}
        try:
            return columns.read(payload, wanted)
        except (ValueError, msgspec.MsgspecError):
            self._give_up(record)
            return {}

    def _payload(self, record: Record) -> bytes | None:
        """What a record holds, unpacked; None, noted once, when it is damaged."""
        data = None if record.offset in self._bad else self._stored(record)
        try:
            if data is not None:
                dictionary = self._trained() if record.kind == PACKED else None
                return zstd.decompress(self._open(record, data), dictionary)
        except (zstd.ZstdError, StoreError):
            pass
        self._give_up(record)
        return None

    def _give_up(self, record: Record) -> None:
        if record.offset not in self._bad:
            self._bad[record.offset], self._groups = record, None
            log.warning("'%s' is damaged: %s at byte %d cannot be read.", self.path, _describe(record), record.offset)

    def _stored(self, record: Record) -> bytes | None:
        """A record's payload as it is in the file, if its checksum is right."""
        with self.path.open("rb") as file:
            file.seek(record.offset + RECORD_SIZE)
            data = file.read(record.length)
        return data if crc32(data) == record.crc else None

    def _trained(self) -> zstd.ZstdDict:
        """The file's dictionary, from whichever copy is whole. Raises StoreError when none is."""
        for record in self._scan.records:
            if self._dictionary is not None:
                break
            if record.kind == DICTIONARY and (content := self._payload(record)) is not None:
                self._dictionary = zstd.ZstdDict(content)
        if self._dictionary is None:
            raise StoreError("The dictionary of the archive is damaged.")
        return self._dictionary

    def _open(self, record: Record, data: bytes) -> bytes:
        if self._cipher is None or not self._scan.sealed:
            return data
        if not self._id_fits(data):
            raise StoreError("It is from another file.")
        return self._cipher.open(data[ID:], data[:ID] + record.about())

    def _id_fits(self, data: bytes) -> bool:
        header_is_whole = not self._scan.gaps or self._scan.gaps[0][0] > 0
        return not header_is_whole or data[:ID] == self._scan.id

    # Writing.

    def append(self, turns: Mapping[int, Turn]) -> None:
        """Write turns, which override older ones with their numbers. Returns when they are safe."""
        begun = bool(self._scan.id)
        id, sealed = (self._scan.id, self._scan.sealed) if begun else (os.urandom(ID), self._cipher is not None)
        offset, records, data = self._scan.end if begun else HEADER_SIZE, [], []
        for part in split(turns):
            record, packed = self._pack(part, id, self._current())
            record = replace(record, offset=offset)
            records.append(record)
            data.append(packed)
            offset = record.end
        self._write(b"".join(data if begun else [header(sealed, id), *data]))
        self._scan.records += records
        self._scan.id, self._scan.sealed, self._scan.end, self._scan.size = id, sealed, offset, offset
        if records[0].first > self.last and self._groups:
            self._groups += group(records)
        else:
            self._groups = None

    def sync(self) -> None:
        """Make safe what was found here: the one who wrote it may have died before that."""
        if self._fsync == "always" and not self._synced and self._scan.id:
            with self._disk.append(self.path) as file:
                self._disk.sync(file)
            self._disk.sync_folder(self.path.parent)
            self._synced = True

    def _write(self, data: bytes) -> None:
        end, begun = self._scan.end, bool(self._scan.id)
        with self._disk.append(self.path) as file:
            if os.fstat(file.fileno()).st_size > end:
                self._disk.truncate(file, end)
            try:
                self._disk.write(file, data)
                if self._fsync == "always":
                    self._disk.sync(file)
            except OSError:
                with suppress(OSError):
                    self._disk.truncate(file, end)
                raise
        if self._fsync == "always" and not (begun and self._synced):
            self._disk.sync_folder(self.path.parent)
            self._synced = True

    def _current(self) -> zstd.ZstdDict | None:
        with suppress(StoreError):
            return self._trained() if any(one.kind == DICTIONARY for one in self._scan.records) else None
        return None

    def _pack(
        self, turns: Mapping[int, Turn], id: bytes, dictionary: zstd.ZstdDict | None, level: int = LEVEL
    ) -> tuple[Record, bytes]:
        raw = columns.write(turns)
        numbers = list(turns)
        record = Record(0, PACKED if dictionary else PLAIN, 0, 0, len(raw), numbers[0], numbers[-1], len(numbers))
        digest = dictionary and dictionary.as_digested_dict
        return self._close(record, zstd.compress(raw, level, zstd_dict=digest), id)

    def _close(self, record: Record, payload: bytes, id: bytes) -> tuple[Record, bytes]:
        if self._cipher is not None:
            payload = id + self._cipher.seal(payload, id + record.about())
        record = replace(record, length=len(payload), crc=crc32(payload))
        return record, record.pack(payload)

    # Rewriting.

    def is_loose(self) -> bool:
        """Whether so much lies in small segments, or without a dictionary, that a rewrite is worth its while."""
        return not (self._bad or self._scan.gaps) and (is_loose(self.groups) or self._has_grown())

    def _has_grown(self) -> bool:
        """Whether a good part of all came after the last rewrite, whose second dictionary ends what it wrote."""
        whole = sum(record.raw for record in self.records)
        if whole < max(LEAST, 2 * self._untrained):
            return False
        last = max((record.offset for record in self._scan.records if record.kind == DICTIONARY), default=0)
        return GROWN * sum(record.raw for record in self.records if record.offset > last) >= whole

    def tidy(self) -> None:
        """Write the file anew, with everything in full segments and sealed if there is a cipher."""
        self._replace(set())

    def tidying(self) -> Iterator[None]:
        """`tidy` in steps of a segment each, between which turns may be appended.

        Whoever rewrites the file otherwise, or closes it, closes this first.
        """
        fresh, end = _fresh(self.path), self._scan.end
        try:
            for _ in self._fill(fresh, set(), lambda: self._fresh_records(end)):
                yield
            self._disk.replace(fresh, self.path)
        finally:
            self._disk.remove(fresh)
        self._replaced()

    def _fresh_records(self, end: int) -> list[Record]:
        return [record for record in self.records if record.offset >= end]

    def rewrite(self, keep: Callable[[Turn], bool], before: Callable[[], None]) -> int:
        """Write the file anew without the turns that `keep` refuses, and return how many those were.

        What cannot be read goes as well, and what was overridden. Nothing is written when nothing would go.
        `before` is called right before the new file takes the old one's place.
        """
        dropped: set[int] = set()
        held = 0
        for one in self.groups:
            turns = self.read(one.records)
            held += len(turns)
            dropped |= {number for number, turn in turns.items() if not keep(turn)}
        overridden = any(len(one.records) > 1 for one in self.groups)
        if dropped or overridden or self._bad or self._scan.gaps:
            self._replace(dropped, before, bool(held - len(dropped)))
        return len(dropped)

    def _replace(self, dropped: set[int], before: Callable[[], None] = lambda: None, kept: bool = True) -> None:
        if kept:
            fresh = _fresh(self.path)
            for _ in self._fill(fresh, dropped):
                pass
            before()
            self._disk.replace(fresh, self.path)
        else:
            before()
            self._disk.remove(self.path)
        self._replaced()

    def _replaced(self) -> None:
        self._disk.sync_folder(self.path.parent)
        self._synced = True
        self._load()

    def _fill(self, fresh: Path, dropped: set[int], later: Callable[[], list[Record]] = list[Record]) -> Iterator[None]:
        """Write everything but what is dropped to another file, in steps; last what came `later`, in one."""
        id = os.urandom(ID)
        self._disk.remove(fresh)
        raw = sum(record.raw for record in self.records)
        groups = list(self.groups)
        dictionary = self._train(dropped, raw)
        self._untrained = 0 if dictionary else raw
        level = LEVEL if raw < MUCH else QUICK_LEVEL
        yield
        with self._disk.append(fresh) as file:
            self._disk.write(file, header(self._cipher is not None, id))
            copy = self._pack_dictionary(dictionary, id)
            self._disk.write(file, copy)
            for part in split(self._kept(groups, dropped)):
                self._disk.write(file, self._pack(part, id, dictionary, level)[1])
                yield
            for part in split(self.read(later())):
                self._disk.write(file, self._pack(part, id, dictionary, level)[1])
            self._disk.write(file, copy)
            self._disk.sync(file)

    def _kept(self, groups: Iterable[Group], dropped: set[int]) -> Iterator[tuple[int, Turn]]:
        for one in groups:
            yield from ((number, turn) for number, turn in self.read(one.records).items() if number not in dropped)

    def _train(self, dropped: set[int], raw: int) -> zstd.ZstdDict | None:
        if raw < LEAST:
            return None
        some = self.groups[:: raw // (SAMPLE * SAMPLES) + 1]
        texts = "\n".join(turn.text for _, turn in self._kept(some, dropped)).encode("utf-8", "surrogatepass")
        samples = [texts[at : at + SAMPLE] for at in range(0, len(texts), SAMPLE)]
        try:
            return zstd.train_dict(samples, min(LARGEST, raw // SHARE))
        except (zstd.ZstdError, ValueError):  # too little that is alike
            return None

    def _pack_dictionary(self, dictionary: zstd.ZstdDict | None, id: bytes) -> bytes:
        if dictionary is None:
            return b""
        content = dictionary.dict_content
        return self._close(Record(0, DICTIONARY, 0, 0, len(content), 0, 0, 0), zstd.compress(content, LEVEL), id)[1]


def _describe(record: Record) -> str:
    if record.kind == DICTIONARY:
        return f"a dictionary of {record.length} bytes"
    return f"turns {record.first} to {record.last} ({record.length} bytes)"


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def erase(path: Path, disk: Disk) -> None:
    """Remove an archive's file and what a rewrite may have left of it."""
    for name in (_fresh(path), path):
        disk.remove(name)
    disk.sync_folder(path.parent)
