"""Mastodon: direct posts and mentions, answered by as private a post, through the API of the bot's own server.

https://docs.joinmastodon.org/client/intro/
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from roost.channels.mastodon_api import Api, Json, decoded
from roost.channels.mastodon_posts import PER_POST, RESERVE, Aim, Me, aimed, read, write
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.durable import Kept
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.pauses import pauses
from roost.values import Attachment, AttachmentKind, Place, Reply, Sent

log = logging.getLogger(__name__)

CHARACTERS = 500  # of a post, where a server does not say otherwise
MB = 1_000_000
SMALLEST = 200  # characters of a text, however few a server allows
PAGE = 40
REMEMBERED = 1000  # answers whose own follow-ups go under them
FEW = 60  # requests that are left for answers
EASE = 5.0  # seconds between two looks then
WITH_STREAM = 300.0  # seconds between two looks, beside those that the stream asks for
TRIES = (NotSent, MaybeSent)


@dataclass(frozen=True, slots=True, kw_only=True)
class MastodonConfig(ChannelConfig):
    """The keys of `[channels.mastodon]`."""

    server: str = key(help="The address of the server that the bot's account is on, such as https://mastodon.social.")
    token: str = key(help="The access token of the application made in the account's preferences.", secret=True)
    streaming: str = key("", help="Where the server streams from; it says so itself when absent.")
    poll: float = key(60.0, help="Seconds between two looks while there is no stream.", least=1, most=120)


class Mastodon(Channel):
    """One account on one server."""

    Config = MastodonConfig
    hosts = ("{server}", "*.{server}")
    # https://docs.joinmastodon.org/user/posting/#text and #media; the server's own figures replace them.
    limits = Limits(
        max_text=CHARACTERS - RESERVE,
        media={"image": 16 * MB, "video": 99 * MB, "audio": 99 * MB, "voice": 99 * MB},
        files=PER_POST,
        urls=False,
        quotes=True,
        # https://docs.joinmastodon.org/methods/statuses/#create: the server keeps the keys for an hour.
        idempotent=True,
        # https://docs.joinmastodon.org/api/rate-limits/: 300 requests in 5 minutes.
        rate=1.0,
    )
    silence = 400.0  # the longest pause that a server asks for is 300

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        check_server(config.server, name)
        self._api = Api(name, config.server, config.token)
        self._past = Kept(host.home / "past.json")
        self._followed: OrderedDict[tuple[Place, str], str] = OrderedDict()
        self._me = Me("", "", "")
        self._streaming = False

    # Listening

    async def run(self, receive: Receive) -> None:
        async with self._api.http.open():
            told = await self._enter()
            news = asyncio.Event()
            await both(self._look(news, receive), self._listen(self._stream_at(told), news, receive))

    async def _enter(self) -> Json:
        """Learn who we are and what the server allows; returns what it says of itself. Raises LoginFailed."""
        for wait in pauses():
            try:
                account = await self._api.call("GET", "/api/v1/accounts/verify_credentials")
                told: Json = await self._api.call("GET", "/api/v2/instance")
                if self._past.get("last") is None:
                    # Whatever was said before the bot was here has been seen by somebody else.
                    newest = await self._api.call("GET", "/api/v1/notifications", params=[("limit", "1")])
                    self._past.put("last", str(newest[0]["id"]) if newest else "0")
                break
            except TRIES as error:
                self.host.trouble(str(error))
                await asyncio.sleep(error.retry_after or wait if isinstance(error, NotSent) else wait)
            except Undeliverable as error:
                raise LoginFailed(
                    f"The account of bot.toml: [channels.{self.name}] cannot be used: {str(error).rstrip('.')}. Its "
                    "application needs the scopes read and write."
                ) from None
        self._me = Me(str(account["id"]), account["acct"], account["url"])
        self.limits = fitted(self.limits, told.get("configuration") or {})
        return told

    def _stream_at(self, told: Json) -> str:
        """The address of the server's stream, to be read over HTTP."""
        given = self.config.streaming or ((told.get("configuration") or {}).get("urls") or {}).get("streaming") or ""
        parts = urlsplit(given)
        scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
        if not parts.hostname or scheme not in ("https", urlsplit(self._api.base).scheme):
            return self._api.base
        return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))

    async def _look(self, news: asyncio.Event, receive: Receive) -> None:
        """Read the notifications: what happened, from where we were, whoever told us to look."""
        waits = pauses()
        while True:
            news.clear()
            try:
                await self._catch_up(receive)
                waits = pauses()
                if self._api.left is not None and self._api.left < FEW:
                    await asyncio.sleep(EASE)
            except TRIES as error:
                if isinstance(error, NotSent) and error.retry_after:
                    self.host.pulse()
                else:
                    self.host.trouble(str(error))
                wait = next(waits)
                await asyncio.sleep(error.retry_after or wait if isinstance(error, NotSent) else wait)
                continue
            try:
                async with asyncio.timeout(WITH_STREAM if self._streaming else self.config.poll):
                    await news.wait()
            except TimeoutError:
                continue

    async def _catch_up(self, receive: Receive) -> None:
        while True:
            params = [("types[]", "mention"), ("min_id", self._past.get("last")), ("limit", str(PAGE))]
            page = await self._api.call("GET", "/api/v1/notifications", params=params)
            self.host.pulse()
            if not page:
                return
            for notification in reversed(page):
                await self._take(notification.get("status"), receive)
            self._past.put("last", str(page[0]["id"]))

    async def _take(self, status: Any, receive: Receive, edited: bool = False) -> None:
        if not isinstance(status, dict):
            return
        try:
            message = read(status, self.name, self._me, await self._root(status), edited)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s: The post '%s' cannot be read: %r", self.name, status.get("id"), error)
            return
        if message is not None:
            await receive(message)

    async def _root(self, status: Json) -> str:
        """The post that a thread begins with, which is the name of its place."""
        above = status.get("in_reply_to_id")
        if not above or status["visibility"] == "direct":
            return str(status["id"])
        try:
            context = await self._api.call("GET", f"/api/v1/statuses/{status['id']}/context")
        except Undeliverable:
            return str(above)
        return str(context["ancestors"][0]["id"]) if context["ancestors"] else str(above)

    async def _listen(self, base: str, news: asyncio.Event, receive: Receive) -> None:
        """Hear of what happens at once. Nothing is lost without: it only says that a look is worth it."""
        waits = pauses(300.0)
        while True:
            try:
                async with self._api.stream(base) as events:
                    self._streaming = True
                    news.set()
                    async for event, data in events:
                        waits = pauses(300.0)
                        self.host.pulse()
                        await self._hear(event, data, news, receive)
            except TRIES as error:
                log.debug("%s: %s", self.name, error)
            finally:
                self._streaming = False
                news.set()
            await asyncio.sleep(next(waits))

    async def _hear(self, event: str, data: str, news: asyncio.Event, receive: Receive) -> None:
        found = decoded(data) if event in ("notification", "status.update") else None
        if not isinstance(found, dict):
            return
        if event == "notification" and found.get("type") == "mention":
            news.set()
        mentions = found.get("mentions") or () if event == "status.update" else ()
        if any(isinstance(one, dict) and str(one.get("id")) == self._me.id for one in mentions):
            await self._take(found, receive, edited=True)

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._api.download(attachment.ref)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        aim = aimed(place, reply.ticket)
        media = [await self._upload(one) for one in reply.attachments]
        return Sent(place, (await self._post(place, reply.text, aim, media, reply.key or uuid.uuid4().hex),))

    async def _upload(self, file: Attachment) -> str:
        try:
            return await self._api.upload(file.name, file.mime, file.data or b"")
        except LoginFailed as error:
            raise NotSent(str(error)) from None

    async def _post(self, place: Place, text: str, aim: Aim, media: list[str], once: str) -> str:
        """Post under the question, or under what was last said to it: so a long answer is read in its order."""
        form = write(text, aim) | {"visibility": aim.visibility, "media_ids": media}
        if above := self._followed.get((place, aim.answers), aim.answers):
            form["in_reply_to_id"] = above
        answer = await self._write("POST", "/api/v1/statuses", form, once)
        id = str(answer["id"])
        if aim.answers:
            self._followed[place, aim.answers] = id
        while len(self._followed) > REMEMBERED:
            self._followed.popitem(last=False)
        return id

    async def _write(self, method: str, path: str, form: Json | None = None, once: str = "") -> Any:
        """Raises NotSent, MaybeSent or Undeliverable."""
        try:
            return await self._api.call(method, path, form, headers={"Idempotency-Key": once} if once else None)
        except LoginFailed as error:
            raise NotSent(str(error)) from None

    async def edit(self, sent: Sent, reply: Reply) -> None:
        """The files that the post has are named again, or the server takes them away."""
        form = write(reply.text, aimed(sent.place, reply.ticket))
        path = f"/api/v1/statuses/{sent.ids[0]}"
        before = (await self._write("GET", path)).get("media_attachments") or []
        media = [str(one["id"]) for one in before] + [await self._upload(one) for one in reply.attachments]
        await self._write("PUT", path, form | {"media_ids": media})

    async def delete(self, sent: Sent) -> None:
        for id in sent.ids:
            await self._write("DELETE", f"/api/v1/statuses/{id}")


def check_server(server: str, name: str) -> None:
    """Raises ConfigError."""
    parts = urlsplit(server)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(
            f"bot.toml: [channels.{name}] server = '{server}' is no address. One looks like 'https://mastodon.social'."
        )


def fitted(limits: Limits, told: Json) -> Limits:
    """The limits with a server's own figures: https://docs.joinmastodon.org/entities/Instance/#configuration"""
    characters = (told.get("statuses") or {}).get("max_characters") or CHARACTERS
    sizes = told.get("media_attachments") or {}
    image, video = sizes.get("image_size_limit"), sizes.get("video_size_limit")
    media: dict[AttachmentKind, int] = {
        kind: (image if kind == "image" else video) or most for kind, most in limits.media.items()
    }
    files = (told.get("statuses") or {}).get("max_media_attachments") or limits.files
    return replace(limits, max_text=max(SMALLEST, int(characters) - RESERVE), media=media, files=int(files))


async def both(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things until one of them fails, and fail with it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
