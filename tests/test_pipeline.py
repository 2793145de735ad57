"""The way of one message, with a whole bot around it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost import Button, Message, Reply, command, hookimpl
from roost.contracts import Prompt
from roost.errors import BrainError
from roost.testing import Stage
from roost.values import Attachment, Event, Place


def plugin(**things: object) -> types.ModuleType:
    module = types.ModuleType("plug")
    vars(module).update(things)
    return module


def outcomes(stage: Stage) -> list[tuple[str, str]]:
    import sqlite3

    with sqlite3.connect(stage.folder / "home" / "journal.db") as db:
        rows = db.execute("SELECT outcome, reason FROM inbox ORDER BY seq").fetchall()
    db.close()
    return rows


async def test_a_message_is_answered_by_the_brain(tmp_path: Path) -> None:
    async with Stage(tmp_path, script=lambda said: f"You said {said}.") as stage:
        assert await stage.talk("hello") == "You said hello."
        assert outcomes(stage) == [("reply", "thought")]


async def test_the_second_prompt_begins_with_the_whole_first_one(tmp_path: Path) -> None:
    async with Stage(tmp_path, script=lambda said: f"<{said}>") as stage:
        for text in ("one", "two", "three"):
            await stage.talk(text)
        first, second, third = (prompt.turns for prompt in stage.brain.prompts)
        assert [turn.text for turn in third[1:]] == ["one", "<one>", "two", "<two>", "three"]
        said = [[(turn.role, turn.text) for turn in turns] for turns in (first, second, third)]
        assert said[1][: len(said[0])] == said[0]
        assert said[2][: len(said[1])] == said[1]


async def test_the_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("my name is Ann")
    async with Stage(tmp_path) as stage:
        await stage.talk("what is my name?")
        assert [turn.text for turn in stage.brain.prompts[0].turns[1:]] == ["my name is Ann"] * 2 + ["what is my name?"]


async def test_a_duplicate_is_dropped_also_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello", id="7")
        assert await stage.talk("hello", id="7") == ""
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello", id="7") == ""


async def test_what_was_accepted_but_not_answered_is_answered_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.pipeline.lanes.put = lambda key, item: None  # type: ignore[method-assign]
        await stage.say("hello")
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]


async def test_places_do_not_wait_for_each_other_but_one_place_keeps_its_order(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @hookimpl
    async def on_message(message: Message) -> str:
        if message.text == "slow":
            await gate.wait()
        return message.text

    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        await stage.say("slow", chat="a")
        await stage.say("next", chat="a")
        await stage.say("quick", chat="b")
        async with stage.channel.came:
            await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))
        gate.set()
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["quick", "slow", "next"]


async def test_a_failing_brain_becomes_a_notice_and_the_next_message_works(tmp_path: Path) -> None:
    def script(said: str) -> str:
        if said == "fail":
            raise BrainError("The engine stopped.")
        return said

    async with Stage(tmp_path, script=script) as stage:
        assert await stage.talk("fail") == "⚠️ The engine stopped."
        assert await stage.talk("again") == "again"
        assert outcomes(stage) == [("notice", "BrainError"), ("reply", "thought")]


async def test_an_unexpected_error_keeps_its_details_out_of_the_chat(tmp_path: Path) -> None:
    def script(said: str) -> str:
        raise ZeroDivisionError("secret inner thing")

    async with Stage(tmp_path, script=script) as stage:
        answer = await stage.talk("hello")
        assert answer.startswith("⚠️ Something went wrong")
        assert "secret" not in answer


async def test_an_answer_that_takes_too_long_becomes_a_notice(tmp_path: Path) -> None:
    async with Stage(tmp_path, config='[brain]\nuse = "scripted"\ntimeout = 3.0\n') as stage:

        async def never(prompt: object):  # type: ignore[no-untyped-def]
            yield "I "
            await asyncio.Event().wait()

        stage.brain.think = never  # type: ignore[method-assign]
        assert await stage.talk("hello") == "I\n\n⚠️ That took too long, so I stopped."


async def test_stop_ends_the_answer_at_once(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        thinking = asyncio.Event()

        async def never(prompt: object):  # type: ignore[no-untyped-def]
            yield "Well"
            thinking.set()
            await asyncio.Event().wait()

        stage.brain.think = never  # type: ignore[method-assign]
        await stage.say("hello")
        await thinking.wait()
        await stage.say("/stop")
        await stage.quiet()
        assert sorted(reply.text for _, reply in stage.channel.sent) == ["Stopped.", "Well … (stopped)"]
        assert {reason for _, reason in outcomes(stage)} == {"stopped", "command stop"}


async def test_a_plugin_answers_before_the_brain(tmp_path: Path) -> None:
    @hookimpl
    def on_message(message: Message) -> str | None:
        return "pong" if message.text == "ping" else None

    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        assert await stage.talk("ping") == "pong"
        assert await stage.talk("hello") == "hello"


async def test_a_failing_plugin_stops_no_other(tmp_path: Path) -> None:
    @hookimpl(specname="on_message")
    def bad(message: Message) -> str:
        raise RuntimeError("no")

    @hookimpl
    async def on_message(message: Message) -> str:
        return "still here"

    async with Stage(tmp_path, [plugin(bad=bad), plugin(on_message=on_message)]) as stage:
        assert await stage.talk("hello") == "still here"


async def test_a_plugin_that_hangs_is_cut_off(tmp_path: Path) -> None:
    @hookimpl
    async def on_message(message: Message) -> str:
        await asyncio.Event().wait()
        return "never"

    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        stage.bot.dispatch.time_limit = 0.05
        assert await stage.talk("hello") == "hello"


async def test_commands_parse_and_answer(tmp_path: Path) -> None:
    @command
    def hello(name: str = "you") -> str:
        """Greet someone."""
        return f"Hello, {name}!"

    async with Stage(tmp_path, [plugin(hello=hello)]) as stage:
        assert await stage.talk("/hello Ann") == "Hello, Ann!"
        assert await stage.talk("/hello@roost_bot Ann Lee") == "Hello, Ann Lee!"
        assert await stage.talk("/helo") == "There is no command /helo. Did you mean 'hello'?"
        assert "Greet someone." in await stage.talk("/help")


async def test_before_think_and_before_send_may_replace(tmp_path: Path) -> None:
    from dataclasses import replace

    @hookimpl
    def before_send(reply: Reply) -> Reply:
        return replace(reply, text=reply.text + "!")

    @hookimpl
    def before_think(prompt):  # type: ignore[no-untyped-def]
        return replace(prompt, turns=(*prompt.turns[:-1], replace(prompt.turns[-1], text="changed")))

    async with Stage(tmp_path, [plugin(before_send=before_send, before_think=before_think)]) as stage:
        assert await stage.talk("hello") == "changed!"


async def test_an_edit_is_not_answered_again_and_memory_replaces_the_turn(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("I like tea", id="5")
        assert await stage.talk("I like coffee", id="5", key="5@2", edited=True) == ""
        await stage.talk("what do I like?")
        assert "I like coffee" in [turn.text for turn in stage.brain.prompts[-1].turns]
        assert outcomes(stage)[1] == ("silent", "edited")


async def test_in_a_group_only_addressed_lines_are_answered_and_the_others_are_context(tmp_path: Path) -> None:
    group = Place("stage", "team", kind="group")
    config = '[access]\ngroups = "open"\n'
    async with Stage(tmp_path, config=config) as stage:
        assert await stage.talk("lunch at noon", place=group, addressed=False) == ""
        assert await stage.talk("when is lunch?", place=group, person="Bob") != ""
        assert stage.brain.prompts[-1].turns[-1].text == "Ann: lunch at noon\nBob: when is lunch?"
        assert stage.channel.sent[-1][1].quote != ""


async def test_a_number_chooses_a_button_where_there_are_none(tmp_path: Path) -> None:
    @hookimpl
    def on_message(message: Message) -> Reply | str:
        if message.text == "ask":
            return Reply("Which?", buttons=(Button("Red", "r"), Button("Blue", "b")))
        return f"chose {message.text}"

    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        question = await stage.talk("ask")
        assert "1. Red" in question
        assert await stage.talk("2") == "chose b"
        assert await stage.talk("2") == "chose 2"


@pytest.mark.parametrize("text", ["", "   ", "\x00\x01\x02" * 300, "\ud800 lone", "a" * 200_000, "🧑🏽‍🚀" * 5000])
async def test_strange_texts_end_well(tmp_path: Path, text: str) -> None:
    async with Stage(tmp_path, script=lambda said: "fine") as stage:
        await stage.talk(text)
        assert await stage.talk("and now?") == "fine"
        assert [outcome for outcome, _ in outcomes(stage)][-1] == "reply"
        assert None not in [outcome for outcome, _ in outcomes(stage)]
        for prompt in stage.brain.prompts:
            counts = [await stage.brain.count(turn.text) for turn in prompt.turns]
            assert sum(counts) + prompt.max_tokens <= stage.brain.context


async def test_an_event_reaches_plugins_once(tmp_path: Path) -> None:
    seen: list[Event] = []

    @hookimpl
    def on_event(event: Event) -> None:
        seen.append(event)

    async with Stage(tmp_path, [plugin(on_event=on_event)]) as stage:
        event = Event("joined", Place("stage", "1"), at=1.0)
        await stage.receive(event)
        await stage.receive(event)
        await stage.quiet()
        assert seen == [event]
        assert outcomes(stage) == [("silent", "event")]


async def test_the_owner_code_lets_in_and_strangers_are_told_once(tmp_path: Path) -> None:
    async with Stage(tmp_path, config='[access]\ndirect = "pairing"\n') as stage:
        code = stage.bot.access.new_code()
        assert "only to people my owner has let in" in await stage.talk("hello", person="Eve")
        assert await stage.talk("hello?", person="Eve") == ""
        assert "my owner now" in await stage.talk(f"{code[:4]}-{code[4:]}", person="Ann")
        assert await stage.talk("hello", person="Ann") == "hello"
        assert await stage.talk(code, person="Eve") == ""
        assert not stage.bot.access.claimable()
    async with Stage(tmp_path, config='[access]\ndirect = "pairing"\n') as stage:
        assert await stage.talk("hello", person="Ann") == "hello"


async def test_new_forgets_the_conversation(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("the secret is 4711")
        await stage.talk("/new")
        await stage.talk("hello")
        assert all("4711" not in turn.text for turn in stage.brain.prompts[-1].turns)


async def test_a_bot_that_sends_unasked_delivers(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.bot.send("stage:9", "Good morning!")
        await stage.quiet()
        assert stage.channel.sent == [(Place("stage", "9"), stage.channel.sent[0][1])]
        assert stage.channel.sent[0][1].text == "Good morning!"


async def busy(stage: Stage) -> tuple[asyncio.Event, asyncio.Event]:
    """Make the brain say a word, and wait to be let go, for the first thing it is asked; it repeats the others."""
    thinking, go = asyncio.Event(), asyncio.Event()

    async def think(prompt: Prompt) -> AsyncIterator[str]:
        stage.brain.prompts.append(prompt)
        if not thinking.is_set():
            yield "well"
            thinking.set()
            await go.wait()
        else:
            yield prompt.turns[-1].text

    stage.brain.think = think  # type: ignore[method-assign]
    return thinking, go


async def test_what_waits_is_collected_into_one_answer(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel_config='busy = "collect"') as stage:
        thinking, go = await busy(stage)
        await stage.say("one")
        await thinking.wait()
        for text in ("two", "three", "/whoami", "four"):
            await stage.say(text)
        go.set()
        await stage.quiet()
        said = [reply.text for _, reply in stage.channel.sent]
        assert said[:2] == ["well", "two\nthree"]
        assert said[3:] == ["four"]
        assert [outcome for outcome, _ in outcomes(stage)] == ["reply", "silent", "reply", "reply", "reply"]
        assert outcomes(stage)[1][1] == "answered with 3"


def pictures(*names: str) -> list[Attachment]:
    return [Attachment("image", name, "image/png") for name in names]


async def test_an_album_is_answered_once(tmp_path: Path) -> None:
    whole = asyncio.Event()
    async with Stage(tmp_path) as stage:
        stage.bot.pipeline._await_album = whole.wait  # type: ignore[assignment, method-assign]
        one, two, three = pictures("one.png", "two.png", "three.png")
        await stage.say("/whoami", attachments=(one,), album="a")
        await stage.say("", attachments=(two,), album="a")
        await stage.say("", attachments=(three,), album="a")
        await stage.say("", attachments=(one,), album="b")
        await stage.say("and this?")
        whole.set()
        await stage.quiet()
        said = [reply.text for _, reply in stage.channel.sent]
        assert len(said) == 3 and said[2] == "and this?"
        notes = [note for _, note in outcomes(stage)]
        assert notes[:2] == ["answered with 3", "answered with 3"] and notes[3:] == ["NotSeen", "thought"]


async def test_an_album_with_words_is_one_question_about_all_its_pictures(tmp_path: Path) -> None:
    seen: list[Message] = []

    @hookimpl
    def on_message(message: Message) -> str:
        seen.append(message)
        return "nice"

    whole = asyncio.Event()
    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        stage.bot.pipeline._await_album = whole.wait  # type: ignore[assignment, method-assign]
        one, two = pictures("one.png", "two.png")
        await stage.say("which is better?", attachments=(one,), album="a")
        await stage.say("", attachments=(two,), album="a")
        whole.set()
        await stage.quiet()
    (message,) = seen
    assert message.text == "which is better?"
    assert [one.name for one in message.attachments] == ["one.png", "two.png"]


async def test_the_newest_message_interrupts_where_bot_toml_says_so(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel_config='busy_in = { "1" = "interrupt" }') as stage:
        thinking, _ = await busy(stage)
        await stage.say("one")
        await thinking.wait()
        assert await stage.talk("two") == "well … (stopped)\n\ntwo"
        assert outcomes(stage)[0] == ("reply", "interrupted by a newer message")


async def test_an_interrupt_while_a_notice_is_made_loses_nothing(tmp_path: Path) -> None:
    failing, go = asyncio.Event(), asyncio.Event()

    @hookimpl
    async def on_error(error: Exception) -> None:
        failing.set()
        await go.wait()

    def script(said: str) -> str:
        raise BrainError("No.")

    async with Stage(tmp_path, [plugin(on_error=on_error)], script=script) as stage:
        await stage.say("one")
        await failing.wait()
        assert not stage.bot.pipeline.break_off(Place("stage", "1"))
        go.set()
        await stage.quiet()
        assert outcomes(stage) == [("notice", "BrainError")]


@pytest.mark.parametrize(
    ("text", "hinted"),
    [
        ("What is the capital of France?", False),
        ("Où est la gare?", False),
        ("你好吗？", True),
        ("Как дела?", True),
        ("42", False),
    ],
)
async def test_a_message_in_another_script_is_answered_in_its_language(tmp_path: Path, text: str, hinted: bool) -> None:
    async with Stage(tmp_path, script=lambda said: "yes") as stage:
        await stage.talk(text)
        await stage.talk("and now")
        first, second = stage.brain.prompts
        assert ("language" in first.turns[-1].text) is hinted
        assert "language" not in str(second.turns), "the hint is not remembered, and no other prompt speaks of it"
    async with Stage(tmp_path, config="[bot]\nlanguage = 'Dutch'") as stage:
        await stage.talk(text)
        assert stage.brain.prompts[0].turns[0].text.endswith("Answer in Dutch.")
        assert "language" not in stage.brain.prompts[0].turns[-1].text
