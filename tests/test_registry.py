"""Plugins: found, loaded, left out."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

import roost
from roost import command, hookimpl, job
from roost.errors import ConfigError, PluginError
from roost.folder import sources
from roost.registry import BUILTINS, Registry
from roost.settings import PluginsTable


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def plugin(**things: object) -> types.ModuleType:
    module = types.ModuleType("plug")
    vars(module).update(things)
    return module


HELLO = "from roost import command\n\n@command\ndef hello():\n    'Greet.'\n    return 'hi'\n"


def test_files_and_folders_are_plugins_and_underscored_ones_are_not(tmp_path: Path) -> None:
    write(tmp_path, "one.py", HELLO)
    write(tmp_path, "two/__init__.py", "from .part import word\n" + HELLO.replace("hello", "word_two"))
    write(tmp_path, "two/part.py", "word = 'x'\n")
    write(tmp_path, "_off.py", "raise RuntimeError")
    assert [one.name for one in sources(tmp_path)] == ["one", "two"]
    registry = Registry()
    registry.load(PluginsTable(folder=tmp_path.name), tmp_path.parent)
    assert {"hello", "word-two", "help"} <= set(registry.commands)
    assert registry.failures == []


def test_a_plugin_that_fails_is_named_with_file_and_line_and_the_others_load(tmp_path: Path) -> None:
    write(tmp_path, "bad.py", "x = 1\ny = x / 0\n")
    write(tmp_path, "typo.py", "def f(:\n")
    write(tmp_path, "good.py", HELLO)
    registry = Registry()
    registry.load(PluginsTable(folder=tmp_path.name), tmp_path.parent)
    assert [one.plugin for one in registry.failures] == ["bad", "typo"]
    assert "bad.py, line 2" in registry.failures[0].reason
    assert "typo.py, line 1" in registry.failures[1].reason
    assert "hello" in registry.commands


def test_a_disabled_plugin_is_not_even_imported(tmp_path: Path) -> None:
    write(tmp_path, "bad.py", "raise RuntimeError('imported')")
    registry = Registry()
    registry.load(PluginsTable(folder=tmp_path.name, disable=["bad"]), tmp_path.parent)
    assert registry.failures == []


def test_an_unknown_hook_names_the_nearest() -> None:
    @hookimpl
    def on_mesage(message: object) -> None: ...

    registry = Registry()
    with pytest.raises(PluginError, match="Did you mean 'on_message'"):
        registry.add(plugin(on_mesage=on_mesage), "p")
    assert not registry.plugins.has_plugin("p")


def test_two_plugins_with_one_command_are_refused_with_both_names() -> None:
    @command
    def hello() -> str:
        return ""

    registry = Registry()
    registry.add(plugin(hello=hello), "first")
    with pytest.raises(PluginError, match="Both 'first' and 'second' have a command 'hello'"):
        registry.add(plugin(hello=command("hello")(lambda: "")), "second")
    assert registry.commands["hello"].plugin == "first"


def test_a_removed_plugin_takes_its_commands_and_jobs_along() -> None:
    @command
    def hello() -> str:
        return ""

    @job(every=60)
    def tick() -> None: ...

    registry = Registry()
    registry.add(plugin(hello=hello, tick=tick), "p")
    assert (set(registry.commands), set(registry.jobs)) == ({"hello"}, {"p.tick"})
    registry.remove("p")
    assert (registry.commands, registry.jobs) == ({}, {})


def test_a_job_needs_exactly_one_time() -> None:
    with pytest.raises(ValueError, match="A job needs one of cron"):
        job()


def test_a_channel_whose_package_is_missing_says_how_to_get_it() -> None:
    registry = Registry()
    registry.channels.put("faraway", "roost_has_no_such_sdk:Channel")
    with pytest.raises(ConfigError, match=r"needs the package 'roost_has_no_such_sdk'. Install it: roost channels add"):
        registry.channels.take("faraway")


def test_the_core_names_channels_brains_and_memories_only_as_plugins() -> None:
    root = Path(roost.__file__).parent
    rooms = ("roost.channels", "roost.brains", "roost.memory")
    for path in root.glob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            imports = line.strip().startswith(("import ", "from "))
            assert not (imports and any(room in line for room in rooms)), f"{path.name}:{number}: {line}"
    assert {name.rpartition(".")[0] for name in BUILTINS} == {"roost", *rooms}


def test_the_public_face_is_fixed() -> None:
    assert roost.__all__ == [
        "Attachment",
        "Button",
        "Event",
        "Mention",
        "Message",
        "Person",
        "Place",
        "Quote",
        "Reply",
        "Sent",
        "command",
        "hookimpl",
        "job",
        "key",
        "options",
        "tool",
    ]
    for name in roost.__all__:
        assert hasattr(roost, name)
