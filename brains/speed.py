"""How fast a model file reads and writes here, through the engine as the bot runs it."""

from __future__ import annotations

import secrets
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from roost.brains.engine import KEY
from roost.brains.process import EngineProcess
from roost.brains.survey import read_shape
from roost.errors import BrainError

PROMPT, ANSWER = 256, 48
FIRST, SPREAD = 100, 997  # any tokens will do
CONTROL = 8  # of the last tokens some may be no text


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians, in tokens a second."""

    prompt: float
    answer: float


async def speed(path: Path, runs: int) -> Speed:
    """Run the engine with one slot, nothing kept from run to run. The first run does not count. Raises BrainError."""
    usual = max(1, read_shape(path).vocabulary - FIRST - CONTROL)
    key = secrets.token_urlsafe(32)
    options = f"--port 0 --context {2 * (PROMPT + ANSWER)} --slots 1 --cache-ram 0 --watch-stdin"
    engine = EngineProcess(["--model-path", str(path), *options.split()], {KEY: key})
    await engine.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
            timings = [await timed(session, engine.address, number, usual) for number in range(runs + 1)][1:]
    finally:
        await engine.stop()
    return Speed(
        statistics.median(one["prompt_per_second"] for one in timings),
        statistics.median(one["predicted_per_second"] for one in timings),
    )


async def timed(session: aiohttp.ClientSession, address: str, number: int, usual: int) -> dict[str, Any]:
    prompt = [FIRST + (place * SPREAD + number * 31) % usual for place in range(PROMPT)]
    body = {"prompt": prompt, "n_predict": ANSWER, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
    async with session.post(f"{address}/completion", json=body, timeout=aiohttp.ClientTimeout(total=None)) as answer:
        if answer.status != 200:
            raise BrainError(f"The engine refused to be timed: {await answer.text()}")
        timings: dict[str, Any] = (await answer.json())["timings"]
        return timings
