"""`roost channels add`: from nothing to a channel in bot.toml."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers.apart import free_port
from servers.telegram import TelegramServer

from roost import trial
from roost.bot import Bot
from roost.cli import main
from roost.config import load
from roost.extras import requirements
from roost.registry import Registry

BEFORE = '# mine\n[brain]\nuse = "echo"\n\n# [channels.telegram]\n# token = "…"\n'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    path = tmp_path / "bot.toml"
    path.write_text(BEFORE, encoding="utf-8")
    return path


def channels(*words: str, path: Path, said: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["channels", *words, "--config", str(path)], input=said)
    return done.exit_code, done.output


def add(path: Path, kind: str, said: str = "", trial: str = "--no-trial") -> tuple[int, str]:
    return channels("add", kind, trial, path=path, said=said)


def test_a_channel_is_asked_for_and_written_with_all_else_left_as_it_was(path: Path) -> None:
    code, printed = add(path, "telegram", '12:AB"C\n')
    assert code == 0, printed
    assert path.read_text(encoding="utf-8").startswith(BEFORE.rstrip("\n"))
    assert tomllib.loads(path.read_text(encoding="utf-8"))["channels"] == {"telegram": {"token": '12:AB"C'}}
    assert '12:AB"C' not in printed


def test_a_second_table_and_an_unknown_kind_are_refused_and_nothing_is_written(path: Path) -> None:
    assert add(path, "telegram", "1:A\n")[0] == 0
    before = path.read_bytes()
    code, printed = add(path, "telegram", "2:B\n")
    assert code == 1
    assert "has a table [channels.telegram] already" in printed
    code, printed = add(path, "telegarm")
    assert code == 1
    assert "Did you mean 'telegram'?" in printed
    assert path.read_bytes() == before


def test_what_an_extra_needs_is_read_off_the_installed_package() -> None:
    (needed,) = requirements("telegram")
    assert needed.startswith("python-telegram-bot")
    assert requirements("web") == []


def test_what_an_extra_needs_only_on_some_machines_keeps_its_marker() -> None:
    newer, older, numpy = requirements("vectors")
    assert newer.startswith("wordllama>=0.4; ") and "sys_platform" in newer and "extra" not in newer
    assert older.startswith("wordllama==0.2.2.post0; ")
    assert ";" not in numpy


def test_a_number_and_a_yes_or_no_are_asked_for_and_written_as_such(path: Path) -> None:
    code, printed = add(path, "smpp", "smsc.example.org\n3550\nroost\nsecret\n12345\ntrue\n")
    assert code == 0, printed
    table = tomllib.loads(path.read_text(encoding="utf-8"))["channels"]["smpp"]
    assert (table["port"], table["tls"]) == (3550, True)
    assert "port, or nothing for 2775:" in printed and "tls, or nothing for false:" in printed


def test_what_is_needed_has_to_be_there(path: Path) -> None:
    code, printed = add(path, "telegram", "\n")
    assert code == 1
    assert "'token' has to be there. Nothing was written." in printed


async def test_a_table_that_is_refused_is_not_said_to_be_missing(path: Path) -> None:
    path.write_text(f"{BEFORE}\n[channels.telegram]\n", encoding="utf-8")
    code, printed = await asyncio.to_thread(channels, "test", "telegram", path=path)
    assert code == 1
    assert "[channels.telegram] has no 'token'." in printed and "[channels.telegram] is not in order." in printed


@pytest.mark.parametrize(("port", "wanted"), [("x", "a whole number"), ("0", "at least 1 and at most 65535")])
def test_an_answer_that_a_key_cannot_be_is_refused(path: Path, port: str, wanted: str) -> None:
    code, printed = add(path, "smpp", f"smsc.example.org\n{port}\n")
    assert code == 1
    assert f"'port' has to be {wanted}. Nothing was written." in printed
    assert path.read_text(encoding="utf-8") == BEFORE


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as one:
        monkeypatch.setenv("ROOST_CHANNELS_TELEGRAM_BASE_URL", one.base_url)
        yield one


async def test_what_was_given_is_tried_and_taken_back_when_the_platform_refuses_it(
    path: Path, server: TelegramServer
) -> None:
    code, printed = await asyncio.to_thread(add, path, "telegram", "110201543:wrong\n", "--trial")
    assert code == 1
    assert printed.count("Telegram refuses the 'token'") == 1 and "Nothing was written." in printed
    assert path.read_text(encoding="utf-8") == BEFORE
    code, printed = await asyncio.to_thread(add, path, "telegram", f"{server.token}\n", "--trial")
    assert code == 0, printed
    assert "telegram: it works." in printed


async def test_a_trial_takes_no_message_away(path: Path, server: TelegramServer) -> None:
    path.write_text(f'{BEFORE}\n[channels.telegram]\ntoken = "{server.token}"\n', encoding="utf-8")
    await server.private(server.person("Ann")).say("hello")
    code, printed = await asyncio.to_thread(channels, "test", "telegram", path=path)
    assert (code, printed) == (0, "telegram: it works.\n")
    assert len(server.updates) == 1
    code, printed = await asyncio.to_thread(channels, "test", "matrix", path=path)
    assert code == 1
    assert "has no channel 'matrix'" in printed


async def test_a_bot_that_runs_is_asked_instead(path: Path, server: TelegramServer) -> None:
    path.write_text(f'{BEFORE}\n[channels.telegram]\ntoken = "{server.token}"\n[web]\nport = 0\n', encoding="utf-8")
    registry = Registry()
    registry.load()
    (path.parent / "home").mkdir()
    bot = Bot(load(path, registry), registry, path.parent / "home")
    await bot.start()
    try:
        code, printed = await asyncio.to_thread(channels, "test", "telegram", path=path)
        assert (code, printed) == (0, "telegram: it works.\n")
    finally:
        await bot.stop()


async def test_a_platform_out_of_reach_is_told_of_and_what_was_given_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "IN_TROUBLE", 0.0)
    monkeypatch.setenv("ROOST_CHANNELS_TELEGRAM_BASE_URL", f"http://127.0.0.1:{free_port()}")
    code, printed = await asyncio.to_thread(add, path, "telegram", "1:A\n", "--trial")
    assert code == 0, printed
    assert "telegram: it does not work yet. Telegram is out of reach: nobody listens there." in printed
    assert "[channels.telegram]" in path.read_text(encoding="utf-8")


async def test_the_list_says_how_the_channels_of_a_bot_that_runs_are(
    path: Path, server: TelegramServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f'{BEFORE}\n[web]\nport = 0\n[channels.telegram]\ntoken = "1:wrong"\n', encoding="utf-8")
    registry = Registry()
    registry.load()
    (path.parent / "home").mkdir()
    bot = Bot(load(path, registry), registry, path.parent / "home")
    await bot.start()
    try:
        async with asyncio.timeout(30):
            while bot.channels["telegram"].state != "stopped":
                await asyncio.sleep(0.01)
        code, printed = await asyncio.to_thread(channels, "list", path=path)
    finally:
        await bot.stop()
    lines = [line.split(None, 1) for line in printed.splitlines()]
    assert code == 0
    assert ["web", "running"] in lines
    assert any(line[0] == "telegram" and line[1].startswith("stopped. Telegram refuses the 'token'") for line in lines)


def test_the_list_says_what_is_on_and_how_to_switch_on_the_rest(path: Path) -> None:
    code, printed = channels("list", path=path)
    assert code == 0
    assert "roost channels add telegram" in printed
    assert any(line.split() == ["web", "on"] for line in printed.splitlines())


def test_what_the_channel_itself_finds_wanting_is_taken_back_too(path: Path) -> None:
    code, printed = add(path, "sms", f"AC{'0' * 32}\n{'1' * 32}\n\n", "--trial")
    assert code == 1
    assert "has nothing to write from" in printed and "Nothing was written." in printed
    assert path.read_text(encoding="utf-8") == BEFORE


ASKED = {
    "sms": {"account": f"AC{'0' * 32}", "token": "1" * 32, "number": "+15551234567"},
    "ntfy": {"listen": "in-7f3k9q2m", "speak": "out-7f3k9q2m", "base_url": "http://127.0.0.1:1", "token": "tk_1"},
    "irc": {"host": "irc.example.org", "nick": "mybot", "password": "secret"},
    "mqtt": {"host": "192.168.1.2", "username": "roost", "password": "secret"},
    "mumble": {"host": "voice.example.org", "username": "Bot", "password": "secret", "channel": "Games/Chess"},
    "sip": {"host": "pbx.example.org", "username": "201", "password": "secret"},
}


@pytest.mark.parametrize("kind", sorted(ASKED))
def test_all_that_a_channel_seldom_works_without_is_asked_for(path: Path, kind: str) -> None:
    code, printed = add(path, kind, "".join(f"{answer}\n" for answer in ASKED[kind].values()))
    assert code == 0, printed
    assert tomllib.loads(path.read_text(encoding="utf-8"))["channels"][kind] == ASKED[kind]


def test_what_is_taken_when_nothing_is_given_is_shown(path: Path) -> None:
    code, printed = add(path, "ntfy", "in-7f3k9q2m\nout-7f3k9q2m\n\n\n")
    assert code == 0, printed
    assert 'base_url, or nothing for "https://ntfy.sh":' in printed
    assert "token (not shown), or nothing:" in printed
    assert set(tomllib.loads(path.read_text(encoding="utf-8"))["channels"]["ntfy"]) == {"listen", "speak"}
