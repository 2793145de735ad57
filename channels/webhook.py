"""Anything that speaks HTTP: messages come as signed posts, replies leave as signed posts.

Signatures are those of Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive, Route
from roost.dialects import HTML, MARKDOWN, PLAIN, render
from roost.errors import ConfigError, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.media import Media
from roost.rows import readable
from roost.values import Attachment, AttachmentKind, Message, Person, Place, Quote, Reply, Sent

TOLERANCE = 300.0  # seconds, as the specification proposes
PULSE = 60.0
DIALECTS = {"markdown": MARKDOWN, "html": HTML, "plain": PLAIN}
KINDS: tuple[AttachmentKind, ...] = ("image", "audio", "voice", "video", "file")
FIELDS = ("id", "text", "chat", "person", "name", "thread", "quote", "addressed", "group")
SLOT = re.compile(r"\{(text|chat|thread|quote|id|files|buttons)\}")
BODY = (
    '{"id": {id}, "chat": {chat}, "thread": {thread}, "text": {text}, "quote": {quote}, "files": {files}, '
    '"buttons": {buttons}}'
)
MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig(ChannelConfig):
    """The keys of `[channels.webhook]`."""

    secret: str = key(
        help="What both sides sign with: 'whsec_' and base64 of 24 to 64 random bytes. "
        "`roost channels add webhook` can make one.",
        secret=True,
    )
    url: str = key(help="Where replies are posted to.")
    format: Literal["markdown", "html", "plain"] = key("markdown", help="How the text of replies is written.")
    read: dict[str, str] = key(
        factory=dict,
        help='Where a post has what Roost needs, as a path through its JSON: { text = "event.body" }. '
        f"The names are {', '.join(FIELDS)}; without one, the name itself.",
    )
    body: str = key(
        BODY, help="What is posted: JSON with {text}, {chat}, {thread}, {quote}, {id}, {files}, {buttons} for values."
    )
    timeout: float = key(30.0, help="Seconds that a post may take.", least=0.1)


class Webhook(Channel):
    """One pair of addresses: ours, and the other side's."""

    Config = WebhookConfig
    forgeable = "whoever has its secret can name anybody as the writer"
    limits = Limits(
        max_text=100_000,
        markup=MARKDOWN,
        media=dict.fromkeys(KINDS, 10 * MB),
        buttons=20,
        quotes=True,
        threads=True,
        idempotent=True,
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self.limits = replace(self.limits, markup=DIALECTS[config.format])
        self._secret = secret_bytes(config.secret, name)
        check_url(config.url, name)
        check_body(config.body, name)
        self._media = Media(host.home / "media")
        self._receive: Receive | None = None
        self._session: aiohttp.ClientSession | None = None

    async def run(self, receive: Receive) -> None:
        self._receive = receive
        async with aiohttp.ClientSession(trust_env=True) as session:
            self._session = session
            try:
                while True:
                    self.host.pulse()
                    await asyncio.sleep(PULSE)
            finally:
                self._receive = self._session = None

    def routes(self) -> Sequence[Route]:
        return (Route("POST", f"/channels/{self.name}", self._answer, self._verify),)

    def _verify(self, request: web.Request, body: bytes) -> bool:
        return verified(request.headers, body, self._secret, time.time())

    async def _answer(self, request: web.Request) -> web.Response:
        if self._receive is None:
            raise web.HTTPServiceUnavailable(text="The channel is not listening.")
        try:
            post = json.loads(await request.read())
            message = readable(read(post, self.name, self.config.read, request.headers["webhook-id"], self._media))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise web.HTTPBadRequest(text=f"This post cannot be read: {error}") from None
        await self._receive(message)
        return web.json_response({"id": message.id})

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._media.read(attachment.ref)

    async def send(self, place: Place, reply: Reply) -> Sent:
        id = reply.key or uuid.uuid4().hex
        body = write(self.config.body, place, reply, id, self.limits.markup).encode()
        headers = {"Content-Type": "application/json", **signed(id, body, self._secret, time.time())}
        where = nameable(self.config.url)
        if self._session is None:
            raise NotSent("The channel is not running.")
        try:
            async with self._session.post(
                self.config.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.config.timeout),
            ) as response:
                check(response.status, response.headers, where)
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"'{where}' cannot be reached: {error.os_error}.") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise MaybeSent(f"The answer of '{where}' got lost: {error or 'it took too long'}.") from error
        return Sent(place, (id,))


def secret_bytes(secret: str, name: str) -> bytes:
    """The key in `whsec_…`. Raises ConfigError."""
    try:
        found = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        found = b""
    if not 24 <= len(found) <= 64:
        raise ConfigError(
            f"bot.toml: [channels.{name}] secret is not 'whsec_' and base64 of 24 to 64 bytes. "
            f"Here is a fresh one: whsec_{base64.b64encode(hashlib.sha256(uuid.uuid4().bytes).digest()).decode()}"
        )
    return found


def check_url(url: str, name: str) -> None:
    """Raises ConfigError where replies cannot be posted."""
    try:
        found = urlsplit(url)
        good = found.scheme in ("http", "https") and bool(found.hostname)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"bot.toml: [channels.{name}] url = '{url}' is no address. It begins with http:// or https://, such as "
            "'https://example.org/replies'."
        )


