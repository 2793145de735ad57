"""Tox: encrypted messages from one machine to another, without a server in between (https://tox.chat)."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import re
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from roost.channels.tox_core import KEY, Tox
from roost.channels.tox_files import File
from roost.channels.tox_link import Heard, Link, Node
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import PLAIN, render
from roost.durable import save
from roost.errors import LoginFailed, MaybeSent, NotSent
from roost.keys import key
from roost.media import Media
from roost.values import Attachment, AttachmentKind, Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

RECEIPT = 60.0  # seconds for a friend's Tox to confirm a message; it takes about one
TYPING = 8.0  # seconds that the sign is shown
ACTION = "/me "
BLANK = " \t\r\n\ufffd"  # and what was no UTF-8
MAX_FILE = 20_000_000
# Of https://nodes.tox.chat and of c-toxcore's own auto_tests/auto_test_support.c.
NODES = (
    "tox.abilinski.com:33445:10C00EB250C3233E343E2AEBA07115A5C28920E9C8D29492F6D00B29049EDC7E",
    "tox.initramfs.io:33445:3F0A45A268367C1BEA652F258C85F4A66DA76BCAA667A49E770BCC4917AB6A25",
    "tox.kurnevsky.net:33445:82EF82BA33445A1F91A7DB27189ECFC0C013E06E3DA71F588ED692BED625EC23",
    "tox1.mf-net.eu:33445:B3E5FA80DC8EBD1149AD2AB35ED8B85BD546DEDE261CA593234C619249419506",
    "tox2.mf-net.eu:33445:70EA214FDE161E7432530605213F18F7427DC773E276B3E317A07531F548545F",
    "144.217.167.73:33445:7E5668E0EE09E19F320AD47902419331FFEE147BB3606769CFBE921A2A2FD34C",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxConfig(ChannelConfig):
    """The keys of `[channels.tox]`."""

    friends: Literal["accept", "ask"] | list[str] = key(
        "accept",
        help="Whose friend requests are accepted: accept takes all, and [access] decides whom the bot answers; ask "
        "only writes them to the log; or a list of Tox IDs or public keys.",
    )
    name: str = key("", help="The name that people see, and say in groups; the bot's own when absent.")
    status: str = key("", help="The line below the name.")
    udp: bool = key(True, help="Whether to connect to people directly; else by relays only, which hides the address.")
    nodes: list[str] = key(
        factory=lambda: list(NODES), help="Nodes of the network to begin with, as HOST:PORT:PUBLIC_KEY."
    )
    relays: list[str] = key(factory=list, help="TCP relays, written likewise; the nodes when absent.")
    local: bool = key(True, help="Whether to look for people on the local network.")
    max_size: int = key(MAX_FILE, help="Bytes of a file beyond which it is not taken.", least=1, most=200_000_000)


class ToxChannel(Channel):
    """One Tox ID."""

    Config = ToxConfig
    # A message has 1,372 bytes (TOX_MAX_MESSAGE_LENGTH), and in a group ten less (MAX_GROUP_MESSAGE_DATA_LEN in
    # group.c). toxcore watches over its own connections; its silence says nothing.
    limits = Limits(
        max_text=1362,
        unit="bytes",
        markup=PLAIN,
        media=dict.fromkeys(("image", "audio", "voice", "video", "sticker", "file"), MAX_FILE),
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._media = Media(host.home / "media")
        self._link: Link | None = None
        self._typing: dict[str, asyncio.TimerHandle] = {}
        self._called = config.name or host.bot_name

    # Listening

    async def run(self, receive: Receive) -> None:
        nodes, friends = self._nodes(self.config.nodes), self._friends()
        relays = self._nodes(self.config.relays) or nodes

        async def take(heard: Heard) -> None:
            # The core is asked in the order in which toxcore told: the thread waits for each.
            if message := read(heard, self.name, self._called, self._media):
                await receive(message)

        link = Link(
            lambda profile: Tox(self.name, profile, udp=self.config.udp, local=self.config.local and self.config.udp),
            self.host.home / "profile.tox",
            nodes,
            relays,
            self.config.max_size,
            take,
            lambda public, words: self._welcomes(public, words, friends),
            self.host.pulse,
            lambda: self.host.trouble("None of the Tox nodes can be reached."),
        )
        link.start()
        try:
            await self._introduce(link, friends)
            self._link = link
            await asyncio.shield(link.ended)
        except NotSent:  # the thread ended; it says why
            await link.ended
        finally:
            self._link = None
            for timer in self._typing.values():
                timer.cancel()
            self._typing.clear()
            await link.stop()

    async def _introduce(self, link: Link, friends: list[str] | None) -> None:
        await link.call(lambda: link.introduce(self._called, self.config.status))
        if friends:
            await link.call(lambda: link.befriend(friends))
        address = await link.call(link.address)
        save(self.host.home / "tox-id.txt", address + "\n")
        log.info("The channel '%s' has the Tox ID %s. Add it as a friend in Tox.", self.name, address)

    def _friends(self) -> list[str] | None:
        """Public keys; None where it is no list. A Tox ID begins with its public key."""
        if isinstance(self.config.friends, str):
            return None
        for one in self.config.friends:
            if not re.fullmatch(r"[0-9A-Fa-f]{64}([0-9A-Fa-f]{12})?", one):
                raise LoginFailed(
                    f"'{one}' is no Tox ID (76 hexadecimal digits) and no public key (64). "
                    f"Correct 'friends' in bot.toml: [channels.{self.name}]."
                )
        return [one[: 2 * KEY].upper() for one in self.config.friends]

    def _nodes(self, written: list[str]) -> list[Node]:
        try:
            return [node(one) for one in written]
        except ValueError as error:
            raise LoginFailed(f"{error} Correct it in bot.toml: [channels.{self.name}].") from None

    def _welcomes(self, public: str, words: str, friends: list[str] | None) -> bool:
        welcome = public in friends if friends is not None else self.config.friends == "accept"
        if not welcome:
            log.warning(
                "%s: %s asks to be a friend on Tox. To accept, put the key into 'friends' in bot.toml: [channels.%s].",
                self.name,
                public,
                self.name,
            )
            log.debug("%s: With the request came: %s", self.name, words)
        return welcome

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._media.read(attachment.ref)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        link = self._connected()
        text, action = write(reply)
        if place.kind == "group" or place.chat.startswith("g"):
            said = "\n".join([text, *map(mentioned, reply.attachments)]).strip()
            await link.call(lambda: link.say_in(place.chat[1:], said, action))
            return Sent(place, (reply.key or uuid.uuid4().hex,))
        self._not_typing(link, place.chat)
        links = [mentioned(one) for one in reply.attachments if one.data is None]
        if said := "\n".join([text, *links]).strip():
            _, receipt = await link.call(lambda: link.say(place.chat, said, action))
            await confirmed(receipt)
        await self._send_files(link, place.chat, reply, bool(said))
        return Sent(place, (reply.key or uuid.uuid4().hex,))

    async def _send_files(self, link: Link, person: str, reply: Reply, begun: bool) -> None:
        for one in reply.attachments:
            if (data := one.data) is not None:
                await self._send_file(link, person, one.name or one.kind, data, begun)
                begun = True

    async def _send_file(self, link: Link, person: str, name: str, data: bytes, begun: bool) -> None:
        """`begun` says that a part of the reply has arrived, so that sending it anew would repeat that."""
        try:
            done = await link.call(lambda: link.send_file(person, name, data))
            await confirmed(done)
        except NotSent as error:
            raise MaybeSent(f"A part has arrived; the file '{name}' has not: {error}") if begun else error from None

    def _connected(self) -> Link:
        if self._link is None:
            raise NotSent("The channel is not connected to Tox.")
        return self._link

    async def type(self, place: Place) -> None:
        if place.kind == "group" or place.chat.startswith("g"):
            return
        link = self._connected()
        self._not_typing(link, place.chat, tell=False)
        self._typing[place.chat] = asyncio.get_running_loop().call_later(TYPING, self._not_typing, link, place.chat)
        await link.call(lambda: link.typing(place.chat, True))

    def _not_typing(self, link: Link, person: str, tell: bool = True) -> None:
        timer = self._typing.pop(person, None)
        if timer is not None:
            timer.cancel()
            if tell:
                link.post(lambda: link.typing(person, False))


async def confirmed(receipt: Future[None]) -> None:
    """Wait until the person's Tox has it. Raises what went wrong, MaybeSent when nothing is heard."""
    try:
        await asyncio.wait_for(asyncio.wrap_future(receipt), RECEIPT)
    except TimeoutError as error:
        raise MaybeSent("The person's Tox has not confirmed it.") from error


