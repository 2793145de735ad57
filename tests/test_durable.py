from __future__ import annotations

import stat
from pathlib import Path

import pytest

from roost.durable import Kept


def test_what_is_kept_is_there_in_the_next_run_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    Kept(path).put("cursor", "s1_2")
    again = Kept(path)
    again.put("rooms", ["a", "b"])
    assert dict(Kept(path).all()) == {"cursor": "s1_2", "rooms": ["a", "b"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"', "\0"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(content)
    kept = Kept(path)
    assert kept.get("cursor", "none") == "none"
    kept.put("cursor", 3)
    assert Kept(path).get("cursor") == 3


def test_what_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    kept = Kept(path)
    kept.put("cursor", 1)
    path.unlink()
    kept.put("cursor", 1)
    assert not path.exists()
