"""What plugins keep for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost import Person, Place
from roost.shelf import Item
from roost.testing import Stage

ANN = Person("stage", "ann", "Ann")


async def test_what_is_kept_outlives_the_process_and_is_its_plugins_own(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        shelf = stage.bot.shelf("notes")
        await shelf.put("10", {"text": "ten"}, Place("stage", "1"), ANN)
        await shelf.put("9", {"text": "nine"}, Place("stage", "2"), ANN)
        await shelf.put("9", "other", Place("stage", "1"))
        await stage.bot.shelf("note").put("1", "not mine")
    async with Stage(tmp_path) as stage:
        shelf = stage.bot.shelf("notes")
        assert [one.key for one in await shelf.all()] == ["9", "9", "10"]
        assert [one.value for one in await shelf.all(person=ANN)] == [{"text": "nine"}, {"text": "ten"}]
        assert await shelf.get("9", Place("stage", "1")) == "other"
        assert await shelf.get("8") is None
        await shelf.put("9", "again", Place("stage", "1"))
        await shelf.drop(Item("10", None, "stage:1", str(ANN)))
        assert [one.value for one in await shelf.all(place="stage:1")] == ["again"]


async def test_it_is_no_part_of_the_state_of_a_dialogue(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.bot.shelf("notes").put("1", "x", Place("stage", "1"), ANN)
        await stage.bot.pipeline.states.load()
        assert list(await stage.bot.pipeline.states.of(stage.message("hello"))) == []


async def test_it_is_forgotten_with_its_place_or_person(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        shelf = stage.bot.shelf("notes")
        await shelf.put("1", "SECRET-A", Place("stage", "1"))
        await shelf.put("2", "SECRET-B", Place("stage", "2"), ANN)
        await shelf.put("3", "kept", Place("stage", "3"))
        await stage.talk("/forget all", chat="1")
        assert [one.key for one in await shelf.all()] == ["2", "3"]
        await stage.talk("/forget me", chat="1")
        assert [one.key for one in await shelf.all()] == ["3"]
    found = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"SECRET" not in found


async def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        with pytest.raises(ValueError, match="65538 bytes"):
            await stage.bot.shelf("notes").put("1", "x" * 65536)
