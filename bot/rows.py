"""What a row of the journal holds: items, parts and lines, written and read."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from roost.contracts import Said
from roost.media import plain_name
from roost.sealing import Seals
from roost.values import Attachment, Event, Message, Place, PlaceKind, Reply, Sent

log = logging.getLogger("roost.journal")


Item = TypeVar("Item", bound=Message | Event)
FILES = 64  # of one message that are kept; more than chats let people send, fewer than a mail may have
OPEN = "seq, place, kind, body, draft"


@dataclass(frozen=True, slots=True)
class Open:
    """One row of the inbox that has not ended: its number, itself, and the preview of its answer on the screen."""

    seq: int
    item: Message | Event
    earlier: Sent | None = None


@dataclass(slots=True)
class Part:
    """One row of the outbox: a message that fits its channel.

    `draft` is a preview already on the screen, to be edited into this part instead of sending it. `unsure`
    says that an earlier try may have been delivered. `due` is when it may be tried again, in seconds since the epoch.
    """

    id: int
    place: Place
    reply: Reply
    draft: Sent | None = None
    unsure: bool = False
    tries: int = 0
    at: float = 0.0
    due: float = 0.0

    @property
    def key(self) -> str:
        return key_of(self.id, self.at)


def identity(item: Message | Event) -> str:
    """What a second delivery of the same thing would repeat, within its channel."""
    if isinstance(item, Message):
        return item.identity
    return f"{item.place}!{item.kind}!{item.message_id}!{item.person}!{item.value}!{item.at}"


def encode(item: Message | Event) -> bytes:
    """JSON. Raises UnicodeEncodeError for text that `mend` can mend."""
    return msgspec.json.encode(bare(item))


def bare(item: Message | Event) -> Message | Event:
    """An item without what lives in this process only."""
    if isinstance(item, Event):
        return replace(item, raw=None)
    attachments = tuple(replace(one, open=None) for one in item.attachments)
    return replace(item, raw=None, _state=None, _asking=None, attachments=attachments)


def readable(item: Item) -> Item:
    """An item as the journal gives it back: in valid Unicode, its files with names that lead nowhere.

    Raises TypeError, ValueError or OverflowError for what a channel made of an update that has anything anywhere. A
    number where a text belongs would else be found out after a restart, long after the update was acknowledged.
    """
    if isinstance(item, Message) and item.attachments:
        named = (replace(one, name=plain_name(one.name)) for one in item.attachments[:FILES])
        item = replace(item, attachments=tuple(named), text=counted(item))
    try:
        body = encode(item)
    except UnicodeEncodeError:
        item = mend(item)
        body = encode(item)
    read_item(kind_of(item), body)
    return item


def counted(message: Message) -> str:
    """The text of a message, which says so where there are too many files to keep."""
    more = len(message.attachments) - FILES
    return message.text if more <= 0 else f"{message.text}\n[{more} more files]".lstrip("\n")


def mend(item: Item) -> Item:
    """Replace what is not valid Unicode (lone surrogates) in every text of an item."""
    tree = msgspec.to_builtins(bare(item))
    return msgspec.convert(_mend_tree(tree), type=type(item))


def sound(text: str) -> str:
    """The text with what is not valid Unicode replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mend_tree(tree: Any) -> Any:
    if isinstance(tree, str):
        return sound(tree)
    if isinstance(tree, dict):
        return {name: _mend_tree(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_mend_tree(value) for value in tree]
    return tree


def emptied(attachment: Attachment) -> Attachment:
    return replace(attachment, data=None, open=None)


def key_of(id: int, at: float) -> str:
    """The idempotency key of an outbox row: the same for every try, and new when a journal begins again."""
    return f"{id}-{int(at * 1000):x}"


def encode_reply(reply: Reply) -> bytes:
    return msgspec.json.encode(replace(reply, attachments=tuple(replace(one, open=None) for one in reply.attachments)))


def kind_of(item: Message | Event) -> str:
    if isinstance(item, Event):
        return "event"
    return "edit" if item.edited else "message"


def write_parts(
    db: sqlite3.Connection,
    seals: Seals,
    seq: int | None,
    replies: Sequence[tuple[Place, Reply]],
    draft: Sent | None = None,
    unsure: bool = False,
) -> list[Part]:
    """Write a row for each reply; what is said of the draft holds for the first."""
    now = time.time()
    parts: list[Part] = []
    for place, reply in replies:
        preview = draft if draft and draft.ids and draft.place == place else None
        ids = msgspec.json.encode(preview.ids).decode() if preview else ""
        body = seals.seal(encode_reply(reply), "outbox.body", str(place))
        row = (seq, str(place), place.kind, now, body, ids, unsure)
        sql = "INSERT INTO outbox (seq, place, kind, at, body, draft, unsure) VALUES (?, ?, ?, ?, ?, ?, ?)"
        id = db.execute(sql, row).lastrowid or 0
        parts.append(Part(id, place, reply, preview, unsure, at=now))
        draft, unsure = None, False
    return parts


def read_item(kind: str, body: bytes) -> Message | Event:
    if kind == "event":
        return msgspec.json.decode(body, type=Event)
    return msgspec.json.decode(body, type=Message)


def read_sent(place: Place, ids: str) -> Sent | None:
    return Sent(place, msgspec.json.decode(ids, type=tuple[str, ...])) if ids else None


def read_open(db: sqlite3.Connection, seals: Seals, rows: Sequence[tuple[Any, ...]]) -> list[Open]:
    """Rows of OPEN as they are. One that cannot be read ends in silence."""
    items = []
    for seq, place, kind, body, draft in rows:
        try:
            item = read_item(kind, seals.open(body, "inbox.body", place))
            items.append(Open(seq, item, read_sent(item.place, draft)))
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("Message %d in the journal cannot be read and stays without an answer: %s", seq, error)
            db.execute("UPDATE inbox SET outcome = 'silent', reason = 'unreadable' WHERE seq = ?", (seq,))
    return items


def read_parts(db: sqlite3.Connection, seals: Seals, condition: str, values: Sequence[Any] = ()) -> list[Part]:
    """The parts that a condition holds for. One that cannot be read becomes a dead letter."""
    sql = f"SELECT id, place, kind, body, draft, unsure, tries, at, due FROM outbox WHERE {condition}"
    parts = []
    for row in db.execute(sql, values).fetchall():
        try:
            parts.append(_part(seals, *row))
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("Part %d in the journal cannot be read and becomes a dead letter: %s", row[0], error)
            db.execute("UPDATE outbox SET state = 'dead', error = 'unreadable' WHERE id = ?", (row[0],))
    return parts


def _part(
    seals: Seals,
    id: int,
    name: str,
    kind: PlaceKind,
    body: bytes,
    draft: str,
    unsure: int,
    tries: int,
    at: float,
    due: float,
) -> Part:
    place = replace(Place.parse(name), kind=kind)
    reply = msgspec.json.decode(seals.open(body, "outbox.body", name), type=Reply)
    return Part(id, place, reply, read_sent(place, draft), bool(unsure), tries, at, due)


def said_by(person: str, kind: str, body: bytes) -> bool:
    """Whether a row is something that this person said or did."""
    try:
        item = read_item(kind, body)
    except (msgspec.MsgspecError, ValueError):
        return False
    return str(item.person if isinstance(item, Event) else item.sender) == person


def said_by_person(at: float, body: bytes) -> Said | None:
    """A line of history, or None when it cannot be read."""
    try:
        message = msgspec.json.decode(body, type=Message)
    except (msgspec.MsgspecError, ValueError):
        return None
    return Said(message.id, False, message.sender.name, message.text, at)


def said_by_bot(at: float, body: bytes, id: int, sent: str, draft: str, *, name: str) -> Said | None:
    """A line of history, or None when it cannot be read."""
    try:
        ids = msgspec.json.decode(sent or draft or "[]", type=tuple[str, ...]) or (key_of(id, at),)
        return Said(ids[0], True, name, msgspec.json.decode(body, type=Reply).text, at)
    except msgspec.MsgspecError:
        return None
