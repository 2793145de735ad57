"""Defences that no other test would miss: each fails when what it is about is taken away (tests/mutants.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost import Place, access
from roost.contracts import BrainConfig
from roost.leaving import TooPrivate
from roost.testing import ScriptedBrain, Stage

UNOWNED = '[access]\ndirect = "pairing"\n'


def other(code: str) -> str:
    """A code that is as long and as well written, and wrong."""
    return ("A" if code[0] != "A" else "B") + code[1:]


async def test_a_wrong_code_of_the_right_length_makes_nobody_the_owner(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        wrong = other(code)
        assert wrong != code and len(wrong) == len(code)
        assert "my owner now" not in await stage.talk(wrong, person="Eve", chat="2")
        assert await stage.bot.people.known() == []
        assert "my owner now" in await stage.talk(code)


async def test_after_many_wrong_ones_the_owners_code_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "WRONG_CODES", 3)
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        for number in range(3):
            await stage.talk(other(code), person=f"Eve{number}", chat=f"{number + 2}")
        assert "my owner now" not in await stage.talk(code)
        assert await stage.bot.people.known() == []


class Elsewhere(ScriptedBrain):
    Config = BrainConfig

    @property
    def remote(self) -> bool:
        return True


async def test_a_brain_elsewhere_is_not_given_what_never_leaves(tmp_path: Path) -> None:
    """Whoever asks: a summary and a plugin get their brain here as well."""
    config = '[privacy.places."stage:1"]\nremote = "never"\n'
    async with Stage(tmp_path, config=config) as stage:
        brain = Elsewhere(BrainConfig(), tmp_path)
        place = Place("stage", "1")
        with pytest.raises(TooPrivate, match="stays at home"):
            stage.bot.leaving.between(brain, place)
        assert stage.bot.leaving.for_summary(brain, place) is None
        assert stage.bot.leaving.for_summary(brain, Place("stage", "2")) is not None
