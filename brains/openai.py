"""Any server that offers chat completions as OpenAI defined them: Ollama, LM Studio, vLLM, llama.cpp, OpenAI."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from yarl import URL

from roost.addresses import is_elsewhere
from roost.brains.answer import Body, Usage
from roost.brains.client import Client, Refusal
from roost.brains.counts import Counts
from roost.brains.hygiene import cleaned
from roost.brains.settings import EngineConfig
from roost.contracts import Brain, Call, Picture, Piece, Prompt, Tool, Turn
from roost.errors import BrainError

MAX_STOPS = 4
# Ollama, vLLM and others say so in words, for models whose chat template knows no tools.
WITHOUT_TOOLS = re.compile(r"not support (tool|function)|tool choice requires", re.IGNORECASE)


class OpenAI(Brain):
    """Asks the server at `base_url` for the model `model`."""

    Config = EngineConfig
    config: EngineConfig

    def __init__(self, config: EngineConfig, home: object) -> None:
        super().__init__(config, home)  # type: ignore[arg-type]
        self.client: Client | None = None
        self._counts = Counts()
        self._tokenizes: bool | None = None
        self._names: dict[str, str] = {}

    @property
    def usage(self) -> Usage:
        """What the last answer cost."""
        return self.client.usage if self.client else Usage()

    @property
    def sees(self) -> bool:
        return self.config.vision

    @property
    def remote(self) -> bool:
        return not self.config.home and is_elsewhere(self.config.base_url)

    async def load(self) -> None:
        if self.client is None:
            address = read_address(self.config.base_url)
            self.client = Client(address, self.config.api_key, total=self.config.timeout)

    async def unload(self) -> None:
        client, self.client = self.client, None
        if client:
            await client.close()

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        await self.load()
        assert self.client is not None
        async with aclosing(cleaned(self._adapting(self.client, prompt))) as answer:
            async for piece in answer:
                yield piece

    async def count(self, text: str) -> int:
        """Exact where the server is llama.cpp, else estimated from above."""
        if self._tokenizes is False or (client := self.client) is None:
            return await super().count(text)
        known = self._counts.get(text)
        if known is not None:
            return known
        try:
            tokens = await client.post(root(client.base_url) + "/tokenize", {"content": encodable(text)})
            self._tokenizes = True
            return self._counts.put(text, len(tokens["tokens"]))
        except (BrainError, KeyError, TypeError) as error:
            if not isinstance(error, Refusal) or error.status:
                self._tokenizes = False
            return await super().count(text)

    async def _adapting(self, client: Client, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Ask; where the server rejects a parameter by name, ask again without it, and remember that."""
        for _ in range(4):
            try:
                async with aclosing(client.stream(self._body(prompt))) as answer:
                    async for piece in answer:
                        yield piece
                return
            except Refusal as refusal:
                param = "tools" if WITHOUT_TOOLS.search(str(refusal)) else refusal.param
                if refusal.status != 400 or not self._adapt(param):
                    raise

    def _adapt(self, param: str) -> bool:
        """Change what `param` is called, or leave it out; False when that was done already or cannot be."""
        if param not in {"max_tokens", "temperature", "stop", "tools"} or param in self._names:
            return False
        self._names[param] = "max_completion_tokens" if param == "max_tokens" else ""
        return True

    def _body(self, prompt: Prompt) -> Body:
        body = request(prompt, self.config)
        for param, name in self._names.items():
            value = body.pop(param, None)
            if name and value is not None:
                body[name] = value
        return body


def request(prompt: Prompt, config: EngineConfig) -> Body:
    """A streamed chat completion request."""
    body: Body = {
        "model": config.model,
        "messages": [message(turn) for turn in prompt.turns],
        "max_tokens": prompt.max_tokens,
        "temperature": config.temperature,
        "stream": True,
    }
    if prompt.stop:
        body["stop"] = list(prompt.stop[:MAX_STOPS])
    if prompt.tools:
        body["tools"] = [described(tool) for tool in prompt.tools]
    return body


def message(turn: Turn) -> Body:
    """A turn as a message: an assistant's calls and a tool's result name the call by its id."""
    body: Body = {"role": turn.role, "content": encodable(turn.text)}
    if turn.pictures:
        body["content"] = [{"type": "text", "text": encodable(turn.text)}, *map(shown, turn.pictures)]
    if turn.calls:
        body["tool_calls"] = [called(call) for call in turn.calls]
    if turn.role == "tool":
        body["tool_call_id"] = turn.call
    return body


def shown(picture: Picture) -> Body:
    """A picture within the request: no server is told to fetch anything."""
    content = base64.b64encode(picture.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{picture.mime};base64,{content}"}}


def called(call: Call) -> Body:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": encodable(call.arguments)}}


def described(tool: Tool) -> Body:
    function = {"name": tool.name, "description": tool.help, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def encodable(text: str) -> str:
    """The text without half characters, which no JSON parser at the other end accepts."""
    return text.encode(errors="replace").decode()


def read_address(given: str) -> str:
    """`base_url` as people write it, made what requests need. Raises BrainError."""
    if not given:
        raise BrainError(
            "bot.toml: [brain] use = \"openai\" needs 'base_url', the server's address: "
            "'http://127.0.0.1:11434/v1' for Ollama, 'https://api.openai.com/v1' for OpenAI."
        )
    try:
        url = URL(given.strip().rstrip("/").removesuffix("/chat/completions"))
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise BrainError(
            f"bot.toml: [brain] base_url = '{given}' is not an address. Begin it with http:// or https://."
        )
    return str(url / "v1") if url.path in {"", "/"} else str(url)


def root(address: str) -> str:
    return address.removesuffix("/v1")
