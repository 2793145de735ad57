"""Slack, through Bolt: Socket Mode, or events by HTTP.

https://docs.slack.dev/apis/events-api and https://docs.slack.dev/apis/web-api
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import aiohttp
from aiohttp import web

from roost.channels.slack_errors import REFUSED, TROUBLE, explain, pause, refused, word
from roost.channels.slack_front import Front
from roost.channels.slack_history import History
from roost.channels.slack_names import Names
from roost.channels.slack_pen import Pen, noted
from roost.channels.slack_replies import MAX_FILE
from roost.channels.slack_rich import Json
from roost.channels.slack_socket import Link, Socket, SocketOff
from roost.channels.slack_updates import Desk, ids, read
from roost.channels.slack_web import Api
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive, Route
from roost.dialects import MRKDWN
from roost.errors import LoginFailed
from roost.keys import key
from roost.pauses import pauses
from roost.proxy import proxy
from roost.values import Attachment, Event, Message, Place, Reply, Sent

log = logging.getLogger(__name__)

WATCH = 60.0  # seconds between two looks whether Slack is there, where it calls us
SOON = 5.0  # seconds: a connection that ends sooner counts as one that did not come about
AWAY = 60.0  # seconds without a connection after which Slack may have given up to bring something


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConfig(ChannelConfig):
    """The keys of `[channels.slack]`."""

    token: str = key(help="The bot user's OAuth token: OAuth & Permissions of the app, begins with xoxb-.", secret=True)
    app_token: str = key(
        "",
        help="For Socket Mode: an app-level token with the scope connections:write, begins with xapp-.",
        secret=True,
        ask=True,
    )
    mode: Literal["socket", "http"] = key("socket", help="http needs a public address, socket nothing.")
    signing_secret: str = key("", help="For http: the Signing Secret, under Basic Information of the app.", secret=True)
    base_url: str = key("https://slack.com/api", help="The Web API, should Slack be somewhere else for you.")
    max_media: int = key(20 * 1024 * 1024, help="The largest file to fetch, in bytes.")


class Slack(Channel):
    """One app in one workspace."""

    Config = SlackConfig
    hosts = ("slack.com", "*.slack.com")
    silence = 180.0  # Socket Mode asks for signs of life every 10 seconds, http looks every minute
    limits = Limits(
        # More can be posted, but not edited: https://docs.slack.dev/reference/methods/chat.update, msg_too_long
        max_text=4000,
        unit="utf16",
        markup=MRKDWN,
        media=dict.fromkeys(("image", "audio", "voice", "video", "file"), MAX_FILE),
        buttons=25,  # https://docs.slack.dev/reference/block-kit/blocks/actions-block
        threads=True,
        stream=1.5,  # chat.update: 50 a minute
        # https://docs.slack.dev/apis/web-api/rate-limits: one a second, several hundred a minute in all
        rate=5.0,
        place_rate=1.0,
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._api = Api(name, config.token, config.base_url)
        self._names = Names(self._api.client)
        self._front = Front(name, config.signing_secret.strip(), self._take)
        self._desk = Desk(name, "", self._names.name, self._names.handle)
        self._history = History(self._api, host.home / "newest.json")
        self._receive: Receive | None = None
        self._order = asyncio.Lock()
        self._pen = Pen(self._api)

    # Listening

    async def run(self, receive: Receive) -> None:
        self._check_keys()
        session = self._api.open()
        try:
            await self._persist(self._log_in)
            self._receive = receive
            await (self._watch() if self.config.mode == "http" else self._listen(session))
        finally:
            self._receive = None
            self._history.save()
            await self._pen.rest()
            await self._api.close()

    def _check_keys(self) -> None:
        """Say what is missing or swapped, before Slack says so in one word."""
        wanted = ("signing_secret",) if self.config.mode == "http" else ("app_token",)
        for name, begin in (("token", "xoxb-"), ("app_token", "xapp-"), ("signing_secret", "")):
            value = getattr(self.config, name).strip()
            if not value and name in wanted:
                raise LoginFailed(f"bot.toml: [channels.{self.name}] has no '{name}'. {self._help(name)}")
            if value and not value.startswith(begin):
                where = f"bot.toml: [channels.{self.name}]"
                raise LoginFailed(f"The '{name}' of {where} does not begin with '{begin}'. {self._help(name)}")

    @staticmethod
    def _help(name: str) -> str:
        fields = SlackConfig.__dataclass_fields__
        return f"{fields[name].metadata['help']}"

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until it succeeds, with growing pauses."""
        for wait in pauses():
            try:
                await step()
            except TROUBLE as error:
                reason = explain(error, self.name)
                if isinstance(reason, LoginFailed):
                    raise reason from None
                self.host.trouble(str(reason))
                log.debug("%s: %s", self.name, type(error).__name__)
                await asyncio.sleep(pause(error) or wait)
            else:
                return

    async def _log_in(self) -> None:
        me = (await self._api.client.api_call("auth.test")).data
        if not isinstance(me, dict) or not me.get("bot_id"):
            raise refused("token", "it is no bot's", self.name)
        self._front.user, self._front.bot = str(me["user_id"]), str(me["bot_id"])
        self._pen.me = self._front.user
        known = {name for name, _ in self.host.commands()}
        self._desk = replace(self._desk, me=self._front.user, commands=known)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        socket = Socket(self._front.deliver, self.host.pulse)
        loop = asyncio.get_running_loop()
        waits, heard = pauses(), float("-inf")
        try:
            while True:
                began = loop.time()
                link = await self._connect(socket, session)
                if loop.time() - heard > AWAY:
                    await self._catch_up()
                await socket.replaced(link)
                heard = link.heard
                if loop.time() - began > SOON:
                    waits = pauses()
                else:
                    await asyncio.sleep(next(waits))
        except SocketOff:
            raise LoginFailed(
                "Socket Mode is switched off for this app of Slack. Switch it on under Socket Mode of the app, or set "
                f'mode = "http" in bot.toml: [channels.{self.name}].'
            ) from None
        finally:
            await socket.close()

    async def _connect(self, socket: Socket, session: aiohttp.ClientSession) -> Link:
        found: list[Link] = []

        async def step() -> None:
            address = await self._ticket()
            found.append(await socket.connect(session, address, proxy(address)))

        await self._persist(step)
        self.host.pulse()
        return found[0]

    async def _catch_up(self) -> None:
        """Take what was said while nobody listened, before anything newer."""
        receive = self._receive
        async with self._order:
            async for chat, said in self._history.missed():
                found = await self._read({"type": "event_callback", "event": said | {"channel": chat}})
                if isinstance(found, Message) and receive is not None:
                    await receive(found)
                    self._note_safe(found)

    async def _ticket(self) -> str:
        """An address to connect to, good for one try."""
        try:
            headers = {"Authorization": f"Bearer {self.config.app_token.strip()}"}
            opened = await self._api.client.api_call("apps.connections.open", headers=headers)
        except TROUBLE as error:
            if (said := word(error)) in REFUSED | {"missing_scope"}:
                raise refused("app_token", said, self.name) from None
            raise
        return str(opened["url"])

    async def _take(self, body: Json) -> int:
        """Take one delivery, in the order in which they come. It is acknowledged when this returns 200.

        One that makes no sense is left out, or it would come again.
        """
        receive = self._receive
        if receive is None:
            return 503
        async with self._order:
            found = await self._read(body)
            accepting = None if found is None else asyncio.ensure_future(receive(found))
        try:
            if accepting is not None:
                await accepting
                self._note_safe(found)
        except Exception as error:
            log.error("%s: A delivery cannot be kept: %s Slack brings it again.", self.name, error)
            return 500
        return 200

    def _note_safe(self, found: Message | Event | None) -> None:
        if isinstance(found, Message) and found.id == found.raw.get("ts"):
            place = found.place
            self._history.note(f"{place.chat}/{place.thread}" if place.thread else place.chat, found.id)

    async def _read(self, body: Json) -> Message | Event | None:
        try:
            await self._names.learn(ids(body))
            found = read(body, self._desk)
        except Exception as error:
            log.warning("%s: A delivery cannot be read (%s). I leave it out.", self.name, type(error).__name__)
            return None
        if isinstance(found, Message) and found.id == found.raw.get("ts"):
            self._pen.newest = noted(self._pen.newest, str(found.place), found.id)
        return found

    # Events by HTTP

    def routes(self) -> Sequence[Route]:
        if self.config.mode == "socket":
            return ()
        return (Route("POST", f"/channels/{self.name}", self._answer, self._front.verify),)

    async def _answer(self, request: web.Request) -> web.Response:
        self.host.pulse()
        return await self._front.answer(request)

    async def _watch(self) -> None:
        self.host.pulse()
        await self._catch_up()
        while True:
            self.host.pulse()
            await asyncio.sleep(WATCH)
            await self._persist(self._log_in)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        return await self._pen.send(place, reply)

    async def edit(self, sent: Sent, reply: Reply) -> None:
        await self._pen.edit(sent, reply)

    async def delete(self, sent: Sent) -> None:
        await self._pen.delete(sent)

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        await self._pen.react(place, message_id, emoji)

    async def type(self, place: Place) -> None:
        await self._pen.type(place)

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Raises ValueError when the file is larger than `max_media`."""
        async for chunk in self._api.download(attachment, self.config.max_media):
            yield chunk
