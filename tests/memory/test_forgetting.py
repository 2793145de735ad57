"""What stays and what goes when something is forgotten, and where else it may lie."""

from __future__ import annotations

import json
from pathlib import Path

from roost.memory import offers
from roost.memory.conversation import file_name
from roost.testing import Stage
from roost.values import Place, Quote

OPEN = "[access]\ndirect = 'open'\ngroups = 'open'\n"
GROUP = {"place": Place("stage", "g", kind="group"), "addressed": True}


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def test_new_keeps_the_facts_where_place_and_person_have_one_name(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember I like tea", chat="ann")
        await stage.talk("hello", chat="ann")
        await stage.talk("/new", chat="ann")
        assert await stage.talk("/facts", chat="ann") == "1. I like tea"
        await stage.talk("/forget all", chat="ann")
        assert "There are none." in await stage.talk("/facts", chat="ann")


async def test_the_command_line_forgets_facts_as_well(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember Xanthippe likes tea", chat="ann")
        await offers.forget(stage.bot, "stage:ann")
        assert b"Xanthippe" not in everything_in(tmp_path / "home" / "memory")


async def test_facts_of_a_group_stay_when_its_only_speaker_is_forgotten(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        await stage.talk("/remember We meet on Mondays", **GROUP)
        await stage.talk("hi", person="Bob", **GROUP)
        await stage.talk("/forget me", person="Bob", **GROUP)
        assert await stage.talk("/facts", **GROUP) == "1. We meet on Mondays"


async def test_what_lies_in_a_damaged_copy_is_forgotten_with_its_person(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        await stage.talk("Ann is here", **GROUP)
        await stage.talk("Xanthippe is my code name", person="Bob", **GROUP)
        await stage.talk("Ann again", **GROUP)
    path = tmp_path / "home" / "memory" / file_name("stage:g")
    path.write_bytes(path.read_bytes().replace(b"Ann again", b"Ann agaim", 1))
    async with Stage(tmp_path, config=OPEN) as stage:
        await stage.talk("hello", **GROUP)
        assert "was set aside as damaged" in await offers.check(stage.bot)
        await stage.talk("/forget me", person="Bob", **GROUP)
        assert b"Xanthippe" not in everything_in(tmp_path / "home" / "memory")


async def test_a_single_fact_is_forgotten_in_damaged_copies_too(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember Xanthippe is a name")
        await stage.talk("/remember I like tea")
    path = tmp_path / "home" / "memory" / "facts" / file_name("stage:ann")
    path.write_bytes(path.read_bytes().replace(b"like tea", b"like teX", 1))
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember I like cake")
        await stage.talk("/forget 1")
        assert b"Xanthippe" not in everything_in(tmp_path / "home" / "memory")


async def test_recall_shows_what_is_recent_beside_what_is_old(tmp_path: Path) -> None:
    async with Stage(tmp_path, config="[memory]\ncompact_keep = 2\n") as stage:
        await stage.talk("the boiler was repaired in May")
        for number in range(4):
            await stage.talk(f"line {number}")
        await stage.talk("/compact")
        await stage.talk("the boiler is broken again")
        found = await stage.talk("/recall boiler")
        assert "broken again" in found
        assert "repaired" in found


async def test_pins_are_written_out_and_read_in(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.touch(0o644)
    async with Stage(tmp_path) as stage:
        await stage.say("the door code is 4711", id="first")
        await stage.quiet()
        await stage.talk("/pin", quote=Quote(id="first"))
        await offers.write_out(stage.bot, str(file))
        place = stage.message("").place
        assert {"pin": "first", "role": "user"}.items() <= json.loads(file.read_text().splitlines()[-1]).items()
        await stage.talk("/forget all")
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        await offers.read_in(stage.bot, str(file))
        memory = offers.window(stage.bot)
        assert [turn.text for turn in await memory.pinned(place)] == ["the door code is 4711"]


async def test_what_cannot_be_written_or_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    from roost.wishes import _answer

    async with Stage(tmp_path) as stage:
        told = await _answer(stage.bot, "roost.memory.offers:write_out", "/nonexistent/x")
        assert told.startswith("'/nonexistent/x' cannot be written: ")
        for line, complaint in (
            ('{"fact": "x"}', "'' is not a place."),
            ('{"place": "a:1", "role": "user", "text": "x", "kind": "banana"}', "has the kind 'banana'. There are:"),
        ):
            (tmp_path / "in.jsonl").write_text(line)
            assert complaint in await _answer(stage.bot, "roost.memory.offers:read_in", str(tmp_path / "in.jsonl"))


async def test_people_are_linked_with_sense(tmp_path: Path) -> None:
    from roost.linking import link_persons

    async with Stage(tmp_path) as stage:
        assert "is no person" in await link_persons(stage.bot, "nonsense", "telegram:42")
        assert "one person anyway" in await link_persons(stage.bot, "a:1", "a:1")
        await link_persons(stage.bot, "a:1", "b:2")
        await stage.bot.people.part_from("a:1")
        assert await stage.bot.people.all() == []


async def test_a_forgotten_place_is_named_nowhere(tmp_path: Path) -> None:
    async with Stage(tmp_path, config="[memory]\ncompact_keep = 2\n") as stage:
        for chat in ("xanthippe", "other"):
            for number in range(4):
                await stage.talk(f"line {number}", chat=chat)
            await stage.talk("/compact", chat=chat)
            await stage.talk("once more", chat=chat)
        memory = tmp_path / "home" / "memory"
        assert b"xanthippe" in (memory / "due.jsonl").read_bytes()
        assert b"xanthippe" in (memory / "compactions.jsonl").read_bytes()
        await offers.forget(stage.bot, "stage:xanthippe")
        assert b"xanthippe" not in everything_in(memory)
        assert "stage:other" in await offers.log(stage.bot)


async def test_a_check_looks_at_windows_and_facts_as_well(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember I like tea")
        await stage.talk("the first line")
        await stage.talk("the second line")
        assert await offers.check(stage.bot) == offers.WHOLE
        for name, word in ((file_name("stage:1"), b"first"), (f"facts/{file_name('stage:ann')}", b"like")):
            path = tmp_path / "home" / "memory" / name
            path.write_bytes(path.read_bytes().replace(word, word.upper(), 1))
            assert f"{Path(name).name}' is damaged: 1 of " in await offers.check(stage.bot)


async def test_facts_are_read_in_with_their_time(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"owner": "a:1", "fact": "I like tea", "at": 1700000000.5}\n')
    async with Stage(tmp_path) as stage:
        await offers.read_in(stage.bot, str(tmp_path / "in.jsonl"))
        assert [fact.at for fact in await stage.bot.memory.facts("a:1")] == [1700000000.5]
