"""Which brain, persona and tools a message gets, and who answers when a brain is down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roost.contracts import Prompt
from roost.errors import BrainError, ConfigError
from roost.minds import DOWN
from roost.routes import Route, choose
from roost.testing import ScriptedBrain, Stage
from roost.values import Message, Person, Place

TWO = '[brain]\nuse = "scripted"\nfallback = ["small"]\n[brains.small]\nuse = "scripted"\n'


def message(**fields: Any) -> Message:
    place = Place(fields.pop("channel", "work"), "42", fields.pop("thread", ""), fields.pop("kind", "direct"))
    return Message("1", place, Person("work", "ann", "Ann"), "hi", 0.0, **fields)


@pytest.mark.parametrize(
    ("route", "fitting"),
    [
        (Route(), True),
        (Route(channel="work"), True),
        (Route(channel="home"), False),
        (Route(place="work:42"), True),
        (Route(place="work:4"), False),
        (Route(kind="group"), False),
        (Route(person="work:ann", role="owner"), True),
        (Route(person="work:ann", role="person"), False),
    ],
)
def test_every_key_of_a_route_must_fit(route: Route, fitting: bool) -> None:
    marked = replace(route, persona="found")
    assert (choose([marked], message(), "owner").persona == "found") is fitting


def test_a_routes_place_holds_its_threads() -> None:
    assert choose([Route(place="work:42", persona="x")], message(thread="7"), "owner").persona == "x"


def test_the_first_route_that_fits_is_taken() -> None:
    routes = [Route(channel="home", persona="a"), Route(channel="work", persona="b"), Route(persona="c")]
    assert choose(routes, message(), "person").persona == "b"


def other(stage: Stage, name: str = "small") -> ScriptedBrain:
    brain = stage.bot.minds.brain(name)
    assert isinstance(brain, ScriptedBrain)
    return brain


async def test_a_route_chooses_brain_and_persona(tmp_path: Path) -> None:
    routes = '[[routes]]\nperson = "stage:bob"\nbrain = "small"\npersona = "You are {name}, a pirate."\n'
    async with Stage(tmp_path, config=TWO + routes, script=lambda said: "from the main one") as stage:
        other(stage).script = lambda said: "from the small one"
        assert await stage.talk("hi") == "from the main one"
        assert await stage.talk("hi", chat="2", person="Bob") == "from the small one"
        assert other(stage).prompts[0].turns[0].text.startswith("You are Roost, a pirate.")


async def test_a_route_to_a_brain_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    wrong = {
        '[[routes]]\nbrain = "smal"': r"no table \[brains.smal\]. Did you mean 'small'",
        '[[routes]]\nchanel = "work"': "no key 'chanel'",
        '[brains."a b"]\nuse = "scripted"': "cannot name a brain",
    }
    for text, complaint in wrong.items():
        config = f"{TWO}\n{text}"
        with pytest.raises(ConfigError, match=complaint):
            async with Stage(tmp_path, config=config):
                pass


def broken(brain: ScriptedBrain, after: str = "") -> list[Prompt]:
    """Let a brain fail; returns what it is asked."""
    asked: list[Prompt] = []

    async def think(prompt: Prompt) -> AsyncIterator[str]:
        asked.append(prompt)
        if after:
            yield after
        raise BrainError("The model server 'http://big' cannot be reached.")

    brain.think = think  # type: ignore[method-assign]
    return asked


async def test_another_brain_answers_for_one_that_is_down_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("roost.minds.time.monotonic", lambda: clock)
    async with Stage(tmp_path, config=TWO, script=lambda said: "big") as stage:
        other(stage).script = lambda said: "small"
        asked = broken(stage.brain)
        assert await stage.talk("one") == "([brain] does not answer now; this is [brains.small].)\n\nsmall"
        assert await stage.talk("two") == "small"
        assert len(asked) == 1, "what is down is not asked again at once"
        remembered = [turn.text for turn in other(stage).prompts[-1].turns[1:]]
        assert remembered == ["one", "small", "two"], "what is said about brains is not remembered"
        del stage.brain.think
        clock += DOWN + 1
        assert await stage.talk("three") == "([brain] is back.)\n\nbig"
        assert await stage.talk("four") == "big"


async def test_a_brain_that_breaks_off_in_the_middle_is_not_replaced(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=TWO) as stage:
        broken(stage.brain, after="Once upon ")
        answer = await stage.talk("a story")
        assert answer.startswith("Once upon")
        assert "cannot be reached" in answer
        assert not other(stage).prompts


async def test_when_all_are_down_the_person_is_told(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=TWO) as stage:
        broken(stage.brain)
        broken(other(stage))
        assert "cannot be reached" in await stage.talk("hi")


async def test_changed_brains_and_routes_are_applied_while_the_bot_runs(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=TWO, script=lambda said: "big") as stage:
        old = other(stage)
        assert await stage.talk("hi") == "big"
        text = stage.path.read_text().replace("[brains.small]", "[brains.small]\ncontext = 1000")
        stage.path.write_text(f'{text}\n[[routes]]\nbrain = "small"\n')
        await stage.bot.reload()
        assert other(stage) is not old
        assert other(stage).context == 1000
        assert await stage.talk("hello") == "hello"
