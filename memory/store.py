"""TinyDB on an append-only file: writing one document costs the same in a table of ten and of a million.

    from roost.memory.store import Store

    with Store("notes.jsonl") as db:
        db.insert({"text": "hello"})

`Store` is a TinyDB in every other respect. `TinyDB(path, storage=JsonlStorage)` works as well, and appends only
what changed, but looks at every document for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from zlib import crc32

from tinydb import TinyDB
from tinydb.storages import Storage

from roost.errors import StoreError
from roost.memory.disk import Disk
from roost.memory.lines import (
    HEADER,
    SEALED_HEADER,
    Changes,
    Replay,
    Rows,
    Seals,
    Tables,
    encode,
    merge,
    replay,
    reveal,
    seal,
    write_all,
    write_line,
)
from roost.memory.tables import Documents, JournalTable

if TYPE_CHECKING:
    from roost.cipher import Cipher

log = logging.getLogger("roost.memory")

Fsync = Literal["always", "os"]

# A file is rewritten when it is three times what it says, and at least this many bytes longer.
SLACK = 16 * 1024


class JsonlStorage(Storage):
    """A file of checksummed lines that is only ever appended to, and rewritten by an atomic rename.

    A killed process loses nothing that was written. With `fsync="always"` a power cut does not either; with
    "os" it may take what the system had not written yet, some seconds' worth, and never more than that.
    One process at a time may have a file open. With a `cipher` the file is sealed: one in clear text is rewritten
    when it is opened, before anything else. What a file system keeps of the old one, in free space or in
    snapshots, is out of reach.

    Raises OSError, and StoreError for a file from a newer Roost and for a sealed one that the cipher does not
    open; such a file is left as it is.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fsync: Fsync = "always",
        create_dirs: bool = False,
        disk: Disk | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        self.path = Path(path)
        self.tables: Tables = {}
        self._cipher = cipher
        self._seals: Seals | None = None
        self._fsync = fsync
        self._disk = disk or Disk()
        self._size = self._weight = 0
        self._unsure = self._unsynced = False
        if create_dirs:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._disk.append(self.path)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    # TinyDB's own interface, for stock tables and for dropping them.

    def read(self) -> Any:
        """Every table, as mappings that decode a document when it is looked at; None when there is none."""
        return {name: Documents(rows) for name, rows in self.tables.items()} or None

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the tables what `data` says, by appending the difference."""
        changes: dict[str, Mapping[int, bytes | None] | None] = {name: None for name in self.tables if name not in data}
        for name, documents in data.items():
            rows = self.tables.get(name)
            if not (isinstance(documents, Documents) and documents.rows is rows):
                changes[name] = _difference(rows or {}, documents)
        self.apply(changes)

    def close(self) -> None:
        try:
            if self._unsynced and self._fsync == "always" and not self._file.closed:
                self._sync()
        finally:
            self._file.close()

    # What JournalTable uses.

    def apply(self, changes: Changes) -> None:
        """Append `changes` in one write; once this returns they are kept, when it raises none of them is."""
        if any(rows or rows is None or name not in self.tables for name, rows in changes.items()):
            self._append(write_line(changes, self._seals))
            if self._seals:
                self._seals.number += 1
            self._weight += merge(self.tables, changes)
            if self._size > 3 * self._weight + SLACK:
                self._try_compact()

    def compact(self) -> None:
        """Rewrite the file without what was replaced or removed."""
        seals = Seals(self._cipher) if self._cipher else None
        fresh = self._write_fresh(seals)
        self._file.close()  # Windows does not rename over an open file
        try:
            self._disk.replace(fresh, self.path)
            self._disk.sync_folder(self.path.parent)
        finally:
            if not fresh.exists():  # an error may come after the deed
                self._seals = seals
            self._file = self._disk.append(self.path)
            self._size = self.path.stat().st_size
        self._unsynced = False

    def turn_over(self, cipher: Cipher | None) -> None:
        """Rewrite the file sealed with `cipher`, or in clear text without one, and go on so."""
        self._cipher = cipher
        self.compact()

    def _write_fresh(self, seals: Seals | None) -> Path:
        fresh = self._fresh
        self._disk.remove(fresh)
        with self._disk.append(fresh) as file:
            for piece in write_all(self.tables, seals):
                self._disk.write(file, piece)
            self._disk.sync(file)
        return fresh

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def _try_compact(self) -> None:
        try:
            self.compact()
        except OSError as error:
            log.warning("'%s' could not be rewritten, which is tried again later: %s.", self.path, error)

    def _append(self, data: bytes) -> None:
        if self._unsure:
            self._disk.truncate(self._file, self._size)
        self._unsure = True
        try:
            self._disk.write(self._file, data)
            self._unsynced = True
            if self._fsync == "always":
                self._sync()
        except OSError:
            self._take_back()
            raise
        self._unsure = False
        self._size += len(data)

    def _take_back(self) -> None:
        # Half a line left behind would spoil the next one; should this fail, the next write begins with it.
        try:
            self._disk.truncate(self._file, self._size)
        except OSError:
            return
        self._unsure = False

    def _sync(self) -> None:
        self._disk.sync(self._file)
        self._unsynced = False

    # Opening.

    def _load(self) -> None:
        data = self.path.read_bytes()
        self._disk.remove(self._fresh)
        try:
            seen = replay(data, self._cipher)
        except StoreError as error:
            raise StoreError(f"'{self.path}' cannot be opened. {error}") from None
        self.tables, self._weight, self._size = seen.tables, seen.weight, len(data)
        self._seals = seen.seals
        if seen.damaged:
            self._repair(data, seen)
            return
        if seen.torn:
            log.warning("'%s': dropped the last %d bytes, an unfinished write.", self.path, seen.torn)
            self._cut(len(data) - seen.torn)
        if seen.clear:
            self.compact()
        elif not seen.good:
            self._begin()

    def _begin(self) -> None:
        self._cut(0)
        self._append(SEALED_HEADER if self._cipher else HEADER)
        if self._fsync == "always":
            self._disk.sync_folder(self.path.parent)

    def _cut(self, size: int) -> None:
        self._disk.truncate(self._file, size)
        self._size = size

    def _repair(self, data: bytes, seen: Replay) -> None:
        """Keep the damaged file beside, and go on with every line that is whole."""
        sealed = seen.seals is not None and seen.seals.begun
        aside = set_aside(self.path, data, self._disk, None if sealed else self._cipher)
        log.warning(
            "'%s' is damaged: %d lines are whole, %d are not. The file as it was is kept as '%s'.",
            self.path,
            seen.good,
            seen.bad + bool(seen.torn),
            aside.name,
        )
        self.compact()


def set_aside(path: Path, data: bytes, disk: Disk, cipher: Cipher | None = None) -> Path:
    """Copy `data` beside `path` as `NAME.damaged-CRC`; doing it again after a crash makes no second copy.

    With a `cipher` the copy is sealed as a whole: `reveal` shows it.
    """
    aside = path.with_name(f"{path.name}.damaged-{crc32(data):08x}")
    _write_new(aside, _sealed_copy(data, cipher) if cipher else data, disk)
    return aside


def _write_new(path: Path, data: bytes, disk: Disk) -> None:
    disk.remove(path)
    with disk.append(path) as file:
        disk.write(file, data)
        disk.sync(file)


def _sealed_copy(data: bytes, cipher: Cipher) -> bytes:
    return SEALED_HEADER + seal(Seals(cipher).close(data))


def _difference(rows: Rows, documents: Mapping[str, Any]) -> Mapping[int, bytes | None]:
    new = {int(key): encode(document) for key, document in documents.items()}
    changed: dict[int, bytes | None] = {key: None for key in rows if key not in new}
    changed |= {key: row for key, row in new.items() if rows.get(key) != row}
    return changed


class Store(TinyDB):
    """TinyDB whose tables append what changed. Takes the arguments of JsonlStorage."""

    table_class = JournalTable
    default_storage_class = JsonlStorage  # type: ignore[assignment]

    @property
    def storage(self) -> JsonlStorage:
        return cast(JsonlStorage, super().storage)

    def table(self, name: str, **kwargs: Any) -> JournalTable:
        return cast(JournalTable, super().table(name, **kwargs))


def erase_copies(path: Path, disk: Disk) -> None:
    """Remove what is beside a store's file: a rewrite cut short, damaged copies that were set aside."""
    for other in list(path.parent.iterdir()):
        if other.name == path.name + ".new" or other.name.startswith(path.name + ".damaged-"):
            disk.remove(other)


