"""`roost channels add`: from nothing to a channel in bot.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from roost.cli import main
from roost.extras import requirements

BEFORE = '# mine\n[brain]\nuse = "echo"\n\n# [channels.telegram]\n# token = "…"\n'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    path = tmp_path / "bot.toml"
    path.write_text(BEFORE, encoding="utf-8")
    return path


def add(path: Path, kind: str, said: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(main, ["channels", "add", kind, "--config", str(path)], input=said)
    return done.exit_code, done.output


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
