"""Where the window begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.contracts import Turn
from roost.memory.counting import CUT, cut, measure
from roost.memory.sliding import OVERHEAD, SHORTEST, SMALLEST, STAND_IN, Start, cost, fit, slide, weigh


def turn(role: str, tokens: int) -> Turn:
    return Turn(role=role, text="x", tokens=tokens)


def talk(*tokens: int) -> list[Turn]:
    """User and assistant in turns."""
    return [turn("assistant" if index % 2 else "user", size) for index, size in enumerate(tokens)]


def test_the_window_falls_to_the_oldest_users_turn_that_leaves_it_at_the_floor():
    turns = talk(*[12] * 10)
    assert weigh(turns) == 10 * 20
    assert slide(turns, limit=190, floor=100) == Start(6)
    assert slide(turns, limit=190, floor=120) == Start(4)


def test_a_long_exchange_stays_whole_while_it_fits_the_limit():
    assert slide(talk(50, 50, 100, 50), limit=200, floor=100) == Start(2)


def test_an_exchange_longer_than_the_limit_is_cut_to_the_floor():
    turns = talk(10, 10, 500, 20)
    assert slide(turns, limit=200, floor=100) == Start(2, cap=100 - 20 - 2 * OVERHEAD)


def test_after_many_unanswered_turns_of_the_bot_the_newest_are_kept():
    turns = [turn("user", 10), *[turn("assistant", 30)] * 20]
    start = slide(turns, limit=400, floor=200)
    assert turns[start.index].role == "assistant"
    assert weigh(turns[start.index :], start.cap) <= 200 < weigh(turns[start.index - 1 :], start.cap)


def test_a_tools_result_is_not_parted_from_its_call():
    turns = [turn("user", 10), turn("assistant", 30), *[turn("assistant", 20), turn("tool", 60), turn("tool", 60)] * 3]
    for floor in range(250, 500, 10):
        assert turns[slide(turns, limit=floor, floor=floor).index].role != "tool"
    tight = slide(turns, limit=170, floor=170)
    assert (turns[tight.index].role, tight.index) == ("assistant", 8)
    assert weigh(turns[tight.index :], tight.cap) <= 170, "results that are too long are cut, not parted"


def test_short_turns_leave_their_room_to_long_ones():
    assert fit(talk(10, 1000), 100 + 2 * OVERHEAD) == 90
    assert fit(talk(1000, 1000), 100 + 2 * OVERHEAD) == 50
    assert fit(talk(10, 20), 1000) == 20


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.integers(1, 400)), min_size=1),
    st.integers(SMALLEST, 1000),
    st.integers(0, 1000),
)
def test_what_is_left_always_fits_and_is_never_empty(parts, floor, more):
    turns = [turn(role, tokens) for role, tokens in parts]
    start = slide(turns, floor + more, floor)
    left = turns[start.index :]
    assert left and weigh(left, start.cap) <= floor + more
    assert start.cap == 0 or start.cap >= SHORTEST
    # Above the floor only where nothing smaller begins with a user's turn.
    assert weigh(left, start.cap) <= floor or "user" not in [each.role for each in left[1:]]


async def letters(text: str) -> int:
    return len(text)


@given(st.text(min_size=SHORTEST, max_size=3000), st.integers(SHORTEST, 200))
async def test_a_cut_turn_keeps_its_beginning_and_its_end(text, cap):
    whole = Turn(role="user", text=text, id="7", tokens=len(text))
    short = await cut(whole, cap, letters)
    assert short.tokens == len(short.text) <= cap
    assert (short.role, short.id) == ("user", "7")
    head, tail = short.text.split(CUT, 1)
    assert head and text.startswith(head) and text.endswith(tail)


async def test_a_cut_counts_what_the_engine_counts():
    async def dense_at_the_start(text: str) -> int:
        return 10 * text.count("x") + text.count("y") // 4 + 1

    whole = Turn(role="user", text="x" * 1000 + "y" * 4000, tokens=11001)
    short = await cut(whole, 100, dense_at_the_start)
    assert 0 < await dense_at_the_start(short.text) == short.tokens <= 100


async def test_an_engine_that_counts_oddly_still_gets_the_mark_of_the_cut():
    async def always_more(text: str) -> int:
        return 1000

    short = await cut(Turn(role="user", text="word " * 500, tokens=1000), 50, always_more)
    assert short.text == CUT.strip()


async def test_only_as_many_turns_are_counted_as_can_matter():
    asked: list[str] = []

    async def count(text: str) -> int:
        asked.append(text)
        return 10

    turns = {number: Turn(role="user", text=str(number)) for number in range(1, 1001)}
    turns[990] = Turn(role="user", text="known", tokens=10)
    seen = await measure(turns, cap=0, limit=500, count=count)
    assert list(seen) == list(range(1001 - len(seen), 1001))
    assert 500 // cost(seen[1000]) < len(seen) == len(asked) + 1 < 50
    assert "known" not in asked


def test_the_stand_in_is_paid_for():
    assert weigh([turn("assistant", 5)]) == weigh([STAND_IN, turn("assistant", 5)])
