"""Gotify: people write to one application and read another; between them is a person's own server.

https://gotify.net/docs/pushmsg, https://gotify.net/docs/msgextras and the server's API, https://gotify.net/api-docs
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import MARKDOWN
from roost.durable import Kept
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import BEFORE_SENDING, Http
from roost.keys import key
from roost.pauses import pauses
from roost.reach import why
from roost.values import Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

QUIET = 20.0  # seconds after which the stream is asked whether it is still there
ANSWER = 20.0  # seconds that it has to answer
PAGE = 200  # messages, the most that the server gives at once
NOTICE = 10_000  # characters of an error that are read
# Extras are the application's own but for the names of Gotify's clients; this one says that the bot wrote it.
OURS = "roost::said"


@dataclass(frozen=True, slots=True, kw_only=True)
class GotifyConfig(ChannelConfig):
    """The keys of `[channels.gotify]`."""

    base_url: str = key(help="The server, such as 'https://push.example.org'.")
    token: str = key(help="The token of the application that replies come from.", secret=True)
    client_token: str = key(help="The token of a client, with which messages are read.", secret=True)
    listen_app: str = key(help="The application that people write to: its name or its number.")
    title: str = key("", help="The title of replies; the bot's name when empty.")
    priority: int | None = key(None, help="The priority of replies; the application's own when absent.", least=0)


class App(NamedTuple):
    """An application of the server."""

    id: int
    name: str


class Gotify(Channel):
    """A pair of applications."""

    Config = GotifyConfig
    silence = 2 * (QUIET + ANSWER)
    # Gotify names no limit; MySQL, one of its databases, keeps 65,535 bytes of a text.
    limits = Limits(max_text=60_000, unit="bytes", markup=MARKDOWN)

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._base = config.base_url.rstrip("/")
        self._kept = Kept(host.home / "cursor.json")
        self._http = Http("Gotify")

    # Listening

    async def run(self, receive: Receive) -> None:
        async with self._http.open():
            await self._keep_listening(receive)

    async def _keep_listening(self, receive: Receive) -> None:
        waits = pauses()
        app: App | None = None
        while True:
            try:
                app = app or await self._log_in()
                self._kept.put("base", self._base)
                async for post in self._posts(app):
                    waits = pauses()
                    await self._take(post, app, receive)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self.host.trouble(f"Gotify is out of reach: {why(error)}.")
            except ValueError as error:
                self.host.trouble(f"Gotify does not answer as it should: {why(error)}.")
            await asyncio.sleep(next(waits))

    async def _log_in(self) -> App:
        """Check both tokens, and find the application that people write to. Raises LoginFailed."""
        speaking = {"X-Gotify-Key": self.config.token}
        # An empty message is refused after its token is. A server that takes it anyway shall not show it.
        async with self._http.request("POST", f"{self._base}/message", json={}, headers=speaking) as answer:
            taken = parsed(await answer.text()) if answer.status == 200 else None
            self._check(answer.status, "token", fine=200 if answer.status == 200 else 400)
        if isinstance(taken, dict) and is_number(taken.get("id")):
            with suppress(ChannelError):
                await self._forget(taken["id"])
        async with self._http.request("GET", f"{self._base}/application", headers=speaking) as answer:
            if answer.status == 200:
                raise LoginFailed(
                    f"The 'token' of bot.toml: [channels.{self.name}] is a client's. "
                    "Put an application's token there, from Gotify's page APPS."
                )
        return find(await self._get("/application"), self.config.listen_app, self.config.token, self.name)

    def _check(self, status: int, which: str, fine: int = 200) -> None:
        """Raises LoginFailed for a token or an address that is refused, ValueError for what may pass."""
        if status in (401, 403):
            raise LoginFailed(f"Gotify refuses the '{which}' of bot.toml: [channels.{self.name}]. Correct it.")
        if status == 404 or 300 <= status < 400:
            told = f"There is no Gotify at '{self._base}' (status {status}). "
            cure = f"Correct 'base_url' in bot.toml: [channels.{self.name}]."
            # Where there was one, a proxy may say so while Gotify is started again.
            raise ValueError(f"status {status}") if self._kept.get("base") == self._base else LoginFailed(told + cure)
        if status != fine:
            raise ValueError(f"status {status}")

    async def _get(self, path: str, **query: int) -> Any:
        headers = {"X-Gotify-Key": self.config.client_token}
        async with self._http.request("GET", f"{self._base}{path}", params=query, headers=headers) as answer:
            self._check(answer.status, "client_token")
            return await answer.json(content_type=None)

    async def _posts(self, app: App) -> AsyncIterator[Any]:
        """What was missed, oldest first, and then what comes. The stream is open before it is read what was missed."""
        headers = {"X-Gotify-Key": self.config.client_token}
        try:
            stream = await self._http.connect(f"{self._base}/stream", headers=headers, autoping=False)
        except aiohttp.WSServerHandshakeError as error:
            self._check(error.status, "client_token", fine=101)
            raise
        async with stream:
            async for page in self._missed(app):
                for post in page:
                    yield post
            self.host.pulse()
            while (word := await self._word(stream)) is not None:
                if word:
                    yield parsed(word)

    async def _word(self, stream: aiohttp.ClientWebSocketResponse) -> str | None:
        """The next text of the stream, "" for a sign of life, None at its end. Raises TimeoutError when it is dead."""
        try:
            frame = await stream.receive(timeout=QUIET)
        except TimeoutError:
            await stream.ping()
            frame = await stream.receive(timeout=ANSWER)
        if frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            return None
        if frame.type == aiohttp.WSMsgType.ERROR:
            return None
        self.host.pulse()
        if frame.type == aiohttp.WSMsgType.PING:
            await stream.pong(frame.data)
        return frame.data if frame.type == aiohttp.WSMsgType.TEXT else ""

    async def _missed(self, app: App) -> AsyncIterator[Sequence[Any]]:
        """Pages of messages after the last that was taken, oldest first; none at the first start.

        The server goes backwards, so the way is walked to its beginning and then read in order.
        """
        path, last = f"/application/{app.id}/message", self._kept.get(str(app.id))
        if last is None:
            newest = numbered(await self._get(path, limit=1))
            self._kept.put(str(app.id), newest[0]["id"] if newest else 0)
            return
        starts: list[dict[str, int]] = [{}]
        while page := numbered(await self._get(path, limit=PAGE, **starts[-1])):
            self.host.pulse()
            if page[-1]["id"] <= last:
                break
            starts.append({"since": page[-1]["id"]})
        for start in reversed(starts):
            page = numbered(await self._get(path, limit=PAGE, **start)) if len(starts) > 1 else page
            yield [post for post in reversed(page) if post["id"] > last]

    async def _take(self, post: Any, app: App, receive: Receive) -> None:
        if not isinstance(post, dict) or post.get("appid") != app.id or not is_number(post.get("id")):
            return
        try:
            message = read(post, app, self.name)
        except (TypeError, ValueError) as error:
            log.warning("%s: Message %s cannot be read: %s", self.name, post["id"], error)
        else:
            if message is not None:
                await receive(message)
        self._kept.put(str(app.id), post["id"])

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        post = write(reply, self.config.title or self.host.bot_name, self.config.priority)
        headers = {"X-Gotify-Key": self.config.token}
        try:
            async with self._http.request("POST", f"{self._base}/message", json=post, headers=headers) as answer:
                raw = await answer.text()
                if answer.status != 200:
                    raise trouble(answer.status, raw, answer.headers.get("Retry-After", ""), self.name)
                return Sent(place, (str(json.loads(raw)["id"]),))
        except BEFORE_SENDING as error:
            raise NotSent(f"Gotify is out of reach: {why(error)}.") from error
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise MaybeSent(f"Gotify's answer got lost: {why(error)}.") from error

    async def delete(self, sent: Sent) -> None:
        try:
            for id in sent.ids:
                await self._forget(id)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotSent(f"Gotify cannot be asked: {why(error)}.") from error

    async def _forget(self, id: int | str) -> None:
        headers = {"X-Gotify-Key": self.config.client_token}
        async with self._http.request("DELETE", f"{self._base}/message/{id}", headers=headers) as answer:
            if answer.status not in (200, 404):
                raise trouble(answer.status, await answer.text(), "", self.name)


def find(apps: Any, wanted: str, token: str, name: str) -> App:
    """The application of this name or number. Raises LoginFailed when there is none, or it is the bot's own."""
    known = [one for one in apps if isinstance(one, dict) and is_number(one.get("id"))] if type(apps) is list else []
    where = f"bot.toml: [channels.{name}]"
    named = [one for one in known if one.get("name") == wanted] or [one for one in known if str(one["id"]) == wanted]
    if len(named) > 1:
        numbers = ", ".join(str(one["id"]) for one in named)
        raise LoginFailed(f"Gotify has {len(named)} applications '{wanted}'. Name one by number in {where}: {numbers}.")
    if not named:
        raise LoginFailed(f"Gotify has no application '{wanted}' for this client. Correct 'listen_app' in {where}.")
    if named[0].get("token") == token:
        raise LoginFailed(
            f"The application '{wanted}' is the one I speak with: I would answer myself. "
            f"Make another for people to write to, and put it into 'listen_app' in {where}."
        )
    return App(named[0]["id"], str(named[0].get("name") or wanted))


