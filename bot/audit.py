"""`roost journal check`: whether every accepted message has come to exactly one end."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from roost.letters import opened

if TYPE_CHECKING:
    from roost.cipher import Cipher

# What must not be, and how to say it. Each query gives one row an exception.
RULES = (
    (
        "SELECT seq FROM inbox WHERE outcome IN ('reply', 'notice')"
        " AND at > (SELECT coalesce(min(at), 0) FROM outbox)"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = inbox.seq) AND body != ''",
        "message {} ended as answered, but no part of an answer was ever written",
    ),
    (
        "SELECT seq FROM inbox WHERE outcome = 'silent' AND reason = ''",
        "message {} ended in silence without a reason",
    ),
    (
        "SELECT seq FROM inbox WHERE outcome = 'silent' AND EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = inbox.seq)",
        "message {} ended in silence, but an answer was written",
    ),
    (
        "SELECT id FROM outbox WHERE seq IS NOT NULL AND seq IN (SELECT seq FROM inbox WHERE outcome IS NULL)",
        "part {} answers a message that has not ended",
    ),
    (
        "SELECT id FROM outbox WHERE state NOT IN ('waiting', 'sending', 'sent', 'dead', 'revived', 'dropped')",
        "part {} is in a state that does not exist",
    ),
)


@dataclass(slots=True)
class Audit:
    """Counts, what is still under way, and what must not be."""

    accepted: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    oldest_open: float = 0.0
    exceptions: list[str] = field(default_factory=list)

    @property
    def open(self) -> int:
        return self.outcomes.get("open", 0)

    def lines(self) -> list[str]:
        """The report, for a person."""
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        sent = ", ".join(f"{count} {name}" for name, count in sorted(self.parts.items()))
        said = [f"{self.accepted} accepted: {ends or 'none'}", f"{sum(self.parts.values())} parts: {sent or 'none'}"]
        if self.open:
            age = time.time() - self.oldest_open
            said.append(f"{self.open} under way, the oldest for {age:.0f} s; a start of the bot answers them")
        return said + [f"WRONG: {one}" for one in self.exceptions]


def audit(path: Path, cipher: Cipher | None = None) -> Audit:
    """Check a journal, in use or not. Raises StoreError when it cannot be read at all."""
    with opened(path, cipher) as db:
        db.execute("BEGIN")  # one moment for all the questions
        found = Audit(*_counts(db))
        (damage,) = db.execute("PRAGMA quick_check(1)").fetchone()
        found.exceptions += [] if damage == "ok" else [f"the file is damaged: {damage}"]
        for query, sentence in RULES:
            found.exceptions += [sentence.format(number) for (number,) in db.execute(query)]
        return found


def _counts(db: sqlite3.Connection) -> tuple[int, dict[str, int], dict[str, int], float]:
    ends = dict(db.execute("SELECT coalesce(outcome, 'open'), count(*) FROM inbox GROUP BY 1").fetchall())
    parts = dict(db.execute("SELECT state, count(*) FROM outbox GROUP BY 1").fetchall())
    (oldest,) = db.execute("SELECT coalesce(min(at), 0) FROM inbox WHERE outcome IS NULL").fetchone()
    return sum(ends.values()), ends, parts, oldest
