"""What XMPP's messages say, in the words of the core. Numbers are those of https://xmpp.org/extensions/."""

from __future__ import annotations

import mimetypes
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from roost import writing
from roost.channels.xmpp_styling import to_markdown
from roost.values import Attachment, AttachmentKind, Event, Mention, Message, Person, Place, Quote

CLIENT = "{jabber:client}"
SID = "{urn:xmpp:sid:0}"
REPLACE = "{urn:xmpp:message-correct:0}replace"
RETRACT = ("{urn:xmpp:message-retract:1}retract", "{urn:xmpp:message-retract:0}retract")
REACTIONS = "{urn:xmpp:reactions:0}reactions"
REACTION = "{urn:xmpp:reactions:0}reaction"
REPLY = "{urn:xmpp:reply:0}reply"
FALLBACK = "{urn:xmpp:fallback:0}"
REFERENCE = "{urn:xmpp:reference:0}reference"
OOB = "{jabber:x:oob}"
DELAY = "{urn:xmpp:delay}delay"
UNSTYLED = "{urn:xmpp:styling:0}unstyled"
OCCUPANT = "{urn:xmpp:occupant-id:0}occupant-id"
MUC_USER = "{http://jabber.org/protocol/muc#user}"
GEOLOC = "{http://jabber.org/protocol/geoloc}"
REQUEST = "{urn:xmpp:receipts}request"
CARBONS = ("{urn:xmpp:carbons:2}sent", "{urn:xmpp:carbons:2}received")
INVITATIONS = (f"{MUC_USER}x/{MUC_USER}invite", "{jabber:x:conference}x")
ENCRYPTED = ("{eu.siacs.conversations.axolotl}encrypted", "{urn:xmpp:omemo:2}encrypted", "{jabber:x:encrypted}x")
UNREADABLE = "[a message that is end-to-end encrypted, which this bot cannot read]"
REMEMBERED = 2000


@dataclass(slots=True)
class Around:
    """What must be known to read a message: the bot's own address, its nick in each room, who is who there.

    `occupants` are the rooms that give people ids of their own, `people` the real addresses where a room shows them, by
    address and by id in the room. `ids` are, for messages in rooms, the room's own ids by the address of who wrote and
    the id they gave; `given` the other way round for the bot's own.
    `texts` are the messages seen last, with their authors; `own` are the ids of the bot's.
    `hosts` are those that files may come from.
    """

    name: str
    bare: str = ""
    nicks: dict[str, str] = field(default_factory=dict)
    occupants: set[str] = field(default_factory=set)
    people: dict[str, str] = field(default_factory=dict)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    own: dict[str, None] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()

    def note_own(self, id: str, given: str = "") -> None:
        self.own[id] = None
        trim(self.own)
        if given:
            self.given[id] = given
            trim(self.given)

    def is_room(self, bare: str) -> bool:
        return bare in self.nicks


def trim(kept: dict[Any, Any]) -> None:
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and what goes for the whole of it. `archived` is its id in the archive of `by`, where it has one."""

    xml: Element
    archived: str = ""
    at: float = 0.0

    @property
    def sender(self) -> str:
        return self.xml.get("from", "")

    @property
    def room(self) -> bool:
        return self.xml.get("type") == "groupchat"

    @property
    def bare(self) -> str:
        return bare_of(self.sender)

    @property
    def given(self) -> str:
        """The id that its sender gave it: origin-id where a server changed the other (XEP-0359)."""
        origin = self.xml.find(f"{SID}origin-id")
        return (origin.get("id", "") if origin is not None else "") or self.xml.get("id", "")

    @property
    def delayed(self) -> float | None:
        """When it was said, if that was before it was sent on (XEP-0203)."""
        delay = self.xml.find(DELAY)
        return timestamp(delay.get("stamp", "")) if delay is not None else None

    def stanza_id(self, by: str) -> str:
        found = (one.get("id", "") for one in self.xml.iter(f"{SID}stanza-id") if one.get("by") == by)
        return self.archived or next(found, "")


def bare_of(address: str) -> str:
    return address.partition("/")[0].lower()


def resource_of(address: str) -> str:
    return address.partition("/")[2]


def read(envelope: Envelope, around: Around) -> Message | Event | None:
    """Read a message. None for the bot's own, for signs between clients, and for what is no message."""
    xml = envelope.xml
    if not envelope.sender or is_own(envelope, around) or any(xml.find(one) is not None for one in CARBONS):
        return None
    if any(xml.find(one) is not None for one in INVITATIONS):
        return None
    if xml.get("type", "normal") not in {"normal", "chat", "groupchat"}:
        return None
    if envelope.room != (around.is_room(envelope.bare) and xml.get("type") == "groupchat"):
        return None
    if any(xml.find(one) is not None for one in (*RETRACT, REACTIONS)):
        return read_event(envelope, around)
    return read_message(envelope, around)


