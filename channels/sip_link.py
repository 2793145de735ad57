"""One way to a PBX: requests out and their answers, requests in and ours, over UDP, TCP or TLS.

RFC 3261 section 17 (transactions of everything but INVITE), section 18 (transport), RFC 3581 (rport), RFC 5626 section
3.5 (signs of life). The socket is joined to the PBX: what anybody else sends does not reach us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Final

from sipmessage import Message, Parameters, Request, Response, Via

from roost.reach import why

log = logging.getLogger(__name__)

T1, T2 = 0.5, 4.0  # seconds: RFC 3261, section 17.1.1.1
REMEMBERED = 64 * T1  # seconds for which an answer is given again (timer J)
MAX_HEAD, MAX_BODY = 64 * 1024, 1024 * 1024
FAREWELL = 1.0  # seconds
FOLD = re.compile(rb"[ \t]*\r\n[ \t]+")
SPACED = re.compile(rb"^([\w!%*.`'~+-]+)[ \t]+:", re.MULTILINE)
LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
RPORT: Final = re.compile(r";\s*rport\s*(?=;|,|$)", re.IGNORECASE)
REQUIRED: Final = ("Via", "From", "To", "Call-ID", "CSeq")
PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    420: "Bad Extension",
    480: "Temporarily Unavailable",
    500: "Server Internal Error",
    503: "Service Unavailable",
}


class Lost(Exception):
    """The way to the PBX is gone. `tried` tells that the request may have left before."""

    def __init__(self, message: str, tried: bool = False) -> None:
        super().__init__(message)
        self.tried = tried


class TooLong(Exception):
    """A request has more bytes than it may."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that has not been answered. `heard` tells that the PBX is working on it."""

    answer: asyncio.Future[Response]
    heard: bool = False


