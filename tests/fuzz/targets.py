"""What reads strangers' bytes in each channel, as functions of bytes, and what each may raise.

A channel is read as its own class reads it: the errors are those that the class catches around its `read`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from xml.etree.ElementTree import ParseError, fromstring

from fuzz.mutations import Shape
from roost.media import Media
from roost.rows import readable
from roost.values import Event, Message

CORPUS = Path(__file__).with_name("corpus")
Item = Message | Event
Read = Callable[[bytes], Iterable[Item | None]]

SCRATCH = TemporaryDirectory(prefix="roost-fuzz-")
MEDIA = Media(Path(SCRATCH.name) / "media", most=1_000_000, files=100)

UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError)
T = TypeVar("T")


def unguarded(call: Callable[..., T], *arguments: Any) -> T:
    """Call what the channel calls where it catches nothing: whatever it raises is a mistake, declared or not."""
    try:
        return call(*arguments)
    except NotCarried:
        raise
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} where the channel catches nothing: {error}") from error


class NotCarried(Exception):
    """The transport below the channel would not have let this through: it is no JSON, no XML, no packet."""


@dataclass(frozen=True, slots=True)
class Target:
    """`make` imports the channel and gives what reads; `errors` are what it may raise, `calls` how many function calls
    it may make beside some for each byte.
    """

    name: str
    kind: str
    shape: Shape
    make: Callable[[], Read]
    errors: tuple[type[Exception], ...] = (ValueError,)
    calls: int = 20_000

    @property
    def corpus(self) -> list[Path]:
        return sorted(path for path in (CORPUS / self.name).iterdir() if path.is_file())

    def seeds(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self.corpus)


NOT_FUZZED = {
    "deltachat": "its core, a program of its own, parses mail and cryptography; what it hands over is typed by it",
    "tox": "the library in C parses packets; what it hands over is a key, a number and a text",
}
"""Channels without a target, and why."""


def channel(module: str) -> Any:
    return importlib.import_module(f"roost.channels.{module}")


def tree(data: bytes) -> Any:
    """JSON as the channels read it. NaN and Infinity come through, as Python's parser lets them."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NotCarried from None


def an_object(data: bytes) -> dict[str, Any]:
    found = tree(data)
    if not isinstance(found, dict):
        raise NotCarried
    return found


def telegram() -> Read:
    from telegram import User

    me = User(110201543, "Roost", True, username="roost_bot")
    updates = channel("telegram_updates")
    return lambda data: [updates.read(tree(data), "telegram", me)]


def slack() -> Read:
    updates = channel("slack_updates")
    desk = updates.Desk("slack", "U0ROOST", lambda id: {"U0ANN": "Ann"}.get(id, id), str.lower, {"new"})

    def read(data: bytes) -> Iterable[Item | None]:
        body = an_object(data)
        updates.ids(body)
        yield updates.read(body, desk)

    return read


def matrix() -> Read:
    events, malformed = channel("matrix_events"), channel("matrix_rooms").MALFORMED
    known = {"$1": events.Known("@ann:b.org", "tea?"), "$2": events.Known("@roost:b.org", "yes", "$0", "$1")}
    names = {"@ann:b.org": "Ann", "@bob:b.org": "Bob"}
    view = events.View(
        "matrix", "@roost:b.org", "Roost", "group", lambda id: names.get(id, id), known, frozenset({"help"})
    )

    def read(data: bytes) -> Iterable[Item | None]:
        event = an_object(data)
        try:
            events.referred(event)
            yield events.read(event, "!tea:b.org", view)
            events.note(event, view)
        except malformed:
            raise NotCarried from None

    return read


def sms() -> Read:
    messages = channel("sms_messages")

    def read(data: bytes) -> Iterable[Item | None]:
        form = {name: str(value) for name, value in an_object(data).items()}
        yield messages.read(form, "sms", {"+15005550006"}, 1.0)

    return read


def sms_form() -> Read:
    messages = channel("sms_messages")

    def read(data: bytes) -> Iterable[Item | None]:
        yield messages.read(messages.fields("application/x-www-form-urlencoded", data), "sms", (), 1.0)

    return read


