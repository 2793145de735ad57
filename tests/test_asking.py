"""Questions that plugins ask: answered, misunderstood, cancelled, outliving the process."""

from __future__ import annotations

import types
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from roost import Message, Place, command, hookimpl
from roost.testing import Stage


def plugin(**things: object) -> types.ModuleType:
    module = types.ModuleType("plug")
    vars(module).update(things)
    return module


@command
async def weather(message: Message, what: str = "weather") -> str:
    """Tell the weather."""
    city = await message.ask("Which city?")
    days = await message.ask("How many days?", int)
    return f"{what} in {city} for {days} days"


async def test_each_answer_takes_the_function_further(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        assert await stage.talk("/weather rain") == "Which city?"
        assert await stage.talk("Delft") == "How many days?"
        assert await stage.talk("3") == "rain in Delft for 3 days"
        assert await stage.talk("3") == "3"  # the brain's again


async def test_what_does_not_fit_is_asked_again(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        await stage.talk("/weather")
        await stage.talk("Delft")
        assert await stage.talk("many") == "'many' is not a whole number for the answer.\n\nHow many days?"
        assert await stage.talk("2") == "weather in Delft for 2 days"


async def test_a_question_outlives_the_process(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        await stage.talk("/weather")
        await stage.talk("Delft")
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        assert await stage.talk("3") == "weather in Delft for 3 days"


async def test_everybody_has_questions_of_their_own(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        await stage.talk("/weather", chat="1", person="Ann")
        assert await stage.talk("hello", chat="2", person="Ann") == "hello"
        assert await stage.talk("hello", chat="1", person="Bob") == "hello"
        assert await stage.talk("Delft", chat="1", person="Ann") == "How many days?"


async def test_an_answer_in_a_group_needs_no_mention(tmp_path: Path) -> None:
    place = Place("stage", "g", kind="group")
    config = '[access]\ndirect = "open"\ngroups = "open"\n'
    async with Stage(tmp_path, [plugin(weather=weather)], config=config) as stage:
        assert await stage.talk("/weather", place=place) == "Which city?"
        assert await stage.talk("unasked", place=place, person="Bob", addressed=False) == ""
        assert await stage.talk("Delft", place=place, addressed=False) == "How many days?"


async def test_what_was_said_before_a_question_is_not_said_again(tmp_path: Path) -> None:
    @command
    async def order(message: Message) -> Any:
        """Order."""
        yield "Welcome!"
        size = await message.ask("Which size?", Literal["small", "large"])
        yield f"A {size} one, then."
        if await message.ask("To go?", bool):
            yield "Here is a bag."
        yield "Good-bye."

    async with Stage(tmp_path, [plugin(order=order)]) as stage:
        assert await stage.talk("/order") == "Welcome!\n\nWhich size?\n\n1. small\n2. large"
        assert await stage.talk("2") == "A large one, then.\n\nTo go?\n\n1. yes\n2. no"
        assert await stage.talk("yes") == "Here is a bag.\n\nGood-bye."


async def test_a_number_means_its_choice_after_a_restart_too(tmp_path: Path) -> None:
    @command
    async def pick(message: Message) -> str:
        """Pick."""
        return f"{await message.ask('Which?', choices=['red', 'blue'])}!"

    async with Stage(tmp_path, [plugin(pick=pick)]) as stage:
        await stage.talk("/pick")
    async with Stage(tmp_path, [plugin(pick=pick)]) as stage:
        choices = "Which?\n\n1. red\n2. blue"
        assert await stage.talk("green") == f"'green' is not one of red, blue for the answer.\n\n{choices}"
        assert await stage.talk("2") == "blue!"


async def test_a_hook_may_ask_and_no_other_hook_runs_again(tmp_path: Path) -> None:
    ran: list[str] = []

    @hookimpl
    def on_message(message: Message) -> None:
        ran.append(message.text)

    first = plugin(on_message=on_message)

    @hookimpl(specname="on_message")
    async def asks(message: Message) -> str | None:
        if message.text != "lunch":
            return None
        return f"{await message.ask('With whom?')} comes to {message.text}."

    async with Stage(tmp_path, [first, plugin(asks=asks)]) as stage:
        assert await stage.talk("lunch") == "With whom?"
        assert await stage.talk("Bob") == "Bob comes to lunch."
        assert ran == ["lunch"]


async def test_a_command_in_between_leaves_the_question_and_cancel_ends_it(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        await stage.talk("/weather")
        assert "You are `stage:ann`" in await stage.talk("/whoami")
        assert await stage.talk("Delft") == "How many days?"
        assert await stage.talk("/cancel") == "All right."
        assert await stage.talk("3") == "3"
        assert await stage.talk("/cancel") == "I have not asked you anything."


async def test_a_function_that_fails_on_an_answer_does_not_get_the_next_one(tmp_path: Path) -> None:
    @command
    async def fragile(message: Message) -> str:
        """Break."""
        message.state["kept"] = 1
        return str(1 / await message.ask("How many?", int))

    async with Stage(tmp_path, [plugin(fragile=fragile)]) as stage:
        await stage.talk("/fragile")
        assert "Something went wrong" in await stage.talk("0")
        assert await stage.talk("5") == "5"


async def test_when_the_plugin_is_gone_it_is_said_once(tmp_path: Path) -> None:
    async with Stage(tmp_path, [plugin(weather=weather)]) as stage:
        await stage.talk("/weather")
    async with Stage(tmp_path) as stage:
        assert "There is no command /weather" in await stage.talk("Delft")
        assert await stage.talk("Delft") == "Delft"


async def test_the_answer_as_it_came_and_other_kinds(tmp_path: Path) -> None:
    got: list[Any] = []

    @command
    async def kinds(message: Message) -> str:
        """Ask for many things."""
        got[:] = [await message.ask("what?", Message), await message.ask("when?", timedelta)]
        return "thanks"

    async with Stage(tmp_path, [plugin(kinds=kinds)]) as stage:
        await stage.talk("/kinds")
        await stage.talk("this", id="m7")
        assert await stage.talk("1h30m") == "thanks"
        assert (got[0].id, got[0].text, got[1]) == ("m7", "this", timedelta(minutes=90))


async def test_only_what_a_plugin_was_given_can_be_asked_about() -> None:
    from roost import Person

    with pytest.raises(RuntimeError, match="Only a message"):
        await Message("1", Place("a", "b"), Person("a", "c")).ask("what?")
