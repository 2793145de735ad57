"""A web face with the routes a test gives it, and what to ask it with."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from aiohttp import web

from roost.contracts import Route, unsigned
from roost.settings import WebTable
from roost.web import Web, people

TOKEN = "correct horse battery"
PUBLIC = "https://bot.example.org"


@asynccontextmanager
async def serving(*routes: Route, **keys: Any) -> AsyncIterator[Web]:
    face = Web(WebTable(**{"port": 0} | keys))
    face.mount("test", routes)
    await face.start()
    try:
        yield face
    finally:
        await face.stop()


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"hello {dict(request.match_info)} {await request.text()}")


async def chat(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.close()
    return socket


async def tell(request: web.Request) -> web.StreamResponse:
    return web.json_response({"remote": request.remote, "scheme": request.scheme, "host": request.host})


def signature(body: bytes) -> dict[str, str]:
    return {"X-Signature": hmac.new(b"secret", body, hashlib.sha256).hexdigest()}


def signed(request: web.Request, body: bytes) -> bool:
    expected = signature(body)["X-Signature"]
    return hmac.compare_digest(expected.encode(), request.headers.get("X-Signature", "").encode())


OPEN = Route("GET", "/open", hello, unsigned)
TELL = Route("GET", "/tell", tell, unsigned)
HOOK = Route("POST", "/hooks/{account}", hello, signed)
PAGE = Route("GET", "/", hello, people)
FORM = Route("POST", "/form", hello, people)
SOCKET = Route("GET", "/ws", chat, people)


async def status(session: aiohttp.ClientSession, face: Web, method: str, path: str, **options: Any) -> int:
    options.setdefault("allow_redirects", False)
    async with session.request(method, face.address + path, **options) as answer:
        return answer.status


async def connect(face: Web, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection to it."""
    return await asyncio.open_connection("127.0.0.1", int(face.address.rpartition(":")[2]), **options)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # it may have been cut off
        await writer.wait_closed()
