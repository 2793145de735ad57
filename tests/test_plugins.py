"""Plugins under a running bot: written, saved again, broken, mended and removed."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from roost.acting import Flood
from roost.errors import PluginError
from roost.folder import Source, import_source, missing, needs, sources
from roost.testing import Stage

SAYS = """
from roost import command

@command
def greet() -> str:
    '''Greet.'''
    return {word!r}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "plugins" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


async def test_a_plugin_is_written_changed_broken_mended_and_removed_under_a_running_bot(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        assert "There is no command /greet" in await stage.talk("/greet")
        write(tmp_path, "hi.py", SAYS.format(word="one"))
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "one"
        write(tmp_path, "hi.py", SAYS.format(word="two"))  # in the same second, of the same size
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "two"
        write(tmp_path, "hi.py", "def broken(:\n")
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "two"
        [failure] = stage.registry.failures
        assert failure.plugin == "hi" and failure.reason.endswith("plugins/hi.py, line 1)")
        stage.bot.access.owner = "stage:ann"
        assert "the plugin 'hi': SyntaxError: invalid syntax" in await stage.talk("/status")
        write(tmp_path, "hi.py", SAYS.format(word="three"))
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "three"
        assert stage.registry.failures == []
        (tmp_path / "plugins" / "hi.py").unlink()
        await stage.bot.plugins.refresh()
        assert "There is no command /greet" in await stage.talk("/greet")


async def test_what_is_saved_is_seen_without_being_told(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        came = asyncio.Event()
        refresh = stage.bot.plugins.refresh

        async def noted() -> None:
            await refresh()
            if "greet" in stage.registry.commands:
                came.set()

        stage.bot.plugins.refresh = noted  # type: ignore[method-assign]
        async with asyncio.timeout(30):
            while not came.is_set():  # the watch may begin after the first write
                write(tmp_path, "hi.py", SAYS.format(word="seen"))
                with_it = asyncio.ensure_future(came.wait())
                await asyncio.wait([with_it], timeout=1.0)
                with_it.cancel()
        assert await stage.talk("/greet") == "seen"


async def test_a_change_in_a_submodule_changes_the_plugin(tmp_path: Path) -> None:
    write(tmp_path, "pack/__init__.py", "from .words import word\n" + SAYS.replace("{word!r}", "word"))
    write(tmp_path, "pack/words.py", "word = 'old'\n")
    async with Stage(tmp_path) as stage:
        assert await stage.talk("/greet") == "old"
        write(tmp_path, "pack/words.py", "word = 'new'\n")
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "new"


async def test_what_is_running_goes_on_with_the_old_code(tmp_path: Path) -> None:
    slow = """
import asyncio
import threading
import time
from roost import command
begun, go = asyncio.Event(), asyncio.Event()

@command
async def slow() -> str:
    begun.set()
    await go.wait()
    return word()

def word() -> str:
    return "old"
"""
    write(tmp_path, "slow.py", slow)
    async with Stage(tmp_path) as stage:
        module: Any = stage.registry.plugins.get_plugin("slow")
        await stage.say("/slow", chat="a")
        await module.begun.wait()
        write(tmp_path, "slow.py", SAYS.format(word="new"))
        await stage.bot.plugins.refresh()
        module.go.set()
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["old"]
        assert "There is no command /slow" in await stage.talk("/slow")


async def test_hooks_tools_and_jobs_are_changed_over_and_told(tmp_path: Path) -> None:
    source = """
from roost import hookimpl, job, tool
seen = []

@hookimpl
def startup(bot): bot.heard.append("startup {n}")

@hookimpl
def shutdown(bot): bot.heard.append("shutdown {n}")

@hookimpl
def on_message(message): return "hook {n}" if message.text == "ping" else None

@tool
def tool_{n}() -> str:
    '''A tool.'''
    return ""

@job(every=3600)
def job_{n}(): ...
"""
    async with Stage(tmp_path) as stage:
        heard: list[str] = []
        stage.bot.heard = heard  # type: ignore[attr-defined]
        while stage.bot.schedule._scheduler is None:
            await asyncio.sleep(0)
        for n in (1, 2):
            write(tmp_path, "all.py", source.format(n=n))
            await stage.bot.plugins.refresh()
            assert await stage.talk("ping") == f"hook {n}"
            assert [name for name in stage.registry.tools if name.startswith("tool_")] == [f"tool_{n}"]
            jobs = [one.id for one in stage.bot.schedule._scheduler.get_jobs() if one.id.startswith("all.")]
            assert jobs == [f"all.job_{n}"]
        assert heard == ["startup 1", "shutdown 1", "startup 2"]


async def test_the_order_of_hooks_stays_whatever_is_changed(tmp_path: Path) -> None:
    hook = "from roost import hookimpl\n@hookimpl\ndef on_message(message): return '{name}'\n"
    for name in ("a", "b", "c"):
        write(tmp_path, f"{name}.py", hook.format(name=name))
    async with Stage(tmp_path) as stage:
        assert await stage.talk("x") == "a"
        write(tmp_path, "a.py", hook.format(name="a again"))
        await stage.bot.plugins.refresh()
        assert await stage.talk("x") == "a again"


async def test_a_version_that_clashes_leaves_the_one_before_in_force(tmp_path: Path) -> None:
    write(tmp_path, "a.py", SAYS.format(word="a"))
    write(tmp_path, "b.py", SAYS.format(word="b").replace("greet", "wave"))
    async with Stage(tmp_path) as stage:
        write(tmp_path, "b.py", SAYS.format(word="b"))
        await stage.bot.plugins.refresh()
        assert await stage.talk("/greet") == "a"
        assert await stage.talk("/wave") == "b"
        assert "Both 'a' and 'b' have a command 'greet'" in stage.registry.failures[0].reason


async def test_a_channel_of_a_plugin_is_there_when_its_table_is(tmp_path: Path) -> None:
    source = """
import asyncio
import threading
import time
from roost import hookimpl
from roost.contracts import Channel
from roost.values import Sent

class Mine(Channel):
    version = {n}
    async def run(self, receive):
        self.host.pulse()
        await asyncio.Future()
    async def send(self, place, reply):
        return Sent(place, ("1",))

@hookimpl
def register_channels(register): register("mine", Mine)
"""
    async with Stage(tmp_path, config="[channels.mine]\n") as stage:
        assert "mine" not in stage.bot.channels
        for n in (1, 2):
            write(tmp_path, "mine.py", source.format(n=n))
            await stage.bot.plugins.refresh()
            await stage.bot.channels["mine"].up.wait()
            channel: Any = stage.bot.channels["mine"].channel
            assert channel.version == n
        (tmp_path / "plugins" / "mine.py").unlink()
        await stage.bot.plugins.refresh()
        assert "mine" not in stage.bot.channels


async def test_an_import_that_takes_its_time_holds_nobody_up(tmp_path: Path) -> None:
    source = "import pathlib, time\nwhile not pathlib.Path({flag!r}).exists():\n    time.sleep(0.01)\n"
    flag = tmp_path / "go"
    async with Stage(tmp_path) as stage:
        write(tmp_path, "slow.py", source.format(flag=str(flag)))
        refreshing = asyncio.create_task(stage.bot.plugins.refresh())
        assert await stage.talk("still here") == "still here"
        assert not refreshing.done()
        flag.touch()
        await refreshing


def test_a_folder_says_what_is_wrong_with_what_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("x = 1\n")
    folder = tmp_path / "plugins"
    for name in ("twice.py", "twice/__init__.py", "no-name.py", "_off.py", ".hidden.py"):
        write(tmp_path, name, "x = 1\n")
    (folder / "link.py").symlink_to(outside)
    faults = {one.name: one.fault for one in sources(folder)}
    assert faults.keys() == {"twice", "no-name", "link"}
    assert "two of this name" in faults["twice"] and "cannot be imported" in faults["no-name"]
    assert "leads out of the folder" in faults["link"]
    assert sources(folder, links=True)[0].fault == ""
    with pytest.raises(PluginError, match="leads out"):
        import_source(next(one for one in sources(folder) if one.name == "link"))


def test_an_order_comes_first(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "c.py"):
        write(tmp_path, name, "")
    assert [one.name for one in sources(tmp_path / "plugins", ["c", "x"])] == ["c", "a", "b"]


def test_what_is_no_text_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "bytes.py", "")
    path.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(PluginError, match=r"bytes.py' is not UTF-8"):
        import_source(Source("bytes", path))


HEADER = """# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pluggy>=1",
#   "no-such-package-at-all>=3",
# ]
# ///
"""


def test_what_a_plugin_needs_stands_in_its_header_and_is_said_when_it_is_not_there(tmp_path: Path) -> None:
    source = Source("needy", write(tmp_path, "needy.py", HEADER + "import no_such_package_at_all\n"))
    assert needs(source) == ["pluggy>=1", "no-such-package-at-all>=3"]
    with pytest.raises(PluginError, match=r"It needs no-such-package-at-all>=3.*roost plugins install needy"):
        import_source(source)
    assert list(missing(["pluggy>=999", "pluggy", "x; python_version < '3'"])) == ["pluggy>=999"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "x = 1\n" + HEADER, "two headers"),
        ("# /// script\n# dependencies = [\n# ///\n", "not valid TOML"),
        ("# /// script\n# dependencies = [1]\n# ///\n", "no list of texts"),
        ("# /// script\n# dependencies = ['a b c!']\n# ///\n", "no requirement"),
    ],
)
def test_a_header_that_cannot_be_read_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        import_source(Source("odd", write(tmp_path, "odd.py", text)))


