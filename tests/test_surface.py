"""What plugins rely on stays: a line of tests/surface.txt may be added, none may change or go."""

from __future__ import annotations

from surface import FILE, lines


def test_nothing_that_a_plugin_relies_on_has_changed() -> None:
    gone = [line for line in FILE.read_text().splitlines() if line not in lines()]
    assert not gone, "A plugin written for this version would break."


def test_what_is_new_is_written_down() -> None:
    new = [line for line in lines() if line not in FILE.read_text().splitlines()]
    assert not new, "python tests/surface.py"
