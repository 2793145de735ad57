"""The real Kamailio, with Ann's softphone on it: aiosipua reads, writes and signs its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiosipua import (
    SipDigestAuth,
    SipMessage,
    SipRequest,
    SipResponse,
    build_credentials,
    parse_auth,
    stringify_auth,
)
from kit.gate import Gate, Loss, due
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.kamailio import NUMBERS, PASSWORD, PROGRAMS, kamailio

DOMAIN = "example.org"
COMPOSING = "application/im-iscomposing+xml"
WRITING = (
    '<?xml version="1.0" encoding="UTF-8"?><isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing">'
    "<state>active</state><contenttype>text/plain</contenttype></isComposing>"
)
COPIED = ("Via", "From", "To", "Call-ID", "CSeq")


@dataclass
class Phone:
    """Somebody's softphone. `got` is what came, `answers` what a MESSAGE is answered with, in turn; 200 after that."""

    name: str
    server: tuple[str, int]
    got: list[SipRequest] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        _, pipe = await loop.create_datagram_endpoint(lambda: Pipe(self._came), local_addr=("127.0.0.1", 0))
        self._wire = pipe.wire
        self.port = self._wire.get_extra_info("sockname")[1]
        self._waiting: dict[str, asyncio.Future[SipResponse]] = {}
        self._told: dict[str, SipResponse] = {}
        self._nonces: dict[str, tuple[str, str, int]] = {}
        self._count = 0
        where = {"Contact": f"<sip:{self.name}@127.0.0.1:{self.port}>", "Expires": "3600"}
        answer = await self.ask("REGISTER", f"sip:{DOMAIN}", f"sip:{self.name}@{DOMAIN}", where)
        assert answer.status_code == 200, answer

    def stop(self) -> None:
        self._wire.close()

    async def write(
        self, to: str, body: str | bytes, kind: str = "text/plain;charset=utf-8", **more: str
    ) -> SipResponse:
        uri = f"sip:{to}@{DOMAIN}"
        headers = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in more.items()}
        return await self.ask("MESSAGE", uri, uri, headers, body if isinstance(body, bytes) else body.encode())

    async def ask(self, method: str, uri: str, to: str, headers: dict[str, str], body: bytes = b"") -> SipResponse:
        """Ask until there is an answer, with the password where it is wanted."""
        self._count += 1
        call = f"{self.name}-{self._count}@phone"
        for sequence in (1, 2, 3):
            branch = f"z9hG4bK-{call}-{sequence}"
            request = SipRequest(method=method, uri=uri, body=body)
            request.set_header("Via", f"SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch};rport")
            request.set_header("From", f'"{self.name.title()}" <sip:{self.name}@{DOMAIN}>;tag=t{self._count}')
            request.set_header("To", f"<{to}>")
            request.set_header("Call-ID", call)
            request.set_header("CSeq", f"{sequence} {method}")
            request.set_header("Max-Forwards", "70")
            for name, value in headers.items():
                request.set_header(name, value)
            self._sign(request)
            answer = await self._ask(request, branch)
            if answer.status_code not in (401, 407):
                return answer
            asked, shown = ("WWW-", "") if answer.status_code == 401 else ("Proxy-", "Proxy-")
            self._nonces[method] = (f"{shown}Authorization", answer.get_header(f"{asked}Authenticate") or "", 0)
        return answer

    def _sign(self, request: SipRequest) -> None:
        if request.method in self._nonces:
            header, challenge, count = self._nonces[request.method]
            self._nonces[request.method] = (header, challenge, count + 1)
            account = SipDigestAuth(self.name, PASSWORD)
            told = build_credentials(account, parse_auth(challenge), request.method, request.uri, nonce_count=count + 1)
            assert told is not None
            request.set_header(header, stringify_auth(told))

    async def _ask(self, request: SipRequest, branch: str) -> SipResponse:
        answer = self._waiting[branch] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(LIMIT):
            while not answer.done():
                self._wire.sendto(bytes(request), self.server)
                await asyncio.wait([answer], timeout=0.5)
        return answer.result()

    def _came(self, data: bytes, address: tuple[str, int]) -> None:
        message = SipMessage.parse(data)
        branch = message.via[0].branch or ""
        if isinstance(message, SipResponse):
            waiting = self._waiting.get(branch)
            if waiting is not None and not waiting.done() and message.status_code >= 200:
                waiting.set_result(message)
            return
        if branch not in self._told:
            self._told[branch] = self._answer(message)
            self.news.set()
        self._wire.sendto(bytes(self._told[branch]), address)

    def _answer(self, request: SipRequest) -> SipResponse:
        code, phrase = self.answers.pop(0) if self.answers else (200, "OK")
        if code == 200:
            self.got.append(request)
        answer = SipResponse(status_code=code, reason_phrase=phrase)
        for name in COPIED:
            for value in request.get_header_values(name):
                answer.add_header(name, value)
        answer.set_header("To", f"{request.get_header('To')};tag=phone")
        return answer


class Pipe(asyncio.DatagramProtocol):
    """One end of the door; `came` is called with what comes and where from."""

    def __init__(self, came: Any) -> None:
        self._came = came
        self.wire: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._came(data, addr)

    def error_received(self, exc: Exception) -> None:
        """The server is not there: as on any network, that shows in silence."""


