"""What a hostile reading of the core found, kept from coming back: messages, answers and their delivery."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.hurry import hurry

from roost import Message, Reply, command, hookimpl
from roost import draft as drafting
from roost import outbox as delivering
from roost import writer as writing
from roost.contracts import Limits, Receive
from roost.dialects import MARKDOWN
from roost.errors import NotSent, PluginError, RoostError, StoreError
from roost.journal import Journal
from roost.registry import Registry
from roost.testing import Stage, StageChannel
from roost.values import Attachment, Event, Person, Place, Sent

TEAM = Place("stage", "team", kind="group")
MARK = "(possibly repeated)\n"
ONLY_ANN = '[access]\ndirect = "allowlist"\npeople = ["stage:ann"]\n'


def plugin(**things: object) -> types.ModuleType:
    module = types.ModuleType("plug")
    vars(module).update(things)
    return module


def rows(folder: Path, sql: str = "SELECT outcome, reason FROM inbox ORDER BY seq") -> list[Any]:
    """Read, or change, the journal of the stage in `folder` behind the bot's back."""
    with contextlib.closing(sqlite3.connect(folder / "home" / "journal.db")) as db, db:
        return db.execute(sql).fetchall()


def texts(stage: Stage) -> list[str]:
    return [reply.text for _, reply in stage.channel.sent]


def fail_once(monkeypatch: pytest.MonkeyPatch, thing: object, name: str) -> None:
    real = getattr(thing, name)

    async def failing(*args: Any, **values: Any) -> Any:
        monkeypatch.setattr(thing, name, real)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(thing, name, failing)


class Thought:
    """A brain's `think` that says something, tells that it has, and never comes to an end."""

    def __init__(self, said: str = "Half an answer") -> None:
        self.said = said
        self.begun = asyncio.Event()

    async def __call__(self, prompt: object) -> AsyncIterator[str]:
        if self.said:
            yield self.said
        self.begun.set()
        await asyncio.Event().wait()


async def park(stage: Stage, text: str, **fields: Any) -> None:
    """Have something said and answered while the channel cannot deliver the answer."""
    stage.bot.channels["stage"].state = "waiting"
    await stage.say(text, **fields)
    await stage.bot.pipeline.lanes.idle()


# Arrival


class Eager(StageChannel):
    """A platform that brings a message the moment somebody listens."""

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.brought = asyncio.Event()

    async def run(self, receive: Receive) -> None:
        self.receive = receive
        self.host.pulse()
        await receive(Message("m1", Place("stage", "1"), Person("stage", "ann", "Ann"), "new", 1.0))
        self.brought.set()
        await asyncio.Future()


async def test_a_message_that_comes_in_the_moment_of_the_start_is_answered_once(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Eager) as stage:
        assert isinstance(stage.channel, Eager)
        await stage.channel.brought.wait()
        await stage.quiet()
        assert texts(stage) == ["new"]


