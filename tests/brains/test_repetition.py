from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.brains.hygiene import cleaned
from roost.brains.repetition import WATCHED, Repetition, period
from roost.contracts import Piece


@given(st.text(alphabet="ab", min_size=1, max_size=30))
def test_the_period_is_the_shortest_stretch_that_makes_the_text(text: str) -> None:
    slow = next(n for n in range(1, len(text) + 1) if all(text[i] == text[i - n] for i in range(n, len(text))))
    assert period(text) == slow


@pytest.mark.parametrize("unit", ["!", "I'm ready to assist! ", "好的。", "word " * 30])
def test_a_loop_is_noticed_within_one_more_window(unit: str) -> None:
    watch, said = Repetition(), "Here is what I think: "
    watch.feed(said)
    while not watch.feed(unit):
        said += unit
        assert len(said) < 2 * WATCHED + len(unit)


@pytest.mark.parametrize(
    ("unit", "most"),
    [("！", 250), ("アムドライル。", 40), ("Aw, what a joke!\n\n", 42)],
    ids=["one sign", "a word in Japanese", "a line"],
)
def test_a_short_loop_is_ended_before_the_usual_limit_of_512_tokens(unit: str, most: int) -> None:
    watch = Repetition()
    assert any(watch.feed(unit) for _ in range(most))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{n}. I will not talk in class.\n" for n in range(1, 101)),
        "I will not talk in class.\n" * 20,
        "| a | b |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(200)),
        "-" * 120 + "\n" + "0, " * 200,
    ],
)
def test_lists_tables_and_lines_that_were_asked_for_are_no_loop(text: str) -> None:
    watch = Repetition()
    assert not any(watch.feed(text[start : start + 5]) for start in range(0, len(text), 5))


async def test_an_answer_in_a_loop_is_ended_and_the_model_stopped() -> None:
    closed = []

    async def model() -> AsyncGenerator[Piece, None]:
        try:
            while True:
                yield "over and over "
        finally:
            closed.append(True)

    said = "".join([str(piece) async for piece in cleaned(model())])
    assert said.endswith(" …")
    assert len(said) < 2 * WATCHED
    assert closed
