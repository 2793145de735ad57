"""What the bot says, as XMPP's elements. Numbers are those of https://xmpp.org/extensions/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement

from roost.dialects import STYLING, render
from roost.values import Attachment, Reply

# Characters that XML 1.0 cannot carry (https://www.w3.org/TR/xml/#charsets); one of them would end the stream.
ILLEGAL = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
GONE = "This message was taken back."


@dataclass(frozen=True, slots=True)
class Part:
    """One message: a text with what belongs to it, or a file."""

    body: str = ""
    extra: tuple[Element, ...] = ()
    file: Attachment | None = None


def write(reply: Reply, texts: Mapping[str, tuple[str, str]]) -> list[Part]:
    """The messages of a reply, in order: its text, then each file, which is a message of its own (XEP-0066)."""
    parts = []
    body = clean(render(reply.text, STYLING))
    if body.strip():
        quoted = (Element("{urn:xmpp:reply:0}reply", id=reply.quote),) if reply.quote else ()
        parts.append(Part(body, (*quoted, *chat_state("active"))))
    return [*parts, *(Part(file=file) for file in reply.attachments)]


def clean(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)


def chat_state(state: str) -> tuple[Element, ...]:
    """XEP-0085. A state that comes alone is not worth keeping (XEP-0334)."""
    element = Element(f"{{http://jabber.org/protocol/chatstates}}{state}")
    return (element,) if state == "active" else (element, Element("{urn:xmpp:hints}no-store"))


def correct(id: str) -> Element:
    """XEP-0308"""
    return Element("{urn:xmpp:message-correct:0}replace", id=id)


def reactions(id: str, emoji: str) -> tuple[Element, ...]:
    """XEP-0444: all reactions to a message; none takes them away."""
    found = Element("{urn:xmpp:reactions:0}reactions", id=id)
    if emoji:
        SubElement(found, "{urn:xmpp:reactions:0}reaction").text = clean(emoji)
    return (found, Element("{urn:xmpp:hints}store"))


def retract(id: str) -> tuple[str, tuple[Element, ...]]:
    """XEP-0424, with words for clients that do not know it."""
    fallback = Element("{urn:xmpp:fallback:0}fallback", {"for": "urn:xmpp:message-retract:1"})
    return GONE, (
        Element("{urn:xmpp:message-retract:1}retract", id=id),
        fallback,
        Element("{urn:xmpp:hints}store"),
    )


def join(password: str, since: datetime | None) -> Element:
    """What asks to be let into a room, with what was said there `since` then, or nothing (XEP-0045, section 7.2)."""
    x = Element("{http://jabber.org/protocol/muc}x")
    if password:
        SubElement(x, "{http://jabber.org/protocol/muc}password").text = password
    told = {"maxstanzas": "0"} if since is None else {"since": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    SubElement(x, "{http://jabber.org/protocol/muc}history", told)
    return x
