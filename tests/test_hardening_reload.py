"""What a hostile reading of the core found, kept from coming back: starts, bot.toml, reloads, jobs and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from kit.hurry import hurry
from test_hardening import Thought, park, plugin, rows, texts

from roost import job, logs
from roost.config import load
from roost.contracts import Receive, Route, unsigned
from roost.errors import BrainError, ConfigError, PluginError, StoreError
from roost.jobs import Job, named_days
from roost.registry import Registry
from roost.testing import Stage, StageChannel
from roost.values import Place

WEB = "[web]\nport = 0\n"


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test hides is not hidden in the next."""
    monkeypatch.setattr(logs._redaction, "secrets", ())


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.load()
    return registry


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def change(stage: Stage, old: str = "", new: str = "") -> None:
    """Edit bot.toml, append to it when there is no `old`, and have it read again."""
    text = stage.path.read_text()
    assert old in text
    stage.path.write_text(text.replace(old, new) if old else text + new)
    await stage.bot.reload()


def problems(registry: Registry, tmp_path: Path, text: str) -> str:
    """What is said about a bot.toml, whether it stops the bot or one channel only."""
    path = tmp_path / "bot.toml"
    path.write_text(text, encoding="utf-8")
    try:
        return "\n".join(load(path, registry, {}).problems)
    except ConfigError as error:
        return str(error)


# What was in the journal


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE inbox SET body = x'00'",
        "UPDATE inbox SET body = ''",
        "UPDATE inbox SET body = '{\"id\": 5}'",
        "UPDATE inbox SET draft = '{'",
        "UPDATE inbox SET draft = '5'",
        "UPDATE inbox SET kind = 'event'",
        "UPDATE inbox SET draft = CAST(x'61ff' AS TEXT)",
    ],
)
async def test_a_message_that_cannot_be_read_does_not_stop_the_start(tmp_path: Path, damage: str) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.pipeline.lanes.put = lambda key, item: None  # type: ignore[method-assign]
        await stage.say("old")
    rows(tmp_path, damage)
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"
        assert None not in [outcome for outcome, _ in rows(tmp_path)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outbox SET body = x'00'",
        "UPDATE outbox SET body = ''",
        "UPDATE outbox SET place = ''",
        "UPDATE outbox SET draft = '{'",
        "UPDATE outbox SET draft = '5'",
        "UPDATE outbox SET place = CAST(x'61ff' AS TEXT)",
    ],
)
async def test_a_part_that_cannot_be_read_does_not_stop_the_start(tmp_path: Path, damage: str) -> None:
    async with Stage(tmp_path) as stage:
        await park(stage, "old")
    rows(tmp_path, damage)
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"
        assert [state for (state,) in rows(tmp_path, "SELECT state FROM outbox ORDER BY id")] == ["dead", "sent"]


async def test_a_person_whose_row_cannot_be_read_does_not_stop_the_start(tmp_path: Path) -> None:
    async with Stage(tmp_path):
        pass
    rows(tmp_path, "INSERT INTO person (id, role, since) VALUES (CAST(x'61ff' AS TEXT), 'owner', 0)")
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"


# Broken parts


class Broken(StageChannel):
    """A channel that cannot even be made when it is called 'bad'."""

    error: BaseException = OSError("no such device")

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        if name == "bad":
            raise self.error


@pytest.mark.parametrize("error", [OSError("no such device"), SystemExit(1)], ids=lambda one: type(one).__name__)
async def test_a_channel_that_cannot_be_made_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    monkeypatch.setattr(Broken, "error", error)
    bad = '[channels.bad]\nkind = "stage"\n'
    async with Stage(tmp_path, channel=Broken, config=bad) as stage:
        assert await stage.talk("hello") == "hello"
        assert list(stage.bot.channels) == ["stage"]
    assert "The channel 'bad' is left out" in caplog.text


