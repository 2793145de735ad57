"""What every channel must do, over the wire. Which of it applies follows from what the channel and the platform can."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from kit.hurry import hurry
from kit.rig import LIMIT, Rig
from kit.talk import Talk
from roost import hookimpl, supervisor
from roost.contracts import Channel
from roost.dialects import PLAIN, render
from roost.values import Attachment, Button, Message, Place, Reply

Level = Literal["bronze", "silver", "gold"]
Run = Callable[[Talk], Awaitable[None]]
Applies = Callable[[type[Channel], type[Rig]], bool]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
MARK = "(possibly repeated)"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`column` is what the table calls it; `needs` names methods of the rig without which it cannot run."""

    name: str
    column: str
    level: Level
    run: Run
    applies: Applies
    needs: tuple[str, ...]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    column: str, level: Level = "bronze", when: Applies = lambda channel, rig: True, needs: tuple[str, ...] = ()
) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        name = run.__name__  # type: ignore[attr-defined]
        SCENARIOS[name] = Scenario(name, column, level, run, when, needs)
        return run

    return add


def has(ability: str) -> Applies:
    """The rig offers it: the platform has it."""
    return lambda channel, rig: rig.has(ability)


def can(ability: str) -> Applies:
    """The channel says it can."""
    return lambda channel, rig: channel.can(ability)


def http(channel: type[Channel], rig: type[Rig]) -> bool:
    return rig.has("too_fast") or rig.has("broken")


def through_a_door(channel: type[Channel], rig: type[Rig]) -> bool:
    return bool(rig.sending)


def answered(*texts: str, ordered: bool = True) -> Callable[[Any], bool]:
    """The last messages shown are these."""
    wanted = list if ordered else sorted
    return lambda shown: wanted(one.text.strip() for one in shown[-len(texts) :]) == wanted(texts)


def place_of(talk: Talk) -> Place:
    return talk.said[-1].place


# What is said


