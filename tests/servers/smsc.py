"""An operator's SMSC: the server of the Rust library smpp34, which nobody here wrote, with an operator's habits.

The library speaks the protocol: packets, sequence numbers, answers, the states of a session. It lets everybody in, so
`Desk` stands before it and looks at each bind. What an operator does beside speaking is in `Smsc`: it keeps what is
for a bot until that has answered, puts long messages together as a phone does, and sends receipts. Alphabets are
those of another library, aiosmpplib. https://smpp.org/SMPP_v3_4_Issue1_2.pdf
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

import smpp34
from aiosmpplib.codec import find_codec_info

from servers.apart import free_port

BAD_PASSWORD, BAD_SYSTEM_ID, WRONG_STATE = 0x0E, 0x0F, 0x04
TEMPORARY = (0x14, 0x58, 0x64)  # of deliver_sm_resp: the message is brought again
CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Text:
    """What a phone shows: one message, put together from the parts it came in."""

    id: str
    sender: str
    to: str
    text: str
    parts: int = 1


@dataclass(eq=False)
class Desk:
    """Looks at each bind before the library sees it (section 4.1), and passes the rest on."""

    accounts: dict[str, str]
    target: int
    tls: ssl.SSLContext | None = None
    binds: list[tuple[int, str]] = field(default_factory=list)
    clients: set[asyncio.StreamWriter] = field(default_factory=set)
    nacks: list[int] = field(default_factory=list)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self.clients):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def inject(self, octets: bytes) -> None:
        """Say something to everybody that the library would not."""
        for writer in self.clients:
            writer.write(octets)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._admit(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.clients.discard(writer)
            writer.transport.abort()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await packet(reader)
        _, command, _, sequence = struct.unpack("!4I", head)
        if status := self._refusal(command, body):
            writer.write(struct.pack("!4I", 16, command | 0x80000000, status, sequence))
            await writer.drain()
            writer.close()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        forth.write(head + body)
        down = asyncio.create_task(pump(back, writer))
        try:
            while True:
                head, body = await packet(reader)
                if head[4:8] == b"\x80\x00\x00\x00":
                    self.nacks.append(int.from_bytes(head[8:12]))
                forth.write(head + body)
                await forth.drain()
        finally:
            forth.close()
            await asyncio.gather(down, return_exceptions=True)

    def _refusal(self, command: int, body: bytes) -> int:
        """The status of a bind that is refused, 0 for one that is welcome."""
        if command not in (1, 2, 9):
            return WRONG_STATE
        name, password, *_ = (one.decode() for one in body.split(b"\0"))
        self.binds.append((command, name))
        if name not in self.accounts:
            return BAD_SYSTEM_ID
        return 0 if self.accounts[name] == password else BAD_PASSWORD


class Smsc:
    """`bring` is what a person's phone sends, `texts` what phones show. `refuse` are statuses for the next submits, 0
    for yes."""

    def __init__(self, accounts: dict[str, str], tls: ssl.SSLContext | None = None) -> None:
        self.alphabet = "gsm0338"
        self.receipts = ""  # the state that receipts tell; none are sent while it is empty
        self.refuse: list[int] = []
        self.submitted: list[Any] = []
        self.texts: list[Text] = []
        self.answers: list[int] = []  # statuses of deliver_sm_resp
        self.changed = asyncio.Event()
        self._waiting: list[dict[str, Any]] = []
        self._come = asyncio.Event()
        self._parts: dict[tuple[str, int, int], dict[int, bytes]] = {}
        self._carriers: dict[str, asyncio.Task[None]] = {}
        self._ids = itertools.count(1)
        port = free_port()
        self._server = smpp34.Server("127.0.0.1", port, system_id="SMSC")
        self.desk = Desk(accounts, port, tls)

    async def __aenter__(self) -> Smsc:
        await self._server.start()
        await self.desk.start()
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.desk.stop()
        tasks = [self._task, *self._carriers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.stop()

    @property
    def port(self) -> int:
        return self.desk.port

    @property
    def left(self) -> int:
        """Messages that no bot has answered yet."""
        return len(self._waiting)

    # To the bot

    def bring(self, sender: str, to: str, data: bytes, **more: Any) -> None:
        """Have a message for the bot: it stays until the bot has answered it."""
        given = {"source_addr_ton": 1, "source_addr_npi": 1, "dest_addr_ton": 1, "dest_addr_npi": 1, **more}
        self._waiting.append({"source_addr": sender, "destination_addr": to, "short_message": data, **given})
        self._come.set()

    async def _carry(self, session: Any) -> None:
        """Bring one message after the other. What is not answered waits for the next session."""
        while True:
            while not self._waiting:
                self._come.clear()
                await self._come.wait()
            message = self._waiting[0]
            try:
                answer = await session.deliver_sm(**message)
            except smpp34.SmppError:
                return
            self.answers.append(answer.command_status)
            if answer.command_status in TEMPORARY:
                await asyncio.sleep(0.05)
            else:
                self._waiting.remove(message)
            self.changed.set()

    # From the bot

    async def _work(self) -> None:
        while True:
            event = await self._server.next()
            if isinstance(event, smpp34.Esme):
                if event.can_receive:
                    self._carriers[event.session_id] = asyncio.create_task(self._carry(event))
            elif isinstance(event, smpp34.SubmitSmEvent):
                self._take(event)
            elif event.session_id in self._carriers:
                self._carriers.pop(event.session_id).cancel()

    def _take(self, event: Any) -> None:
        if self.refuse and (status := self.refuse.pop(0)):
            event.reject(status)
            return
        id = f"m{next(self._ids)}"
        self.submitted.append(event)
        self._show(id, event)
        self.changed.set()
        event.accept(id)
        if self.receipts and event.registered_delivery & 1:
            self._receipt(id, event)

    def _receipt(self, id: str, event: Any) -> None:
        """The text of Appendix B."""
        said = f"id:{id} sub:001 dlvrd:001 submit date:2611222300 done date:2611222301 stat:{self.receipts} err:001"
        self.bring(event.destination_addr, event.source_addr, f"{said} text:".encode(), esm_class=4)

    def _show(self, id: str, event: Any) -> None:
        """What the phone makes of it, once it has all parts (3GPP TS 23.040, section 9.2.3.24.1)."""
        options = {one.tag: one.value for one in event.tlvs}
        data = event.short_message or options.get(smpp34.TLV_MESSAGE_PAYLOAD, b"")
        reference, total, number = 0, 1, 1
        if event.esm_class & 0x40:
            size, kind = data[0], data[1]
            assert (size, kind, data[2]) in ((5, 0, 3), (6, 8, 4)), data[:7]
            reference, (total, number) = int.from_bytes(data[3 : size - 1]), data[size - 1 : size + 1]
            data = data[size + 1 :]
            assert len(data) + (size + 1) * (1 if event.data_coding == 8 else 8 / 7) <= (
                140 if event.data_coding == 8 else 160
            )
        elif smpp34.TLV_SAR_TOTAL_SEGMENTS in options:
            reference = int.from_bytes(options[smpp34.TLV_SAR_MSG_REF_NUM])
            total = options[smpp34.TLV_SAR_TOTAL_SEGMENTS][0]
            number = options[smpp34.TLV_SAR_SEGMENT_SEQNUM][0]
        parts = self._parts.setdefault((event.destination_addr, reference, total), {})
        parts[number] = data
        if len(parts) < total:
            return
        del self._parts[(event.destination_addr, reference, total)]
        whole = b"".join(parts[at] for at in sorted(parts))
        text = whole.decode("utf-16-be") if event.data_coding == 8 else self.decode(whole)
        self.texts.append(Text(id, event.source_addr, event.destination_addr, text, total))

    def decode(self, octets: bytes) -> str:
        return str(find_codec_info(self.alphabet).decode(octets)[0])

    def encode(self, text: str) -> tuple[bytes, int]:
        """Octets and data_coding of a text that a phone sends."""
        try:
            return find_codec_info(self.alphabet).encode(text)[0], 0
        except UnicodeEncodeError:
            return text.encode("utf-16-be"), 8


async def packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(16)
    return head, await reader.readexactly(int.from_bytes(head[:4]) - 16)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()
