"""A door between a channel and its server, where connections are cut, held and answered by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import urlsplit

CHUNK = 64 * 1024
Loss = Literal["request", "answer"]
T = TypeVar("T")


@dataclass(eq=False)
class Way:
    """One connection through the door."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    losing_answer: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


class Gate:
    """Passes bytes on to (host, port) until told otherwise. `address` is where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._ways: set[Way] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._shut = False
        self._losses: list[tuple[bytes, Loss]] = []
        self._then_shut = False
        self._answers: list[tuple[bytes, bytes]] = []
        self.happened = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.shut()
        tasks = [task for way in self._ways for task in way.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._ways)

    def lead_to(self, host: str, port: int) -> None:
        """Pass new connections on to another address."""
        self._target = host, port

    # What goes wrong

    def cut(self) -> None:
        """Reset every connection."""
        for way in list(self._ways):
            way.abort()

    def hold(self) -> None:
        """Let nothing through, in either direction, without closing anything: half-open connections."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def shut(self, shut: bool = True) -> None:
        """Reset every connection, and every new one at once: the server is down."""
        self._shut = shut
        if shut:
            self.cut()

    def lose(self, pattern: bytes, what: Loss, *, then_shut: bool = False) -> None:
        """Cut the connection on which `pattern` comes next: before the server reads it, or instead of its answer."""
        self.happened.clear()
        self._losses.append((pattern, what))
        self._then_shut = then_shut

    def answer(self, pattern: bytes, answer: bytes) -> None:
        """Give the next request with `pattern` in it this answer; the server never sees it. Then hang up."""
        self.happened.clear()
        self._answers.append((pattern, answer))

    # The way through

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """At once, and not in a task that may never begin: what is not known here stays open."""
        way = Way(writer)
        if self._shut:
            way.abort()
            return
        self._ways.add(way)
        way.tasks.append(asyncio.create_task(self._serve(way, reader)))

    async def _serve(self, way: Way, reader: asyncio.StreamReader) -> None:
        try:
            await self._join(way, reader)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            way.abort()
            self._ways.discard(way)

    async def _join(self, way: Way, reader: asyncio.StreamReader) -> None:
        await self._open.wait()
        back, way.server = await asyncio.open_connection(*self._target)
        down = asyncio.create_task(self._down(way, back))
        way.tasks.append(down)
        try:
            await self._up(way, reader)
        finally:
            # What the server still has to say after the client's last word goes through.
            with contextlib.suppress(OSError):
                way.server.write_eof()
            await asyncio.gather(down, return_exceptions=True)

    async def _up(self, way: Way, reader: asyncio.StreamReader) -> None:
        assert way.server is not None
        while chunk := await reader.read(CHUNK):
            await self._open.wait()
            if answer := due(self._answers, chunk):
                if answer.startswith(b"HTTP/"):
                    await rest_of_request(chunk, reader)
                way.client.write(answer)
                await way.client.drain()
                way.client.close()
                self.happened.set()
                return
            loss = due(self._losses, chunk)
            if loss == "request":
                self._lost(way)
                return
            way.losing_answer = way.losing_answer or loss == "answer"
            way.server.write(chunk)
            await way.server.drain()

    async def _down(self, way: Way, back: asyncio.StreamReader) -> None:
        try:
            while chunk := await back.read(CHUNK):
                await self._open.wait()
                if way.losing_answer:
                    self._lost(way)
                    return
                way.client.write(chunk)
                await way.client.drain()
        except OSError:
            pass
        finally:
            way.client.close()

    def _lost(self, way: Way) -> None:
        way.abort()
        if self._then_shut:
            self.shut()
        self.happened.set()


class Front(Gate):
    """A public address: leads to the bot's web face once there is one, and to nothing before."""

    def open_to(self, address: str) -> None:
        parts = urlsplit(address)
        self.lead_to(str(parts.hostname), parts.port or 80)


def due(planned: list[tuple[bytes, T]], chunk: bytes) -> T | None:
    """What is planned for a chunk like this, once."""
    for number, (pattern, what) in enumerate(planned):
        if pattern in chunk:
            del planned[number]
            return what
    return None


async def rest_of_request(chunk: bytes, reader: asyncio.StreamReader) -> None:
    """Read an HTTP/1.1 request to its end, so that the client is not reset while it writes (RFC 9112, section 6)."""
    while b"\r\n\r\n" not in chunk:
        chunk += await some(reader)
    head, _, body = chunk.partition(b"\r\n\r\n")
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        await reader.readexactly(max(0, int(length[1]) - len(body)))
        return
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        while not body.endswith(b"0\r\n\r\n"):
            body += await some(reader)


async def some(reader: asyncio.StreamReader) -> bytes:
    """What comes next. Raises IncompleteReadError at the end, where `read` would return nothing for ever."""
    if chunk := await reader.read(CHUNK):
        return chunk
    raise asyncio.IncompleteReadError(b"", None)


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP answer: `http("429 Too Many Requests", b"{}", retry_after="1")`."""
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items())]
    lines += [f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + body
