"""How much is answered: budgets of people and of places, told of once, and not to be had anew by a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.budgets import DAY, HOUR, Budget, add, take
from roost.schema import connect
from roost.testing import Stage
from roost.values import Message, Person, Place

TEAM = Place("stage", "team", kind="group")
OPEN = '[bot]\nowner = "stage:ann"\n[access]\ndirect = "open"\ngroups = "open"\n'
ENOUGH = "That was as much as I may answer here."


class Clock:
    """The time as the bot sees it, to be set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def flood(stage: Stage, times: int, person: str = "Eve", place: Place | None = None) -> list[str]:
    place = place or Place("stage", person)
    return [await stage.talk(f"{number}", person=person, place=place) for number in range(times)]


async def test_who_has_used_up_a_budget_is_told_once_and_then_gets_silence(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN + "messages_per_hour = 2\n") as stage:
        said = await flood(stage, 6)
        assert said == ["0", "1", f"{ENOUGH} I am back in 60 min.", "", "", ""]
        assert await flood(stage, 1, "Bob") == ["0"]
        assert await flood(stage, 5, "Ann") == list("01234"), "the owner has no limit"


async def test_a_restart_gives_nobody_a_new_budget(tmp_path: Path) -> None:
    config = OPEN + "messages_per_hour = 2\n"
    async with Stage(tmp_path, config=config) as stage:
        await flood(stage, 1)
    async with Stage(tmp_path, config=config) as stage:
        assert len("".join(await flood(stage, 2))) == len(f"0{ENOUGH} I am back in 60 min.")
    async with Stage(tmp_path, config=config) as stage:
        assert await flood(stage, 2) == ["", ""]


async def test_a_budget_is_fresh_when_its_window_has_passed(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OPEN + "messages_per_hour = 1\nmessages_per_day = 3\n") as stage:
        for wait in ("60 min", "60 min", "22 h"):
            assert await flood(stage, 3) == ["0", f"{ENOUGH} I am back in {wait}.", ""]
            clock.now += HOUR + 1
        assert await flood(stage, 2) == ["", ""]
        clock.now += DAY
        assert (await flood(stage, 1)) == ["0"]


@pytest.mark.parametrize("back", [60, HOUR, 10 * DAY])
async def test_a_clock_that_is_set_back_neither_frees_nor_locks_for_longer_than_a_window(
    tmp_path: Path, clock: Clock, back: int
) -> None:
    async with Stage(tmp_path, config=OPEN + "messages_per_hour = 1\n") as stage:
        await flood(stage, 2)
        clock.now -= back
        assert await flood(stage, 1) == [""]
        clock.now += HOUR + 1
        assert await flood(stage, 1) == ["0"]


async def test_the_tokens_of_answers_are_counted(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN + "tokens_per_day = 150\n") as stage:
        said = await flood(stage, 15)
        assert said[0] == "0" and said.count(f"{ENOUGH} I am back in 24 h.") == 1 and said[-1] == ""
        message = stage.message("0", person="Ann")
        await stage.bot.spend(message, 1000)
        assert await flood(stage, 1, "Ann") == ["0"], "the owner has no limit"


async def test_a_place_has_a_budget_whoever_speaks_there(tmp_path: Path) -> None:
    own = '[access.places."stage:team"]\nplace_messages_per_hour = 3\n'
    async with Stage(tmp_path, config=OPEN + own) as stage:
        said = [(await flood(stage, 1, f"P{number}", TEAM))[0] for number in range(6)]
        assert [bool(one) for one in said] == [True] * 4 + [False] * 2
        assert ENOUGH in said[3]
        assert await flood(stage, 5, "P0") == list("01234"), "elsewhere there is no limit"


async def test_what_is_not_answered_costs_nothing(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN + "messages_per_hour = 2\n") as stage:
        for number in range(3):
            await stage.talk("a line", person="Eve", place=TEAM, addressed=False)
            await stage.talk(f"line {number}", person="Eve", place=TEAM, edited=True, id="1")
        assert await flood(stage, 1) == ["0"]


async def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        await flood(stage, 3)
        await stage.bot.spend(stage.message("0", person="Eve"), 1000)
        sql = "SELECT count(*) FROM spent"
        assert await stage.bot.journal.do(lambda db: db.execute(sql).fetchone()) == (0,)


async def test_old_windows_and_old_requests_are_dropped(tmp_path: Path, clock: Clock) -> None:
    config = OPEN.replace('"open"', '"pairing"', 1) + "messages_per_hour = 1\n"
    async with Stage(tmp_path, config=config + 'people = ["stage:bob"]\n') as stage:
        await flood(stage, 2)
        await flood(stage, 2, "Bob")
        for days, left in ((1, (1, 1)), (3, (0, 1)), (31, (0, 0))):
            clock.now += days * DAY
            await stage.bot.journal.prune(30)
            sql = "SELECT (SELECT count(*) FROM spent), (SELECT count(*) FROM request)"
            assert await stage.bot.journal.do(lambda db, sql=sql: db.execute(sql).fetchone()) == left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 2000), min_size=5, max_size=60), st.integers(1, 5), st.integers(0, 30))
def test_in_no_two_windows_more_is_answered_than_two_budgets(
    tmp_path_factory: pytest.TempPathFactory, pauses: list[float], most: int, tokens: int
) -> None:
    db = connect(tmp_path_factory.mktemp("spent") / "journal.db", "normal")
    budget, other = Budget("stage:eve", "messages", HOUR, most), Budget("stage:eve", "tokens", HOUR, 100)
    answered: list[tuple[float, int]] = []
    now = 1e9
    for pause in pauses:
        now += pause
        if take(db, {budget: 1, other: 0}, now) is None:
            answered.append((now, tokens))
            add(db, {other: tokens}, now)
    db.close()
    for begin, _ in answered:
        within = [spent for at, spent in answered if begin <= at < begin + HOUR]
        assert len(within) <= 2 * most
        assert sum(within) <= 2 * (100 + tokens)


def test_a_person_and_a_place_of_one_name_do_not_share_a_budget() -> None:
    from roost.budgets import of
    from roost.settings import AccessTable

    message = Message("1", Place("telegram", "42"), Person("telegram", "42"))
    table = AccessTable(messages_per_hour=1, place_messages_per_hour=1)
    assert len({(one.key, one.unit, one.span) for one in of(message, table)}) == 2


async def test_what_a_plugin_has_a_brain_do_counts_too(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN + "tokens_per_day = 60\n") as stage:
        for _ in range(4):
            await stage.bot.think(stage.message("0", person="Eve"), "Write it in capitals.", "a text of some length")
        assert ENOUGH in (await flood(stage, 1))[0]


async def test_where_no_budget_holds_nothing_is_weighed(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        assert not stage.bot.metered(stage.message("0", person="Eve"))
    async with Stage(tmp_path, config=OPEN + "tokens_per_day = 60\n") as stage:
        assert stage.bot.metered(stage.message("0", person="Eve"))
        assert not stage.bot.metered(stage.message("0", person="Ann"))
