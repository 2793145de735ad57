"""What leaves for a brain on another machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roost import Attachment, Place, tool
from roost.addresses import is_elsewhere
from roost.contracts import BrainConfig, Call, Piece, Prompt, Turn
from roost.leaving import rule
from roost.settings import PrivacyRule, PrivacyTable
from roost.testing import ScriptedBrain, Stage

FAR = """[brain]
use = "far"
[brains.near]
use = "scripted"
"""
ALONE = '[brain]\nuse = "far"\n'


class Far(ScriptedBrain):
    """A brain on another machine."""

    Config = BrainConfig

    @property
    def remote(self) -> bool:
        return True


class Far_(Stage):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.registry.brains.put("far", Far)

    def heard(self) -> str:
        """Every word that has left."""
        return "\n".join(turn.text for prompt in self.brain.prompts for turn in prompt.turns)


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        ("https://api.openai.com/v1", True),
        ("http://8.8.8.8:80/v1", True),
        ("http://[2606:4700::1]/v1", True),
        ("http://127.0.0.1:11434/v1", False),
        ("http://localhost:11434/v1", False),
        ("http://192.168.1.9/v1", False),
        ("http://[fd00::1]/v1", False),
        ("http://nas.local/v1", False),
        ("http://nas/v1", False),
        ("https://example.org./v1", True),
    ],
)
def test_an_address_tells_whether_it_is_at_home(address: str, elsewhere: bool) -> None:
    assert is_elsewhere(address) is elsewhere


def test_the_strictest_of_place_and_person_holds_and_replaces_the_general() -> None:
    table = PrivacyTable(
        remote="redact",
        places={"a:1": PrivacyRule(remote="allow"), "a:2": PrivacyRule(remote="never")},
        people={"a:ann": PrivacyRule(remote="never")},
    )
    from roost import Person

    ann, bob = Person("a", "ann"), Person("a", "bob")
    assert rule(table, Place("a", "3"), bob) == "redact"
    assert rule(table, Place("a", "1", "thread"), bob) == "allow"
    assert rule(table, Place("a", "2"), bob) == "never"
    assert rule(table, Place("a", "1"), ann) == "never"


async def test_names_and_numbers_leave_as_stand_ins_and_come_back(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=FAR) as stage:
        said = "My name is Susan Miller, write to susan.miller@corp.example."
        assert await stage.talk(said) == said
        assert "Susan" not in stage.heard() and "corp.example" not in stage.heard() and "@example." in stage.heard()
        again = await stage.talk("Who is Susan?")
        assert again == "Who is Susan?"
        first, second = (prompt.turns for prompt in stage.brain.prompts)
        assert second[1].text == first[1].text  # the beginning stays the same for the engine


async def test_stand_ins_outlive_the_process_and_are_forgotten_with_the_place(tmp_path: Path) -> None:
    said = "My name is Susan Miller."
    async with Far_(tmp_path, config=FAR) as stage:
        await stage.talk(said)
        stood = stage.brain.prompts[-1].turns[-1].text
    async with Far_(tmp_path, config=FAR) as stage:
        await stage.talk(said)
        assert stage.brain.prompts[-1].turns[-1].text == stood
        await stage.talk("/forget all")
        assert await stage.bot.shelf("privacy").all() == []


async def test_a_stream_cut_anywhere_comes_back_whole(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=FAR) as stage:
        stage.brain.script = list
        said = "My name is Susan Miller and my phone is +31 20 555 1234."
        assert await stage.talk(said) == said


async def test_what_is_too_private_stays_with_the_brain_at_home(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=FAR) as stage:
        said = "my password is hunter2-correct-horse"
        assert await stage.talk(said) == said
        assert "hunter2" not in stage.heard()
        near = stage.bot.minds.brain("near")
        assert isinstance(near, ScriptedBrain) and "hunter2" in near.prompts[-1].turns[-1].text
        stage.brain.prompts.clear()
        await stage.talk("and the weather?")  # the window still holds the password
        assert "hunter2" not in stage.heard()


async def test_without_a_brain_at_home_it_is_said_and_nothing_leaves(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=ALONE) as stage:
        assert "too private to leave home" in await stage.talk("my password is hunter2-correct-horse")
        assert stage.brain.prompts == []


async def test_never_means_never_for_answers_summaries_tasks_and_pictures(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=ALONE + '[privacy]\nremote = "never"\n') as stage:
        assert "no brain at home" in await stage.talk("hello")
        for number in range(8):
            await stage.say(f"line {number}", addressed=False)
        await stage.quiet()
        await stage.talk("/compact")
        assert stage.brain.prompts == []


async def test_pictures_stay_at_home_while_anything_is_hidden(tmp_path: Path) -> None:
    picture = Attachment("image", "a.png", "image/png", 3, data=b"png")
    async with Far_(tmp_path, config=ALONE) as stage:
        assert "too private" in await stage.talk("look", attachments=(picture,))
        assert stage.brain.prompts == []


async def test_allow_lets_everything_go(tmp_path: Path) -> None:
    async with Far_(tmp_path, config=ALONE + '[privacy]\nremote = "allow"\n') as stage:
        await stage.talk("My name is Susan Miller.")
        assert "Susan Miller" in stage.heard()


async def test_tools_get_what_was_meant_and_their_results_are_hidden(tmp_path: Path) -> None:
    got: list[str] = []

    @tool
    def find_phone(name: str) -> str:
        """Find somebody's telephone number."""
        got.append(name)
        return f"{name}: susan.miller@corp.example"

    def script(said: str) -> Iterable[Piece]:
        if "stage" in said or got:
            return [f"It is {said}"]
        name = said.removeprefix("My name is ").removesuffix(".")
        return [Call("c1", "find_phone", json.dumps({"name": name}))]

    import types

    module = types.ModuleType("phones")
    vars(module)["find_phone"] = find_phone
    async with Far_(tmp_path, plugins=[module], config=FAR, script=script) as stage:
        answer = await stage.talk("My name is Susan Miller.")
        assert got == ["Susan Miller"]
        assert answer == "It is Susan Miller: susan.miller@corp.example"
        assert "Susan" not in stage.heard() and "corp.example" not in stage.heard()
        calls = [call.arguments for prompt in stage.brain.prompts for turn in prompt.turns for call in turn.calls]
        assert calls and not any("Susan" in one for one in calls)


