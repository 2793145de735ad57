"""What a plugin keeps for good: reminders, notes, the feeds of a place. In the journal, encrypted if that is.

shelf = bot.shelf("notes")
await shelf.put("1", {"text": "milk"}, message.place, message.sender)
for one in await shelf.all(place=message.place): one.value["text"]

What is kept for a place or person is gone when that is forgotten.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec

from roost.journal import Journal
from roost.state import LARGEST
from roost.values import Person, Place

FOREVER = 1e18  # seconds since the epoch
PREFIX = "shelf/"


@dataclass(frozen=True, slots=True)
class Item:
    """A value as JSON knows it, under a key of the plugin's, for a place and a person as far as it was given one."""

    key: str
    value: Any
    place: str = ""
    person: str = ""


class Shelf:
    """Of one plugin."""

    def __init__(self, journal: Journal, plugin: str) -> None:
        self._journal = journal
        self._prefix = f"{PREFIX}{plugin}/"

    async def put(self, key: str, value: Any, place: Place | str = "", person: Person | str = "") -> None:
        """Keep a value in place of the one before. Raises ValueError when it is more than 64 KB as JSON."""
        row = msgspec.json.encode(value)
        if len(row) > LARGEST:
            raise ValueError(f"What is kept as '{key}' has {len(row)} bytes; {LARGEST} are allowed.")
        whose = (str(place), str(person), self._prefix + key)
        sealed = self._journal.seals.seal(row, "state.value", *whose)
        sql = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)"
        await self._journal.do(lambda db: db.execute(sql, (*whose, sealed, FOREVER)))

    async def drop(self, item: Item) -> None:
        whose = (item.place, item.person, self._prefix + item.key)
        sql = "DELETE FROM state WHERE place = ? AND person = ? AND name = ?"
        await self._journal.do(lambda db: db.execute(sql, whose))

    async def all(self, place: Place | str = "", person: Person | str = "") -> list[Item]:
        """Everything, or what is kept for a place, or for a person; by key."""
        sql = "SELECT place, person, name, value FROM state WHERE substr(name, 1, ?) = ?"
        values: list[Any] = [len(self._prefix), self._prefix]
        for column, wanted in (("place", str(place)), ("person", str(person))):
            if wanted:
                sql += f" AND {column} = ?"
                values.append(wanted)
        rows = await self._journal.do(lambda db: _rows(db, sql, values))
        opened = (
            (place, person, name, self._journal.seals.open(value, "state.value", place, person, name))
            for place, person, name, value in rows
        )
        items = [Item(name[len(self._prefix) :], msgspec.json.decode(v), p, who) for p, who, name, v in opened if v]
        return sorted(items, key=lambda one: (len(one.key), one.key))

    async def get(self, key: str, place: Place | str = "", person: Person | str = "") -> Any:
        """The value of a key, None when there is none."""
        whose = (str(place), str(person))
        found = (one.value for one in await self.all(*whose) if one.key == key and (one.place, one.person) == whose)
        return next(found, None)


def _rows(db: sqlite3.Connection, sql: str, values: list[Any]) -> list[Any]:
    return db.execute(sql, values).fetchall()