def irc() -> Read:
    lines, reading = channel("irc_lines"), channel("irc_read")
    ways = {"STATUSMSG": "@+", "CASEMAPPING": "rfc1459"}

    def read(data: bytes) -> Iterable[Item | None]:
        around = reading.Around("irc", "roost", "roost", ways)
        for raw in data.split(b"\n"):
            line = lines.parse(raw)
            if line is None:
                continue
            if line.command == "PRIVMSG":
                reading.ctcp(line.param(1))
                yield reading.read(line, around)
            elif line.command == "TAGMSG":
                yield reading.read_reaction(line, around)
            else:
                yield reading.follow(line, around)

    return read


def xmpp() -> Read:
    reading = channel("xmpp_read")

    def read(data: bytes) -> Iterable[Item | None]:
        try:
            xml = fromstring(data)
        except (ParseError, ValueError):
            raise NotCarried from None
        rooms = {"tea@conference.example.org": "Roost"}
        around = reading.Around("xmpp", "roost@example.org", nicks=rooms, hosts=frozenset({"files.example.org"}))
        unguarded(reading.follow, xml, around)
        unguarded(reading.entry, xml)
        envelope = reading.Envelope(xml)
        unguarded(envelope.stanza_id, "roost@example.org")
        yield reading.read(envelope, around)

    return read


def email() -> Read:
    reading, robots = channel("email_read"), channel("email_robots")
    stamp = reading.Stamp(b"secret", "example.org")
    reader = reading.Reader("email", ("roost@example.org",), stamp, MEDIA, "mx.example.org")

    def read(data: bytes) -> Iterable[Item | None]:
        robots.bounce(data)
        yield reader.read(data, 1.0)

    return read


def mqtt() -> Read:
    from types import SimpleNamespace

    mqtt_ = channel("mqtt")

    def read(data: bytes) -> Iterable[Item | None]:
        stored = SimpleNamespace(payload=data, properties=None)
        yield mqtt_.read(stored, "mqtt", "kitchen", "key", MEDIA)

    return read


def mumble() -> Read:
    mumble_, link, wire = channel("mumble"), channel("mumble_link"), channel("mumble_wire")
    users = {1: link.User(1, "Roost"), 2: link.User(2, "Ann")}

    def read(data: bytes) -> Iterable[Item | None]:
        yield mumble_.read(wire.decode(data), users, 1, "mumble", MEDIA)

    return read


def nostr() -> Read:
    seal = channel("nostr_seal")
    me = str(seal.keys_of("7f" * 32).public_key().to_hex())

    def read(data: bytes) -> Iterable[Item | None]:
        told = an_object(data)
        try:  # the SDK has made sure of these before a rumor is one
            sound = {"pubkey": seal.hexadecimal(told["pubkey"]), "content": str(told["content"])}
            if not (type(told["created_at"]) is type(told["kind"]) is int and 0 <= told["created_at"] < 2**64):
                raise NotCarried
            rumor = seal._rumor({**told, **sound}, str(told["id"]))
        except UNREADABLE:
            raise NotCarried from None
        yield seal.read(rumor, "nostr", me, "Roost")

    return read


def mastodon() -> Read:
    posts = channel("mastodon_posts")
    me = posts.Me("1", "bot", "https://social.example/@bot")
    return lambda data: [posts.read(an_object(data), "mastodon", me, "10")]


def webhook() -> Read:
    webhook_ = channel("webhook")
    return lambda data: [readable(webhook_.read(tree(data), "webhook", {"text": "text"}, "id", MEDIA))]


def ntfy() -> Read:
    ntfy_ = channel("ntfy")

    def read(data: bytes) -> Iterable[Item | None]:
        event = an_object(data)
        if event.get("event") == "message" and isinstance(event.get("id"), str):
            yield ntfy_.read(event, "ntfy")

    return read


def gotify() -> Read:
    gotify_ = channel("gotify")

    def read(data: bytes) -> Iterable[Item | None]:
        for post in gotify_.numbered({"messages": [tree(data)]}):
            yield gotify_.read(post, gotify_.App(5, "Backup Server"), "gotify")

    return read


