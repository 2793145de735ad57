"""What the Telegram Bot API accepts: parameters, types, buttons, sizes, rates.

The facts are in telegram_methods.json. It is made from the method and type tables of
https://core.telegram.org/bots/api (version 10.1): for every method a chat bot uses, `{parameter: kind}`, where kind
is the documented type, `[]` for "Array of", `|` for "or", a final `!` for required, and `=word` where the
description says that the value "must be" (or is "always") that word; then the same for every type those parameters
reach. `updates`, `actions`, `reactions` and `entities` are the words listed in the descriptions of Update,
sendChatAction.action, ReactionTypeEmoji.emoji and MessageEntity.type.

Where the vendor's server is laxer than its own documentation (a number where a String is documented, an unknown
parameter), a wrong type is refused and an unknown name is noted, for a test to see.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("telegram_methods.json").read_text(encoding="utf-8"))
UPDATES = tuple(FACTS["updates"])
ACTIONS = frozenset(FACTS["actions"])
REACTIONS = frozenset(FACTS["reactions"])
# getUpdates: all types "except chat_member, message_reaction, and message_reaction_count (default)".
DEFAULT_UPDATES = frozenset(UPDATES) - {"chat_member", "message_reaction", "message_reaction_count"}

MAX_TEXT, MAX_CAPTION, MAX_ANSWER = 4096, 1024, 200
MAX_PHOTO, MAX_UPLOAD, MAX_DOWNLOAD = 10 << 20, 50 << 20, 20 << 20
MAX_BUTTONS = 100

Reader = Callable[[Any, str, list[str]], Any]


class Refused(Exception):
    """The answer `{"ok": false, "error_code": code, "description": …}`, with `parameters` where there are any."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters

    def body(self) -> dict[str, Any]:
        answer = {"ok": False, "error_code": self.code, "description": self.description}
        return {**answer, "parameters": self.parameters} if self.parameters else answer


