"""The machine's own terminal: what `roost chat` does on its socket, line by line."""

from __future__ import annotations

import asyncio
import html
import json
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kit.rig import Chat, Rig, Shown
from markdown_it import MarkdownIt

from rigs.ntfy import numbered

MARKDOWN = MarkdownIt("commonmark")


class TerminalRig(Rig):
    kind = "terminal"
    groups = login = False

    @property
    def server(self) -> str:
        return "Roost's own socket, line by line; the screen in a pseudo-terminal"

    async def start(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._shown: dict[str, Shown] = {}
        self._typed = 0
        self._news = asyncio.Event()
        self._unsaid: dict[str, str] = {}
        self._last: dict[str, Any] = {}

    async def stop(self) -> None:
        await self._leave()

    def table(self) -> dict[str, Any]:
        return {}

    async def opened(self, address: str) -> None:
        await self._leave()
        path = self.folder.parent / "home" / "channels" / "terminal" / "address.json"
        told = json.loads(path.read_text())
        reader, self._writer = await asyncio.open_connection(told["host"], told["port"], limit=2**22)
        await self._put(type="hello", token=told["token"], name="Ann")
        self._reading = asyncio.create_task(self._read(reader))
        for id, text in list(self._unsaid.items()):
            await self._put(type="say", id=id, text=text)

    async def _leave(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._take(json.loads(line))
            self._news.set()

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "message" | "edit":
                self._shown[frame["id"]] = show(frame)
            case "delete":
                self._shown.pop(frame["id"], None)
            case "typing":
                self._typed += 1
            case "accepted":
                self._unsaid.pop(frame["id"], None)

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.05)
        self._news.clear()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        id = uuid.uuid4().hex
        self._unsaid[id] = text
        self._last = {"type": "say", "id": id, "text": text}
        with suppress(OSError):
            await self._put(**self._last)
        return id

    async def _put(self, **frame: Any) -> None:
        await self._write(json.dumps(frame).encode())

    async def _write(self, line: bytes) -> None:
        assert self._writer is not None
        self._writer.write(line + b"\n")
        await self._writer.drain()

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return list(self._shown.values())

    async def say_again(self, shown: Shown) -> None:
        await self.say(shown.raw["text"])

    async def typed(self) -> int:
        return self._typed

    async def press(self, shown: Shown, label: str) -> None:
        await self.say(next(one["value"] or one["text"] for one in shown.raw["buttons"] if one["text"] == label))

    async def again(self) -> None:
        await self._put(**self._last)

    async def garbage(self) -> None:
        for line in (b"{", b"[]", b'{"type": "say"}', b'{"type": "shout"}', b"\xff\x00", b"[" * 5000):
            await self._write(line)


def show(frame: dict[str, Any]) -> Shown:
    text = html.unescape(re.sub("<[^>]*>", "", numbered(MARKDOWN.render(frame["text"])))).strip()
    return Shown(frame["id"], text, buttons=tuple(one["text"] for one in frame["buttons"]), raw=frame)


RIG = TerminalRig
