"""ntfy: a server written from its documentation."""

from __future__ import annotations

import asyncio
import html
import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from markdown_it import MarkdownIt
from servers.ntfy import NtfyServer

MARKDOWN = MarkdownIt("commonmark")
TOKEN = "tk_bot0123456789bot0123456789bot"


class NtfyRig(Rig):
    kind = "ntfy"
    groups = False
    sending = b"POST /ann-out"

    @property
    def server(self) -> str:
        return "a server of our own, from ntfy's documentation"

    async def start(self) -> None:
        self._server = await NtfyServer({TOKEN: {"ann-in": "r", "ann-out": "w"}}).__aenter__()
        self.gate = await Gate(self._server.host, self._server.port).__aenter__()

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self._server.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        topics = {"listen": "ann-in", "speak": "ann-out", "token": TOKEN}
        return {**topics, "base_url": self.gate.url, "rate": 0, "place_rate": 0}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"token": "tk_wrong"}

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        return str((await self._server.add("ann-in", text.encode(), {}))["id"])

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        await self._server.add("ann-in", content, {"filename": name, "message": text})

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [self._shown(one) for one in self._server.topics.get("ann-out", [])]

    def _shown(self, one: dict[str, Any]) -> Shown:
        text = one["message"]
        if one.get("content_type") == "text/markdown":
            text = html.unescape(re.sub("<[^>]*>", "", numbered(MARKDOWN.render(text)))).strip()
        kept = one.get("attachment", {}).get("url", "").rpartition("/")[2]
        files = (self._server.files[kept],) if kept else ()
        return Shown(one["id"], text, files=files, raw=one)

    async def news(self) -> None:
        with suppress(TimeoutError):
            async with self._server.changed:
                await asyncio.wait_for(self._server.changed.wait(), 0.05)

    async def say_again(self, shown: Shown) -> None:
        await self.say(shown.raw["message"])

    async def again(self) -> None:
        messages = self._server.topics["ann-in"]
        async with self._server.changed:
            messages.append(messages[-1])
            self._server.changed.notify_all()

    async def garbage(self) -> None:
        odd: list[Any] = [{}, {"event": "message"}, {"event": "message", "id": 3}, {"event": "strange", "id": "x"}, []]
        odd += [{"event": "message", "id": "abcdefabcdef", "topic": "ann-in", "message": {}}, None, "text"]
        async with self._server.changed:
            self._server.topics["ann-in"] += odd
            self._server.changed.notify_all()

    def too_fast(self, seconds: int) -> bytes:
        body = b'{"code":42901,"http":429,"error":"limit reached: too many requests"}'
        return http("429 Too Many Requests", body, retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>", content_type="text/html")


def numbered(page: str) -> str:
    """Ordered lists with their numbers, which a browser would show."""
    numbers = itertools.count(1)
    return re.sub("<li>", lambda _: f"<li>{next(numbers)}. ", page) if "<ol>" in page else page


RIG = NtfyRig
