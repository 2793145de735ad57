"""Pull the plug of an archive at every step: what was acknowledged is there, and the rest is as if never begun."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from plug import PHASES, Died, Phase, Plug, PowerCut
from seeded import seeded

from roost.contracts import Turn
from roost.memory import groups, index, segments
from roost.memory.archive import Archive
from roost.memory.disk import Disk
from roost.memory.store import Fsync

State = dict[int, str]
SECRET = "xylophagou"


def talk(first: int, end: int, text: str = "and so on") -> dict[int, Turn]:
    return {
        number: Turn("user", f"word{number} {text} {'la ' * (number % 7)}", id=str(number))
        for number in range(first, end)
    }


def put(archive: Archive, turns: dict[int, Turn]) -> None:
    archive.append(turns)
    while archive.tend():
        pass


def life(archive: Archive) -> list[tuple[Callable[[], object], State]]:
    """What an archive goes through, and what it holds after each step."""
    model: State = {}
    steps: list[tuple[Callable[[], object], State]] = []

    def step(act: Callable[[], object]) -> None:
        steps.append((act, dict(model)))

    for batch in (
        talk(1, 9),
        talk(5, 12),
        talk(12, 13),
        talk(13, 14, SECRET),
        talk(2, 4, "edited"),
        talk(14, 20),
        talk(20, 30),
    ):
        model |= {number: turn.text for number, turn in batch.items()}
        model = dict(sorted(model.items()))
        step(lambda batch=batch: put(archive, batch))
    model = {number: text for number, text in model.items() if SECRET not in text}
    step(lambda: archive.rewrite(lambda turn: SECRET not in turn.text))
    model |= {number: turn.text for number, turn in talk(30, 33).items()}
    step(lambda: put(archive, talk(30, 33)))
    model = {}
    step(lambda: archive.rewrite(lambda turn: False))
    model = {number: turn.text for number, turn in talk(1, 4).items()}
    step(lambda: put(archive, talk(1, 4)))
    return steps


def live_until_death(path: Path, plug: Plug, fsync: Fsync) -> list[State]:
    """Run the whole life. Returns its states: the last was being written, the one before is safe."""
    history: list[State] = [{}]
    archive = None
    try:
        archive = Archive(path, fsync=fsync, disk=plug)
        for act, after in life(archive):
            history.append(after)
            act()
    except Died:
        return history
    finally:
        if archive is not None:
            archive.close()
        plug.after_death()
    return [*history, history[-1]]


@pytest.fixture(autouse=True)
def tidy_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "FEW", 3)
    monkeypatch.setattr(segments, "LEAST", 600)
    monkeypatch.setattr(segments, "SAMPLE", 32)
    monkeypatch.setattr(segments, "SHARE", 4)
    monkeypatch.setitem(index.SYNCHRONOUS, "always", "OFF")  # SQLite's own syncing is not what is tested, and slow


def state(archive: Archive) -> State:
    return {number: turn.text for number, turn in archive.turns()}


def assert_opens_with(path: Path, possible: list[State]) -> None:
    archive = Archive(path, fsync="os")
    now = state(archive)
    assert now in possible
    if not any(SECRET in text for text in now.values()):
        assert SECRET.encode() not in read(path.with_suffix(".index")), "nobody looked, so nobody made it again"
    assert len(archive) == len(now)
    assert archive.last == max(now, default=0)
    assert archive.damage() == []
    for number, text in list(now.items())[-1:]:
        assert archive.number("user", str(number)) == number
        hits = archive.search(f"word{number}", now=0)
        assert [turn.text for hit in hits for turn in hit.turns].count(text) == 1
    if not any(SECRET in text for text in now.values()):
        assert archive.search(SECRET, now=0) == []
    archive.append(talk(100, 103))
    assert list(state(archive)) == [*now, 100, 101, 102]
    archive.close()
    assert {one.name for one in path.parent.iterdir()} == {"x.cold", "x.index"}
    if not any(SECRET in text for text in now.values()):
        assert all(SECRET.encode() not in one.read_bytes() for one in path.parent.iterdir())


WAYS = [*((phase, "always") for phase in PHASES), ("half", "os")]


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize(("phase", "fsync"), WAYS)
def test_killed_at_any_step_nothing_acknowledged_is_lost(tmp_path: Path, phase: Phase, fsync: Fsync):
    for at in count(1):
        path = new_file(tmp_path, at)
        plug = Plug(at, phase)
        history = live_until_death(path, plug, fsync)
        assert_opens_with(path, history[-2:])
        if not plug.dead:
            assert at > 40
            break


@pytest.mark.parametrize(("phase", "fsync"), WAYS)
def test_a_power_cut_at_any_step_loses_nothing_that_was_synced(tmp_path: Path, phase: Phase, fsync: Fsync):
    for at in count(1):
        path = new_file(tmp_path, at)
        plug = PowerCut(at, phase)
        history = live_until_death(path, plug, fsync)
        plug.lose(path.parent)
        assert_opens_with(path, history[-2:] if fsync == "always" else history)
        if not plug.dead:
            assert at > 40
            break


def new_file(folder: Path, number: int) -> Path:
    (folder / str(number)).mkdir()
    return folder / str(number) / "x.cold"


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_killed_process_wrote_is_safe_once_it_is_appended_again(tmp_path: Path, phase: Phase):
    """It died between writing and syncing; the next one finds the turns, and must not take them for safe."""
    for at in count(1):
        path = new_file(tmp_path, at)
        dying = Plug(at, phase)
        try:
            Archive(path, disk=dying).append(talk(1, 9))
        except Died:
            dying.after_death()
        plug = PowerCut()
        archive = Archive(path, disk=plug)
        archive.append(talk(1, 9))
        archive.close()
        plug.lose(path.parent)
        assert len(state(Archive(path))) == 8
        if not dying.dead:
            assert at > 3
            break


@pytest.mark.parametrize("phase", PHASES)
def test_erasing_that_was_killed_is_finished_by_erasing_again(tmp_path: Path, phase: Phase):
    for at in count(1):
        path = new_file(tmp_path, at)
        archive = Archive(path, fsync="os")
        archive.append(talk(1, 30, SECRET))
        archive.close()
        plug = Plug(at, phase)
        try:
            Archive.erase(path, plug)
        except Died:
            left = Archive(path)
            assert len(left) in (0, 29)
            left.close()
        Archive.erase(path, Disk())
        assert list(path.parent.iterdir()) == []
        if not plug.dead:
            assert at > 5
            break


CHILD = """
import sys
from pathlib import Path
from roost.contracts import Turn
from roost.memory import groups
from roost.memory.archive import Archive
groups.FEW = 4
archive = Archive(Path(sys.argv[1]), fsync=sys.argv[2])
first = archive.last + 1
while True:
    end = first + first % 11 + 1
    batch = {n: Turn("user", f"word{n} " + "x" * (n * 37 % 400), id=str(n)) for n in range(first, end)}
    if first > 20:
        batch[first - 20] = Turn("user", f"word{first - 20} edited", id=str(first - 20))
    archive.append(batch)
    print(end - 1, flush=True)
    if end % 9 == 0:
        archive.rewrite(lambda turn: "edited" not in turn.text)
    first = end
"""


@pytest.mark.parametrize("fsync", ["always", "os"])
def test_killed_for_real_nothing_acknowledged_is_lost(tmp_path: Path, fsync: Fsync):
    chance = seeded()
    path = tmp_path / "x.cold"
    for _ in range(5):
        acknowledged = kill_child(path, fsync, chance.randrange(1, 50))
        archive = Archive(path, fsync="os")
        now = state(archive)
        assert archive.last >= acknowledged
        assert set(range(max(1, archive.last - 19), archive.last + 1)) <= set(now), "only what is older is ever edited"
        assert archive.damage() == []
        for number, text in now.items():
            assert text.startswith(f"word{number} ")
        assert all(archive.search(f"word{number}", now=0) for number in chance.choices(sorted(now), k=3))
        assert archive.number("user", str(archive.last)) == archive.last
        archive.close()


def kill_child(path: Path, fsync: Fsync, after: int) -> int:
    """Let a process append until it has acknowledged `after` times, kill it, return the last number acknowledged."""
    command = [sys.executable, "-c", CHILD, str(path), fsync]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(after):
            assert child.stdout.readline(), "the child died by itself"
        child.kill()
        lines = child.stdout.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1]) if whole else 0
