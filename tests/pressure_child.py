"""A process that remembers conversations until memory is short; started by test_pressure.py, and killed at times.

`python pressure_child.py FOLDER COUNT ROOM SENSOR`: ROOM is how many MB of its own it may take beyond what it has at
the start, 0 for none but what the system sets; SENSOR is "on" or "off". It prints the number of each conversation that
is remembered, then one line of JSON. Time goes a hundred times faster for the sensor, as the load does.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from roost.contracts import Turn
from roost.gauges import MIB, Family, Sensor
from roost.memory.window import Window, WindowConfig
from roost.pressure import FILLED, Pressure
from roost.values import Place

HASTE = 100
TURNS = 30
LENGTH = 1500
TALE = " ".join(random.Random(1).choices(["rain", "spain", "boats", "harbours", "evening", "the", "in", "on"], k=2000))


def place(number: int) -> Place:
    return Place("load", str(number))


def conversation(number: int) -> list[Turn]:
    """The same turns each time for the same number."""
    begin = random.Random(number).randrange(len(TALE) // 2)
    return [
        Turn("assistant" if index % 2 else "user", f"{number}.{index} {TALE[begin : begin + LENGTH]}", id=f"{index}")
        for index in range(TURNS)
    ]


async def count(text: str) -> int:
    return len(text) // 4


async def fill(memory: Window, conversations: int, family: Family) -> int:
    """Returns the most bytes that were resident."""
    peak = 0
    for number in range(conversations):
        await memory.remember(place(number), conversation(number))
        await memory.recall(place(number), 2000, count)
        print(number, flush=True)
        peak = max(peak, family.resident())
    return peak


async def main(folder: str, conversations: int, room: int, sensor: bool) -> None:
    memory = Window(WindowConfig(open_files=1_000_000, fsync="os"), Path(folder))
    await memory.open()
    family = Family()
    # The first mark is reached when the room is taken.
    limit = int((family.resident() + room * MIB) / FILLED["high"].on) if room else 0
    pressure = Pressure(
        Sensor(lambda: limit),
        {"memory": memory.shrink},
        clock=lambda: HASTE * time.monotonic(),
        sleep=lambda seconds: asyncio.sleep(seconds / HASTE),
    )
    watching = asyncio.create_task(pressure.watch()) if sensor else None
    peak = await fill(memory, conversations, family)
    if watching is not None:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    await memory.close()
    state = pressure.state()
    print(json.dumps({"limit": limit, "peak": peak, "freed": state.freed, "times": state.times}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "on"))
