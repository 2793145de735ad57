"""SMS, MMS and WhatsApp through Twilio: a signed webhook, or looking for new messages where there is no address.

https://www.twilio.com/docs/messaging/api/message-resource
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal

from aiohttp import web

from roost.channels.sms_http import ACCOUNTS, Api, Json
from roost.channels.sms_messages import WHATSAPP, Form, as_form, as_status, fields, read, signed, undelivered
from roost.channels.sms_replies import MAX_MEDIA, MAX_MEDIA_BYTES, Begun, Part, Shelf, write
from roost.channels.sms_segments import MAX_TEXT, longest
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive, Route, unsigned
from roost.durable import Kept
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.pauses import persist
from roost.values import Attachment, AttachmentKind, Place, Reply, Sent

log = logging.getLogger(__name__)

WATCH = 60.0  # seconds between two looks for what the webhook has missed
LATE = 3600.0  # seconds after which no look is taken any more at what has become of a message
OVERLAP = 600.0  # seconds that every look goes back behind the newest message: some are listed late
PAGE = "200"
MAX_BEGUN = 1000
EMPTY = '<?xml version="1.0" encoding="UTF-8"?><Response></Response>'
# https://www.twilio.com/docs/messaging/api/message-resource: 5 MB for pictures, 500 kB for other files
MEDIA: dict[AttachmentKind, int] = {
    "image": MAX_MEDIA_BYTES,
    **dict.fromkeys(("audio", "voice", "video", "file"), 500_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsConfig(ChannelConfig):
    """The keys of `[channels.sms]`."""

    account: str = key(help="The Account SID, AC and 32 digits, from the first page of Twilio's Console.")
    token: str = key(help="The Auth Token, from beside it.", secret=True)
    number: str = key("", help="The Twilio number the bot writes from, such as '+15551234567'.", ask=True)
    whatsapp: str = key("", help="The number of a WhatsApp sender at Twilio, where you have one.")
    service: str = key("", help="A Messaging Service, MG and 32 digits, that chooses the number to write from.")
    mode: Literal["polling", "webhook"] = key("polling", help="webhook needs a public address, polling nothing.")
    public_url: str = key(
        "",
        help="The https address of the web face, that of [web] when absent: for webhooks, files out and reports.",
    )
    interval: float = key(10.0, help="Seconds between two looks for new messages when polling.", least=0.05, most=60)
    segments: int = key(10, help="The most segments one SMS may take; each is paid for.", least=1, most=24)
    smart_encoding: bool = key(
        False, help="Whether Twilio may replace curly quotes, dashes and the like where that makes an SMS shorter."
    )
    max_media: int = key(16 * 1024 * 1024, help="The largest file to fetch, in bytes.")
    base_url: str = key("https://api.twilio.com", help="Twilio's API; another one for its other regions.")


class Sms(Channel):
    """One number, one WhatsApp sender or one Messaging Service, or several of these."""

    Config = SmsConfig
    forgeable = "whoever has access to a carrier can choose the number that it seems to come from"
    hosts = ("*.twilio.com", "*.twiliocdn.com")
    silence = 180.0
    limits = Limits(
        max_text=longest(10),
        # Twilio says that an emoji may count as several of its 1,600 characters: errors/21617.
        unit="utf16",
        media=MEDIA,
        files=MAX_MEDIA,
        # A long code sends one segment a second; Twilio queues what comes faster, and phones may then mix it up.
        place_rate=1.0,
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        public = (config.public_url or host.address()).rstrip("/")
        check(config, name, public)
        self._public = public
        self.limits = replace(self.limits, max_text=longest(config.segments), media=MEDIA if public else {})
        self._own = {one for one in (config.number, sender(config.whatsapp)) if one}
        self._api = Api(name, config.base_url, config.account, config.token)
        self._messages = f"{ACCOUNTS}{config.account}/Messages"
        self._kept = Kept(host.home / "cursor.json")
        self._receive: Receive | None = None
        self._seen: dict[str, float] = {}
        self._failed: dict[str, float] = {}
        self._looked = -WATCH
        self._begun: dict[str, Begun] = {}
        self._shelf = Shelf()

    # Listening

    async def run(self, receive: Receive) -> None:
        await self._api.carrier.open()
        self._receive = receive
        try:
            await persist(self._log_in, self.host)
            while True:
                await persist(partial(self._catch_up, receive), self.host)
                if time.monotonic() - self._looked >= WATCH:
                    await persist(partial(self._look_after, receive), self.host)
                await asyncio.sleep(self.config.interval if self.config.mode == "polling" else WATCH)
        finally:
            self._receive = None
            await self._api.carrier.close()

    async def _log_in(self) -> None:
        """Have Twilio look at the credentials. What was written before the very first time is none of the bot's."""
        status = await self._status()
        if status != "active":
            raise LoginFailed(
                f"Twilio says that the account of bot.toml: [channels.{self.name}] is {status}. "
                "Twilio's Console says why, and how to open it again."
            )
        if self._kept.get("begun") is None:
            self._kept.replace({"begun": int(self._api.now()), "newest": 0.0})
        self.host.pulse()

    async def _status(self) -> str:
        """What Twilio says of the account; a server that only speaks its language for messages may have none."""
        with contextlib.suppress(Undeliverable):
            return str((await self._api.get(f"{ACCOUNTS}{self.config.account}.json")).get("status") or "active")
        return "active"

    # Looking for messages

    async def _catch_up(self, receive: Receive) -> None:
        """Take what has come in since the last look. The cursor moves once all of it has been received."""
        since = max(float(self._kept.get("begun", 0)), float(self._kept.get("newest", 0)) - OVERLAP)
        rows = await self._inbound(since)
        self.host.pulse()
        ready = [row for row in rows if row.get("status") != "receiving"]
        forms = [await self._form(row) for row in ready if row["sid"] not in self._seen]
        # Tasks begin in the order in which they are made, and that is the order the core keeps.
        accepted = (self._accept(receive, form, at) for form, at in forms)
        for failed in await asyncio.gather(*accepted, return_exceptions=True):
            if failed is not None:
                raise failed
        self._move_cursor(rows, ready, since)

    async def _look_after(self, receive: Receive) -> None:
        """Look what has become of the messages sent last: Twilio tells it once, or without an address not at all."""
        since = max(float(self._kept.get("begun", 0)), self._api.now() - LATE)
        for address in [""] if self.config.service else sorted(self._own):
            async for row in self._listed("From", address, since):
                event = undelivered(as_status(row), self.name)
                if event is not None and event.message_id not in self._failed:
                    await receive(event)
                    self._failed[event.message_id] = moment(row)
        self._failed = {sid: at for sid, at in self._failed.items() if at >= since - OVERLAP}
        self._looked = time.monotonic()
        self.host.pulse()

    def _move_cursor(self, rows: Sequence[Json], ready: Collection[Json], since: float) -> None:
        """To the newest message, but not past one whose files are still on their way to Twilio."""
        waiting = [moment(row) for row in rows if row not in ready]
        newest = min(waiting, default=max(map(moment, rows), default=0.0))
        if newest > float(self._kept.get("newest", 0)):
            self._kept.put("newest", newest)
        self._seen = {sid: at for sid, at in self._seen.items() if at >= since - OVERLAP}

    async def _inbound(self, since: float) -> list[Json]:
        """The messages that came in since then, oldest first."""
        found: list[Json] = []
        # A service may have many numbers, so all of the account's are listed.
        for address in [""] if self.config.service else sorted(self._own):
            found += [row async for row in self._listed("To", address, since) if self._is_ours(row)]
        found = [row for row in reversed(found) if moment(row) >= since]
        return sorted(found, key=moment)

    def _is_ours(self, row: Json) -> bool:
        if row.get("direction") != "inbound" or not isinstance(row.get("sid"), str):
            return False
        return row.get("to") in self._own or row.get("messaging_service_sid") == (self.config.service or "-")

    async def _listed(self, side: Literal["From", "To"], address: str, since: float) -> AsyncIterator[Json]:
        """Rows of Twilio's list, newest first, page by page."""
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
        path: str | None = f"{self._messages}.json"
        query: dict[str, str] = {"DateSent>": start, "PageSize": PAGE} | ({side: address} if address else {})
        while path:
            page = await self._api.get(path, **query)
            rows = [row for row in page.get("messages") or [] if isinstance(row, dict)]
            for row in rows:
                yield row
            path, query = onward(page.get("next_page_uri")), {}
            if rows and moment(rows[-1]) < since:
                return

    async def _form(self, row: Json) -> tuple[dict[str, str], float]:
        """A listed message as a webhook would have brought it, and when it came."""
        media: list[Json] = []
        if str(row.get("num_media") or "0") != "0":
            try:
                media = (await self._api.get(f"{self._messages}/{row['sid']}/Media.json")).get("media_list") or []
            except Undeliverable:
                log.info("%s: The files of message %s are gone.", self.name, row["sid"])
        return as_form(row, media), moment(row)

    async def _accept(self, receive: Receive, form: Form, at: float) -> None:
        """Hand one message to the core. One that makes no sense is left out."""
        try:
            found = read(form, self.name, self._own, at)
            if found is not None:
                await receive(found)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("%s: A message cannot be read (%s). I leave it out.", self.name, type(error).__name__)
        self._seen[form.get("MessageSid", "")] = at

    # The webhook

    def routes(self) -> Sequence[Route]:
        path = f"/channels/{self.name}"
        found = [Route("POST", path, self._answer, self._verify)] if self.config.mode == "webhook" else []
        if self._public:
            found.append(Route("POST", f"{path}/status", self._note_status, self._verify))
            # The name of a file is its own secret.
            found.append(Route("GET", f"{path}/media/{{file}}", self._show_file, unsigned))
        return found

    def _verify(self, request: web.Request, body: bytes) -> bool:
        shown = request.headers.get("X-Twilio-Signature", "")
        return signed(self.config.token, self._public + request.raw_path, request.content_type, body, shown)

    async def _answer(self, request: web.Request) -> web.Response:
        """Take a message. TwiML without a verb answers nothing: the answer is a message of its own."""
        receive = self._receive
        if receive is None:
            # Twilio does not bring it again. It is found in the list when the channel is up.
            raise web.HTTPServiceUnavailable(text="The channel is not listening.")
        self.host.pulse()
        form = await posted(request)
        await self._accept(receive, form, self._api.now())
        return web.Response(text=EMPTY, content_type="text/xml")

    async def _note_status(self, request: web.Request) -> web.Response:
        """Hand on what Twilio could not deliver."""
        receive = self._receive
        if receive is None:
            raise web.HTTPServiceUnavailable(text="The channel is not listening.")
        self.host.pulse()
        if (event := undelivered(await posted(request), self.name)) is not None:
            await receive(event)
        return web.Response()

    async def _show_file(self, request: web.Request) -> web.Response:
        file = self._shelf.get(request.match_info["file"])
        if file is None:
            raise web.HTTPNotFound(text="This file is not here any more.")
        # As an attachment, no browser takes it for a page of the web face.
        headers = {"Content-Disposition": "attachment", "Content-Type": file.mime, "Cache-Control": "no-store"}
        return web.Response(body=file.data, headers=headers)

    # Saying

    def limits_at(self, place: Place) -> Limits:
        """WhatsApp counts no segments, and takes one file a message."""
        whatsapp = place.chat.startswith(WHATSAPP)
        return replace(self.limits, max_text=MAX_TEXT, files=1) if whatsapp else self.limits

    async def send(self, place: Place, reply: Reply) -> Sent:
        begun = self._begun.pop(reply.key, None) if reply.key else None
        if begun is None:
            begun = Begun(reply.text, write(place, reply, self.config.segments))
        begun.resume(reply.text)
        try:
            while begun.rest:
                begun.ids.append(await self._deliver(place, begun.rest[0]))
                del begun.rest[0]
        except ChannelError as error:
            raise self._halfway(reply.key, begun, error) from None
        return Sent(place, tuple(begun.ids))

    def _halfway(self, key: str, begun: Begun, error: ChannelError) -> ChannelError:
        """Remember which messages of a reply are out, so that sending it again sends the others only."""
        begun.unsure = isinstance(error, MaybeSent)
        if key and len(begun.ids) + len(begun.rest) > 1:
            self._begun = dict([*self._begun.items(), (key, begun)][-MAX_BEGUN:])
        elif begun.ids and isinstance(error, NotSent):
            return MaybeSent(f"{error} Some of its messages are out already.")
        return error

    async def _deliver(self, place: Place, part: Part) -> str:
        """Have Twilio take one message. It knows no keys, so one whose answer is lost may go out twice."""
        form = {**self._from(place), "To": place.chat, **self._content(part)}
        if self._public:
            form["StatusCallback"] = f"{self._public}/channels/{self.name}/status"
        if self.config.smart_encoding and not place.chat.startswith(WHATSAPP):
            form["SmartEncoded"] = "true"
        made = await self._api.post(f"{self._messages}.json", form)
        if made.get("status") in ("failed", "undelivered"):
            raise Undeliverable(f"Twilio could not send it: error {made.get('error_code')}.")
        if not made.get("sid"):
            raise MaybeSent("Twilio's answer does not name the message.")
        return str(made["sid"])

    def _content(self, part: Part) -> dict[str, Any]:
        urls = [one.url if one.data is None else self._shelved(one) for one in part.files]
        return ({"Body": part.text} if part.text else {}) | ({"MediaUrl": urls} if urls else {})

    def _shelved(self, file: Attachment) -> str:
        if not self._public:
            raise Undeliverable(
                "Twilio fetches files from a public address: set public_url in bot.toml: [web] or "
                f"[channels.{self.name}]."
            )
        return f"{self._public}/channels/{self.name}/media/{self._shelf.put(file)}"

    def _from(self, place: Place) -> dict[str, str]:
        """Who writes: the sender that goes with the person's address, or the service that chooses one."""
        whatsapp = place.chat.startswith(WHATSAPP)
        own = sender(self.config.whatsapp) if whatsapp else self.config.number
        if self.config.service and not (whatsapp and own):
            return {"MessagingServiceSid": self.config.service, **({"From": own} if own else {})}
        if not own:
            missing = "whatsapp" if whatsapp else "number"
            raise Undeliverable(f"bot.toml: [channels.{self.name}] has no '{missing}' to write to '{place}' from.")
        return {"From": own}

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Raises ValueError when the file is larger than `max_media`."""
        size = 0
        async for chunk in self._api.download(attachment.ref):
            size += len(chunk)
            if size > self.config.max_media:
                raise ValueError(f"'{attachment.name}' has more than {self.config.max_media} bytes.")
            yield chunk


def onward(uri: object) -> str | None:
    """Where the next page of a list is, on the server that `base_url` names whatever server the link names.

    Twilio's links are paths; servers that speak its language give whole addresses, or paths with one in front.
    """
    at = uri.find(ACCOUNTS) if isinstance(uri, str) else -1
    return str(uri)[at:] if at >= 0 else None


async def posted(request: web.Request) -> Form:
    try:
        return fields(request.content_type, await request.read())
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="This is neither a form nor JSON.") from None


def sender(number: str) -> str:
    """A WhatsApp sender as Twilio writes it, with or without its prefix given."""
    return f"{WHATSAPP}{number.removeprefix(WHATSAPP)}" if number else ""


def moment(row: Mapping[str, Any]) -> float:
    """When a listed message came, in seconds since the epoch; 0 when Twilio does not say."""
    try:
        return parsedate_to_datetime(str(row.get("date_sent") or row.get("date_created"))).timestamp()
    except ValueError:
        return 0.0


def check(config: SmsConfig, name: str, public: str) -> None:
    """Raises ConfigError for what Twilio would refuse only later, and in other words."""
    table = f"bot.toml: [channels.{name}]"
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", config.account):
        raise ConfigError(f"{table} account = '{config.account}' is no Account SID: that is AC and 32 digits.")
    if not config.token:
        raise ConfigError(f"{table} has no 'token'. Copy the Auth Token from the first page of Twilio's Console.")
    if config.service and not re.fullmatch(r"MG[0-9a-fA-F]{32}", config.service):
        raise ConfigError(f"{table} service = '{config.service}' is no Messaging Service: that is MG and 32 digits.")
    if not (config.number or config.whatsapp or config.service):
        raise ConfigError(f"{table} has nothing to write from. Set 'number', 'whatsapp' or 'service'.")
    for one in (config.number, config.whatsapp.removeprefix(WHATSAPP)):
        if one and not re.fullmatch(r"\+[1-9]\d{6,14}|\d{3,8}", one):
            raise ConfigError(f"{table}: '{one}' is no number as Twilio writes it, such as '+15551234567'.")
    if config.mode == "webhook" and not public:
        raise ConfigError(
            f"{table} has mode = 'webhook' and no 'public_url' under which Twilio finds it, nor has [web]."
        )
