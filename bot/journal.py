"""The journal: what came in, what goes out, and what became of each.

One SQLite file in WAL mode, written by one thread. Every method returns only after its transaction is committed.

    inbox    one row a message or event; `outcome` is NULL until it ends as reply, notice or silent
    outbox   one row a part of a reply; waiting -> sending -> sent, or dead -> revived or dropped
    person   who has been let in or blocked; `alias`: who is the same person on another channel
    request  who asked to be let in; `seat`: where the owners were last; `spent`: what has been used of budgets
    state    what plugins keep between two messages of a person in a place
    wish     what the command line asks of a running bot, and its answer
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from roost.contracts import Said
from roost.errors import StoreError
from roost.home import TYPED
from roost.letters import come_back
from roost.rows import (
    OPEN,
    Open,
    Part,
    emptied,
    encode,
    encode_reply,
    identity,
    kind_of,
    read_open,
    read_parts,
    said_by,
    said_by_bot,
    said_by_person,
    write_parts,
)
from roost.schema import connect_whole
from roost.sealing import Seals
from roost.values import Event, Message, Person, Place, Reply, Sent
from roost.writer import Operation, Writer

if TYPE_CHECKING:
    from roost.cipher import Cipher

T = TypeVar("T")
log = logging.getLogger("roost.journal")

Outcome = Literal["reply", "notice", "silent"]
StateChange = tuple[Place, Person, dict[str, tuple[bytes, float] | None]]

CHECKPOINT_TRIES = 50
# A part stays as long as the message it answers, so that the books balance also when the clock was set back.
GONE = "state IN ('sent', 'dropped') AND (seq IS NULL OR seq NOT IN (SELECT seq FROM inbox))"
PRUNED = 1000  # rows dropped in one transaction
PAGE = 500  # rows read at a time
CHANNEL = "substr(place, 1, instr(place, ':') - 1)"


class Journal:
    """What was accepted and what was answered, safe on disk.

    With a `cipher`, which may be set until it is opened, what was said is sealed; `seals` is what does that.
    """

    def __init__(self, path: Path, synchronous: str = "full", cipher: Cipher | None = None) -> None:
        self.path = path
        self.cipher = cipher
        self.seals = Seals(cipher)
        self._writer = Writer(lambda: connect_whole(path, synchronous, self.cipher))

    async def open(self) -> None:
        """Open or create the file and bring its schema up to date. Raises StoreError."""
        self.seals = Seals(self.cipher)
        try:
            await self._writer.open()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The journal '{self.path}' cannot be opened: {error}.") from error

    async def close(self) -> None:
        """Commit what waits and close the file."""
        await self._writer.close()

    async def do(self, operation: Operation[T], alone: bool = False) -> T:
        """Run an operation in a transaction of the journal's own. Raises StoreError."""
        try:
            return await self._writer.do(operation, alone)
        except sqlite3.Error as error:
            raise StoreError(f"The journal '{self.path}' failed: {error}.") from error

    async def version(self) -> int:
        """A number that is another once another process has written into the file."""
        found: int = await self.do(lambda db: db.execute("PRAGMA data_version").fetchone()[0])
        return found

    # Inbox

    async def accept(self, item: Message | Event) -> int | None:
        """Write down what came in and return its number, or None when it was here before."""
        place = str(item.place)
        body = self.seals.seal(encode(item), "inbox.body", place)
        row = (item.place.channel, self.seals.hide(identity(item)), place, kind_of(item), time.time(), body)

        def insert(db: sqlite3.Connection) -> int | None:
            sql = "INSERT OR IGNORE INTO inbox (channel, identity, place, kind, at, body) VALUES (?, ?, ?, ?, ?, ?)"
            cursor = db.execute(sql, row)
            return cursor.lastrowid if cursor.rowcount else None

        return await self.do(insert)

    async def unanswered(self, channel: str, after: int = 0) -> list[Open]:
        """What was accepted on a channel and has not ended, oldest first: the next of it with numbers above `after`.

        A preview without ids was being sent when the process died: it may be there or not.
        """
        sql = f"SELECT {OPEN} FROM inbox WHERE outcome IS NULL AND channel = ? AND seq > ? ORDER BY seq LIMIT {PAGE}"

        def read(db: sqlite3.Connection) -> list[Open]:
            while rows := db.execute(sql, (channel, after)).fetchall():
                if items := read_open(db, self.seals, rows):
                    return items
            return []

        return await self.do(read)

    async def open_item(self, seq: int) -> Open | None:
        """One of these by its number, None when it has ended."""
        sql = f"SELECT {OPEN} FROM inbox WHERE outcome IS NULL AND seq = ?"
        found = await self.do(lambda db: read_open(db, self.seals, db.execute(sql, (seq,)).fetchall()))
        return found[0] if found else None

    async def preview(self, seq: int, sent: Sent) -> None:
        """Write down the preview of this message's answer: without ids before it leaves, with them after."""
        ids = msgspec.json.encode(sent.ids).decode()
        await self.do(lambda db: db.execute("UPDATE inbox SET draft = ? WHERE seq = ?", (ids, seq)))

    async def finish(
        self,
        seq: int,
        outcome: Outcome,
        replies: Sequence[tuple[Place, Reply]],
        reason: str = "",
        draft: Sent | None = None,
        unsure: bool = False,
        collected: Sequence[int] = (),
        state: StateChange | None = None,
    ) -> list[Part]:
        """End a message: its outcome and the parts of its reply, in one transaction.

        `collected` are messages that this reply answers as well: they end in silence, which says so.

        `draft` is the preview that the first part replaces; `unsure` says that one may be on the screen already.
        `state` is what changed in the state of the dialogue.
        """

        def end(db: sqlite3.Connection) -> list[Part]:
            sql = "UPDATE inbox SET outcome = ?, reason = ? WHERE seq = ?"
            db.execute(sql, (outcome, reason, seq))
            db.executemany(sql, [("silent", f"answered with {seq}", other) for other in collected])
            if state is not None:
                write_state(db, self.seals, state)
            return write_parts(db, self.seals, seq, replies, draft, unsure)

        return await self.do(end)

    # Outbox

    async def post(self, replies: Sequence[tuple[Place, Reply]]) -> list[Part]:
        """Write parts that answer no message."""
        return await self.do(lambda db: write_parts(db, self.seals, None, replies))

    async def interrupted(self) -> None:
        """After a start: what was being sent when the process died may have arrived or not."""

        def note(db: sqlite3.Connection) -> None:
            db.execute("UPDATE outbox SET unsure = 1, state = 'waiting' WHERE state = 'sending'")
            db.execute("UPDATE outbox SET state = 'waiting' WHERE state = 'revived'")
            lost = "UPDATE outbox SET state = 'dead', error = 'unreadable' WHERE state = 'waiting'"
            db.execute(f"{lost} AND instr(place, ':') < 2")  # no channel would ever ask for it

        await self.do(note)

    async def unsent(self, channel: str, after: int = 0) -> list[Part]:
        """Parts still to be delivered on a channel, oldest first: the next of them with numbers above `after`."""
        condition = f"state = 'waiting' AND {CHANNEL} = ? AND id > ? ORDER BY id LIMIT {PAGE}"
        return await self.do(lambda db: read_parts(db, self.seals, condition, (channel, after)))

    async def part(self, id: int) -> Part | None:
        """A part that is still to be delivered."""
        condition = "state IN ('waiting', 'sending') AND id = ?"
        found = await self.do(lambda db: read_parts(db, self.seals, condition, (id,)))
        return found[0] if found else None

    async def waiting(self) -> dict[str, int]:
        """How many messages and parts wait, by channel."""
        sql = (
            "SELECT channel, count(*) FROM inbox WHERE outcome IS NULL GROUP BY 1 UNION ALL "
            f"SELECT {CHANNEL}, count(*) FROM outbox WHERE state IN ('waiting', 'sending', 'revived') GROUP BY 1"
        )
        counts: Counter[str] = Counter()
        for channel, count in await self.do(lambda db: db.execute(sql).fetchall()):
            counts[channel] += count
        return dict(counts)

    async def revived(self) -> list[Part]:
        """Dead letters that a person wants sent again."""

        def read(db: sqlite3.Connection) -> list[Part]:
            parts = read_parts(db, self.seals, "state = 'revived' ORDER BY id")
            if parts:
                db.execute("UPDATE outbox SET state = 'waiting' WHERE state = 'revived'")
            return parts

        return await self.do(read)

    async def sending(self, part: Part) -> None:
        """Write down that a part is about to leave."""
        await self.do(lambda db: db.execute("UPDATE outbox SET state = 'sending' WHERE id = ?", (part.id,)))

    async def sent(self, part: Part, sent: Sent) -> None:
        """Write down that a part has arrived. Its files are not kept, only what they were."""
        ids = msgspec.json.encode(sent.ids).decode()
        sql = "UPDATE outbox SET state = 'sent', sent = ?, error = '' WHERE id = ?"
        await self.do(lambda db: db.execute(sql, (ids, part.id)))
        if any(one.data for one in part.reply.attachments):
            light = encode_reply(replace(part.reply, attachments=tuple(map(emptied, part.reply.attachments))))
            body = self.seals.seal(light, "outbox.body", str(part.place))
            await self.do(lambda db: db.execute("UPDATE outbox SET body = ? WHERE id = ?", (body, part.id)))

    async def put_off(self, part: Part, due: float, error: str) -> None:
        """Write down that a part will be tried again at `due`, and what went wrong."""
        row = (part.tries, due, part.unsure, self.seals.seal(error, "outbox.error", str(part.place)), part.id)
        sql = "UPDATE outbox SET state = 'waiting', tries = ?, due = ?, unsure = ?, error = ? WHERE id = ?"
        await self.do(lambda db: db.execute(sql, row))

    async def bury(self, part: Part, error: str) -> None:
        """Give up on a part: it becomes a dead letter that a person can read and resend."""
        sql = "UPDATE outbox SET state = 'dead', error = ? WHERE id = ?"
        row = (self.seals.seal(error, "outbox.error", str(part.place)), part.id)
        await self.do(lambda db: db.execute(sql, row))

    async def undelivered(self, channel: str, id: str, error: str) -> str | None:
        """Make a message that was sent, by the platform's id, a dead letter; returns its place, None if unknown."""
        return await self.do(lambda db: come_back(db, self.seals, channel, id, error))

    # People

    async def people(self) -> dict[str, str]:
        """Who has been let in: the role by `str(person)`."""
        sql = "SELECT id, role FROM person WHERE role != 'stranger'"
        return dict(await self.do(lambda db: db.execute(sql).fetchall()))

    async def let_in(self, id: str, role: str, name: str) -> None:
        """Write down who somebody is from now on; whoever was blocked no longer is."""
        sql = "INSERT OR REPLACE INTO person (id, role, name, since) VALUES (?, ?, ?, ?)"
        row = (id, role, self.seals.seal(name, "person.name", id), time.time())
        await self.do(lambda db: db.execute(sql, row))

    # For people to read

    async def history(self, place: Place, limit: int, bot_name: str = "") -> list[Said]:
        """The last `limit` lines of a place as a person saw them, oldest first."""
        key, seals = str(place), self.seals

        def read(db: sqlite3.Connection) -> list[Said]:
            came = db.execute(
                "SELECT at, body FROM inbox WHERE place = ? AND kind = 'message' AND body != ''"
                " ORDER BY seq DESC LIMIT ?",
                (key, limit),
            )
            said = [said_by_person(at, seals.open(body, "inbox.body", key)) for at, body in came.fetchall()[::-1]]
            went = db.execute(
                "SELECT at, body, id, sent, draft FROM outbox WHERE place = ? AND state NOT IN ('dead', 'dropped')"
                " ORDER BY id DESC LIMIT ?",
                (key, limit),
            )
            for at, body, *row in went.fetchall()[::-1]:
                said.append(said_by_bot(at, seals.open(body, "outbox.body", key), *row, name=bot_name))
            return sorted((line for line in said if line is not None), key=lambda line: line.at)[-limit:]

        return await self.do(read)

    async def answered(self, place: Place, id: str) -> str | None:
        """The id of the message that the bot's own message `id` answers; None when that is not known."""
        sql = (
            "SELECT inbox.body, inbox.place FROM outbox JOIN inbox ON inbox.seq = outbox.seq WHERE outbox.place = ?"
            " AND outbox.sent LIKE '[%' AND EXISTS (SELECT 1 FROM json_each(outbox.sent) WHERE value = ?)"
        )
        row = await self.do(lambda db: db.execute(sql, (str(place), id)).fetchone())
        said = said_by_person(0.0, self.seals.open(row[0], "inbox.body", row[1])) if row else None
        return said.id if said else None

    async def forget(self, place: Place) -> None:
        """Erase the texts of a place; the ids stay so that a late duplicate is still recognized."""
        key = str(place)

        def erase(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inbox SET body = '', reason = 'forgotten' WHERE place = ? AND outcome IS NOT NULL", (key,)
            )
            db.execute("DELETE FROM outbox WHERE place = ? AND state IN ('sent', 'dead', 'dropped')", (key,))
            db.execute("DELETE FROM state WHERE place = ?", (key,))

        await self.do(erase)
        await self._erase_traces()

    async def forget_person(self, person: str) -> None:
        """Erase what a person (`str(person)`) said anywhere, the answers to it, and what plugins keep for them."""

        def erase(db: sqlite3.Connection) -> None:
            rows = db.execute("SELECT seq, kind, body, place FROM inbox WHERE outcome IS NOT NULL AND body != ''")
            opened = ((seq, kind, self.seals.open(body, "inbox.body", place)) for seq, kind, body, place in rows)
            for seq in [seq for seq, kind, body in opened if said_by(person, kind, body)]:
                db.execute("UPDATE inbox SET body = '', reason = 'forgotten' WHERE seq = ?", (seq,))
                db.execute("DELETE FROM outbox WHERE seq = ? AND state IN ('sent', 'dead', 'dropped')", (seq,))
            db.execute("DELETE FROM state WHERE person = ?", (person,))
            db.execute("UPDATE request SET name = '' WHERE person = ?", (person,))

        await self.do(erase)
        await self._erase_traces()

    async def _erase_traces(self) -> None:
        """Erase what was erased from where it still is: what was typed at the terminal, the write-ahead log, and
        damaged journals set aside."""
        (self.path.parent / TYPED).unlink(missing_ok=True)
        for aside in self.path.parent.glob("journal.damaged-*"):
            log.warning("'%s' is removed: it may hold what was to be forgotten.", aside)
            aside.unlink(missing_ok=True)
        # The write-ahead log still holds what was erased: fold it in and cut it off, once nobody reads it.
        for _ in range(CHECKPOINT_TRIES):
            busy = await self.do(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0], alone=True)
            if not busy:
                return
            await asyncio.sleep(0.1)
        log.warning("Another program reads the journal, so what was erased stays in '%s-wal' for now.", self.path)

    async def prune(self, days: float) -> int:
        """Drop what ended more than `days` ago; returns the number of rows. In small steps, to hold nobody up."""
        before, rows = time.time() - days * 86400, 0
        for table, ended in (("inbox", "outcome IS NOT NULL"), ("outbox", GONE)):
            dropped = PRUNED
            while dropped == PRUNED:
                sql = f"SELECT rowid FROM {table} WHERE {ended} AND at < {before} LIMIT {PRUNED}"
                sql = f"DELETE FROM {table} WHERE rowid IN ({sql})"
                dropped = await self.do(functools.partial(_changed, sql))
                rows += dropped
        await self.do(lambda db: db.execute("DELETE FROM state WHERE ends < ?", (time.time(),)))
        await self.do(lambda db: db.execute("DELETE FROM wish WHERE at < ?", (time.time() - 86400,)))
        await self.do(lambda db: db.execute("DELETE FROM spent WHERE began < ?", (time.time() - 2 * 86400,)))
        await self.do(lambda db: db.execute("DELETE FROM request WHERE at < ?", (time.time() - 30 * 86400,)))
        return rows


def write_state(db: sqlite3.Connection, seals: Seals, change: StateChange) -> None:
    place, person, values = change
    for name, value in values.items():
        key = (str(place), str(person), name)
        if value is None:
            db.execute("DELETE FROM state WHERE place = ? AND person = ? AND name = ?", key)
        else:
            row = (*key, seals.seal(value[0], "state.value", *key), value[1])
            db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)", row)


def _changed(sql: str, db: sqlite3.Connection) -> int:
    return db.execute(sql).rowcount
