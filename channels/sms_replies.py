"""Replies as messages of Twilio's, and what is kept of them while they are on their way.

https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from roost.channels.sms_messages import WHATSAPP, extension, is_person
from roost.channels.sms_segments import MAX_TEXT, segments, surely
from roost.dialects import PLAIN, render
from roost.errors import Undeliverable
from roost.split import split
from roost.values import Attachment, Place, Reply

MAX_MEDIA = 10  # in one message
MAX_MEDIA_BYTES = 5 * 1024 * 1024  # together
SHELF_SECONDS, SHELF_BYTES = 3600.0, 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One message of Twilio's: a text, files, or both."""

    text: str = ""
    files: tuple[Attachment, ...] = ()


def write(place: Place, reply: Reply, most: int) -> list[Part]:
    """The messages that a reply becomes; none of them takes more than `most` segments.

    WhatsApp takes one file a message and shows no text beside most kinds of them. Raises Undeliverable.
    """
    if not is_person(place.chat):
        raise Undeliverable(
            f"'{place}' is nobody who can read an answer. A number looks like '{place.channel}:+1555…'."
        )
    for one in reply.attachments:
        if not (one.data or one.url):
            raise Undeliverable(f"The attachment '{one.name}' is empty: it has neither content nor an address.")
    whatsapp = place.chat.startswith(WHATSAPP)
    if whatsapp:
        told = render(reply.text, PLAIN)
        return [*([Part(told)] if told.strip() else []), *(Part(files=(one,)) for one in reply.attachments)]
    texts = [Part(text) for text in write_text(reply.text, most)]
    files = [Part(files=batch) for batch in batches(reply.attachments)]
    if texts and files:
        return [*texts[:-1], Part(texts[-1].text, files[0].files), *files[1:]]
    return texts + files


def write_text(text: str, most: int) -> list[str]:
    """Plain texts of at most `most` segments each."""
    plain = render(text, PLAIN)
    if not plain.strip():
        return []
    if len(plain.encode("utf-16-le")) <= 2 * MAX_TEXT and segments(plain) <= most:
        return [plain]
    return [render(piece, PLAIN) for piece in split(text, PLAIN, surely(most), "utf16")]


def batches(files: Collection[Attachment]) -> Iterator[tuple[Attachment, ...]]:
    """Files in the order given, as many together as one message may carry."""
    batch: list[Attachment] = []
    room = MAX_MEDIA_BYTES
    for one in files:
        size = len(one.data or b"")
        if batch and (len(batch) == MAX_MEDIA or size > room):
            yield tuple(batch)
            batch, room = [], MAX_MEDIA_BYTES
        batch.append(one)
        room -= size
    if batch:
        yield tuple(batch)


@dataclass(slots=True)
class Begun:
    """A reply of several messages that did not all go out: which did, and what is left.

    `unsure` tells that the first of the rest may be out too.
    """

    text: str
    rest: list[Part]
    ids: list[str] = field(default_factory=list)
    unsure: bool = False

    def resume(self, text: str) -> None:
        """Go on. Where the text has grown a mark in front, it belongs to the message that may be repeated."""
        mark = text[: len(text) - len(self.text)] if text.endswith(self.text) else ""
        if self.unsure and not self.rest[0].text.startswith(mark):
            self.rest[0] = replace(self.rest[0], text=mark + self.rest[0].text)


@dataclass(slots=True)
class Shelf:
    """Files that Twilio is to fetch, by names that nobody guesses, for an hour at most and in this process only."""

    files: dict[str, tuple[float, Attachment]] = field(default_factory=dict)

    def put(self, file: Attachment) -> str:
        name = secrets.token_urlsafe(32) + extension(file.mime)
        self.files[name] = (time.monotonic() + SHELF_SECONDS, file)
        self._prune()
        return name

    def get(self, name: str) -> Attachment | None:
        self._prune()
        return self.files[name][1] if name in self.files else None

    def _prune(self) -> None:
        """Let go of what is too old and, the oldest first, of what is too much; never of the newest."""
        now, room = time.monotonic(), SHELF_BYTES
        for place, (name, (end, file)) in enumerate(reversed(list(self.files.items()))):
            room -= len(file.data or b"")
            if end < now or (room < 0 and place):
                del self.files[name]