def is_own(envelope: Envelope, around: Around) -> bool:
    if around.is_room(envelope.bare):
        return resource_of(envelope.sender) in {"", around.nicks[envelope.bare]}
    return envelope.bare == around.bare


def read_event(envelope: Envelope, around: Around) -> Event | None:
    """A reaction (XEP-0444) or a message taken back (XEP-0424)."""
    place, person, at = read_place(envelope, around), read_person(envelope, around), moment(envelope)
    reactions = envelope.xml.find(REACTIONS)
    if reactions is not None:
        value = "".join((one.text or "").strip() for one in reactions.iter(REACTION))
        return Event("reacted", place, person, at, reactions.get("id", ""), value, envelope.xml)
    retracted = next((one for one in map(envelope.xml.find, RETRACT) if one is not None), None)
    if retracted is None:
        return None
    id = retracted.get("id", "")
    if envelope.room and id not in {one for (sender, _), one in around.ids.items() if sender == envelope.sender}:
        return None  # only who wrote a message may take it back
    return Event("deleted", place, person, at, id, raw=envelope.xml)


def read_message(envelope: Envelope, around: Around) -> Message | None:
    xml = envelope.xml
    body, quoted = read_body(xml)
    attachments = tuple(one for one in read_attachments(xml) if may_fetch(one.ref, envelope, around))
    if attachments and body.strip() in {one.ref for one in attachments}:
        body = ""
    text, addressed, mentions = read_text(xml, body, envelope, around)
    if not text and not attachments:
        return None
    id = message_id(envelope, around)
    replaced = xml.find(REPLACE)
    if replaced is not None:
        sent = replaced.get("id", "")
        # Somebody else's message cannot be replaced by naming its id.
        id = around.ids.get((envelope.sender, sent), f"{envelope.sender}#{sent}") if envelope.room else sent
    person = read_person(envelope, around)
    quote = read_quote(xml, quoted, around)
    around.texts[id] = text, person.name
    trim(around.texts)
    return Message(
        id=id,
        place=read_place(envelope, around),
        sender=person,
        text=text,
        at=moment(envelope),
        addressed=not envelope.room or addressed or (quote is not None and quote.id in around.own),
        edited=replaced is not None,
        mentions=mentions,
        quote=quote,
        attachments=attachments,
        key=key_of(envelope, around),
        raw=xml,
    )


def message_id(envelope: Envelope, around: Around) -> str:
    """What others call the message: the room's id in rooms, its sender's elsewhere (XEP-0461, business rules)."""
    if not envelope.room:
        return envelope.given or key_of(envelope, around)
    id = envelope.stanza_id(envelope.bare) or envelope.given
    for given in {envelope.given, envelope.xml.get("id", "")} - {""}:
        around.ids[envelope.sender, given] = id
    trim(around.ids)
    return id


def key_of(envelope: Envelope, around: Around) -> str:
    """The same for every delivery of a message, from the archive or not."""
    archive = envelope.bare if envelope.room else around.bare
    id = envelope.stanza_id(archive)
    if id:
        return f"{archive}#{id}"
    return f"{envelope.sender}#{envelope.given}" if envelope.given else ""


def read_place(envelope: Envelope, around: Around) -> Place:
    """A room, a person, or somebody in a room who is written to privately (XEP-0045, section 7.5)."""
    if envelope.room:
        return Place(around.name, envelope.bare, kind="group")
    return Place(around.name, private(envelope.sender) if around.is_room(envelope.bare) else envelope.bare)


