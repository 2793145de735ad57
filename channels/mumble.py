"""Mumble: what is written beside the voices, to the bot and in a channel."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from html import escape, unescape
from typing import Any
from urllib.parse import unquote

from roost.channels.mumble_link import ANSWER, PING, Link, Room, User
from roost.channels.mumble_wire import Fields, Type
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import HTML_CHAT, PLAIN, render
from roost.errors import LoginFailed, NotSent, Undeliverable
from roost.hypertext import to_markdown
from roost.keys import key
from roost.media import Media
from roost.pauses import pauses
from roost.reach import why
from roost.values import Attachment, Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

# Clients put pictures into the text, their base64 percent-encoded.
IMAGE = re.compile(r"<img\b[^<>]*>", re.IGNORECASE)
SOURCE = re.compile(r"""\bsrc\s*=\s*["']data:(image/[\w.+-]{1,40});base64,([^"'<>]*)["']""", re.IGNORECASE)
MARKUP = re.compile(r"<[a-zA-Z/!]")
FRAME = 200  # characters around a picture, at most
LEAST = 200  # characters that a server's limit must leave, or it is not believed


@dataclass(frozen=True, slots=True, kw_only=True)
class MumbleConfig(ChannelConfig):
    """The keys of `[channels.mumble]`."""

    host: str = key(help="The server's host name or address.")
    port: int = key(64738, help="The server's port.", least=1, most=65535)
    username: str = key("Roost", help="The name that the bot is seen by.", ask=True)
    password: str = key(
        "", help="The server's password, or the registered user's, where there is one.", secret=True, ask=True
    )
    channel: str = key("", help="The channel to sit in: its name, or its path such as 'Games/Chess'.", ask=True)
    verify: bool = key(False, help="Whether an authority must vouch for the server; else its first certificate counts.")
    fingerprint: str = key("", help="The SHA-256 of the server's certificate, where the first one seen is not trusted.")


def room_for(characters: int) -> int:
    """How large a picture may be that becomes a text of so many characters."""
    return max(0, (characters - FRAME) * 3 // 4)


class Mumble(Channel):
    """One user on one server."""

    Config = MumbleConfig
    silence = PING + ANSWER
    # What a server takes unless it is told otherwise: textmessagelength, imagemessagelength, messagelimit (one a
    # second). It drops what is faster without a word, and forgets parts of seconds, so a little slower is needed.
    # https://github.com/mumble-voip/mumble/blob/master/auxiliary_files/mumble-server.ini
    limits = Limits(max_text=5000, unit="utf16", markup=HTML_CHAT, media={"image": room_for(131_072)}, rate=0.8)

    @staticmethod
    def unproven(id: str, config: MumbleConfig) -> str:
        """Who is registered, or has a certificate, has an id that is theirs; see `roost.proof`."""
        return "it is a name without a certificate, which anybody can take" if id.startswith("~") else ""

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._media = Media(host.home / "media")
        self._link: Link | None = None
        self._came_up = False

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            link = Link(self.name, self.config, self.host.home)
            try:
                await self._listen(link, receive)
            except (OSError, EOFError, TimeoutError, ValueError, NotSent) as error:
                self.host.trouble(f"The Mumble server is out of reach: {why(error)}.")
            finally:
                self._link = None
                link.close()
            if self._came_up:
                self._came_up, waits = False, pauses()
            await asyncio.sleep(next(waits))

    async def _listen(self, link: Link, receive: Receive) -> None:
        reader = await link.open()
        pinging = asyncio.create_task(link.ping())
        try:
            while True:
                kind, fields = await link.next(reader)
                if kind == Type.SERVER_CONFIG:
                    self._keep_to(link)
                elif kind == Type.SERVER_SYNC:
                    self._settle(link)
                elif kind == Type.TEXT_MESSAGE:
                    await self._take(fields, link, receive)
                if self._link is not None:
                    self.host.pulse()
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    def _keep_to(self, link: Link) -> None:
        """The server's own limits, where they are lower ones."""
        usual = type(self).limits
        longest = max(LEAST, min(link.longest or usual.max_text, usual.max_text))
        image = min(room_for(link.largest), usual.media["image"]) if link.largest else usual.media["image"]
        self.limits = replace(usual, max_text=longest, media={"image": image} if link.html and image else {})

    def _settle(self, link: Link) -> None:
        """All users and channels are known: go to the channel."""
        if self.config.channel:
            room = find(link.rooms, self.config.channel)
            if room is None:
                raise LoginFailed(
                    f"The Mumble server has no channel '{self.config.channel}'. "
                    f"Correct 'channel' in bot.toml: [channels.{self.name}]."
                )
            # A refusal comes before the answer to a ping.
            link.say(Type.USER_STATE, (1, link.session), (5, room.id))
            link.say(Type.PING, (1, 0))
        self._link, self._came_up = link, True

    async def _take(self, fields: Fields, link: Link, receive: Receive) -> None:
        try:
            message = read(fields, link.users, link.session, self.name, self._media)
        except ValueError as error:
            log.warning("%s: A message cannot be read: %s", self.name, error)
            return
        if message is not None:
            await receive(message)

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._media.read(attachment.ref)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        link = self._link
        if link is None:
            raise NotSent("The Mumble server is out of reach.")
        texts = [render(reply.text, HTML_CHAT) if link.html else plain(reply.text)] if reply.text else []
        where = target(place, link)
        said: list[list[tuple[int, int | str | bytes]]] = [
            [where, (5, text)] for text in (*texts, *map(written, reply.attachments))
        ]
        await link.confirm(*((Type.TEXT_MESSAGE, fields) for fields in said))
        return Sent(place, (reply.key or uuid.uuid4().hex,))


