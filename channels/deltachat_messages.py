"""What deltachat-rpc-server says of messages, as Roost's values, and the other way round. Nothing here asks it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from roost.dialects import PLAIN, render
from roost.values import Attachment, AttachmentKind, Event, EventKind, Message, Person, Place, PlaceKind, Quote, Reply

SELF = 1  # the contact that is the account itself; those up to 9 are no people
LAST_SPECIAL = 9
FRESH = 10  # the state of a message that was not marked as seen or noticed
# A longer message is cut at the people's end, with the rest behind a button: DC_DESIRED_TEXT_LINES and _LINE_LEN in
# https://github.com/chatmail/core/blob/main/src/constants.rs
LINES, WIDTH = 38, 100

UNKNOWN = "application/octet-stream"
KINDS: Mapping[str, AttachmentKind] = {
    "Image": "image",
    "Gif": "image",
    "Sticker": "sticker",
    "Audio": "audio",
    "Voice": "voice",
    "Video": "video",
}
MEDIA: Mapping[str, AttachmentKind] = {"image": "image", "audio": "audio", "video": "video"}
VIEWS: Mapping[AttachmentKind, str] = {
    "image": "Image",
    "sticker": "Sticker",
    "audio": "Audio",
    "voice": "Voice",
    "video": "Video",
    "file": "File",
}
CHATS: Mapping[str, PlaceKind] = {"Single": "direct", "Group": "group"}
CHANGES: Mapping[str, EventKind] = {"MemberAddedToGroup": "joined", "MemberRemovedFromGroup": "left"}

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """How chats and people are called outside. The numbers count in one database only, so its own `mark` is in them."""

    channel: str
    mark: str

    def place(self, chat: int, kind: PlaceKind = "direct") -> Place:
        return Place(self.channel, f"{self.mark}.{chat}", kind=kind)

    def person(self, contact: Object) -> Person:
        return Person(self.channel, f"{self.mark}.{contact['id']}", contact["displayName"], contact["address"])

    def number(self, place: Place) -> int | None:
        """The number of a chat, or None when it is not of this database."""
        mark, _, number = place.chat.rpartition(".")
        return int(number) if mark == self.mark and number.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Around:
    """What a message does not say itself: its chat's kind, whether it quotes the bot, where it was sent from."""

    kind: PlaceKind = "direct"
    quotes_bot: bool = False
    location: tuple[float, float] | None = None


def read(found: Object, names: Names, bot: str, around: Around, folder: Path, too_large: bool = False) -> Message:
    """What a person wrote. `folder` is what the files' names are relative to; `too_large` ones were not fetched."""
    text, named = (found["text"], True) if around.kind == "direct" else spoken_to(found["text"], bot)
    attachments = () if too_large else files(found, folder)
    return Message(
        id=str(found["id"]),
        place=names.place(found["chatId"], around.kind),
        sender=names.person(found["sender"]),
        text="\n".join(part for part in (text, *notes(found, around, too_large)) if part) or blank(found, attachments),
        at=float(found["timestamp"]),
        addressed=around.kind != "broadcast" and (named or around.quotes_bot),
        quote=quoted(found.get("quote")),
        attachments=attachments,
        raw=found,
    )


def edited(message: Message) -> Message:
    return replace(message, edited=True)


def notes(found: Object, around: Around, too_large: bool) -> Sequence[str]:
    """In words, what of a message is neither text nor a file that came."""
    said = []
    if too_large:
        # Its name and size are in the text already.
        said.append("[too large to be fetched]")
    if found["viewType"] == "Webxdc":
        said.append(f"[app {found.get('fileName')}]")
    if card := found.get("vcardContact"):
        said.append(f"[contact {card['displayName']} {card['addr']}]")
    if found["viewType"] == "Call":
        said.append("[call]")
    if around.location:
        said.append(f"[location {around.location[0]:g}, {around.location[1]:g}]")
    return said


def blank(found: Object, attachments: Sequence[Attachment]) -> str:
    if attachments:
        return ""
    return f"[message that cannot be read: {found['error']}]" if found.get("error") else "[empty message]"


def files(found: Object, folder: Path) -> tuple[Attachment, ...]:
    path = found.get("file")
    if not path or found["viewType"] == "Vcard":
        return ()
    try:
        ref = Path(path).relative_to(folder).as_posix()
    except ValueError:
        return ()
    name = found.get("fileName") or Path(path).name
    mime = found.get("fileMime") or UNKNOWN
    if mime == UNKNOWN:
        mime = guess_type(name)[0] or UNKNOWN
    # Pictures that are sent as they are, not made smaller, come as files.
    kind = KINDS.get(found["viewType"]) or MEDIA.get(mime.partition("/")[0], "file")
    return (Attachment(kind, name, mime, found["fileBytes"], ref),)


def quoted(quote: Object | None) -> Quote | None:
    """What is quoted; without an id when it is of another chat, or not here any more."""
    if quote is None:
        return None
    return Quote(str(quote.get("messageId", "")), quote["text"], quote.get("authorDisplayName", ""))


def spoken_to(text: str, name: str) -> tuple[str, bool]:
    """A text without the bot's name before it, and whether it names the bot."""
    if not name:
        return text, False
    named = re.escape(name)
    if begins := re.match(rf"\s*(?:@{named}(?!\w)[:,]?|{named}[:,])\s*", text, re.IGNORECASE):
        return text[begins.end() :], True
    return text, re.search(rf"(?<!\w)@{named}(?!\w)", text, re.IGNORECASE) is not None


def read_change(found: Object, names: Names, who: Object | None) -> Event | None:
    """Somebody came or went; None for what else the program notes in a chat."""
    kind = CHANGES.get(found["systemMessageType"])
    if kind is None or who is None or who["id"] <= LAST_SPECIAL:
        return None
    place, person = names.place(found["chatId"], "group"), names.person(who)
    return Event(kind, place, person, float(found["timestamp"]), str(found["id"]), raw=found)


def write(reply: Reply, quote: int | None = None) -> list[dict[str, Any]]:
    """What `send_msg` takes, without the files: the last ones belong to the attachments, in order."""
    texts = pieces(render(reply.text, PLAIN))
    attached = [payload(one) for one in reply.attachments]
    if attached and len(texts) == 1:
        attached[0]["text"] = texts.pop()
    payloads: list[dict[str, Any]] = [{"text": text} for text in texts] + attached
    if quote is not None and payloads:
        payloads[0]["quotedMessageId"] = quote
    return payloads


def payload(one: Attachment) -> dict[str, Any]:
    view = "Gif" if one.mime == "image/gif" and one.kind == "image" else VIEWS[one.kind]
    return {"viewtype": view, "filename": one.name or "file"}


def pieces(text: str) -> list[str]:
    """A text in parts that people see whole."""
    parts: list[list[str]] = [[]]
    room = LINES
    for line in text.split("\n"):
        needed = max(1, ceil(len(line) / WIDTH))
        if needed > room:
            parts.append([])
            room = LINES
        parts[-1].append(line)
        room -= needed
    return [part for part in ("\n".join(lines).strip("\n") for lines in parts) if part.strip()]
