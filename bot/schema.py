"""The journal's file: its tables, opened, brought up to date, mended when it is damaged."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from roost.salvage import carry_over, is_damaged, set_aside
from roost.sealing import Seals, complete, seal_copies, seals_of

if TYPE_CHECKING:
    from roost.cipher import Cipher

log = logging.getLogger("roost.journal")

MIGRATIONS = (
    """
    CREATE TABLE inbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        channel TEXT NOT NULL,
        identity TEXT NOT NULL,
        place TEXT NOT NULL,
        kind TEXT NOT NULL,
        at REAL NOT NULL,
        body BLOB NOT NULL,
        outcome TEXT,
        reason TEXT NOT NULL DEFAULT '',
        draft TEXT NOT NULL DEFAULT '',
        UNIQUE (channel, identity)
    );
    CREATE INDEX inbox_open ON inbox (seq) WHERE outcome IS NULL;
    CREATE INDEX inbox_place ON inbox (place, seq);
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        seq INTEGER,
        place TEXT NOT NULL,
        kind TEXT NOT NULL,
        at REAL NOT NULL,
        body BLOB NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting',
        draft TEXT NOT NULL DEFAULT '',
        unsure INTEGER NOT NULL DEFAULT 0,
        tries INTEGER NOT NULL DEFAULT 0,
        due REAL NOT NULL DEFAULT 0,
        sent TEXT NOT NULL DEFAULT '',
        error TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX outbox_open ON outbox (state, id) WHERE state != 'sent';
    CREATE INDEX outbox_seq ON outbox (seq);
    CREATE INDEX outbox_place ON outbox (place, id);
    CREATE TABLE person (
        id TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        name TEXT NOT NULL DEFAULT '',
        since REAL NOT NULL
    );
    """,
    """
    CREATE TABLE state (
        place TEXT NOT NULL,
        person TEXT NOT NULL,
        name TEXT NOT NULL,
        value BLOB NOT NULL,
        ends REAL NOT NULL,
        PRIMARY KEY (place, person, name)
    );
    CREATE INDEX state_ends ON state (ends);
    CREATE TABLE alias (
        person TEXT PRIMARY KEY,
        first TEXT NOT NULL
    );
    CREATE TABLE wish (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        what TEXT NOT NULL,
        at REAL NOT NULL,
        answer TEXT
    );
    """,
    """
    ALTER TABLE person ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE request (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        person TEXT NOT NULL,
        place TEXT NOT NULL,
        name TEXT NOT NULL,
        message TEXT NOT NULL,
        token TEXT NOT NULL,
        hash BLOB NOT NULL DEFAULT '',
        at REAL NOT NULL,
        state TEXT NOT NULL
    );
    CREATE INDEX request_person ON request (person, id);
    CREATE INDEX request_at ON request (at);
    CREATE TABLE seat (
        person TEXT PRIMARY KEY,
        place TEXT NOT NULL,
        at REAL NOT NULL
    );
    CREATE TABLE spent (
        key TEXT NOT NULL,
        unit TEXT NOT NULL,
        span INTEGER NOT NULL,
        began REAL NOT NULL,
        amount INTEGER NOT NULL,
        told INTEGER NOT NULL,
        PRIMARY KEY (key, unit, span)
    );
    """,
)


class File(sqlite3.Connection):
    """The journal's file. `seals` opens what it holds."""

    seals = Seals()


def connect_whole(path: Path, synchronous: str = "full", cipher: Cipher | None = None) -> File:
    """Open the file, sealed from now on if there is a cipher.

    A damaged one is set aside, and a new one begun with what can be read of it. The data folder's lock is to be held.
    """
    db = _begin_anew(path, synchronous, cipher) if is_damaged(path) else connect(path, synchronous, cipher)
    if cipher is not None:
        try:
            db.seals = complete(db, cipher)
            seal_copies(path.parent, cipher)
        except BaseException:
            db.close()
            raise
    return db


def _begin_anew(path: Path, synchronous: str, cipher: Cipher | None) -> File:
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path)) as damaged:
        seals_of(damaged, cipher, path)
    aside = set_aside(path)
    db = connect(path, synchronous)
    db.execute("BEGIN")
    counts = carry_over(aside, db)
    db.execute("COMMIT")
    kept = ", ".join(f"{count} rows of {table}" for table, count in counts.items())
    log.error("The journal was damaged. It is kept as '%s'; a new one was begun with %s.", aside, kept)
    return db


def connect(path: Path, synchronous: str = "full", cipher: Cipher | None = None) -> File:
    """Open the file with our settings and bring its schema up to date.

    Raises sqlite3.Error, and StoreError for a sealed one that the cipher does not open; such a file is left as it is.
    """
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=File)
    try:
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # one spoilt byte must not make all unreadable
        db.seals = seals_of(db, cipher, path)
        _prepare(db, synchronous)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, synchronous: str) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}")
    db.execute("PRAGMA fullfsync = ON")  # on macOS an fsync alone leaves data in the drive's cache
    db.execute("PRAGMA busy_timeout = 1000")
    db.execute("PRAGMA secure_delete = ON")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError("it was written by a newer version of Roost; install that version")
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN; {migration} PRAGMA user_version = {number}; COMMIT;")
