"""How much one person, and one place, may ask for in a time: messages that are answered, tokens of the answers.

A window begins with the first message in it and lasts an hour or a day. What is spent is in the journal, so a restart
gives nobody a new one. Whoever has used up a budget is told once; then there is silence until the window has passed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass

from roost.journal import Journal
from roost.settings import AccessTable
from roost.values import Message

HOUR, DAY = 3600, 86400
SPANS = {"hour": HOUR, "day": DAY}  # by the ends of their keys in bot.toml


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `most` of a `unit` for `key`, a person or a place, in a window of `span` seconds."""

    key: str
    unit: str
    span: int
    most: int


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget that is used up: the seconds until it is fresh, and whether that has been said."""

    wait: float
    told: bool


class Budgets:
    """What has been spent. Times are seconds since the epoch."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def take(self, message: Message, rules: AccessTable) -> Spent | None:
        """Count a message; what is used up already, if anything, and then it is not counted."""
        budgets = list(of(message, rules))
        if not budgets:
            return None
        messages = {one: 1 if one.unit.endswith("messages") else 0 for one in budgets}
        return await self._journal.do(lambda db: take(db, messages, time.time()))

    def metered(self, message: Message, rules: AccessTable) -> bool:
        """Whether the tokens of an answer count."""
        return any(one.unit.endswith("tokens") for one in of(message, rules))

    async def spend(self, message: Message, rules: AccessTable, tokens: int) -> None:
        """Count the tokens of an answer, and of what was read for it, when they are known."""
        counted = {one: tokens for one in of(message, rules) if one.unit.endswith("tokens")}
        if counted:
            await self._journal.do(lambda db: add(db, counted, time.time()))

    async def left(self, budget: Budget) -> int:
        """What is left of a budget now."""
        return await self._journal.do(lambda db: budget.most - amount(db, budget, time.time()))

    async def count(self, budget: Budget) -> None:
        """Count one more of something."""
        await self._journal.do(lambda db: add(db, {budget: 1}, time.time()))


def of(message: Message, rules: AccessTable) -> Iterator[Budget]:
    """The budgets that a message falls under. What bot.toml gives as 0 is without limit."""
    for whose, key in (("", str(message.sender)), ("place_", str(message.place))):
        for unit in ("messages", "tokens"):
            for end, span in SPANS.items():
                if most := getattr(rules, f"{whose}{unit}_per_{end}"):
                    yield Budget(key, f"{whose}{unit}", span, most)


def take(db: sqlite3.Connection, amounts: dict[Budget, int], now: float) -> Spent | None:
    """Add to budgets if all of them have something left; otherwise say of the one that lasts longest."""
    empty = [one for one in amounts if amount(db, one, now) >= one.most]
    if not empty:
        add(db, amounts, now)
        return None
    rows = [_row(db, one) for one in empty]
    spent = Spent(
        max(began + one.span - now for one, (began, _, _) in zip(empty, rows, strict=True)),
        all(told for _, _, told in rows),
    )
    sql = "UPDATE spent SET told = 1 WHERE key = ? AND unit = ? AND span = ?"
    db.executemany(sql, [(one.key, one.unit, one.span) for one in empty])
    return spent


def add(db: sqlite3.Connection, amounts: dict[Budget, int], now: float) -> None:
    sql = "INSERT OR REPLACE INTO spent (key, unit, span, began, amount, told) VALUES (?, ?, ?, ?, ?, ?)"
    for one, more in amounts.items():
        before = amount(db, one, now)
        began, _, told = _row(db, one) if before else (now, 0, 0)
        db.execute(sql, (one.key, one.unit, one.span, began, before + more, told))


def amount(db: sqlite3.Connection, budget: Budget, now: float) -> int:
    """What was spent in the window that is open. A clock that was set back begins the window again, as full as it was.

    Set forward, it ends it: nobody who talks to the bot can do either.
    """
    began, spent, _ = _row(db, budget)
    if began > now:
        sql = "UPDATE spent SET began = ? WHERE key = ? AND unit = ? AND span = ?"
        db.execute(sql, (now, budget.key, budget.unit, budget.span))
        return spent
    return spent if now - began < budget.span else 0


def _row(db: sqlite3.Connection, budget: Budget) -> tuple[float, int, int]:
    sql = "SELECT began, amount, told FROM spent WHERE key = ? AND unit = ? AND span = ?"
    row: tuple[float, int, int] | None = db.execute(sql, (budget.key, budget.unit, budget.span)).fetchone()
    return row or (0.0, 0, 0)