async def test_a_route_may_go_by_how_private_a_message_is(tmp_path: Path) -> None:
    config = '[brain]\nuse = "scripted"\n[brains.safe]\nuse = "scripted"\n[[routes]]\nprivate = 0.7\nbrain = "safe"\n'
    async with Stage(tmp_path, config=config) as stage:
        safe = stage.bot.minds.brain("safe")
        assert isinstance(safe, ScriptedBrain)
        await stage.talk("hello")
        assert safe.prompts == []
        await stage.talk("my password is hunter2-correct-horse")
        assert len(safe.prompts) == 1


async def test_an_answer_that_is_broken_off_ends_the_work_of_the_brain_elsewhere(tmp_path: Path) -> None:
    ended: list[bool] = []

    class Endless(Far):
        async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
            try:
                while True:
                    yield "and on "
            finally:
                ended.append(True)

    async with Stage(tmp_path) as stage:
        for allowed in ("redact", "allow"):
            stage.bot.config = replace(stage.bot.config, privacy=PrivacyTable(remote=allowed))  # type: ignore[arg-type]
            brain = stage.bot.leaving.between(Endless(Far.Config(), tmp_path), Place("stage", "1"))
            async with aclosing(brain.think(Prompt((Turn("user", "go on"),)))) as answer:  # type: ignore[type-var]
                await anext(answer)
            assert ended.pop()
