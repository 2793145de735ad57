"""Mail that no person wrote: what must not be answered, and what mail servers report (RFC 3834, RFC 3464)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import getaddresses
from itertools import islice
from typing import cast

HEADER, PART_HEADER = 10_000, 2_000  # letters
PARTS = 20  # that are looked at for a report
ID = re.compile(r"<([^<>\s]{1,250})>")
REPORTS = ("multipart/report", "message/delivery-status", "message/disposition-notification")
# RFC 3834, section 2, and what older programs put in its place.
AUTOMATIC = (
    "list-id",
    "list-unsubscribe",
    "list-post",
    "x-autoreply",
    "x-autorespond",
    "x-autoresponder",
    "feedback-id",
)
SUPPRESSED = {"all", "autoreply", "oof"}
BULK = {"bulk", "list", "junk", "auto_reply"}
NOBODY = re.compile(r"(?:mailer-daemon|postmaster|no-?reply|do-?not-?reply|bounces?|listserv|majordomo)(?:[+=.-].*)?")

MACHINE = "root@localhost"  # what Courier shows in place of a mail that is gone by the time it is fetched


class Bounded(policy.EmailPolicy):
    """Headers that are no longer than they have to be: some take the parser time by the square of their length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[: PART_HEADER if name.lower().startswith("content-") else HEADER]


def parse(raw: bytes) -> EmailMessage:
    return cast("EmailMessage", BytesParser(policy=Bounded()).parsebytes(raw))


def header(mail: EmailMessage, name: str) -> str:
    """A header on one line; empty when it is absent or beyond reading."""
    try:
        return " ".join(str(mail.get(name, "")).split())
    except Exception:  # the standard library fails in many ways at headers that were never valid
        return " ".join(
            next((str(value) for key, value in mail.raw_items() if key.lower() == name.lower()), "").split()
        )


def addresses(mail: EmailMessage, name: str) -> list[str]:
    return [address.lower() for _, address in getaddresses([header(mail, name)]) if "@" in address]


def ids(value: str) -> list[str]:
    return ID.findall(value)


def automatic(mail: EmailMessage, address: str, own: tuple[str, ...]) -> str:
    """Why a mail must not be answered, empty when it may be (RFC 3834, section 2)."""
    if mine(address, own) or any(one in own for one in addresses(mail, "X-Loop")):
        return "it is the bot's own"
    if NOBODY.fullmatch(address.partition("@")[0]) or address == MACHINE:
        return "nobody reads answers there"
    submitted = header(mail, "Auto-Submitted").partition(";")[0].strip().lower()
    if submitted not in ("", "no"):
        return f"it was made by a program: Auto-Submitted is '{submitted}'"
    return _by_custom(mail)


def _by_custom(mail: EmailMessage) -> str:
    """The same by what programs wrote before there was a standard, and by what still do that ignore it."""
    if header(mail, "Precedence").lower() in BULK:
        return "it went to many: see its Precedence"
    if found := next((name for name in AUTOMATIC if name in mail), ""):
        return f"it has the header '{found}'"
    if SUPPRESSED & set(re.split(r"[\s,]+", header(mail, "X-Auto-Response-Suppress").lower())):
        return "it asks for no automatic answers"
    if "Return-Path" in mail and header(mail, "Return-Path") in ("<>", ""):
        return "it has no return path"
    return "it is a report" if mail.get_content_type() in REPORTS else ""


def mine(address: str, own: Iterable[str]) -> bool:
    """Whether an address is one of `own`, perhaps with a +tag."""
    local, _, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}" in own or address in own


def contents(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0) if part.is_multipart() else part
        return cast("EmailMessage", inner).as_bytes()
    return cast("bytes", part.get_payload(decode=True) or b"")


@dataclass(frozen=True, slots=True)
class Bounce:
    """A report that a mail was not delivered (RFC 3464). `final` says that no server tries any more."""

    recipient: str
    original: str
    status: str
    why: str
    final: bool


def bounce(raw: bytes) -> Bounce | None:
    """What a report of a mail server says about one of the bot's mails; None when it is none."""
    mail = parse(raw)
    if mail.get_content_type() != "multipart/report":
        return None
    told, original = None, ""
    for part in islice(mail.walk(), PARTS):
        if part.get_content_type() == "message/delivery-status":
            groups = [one for one in cast("list[EmailMessage]", part.get_payload()) if "Action" in one]
            told = told or next(iter(groups), None)
        elif part.get_content_type() in ("message/rfc822", "text/rfc822-headers") and not original:
            found = re.search(rb"(?im)^Message-ID:\s*<([^<>\s]{1,250})>", contents(part))
            original = found[1].decode("ascii", "replace") if found else ""
    if told is None:
        return None
    recipient = header(told, "Original-Recipient") or header(told, "Final-Recipient")
    status, action = header(told, "Status"), header(told, "Action").lower()
    return Bounce(
        recipient.rpartition(";")[2].strip().strip("<>").lower(),
        original,
        status,
        header(told, "Diagnostic-Code").partition(";")[2].strip()[:200],
        action == "failed",
    )
