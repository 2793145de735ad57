"""The journal, sealed: what was said is encrypted, value by value, each bound to its column and to whose row it is in.

A journal is sealed as a whole or not at all: SQLite's `application_id` tells, and changes in the one transaction that
seals or opens every row. What is in clear text in a sealed journal was put there by somebody else, and is not read.
What is empty stays empty: that something was forgotten has to be seen. Identities, by which a second delivery is
known, become stand-ins, the same for the same. Ids, kinds, times, states and the reasons of silences stay readable.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roost.cipher import SEALED, SEALED_ID
from roost.errors import StoreError

if TYPE_CHECKING:
    from roost.cipher import Cipher

log = logging.getLogger("roost.journal")

# What is sealed in each table, and the columns that say whose row it is.
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "inbox": (("body", "identity"), ("place",)),
    "outbox": (("body", "error"), ("place",)),
    "person": (("name",), ("id",)),
    "request": (("name",), ("person",)),
    "state": (("value",), ("place", "person", "name")),
    "wish": (("what", "answer"), ()),
}
TEXTS = ("outbox.error", "person.name", "request.name", "wish.what", "wish.answer")
IDENTITY = "inbox.identity"

PAGE = 100  # rows read at a time
SAMPLE = 100  # rows of a table that may all be damaged before the key is called another one
COPIES = "journal.damaged-*"
COPY = SEALED + b" copy 1\n"

Value = str | bytes | None
Change = Callable[[Value, str, tuple[str, ...]], Value]


class Seals:
    """Seals values and opens them again; without a cipher it leaves them as they are.

    `column` is such as `inbox.body`, `owner` whose row it is. What cannot be opened is read as empty.
    """

    __slots__ = ("_cipher",)

    def __init__(self, cipher: Cipher | None = None) -> None:
        self._cipher = cipher

    def seal(self, value: Value, column: str, *owner: str) -> Value:
        if self._cipher is None or not value:
            return value
        return self._cipher.seal(value.encode() if isinstance(value, str) else value, _about(column, owner))

    def open(self, value: Any, column: str, *owner: str) -> bytes:
        if self._cipher is None or not value:
            return value  # type: ignore[no-any-return]
        try:
            return self._cipher.open(value, _about(column, owner)) if isinstance(value, bytes) else b""
        except StoreError:
            return b""

    def text(self, value: Any, column: str, *owner: str) -> str:
        """The same for a text."""
        opened = self.open(value, column, *owner)
        text = opened.decode(errors="replace") if isinstance(opened, bytes) else opened
        return text if text or not value else "(unreadable)"

    def hide(self, identity: str) -> str | bytes:
        """A stand-in for an identity."""
        return identity if self._cipher is None else bytes.fromhex(self._cipher.blind(identity))

    def show(self, identity: str | bytes) -> str:
        """The identity behind a stand-in. One that is damaged stays as unlike any other as it is."""
        if self._cipher is None or isinstance(identity, str):
            return str(identity)
        try:
            return self._cipher.unblind(identity.hex())
        except StoreError:
            return identity.hex()


def _about(column: str, owner: tuple[str, ...]) -> bytes:
    parts = [part.encode("utf-8", "surrogatepass") for part in (column, *owner)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


# The whole file.


def is_sealed(db: sqlite3.Connection) -> bool:
    (id,) = db.execute("PRAGMA application_id").fetchone()
    return bool(id == SEALED_ID)


def seals_of(db: sqlite3.Connection, cipher: Cipher | None, path: Path) -> Seals:
    """What opens the values of this file. Raises StoreError when that takes a key, or another one."""
    if not is_sealed(db):
        return Seals()
    if cipher is None:
        raise StoreError(
            f"The journal '{path}' is encrypted, and there is no key to open it with. Nothing was changed. "
            'Say in bot.toml where the key is, below [bot]: encryption = "env:NAME".'
        )
    if not _fits(db, Seals(cipher)):
        raise StoreError(
            f"The journal '{path}' was encrypted with the key of another folder. Nothing was changed. "
            "Put back the 'cipher.json' that belongs to it."
        )
    return Seals(cipher)


def _fits(db: sqlite3.Connection, seals: Seals) -> bool:
    """Whether a sealed journal is of this key. Some values may be damaged: one that opens is enough."""
    found = False
    for sample in _samples(db, seals):
        if sample:
            return True
        found = True
    return not found


def _samples(db: sqlite3.Connection, seals: Seals) -> Iterator[bytes]:
    with contextlib.suppress(sqlite3.DatabaseError):
        yield from (seals.open(proof, "sealed.proof") for (proof,) in db.execute("SELECT proof FROM sealed"))
    for table, (columns, owner) in COLUMNS.items():
        names = ", ".join((columns[0], *owner))
        sql = f"SELECT {names} FROM {table} WHERE {columns[0]} != '' ORDER BY rowid DESC LIMIT {SAMPLE}"
        with contextlib.suppress(sqlite3.DatabaseError):
            yield from (
                seals.open(value, f"{table}.{columns[0]}", *map(str, whose)) for value, *whose in db.execute(sql)
            )


def complete(db: sqlite3.Connection, cipher: Cipher) -> Seals:
    """See that all of a journal is sealed, and that nothing is left of what it was before.

    The rows are sealed in one transaction. What they leave in the file and in the write-ahead log is swept out after
    it, and that is tried again at the next start if it is interrupted. Raises sqlite3.Error.
    """
    seals = Seals(cipher)
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sealed'").fetchone():
        with _transaction(db):
            if not is_sealed(db):
                _rewrite(db, lambda value, column, owner: _close(seals, value, column, owner))
            db.execute(f"PRAGMA application_id = {SEALED_ID}")
            db.execute("CREATE TABLE sealed (proof BLOB NOT NULL, swept INTEGER NOT NULL DEFAULT 0)")
            db.execute("INSERT INTO sealed (proof) VALUES (?)", (seals.seal(b"roost", "sealed.proof"),))
    if not db.execute("SELECT max(swept) FROM sealed").fetchone()[0]:
        _sweep(db)
    return seals


def _sweep(db: sqlite3.Connection) -> None:
    try:
        db.execute("VACUUM")
        (trouble, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.DatabaseError as error:
        trouble = str(error)
    if trouble:
        why = "another program reads it" if trouble == 1 else trouble
        log.warning("The journal may still show traces of what it said in clear text: %s. The next start tries.", why)
        return
    db.execute("UPDATE sealed SET swept = 1")


def undo(db: sqlite3.Connection, cipher: Cipher) -> None:
    """Write a journal in clear text again, in one transaction. What is damaged stays as it is."""
    seals = Seals(cipher)
    if is_sealed(db):
        with _transaction(db):
            _rewrite(db, lambda value, column, owner: _open(seals, value, column, owner))
            db.execute("PRAGMA application_id = 0")
            db.execute("DROP TABLE IF EXISTS sealed")


def _close(seals: Seals, value: Value, column: str, owner: tuple[str, ...]) -> Value:
    return seals.hide(str(value)) if column == IDENTITY else seals.seal(value, column, *owner)


def _open(seals: Seals, value: Value, column: str, owner: tuple[str, ...]) -> Value:
    if column == IDENTITY:
        return seals.show(value or "")
    opened = seals.open(value, column, *owner) or value
    return opened.decode(errors="replace") if column in TEXTS and isinstance(opened, bytes) else opened


def _rewrite(db: sqlite3.Connection, change: Change) -> None:
    for table, (columns, owner) in COLUMNS.items():
        sql = f"UPDATE {table} SET {', '.join(f'{column} = ?' for column in columns)} WHERE rowid = ?"
        for page in _pages(db, table, columns + owner):
            for number, *values in page:
                whose = tuple(map(str, values[len(columns) :]))
                new = [change(value, f"{table}.{name}", whose) for name, value in zip(columns, values, strict=False)]
                db.execute(sql, (*new, number))


def _pages(db: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[list[tuple[Any, ...]]]:
    sql = f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {PAGE}"
    last = -1
    while page := db.execute(sql, (last,)).fetchall():
        yield page
        last = page[-1][0]


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


# Damaged journals that were set aside.


def seal_copies(folder: Path, cipher: Cipher) -> None:
    """Seal what lies beside a journal as it was when it was damaged. Raises OSError."""
    for path in _copies(folder):
        if not _is_copy(path) and not _has_sealed_rows(path):
            _write(path, COPY + cipher.seal(path.read_bytes(), b"copy"))


def open_copies(folder: Path, cipher: Cipher) -> None:
    """The way back. What has sealed rows is removed: nobody could read them, and what was whole was carried over."""
    for path in _copies(folder):
        if _is_copy(path):
            with _told(path):
                _write(path, cipher.open(path.read_bytes()[len(COPY) :], b"copy"))
        elif _has_sealed_rows(path):
            log.warning("'%s' is removed: it is encrypted, and damaged.", path)
            path.unlink()


def _copies(folder: Path) -> list[Path]:
    """A file with sealed rows, by which its companions are known, comes after them."""
    for path in folder.glob(COPIES + ".new"):
        path.unlink()  # a write cut short
    return sorted(folder.glob(COPIES), reverse=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        log.warning("'%s' stays encrypted: %s", path, error)


def _is_copy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(COPY)) == COPY


def _has_sealed_rows(path: Path) -> bool:
    """Whether a file, or that which it goes with, is a database whose rows are sealed."""
    whole = path.with_name(path.name.removesuffix("-wal").removesuffix("-shm"))
    with contextlib.suppress(FileNotFoundError), whole.open("rb") as file:
        # https://www.sqlite.org/fileformat.html: the application_id is at offset 68.
        return file.read(72)[68:] == SEALED_ID.to_bytes(4, "big")
    return False


def _write(path: Path, data: bytes) -> None:
    """All or nothing, and its owner's alone."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
