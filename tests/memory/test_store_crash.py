"""Pull the plug at every step: what was acknowledged is there, and the file opens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from plug import PHASES, Died, Phase, Plug, PowerCut
from seeded import seeded
from tinydb.storages import MemoryStorage

from roost.memory import store
from roost.memory.store import Fsync, Store

State = dict[int, dict[str, int]]


def steps(db: Store) -> list[Callable[[], object]]:
    grow = [lambda n=n: db.insert({"n": n, "pad": 7}) for n in range(4)]
    churn = [lambda n=n: db.update({"n": n}, doc_ids=[2]) for n in range(40, 50)]
    return [
        *grow,
        *churn,
        lambda: db.insert_multiple([{"n": 60}, {"n": 61}]),
        lambda: db.remove(doc_ids=[1, 3]),
        db.storage.compact,
        lambda: db.insert({"n": 70}),
    ]


def state(db: Store) -> State:
    return {doc.doc_id: dict(doc) for doc in db}


def live_until_death(path: Path, plug: Plug, fsync: Fsync) -> list[State]:
    """Run the whole life of a store. Returns its states: the last was being written, the one before is safe."""
    history: list[State] = [{}]
    with Store(storage=MemoryStorage) as model:
        model.storage.compact = lambda: None
        try:
            with Store(path, fsync=fsync, disk=plug) as db:
                for mine, theirs in zip(steps(model), steps(db), strict=True):
                    mine()
                    history.append(state(model))
                    theirs()
        except Died:
            return history
    return [*history, history[-1]]


@pytest.fixture(autouse=True)
def rewrite_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SLACK", 100)


@pytest.mark.parametrize("fsync", ["always", "os"])
@pytest.mark.parametrize("phase", PHASES)
def test_killed_at_any_step_nothing_acknowledged_is_lost(tmp_path: Path, phase: Phase, fsync: Fsync):
    for at in count(1):
        path = new_file(tmp_path, at)
        plug = Plug(at, phase)
        history = live_until_death(path, plug, fsync)
        plug.after_death()
        assert_opens_with(path, history[-2:])
        if not plug.dead:
            assert at > 20
            break


@pytest.mark.parametrize("fsync", ["always", "os"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_power_cut_at_any_step_loses_nothing_that_was_synced(tmp_path: Path, phase: Phase, fsync: Fsync):
    for at in count(1):
        path = new_file(tmp_path, at)
        plug = PowerCut(at, phase)
        history = live_until_death(path, plug, fsync)
        plug.lose(path.parent)
        assert_opens_with(path, history[-2:] if fsync == "always" else history)
        if not plug.dead:
            assert at > 20
            break


def new_file(folder: Path, number: int) -> Path:
    (folder / str(number)).mkdir()
    return folder / str(number) / "x.jsonl"


def assert_opens_with(path: Path, possible: list[State]) -> None:
    for _ in range(2):
        with Store(path) as db:
            assert state(db) in possible
    with Store(path) as db:
        db.insert({"n": 1})
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("phase", PHASES)
def test_killed_while_repairing_the_whole_lines_survive(tmp_path: Path, phase: Phase):
    for at in count(1):
        path = tmp_path / str(at) / "x.jsonl"
        with Store(path, fsync="os", create_dirs=True) as db:
            for n in range(5):
                db.insert({"n": n})
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"n":2', b'"n":3'))
        plug = Plug(at, phase)
        try:
            Store(path, disk=plug).close()
        except Died:
            plug.after_death()
        with Store(path) as db:
            assert [doc["n"] for doc in db] == [0, 1, 3, 4]
        assert len(list(path.parent.glob("*.damaged-*"))) == 1
        if not plug.dead:
            assert at > 4
            break


CHILD = """
import sys
from roost.memory.store import Store
db = Store(sys.argv[1], fsync=sys.argv[2])
n = len(db)
while True:
    db.insert({"n": n, "text": "x" * (n * 37 % 400)})
    if n > 20:
        db.update({"text": ""}, doc_ids=[n - 20])
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("fsync", ["always", "os"])
def test_killed_for_real_nothing_acknowledged_is_lost(tmp_path: Path, fsync: Fsync):
    chance = seeded()
    path = tmp_path / "x.jsonl"
    for _ in range(12):
        acknowledged = kill_child(path, fsync, chance.randrange(1, 300))
        with Store(path) as db:
            assert len(db) >= acknowledged
            assert [doc["n"] for doc in db] == list(range(len(db)))


def kill_child(path: Path, fsync: Fsync, after: int) -> int:
    """Let a process append until it has acknowledged `after` documents, kill it, return the last acknowledged."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path, fsync], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(after):
            assert child.stdout.readline(), "the child died by itself"
        child.kill()
        lines = child.stdout.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1]) if whole else 0