def bad(reason: str, **parameters: int) -> Refused:
    return Refused(400, f"Bad Request: {reason}", **parameters)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a multipart body."""

    name: str
    mime: str
    data: bytes


MISSING = {
    "chat_id": "chat_id is empty",
    "text": "message text is empty",
    "message_id": "message identifier is not specified",
    "message_ids": "message identifiers are not specified",
    "file_id": "file_id not specified",
    "action": "wrong parameter action in request",
    "callback_query_id": "query is too old and response timeout expired or query ID is invalid",
    "photo": "there is no photo in the request",
    "audio": "there is no audio in the request",
    "document": "there is no document in the request",
    "video": "there is no video in the request",
    "animation": "there is no animation in the request",
    "voice": "there is no voice in the request",
    "video_note": "there is no video note in the request",
    "sticker": "there is no sticker in the request",
}


def mistyped(where: str, expected: str) -> Refused:
    return bad(f"can't parse {where}: it must be of type {expected}")


def read_integer(value: Any, where: str, complaints: list[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value):
        return int(value)
    raise mistyped(where, "Integer")


def read_float(value: Any, where: str, complaints: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise mistyped(where, "Float")
    try:
        number = float(value)
    except ValueError:
        raise mistyped(where, "Float") from None
    if not math.isfinite(number):
        raise mistyped(where, "Float")
    return number


def read_string(value: Any, where: str, complaints: list[str]) -> str:
    if not isinstance(value, str):
        raise mistyped(where, "String")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad("strings must be encoded in UTF-8") from None
    return value


def read_boolean(value: Any, where: str, complaints: list[str]) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "1", "0"):
        return value.lower() in ("true", "yes", "1")
    raise mistyped(where, "Boolean")


def read_chat(value: Any, where: str, complaints: list[str]) -> int | str:
    if isinstance(value, str) and value.startswith("@"):
        return value
    try:
        return read_integer(value, where, complaints)
    except Refused:
        raise bad("chat not found") from None


def read_file(value: Any, where: str, complaints: list[str]) -> Upload | str:
    return value if isinstance(value, Upload) else read_string(value, where, complaints)


SCALARS: dict[str, Reader] = {
    "Integer": read_integer,
    "Float": read_float,
    "String": read_string,
    "Boolean": read_boolean,
    "Integer|String": read_chat,
    "InputFile": read_file,
    "InputFile|String": read_file,
}


def constant(word: str) -> Reader:
    def read(value: Any, where: str, complaints: list[str]) -> str:
        if value != word:
            raise bad(f'can\'t parse {where}: "{value}" is not "{word}"')
        return word

    return read


@dataclass(frozen=True, slots=True)
class Field:
    read: Reader
    required: bool
    constant: str = ""


class Rules:
    """Readers compiled once: `read("sendMessage", raw)` gives typed parameters or raises Refused."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Field]] = {}
        self._unions: dict[str, tuple[str, ...]] = {}
        for name, entry in FACTS["types"].items():
            if isinstance(entry, list):
                self._unions[name] = tuple(entry)
            else:
                self._objects[name] = self._fields(entry)
        self.methods = {
            name.lower(): (name, self._fields(entry, nested=False)) for name, entry in FACTS["methods"].items()
        }

    def _fields(self, entry: dict[str, str], nested: bool = True) -> dict[str, Field]:
        fields = {}
        for name, kind in entry.items():
            bare = kind.rstrip("!")
            reader = self._reader(bare)
            if not nested and bare not in SCALARS:
                reader = decoding(reader)
            fields[name] = Field(reader, kind.endswith("!"), bare[1:] if bare.startswith("=") else "")
        return fields

    def _reader(self, kind: str) -> Reader:
        if kind in SCALARS:
            return SCALARS[kind]
        if kind.startswith("="):
            return constant(kind[1:])
        if kind.startswith("[]"):
            return self._array(kind.replace("|[]", "|")[2:])
        return self._object(tuple(kind.split("|")))

    def _array(self, kind: str) -> Reader:
        item = self._reader(kind)

        def read(value: Any, where: str, complaints: list[str]) -> list[Any]:
            if not isinstance(value, list):
                raise bad(f"can't parse {where}: expected an Array of {kind}")
            return [item(part, where, complaints) for part in value]

        return read

    def _object(self, names: tuple[str, ...]) -> Reader:
        def read(value: Any, where: str, complaints: list[str]) -> dict[str, Any]:
            if not isinstance(value, dict):
                raise bad(f"object expected as {where.replace('_', ' ')}")
            fields = self._objects[self._choose(names, value, where)]
            return self.check(fields, value, where, complaints)

        return read

    def _choose(self, names: tuple[str, ...], value: dict[str, Any], where: str) -> str:
        names = tuple(inner for name in names for inner in self._unions.get(name, (name,)))
        if len(names) == 1:
            return names[0]
        for name in names:
            fields = self._objects[name].items()
            if all(key in value and field.constant in ("", value[key]) for key, field in fields if field.required):
                return name
        raise bad(f"can't parse {where}: it is none of {', '.join(names)}")

    def check(self, fields: dict[str, Field], raw: dict[str, Any], where: str, complaints: list[str]) -> dict[str, Any]:
        values = {}
        for name, value in raw.items():
            field = fields.get(name)
            if field is None:
                complaints.append(f"{where}: unknown parameter '{name}'")
            elif value is not None:
                values[name] = field.read(value, name, complaints)
        for name, field in fields.items():
            if field.required and name not in values:
                known = MISSING.get(name) if where in FACTS["methods"] else None
                raise bad(known or f'parameter "{name}" is required in {where}')
        return values

    def read(self, name: str, raw: dict[str, Any], complaints: list[str]) -> dict[str, Any]:
        """Type the raw parameters of a method. Raises Refused; appends what Telegram would silently ignore."""
        method, fields = self.methods[name.lower()]
        for key in [key for key, value in raw.items() if value == "" and key in fields]:
            if fields[key].read not in (read_string, read_file):  # an empty number or object is an absent one
                raw = {other: value for other, value in raw.items() if other != key}
        return self.check(fields, raw, method, complaints)


