"""What has come in and is not yet done with, on disk: parts of long messages, and what the SMSC may bring again.

A deliver_sm has neither an id nor a time. Two that are alike are two messages, unless the SMSC cannot know that we
have the first: its answer was the last thing we wrote on a connection that broke. Only then the second is the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.channels.smpp_pdu import SAR_NUMBER, SAR_REFERENCE, SAR_TOTAL, UDHI, Pdu, Short, read_short
from roost.channels.smpp_text import Part, read_header, sound
from roost.durable import save

KEEP = 86_400.0  # seconds for which a message that was not surely answered may come again
ECHO = 60.0  # seconds for which a part that was surely answered is known: networks double them
MAX_RECORDS = 2000
MAX_PARTS, MAX_GROUPS = 2000, 200


@dataclass(slots=True)
class Record:
    """A packet that came in. `link` is the session that brought it, 0 for one before this start.

    It is known until `end`. `after` is the newest request that we had made when we answered it, -1 before that.
    """

    key: str
    end: float
    link: int = 0
    after: int = -1
    part: bool = False


@dataclass(slots=True)
class Group:
    """The parts of a long message that are here, by their numbers, as packets."""

    key: str
    at: float
    total: int
    parts: dict[int, Pdu] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.parts) == self.total


@dataclass(frozen=True, slots=True)
class Whole:
    """A message to read: its parts by number, some of which may be missing, and a name that a second one repeats."""

    key: str
    total: int
    parts: dict[int, Short]
    group: str = ""


class Inbox:
    """Changes happen in memory; `written` says what to put on disk before a packet may be answered."""

    def __init__(self, path: Path, patience: float) -> None:
        self._path, self._patience = path, patience
        self.changed = False
        self._records: dict[str, list[Record]] = {}
        self._groups: dict[str, Group] = {}
        self._load()

    # Coming in

    def note(self, pdu: Pdu, link: int) -> tuple[Record, Whole | None]:
        """Take a packet in. The message is there once its last part is. Raises ValueError for what makes no sense."""
        short = read_short(pdu)
        part = part_of(short)
        digest = hashlib.sha256(pdu.body).hexdigest()
        known = self._again(digest, link, part is not None)
        record = known or Record(uuid.uuid4().hex, time.time() + KEEP, part=part is not None)
        record.link, record.after = link, -1
        self.changed = True
        if known is None:
            self._records.setdefault(digest, []).append(record)
        if part is None:
            return record, Whole(record.key, 1, {1: short})
        if known is None or group_of(short, part) in self._groups:
            return record, self._add(short, part, pdu)
        return record, None  # its message is done

    def _again(self, digest: str, link: int, part: bool) -> Record | None:
        """The record of the same packet, where this may be its second delivery."""
        for record in self._records.get(digest, ()):
            if record.end > time.time() and (part or record.link != link):
                return record
        return None

    def _add(self, short: Short, part: Part, pdu: Pdu) -> Whole | None:
        name = group_of(short, part)
        group = self._groups.get(name)
        if group is not None and group.parts.get(part.number, pdu).body != pdu.body:
            # The reference is used again, so no more of the older message will come.
            self._groups[f"{name}|{group.key}"], group.at = group, 0.0
            group = None
        if group is None:
            group = self._groups[name] = Group(uuid.uuid4().hex, 0.0, part.total)
        group.at = time.time()
        group.parts[part.number] = pdu
        self._bound()
        return read_group(name, group) if group.whole else None

    def _bound(self) -> None:
        """Wait no longer for the oldest messages when there are too many."""
        waiting = sorted((group for group in self._groups.values() if group.at), key=lambda group: group.at)
        held = sum(len(group.parts) for group in waiting)
        for group in waiting[:-1]:
            if held <= MAX_PARTS and len(waiting) <= MAX_GROUPS:
                return
            held -= len(group.parts)
            waiting = waiting[1:]
            group.at = 0.0

    # Being done

    def due(self) -> Iterator[Whole]:
        """Messages of which nothing more is expected: those that waited too long, and those a crash left complete."""
        end = time.time() - self._patience
        for name, group in list(self._groups.items()):
            if group.whole or group.at < end:
                yield read_group(name, group)

    def done(self, group: str) -> None:
        """A long message is safe with the core. It leaves the disk with the next change; until then it is known."""
        self.changed = self._groups.pop(group, None) is not None or self.changed

    def confirm(self, link: int, heard: int) -> None:
        """The SMSC has answered request `heard`, so it has read what we had written before."""
        end = time.time() + ECHO
        for digest, records in list(self._records.items()):
            sure = [one for one in records if one.link == link and -1 < one.after < heard]
            for one in sure:
                one.end = min(one.end, end) if one.part else 0.0
                self.changed = self.changed or not one.part
            self._keep(digest, [one for one in records if one.end])

    def _keep(self, digest: str, records: list[Record]) -> None:
        if records:
            self._records[digest] = records
        else:
            del self._records[digest]

    def written(self) -> None:
        """Put it on disk. Call it in a thread, with nothing else going on here. Raises OSError."""
        self._prune()
        records = [[digest, one.key, one.end, one.part] for digest, several in self._records.items() for one in several]
        groups = {name: as_json(group) for name, group in self._groups.items()}
        self.changed = False
        save(self._path, json.dumps({"records": records, "groups": groups}))

    def _prune(self) -> None:
        now = time.time()
        kept = [(digest, one) for digest, several in self._records.items() for one in several if one.end > now]
        self._records = {}
        for digest, one in sorted(kept, key=lambda pair: pair[1].end)[-MAX_RECORDS:]:
            self._records.setdefault(digest, []).append(one)

    def _load(self) -> None:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            for digest, key, end, part in stored["records"]:
                self._records.setdefault(digest, []).append(Record(key, end, part=part))
            self._groups = {name: from_json(group) for name, group in stored["groups"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            self._records, self._groups = {}, {}


def part_of(short: Short) -> Part | None:
    """Which part this is, by its header or by its parameters. Raises ValueError."""
    if short.esm & UDHI:
        return several(read_header(short.data).part)
    if {SAR_REFERENCE, SAR_TOTAL, SAR_NUMBER} <= short.options.keys():
        reference, total, at = (int.from_bytes(short.options[tag]) for tag in (SAR_REFERENCE, SAR_TOTAL, SAR_NUMBER))
        part = Part(reference, total, at, "sar")
        return several(part if sound(part) else None)
    return None


def several(part: Part | None) -> Part | None:
    """A message of one part is whole."""
    return part if part is not None and part.total > 1 else None


def group_of(short: Short, part: Part) -> str:
    """The name of the long message that a part belongs to."""
    return f"{short.source.number}|{short.target.number}|{part.wide}|{part.reference}|{part.total}"


def read_group(name: str, group: Group) -> Whole:
    return Whole(group.key, group.total, {at: read_short(pdu) for at, pdu in sorted(group.parts.items())}, name)


def as_json(group: Group) -> dict[str, Any]:
    parts = {at: [pdu.command, base64.b64encode(pdu.body).decode()] for at, pdu in group.parts.items()}
    return {"key": group.key, "at": group.at, "total": group.total, "parts": parts}


def from_json(stored: dict[str, Any]) -> Group:
    parts = {int(at): Pdu(command, 0, 0, base64.b64decode(body)) for at, (command, body) in stored["parts"].items()}
    for pdu in parts.values():
        read_short(pdu)
    return Group(stored["key"], stored["at"], stored["total"], parts)
