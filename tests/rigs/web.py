"""The chat page: what it does on its WebSocket, frame by frame."""

from __future__ import annotations

import asyncio
import html
import json
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from kit.rig import Chat, Rig, Shown

CHAT = "chat-0123456789"
TAG = re.compile(r"<[^>]*>")
BREAK = re.compile(r"<br\s*/?>|</(p|li|pre|blockquote)>")


class WebRig(Rig):
    kind = "web"
    groups = login = False
    web = True

    @property
    def server(self) -> str:
        return "Roost's own web face, by frames; the page itself in Chromium"

    async def start(self) -> None:
        self._session = aiohttp.ClientSession()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._address = ""
        self._shown: dict[str, Shown] = {}
        self._typed = 0
        self._news = asyncio.Event()
        self._unsaid: dict[str, str] = {}
        self._last = ""

    async def stop(self) -> None:
        await self._leave()
        await self._session.close()

    def table(self) -> dict[str, Any]:
        return {}

    async def opened(self, address: str) -> None:
        self._address = address
        await self._join()
        for id, text in list(self._unsaid.items()):
            await self._send(type="say", id=id, text=text)

    async def _join(self) -> None:
        await self._leave()
        self._socket = await self._session.ws_connect(
            f"{self._address}/ws", headers={"Origin": self._address}, max_msg_size=0
        )
        await self._send(type="hello", chat=CHAT)
        self._reading = asyncio.create_task(self._read(self._socket))

    async def _leave(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            self._take(json.loads(frame.data))
            self._news.set()

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "history":
                self._shown = {one["id"]: show(one) for one in frame["messages"] if one["bot"]}
            case "message" | "edit" if frame["bot"]:
                self._shown[frame["id"]] = show(frame)
            case "delete":
                self._shown.pop(frame["id"], None)
            case "typing":
                self._typed += 1
            case "accepted":
                self._unsaid.pop(frame["id"], None)

    async def news(self) -> None:
        """Either a frame, or a moment in which something that is no frame may have happened."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.05)
        self._news.clear()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        id = uuid.uuid4().hex
        self._unsaid[id] = self._last = text
        self._last_id = id
        with suppress(ConnectionError):
            await self._send(type="say", id=id, text=text)
        return id

    async def _send(self, **frame: Any) -> None:
        assert self._socket is not None
        await self._socket.send_str(json.dumps(frame))

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return list(self._shown.values())

    async def typed(self) -> int:
        return self._typed

    async def press(self, shown: Shown, label: str) -> None:
        value = next(one["value"] for one in shown.raw["buttons"] if one["text"] == label)
        await self._send(type="press", value=value, id=uuid.uuid4().hex)

    async def again(self) -> None:
        await self._send(type="say", id=self._last_id, text=self._last)

    async def garbage(self) -> None:
        assert self._socket is not None
        for text in ("", "{", "[]", '{"type": "say"}', '{"type": "shout", "id": "12345678", "text": 3}'):
            await self._socket.send_str(text)
        await self._socket.send_bytes(b"\xff\x00")


def show(frame: dict[str, Any]) -> Shown:
    text = html.unescape(TAG.sub("", BREAK.sub("\n", frame["html"]))).strip()
    return Shown(frame["id"], text, buttons=tuple(one["text"] for one in frame.get("buttons", ())), raw=frame)


RIG = WebRig
