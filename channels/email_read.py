"""From the bytes of a mail to a message, by the standard library's `email` package."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from itertools import islice
from typing import Any, cast

from roost.channels.email_proof import verified
from roost.channels.email_quotes import answer, flow, without_signature
from roost.channels.email_robots import addresses, automatic, contents, header, ids, mine, parse
from roost.hypertext import to_markdown
from roost.media import Media
from roost.values import Attachment, AttachmentKind, Message, Person, Place, Quote

log = logging.getLogger(__name__)

UNVERIFIED = "unverified:"
PARTS = 100  # of one mail that are read
TEXT = 200_000  # letters of one part
KINDS: tuple[AttachmentKind, ...] = ("image", "audio", "video")
SEALS = {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}


@dataclass(frozen=True, slots=True)
class Stamp:
    """Makes the Message-IDs of the bot's own mails, and knows them again: nobody else can make one.

    Their first letter says where a person's answer belongs: "h" to the person, "t" to a thread.
    """

    secret: bytes
    domain: str

    def make(self, key: str, recipient: str, thread: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        letter = "t" if thread else "h"
        return f"{letter}.{digest}.{self._seal(letter + digest, recipient)}@{self.domain}"

    def knows(self, id: str, recipient: str) -> bool:
        found = re.fullmatch(r"([ht])\.([0-9a-f]{24})\.([0-9a-f]{20})@(.+)", id)
        return bool(
            found
            and found[4] == self.domain
            and hmac.compare_digest(found[3], self._seal(found[1] + found[2], recipient))
        )

    def _seal(self, words: str, recipient: str) -> str:
        return hmac.new(self.secret, f"{words} {recipient}".encode(), hashlib.sha256).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Reader:
    """What it takes to read a mail.

    `own` are the bot's addresses in lower case. `roots` says to which threads mails of the bot belong, for programs
    that name in an answer only what it answers.
    """

    channel: str
    own: tuple[str, ...]
    stamp: Stamp
    media: Media
    authserv_id: str = ""
    threads: bool = True
    roots: Mapping[str, str] = field(default_factory=dict)

    def read(self, raw: bytes, at: float, cut: int | None = None) -> Message:
        """The message in a mail. Raises ValueError when it is no one's message to the bot, with the reason.

        `cut` is the size of a mail of which `raw` has only the headers.
        """
        mail = parse(raw)
        name, address = author(mail)
        reason = automatic(mail, address, self.own) or self._elsewhere(mail)
        if reason:
            raise ValueError(reason)
        references = ids(header(mail, "References")) or ids(header(mail, "In-Reply-To"))
        id = next(iter(ids(header(mail, "Message-ID"))), "") or hashlib.sha256(raw).hexdigest()[:40]
        text, files = (f"[mail of {cut // 1_000_000} MB, too large to read]", ()) if cut else self._body(mail)
        if not references:
            text = titled(header(mail, "Subject"), text)
        if not (text.strip() or files):
            raise ValueError("it is empty")
        person = address if self._is_from(mail, address) else UNVERIFIED + address
        quoted = ids(header(mail, "In-Reply-To")) or references[-1:]
        return Message(
            id=id,
            place=Place(self.channel, person, self._thread(id, references, address)),
            sender=Person(self.channel, person, name),
            text=text,
            at=at,
            quote=Quote(quoted[0]) if quoted else None,
            attachments=files,
            ticket=json.dumps([id, [*references[:1], *references[1:][-8:]], header(mail, "Subject")]),
            raw=mail,
        )

    def _elsewhere(self, mail: EmailMessage) -> str:
        """Who gets a copy is not spoken to; who is not named at all is, by an alias or as a blind copy."""
        to, copies = addresses(mail, "To"), addresses(mail, "Cc")
        if any(mine(one, self.own) for one in copies) and not any(mine(one, self.own) for one in to):
            return "it is only a copy"
        return ""

    def _is_from(self, mail: EmailMessage, address: str) -> bool:
        if not self.authserv_id:
            return True
        fields = [str(value) for name, value in mail.raw_items() if name.lower() == "authentication-results"]
        return verified(fields, self.authserv_id, address.rpartition("@")[2])

    def _thread(self, id: str, references: list[str], address: str) -> str:
        root = (references or [id])[0]
        if self.stamp.knows(root, address):
            root = self.roots.get(root, root)
        home = root.startswith("h.") and self.stamp.knows(root, address)
        return "" if home or not self.threads else root

    def _body(self, mail: EmailMessage) -> tuple[str, tuple[Attachment, ...]]:
        body = cast("EmailMessage | None", mail.get_body(("plain", "html")))
        texts, files = [], []
        for part in islice(leaves(mail), PARTS):
            kind = part.get_content_type()
            if part is body or (kind == "text/plain" and not part.get_filename() and not _attached(part)):
                texts.append(words(part))
            elif kind in ("multipart/encrypted", "application/pkcs7-mime"):
                texts.append("[encrypted mail]")
            elif not _same_again(part, mail) and kind not in SEALS:
                files.append(attachment(part, self.media))
        text = "\n\n".join(one.strip("\r\n") for one in texts if one.strip())
        answers = bool(header(mail, "In-Reply-To") or header(mail, "References"))
        return (answer(text) if answers else without_signature(text)), tuple(files)


def author(mail: EmailMessage) -> tuple[str, str]:
    """Name and address of who wrote. Raises ValueError unless there is exactly one (RFC 5322, section 3.6.2)."""
    lines: list[Any] = []
    found: list[Address] = []
    try:
        lines = mail.get_all("From") or []
        found = [one for line in lines for one in line.addresses]
    except Exception:
        log.debug("A From that cannot be read.", exc_info=True)
    if len(lines) != 1 or len(found) != 1 or not re.fullmatch(r"[^\s<>@:/]+@[^\s<>@:/]+", found[0].addr_spec):
        raise ValueError("it does not say who wrote it")
    return " ".join(found[0].display_name.split()), found[0].addr_spec.lower()


def titled(subject: str, text: str) -> str:
    """A subject says something as well, unless the text is a command, a code or a single word."""
    if not text.strip() or not subject:
        return text or subject
    alone = text.startswith(("/", "!")) or len(text.split()) == 1
    return text if alone or subject.lower() in text.lower() else f"{subject}\n\n{text}"


# ------------------------------------------------------------------------------------------------- the parts


def leaves(mail: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold something. A mail that is attached is one part, and so is an encrypted one."""
    if mail.get_content_maintype() != "multipart" or mail.get_content_type() == "multipart/encrypted":
        yield mail
        return
    for part in mail.iter_parts():
        yield from leaves(cast("EmailMessage", part))


