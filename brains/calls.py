"""A tool call that must be made: asked of the engine as JSON of a schema, and given back in OpenAI's form.

Of `tool_choice` llama.cpp only takes from the model that it may end without a call: it lets it write anything before
one, which a small model does until its tokens are used up. A schema leaves it no choice. The template still gets to
see the tools. https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]
# What the engine must not see, because the schema stands in its place.
REPLACED = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stream", "stream_options")


class Unfit(ValueError):
    """What was asked for makes no sense; its text is for the one who asked."""


def must_call(body: Body) -> bool:
    """Whether the answer has to be a call."""
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


def as_schema(body: Body) -> Body:
    """The request to make of the engine instead. Raises Unfit."""
    tools = chosen(body)
    defs: Body = {}
    schema = {"anyOf": [call_schema(tool["function"], defs) for tool in tools], "$defs": defs}
    asked = {key: value for key, value in body.items() if key not in REPLACED}
    asked["chat_template_kwargs"] = {**(body.get("chat_template_kwargs") or {}), "tools": tools}
    asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    return asked


def chosen(body: Body) -> list[Body]:
    """The tools that may be called: all, or the one that was named."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(tools, list) or not all(is_function(tool) for tool in tools) or not tools:
        raise Unfit("'tool_choice' asks for a call, so 'tools' must be a list of functions, each with its name.")
    if not isinstance(choice, dict):
        return tools
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    named = [tool for tool in tools if tool["function"]["name"] == name]
    if not named:
        raise Unfit(f"'tool_choice' names the function '{name}', which is not among 'tools'.")
    return named


def is_function(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def call_schema(function: Body, defs: Body) -> Body:
    """What a call of it fits, as part of a schema that has these `$defs`."""
    arguments = function.get("parameters") or {"type": "object", "properties": {}}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": planted(arguments, defs)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def planted(schema: Body, defs: Body) -> Body:
    """A schema as part of another, whose `$defs` it is put into when it refers to parts of itself (RFC 6901)."""
    text = json.dumps(schema)
    if '"$ref": "#' not in text:
        return schema
    root = f"#/$defs/{len(defs)}"
    defs[str(len(defs))] = json.loads(text.replace('"$ref": "#', f'"$ref": "{root}'))
    return {"$ref": root}


def as_call(answer: Body) -> Body:
    """The engine's answer with a call in place of the JSON. One that was cut short stays text."""
    for choice in answer.get("choices", []):
        message = choice.get("message", {})
        try:
            said = json.loads(message.get("content") or "")
        except ValueError:
            continue
        message["content"] = None
        message["tool_calls"] = [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": said["name"], "arguments": json.dumps(said["arguments"], ensure_ascii=False)},
            }
        ]
        choice["finish_reason"] = "tool_calls"
    return answer


def as_stream(answer: Body, usage: bool) -> Iterator[bytes]:
    """The same as server-sent events, for those who asked for a stream."""
    shared = {key: answer.get(key) for key in ("id", "created", "model", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"
    for choice in answer.get("choices", []):
        delta = choice["message"]
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": number, **one} for number, one in enumerate(delta["tool_calls"])]
        yield event({**shared, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]})
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield event({**shared, "choices": [last], "timings": answer.get("timings")})
    if usage:
        yield event({**shared, "choices": [], "usage": answer.get("usage")})
    yield b"data: [DONE]\n\n"


def event(data: Body) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
