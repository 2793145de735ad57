"""Gotify: a server written from its API document."""

from __future__ import annotations

import asyncio
import html
import itertools
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from markdown_it import MarkdownIt
from servers.gotify import GotifyServer

MARKDOWN = MarkdownIt("commonmark")
ANN, BOT, CLIENT = "AnnAnnAnnAnn-01", "AbotAbotAbot-02", "CbotCbotCbot-03"


class GotifyRig(Rig):
    kind = "gotify"
    groups = False
    sending = b"POST /message"

    @property
    def server(self) -> str:
        return "a server of our own, from Gotify's API document"

    async def start(self) -> None:
        self._server = await GotifyServer({ANN: "To Roost", BOT: "Roost"}, {CLIENT}).__aenter__()
        self._ann, self._bot = self._server.apps
        self.gate = await Gate(self._server.host, self._server.port).__aenter__()

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self._server.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        tokens = {"token": BOT, "client_token": CLIENT, "listen_app": "To Roost"}
        return {**tokens, "base_url": self.gate.url}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"token": "AwrongAwrong-04"}

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        return str((await self._server.add(self._ann, {"message": text}))["id"])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [shown(one) for one in self._server.messages if one["appid"] == self._bot["id"]]

    async def news(self) -> None:
        with suppress(TimeoutError):
            async with self._server.changed:
                await asyncio.wait_for(self._server.changed.wait(), 0.05)

    async def say_again(self, shown: Shown) -> None:
        extras = {"client::display": {"contentType": "text/markdown"}}
        await self._server.add(self._ann, {"message": shown.raw["message"], "extras": extras})

    async def again(self) -> None:
        last = next(one for one in reversed(self._server.messages) if one["appid"] == self._ann["id"])
        await self._server.tell(json.dumps(last))

    async def garbage(self) -> None:
        ann = self._ann["id"]
        odd: list[Any] = [None, [], 3, "text", {}, {"appid": ann}, {"appid": ann, "id": "7"}, {"appid": ann, "id": 1.5}]
        odd += [{"appid": ann, "id": True, "message": "no number"}, {"appid": 99, "id": 99, "message": "of another"}]
        odd += [{"appid": ann, "id": 0, "message": {}}, {"appid": ann, "id": 0, "message": "x", "date": "yesterday"}]
        for one in odd:
            await self._server.tell(json.dumps(one))
        await self._server.tell("{not json")

    def too_fast(self, seconds: int) -> bytes:
        return http("429 Too Many Requests", b"<html>", content_type="text/html", retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>", content_type="text/html")


def shown(one: dict[str, Any]) -> Shown:
    text = one["message"]
    if one.get("extras", {}).get("client::display", {}).get("contentType") == "text/markdown":
        text = html.unescape(re.sub("<[^>]*>", "", numbered(MARKDOWN.render(text)))).strip()
    return Shown(str(one["id"]), text, raw=one)


def numbered(page: str) -> str:
    """Ordered lists with their numbers, which a browser would show."""
    numbers = itertools.count(1)
    return re.sub("<li>", lambda _: f"<li>{next(numbers)}. ", page) if "<ol>" in page else page


RIG = GotifyRig
