"""Telegram, through its Bot API and python-telegram-bot: long polling, or a webhook.

https://core.telegram.org/bots/api
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

from aiohttp import web
from telegram import Bot
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, TelegramError
from telegram.request import RequestData

from roost.channels.telegram_entities import Json
from roost.channels.telegram_http import READ, Http, Missing, Plain, TooFast, Unreached
from roost.channels.telegram_replies import MB, Call, Values, chat_id, target, write, write_edit
from roost.channels.telegram_updates import read
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive, Route
from roost.dialects import HTML_SUBSET
from roost.durable import save
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.pauses import pauses
from roost.values import Attachment, Event, Message, Place, Reply, Sent

log = logging.getLogger(__name__)

MESSAGES = ("message", "edited_message", "channel_post", "edited_channel_post")
ALLOWED = (*MESSAGES, "callback_query", "message_reaction", "my_chat_member")
POLL = 30  # seconds
WATCH = 60.0  # seconds between two looks at the webhook
PLAIN = {"chat_id", "message_thread_id", "direct_messages_topic_id", "text", "parse_mode", "link_preview_options"}
MAX_COMMANDS, MAX_BEGUN = 100, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TelegramConfig(ChannelConfig):
    """The keys of `[channels.telegram]`."""

    token: str = key(help="The bot's token. Get one from @BotFather.", secret=True)
    mode: Literal["polling", "webhook"] = key("polling", help="webhook needs a public address, polling nothing.")
    public_url: str = key("", help="For a webhook: the https address of the web face, that of [web] when absent.")
    secret: str = key("", help="For a webhook: what Telegram shows each time; made up when absent.", secret=True)
    base_url: str = key("https://api.telegram.org", help="The Bot API server, if you run your own.")
    max_media: int = key(20 * MB, help="The largest file to fetch, in bytes. Telegram's server stops at 20 MB.")
    menu: bool = key(True, help="Whether Telegram shows the bot's commands in its menu.")


class Telegram(Channel):
    """One bot account."""

    Config = TelegramConfig
    silence = 180.0  # a poll ends after 30 seconds, and the webhook is looked at every minute
    limits = Limits(
        # Telegram counts after taking the tags out, so this is stricter than it asks for.
        max_text=4096,
        unit="utf16",
        markup=HTML_SUBSET,
        media=dict.fromkeys(("image", "audio", "voice", "video", "file"), 50 * MB),
        buttons=100,
        quotes=True,
        threads=True,
        stream=1.0,
        # https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
        rate=30.0,
        place_rate=1.0,
        group_rate=0.25,  # with the burst, 20 in any minute
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        if config.mode == "webhook" and not (config.public_url or host.address()):
            raise ConfigError(
                f"bot.toml: [channels.{name}] has mode = 'webhook' and no 'public_url' under which Telegram finds it, "
                "nor has [web]."
            )
        base = config.base_url.rstrip("/")
        self._http = Http(base)
        self._bot = Bot(
            # Without one, python-telegram-bot raises an error of its own instead of asking Telegram.
            config.token.strip() or "missing",
            base_url=f"{base}/bot",
            base_file_url=f"{base}/file/bot",
            request=self._http,
            get_updates_request=self._http,
        )
        self._values = Values(host.home / "buttons.json")
        self._receive: Receive | None = None
        self._offset = 0
        self._answers = False
        self._begun: dict[str, list[str]] = {}
        self._asides: set[asyncio.Task[None]] = set()

    # Listening

    async def run(self, receive: Receive) -> None:
        self._offset, self._answers = 0, False
        try:
            await self._persist(self._log_in)
            if self.config.mode == "webhook":
                self._receive = receive
                await self._watch()
            while True:
                await self._persist(partial(self._take_updates, receive))
        finally:
            self._receive = None
            for task in self._asides:
                task.cancel()
            await asyncio.gather(*self._asides, return_exceptions=True)
            await self._bot.shutdown()

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until it succeeds, with growing pauses."""
        for pause in pauses():
            try:
                await step()
            except InvalidToken as error:
                raise self._explain(error) from None
            except TelegramError as error:
                self._answers = False
                self.host.trouble(str(self._explain(error)))
                log.debug("%s: %s", self.name, error)
                await asyncio.sleep(error.seconds or pause if isinstance(error, TooFast) else pause)
            else:
                return

    async def _log_in(self) -> None:
        await self._bot.initialize()
        if self.config.mode == "polling":
            await self._leave_webhook()
        if self.config.menu:
            await self._offer_commands()

    async def _leave_webhook(self) -> None:
        with contextlib.suppress(Missing):
            if (await self._bot.get_webhook_info()).url:
                await self._bot.delete_webhook()

    async def _offer_commands(self) -> None:
        known = [(name, help) for name, help in self.host.commands() if re.fullmatch(r"[a-z0-9_]{1,32}", name)]
        menu = [(name, help[:256] or name) for name, help in known[:MAX_COMMANDS]]
        try:
            await self._bot.set_my_commands(menu)
        except InvalidToken:
            raise
        except TelegramError as error:
            log.warning("%s: Telegram did not take the menu of commands: %s", self.name, error)

    async def _take_updates(self, receive: Receive) -> None:
        """Take one batch. Asking for the next one acknowledges it, so by then all of it has been received."""
        # Nobody knows whether Telegram is there before it answers, so the first question does not wait for updates.
        wait = POLL if self._answers else 0
        asked = Plain({"offset": self._offset, "timeout": wait, "allowed_updates": ALLOWED})
        address = f"{self._bot.base_url}/getUpdates"
        answer = await self._http.post(address, cast(RequestData, asked), read_timeout=wait + READ)
        updates = cast(list[Any], answer)
        self._answers = True
        self.host.pulse()
        # Tasks begin in the order in which they are made, and that is the order the core keeps.
        accepted = (self._accept(receive, update) for update in updates)
        for failed in await asyncio.gather(*accepted, return_exceptions=True):
            if failed is not None:
                raise failed
        given = [update.get("update_id") for update in updates if isinstance(update, dict)]
        numbers = [number for number in given if isinstance(number, int)]
        if updates and not numbers:
            raise TelegramError("The updates have no numbers.")
        self._offset = max(numbers, default=self._offset - 1) + 1

    async def _accept(self, receive: Receive, update: Any) -> None:
        """Hand one update to the core. One that makes no sense is left out, or it would come again for ever."""
        number = update.get("update_id") if isinstance(update, dict) else None
        try:
            found = self._read(update)
        except Exception as error:
            log.warning("%s: Update %s cannot be read (%s). I leave it out.", self.name, number, type(error).__name__)
            return
        if found is not None:
            await receive(found)

    def _read(self, update: Json) -> Message | Event | None:
        found = read(update, self.name, self._bot.bot)
        if isinstance(found, Message) and "callback_query" in update:
            found = replace(found, text=self._pressed(update["callback_query"]))
            task = asyncio.create_task(self._confirm(update["callback_query"]["id"]))
            self._asides.add(task)
            task.add_done_callback(self._asides.discard)
        return found

    def _pressed(self, press: Json) -> str:
        """The value behind a button; its label, should the value be lost."""
        if not press["data"].startswith("~"):
            return str(press["data"])
        rows = press["message"].get("reply_markup", {}).get("inline_keyboard", [])
        labels = [one["text"] for row in rows for one in row if one.get("callback_data") == press["data"]]
        return self._values.find(press["data"]) or next(iter(labels), "")

    async def _confirm(self, press: str) -> None:
        """Stop the clock that a pressed button shows. Failing changes nothing that matters."""
        with contextlib.suppress(TelegramError):
            await self._bot.answer_callback_query(press)

    # The webhook

    def routes(self) -> Sequence[Route]:
        if self.config.mode == "polling":
            return ()
        return (Route("POST", f"/channels/{self.name}", self._answer, self._verify),)

    def _verify(self, request: web.Request, body: bytes) -> bool:
        shown = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
        return hmac.compare_digest(shown.encode(errors="replace"), self._secret().encode())

    def _secret(self) -> str:
        """The configured secret, or one that is made up once and kept. Never empty: that would let everybody in."""
        if self.config.secret:
            return str(self.config.secret)
        path = self.host.home / "secret"
        kept = path.read_text(encoding="utf-8") if path.exists() else ""
        if not kept:
            kept = secrets.token_urlsafe(32)
            save(path, kept)
        return kept

    async def _answer(self, request: web.Request) -> web.Response:
        receive = self._receive
        if receive is None:
            raise web.HTTPServiceUnavailable(text="The channel is not listening.")
        self.host.pulse()
        try:
            update = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise web.HTTPBadRequest(text="This is not JSON.") from None
        await self._accept(receive, update)
        return web.Response()

    async def _watch(self) -> None:
        """Set the webhook, and again when somebody takes it away. It outlives the channel: updates wait there."""
        await self._persist(self._set_webhook)
        while True:
            await asyncio.sleep(WATCH)
            await self._persist(self._check_webhook)

    @property
    def _address(self) -> str:
        public = self.config.public_url or self.host.address()
        return f"{public.rstrip('/')}/channels/{self.name}"

    async def _set_webhook(self) -> None:
        try:
            await self._bot.set_webhook(self._address, secret_token=self._secret(), allowed_updates=ALLOWED)
        except BadRequest as error:
            if "resolve" in str(error):
                raise  # A name that is not known yet may be in a minute.
            raise LoginFailed(
                f"Telegram does not take the webhook '{self._address}': {error}. Correct 'public_url' or 'secret' in "
                f'bot.toml: [channels.{self.name}], or set mode = "polling".'
            ) from None
        self.host.pulse()

    async def _check_webhook(self) -> None:
        info = await self._bot.get_webhook_info()
        self.host.pulse()
        if info.url != self._address:
            log.warning("%s: Somebody changed the webhook of this bot. I set it again.", self.name)
            await self._set_webhook()

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        calls = write(place, reply)
        self._values.keep(reply.buttons)
        ids = self._begun.pop(reply.key, []) if reply.key else []
        for call in calls[len(ids) :]:
            try:
                with self._explained():
                    place, number = await self._deliver(place, call)
            except ChannelError as error:
                raise self._halfway(reply, ids, error) from None
            ids.append(number)
        return Sent(place, tuple(ids))

    def _halfway(self, reply: Reply, ids: list[str], error: ChannelError) -> ChannelError:
        """Remember which messages of a reply are out, so that sending it again sends the others only."""
        if ids and not reply.key:
            return MaybeSent(f"{error} Some of its messages are out already.") if isinstance(error, NotSent) else error
        if ids:
            self._begun = dict([*self._begun.items(), (reply.key, ids)][-MAX_BEGUN:])
        return error

    async def _deliver(self, place: Place, call: Call) -> tuple[Place, str]:
        """Make a call, or what it says to do when Telegram refuses it. The place is another one if the chat moved."""
        try:
            number = await self._call(call)
        except ChatMigrated as moved:
            place = replace(place, chat=str(moved.new_chat_id))
            return await self._deliver(place, call.having(chat_id=moved.new_chat_id))
        except BadRequest as error:
            other = call.after(error)
            if other is None:
                raise
            return await self._deliver(place, other)
        return place, number

    async def _call(self, call: Call) -> str:
        """Have a call made, and return the message's id. A text without more, which most are, takes the short way."""
        if call.method == "send_message" and call.parameters.keys() <= PLAIN:
            body = cast(RequestData, Plain(call.parameters))
            sent = await self._http.post(f"{self._bot.base_url}/sendMessage", body)
            return str(cast(Json, sent)["message_id"])
        message = await getattr(self._bot, call.method)(**call.parameters)
        return str(message.message_id)

    async def edit(self, sent: Sent, reply: Reply) -> None:
        call = write_edit(sent, reply)
        self._values.keep(reply.buttons)
        with self._explained():
            try:
                await self._deliver(sent.place, call)
            except BadRequest as error:
                if "message is not modified" not in str(error).lower():
                    raise
        if reply.attachments:
            # A message cannot get a file by being edited, so the files follow it.
            await self.send(sent.place, replace(reply, text="", buttons=(), quote=""))

    async def delete(self, sent: Sent) -> None:
        with self._explained():
            for number in sent.ids:
                try:
                    await self._bot.delete_message(chat_id(sent.place), int(number))
                except BadRequest as error:
                    if "not found" not in str(error):
                        raise

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        if not message_id.isdecimal():
            raise Undeliverable("A pressed button cannot be reacted to.")
        with self._explained():
            # Telegram's own list has its emoji without the variation selector that keyboards add.
            await self._bot.set_message_reaction(chat_id(place), int(message_id), emoji.replace("\ufe0f", "") or ())

    async def type(self, place: Place) -> None:
        with self._explained():
            # In a channel's direct messages Telegram shows no such sign for one of them alone.
            if "direct_messages_topic_id" not in (where := target(place)):
                await self._bot.send_chat_action(action="typing", **where)

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Raises ValueError when the file is larger than `max_media`."""
        size = 0
        with self._explained():
            file = await self._bot.get_file(attachment.ref)
            async for chunk in self._http.download(file.file_path or ""):
                size += len(chunk)
                if size > self.config.max_media:
                    raise ValueError(f"'{attachment.name}' has more than {self.config.max_media} bytes.")
                yield chunk

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TelegramError as error:
            raise self._explain(error) from None

    def _explain(self, error: TelegramError) -> ChannelError:
        """What an error means for a message. An answer of 500 or 502 does not tell whether it went through."""
        # What python-telegram-bot adds is the page of a proxy, bytes and all.
        said = str(error).partition(". Parsing the server response")[0][:200].rstrip(".")
        if isinstance(error, InvalidToken):
            return LoginFailed(
                f"Telegram refuses the 'token' of bot.toml: [channels.{self.name}]. Copy the bot's own from @BotFather."
            )
        if isinstance(error, Conflict):
            return NotSent(f"Another program uses this bot's token ({said}). Stop it, or make another bot.")
        if isinstance(error, TooFast):
            return NotSent("Telegram asks for a pause.", error.seconds)
        if isinstance(error, Unreached):
            return NotSent(f"Telegram is out of reach: {said}.")
        if isinstance(error, BadRequest | Forbidden | ChatMigrated):
            return Undeliverable(f"Telegram refuses it: {said}.")
        return MaybeSent(f"Telegram's answer got lost: {said}.")
