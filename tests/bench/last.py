"""The first token of the 10,000th turn beside that of the tenth: the whole bot, a real model, a small context."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.figures import Report
from bench.processes import scratch
from roost.brains.store import ModelStore
from roost.contracts import Turn
from roost.home import data_folder
from roost.testing import Stage
from roost.values import Place

PLACE = Place("stage", "1")
LONG, SHORT = 10_000, 10
ASKED = 12
CONFIG = '[brain]\nuse = "llamacpp"\nmodel = "{model}"\ncontext = 2048\nmax_tokens = 24\ntemperature = 0.0\n'


def measure(rounds: int) -> Report:
    model = asyncio.run(ModelStore(data_folder() / "models").ensure())
    report = Report("last", f"First token at 2,048 tokens of context, {model.stem}", f"turn {LONG:,}", "turn 10")
    for _ in range(rounds):
        for column, turns in ((f"turn {LONG:,}", LONG), ("turn 10", SHORT)):
            times, read = asyncio.run(_talk(model, turns))
            report.add("between slides, median", "s", column, statistics.median(times))
            report.add("read anew, median", "tokens", column, statistics.median(read))
    return report


async def _talk(model: Path, turns: int) -> tuple[list[float], list[int]]:
    """First-token times of the questions whose prompt goes on where the one before ended, and the tokens they read."""
    times: list[float] = []
    read: list[int] = []
    with scratch() as folder:
        async with Stage(folder, config=CONFIG.format(model=model)) as stage:
            await remember(stage, turns)
            brain: Any = stage.bot.brain
            think = brain.think

            async def timed(prompt: Any) -> AsyncIterator[Any]:
                began = time.perf_counter()
                async for piece in think(prompt):
                    if began:
                        times.append(time.perf_counter() - began)
                        began = 0.0
                    yield piece

            brain.think = timed
            for number in range(ASKED):
                await stage.say(f"And what did Ann say about the {number}th garden?")
                await stage.quiet(limit=300)
                read.append(brain.usage.prompt - brain.usage.cached)
    usual = 2 * statistics.median(read)
    kept = [place for place, count in enumerate(read) if place > 0 and count <= usual]
    return [times[place] for place in kept], [read[place] for place in kept]


async def remember(stage: Stage, turns: int) -> None:
    """Remember that much, folded on the way as the bot does."""
    past = [Turn("user" if n % 2 == 0 else "assistant", said(n), at=float(n), id=str(n // 2)) for n in range(turns)]
    for first in range(0, turns, 200):
        await stage.bot.memory.remember(PLACE, past[first : first + 200])
        await stage.bot.memory.compact(PLACE, None)


def said(number: int) -> str:
    return f"Line {number}: house {number % 97} has {number % 7} trees, and somebody waters them at {number % 24}."
