"""MQTT 5, or 3.1.1 where the broker knows no other: messages come on one topic, replies leave on another.

https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html
https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import ssl
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from roost.channels.mqtt_line import FIVE, OLD, TAKEN_OVER, Line, Silent, Stored, number, older
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import MARKDOWN, PLAIN, render
from roost.durable import Kept
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent
from roost.keys import key
from roost.media import Media
from roost.pauses import pauses
from roost.reach import chain, why
from roost.trust import trust
from roost.values import Attachment, Message, Person, Place, Reply, Sent

log = logging.getLogger(__name__)

CHAT = "{chat}"
KEEPALIVE = 20  # seconds; a silent connection is given up after one and a half of them
WEEK = 7 * 86400  # seconds for which the broker keeps what comes while we are away
# Reason codes of CONNACK that no second try mends: section 3.2.2.2.
REFUSED = {0x85, 0x86, 0x87, 0x8A, 0x8C}
UNNAMED = 0x85
# Reason codes of SUBACK that no second try mends: section 3.9.3.
FORBIDDEN = {0x87, 0x8F, 0xA2}
ANSWER = 30.0  # seconds
LEAST = 400  # bytes of a packet for what is not text
STEADY = 30.0  # seconds of being connected after which the loss of a connection is nothing odd
BRIEF = 3  # connections in a row that end sooner


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConfig(ChannelConfig):
    """The keys of `[channels.mqtt]`."""

    host: str = key(help="The broker's host name or address.")
    port: int = key(1883, help="The broker's port; 8883 is usual with tls.", least=1, most=65535)
    tls: bool = key(False, help="Whether the connection is encrypted, and the broker's certificate checked.")
    ca: str = key("", help="A file with the certificates to trust, for a broker that made its own.")
    username: str = key("", help="The name to log in with, where the broker asks for one.", ask=True)
    password: str = key("", help="The password that goes with it.", secret=True, ask=True)
    client_id: str = key("roost", help="What the broker knows this bot by: it keeps messages under this name.")
    listen: str = key("roost/{chat}/in", help="The topic messages come on; {chat} stands for one level.")
    speak: str = key("roost/{chat}/out", help="The topic replies leave on.")
    format: Literal["text", "json"] = key("text", help="Whether replies are plain text or a JSON object.")
    qos: Literal[0, 1] = key(1, help="1 for messages that are not lost, 0 where that does not matter.")


class Refused(aiomqtt.MqttError):
    """The broker does not let the bot listen just now."""


class Mqtt(Channel):
    """One client of one broker."""

    Config = MqttConfig
    forgeable = "whoever may write to its topics can name anybody as the writer"
    # The standard allows 256 MB; brokers of small devices are set to some kilobytes.
    limits = Limits(max_text=60_000, unit="bytes", markup=MARKDOWN)

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._chats = pattern(config.listen, name)
        if CHAT in config.speak and CHAT not in config.listen:
            raise ConfigError(f"bot.toml: [channels.{name}] speak has {CHAT} in it and listen has not.")
        self._media = Media(host.home / "media")
        self._open = Kept(host.home / "open.json")
        self._line: Line | None = None
        self._came_up = 0.0  # when, by the monotonic clock
        self._brief = 0
        self._knows_five = False
        self._own: deque[tuple[str, bytes]] = deque(maxlen=1000)

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            try:
                await self._listen(receive)
            except MqttConnectError as error:
                if number(error.rc) in REFUSED:
                    raise LoginFailed(self._refusal(error)) from None
                self.host.trouble(f"The broker does not let the bot in: {reason(error)}.")
            except aiomqtt.MqttError as error:
                self._tell(error)
            if self._came_up:
                self._note_length(time.monotonic() - self._came_up)
                waits = pauses() if self._brief < BRIEF else waits
                self._came_up = 0.0
            await asyncio.sleep(next(waits))

    def _note_length(self, seconds: float) -> None:
        """Mosquitto, for one, gives no reason when it closes a connection for a newer one of the same client_id."""
        self._brief = self._brief + 1 if seconds < STEADY else 0
        if self._brief == BRIEF:
            log.warning(
                "%s: The broker lets the bot in, and closes the connection each time. If another program uses the "
                "client_id '%s', give one of them another in bot.toml.",
                self.name,
                self.config.client_id,
            )

    def _refusal(self, error: MqttConnectError) -> str:
        wrong = "the 'client_id'" if number(error.rc) == UNNAMED else "the 'username' and 'password'"
        return f"The broker '{self.config.host}' refuses {wrong} of bot.toml: [channels.{self.name}] ({reason(error)})."

    def _tell(self, error: aiomqtt.MqttError) -> None:
        if number(getattr(error.__cause__, "rc", 0)) == TAKEN_OVER:
            log.warning(
                "%s: Another program uses the broker with the client_id '%s'. Give one of them another in bot.toml.",
                self.name,
                self.config.client_id,
            )
        told = f"{error}." if isinstance(error, Silent | Refused) else f"The broker is out of reach: {why(error)}."
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in chain(error)):
            told += f" If it is your own, name its certificate: 'ca' in bot.toml: [channels.{self.name}]."
        self.host.trouble(told)

    async def _listen(self, receive: Receive) -> None:
        tls = trust(self.name, self.config.ca) if self.config.tls else None
        for version in (FIVE, OLD):
            try:
                await self._stay(receive, version, tls)
            except aiomqtt.MqttError as error:
                known = isinstance(error, Silent) and self._knows_five
                if version is OLD or known or not older(error):
                    raise

    async def _stay(self, receive: Receive, version: aiomqtt.ProtocolVersion, tls: ssl.SSLContext | None) -> None:
        """One connection, until it is lost."""
        async with Line(**login(self.config, version), tls_context=tls) as line:
            await self._subscribe(line, version)
            self._knows_five = self._knows_five or version is FIVE
            self.limits = replace(type(self).limits, max_text=room(line.largest, self.config.format))
            self._line, self._came_up = line, time.monotonic()
            self.host.pulse()
            try:
                while True:
                    await self._take(await line.next(), line, receive)
            finally:
                self._line = None

    async def _subscribe(self, line: Line, version: aiomqtt.ProtocolVersion) -> None:
        """Raises LoginFailed where the broker never lets the bot listen, Refused where it does not now."""
        topic, how = self.config.listen.replace(CHAT, "+"), {"qos": self.config.qos}
        # Our own words must not come back, and what the broker keeps to show to newcomers is no message.
        options = {"options": SubscribeOptions(**how, noLocal=True, retainHandling=2)}
        (told,) = await line.subscribe(topic, **(options if version is FIVE else how))
        if number(told) in FORBIDDEN:
            raise LoginFailed(
                f"The broker '{self.config.host}' does not let the bot listen on '{topic}' ({told}). Allow it there, "
                f"or change 'listen' in bot.toml: [channels.{self.name}]."
            )
        if number(told) >= 0x80:
            raise Refused(f"The broker does not let the bot listen on '{topic}' ({told})")

    async def _take(self, stored: Stored, line: Line, receive: Receive) -> None:
        self.host.pulse()
        message = None if stored.retained or self._is_own(stored) else self._read(stored)
        if message is not None:
            await receive(message)
        line.acknowledge(stored)
        self._open.drop(str(stored.number))

    def _is_own(self, stored: Stored) -> bool:
        """MQTT 3.1.1 brings the bot's own words back, where it speaks on a topic that it listens on."""
        own = (stored.topic, stored.payload)
        if own not in self._own:
            return False
        self._own.remove(own)
        return True

    def _read(self, stored: Stored) -> Message | None:
        found = self._chats.fullmatch(stored.topic)
        chat = (found.groupdict().get("chat") if found else "") or stored.topic
        try:
            return read(stored, self.name, chat, self._key(stored), self._media)
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("%s: A message on '%s' cannot be read: %s", self.name, stored.topic, error)
            return None

    def _key(self, stored: Stored) -> str:
        """A name for this delivery that a second one has as well. The packet's number alone is used again."""
        digest = hashlib.sha256(stored.payload).hexdigest()
        known = self._open.get(str(stored.number))
        if stored.again and known and known[0] == digest:
            return str(known[1])
        fresh = uuid.uuid4().hex
        if stored.qos:
            self._open.put(str(stored.number), [digest, fresh])
        return fresh

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._media.read(attachment.ref)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        line = self._line
        if line is None:
            raise NotSent("The broker is out of reach.")
        topic, properties = target(reply.ticket, self.config.speak.replace(CHAT, place.chat))
        id = reply.key or uuid.uuid4().hex
        payload = write(reply, id, self.config.format)
        if line.version is OLD and self._chats.fullmatch(topic):
            self._own.append((topic, payload))
        try:
            await line.say(topic, payload, self.config.qos, properties)
        except aiomqtt.MqttError as error:
            raise MaybeSent(f"The broker did not confirm it: {error}.") from error
        return Sent(place, (id,))


