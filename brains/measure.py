"""What a plan comes to in truth: run the engine, fill its slots, look at its memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from roost.brains.engine import KEY
from roost.brains.plan import Plan
from roost.brains.process import EngineProcess
from roost.errors import BrainError

# Any tokens will do: which ones they are makes no difference to memory.
FIRST, SPREAD = 100, 997


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of the engine's process that are in memory, and those of them that are mapped files where that is told."""

    resident: int
    mapped: int = 0


async def measure(path: Path, plan: Plan, *, tokens: int | None = None) -> Measured:
    """Run a plan's engine without its prompt cache, fill each slot with `tokens`, all it takes by default.

    Counted is what the system shows as resident: mapped files count as far as they were touched, and weights are,
    once a token went through. Raises BrainError.
    """
    key = secrets.token_urlsafe(32)
    engine = EngineProcess(list(arguments(path, plan)), {KEY: key})
    await engine.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
            for slot in range(plan.slots):
                await fill(session, engine.address, slot, plan, (tokens or plan.context) - 2)
        memory = psutil.Process(engine.pid).memory_info()
        return Measured(memory.rss, getattr(memory, "shared", 0))
    finally:
        await engine.stop()


async def fill(session: aiohttp.ClientSession, address: str, slot: int, plan: Plan, tokens: int) -> None:
    usual = max(1, plan.shape.vocabulary - FIRST)
    prompt = [FIRST + (number * SPREAD + slot) % usual for number in range(tokens)]
    body = {"prompt": prompt, "n_predict": 1, "id_slot": slot, "cache_prompt": True, "temperature": 0.0}
    async with session.post(f"{address}/completion", json=body, timeout=aiohttp.ClientTimeout(total=None)) as answer:
        if answer.status != 200:
            raise BrainError(f"The engine refused a prompt of {tokens} tokens: {await answer.text()}")
        await answer.read()


def arguments(path: Path, plan: Plan) -> Iterator[str]:
    options = {
        "model-path": path,
        "port": 0,
        "device": plan.device,
        "context": plan.context,
        "slots": plan.slots,
        "threads": plan.threads if plan.writing == plan.threads else 0,
        "cache-ram": 0,
        "kv-type": plan.kept,
    }
    for name, value in options.items():
        yield from (f"--{name}", str(value))
    yield "--watch-stdin"
