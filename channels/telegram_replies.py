"""What the bot says, as calls of Telegram's Bot API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from telegram.error import BadRequest

from roost.channels.telegram_entities import Json
from roost.channels.telegram_updates import DIRECT
from roost.dialects import HTML_SUBSET, PLAIN, render
from roost.durable import Kept
from roost.errors import Undeliverable
from roost.values import Attachment, AttachmentKind, Button, Place, Reply, Sent

MB = 1024 * 1024
MAX_CAPTION, MAX_DATA = 1024, 64  # UTF-16 code units, bytes
MAX_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A method of python-telegram-bot's Bot and its parameters.

    `plain` is the same without formatting, for when Telegram cannot parse it. `instead` is for when it refuses the
    file: a photo it cannot open becomes a document, an address it cannot fetch a link.
    """

    method: str
    parameters: Json
    plain: Call | None = None
    instead: Call | None = None

    def having(self, **more: Any) -> Call:
        plain, instead = self.plain and self.plain.having(**more), self.instead and self.instead.having(**more)
        return Call(self.method, {**self.parameters, **more}, plain, instead)

    def after(self, error: BadRequest) -> Call | None:
        """What to try next, if anything."""
        if "can't parse entities" in str(error).lower():
            return self.plain
        return self.instead if REFUSED_FILE.search(str(error)) else None


REFUSED_FILE = re.compile("HTTP URL|web page|wrong file|PHOTO_|IMAGE_|MEDIA_|VOICE_|no text in the message", re.I)
FIELDS: dict[AttachmentKind, str] = {"image": "photo", "audio": "audio", "voice": "voice", "video": "video"}


def write(place: Place, reply: Reply) -> list[Call]:
    """Write one message for the text and one for each attachment; a short text is the first one's caption.

    Raises Undeliverable for a place or an attachment that cannot be one.
    """
    html, plain = render(reply.text, HTML_SUBSET), render(reply.text, PLAIN)
    captioned = bool(reply.attachments) and len(html.encode("utf-16-le")) <= 2 * MAX_CAPTION
    calls = [] if captioned else [write_text("send_message", html, plain)]
    for attachment in reply.attachments:
        calls.append(write_file(attachment, html, plain) if not calls else write_file(attachment, "", ""))
    calls = [call.having(**target(place)) for call in calls]
    if reply.quote.isdecimal():
        answered = {"message_id": int(reply.quote), "allow_sending_without_reply": True}
        calls[0] = calls[0].having(reply_parameters=answered)
    if reply.buttons:
        calls[-1] = calls[-1].having(reply_markup=keyboard(reply.buttons))
    return calls


def write_text(method: str, html: str, plain: str) -> Call:
    """The text of a message, without the previews of its links."""
    calm = {"link_preview_options": {"is_disabled": True}}
    return Call(method, {"text": html, "parse_mode": "HTML", **calm}, plain=Call(method, {"text": plain, **calm}))


def write_file(attachment: Attachment, html: str, plain: str) -> Call:
    field = "animation" if attachment.mime == "image/gif" else FIELDS.get(attachment.kind, "document")
    if field == "photo" and len(attachment.data or b"") > 10 * MB:
        field = "document"
    file: Json = {field: source(attachment)}
    if attachment.data is not None:
        file["filename"] = re.sub(r"[\x00-\x1f\"\\/]", "_", attachment.name) or field
    formatted, unformatted = ({"caption": html, "parse_mode": "HTML"}, {"caption": plain}) if html else ({}, {})
    instead = write_otherwise(attachment, field, html, plain)
    spare = Call(f"send_{field}", {**file, **unformatted}, None, instead)
    return Call(f"send_{field}", {**file, **formatted}, spare, instead)


def write_otherwise(attachment: Attachment, field: str, html: str, plain: str) -> Call | None:
    if attachment.data is not None:
        return None if field == "document" else write_file(replace(attachment, kind="file", mime=""), html, plain)
    if attachment.url:
        return Call("send_message", {"text": f"{plain}\n\n{attachment.url}".lstrip()})
    return None


def source(attachment: Attachment) -> bytes | str:
    """The bytes, or an address or a file_id from which Telegram takes them."""
    found = attachment.data or attachment.url or attachment.ref
    if not found:
        raise Undeliverable(f"The attachment '{attachment.name}' is empty: it has neither content nor an address.")
    return found


def write_edit(sent: Sent, reply: Reply) -> Call:
    """Change the text of a message, or its caption when it is a file's, and its buttons."""
    html, plain = render(reply.text, HTML_SUBSET), render(reply.text, PLAIN)
    caption = Call("edit_message_caption", {"caption": html, "parse_mode": "HTML"})
    call = replace(write_text("edit_message_text", html, plain), instead=caption)
    call = call.having(chat_id=chat_id(sent.place), message_id=int(sent.ids[0]))
    return call.having(reply_markup=keyboard(reply.buttons)) if reply.buttons else call


def target(place: Place) -> Json:
    """The parameters for where: a chat, a topic of it, or one of a channel's direct messages."""
    where: Json = {"chat_id": chat_id(place)}
    if not place.thread:
        return where
    if not re.fullmatch(rf"({DIRECT})?\d+", place.thread):
        raise Undeliverable(f"'{place}' is no topic of Telegram. Its part after the '/' is a number.")
    name = "direct_messages_topic_id" if place.thread.startswith(DIRECT) else "message_thread_id"
    return where | {name: int(place.thread.removeprefix(DIRECT))}


def chat_id(place: Place) -> int | str:
    """A number, or the `@name` of a public group or channel."""
    if re.fullmatch(r"-?\d+", place.chat):
        return int(place.chat)
    if place.chat.startswith("@"):
        return place.chat
    raise Undeliverable(f"'{place}' is no chat of Telegram. Give a number, or a public name such as '@news'.")


def keyboard(buttons: Sequence[Button]) -> Json:
    """Short labels stand side by side, others below one another."""
    width = 3 if all(len(button.text) <= 10 for button in buttons) else 1
    keys = [
        {"text": button.text, "url": button.url} if button.url else {"text": button.text, "callback_data": data(button)}
        for button in buttons
    ]
    return {"inline_keyboard": [keys[at : at + width] for at in range(0, len(keys), width)]}


def data(button: Button) -> str:
    """What a press sends: the value, or a token for a value that does not fit into Telegram's 64 bytes."""
    value = button.value or button.text
    if len(value.encode()) <= MAX_DATA and not value.startswith("~"):
        return value
    return "~" + hashlib.sha256(value.encode()).hexdigest()[:40]


class Values:
    """The long values of buttons by token, in a file, since a press may come after a restart. The newest are kept."""

    def __init__(self, path: Path) -> None:
        self._kept = Kept(path)

    def keep(self, buttons: Sequence[Button]) -> None:
        fresh = {data(button): button.value or button.text for button in buttons if not button.url}
        fresh = {token: value for token, value in fresh.items() if token != value}
        known = self._kept.all()
        if not fresh.items() <= known.items():
            self._kept.replace(dict([*known.items(), *fresh.items()][-MAX_KEPT:]))

    def find(self, token: str) -> str | None:
        found: str | None = self._kept.get(token)
        return found
