"""Bluesky's direct messages read and written: the pure part.

The lexicons chat.bsky.convo.* in https://github.com/bluesky-social/atproto
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from roost.channels import bluesky_text as rich
from roost.channels.bluesky_posts import person, quoted, seconds
from roost.contracts import Limits
from roost.dialects import LABELS
from roost.values import Event, Message, Person, Place, Quote

Json = dict[str, Any]
CONVO = "chat.bsky.convo.defs"
# lexicons/chat/bsky/convo/defs.json
LIMITS = Limits(max_text=1000, unit="graphemes", max_bytes=10_000, markup=LABELS, quotes=True)


@dataclass(frozen=True, slots=True)
class Convo:
    """A conversation: of two, or of a group; `asked` when the bot has not taken it up yet."""

    id: str
    group: bool
    asked: bool
    people: tuple[Json, ...] = ()


def convo(view: Json) -> Convo:
    kind = (view.get("kind") or {}).get("$type")
    return Convo(
        str(view["id"]), kind == f"{CONVO}#groupConvo", view.get("status") == "request", tuple(view["members"])
    )


def read(entry: Json, channel: str, me: str, handle: str, told: Convo, name: str = "") -> Message | Event | None:
    """What an entry of the log says. None for the bot's own doing, and for what nobody said.

    Raises KeyError, TypeError, ValueError or AttributeError.
    """
    place = Place(channel, told.id, kind="group" if told.group else "direct")
    people = [*told.people, *(entry.get("relatedProfiles") or ())]
    if entry["$type"] == f"{CONVO}#logAddReaction":
        return reaction(entry, channel, me, place, people)
    view = entry["message"]
    if entry["$type"] != f"{CONVO}#logCreateMessage" or view["$type"] != f"{CONVO}#messageView":
        return None
    if view["sender"]["did"] == me:
        return None
    said, named = rich.read(str(view.get("text") or ""), view.get("facets"), me)
    said, called = without_name(said, handle, name if told.group else "")
    text = rich.lines([said, embedded(view.get("embed"))])
    answered = view.get("replyTo") or {}
    to_me = (answered.get("sender") or {}).get("did") == me
    return (
        Message(
            id=str(view["id"]),
            place=place,
            sender=sender(channel, view["sender"]["did"], people),
            text=text,
            at=seconds(view["sentAt"]),
            addressed=not told.group or named or called or to_me,
            quote=Quote(str(answered["id"]), str(answered.get("text") or "")) if answered.get("id") else None,
            raw=entry,
        )
        if text.strip()
        else None
    )


def reaction(entry: Json, channel: str, me: str, place: Place, people: Iterable[Json]) -> Event | None:
    told = entry["reaction"]
    did = told["sender"]["did"]
    if did == me:
        return None
    who = sender(channel, did, people)
    return Event(
        "reacted", place, who, seconds(told["createdAt"]), str(entry["message"]["id"]), str(told["value"]), entry
    )


def sender(channel: str, did: str, people: Iterable[Json]) -> Person:
    known = [one for one in people if one.get("did") == did]
    return person(channel, known[-1]) if known else Person(channel, did, did)


def without_name(text: str, handle: str, name: str = "") -> tuple[str, bool]:
    """A text without the bot's handle, or its name and a comma, before it: for those who type it and choose nothing."""
    calls = [rf"@{re.escape(handle)}(?![\w.-])[\s,:]*"] if handle else []
    calls += [rf"@?{re.escape(name)}\s*[,:]\s*"] if name else []
    found = re.match(rf"\s*(?:{'|'.join(calls)})", text, re.IGNORECASE) if calls else None
    return (text[found.end() :], True) if found else (text, False)


def embedded(embed: Any) -> str:
    """What else a message shows: posts are all that it can."""
    if not isinstance(embed, dict):
        return ""
    record = embed.get("record") or {}
    words = (record.get("value") or {}).get("text")
    if not words:
        return f"[post {quoted(embed)}]" if quoted(embed) else "[something]"
    return f"[post by {(record.get('author') or {}).get('handle') or 'somebody'}: {words}]"


def write(text: str, answers: str = "") -> Json:
    """A message as it is sent. `answers` is the message that it hangs under."""
    shown, facets = rich.write(text)
    message: Json = {"text": shown} | ({"facets": facets} if facets else {})
    return message | ({"replyTo": {"messageId": answers}} if answers else {})
