"""The machine's own terminal: `roost chat` talks to this channel over a loopback socket.

While it runs, `address.json` in the channel's folder holds {"host", "port", "token"}; only its owner can read it.
Both sides write one JSON object a line, in UTF-8. A client's first line is `hello`; then any of the others:

    {"type": "hello", "token": "…", "chat": "terminal", "name": "Ann"}
    {"type": "say", "id": "…", "text": "…"}
    {"type": "history", "limit": 50}

    {"type": "welcome", "bot": "Roost", "commands": [["help", "…"]], "max_line": 1048576}
    {"type": "accepted", "id": "…"}                      what was said is safe on disk
    {"type": "message", "id": "…", "text": "…", "buttons": [{"text", "value", "url"}], "answers", "done", "notice"}
    {"type": "edit", …}                                  the same keys: the whole message as it is now
    {"type": "delete", "id": "…"}
    {"type": "typing"}
    {"type": "history", "lines": [{"id", "bot", "author", "text", "at"}]}
    {"type": "error", "id": "…", "text": "…"}            a sentence; `id` when it is about something said

`answers` is the id of what was said. `done` is false for a preview of an answer that still grows, `notice` is true for
what is said in place of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from roost.contracts import Channel, Host, Limits, Receive, Said
from roost.dialects import MARKDOWN
from roost.values import Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
MAX_LINE = 1024 * 1024
MAX_WAITING = 256
MAX_HELD = 200  # below MAX_WAITING: the next client gets all of them at once
HELLO_SECONDS = 10.0
GOODBYE_SECONDS = 2.0

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Frame = dict[str, Any]


class Hello(msgspec.Struct, tag_field="type", tag="hello"):
    """The first line of a client: `token` from address.json, and which chat it shows."""

    token: str
    chat: Name = "terminal"
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""


class Say(msgspec.Struct, tag_field="type", tag="say"):
    """What the person typed. `id` is the client's own and never used twice."""

    id: Name
    text: Annotated[str, msgspec.Meta(min_length=1)]


class Ask(msgspec.Struct, tag_field="type", tag="history"):
    """A wish for the last `limit` lines of the conversation."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


_decoder: msgspec.json.Decoder[Hello | Say | Ask] = msgspec.json.Decoder(Hello | Say | Ask)


def read(line: bytes) -> Hello | Say | Ask:
    """Read one line of a client. Raises ValueError for anything the protocol does not have."""
    try:
        return _decoder.decode(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def message(said: Say, place: Place, name: str) -> Message:
    """Make the core's Message of what was said."""
    person = Person(place.channel, "owner", name=name)
    return Message(said.id, place, person, said.text, at=time.time(), ticket=said.id)


def write(kind: str, id: str, reply: Reply) -> Frame:
    """Make the `message` or `edit` frame of a reply."""
    return {
        "type": kind,
        "id": id,
        "text": reply.text,
        "buttons": [{"text": b.text, "value": b.value, "url": b.url} for b in reply.buttons],
        "answers": reply.ticket,
        "done": bool(reply.key),
        "notice": reply.notice,
    }


class Client:
    """One connected terminal.

    What waits for it is kept as the newest state of each message, so a slow reader of a fast answer skips
    previews. It is cut off when more than MAX_WAITING different frames wait.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.waiting: OrderedDict[str, Frame] = OrderedDict()
        self._writer = writer
        self._wake = asyncio.Event()
        self._count = 0

    @property
    def gone(self) -> bool:
        return self._writer.is_closing()

    def put(self, frame: Frame) -> None:
        if frame["type"] in ("message", "edit"):
            earlier = self.waiting.get(frame["id"])
            self.waiting[frame["id"]] = {**frame, "type": earlier["type"]} if earlier else frame
        else:
            self._count += 1
            self.waiting[f"{self._count}."] = frame
        self._wake.set()
        if len(self.waiting) > MAX_WAITING:
            self._writer.transport.abort()

    async def write(self) -> None:
        """Write what waits, in order, for ever. Raises OSError once the connection is gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.waiting:
                key, frame = next(iter(self.waiting.items()))
                self._writer.write(msgspec.json.encode(frame) + b"\n")
                await self._writer.drain()
                if self.waiting.get(key) is frame:
                    del self.waiting[key]


