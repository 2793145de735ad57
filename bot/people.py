"""Whom the bot knows, as what, and who is the same person on several channels."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import cast

from roost.journal import Journal
from roost.roles import Role


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody who was let in, or blocked: `name` as they called themselves then, `since` in seconds since the epoch.

    A stranger is here only while blocked.
    """

    id: str
    role: Role
    name: str = ""
    since: float = 0.0
    blocked: bool = False


class People:
    """Persons are known by `str(person)`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def known(self) -> list[Known]:
        """Everybody who was let in or blocked, in the order in which it happened."""
        sql = "SELECT id, role, name, since, blocked FROM person ORDER BY since, id"
        rows = await self._journal.do(lambda db: db.execute(sql).fetchall())
        text = self._journal.seals.text
        return [
            Known(id, cast(Role, role), text(name, "person.name", id), since, bool(blocked))
            for id, role, name, since, blocked in rows
        ]

    async def block(self, person: str, blocked: bool = True) -> None:
        """Block a person, or no longer; what they were before is kept."""

        def write(db: sqlite3.Connection) -> None:
            sql = "INSERT OR IGNORE INTO person (id, role, since) VALUES (?, 'stranger', ?)"
            db.execute(sql, (person, time.time()))
            db.execute("UPDATE person SET blocked = ? WHERE id = ?", (blocked, person))
            db.execute("DELETE FROM person WHERE role = 'stranger' AND NOT blocked")

        await self._journal.do(write)

    async def remove(self, person: str) -> bool:
        """Let a person be a stranger again; False when they were one."""
        sql = "DELETE FROM person WHERE id = ?"
        return await self._journal.do(lambda db: db.execute(sql, (person,)).rowcount > 0)

    async def others(self, person: str) -> list[str]:
        """Who this person is, on every channel: themselves first."""
        sql = (
            "SELECT person FROM alias WHERE first IN (SELECT first FROM alias WHERE person = ?) AND person != ?"
            " ORDER BY person"
        )
        found = await self._journal.do(lambda db: db.execute(sql, (person, person)).fetchall())
        return [person, *(other for (other,) in found)]

    async def join(self, person: str, other: str) -> None:
        """Write down that two are the same person, and so are all who are one of them."""
        same = sorted({*await self.others(person), *await self.others(other)})
        sql = "INSERT OR REPLACE INTO alias (person, first) VALUES (?, ?)"
        await self._journal.do(lambda db: db.executemany(sql, [(one, same[0]) for one in same]))

    async def part_from(self, person: str) -> bool:
        """Write down that a person is nobody else any more; False when nothing else was written."""
        others = [one for one in await self.others(person) if one != person]

        def split(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM alias WHERE person = ?", (person,))
            db.executemany("UPDATE alias SET first = ? WHERE person = ?", [(others[0], one) for one in others])
            if len(others) == 1:
                db.execute("DELETE FROM alias WHERE person = ?", (others[0],))

        if others:
            await self._journal.do(split)
        return bool(others)

    async def all(self) -> list[list[str]]:
        """The groups of persons who are one."""
        rows = await self._journal.do(lambda db: db.execute("SELECT first, person FROM alias ORDER BY 1, 2").fetchall())
        groups: dict[str, list[str]] = {}
        for first, person in rows:
            groups.setdefault(first, []).append(person)
        return list(groups.values())