async def test_what_was_left_over_goes_before_what_comes_in_the_moment_of_the_start(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.pipeline.lanes.put = lambda key, item: None  # type: ignore[method-assign]
        await stage.say("old")
    async with Stage(tmp_path, channel=Eager) as stage:
        assert isinstance(stage.channel, Eager)
        await stage.channel.brought.wait()
        await stage.quiet()
        assert texts(stage) == ["old", "new"]


async def test_an_answer_that_was_left_over_goes_before_new_ones(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await park(stage, "old")
    async with Stage(tmp_path, channel=Eager) as stage:
        assert isinstance(stage.channel, Eager)
        await stage.channel.brought.wait()
        await stage.quiet()
        assert texts(stage) == ["old", "new"]


async def test_a_message_is_answered_although_whoever_brought_it_was_cancelled(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        message = stage.message("hello", id="7")
        receiving = asyncio.create_task(stage.receive(message))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        assert receiving.cancelled()
        assert await stage.receive(message) is False
        await stage.quiet()
        assert texts(stage) == ["hello"]


async def test_an_edit_without_a_key_is_accepted_once(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("tea", id="5")
        assert await stage.receive(stage.message("coffee", id="5", edited=True))
        assert not await stage.receive(stage.message("coffee", id="5", edited=True))
        assert await stage.receive(stage.message("cocoa", id="5", edited=True))
        await stage.quiet()


async def test_a_message_with_a_file_and_half_a_character_is_mended(tmp_path: Path) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    async with Stage(tmp_path, script=lambda said: "fine") as stage:
        file = Attachment(name="half \ud83d.txt", open=content)
        assert await stage.talk("tea \ud83d", attachments=(file,)) == "fine"
        assert "tea \ufffd" in stage.brain.prompts[0].turns[-1].text


async def test_what_is_no_message_is_passed_over_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    number: Any = 7
    async with Stage(tmp_path) as stage:
        assert not await stage.receive(stage.message(number, id="1"))
        assert not await stage.receive(replace(stage.message("tea", id="2"), at=float("nan")))
        assert not await stage.receive(stage.message("tea", id="3", attachments=(Attachment(name=number),)))
        assert not await stage.receive(Event("joined", Place("stage", "1"), value=number))
        assert await stage.talk("tea", id="4") == "tea"
    assert caplog.text.count("[channels.stage] brought what is no message") == 4


async def test_the_name_of_a_strangers_file_leads_nowhere(tmp_path: Path) -> None:
    async with Stage(tmp_path, script=lambda said: "fine") as stage:
        await stage.talk("tea", attachments=(Attachment(name="../../home/.ssh/keys"), Attachment(name="tea.png")))
        assert "keys" in (said := stage.brain.prompts[0].turns[-1].text) and "tea.png" in said
        assert ".." not in said


# Lanes


async def test_a_message_is_answered_although_the_event_before_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path) as stage:
        fail_once(monkeypatch, stage.bot.journal, "finish")
        async with stage.bot.pipeline.lanes.held():
            await stage.receive(Event("joined", Place("stage", "1"), at=1.0))
            await stage.say("one")
            await stage.say("two")
        await stage.quiet()
        assert texts(stage) == ["one", "two"]
        assert [outcome for outcome, _ in rows(tmp_path)] == [None, "reply", "reply"]


async def test_a_message_whose_end_could_not_be_written_is_answered_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path) as stage:
        fail_once(monkeypatch, stage.bot.journal, "finish")
        async with stage.bot.pipeline.lanes.held():
            await stage.say("one")
            await stage.say("two")
        await stage.quiet()
        assert texts(stage) == ["two"]
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert texts(stage) == ["one"]


async def test_delivery_goes_on_after_a_part_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(tmp_path) as stage:
        fail_once(monkeypatch, stage.bot.journal, "put_off")
        stage.channel.fail = [NotSent("no")]
        await stage.say("one")
        await stage.say("two")
        await stage.quiet()
        assert texts(stage) == ["two"]
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [text.removeprefix(MARK) for text in texts(stage)] == ["one"]


async def test_what_arrived_is_not_sent_again_when_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path) as stage:
        fail_once(monkeypatch, stage.bot.journal, "sent")
        await stage.talk("one")
        assert texts(stage) == ["one"]
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert texts(stage) == [f"{MARK}one"]


# Plugins, brains and commands


async def test_before_send_may_answer_with_a_plain_text(tmp_path: Path) -> None:
    @hookimpl
    def before_send(reply: Reply) -> str:
        return reply.text + "!"

    async with Stage(tmp_path, [plugin(before_send=before_send)]) as stage:
        assert await stage.talk("one") == "one!"
        assert rows(tmp_path) == [("reply", "thought")]


async def test_what_the_bot_says_unasked_passes_before_send(tmp_path: Path) -> None:
    @hookimpl
    def before_send(reply: Reply) -> Reply:
        return replace(reply, text="filtered")

    async with Stage(tmp_path, [plugin(before_send=before_send)]) as stage:
        await stage.bot.send("stage:1", "raw")
        await stage.quiet()
        assert texts(stage) == ["filtered"]


async def test_nothing_can_be_sent_to_nowhere(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        with pytest.raises(ValueError, match="needs a channel and a chat"):
            await stage.bot.send(Place("stage", ""), "hello")
        with pytest.raises(RoostError, match="no channel 'mars'"):
            await stage.bot.send("mars:1", "hello")


@pytest.mark.parametrize(
    ("pieces", "answer"), [(["a \ud83d", " b"], "a \ufffd b"), (["\ud83d", "\ude42"], "\N{SLIGHTLY SMILING FACE}")]
)
async def test_half_a_character_from_a_brain_is_mended(tmp_path: Path, pieces: list[str], answer: str) -> None:
    async with Stage(tmp_path, script=lambda said: pieces) as stage:
        assert await stage.talk("one") == answer
        assert rows(tmp_path) == [("reply", "thought")]


async def test_half_a_character_from_a_command_is_mended(tmp_path: Path) -> None:
    @command
    def bad() -> str:
        """Say half a character."""
        return "a \ud83d b"

    async with Stage(tmp_path, [plugin(bad=bad)]) as stage:
        assert await stage.talk("/bad") == "a \ufffd b"
        assert rows(tmp_path) == [("reply", "command bad")]


async def test_a_plugin_that_raises_cancelled_is_a_failing_plugin(tmp_path: Path) -> None:
    @hookimpl
    async def on_message(message: Message) -> None:
        raise asyncio.CancelledError

    async with Stage(tmp_path, [plugin(on_message=on_message)]) as stage:
        assert await stage.talk("hello") == "hello"


async def test_a_brain_that_raises_cancelled_is_a_failing_brain(tmp_path: Path) -> None:
    def script(said: str) -> str:
        if said == "fail":
            raise asyncio.CancelledError
        return said

    async with Stage(tmp_path, script=script) as stage:
        assert (await stage.talk("fail")).startswith("⚠️ Something went wrong")
        assert await stage.talk("again") == "again"
        assert rows(tmp_path) == [("notice", "CancelledError"), ("reply", "thought")]


async def test_a_channel_that_raises_cancelled_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall = asyncio.Event()

    class Falling(StageChannel):
        async def run(self, receive: Receive) -> None:
            self.host.pulse()
            await fall.wait()
            fall.clear()
            raise asyncio.CancelledError

    monkeypatch.setattr("roost.supervisor.LONGEST_PAUSE", 0.0)
    async with Stage(tmp_path, channel=Falling) as stage:
        states: list[str] = []
        supervisor = stage.bot.channels["stage"]
        turned = asyncio.Event()

        def changed() -> None:
            states.append(supervisor.state)
            if supervisor.state == "running":
                turned.set()

        monkeypatch.setattr(supervisor, "_changed", changed)
        fall.set()
        await asyncio.wait_for(turned.wait(), 30)
        assert states == ["waiting", "running"]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=lambda one: type(one).__name__)
async def test_a_send_that_ends_as_no_send_should_is_one_of_unknown_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(delivering, "LONGEST_PAUSE", 0.0)
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [error]  # type: ignore[list-item]
        assert await stage.talk("one") == f"{MARK}one"


@command("leave")
def leave() -> str:
    """Leave."""
    sys.exit(1)


@command("leave")
async def leave_async() -> str:
    """Leave."""
    sys.exit(1)


@command("leave")
def leave_midway() -> Any:
    """Leave."""
    yield "Well"
    sys.exit(1)


@pytest.mark.parametrize("leaving", [leave, leave_async, leave_midway])
async def test_a_command_that_exits_ends_in_a_notice(tmp_path: Path, leaving: Callable[..., Any]) -> None:
    async with Stage(tmp_path, [plugin(leaving=leaving)]) as stage:
        assert (await stage.talk("/leave")).startswith("⚠️ Something went wrong")
        assert await stage.talk("hello") == "hello"
        assert rows(tmp_path) == [("notice", "SystemExit"), ("reply", "thought")]


async def test_a_command_that_takes_its_time_stops_nobody_else(tmp_path: Path) -> None:
    go = threading.Event()

    @command
    def slow() -> str:
        """Wait."""
        go.wait(10)
        return "done"

    async with Stage(tmp_path, [plugin(slow=slow)]) as stage:
        try:
            await stage.say("/slow")
            await stage.say("hi", chat="b")
            async with stage.channel.came:
                await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))
        finally:
            go.set()
        await stage.quiet()
        assert texts(stage) == ["hi", "done"]


