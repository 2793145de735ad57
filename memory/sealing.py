"""A memory's whole folder, sealed or in clear text: stores, archives, and the names of both.

A name shows whose file it is, so in a sealed folder it becomes a stand-in. Each file is rewritten by itself, and a
conversation's store is renamed last: whatever is interrupted is seen to be undone, and is done again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from roost.cipher import SEALED_ID
from roost.errors import StoreError
from roost.memory import index, segments
from roost.memory.archive import Archive
from roost.memory.conversation import FILES, RECORD, WINDOW, file_name
from roost.memory.disk import Disk
from roost.memory.lines import decode, replay
from roost.memory.records import scan
from roost.memory.segments import Segments
from roost.memory.store import seal_all, unseal_all

if TYPE_CHECKING:
    from roost.cipher import Cipher

log = logging.getLogger("roost.memory")

DONE = "sealed"  # an empty file: nothing in the folder is in clear text, so nobody has to look at ten thousand files
CLEAR = ".cold.clear"  # the end of an archive's name while it is decrypted
OWNED = {WINDOW: (RECORD, "place"), "owner": (1, "owner")}  # where a store says whose it is


def seal_folder(home: Path, cipher: Cipher, disk: Disk) -> None:
    """Seal everything that is in clear text. Nothing of it may be open. Raises OSError."""
    if (home / DONE).exists():
        return
    _sweep(home, disk)
    _drop_indexes(home, disk, sealed=False)
    sealed = seal_all(home, cipher, disk)
    sealed += sum(_guarded(_seal_archive, path, cipher, disk) for path in sorted(home.rglob("*.cold")))
    _rename_all(home, cipher, cipher, disk)
    disk.append(home / DONE).close()
    disk.sync_folder(home)
    if sealed:
        log.info("The memory in '%s' is encrypted now: %d files were in clear text.", home, sealed)


def unseal_folder(home: Path, cipher: Cipher, disk: Disk) -> None:
    """The way back. Raises OSError."""
    disk.remove(home / DONE)
    if not home.is_dir():
        return
    disk.sync_folder(home)
    _rename_all(home, cipher, None, disk)
    _drop_indexes(home, disk, sealed=True)
    unseal_all(home, cipher, disk)
    for path in sorted(home.rglob("*.cold")):
        _guarded(_unseal_archive, path, cipher, disk)


def _guarded(turn: Callable[[Path, Cipher, Disk], bool], path: Path, cipher: Cipher, disk: Disk) -> bool:
    try:
        return turn(path, cipher, disk)
    except StoreError as error:
        log.warning("%s", error)
        return False


# Archives.


def _sweep(home: Path, disk: Disk) -> None:
    """Remove what interrupted rewrites left."""
    for ending in (".cold.new", CLEAR, CLEAR + ".new"):
        for path in home.rglob("*" + ending):
            disk.remove(path)


def _drop_indexes(home: Path, disk: Disk, sealed: bool) -> None:
    """Remove the indexes of hidden words, or of clear ones: they are made again when somebody searches."""
    for path in home.rglob("*.index"):
        with path.open("rb") as file:  # https://www.sqlite.org/fileformat.html: the application_id is at offset 68
            is_sealed = file.read(72)[68:] == SEALED_ID.to_bytes(4, "big")
        if is_sealed == sealed:
            index.erase(path, disk)


def _seal_archive(path: Path, cipher: Cipher, disk: Disk) -> bool:
    found = scan(path)
    if not found.id or found.sealed:
        return False
    Archive(path, disk=disk, cipher=cipher).close()
    return True


def _unseal_archive(path: Path, cipher: Cipher, disk: Disk) -> bool:
    if not scan(path).sealed:
        return False
    fresh = path.with_name(path.stem + CLEAR)
    segments.erase(fresh, disk)
    sealed, clear = Segments(path, "os", disk, cipher), Segments(fresh, "os", disk, None)
    if sealed.damage() and not sealed.groups:
        return False
    for group in sealed.groups:
        clear.append(sealed.read(group.records))
    if sealed.groups:
        clear.tidy()
        disk.replace(fresh, path)
    else:
        disk.remove(path)
    disk.sync_folder(path.parent)
    return True


# Names.


def _rename_all(home: Path, cipher: Cipher, to: Cipher | None, disk: Disk) -> None:
    for folder in (home, home / "facts"):
        if folder.is_dir():
            kept = defaultdict(list)
            for path in sorted(folder.iterdir()):
                kept[path.name.partition(".")[0]].append(path)
            for path in [one for paths in kept.values() for one in paths if fnmatch(one.name, FILES)]:
                if owner := _owner(path, cipher):
                    stems = [Path(file_name(owner, one)).stem for one in (None, cipher)]
                    if path.stem in stems:
                        _rename(path, stems[to is not None], [one for stem in stems for one in kept[stem]], disk)
            disk.sync_folder(folder)


def _rename(path: Path, stem: str, kept: list[Path], disk: Disk) -> None:
    """Give a store and what is `kept` of the same place one name; the rest may be half way there already."""
    target = path.with_name(f"{stem}.jsonl")
    if path != target and target in kept:
        log.warning("'%s' keeps its name: '%s' is there already, for the same place.", path, target.name)
        return
    stores = {other.stem for other in kept if other.suffix == ".jsonl"} - {path.stem}
    for other in kept:
        old = other.name.partition(".")[0]
        new = other.with_name(stem + other.name.removeprefix(old))
        if other not in (path, new) and old not in stores and not new.exists():
            disk.replace(other, new)
    if path != target:
        disk.replace(path, target)


def _owner(path: Path, cipher: Cipher) -> str:
    """Whose a store is, sealed or not; empty when it does not say."""
    try:
        tables = replay(path.read_bytes(), cipher).tables
    except StoreError as error:
        log.warning("'%s' keeps its name: %s", path, error)
        return ""
    for table, (row, key) in OWNED.items():
        if (document := tables.get(table, {}).get(row)) is not None:
            return str(decode(document).get(key, ""))
    return ""
