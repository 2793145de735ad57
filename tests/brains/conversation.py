"""One conversation test for every engine: what a brain promises, tried with whatever stands behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from roost.contracts import Brain, Call, Piece, Prompt, Tool, Turn
from roost.errors import BrainError

SYSTEM = Turn("system", "You are a helpful AI assistant. Answer briefly.")
FRANCE = "What is the capital of France?"
STORY = "Write a very long story about an owl."
OWL = "🦉👩‍🚀🏳️‍🌈"
LEMON = "レモンの木"
WEATHER = Tool(
    "weather",
    "Tell the weather in a city.",
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)


@dataclass(slots=True)
class Seat:
    """A brain at the table, ready. `pid` is the process it thinks in, `idle` waits until that has nothing to do.

    `revive` is what somebody has to do before a next answer when that process was killed: nothing for our own.
    """

    brain: Brain
    pid: Callable[[], int]
    idle: Callable[[], Awaitable[None]]
    revive: Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Nothing has to be done."""


def ask(*texts: str, max_tokens: int = 24, conversation: str = "test:1", system: Turn | None = SYSTEM) -> Prompt:
    """A prompt in which user and assistant take turns."""
    turns = tuple(Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts))
    return Prompt((system, *turns) if system else turns, conversation, max_tokens)


def repeat(text: str, **kwargs: Any) -> Prompt:
    """A prompt that even a small model answers with `text`."""
    question = f"Repeat exactly: {text}"
    return ask(question, text, question, text, question, **kwargs)


def weather_in(city: str) -> tuple[Turn, ...]:
    """A question for the weather that was answered with a tool's help."""
    call = Call(f"call-{city}", "weather", json.dumps({"city": city}))
    asked = Turn("assistant", "", calls=(call,))
    return (
        Turn("user", f"How is the weather in {city}?"),
        asked,
        Turn("tool", "Rain", call=call.id),
        Turn("assistant", "Rain."),
    )


async def heard(brain: Brain, prompt: Prompt) -> list[Piece]:
    return [piece async for piece in answer(brain, prompt)]


async def said(brain: Brain, prompt: Prompt) -> str:
    return "".join(piece for piece in await heard(brain, prompt) if isinstance(piece, str))


def answer(brain: Brain, prompt: Prompt) -> AsyncIterator[Piece]:
    return brain.think(prompt)


class Basics:
    """What holds for everything that answers at all, with or without a model."""

    async def test_an_answer_arrives_in_pieces(self, seat: Seat) -> None:
        pieces = await heard(seat.brain, ask(FRANCE))
        assert len(pieces) > 1
        assert "France" in "".join(map(str, pieces))

    async def test_an_answer_is_no_longer_than_it_may_be(self, seat: Seat) -> None:
        prompt = ask(f"{STORY} Make it as long as you can.", max_tokens=5)
        pieces = await heard(seat.brain, prompt)
        assert 1 <= len(pieces) <= 5
        assert len(await said(seat.brain, replace(prompt, max_tokens=20))) > len("".join(map(str, pieces)))

    @pytest.mark.parametrize("text", [OWL, LEMON])
    async def test_characters_of_several_tokens_arrive_whole(self, seat: Seat, text: str) -> None:
        pieces = await heard(seat.brain, repeat(text, max_tokens=40))
        assert text in "".join(map(str, pieces))
        assert not any("\ufffd" in str(piece) for piece in pieces)

    async def test_half_a_character_in_a_question_does_no_harm(self, seat: Seat) -> None:
        assert await said(seat.brain, ask("Say hello. \ud83e", max_tokens=4))

    async def test_an_answer_that_nobody_wants_any_more_makes_room_for_the_next(self, seat: Seat) -> None:
        async with aclosing(cast(Any, answer(seat.brain, ask(STORY, max_tokens=1500)))) as pieces:
            await anext(pieces)
        await seat.idle()
        assert "France" in await said(seat.brain, ask(FRANCE))

    async def test_two_conversations_at_once_are_kept_apart(self, seat: Seat) -> None:
        words = ("raspberry", "thunderstorm")
        answers = await asyncio.gather(
            *(said(seat.brain, repeat(word, conversation=f"test:{word}", max_tokens=12)) for word in words)
        )
        for word, other, text in zip(words, reversed(words), answers, strict=True):
            assert word in text
            assert other not in text


