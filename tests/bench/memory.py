"""The memory alone: exchanges remembered and recalled in short and long conversations, beside SQLite and TinyDB.

The conversations are filled once, and folded as the bot does it but without a brain. Each round measures copies of
them. What is due is folded between two exchanges, which no person waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.figures import Report, percentile
from bench.processes import scratch
from bench.remembered import CASES, Case, fill, weigh
from bench.smalltalk import Smalltalk
from bench.stores import Bare, Hop, Inline, Roost, Sqlite, Tiny
from roost.memory.settings import WindowConfig
from roost.values import Place

SAMPLES, QUESTIONS, OPENINGS = 300, 50, 20
SLOWLY = {"10": 60, "1,000": 60, "100,000": 3, "10,000 places": 60}  # what TinyDB gets
MS = 1000
ROOST, SQLITE, TINY, BARE, HOP, INLINE = "Roost", "SQLite", "TinyDB", "bare file", "bare thread", "its files"
SHORT, MIDDLE, LONG, MANY = CASES
ELSEWHERE = Place("bench", "elsewhere")
NUMBERS, SEEDS = itertools.count(1_000_000), itertools.count(1)

Contestants = dict[str, Callable[[Path], Any]]
SYNCED: Contestants = {
    ROOST: lambda folder: Roost(folder / "roost", WindowConfig(fsync="always")),
    SQLITE: lambda folder: Sqlite(folder / "sqlite", "FULL"),
    TINY: lambda folder: Tiny(folder / "tiny"),
    BARE: Bare,
}
UNSYNCED: Contestants = {
    ROOST: lambda folder: Roost(folder / "roost", WindowConfig(fsync="os")),
    SQLITE: lambda folder: Sqlite(folder / "sqlite", "NORMAL"),
    HOP: Hop,
    INLINE: lambda folder: Inline(folder / "roost", WindowConfig(fsync="os")),
}


def measure(rounds: int) -> list[Report]:
    title = "Two turns remembered, and 3,000 tokens recalled, in a conversation of so many turns; "
    synced = Report("memory", f"{title}each write synced", ROOST, SQLITE)
    unsynced = Report("memory-os", f"{title}left to the system to write", ROOST, SQLITE)
    sizes = Report("memory-size", "What conversations of so many turns take", LONG.name, MIDDLE.name)
    with scratch() as folder:
        for case in CASES:
            asyncio.run(fill(folder / case.name, case, sizes))
            weigh(folder / case.name, case, sizes)
        for _ in range(rounds):
            for case in CASES:
                asyncio.run(compare(folder / case.name, case, synced, SYNCED))
                asyncio.run(compare(folder / case.name, case, unsynced, UNSYNCED))
            flatten(synced)
            flatten(unsynced)
            for case in (MIDDLE, LONG):
                asyncio.run(meanwhile(folder / case.name, case, sizes))
    synced.notes.append("SQLite: WAL, synchronous full. TinyDB: fewer samples. Bare file: the same bytes, and fsync.")
    unsynced.notes.append(
        "SQLite: WAL, synchronous normal. Bare thread: what it takes to do nothing in a thread. "
        "Its files: the memory without its thread, called as SQLite is."
    )
    return [synced, unsynced, sizes]


@contextlib.contextmanager
def copied(folder: Path, case: Case) -> Iterator[Path]:
    """A copy of what was filled; ten thousand places are used as they are, one exchange more hardly changes them."""
    home = folder if case is MANY else folder / "copy"
    if case is not MANY:
        for name in ("roost", "sqlite", "tiny"):
            shutil.copytree(folder / name, home / name)
    if hasattr(os, "sync"):
        os.sync()  # or the first syncs that are measured would write what was copied
    try:
        yield home
    finally:
        if case is not MANY:
            shutil.rmtree(home)


async def compare(folder: Path, case: Case, report: Report, contestants: Contestants) -> None:
    with copied(folder, case) as home:
        for name, make in contestants.items():
            samples = SLOWLY[case.name] if name == TINY else SAMPLES
            store = await started(make, home)
            appending, recalling = await talk(store, case, samples)
            told(report, f"remember, {case.name}", name, appending)
            told(report, f"recall, {case.name}", name, recalling)
            if case.archived and name == ROOST and report.name == "memory":
                told(report, f"recall for a question, {case.name}", name, await question(store, case))
            await done(store.close())
            if hasattr(store, "recall"):
                openings = [await opening(make, home, case) for _ in range(OPENINGS if samples == SAMPLES else 3)]
                report.add(f"start and recall, {case.name}", "ms", name, MS * percentile(openings, 0.5))


def told(report: Report, what: str, column: str, seconds: list[float]) -> None:
    """A row for the median, and one for the 99th percentile where there are enough values for it."""
    if seconds:
        report.add(f"{what}, p50", "ms", column, MS * percentile(seconds, 0.5))
        report.add(f"{what}, p99", "ms", column, MS * percentile(seconds, 0.99) if len(seconds) >= 50 else None)


async def talk(store: Any, case: Case, samples: int) -> tuple[list[float], list[float]]:
    """Seconds that exchanges took to be remembered, and recalls to be made, one after another."""
    smalltalk, appending, recalling = Smalltalk(next(SEEDS)), [], []
    for place, other in itertools.islice(zip(places(case), places(case), strict=False), samples):
        turns = smalltalk.exchange(next(NUMBERS))
        appending.append(await timed(store.append, place, turns))
        if hasattr(store, "recall"):
            recalling.append(await timed(store.recall, other))
        if case.archived and hasattr(store, "rest"):
            await store.rest()
    return appending, recalling


async def question(store: Roost, case: Case) -> list[float]:
    """Seconds of recalls that also look for what the archive has about a message, as each message's does."""
    smalltalk = Smalltalk(next(SEEDS))
    texts = [smalltalk.text(0.8) for _ in range(QUESTIONS)]
    return [await timed(store.ask, case.place(0), text) for text in texts]


