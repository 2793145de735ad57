"""egress.jsonl: what left this machine. One line a change, added up by day, speaker and destination when it is read.

A line holds no word of what was said: names of hosts, counts of bytes, and kinds of private data such as "phone".
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from roost.durable import save
from roost.errors import StoreError

FILE = "egress.jsonl"
FULL = 512 * 1024  # bytes at which lines are added up
KEEP = 90  # days
ROWS = 2000  # destinations of one day that are kept apart; what is more is added up
OTHERS = "(others)"

Sort = Literal["connection", "program", "private"]


@dataclass(slots=True)
class Row:
    """What one speaker sent to one destination on one day; or what was added to that.

    `first` and `last` are Unix times. `sent` and `received` are bytes of payload, encryption included; `unknown` is
    the number of connections whose bytes could not be counted. `host` is a program's name where `sort` is "program",
    and empty where it is "private".
    """

    day: str
    who: str
    host: str = ""
    port: int = 0
    sort: Sort = "connection"
    first: float = 0.0
    last: float = 0.0
    connections: int = 0
    sent: int = 0
    received: int = 0
    unknown: int = 0
    refused: int = 0
    kinds: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        return self.day, self.who, self.host, self.port, self.sort

    def add(self, other: Row) -> None:
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        for name in ("connections", "sent", "received", "unknown", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds = sorted({*self.kinds, *other.kinds})


def row(who: str, host: str = "", port: int = 0, **values: Any) -> Row:
    """A row of now. A host may be whatever a model thought of: it is shown to people, and kept."""
    now = time.time()
    return Row(day_of(now), who, shown(host), port, first=now, last=now, **values)


def shown(host: str) -> str:
    """A host as it can be printed, of at most the length that names may have (RFC 1035, section 2.3.4)."""
    return "".join(one if one.isprintable() else "?" for one in host[:255])


def day_of(at: float) -> str:
    """A day as the person here counts them."""
    return time.strftime("%Y-%m-%d", time.localtime(at))


def added_up(rows: Iterable[Row]) -> list[Row]:
    """One row for each day, speaker and destination, oldest first."""
    found: dict[tuple[str, str, str, int, str], Row] = {}
    days: dict[str, int] = {}
    for one in rows:
        if one.key not in found:
            days[one.day] = days.get(one.day, 0) + 1
            if days[one.day] > ROWS:
                one.host, one.port = OTHERS, 0
        if (old := found.get(one.key)) is not None:
            old.add(one)
        else:
            found[one.key] = one
    return sorted(found.values(), key=lambda one: one.first)


class Ledger:
    """The file. Whoever writes may be killed at any moment: a line is whole or is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._full = FULL

    def write(self, rows: Sequence[Row]) -> None:
        """Append. Raises OSError."""
        lines = "".join(f"{as_line(one)}\n" for one in rows)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            broken = size > 0 and not self._ends(descriptor, size)
            os.write(descriptor, (("\n" if broken else "") + lines).encode())
        finally:
            os.close(descriptor)
        if size > self._full:
            self.fold()

    def _ends(self, descriptor: int, size: int) -> bool:
        """Whether the last line was written to its end."""
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1) == b"\n"

    def fold(self, now: float | None = None) -> None:
        """Add up what is there, and let go of what is too old. Raises OSError."""
        oldest = day_of((time.time() if now is None else now) - KEEP * 86400)
        kept = [one for one in self.read() if one.day >= oldest]
        text = "".join(f"{as_line(one)}\n" for one in kept[-4 * ROWS :])
        save(self.path, text)
        self._full = max(FULL, 2 * len(text))

    def read(self, since: str = "") -> list[Row]:
        """What is there from the day `since` on, added up. Raises StoreError."""
        try:
            with self.path.open("rb") as file:
                return added_up(one for line in file if (one := as_row(line)) is not None and one.day >= since)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"'{self.path}' cannot be read: {error}.") from error


DEFAULTS = asdict(Row("", ""))
TYPES = {one.name: type(DEFAULTS[one.name]) for one in fields(Row)}


def as_line(one: Row) -> str:
    """A row as JSON, without what is empty."""
    values = {name: value for name, value in asdict(one).items() if value != DEFAULTS[name]}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def as_row(line: bytes) -> Row | None:
    """A line as it was written; None for one that was broken off, or damaged."""
    with suppress(ValueError, TypeError, KeyError):
        values = {name: TYPES[name](value) for name, value in dict(json.loads(line)).items() if name in TYPES}
        return Row(**values)
    return None
