from __future__ import annotations

import sys
from pathlib import Path

import pytest
from system import require


def test_a_program_that_is_there_lets_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path(sys.executable)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("CI", "true")
    require(program.name, "python3")


def test_without_the_program_the_test_is_skipped_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="browserx is not installed: apt-get install browser-x"):
        require("browserx", "browser-x")


def test_without_the_program_the_test_fails_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="browserx is not installed: apt-get install browser-x"):
        require("browserx", "browser-x")
