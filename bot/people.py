"""Who is the same person on several channels."""

from __future__ import annotations

import sqlite3

from roost.journal import Journal


class People:
    """Persons are known by `str(person)`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

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