async def test_the_names_of_commands_may_have_capitals_and_underscores(tmp_path: Path) -> None:
    @command("my_cmd", aliases=["My_Other"])
    def a() -> str:
        """Say A."""
        return "A"

    @command("Weather")
    def b() -> str:
        """Say B."""
        return "B"

    async with Stage(tmp_path, [plugin(a=a, b=b)]) as stage:
        for text in ("/my_cmd", "/my-cmd", "/My_Cmd", "/my_other"):
            assert await stage.talk(text) == "A"
        for text in ("/Weather", "/weather", "/WEATHER"):
            assert await stage.talk(text) == "B"


@pytest.mark.parametrize("asked", ["my-cmd", "my_cmd", "My_Cmd", "/my_cmd"])
async def test_help_knows_a_command_by_every_way_to_write_it(tmp_path: Path, asked: str) -> None:
    @command("my_cmd")
    def a() -> str:
        """Say A."""
        return "A"

    async with Stage(tmp_path, [plugin(a=a)]) as stage:
        assert (await stage.talk(f"/help {asked}")).startswith("Say A.")


def test_a_command_with_star_arguments_is_refused_with_a_sentence() -> None:
    @command
    def many(*words: str) -> str:
        """Say them."""
        return " ".join(words)

    with pytest.raises(PluginError, match="'many' has '\\*' arguments"):
        Registry().add(plugin(many=many), "plug")