@scenario("text")
async def text_goes_in_and_out(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("hello there")
        await talk.rig.until(answered("echo hello there"))
        message = talk.said[-1]
        assert (message.text, message.addressed, message.place.kind) == ("hello there", True, "direct")
        assert message.id and message.sender.id
        await talk.rig.say("and again")
        await talk.rig.until(answered("echo hello there", "echo and again"))


UNICODE = (
    "👨‍👩‍👧‍👦 family, 🏳️‍🌈 flag",
    "שלום עולם, مرحبا",
    "e\u0301 n\u0303 combined",
    "你好，世界。日本語 한국어",
    "a 𝕏 𐍈 far plane",
)


@scenario("Unicode")
async def every_script_arrives_as_it_was_written(talk: Talk) -> None:
    async with talk.up():
        for text in UNICODE:
            await talk.rig.say(text)
            await talk.rig.until(answered(f"echo {text}"))
            assert talk.said[-1].text == text


def long_text(channel: type[Channel]) -> str:
    size = min(3 * channel.limits.max_text, 60_000)
    plain, marked = "with plain words in it", "with **bold** and `code` in it"
    lines = [f"line {n} of the answer {'🦉' * 8} {marked if n % 4 == 0 else plain}" for n in range(size // 52 + 3)]
    half = len(lines) // 2
    return "\n\n".join(
        [*lines[:half], "```python\n" + "\n".join(f"x{n} = {n}" for n in range(40)) + "\n```", *lines[half:]]
    )


@scenario("long text")
async def a_long_answer_arrives_whole_in_order_and_within_the_limits(talk: Talk) -> None:
    channel_class: list[type[Channel]] = []

    def script(said: str) -> str:
        return long_text(channel_class[0])

    async with talk.up(script) as stage:
        channel = talk.channel(stage)
        channel_class.append(type(channel))
        await talk.rig.say("tell me everything")
        words = letters(render(long_text(type(channel)), PLAIN))
        shown = await talk.rig.until(lambda shown: len(letters("".join(one.text for one in shown))) >= len(words))
        assert letters("".join(one.text for one in shown)) == words, "every word once, in order"
        if channel.limits.max_text < len(long_text(type(channel))):
            assert len(shown) > 1


def letters(text: str) -> str:
    """What of a text no dialect changes."""
    return "".join(letter for letter in text if letter.isalnum())


FORMATTED = "**bold** and *slanted* and `a_b*c`\n\n```python\nx = 1 < 2\n```\n\n> said before\n\n- one\n- two\n\n[here](https://example.org/a_b)"


@scenario("formatting", "silver")
async def formatting_is_readable_and_no_markup_leaks(talk: Talk) -> None:
    async with talk.up(lambda said: FORMATTED):
        await talk.rig.say("show me")
        (shown,) = await talk.rig.answers(1)
        for word in ("bold", "slanted", "a_b*c", "x = 1 < 2", "said before", "one", "two", "here"):
            assert word in shown.text, shown.text
        assert "](" not in shown.text
        assert "&lt;" not in shown.text and "<b>" not in shown.text


@scenario("formatting read", "gold", has("say_again"))
async def formatting_that_comes_back_means_the_same(talk: Talk) -> None:
    answers = iter([FORMATTED])
    async with talk.up(lambda said: next(answers, "thanks")):
        await talk.rig.say("show me")
        (shown,) = await talk.rig.answers(1)
        await talk.rig.say_again(shown)
        await talk.rig.until(answered("thanks"))
        back = talk.said[-1].text
        assert "**bold**" in back
        assert "`a_b*c`" in back
        assert "```" in back and "x = 1 < 2" in back
        assert "https://example.org/a_b" in back


# Who is meant


@scenario("groups", "bronze", lambda channel, rig: rig.groups)
async def in_a_group_only_who_means_the_bot_is_answered(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("lunch at noon?", "group")
        await talk.rig.say("what is for lunch", "group", mention=True)
        shown = await talk.rig.until(answered("echo what is for lunch"), "group")
        assert len(shown) == 1, "talk among people is not answered"
        message = talk.said[-1]
        assert (message.text, message.addressed, message.place.kind) == ("what is for lunch", True, "group")
        assert "lunch at noon?" in stage.brain.prompts[-1].turns[-1].text, "but it is context"
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        assert "lunch" not in str(stage.brain.prompts[-1].turns), "and nothing of it is known elsewhere"


@scenario("replies", "gold", lambda channel, rig: rig.groups and channel.limits.quotes)
async def an_answer_quotes_the_question_and_a_reply_to_the_bot_is_for_the_bot(talk: Talk) -> None:
    async with talk.up():
        asked = await talk.rig.say("which one", "group", mention=True)
        (shown,) = await talk.rig.answers(1, "group")
        assert shown.quote == asked
        await talk.rig.say("why that one", "group", quote=shown.id)
        await talk.rig.until(answered("echo why that one"), "group")
        quote = talk.said[-1].quote
        assert quote is not None and quote.id == shown.id


@scenario("threads", "gold", lambda channel, rig: channel.limits.threads, needs=("open_thread",))
async def what_is_asked_in_a_thread_is_answered_in_it(talk: Talk) -> None:
    async with talk.up():
        thread = await talk.rig.open_thread()
        await talk.rig.say("in here", "group", mention=True, thread=thread)
        await talk.rig.until(
            lambda shown: [one for one in shown if (one.text, one.thread) == ("echo in here", thread)], "group"
        )
        inside = talk.said[-1].place
        assert inside.thread
        await talk.rig.say("out there", "group", mention=True)
        await talk.rig.until(lambda shown: any(one.text == "echo out there" for one in shown), "group")
        assert talk.said[-1].place != inside


# Files, signs, buttons


@scenario("files in", "gold", has("say_file"))
async def a_file_comes_in_whole_and_one_that_is_too_large_is_refused(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say_file("tea.png", "image/png", PNG, "look at this")
        await talk.rig.answers(1)
        message = next(one for one in talk.said if one.attachments)
        (attachment,) = message.attachments
        assert await attachment.read() == PNG
        assert attachment.kind == "image"
        with pytest.raises(ValueError, match="more than 100 bytes"):
            await attachment.read(100)


@scenario("files out", "gold", lambda channel, rig: bool(channel.limits.media) and rig.files)
async def a_file_goes_out_whole(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        kind: Any = (
            "image" if "image" in talk.channel(stage).limits.media else next(iter(talk.channel(stage).limits.media))
        )
        await stage.bot.send(place_of(talk), Reply("here", (Attachment(kind, "tea.png", "image/png", data=PNG),)))
        shown = await talk.rig.until(lambda shown: any(one.files for one in shown))
        assert [file for one in shown for file in one.files] == [PNG]
        assert any("here" in one.text for one in shown)


@scenario("typing", "silver", can("type"), needs=("typed",))
async def the_sign_that_an_answer_is_coming_is_shown(talk: Talk) -> None:
    release = asyncio.Event()
    async with talk.up() as stage:
        think = stage.brain.think

        async def slowly(prompt: Any) -> Any:
            await release.wait()
            async for piece in think(prompt):
                yield piece

        stage.brain.think = slowly  # type: ignore[method-assign]
        await talk.rig.say("hello")
        async with asyncio.timeout(LIMIT):
            while not await talk.rig.typed():
                await talk.rig.news()
        release.set()
        await talk.rig.until(answered("echo hello"))


@scenario("edits", "silver", can("edit"))
async def a_message_is_changed_where_it_stands(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        channel = talk.channel(stage)
        sent = await channel.send(place_of(talk), Reply("first words"))
        await talk.rig.until(answered("echo hello", "first words"))
        await channel.edit(sent, Reply("second **words**"))
        await talk.rig.until(lambda shown: len(shown) == 2 and shown[-1].text.replace("*", "") == "second words")


@scenario("streaming", "gold", lambda channel, rig: channel.limits.stream is not None and channel.can("edit"))
async def an_answer_grows_in_one_message(talk: Talk) -> None:
    release = asyncio.Event()
    async with talk.up() as stage:

        async def growing(prompt: Any) -> Any:
            yield "Once upon"
            await release.wait()
            yield " a time."

        stage.brain.think = growing  # type: ignore[method-assign]
        await talk.rig.say("a story")
        await talk.rig.until(lambda shown: shown and "Once upon" in shown[-1].text)
        release.set()
        shown = await talk.rig.until(answered("Once upon a time."))
        await stage.quiet(LIMIT)
        assert len(await talk.rig.shown()) == len(shown) == 1


@scenario("deletes", "gold", can("delete"))
async def a_message_is_taken_back(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        sent = await talk.channel(stage).send(place_of(talk), Reply("a mistake"))
        await talk.rig.until(answered("a mistake"))
        await talk.channel(stage).delete(sent)
        await talk.rig.until(lambda shown: len(shown) == 1 and shown[0].text == "echo hello")


@scenario("edits read", "gold", has("edit"))
async def an_edited_question_is_remembered_and_not_answered_again(talk: Talk) -> None:
    async with talk.up() as stage:
        id = await talk.rig.say("my cat is called Tom")
        await talk.rig.answers(1)
        await talk.rig.edit(id, "my cat is called Tim")
        async with asyncio.timeout(LIMIT):
            while not any(turn.text == "my cat is called Tim" for turn in await remembered(stage, talk)):
                await talk.rig.news()
        await talk.rig.say("what is it called")
        await talk.rig.until(answered("echo what is it called"))
        assert len(await talk.rig.shown()) == 2
        texts = [turn.text for turn in stage.brain.prompts[-1].turns]
        assert "my cat is called Tim" in texts and "my cat is called Tom" not in texts


async def remembered(stage: Any, talk: Talk) -> Any:
    return (await stage.bot.memory.recall(talk.said[0].place, 2000, stage.brain.count)).turns


@scenario("reactions", "gold", can("react"), needs=("reactions",))
async def the_bot_reacts(talk: Talk) -> None:
    async with talk.up() as stage:
        id = await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        await talk.channel(stage).react(place_of(talk), talk.said[-1].id, "👍")
        async with asyncio.timeout(LIMIT):
            while list(await talk.rig.reactions(id)) != ["👍"]:
                await talk.rig.news()


@scenario("reactions read", "gold", has("react"))
async def a_reaction_is_an_event(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("hello")
        (shown,) = await talk.rig.answers(1)
        await talk.rig.react(shown, "👍")
        async with asyncio.timeout(LIMIT):
            while not (seen := [event for event in talk.events if event.kind == "reacted"]):
                await talk.rig.news()
        assert [event.value for event in seen] == ["👍"]


BUTTONS = (Button("Yes, please", "yes"), Button("No", "no"))


@scenario("buttons", "silver")
async def a_choice_is_a_button_or_a_number(talk: Talk) -> None:
    async with talk.up() as stage:

        @hookimpl(specname="on_message")
        def ask(message: Message) -> Reply | None:
            return Reply("Tea?", buttons=BUTTONS) if message.text == "choose" else None

        tea = types.ModuleType("tea")
        vars(tea).update(ask=ask)
        stage.registry.add(tea, "tea")
        await talk.rig.say("choose")
        shown = (await talk.rig.answers(1))[-1]
        if talk.channel(stage).limits.buttons:
            assert shown.buttons == ("Yes, please", "No")
            await talk.rig.press(shown, "Yes, please")
            await talk.rig.until(answered("echo yes"))
            return
        assert "1" in shown.text and "Yes, please" in shown.text and "2" in shown.text
        await talk.rig.say("2")
        await talk.rig.until(answered("echo no"))


# Once, and in order


@scenario("own words", "bronze")
async def the_bot_does_not_answer_itself(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await stage.bot.send(place_of(talk), "said unasked")
        await talk.rig.until(answered("said unasked"))
        await talk.rig.say("two")
        shown = await talk.rig.until(answered("echo two"))
        assert [one.text.strip() for one in shown] == ["echo one", "said unasked", "echo two"]
        assert [message.text for message in talk.said] == ["one", "two"]


@scenario("duplicates", "silver", has("again"))
async def what_is_delivered_twice_is_answered_once(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await talk.rig.again()
        await talk.rig.say("two")
        shown = await talk.rig.until(answered("echo two"))
        assert [one.text.strip() for one in shown] == ["echo one", "echo two"]


@scenario("redelivery", "silver", lambda channel, rig: rig.redelivers)
async def what_was_not_accepted_comes_again_after_a_crash(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        reached = asyncio.Event()

        async def never(item: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        stage.bot.pipeline._accept = never  # type: ignore[assignment]
        await talk.rig.say("two")
        async with asyncio.timeout(LIMIT):
            await reached.wait()
    assert not (talk.rig.has("taken") and await talk.rig.taken()), "acknowledged before it was accepted"
    async with talk.up():
        await talk.rig.until(answered("echo one", "echo two"))
        await talk.rig.say("three")
        shown = await talk.rig.until(answered("echo three"))
        assert [one.text.strip() for one in shown] == ["echo one", "echo two", "echo three"]


@scenario("while away", "silver", lambda channel, rig: rig.redelivers)
async def what_is_said_while_the_bot_is_down_is_answered_when_it_is_back(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
    await talk.rig.say("two")
    await talk.rig.say("three")
    async with talk.up():
        shown = await talk.rig.until(answered("echo two", "echo three", ordered=talk.rig.ordered))
        assert len(shown) == 3


@scenario("order", "silver", lambda channel, rig: rig.ordered)
async def what_is_said_in_quick_succession_is_answered_in_order(talk: Talk) -> None:
    async with talk.up():
        for number in range(5):
            await talk.rig.say(f"n{number}")
        shown = await talk.rig.until(answered("echo n4"))
        assert [one.text.strip() for one in shown] == [f"echo n{number}" for number in range(5)]


@scenario("burst", "silver")
async def a_thousand_messages_are_answered_once_each(talk: Talk) -> None:
    count = talk.rig.burst
    async with talk.up() as stage:
        for number in range(count):
            await talk.rig.say(f"n{number}")
        async with asyncio.timeout(600):
            while len(talk.said) < count:
                await talk.rig.news()
        await stage.quiet(600)
        shown = await talk.rig.answers(count)
        assert answered(*(f"echo n{number}" for number in range(count)), ordered=talk.rig.ordered)(shown)
        assert len(shown) == count


# What goes wrong


@scenario("pause asked for", "silver", http, needs=("too_fast",))
async def a_pause_that_the_platform_asks_for_is_kept(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        await stage.quiet(LIMIT)
        gate = door(talk)
        gate.answer(talk.rig.sending, talk.rig.too_fast(1))
        began = asyncio.get_running_loop().time()
        await talk.rig.say("again")
        await talk.rig.until(answered("echo hello", "echo again"))
        assert gate.happened.is_set()
        assert asyncio.get_running_loop().time() - began >= 1.0


@scenario("server errors", "silver", http, needs=("broken",))
async def an_error_of_the_server_is_outlived(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        await stage.quiet(LIMIT)
        door(talk).answer(talk.rig.sending, talk.rig.broken())
        await talk.rig.say("again")
        shown = await talk.rig.until(arrived("echo again"))
        assert door(talk).happened.is_set()
        assert len(shown) == 2


def arrived(text: str) -> Callable[[Any], bool]:
    """The last message is this one, perhaps marked as one that may be a repetition."""
    return lambda shown: bool(shown) and shown[-1].text.replace(MARK, "").strip() == text


@scenario("out of reach", "silver", lambda channel, rig: channel.silence is not None and not channel.local)
async def what_is_out_of_reach_is_told_in_a_sentence_until_it_answers(talk: Talk) -> None:
    door(talk).shut()
    async with talk.begun() as stage:
        one = stage.bot.channels[talk.rig.kind]
        async with asyncio.timeout(LIMIT):
            while not one.problem:
                await talk.rig.news()
        assert one.state == "waiting"
        assert one.problem[0].isupper() and one.problem.endswith(".") and "Errno" not in one.problem, one.problem
        door(talk).shut(False)
        await talk.ready(stage)
        assert not one.problem
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))


@scenario("cut", "silver", lambda channel, rig: not channel.local)
async def a_connection_that_is_cut_is_made_again(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await stage.quiet(LIMIT)
        door(talk).cut()
        await talk.rig.say("two")
        await talk.rig.until(answered("echo one", "echo two"))


@scenario("cut before reading", "silver", through_a_door)
async def an_answer_cut_off_before_it_was_read_arrives_once(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await stage.quiet(LIMIT)
        door(talk).lose(talk.rig.sending, "request")
        await talk.rig.say("two")
        shown = await talk.rig.until(arrived("echo two"))
        assert door(talk).happened.is_set()
        assert len(shown) == 2


@scenario("cut after reading", "silver", through_a_door)
async def an_answer_that_may_have_arrived_is_not_lost_and_not_doubled_unmarked(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await stage.quiet(LIMIT)
        door(talk).lose(talk.rig.sending, "answer")
        await talk.rig.say("two")
        await talk.rig.until(lambda shown: len(shown) > 1)
        await stage.quiet(LIMIT)
        await talk.rig.say("three")
        shown = await talk.rig.until(answered("echo three"))
        assert door(talk).happened.is_set()
        once(shown, "echo two", talk.channel(stage).limits.idempotent)


@scenario("crash after sending", "silver", through_a_door)
async def an_answer_that_may_have_arrived_before_a_crash_is_not_doubled_unmarked(talk: Talk) -> None:
    """No library between the channel and its server repeats it by itself: it is all in what was written down."""
    with pytest.MonkeyPatch.context() as patched:
        hurry(patched, seconds=1.0)
        async with talk.up() as stage:
            await talk.rig.say("one")
            await talk.rig.until(answered("echo one"))
            await stage.quiet(LIMIT)
            door(talk).lose(talk.rig.sending, "answer", then_shut=True)
            await stage.bot.send(place_of(talk), "two")
            await talk.rig.until(lambda shown: any("two" in one.text for one in shown))
            if not door(talk).happened.is_set():  # some servers say nothing to a message
                door(talk).shut()
            idempotent = talk.channel(stage).limits.idempotent
    door(talk).shut(False)
    async with talk.up() as stage:
        await stage.quiet(LIMIT)
        await talk.rig.say("three")
        shown = await talk.rig.until(answered("echo three"))
        once(shown, "two", idempotent)


def once(shown: Any, text: str, idempotent: bool) -> None:
    """It is there once without a mark, and with one only where the platform knows no repetition."""
    found = [one.text.strip() for one in shown if text in one.text]
    assert [one for one in found if MARK not in one] == [text], found
    assert len(found) == 1 or not idempotent, found


@scenario("half-open", "silver", lambda channel, rig: channel.silence is not None and not channel.local)
async def a_connection_that_fell_silent_is_given_up(talk: Talk) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(supervisor, "LOOK", 0.05)
        async with talk.up() as stage:
            await talk.rig.say("one")
            await talk.rig.until(answered("echo one"))
            await stage.quiet(LIMIT)
            channel = talk.channel(stage)
            door(talk).hold()
            channel.silence = 0.5
            async with asyncio.timeout(LIMIT):
                while stage.bot.channels[talk.rig.kind].state == "running":
                    await talk.rig.news()
            del channel.silence
            door(talk).cut()
            door(talk).release()
            await talk.rig.say("two")
            await talk.rig.until(answered("echo one", "echo two"))


@scenario("login refused", "bronze", lambda channel, rig: rig.login, needs=("bad_table",))
async def refused_credentials_stop_this_channel_with_a_sentence_and_no_other(talk: Talk) -> None:
    table = talk.rig.bad_table()
    async with talk.up(table=table) as stage:
        bad = stage.bot.channels[talk.rig.kind]
        async with asyncio.timeout(LIMIT):
            while bad.state != "stopped":
                await talk.rig.news()
        assert talk.rig.kind in bad.problem, bad.problem
        assert bad.problem[0].isupper() and bad.problem.endswith("."), bad.problem
        secrets = [str(value) for name, value in table.items() if name in {"token", "password", "secret"} and value]
        assert not any(secret in bad.problem for secret in secrets)
        assert await stage.talk("hello") == "echo hello"


@scenario("garbage", "silver", has("garbage"))
async def what_makes_no_sense_is_passed_over(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await talk.rig.garbage()
        await talk.rig.say("two")
        await talk.rig.until(answered("echo one", "echo two"))


@scenario("signatures", "silver", has("forged"))
async def a_forged_message_is_refused(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        assert await talk.rig.forged() in (401, 403)
        await talk.rig.say("two")
        await talk.rig.until(answered("echo one", "echo two"))
        assert [message.text for message in talk.said] == ["one", "two"]


@scenario("replays", "silver", has("replayed"))
async def an_old_message_is_refused(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        assert await talk.rig.replayed() in (400, 401, 403)
        assert [message.text for message in talk.said] == ["one"]


@scenario("stop while sending", "silver", through_a_door)
async def an_answer_on_its_way_when_the_bot_stops_arrives_when_it_is_back(talk: Talk) -> None:
    with pytest.MonkeyPatch.context() as patched:
        hurry(patched, seconds=1.0)
        async with talk.up() as stage:
            await talk.rig.say("one")
            await talk.rig.until(answered("echo one"))
            await stage.quiet(LIMIT)
            place = place_of(talk)
            door(talk).hold()
            await stage.bot.send(place, "two")
    door(talk).cut()
    door(talk).release()
    async with talk.up():
        shown = await talk.rig.until(arrived("two"))
        assert len([one for one in shown if one.text.strip() == "two"]) <= 1


def door(talk: Talk) -> Any:
    assert talk.rig.gate is not None, f"The rig of {talk.rig.kind} has no door between the channel and its server."
    return talk.rig.gate
