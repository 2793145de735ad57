"""Tool calls: as servers stream them, and as models write them that know no tools."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.openai import KEY, Exchange, OpenAIServer, answer

from roost.brains.answer import Answer
from roost.brains.openai import OpenAI
from roost.brains.spelled import schema, spelled, think
from roost.contracts import Call, Piece, Prompt, Tool, Turn
from roost.errors import BrainError
from roost.mcp_schemas import unfit

WEATHER = Tool(
    "weather",
    "The weather in a city now.",
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)
ASKED = Prompt((Turn("system", "Be brief."), Turn("user", "Weather in Paris?")), "test:1", tools=(WEATHER,))
ANSWERED = Prompt(
    (
        *ASKED.turns,
        Turn("assistant", "Let me see.", calls=(Call("a1", "weather", '{"city": "Paris"}'),)),
        Turn("tool", "18 degrees", call="a1"),
    ),
    tools=(WEATHER,),
)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as one:
        yield one


@pytest.fixture
async def brain(server: OpenAIServer) -> AsyncIterator[OpenAI]:
    one = OpenAI(OpenAI.Config(use="openai", model="gpt-test", base_url=server.url, api_key=KEY), Path("nowhere"))
    yield one
    await one.unload()


def part(index: int, id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    """A part of a call as it is streamed: id and name come with the first one only."""
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if id:
        call |= {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [call]}


def calling(*deltas: dict[str, Any]) -> Any:
    async def act(exchange: Exchange) -> None:
        for delta in deltas:
            await exchange.chunk(delta)
        await exchange.finish("tool_calls")

    return act


async def pieces(brain: OpenAI, prompt: Prompt = ASKED) -> list[Piece]:
    return [piece async for piece in brain.think(prompt)]


async def test_calls_are_put_together_from_their_parts(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan.append(
        calling(
            {"role": "assistant", "content": "Let me see."},
            part(0, "a1", "weather"),
            part(0, arguments='{"city": '),
            part(0, arguments='"Paris"}'),
            part(1, "a2", "weather", '{"city": "Rome"}'),
        )
    )
    assert await pieces(brain) == [
        "Let me see.",
        Call("a1", "weather", '{"city": "Paris"}'),
        Call("a2", "weather", '{"city": "Rome"}'),
    ]
    asked = server.asked[0]["tools"]
    assert asked == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "The weather in a city now.",
                "parameters": json.loads(WEATHER.parameters),
            },
        }
    ]


async def test_calls_that_all_have_the_number_0_are_told_apart_by_their_ids() -> None:
    reading = Answer()
    for id, city in (("x", "Paris"), ("y", "Rome")):
        delta = part(0, id, "weather", json.dumps({"city": city}))
        assert list(reading.read(json.dumps({"choices": [{"delta": delta}]}))) == []
    found = list(reading.read('{"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}'))
    assert found == [Call("x", "weather", '{"city": "Paris"}'), Call("y", "weather", '{"city": "Rome"}')]


def test_a_call_without_id_and_with_arguments_as_an_object_is_understood() -> None:
    raw = {"choices": [{"message": {"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}}]}
    assert list(Answer().whole(json.dumps(raw).encode())) == [Call("call1", "weather", '{"city": "Oslo"}')]


def test_arguments_without_end_are_refused() -> None:
    reading = Answer()
    event = json.dumps({"choices": [{"delta": part(0, "x", "weather", "9" * 1000)}]})
    with pytest.raises(BrainError, match="without end"):
        for _ in range(1000):
            list(reading.read(event))


async def test_a_result_goes_back_to_its_call(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan.append(answer("It is ", "18 degrees."))
    assert "".join(map(str, await pieces(brain, ANSWERED))) == "It is 18 degrees."
    call, result = server.asked[0]["messages"][2:]
    assert call["tool_calls"][0] == {
        "id": "a1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
    }
    assert result == {"role": "tool", "content": "18 degrees", "tool_call_id": "a1"}


async def test_a_model_that_knows_no_tools_answers_without_them(server: OpenAIServer, brain: OpenAI) -> None:
    server.renamed = {"tools"}
    assert await pieces(brain) == ["Weather", " in", " Paris?"]
    assert "tools" not in server.asked[-1]


# Models that know no tools


class Model:
    """Says `free` in pieces, or `held` when it is held to a schema."""

    def __init__(self, free: list[str], held: str = "") -> None:
        self.free, self.held = free, held
        self.asked: list[tuple[Prompt, Any]] = []
        self.closed = 0

    async def ask(self, prompt: Prompt, schema: Any) -> AsyncGenerator[Piece, None]:
        self.asked.append((prompt, schema))
        try:
            for piece in self.free if schema is None else [self.held]:
                yield piece
        finally:
            self.closed += 1


def test_what_refers_to_parts_of_itself_still_does_within_the_schema_of_a_call() -> None:
    tree = {"type": "object", "properties": {"name": {"type": "string"}, "in": {"$ref": "#/$defs/Tree"}}}
    parameters = {"type": "object", "properties": {"tree": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": tree}}
    tools = [Tool("plain", "Is plain."), *(Tool(name, "Grows.", json.dumps(parameters)) for name in ("oak", "elm"))]
    whole = schema(tools)
    check = jsonschema.Draft202012Validator(whole)
    deep = {"tree": {"name": "a", "in": {"name": "b", "in": {"name": "c"}}}}
    assert check.is_valid({"tool": "plain", "arguments": {}})
    for name in ("oak", "elm"):
        assert check.is_valid({"tool": name, "arguments": deep})
        assert not check.is_valid({"tool": name, "arguments": {"tree": {"in": {"name": 1}}}})
    assert all(unfit(one["properties"]["arguments"] | {"$defs": whole["$defs"]}) == "" for one in whole["anyOf"])


async def test_an_answer_that_begins_like_a_call_is_asked_for_again_by_the_schema() -> None:
    model = Model(['{"to', 'ol": "weat', "her, oh no"], '{"tool": "weather", "arguments": {"city": "Paris"}}')
    (call,) = [piece async for piece in think(ASKED, model.ask)]
    assert isinstance(call, Call)
    assert (call.name, call.arguments) == ("weather", '{"city": "Paris"}')
    assert [held for _, held in model.asked] == [None, schema([WEATHER])]
    assert model.closed == 2
    assert model.asked[0][0].tools == ()
    assert '{"tool": "weather"' in model.asked[0][0].turns[0].text


async def test_a_call_that_comes_to_no_end_is_an_error() -> None:
    model = Model(['{"tool": '], '{"tool": "weather", "argum')
    with pytest.raises(BrainError, match="no end"):
        [piece async for piece in think(ASKED, model.ask)]


@given(
    st.text() | st.sampled_from(['{"to', "{", "``", '```json\n{"to', '{"name": 1}', '{"tools": 1}', "{ }", "`x`"]),
    st.integers(1, 9),
)
async def test_an_answer_in_words_arrives_unchanged_however_it_is_cut(text: str, size: int) -> None:
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join([str(piece) async for piece in think(ASKED, Model(cut).ask)]) == text


@pytest.mark.parametrize("before", ["", " \n", "```\n", "```json\n", "```json "])
@pytest.mark.parametrize("size", [1, 2, 5, 100])
async def test_a_call_is_seen_however_it_is_cut(before: str, size: int) -> None:
    text = before + '{ "tool" : "weather", "arguments": {}}'
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    model = Model(cut, '{"tool": "weather", "arguments": {"city": "é"}}')
    (call,) = [piece async for piece in think(ASKED, model.ask)]
    assert isinstance(call, Call)
    assert call.arguments == '{"city": "é"}'


def test_earlier_calls_and_results_are_told_in_words() -> None:
    turns = spelled(ANSWERED).turns
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[2].text == 'Let me see.\n{"tool": "weather", "arguments": {"city": "Paris"}}'
    assert turns[3].text == "[result] 18 degrees"
    assert not any(turn.calls for turn in turns)
