"""The window remembers every turn and recalls the newest, with a beginning that stays the same."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from roost.contracts import Recollection, Turn
from roost.errors import ConfigError, StoreError
from roost.memory.builtin import register_memories
from roost.memory.conversation import FILES, file_name
from roost.memory.counting import CUT
from roost.memory.disk import Disk
from roost.memory.lines import encode, seal
from roost.memory.sliding import SMALLEST, STAND_IN, weigh
from roost.memory.store import Store
from roost.memory.window import Window, WindowConfig
from roost.values import Place

HOME = Place("telegram", "42", "7", "group")
AWAY = Place("telegram", "43")


async def count(text: str) -> int:
    return len(text) // 4 + 1


def exchange(number: int, length: int = 40) -> list[Turn]:
    return [
        Turn(role="user", text=f"q{number} ".ljust(length, "x"), author="Ann", at=number + 0.5, id=f"m{number}"),
        Turn(role="assistant", text=f"a{number} ".ljust(length, "y"), id=f"m{number}"),
    ]


@pytest.fixture
async def window(tmp_path: Path):
    memory = Window(WindowConfig(), tmp_path / "memory")
    await memory.open()
    yield memory
    await memory.close()


async def again(window: Window) -> Window:
    """The same memory after a restart."""
    await window.close()
    fresh = Window(window.config, window.home)
    await fresh.open()
    return fresh


def words(recollection: Recollection) -> list[str]:
    return [turn.text.split()[0] for turn in recollection.turns]


async def test_turns_come_back_as_they_were_remembered(window: Window):
    turns = [*exchange(1), Turn(role="user", text="grüße 你好 \ud83d", author="Bo", at=1.25)]
    await window.remember(HOME, turns)
    assert await window.turns(HOME) == turns
    window = await again(window)
    assert await window.turns(HOME) == turns
    recalled = (await window.recall(HOME, 1000, count)).turns
    assert [turn.text for turn in recalled] == [turn.text for turn in turns]
    assert all(turn.tokens for turn in recalled)
    await window.close()


async def test_places_are_apart_and_listed_with_their_kind(window: Window):
    await window.remember(HOME, exchange(1))
    await window.remember(AWAY, exchange(2))
    assert words(await window.recall(HOME, 1000, count)) == ["q1", "a1"]
    assert words(await window.recall(AWAY, 1000, count)) == ["q2", "a2"]
    listed = await window.places()
    assert listed == [HOME, AWAY] and [place.kind for place in listed] == ["group", "direct"]


async def test_an_unknown_place_has_nothing_and_gets_no_file(window: Window):
    assert await window.recall(HOME, 1000, count) == Recollection()
    assert await window.turns(HOME) == []
    assert await window.forget(HOME) == 0
    await window.remember(HOME, [])
    assert list(window.home.glob(FILES)) == []


async def test_a_turn_with_a_known_role_and_id_replaces_that_one_where_it_is(window: Window):
    await window.remember(HOME, [*exchange(1), *exchange(2)])
    await window.recall(HOME, 1000, count)
    await window.remember(HOME, [Turn(role="user", text="edited and longer", id="m1")])
    window = await again(window)
    await window.remember(HOME, [Turn(role="assistant", text="thought again", id="m2")])
    stored = await window.turns(HOME)
    assert [turn.text.split()[0] for turn in stored] == ["edited", "a1", "q2", "thought"]
    assert [bool(turn.tokens) for turn in stored] == [False, True, True, False]
    await window.close()


async def test_turns_without_an_id_are_always_added(window: Window):
    await window.remember(HOME, [Turn(role="user", text="hm")] * 3)
    assert len(await window.turns(HOME)) == 3


async def test_one_batch_may_name_a_turn_twice(window: Window):
    await window.remember(HOME, [*exchange(1), Turn(role="user", text="second thought", id="m1")])
    assert [turn.text.split()[0] for turn in await window.turns(HOME)] == ["second", "a1"]


async def test_remembering_the_same_again_writes_nothing(window: Window):
    await window.remember(HOME, exchange(1))
    await window.recall(HOME, 1000, count)
    (file,) = window.home.glob(FILES)
    before = file.read_bytes()
    await window.remember(HOME, exchange(1))
    await window.recall(HOME, 1000, count)
    assert file.read_bytes() == before


async def test_remember_is_one_write(tmp_path: Path):
    class Counting(Disk):
        writes = 0

        def write(self, file, data):
            self.writes += 1
            super().write(file, data)

    disk = Counting()
    window = Window(WindowConfig(), tmp_path, disk)
    await window.open()
    await window.remember(HOME, exchange(1))
    disk.writes = 0
    await window.remember(HOME, [*exchange(2), *exchange(3), *exchange(1, length=50)])
    assert disk.writes == 1
    await window.close()


async def test_the_window_slides_in_steps_and_its_beginning_stays_between_them(window: Window):
    budget, before, slides = 300, (), 0
    for number in range(60):
        await window.remember(HOME, exchange(number))
        turns = (await window.recall(HOME, budget, count)).turns
        assert turns[0].role == "user" and turns[-1].text.startswith(f"a{number}")
        assert weigh(turns) <= budget
        if turns[: len(before)] != before:
            slides += 1
            assert weigh(turns) <= budget / 2
            assert weigh([*before, *turns[-2:]]) > budget
        before = turns
        if number % 7 == 0:
            window = await again(window)
            assert (await window.recall(HOME, budget, count)).turns == turns
    assert 5 <= slides <= 15
    assert len(await window.turns(HOME)) == 120
    await window.close()


async def test_shares_of_the_budget_are_configured(tmp_path: Path):
    window = Window(WindowConfig(high=0.8, low=0.3), tmp_path)
    await window.open()
    await window.remember(HOME, [turn for number in range(60) for turn in exchange(number)])
    turns = (await window.recall(HOME, 1000, count)).turns
    assert 200 < weigh(turns) <= 300
    await window.remember(HOME, [turn for number in range(60, 70) for turn in exchange(number)])
    assert 600 < weigh((await window.recall(HOME, 1000, count)).turns) <= 800
    await window.close()


@pytest.mark.parametrize(("high", "low"), [(1.5, 0.5), (0.4, 0.5), (1.0, 0.0)])
def test_impossible_shares_are_refused_with_a_sentence(tmp_path: Path, high: float, low: float):
    with pytest.raises(ConfigError, match="0 < low <= high <= 1"):
        Window(WindowConfig(high=high, low=low), tmp_path)


async def test_a_turn_longer_than_the_budget_is_cut_only_in_what_is_recalled(window: Window):
    long = Turn(role="user", text="begin " + "x" * 9000 + " end", id="long")
    await window.remember(HOME, [*exchange(1), long])
    turns = (await window.recall(HOME, 400, count)).turns
    assert len(turns) == 1 and CUT in turns[0].text
    assert turns[0].text.startswith("begin ") and turns[0].text.endswith(" end")
    assert weigh(turns) <= 400
    assert (await window.turns(HOME))[2].text == long.text
    await window.remember(HOME, exchange(2))
    window = await again(window)
    later = (await window.recall(HOME, 400, count)).turns
    assert later[:1] == turns and words(Recollection(turns=later[1:])) == ["q2", "a2"]
    await window.close()


async def test_a_cut_turn_that_is_edited_is_cut_afresh(window: Window):
    await window.remember(HOME, [Turn(role="user", text="x" * 9000, id="1")])
    await window.recall(HOME, 400, count)
    await window.remember(HOME, [Turn(role="user", text="z" * 9000, id="1")])
    assert (await window.recall(HOME, 400, count)).turns[0].text.startswith("z")


async def test_a_smaller_budget_cuts_shorter(window: Window):
    await window.remember(HOME, [Turn(role="user", text="x" * 9000)])
    for budget in (2000, 900, 200, SMALLEST):
        assert 0 < weigh((await window.recall(HOME, budget, count)).turns) <= budget


async def test_what_the_bot_said_first_follows_a_stand_in(window: Window):
    await window.remember(HOME, [Turn(role="assistant", text="Reminder: tea.")])
    turns = (await window.recall(HOME, 400, count)).turns
    assert turns[0] == STAND_IN and turns[1].text == "Reminder: tea."
    await window.remember(HOME, exchange(1))
    assert (await window.recall(HOME, 400, count)).turns[:2] == turns


async def test_a_budget_too_small_for_a_turn_recalls_nothing_and_spoils_nothing(window: Window):
    await window.remember(HOME, exchange(1))
    for budget in (-5, 0, SMALLEST - 1):
        assert await window.recall(HOME, budget, count) == Recollection()
    assert words(await window.recall(HOME, 1000, count)) == ["q1", "a1"]
    assert (await window.recall(HOME, SMALLEST, count)).turns


async def test_each_text_is_counted_once(window: Window):
    asked: list[str] = []

    async def counting(text: str) -> int:
        asked.append(text)
        return await count(text)

    for number in range(30):
        await window.remember(HOME, exchange(number))
        await window.recall(HOME, 300, counting)
        if number == 15:
            window = await again(window)
    assert len(asked) == len(set(asked)) == 60
    await window.close()


async def test_a_count_that_fails_leaves_everything_as_it_was(window: Window):
    async def broken(text: str) -> int:
        raise RuntimeError("no engine")

    await window.remember(HOME, exchange(1))
    with pytest.raises(RuntimeError, match="no engine"):
        await window.recall(HOME, 1000, broken)
    assert words(await window.recall(HOME, 1000, count)) == ["q1", "a1"]


async def test_forgetting_removes_the_file_and_what_lay_beside_it(window: Window):
    await window.remember(HOME, exchange(1))
    await window.remember(AWAY, exchange(2))
    file = window.home / file_name(str(HOME))
    for ending in (".new", ".damaged-00000000"):
        file.with_name(file.name + ending).write_text("secret")
    assert await window.forget(HOME) == 2
    assert [path.name for path in window.home.glob(FILES)] == [file_name(str(AWAY))]
    assert await window.recall(HOME, 1000, count) == Recollection()
    await window.remember(HOME, exchange(3))
    assert words(await window.recall(HOME, 1000, count)) == ["q3", "a3"]


async def test_what_is_forgotten_during_a_recall_stays_forgotten(window: Window):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(text: str) -> int:
        begun.set()
        await go_on.wait()
        return 5

    await window.remember(HOME, exchange(1))
    recalling = asyncio.create_task(window.recall(HOME, 1000, waiting))
    await begun.wait()
    forgetting = asyncio.create_task(window.forget(HOME))
    await window.remember(AWAY, exchange(2))
    go_on.set()
    assert len((await recalling).turns) == 2 and await forgetting == 2
    assert [path.name for path in window.home.glob(FILES)] == [file_name(str(AWAY))]


async def test_only_so_many_conversations_stay_open(tmp_path: Path):
    window = Window(WindowConfig(open_files=3, fsync="os"), tmp_path)
    await window.open()
    places = [Place("c", str(number)) for number in range(20)]
    for number in range(60):
        await window.remember(places[number % 20], exchange(number))
        assert len(window._files._conversations) <= 3
    assert [len(await window.turns(place)) for place in places] == [6] * 20
    await window.close()


async def test_concurrent_calls_for_one_place_all_count(tmp_path: Path):
    window = Window(WindowConfig(open_files=2, fsync="os"), tmp_path)
    await window.open()

    async def slow(text: str) -> int:
        await asyncio.sleep(0)
        return await count(text)

    places = [Place("c", str(number)) for number in range(4)]
    await asyncio.gather(
        *(window.remember(places[number % 4], exchange(number)) for number in range(80)),
        *(window.recall(places[number % 4], 300, slow) for number in range(40)),
        window.forget(Place("c", "other")),
    )
    for index, place in enumerate(places):
        stored = [turn.text.split()[0] for turn in await window.turns(place)]
        assert stored == [f"{side}{number}" for number in range(index, 80, 4) for side in "qa"]
    await window.close()


async def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path):
    released = threading.Event()

    class Slow(Disk):
        def sync(self, file):
            assert released.wait(20)
            super().sync(file)

    window = Window(WindowConfig(), tmp_path, Slow())
    await window.open()
    writing = asyncio.create_task(window.remember(HOME, exchange(1)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writing.done()
    released.set()
    await writing
    await window.close()


async def test_a_cancelled_call_leaves_order_and_content_whole(tmp_path: Path):
    released, begun = threading.Event(), threading.Event()

    class Slow(Disk):
        def write(self, file, data):
            begun.set()
            assert released.wait(20)
            super().write(file, data)

    counting = asyncio.Event()

    async def endless(text: str) -> int:
        counting.set()
        return await asyncio.Future()

    window = Window(WindowConfig(), tmp_path, Slow())
    released.set()
    await window.open()
    released.clear()
    begun.clear()
    writing = asyncio.create_task(window.remember(HOME, exchange(1)))
    assert await asyncio.to_thread(begun.wait, 20)
    writing.cancel()
    waiting = asyncio.create_task(window.remember(HOME, exchange(2)))
    released.set()
    await waiting
    recalling = asyncio.create_task(window.recall(HOME, 1000, endless))
    await counting.wait()
    recalling.cancel()
    assert words(await window.recall(HOME, 1000, count)) == ["q1", "a1", "q2", "a2"]
    with pytest.raises(asyncio.CancelledError):
        await writing
    await window.close()


async def test_a_full_disk_is_told_in_a_sentence_and_the_memory_goes_on(tmp_path: Path):
    class Full(Disk):
        full = False

        def write(self, file, data):
            if self.full:
                raise OSError(28, "No space left on device")
            super().write(file, data)

    disk = Full()
    window = Window(WindowConfig(), tmp_path, disk)
    await window.open()
    await window.remember(HOME, exchange(1))
    disk.full = True
    with pytest.raises(StoreError, match="No space left on device"):
        await window.remember(HOME, exchange(2))
    disk.full = False
    await window.remember(HOME, exchange(3))
    window = await again(window)
    assert [turn.text.split()[0] for turn in await window.turns(HOME)] == ["q1", "a1", "q3", "a3"]
    await window.close()


async def test_closing_twice_is_harmless(window: Window):
    await window.close()
    await window.close()


async def test_folder_and_files_are_their_owners_alone(window: Window):
    await window.remember(HOME, exchange(1))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (window.home, *window.home.iterdir())]
    assert modes == [0o700, *[0o600] * (len(modes) - 1)] or os.name == "nt"  # Windows has no such bits


@pytest.mark.parametrize(
    "place",
    [
        Place("telegram", "42", "7"),
        Place("matrix", "!rOOm:example.org", "$event"),
        Place("CON", "aux", "nul"),
        Place("c", "../../etc/passwd", "..\\x"),
        Place("c", "长" * 300),
        Place("c", "x" * 5000),
        Place("con.txt", "."),
    ],
)
def test_file_names_are_safe_everywhere(place: Place):
    name = file_name(str(place))
    assert len(name) <= 63 and name == name.lower() and name.isascii()
    assert not set(name) & set('/\\:*?"<>| ') and name.count(".") == 1


def test_places_that_look_alike_have_files_of_their_own():
    places = [Place("c", "a"), Place("c", "A"), Place("C", "a"), Place("c", "a", "b"), Place("c", "a/b")]
    assert len({file_name(str(place)) for place in places}) == len(places)


async def test_damage_in_one_conversation_is_its_own_affair(window: Window, caplog):
    for number in range(4):
        await window.remember(HOME, exchange(number))
    await window.remember(AWAY, exchange(9))
    window = await again(window)
    file = window.home / file_name(str(HOME))
    file.write_bytes(file.read_bytes().replace(b"q1 x", b"q1 y"))
    for name in ("notes.txt", "foreign.jsonl", ".hidden", "x-0123456789abcdef.jsonl"):
        (window.home / name).write_bytes(b"\x00 not ours \xff\n")
    (window.home / "folder-0123456789abcdef.jsonl").mkdir()
    assert words(await window.recall(HOME, 1000, count)) == ["q0", "a0", "q2", "a2", "q3", "a3"]
    assert words(await window.recall(AWAY, 1000, count)) == ["q9", "a9"]
    assert await window.places() == [HOME, AWAY]
    window = await again(window)
    await window.remember(HOME, exchange(4))
    assert len(await window.turns(HOME)) == 8
    damage = [record.message for record in caplog.records if "left out" not in record.message]
    assert len(damage) == 1 and "xxxx" not in caplog.text
    assert (window.home / "x-0123456789abcdef.jsonl").read_bytes() == b"\x00 not ours \xff\n"
    await window.close()


async def test_a_file_that_lost_its_record_is_still_the_places_own(window: Window):
    for number in range(3):
        await window.remember(HOME, exchange(number))
    window = await again(window)
    file = window.home / file_name(str(HOME))
    file.write_bytes(file.read_bytes().replace(b'"window"', b'"widnow"'))
    assert len((await window.recall(HOME, 1000, count)).turns) == 6
    assert await window.places() == [HOME]
    await window.close()


async def test_anothers_file_under_this_name_is_not_read(window: Window, caplog):
    await window.remember(AWAY, exchange(1))
    await window.close()
    (window.home / file_name(str(AWAY))).rename(window.home / file_name(str(HOME)))
    window = Window(window.config, window.home)
    await window.open()
    assert await window.recall(HOME, 1000, count) == Recollection()
    await window.remember(HOME, exchange(2))
    assert words(await window.recall(HOME, 1000, count)) == ["q2", "a2"]
    assert "belongs to another place" in caplog.text
    assert len(list(window.home.glob("*.damaged-*"))) == 1
    await window.close()


async def test_documents_that_are_no_turns_are_passed_over(window: Window):
    await window.remember(HOME, exchange(1))
    await window.close()
    with Store(window.home / file_name(str(HOME))) as db:
        db.table("turns").insert_multiple([{"text": 7}, {"role": "user", "text": "by hand"}, {"role": "clown"}])
        db.table("window").update({"start": "nonsense"})
    window = Window(window.config, window.home)
    await window.open()
    assert words(await window.recall(HOME, 1000, count)) == ["q1", "a1", "by"]
    await window.close()


async def test_a_newer_file_is_refused_left_alone_and_can_be_forgotten(window: Window, caplog):
    file = window.home / file_name(str(HOME))
    file.write_bytes(seal(encode(["roost journal", 99])))
    with pytest.raises(StoreError, match="newer Roost"):
        await window.recall(HOME, 1000, count)
    assert await window.places() == [] and "left out" in caplog.text
    assert await window.forget(HOME) == 0 and not file.exists()


def test_it_is_registered_as_window():
    offered = {}
    register_memories(offered.__setitem__)
    assert offered == {"window": "roost.memory.window:Window"}


class WindowModel(RuleBasedStateMachine):
    """Any sequence of calls, against a list."""

    budget = 260

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.turns: list[Turn] = []
        self.previous: tuple[Turn, ...] = ()
        self.edited = False
        self.known = 0
        self.fresh = 0

    @initialize(low=st.sampled_from([0.3, 0.5, 0.8]))
    def begin(self, low):
        self.home = Path(tempfile.mkdtemp(dir=os.environ["ROOST_TEST_FOLDER"]))
        self.config = WindowConfig(low=low, fsync="os")
        self.window = Window(self.config, self.home)
        self.runner.run(self.window.open())

    def make(self, role: str, size: int, name: str) -> Turn:
        self.fresh += 1
        return Turn(role=role, text=f"{self.fresh} ".ljust(size, "z"), id=name)

    @rule(
        parts=st.lists(
            st.tuples(
                st.sampled_from(["user", "assistant"]),
                st.sampled_from([4, 40, 150, 700, 3000]),
                st.sampled_from(["", "", "1", "2", "3", "4"]),
            ),
            max_size=5,
        )
    )
    def remember(self, parts):
        batch = [self.make(*part) for part in parts]
        self.runner.run(self.window.remember(HOME, batch))
        for turn in batch:
            index = next((i for i, old in enumerate(self.turns) if turn.id and same(old, turn)), None)
            if index is None:
                self.turns.append(turn)
            else:
                self.turns[index] = turn
                self.edited = True

    @rule()
    def recall(self):
        turns = self.runner.run(self.window.recall(HOME, self.budget, count)).turns
        assert bool(turns) == bool(self.turns)
        if turns:
            assert turns[0].role == "user" and weigh(turns) <= self.budget
            self.compare(turns[1:] if turns[0] == STAND_IN else turns)
            if turns[: len(self.previous)] != self.previous and not self.edited:
                self.check_step(turns)
        self.previous, self.known, self.edited = turns, len(self.turns), False

    def compare(self, turns: tuple[Turn, ...]) -> None:
        newest = self.turns[len(self.turns) - len(turns) :]
        for given, stored in zip(turns, newest, strict=True):
            assert given.role == stored.role and given.id == stored.id
            assert given.text == stored.text or (CUT in given.text and len(given.text) < len(stored.text))

    def check_step(self, turns: tuple[Turn, ...]) -> None:
        low = max(SMALLEST, int(self.budget * self.config.low))
        assert weigh(turns) <= low or "user" not in [turn.role for turn in turns[1:]]
        new = [replace(turn, tokens=len(turn.text) // 4 + 1) for turn in self.turns[self.known :]]
        cut_before = any(CUT in turn.text for turn in self.previous)
        assert cut_before or weigh([*self.previous, *new]) > self.budget

    @rule()
    def reopen(self):
        self.runner.run(self.window.close())
        self.window = Window(self.config, self.home)
        self.runner.run(self.window.open())
        if self.previous and not self.edited:
            before = self.previous
            after = self.runner.run(self.window.recall(HOME, 10**9, count)).turns
            assert after[: len(before)] == before

    @rule()
    def forget(self):
        assert self.runner.run(self.window.forget(HOME)) == len(self.turns)
        self.turns, self.previous, self.known = [], (), 0

    @invariant()
    def everything_is_stored(self):
        if hasattr(self, "window"):
            stored = self.runner.run(self.window.turns(HOME))
            assert [(t.role, t.text, t.id) for t in stored] == [(t.role, t.text, t.id) for t in self.turns]

    def teardown(self):
        if hasattr(self, "window"):
            self.runner.run(self.window.close())
        self.runner.close()


def same(one: Turn, other: Turn) -> bool:
    return (one.role, one.id) == (other.role, other.id)


@pytest.fixture(autouse=True, scope="module")
def folder_for_models(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOST_TEST_FOLDER", str(tmp_path_factory.mktemp("models")))
        yield


TestWindowModel = WindowModel.TestCase
TestWindowModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
