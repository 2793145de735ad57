"""Messages of SIP as Roost's, Roost's replies as requests, and what answers mean. Pure functions.

RFC 3428 (MESSAGE), RFC 3862 (message/cpim), RFC 3994 (isComposing), RFC 5438 (receipts).
"""

from __future__ import annotations

import email
import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from email.message import Message as Part
from typing import Final

from sipmessage import URI, Parameters, Request, Response

from roost.dialects import PLAIN, render
from roost.errors import ChannelError, MaybeSent, NotSent, Undeliverable
from roost.hypertext import to_markdown
from roost.values import Message, Person, Place, Reply
from roost.writing import escape

COMPOSING: Final = "application/im-iscomposing+xml"
ACCEPT: Final = f"text/plain, text/html, message/cpim, {COMPOSING}"
UNSAID: Final = (COMPOSING, "message/imdn+xml", "application/sdp")
UNREACHABLE: Final = frozenset({480, 486, 491, 600})
UNKNOWN: Final = frozenset({408, 504})
IMPOSSIBLE: Final = frozenset({501, 505, 513})
NESTED: Final = 5
STATE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing">'
    "<state>active</state><contenttype>text/plain</contenttype><refresh>60</refresh></isComposing>"
)


# Addresses


def chat_of(uri: URI) -> str:
    """How a person is called here: 'ann@pbx.example.org', or a number such as '+15551234567'."""
    if uri.scheme == "tel" or (uri.parameters.get("user") == "phone" and uri.global_phone_number):
        return uri.global_phone_number or uri.user or "unknown"
    return str(URI("sip", uri.host.lower(), uri.user, None, uri.port)).removeprefix("sip:")


def uri_of(chat: str, domain: str) -> URI:
    """Where to write to: a whole address, or a name or number of the PBX's own. Raises Undeliverable."""
    chat = re.sub(r"^sips?:", "", chat.strip())
    try:
        if "@" in chat:
            return URI.parse(f"sip:{chat}")
        phone = Parameters(user="phone") if chat.startswith("+") else Parameters()
        return URI.parse(str(URI("sip", domain, chat, parameters=phone)))
    except ValueError:
        raise Undeliverable(
            f"'{chat}' is no address of SIP. Give a name such as 'ann@pbx.example.org', an extension or a number."
        ) from None


# Coming in


def read(request: Request, channel: str, own: str) -> Message | None:
    """What a MESSAGE says; None for what nobody said: signs of writing, receipts, our own words. Raises ValueError."""
    sender = request.from_address
    chat = chat_of(sender.uri)
    said = words(body_of(request))
    if chat == own or said is None:
        return None
    number = request.cseq.sequence
    answerable = sender.uri.user is not None and not sender.uri.host.endswith(".invalid")
    return Message(
        id=f"{request.call_id} {number}",
        place=Place(channel, chat, kind="direct" if answerable else "broadcast"),
        sender=Person(channel, chat, sender.name),
        text=said,
        at=moment(request),
        addressed=answerable,
        key=f"{request.call_id} {number} {sender.parameters.get('tag') or ''}",
        raw=request,
    )


def moment(request: Request) -> float:
    """When it was written, where that is told; a clock that is ahead does not count."""
    now = time.time()
    try:
        told = request.date
        return now if told is None else min(told.timestamp(), now)
    except (ValueError, TypeError, OverflowError):
        return now


def body_of(request: Request) -> Part:
    """The body with its headers, as mail has them."""
    kind = request.headers.get("Content-Type") or "text/plain;charset=UTF-8"
    coding = request.headers.get("Content-Transfer-Encoding") or "8bit"
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {coding}\r\n\r\n"
    return email.message_from_bytes(head.encode("ascii", "replace") + request.body)


def leaves(part: Part, depth: int = 0) -> Iterator[Part]:
    """What is inside of envelopes: message/cpim has its own headers, then those of what it holds."""
    if depth < NESTED and part.get_content_type() == "message/cpim":
        inside = re.split(rb"\r?\n\r?\n", _data(part), maxsplit=1)[-1]
        yield from leaves(email.message_from_bytes(inside), depth + 1)
    elif depth < NESTED and part.is_multipart() and part.get_content_maintype() == "multipart":
        parts = [one for one in part.get_payload() if isinstance(one, Part)]
        same = part.get_content_type() == "multipart/alternative"
        plain = [one for one in parts if one.get_content_type() == "text/plain"]
        for one in plain[:1] or parts[:1] if same else parts:
            yield from leaves(one, depth + 1)
    else:
        yield part


def _data(part: Part) -> bytes:
    """The content. mail's parser takes message/* for mail, so what it made of that is written out again."""
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes):
        return payload
    return b"\r\n".join(one.as_bytes() for one in part.get_payload() if isinstance(one, Part))


def words(part: Part) -> str | None:
    """What a body says, as Markdown; None when nothing."""
    said = [one for one in map(_leaf, leaves(part)) if one]
    return "\n\n".join(said) or None


def _leaf(part: Part) -> str:
    kind = part.get_content_type()
    if kind in UNSAID:
        return ""
    data = _data(part)
    if kind == "text/html":
        return to_markdown(_decode(data, part))
    if kind.startswith("text/"):
        return "\n".join(map(escape, _decode(data, part).strip("\r\n").replace("\r\n", "\n").split("\n")))
    return escape(f"[{kind}, {len(data)} bytes") + "]" if data else ""


def _decode(data: bytes, part: Part) -> str:
    try:
        return data.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8", "replace")


def shows_composing(request: Request) -> bool:
    """Whether the sender's client knows what a sign of writing is."""
    told = ",".join(request.headers.getlist("Accept"))
    return COMPOSING in told.lower() or any(one.get_content_type() == COMPOSING for one in leaves(body_of(request)))


# Going out


def write(reply: Reply) -> bytes:
    return render(reply.text, PLAIN).encode("utf-8", "replace")


def call_id(key: str) -> str:
    """The same for the same reply, so that a client which has it may know it again."""
    return hashlib.sha256(key.encode()).hexdigest()[:24] if key else secrets.token_hex(12)


def retry_after(answer: Response) -> float | None:
    """The pause that an answer asks for, in seconds (RFC 3261, section 20.33)."""
    told = re.match(r"\s*(\d{1,9})", answer.headers.get("Retry-After") or "")
    return float(told[1]) if told else None


def sorted_out(answer: Response, place: Place) -> ChannelError:
    """What an answer that is no 2xx means for the message."""
    told = f"'{place}': the PBX answers {answer.code} {answer.phrase}."
    if answer.code in UNKNOWN:
        return MaybeSent(f"{told} It may have gone on to the person.")
    later = answer.code in UNREACHABLE or (500 <= answer.code < 600 and answer.code not in IMPOSSIBLE)
    if later or retry_after(answer) is not None:
        return NotSent(told, retry_after(answer))
    if answer.code in (401, 407):
        return NotSent(f"{told} It does not take the password for messages, though it did to log in.")
    return Undeliverable(told)
