"""The memory alone: remembering and recalling a turn in a short and in a very long conversation."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.figures import Report
from bench.processes import scratch
from roost.contracts import Turn
from roost.memory.window import Window, WindowConfig
from roost.values import Place

TURNS = (10, 1_000, 10_000)
SAMPLE = 50
PLACE = Place("bench", "1")
BUDGET = 3000  # tokens


def measure(rounds: int) -> Report:
    title = f"The window memory: a pair of turns more, {BUDGET} tokens back"
    report = Report("memory", title, f"turn {TURNS[-1]}", f"turn {TURNS[0]}")
    for _ in range(rounds):
        asyncio.run(grow(report))
    return report


async def grow(report: Report) -> None:
    with scratch() as folder:
        memory = Window(WindowConfig(), folder)
        await memory.open()
        said = 0
        for turn in TURNS:
            await memory.remember(PLACE, [one for number in range(said, turn) for one in pair(number)])
            await memory.recall(PLACE, BUDGET, count)
            remembering, recalling = await sample(memory, turn)
            said = turn + SAMPLE
            report.add("remember", "ms", f"turn {turn}", 1000 * statistics.median(remembering))
            report.add("recall", "ms", f"turn {turn}", 1000 * statistics.median(recalling))
        await memory.close()


async def sample(memory: Window, turn: int) -> tuple[list[float], list[float]]:
    remembering, recalling = [], []
    for number in range(turn, turn + SAMPLE):
        begun = time.perf_counter()
        await memory.remember(PLACE, pair(number))
        remembering.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        await memory.recall(PLACE, BUDGET, count)
        recalling.append(time.perf_counter() - begun)
    return remembering, recalling


def pair(number: int) -> list[Turn]:
    question = Turn("user", f"Question {number}: " + "what is to be done about it? " * 4, "Ann", 1.0, str(number))
    return [question, Turn("assistant", f"Answer {number}: " + "nothing much, I would think. " * 4, id=str(number))]


async def count(text: str) -> int:
    return len(text) // 4
