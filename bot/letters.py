"""Dead letters: messages that could not be delivered, for a person to read, send again or drop.

People work on the journal's file, whether a bot runs on it or not; a running bot finds revived letters by itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from roost.degrade import append
from roost.errors import StoreError
from roost.markdown import Paragraph, Text
from roost.rows import Part, encode_reply, read_parts
from roost.schema import File, connect
from roost.sealing import Seals
from roost.values import Reply

if TYPE_CHECKING:
    from roost.cipher import Cipher


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that was given up. `at` is when it was written, in seconds since the epoch."""

    id: int
    place: str
    at: float
    tries: int
    error: str
    text: str


@contextlib.contextmanager
def opened(path: Path, cipher: Cipher | None = None) -> Iterator[File]:
    """The journal's file. Raises StoreError when there is none or it cannot be read, or not with this key."""
    if not path.is_file():
        raise StoreError(f"There is no journal '{path}' yet.")
    try:
        with contextlib.closing(connect(path, cipher=cipher)) as db:
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"The journal '{path}' cannot be read: {error}.") from error


def dead(path: Path, id: int | None = None, cipher: Cipher | None = None) -> list[Letter]:
    """The dead letters, oldest first, or the one with this number."""
    sql = "SELECT id, place, at, tries, error, body FROM outbox WHERE state = 'dead' AND ? IN (id, 0) ORDER BY id"
    with opened(path, cipher) as db:
        rows = db.execute(sql, (id or 0,)).fetchall()
        return [_letter(db.seals, *row) for row in rows]


def _letter(seals: Seals, id: int, place: str, at: float, tries: int, error: Any, body: Any) -> Letter:
    try:
        text = msgspec.json.decode(seals.open(body, "outbox.body", place), type=Reply).text
    except msgspec.MsgspecError:
        text = "(unreadable)"
    return Letter(id, place, at, tries, seals.text(error, "outbox.error", place), text)


def resend(path: Path, id: int | None = None, cipher: Cipher | None = None) -> int:
    """Have dead letters tried again; returns how many. They go out anew, so their age begins anew too."""
    sql = "UPDATE outbox SET state = 'revived', tries = 0, due = 0, at = ? WHERE state = 'dead' AND ? IN (id, 0)"
    with opened(path, cipher) as db:
        return db.execute(sql, (time.time(), id or 0)).rowcount


def drop(path: Path, id: int | None = None, cipher: Cipher | None = None) -> int:
    """Delete the texts of dead letters for good; returns how many. That there were some stays written."""
    sql = "UPDATE outbox SET state = 'dropped', body = '' WHERE state = 'dead' AND ? IN (id, 0)"
    with opened(path, cipher) as db:
        dropped = db.execute(sql, (id or 0,)).rowcount
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the write-ahead log still holds the texts
        return dropped


def come_back(db: sqlite3.Connection, seals: Seals, channel: str, id: str, error: str) -> str | None:
    """Make the message with the platform's id `id` a dead letter, if it was sent; returns its place.

    None when the channel has sent no such message, or it is known to have come back. As it is nowhere on the screen,
    sending it again edits and marks nothing.
    """
    condition = (
        "state = 'sent' AND place >= ? AND place < ? AND sent LIKE '[%'"
        " AND EXISTS (SELECT 1 FROM json_each(outbox.sent) WHERE value = ?)"
    )
    place = None
    for part in read_parts(db, seals, condition, (f"{channel}:", f"{channel};", id)):
        place = str(part.place)
        body = seals.seal(encode_reply(_without_files(part)), "outbox.body", place)
        row = (seals.seal(error, "outbox.error", place), body, part.id)
        db.execute("UPDATE outbox SET state = 'dead', draft = '', unsure = 0, error = ?, body = ? WHERE id = ?", row)
    return place


def _without_files(part: Part) -> Reply:
    """The message, in which lines stand for the files that were not kept once they were sent."""
    gone = [one for one in part.reply.attachments if one.data is None and not one.url]
    lines = (Paragraph((Text(f"[{f'{one.kind} {one.name}'.strip()}: it was not kept]"),)) for one in gone)
    kept = tuple(one for one in part.reply.attachments if one not in gone)
    return replace(part.reply, text=append(part.reply.text, lines), attachments=kept)
