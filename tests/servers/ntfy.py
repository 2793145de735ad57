"""An ntfy server for tests, written from https://docs.ntfy.sh/publish/ and https://docs.ntfy.sh/subscribe/api/.

Strict about what ntfy is strict about: topic names, access by token, the size of messages and headers, UTF-8, unknown
`since`. Differences: messages are kept for as long as it runs; a keepalive comes every `keepalive` seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import string
import time
from collections.abc import Iterator
from contextlib import suppress
from email.header import decode_header, make_header
from typing import Any

from aiohttp import web

TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
LIMIT = 4096  # bytes of a message; a longer one is kept as a file
FILE = 15 * 1024 * 1024
ID = string.ascii_letters + string.digits


class NtfyServer:
    """`tokens` lets in, by access to topics: {"tk_…": {"in": "r", "out": "w"}}. Without tokens, all topics are open."""

    def __init__(self, tokens: dict[str, dict[str, str]] | None = None, keepalive: float = 45.0) -> None:
        self.tokens = tokens or {}
        self.keepalive = keepalive
        self.topics: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.changed = asyncio.Condition()
        self.host, self.port = "", 0
        self._streams: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> NtfyServer:
        app = web.Application(client_max_size=FILE)
        app.router.add_route("PUT", "/{topic}", self._publish)
        app.router.add_route("POST", "/{topic}", self._publish)
        app.router.add_get("/{topic}/json", self._subscribe)
        app.router.add_get("/file/{name}", self._file)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.host, self.port = self._runner.addresses[0][:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    # Publishing

    async def _publish(self, request: web.Request) -> web.Response:
        topic = self._allowed(request, "w")
        fields = read_headers(request)
        body = await request.read()
        return web.json_response(await self.add(topic, body, fields))

    async def add(self, topic: str, body: bytes, fields: dict[str, str]) -> dict[str, Any]:
        """Keep a message and tell who listens; returns it as the server answers."""
        now = int(time.time())
        message: dict[str, Any] = {"id": fresh_id(), "time": now, "expires": now + 43200, "event": "message"}
        message["topic"] = topic
        message |= {name: fields[name] for name in ("title", "click") if name in fields}
        if fields.get("markdown", "").lower() in ("yes", "true", "1"):
            message["content_type"] = "text/markdown"
        message |= self._content(body, fields)
        async with self.changed:
            self.topics.setdefault(topic, []).append(message)
            self.changed.notify_all()
        return message

    def _content(self, body: bytes, fields: dict[str, str]) -> dict[str, Any]:
        if "attach" in fields:
            file = {"name": fields.get("filename", fields["attach"].rpartition("/")[2]), "url": fields["attach"]}
            return {"message": fields.get("message", f"You received a file: {file['name']}"), "attachment": file}
        if "filename" in fields or len(body) > LIMIT or not is_text(body):
            return self._kept(body, fields)
        return {"message": body.decode() or fields.get("message", "triggered")}

    def _kept(self, body: bytes, fields: dict[str, str]) -> dict[str, Any]:
        kind = mime(body)
        name = fields.get("filename", "attachment.txt")
        path = f"{fresh_id()}{'.png' if kind == 'image/png' else '.bin'}"
        self.files[path] = body
        file = {"name": name, "type": kind, "size": len(body), "expires": int(time.time()) + 10800}
        file["url"] = f"http://{self.host}:{self.port}/file/{path}"
        return {"message": fields.get("message", f"You received a file: {name}"), "attachment": file}

    async def _file(self, request: web.Request) -> web.Response:
        if (body := self.files.get(request.match_info["name"])) is None:
            raise refusal(404, 40401, "page not found")
        return web.Response(body=body, content_type="application/octet-stream")

    # Listening

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        topic = self._allowed(request, "r")
        place = self._since(topic, request.query.get("since", ""))
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson; charset=utf-8"})
        await stream.prepare(request)
        await say(stream, {"id": fresh_id(), "time": int(time.time()), "event": "open", "topic": topic})
        while True:
            fresh = await self._fresh(topic, place)
            if not fresh:
                await say(stream, {"id": fresh_id(), "time": int(time.time()), "event": "keepalive", "topic": topic})
            for message in fresh:
                await say(stream, message)
            place += len(fresh)

    async def _fresh(self, topic: str, place: int) -> list[dict[str, Any]]:
        """What has come since `place`, or nothing when it is time for a keepalive."""
        async with self.changed:
            with suppress(TimeoutError):
                waiting = self.changed.wait_for(lambda: len(self.topics.get(topic, ())) > place)
                await asyncio.wait_for(waiting, self.keepalive)
            return self.topics.get(topic, [])[place:]

    def _since(self, topic: str, since: str) -> int:
        """How many messages of a topic are passed over: those up to an id or before a time; all without a `since`."""
        messages = self.topics.get(topic, [])
        if since in ("", "none"):
            return len(messages)
        if since == "all":
            return 0
        if since.isdecimal():
            return len([one for one in messages if one["time"] < int(since)])
        if not re.fullmatch(r"[A-Za-z0-9]{12}", since):
            raise refusal(400, 40008, "invalid since parameter")
        ids = [one["id"] for one in messages]
        return ids.index(since) + 1 if since in ids else 0

    def _allowed(self, request: web.Request, access: str) -> str:
        topic = request.match_info["topic"]
        if not TOPIC.fullmatch(topic):
            raise refusal(400, 40009, "invalid topic name")
        if not self.tokens:
            return topic
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or given not in self.tokens:
            raise refusal(401, 40101, "unauthorized")
        if access not in self.tokens[given].get(topic, ""):
            raise refusal(403, 40301, "forbidden")
        return topic


def read_headers(request: web.Request) -> dict[str, str]:
    """The parameters in headers, under the names the documentation lists; RFC 2047 words are read."""
    names = {"title": "t", "message": "m", "markdown": "md", "click": "", "filename": "file", "attach": "a"}
    found = {}
    for name, short in names.items():
        for header in filter(None, (f"X-{name}", name, short)):
            if header in request.headers:
                found[name] = str(make_header(decode_header(request.headers[header])))
    if any(len(value) > 4096 for value in found.values()):
        raise refusal(431, 43101, "header too large")
    return found


async def say(stream: web.StreamResponse, event: dict[str, Any]) -> None:
    await stream.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")


def refusal(status: int, code: int, why: str) -> web.HTTPException:
    body = json.dumps({"code": code, "http": status, "error": why})
    classes: Iterator[type[web.HTTPException]] = iter(web.HTTPException.__subclasses__())
    found = next(all_of(classes, status))
    return found(text=body, content_type="application/json")


def all_of(classes: Iterator[type[web.HTTPException]], status: int) -> Iterator[type[web.HTTPException]]:
    for one in classes:
        if getattr(one, "status_code", -1) == status:
            yield one
        yield from all_of(iter(one.__subclasses__()), status)


def is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in body


def mime(body: bytes) -> str:
    if body.startswith(b"\x89PNG"):
        return "image/png"
    return "text/plain; charset=utf-8" if is_text(body) else "application/octet-stream"


def fresh_id() -> str:
    return "".join(secrets.choice(ID) for _ in range(12))