SETTINGS = """
from roost import command, key, options

@options
class Options:
    city: str = "Delft"
    token: str = key("", help="The key of your account.", secret=True)
    days: int = key(1, help="How many.", least=1)

@command
def where(bot) -> str:
    '''Tell.'''
    own = bot.options(Options)
    return f"{own.city} {own.days}"
"""


async def test_settings_are_filled_from_bot_toml_and_follow_it(tmp_path: Path) -> None:
    write(tmp_path, "town.py", SETTINGS)
    config = '[plugins.town]\ncity = "Breda"\n'
    async with Stage(tmp_path, config=config) as stage:
        assert await stage.talk("/where") == "Breda 1"
        stage.path.write_text(stage.path.read_text().replace('"Breda"', '"Gouda"\ndays = 3'))
        await stage.bot.reload()
        assert await stage.talk("/where") == "Gouda 3"
        write(tmp_path, "town.py", SETTINGS.replace("{own.days}", "{own.days}!"))
        await stage.bot.plugins.refresh()
        assert await stage.talk("/where") == "Gouda 3!"


async def test_settings_that_are_not_in_order_are_the_plugins_problem_alone(tmp_path: Path) -> None:
    write(tmp_path, "town.py", SETTINGS)
    config = '[plugins.town]\ndays = 0\ncty = "x"\n[plugins.twon]\nx = 1\n'
    async with Stage(tmp_path, config=config) as stage:
        said = " ".join(stage.bot.config.problems)
        assert "[plugins.town] days = 0 is not at least 1" in said
        assert "no key 'cty'" in said and "Did you mean 'city'" in said
        assert "[plugins.twon]: no plugin has such options. Did you mean 'town'?" in said
        assert "[plugins.town] is not in order" in await stage.talk("/where")
        assert await stage.talk("hello") == "hello"


