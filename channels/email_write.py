"""From a reply to the bytes of a mail."""

from __future__ import annotations

import json
import mimetypes
import re
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime

from roost.channels.email_read import UNVERIFIED, Stamp
from roost.dialects import HTML_CHAT, PLAIN, render
from roost.errors import Undeliverable
from roost.values import Attachment, Place, Reply
from roost.writing import escape

# Only seven-bit letters: some servers still take no others.
POLICY = policy.SMTP.clone(cte_type="7bit")
MOST = 17_000_000  # bytes of attachments in one mail: a third more when encoded, and 25 MB is a usual limit
AGAIN = re.compile(r"^(?:(?:re|aw|sv|antw|antwort|rif|odp|vs)(?:\[\d+\])?\s*:\s*)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What is the same on all mails of the bot. `prefix` stands before subjects, which are `subject` where none is."""

    name: str
    address: str
    subject: str
    prefix: str
    stamp: Stamp


def recipient(place: Place) -> str:
    """Whom a place writes to. Raises Undeliverable when it is no address that every server takes."""
    address = place.chat.removeprefix(UNVERIFIED)
    if not re.fullmatch(r"[^\s<>@,;:\\\"\[\]()]+@[^\s<>@,;:\\\"\[\]()]+", address) or not address.isascii():
        raise Undeliverable(f"'{address}' is no address that mail can be sent to from here.")
    return address


def write(place: Place, reply: Reply, key: str, head: Letterhead, subject: str = "") -> tuple[str, bytes]:
    """The Message-ID, without brackets, and the mail. `subject` is that of the thread, where it is known.

    A second mail with the same `key` has the same Message-ID, which many receivers show once.
    """
    to = recipient(place)
    asked, references, known = json.loads(reply.ticket) if reply.ticket else ("", [], subject)
    if not reply.ticket and place.thread:
        asked = place.thread
    id = head.stamp.make(key, to, place.thread)
    mail = EmailMessage(policy=POLICY)
    mail["From"] = Address(_line(head.name), addr_spec=head.address)
    mail["To"] = Address(addr_spec=to)
    mail["Subject"] = title(known, head, bool(asked))
    mail["Date"] = format_datetime(localtime())
    mail["Auto-Submitted"] = "auto-replied" if reply.ticket else "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    _fill(mail, reply)
    return id, _threading(id, asked, references) + mail.as_bytes()


def title(known: str, head: Letterhead, answers: bool) -> str:
    """The subject: "Re: " and what the person wrote, without a second "Re:" or prefix."""
    known = AGAIN.sub("", _line(known)).removeprefix(head.prefix).strip()[:200]
    return f"{'Re: ' if answers else ''}{head.prefix}{' ' if head.prefix else ''}{known or head.subject}"


def _threading(id: str, asked: str, references: list[str]) -> bytes:
    """The headers that make a thread (RFC 5322, section 3.6.4), written here because `email` would encode long ones."""
    lines = [f"Message-ID: <{id}>"]
    if asked:
        chain = dict.fromkeys([*references, asked])
        lines += [f"In-Reply-To: <{asked}>", "References: " + "\r\n ".join(f"<{one}>" for one in chain)]
    return "\r\n".join([*lines, ""]).encode("ascii", "replace")


def _fill(mail: EmailMessage, reply: Reply) -> None:
    files, notes = [], []
    room = MOST
    for one in reply.attachments:
        if one.data is None:
            notes.append(f"[{escape(_line(one.name) or one.url)}](<{one.url}>)")
        elif len(one.data) > room:
            notes.append(f"[{escape(_line(one.name) or one.kind)}: too large for this mail]")
        else:
            room -= len(one.data)
            files.append(one)
    text = "\n\n".join([reply.text, *notes]).encode("utf-8", "replace").decode()
    mail.set_content(render(text, PLAIN))
    page = f"<!doctype html><html><body>{render(text, HTML_CHAT)}</body></html>"
    mail.add_alternative(page, subtype="html")
    for number, one in enumerate(files, 1):
        _attach(mail, one, number)


def _attach(mail: EmailMessage, file: Attachment, number: int) -> None:
    main, _, sub = file.mime.partition("/")
    if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", file.mime) or main in ("multipart", "message"):
        main, sub = "application", "octet-stream"
    name = _line(file.name) or f"{file.kind}-{number}{mimetypes.guess_extension(file.mime) or ''}"
    mail.add_attachment(file.data or b"", maintype=main, subtype=sub, filename=name)


def _line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
