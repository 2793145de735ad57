"""mastodon_mock, with Ann writing direct posts to the bot. Her client leaves out the names that a post begins with."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kit.gate import Gate, http
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.mastodon import running

Json = dict[str, Any]


class MastodonRig(Rig):
    kind = "mastodon"
    written_by_others = True
    groups = False  # a bot sees what mentions it, and no other talk
    sending = b"POST /api/v1/statuses"
    burst = 500  # the server takes 20 ms for a post, and there are two for every message

    @property
    def server(self) -> str:
        return "mastodon_mock 0.6.1"

    async def start(self) -> None:
        self._server = running()
        self.bot, self.ann, self.bob = self._server.people()
        self.gate = await Gate("127.0.0.1", self._server.port).__aenter__()
        self._session = aiohttp.ClientSession(self._server.url)
        self._seen = "0"
        self._posts: dict[str, Json] = {}
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())
        async with asyncio.timeout(LIMIT):
            await self._ready.wait()

    async def stop(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._session.close()
        if self.gate is not None:
            await self.gate.__aexit__()

    async def _listen(self) -> None:
        headers = {"Authorization": f"Bearer {self._server.token(self.ann)}"}
        never = aiohttp.ClientTimeout(total=None)
        async with self._session.get("/api/v1/streaming/user", headers=headers, timeout=never) as stream:
            self._ready.set()
            async for _ in stream.content:
                self._news.set()

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.1)
        self._news.clear()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        url = self.gate.url
        return {"server": url, "streaming": url, "token": self._server.token(self.bot), "rate": 0}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"token": "a-wrong-token"}

    async def ask(self, method: str, path: str, body: Json | None = None, who: str = "", **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._server.token(who or self.ann)}"}
        content = {"json": body} if body is not None else options
        async with self._session.request(method, path, headers=headers, **content) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        return await self._post({"status": f"@{self.bot} {text}", "visibility": "direct"})

    async def _post(self, form: Json) -> str:
        posted = await self.ask("POST", "/api/v1/statuses", form)
        return str(posted["id"])

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type=mime)
        media = await self.ask("POST", "/api/v2/media", data=form)
        await self._post({"status": f"@{self.bot} {text}", "visibility": "direct", "media_ids": [media["id"]]})

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        await self._look()
        return [
            Shown(
                post["id"],
                shown_text(post["content"]),
                str(post["in_reply_to_id"] or ""),
                files=post["files"],
                raw=post,
            )
            for post in self._posts.values()
        ]

    async def _look(self) -> None:
        """What is new for Ann, and how the newest of it look now."""
        while True:
            params = [("types[]", "mention"), ("min_id", self._seen), ("limit", "40")]
            page = await self.ask("GET", "/api/v1/notifications", params=params)
            if not page:
                break
            self._seen = page[0]["id"]
            for one in reversed(page):
                await self._add(one["status"])
        newest = list(self._posts)[-5:]
        now = await self.ask("GET", "/api/v1/statuses", params=[("id[]", id) for id in newest]) if newest else []
        for id in {*newest} - {post["id"] for post in now}:
            del self._posts[id]
        for post in now:
            await self._add(post)

    async def _add(self, post: Json) -> None:
        if post["account"]["acct"] != self.bot or post["visibility"] != "direct":
            return
        files = self._posts.get(post["id"], {}).get("files") or [
            await self._file(one["url"]) for one in post["media_attachments"]
        ]
        self._posts[post["id"]] = {**post, "files": tuple(files)}

    async def _file(self, url: str) -> bytes:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.read()

    async def garbage(self) -> None:
        """Nothing but the bot's name, a favourite, a boost, and a follower."""
        id = await self._post({"status": f"@{self.bot}", "visibility": "direct"})
        mine = await self.shown()
        for what in ("favourite", "reblog"):
            await self.ask("POST", f"/api/v1/statuses/{mine[-1].id}/{what}")
        account = (await self.ask("GET", f"/api/v1/statuses/{id}"))["mentions"][0]["id"]
        await self.ask("POST", f"/api/v1/accounts/{account}/follow")

    def too_fast(self, seconds: int) -> bytes:
        """A whole second more, since the server tells a moment and not a span."""
        reset = datetime.fromtimestamp(time.time() + seconds + 1, UTC).isoformat().replace("+00:00", "Z")
        told = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
        return http("429 Too Many Requests", json.dumps({"error": "Too many requests"}).encode(), **told)

    def broken(self) -> bytes:
        return http("500 Internal Server Error", b'{"error": "We\'re sorry, but something went wrong on our end."}')


def shown_text(content: str) -> str:
    """HTML as a client shows it."""
    lines = content.replace("</p><p>", "\n\n").replace("<br />", "\n")
    text = html.unescape(re.sub(r"<[^>]+>", "", lines))
    return re.sub(r"^(?:@\S+\s)+", "", text)


RIG = MastodonRig
