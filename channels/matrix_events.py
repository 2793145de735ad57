"""What Matrix's events say, in the words of the core.

Events are read as the plain objects they are (https://spec.matrix.org/v1.16/client-server-api/#room-event-format),
those of encrypted rooms once they are decrypted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.channels.matrix_words import OPEN, Json, marked, pick_mentions, plain, uncalled
from roost.values import Attachment, AttachmentKind, Event, Mention, Message, Person, Place, PlaceKind, Quote

MAX_QUOTED = 2000


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of an event, for those that refer to it. `target` is what a reaction is for."""

    sender: str
    text: str = ""
    thread: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What a reader knows beside the event: the channel's name, the bot, the room, and earlier events."""

    channel: str
    me: str
    my_name: str = ""
    kind: PlaceKind = "direct"
    name_of: Callable[[str], str] = str
    known: Mapping[str, Known] = field(default_factory=dict)
    commands: frozenset[str] = frozenset()

    def person(self, id: str) -> Person:
        return Person(self.channel, id, self.name_of(id) or id, id)

    def place(self, room: str, thread: str = "") -> Place:
        return Place(self.channel, room, thread, self.kind)

    @property
    def called(self) -> list[str]:
        """What people call the bot at the beginning of a line, longest first."""
        localpart = self.me[1:].partition(":")[0]
        names = {self.me, f"@{localpart}", localpart, self.my_name, f"@{self.my_name}" if self.my_name else ""}
        return sorted(filter(None, names), key=len, reverse=True)


def read(event: Json, room: str, view: View) -> Message | Event | None:
    """Read an event of a room. None is for what nobody said, and for what the bot did itself.

    Raises KeyError, TypeError and the like when it is malformed.
    """
    kind = event["type"]
    if event["sender"] == view.me:
        return None
    if kind == "m.room.member":
        return read_member(event, room, view)
    if "state_key" in event or "redacted_because" in event.get("unsigned", {}):
        return None
    if kind == "m.reaction":
        return read_reaction(event, room, view)
    if kind == "m.room.redaction":
        return read_redaction(event, room, view)
    return read_message(event, room, view)


def read_message(event: Json, room: str, view: View) -> Message | None:
    content, relates = event["content"], relation(event)
    edits = relates["event_id"] if relates.get("rel_type") == "m.replace" else ""
    if edits and view.known.get(edits, Known(event["sender"])).sender != event["sender"]:
        return None
    said = content["m.new_content"] if edits else content
    before, quoted = view.known.get(edits), quoted_id(relates)
    text, mentions, pills = read_text(event["type"], said, view, reply=bool(quoted))
    attachments = read_attachments(event["type"], said)
    if not text and not attachments:
        return None
    quote = read_quote(quoted, view)
    return Message(
        id=edits or event["event_id"],
        place=view.place(room, before.thread if before else thread_of(relates)),
        sender=view.person(event["sender"]),
        text=text,
        at=event["origin_server_ts"] / 1000,
        addressed=is_addressed(said, view, pills, quoted),
        edited=bool(edits),
        mentions=mentions,
        quote=quote,
        attachments=attachments,
        key=event["event_id"],
        raw=event,
    )


# What an event refers to


def relation(event: Json) -> Json:
    relates = event["content"].get("m.relates_to")
    return relates if isinstance(relates, dict) else {}


def thread_of(relates: Json) -> str:
    """https://spec.matrix.org/v1.16/client-server-api/#threading"""
    return str(relates["event_id"]) if relates.get("rel_type") == "m.thread" else ""


def quoted_id(relates: Json) -> str:
    """What is answered. Messages in a thread name its last one as well, for programs that know no threads."""
    quoted = relates.get("m.in_reply_to")
    fallback = relates.get("rel_type") == "m.thread" and relates.get("is_falling_back") is True
    return str(quoted["event_id"]) if isinstance(quoted, dict) and not fallback else ""


