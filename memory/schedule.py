"""When the compaction of each place is due, and what became of those that were done. Two TinyDB files.

APScheduler's own job stores pickle, and lose a job whose process dies in it; here a place stays due until its
compaction is done. The files are not synced: what a power cut takes of them is made up for by the next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from roost.contracts import Compaction, Trigger
from roost.memory.conversation import convert
from roost.memory.disk import Disk
from roost.memory.store import Store, erase_copies
from roost.values import Place, PlaceKind

if TYPE_CHECKING:
    from roost.cipher import Cipher

DUE = "due"
REPORTS = 1000  # reports kept
MANY = 100  # lines written: then the file is rewritten when it is closed
LONGEST_PAUSE = 6 * 3600.0  # seconds between two tries of a compaction that keeps failing


@dataclass(frozen=True, slots=True)
class Due:
    """When a place is due, in seconds since the epoch, and why."""

    place: str
    kind: PlaceKind
    at: float
    trigger: Trigger
    failures: int = 0


_decoder = msgspec.json.Decoder(Due)


class Schedule:
    """The due times by place. `idle` is the time in seconds after which a silent place is due, 0 for never."""

    def __init__(self, path: Path, idle: float, disk: Disk, cipher: Cipher | None) -> None:
        self._idle = idle
        self._disk = disk
        self._open_store: Callable[[], Store] = partial(Store, path, fsync="os", disk=disk, cipher=cipher)
        self._open()

    def _open(self) -> None:
        self._db = self._open_store()
        self._rows = self._db.table(DUE)
        self._entries: dict[str, tuple[int, Due]] = {}
        for id, row in self._db.storage.tables.get(DUE, {}).items():
            with suppress(msgspec.MsgspecError):
                due = _decoder.decode(row)
                self._entries[due.place] = id, due
        self._written = 0
        self._last = max((id for id, _ in self._entries.values()), default=0)

    def active(self, place: Place, now: float) -> None:
        """Something was said: put the end of the silence off. Written at times only, for it happens all the time."""
        known = self._entries.get(str(place))
        at = now + self._idle
        if known is not None and (known[1].trigger != "idle" or abs(known[1].at - at) < self._idle / 10):
            return
        if self._idle:
            self._put(Due(str(place), place.kind, at, "idle"))

    def now(self, place: Place, now: float, trigger: Trigger) -> None:
        """It is due at once, unless it failed just before."""
        known = self._entries.get(str(place))
        if known is not None and (known[1].failures or known[1].at <= now):
            return
        self._put(Due(str(place), place.kind, now, trigger))

    def failed(self, place: Place, now: float, trigger: Trigger) -> None:
        """It is due again, later each time."""
        known = self._entries.get(str(place))
        failures = (known[1].failures if known else 0) + 1
        pause = min(LONGEST_PAUSE, 60.0 * 2.0 ** min(failures, 12))
        self._put(Due(str(place), place.kind, now + pause, trigger, failures))

    def done(self, place: Place) -> None:
        known = self._entries.pop(str(place), None)
        if known is not None:
            self._rows.remove(doc_ids=[known[0]])

    def due(self, now: float) -> list[tuple[Place, Trigger]]:
        """The places that are due, the one that is longest first. A clock that was set back puts nothing off."""
        patience = max(self._idle, LONGEST_PAUSE)
        late = sorted(
            (due for _, due in self._entries.values() if due.at <= now or due.at > now + patience),
            key=lambda due: due.at,
        )
        return [(replace(Place.parse(due.place), kind=due.kind), due.trigger) for due in late]

    def _put(self, due: Due) -> None:
        known = self._entries.get(due.place)
        if known is None:
            self._last += 1
        id = known[0] if known else self._last
        self._rows.put({id: asdict(due)})
        self._written += 1
        self._entries[due.place] = id, due

    def forget(self, place: Place) -> None:
        """As `done`, and the place's name is gone from the file."""
        self.done(place)
        self._db.storage.compact()
        erase_copies(self._db.storage.path, self._disk)

    def shrink(self) -> None:
        """Read everything again: what was made over time lies scattered through memory and keeps much of it."""
        self.close()
        self._open()

    def close(self) -> None:
        """What was written one by one is read in a third of the time when it is put together."""
        try:
            if self._written >= MANY:
                self._db.storage.compact()
        finally:
            self._db.close()


class Reports:
    """What became of compactions, the newest last."""

    def __init__(self, path: Path, disk: Disk, cipher: Cipher | None) -> None:
        self._disk = disk
        self._db = Store(path, fsync="os", disk=disk, cipher=cipher)
        self._rows = self._db.table("reports")
        self._ids = sorted(document.doc_id for document in self._rows)

    def add(self, report: Compaction) -> None:
        id = self._ids[-1] + 1 if self._ids else 1
        self._rows.put({id: asdict(report)})
        self._ids.append(id)
        if len(self._ids) > REPORTS:
            self._rows.remove(doc_ids=[self._ids.pop(0)])

    def __iter__(self) -> Iterator[Compaction]:
        for id in self._ids:
            if (report := convert(self._rows.get(doc_id=id), Compaction)) is not None:
                yield report

    def forget(self, place: Place) -> None:
        kept = [document.doc_id for document in self._rows if document.get("place") != str(place)]
        if gone := sorted(set(self._ids) - set(kept)):
            self._rows.remove(doc_ids=gone)
            self._ids = sorted(kept)
        self._db.storage.compact()
        erase_copies(self._db.storage.path, self._disk)

    def close(self) -> None:
        self._db.close()