async def test_a_channel_whose_paths_cannot_be_had_stops_no_other(tmp_path: Path) -> None:
    class Pathless(StageChannel):
        def routes(self) -> Sequence[Route]:
            if self.name == "bad":
                raise OSError("no such device")
            return ()

    async with Stage(tmp_path, channel=Pathless, config=f'{WEB}[channels.bad]\nkind = "stage"\n') as stage:
        assert await stage.talk("hello") == "hello"
        bad = stage.bot.channels["bad"]
        assert (bad.state, bad.problem) == ("stopped", "no such device")


async def test_a_channel_whose_module_is_broken_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    (tmp_path / "broken_channel_module.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.channels.put("bad", "broken_channel_module:Bad")
    path = tmp_path / "bot.toml"
    path.write_text("[channels.bad]\n[channels.terminal]\n")
    config = load(path, registry, {})
    assert "terminal" in config.channels
    assert len(config.problems) == 1
    assert "[channels.bad]" in config.problems[0]
    assert "no_such_name" in config.problems[0]


async def test_a_plugin_that_exits_at_its_import_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "leaver.py").write_text("import sys\nsys.exit(1)\n")
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"
        [failure] = stage.registry.failures
        assert failure.plugin == "leaver"
        assert failure.reason.startswith("SystemExit: 1 (")


# Jobs


@pytest.mark.parametrize("cron", ["every day at nine", "0 9 * *", "61 9 * * *", "0 9 * * 8", "0 9 * * 1/0", " "])
async def test_a_job_whose_times_cannot_be_read_is_refused_and_its_plugin_named(tmp_path: Path, cron: str) -> None:
    (tmp_path / "plugins").mkdir()
    source = f"from roost import job\n\n@job(cron={cron!r})\ndef tick():\n    pass\n"
    (tmp_path / "plugins" / "clock.py").write_text(source)
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"
        [failure] = stage.registry.failures
        assert failure.plugin == "clock"
        assert "The job 'tick'" in failure.reason
        assert f"'{cron}'" in failure.reason


@pytest.mark.parametrize("every", [-1.0, float("inf"), float("nan")])
def test_a_job_with_seconds_that_never_come_is_refused(every: float) -> None:
    @job(every=every)
    def tick() -> None:
        pass

    with pytest.raises(PluginError, match="tick"):
        Registry().add(plugin(tick=tick), "clock")


@pytest.mark.parametrize(
    ("days", "names"),
    [
        ("*", "sun mon tue wed thu fri sat"),
        ("0", "sun"),
        ("1", "mon"),
        ("6", "sat"),
        ("7", "sun"),
        ("1-5", "mon tue wed thu fri"),
        ("5-7", "sun fri sat"),
        ("0-2", "sun mon tue"),
        ("0-7", "sun mon tue wed thu fri sat"),
        ("0,3,7", "sun wed"),
        ("1-5/2", "mon wed fri"),
        ("*/2", "sun tue thu sat"),
        ("1,3-5", "mon wed thu fri"),
        ("sun", "sun"),
        ("mon-fri", "mon tue wed thu fri"),
        ("MON-FRI", "mon tue wed thu fri"),
        ("sun-tue", "sun mon tue"),
        ("mon-fri/2", "mon wed fri"),
        ("sat,sun", "sun sat"),
        ("0,wed", "sun wed"),
    ],
)
def test_weekdays_are_those_of_crontab(days: str, names: str) -> None:
    trigger = Job("tick", print, f"30 9 * * {days}").trigger(UTC)
    start = datetime(2026, 3, 1, tzinfo=UTC)  # a Sunday
    found = []
    for number in range(7):
        midnight = start + timedelta(days=number)
        at = trigger.get_next_fire_time(None, midnight)
        if at < midnight + timedelta(days=1):
            assert (at.hour, at.minute) == (9, 30)
            found.append(at.strftime("%a").lower())
    assert found == names.split()


def test_weekdays_are_written_by_name() -> None:
    assert named_days("0 9 * * 1-5") == "0 9 * * mon,tue,wed,thu,fri"
    assert named_days("*/5 * 1,15 * 7") == "*/5 * 1,15 * sun"


