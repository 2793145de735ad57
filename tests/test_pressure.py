"""Memory that runs short: when something is given back, and that it saves a real process."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pressure_child
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pressure_group import limited

from roost import pressure as module
from roost.gauges import MIB, SPAN, Family, Reading
from roost.memory.window import Window, WindowConfig
from roost.pressure import FAR, LEVELS, NEAR, SHORT, Level, Pressure, State, judge, trim

CHILD = Path(pressure_child.__file__)
GB = 1024 * MIB

# -------------------------------------------------------------------------------------------------- levels


def reading(filled: float, stall: float = 0.0, source: str = "cgroup") -> Reading:
    return Reading(round(filled * 512 * MIB), 512 * MIB, source, stall)


@pytest.mark.parametrize(
    ("filled", "stall", "before", "after"),
    [
        (0.69, 0, "ok", "ok"),
        (0.71, 0, "ok", "high"),
        (0.61, 0, "high", "high"),
        (0.59, 0, "high", "ok"),
        (0.91, 0, "ok", "critical"),
        (0.81, 0, "critical", "critical"),
        (0.81, 0, "high", "high"),
        (0.79, 0, "critical", "high"),
        (0.59, 0, "critical", "ok"),
        (0.1, 11, "ok", "high"),
        (0.1, 6, "high", "high"),
        (0.1, 4, "high", "ok"),
        (0.1, 26, "ok", "critical"),
        (0.1, 13, "critical", "critical"),
    ],
)
def test_a_level_is_left_lower_than_it_is_reached(filled: float, stall: float, before: Level, after: Level) -> None:
    assert judge(reading(filled, stall), before) == after


@given(st.floats(0, 1.2), st.floats(0, 100), st.sampled_from(LEVELS))
def test_a_level_stays_when_nothing_changes(filled: float, stall: float, before: Level) -> None:
    now = reading(filled, stall)
    assert judge(now, judge(now, before)) == judge(now, before)


def test_of_a_large_limit_only_the_last_part_counts() -> None:
    assert judge(Reading(11 * GB, 16 * GB, "machine"), "ok") == "ok"
    assert judge(Reading(15 * GB, 16 * GB, "machine"), "ok") == "high"
    assert judge(Reading(16 * GB - SPAN // 20, 16 * GB, "machine"), "ok") == "critical"
    assert judge(Reading(3 * GB, 4 * GB, "machine"), "ok") == "high"


# -------------------------------------------------------------------------------------------------- relief


class Scene:
    """A bot whose memory and clock are what the test says. A relief frees `gives`, a share of the limit."""

    def __init__(self) -> None:
        self.filled, self.stall, self.now, self.gives = 0.0, 0.0, 1000.0, 0.0
        self.others: list[Reading] = []
        self.done: list[str] = []
        self.reliefs: dict[str, Callable[[], Awaitable[None]]] = {"memory": self._memory, "brain": self._brain}
        self.pressure = Pressure(self.sense, self.reliefs, clock=lambda: self.now)

    def sense(self) -> list[Reading]:
        return [reading(self.filled, self.stall), *self.others]

    async def _memory(self) -> None:
        self.done.append("memory")
        self.filled -= self.gives

    async def _brain(self) -> None:
        self.done.append("brain")

    async def look(self, filled: float, after: float = 0.0) -> int:
        """Look when so much is filled, some seconds later; returns how many reliefs there were by now."""
        self.filled = filled
        self.now += after
        await self.pressure.look()
        return self.pressure.state().times


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the garbage of a whole test run takes a tenth of a second each time."""
    monkeypatch.setattr(module, "trim", lambda: None)


async def test_nothing_is_done_while_there_is_room() -> None:
    scene = Scene()
    assert [await scene.look(filled, 60) for filled in (0.1, 0.5, 0.69, 0.3)] == [0, 0, 0, 0]
    assert scene.done == []
    assert scene.pressure.state() == State("ok", round(0.3 * 512 * MIB), 512 * MIB, "cgroup")