def numbered(page: Any) -> list[dict[str, Any]]:
    """The messages of a page, newest first. Raises ValueError for what is no page."""
    posts = page.get("messages") if isinstance(page, dict) else None
    if not isinstance(posts, list):
        raise ValueError("it sent no list of messages")
    return [one for one in posts if isinstance(one, dict) and is_number(one.get("id"))]


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def parsed(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return None


def read(post: dict[str, Any], app: App, channel: str) -> Message | None:
    """The message in a post; None for one of our own. Raises ValueError for what is none.

    Everybody with the token writes, so the application is the person. A server that begins anew counts from 1 again,
    so the date belongs to the name of a delivery.
    """
    text, date = post.get("message"), post.get("date")
    if not isinstance(text, str):
        raise ValueError("it has no text.")
    extras = post.get("extras")
    if isinstance(extras, dict) and OURS in extras:
        return None
    title = post.get("title")
    at = datetime.fromisoformat(date).timestamp() if isinstance(date, str) else 0.0
    # Without a title of its own, a message has the application's name.
    headed = isinstance(title, str) and title.strip() and title != app.name
    place = Place(channel, str(app.id))
    return Message(
        id=str(post["id"]),
        place=place,
        sender=Person(channel, str(app.id), app.name),
        text=f"**{title}**\n{text}" if headed else text,
        at=at,
        key=f"{place}#{post['id']}@{date}",
    )


def write(reply: Reply, title: str, priority: int | None) -> dict[str, Any]:
    """The body of a post. Its first link is what a touch of the notification opens."""
    extras: dict[str, Any] = {"client::display": {"contentType": "text/markdown"}, OURS: {"key": reply.key}}
    links = [button.url for button in reply.buttons if button.url]
    if links:
        extras["client::notification"] = {"click": {"url": links[0]}}
    post = {"title": title, "message": reply.text, "extras": extras}
    return post if priority is None else post | {"priority": priority}


def trouble(status: int, body: str, wait: str, name: str) -> ChannelError:
    """What a refusal means for a message. Gotify itself asks for no pauses; what stands before it may."""
    if status in (401, 403):
        return Undeliverable(f"Gotify refuses the token. Correct 'token' in bot.toml: [channels.{name}].")
    if status == 429:
        return NotSent("Gotify asks for a pause.", float(wait) if wait.isdecimal() else None)
    if status >= 500:
        return MaybeSent(f"Gotify answered with status {status}.")
    found = parsed(body[:NOTICE])
    why = str(found.get("errorDescription") or "") if isinstance(found, dict) else ""
    return Undeliverable(f"Gotify refuses it with status {status}{': ' + why[:200] if why else ''}.")