def private(sender: str) -> str:
    return f"{bare_of(sender)}/{resource_of(sender)}"


def read_person(envelope: Envelope, around: Around) -> Person:
    """Who wrote. In a room: their own address where the room shows it, else what the room knows them by.

    What an archived message says of addresses may be its sender's invention, and its nick somebody else's by now, so
    only the room's own id for people counts there (XEP-0421).
    """
    if not around.is_room(envelope.bare):
        return Person(around.name, envelope.bare, envelope.bare.partition("@")[0], envelope.bare)
    found = envelope.xml.find(OCCUPANT) if envelope.bare in around.occupants else None
    seat = private(envelope.sender)
    occupant = f"{envelope.bare}#{found.get('id', '')}" if found is not None else ""
    real = around.people.get(occupant, "") or ("" if envelope.archived else around.people.get(seat, ""))
    return Person(around.name, real or occupant or seat, resource_of(envelope.sender), real or seat)


def follow(presence: Element, around: Around) -> None:
    """Keep up with who is in a room, as its presences tell."""
    sender = presence.get("from", "")
    room, seat = bare_of(sender), private(sender)
    item = presence.find(f"{MUC_USER}x/{MUC_USER}item")
    if not around.is_room(room) or item is None:
        return
    found = presence.find(OCCUPANT)
    if found is not None and found.get("id"):
        around.occupants.add(room)
    real = bare_of(item.get("jid", ""))
    if presence.get("type") == "unavailable" or not real:
        around.people.pop(seat, None)
        return
    around.people[seat] = real
    if found is not None:
        around.people[f"{room}#{found.get('id', '')}"] = real
    trim(around.people)


def entry(presence: Element) -> str | None:
    """What a room says to somebody who wants in: empty for yes, "created" where it is new, else what is wrong.

    None for what says nothing of that (XEP-0045, section 7.2).
    """
    if presence.get("type") == "error":
        error = presence.find(f"{CLIENT}error")
        found = (one.tag.partition("}")[2] for one in error) if error is not None else iter(())
        return next(found, "") or "refused"
    codes = {one.get("code") for one in presence.iter(f"{MUC_USER}status")}
    if "110" not in codes or presence.get("type") == "unavailable":
        return None
    return "created" if "201" in codes else ""


def moment(envelope: Envelope) -> float:
    return envelope.at or envelope.delayed or time.time()


def timestamp(stamp: str) -> float:
    """https://xmpp.org/extensions/xep-0082.html; now, when it is none."""
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return time.time()


# -------------------------------------------------------------------------------------------------- text


def read_body(xml: Element) -> tuple[str, str]:
    """The text, and what of it only repeats the message it answers (XEP-0428, XEP-0461)."""
    body = xml.findtext(f"{CLIENT}body", "")
    for fallback in xml.iter(f"{FALLBACK}fallback"):
        part = fallback.find(f"{FALLBACK}body")
        if fallback.get("for") != REPLY[1:].partition("}")[0] or part is None:
            continue
        start, end = (int(part.get(name, "")) if part.get(name, "").isdecimal() else 0 for name in ("start", "end"))
        quoted = "\n".join(re.sub(r"^> ?", "", line) for line in body[start:end].strip().split("\n"))
        return body[:start] + body[end:] if start <= end else body, quoted
    return body, ""


def read_text(xml: Element, body: str, envelope: Envelope, around: Around) -> tuple[str, bool, tuple[Mention, ...]]:
    """The text as Markdown, whether it calls the bot by name, and who is mentioned."""
    if any(xml.find(one) is not None for one in ENCRYPTED):
        return UNREADABLE, False, ()
    called = False
    if envelope.room:
        named = {around.nicks[envelope.bare], around.bare}
        bare = without_name(body, around.nicks[envelope.bare])
        called = bare is not None or any(person in named for person in mentioned(xml, envelope))
        body = bare if bare is not None else body
    place = xml.find(f"{GEOLOC}geoloc")
    if place is not None:
        where = ", ".join(place.findtext(f"{GEOLOC}{name}", "?") for name in ("lat", "lon"))
        return f"[location {writing.escape(where)}]", called, ()
    action = body.startswith("/me ")
    text = to_markdown(body[4:] if action else body, xml.find(UNSTYLED) is None)
    return (f"*{writing.escape(body[4:].strip())}*" if action else text), called, ()