async def test_when_memory_is_short_each_part_gives_back_in_its_order_and_it_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "roost.pressure")
    scene = Scene()
    monkeypatch.setattr(module, "trim", lambda: scene.done.append("Python"))
    scene.gives = 13 / 512
    await scene.look(0.7401)
    assert scene.done == ["memory", "brain", "Python"]
    await scene.look(0.55, 2)
    assert caplog.messages == [
        "Memory is short (0.74 of 512 MB, cgroup): freed 13 MB.",
        "Memory is enough again (0.55 of 512 MB, cgroup).",
    ]
    assert (scene.pressure.state().freed, scene.pressure.state().times) == (13 * MIB, 1)


async def test_a_stall_is_enough_to_give_back() -> None:
    scene = Scene()
    scene.stall = 15
    assert await scene.look(0.2) == 1


async def test_there_is_a_pause_between_two_reliefs_even_when_memory_comes_and_goes() -> None:
    scene = Scene()
    scene.gives = 0.2
    assert await scene.look(0.75) == 1
    assert await scene.look(0.55, 2) == 1
    assert await scene.look(0.75, 2) == 1
    assert await scene.look(0.75, 25) == 1
    assert await scene.look(0.75, 2) == 2


async def test_turning_critical_does_not_wait() -> None:
    scene = Scene()
    scene.gives = 0.05
    assert await scene.look(0.75) == 1
    assert await scene.look(0.92, 0.5) == 2
    assert await scene.look(0.92, 1) == 2
    assert await scene.look(0.92, 1.5) == 3


async def test_what_frees_nothing_is_tried_more_and_more_seldom_and_the_owner_is_told_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    times = [await scene.look(0.95, 1) for _ in range(600)]
    assert times[30] == 4
    assert times[-1] < 16
    assert len([one for one in caplog.messages if "allow the bot more memory" in one]) == 1
    await scene.look(0.3, 1)
    assert await scene.look(0.75, 60) == times[-1] + 1
    assert await scene.look(0.75, 61) == times[-1] + 2


async def test_a_relief_that_frees_something_is_tried_again_as_soon() -> None:
    scene = Scene()
    scene.gives = 0.02
    assert [await scene.look(0.75, 31) for _ in range(20)] == list(range(1, 21))


async def test_the_nearest_of_several_limits_decides_and_what_was_freed_is_read_off_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "roost.pressure")
    scene = Scene()
    scene.gives = 0.1
    scene.others = [Reading(3 * GB, 8 * GB, "machine"), Reading(MIB, GB, "memory_limit")]
    await scene.look(0.8)
    assert caplog.messages == ["Memory is short (0.80 of 512 MB, cgroup): freed 51 MB."]
    scene.others = [Reading(8 * GB - 1000, 8 * GB, "machine")]
    await scene.look(0.72, 2)
    assert scene.pressure.state().source == "machine"
    assert "Memory is very short (1.00 of 8192 MB, machine): freed 0 MB." in caplog.text


async def test_one_part_that_fails_or_hangs_keeps_no_other_from_giving_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    scene = Scene()

    async def fail() -> None:
        raise MemoryError("none left")

    async def swallow() -> None:
        raise asyncio.CancelledError

    async def hang() -> None:
        await asyncio.Event().wait()

    rest = dict(scene.reliefs)
    scene.reliefs.clear()
    scene.reliefs.update({"broken": fail, "cancelled": swallow, "hanging": hang, **rest})
    await scene.look(0.8)
    assert scene.done == ["memory", "brain"]
    assert "Memory is short, and the broken could not give back." in caplog.messages
    assert "Memory is short, and the hanging was not done with giving back after 0.01 s." in caplog.messages


async def test_a_system_that_cannot_be_read_is_reported_once_and_looked_at_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blind = True

    def sense() -> list[Reading]:
        if blind:
            raise OSError("no such file")
        return [reading(0.95)]

    pressure = Pressure(sense, {})
    for _ in range(5):
        assert await pressure.look() == FAR
    assert len(caplog.records) == 1
    blind = False
    await pressure.look()
    assert pressure.state().level == "critical"
    blind = True
    await pressure.look()
    assert len([one for one in caplog.messages if "cannot be read" in one]) == 2
    assert await Pressure(lambda: [], {}).look() == FAR