def terminal() -> Read:
    from roost.values import Place

    terminal_ = channel("terminal")

    def read(data: bytes) -> Iterable[Item | None]:
        frame = terminal_.read(data)
        if isinstance(frame, terminal_.Say):
            yield unguarded(terminal_.message, frame, Place("terminal", "terminal"), "Ann")

    return read


def web() -> Read:
    web_ = channel("web")

    def read(data: bytes) -> Iterable[Item | None]:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise NotCarried from None
        web_.read(text)
        return ()

    return read


def homeassistant() -> Read:
    events = channel("homeassistant_events")
    house = events.House({"person.ann": events.Resident("person.ann", "u-ann", "Ann")})

    def read(data: bytes) -> Iterable[Item | None]:
        event = tree(data)
        house.knows(unguarded(events.author, event))
        yield events.read(event, "home", "roost", house)

    return read


def bluesky() -> Read:
    posts = channel("bluesky_posts")
    return lambda data: [posts.read(an_object(data), "bluesky", "did:plc:bot")]


def bluesky_chat() -> Read:
    chat = channel("bluesky_chat")
    told = chat.Convo("convo1", True, False)
    return lambda data: [chat.read(an_object(data), "bluesky", "did:plc:bot", "bot.example.org", told)]


def sip() -> Read:
    link, text = channel("sip_link"), channel("sip_text")

    def read(data: bytes) -> Iterable[Item | None]:
        packet = link.parse(data)
        if isinstance(packet, link.Request):
            link.top(packet)
            yield text.read(packet, "sip", "roost@pbx")

    return read


def smpp() -> Read:
    config, inbox, messages, pdus = (channel(f"smpp{part}") for part in ("_config", "_inbox", "_messages", "_pdu"))
    keys = config.SmppConfig(host="smsc.example.org", system_id="roost", password="secret-1", number="+15005550006")

    def read(data: bytes) -> Iterable[Item | None]:
        short = pdus.read_short(pdus.Pdu(pdus.DELIVER, 0, 1, data))
        inbox.part_of(short)
        messages.receipt(short)
        yield messages.read(inbox.Whole("key", 1, {1: short}), "smpp", (), keys, 1.0)

    return read


TARGETS = {
    one.name: one
    for one in (
        Target("telegram", "telegram", "json", telegram, (Exception,)),
        Target("slack", "slack", "json", slack, (Exception,)),
        Target("matrix", "matrix", "json", matrix, ()),
        Target("sms", "sms", "json", sms, (KeyError, TypeError, ValueError)),
        Target("sms-form", "sms", "bytes", sms_form, (KeyError, TypeError, ValueError)),
        Target("irc", "irc", "bytes", irc, (ValueError, IndexError)),
        Target("xmpp", "xmpp", "xml", xmpp, (ValueError, IndexError, KeyError)),
        Target("email", "email", "bytes", email, (Exception,), 2_000_000),
        Target("mqtt", "mqtt", "bytes", mqtt, (ValueError, TypeError, RecursionError)),
        Target("mumble", "mumble", "bytes", mumble),
        Target("nostr", "nostr", "json", nostr),
        Target("mastodon", "mastodon", "json", mastodon, (KeyError, TypeError, ValueError, AttributeError)),
        Target("webhook", "webhook", "json", webhook, (ValueError, TypeError, OverflowError, RecursionError)),
        Target("ntfy", "ntfy", "json", ntfy, (TypeError, ValueError, OverflowError)),
        Target("gotify", "gotify", "json", gotify, (TypeError, ValueError)),
        Target("terminal", "terminal", "bytes", terminal),
        Target("web", "web", "bytes", web),
        Target("homeassistant", "homeassistant", "json", homeassistant, (TypeError, ValueError)),
        Target("bluesky", "bluesky", "json", bluesky, (KeyError, TypeError, ValueError, AttributeError)),
        Target("bluesky-chat", "bluesky", "json", bluesky_chat, (KeyError, TypeError, ValueError, AttributeError)),
        Target("sip", "sip", "bytes", sip),
        Target("smpp", "smpp", "bytes", smpp),
    )
}