def without_name(body: str, nick: str) -> str | None:
    """What is said to the bot: "nick: ...", "nick, ..." or "@nick ..."; None when it is not called by name."""
    name = re.escape(nick)
    begun = re.match(rf"\s*(?:@{name}[:,]?(?:\s+|$)|{name}[:,](?:\s+|$))", body, re.IGNORECASE)
    if begun:
        return body[begun.end() :]
    return body if re.search(rf"(?<![\w@])@{name}(?!\w)", body, re.IGNORECASE) else None


def mentioned(xml: Element, envelope: Envelope) -> Iterator[str]:
    """Addresses and nicks that are referred to (XEP-0372)."""
    for reference in xml.iter(REFERENCE):
        uri = reference.get("uri", "")
        if reference.get("type") == "mention" and uri.startswith("xmpp:"):
            address = unquote(uri[5:].partition("?")[0])
            yield resource_of(address) if bare_of(address) == envelope.bare else bare_of(address)


def read_quote(xml: Element, quoted: str, around: Around) -> Quote | None:
    reply = xml.find(REPLY)
    if reply is None or not reply.get("id"):
        return None
    id = reply.get("id", "")
    text, author = around.texts.get(id, (to_markdown(quoted), ""))
    return Quote(id, text, author or resource_of(reply.get("to", "")) or bare_of(reply.get("to", "")))


# ------------------------------------------------------------------------------------------------- files


def read_attachments(xml: Element) -> Iterator[Attachment]:
    """Files that are offered at an address (XEP-0066, XEP-0385, XEP-0447). `ref` is the address."""
    found: dict[str, Element | None] = {}
    for share in (*xml.iter("{urn:xmpp:sfs:0}file-sharing"), *xml.iter("{urn:xmpp:sims:1}media-sharing")):
        addresses = [one.get("target", "") for one in share.iter("{http://jabber.org/protocol/url-data}url-data")]
        addresses += [one.get("uri", "") for one in share.iter(REFERENCE)]
        file = next((one for one in share.iter() if one.tag.endswith("}file")), None)
        found |= {address: file for address in addresses[:1] if is_web(address)}
    for address in (one.text or "" for one in xml.iter(f"{OOB}url")):
        if is_web(address.strip()):
            found.setdefault(address.strip(), None)
    for address, file in found.items():
        yield attachment(address, file)


def may_fetch(address: str, envelope: Envelope, around: Around) -> bool:
    """Whether to take a file from an address that somebody names: from their own server and the bot's, encrypted, and
    from hosts that the configuration names. Anywhere else it stays a link, as nobody shall make the bot call there.
    """
    found = urlsplit(address)
    host = (found.hostname or "").lower()
    if host in around.hosts:
        return True
    domains = [one.partition("@")[2] for one in (envelope.bare, around.bare)]
    return found.scheme == "https" and any(host == one or host.endswith(f".{one}") for one in domains if one)


def is_web(address: str) -> bool:
    return address.startswith(("https://", "http://"))


def attachment(address: str, file: Element | None) -> Attachment:
    told = {one.tag.partition("}")[2]: (one.text or "").strip() for one in file} if file is not None else {}
    name = told.get("name") or unquote(urlsplit(address).path.rpartition("/")[2]) or "file"
    mime = told.get("media-type") or mimetypes.guess_type(name)[0] or "application/octet-stream"
    size = int(told["size"]) if told.get("size", "").isdecimal() else None
    return Attachment(kind_of(mime), name.rpartition("/")[2], mime, size, ref=address)


def kind_of(mime: str) -> AttachmentKind:
    kinds: dict[str, AttachmentKind] = {"image": "image", "audio": "audio", "video": "video"}
    return kinds.get(mime.partition("/")[0], "file")
