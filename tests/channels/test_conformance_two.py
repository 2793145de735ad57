"""A part of the channels against every scenario, over the wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.conformance import cases, check_page, prove, rig
from kit.rig import Rig
from kit.scenarios import Scenario

__all__ = ["rig"]


@pytest.mark.parametrize(("name", "scenario"), cases(1))
async def test_a_channel_does_what_every_channel_does(name: str, scenario: Scenario, rig: Rig, tmp_path: Path) -> None:
    await prove(name, scenario, rig, tmp_path)


def test_the_page_of_channels_says_what_was_proven() -> None:
    """The last test of this module: it needs the outcome of all others."""
    check_page(1)
