"""Delta Chat: encrypted chats over e-mail servers, through the project's own program, deltachat-rpc-server.

The program keeps keys, chats and what is still to be sent in a database in the channel's folder. A message counts as
fresh there until it is marked as seen, which happens once Roost has it: what was not accepted comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from roost.channels.deltachat_account import DeltaChatConfig, check, log_in, refusal, set_up
from roost.channels.deltachat_core import Core, Gone, Refused, account
from roost.channels.deltachat_messages import (
    CHATS,
    FRESH,
    LAST_SPECIAL,
    SELF,
    Around,
    Names,
    Object,
    edited,
    pieces,
    read,
    read_change,
    write,
)
from roost.contracts import Channel, Host, Limits, Receive
from roost.dialects import PLAIN, render
from roost.durable import save
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.media import CHUNK
from roost.pauses import pauses
from roost.values import Attachment, Event, Message, Place, PlaceKind, Reply, Sent

log = logging.getLogger(__name__)

# https://github.com/chatmail/core/blob/main/src/chat.rs: what it recommends, so that a mail stays below 25 MB.
MOST = 18 * 1024 * 1024
KNOWN = 5000  # messages whose deletion is told
REFUSALS = 3  # logins in a row: of an account that has worked, the first may have another cause
# What the program does while it hears from the servers; it also says a lot while it does not.
SIGNS = {"ImapConnected", "ImapInboxIdle", "SmtpConnected", "SmtpMessageSent", "IncomingMsg", "IncomingMsgBunch"}
CONNECTING = 2000  # get_connectivity: from 1000, not connected, to 4000
TRANSIENT = re.compile(r"database|sqlite|disk|no space|locked|i/o error", re.IGNORECASE)


class DeltaChat(Channel):
    """One account, and the program that runs it."""

    Config = DeltaChatConfig
    # Chatmail servers take 60 to 80 mails a minute; the program holds back what they will not have yet.
    limits = Limits(
        max_text=3800,
        media=dict.fromkeys(("image", "audio", "voice", "video", "sticker", "file"), MOST),
        urls=False,
        quotes=True,
        rate=1.0,
    )
    # How mail servers are found by an address, unless they are named: Mozilla's list is asked last.
    hosts = ("{address}", "*.{address}", "{account}", "autoconfig.thunderbird.net")
    silence = 900.0  # it asks its server anew every 5 minutes

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        check(config, name)
        self._folder = (host.home / "accounts").resolve()
        self._bot = config.name or host.bot_name
        self._core: Core | None = None
        self._account = 0
        self._names = Names(name, "")
        self._kinds: dict[int, PlaceKind] = {}
        self._known: OrderedDict[int, tuple[Place, float]] = OrderedDict()
        self._refusals = 0
        self._up = self._nudged = False

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            began = time.monotonic()
            try:
                async with Core(self._folder) as core:
                    await self._serve(core, receive)
            except Gone as error:
                log.warning("%s: %s It is started again.", self.name, error)
            finally:
                self._core = None
            if time.monotonic() - began > 60:
                waits = pauses()
            await asyncio.sleep(next(waits))

    async def _serve(self, core: Core, receive: Receive) -> None:
        self._account = await account(core)
        self._names = Names(self.name, await set_up(core, self._account, self.config, self._bot))
        try:
            await log_in(core, self._account, self.config)
        except Refused as error:
            raise refusal(str(error), self.config, self.name) from None
        self._core, self._up = core, False
        await core.call("start_io", self._account)
        await self._catch_up(core, receive)
        while True:
            for event in await core.call("get_next_event_batch"):
                await self._happened(core, event["event"], receive)

    async def _invite(self, core: Core) -> None:
        """Offer the link, and the same as a picture to be scanned, by which people get to know the bot."""
        link = await core.call("get_chat_securejoin_qr_code", self._account, None)
        there = self.host.home / "invite.txt"
        await asyncio.to_thread(save, there, link + "\n")
        await asyncio.to_thread(save, there.with_suffix(".svg"), await core.call("create_qr_svg", link))
        log.info(
            "%s: Who opens this link in Delta Chat can write to the bot: %s (also in '%s')", self.name, link, there
        )

    async def _catch_up(self, core: Core, receive: Receive) -> None:
        for id in sorted(await core.call("get_fresh_msgs", self._account)):
            await self._take(core, id, receive)

    async def _happened(self, core: Core, event: Object, receive: Receive) -> None:
        kind = event["kind"]
        log.debug("%s: %s", self.name, event)
        if kind == "ImapInboxIdle" and not self._up:
            # What comes to a new account before this moment is passed over, so nobody is invited earlier.
            await self._invite(core)
            self._up = True
        if kind in SIGNS and self._up:
            self.host.pulse()
        if kind == "ConnectivityChanged" and await core.call("get_connectivity", self._account) < CONNECTING:
            self.host.trouble("The mail server is out of reach.")
        if kind == "ImapConnected":
            self._refusals = 0
        elif kind in ("IncomingMsg", "MsgsChanged") and event["msgId"]:
            await self._take(core, event["msgId"], receive)
        elif kind == "ReactionsChanged" and event["contactId"] > LAST_SPECIAL:
            await self._reacted(core, event, receive)
        elif kind == "MsgDeleted":
            await self._deleted(event["msgId"], receive)
        elif kind == "EventChannelOverflow":
            await self._catch_up(core, receive)
        elif kind == "MsgFailed":
            await self._failed(core, event, receive)
        elif kind == "Warning":
            await self._warned(core, event["msg"])
        elif kind == "SmtpMessageSent":
            self._nudged = False

    async def _failed(self, core: Core, event: Object, receive: Receive) -> None:
        """Have a message sent again that was given up after a few cuts; hand on that a server refuses one."""
        id = event["msgId"]
        try:
            why = (await core.call("get_message", self._account, id)).get("error") or ""
            if "retries" in why:
                await core.call("resend_messages", self._account, [id])
                return
        except Refused as error:
            why = str(error)
        await receive(Event("undelivered", self._names.place(event["chatId"]), message_id=str(id), value=why))

    async def _warned(self, core: Core, words: str) -> None:
        if "send_smtp_messages failed" in words and not self._nudged:
            # By itself it waits for half a minute, also when only an old connection was cut. Tries are counted.
            self._nudged = True
            await core.call("maybe_network")
        if "IMAP failed to login" not in words:
            return
        said = refusal(words.partition(": ")[2], self.config, self.name)
        self._refusals += isinstance(said, LoginFailed)
        if self._refusals >= REFUSALS:
            raise said

    async def _take(self, core: Core, id: int, receive: Receive) -> None:
        """Read a message that is new, or has changed."""
        try:
            found = await core.call("get_message", self._account, id)
            message = await self._read(core, found)
        except (Refused, KeyError, TypeError, ValueError) as error:
            log.debug("%s: message %d cannot be read: %r", self.name, id, error)
            return
        if message is None:
            return
        if isinstance(message, Message):
            self._know(id, message)
        await receive(message)
        if found["state"] == FRESH:
            await core.call("markseen_msgs", self._account, [id])

    async def _read(self, core: Core, found: Object) -> Message | Event | None:
        if found["isInfo"]:
            return await self._read_change(core, found)
        if found["fromId"] <= LAST_SPECIAL:
            return None
        fresh = found["state"] == FRESH
        too_large = found["downloadState"] == "Available" and found["fileBytes"] > self.config.max_size
        if not (fresh or found["isEdited"]) or (
            found["downloadState"] in ("Available", "InProgress") and not too_large
        ):
            return None
        message = read(found, self._names, self._bot, await self._around(core, found), self._folder, too_large)
        return message if fresh else edited(message)

    async def _read_change(self, core: Core, found: Object) -> Event | None:
        """Who came or went, once."""
        if found["id"] in self._known or not found.get("infoContactId"):
            return None
        who = await core.call("get_contact", self._account, found["infoContactId"])
        change = read_change(found, self._names, who)
        if change is not None:
            self._known[found["id"]] = change.place, 0.0
        return change

    async def _around(self, core: Core, found: Object) -> Around:
        kind, location, quotes_bot = await self._kind(core, found["chatId"]), None, False
        quote = found.get("quote") or {}
        if kind == "group" and "messageId" in quote:
            with contextlib.suppress(Refused):
                quotes_bot = (await core.call("get_message", self._account, quote["messageId"]))["fromId"] == SELF
        if found["hasLocation"]:
            around = found["chatId"], found["fromId"], found["timestamp"] - 60, found["timestamp"] + 60
            for one in await core.call("get_locations", self._account, *around):
                if one["msgId"] == found["id"]:
                    location = one["latitude"], one["longitude"]
        return Around(kind, quotes_bot, location)

    async def _kind(self, core: Core, chat: int) -> PlaceKind:
        if chat not in self._kinds:
            told = await core.call("get_basic_chat_info", self._account, chat)
            self._kinds[chat] = CHATS.get(told["chatType"], "broadcast")
        return self._kinds[chat]

    def _know(self, id: int, message: Message) -> None:
        self._known[id] = message.place, message.at
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    async def _reacted(self, core: Core, event: Object, receive: Receive) -> None:
        try:
            who = await core.call("get_contact", self._account, event["contactId"])
            now: Mapping[str, Any] = await core.call("get_message_reactions", self._account, event["msgId"]) or {}
            place = self._names.place(event["chatId"], await self._kind(core, event["chatId"]))
        except Refused as error:
            log.debug("%s: a reaction cannot be read: %s", self.name, error)
            return
        value = " ".join(now.get("reactionsByContact", {}).get(str(event["contactId"]), []))
        person = self._names.person(who)
        await receive(Event("reacted", place, person, time.time(), str(event["msgId"]), value, raw=event))

    async def _deleted(self, id: int, receive: Receive) -> None:
        """A person took a message back, or it was to vanish; what the program forgets for its age is no event."""
        place, at = self._known.pop(id, (None, 0.0))
        expired = self.config.keep_days and time.time() - at > self.config.keep_days * 86_400
        if place is not None and not expired:
            await receive(Event("deleted", place, None, time.time(), str(id)))

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        path = (self._folder / attachment.ref).resolve()
        if not (path.is_relative_to(self._folder) and "-blobs" in path.parent.name):
            raise ValueError(f"'{attachment.ref[:80]}' is the name of no file that was received.")
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise ValueError("The file is not kept any more.") from None

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        chat = self._chat(place)
        payloads = write(reply, await self._quotable(reply.quote))
        folder = self.host.home / "outgoing" / uuid.uuid4().hex
        sent: list[str] = []
        try:
            await asyncio.to_thread(lay_out, folder, payloads, reply)
            for payload in payloads:
                sent.append(str(await self._ask("send_msg", chat, payload)))  # noqa: PERF401
        except (NotSent, Undeliverable) as error:
            if sent:
                raise MaybeSent(f"Only a part was sent: {error}") from None
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return Sent(place, tuple(sent))

    async def _quotable(self, quote: str) -> int | None:
        """The number of a message that is still there to be quoted."""
        if not quote.isdecimal():
            return None
        return next(iter(await self._ask("get_existing_msg_ids", [int(quote)])), None)

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self._chat(sent.place)
        texts = pieces(render(reply.text, PLAIN))
        ids = [int(id) for id in sent.ids]
        if len(texts) > len(ids):
            texts[len(ids) - 1 :] = ["\n".join(texts[len(ids) - 1 :])]
        for id, text in zip(ids, texts, strict=False):
            await self._ask("send_edit_request", id, text)
        if ids[len(texts) :]:
            await self._ask("delete_messages_for_all", ids[len(texts) :])

    async def delete(self, sent: Sent) -> None:
        self._chat(sent.place)
        if there := await self._ask("get_existing_msg_ids", [int(id) for id in sent.ids]):
            await self._ask("delete_messages_for_all", there)

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        self._chat(place)
        await self._ask("send_reaction", int(message_id), [emoji] if emoji else [])

    def _chat(self, place: Place) -> int:
        if self._core is None:
            raise NotSent("Delta Chat is not up.")
        number = self._names.number(place)
        if number is None:
            raise Undeliverable(f"'{place}' is no chat of this account's database, which has been made anew.")
        return number

    async def _ask(self, method: str, *params: Any) -> Any:
        """Have something done. The program's database has it when this returns: it goes out, some time."""
        if self._core is None:
            raise NotSent("Delta Chat is not up.")
        try:
            return await self._core.call(method, self._account, *params)
        except Gone as error:
            raise (MaybeSent if error.asked else NotSent)(str(error)) from None
        except Refused as error:
            said = " ".join(str(error).split())
            raise (NotSent if TRANSIENT.search(said) else Undeliverable)(f"Delta Chat refuses: {said}") from None


def lay_out(folder: Path, payloads: list[dict[str, Any]], reply: Reply) -> None:
    """Put the files where the program can read them, and tell it where."""
    contents = [one.data for one in reply.attachments if one.data is not None]
    for number, (payload, content) in enumerate(zip(payloads[len(payloads) - len(contents) :], contents, strict=True)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / str(number)
        path.write_bytes(content)
        payload["file"] = str(path.resolve())
