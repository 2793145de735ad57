"""Pull the plug on the window at every step, kill it for real: what was remembered is there once, recall works."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from itertools import count as upwards
from pathlib import Path

import pytest
from plug import PHASES, Died, Phase, Plug, PowerCut
from seeded import seeded

from roost.contracts import Turn
from roost.memory import store
from roost.memory.sliding import STAND_IN, weigh
from roost.memory.window import Window, WindowConfig
from roost.values import Place

PLACE = Place("telegram", "42")
OTHER = Place("telegram", "7")
BUDGET = 200
FOLDING = WindowConfig(compact_keep=4, compact_action="extract", compact_room=32)
KILLS = int(os.environ.get("ROOST_KILLS", "12"))

Texts = list[str]


async def count(text: str) -> int:
    return len(text) // 4 + 1


def exchange(number: int, mood: str = "x") -> list[Turn]:
    return [
        Turn(role="user", text=f"q{number} {mood * 60}", id=str(number)),
        Turn(role="assistant", text=f"a{number} {mood * 60}", id=str(number)),
    ]


async def live(window: Window, states: list[Texts]) -> None:
    """Remember, recall, fold and edit; `states` grows by what a call is about to make of the stored texts."""
    texts: Texts = []
    for number in range(9):
        texts = [*texts, *(turn.text for turn in exchange(number))]
        states.append(texts)
        await window.remember(PLACE, exchange(number))
        states.append(texts)
        await window.recall(PLACE, BUDGET, count)
        if number % 3 == 2:
            await window.compact(PLACE, None)
    texts = [*(turn.text for turn in exchange(0, "y")), *texts[2:]]
    states.append(texts)
    await window.remember(PLACE, exchange(0, "y"))
    await window.close()
    states.append(texts)


async def find(home: Path) -> Texts:
    window = Window(FOLDING, home)
    await window.open()
    turns = [turn.text for turn in await window.turns(PLACE)]
    recalled = (await window.recall(PLACE, BUDGET, count)).turns
    recalled = recalled[recalled[:1] == (STAND_IN,) :]
    assert bool(recalled) == bool(turns) and weigh(recalled) <= BUDGET
    assert [turn.text for turn in recalled] == turns[len(turns) - len(recalled) :]
    size = await window.size(PLACE)
    assert bool(size.summary) == (size.kept < len(turns)), "what is folded away has a summary, and nothing else has"
    assert await window.damage() == []
    await window.close()
    return turns


@pytest.mark.parametrize("plug_of", [Plug, PowerCut])
@pytest.mark.parametrize("phase", PHASES)
async def test_whenever_it_dies_remembered_turns_are_recalled(
    tmp_path: Path, phase: Phase, plug_of: type[Plug], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "SLACK", 200)
    for at in upwards(1):
        home = tmp_path / str(at)
        home.mkdir()
        plug = plug_of(at, phase)
        states: list[Texts] = [[]]
        window = Window(FOLDING, home, plug)
        try:
            await window.open()
            await live(window, states)
        except Died:
            with contextlib.suppress(Died):
                await window.close()
        if isinstance(plug, PowerCut):
            plug.lose(home)
        plug.after_death()
        window._thread.shutdown()
        assert await find(home) in states[-2:]
        if not plug.dead:
            assert at > 30
            break


@pytest.mark.parametrize("phase", PHASES)
async def test_whenever_it_dies_while_forgetting_doing_it_again_leaves_nothing(tmp_path: Path, phase: Phase):
    for at in upwards(1):
        home = tmp_path / str(at)
        window = Window(FOLDING, home)
        await window.open()
        for number in range(8):
            await window.remember(PLACE, exchange(number, "secret"))
            await window.remember(OTHER, exchange(number, "other"))
        await window.compact(PLACE, None)
        await window.close()
        plug = Plug(at, phase)
        window = Window(FOLDING, home, plug)
        try:
            await window.open()
            await window.forget(PLACE)
            await window.close()
        except Died:
            with contextlib.suppress(Died):
                await window.close()
        plug.after_death()
        window._thread.shutdown()
        window = Window(FOLDING, home)
        await window.open()
        await window.forget(PLACE)
        assert len(await window.turns(OTHER)) == 16
        await window.close()
        assert b"secret" not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
        if not plug.dead:
            assert at > 4
            break


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_window_crash import FOLDING, OTHER, PLACE, BUDGET, count, exchange
from roost.memory.window import Window

async def live():
    window = Window(FOLDING, Path(sys.argv[1]))
    await window.open()
    n = int(sys.argv[2])
    while True:
        await window.remember(PLACE, exchange(n))
        await window.remember(OTHER, exchange(n))
        print(n, flush=True)
        await window.recall(PLACE, BUDGET, count, f"q{n // 2}")
        if n % 5 == 4:
            await asyncio.gather(window.compact(PLACE, None), window.compact(OTHER, None))
        if n % 7 == 6:
            await window.forget(OTHER)
        if n % 9 == 8:
            await window.remember(PLACE, exchange(n // 2, "edited"))
        n += 1

asyncio.run(live())
"""


async def test_killed_for_real_while_it_folds_and_forgets_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path):
    chance = seeded()
    last = -1
    cut_short: set[int] = set()  # rounds that were killed between their two conversations
    for _ in range(KILLS):
        last = max(last, kill_child(tmp_path, last + 1, chance.randrange(1, 40), chance.uniform(0, 0.01)))
        window = Window(FOLDING, tmp_path)
        await window.open()
        numbers = [int(turn.text.split()[0][1:]) for turn in await window.turns(PLACE) if turn.role == "user"]
        assert numbers in (list(range(last + 1)), list(range(last + 2)))
        if len(numbers) - 1 > last:
            cut_short.add(len(numbers) - 1)
        last = len(numbers) - 1
        others = [int(turn.text.split()[0][1:]) for turn in await window.turns(OTHER) if turn.role == "user"]
        assert others == sorted(set(others))
        assert set(range(min(others, default=0), max(others, default=-1) + 1)) - set(others) <= cut_short
        assert await window.damage() == []
        recalled = await window.recall(PLACE, 400, count, "q3")
        assert recalled.turns[-1].text.startswith(f"a{last}")
        await window.close()
    assert last > KILLS


def kill_child(home: Path, begin: int, after: int, pause: float) -> int:
    """Let a process remember, fold and forget until it has acknowledged `after` rounds and some time has passed; kill
    it, and return the last it acknowledged."""
    command = [sys.executable, "-c", CHILD, home, str(begin), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(after):
            assert child.stdout.readline(), "the child died by itself"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(pause)  # the instant of the kill
        child.kill()
        lines = child.stdout.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1]) if whole else begin + after - 1
