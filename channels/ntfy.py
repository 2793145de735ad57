"""ntfy: push messages to phones, and back. A topic to listen to, a topic to speak on.

https://docs.ntfy.sh/publish/ and https://docs.ntfy.sh/subscribe/api/
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import aiohttp

from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import MARKDOWN
from roost.durable import Kept
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import BEFORE_SENDING, DOWNLOAD, Http
from roost.keys import key
from roost.pauses import pauses
from roost.reach import why
from roost.values import Attachment, AttachmentKind, Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

# The server says every 45 seconds that it is there: https://docs.ntfy.sh/config/, keepalive-interval.
KEEPALIVE = 45.0
MB = 1_000_000
LINE = 256 * 1024  # bytes that one event may have
# Messages have the time at which they are due, and the server looks for due ones every ten seconds: one may come after
# others that are newer (https://docs.ntfy.sh/publish/#scheduled-delivery). What comes twice is dropped by the core.
LATE = 60  # seconds
MOVED = (
    "What answers at '{}' sends askers on to another address. Write that one as 'base_url' in bot.toml: [channels.{}]."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NtfyConfig(ChannelConfig):
    """The keys of `[channels.ntfy]`."""

    listen: str = key(help="The topic that people write to. Its name is a password on a public server: make it long.")
    speak: str = key(help="The topic that replies go to, which people subscribe to.")
    base_url: str = key("https://ntfy.sh", help="The server.", ask=True)
    token: str = key("", help="An access token, where the topics are protected: 'tk_…'.", secret=True, ask=True)
    title: str = key("", help="The title of replies; the bot's name when empty.")


class Ntfy(Channel):
    """A pair of topics."""

    Config = NtfyConfig
    forgeable = "everybody who may write to the topic is that person"
    silence = 3 * KEEPALIVE
    limits = Limits(
        # A longer message becomes a file: https://docs.ntfy.sh/publish/#limitations
        max_text=4096,
        unit="bytes",
        markup=MARKDOWN,
        media=dict.fromkeys(("image", "audio", "voice", "video", "file"), 15 * MB),
        # 60 at once, then one every five seconds.
        rate=0.2,
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._base = config.base_url.rstrip("/")
        self._kept = Kept(host.home / "cursor.json")
        headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
        self._http = Http("ntfy", headers=headers, read_bufsize=LINE)

    # Listening

    async def run(self, receive: Receive) -> None:
        async with self._http.open():
            await self._keep_listening(receive)

    async def _keep_listening(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            came_up = False
            try:
                async for event in self._events():
                    if not came_up:
                        came_up, waits = True, pauses()
                    self.host.pulse()
                    await self._take(event, receive)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self.host.trouble(f"The ntfy server is out of reach: {why(error)}.")
            await asyncio.sleep(next(waits))

    async def _events(self) -> AsyncIterator[Any]:
        """What the server says, since the last message that was taken; at the first start, from now on."""
        since = self._since()
        address = f"{self._base}/{quote(self.config.listen, safe='')}/json"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=2 * KEEPALIVE)
        how: dict[str, Any] = {"params": {"since": since}, "timeout": timeout, "allow_redirects": True}
        async with self._http.request("GET", address, **how) as stream:
            if stream.status in (401, 403):
                raise self._refusal(moved=bool(stream.history))
            stream.raise_for_status()
            if stream.content_type == "text/html":
                raise aiohttp.ClientPayloadError("what answers there is no ntfy but a web page")
            async for line in stream.content:
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    log.warning("%s: The server said something that is no JSON.", self.name)

    def _since(self) -> str | int:
        """Where to go on: a little before the last message, but not before the first start."""
        last, first = self._kept.get("since"), self._kept.get("first")
        if not isinstance(last, int):
            return last or int(time.time())
        return max(last - LATE, first if isinstance(first, int) else last)

    def _refusal(self, moved: bool) -> LoginFailed:
        if moved:  # where the token does not follow
            return LoginFailed(MOVED.format(self._base, self.name))
        why = "ntfy refuses the 'token' of" if self.config.token else "ntfy wants a 'token', and there is none in"
        return LoginFailed(f"The topic '{self.config.listen}' cannot be read: {why} bot.toml: [channels.{self.name}].")

    async def _take(self, event: Any, receive: Receive) -> None:
        if not isinstance(event, dict):
            return
        if event.get("event") == "open" and not self._kept.get("since"):
            now = whole(event.get("time")) or int(time.time())
            self._kept.put("first", now)
            self._kept.put("since", now)
        if event.get("event") != "message" or not isinstance(event.get("id"), str):
            return
        try:
            message = read(event, self.name)
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("%s: Message %s cannot be read: %s", self.name, event["id"][:40], error)
        else:
            await receive(message)
        self._keep(whole(event.get("time")) or event["id"])

    def _keep(self, place: int | str) -> None:
        before = self._kept.get("since")
        newer = isinstance(before, int) and isinstance(place, int) and before >= place
        if not newer:
            self._kept.put("since", place)
        if self._kept.get("first") is None:
            self._kept.put("first", place)

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Files on the server itself; those elsewhere are links."""
        if not attachment.ref:
            raise ValueError(f"'{attachment.name}' cannot be fetched.")
        async with self._http.request("GET", urljoin(self._base, attachment.ref), timeout=DOWNLOAD) as answer:
            if answer.status != 200:
                raise ValueError(f"'{attachment.name}' is not there any more (status {answer.status}).")
            async for chunk in answer.content.iter_chunked(65536):
                yield chunk

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        ids = [await self._publish(self._text(reply))] if reply.text else []
        try:
            for one in reply.attachments:
                ids += [await self._publish(*self._file(one))]
        except NotSent as error:
            if ids:
                raise MaybeSent(f"{error} Some of it is out already.") from error
            raise
        return Sent(place, tuple(ids))

    def _text(self, reply: Reply) -> dict[str, str]:
        headers = {"Title": self.config.title or self.host.bot_name, "Markdown": "yes", "Message": reply.text}
        links = [button for button in reply.buttons if button.url]
        return headers | ({"Click": links[0].url} if links else {})

    def _file(self, one: Attachment) -> tuple[dict[str, str], bytes]:
        name = one.name or "file"
        headers = {"Title": self.config.title or self.host.bot_name, "Filename": name}
        return (headers, one.data) if one.data is not None else (headers | {"Attach": one.url}, b"")

    async def _publish(self, headers: dict[str, str], body: bytes = b"") -> str:
        """Publish, and return the message's id. Header values of any script are written as RFC 2047 says."""
        text = headers.pop("Message", "").encode()
        encoded = {name: encode(value) for name, value in headers.items()}
        address = f"{self._base}/{quote(self.config.speak, safe='')}"
        how: dict[str, Any] = {"data": text or body, "headers": encoded, "allow_redirects": True}
        try:
            # Not PUT, which ntfy takes as well: aiohttp sends that twice when a connection it has kept is lost.
            async with self._http.request("POST", address, **how) as answer:
                if answer.history and (answer.status in (401, 403) or answer.method != "POST"):
                    raise Undeliverable(MOVED.format(self._base, self.name))
                raw = await answer.content.read(65536)
                if answer.status != 200:
                    raise trouble(answer.status, answer.headers.get("Retry-After", ""), self.config.speak, self.name)
                return str(json.loads(raw)["id"])
        except BEFORE_SENDING as error:
            raise NotSent(f"The ntfy server is out of reach: {why(error)}.") from error
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise MaybeSent(f"The ntfy server's answer got lost: {why(error)}.") from error