async def opening(make: Callable[[Path], Any], home: Path, case: Case) -> float:
    """Seconds from nothing to the first recall."""
    begun = time.perf_counter()
    store = await started(make, home)
    await done(store.recall(next(places(case))))
    spent = time.perf_counter() - begun
    await done(store.close())
    return spent


async def meanwhile(folder: Path, case: Case, report: Report) -> None:
    """What an exchange waits in one place while another is folded."""
    with copied(folder, case) as home:
        store = await started(UNSYNCED[ROOST], home)
        smalltalk, waits = Smalltalk(next(SEEDS)), []
        for _ in range(5):
            await store.append(case.place(0), smalltalk.turns(next(NUMBERS) * 1000, 200))
            folding = asyncio.create_task(store.window.compact(case.place(0), None))
            while not folding.done():
                spent = await timed(store.append, ELSEWHERE, smalltalk.exchange(next(NUMBERS)))
                waits.append(spent + await timed(store.recall, ELSEWHERE))
            await folding
        await store.close()
    report.add("an exchange while another folds, p50", "ms", case.name, MS * percentile(waits, 0.5))
    report.add("an exchange while another folds, longest", "ms", case.name, MS * max(waits))


def places(case: Case) -> Iterator[Place]:
    """Which place is next: one after another, or any of very many."""
    chance = random.Random(next(SEEDS))
    while True:
        if case is MANY:
            yield case.place(chance.randrange(case.places))
        else:
            yield from map(case.place, range(case.places))


async def started(make: Callable[[Path], Any], home: Path) -> Any:
    store = make(home)
    if hasattr(store, "open"):
        await store.open()
    return store


async def timed(call: Callable[..., Any], *arguments: Any) -> float:
    begun = time.perf_counter()
    await done(call(*arguments))
    return time.perf_counter() - begun


async def done(answer: Any) -> None:
    if inspect.isawaitable(answer):
        await answer


def flatten(report: Report) -> None:
    """How much more the last round took in the longest conversation than in the shortest."""
    rows = {row.what: row for row in report.rows}
    for what in ("remember", "recall"):
        long, short = (rows[f"{what}, {case.name}, p50"].values for case in (LONG, SHORT))
        for column in long:
            ratio = long[column][-1] / short[column][-1]
            report.add(f"{what}, {LONG.name} : {SHORT.name}", "times", column, ratio)