async def test_a_monstrous_command_name_is_not_said_back(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        answer = await stage.talk("/" + "a" * 200_000)
        assert answer.startswith("There is no command /aaa")
        assert len(stage.channel.sent) == 1
        assert len(answer) < 400


# Drafts


class Streaming(StageChannel):
    """A platform with previews. `first` is what goes wrong after the first send has arrived."""

    limits = Limits(markup=MARKDOWN, stream=0.01)
    first: Callable[[], Any] | None = None

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.shown = asyncio.Event()
        self.edited = asyncio.Event()
        self.edits: list[str] = []

    async def send(self, place: Place, reply: Reply) -> Sent:
        sent = await super().send(place, reply)
        first = not self.shown.is_set()
        self.shown.set()
        if first and self.first is not None:
            await self.first()
        return sent

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self.edits.append(reply.text)
        self.edited.set()


async def reset() -> None:
    raise RuntimeError("connection reset while reading the answer")


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("trouble", [reset, hang])
async def test_after_a_preview_of_unknown_outcome_the_answer_bears_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], Any]
) -> None:
    monkeypatch.setattr(drafting, "HESITATION", 0.0)
    monkeypatch.setattr(drafting, "LAST_PREVIEW", 0.05)
    async with Stage(tmp_path, channel=Streaming) as stage:
        channel = stage.channel
        assert isinstance(channel, Streaming)
        channel.first = trouble

        async def think(prompt: object) -> AsyncIterator[str]:
            yield "Well, "
            await channel.shown.wait()
            yield "hello"

        monkeypatch.setattr(stage.brain, "think", think)
        await stage.talk("x")
        assert texts(stage)[-1] == f"{MARK}Well, hello"
        assert channel.edits == []


