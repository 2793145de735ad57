from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from roost.edit import put
from roost.errors import ConfigError

BEFORE = """# mine
[bot]
name = "Owl"  # as in the wood

[brain]
# the small one
model = "smol"
context = 2048

[[routes]]
channel = "work"
"""


def test_a_key_is_set_with_every_comment_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    path.write_text(BEFORE, encoding="utf-8")
    put(path, "brain", {"model": 'q"3'})
    assert path.read_text(encoding="utf-8") == BEFORE.replace('"smol"', '"q\\"3"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_table_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    path.write_text(BEFORE, encoding="utf-8")
    put(path, "channels.telegram", {"token": "1:A"})
    put(path, "channels.work", {"token": "2:B"})
    put(path, "brains.big", {"use": "openai"})
    text = path.read_text(encoding="utf-8")
    assert text.startswith(BEFORE)
    read = tomllib.loads(text)
    assert read["channels"] == {"telegram": {"token": "1:A"}, "work": {"token": "2:B"}}
    assert read["brains"] == {"big": {"use": "openai"}}
    assert read["routes"] == [{"channel": "work"}]


@pytest.mark.parametrize("text", ["[brain", "brain = 3\n", "[[brain]]\nuse = 'x'\n", "\udcff"])
def test_a_file_that_cannot_be_changed_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bot.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="cannot be changed"):
        put(path, "brain", {"model": "x"})
    assert path.read_bytes() == before
