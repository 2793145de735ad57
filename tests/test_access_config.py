"""What bot.toml may say of access, what `roost doctor` says of that, and `roost people`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from roost.cli import main
from roost.config import Config, load
from roost.doctor import findings
from roost.errors import ConfigError
from roost.registry import Registry
from roost.rules import rules_at
from roost.testing import ScriptedBrain, Stage
from roost.tomlschema import schema
from roost.values import Place


def read(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "bot.toml"
    path.write_text(text)
    registry = Registry()
    registry.load()
    registry.channels.always.clear()
    registry.brains.put("scripted", ScriptedBrain)
    return load(path, registry, environment or {})


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[access.channels.telegram]\ndirect = "all"',
            '[access.channels.telegram] direct = "all" is not one of "pairing", "allowlist", "open", "closed".',
        ),
        (
            '[access.places."telegram:42"]\ndirekt = "open"',
            "[access.places.\"telegram:42\"] has no key 'direkt' (value \"open\"). Did you mean 'direct'?",
        ),
        ('[access.places.telegram]\ndirect = "open"', "'telegram' is not a place. A place looks like 'telegram:42'"),
        ('[access]\nchannels = "telegram"', "[access.channels] is not a table. Write [access.channels.NAME]"),
        ("[access.channels]\ntelegram = 5", "'access.channels.telegram' is not a table."),
        ("[access]\nmessages_per_hour = -1", "[access] messages_per_hour = -1 is not at least 0."),
    ],
)
def test_a_mistake_is_told_with_where_it_is(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in complaint(tmp_path, text)


def test_the_nearest_rules_hold_and_the_environment_wins(tmp_path: Path) -> None:
    text = """
[access]
messages_per_hour = 5
people = ["a:1"]
[access.channels.a]
messages_per_hour = 4
people = ["a:2"]
[access.places."a:42"]
messages_per_hour = 0
people = ["a:3"]
"""
    table = read(tmp_path, text, {"ROOST_ACCESS_CHANNELS_A_DIRECT": "closed"}).access
    here = rules_at(table, Place("a", "42", "7"))
    assert (here.messages_per_hour, here.direct, here.groups) == (0, "closed", "addressed")
    assert here.people == ["a:1", "a:2", "a:3"]
    assert rules_at(table, Place("a", "43")).messages_per_hour == 4
    assert rules_at(table, Place("b", "42")) is table


def test_the_schema_knows_the_tables_below_access() -> None:
    registry = Registry()
    registry.load()
    access = schema(registry)["properties"]["access"]["properties"]
    below = access["places"]["additionalProperties"]
    assert "direct" in below["properties"]
    assert below["additionalProperties"] is False
    assert "$ref" not in json.dumps(access)


def test_the_doctor_finds_names_where_ids_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    path = tmp_path / "bot.toml"
    path.write_text('[brain]\nuse = "echo"\n[access]\npeople = ["@ann", "telegram:42"]\n')
    (bad,) = [one.text for one in findings(path) if not one.ok]
    assert "'@ann' looks like a name" in bad


def roost(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    path = folder / "bot.toml"
    if not path.exists():
        path.write_text('[brain]\nuse = "echo"\n')
    monkeypatch.setenv("ROOST_HOME", str(folder / "home"))
    monkeypatch.setenv("ROOST_CONFIG", str(path))
    return CliRunner().invoke(main, ["people", *words], catch_exceptions=False).output.strip()


def test_people_are_let_in_blocked_and_removed_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def people(*words: str) -> str:
        return roost(tmp_path, monkeypatch, *words)

    assert people("list") == "Nobody is known yet."
    assert people("approve", "telegram:42") == "telegram:42 is let in."
    assert people("approve", "telegram:42") == "telegram:42 has been let in already."
    assert "There is no '@ann'" in people("approve", "@ann")
    assert people("role", "telegram:7", "owner") == "telegram:7 is to me, from now on: owner."
    assert "is the owner" in people("block", "telegram:7")
    assert people("block", "telegram:42") == "telegram:42 is blocked."
    assert people("link", "telegram:42", "slack:U7") == "Linked: telegram:42 = slack:U7"
    assert people("list").splitlines() == [
        "- telegram:42: blocked",
        "- telegram:7: owner",
        "- the same person: slack:U7 = telegram:42",
    ]
    assert people("remove", "telegram:42") == "telegram:42 is a stranger again."
    assert "is not known" in people("remove", "telegram:42")


async def test_a_request_is_approved_at_the_command_line_and_the_stranger_is_told(tmp_path: Path) -> None:
    from roost.guarding import WELCOME, let_in

    async with Stage(tmp_path, config='[bot]\nowner = "stage:ann"\n[access]\ndirect = "pairing"\n') as stage:
        await stage.talk("hello", person="Eve", chat="2")
        assert await let_in(stage.bot, "stage:eve") == "stage:eve is let in."
        await stage.quiet()
        assert stage.channel.sent[-1][1].text == WELCOME
        assert await stage.talk("thank you", person="Eve", chat="2") == "thank you"
