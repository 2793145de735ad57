"""Whatever is in the folder of plugins: it is named with what to do about it, and everything else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.testing import Stage

HOOKS = """
from roost import command, hookimpl

@hookimpl
async def on_message(message):
    if message.text == "two":
        yield "a"
        yield "b"
    if message.text == "fail":
        yield "a"
        raise ValueError("boom")

@command
def fails():
    '''Fails.'''
    return inner()

def inner():
    raise ValueError("boom")
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import no_such_module_at_all.part\n",
            r"'no_such_module_at_all' is not|'no_such_module_at_all', which is not ",
        ),
        ("from . import other\n", r"bad.py, line 1\). A plugin that has other files beside it is a folder"),
        ("from roost.nowhere import x\n", r"It imports 'roost.nowhere', which is not there \(.*bad.py, line 1\)"),
        ("x = 1\0\n", r"SyntaxError: .* \(.*bad.py, line 1\)"),
        ("x = 1\ndef f():\n    f()\nf()\n", r"RecursionError: .* \(.*bad.py, line 3\)"),
        ("import json\nx = 1\njson.loads('{')\n", r"JSONDecodeError: .* \(.*bad.py, line 3\)"),
        ("raise SystemExit(1)\n", r"SystemExit: 1 \(.*bad.py, line 1\)"),
        (
            "from roost import command\n\n@command\ndef tea(a: 'Nope'): ...\n",
            r"A hint of 'tea' cannot be read: name 'Nope' is not defined \(.*bad.py, line 3\)",
        ),
        (
            "from roost import command\n@command\ndef help(): ...\n",
            "Both 'roost.builtin' and 'bad' have a command 'help'",
        ),
    ],
    ids=["absent", "alone", "nowhere", "zero", "deep", "library", "exit", "hint", "clash"],
)
async def test_a_plugin_that_cannot_be_loaded_is_named_and_the_others_are_there(
    tmp_path: Path, source: str, said: str
) -> None:
    import re

    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "bad.py").write_text(source)
    (tmp_path / "plugins" / "hooks.py").write_text(HOOKS)
    async with Stage(tmp_path) as stage:
        [failure] = stage.registry.failures
        assert failure.plugin == "bad" and re.search(said, failure.reason), failure.reason
        assert await stage.talk("two") == "a\n\nb"


async def test_what_has_to_be_installed_is_said_with_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "bad.py").write_text("import no_such_module_at_all.part\n")
    async with Stage(tmp_path) as stage:
        [failure] = stage.registry.failures
        assert failure.reason.endswith("-m pip install no_such_module_at_all")


async def test_links_round_in_a_circle_and_folders_with_the_name_of_a_file_stop_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "one.py").symlink_to("two.py")
    (folder / "two.py").symlink_to("one.py")
    (folder / "gone.py").symlink_to("/nowhere/at/all.py")
    (folder / "room.py").mkdir()
    (folder / "empty").mkdir()
    (folder / "hooks.py").write_text(HOOKS)
    async with Stage(tmp_path) as stage:
        reasons = {one.plugin: one.reason for one in stage.registry.failures}
        assert reasons.keys() == {"loop", "one", "two", "gone", "room"}
        assert all("round in a circle" in reasons[name] for name in ("loop", "one", "two"))
        assert "Name it 'room', with an '__init__.py' in it" in reasons["room"]
        (folder / "room.py").rmdir()
        (folder / "loop.py").unlink()
        await stage.bot.plugins.refresh()
        assert {one.plugin for one in stage.registry.failures} == {"one", "two", "gone"}
        assert await stage.talk("two") == "a\n\nb"


async def test_a_hook_that_yields_nothing_passes_the_message_on(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hooks.py").write_text(HOOKS)
    async with Stage(tmp_path) as stage:
        assert await stage.talk("for the brain") == "for the brain"
        assert "boom" not in await stage.talk("/help")


async def test_a_hook_that_fails_after_it_said_something_is_named_and_the_message_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hooks.py").write_text(HOOKS)
    async with Stage(tmp_path) as stage:
        assert await stage.talk("fail") == "fail"
        assert "The plugin 'hooks' failed in on_message. ValueError: boom" in caplog.text
        assert "hooks.py, line 11)" in caplog.text


async def test_a_command_that_fails_is_named_with_its_file_and_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hooks.py").write_text(HOOKS)
    async with Stage(tmp_path) as stage:
        assert "⚠️" in await stage.talk("/fails")
        assert "The plugin 'hooks' failed in /fails. ValueError: boom" in caplog.text
        assert "hooks.py, line 19)" in caplog.text