def decoding(reader: Reader) -> Reader:
    """In a form, an array or an object is a JSON-serialized string."""

    def read(value: Any, where: str, complaints: list[str]) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise bad(f"can't parse {where.replace('_', ' ')} JSON object") from None
        return reader(value, where, complaints)

    return read


RULES = Rules()

BUTTON_KINDS = FACTS["types"]["InlineKeyboardButton"].keys() - {
    "text",
    "icon_custom_emoji_id",
    "style",
}  # "Exactly one of the fields other than text, icon_custom_emoji_id, and style must be used"


def check_keyboard(markup: dict[str, Any] | None) -> None:
    """Refuse inline buttons that Telegram refuses. The limits are those of InlineKeyboardButton."""
    rows = markup.get("inline_keyboard", ()) if markup else ()
    if sum(map(len, rows)) > MAX_BUTTONS:
        raise bad("reply markup is too long")
    for row in rows:
        for button in row:
            _check_button(button)


def _check_button(button: dict[str, Any]) -> None:
    kinds = BUTTON_KINDS & button.keys()
    if not button["text"].strip():
        raise bad("can't parse inline keyboard button: Button text is empty")
    if not kinds:
        raise bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    if len(kinds) > 1:
        raise bad(f"can't parse inline keyboard button: it has more than one of {', '.join(sorted(kinds))}")
    if "callback_data" in kinds and not 1 <= len(button["callback_data"].encode()) <= 64:
        raise bad("BUTTON_DATA_INVALID")
    if "url" in kinds and not re.match(r"(https?://[^\s/]+\.|https?://\[?[\d:]|tg://|ton://)\S", button["url"]):
        raise bad(f"inline keyboard button URL '{button['url']}' is invalid: Wrong HTTP URL")


def check_reactions(reactions: list[dict[str, Any]]) -> None:
    if len(reactions) > 1:
        raise bad("REACTIONS_TOO_MANY")
    for reaction in reactions:
        if reaction["type"] != "emoji" or reaction["emoji"] not in REACTIONS:
            raise bad("REACTION_INVALID")


PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM")


def check_upload(kind: str, data: bytes) -> None:
    """Refuse contents that Telegram refuses: empty, too large, or a photo that is not a picture."""
    if not data:
        raise bad("file must be non-empty")
    if len(data) > MAX_UPLOAD:
        raise Refused(413, "Request Entity Too Large")
    if kind == "photo":
        _check_photo(data)


def _check_photo(data: bytes) -> None:
    if len(data) > MAX_PHOTO:
        raise bad(f"file of size {len(data)} bytes is too big for a photo; the maximum size is {MAX_PHOTO} bytes")
    if not data.startswith(PICTURES):
        raise bad("IMAGE_PROCESS_FAILED")
    width, height = picture_size(data)
    if width + height > 10_000 or max(width, height) > 20 * min(width, height):
        raise bad("PHOTO_INVALID_DIMENSIONS")


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG; of other pictures, a plausible size (nothing here draws them)."""
    if data.startswith(PICTURES[1]) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    return 320, 240


class Rates:
    """How fast a bot may speak: https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this

    One message a second in a chat (short bursts pass), 30 a second in all, 20 a minute in a group.
    """

    BURST = 3

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: dict[tuple[str, int], deque[float]] = {}

    def take(self, chat: int, group: bool) -> None:
        """Count one message to a chat. Raises Refused 429 when it comes too early."""
        now = self._clock()
        windows = [(("all", 0), 30, 1.0), (("chat", chat), self.BURST, float(self.BURST))]
        if group:
            windows.append((("group", chat), 20, 60.0))
        waits = [self._wait(key, count, span, now) for key, count, span in windows]
        if max(waits) > 0:
            seconds = math.ceil(max(waits))
            raise Refused(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
        for key, _, _ in windows:
            self._sent[key].append(now)

    def _wait(self, key: tuple[str, int], count: int, span: float, now: float) -> float:
        sent = self._sent.setdefault(key, deque())
        while sent and sent[0] <= now - span:
            sent.popleft()
        return sent[-count] + span - now if len(sent) >= count else 0.0
