"""What `roost new` writes works as it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from roost.cli import main
from roost.errors import RoostError
from roost.scaffolds import write


@pytest.mark.parametrize("kind", ["plugin", "channel"])
def test_its_test_passes_as_it_was_written(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bot.toml").write_text("")
    made = CliRunner().invoke(main, ["new", kind, "my_own", "--config", str(tmp_path / "bot.toml")])
    assert made.exit_code == 0 and made.output.count("Wrote") == 2, made.output
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_my_own.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["My", "a-b", "1a", "class", "../x", ""])
def test_a_name_that_cannot_be_imported_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RoostError, match="cannot name a plugin"):
        write("plugin", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced(tmp_path: Path) -> None:
    write("plugin", "mine", tmp_path)
    (tmp_path / "plugins" / "mine.py").write_text("x = 1\n")
    with pytest.raises(RoostError, match="already"):
        write("plugin", "mine", tmp_path)
    assert (tmp_path / "plugins" / "mine.py").read_text() == "x = 1\n"


HEADER = '# /// script\n# dependencies = ["no-such-package-at-all>=3"]\n# ///\n'


def test_a_plugin_that_needs_something_is_listed_with_the_line_to_type(tmp_path: Path) -> None:
    config = tmp_path / "bot.toml"
    config.write_text("")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "needy.py").write_text(HEADER)
    listed = CliRunner().invoke(main, ["plugins", "list", "--config", str(config)])
    assert "roost plugins install needy" in listed.output
    unknown = CliRunner().invoke(main, ["plugins", "install", "neddy", "--config", str(config)])
    assert unknown.exit_code == 1 and "Did you mean 'needy'?" in unknown.output


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    config = tmp_path / "bot.toml"
    config.write_text("")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fine.py").write_text(HEADER.replace("no-such-package-at-all>=3", "pluggy"))
    said = CliRunner().invoke(main, ["plugins", "install", "fine", "--config", str(config)])
    assert said.output == "'fine' has all it needs.\n"
