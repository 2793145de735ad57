"""Conversations for the memory to be measured with: filling them, what they weigh, and what a process with them takes.

python -m bench.remembered FOLDER CHAT...      one line of JSON: MB resident before and after recalling these
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Report, percentile
from bench.processes import TESTS, memory_of, running
from bench.smalltalk import Smalltalk
from bench.stores import Roost, Sqlite, Tiny
from roost.contracts import Turn
from roost.memory.conversation import plain
from roost.memory.settings import WindowConfig
from roost.values import Place

BATCH = 20  # turns remembered at once while a conversation is filled
VISITED = 300  # places that a process with many has visited when it is measured
QUICK = WindowConfig(fsync="os")
NEVER = WindowConfig(fsync="os", compact_turns=0, compact_idle=0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """So many places, each with so many turns to begin with."""

    name: str
    places: int
    turns: int

    @property
    def archived(self) -> bool:
        return self.turns > QUICK.compact_turns

    def place(self, number: int) -> Place:
        return Place("bench", str(number % self.places))


CASES = (
    Case("10", 30, 10),
    Case("1,000", 1, 1_000),
    Case("100,000", 1, 100_000),
    Case("10,000 places", 10_000, 20),
)


def turns_of(case: Case) -> Iterator[tuple[Place, list[Turn]]]:
    for number in range(case.places):
        yield case.place(number), Smalltalk(number).turns(0, case.turns)


async def fill(folder: Path, case: Case, report: Report) -> None:
    """Make a case's conversations in `roost`, `sqlite` and `tiny`, and where they are long in `flat`, unfolded."""
    memory, flat = (Roost(folder / name, config) for name, config in (("roost", QUICK), ("flat", NEVER)))
    for name in ("sqlite", "tiny"):
        (folder / name).mkdir(parents=True)
    sqlite, tiny = Sqlite(folder / "sqlite", "OFF"), Tiny(folder / "tiny")
    await memory.open()
    await flat.open()
    steps: list[tuple[int, float]] = []
    for place, turns in turns_of(case):
        sqlite.append(place, turns)
        tiny.fill(place, turns)
        for at in range(0, case.turns, BATCH):
            await memory.append(place, turns[at : at + BATCH])
            if case.archived:
                await flat.append(place, turns[at : at + BATCH])
                steps += [(one.turns, one.seconds) for one in await memory.rest()]
        await memory.recall(place)  # which counts the tokens
    for one in (memory, flat):
        await one.close()
    sqlite.close()
    if steps:
        tell(report, case, steps)


def tell(report: Report, case: Case, steps: list[tuple[int, float]]) -> None:
    seconds = [spent for _, spent in steps]
    report.add("turns folded a second", "1/s", case.name, sum(n for n, _ in steps) / sum(seconds))
    report.add(f"folding {steps[-1][0]} turns, median", "ms", case.name, 1000 * percentile(seconds, 0.5))
    report.add("the longest of these", "ms", case.name, 1000 * max(seconds))


# What they weigh


def weigh(folder: Path, case: Case, report: Report) -> None:
    """Bytes a turn on the disk, and resident memory of a process that remembers them."""
    count = case.places * case.turns
    if case.archived:
        lines = sum(len(json.dumps(plain(turn))) + 1 for _, turns in turns_of(case) for turn in turns)
        report.add("JSON lines, a turn", "bytes", case.name, lines / count)
        report.add("not archived, a turn", "bytes", case.name, size(folder / "flat", "bench_*") / count)
        report.add("archive alone, a turn", "bytes", case.name, size(folder / "roost", "*.cold") / count)
        report.add("its search index, a turn", "bytes", case.name, size(folder / "roost", "*.index") / count)
    report.add("everything, a turn", "bytes", case.name, size(folder / "roost", "*") / count)
    report.add("SQLite, a turn", "bytes", case.name, size(folder / "sqlite", "*") / count)
    before, after = resident(folder / "roost", case)
    report.add("a process with nothing", "MB", case.name, before)
    report.add("after recalling", "MB", case.name, after)
    if case.archived:
        report.add("after recalling, not archived", "MB", case.name, resident(folder / "flat", case)[1])


def size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def resident(folder: Path, case: Case) -> tuple[float | None, float | None]:
    """MB of a process of its own, before and after it recalled a place, or some of many."""
    chats = {case.place(number).chat for number in range(VISITED)}
    command = [sys.executable, "-m", "bench.remembered", str(folder), *sorted(chats)]
    with running(command, folder, PYTHONPATH=str(TESTS)) as child:
        before, after = json.loads(child.line("["))
    (folder / "stderr").unlink()
    return before, after


async def visit(folder: Path, chats: list[str]) -> tuple[float | None, float | None]:
    before = memory_of(os.getpid())["rss"]
    memory = Roost(folder, NEVER)
    await memory.open()
    for chat in chats:
        await memory.recall(Place("bench", chat))
    after = memory_of(os.getpid())["rss"]
    await memory.close()
    return before, after


if __name__ == "__main__":
    print(json.dumps(asyncio.run(visit(Path(sys.argv[1]), sys.argv[2:]))), flush=True)