def read(event: dict[str, Any], channel: str) -> Message:
    """The message in an event. Everybody who knows the topic writes to it, so the topic is the person."""
    topic, text = str(event.get("topic") or ""), event.get("message", "")
    if not isinstance(text, str):
        raise ValueError("its message is no text.")
    title = event.get("title")
    file = event.get("attachment")
    attachments = (attachment(file),) if isinstance(file, dict) else ()
    return Message(
        id=event["id"],
        place=Place(channel, topic),
        sender=Person(channel, topic),
        text=f"**{title}**\n{text}" if isinstance(title, str) and title else text,
        at=float(event.get("time") or 0.0),
        attachments=attachments,
    )


def attachment(file: dict[str, Any]) -> Attachment:
    """A file that ntfy keeps has a size; one that is only linked has none."""
    name, url, mime = str(file.get("name") or ""), str(file.get("url") or ""), str(file.get("type") or "")
    size = file.get("size")
    kind = mime.partition("/")[0]
    named: AttachmentKind = "image" if kind == "image" else "audio" if kind == "audio" else "file"
    if not isinstance(size, int):
        return Attachment(named, name, mime or "application/octet-stream", url=url)
    return Attachment(named, name, mime or "application/octet-stream", size, ref=urlsplit(url).path)


def whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1e11 else 0


def encode(value: str) -> str:
    """A header value; one that is not ASCII as an encoded word (RFC 2047), which the server reads."""
    flat = " ".join(value.split())
    if flat.isascii():
        return flat
    return f"=?UTF-8?B?{base64.b64encode(flat.encode()).decode()}?="


def trouble(status: int, wait: str, topic: str, name: str) -> ChannelError:
    """What a refusal means for a message."""
    if status in (401, 403):
        return Undeliverable(f"ntfy does not let me write to '{topic}'. Correct 'token' in [channels.{name}].")
    if status == 429:
        return NotSent("ntfy asks for a pause.", float(wait) if wait.isdecimal() else None)
    if status >= 500:
        return MaybeSent(f"ntfy answered with status {status}.")
    return Undeliverable(f"ntfy refuses it with status {status}.")
