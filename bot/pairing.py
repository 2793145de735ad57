"""Strangers who ask to be let in. Each is given a code once, by which they can prove to the owner who they are.

The owner is told of each request and decides: knowing whom the stable id belongs to, or having been told the code by
that person another way. A code is made at the moment it leaves and is nowhere on the disk: what waits in the outbox
has a token in its place, and the journal keeps a slow hash of it (scrypt, RFC 7914, salted with the token), since
eight characters could be guessed from a fast one. Whoever asked is not answered again for a month, whatever they send.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from roost.budgets import HOUR, Budget, Budgets
from roost.journal import Journal
from roost.values import Message, Place, Reply

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without 0 O 1 I, which people confuse
VALID = 3600.0  # seconds
AGAIN = 30 * 86400.0  # seconds for which somebody who had an answer gets none
UNCLAIMED = 86400.0  # the same, where there was no owner yet who could have been asked
PENDING = 5  # requests that wait for the owner at a time
WRONG = 5  # codes that one person may get wrong in an hour before being locked out of /approve
TOKEN = re.compile(r"roost-code-[0-9a-f]{32}")
GONE = "(no longer valid)"
KEPT = 100  # codes whose delivery is repeated with the same one

State = Literal["told", "pending", "approved", "denied"]
COLUMNS = "id, person, place, name, at, state, token, hash"


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody who asked to be let in. `name` is what they call themselves; `at` is when the code was made."""

    id: int
    person: str
    place: Place
    name: str
    at: float
    state: State
    token: str
    hash: bytes

    @property
    def fresh(self) -> bool:
        """Whether its code still counts. A clock that was set back makes none count longer."""
        return self.state == "pending" and 0 <= time.time() - self.at < VALID