class Door(Gate):
    """A door for datagrams, as a router at home is one: to cut is to forget who stands behind which port.

    `brought` is every MESSAGE that came from the server.
    """

    async def __aenter__(self) -> Door:
        loop = asyncio.get_running_loop()
        _, self._front = await loop.create_datagram_endpoint(lambda: Pipe(self._out), local_addr=("127.0.0.1", 0))
        self.port = self._front.wire.get_extra_info("sockname")[1]
        self._pipes: dict[Any, Pipe] = {}
        self._losing: set[Any] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._queues: dict[Any, list[bytes]] = {}
        self.brought: list[bytes] = []
        self.sent: list[bytes] = []
        self.client: Any = None
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self.cut()
        self._front.wire.close()

    def cut(self) -> None:
        for pipe in self._pipes.values():
            pipe.wire.close()
        self._pipes.clear()

    def inject(self, data: bytes) -> None:
        """Bring the bot something that the server never sent."""
        self._front.wire.sendto(data, self.client)

    def _out(self, data: bytes, client: Any) -> None:
        self.client = client
        if self._shut or not self._open.is_set():
            return
        self.sent.append(data)
        if answer := due(self._answers, data):
            self._front.wire.sendto(answered(data, answer), client)
            self.happened.set()
            return
        loss: Loss | None = due(self._losses, data)
        if loss == "request":
            self.happened.set()
            return
        if loss == "answer":
            self._losing.add(client)
        self._pass_on(data, client)

    def _pass_on(self, data: bytes, client: Any) -> None:
        if client in self._pipes:
            self._pipes[client].wire.sendto(data)
        elif client in self._queues:
            self._queues[client].append(data)
        else:
            self._queues[client] = [data]
            task = asyncio.create_task(self._dig(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _dig(self, client: Any) -> None:
        _, self._pipes[client] = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Pipe(lambda data, _: self._back(data, client)), remote_addr=self._target
        )
        for data in self._queues.pop(client):
            self._pipes[client].wire.sendto(data)

    def _back(self, data: bytes, client: Any) -> None:
        if self._shut or not self._open.is_set():
            return
        if client in self._losing and data.startswith(b"SIP/2.0 "):
            self._losing.discard(client)
            self.happened.set()
            return
        if data.startswith(b"MESSAGE "):
            self.brought.append(data)
        self._front.wire.sendto(data, client)


def answered(request: bytes, first_lines: bytes) -> bytes:
    """A whole answer to a request, of its first lines."""
    asked = SipMessage.parse(request)
    lines = [f"{name}: {value}" for name in COPIED for value in asked.get_header_values(name)]
    return b"\r\n".join([first_lines, *map(str.encode, lines), b"Content-Length: 0", b"", b""])


class SipRig(Rig):
    kind = "sip"
    written_by_others = True
    groups = False
    sending = b"Content-Type: text/plain"
    programs = PROGRAMS

    @property
    def server(self) -> str:
        return kamailio().version

    async def start(self) -> None:
        server = await asyncio.to_thread(kamailio)
        number = next(NUMBERS)
        self.bot = f"roost{number}"
        self.ann = Phone(f"ann{number}", ("127.0.0.1", server.port))
        await self.ann.start()
        self.door = self.gate = await Door("127.0.0.1", server.port).__aenter__()
        self._said: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        for task in self._said:
            task.cancel()
        await asyncio.gather(*self._said, return_exceptions=True)
        self.ann.stop()
        await self.door.__aexit__()

    def table(self) -> dict[str, Any]:
        account = {"username": self.bot, "password": PASSWORD, "domain": DOMAIN}
        return {"host": "127.0.0.1", "port": self.door.port, **account, "expires": 2, "keepalive": 0.3, "timeout": 5}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-horse"}

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ann.news.wait(), 0.05)
        self.ann.news.clear()

    async def opened(self, address: str) -> None:
        """Ann begins to write, by which her phone shows that it knows the sign."""
        if self.door.client is not None:
            await self._write(WRITING, COMPOSING)

    async def _write(self, text: str, kind: str = "text/plain;charset=utf-8") -> None:
        """Have Kamailio take it, before the next is written. When the bot does not, that takes three seconds."""
        task = asyncio.create_task(self.ann.write(self.bot, text, kind))
        self._said.add(task)
        task.add_done_callback(self._said.discard)
        await asyncio.wait([task], timeout=LIMIT)

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        await self._write(text)
        return ""

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        texts = [one for one in self.ann.got if (one.content_type or "").startswith("text/plain")]
        return [Shown(one.call_id or "", one.text, raw=one) for one in texts]

    async def typed(self) -> int:
        return sum((one.content_type or "") == COMPOSING for one in self.ann.got)

    async def again(self) -> None:
        """Once as Kamailio repeats it, and once as it comes over another way."""
        last = self.door.brought[-1]
        self.door.inject(last)
        self.door.inject(last.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother", 1))

    async def garbage(self) -> None:
        last = self.door.brought[-1]
        fresh = last.replace(b"branch=z9hG4bK", b"branch=z9hG4bKodd", 1).replace(b"Call-ID: ", b"Call-ID: odd")
        head, _, _ = fresh.partition(b"\r\n\r\n")
        for odd in (
            b"\r\n\r\n",
            b"\0\0\0\0",
            b"MESSAGE",
            b"SIP/2.0 200\r\n\r\n",
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKnever\r\n\r\n",
            head,
            head.replace(b"From: ", b"Form: ") + b"\r\n\r\n",
            head.replace(b"CSeq: ", b"CSeq: x") + b"\r\n\r\n",
            head.replace(b"sip:ann", b"sip:\xff\xfe") + b"\r\n\r\n",
            fresh.replace(b"MESSAGE sip", b"INVITE sip"),
            fresh.replace(b"Content-Length: ", b"Content-Length: 9"),
            bytes(range(256)) * 8,
        ):
            self.door.inject(odd)

    def too_fast(self, seconds: int) -> bytes:
        return f"SIP/2.0 503 Service Unavailable\r\nRetry-After: {seconds} (busy)".encode()

    def broken(self) -> bytes:
        return b"SIP/2.0 500 Server Internal Error"


RIG = SipRig
