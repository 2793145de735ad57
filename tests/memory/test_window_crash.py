"""Pull the plug on the window at every step: remembered turns are there, and recall works."""

from __future__ import annotations

import contextlib
from itertools import count as upwards
from pathlib import Path

import pytest
from plug import PHASES, Died, Phase, Plug, PowerCut

from roost.contracts import Turn
from roost.memory import store
from roost.memory.sliding import weigh
from roost.memory.window import Window, WindowConfig
from roost.values import Place

PLACE = Place("telegram", "42")
BUDGET = 200

Texts = list[str]


async def count(text: str) -> int:
    return len(text) // 4 + 1


def exchange(number: int, mood: str = "x") -> list[Turn]:
    return [
        Turn(role="user", text=f"q{number} {mood * 60}", id=str(number)),
        Turn(role="assistant", text=f"a{number} {mood * 60}", id=str(number)),
    ]


async def live(window: Window, states: list[Texts]) -> None:
    """Remember, recall and edit; `states` grows by what a call is about to make of the stored texts."""
    texts: Texts = []
    for number in range(9):
        texts = [*texts, *(turn.text for turn in exchange(number))]
        states.append(texts)
        await window.remember(PLACE, exchange(number))
        states.append(texts)
        await window.recall(PLACE, BUDGET, count)
    texts = [*(turn.text for turn in exchange(0, "y")), *texts[2:]]
    states.append(texts)
    await window.remember(PLACE, exchange(0, "y"))
    await window.close()
    states.append(texts)


async def find(home: Path) -> Texts:
    window = Window(WindowConfig(), home)
    turns = [turn.text for turn in await window.turns(PLACE)]
    recalled = (await window.recall(PLACE, BUDGET, count)).turns
    assert bool(recalled) == bool(turns) and weigh(recalled) <= BUDGET
    assert [turn.text for turn in recalled] == turns[len(turns) - len(recalled) :]
    assert not recalled or recalled[0].role == "user"
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
        window = Window(WindowConfig(), home, plug)
        try:
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