class Conversation(Basics):
    """What holds for every language model."""

    tools = False
    """Whether it calls tools: those that cannot say so in their documentation, and answer without."""

    async def test_an_answer_ends_before_a_stop_string_wherever_that_is_cut(self, seat: Seat) -> None:
        whole = await said(seat.brain, ask(STORY, max_tokens=40))
        stop = whole[9:14]
        prompt = replace(ask(STORY, max_tokens=40), stop=("\x02", stop))
        assert await said(seat.brain, prompt) == whole[: whole.index(stop)]

    async def test_the_system_text_is_part_of_the_prompt(self, seat: Seat) -> None:
        brain = cast(Any, seat.brain)
        system = Turn("system", "You are an owl who lives in a tall tree and says nothing but hoot.")
        await said(brain, ask(FRANCE, max_tokens=1, system=SYSTEM))
        before = brain.usage.prompt
        await said(brain, ask(FRANCE, max_tokens=1, system=system))
        longer = await brain.count(system.text) - await brain.count(SYSTEM.text)
        assert before > await brain.count(SYSTEM.text)
        assert abs(brain.usage.prompt - before - longer) <= 2

    async def test_what_was_read_is_not_read_again(self, seat: Seat) -> None:
        brain = cast(Any, seat.brain)
        question = "Tell me about the owls that live in the woods of the north, in one sentence please."
        first = await said(brain, ask(question, conversation="test:owls"))
        cost = brain.usage.prompt
        await said(brain, ask(question, first, "And where do they sleep?", conversation="test:owls"))
        assert brain.usage.cached > cost // 2

    async def test_a_conversation_that_is_too_long_is_said_to_be_and_the_next_is_answered(self, seat: Seat) -> None:
        with pytest.raises(BrainError, match="too long for the model"):
            await said(seat.brain, ask("word " * 4000))
        assert "France" in await said(seat.brain, ask(FRANCE))

    async def test_an_engine_that_is_killed_spoils_one_answer_only(self, seat: Seat) -> None:
        dead = seat.pid()
        pieces = answer(seat.brain, ask(STORY, max_tokens=1500))
        await anext(pieces)
        os.kill(dead, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        with pytest.raises(BrainError, match=r"engine stopped|127\.0\.0\.1:\d+.+(broke|cannot be reached)"):
            async for _ in pieces:
                pass
        await seat.revive()
        assert "France" in await said(seat.brain, ask(FRANCE))
        assert seat.pid() != dead

    async def test_a_tool_is_called_or_the_answer_is_given_without(self, seat: Seat) -> None:
        # A small model calls a tool only where it saw that done.
        before = ((SYSTEM,), *(weather_in(city) for city in ("Rome", "Paris", "Rome")))
        turns = (*(turn for turns in before for turn in turns), Turn("user", "How is the weather in Paris?"))
        pieces = await heard(seat.brain, Prompt(turns, "test:weather", 60, tools=(WEATHER,)))
        calls = [piece for piece in pieces if isinstance(piece, Call)]
        if not self.tools:
            assert pieces
            assert not calls
            return
        assert [call.name for call in calls] == ["weather"]
        assert json.loads(calls[0].arguments) == {"city": "Paris"}

    async def test_what_a_tool_gave_is_part_of_the_prompt(self, seat: Seat) -> None:
        brain = cast(Any, seat.brain)
        call = Call("call-1", "weather", '{"city": "Paris"}')
        turns = (
            SYSTEM,
            Turn("user", "What is the weather in Paris?"),
            Turn("assistant", "", calls=(call,)),
            Turn("tool", "It is raining frogs.", call="call-1"),
        )
        assert await heard(brain, Prompt(turns, "test:frogs", 40))
        assert brain.usage.prompt > await brain.count("What is the weather in Paris? It is raining frogs.")