async def test_the_preview_of_collected_messages_is_used_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "HESITATION", 0.0)
    hurry(monkeypatch)
    collect = 'busy = "collect"\n'
    async with Stage(tmp_path, channel=Streaming, channel_config=collect) as stage:
        channel = stage.channel
        assert isinstance(channel, Streaming)

        async def think(prompt: object) -> AsyncIterator[str]:
            yield "Half"
            await channel.shown.wait()
            yield " of it"
            await asyncio.Event().wait()

        monkeypatch.setattr(stage.brain, "think", think)
        async with stage.bot.pipeline.lanes.held():
            await stage.say("one")
            await stage.say("two")
        await channel.edited.wait()  # by then the journal knows the preview
    async with Stage(tmp_path, channel=Streaming, channel_config=collect) as stage:
        await stage.quiet()
        assert isinstance(stage.channel, Streaming)
        assert (texts(stage), set(stage.channel.edits)) == ([], {"one\ntwo"})


class Typing(StageChannel):
    """A platform with a typing sign."""

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.typed = asyncio.Event()

    async def type(self, place: Place) -> None:
        self.typed.set()


def typing() -> list[asyncio.Task[Any]]:
    """The tasks that show a typing sign."""
    return [task for task in asyncio.all_tasks() if "Draft._type" in repr(task.get_coro())]


async def typing_stops() -> bool:
    tasks = typing()
    return not tasks or not (await asyncio.wait(tasks, timeout=30))[1]


async def test_the_typing_sign_ends_with_a_stop_in_the_middle_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "HESITATION", 0.0)
    hurry(monkeypatch)
    async with Stage(tmp_path, channel=Typing) as stage:
        assert isinstance(stage.channel, Typing)
        monkeypatch.setattr(stage.brain, "think", Thought())
        await stage.say("x")
        await stage.channel.typed.wait()
        assert typing()
    assert await typing_stops()


async def test_the_typing_sign_ends_with_an_answer_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "HESITATION", 0.0)

    @hookimpl
    def before_send(reply: Reply) -> Reply:
        return replace(reply, text=None)  # type: ignore[arg-type]

    async with Stage(tmp_path, [plugin(before_send=before_send)], channel=Typing) as stage:
        channel = stage.channel
        assert isinstance(channel, Typing)

        async def think(prompt: object) -> AsyncIterator[str]:
            await channel.typed.wait()
            yield "hello"

        monkeypatch.setattr(stage.brain, "think", think)
        assert (await stage.talk("x")).startswith("Something went wrong")
        assert await typing_stops()


async def test_the_typing_sign_ends_when_the_end_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "HESITATION", 0.0)
    async with Stage(tmp_path, channel=Typing) as stage:
        channel = stage.channel
        assert isinstance(channel, Typing)
        fail_once(monkeypatch, stage.bot.journal, "finish")

        async def think(prompt: object) -> AsyncIterator[str]:
            await channel.typed.wait()
            yield "hello"

        monkeypatch.setattr(stage.brain, "think", think)
        await stage.talk("x")
        assert await typing_stops()


# Delivery


async def test_a_channel_replaced_while_a_part_waits_its_turn_gives_no_false_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "LONGEST_PAUSE", 0.0)
    waiting, go = asyncio.Event(), asyncio.Event()

    async def wait(pace: object, place: Place) -> None:
        waiting.set()
        await go.wait()

    class Closing(StageChannel):
        closed = False

        async def run(self, receive: Receive) -> None:
            try:
                await super().run(receive)
            finally:
                self.closed = True

        async def send(self, place: Place, reply: Reply) -> Sent:
            if self.closed:
                raise RuntimeError("Session is closed")
            return await super().send(place, reply)

    monkeypatch.setattr(delivering.Pace, "wait", wait)
    async with Stage(tmp_path, channel=Closing) as stage:
        old = stage.channel
        await stage.bot.send("stage:1", "hello")
        await waiting.wait()
        stage.path.write_text(stage.path.read_text() + "rate = 50.0\n")
        await stage.bot.reload()
        assert stage.channel is not old
        go.set()
        await stage.quiet()
        assert (old.sent, texts(stage)) == ([], ["hello"])