# bot.toml


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "bot.toml"
    path.write_bytes(b'\xef\xbb\xbf[bot]\nname = "Zo\xc3\xab"\n')
    assert load(path, registry, {}).bot.name == "Zoë"


@pytest.mark.parametrize(
    ("text", "table", "key"),
    [
        ("[web]\nport = 70000\n", "web", "port"),
        ("[web]\nport = -1\n", "web", "port"),
        ("[journal]\nkeep_days = 0\n", "journal", "keep_days"),
        ('[bot]\nprefix = ""\n', "bot", "prefix"),
        ("[brain]\nmax_tokens = 0\n", "brain", "max_tokens"),
        ("[brain]\ncontext = 10\n", "brain", "context"),
        ("[brain]\ntemperature = nan\n", "brain", "temperature"),
        ("[brain]\ntemperature = 2.5\n", "brain", "temperature"),
        ("[brain]\ntimeout = 0\n", "brain", "timeout"),
        ("[channels.terminal]\nrate = -1\n", "channels.terminal", "rate"),
        ("[channels.terminal]\nplace_rate = -0.5\n", "channels.terminal", "place_rate"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key(
    tmp_path: Path, registry: Registry, text: str, table: str, key: str
) -> None:
    said = problems(registry, tmp_path, text)
    assert said.startswith(f"bot.toml: [{table}] {key} = ")
    assert "at least" in said


@pytest.mark.parametrize(
    "timezone", ["Mars/Phobos", "Europe", "../../etc/passwd", "/etc/passwd", "Europe/Amsterdam ", "a\\u0000b", "é"]
)
def test_a_timezone_that_is_none_is_refused_with_a_sentence(tmp_path: Path, registry: Registry, timezone: str) -> None:
    said = problems(registry, tmp_path, f'[bot]\ntimezone = "{timezone}"\n')
    assert said.startswith("bot.toml: [bot] timezone = ")
    assert said.endswith("is not one. Write 'Europe/Amsterdam'.")


def test_a_timezone_longer_than_any_file_name_is_refused_with_a_sentence(tmp_path: Path, registry: Registry) -> None:
    assert "is not one." in problems(registry, tmp_path, f'[bot]\ntimezone = "{"a" * 5000}"\n')


@pytest.mark.parametrize(
    "text",
    [
        '[channels.telegram]\ntokn = "123456:SECRET"\n',
        '[channels.telegram]\ntoken = "1"\ntokne = "123456:SECRET"\n',
        '[channels.telegram]\ntokn = ["123456:SECRET"]\n',
        '[channels.telegram]\ntoken = ["123456:SECRET"]\n',
        '[channels]\ntelegram = "123456:SECRET"\n',
        '[web]\ntokn = "123456:SECRET"\n',
    ],
)
def test_a_secret_under_a_wrong_name_is_not_shown(tmp_path: Path, registry: Registry, text: str) -> None:
    said = problems(registry, tmp_path, text)
    assert said.startswith("bot.toml: ")
    assert "SECRET" not in said


def test_a_mistyped_key_where_there_are_no_secrets_is_shown_with_its_value(tmp_path: Path, registry: Registry) -> None:
    assert '"Zoe"' in problems(registry, tmp_path, '[bot]\nnmae = "Zoe"\n')


# Changes of bot.toml


@pytest.mark.parametrize("addition", ["[memory]\nhigh = 2.0\n", "[memory]\nhigh = 0.2\nlow = 0.5\n"])
async def test_a_memory_that_refuses_its_values_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, addition: str
) -> None:
    async with Stage(tmp_path) as stage:
        bot = stage.bot
        before = bot.config, bot.memory, bot.brain, stage.channel
        await change(stage, "[brain]", f'{addition}[bot]\nname = "Other"\n[brain]\ntemperature = 0.5\n')
        assert (bot.config, bot.memory, bot.brain, stage.channel) == before
        assert "the last good one stays in force" in caplog.text
        assert "Traceback" not in caplog.text
        assert await stage.talk("hello") == "hello"


async def test_a_value_out_of_range_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Stage(tmp_path, config=WEB) as stage:
        before = stage.bot.config, stage.bot.web
        await change(stage, "port = 0", "port = 70000")
        assert (stage.bot.config, stage.bot.web) == before
        assert "the last good one stays in force" in caplog.text


async def test_a_web_face_that_cannot_move_to_a_taken_port_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, taken: int
) -> None:
    caplog.set_level(logging.INFO, "roost")
    async with Stage(tmp_path, config=WEB) as stage:
        await change(stage, "port = 0", f"port = {taken}")
        assert f"The web face stays as it was: The web face cannot listen on port {taken}" in caplog.text
        assert "applied the changes in [web]" not in caplog.text
        assert stage.bot.config.web.port == 0
        assert stage.bot.web is not None
        async with ClientSession() as session, session.get(stage.bot.web.address) as answer:
            assert answer.status < 500


async def test_a_failing_move_of_the_web_face_keeps_no_other_change_back(tmp_path: Path, taken: int) -> None:
    async with Stage(tmp_path, config=WEB) as stage:
        await change(stage, "port = 0", f'port = {taken}\n[bot]\nname = "Other"\n[channels.second]\nkind = "stage"\n')
        assert stage.bot.name == "Other"
        assert list(stage.bot.channels) == ["stage", "second"]


async def test_a_web_face_that_moves_leaves_none_behind(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x")

    class Same(StageChannel):
        def routes(self) -> Sequence[Route]:
            return [Route("GET", "/same", answer, unsigned)]

    async with Stage(tmp_path, channel=Same, config=WEB) as stage:
        await change(stage, new='[channels.zzz]\nkind = "stage"\n')
        assert {name: one.state for name, one in stage.bot.channels.items()} == {"stage": "running", "zzz": "stopped"}
        assert stage.bot.web is not None
        old = stage.bot.web.address
        await change(stage, "port = 0", 'port = 0\npublic_url = "https://roost.example"')
        assert stage.bot.web is not None
        async with ClientSession() as session:
            async with session.get(f"{stage.bot.web.address}/same") as page:
                assert await page.text() == "x"
            if stage.bot.web.address != old:
                with pytest.raises(OSError):
                    await session.get(old)


async def test_a_change_of_the_journal_waits_for_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roost")
    async with Stage(tmp_path) as stage:
        await change(stage, "[brain]", '[journal]\nsynchronous = "normal"\n[bot]\nname = "Other"\n[brain]')
        assert "the changes in [journal] take effect at the next start." in caplog.text
        assert "applied the changes in [bot]." in caplog.text


async def test_a_secret_that_comes_with_a_change_is_hidden(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=WEB) as stage:
        assert logs.redact("say NEWSECRET99") == "say NEWSECRET99"
        await change(stage, "port = 0", 'port = 0\ntoken = "NEWSECRET99"')
        assert logs.redact("say NEWSECRET99") == "say (hidden)"


async def test_an_answer_is_remembered_although_the_memory_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinking, go = asyncio.Event(), asyncio.Event()

    async def think(prompt: object) -> Any:
        thinking.set()
        await go.wait()
        yield "hello"

    async with Stage(tmp_path) as stage:
        with monkeypatch.context() as patched:
            patched.setattr(stage.brain, "think", think)
            await stage.say("x")
            await thinking.wait()
            changing = asyncio.create_task(change(stage, new="[memory]\nopen_files = 3\n"))
            await asyncio.sleep(0)
            go.set()
            await changing
            await stage.quiet()
        assert texts(stage) == ["hello"]
        await stage.talk("y")
        assert [turn.text for turn in stage.brain.prompts[-1].turns[1:]] == ["x", "hello", "y"]


async def test_a_stop_gets_through_while_a_change_of_memory_waits_for_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with Stage(tmp_path) as stage:
        thought = Thought("Half")
        monkeypatch.setattr(stage.brain, "think", thought)
        await stage.say("x")
        await thought.begun.wait()
        changing = asyncio.create_task(change(stage, new="[memory]\nopen_files = 3\n"))
        await asyncio.sleep(0)
        await stage.say("/stop")
        _, late = await asyncio.wait([changing], timeout=30)
        for task in late:
            task.cancel()
        assert not late
        await stage.quiet()
        assert sorted(texts(stage)) == ["Half … (stopped)", "Stopped."]


async def test_a_new_memory_that_cannot_be_opened_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("one")

        async def fail(memory: object) -> None:
            raise StoreError("no")

        with monkeypatch.context() as patched, contextlib.suppress(StoreError):
            patched.setattr(type(stage.bot.memory), "open", fail)
            await change(stage, new="[memory]\nopen_files = 3\n")
        assert await stage.talk("two") == "two"
        assert [turn.text for turn in stage.brain.prompts[-1].turns[1:]] == ["one", "one", "two"]


# Stopping


class Stubborn(StageChannel):
    """A channel that does not end when it is cancelled, until it is let."""

    let = False

    async def run(self, receive: Receive) -> None:
        self.receive = receive
        self.host.pulse()
        while not self.let:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


async def test_a_stop_leaves_behind_a_channel_that_will_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hurry(monkeypatch)
    stage = Stage(tmp_path, channel=Stubborn)
    await stage.__aenter__()
    stubborn = stage.channel
    assert isinstance(stubborn, Stubborn)
    try:
        async with asyncio.timeout(30):
            await stage.bot.stop()
        assert "'channels' took more than 0.05 s and was left behind" in caplog.text
    finally:
        stubborn.let = True
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    async with asyncio.timeout(30), Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"


@pytest.mark.parametrize(
    ("part", "step"),
    [("brain.unload", "brain"), ("memory.close", "memory"), ("journal.close", "journal"), ("schedule.stop", "jobs")],
)
@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
async def test_a_stop_frees_the_folder_whatever_fails_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, step: str, hangs: bool
) -> None:
    hurry(monkeypatch, step)
    stage = Stage(tmp_path)
    await stage.__aenter__()
    holder, _, name = part.rpartition(".")
    thing = getattr(stage.bot, holder)
    real = getattr(thing, name)

    async def fail() -> None:
        if hangs:
            await asyncio.Event().wait()
        raise BrainError("the engine does not die")

    with monkeypatch.context() as patched:
        patched.setattr(thing, name, fail)
        async with asyncio.timeout(30):
            await stage.bot.stop()
    await real()
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello") == "hello"


async def test_a_stop_in_the_moment_of_an_arrival_leaves_the_message_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)
    await stage.__aenter__()
    loads: list[str] = []

    async def note(name: str) -> None:
        loads.append(name)

    monkeypatch.setattr(stage.brain, "load", lambda: note("load"))
    monkeypatch.setattr(stage.brain, "unload", lambda: note("unload"))
    receiving = asyncio.create_task(stage.receive(stage.message("hello")))
    await asyncio.sleep(0)
    await stage.bot.stop()
    await asyncio.wait_for(asyncio.gather(receiving, return_exceptions=True), 30)
    assert loads[-1] == "unload"
    assert rows(tmp_path) in ([(None, "")], [("reply", "thought")])
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [text for (text,) in rows(tmp_path, "SELECT state FROM outbox")] == ["sent"]


async def test_after_a_stop_nothing_more_is_acknowledged(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        receive = stage.channel.receive
        assert receive is not None
        message = stage.message("late")
    late = asyncio.ensure_future(receive(message))
    await asyncio.wait([late], timeout=0.05)
    assert not late.done()
    late.cancel()
    assert rows(tmp_path) == []


async def test_a_bot_that_cannot_start_frees_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    with monkeypatch.context() as patched:

        async def fail(memory: object) -> None:
            raise StoreError("The memory is broken.")

        patched.setattr("roost.memory.window.Window.open", fail)
        with pytest.raises(StoreError, match="The memory is broken"):
            await stage.__aenter__()
    async with Stage(tmp_path) as stage:
        assert await stage.talk("hello", place=Place("stage", "2")) == "hello"
