"""The states of all dialogues, in the journal. Who has none costs nothing."""

from __future__ import annotations

import time

from roost.journal import Journal, StateChange
from roost.state import State
from roost.values import Message


class States:
    """Reads a message's state and gathers what became of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: set[tuple[str, str]] = set()

    async def load(self) -> None:
        sql = "SELECT DISTINCT place, person FROM state"
        self._known = set(await self._journal.do(lambda db: db.execute(sql).fetchall()))

    async def of(self, message: Message) -> State:
        if (str(message.place), str(message.sender)) not in self._known:
            return State()
        sql = "SELECT name, value FROM state WHERE place = ? AND person = ? AND ends > ?"
        whose = (str(message.place), str(message.sender))
        rows = await self._journal.do(lambda db: db.execute(sql, (*whose, time.time())).fetchall())
        opened = ((name, self._journal.seals.open(value, "state.value", *whose, name)) for name, value in rows)
        return State({name: value for name, value in opened if value})

    def changed(self, message: Message) -> StateChange | None:
        """What is to be written with the end of this message; None when nothing has changed."""
        changes = message.state.changes()
        if not changes:
            return None
        self._known.add((str(message.place), str(message.sender)))
        return message.place, message.sender, changes
