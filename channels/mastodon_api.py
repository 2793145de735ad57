"""Mastodon's REST API and its stream of events, over aiohttp, and what its answers mean for a message.

https://docs.joinmastodon.org/methods/ and https://docs.joinmastodon.org/api/rate-limits/
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import ANSWER, BEFORE_SENDING, DOWNLOAD, Http
from roost.reach import why

Json = dict[str, Any]
UPLOAD = aiohttp.ClientTimeout(total=300.0, connect=10.0)
STREAM = aiohttp.ClientTimeout(connect=10.0, sock_read=60.0)  # it says something every 15 seconds
LONGEST = 1 << 20  # bytes of one line of the stream, of which aiohttp takes twice as many
CHUNK = 65536
PROCESSED = 120  # seconds that a server may take for an upload


class Api:
    """One account on the server at `base`. `name` is the channel's, for what errors say."""

    def __init__(self, name: str, base: str, token: str) -> None:
        self.base = base.rstrip("/")
        self._name = name
        self._token = token
        self.http = Http(f"'{self.base}'")
        self.left: int | None = None  # requests that the server still takes from us in this span of time

    def _headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", **(more or {})}

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        limits: aiohttp.ClientTimeout = ANSWER,
    ) -> Any:
        """JSON in (or a form) and JSON out. Raises LoginFailed, NotSent, MaybeSent or Undeliverable."""
        content: Json = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body}
        try:
            content |= {"params": list(params), "headers": self._headers(headers), "timeout": limits}
            async with self.http.request(method, self.base + path, **content) as answer:
                said, status = await answer.text(errors="replace"), answer.status
                told = {name.lower(): value for name, value in answer.headers.items()}
        except BEFORE_SENDING as error:
            raise NotSent(f"'{self.base}' is out of reach: {why(error)}.") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MaybeSent(f"The answer of '{self.base}' got lost: {why(error)}.") from None
        left = told.get("x-ratelimit-remaining", "")
        self.left = int(left) if left.isdecimal() else None
        found = decoded(said)
        if not 200 <= status < 300:
            raise self._explain(status, found, told)
        if found is None:
            raise MaybeSent(f"The answer of '{self.base}' is no JSON.")
        return found

    def _explain(self, status: int, found: Any, headers: Mapping[str, str]) -> ChannelError:
        """What a refusal means: https://docs.joinmastodon.org/entities/Error/"""
        error = found.get("error") if isinstance(found, dict) else ""
        said = str(error or f"status {status}")[:300].rstrip(".")
        if status == 401:
            return LoginFailed(
                f"The server '{self.base}' refuses the 'token' of bot.toml: [channels.{self._name}] ({said}). Make a "
                "new one there: Preferences, Development, New application."
            )
        if status in (429, 503):
            return NotSent(f"'{self.base}' asks for a pause ({said}).", pause(headers, time.time()))
        if status >= 500 or status < 400:
            return MaybeSent(f"'{self.base}' answered with status {status}.")
        return Undeliverable(f"'{self.base}' refuses it: {said} (status {status}).")

    async def upload(self, name: str, mime: str, data: bytes) -> str:
        """Give the server a file; returns what a post names it by, once it is ready to be posted."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name or "file", content_type=mime)
        media = await self.call("POST", "/api/v2/media", form, limits=UPLOAD)
        for _ in range(PROCESSED):
            if media.get("url"):
                return str(media["id"])
            await asyncio.sleep(1.0)
            media = await self.call("GET", f"/api/v1/media/{media['id']}")
        raise NotSent(f"'{self.base}' is not done with '{name}' after {PROCESSED} seconds.")

    async def download(self, url: str) -> AsyncIterator[bytes]:
        """Read a file that a post shows, in chunks, without telling who asks. Raises NotSent or Undeliverable."""
        if urlsplit(url).scheme not in ("https", urlsplit(self.base).scheme):
            raise Undeliverable("The file lies where it cannot be fetched safely.")
        try:
            async with self.http.request("GET", url, timeout=DOWNLOAD, allow_redirects=True) as answer:
                if answer.status != 200:
                    raise Undeliverable(f"The file is not given: status {answer.status}.")
                async for chunk in answer.content.iter_chunked(CHUNK):
                    yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotSent(f"The download broke: {why(error)}.") from None

    @asynccontextmanager
    async def stream(self, base: str) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
        """What happens in the account: (event, data), and ("", "") for every other sign of life.

        https://docs.joinmastodon.org/methods/streaming/. Raises NotSent.
        """
        try:
            address = base + "/api/v1/streaming/user"
            async with self.http.request(
                "GET", address, headers=self._headers(), timeout=STREAM, read_bufsize=LONGEST
            ) as answer:
                if answer.status != 200:
                    raise NotSent(f"There is no stream at '{base}': status {answer.status}.")
                yield events(answer.content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise NotSent(f"The stream broke: {why(error)}.") from None


async def events(lines: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    event, data = "", ""
    async for raw in lines:
        line = raw.decode(errors="replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data += value
        elif line:
            yield "", ""
        elif event:
            yield event, data
            event, data = "", ""


def decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def pause(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server wants us to wait. The names are in lower case."""
    told = headers.get("retry-after", "")
    if told.isdecimal():
        return float(told)
    reset = headers.get("x-ratelimit-reset", "")
    try:
        until = float(reset) if reset.isdecimal() else datetime.fromisoformat(reset).timestamp()
    except ValueError:
        return None
    return max(0.0, until - now)