def login(config: MqttConfig, version: aiomqtt.ProtocolVersion) -> dict[str, Any]:
    """What a Line is made with. The broker keeps a session; one of 3.1.1 as long as it likes."""
    options: dict[str, Any] = {"clean_session": False}
    if version is FIVE:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = WEEK
        options = {"clean_start": False, "properties": properties}
    return options | {
        "hostname": config.host,
        "port": config.port,
        "username": config.username or None,
        "password": config.password or None,
        "identifier": config.client_id,
        "protocol": version,
        "keepalive": KEEPALIVE,
        "timeout": ANSWER,
    }


def room(largest: int, form: str) -> int:
    """The bytes of text that fit into packets of `largest` bytes, 0 where the broker does not say; JSON has escapes."""
    most = Mqtt.limits.max_text
    return min(most, max(LEAST, (largest - LEAST) // (2 if form == "json" else 1))) if largest else most


def reason(error: MqttConnectError) -> str:
    return str(error).partition("] ")[2] or str(error)


def pattern(listen: str, name: str) -> re.Pattern[str]:
    """What a topic must look like, the chat being a group of it. Raises ConfigError."""
    levels = listen.split("/")
    if levels.count(CHAT) != listen.count(CHAT) or listen.count(CHAT) > 1 or not listen:
        raise ConfigError(f"bot.toml: [channels.{name}] listen = '{listen}': {CHAT} must be one whole level, once.")
    known = {CHAT: "(?P<chat>[^/]+)", "+": "[^/]+", "#": ".*"}
    return re.compile("/".join(known.get(level, re.escape(level)) for level in levels))


def read(stored: Stored, channel: str, chat: str, key: str, media: Media) -> Message:
    """A message: a text, or a JSON object with `text` and perhaps `id`, `person`, `name`. Raises ValueError."""
    post, attachments = content(stored.payload, media)
    text = post.get("text", "")
    if not isinstance(text, str) or not (text.strip() or attachments):
        raise ValueError("it has no text.")
    id, person = str(post.get("id") or ""), str(post.get("person") or chat)
    return Message(
        id=id or key,
        place=Place(channel, chat),
        sender=Person(channel, person, str(post.get("name") or "")),
        text=text,
        at=time.time(),
        attachments=attachments,
        ticket=ticket(stored.properties),
        key=id or key,
    )


def content(payload: bytes, media: Media) -> tuple[dict[str, Any], tuple[Attachment, ...]]:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return {}, (Attachment("file", "message.bin", size=len(payload), ref=media.put(payload)),)
    try:
        post = json.loads(text)
    except ValueError:
        return {"text": text}, ()
    return (post if isinstance(post, dict) else {"text": text}), ()


def ticket(properties: Any) -> str:
    """Where the sender wants its answer (section 4.10, request and response)."""
    topic = getattr(properties, "ResponseTopic", "")
    data = getattr(properties, "CorrelationData", b"")
    return json.dumps([topic, base64.b64encode(data).decode()]) if topic else ""


def target(ticket: str, topic: str) -> tuple[str, Properties]:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if not ticket:
        return topic, properties
    topic, data = json.loads(ticket)
    if data:
        properties.CorrelationData = base64.b64decode(data)
    return topic, properties


def write(reply: Reply, id: str, form: str) -> bytes:
    if form == "text":
        return render(reply.text, PLAIN).encode()
    return json.dumps({"id": id, "text": reply.text, "quote": reply.quote}, ensure_ascii=False).encode()
