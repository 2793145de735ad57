"""XMPP: one account, its direct chats and its rooms. Numbers are those of https://xmpp.org/extensions/."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout

from roost.channels.xmpp_archive import Archives
from roost.channels.xmpp_files import USUAL, Uploads, fetch
from roost.channels.xmpp_read import (
    REQUEST,
    Around,
    Envelope,
    bare_of,
    entry,
    follow,
    read,
    resource_of,
    trim,
)
from roost.channels.xmpp_stream import Stream, Trouble, XmppConfig, refusal
from roost.channels.xmpp_write import Part, chat_state, correct, join, reactions, retract, write
from roost.contracts import Channel, Host, Limits, Receive
from roost.dialects import STYLING
from roost.durable import Kept
from roost.errors import ChannelError, MaybeSent, NotSent
from roost.pauses import pauses
from roost.values import Attachment, AttachmentKind, Event, Message, Place, Reply, Sent

log = logging.getLogger(__name__)

KINDS: tuple[AttachmentKind, ...] = ("image", "audio", "voice", "video", "file")
STEADY = 60.0  # seconds of being connected after which a cut counts as the first again
CARE = 30.0  # seconds between two looks at the connection and the rooms
JOIN = 30.0  # seconds that a room has to let the bot in


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on its way into the core, and the place in its archive that it moves the cursor to."""

    item: Message | Event | None
    archive: str
    archived: str
    at: float
    after: Callable[[], None] | None = None


