"""Home Assistant: people speak to the bot with events, and it answers on their phones or with an event.

https://developers.home-assistant.io/docs/api/websocket and https://developers.home-assistant.io/docs/api/rest
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import aiohttp

from roost.channels.homeassistant_events import (
    ACTION,
    MAX_ACTIONS,
    PANEL,
    PHONE,
    RESIDENTS,
    House,
    answer,
    author,
    house,
    listed,
    notification,
    read,
)
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import MARKDOWN
from roost.durable import Kept
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import BEFORE_SENDING, Http
from roost.keys import key
from roost.pauses import pauses
from roost.reach import why
from roost.values import Place, Reply, Sent

log = logging.getLogger(__name__)

TIME = aiohttp.ClientTimeout(total=60.0, connect=10.0)
QUIET = 20.0  # seconds after which the other side is asked whether it is there
ANSWER = 20.0  # seconds that it has to answer
MAX_FRAME = 64 * 1024 * 1024
EVENT = "event"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistantConfig(ChannelConfig):
    """The keys of `[channels.homeassistant]`."""

    base_url: str = key(help="The address of Home Assistant, such as 'http://homeassistant.local:8123'.")
    token: str = key(help="A long-lived access token of an administrator.", secret=True)
    notify: dict[str, str] = key(
        factory=dict,
        help="Where answers go: { 'person.ann' = 'notify.mobile_app_pixel' }, or 'persistent_notification', "
        "or 'event', which is what a chat has that is not named here.",
    )
    prefix: str = key("roost", help="What the names of events begin with, for two bots in one house.", least=1)
    title: str = key("", help="The title of notifications; the bot's name when empty.")


class HomeAssistant(Channel):
    """One house."""

    Config = HomeAssistantConfig
    silence = 2 * (QUIET + ANSWER)
    # A push message has 4,096 bytes in all, its buttons and the names around them included:
    # https://firebase.google.com/docs/cloud-messaging/concept-options
    # https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
    limits = Limits(max_text=2500, unit="bytes", buttons=MAX_ACTIONS)

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._base = config.base_url.rstrip("/")
        if not is_address(self._base):
            raise ConfigError(
                f"bot.toml: [channels.{name}] base_url = '{config.base_url}' is no address. It begins with http:// or "
                "https://, such as 'http://homeassistant.local:8123'."
            )
        self._title = config.title or host.bot_name
        self._routes = {chat: self._route(chat, target) for chat, target in config.notify.items()}
        self._http = Http("Home Assistant", TIME, headers={"Authorization": f"Bearer {config.token}"})
        self._kept = Kept(host.home / "server.json")
        self._house = House()

    def _route(self, chat: str, target: str) -> str:
        if target in (EVENT, PANEL) or target.startswith("notify."):
            return target
        raise ConfigError(
            f"bot.toml: [channels.{self.name}] sends the answers in '{chat}' to '{target}', which is neither "
            f"'notify.NAME' nor '{PANEL}' nor '{EVENT}'. Correct 'notify'."
        )

    def route(self, chat: str) -> str:
        """Where answers in a chat go."""
        return self._routes.get(chat) or (chat if chat.startswith("notify.") or chat == PANEL else EVENT)

    # Listening

    async def run(self, receive: Receive) -> None:
        async with self._http.open():
            await self._keep_listening(receive)

    async def _keep_listening(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            try:
                async with await self._connect() as socket:
                    await self._log_in(socket)
                    async for event in self._events(socket):
                        waits = pauses()
                        await self._take(event, receive)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self.host.trouble(f"Home Assistant is out of reach: {why(error)}.")
            except ValueError as error:
                self.host.trouble(f"Home Assistant does not answer as it should: {why(error)}.")
            await asyncio.sleep(next(waits))

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self._http.connect(f"{self._base}/api/websocket", max_msg_size=MAX_FRAME)
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 403:
                raise LoginFailed(
                    f"Home Assistant refuses this machine (bot.toml: [channels.{self.name}]). It may have banned the "
                    "address: look into its file ip_bans.yaml."
                ) from None
            if error.status == 404 or error.status < 400:
                self._check_address(error.status)
            raise

    async def _log_in(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Say who we are, and what we want to hear of. Raises LoginFailed."""
        await self._word(socket)
        await socket.send_json({"type": "auth", "access_token": self.config.token})
        said = await self._word(socket)
        if said.get("type") == "auth_invalid":
            raise LoginFailed(
                f"Home Assistant refuses the 'token' of bot.toml: [channels.{self.name}]. "
                "Make a new long-lived access token on your profile's page, under Security."
            )
        if said.get("type") != "auth_ok":
            raise ValueError("it did not say whether the token is right")
        await self._meet()

    async def _meet(self) -> None:
        """Learn who lives here. Raises LoginFailed for a user who may not ask."""
        async with self._post("/api/template", {"template": RESIDENTS}) as answer:
            if answer.status in (401, 403):
                raise self._no_administrator()
            if answer.status in (301, 302, 307, 308, 404):
                self._check_address(answer.status)
            if answer.status != 200:
                raise ValueError(f"it does not tell who lives here (status {answer.status})")
            rows = parsed(await answer.text())
        self._house = house(rows if isinstance(rows, list) else [])
        self._kept.put("base", self._base)

    def _check_address(self, status: int) -> None:
        """Raises LoginFailed, but not where it once was: a proxy may say so while Home Assistant is started again."""
        if self._kept.get("base") != self._base:
            raise LoginFailed(
                f"There is no Home Assistant at '{self._base}' (status {status}). "
                f"Correct 'base_url' in bot.toml: [channels.{self.name}]."
            )

    def _no_administrator(self) -> LoginFailed:
        return LoginFailed(
            f"The user of the 'token' of bot.toml: [channels.{self.name}] may not listen to events. "
            "Make the token as an administrator of Home Assistant."
        )

    async def _events(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[Any]:
        """What happens, from now until the connection ends, which raises ConnectionError."""
        kinds = (f"{self.config.prefix}_message", ACTION)
        for number, kind in enumerate(kinds, 1):
            await socket.send_json({"id": number, "type": "subscribe_events", "event_type": kind})
        awaited = set(range(1, len(kinds) + 1))
        numbers = itertools.count(len(kinds) + 1)
        while True:
            try:
                said = await self._word(socket, QUIET)
            except TimeoutError:
                await socket.send_json({"id": next(numbers), "type": "ping"})
                said = await self._word(socket)
            if said.get("type") == "result" and said.get("id") in awaited:
                self._check(said)
                awaited.remove(said["id"])
            if not awaited:
                self.host.pulse()
            if said.get("type") == "event":
                yield said.get("event")

    def _check(self, said: Json) -> None:
        """Raises LoginFailed or ValueError when it is not told what happens."""
        error = said.get("error")
        if isinstance(error, dict) and error.get("code") == "unauthorized":
            raise self._no_administrator()
        if said.get("success") is not True:
            raise ValueError("it does not tell what happens")

    async def _word(self, socket: aiohttp.ClientWebSocketResponse, within: float = ANSWER) -> Json:
        """What comes next. Raises TimeoutError after a silence of so many seconds, ConnectionError at the end."""
        frame = await socket.receive(timeout=within)
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"The connection ended ({frame.type.name}).")
        said = parsed(frame.data)
        return said if isinstance(said, dict) else {}

    async def _take(self, event: Any, receive: Receive) -> None:
        if (user := author(event)) and not self._house.knows(user):
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                await self._meet()
        try:
            message = read(event, self.name, self.config.prefix, self._house)
        except (TypeError, ValueError) as error:
            log.warning("%s: An event cannot be read: %s", self.name, error)
            return
        if message is not None:
            await receive(message)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        tag = f"{self.config.prefix}-{reply.key or uuid4().hex}"
        await self._say(place.chat, reply, tag)
        return Sent(place, (tag,))

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self._can_change(sent)
        await self._say(sent.place.chat, reply, sent.ids[0], {"edited": True})

    async def delete(self, sent: Sent) -> None:
        self._can_change(sent)
        target, tag = self.route(sent.place.chat), sent.ids[0]
        if target == EVENT:
            await self._fire({"chat": sent.place.chat, "text": "", "id": tag, "to": "", "deleted": True})
        elif target == PANEL:
            await self._call(f"{PANEL}.dismiss", {"notification_id": tag})
        else:
            await self._call(target, {"message": "clear_notification", "data": {"tag": tag}})

    def _can_change(self, sent: Sent) -> None:
        target = self.route(sent.place.chat)
        if not (target in (EVENT, PANEL) or target.startswith(PHONE)):
            raise Undeliverable(f"What '{target}' has said cannot be changed.")

    async def _say(self, chat: str, reply: Reply, tag: str, more: Json | None = None) -> None:
        """Say it, or say it anew: a phone and the panel replace what has the same tag."""
        target = self.route(chat)
        if target == EVENT:
            await self._fire(answer(reply, chat, tag) | (more or {}))
        elif target == PANEL:
            text = {"title": self._title, "message": listed(reply, MARKDOWN), "notification_id": tag}
            await self._call(f"{PANEL}.create", text)
        elif target.startswith(PHONE):
            await self._call(target, notification(reply, chat, self._title, tag, self.config.prefix))
        else:
            await self._call(target, {"title": self._title, "message": listed(reply)}, again=False)

    async def _fire(self, data: Json) -> None:
        await self._deliver(f"/api/events/{quote(self.config.prefix, safe='')}_reply", data, again=False)

    async def _call(self, service: str, data: Json, *, again: bool = True) -> None:
        domain, _, name = service.partition(".")
        await self._deliver(f"/api/services/{domain}/{quote(name, safe='')}", data, again)

    def _post(self, path: str, body: Json) -> Any:
        return self._http.request("POST", f"{self._base}{path}", json=body)

    async def _deliver(self, path: str, body: Json, again: bool) -> None:
        """Raises NotSent where it may be sent `again`, since a repetition replaces what there is."""
        unsure = NotSent if again else MaybeSent
        try:
            async with self._post(path, body) as answer:
                await answer.read()
                if answer.status != 200:
                    wait = answer.headers.get("Retry-After", "")
                    raise await self._trouble(answer.status, wait, path, unsure)
        except BEFORE_SENDING as error:
            raise NotSent(f"Home Assistant is out of reach: {why(error)}.") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise unsure(f"Home Assistant's answer got lost: {why(error)}.") from error

    async def _trouble(self, status: int, wait: str, path: str, unsure: type[NotSent | MaybeSent]) -> ChannelError:
        """What a refusal means for a message."""
        if status == 400 and not await self._running():
            return NotSent("Home Assistant is still starting.")
        if status in (429, 503):  # it stops, or what stands before it asks for a pause
            return NotSent("Home Assistant asks for a pause.", float(wait) if wait.isdecimal() else None)
        if status >= 500:
            return unsure(f"Home Assistant answered with status {status}.")
        where = f"bot.toml: [channels.{self.name}]"
        if status in (401, 403):
            return Undeliverable(f"Home Assistant refuses the 'token' of {where}.")
        return Undeliverable(
            f"Home Assistant refuses it with status {status}: there may be no '{path.removeprefix('/api/')}'. "
            f"Correct 'notify' in {where}."
        )

    async def _running(self) -> bool:
        """Whether all services are there."""
        async with self._http.request("GET", f"{self._base}/api/config") as answer:
            config = parsed(await answer.text())
        return not isinstance(config, dict) or config.get("state", "RUNNING") == "RUNNING"


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_address(url: str) -> bool:
    try:
        found = urlsplit(url)
        return found.scheme in ("http", "https") and bool(found.hostname)
    except ValueError:
        return False