async def test_a_plugins_secrets_are_kept_out_of_the_log(tmp_path: Path) -> None:
    from roost.config import secrets

    write(tmp_path, "town.py", SETTINGS)
    async with Stage(tmp_path, config='[plugins.town]\ntoken = "hush-hush"\n') as stage:
        assert "hush-hush" in secrets(stage.bot.config)


async def test_a_brain_does_other_things_for_plugins_too(tmp_path: Path) -> None:
    source = """
from roost import Message, command

@command
async def shout(bot, message: Message, text: str) -> str:
    '''Shout.'''
    return await bot.think(message, "Write it in capitals.", text)
"""
    write(tmp_path, "shout.py", source)
    async with Stage(tmp_path, script=str.upper) as stage:
        assert await stage.talk("/shout hey you") == "HEY YOU"
        assert [turn.text for turn in stage.brain.prompts[-1].turns] == ["Write it in capitals.", "hey you"]


async def test_a_plugin_that_holds_everybody_up_is_named_and_its_plain_hook_moved_to_a_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = """
import threading
from roost import hookimpl
go, where = threading.Event(), []

@hookimpl
def on_message(message):
    where.append(threading.current_thread() is threading.main_thread())
    go.wait(20)
"""
    write(tmp_path, "slow.py", source)
    async with Stage(tmp_path) as stage:
        stage.bot.dispatch.watch._patience = 0.05
        module: Any = stage.registry.plugins.get_plugin("slow")
        release = threading.Thread(target=lambda: (_named(caplog), module.go.set()))
        release.start()
        assert await stage.talk("hello") == "hello"
        release.join()
        assert "The plugin 'slow' holds everybody up" in caplog.text and "slow.py, line 9" in caplog.text
        assert await stage.talk("again") == "again"
        assert module.where == [True, False]


def _named(caplog: pytest.LogCaptureFixture) -> None:
    end = time.monotonic() + 15
    while "holds everybody up" not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)


async def test_a_plugin_that_floods_is_held_back(tmp_path: Path) -> None:
    source = """
from roost import command

@command
async def flood(bot, message) -> str:
    '''Flood.'''
    for number in range(100):
        await bot.send(message.place, str(number))
    return "done"

@command
def many(message):
    '''Say much.'''
    for number in range(50):
        yield str(number)
"""
    write(tmp_path, "flood.py", source)
    async with Stage(tmp_path) as stage:
        stage.bot._flood = Flood(60)
        said = await stage.talk("/flood")
        assert "The plugin 'flood' has sent 60 messages in a minute" in said and "done" not in said
        assert len(stage.channel.sent) == 61
        assert (await stage.talk("/many")).split() == [str(number) for number in range(20)]


async def test_a_job_may_run_once_at_a_moment(tmp_path: Path) -> None:
    write(tmp_path, "once.py", "from roost import job\n@job(at='2101-01-01 00:00')\ndef party(): ...\n")
    write(tmp_path, "never.py", "from roost import job\n@job(at='tomorrow')\ndef party(): ...\n")
    async with Stage(tmp_path) as stage:
        while stage.bot.schedule._scheduler is None:
            await asyncio.sleep(0)
        [known] = [one for one in stage.bot.schedule._scheduler.get_jobs() if one.id == "once.party"]
        assert known.next_run_time.year == 2101
        assert "at = 'tomorrow', which is no date" in stage.registry.failures[0].reason
