"""The journal alone: how many messages a second it makes durable, and how long each waits for that."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import statistics
import time
from pathlib import Path

from bench.figures import Report, percentile
from bench.processes import scratch
from roost.journal import Journal
from roost.values import Message, Person, Place

ACCEPTERS = (1, 8, 64)
SECONDS = 1.0
BARE = "bare SQLite, a commit each"


def measure(rounds: int) -> Report:
    report = Report("journal", f"Accepting messages, each committed, {SECONDS:g} s a cell", "full", BARE)
    for _ in range(rounds):
        for accepters in ACCEPTERS:
            for synchronous in ("full", "normal"):
                with scratch() as folder:
                    waits = asyncio.run(accept(folder / "journal.db", synchronous, accepters))
                add(report, accepters, synchronous, waits)
            if accepters == 1:
                with scratch() as folder:
                    add(report, 1, BARE, insert(folder / "bare.db"))
    return report


def add(report: Report, accepters: int, name: str, waits: list[float]) -> None:
    report.add(f"{accepters} at once, messages a second", "1/s", name, len(waits) / SECONDS)
    report.add(f"{accepters} at once, median", "ms", name, 1000 * statistics.median(waits))
    report.add(f"{accepters} at once, p99", "ms", name, 1000 * percentile(waits, 0.99))


async def accept(path: Path, synchronous: str, accepters: int) -> list[float]:
    """Accept for some seconds, `accepters` at the same time, each one after another."""
    journal = Journal(path, synchronous)
    await journal.open()
    waits: list[float] = []
    numbers, end = itertools.count(), time.perf_counter() + SECONDS

    async def go_on(place: Place) -> None:
        while (begun := time.perf_counter()) < end:
            person = Person("bench", "1", "Ann")
            await journal.accept(Message(str(next(numbers)), place, person, "A message of common length.", at=1.0))
            waits.append(time.perf_counter() - begun)

    await asyncio.gather(*(go_on(Place("bench", str(number))) for number in range(accepters)))
    await journal.close()
    return waits


def insert(path: Path) -> list[float]:
    """What SQLite does on this disk with nothing around it."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB)")
    waits: list[float] = []
    end = time.perf_counter() + SECONDS
    while (begun := time.perf_counter()) < end:
        db.execute("INSERT INTO row (body) VALUES (?)", (b"x" * 300,))
        waits.append(time.perf_counter() - begun)
    db.close()
    return waits