def new_code() -> str:
    """Eight characters that nobody takes for another: 40 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(8))


def shown(code: str) -> str:
    return f"{code[:4]}-{code[4:]}"


def meant(text: str) -> str:
    """A code as it was made, however somebody has written it."""
    return re.sub(r"[\s-]", "", text).upper()


def is_code(text: str) -> bool:
    return re.fullmatch(f"[{ALPHABET}]{{8}}", meant(text)) is not None


def slow_hash(code: str, token: str) -> bytes:
    return hashlib.scrypt(code.encode(), salt=token.encode(), n=1 << 14, r=8, p=1, dklen=32)


class Pairing:
    """The requests of strangers, and what became of them."""

    def __init__(self, journal: Journal, budgets: Budgets) -> None:
        self._journal = journal
        self._budgets = budgets
        self._codes: OrderedDict[str, str] = OrderedDict()

    # What strangers get

    async def ask(self, message: Message, per_hour: int, pending: bool) -> Request | None:
        """Note that a stranger is answered, as a request that is `pending` or only as `told`.

        None when they were answered before, or when too many others were: then they get silence.
        """
        state: State = "pending" if pending else "told"
        return await self._journal.do(lambda db: self._ask(db, message, per_hour, state))

    def _ask(self, db: sqlite3.Connection, message: Message, per_hour: int, state: State) -> Request | None:
        now, person = time.time(), str(message.sender)
        came = self._journal.seals.hide(message.identity)
        again = db.execute("SELECT id FROM request WHERE person = ? AND message = ?", (person, came)).fetchone()
        if again is not None:  # this very message was being answered when the process died
            return self._one(db, *again)
        if self._answered(db, person, now, state) or self._crowded(db, now, per_hour, state):
            return None
        name = self._journal.seals.seal(message.sender.name, "request.name", person)
        row = (person, str(message.place), name, came, secrets.token_hex(16), now, state)
        sql = "INSERT INTO request (person, place, name, message, token, at, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
        return self._one(db, db.execute(sql, row).lastrowid or 0)

    def _answered(self, db: sqlite3.Connection, person: str, now: float, state: State) -> bool:
        sql = "SELECT at, state FROM request WHERE person = ? ORDER BY id DESC LIMIT 1"
        at, before = db.execute(sql, (person,)).fetchone() or (0.0, "")
        wait = UNCLAIMED if before == "told" and state == "pending" else AGAIN
        return bool(before) and abs(now - at) < wait

    def _crowded(self, db: sqlite3.Connection, now: float, per_hour: int, state: State) -> bool:
        sql = "SELECT count(*) FROM request WHERE abs(? - at) < ?"
        (lately,) = db.execute(sql, (now, HOUR)).fetchone()
        (waiting,) = db.execute(f"{sql} AND state = 'pending'", (now, VALID)).fetchone()
        return lately >= per_hour or (state == "pending" and waiting >= PENDING)

    async def fill(self, place: Place, reply: Reply) -> Reply:
        """Put the code where a reply has the token of a request from its place, at the moment it leaves."""
        found = TOKEN.search(reply.text)
        if found is None:
            return reply
        token = found[0].rpartition("-")[2]
        code = await self._make(token, place)
        return replace(reply, text=reply.text.replace(found[0], shown(code) if code else GONE))

    async def _make(self, token: str, place: Place) -> str:
        """The code of a request, whose hour begins now. It takes the place of one that an earlier process made."""
        code = self._codes.get(token) or new_code()
        row = (await asyncio.to_thread(slow_hash, code, token), time.time(), token, str(place))
        sql = "UPDATE request SET hash = ?, at = ? WHERE token = ? AND place = ? AND state = 'pending'"
        if not await self._journal.do(lambda db: db.execute(sql, row).rowcount):
            return ""
        self._codes[token] = code
        while len(self._codes) > KEPT:
            self._codes.popitem(last=False)
        return code

    # What becomes of them

    async def pending(self) -> list[Request]:
        """The requests that nobody has decided on, oldest first; their codes may count no longer."""
        sql = f"SELECT {COLUMNS} FROM request WHERE state = 'pending' ORDER BY id"
        return await self._journal.do(lambda db: [self._read(*row) for row in db.execute(sql).fetchall()])

    async def by_number(self, number: int) -> Request | None:
        return await self._journal.do(lambda db: self._one(db, number))

    async def by_person(self, person: str) -> Request | None:
        """The last request of somebody."""
        sql = "SELECT id FROM request WHERE person = ? AND state != 'told' ORDER BY id DESC LIMIT 1"

        def find(db: sqlite3.Connection) -> Request | None:
            found = db.execute(sql, (person,)).fetchone()
            return self._one(db, *found) if found else None

        return await self._journal.do(find)

    async def by_code(self, code: str, whom: str) -> Request | None:
        """The request that a code belongs to. Call it only while `whom`, who says it, is not `locked`."""
        fresh = [one for one in await self.pending() if one.fresh and one.hash]
        found = await asyncio.to_thread(_matching, fresh, meant(code))
        if found is None:
            await self._budgets.count(_wrong(whom))
        return found

    async def locked(self, whom: str) -> bool:
        """Whether somebody has got too many codes wrong lately."""
        return await self._budgets.left(_wrong(whom)) <= 0

    async def decide(self, request: Request, state: State) -> bool:
        """Bring a request to its end; False when somebody else already has."""
        row = (state, request.id)
        sql = "UPDATE request SET state = ?, hash = '' WHERE id = ? AND state = 'pending'"
        self._codes.pop(request.token, None)
        return await self._journal.do(lambda db: db.execute(sql, row).rowcount > 0)

    def _one(self, db: sqlite3.Connection, number: int) -> Request | None:
        row = db.execute(f"SELECT {COLUMNS} FROM request WHERE id = ?", (number,)).fetchone()
        return self._read(*row) if row else None

    def _read(self, id: int, person: str, place: str, name: Any, at: float, state: State, *secret: Any) -> Request:
        called = self._journal.seals.text(name, "request.name", person)
        return Request(id, person, Place.parse(place), called, at, state, *secret)


def _matching(requests: Sequence[Request], code: str) -> Request | None:
    """All of them are looked at, so that the time tells nothing."""
    same: Callable[[Request], bool] = lambda one: hmac.compare_digest(one.hash, slow_hash(code, one.token))  # noqa: E731
    return next(iter([one for one in requests if same(one)]), None)


def _wrong(person: str) -> Budget:
    return Budget(person, "wrong codes", HOUR, WRONG)
