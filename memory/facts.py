"""What people asked to be remembered: a small TinyDB file for each owner, who is a person or a place."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roost.contracts import Fact
from roost.memory.conversation import FILES, convert, file_name
from roost.memory.disk import Disk
from roost.memory.lines import decode, replay
from roost.memory.store import Fsync, Store, erase, erase_copies

if TYPE_CHECKING:
    from roost.cipher import Cipher

FACTS, OWNER = "facts", "owner"
HELD = 256  # owners whose facts are kept in memory


class Facts:
    """Reads and writes facts. One thread at a time may use it."""

    def __init__(self, folder: Path, fsync: Fsync, disk: Disk, cipher: Cipher | None) -> None:
        self.folder = folder
        self._fsync = fsync
        self._disk = disk
        self._cipher = cipher
        self._held: OrderedDict[str, tuple[Fact, ...]] = OrderedDict()

    def all(self, owner: str) -> Sequence[Fact]:
        """The facts of an owner, oldest first."""
        if owner not in self._held:
            self._hold(owner, self._read(owner))
        self._held.move_to_end(owner)
        return self._held[owner]

    def note(self, owner: str, text: str, at: float = 0.0) -> Fact:
        """Add a fact, unless it is there word for word."""
        facts = tuple(self.all(owner))
        if (same := next((one for one in facts if one.text == text), None)) is not None:
            return same
        fact = Fact(max((one.id for one in facts), default=0) + 1, text, at or time.time())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open(owner) as db:
            if not facts:
                db.table(OWNER).put({1: {"owner": owner}})
            db.table(FACTS).put({fact.id: {"text": text, "at": fact.at}})
        self._hold(owner, (*facts, fact))
        return fact

    def drop(self, owner: str, id: int) -> Fact | None:
        """Erase a fact, and from the file as well."""
        facts = self.all(owner)
        gone = next((one for one in facts if one.id == id), None)
        if gone is None:
            return None
        if len(facts) == 1:
            self.erase(owner)
            return gone
        with self._open(owner) as db:
            db.table(FACTS).remove(doc_ids=[id])
            db.storage.compact()
        erase_copies(self._path(owner), self._disk)
        self._hold(owner, tuple(one for one in facts if one is not gone))
        return gone

    def erase(self, owner: str) -> int:
        """Erase every fact of an owner; returns how many there were."""
        count = len(self.all(owner))
        if self._path(owner).exists():
            erase(self._path(owner), self._disk)
        self._held.pop(owner, None)
        return count

    def owners(self) -> list[str]:
        """Everybody who has facts. Reads every file."""
        found = []
        for path in sorted(self.folder.glob(FILES)):
            row = replay(path.read_bytes(), self._cipher).tables.get(OWNER, {}).get(1)
            if row is not None:
                found.append(str(decode(row).get("owner", "")))
        return sorted(owner for owner in found if owner)

    def let_go(self) -> None:
        self._held.clear()

    def _read(self, owner: str) -> tuple[Fact, ...]:
        if not self._path(owner).exists():
            return ()
        with self._open(owner) as db:
            rows = sorted((document.doc_id, dict(document)) for document in db.table(FACTS))
        read = (convert({**row, "id": id}, Fact) for id, row in rows)
        return tuple(fact for fact in read if fact is not None)

    def _hold(self, owner: str, facts: tuple[Fact, ...]) -> None:
        self._held[owner] = facts
        while len(self._held) > HELD:
            self._held.popitem(last=False)

    def _open(self, owner: str) -> Store:
        return Store(self._path(owner), fsync=self._fsync, disk=self._disk, cipher=self._cipher)

    def _path(self, owner: str) -> Path:
        return self.folder / file_name(owner, self._cipher)