async def test_a_reply_that_never_left_bears_no_mark_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await park(stage, "hello")
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert texts(stage) == ["hello"]


async def test_a_group_is_still_a_group_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path, config='[access]\ngroups = "open"\n') as stage:
        await park(stage, "hi", place=TEAM)
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [(place, place.kind) for place, _ in stage.channel.sent] == [(TEAM, "group")]


async def test_a_pause_that_the_platform_asked_for_holds_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with Stage(tmp_path) as stage:
        stage.channel.fail = [NotSent("slow down", retry_after=3600)]
        await stage.say("hello")
        await stage.bot.pipeline.lanes.idle()
        await stage.bot.outbox.still()
    async with Stage(tmp_path) as stage:
        await stage.bot.outbox.still()
        assert texts(stage) == []
    now = delivering.time.time
    monkeypatch.setattr(delivering, "time", types.SimpleNamespace(time=lambda: now() + 5000, monotonic=now))
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert texts(stage) == ["hello"]


async def test_the_mark_of_a_repetition_breaks_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "LONGEST_PAUSE", 0.0)
    code = "```python\nx = 1\n```"
    async with Stage(tmp_path, script=lambda said: code) as stage:
        stage.channel.fail = [RuntimeError("cut")]
        assert await stage.talk("x") == f"{MARK}{code}"


async def test_the_journal_does_not_keep_the_files_that_were_sent(tmp_path: Path) -> None:
    class Files(StageChannel):
        limits = replace(StageChannel.limits, media={"file": 50_000_000})

    async with Stage(tmp_path, channel=Files) as stage:
        file = Attachment(name="a.bin", data=b"x" * 1_000_000, size=1_000_000)
        await stage.bot.send("stage:1", Reply("here", attachments=(file,)))
        await stage.quiet()
        assert [one.data for _, reply in stage.channel.sent for one in reply.attachments] == [file.data]
        [(state, size)] = rows(tmp_path, "SELECT state, length(body) FROM outbox")
        assert (state, size < 1000) == ("sent", True)
        assert [line.text for line in await stage.bot.journal.history(Place("stage", "1"), 5)] == ["here"]


# Groups, strangers and interruptions


@pytest.mark.parametrize(
    ("person", "addressed"), [("Eve", False), ("Eve", True), ("Ann", False)], ids=["line", "stranger", "own line"]
)
async def test_only_who_asked_can_interrupt_and_only_by_addressing_the_bot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: str, addressed: bool
) -> None:
    async with Stage(tmp_path, config=ONLY_ANN, channel_config='busy = "interrupt"') as stage:
        thought = Thought("Half")
        monkeypatch.setattr(stage.brain, "think", thought)
        await stage.say("tell me", place=TEAM)
        await thought.begun.wait()
        await stage.say("lol", place=TEAM, person=person, addressed=addressed)
        await stage.say("/whoami")
        async with stage.channel.came:
            await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))
        assert stage.bot.pipeline.break_off(TEAM, "by the test")
        await stage.quiet()
        assert rows(tmp_path)[0] == ("reply", "by the test")
        assert texts(stage)[1:] == ["Half … (stopped)"]


async def test_who_asked_can_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(tmp_path, config=ONLY_ANN, channel_config='busy = "interrupt"') as stage:
        thought = Thought("Half")
        monkeypatch.setattr(stage.brain, "think", thought)
        await stage.say("tell me", place=TEAM)
        await thought.begun.wait()
        monkeypatch.undo()
        assert await stage.talk("wait", place=TEAM) == "Half … (stopped)\n\nAnn: wait"


