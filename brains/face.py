"""What the clients of a served model meet: a face of few paths before the engine, which is a process of its own.

It knows the keys, ends in an orderly way, has an engine started again that died, and makes calls of tools that must
be made. https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from roost.brains.calls import Body, Unfit, as_call, as_schema, as_stream, event, must_call
from roost.brains.door import LOOPBACK, Keys, guard, problem
from roost.brains.kept import KeptEngine
from roost.brains.tally import Tally
from roost.errors import BrainError, ConfigError

CHAT = "/v1/chat/completions"
# What is passed on to the engine. Its other paths change or tell what is nobody's business.
ASKED = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/tokenize", "/detokenize")
LARGEST = 64 << 20
# Seconds after which an engine that says nothing is asked whether its chat template has gone astray, and what the
# answer to that may take.
SILENCE, PROBE = 20.0, 10.0
CONNECT = 10.0
LAST_WORDS = 1.0


@dataclass(frozen=True, slots=True)
class Service:
    """How to serve: `arguments` are the engine's; `grace` is seconds that running answers get when it stops."""

    arguments: tuple[str, ...]
    name: str
    host: str = "127.0.0.1"
    port: int = 8080
    keys: str = ""
    key_file: Path | None = None
    grace: float = 10.0


class Face:
    """Answers HTTP. One for each run."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.keys = Keys(service.keys, service.key_file)
        if not self.keys and service.host not in LOOPBACK:
            raise ConfigError(
                f"Serving on '{service.host}' lets others in: set a key in the environment as ROOST_ENGINE_KEY, "
                "or give a file of keys with --key-file."
            )
        self.engine = KeptEngine(service.arguments)
        self.stopping = asyncio.Event()
        self.answers: set[asyncio.Task[Any]] = set()
        self.tally = Tally()
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.tally.count, answered, guard(self.keys)], client_max_size=LARGEST)
        for path in ("/health", "/v1/health"):
            app.router.add_get(path, self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{name:.+}", self.models)
        for path in ASKED:
            app.router.add_post(path, self.ask)
        return app

    async def close(self) -> None:
        await self.engine.end()
        if self._session is not None:
            await self._session.close()

    # What is asked

    async def health(self, request: web.Request) -> web.Response:
        ready = self.engine.alive and not self.stopping.is_set()
        status = "ok" if ready else "stopping" if self.stopping.is_set() else "loading"
        return web.json_response({"status": status}, status=200 if ready else 503)

    async def models(self, request: web.Request) -> web.Response:
        """All models there are, which is one, or the one that is named."""
        async with self._get("/v1/models") as answer:
            listed = (await answer.json())["data"]
        name = request.match_info.get("name")
        if name is None:
            return web.json_response({"object": "list", "data": listed})
        for one in listed:
            if one["id"] == name:
                return web.json_response(one)
        message = f"There is no model '{name}' here, only '{self.service.name}'."
        return problem(404, message, "not_found_error", "model_not_found")

    async def metrics(self, request: web.Request) -> web.Response:
        text = self.tally.text(self.engine.starts)
        if self.engine.alive:
            async with self._get("/metrics") as answer:
                text += await answer.text()
        return web.Response(text=text, content_type="text/plain")

    async def ask(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        if self.stopping.is_set():
            return problem(503, "This server is stopping.", "unavailable_error")
        self.answers.add(task)
        try:
            return await self._ask(request)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            return problem(503, "This server had to stop before the answer was done.", "unavailable_error")
        finally:
            self.answers.discard(task)

    async def drain(self) -> None:
        """Let answers in progress be finished, as long as `grace` allows, and then break them off."""
        self.stopping.set()
        if self.answers:
            await asyncio.wait(self.answers, timeout=self.service.grace)
        for task in self.answers:
            task.cancel()
        if self.answers:
            await asyncio.wait(self.answers, timeout=LAST_WORDS)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = read_object(raw)
        if request.path == CHAT and body.get("messages") == []:
            raise Unfit("'messages' is empty: there is nothing to answer.")
        if request.path == CHAT and must_call(body):
            return await self._call(request, as_schema(body), body)
        if body.get("stream") is True and request.path == CHAT:
            # Without progress to tell, the engine finds out only after a whole prompt that nobody listens any more.
            raw = json.dumps({**body, "return_progress": True}).encode()
        async with self._post(request.path, raw) as (answer, address):
            return await self._relay(request, answer, address, bool(body.get("return_progress")))

    async def _call(self, request: web.Request, asked: Body, body: Body) -> web.StreamResponse:
        async with self._post(CHAT, json.dumps(asked).encode()) as (answer, _):
            if answer.status != 200:
                return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")
            made = as_call(await answer.json())
        if body.get("stream") is not True:
            return web.json_response(made)
        response = streamed()
        await response.prepare(request)
        options = body.get("stream_options")
        for chunk in as_stream(made, isinstance(options, dict) and options.get("include_usage") is True):
            await response.write(chunk)
        return response

    # The way to the engine

    @contextlib.asynccontextmanager
    async def _post(self, path: str, raw: bytes) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """The engine's answer as soon as it begins, and where that engine is."""
        address = await self.engine.address()
        asking = asyncio.ensure_future(
            self._open().post(
                address + path, data=raw, headers={"Content-Type": "application/json", **self.engine.headers}
            )
        )
        try:
            if path == CHAT and not (await asyncio.wait({asking}, timeout=SILENCE))[0]:
                await self._probe(address, raw)
            answer = await asking
        except BaseException:
            asking.cancel()
            await asyncio.wait({asking})
            if not asking.cancelled() and asking.exception() is None:
                asking.result().close()
            raise
        async with answer:
            yield answer, address

    async def _probe(self, address: str, raw: bytes) -> None:
        """End an engine whose template does not come to an end with this prompt: nothing else stops one."""
        try:
            async with asyncio.timeout(PROBE):
                async with self._open().post(
                    address + "/apply-template", data=raw, headers=self.engine.headers
                ) as told:
                    await told.read()
        except TimeoutError:
            await self.engine.end(address)
            raise Unfit(
                "The model's chat template does not come to an end with this conversation. The engine was started "
                "again. Use another file of this model."
            ) from None
        except aiohttp.ClientError:
            return  # what was asked fails in the same way, and tells it

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse, address: str, progress: bool
    ) -> web.StreamResponse:
        if answer.content_type != "text/event-stream":
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
        response = streamed()
        await response.prepare(request)
        try:
            async for piece in events(answer.content):
                if progress or b'"prompt_progress"' not in piece[:2048]:
                    await response.write(piece)
        except asyncio.CancelledError:
            if not self.stopping.is_set():
                raise
            await self._break_off(response, "This server had to stop in the middle of the answer.")
        except aiohttp.ClientError:
            died = await self.engine.died(address)
            why = "The engine stopped" if died else "The connection to the engine broke"
            await self._break_off(response, f"{why} in the middle of the answer. Ask again.")
        return response

    async def _break_off(self, response: web.StreamResponse, why: str) -> None:
        error = {"message": why, "type": "server_error", "code": 503}
        with contextlib.suppress(ConnectionError, RuntimeError):
            await response.write(event({"error": error}))

    @contextlib.asynccontextmanager
    async def _get(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        address = await self.engine.address()
        async with self._open().get(address + path, headers=self.engine.headers) as answer:
            yield answer

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A connection for each question: llama.cpp drops idle ones without a word.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 20)
        return self._session


@web.middleware
async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The answer, with every failure in OpenAI's form."""
    try:
        return await handler(request)
    except Unfit as error:
        return problem(400, str(error))
    except web.HTTPException as error:
        return refused(request, error)
    except BrainError as error:
        return problem(503, str(error), "server_error")
    except aiohttp.ClientError as error:
        return problem(502, f"The engine broke off: {error}. Ask again.", "server_error")


def refused(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 404:
        return problem(404, f"There is no '{request.path}' here. There are {', '.join(ASKED)}.", "not_found_error")
    if error.status == 413:
        return problem(413, f"The request is larger than {LARGEST >> 20} MB.")
    return problem(error.status, f"{request.method} {request.path}: {error.reason}.")


def read_object(raw: bytes) -> Body:
    """Raises Unfit."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"The request is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise Unfit("The request must be a JSON object.")
    return body


def streamed() -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return web.StreamResponse(headers=headers)


async def events(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The events of a stream, each whole with the empty line after it."""
    waiting = b""
    async for chunk in stream.iter_any():
        *whole, waiting = (waiting + chunk).split(b"\n\n")
        for one in whole:
            yield one + b"\n\n"
    if waiting:
        yield waiting