def referred(event: Json) -> list[str]:
    """The ids of the events that one has to know to read this one."""
    relates = relation(event)
    edited = str(relates["event_id"]) if relates.get("rel_type") in {"m.replace", "m.annotation"} else ""
    return [id for id in (edited, quoted_id(relates)) if id]


def read_quote(quoted: str, view: View) -> Quote | None:
    if not quoted:
        return None
    known = view.known.get(quoted)
    return Quote(quoted, known.text, view.person(known.sender).name) if known else Quote(quoted)


def note(event: Json, view: View) -> Known:
    """What to remember of an event that is there for the first time."""
    relates = relation(event)
    if event["type"] == "m.reaction":
        return Known(event["sender"], target=str(relates.get("event_id", "")))
    text = read_text(event["type"], event["content"], view, reply=True)[0]
    return Known(event["sender"], text[:MAX_QUOTED], thread_of(relates))


# ------------------------------------------------------------------------------------------------- the words


def read_text(kind: str, content: Json, view: View, reply: bool = False) -> tuple[str, tuple[Mention, ...], list[str]]:
    """The text as Markdown, who is named in it, and whom its pills name, without a leading call of the bot.

    https://spec.matrix.org/v1.16/client-server-api/#mroommessage-msgtypes
    """
    written, pills = words(kind, content, reply)
    rest = uncalled(written, view.me, view.called, pills)
    called = written.count(OPEN) - rest.count(OPEN)
    return *pick_mentions(rest, pills[called:]), pills


def words(kind: str, content: Json, reply: bool) -> tuple[str, list[str]]:
    kind = content.get("msgtype", "") if kind == "m.room.message" else kind
    if kind in {"m.text", "m.notice", "m.server_notice"}:
        return marked(content, reply)
    if kind == "m.emote":
        text, pills = marked(content, reply)
        return f"\\* {text}", pills
    if kind in MEDIA and ("url" in content or "file" in content):
        captioned = content.get("filename") not in {None, content.get("body")} and kind != "m.sticker"
        return marked(content, reply) if captioned else ("", [])
    return describe(kind, content), []


def is_addressed(content: Json, view: View, pills: Sequence[str], quoted: str) -> bool:
    """Whether it is for the bot. What programs say to one another is for nobody (m.notice).

    Who is meant stands in `m.mentions`; where that is missing, a pill or the bot's name in the text counts
    (https://spec.matrix.org/v1.16/client-server-api/#user-and-room-mentions).
    """
    if content.get("msgtype") == "m.notice":
        return False
    if view.kind == "direct" or (quoted in view.known and view.known[quoted].sender == view.me):
        return True
    body, meant = str(content.get("body", "")), content.get("m.mentions")
    if isinstance(meant, dict) and view.me in (meant.get("user_ids") or ()):
        return True
    first = re.match(r"[/!](\w+)", body)
    if (first and first[1].lower() in view.commands) or uncalled(body, view.me, view.called, ()) != body:
        return True
    if isinstance(meant, dict):
        return False
    named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", body, re.IGNORECASE) for name in view.called)
    return named or view.me in pills


# ------------------------------------------------------------------------------------------- everything else


def read_reaction(event: Json, room: str, view: View) -> Event | None:
    """https://spec.matrix.org/v1.16/client-server-api/#event-annotations-and-reactions"""
    relates = relation(event)
    if relates.get("rel_type") != "m.annotation":
        return None
    return _event("reacted", event, room, view, event["sender"], str(relates["event_id"]), str(relates["key"]))


def read_redaction(event: Json, room: str, view: View) -> Event:
    """A message is taken back, or a reaction. Where the id stands depends on the version of the room."""
    id = str(event.get("redacts") or event["content"]["redacts"])
    target = view.known[id].target if id in view.known else ""
    return _event("reacted" if target else "deleted", event, room, view, event["sender"], target or id)


def read_member(event: Json, room: str, view: View) -> Event | None:
    """Someone came or went. Changes of a name or a picture are nothing."""
    before = (event.get("unsigned", {}).get("prev_content") or {}).get("membership", "leave")
    there = [membership == "join" for membership in (before, event["content"]["membership"])]
    if there[0] == there[1]:
        return None
    return _event("joined" if there[1] else "left", event, room, view, event["state_key"])