class Link:
    """`pulse` is called for everything that comes, `taken` with each request that has not been seen before."""

    def __init__(self, transport: str, pulse: Callable[[], None], taken: Callable[[Link, Request], None]) -> None:
        self.transport = transport
        self._pulse, self._taken = pulse, taken
        self._packets: asyncio.DatagramTransport | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[str, Waiting] = {}
        self._served: dict[tuple[str, ...], bytes] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.host, self.port = "", 0
        self.leaving = False

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        transport: str,
        tls: SSLContext | None,
        local_port: int,
        pulse: Callable[[], None],
        taken: Callable[[Link, Request], None],
    ) -> Link:
        """Reach out to (host, port). Raises OSError."""
        link = cls(transport, pulse, taken)
        loop = asyncio.get_running_loop()
        if transport == "udp":
            local = ("0.0.0.0", local_port) if local_port else None
            made = await loop.create_datagram_endpoint(lambda: Datagrams(link), local_addr=local, remote_addr=address)
            way: asyncio.BaseTransport = made[0]
            link._packets = made[0]
        else:
            reader, link._writer = await asyncio.open_connection(*address, ssl=tls, limit=MAX_HEAD)
            way = link._writer.transport
            link._reading = asyncio.create_task(link._read(reader))
        host, port = way.get_extra_info("sockname")[:2]
        link.host, link.port = f"[{host}]" if ":" in host else host, port
        return link

    async def ended(self) -> None:
        """Wait until the way is gone. Raises Lost."""
        await asyncio.shield(self._lost)

    async def close(self) -> None:
        self.fail("it is closed")
        self._lost.exception()  # nobody has to have waited for it
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._packets is not None:
            self._packets.close()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self._writer.wait_closed()
            self._writer.transport.abort()

    def fail(self, reason: str) -> None:
        """Tell everybody who waits that no answer will come."""
        if not self._lost.done():
            self._lost.set_exception(Lost(f"The way to the PBX broke: {reason}."))
        for one in self._waiting.values():
            if not one.answer.done():
                one.answer.set_exception(Lost(f"The way to the PBX broke before its answer: {reason}.", tried=True))

    # Requests

    async def ask(self, request: Request, seconds: float, most: int = 0) -> Response:
        """Send a request until there is a final answer. Raises TooLong, Lost, or TimeoutError after `seconds`."""
        if self._lost.done():
            raise Lost("The PBX is out of reach.")
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        data = self._dressed(request, branch)
        if most and len(data) > most:
            raise TooLong(f"It has {len(data)} bytes with its headers; {most} are allowed.")
        waiting = self._waiting[branch] = Waiting(asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(seconds):
                for pause in self._pauses(waiting):
                    self._write(data)
                    done, _ = await asyncio.wait([waiting.answer], timeout=pause)
                    if done:
                        return waiting.answer.result()
            raise TimeoutError
        finally:
            del self._waiting[branch]
            waiting.answer.cancel()

    def _pauses(self, waiting: Waiting) -> Iterator[float | None]:
        """How long to wait before the next repetition (timer E); what is reliable repeats nothing."""
        if self.transport != "udp":
            yield None
        pause = T1
        while True:
            yield T2 if waiting.heard else pause
            pause = min(2 * pause, T2)

    def _dressed(self, request: Request, branch: str) -> bytes:
        full = Request(request.method, request.uri, request.body)
        full.via = [Via(self.transport.upper(), self.host, self.port, Parameters(branch=branch, rport=None))]
        for name in request.headers.keys():  # noqa: SIM118
            full.headers.setlist(name, request.headers.getlist(name))
        full.content_length = len(request.body)
        return bytes(full)

    def answer(self, request: Request, code: int, **headers: str) -> None:
        """Answer a request; keep the answer for when the request comes again."""
        answer = Response(code, PHRASES[code])
        for name in REQUIRED:
            answer.headers.setlist(name, list(request.headers.getlist(name)))
        answer.headers.setlist("Via", self._seen(answer.headers.getlist("Via")))
        if ";tag=" not in answer.headers["To"].replace(" ", ""):
            answer.headers.set("To", f"{answer.headers['To']};tag={secrets.token_hex(4)}")
        for name, value in headers.items():
            answer.headers.set(name.replace("_", "-"), value)
        answer.content_length = 0
        data = bytes(answer)
        if (key := _key(request)) in self._served:
            self._served[key] = data
            asyncio.get_running_loop().call_later(REMEMBERED, self._served.pop, key, None)
        if not self._lost.done():
            self._write(data)

    def _seen(self, vias: list[str]) -> list[str]:
        """The topmost Via with where its request came from, where its sender asks for that (RFC 3581, section 4)."""
        seen = self._peer()
        first, comma, others = vias[0].partition(",")
        if seen is None or not RPORT.search(first):
            return vias
        first = RPORT.sub(f";rport={seen[1]};received={seen[0]}", first, count=1)
        return [first + comma + others, *vias[1:]]

    def _peer(self) -> tuple[str, int] | None:
        """The address of the PBX, as packets come from it."""
        way = self._packets or self._writer
        found = way.get_extra_info("peername") if way is not None else None
        return (found[0], found[1]) if found else None

    # What comes

    def take(self, data: bytes) -> None:
        """One packet from the PBX. What makes no sense is left out."""
        self._pulse()
        if not data.strip(b"\r\n\0 "):
            return
        try:
            message = parse(data)
            if isinstance(message, Response):
                self._settle(message)
            else:
                self._serve(message)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("A packet of the PBX makes no sense (%s).", type(error).__name__)

    def _settle(self, answer: Response) -> None:
        waiting = self._waiting.get(top(answer).parameters.get("branch") or "")
        if waiting is None or waiting.answer.done():
            return
        waiting.heard = True
        if answer.code >= 200:
            waiting.answer.set_result(answer)

    def _serve(self, request: Request) -> None:
        key = _key(request)
        if key in self._served:
            if told := self._served[key]:
                self._write(told)
        elif request.method != "ACK":
            self._served[key] = b""
            self._taken(self, request)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        blank = 0
        try:
            while True:
                head = await reader.readuntil(b"\n")
                if head.strip():
                    head += await reader.readuntil(b"\r\n\r\n")
                    self.take(head + await reader.readexactly(_length(head)))
                    blank = 0
                    continue
                self._pulse()
                blank += 1
                if blank % 2 == 0:
                    self._write(b"\r\n")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.fail(why(error))

    def _write(self, data: bytes) -> None:
        if self._packets is not None:
            self._packets.sendto(data)
        elif self._writer is not None:
            self._writer.write(data)


class Datagrams(asyncio.DatagramProtocol):
    """Hands packets to a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._link.take(data)

    def error_received(self, exc: Exception) -> None:
        self._link.fail(why(exc))


def parse(data: bytes) -> Request | Response:
    """Read a packet, folded lines too. Raises ValueError."""
    head, gap, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    head = SPACED.sub(rb"\1:", FOLD.sub(b" ", head))
    told = LENGTH.search(head)
    if told is not None and int(told[1]) > len(body):
        raise ValueError("The body is cut off.")
    message = Message.parse(head + gap + (body[: int(told[1])] if told is not None else body))
    if not all(message.headers.getlist(name) for name in REQUIRED):
        raise ValueError("It lacks headers that every packet has.")
    return message


def top(message: Request | Response) -> Via:
    """The Via of who is next to us. Those of others are nothing to us, so they may be as odd as they like."""
    return Via.parse_many(message.headers["Via"])[0]


def _key(request: Request) -> tuple[str, ...]:
    """What a repetition of a request has in common with it (RFC 3261, section 17.2.3)."""
    via = top(request)
    branch = via.parameters.get("branch") or ""
    return (branch, via.host, str(via.port), request.method, request.call_id, str(request.cseq.sequence))


def _length(head: bytes) -> int:
    told = LENGTH.search(head)
    if told is None or int(told[1]) > MAX_BODY:
        raise ValueError("it sent something without a sensible length.")
    return int(told[1])