def erase(path: Path, disk: Disk) -> None:
    """Remove a store's file and whatever is beside it."""
    erase_copies(path, disk)
    disk.remove(path)
    disk.sync_folder(path.parent)


def seal_all(folder: Path, cipher: Cipher, disk: Disk | None = None) -> int:
    """Seal every store below `folder` that is in clear text, and damaged copies; returns how many files.

    None of them may be open. One file after the other is rewritten, so a kill leaves some of each kind, which
    is no harm. Raises OSError; what cannot be read is logged and left.
    """
    return _turn_all(folder, cipher, cipher, disk or Disk())


def unseal_all(folder: Path, cipher: Cipher, disk: Disk | None = None) -> int:
    """The way back: write every sealed store below `folder`, and damaged copies, in clear text."""
    return _turn_all(folder, cipher, None, disk or Disk())


def _turn_all(folder: Path, cipher: Cipher, to: Cipher | None, disk: Disk) -> int:
    for path in folder.rglob("*.jsonl*.new"):
        disk.remove(path)
    turned = 0
    for path in sorted(folder.rglob("*.jsonl*")):
        try:
            turned += _turn(path, cipher, to, disk)
        except StoreError as error:
            log.warning("%s", error)
    return turned


def _turn(path: Path, cipher: Cipher, to: Cipher | None, disk: Disk) -> bool:
    with path.open("rb") as file:
        head = file.read(max(len(HEADER), len(SEALED_HEADER)))
    sealed = head.startswith(SEALED_HEADER)
    if ".jsonl.damaged-" in path.name and sealed != bool(to):
        data = path.read_bytes()
        _turn_copy(path, _sealed_copy(data, to) if to else reveal(data, cipher), disk)
    elif path.suffix == ".jsonl" and (head.startswith(HEADER) if to else sealed):
        storage = JsonlStorage(path, disk=disk, cipher=cipher)  # which seals it
        try:
            if not to:
                storage.turn_over(None)
        finally:
            storage.close()
    else:
        return False
    return True


def _turn_copy(path: Path, data: bytes, disk: Disk) -> None:
    fresh = path.with_name(path.name + ".new")
    _write_new(fresh, data, disk)
    disk.replace(fresh, path)
    disk.sync_folder(path.parent)