def nameable(url: str) -> str:
    """An address without what may be a secret in it: a password, and what stands behind the path."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"


def signature(id: str, timestamp: str, body: bytes, secret: bytes) -> str:
    digest = hmac.new(secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def signed(id: str, body: bytes, secret: bytes, now: float) -> dict[str, str]:
    """The three headers of a post."""
    timestamp = str(int(now))
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(id, timestamp, body, secret),
    }


def verified(headers: Mapping[str, str], body: bytes, secret: bytes, now: float) -> bool:
    """Whether a post is signed with the secret, now. One of several signatures will do: secrets are rotated."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if (
        not (id and id.isprintable())
        or not re.fullmatch(r"[0-9]{1,12}", timestamp)
        or abs(now - int(timestamp)) > TOLERANCE
    ):
        return False
    expected = signature(id, timestamp, body, secret).encode()
    shown = headers.get("webhook-signature", "").split(" ")
    return sum(hmac.compare_digest(expected, one.encode(errors="replace")) for one in shown) > 0


def read(post: Any, channel: str, paths: Mapping[str, str], webhook_id: str, media: Media) -> Message:
    """The message in a post. Raises ValueError with what is missing."""
    if not isinstance(post, dict):
        raise ValueError("it is no JSON object.")
    found = {name: follow(post, paths.get(name, name)) for name in FIELDS}
    texts = {name: word(found[name], name) for name in FIELDS if name not in ("addressed", "group")}
    files = tuple(attachment(one, media) for one in post.get("files") or ())
    if not texts["text"].strip() and not files:
        raise ValueError(f"there is no text at '{paths.get('text', 'text')}'.")
    person = texts["person"] or "someone"
    kind: Literal["direct", "group"] = "group" if found["group"] else "direct"
    return Message(
        id=texts["id"] or webhook_id,
        place=Place(channel, texts["chat"] or person, texts["thread"], kind),
        sender=Person(channel, person, texts["name"]),
        text=texts["text"],
        at=time.time(),
        addressed=found["addressed"] if isinstance(found["addressed"], bool) else True,
        quote=Quote(texts["quote"]) if texts["quote"] else None,
        attachments=files,
        key=webhook_id,
    )


def follow(post: Any, path: str) -> Any:
    """What is at `a.b.0.c` in nested JSON; None where there is nothing."""
    for part in path.split("."):
        if isinstance(post, list) and part.isdecimal() and int(part) < len(post):
            post = post[int(part)]
        elif isinstance(post, dict):
            post = post.get(part)
        else:
            return None
    return post


def word(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"'{name}' is no text.")
    return str(value)


def attachment(file: Any, media: Media) -> Attachment:
    """A file in a post: {"name", "mime", "data": base64}. Raises ValueError."""
    if not isinstance(file, dict):
        raise ValueError("a file is no JSON object.")
    content = base64.b64decode(str(file.get("data") or ""), validate=True)
    mime = word(file.get("mime"), "mime") or "application/octet-stream"
    kind = mime.partition("/")[0]
    named: AttachmentKind = kind if kind in KINDS else "file"
    return Attachment(named, word(file.get("name"), "name"), mime, len(content), media.put(content))


def write(template: str, place: Place, reply: Reply, id: str, markup: Any) -> str:
    """The body of a post: the template with JSON in the place of each name."""
    values = {
        "id": id,
        "chat": place.chat,
        "thread": place.thread,
        "text": render(reply.text, markup),
        "quote": reply.quote,
        "files": [file(one) for one in reply.attachments],
        "buttons": [{"text": one.text, "value": one.value or one.text, "url": one.url} for one in reply.buttons],
    }
    return SLOT.sub(lambda slot: json.dumps(values[slot[1]], ensure_ascii=False), template)


def file(one: Attachment) -> dict[str, Any]:
    told: dict[str, Any] = {"name": one.name, "mime": one.mime, "kind": one.kind}
    return told | ({"url": one.url} if one.data is None else {"data": base64.b64encode(one.data).decode()})


def check_body(template: str, name: str) -> None:
    """Raises ConfigError when a template is no JSON, or says nothing."""
    try:
        json.loads(SLOT.sub("null", template))
    except ValueError as error:
        problem = f"bot.toml: [channels.{name}] body is no JSON once its names are filled in: {error}."
        raise ConfigError(problem) from error
    if "{text}" not in template:
        raise ConfigError(f"bot.toml: [channels.{name}] body has no {{text}} in it.")


def check(status: int, headers: Mapping[str, str], url: str) -> None:
    """What the other side's answer means for a reply."""
    if 200 <= status < 300:
        return
    wait = headers.get("Retry-After", "")
    if status in (429, 503):
        raise NotSent(f"'{url}' asks for a pause.", float(wait) if wait.isdecimal() else None)
    if status >= 500:
        raise MaybeSent(f"'{url}' answered with status {status}.")
    raise Undeliverable(f"'{url}' refuses it with status {status}.")
