"""The real Mumble server, with Ann as another client of it."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote

from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.murmur import ADMIN, NUMBERS, PASSWORD, PROGRAMS, murmur

from roost.channels.mumble_wire import Fields, Type, decode, frame, next_frame


class Client:
    """Somebody on the server. `users` is who is there: session -> name and channel."""

    def __init__(self, name: str, password: str = PASSWORD) -> None:
        self.name, self._password = name, password
        self.session = 0
        self.rooms: dict[str, int] = {}
        self.users: dict[int, tuple[str, int]] = {}
        self.names: dict[int, str] = {}
        self.hashes: dict[int, str] = {}
        self.texts: list[Fields] = []
        self.denied = 0
        self.news = asyncio.Event()
        self._pings = self._pongs = 0

    async def connect(self, port: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        self.say(Type.VERSION, (1, 1 << 16 | 3 << 8))
        self.say(Type.AUTHENTICATE, (1, self.name), (2, self._password), (5, 1))
        self._listening = asyncio.create_task(self._listen())
        await self.until(lambda: self.session)

    def say(self, kind: Type, *fields: tuple[int, int | str | bytes]) -> None:
        self._writer.write(frame(kind, fields))

    async def _listen(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, content = await next_frame(self._reader)
                if kind in set(Type):
                    self._take(kind, decode(content))
                    self.news.set()

    def _take(self, kind: int, fields: Fields) -> None:
        if kind == Type.CHANNEL_STATE and 3 in fields:
            self.rooms[fields.text(3)] = fields.number(1)
        elif kind == Type.USER_STATE:
            name, room = self.users.get(fields.number(1), ("", 0))
            self.users[fields.number(1)] = (fields.text(3) or name, fields.number(5, room))
            self.names[fields.number(1)] = fields.text(3) or name
            self.hashes[fields.number(1)] = fields.text(15) or self.hashes.get(fields.number(1), "")
        elif kind == Type.USER_REMOVE:
            self.users.pop(fields.number(1), None)
        elif kind == Type.SERVER_SYNC:
            self.session = fields.number(1)
        elif kind == Type.TEXT_MESSAGE:
            self.texts.append(fields)
        elif kind == Type.PERMISSION_DENIED:
            self.denied += 1
        elif kind == Type.PING:
            self._pongs += 1

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def settled(self) -> None:
        """Everything that the server has said so far has been read."""
        self._pings += 1
        self.say(Type.PING, (1, 1))
        await self.until(lambda: self._pongs >= self._pings)

    async def make_room(self, name: str, parent: int = 0) -> int:
        self.say(Type.CHANNEL_STATE, (2, parent), (3, name))
        await self.until(lambda: name in self.rooms)
        return self.rooms[name]

    async def enter(self, room: int) -> None:
        self.say(Type.USER_STATE, (1, self.session), (5, room))
        await self.until(lambda: self.users[self.session][1] == room)

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.gather(self._listening, return_exceptions=True)


class Door(Gate):
    """Tells which sessions of the bot are over, before the server knows."""

    def __init__(self, rig: MumbleRig, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self._rig = rig

    def cut(self) -> None:
        self._rig.over |= set(self._rig.ann.users)
        super().cut()


class MumbleRig(Rig):
    kind = "mumble"
    written_by_others = True
    redelivers = False  # who is not there cannot be written to; Ann waits for the bot
    programs = PROGRAMS

    @property
    def server(self) -> str:
        return murmur().version

    async def start(self) -> None:
        number = next(NUMBERS)
        self.bot, self.room = f"Roost{number}", f"Tea room {number}"
        self.over: set[int] = set()
        self.ann, owner = Client(f"Ann{number}"), Client("SuperUser", ADMIN)
        server = await asyncio.to_thread(murmur)
        await owner.connect(server.port)
        room = await owner.make_room(self.room)
        await owner.close()
        await self.ann.connect(server.port)
        await self.ann.enter(room)
        self.gate = await Door(self, server.port).__aenter__()

    async def stop(self) -> None:
        await self.ann.close()
        if self.gate is not None:
            await self.gate.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        where = {"host": "127.0.0.1", "port": self.gate.port, "channel": self.room}
        return {**where, "username": self.bot, "password": PASSWORD, "rate": 0}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-horse"}

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ann.news.wait(), 0.05)
        self.ann.news.clear()

    def _session(self) -> int:
        """The bot's, once it has entered the channel."""
        room = self.ann.rooms[self.room]
        fresh = [one for one, who in self.ann.users.items() if who == (self.bot, room) and one not in self.over]
        return fresh[0] if fresh else 0

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        await self.ann.settled()
        await self.ann.until(self._session)
        target = (3, self.ann.rooms[self.room]) if chat == "group" else (2, self._session())
        self.ann.say(Type.TEXT_MESSAGE, target, (5, f"{self.bot}: {text}" if mention else text))
        return ""

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        field = 3 if chat == "group" else 2
        bots = [one for one in self.ann.texts if self.ann.names.get(one.number(1)) == self.bot and field in one]
        return [shown(number, one.text(5)) for number, one in enumerate(bots)]

    async def say_again(self, shown: Shown) -> None:
        await self.say(shown.raw)

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        """A picture as the client writes it: into the text, percent-encoded."""
        coded = quote(base64.b64encode(content).decode(), safe="")
        await self.say(f'{text}<br /><img src="data:{mime};base64,{coded}"/>')

    async def garbage(self) -> None:
        for odd in (" ", "<br/>", "<!-- -->", "<b></b>", "&nbsp;", "<p>\n</p>", "<b><i>" * 800):
            await self.say(odd)


def shown(number: int, html: str) -> Shown:
    files = [
        base64.b64decode(unquote(found)) for found in re.findall(r'<img src="data:image/\w+;base64,([^"]*)"', html)
    ]
    return Shown(str(number), seen(html), files=tuple(files), raw=html)


class _Seen(HTMLParser):
    """What a person sees of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._number = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += "\n" if tag in {"br", "p", "li", "pre", "blockquote"} and self.text else ""
        self._number = int(dict(attrs).get("start") or 1) if tag == "ol" else 0 if tag == "ul" else self._number
        if tag == "li" and self._number:
            self.text += f"{self._number}. "
            self._number += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(html: str) -> str:
    reader = _Seen()
    reader.feed(html)
    reader.close()
    return reader.text


RIG = MumbleRig