def _event(kind: Any, event: Json, room: str, view: View, who: str, id: str = "", value: str = "") -> Event:
    thread = view.known[id].thread if id in view.known else ""
    at = event["origin_server_ts"] / 1000
    return Event(kind, view.place(room, thread), view.person(who), at, id, value, event)


MEDIA: dict[str, AttachmentKind] = {
    "m.image": "image",
    "m.audio": "audio",
    "m.video": "video",
    "m.file": "file",
    "m.sticker": "sticker",
}
VOICE = ("org.matrix.msc3245.voice", "m.voice")


def read_attachments(kind: str, content: Json) -> tuple[Attachment, ...]:
    """The file of a message. `ref` is JSON: the content's address, and for an encrypted one what opens it."""
    found = MEDIA.get(content.get("msgtype", "") if kind == "m.room.message" else kind)
    file, address = content.get("file"), address_of(content)
    if found is None or not address:
        return ()
    voice = found == "audio" and any(name in content for name in VOICE)
    info = content["info"] if isinstance(content.get("info"), dict) else {}
    size, mime = info.get("size"), info.get("mimetype")
    return (
        Attachment(
            "voice" if voice else found,
            str(content.get("filename") or content.get("body") or found),
            mime if isinstance(mime, str) else "application/octet-stream",
            size if isinstance(size, int) else None,
            json.dumps({"file": file} if isinstance(file, dict) else {"url": address}),
        ),
    )


def address_of(content: Json) -> str:
    """Where the file of a message is, empty when it does not say."""
    file = content.get("file")
    address = file.get("url") if isinstance(file, dict) else content.get("url")
    return address if isinstance(address, str) else ""


def describe(kind: str, content: Json) -> str:
    """What is not text, in brackets: `[location 52.1, 4.3]`, as Markdown. Empty for what says nothing."""
    if kind in DETAILS:
        return f"[{plain(DETAILS[kind](content))}]"
    if kind in {"", "m.key.verification.request"} or not isinstance(content.get("body"), str):
        return ""
    name = re.sub(r"[._]+", " ", kind.removeprefix("m.")).strip()
    return f"[{name}] {plain(content['body'])}"


def _where(content: Json) -> str:
    """A location is `geo:latitude,longitude` (RFC 5870)."""
    point = content["geo_uri"].removeprefix("geo:").partition(";")[0]
    return f"location {', '.join(point.split(',')[:2])}"


def _poll(content: Json) -> str:
    poll = content.get("m.poll") or content["org.matrix.msc3381.poll.start"]
    return " / ".join(["poll " + _said(poll["question"]), *(_said(answer) for answer in poll["answers"])])


def _said(part: Json) -> str:
    """The words of an extensible event, in its old or its new form."""
    found = part.get("body") or part.get("org.matrix.msc1767.text") or part.get("m.text") or ""
    return str(found[0]["body"] if isinstance(found, list) else found)


DETAILS: dict[str, Callable[[Json], str]] = {
    "m.location": _where,
    "m.poll.start": _poll,
    "org.matrix.msc3381.poll.start": _poll,
    "m.call.invite": lambda content: "call",
    "m.room.encrypted": lambda content: str(content["body"]),  # what stands in for one that cannot be read
}


def since_invited(events: Sequence[Json], me: str) -> list[Json]:
    """What was said since the bot was asked in, where the events show how it came in."""
    for number in reversed(range(len(events))):
        if entry(events[number], me):
            return list(events[number + 1 :])
    return list(events)


def entry(event: Json, me: str) -> bool:
    """Whether an event lets the bot in: an invitation, or its coming in without one."""
    if event.get("type") != "m.room.member" or event.get("state_key") != me:
        return False
    before = (event.get("unsigned", {}).get("prev_content") or {}).get("membership", "leave")
    now = event["content"].get("membership")
    return now == "invite" or (now == "join" and before not in {"join", "invite"})
