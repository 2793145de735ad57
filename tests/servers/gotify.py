"""A Gotify server for tests, written from its API document (https://gotify.net/api-docs) and gotify.net/docs.

Strict about what Gotify is strict about: which token may do what, required fields and their types, ids, `limit` and
`since`, and 64 bytes for what a client says on the stream. Differences: one user; what it keeps is lost when it ends.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import WSMsgType, web

NUMBER = re.compile(r"\d{1,18}")
EXTRA = re.compile(r"[^:]+(::[^:]+){1,2}")
NO_ACCESS = "you need to provide a valid access token or user credentials to access this api"
PING = 45.0  # seconds after which a quiet stream is asked for a sign of life
FIELDS: dict[str, type] = {"message": str, "title": str, "priority": int, "extras": dict, "appid": int}


class GotifyServer:
    """`apps` is {token: name}, numbered from 1; `clients` are the tokens that may read. `tells` shows apps' tokens."""

    def __init__(self, apps: dict[str, str], clients: set[str], tells: bool = False) -> None:
        self.apps = [{"id": number, "name": name} for number, name in enumerate(apps.values(), 1)]
        self.tokens = dict(zip(apps, self.apps, strict=True))
        self.clients = clients
        self.messages: list[dict[str, Any]] = []
        self.changed = asyncio.Condition()
        self.host, self.port = "", 0
        self.joined = 0  # streams that were opened
        self.pongs: list[bytes] = []
        self._tells, self._last = tells, 0
        self._streams: set[web.WebSocketResponse] = set()

    async def __aenter__(self) -> GotifyServer:
        app = web.Application()
        app.router.add_post("/message", self._create)
        app.router.add_get("/message", self._all)
        app.router.add_delete("/message/{id}", self._delete)
        app.router.add_get("/application", self._applications)
        app.router.add_get("/application/{id}/message", self._of_application)
        app.router.add_get("/stream", self._stream)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.host, self.port = self._runner.addresses[0][:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    # What clients and applications ask for

    async def _create(self, request: web.Request) -> web.Response:
        token = token_of(request)
        if token not in self.tokens and token not in self.clients:
            raise refusal(401, NO_ACCESS)
        post = await body_of(request)
        app = self.tokens.get(token) or next((one for one in self.apps if one["id"] == post.get("appid")), None)
        if app is None:
            raise refusal(400, "appid is required when not authenticating with an application token")
        return web.json_response(await self.add(app, post))

    async def add(self, app: dict[str, Any], post: dict[str, Any]) -> dict[str, Any]:
        """Keep a message and tell who listens; returns it as the server answers."""
        self._last += 1
        message = {"id": self._last, "appid": app["id"], "message": post["message"]}
        message["title"] = (post.get("title", "").strip() and post["title"]) or app["name"]
        message |= {"priority": post.get("priority", 0), "date": datetime.now(UTC).astimezone().isoformat()}
        if post.get("extras"):
            message["extras"] = post["extras"]
        async with self.changed:
            self.messages.append(message)
            self.changed.notify_all()
        await self.tell(json.dumps(message))
        return message

    async def tell(self, word: str) -> None:
        """Say something to everybody who listens."""
        for stream in list(self._streams):
            with suppress(ConnectionError, RuntimeError):
                await stream.send_str(word)

    async def ping(self, word: bytes) -> None:
        """Ask everybody who listens for a sign of life, and wait until somebody has given it."""
        for stream in self._streams:
            await stream.ping(word)
        async with self.changed:
            await self.changed.wait_for(lambda: word in self.pongs)

    async def _all(self, request: web.Request) -> web.Response:
        self._client(request)
        return self._page(request, self.messages)

    async def _of_application(self, request: web.Request) -> web.Response:
        self._client(request)
        id = number_of(request)
        if id not in [one["id"] for one in self.apps]:
            raise refusal(404, "application does not exist")
        return self._page(request, [one for one in self.messages if one["appid"] == id])

    def _page(self, request: web.Request, messages: list[dict[str, Any]]) -> web.Response:
        """The newest first, of those that are older than `since`."""
        limit, since = query_number(request, "limit", 100), query_number(request, "since", 0)
        if not 1 <= limit <= 200:
            raise refusal(
                400, f"Field 'limit' must be {'less or equal to 200' if limit > 200 else 'more or equal to 1'}"
            )
        found = [one for one in reversed(messages) if not since or one["id"] < since]
        page, paging = found[:limit], {"size": len(found[:limit]), "limit": limit, "since": 0}
        if len(found) > limit:
            paging["since"] = page[-1]["id"]
            paging["next"] = f"{request.path}?limit={limit}&since={page[-1]['id']}"
        return web.json_response({"paging": paging, "messages": page})

    async def _delete(self, request: web.Request) -> web.Response:
        self._client(request)
        id = number_of(request)
        if id not in [one["id"] for one in self.messages]:
            raise refusal(404, "message does not exist")
        async with self.changed:
            self.messages = [one for one in self.messages if one["id"] != id]
            self.changed.notify_all()
        return web.Response()

    async def _applications(self, request: web.Request) -> web.Response:
        self._client(request)
        rest = {"description": "", "internal": False, "image": "static/defaultapp.png", "sortKey": "a0"}
        rest |= {"createdAt": "2019-01-01T00:00:00Z"}
        tokens = {app["id"]: {"token": token} if self._tells else {} for token, app in self.tokens.items()}
        return web.json_response([one | rest | tokens[one["id"]] for one in self.apps])

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        self._client(request)
        stream = web.WebSocketResponse(heartbeat=PING, autoping=False, max_msg_size=64)
        await stream.prepare(request)
        self._streams.add(stream)
        self.joined += 1
        try:
            async for said in stream:
                if said.type == WSMsgType.ERROR:
                    break
                if said.type == WSMsgType.PING:
                    await stream.pong(said.data)
                if said.type == WSMsgType.PONG:
                    async with self.changed:
                        self.pongs.append(bytes(said.data))
                        self.changed.notify_all()
        finally:
            self._streams.discard(stream)
        return stream

    def _client(self, request: web.Request) -> None:
        if token_of(request) not in self.clients:
            raise refusal(401, NO_ACCESS)


def token_of(request: web.Request) -> str:
    if "token" in request.query:
        return request.query["token"]
    if "X-Gotify-Key" in request.headers:
        return request.headers["X-Gotify-Key"]
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


async def body_of(request: web.Request) -> dict[str, Any]:
    """The message to create. The server takes forms as well, which have no extras; here they are refused."""
    if request.content_type != "application/json":
        raise refusal(400, f"Content-Type '{request.content_type}' is not taken here")
    try:
        post = json.loads(await request.read())
    except ValueError as error:
        raise refusal(400, str(error)) from error
    if not isinstance(post, dict):
        raise refusal(400, "json: cannot unmarshal into Go value of type model.CreateMessage")
    for name, value in post.items():
        if name not in FIELDS:
            raise refusal(400, f"'{name}' is not a field of CreateMessage")
        if value is not None and (not isinstance(value, FIELDS[name]) or isinstance(value, bool)):
            raise refusal(400, f"json: cannot unmarshal into Go struct field CreateMessage.{name}")
    if not post.get("message"):
        raise refusal(400, "Field 'message' is required")
    if any(not EXTRA.fullmatch(name) for name in post.get("extras") or {}):
        raise refusal(400, "the keys of extras are <top-namespace>::[<sub-namespace>::]<action>")
    return {name: value for name, value in post.items() if value is not None}


def number_of(request: web.Request) -> int:
    if not NUMBER.fullmatch(request.match_info["id"]):
        raise refusal(400, "invalid id")
    return int(request.match_info["id"])


def query_number(request: web.Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    if not NUMBER.fullmatch(value):
        raise refusal(400, f'strconv.ParseInt: parsing "{value}": invalid syntax')
    return int(value)


def refusal(status: int, why: str) -> web.HTTPException:
    body = {"error": HTTPStatus(status).phrase, "errorCode": status, "errorDescription": why}
    kind = {400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 404: web.HTTPNotFound}[status]
    return kind(text=json.dumps(body), content_type="application/json")
