"""A damaged journal: set aside, and what can still be read of it carried over into a new one."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("roost.journal")

TABLES = ("inbox", "outbox", "person", "alias", "state", "request", "seat", "spent")
LARGE = 64 * 1024 * 1024  # bytes from which the whole file is not read at every start
FARTHEST = 1 << 40  # no row has a higher number
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds the file's structure broken. What a flipped bit did to a text, it cannot know."""
    if not path.is_file() or not 0 < path.stat().st_size < LARGE:
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            return bool(found != "ok")
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def set_aside(path: Path) -> Path:
    """Move the file and its companions out of the way; returns its new place."""
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    for end in ("-wal", "-shm", ""):
        companion = path.with_name(path.name + end)
        if companion.exists():
            companion.replace(aside.with_name(aside.name + end))
    return aside


def carry_over(damaged: Path, fresh: sqlite3.Connection) -> dict[str, int]:
    """Copy every row that can be read, sealed or clear as it is; returns how many of each table."""
    counts = dict.fromkeys(TABLES, 0)
    lengthen(damaged)
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(damaged)) as old:
        fresh.execute(f"PRAGMA application_id = {old.execute('PRAGMA application_id').fetchone()[0]}")
        for table in TABLES:
            for row in readable(old, table):
                counts[table] += insert(fresh, table, row)
    return counts


def readable(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, passing over those that cannot be read."""
    db.row_factory = sqlite3.Row
    after, step = -1, 1
    while after < FARTHEST:
        try:
            row = db.execute(f"SELECT rowid AS n, * FROM {table} WHERE rowid > ? LIMIT 1", (after,)).fetchone()
            if row is not None and row["n"] <= after:
                raise sqlite3.DatabaseError("the order of the rows is broken")
        except sqlite3.DatabaseError:
            after, step = after + step, step * 2  # whole pages are gone: ever longer strides
            continue
        if row is None:
            return
        after, step = row["n"], 1
        yield {name: row[name] for name in row.keys() if name != "n"}  # noqa: SIM118


def lengthen(path: Path) -> None:
    """Give a file that was cut short its length back, in zeros: SQLite reads nothing of it otherwise.

    The header has the size of a page at offset 16 and their number at 28 (https://www.sqlite.org/fileformat.html).
    """
    with path.open("r+b") as file:
        header = file.read(100)
        size = int.from_bytes(header[16:18], "big") * int.from_bytes(header[28:32], "big")
        if path.stat().st_size < size <= LARGE:
            file.truncate(size)


def insert(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    try:
        return db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", tuple(row.values())).rowcount
    except sqlite3.DatabaseError:
        return 0
