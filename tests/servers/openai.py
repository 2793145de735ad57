"""A server of OpenAI's chat completions that refuses what OpenAI refuses.

Written from the API reference: https://platform.openai.com/docs/api-reference/chat/create,
https://platform.openai.com/docs/api-reference/chat-streaming and
https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

KEY = "sk-test-0123456789abcdef"
CONTEXT = 2000
FIELDS = {
    "developer": {"role", "content", "name"},
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "refusal"},
    "tool": {"role", "content", "tool_call_id"},
}
# Parameter -> what it must be. Others of the reference exist, but a chat bot has no reason to send them.
PARAMETERS: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "messages": lambda value: isinstance(value, list) and bool(value),
    "stream": lambda value: isinstance(value, bool),
    "max_tokens": lambda value: isinstance(value, int) and value >= 1,
    "max_completion_tokens": lambda value: isinstance(value, int) and value >= 1,
    "temperature": lambda value: isinstance(value, int | float) and 0 <= value <= 2,
    "tools": lambda value: isinstance(value, list) and bool(value) and all(map(is_tool, value)),
    "stop": lambda value: isinstance(value, str) or (isinstance(value, list) and len(value) <= 4),
}


def is_tool(value: Any) -> bool:
    """https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools"""
    if not isinstance(value, dict) or set(value) != {"type", "function"} or value["type"] != "function":
        return False
    function = value["function"]
    named = isinstance(function.get("name"), str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
    return bool(named) and not set(function) - {"name", "description", "parameters", "strict"}


def is_content(value: Any, role: str) -> bool:
    """A text, or for a user parts of text and pictures.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
    """
    if isinstance(value, str):
        return True
    return role == "user" and isinstance(value, list) and bool(value) and all(map(is_part, value))


def is_part(part: Any) -> bool:
    if set(part) == {"type", "text"}:
        return part["type"] == "text" and isinstance(part["text"], str)
    url = part.get("image_url", {}).get("url", "")
    taken = r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*|https://.*"
    return part.get("type") == "image_url" and bool(re.fullmatch(taken, url))


def words_of(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


Act = Callable[["Exchange"], Awaitable[None]]


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 429 else "requests" if status == 429 else "server_error"
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Exchange:
    """One question and the streamed answer to it."""

    def __init__(self, request: web.Request, body: dict[str, Any]) -> None:
        self.request = request
        self.body = body
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})

    async def raw(self, data: bytes) -> None:
        if not self.response.prepared:
            await self.response.prepare(self.request)
        await self.response.write(data)

    async def event(self, value: Any, end: str = "\n\n") -> None:
        await self.raw(f"data: {json.dumps(value, ensure_ascii=False)}{end}".encode())

    async def chunk(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        await self.event(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1_700_000_000,
                "model": self.body["model"],
                "system_fingerprint": "fp_1",
                "choices": [choice],
            }
        )

    async def say(self, *pieces: str) -> None:
        await self.chunk({"role": "assistant", "content": ""})
        for piece in pieces:
            await self.chunk({"content": piece})

    async def finish(self, reason: str = "stop") -> None:
        await self.chunk({}, reason)
        await self.raw(b"data: [DONE]\n\n")

    def drop(self) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()


def answer(*pieces: str) -> Act:
    """Say these pieces and finish."""

    async def act(exchange: Exchange) -> None:
        await exchange.say(*pieces)
        await exchange.finish()

    return act


def fail(status: int, message: str, code: str | None = None, **headers: str) -> Act:
    async def act(exchange: Exchange) -> None:
        refused = Refused(status, message, code)
        exchange.response = web.json_response(  # type: ignore[assignment]
            refused.body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return act


async def repeat(exchange: Exchange) -> None:
    words = str(exchange.body["messages"][-1]["content"]).split(" ")
    await answer(words[0], *(f" {word}" for word in words[1:]))(exchange)


class OpenAIServer:
    """`async with OpenAIServer() as server`: what is in `plan` is done once each, then it repeats the user."""

    def __init__(self) -> None:
        self.models = {"gpt-test"}
        self.renamed: set[str] = set()
        self.plan: deque[Act] = deque()
        self.asked: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> OpenAIServer:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/tokenize", self._tokenize)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await self._checked(request)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        self.asked.append(body)
        exchange = Exchange(request, body)
        act = self.plan.popleft() if self.plan else repeat
        try:
            await act(exchange)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return exchange.response

    async def _tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "Invalid URL (POST /tokenize)"}}, status=404)

    async def _checked(self, request: web.Request) -> dict[str, Any]:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise Refused(401, "Incorrect API key provided: sk-*****. You can find yours online.", "invalid_api_key")
        if request.content_type != "application/json":
            raise Refused(400, "You provided a body that is not JSON.")
        body = await request.json()
        for name, value in body.items():
            self._check_parameter(body, name, value)
        if body.get("model") not in self.models:
            raise Refused(404, f"The model `{body.get('model')}` does not exist.", "model_not_found")
        if "messages" not in body:
            raise Refused(400, "Missing required parameter: 'messages'.", "missing_required_parameter", "messages")
        self._check_messages(body["messages"])
        if body.get("stream") is not True:
            raise Refused(400, "This server only streams.", param="stream")
        return dict(body)

    def _check_parameter(self, body: dict[str, Any], name: str, value: Any) -> None:
        if name not in PARAMETERS:
            raise Refused(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
        if name in self.renamed:
            raise Refused(
                400, f"Unsupported parameter: '{name}' is not supported with this model.", "unsupported_parameter", name
            )
        if not PARAMETERS[name](value):
            raise Refused(400, f"Invalid value for '{name}'.", "invalid_value", name)

    def _check_calls(self, messages: list[Any]) -> None:
        """Every call is answered, by messages right behind it, and nothing else is."""
        open_: set[str] = set()
        for number, message in enumerate(messages):
            if message["role"] == "tool":
                if message.get("tool_call_id") not in open_:
                    raise Refused(
                        400,
                        "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
                        None,
                        f"messages.[{number}].role",
                    )
                open_.remove(message["tool_call_id"])
                continue
            if open_:
                raise Refused(
                    400,
                    "An assistant message with 'tool_calls' must be followed by tool messages "
                    "responding to each 'tool_call_id'.",
                    None,
                    f"messages.[{number}].role",
                )
            open_ = {call["id"] for call in message.get("tool_calls", ())}

    def _check_messages(self, messages: list[Any]) -> None:
        for number, message in enumerate(messages):
            if set(message) - FIELDS.get(message.get("role"), set()):
                raise Refused(400, f"Invalid value: messages[{number}].", "invalid_value", f"messages[{number}].role")
            if not is_content(message.get("content"), message["role"]):
                raise Refused(400, f"Invalid type for 'messages[{number}].content'.", "invalid_type", "messages")
        self._check_calls(messages)
        words = sum(len(words_of(message["content"]).split()) for message in messages)
        if words > CONTEXT:
            raise Refused(
                400,
                f"This model's maximum context length is {CONTEXT} tokens. However, your messages resulted in "
                f"{words} tokens. Please reduce the length of the messages.",
                "context_length_exceeded",
                "messages",
            )