async def test_it_looks_more_often_the_nearer_the_limit_is() -> None:
    scene = Scene()
    waits = []
    for scene.filled, scene.stall in ((0.1, 0), (0.34, 0), (0.36, 0), (0.1, 0.5), (0.71, 0), (0.95, 0)):
        waits.append(await scene.pressure.look())
    assert waits == [FAR, FAR, NEAR, NEAR, SHORT, SHORT]


async def test_watching_goes_on_until_it_is_cancelled_also_in_the_middle_of_a_relief() -> None:
    waits: list[float] = []
    asked = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    pressure = Pressure(lambda: [reading(0.1 if len(waits) < 50 else 0.8)], {"memory": hang}, sleep=sleep)
    watching = asyncio.create_task(pressure.watch())
    await asyncio.wait_for(asked.wait(), 20)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert waits == [FAR] * 50


def scattered() -> object:
    """Long pieces are let go of, and short ones between them kept: glibc alone gives nothing back."""
    return [b"%d" % number * 600 for number in range(100_000, 120_000)][::20]


def cyclic() -> object:
    for _ in range(600_000):
        ring: list[object] = []
        ring.append(ring)
    return None


def named() -> object:
    """Names that are asked for stay in the cache of attributes, which keeps the megabytes that they are in."""
    kept = []
    for number in range(600_000):
        kept.append([number])
        if number % 1000 == 0:
            getattr(Scene, "".join(("lo", "ok")))
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems than Linux take memory back by other rules")
@pytest.mark.parametrize("waste", [scattered, cyclic, named])
def test_what_python_has_let_go_of_goes_back_to_the_system(waste: Callable[[], object]) -> None:
    gc.disable()
    try:
        before = Family().resident()
        rest = waste()
        wasted = Family().resident() - before
        trim()
        assert Family().resident() - before < max(wasted // 4, 5 * MIB), rest is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------ a real process

CONVERSATIONS = 650
ROOM = 20  # MB


async def load(folder: Path, room: int, sensor: str, before: tuple[str, ...] = ()) -> tuple[int, bytes, bytes]:
    """Run the child; returns its exit status, what it printed, and what it logged."""
    command = [*before, sys.executable, str(CHILD), str(folder), str(CONVERSATIONS), str(room), sensor]
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, logged = await asyncio.wait_for(child.communicate(), 300)
    assert child.returncode is not None
    return child.returncode, said, logged


async def assert_kept(folder: Path, said: bytes) -> None:
    """Every conversation that the child said was remembered is there, to the letter."""
    told = [int(line) for line in said.decode().splitlines() if line.isdecimal()]
    memory = Window(WindowConfig(), folder)
    await memory.open()
    for number in told:
        stored = [(turn.id, turn.text) for turn in await memory.turns(pressure_child.place(number))]
        assert stored == [(turn.id, turn.text) for turn in pressure_child.conversation(number)]
    await memory.close()
    assert told == list(range(CONVERSATIONS))


async def test_a_process_stays_below_its_own_limit_and_forgets_nothing(tmp_path: Path) -> None:
    status, said, logged = await load(tmp_path, ROOM, "on")
    assert status == 0, logged.decode()
    outcome = json.loads(said.splitlines()[-1])
    assert outcome["times"] >= 1
    assert outcome["freed"] > 2 * MIB, outcome
    assert outcome["peak"] < outcome["limit"]
    await assert_kept(tmp_path, said)


async def test_without_the_sensor_the_same_load_is_too_much(tmp_path: Path) -> None:
    status, said, logged = await load(tmp_path, ROOM, "off")
    assert status == 0, logged.decode()
    outcome = json.loads(said.splitlines()[-1])
    assert outcome["peak"] > outcome["limit"]


async def test_the_kernel_kills_a_process_that_takes_too_much_and_not_one_that_gives_back(tmp_path: Path) -> None:
    with limited(60 * MIB) as before:
        status, said, logged = await load(tmp_path / "on", 0, "on", tuple(before))
        assert status == 0, logged.decode()
        assert json.loads(said.splitlines()[-1])["times"] >= 1
        await assert_kept(tmp_path / "on", said)
        status, said, _ = await load(tmp_path / "off", 0, "off", tuple(before))
    assert status not in (0, 1), "Without the sensor, the kernel was expected to kill it."
    assert len(said.splitlines()) < CONVERSATIONS
