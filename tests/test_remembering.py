"""What people can say about what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost import linking
from roost.linking import Codes
from roost.testing import Stage
from roost.values import Place, Quote

OPEN = "[access]\ndirect = 'open'\ngroups = 'open'\n"
GROUP = {"place": Place("stage", "g", kind="group"), "addressed": True}


async def test_a_fact_is_in_every_prompt_until_it_is_forgotten(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        assert await stage.talk("/remember I am allergic to nuts") == "Remembered, as number 1."
        assert await stage.talk("/remember My cat is Mia") == "Remembered, as number 2."
        assert await stage.talk("/remember I am allergic to nuts") == "Remembered, as number 1."
        assert await stage.talk("/facts") == "1. I am allergic to nuts\n2. My cat is Mia"
        await stage.talk("hello")
        assert "remember:\n- I am allergic to nuts\n- My cat is Mia" in stage.brain.prompts[-1].turns[0].text
        assert await stage.talk("/forget 1") == "Forgotten: I am allergic to nuts"
        assert await stage.talk("/facts") == "1. My cat is Mia"
    async with Stage(tmp_path) as stage:
        await stage.talk("hello again", chat="2")
        assert "- My cat is Mia" in stage.brain.prompts[-1].turns[0].text, "also elsewhere, and after a restart"
        assert "nuts" not in stage.brain.prompts[-1].turns[0].text


async def test_facts_of_one_person_are_nobody_elses_and_stay_out_of_groups(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        await stage.talk("/remember Ann keeps bees")
        assert "There are none." in await stage.talk("/facts", person="Bob", chat="2")
        await stage.talk("hi", **GROUP)
        assert "bees" not in stage.brain.prompts[-1].turns[0].text
        await stage.talk("/remember We meet on Mondays", **GROUP)
        await stage.talk("hi", person="Bob", **GROUP)
        assert "- We meet on Mondays" in stage.brain.prompts[-1].turns[0].text


async def test_too_many_facts_leave_room_for_the_conversation(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        for number in range(200):
            await stage.bot.memory.note("stage:ann", f"fact number {number} about something that matters to Ann")
        await stage.talk("hello")
        system = stage.brain.prompts[-1].turns[0].text
        assert "fact number 199" in system
        assert "fact number 1 " not in system
        assert await stage.brain.count(system) < stage.brain.context / 4


@pytest.mark.parametrize("wrong", ["7", "0", "-1", "everything", "2.5"])
async def test_forgetting_what_is_not_there_says_what_is(tmp_path: Path, wrong: str) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember one")
        assert await stage.talk(f"/forget {wrong}") == (
            f"There is no fact '{wrong}'. `/facts` lists them; `all` and `me` are the other choices."
        )


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("how", ["/forget all", "/forget me"])
async def test_what_is_forgotten_is_in_no_byte_of_the_data_folder(tmp_path: Path, how: str) -> None:
    secret = "Xanthippe"
    async with Stage(tmp_path, config="[memory]\ncompact_keep = 2\n") as stage:
        await stage.talk(f"/remember my code name is {secret}")
        for number in range(12):
            await stage.talk(f"{secret} says {number}")
        assert "became an extract" in await stage.talk("/compact")
        await stage.talk(f"{secret} again")
        await stage.talk("a harmless thing", chat="2", person="Bob")
        (tmp_path / "home" / "chat-history").write_text(f"{secret} was typed\n")
        assert secret.encode() in everything_in(tmp_path / "home")
        assert (await stage.talk(how)).startswith("Forgotten")
        await stage.bot.journal.forget(Place("stage", "1"))  # the command itself has no secret, its neighbours had
        assert secret.encode() not in everything_in(tmp_path / "home")
        assert "harmless" in await stage.talk("/recall harmless", chat="2", person="Bob")
    assert secret.encode() not in everything_in(tmp_path / "home")
    assert b"harmless" in everything_in(tmp_path / "home")


async def test_forgetting_a_person_leaves_what_others_said_in_a_group(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN + "[memory]\ncompact_keep = 2\n") as stage:
        for number in range(8):
            await stage.talk(f"Ann's line {number}", **GROUP)
            await stage.talk(f"Bob's line {number}", person="Bob", **GROUP)
        await stage.talk("/compact", **GROUP)
        await stage.talk("/forget me", person="Bob", **GROUP)
        await stage.talk("hello", **GROUP)
        prompt = "\n".join(turn.text for turn in stage.brain.prompts[-1].turns)
        assert "Ann's line" in prompt, "the summary is made anew of what is left"
        assert "Bob's" not in prompt
        assert "Bob's" not in await stage.talk("/recall line", **GROUP)
        assert b"Bob's" not in everything_in(tmp_path / "home")
        assert b"Ann's" in everything_in(tmp_path / "home")


async def test_what_was_said_is_found_again(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("the boiler was repaired in May")
        await stage.talk("what a day")
        found = await stage.talk("/recall boiler")
        assert found.count("> Ann: the boiler was repaired in May") == 1
        assert await stage.talk("/recall zeppelin", chat="2") == "I find nothing about 'zeppelin'."
        assert await stage.talk("/recall boiler", chat="2") == "I find nothing about 'boiler'."


async def test_a_pinned_message_stays_in_mind_when_the_window_has_left_it_behind(tmp_path: Path) -> None:
    small = "[brain]\nuse = 'scripted'\ncontext = 512\nmax_tokens = 100\n"
    async with Stage(tmp_path, config=small) as stage:
        first = await stage.say("the door code is 4711", id="first")
        await stage.quiet()
        answered = Quote(id="1", text="the door code is 4711")
        assert await stage.talk("/pin", quote=Quote(id=first.id)) == "I keep it in mind."
        for number in range(30):
            await stage.talk(f"and now something quite different, for the {number}th time")
        prompt = stage.brain.prompts[-1]
        assert "Keep this in mind:\nAnn: the door code is 4711" in prompt.turns[0].text
        assert "4711" not in "".join(turn.text for turn in prompt.turns[1:])
        assert await stage.talk("/pin", quote=answered) == "I keep it in mind.", "the bot's own message can be quoted"
        assert await stage.talk("/pin off", quote=answered) == "I let go of it."
        assert await stage.talk("/pin off", quote=Quote(id=first.id)) == "I let go of it."
        await stage.talk("and on")
        assert "4711" not in stage.brain.prompts[-1].turns[0].text
        assert await stage.talk("/pin", quote=Quote(id="unheard")) == "That message is not in my memory."
        assert await stage.talk("/pin") == "Reply to the message with `/pin`."


# One person on several channels


async def test_a_code_from_one_chat_joins_it_with_another(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("/remember I like tea")
        told = await stage.talk("/link")
        code = told.split("`/link ")[1].rstrip("`")
        assert "not valid" in await stage.talk("/link AAAA-AAAA", person="Anna", chat="2")
        assert "Now I know you here and there." in await stage.talk(f"/link {code.lower()}", person="Anna", chat="2")
        assert "not valid" in await stage.talk(f"/link {code}", person="Eve", chat="3"), "a code is good for once"
        assert await stage.talk("/facts", person="Anna", chat="2") == "1. I like tea"
        await stage.talk("/remember I like cake", person="Anna", chat="2")
        assert await stage.talk("/facts") == "1. I like tea\n2. I like cake"
    async with Stage(tmp_path) as stage:
        assert await stage.talk("/facts") == "1. I like tea\n2. I like cake"
        assert await stage.talk("/unlink") == "From now on you are nobody else to me."
        assert await stage.talk("/facts") == "1. I like tea"
        assert await stage.talk("/facts", person="Anna", chat="2") == "1. I like cake"


async def test_codes_are_not_given_in_groups_nor_taken_from_the_same_account(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OPEN) as stage:
        assert "alone" in await stage.talk("/link", **GROUP)
        told = await stage.talk("/link")
        assert "Send it from the other one." in await stage.talk("/link " + told.split("`/link ")[1].rstrip("`"))


def test_codes_end_with_time_and_guessing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(linking.time, "monotonic", lambda: now[0])
    codes = Codes()
    old = codes.give("a")
    now[0] += linking.VALID + 1
    assert codes.take(old, "b") is None
    good = codes.give("a")
    for _ in range(linking.TRIES):
        assert codes.take("WRONGONE", "eve") is None
    assert codes.take(good, "eve") is None, "the right code comes too late"
    assert codes.take(good, "b") == "a"


async def test_three_accounts_become_one_person_and_part_again(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        people = stage.bot.people
        await people.join("a:1", "b:2")
        await people.join("c:3", "b:2")
        assert await people.others("a:1") == ["a:1", "b:2", "c:3"]
        assert await people.others("c:3") == ["c:3", "a:1", "b:2"]
        assert await people.part_from("a:1")
        assert await people.others("b:2") == ["b:2", "c:3"]
        assert await people.others("a:1") == ["a:1"]
        assert not await people.part_from("a:1")
        assert await people.all() == [["b:2", "c:3"]]