class Xmpp(Channel):
    """One account."""

    Config = XmppConfig
    hosts = ("{jid}", "*.{jid}")
    silence = 120.0  # a quiet connection is asked for a sign of life every 30 seconds
    limits = Limits(
        # There is no limit but that of a stanza, which may be as low as 10,000 bytes (RFC 6120, section 13.12).
        max_text=8000,
        unit="bytes",
        markup=STYLING,
        media=dict.fromkeys(KINDS, USUAL),
        quotes=True,
    )

    @staticmethod
    def unproven(id: str, config: XmppConfig) -> str:
        """A seat in a room is `room@host/nick`; addresses and the room's own ids are proven. See `roost.proof`."""
        seat = "/" in id.partition("@")[2].partition("#")[0]
        return "it is a nick in a room, which anybody can take when its bearer has left" if seat else ""

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._around = Around(name, bare_of(config.jid), hosts=frozenset(map(str.lower, config.media_hosts)))
        self._archives = Archives(name, Kept(host.home / "archive.json"), self._enqueue)
        self._uploads = Uploads()
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self._stream: Stream | None = None
        self._ready = False  # the session that there is has been begun to the end
        self._entering: dict[str, asyncio.Future[str]] = {}
        self._begun: dict[str, list[str]] = {}

    # Listening

    async def run(self, receive: Receive) -> None:
        self._arrivals = asyncio.Queue()
        stream = Stream(self.config, self.name, self._on_message, self._on_presence, self._heard, self._when_safe)
        taking = asyncio.create_task(self._take(receive))
        connecting = asyncio.create_task(self._stay(stream))
        try:
            done, _ = await asyncio.wait([taking, connecting], return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            self._stream = None
            for task in (connecting, taking):
                task.cancel()
            await asyncio.gather(connecting, taking, return_exceptions=True)
            await stream.close()
            self._archives.save()

    async def _stay(self, stream: Stream) -> None:
        """Be connected, and again when that ends."""
        waits = pauses(60.0)
        while True:
            began = time.monotonic()
            try:
                await self._session(stream, await stream.connect())
            except Trouble as error:
                self.host.trouble(str(error))
            if time.monotonic() - began > STEADY:
                waits = pauses(60.0)
            await asyncio.sleep(next(waits))

    def _heard(self) -> None:
        if self._ready and self._stream is not None and self._stream.up:
            self.host.pulse()

    async def _session(self, stream: Stream, resumed: bool) -> None:
        """One connection, until it is lost."""
        lost = asyncio.create_task(stream.lost.wait())
        tending = asyncio.create_task(self._tend(stream, resumed))
        try:
            await asyncio.wait([lost, tending], return_when=asyncio.FIRST_COMPLETED)
            if tending.done() and not stream.lost.is_set():
                tending.result()
        finally:
            for task in (lost, tending):
                task.cancel()
            await asyncio.gather(lost, tending, return_exceptions=True)

    async def _tend(self, stream: Stream, resumed: bool) -> None:
        try:
            self._stream = stream
            if not resumed or not self._ready:
                await self._begin(stream)
            self.host.pulse()
            while True:
                await asyncio.sleep(CARE)
                await self._care(stream)
        except (IqError, IqTimeout) as error:
            self.host.trouble(f"The server does not answer as it should: {error}")
            stream.xmpp.abort()

    async def _begin(self, stream: Stream) -> None:
        """A new session: tell that the bot is there, read what was missed, join the rooms."""
        self._ready = False
        xmpp = stream.xmpp
        self._around.bare = bare_of(str(xmpp.boundjid))
        self._around.nicks.clear()
        self._archives.begin(self._around.bare)
        await xmpp.get_roster()
        xmpp.send_presence()
        await self._archives.catch_up(stream, self._around.bare)
        await asyncio.gather(self._uploads.find(stream), *(self._join(stream, room) for room in self._rooms()))
        most = self._uploads.most
        self.limits = replace(type(self).limits, media=dict.fromkeys(KINDS, most) if most else {})
        self._ready = True

    def _rooms(self) -> list[str]:
        return [room.lower() for room in self.config.rooms]

    async def _care(self, stream: Stream) -> None:
        """Ask the server for a sign of life, and rooms whether the bot is still in them (XEP-0410)."""
        self._archives.save()
        if await stream.ping(stream.xmpp.boundjid.domain) == "timeout":
            stream.xmpp.abort()
            return
        for room in self._rooms():
            nick = self._around.nicks.get(room)
            told = await stream.ping(f"{room}/{nick}") if nick else "not-acceptable"
            if told == "not-acceptable":
                self._around.nicks.pop(room, None)
                await self._join(stream, room)

    # Rooms

    async def _join(self, stream: Stream, room: str) -> None:
        nick = self.config.nick or self._around.bare.partition("@")[0]
        archived = await self._has_archive(stream, room)
        self._archives.open(room, archived)
        for taken in ("", "_", "__"):
            self._around.nicks[room] = nick + taken
            told = await self._enter(stream, room, archived)
            if told != "conflict":
                break
        if told not in {"", "created"}:
            self._give_up(room, told)
            return
        if told == "created":
            log.warning("%s: There was no room '%s', so I made it.", self.name, room)
            await self._open(stream, room)
        if not archived:
            # What was said last comes before the answer to this.
            await stream.ping(f"{room}/{self._around.nicks[room]}")
        await self._archives.catch_up(stream, room)

    async def _enter(self, stream: Stream, room: str, archived: bool) -> str:
        """Ask to be let in. Returns what went wrong: empty when nothing did, "created" when the room is a new one."""
        entered = self._entering[room] = asyncio.get_running_loop().create_future()
        presence = stream.xmpp.make_presence(pto=JID(f"{room}/{self._around.nicks[room]}"))
        presence.append(
            join(self.config.room_passwords.get(room, ""), None if archived else self._archives.since(room))
        )
        presence.send()
        try:
            return await asyncio.wait_for(entered, JOIN)
        except TimeoutError:
            return "no answer"
        finally:
            del self._entering[room]

    def _give_up(self, room: str, why: str) -> None:
        self._around.nicks.pop(room, None)
        self._archives.drop(room)
        log.warning("%s: The room '%s' does not let the bot in: %s. I keep trying.", self.name, room, why)

    async def _has_archive(self, stream: Stream, room: str) -> bool:
        try:
            info = await stream.xmpp.plugin["xep_0030"].get_info(jid=JID(room), cached=False, timeout=JOIN)
        except (IqError, IqTimeout):
            return True  # a room that is to be made
        return any(str(one).startswith("urn:xmpp:mam:2") for one in info["disco_info"]["features"])

    async def _open(self, stream: Stream, room: str) -> None:
        """Take the settings that a new room begins with (XEP-0045, section 10.1.2)."""
        iq = stream.xmpp.make_iq_set(ito=JID(room))
        query = Element("{http://jabber.org/protocol/muc#owner}query")
        SubElement(query, "{jabber:x:data}x", type="submit")
        iq.append(query)
        with contextlib.suppress(IqError, IqTimeout):
            await iq.send()  # type: ignore[no-untyped-call]

    # What comes in

    def _on_message(self, xml: Element) -> None:
        envelope = Envelope(xml)
        room = bare_of(envelope.sender)
        if xml.get("type") == "error":
            self._on_error(envelope)
        elif xml.find("{urn:xmpp:mam:2}result") is None:
            if envelope.room and resource_of(envelope.sender) == self._around.nicks.get(room):
                self._on_reflected(envelope)
            self._archives.put(envelope, room if envelope.room else self._around.bare)

    def _on_reflected(self, envelope: Envelope) -> None:
        """A room has sent the bot's own message to everybody."""
        id = envelope.stanza_id(envelope.bare) or envelope.given
        self._around.note_own(id, envelope.given)
        if self._stream is not None:
            self._stream.confirm(envelope.given, id, reflected=True)

    def _on_error(self, envelope: Envelope) -> None:
        error = envelope.xml.find("{jabber:client}error")
        if error is None or self._stream is None or self._stream.refuse(envelope.given, error):
            return
        place = Place(self.name, envelope.bare)
        event = Event("undelivered", place, message_id=envelope.given, value=str(refusal(error)))
        self._arrivals.put_nowait(Arrival(event, self._around.bare, "", 0.0))

    def _on_presence(self, xml: Element) -> None:
        follow(xml, self._around)
        if xml.get("type") == "subscribe" and self._stream is not None:
            self._answer_contact(self._stream, bare_of(xml.get("from", "")))
        entered = self._entering.get(bare_of(xml.get("from", "")))
        told = entry(xml)
        if entered is not None and not entered.done() and told is not None:
            entered.set_result(told)

    def _answer_contact(self, stream: Stream, person: str) -> None:
        """Somebody wants to see the bot online (RFC 6121, section 3). Who may talk to it is not decided here."""
        accept = self.config.contacts == "accept"
        for kind in ("subscribed", "subscribe") if accept else ("unsubscribed",):
            stream.xmpp.send_presence(pto=JID(person), ptype=kind)

    def _enqueue(self, envelope: Envelope, address: str) -> None:
        try:
            item = read(envelope, self._around)
        except (ValueError, IndexError, KeyError) as error:
            log.warning("%s: A message cannot be read (%s). I leave it out.", self.name, type(error).__name__)
            item = None
        archived = envelope.stanza_id(address)
        at = min(item.at if item is not None else time.time(), time.time())
        receipt = self._receipt(envelope) if isinstance(item, Message) else None
        if item is not None or archived:
            self._arrivals.put_nowait(Arrival(item, address, archived, at, receipt))

    def _receipt(self, envelope: Envelope) -> Callable[[], None] | None:
        """What tells the sender that the message is safe (XEP-0184), where they want to know."""
        id = envelope.xml.get("id", "")
        if envelope.room or envelope.archived or envelope.xml.find(REQUEST) is None or not id:
            return None

        def send() -> None:
            stream = self._stream
            if stream is not None and stream.up:
                message = stream.xmpp.make_message(mto=JID(envelope.sender), mtype="chat")
                message.append(Element("{urn:xmpp:receipts}received", id=id))
                message.send()

        return send

    def _when_safe(self, then: Callable[[], None]) -> None:
        """Do something when all that has come so far is safe; at once while the archives are being read."""
        if self._ready:
            self._arrivals.put_nowait(Arrival(None, "", "", 0.0, then))
        else:
            then()

    async def _take(self, receive: Receive) -> None:
        """Hand what comes to the core, many at once; the cursor moves only over what is safe."""
        while True:
            batch = [await self._arrivals.get()]
            while not self._arrivals.empty():
                batch.append(self._arrivals.get_nowait())
            await asyncio.gather(*(receive(one.item) for one in batch if one.item is not None))
            for one in batch:
                self._archives.move(one.archive, one.archived, one.at)
                if one.after is not None:
                    one.after()

    # Saying

    def _connected(self) -> Stream:
        if self._stream is None or not self._stream.up:
            raise NotSent(f"The channel '{self.name}' is not connected.")
        return self._stream

    async def send(self, place: Place, reply: Reply) -> Sent:
        stream = self._connected()
        parts = write(reply, self._around.texts)
        ids = self._begun.pop(reply.key, []) if reply.key else []
        for part in parts[len(ids) :]:
            try:
                ids.append(await self._send_part(stream, place, part))
            except ChannelError as error:
                raise self._halfway(reply, ids, error) from None
        return Sent(place, tuple(ids))

    def _halfway(self, reply: Reply, ids: list[str], error: ChannelError) -> ChannelError:
        """Remember which messages of a reply are out, so that sending it again sends the others only."""
        if not ids or isinstance(error, MaybeSent):
            return error
        if not reply.key:
            return MaybeSent(f"{error} Some of its messages are out already.") if isinstance(error, NotSent) else error
        self._begun[reply.key] = ids
        trim(self._begun)
        return error

    async def _send_part(self, stream: Stream, place: Place, part: Part) -> str:
        body, extra = part.body, list(part.extra)
        if part.file is not None:
            body = part.file.url or await self._uploads.put(stream, part.file)
            link = Element("{jabber:x:oob}x")
            SubElement(link, "{jabber:x:oob}url").text = body
            extra.append(link)
        return await self._deliver(stream, place, body, extra)

    async def _deliver(self, stream: Stream, place: Place, body: str, extra: Sequence[Element]) -> str:
        room = self._room(place)
        message = self._message(stream, place, str(uuid.uuid4()), body, extra)
        id = await stream.deliver(message, reflected=bool(room))
        if not room:
            self._around.note_own(id)
        self._around.texts[id] = body, self.host.bot_name
        trim(self._around.texts)
        return id

    def _message(self, stream: Stream, place: Place, id: str, body: str, extra: Sequence[Element]) -> Any:
        message = stream.xmpp.make_message(
            mto=JID(place.chat), mbody=body or None, mtype="groupchat" if self._room(place) else "chat"
        )
        message["id"] = id
        message.append(Element("{urn:xmpp:sid:0}origin-id", id=id))
        for element in extra:
            message.append(element)
        return message

    def _room(self, place: Place) -> str:
        """The room that a place is, empty for a person. Raises NotSent for a room that the bot is not in."""
        if place.chat in self._around.nicks:
            return place.chat
        if place.kind == "group" or place.chat in self._rooms():
            raise NotSent(f"The bot is not in the room '{place.chat}' now.", 1.0)
        return ""

    async def edit(self, sent: Sent, reply: Reply) -> None:
        """https://xmpp.org/extensions/xep-0308.html"""
        stream = self._connected()
        part = write(replace(reply, attachments=(), quote=""), {})[0]
        original = self._around.given.get(sent.ids[0], sent.ids[0])
        await self._deliver(stream, sent.place, part.body, [*part.extra, correct(original)])
        if reply.attachments:
            await self.send(sent.place, replace(reply, text="", quote=""))

    async def delete(self, sent: Sent) -> None:
        stream = self._connected()
        for id in sent.ids:
            await self._deliver(stream, sent.place, *retract(id))

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        stream = self._connected()
        await self._deliver(stream, place, "", reactions(message_id, emoji))

    async def type(self, place: Place) -> None:
        stream = self._connected()
        self._message(stream, place, str(uuid.uuid4()), "", chat_state("composing")).send()

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return fetch(attachment, self.config.max_media)
