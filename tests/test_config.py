"""bot.toml: what it accepts, what it says about mistakes, what a change applies."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.config import Config, load, secrets
from roost.contracts import ChannelConfig
from roost.errors import ConfigError
from roost.keys import key
from roost.registry import Registry
from roost.tables import noun, within
from roost.testing import Stage, StageChannel
from roost.tomlschema import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig(ChannelConfig):
    token: str = key(help="Get one from the platform.", secret=True)
    limit: int = key(5, help="How many.")


class TokenChannel(StageChannel):
    Config = TokenConfig


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.load()
    registry.channels.always.clear()
    registry.channels.put("talky", TokenChannel)
    return registry


def read(folder: Path, registry: Registry, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "bot.toml"
    path.write_text(text)
    return load(path, registry, environment or {})


def complaint(folder: Path, registry: Registry, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, registry, text, environment)
    return str(caught.value)


def test_an_empty_file_is_a_working_configuration(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "")
    assert (config.bot.name, config.brain.use, config.web.port) == ("Roost", "auto", 8787)


def test_an_unknown_table_names_the_nearest(tmp_path: Path, registry: Registry) -> None:
    assert complaint(tmp_path, registry, "[chanels.talky]\ntoken = 'x'") == (
        "bot.toml: There is no table [chanels]. Did you mean 'channels'?"
    )


def test_an_unknown_key_names_table_key_value_and_the_nearest(tmp_path: Path, registry: Registry) -> None:
    assert complaint(tmp_path, registry, "[web]\nprot = 80") == (
        "bot.toml: [web] has no key 'prot' (value 80). Did you mean 'port'?"
    )


def test_a_wrong_value_names_what_it_should_be_and_what_it_is_for(tmp_path: Path, registry: Registry) -> None:
    said = complaint(tmp_path, registry, '[web]\nport = "eighty"\n[access]\ndirect = "everyone"')
    assert 'bot.toml: [web] port = "eighty" is not a whole number. The port to listen on' in said
    assert '[access] direct = "everyone" is not one of "pairing", "allowlist", "open", "closed".' in said


def test_an_unknown_engine_names_those_there_are(tmp_path: Path, registry: Registry) -> None:
    said = complaint(tmp_path, registry, '[brain]\nuse = "lamacpp"')
    assert said == "bot.toml: [brain] use = \"lamacpp\": There is no brain 'lamacpp'. Did you mean 'llamacpp'?"


def test_broken_toml_names_the_line(tmp_path: Path, registry: Registry) -> None:
    assert "line 2" in complaint(tmp_path, registry, "[web]\nport = = 1")


def test_bytes_that_are_no_text_are_refused_with_a_sentence(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "bot.toml"
    path.write_bytes(b"\xff\xfe[web]")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path, registry, {})


def test_one_broken_channel_leaves_the_others_alone(tmp_path: Path, registry: Registry) -> None:
    config = read(
        tmp_path,
        registry,
        "[channels.talky]\ntoken = 't'\n[channels.second]\nkind = 'talky'\n[channels.third]\nkind = 'talki'\n",
    )
    assert list(config.channels) == ["talky"]
    assert config.problems == (
        "bot.toml: [channels.second] has no 'token'. Get one from the platform. "
        "Or set ROOST_CHANNELS_SECOND_TOKEN in the environment.",
        "bot.toml: [channels.third]: There is no channel 'talki'. Did you mean 'talky'?",
    )


def test_two_accounts_of_one_platform_are_two_tables(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.a]\nkind='talky'\ntoken='1'\n[channels.b]\nkind='talky'\ntoken='2'\n")
    assert {name: entry.config.token for name, entry in config.channels.items()} == {"a": "1", "b": "2"}


def test_a_channel_that_is_not_enabled_is_left_out_without_a_word(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.talky]\nenabled = false\ntoken = 'x'")
    assert (config.channels, config.problems) == ({}, ())


def test_the_environment_overrides_and_converts(tmp_path: Path, registry: Registry) -> None:
    environment = {
        "ROOST_WEB_PORT": "9999",
        "ROOST_WEB_ENABLED": "false",
        "ROOST_CHANNELS_TALKY_TOKEN": "from-environment",
        "ROOST_ACCESS_PEOPLE": "talky:1, talky:2",
    }
    config = read(tmp_path, registry, "[web]\nport = 1", environment)
    assert (config.web.port, config.web.enabled) == (9999, False)
    assert config.channels["talky"].config.token == "from-environment"
    assert config.access.people == ["talky:1", "talky:2"]


def test_a_wrong_value_from_the_environment_says_where_it_came_from(tmp_path: Path, registry: Registry) -> None:
    said = complaint(tmp_path, registry, "", {"ROOST_WEB_PORT": "many"})
    assert 'port = "many" (from ROOST_WEB_PORT) is not a whole number.' in said


def test_a_wrong_secret_is_not_shown(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.talky]\ntoken = 4711")
    assert "4711" not in config.problems[0]
    assert "(hidden)" in config.problems[0]


def test_secrets_are_known_so_that_they_can_be_hidden(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.talky]\ntoken = 'abc'\n[web]\ntoken = 'def'")
    assert secrets(config) == {"abc", "def"}


def test_the_shipped_file_is_the_packaged_one_and_sets_nothing_twice(registry: Registry) -> None:
    root = Path(__file__).parent.parent
    assert (root / "bot.toml").read_bytes() == (root / "bot" / "default.toml").read_bytes()
    config = load(root / "bot.toml", registry, {})
    assert config.problems == ()


def test_the_schema_describes_every_key_and_accepts_the_shipped_file(registry: Registry) -> None:
    described = schema(registry)
    tables = described["properties"]
    assert tables["web"]["properties"]["port"]["type"] == "integer"
    assert tables["channels"]["properties"]["talky"]["required"] == ["token"]
    assert tables["brain"]["properties"]["use"]["enum"] == [
        "auto",
        "ctransformers",
        "echo",
        "llamacpp",
        "onnx",
        "openai",
    ]
    for name in ("bot", "access", "web", "journal", "brain", "memory", "plugins"):
        for one, about in tables[name]["properties"].items():
            assert about["description"], f"[{name}] {one} has no description"
    json.dumps(described)


def test_nouns_read_well() -> None:
    assert noun(int | None) == "a whole number"
    assert noun(list[str]) == "a list"


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["bot", "brain", "web", "channels", "plugins", "memory", "nonsense"]),
        st.one_of(
            st.integers(),
            st.text(max_size=5),
            st.lists(st.integers(), max_size=2),
            st.dictionaries(st.sampled_from(["name", "port", "use", "enabled", "x"]), st.integers() | st.text()),
        ),
    )
)
def test_any_table_gives_a_configuration_or_a_sentence(data: dict[str, Any]) -> None:
    import tempfile

    lines = []
    for name, value in data.items():
        lines.append(f"{json.dumps(name)} = {inline(value)}")
    registry = Registry()
    registry.load()
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(Path(folder), registry, "\n".join(lines))
        except ConfigError as error:
            assert str(error).startswith("bot.toml")


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


# Changes while the bot runs


async def test_a_change_applies_what_changed_and_only_that(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        channel, brain = stage.channel, stage.bot.brain
        stage.path.write_text("[bot]\nname = 'Coo'\n" + stage.path.read_text())
        await stage.bot.reload()
        assert stage.bot.name == "Coo"
        assert (stage.channel, stage.bot.brain) == (channel, brain)
        stage.path.write_text(stage.path.read_text() + "\n[channels.extra]\nkind = 'stage'\n")
        await stage.bot.reload()
        await stage.bot.channels["extra"].up.wait()
        assert stage.channel is channel
        stage.path.write_text(stage.path.read_text().replace("[channels.extra]", "[channels.extra]\nenabled = false"))
        await stage.bot.reload()
        assert list(stage.bot.channels) == ["stage"]
        assert await stage.talk("hello") == "hello"


async def test_a_broken_edit_keeps_the_last_good_configuration_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Stage(tmp_path) as stage:
        before = stage.bot.config
        stage.path.write_text("[web\n")
        await stage.bot.reload()
        assert stage.bot.config is before
        assert "the last good one stays in force" in caplog.text
        assert await stage.talk("hello") == "hello"


async def test_another_brain_takes_over_and_the_old_one_finishes_its_answer(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        old, gate, thinking = stage.brain, asyncio.Event(), asyncio.Event()
        unloaded = asyncio.Event()

        async def slow(prompt: object):  # type: ignore[no-untyped-def]
            thinking.set()
            await gate.wait()
            yield "from the old one"

        async def unload() -> None:
            unloaded.set()

        old.think, old.unload = slow, unload  # type: ignore[method-assign]
        await stage.say("hello")
        await thinking.wait()
        stage.path.write_text(stage.path.read_text().replace('use = "scripted"', 'use = "scripted"\nmax_tokens = 9'))
        await stage.bot.reload()
        assert not unloaded.is_set()
        gate.set()
        await stage.quiet()
        await unloaded.wait()
        assert stage.channel.sent[-1][1].text == "from the old one"
        assert stage.brain is not old


async def test_the_file_is_watched(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        applied = asyncio.Event()
        reload = stage.bot.reload

        async def seen() -> None:
            await reload()
            applied.set()

        stage.bot.reload = seen  # type: ignore[method-assign]
        text = stage.path.read_text()
        async with asyncio.timeout(20):
            # The watcher begins some moment after the bot: write until it has noticed.
            while not applied.is_set():
                stage.path.write_text("[bot]\nname = 'Coo'\n" + text)
                try:
                    await asyncio.wait_for(applied.wait(), 1)
                except TimeoutError:
                    continue
        assert stage.bot.name == "Coo"


def test_a_bounded_list_is_measured_by_its_length() -> None:
    assert within(["a"], 1, 2)
    assert not within([], 1, None)
    assert not within({"a": 1, "b": 2}, None, 1)
    assert within("", None, None) and not within(0, 1, None)


# The command line


def roost(*arguments: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "ROOST_HOME": str(home)}
    command = [sys.executable, "-m", "roost", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False, cwd=home)


def test_a_mistake_in_the_file_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text("[web]\nprot = 1\n")
    done = roost("config", "check", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "bot.toml: [web] has no key 'prot' (value 1). Did you mean 'port'?"


def test_without_a_file_the_default_one_is_written(tmp_path: Path) -> None:
    done = roost("config", "check", home=tmp_path)
    assert (done.returncode, (tmp_path / "bot.toml").is_file()) == (0, True)


def test_the_schema_is_printed_as_json(tmp_path: Path) -> None:
    done = roost("config", "schema", home=tmp_path)
    assert json.loads(done.stdout)["properties"]["web"]["properties"]["port"]["default"] == 8787


def test_help_imports_no_channel_and_no_engine(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['roost', '--help']\n"
        "from roost.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'telegram', 'xllamacpp', 'tinydb', 'rich'}\n"
        "rooms = ('roost.channels.', 'roost.brains.llama', 'roost.brains.openai', 'roost.memory.window')\n"
        "loaded = {m for m in sys.modules if m.split('.')[0] in heavy or m.startswith(rooms)}\n"
        "print(sorted(loaded - {'roost.channels.builtin'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


async def test_another_log_level_holds_at_once(tmp_path: Path) -> None:
    logger = logging.getLogger("roost")
    before = logger.level
    try:
        async with Stage(tmp_path) as stage:
            stage.path.write_text("[bot]\nlog = 'debug'\n" + stage.path.read_text())
            await stage.bot.reload()
            assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


def test_the_web_chat_is_not_there_without_the_web_face(tmp_path: Path) -> None:
    registry = Registry()
    registry.load()
    path = tmp_path / "bot.toml"
    path.write_text("[web]\nenabled = false\n[channels.webhook]\nsecret = 'x'\nurl = 'http://127.0.0.1:1'\n")
    assert sorted(load(path, registry).channels) == ["terminal", "webhook"]
    path.write_text("")
    assert sorted(load(path, registry).channels) == ["terminal", "web"]