def node(written: str) -> Node:
    """Raises ValueError with a sentence."""
    found = re.fullmatch(r"\[?([^\s\]]+?)\]?:(\d{1,5}):([0-9A-Fa-f]{64})", written.strip())
    if found and 0 < int(found[2]) < 65536:
        return Node(found[1], int(found[2]), bytes.fromhex(found[3]))
    raise ValueError(f"'{written}' is no node of Tox: one is written HOST:PORT:PUBLIC_KEY.")


def read(heard: Heard, channel: str, me: str, media: Media) -> Message | None:
    """What somebody said; None for what has no content."""
    text = heard.text
    attachments: tuple[Attachment, ...] = ()
    if heard.file is not None:
        text, attachments = file_read(heard.file, media)
    addressed = True
    if heard.group:
        text, addressed = spoken_to(text, me)
    if heard.action and text.strip():
        text = f"*{text.strip()}*"
    if not (text.strip(BLANK) or attachments):
        return None
    place = Place(channel, f"g{heard.group}", kind="group") if heard.group else Place(channel, heard.key)
    return Message(
        id=uuid.uuid4().hex,
        place=place,
        sender=Person(channel, heard.key, heard.name or heard.key[:8]),
        text=text,
        at=time.time(),
        addressed=addressed,
        attachments=attachments,
    )


