"""The other side of a pair of webhooks, signing and verifying with the Standard Webhooks project's own library."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import aiohttp
from aiohttp import web
from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from markdown_it import MarkdownIt
from standardwebhooks import Webhook

MARKDOWN = MarkdownIt("commonmark")


class WebhookRig(Rig):
    kind = "webhook"
    web = True
    written_by_others = True
    login = False
    sending = b"POST /replies"

    @property
    def server(self) -> str:
        return f"the standardwebhooks library {version('standardwebhooks')}, which signs and verifies the other side"

    async def start(self) -> None:
        self._secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        self._library = Webhook(self._secret)
        self._session = aiohttp.ClientSession()
        self._address = ""
        self._shown: dict[str, dict[str, Shown]] = {"direct": {}, "group": {}}
        self._waiting: list[tuple[str, bytes]] = []
        self._last: tuple[str, bytes] = ("", b"")
        app = web.Application(client_max_size=100_000_000)
        app.router.add_post("/replies", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.gate = await Gate("127.0.0.1", self._runner.addresses[0][1]).__aenter__()
        self._news = asyncio.Event()

    async def stop(self) -> None:
        await self._session.close()
        if self.gate is not None:
            await self.gate.__aexit__()
        await self._runner.cleanup()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {"secret": self._secret, "url": f"{self.gate.url}/replies"}

    async def opened(self, address: str) -> None:
        self._address = address
        waiting, self._waiting = self._waiting, []
        for id, body in waiting:
            await self._post(id, body)

    async def _take(self, request: web.Request) -> web.Response:
        post = self._library.verify(await request.read(), dict(request.headers))
        chat = "group" if post["chat"] == "tea" else "direct"
        files = tuple(base64.b64decode(one["data"]) for one in post["files"])
        text = html.unescape(re.sub("<[^>]*>", "", MARKDOWN.render(post["text"]))).strip()
        buttons = tuple(one["text"] for one in post["buttons"])
        self._shown[chat][post["id"]] = Shown(post["id"], text, post["quote"], post["thread"], buttons, files, post)
        self._news.set()
        return web.Response()

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.05)
        self._news.clear()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        post: dict[str, Any] = {"text": text, "person": "ann", "name": "Ann", "quote": quote, "thread": thread}
        if chat == "group":
            post |= {"chat": "tea", "group": True, "addressed": mention or bool(quote)}
        return await self._say(post)

    async def _say(self, post: dict[str, Any]) -> str:
        id = f"msg_{uuid.uuid4().hex}"
        await self._post(id, json.dumps(post).encode())
        return id

    async def _post(self, id: str, body: bytes, when: datetime | None = None, signature: str = "") -> int:
        """Post as the specification's sender: what is not taken is posted again, with the same id."""
        when = when or datetime.now(UTC)
        self._last = id, body
        headers = {
            "webhook-id": id,
            "webhook-timestamp": str(int(when.timestamp())),
            "webhook-signature": signature or self._library.sign(id, when, body.decode()),
        }
        try:
            async with self._session.post(
                f"{self._address}/channels/webhook", data=body, headers=headers, timeout=aiohttp.ClientTimeout(total=5)
            ) as answer:
                if answer.status >= 500:
                    self._waiting.append((id, body))
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            self._waiting.append((id, body))
            return 0

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return list(self._shown[chat].values())

    async def open_thread(self) -> str:
        return "green"

    async def say_again(self, shown: Shown) -> None:
        await self._say({"text": shown.raw["text"], "person": "ann"})

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        data = base64.b64encode(content).decode()
        await self._say({"text": text, "person": "ann", "files": [{"name": name, "mime": mime, "data": data}]})

    async def press(self, shown: Shown, label: str) -> None:
        value = next(one["value"] for one in shown.raw["buttons"] if one["text"] == label)
        await self.say(value)

    async def again(self) -> None:
        await self._post(*self._last)

    async def garbage(self) -> None:
        for body in (b"", b"{", b"[]", b'{"text": {}}', b'{"text": "x", "files": [1]}', b'{"person": "ann"}', b"\xff"):
            text = body.decode(errors="replace").encode()
            assert await self._post(f"msg_{uuid.uuid4().hex}", text) == 400

    def too_fast(self, seconds: int) -> bytes:
        return http("429 Too Many Requests", retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>", content_type="text/html")

    async def forged(self) -> int:
        signature = Webhook("whsec_" + base64.b64encode(os.urandom(32)).decode()).sign(
            "msg_x", datetime.now(UTC), '{"text": "let me in"}'
        )
        return await self._post("msg_x", b'{"text": "let me in"}', signature=signature)

    async def replayed(self) -> int:
        return await self._post("msg_old", b'{"text": "old"}', datetime.now(UTC) - timedelta(hours=1))


RIG = WebhookRig
