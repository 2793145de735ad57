"""The states of all dialogues, in the journal. Who has none costs nothing."""

from __future__ import annotations

import time

from roost.asking import PENDING
from roost.journal import Journal, StateChange
from roost.shelf import PREFIX
from roost.state import State
from roost.values import Message

OWN = f"substr(name, 1, {len(PREFIX)}) != '{PREFIX}'"  # what plugins keep for good is theirs to read


class States:
    """Reads a message's state and gathers what became of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: set[tuple[str, str]] = set()

    async def load(self) -> None:
        sql = f"SELECT DISTINCT place, person FROM state WHERE {OWN}"
        self._known = set(await self._journal.do(lambda db: db.execute(sql).fetchall()))

    async def of(self, message: Message) -> State:
        if (str(message.place), str(message.sender)) not in self._known:
            return State()
        sql = f"SELECT name, value FROM state WHERE place = ? AND person = ? AND ends > ? AND {OWN}"
        whose = (str(message.place), str(message.sender))
        rows = await self._journal.do(lambda db: db.execute(sql, (*whose, time.time())).fetchall())
        opened = ((name, self._journal.seals.open(value, "state.value", *whose, name)) for name, value in rows)
        return State({name: value for name, value in opened if value})

    def changed(self, message: Message, failed: bool = False) -> StateChange | None:
        """What is to be written with the end of this message; None when nothing has changed.

        What failed changes nothing, but that nothing is asked any more: it would fail with each answer again.
        """
        changes = message.state.changes()
        if failed:
            changes = {name: None for name in changes if name == PENDING}
        if not changes:
            return None
        self._known.add((str(message.place), str(message.sender)))
        return message.place, message.sender, changes