async def test_a_closed_group_is_neither_answered_nor_overheard(tmp_path: Path) -> None:
    closed = '[access]\ndirect = "closed"\ngroups = "closed"\npeople = ["stage:ann"]\n'
    async with Stage(tmp_path, config=closed) as stage:
        assert await stage.talk("hi", place=TEAM) == ""
        assert await stage.talk("a line", place=TEAM, addressed=False) == ""
        assert await stage.talk("hi") == ""
        past = await stage.bot.memory.recall(TEAM, 1000, stage.brain.count)
        assert past.turns == ()
        assert {outcome for outcome, _ in rows(tmp_path)} == {"silent"}


@pytest.mark.parametrize("error", [StoreError("'/home/ann/x' cannot be written."), OSError("disk full")])
async def test_a_memory_that_fails_on_what_is_only_overheard_says_nothing_in_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with Stage(tmp_path, config='[access]\ngroups = "open"\n') as stage:

        async def remember(*_: object) -> None:
            raise error

        monkeypatch.setattr(stage.bot.memory, "remember", remember)
        assert await stage.talk("lunch?", place=TEAM, person="Eve", addressed=False) == ""
        assert rows(tmp_path) == [("silent", "not addressed")]


# /stop


async def test_after_a_stop_the_half_answer_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(tmp_path) as stage:
        thought = Thought()
        with monkeypatch.context() as patched:
            patched.setattr(stage.brain, "think", thought)
            await stage.say("tell me")
            await thought.begun.wait()
            await stage.say("/stop")
            await stage.quiet()
        await stage.talk("go on")
        said = [(turn.role, turn.text) for turn in stage.brain.prompts[-1].turns[1:]]
        assert said == [("user", "tell me"), ("assistant", "Half an answer … (stopped)"), ("user", "go on")]


async def test_a_stop_works_although_memory_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(tmp_path) as stage:

        async def remember(*_: object) -> None:
            raise StoreError("no")

        thought = Thought("Half")
        monkeypatch.setattr(stage.brain, "think", thought)
        monkeypatch.setattr(stage.bot.memory, "remember", remember)
        await stage.say("tell me")
        await thought.begun.wait()
        await stage.say("/whoami")
        await stage.say("/stop")
        await stage.quiet()
        assert [outcome for outcome, _ in rows(tmp_path)] == ["reply"] * 3
        assert sorted(text[:4] for text in texts(stage)) == ["Half", "Stop", "You "]


async def test_a_stop_while_an_error_is_being_told_loses_nothing(tmp_path: Path) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    @hookimpl
    async def on_error(error: BaseException) -> None:
        inside.set()
        await go.wait()

    def script(said: str) -> str:
        raise RoostError("I cannot.")

    async with Stage(tmp_path, [plugin(on_error=on_error)], script=script) as stage:
        await stage.say("hello")
        await inside.wait()
        await stage.say("/stop")
        async with stage.channel.came:
            await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))
        go.set()
        await stage.quiet()
        assert texts(stage) == ["I was not saying anything.", "⚠️ I cannot."]


# The writer


async def test_the_writer_outlives_a_disk_that_is_full_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PAUSE", 0.0)
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    tries = 0

    def full(db: sqlite3.Connection) -> str:
        nonlocal tries
        tries += 1
        if tries < 1500:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return "written"

    try:
        assert await asyncio.wait_for(journal.do(full), 20) == "written"
    finally:
        await journal.close()


async def test_the_writer_outlives_a_column_that_is_no_text(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    try:
        sql = "INSERT INTO person (id, role, since) VALUES (CAST(x'61ff' AS TEXT), 'owner', 0)"
        await journal.do(lambda db: db.execute(sql))
        with contextlib.suppress(StoreError):
            await asyncio.wait_for(journal.people(), 30)
        message = Message("2", Place("a", "1"), Person("a", "x"), "t")
        assert await asyncio.wait_for(journal.accept(message), 30) is not None
    finally:
        await journal.close()
