from __future__ import annotations

from pathlib import Path

from roost.brains.echo import Echo
from roost.contracts import Prompt, Turn


async def said(*turns: Turn, **options: object) -> list[str]:
    echo = Echo(Echo.Config(), Path("nowhere"))
    await echo.load()
    return [piece async for piece in echo.think(Prompt(turns, **options))]  # type: ignore[arg-type]


async def test_the_last_thing_the_user_said_comes_back_in_words() -> None:
    pieces = await said(
        Turn("system", "s"), Turn("user", "one"), Turn("assistant", "one"), Turn("user", "two  three\nfour")
    )
    assert pieces == ["two", "  three", "\nfour"]


async def test_nothing_said_gives_nothing() -> None:
    assert await said(Turn("user", "")) == []


async def test_what_was_added_for_the_model_is_not_said_again() -> None:
    last = Turn("user", "(From long ago:)\nhow are you\n(Answer in French.)")
    assert await said(last, said="how are you") == ["how", " are", " you"]
    assert await said(Turn("user", "changed"), said="how are you") == ["changed"]


async def test_an_answer_is_never_longer_than_asked_for() -> None:
    assert await said(Turn("user", "a b c d"), max_tokens=2) == ["a", " b"]
