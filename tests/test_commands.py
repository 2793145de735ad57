"""How a command's hints read what a person wrote."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from roost import Message, Person, Place, Reply, command
from roost.commands import Command, UsageError

MESSAGE = Message("1", Place("stage", "1"), Person("stage", "ann", "Ann"), "/x")


def made(function: Any) -> Command:
    mark = command(function).__roost_command__
    assert isinstance(mark, Command)
    return mark


async def said(function: Any, text: str) -> list[str]:
    return [reply.text async for reply in made(function).run(text, MESSAGE, None)]


async def test_words_become_what_the_hints_say() -> None:
    def add(first: int, second: float = 0.5, loud: bool = False) -> str:
        return f"{first!r} {second!r} {loud!r}"

    assert await said(add, "3") == ["3 0.5 False"]
    assert await said(add, "3 2 yes") == ["3 2.0 True"]
    assert await said(add, "three") == [
        "'three' is not a whole number for 'first'. Write it like this: `/add <first> [second] [loud]`"
    ]
    assert await said(add, "") == ["'first' is missing. Write it like this: `/add <first> [second] [loud]`"]
    assert await said(add, "1 2 no more") == ["'more' is too much. Write it like this: `/add <first> [second] [loud]`"]


async def test_the_last_text_takes_the_rest_of_the_line() -> None:
    def note(title: str, body: str = "") -> str:
        return f"{title}|{body}"

    assert await said(note, 'shop "two eggs" and milk') == ['shop|"two eggs" and milk']
    assert await said(note, '"the shop" it\'s shut') == ["the shop|it's shut"]
    assert await said(note, "it's") == ["it's|"]


async def test_choices_and_optional_hints() -> None:
    def paint(colour: Literal["red", "blue"], times: int | None = None) -> str:
        return f"{colour} {times}"

    assert await said(paint, "RED 2") == ["red 2"]
    assert await said(paint, "blue") == ["blue None"]
    assert (await said(paint, "green"))[0].startswith("'green' is not one of red, blue for 'colour'.")


async def test_message_and_bot_are_filled_in() -> None:
    def who(message: Message, name: str = "") -> str:
        return f"{message.sender.name} {name}"

    assert await said(who, "Bob") == ["Ann Bob"]


async def test_every_kind_of_answer_is_understood() -> None:
    def several() -> Any:
        yield "one"
        yield Reply("two")

    async def later() -> str:
        return "later"

    async def many() -> Any:
        yield "a"
        yield "b"

    def silent() -> None:
        return None

    assert await said(several, "") == ["one", "two"]
    assert await said(later, "") == ["later"]
    assert await said(many, "") == ["a", "b"]
    assert await said(silent, "") == []


def test_name_and_help_come_from_the_function() -> None:
    @command
    def say_hello() -> str:
        """Greet someone.

        And more.
        """
        return ""

    @command("other", aliases=("o",), role="owner")
    def anything() -> str:
        return ""

    one, other = say_hello.__roost_command__, anything.__roost_command__  # type: ignore[attr-defined]
    assert (one.name, one.help) == ("say-hello", "Greet someone.")
    assert (other.name, other.aliases, other.role) == ("other", ("o",), "owner")
    assert say_hello() == ""


@given(st.text(max_size=60))
def test_any_text_binds_or_explains(text: str) -> None:
    def free(a: int, b: str = "", c: str = "") -> str:
        return ""

    try:
        values = made(free).bind(text, MESSAGE, None)
    except UsageError as error:
        assert str(error)
    else:
        assert isinstance(values["a"], int)