def file_read(file: File, media: Media) -> tuple[str, tuple[Attachment, ...]]:
    name = re.sub(r"[\x00-\x1f/\\]", "_", file.name) or "file"
    if file.content is None:
        return f"[file '{name}', not taken: {file.why}]", ()
    mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
    ref = media.put(file.content)
    return "", (Attachment(kind_of(mime), name, mime, len(file.content), ref=ref),)


def kind_of(mime: str) -> AttachmentKind:
    kinds: dict[str, AttachmentKind] = {"image": "image", "audio": "audio", "video": "video"}
    return kinds.get(mime.partition("/")[0], "file")


def write(reply: Reply) -> tuple[str, bool]:
    """The text as it is sent, and whether it is an action: one that begins with '/me '."""
    text = render(reply.text, PLAIN)
    return (text[len(ACTION) :], True) if text.startswith(ACTION) and text[len(ACTION) :].strip() else (text, False)


def mentioned(one: Attachment) -> str:
    """A file in a text, where no file can be sent: groups carry none."""
    return f"{one.name}: {one.url}" if one.name and one.url else one.url or f"[file '{one.name or one.kind}']"


def spoken_to(text: str, name: str) -> tuple[str, bool]:
    """A text without the bot's name before it, and whether it names the bot."""
    if not name:
        return text, False
    named = re.escape(name)
    if begins := re.match(rf"\s*(?:@{named}(?!\w)[:,]?|{named}[:,])\s*", text, re.IGNORECASE):
        return text[begins.end() :], True
    return text, re.search(rf"(?<!\w)@?{named}(?!\w)", text, re.IGNORECASE) is not None