def _attached(part: EmailMessage) -> bool:
    try:
        return part.get_content_disposition() == "attachment"
    except Exception:
        return True


def _same_again(part: EmailMessage, mail: EmailMessage) -> bool:
    """Whether a text is the body once more in another form, or nothing at all."""
    if part.get_content_maintype() != "text" or part.get_filename() or _attached(part):
        return False
    return part.get_content_type() in ("text/html", "text/plain", "text/enriched", "text/watch-html")


def words(part: EmailMessage) -> str:
    """The Markdown of a part of text. A charset nobody knows is read as UTF-8."""
    try:
        text = str(part.get_content())
    except (LookupError, UnicodeError, ValueError):
        text = cast("bytes", part.get_payload(decode=True) or b"").decode("utf-8", "replace")
    text = text if len(text) <= TEXT else text[:TEXT] + "\n\n[…]"
    if part.get_content_type() == "text/html":
        return to_markdown(text)
    if str(part.get_param("format", "")).lower() == "flowed":
        return flow(text, str(part.get_param("delsp", "")).lower() == "yes")
    return text.replace("\r\n", "\n")


def attachment(part: EmailMessage, media: Media) -> Attachment:
    mime, kind = part.get_content_type(), part.get_content_maintype()
    content = contents(part)
    name = re.sub(r"[\x00-\x1f/\\]", "_", part.get_filename() or ("mail.eml" if mime == "message/rfc822" else ""))
    name = name[:200] if name.strip(" .") else ""  # nothing but dots would be a folder
    named: AttachmentKind = next((one for one in KINDS if one == kind), "file")
    return Attachment(named, name, mime, len(content), media.put(content))