def find(rooms: Mapping[int, Room], wanted: str) -> Room | None:
    """The channel of this path, or else name; upper and lower case are the same where no other fits."""
    for fold in (str, str.casefold):
        for called in (path, lambda rooms, room: room.name):
            for room in sorted(rooms.values(), key=lambda room: room.id):
                if fold(called(rooms, room)) == fold(wanted.strip("/")):
                    return room
    return None


def path(rooms: Mapping[int, Room], room: Room) -> str:
    """The names down to a channel, without the server's root."""
    names: list[str] = []
    seen: set[int] = set()
    at: Room | None = room
    while at is not None and at.id and at.id not in seen:
        seen.add(at.id)
        names.append(at.name)
        at = rooms.get(at.parent) if at.parent is not None else None
    return "/".join(reversed(names))


def target(place: Place, link: Link) -> tuple[int, int]:
    """The field that says where a text goes. Raises Undeliverable for who is not there: Mumble keeps nothing."""
    if place.chat.startswith("c") and place.chat[1:].isdecimal():
        if int(place.chat[1:]) in link.rooms:
            return 3, int(place.chat[1:])
        raise Undeliverable(f"The Mumble server has no channel '{place.chat[1:]}' any more.")
    for user in link.users.values():
        if user.id == place.chat:
            return 2, user.session
    raise Undeliverable(f"'{place.chat}' is not on the Mumble server now, and it keeps no messages.")


def written(one: Attachment) -> str:
    """A picture in a text; the server leaves its content out when it counts, if the text is XML."""
    if one.data is None:
        return f'<a href="{escape(one.url)}">{escape(one.name or one.url)}</a>'
    return f'<img src="data:{escape(one.mime)};base64,{base64.b64encode(one.data).decode()}"/>'


def plain(text: str) -> str:
    """For a server without HTML, which reads what has a < in it as XML."""
    return render(text, PLAIN).replace("<", "＜")


def read(fields: Fields, users: Mapping[int, User], session: int, channel: str, media: Media) -> Message | None:
    """A text that somebody else said; None for what the server says and for our own. Raises ValueError."""
    sender, me = users.get(fields.number(1)), users.get(session, User(session))
    if 1 not in fields or sender is None or sender.session == session:
        return None
    written, attachments = pictures(fields.text(5), media)
    text = shown(written)
    if not (text.strip() or attachments):
        raise ValueError("it has no text.")
    places = [*fields.numbers(3), *fields.numbers(4)]
    direct = not places
    place = Place(channel, sender.id) if direct else Place(channel, f"c{places[0]}", kind="group")
    text, addressed = (text, True) if direct else spoken_to(text, me.name)
    return Message(
        id=uuid.uuid4().hex,
        place=place,
        sender=Person(channel, sender.id, sender.name),
        text=text,
        at=time.time(),
        addressed=addressed,
        attachments=attachments,
    )


def pictures(text: str, media: Media) -> tuple[str, tuple[Attachment, ...]]:
    """A text without its pictures, and those; one that cannot be read is `[image]`."""
    found: list[Attachment] = []

    def take(image: re.Match[str]) -> str:
        source = SOURCE.search(image.group())
        try:
            content = base64.b64decode(unquote(source[2]), validate=True) if source else b""
        except ValueError:
            content = b""
        if source is None or not content:
            return "[image]"
        name = f"image{len(found) + 1}.{source[1].partition('/')[2].lower()}"
        found.append(Attachment("image", name, source[1].lower(), len(content), ref=media.put(content)))
        return ""

    return IMAGE.sub(take, text), tuple(found)


def shown(text: str) -> str:
    """What a text says. Clients write HTML, with <br> for a new line; programs often write plain text."""
    return to_markdown(text) if MARKUP.search(text) else unescape(text)


def spoken_to(text: str, name: str) -> tuple[str, bool]:
    """A text without the bot's name before it, and whether it names the bot."""
    if not name:
        return text, False
    named = re.escape(name)
    if begins := re.match(rf"\s*(?:@{named}\b[:,]?|{named}[:,])\s*", text, re.IGNORECASE):
        return text[begins.end() :], True
    return text, re.search(rf"(?<!\w)@?{named}(?!\w)", text, re.IGNORECASE) is not None
