"""Tools for a model whose chat template knows none: spelled out in the system text, called by an answer in JSON.

An answer that begins like a call is broken off and asked for again, held to a JSON Schema. So a model of any size
writes calls that are well formed, and what it says in words is never slowed down.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any

from roost.brains.calls import planted
from roost.contracts import Call, Piece, Prompt, Tool, Turn
from roost.errors import BrainError

INTRODUCTION = "Tools you may use:"
MANNER = 'To use one, answer with nothing but {"tool": its name, "arguments": {…}}. Otherwise answer in words.'
CALL = re.compile(r'\s*(```\w*\s*)?\{\s*"tool"\s*:')
BEGINNING = re.compile(r'\s*(`{1,3}|```\w*\s*)?(\{\s*("(t(o(ol?)?)?)?"?\s*)?)?\Z|\s*(```\w*\s*)?\{\s*"tool"\s*:?\Z')
NUMBERS = count(1)

Ask = Callable[[Prompt, dict[str, Any] | None], AsyncGenerator[Piece, None]]
"""Ask for an answer, held to a JSON Schema where there is one."""


def spelled(prompt: Prompt) -> Prompt:
    """The same prompt in words: tools in the system text, calls and results as what was said."""
    turns = [_said(turn) for turn in prompt.turns]
    tools = "\n".join([INTRODUCTION, *map(_described, prompt.tools), MANNER])
    if turns and turns[0].role == "system":
        turns[0] = replace(turns[0], text=f"{turns[0].text}\n\n{tools}")
    else:
        turns.insert(0, Turn("system", tools))
    return replace(prompt, turns=tuple(turns), tools=())


def _described(tool: Tool) -> str:
    return json.dumps({"tool": tool.name, "use": tool.help, "arguments": json.loads(tool.parameters)})


def _said(turn: Turn) -> Turn:
    if turn.role == "tool":
        return Turn("user", f"[result] {turn.text}")
    if not turn.calls:
        return turn
    return Turn("assistant", "\n".join(filter(None, [turn.text, *map(_written, turn.calls)])))


def _written(call: Call) -> str:
    return f'{{"tool": {json.dumps(call.name)}, "arguments": {call.arguments}}}'


async def think(prompt: Prompt, ask: Ask) -> AsyncGenerator[Piece, None]:
    """Answer a prompt with tools through `ask`, which knows none. Raises BrainError."""
    said = spelled(prompt)
    held: str | None = ""
    async with aclosing(ask(said, None)) as answer:
        async for piece in answer:
            if held is None or isinstance(piece, Call):
                yield piece
                continue
            held += piece
            if CALL.match(held):
                break
            if not BEGINNING.match(held):
                yield held
                held = None
        else:
            if held:
                yield held
            return
    yield await _call(said, prompt.tools, ask)


async def _call(said: Prompt, tools: Sequence[Tool], ask: Ask) -> Call:
    text = ""
    async with aclosing(ask(said, schema(tools))) as answer:
        async for piece in answer:
            text += piece if isinstance(piece, str) else ""
    try:
        wanted = json.loads(text)
        name, arguments = wanted["tool"], wanted["arguments"]
    except (ValueError, TypeError, KeyError):
        raise BrainError("The model began to call a tool and came to no end. Raise `max_tokens` in [brain].") from None
    return Call(f"call{next(NUMBERS)}", str(name), json.dumps(arguments, ensure_ascii=False))


def schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """What every call of these tools fits."""
    defs: dict[str, Any] = {}
    return {"anyOf": list(_calls(tools, defs)), "$defs": defs}


def _calls(tools: Sequence[Tool], defs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for tool in tools:
        properties = {"tool": {"const": tool.name}, "arguments": planted(json.loads(tool.parameters), defs)}
        yield {
            "type": "object",
            "properties": properties,
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