class Terminal(Channel):
    """Terminals of this machine. Whoever can read address.json is its owner."""

    local = True
    limits = Limits(max_text=100_000, markup=MARKDOWN, buttons=50, stream=0.05, idempotent=True)

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._clients: dict[str, set[Client]] = {}
        self._held: OrderedDict[tuple[str, str], Frame] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._token = secrets.token_urlsafe(32)

    async def run(self, receive: Receive) -> None:
        def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer, receive))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(greet, LOOPBACK, 0, limit=MAX_LINE)
        address = self.host.home / "address.json"
        try:
            port = server.sockets[0].getsockname()[1]
            publish(address, {"host": LOOPBACK, "port": port, "token": self._token})
            self.host.pulse()
            await asyncio.Event().wait()
        finally:
            withdraw(address, self._token)
            server.close()
            await self._hang_up()

    async def send(self, place: Place, reply: Reply) -> Sent:
        id = reply.key or uuid.uuid4().hex
        self._deliver(place.chat, write("message", id, reply))
        return Sent(place, (id,))

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self._deliver(sent.place.chat, write("edit", sent.ids[0], reply))

    async def delete(self, sent: Sent) -> None:
        for id in sent.ids:
            self._held.pop((sent.place.chat, id), None)
            self._tell(sent.place.chat, {"type": "delete", "id": id})

    async def type(self, place: Place) -> None:
        self._tell(place.chat, {"type": "typing"})

    def _tell(self, chat: str, frame: Frame) -> bool:
        """Put a frame before every client of `chat`; False when there is none."""
        clients = [client for client in self._clients.get(chat, ()) if not client.gone]
        for client in clients:
            client.put(frame)
        return bool(clients)

    def _deliver(self, chat: str, frame: Frame) -> None:
        if not self._tell(chat, frame) and frame["done"]:
            self._hold(chat, frame)

    def _hold(self, chat: str, frame: Frame) -> None:
        """Keep a finished message until a client of its chat comes; the oldest give way."""
        self._held[chat, frame["id"]] = {**frame, "type": "message"}
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receive: Receive) -> None:
        try:
            hello = await self._hello(reader)
            if hello is not None:
                await self._attend(hello, reader, writer, receive)
        except OSError as error:
            log.debug("A terminal on channel '%s' was cut off: %s.", self.name, error)
        finally:
            await _close(writer)

    async def _hello(self, reader: asyncio.StreamReader) -> Hello | None:
        """Read the greeting; None when it is late, is none, or has another token."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = read(await reader.readline())
        except (ValueError, TimeoutError):
            return None
        if not isinstance(hello, Hello):
            return None
        return hello if hmac.compare_digest(hello.token.encode(), self._token.encode()) else None

    async def _attend(
        self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receive: Receive
    ) -> None:
        """Serve a client that has the token until its connection ends."""
        client = Client(writer)
        commands = [list(pair) for pair in self.host.commands()]
        client.put({"type": "welcome", "bot": self.host.bot_name, "commands": commands, "max_line": MAX_LINE})
        for key in [key for key in self._held if key[0] == hello.chat]:
            client.put(self._held.pop(key))
        self._clients.setdefault(hello.chat, set()).add(client)
        pump = asyncio.create_task(client.write())
        pump.add_done_callback(lambda _: writer.close())
        try:
            await self._listen(client, hello, reader, receive)
        finally:
            self._leave(hello.chat, client)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    def _leave(self, chat: str, client: Client) -> None:
        """Forget a client, and hold what it has not got unless another terminal shows the same chat."""
        clients = self._clients[chat]
        clients.discard(client)
        if clients:
            return
        del self._clients[chat]
        newer = self._held
        self._held = OrderedDict()
        for frame in client.waiting.values():
            if frame.get("done"):
                self._hold(chat, frame)
        for (other, _), frame in newer.items():
            self._hold(other, frame)

    async def _listen(self, client: Client, hello: Hello, reader: asyncio.StreamReader, receive: Receive) -> None:
        place = Place(self.name, hello.chat)
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                client.put(_error(f"A line had more than {MAX_LINE} bytes and was not read."))
                continue
            if not line.endswith(b"\n"):
                return
            self.host.pulse()
            try:
                frame = read(line)
            except ValueError as error:
                client.put(_error(f"A line was not understood: {str(error)[:200]}."))
                continue
            if isinstance(frame, Say):
                await self._hear(client, message(frame, place, hello.name), receive)
            elif isinstance(frame, Ask):
                await self._recount(client, place, frame.limit)

    async def _hear(self, client: Client, heard: Message, receive: Receive) -> None:
        try:
            await receive(heard)
        except Exception:
            log.exception("A message on channel '%s' could not be kept.", self.name)
            client.put(_error("The message could not be kept; the bot's log says why.", heard.id))
        else:
            client.put({"type": "accepted", "id": heard.id})

    async def _recount(self, client: Client, place: Place, limit: int) -> None:
        lines: Sequence[Said] = ()
        try:
            lines = await self.host.history(place, limit)
        except Exception:
            log.exception("The history of '%s' could not be read.", place)
        client.put({"type": "history", "lines": list(lines)})


async def _close(writer: asyncio.StreamWriter) -> None:
    """Let a reader have what was written, but not wait for one that does not read."""
    writer.close()
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def _error(text: str, id: str = "") -> Frame:
    return {"type": "error", "id": id, "text": text}


def publish(file: Path, address: Frame) -> None:
    """Write the address where only its owner can read it, in one step. Raises OSError."""
    scratch = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(address))
    scratch.replace(file)


def withdraw(file: Path, token: str) -> None:
    """Remove the address, unless another process has put its own there since."""
    with contextlib.suppress(OSError):
        if token.encode() in file.read_bytes():
            file.unlink()
