"""Mastodon's posts read and written: the pure part.

https://docs.joinmastodon.org/entities/Status/
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from roost.dialects import PLAIN, render
from roost.hypertext import to_markdown
from roost.values import Attachment, AttachmentKind, Message, Person, Place, Quote

Json = dict[str, Any]

KINDS: dict[str, AttachmentKind] = {"image": "image", "gifv": "video", "video": "video", "audio": "audio"}
# An answer is seen by as many as the question, or by fewer; and never fills the public timelines.
NARROWER = {"public": "unlisted", "unlisted": "unlisted", "private": "private"}
HANDLES = 60  # characters of an answer for whom it is for
WARNING = 40  # and for the content warning
RESERVE = HANDLES + WARNING
THREAD = "post:"  # and the id of the first post of a thread: its place
PER_POST = 4  # files
NAME = re.compile(r"@[\w.\\-]+(?:@[\w.\\-]+)?")
LEADING = re.compile(rf"(?:{NAME.pattern}\s+)*(?:{NAME.pattern}\s*$)?")
# What Mastodon takes for a mention begins like this; an invisible space keeps the bot from calling others in.
CALL = re.compile(r"(?<![=/\w])@(?=\w)")


@dataclass(frozen=True, slots=True)
class Me:
    """The bot's account: `acct` is its name on its own server, `url` its page."""

    id: str
    acct: str
    url: str


@dataclass(frozen=True, slots=True)
class Aim:
    """Who an answer is for, who sees it, and what it answers. `to` are names such as `ann@example.org`."""

    to: tuple[str, ...]
    visibility: str
    warning: str = ""
    answers: str = ""


def read(status: Json, channel: str, me: Me, root: str, edited: bool = False) -> Message | None:
    """The message in a post that mentions the bot; None when it is a bot's, or says nothing.

    Another bot is not answered: it would answer that, and so on for ever, where everybody reads it.
    `root` is the id of the post that its thread begins with. Raises KeyError, TypeError or ValueError.
    """
    author = status["account"]
    if str(author["id"]) == me.id or author.get("bot"):
        return None
    direct = status["visibility"] == "direct"
    others = sorted({author["acct"], *(one["acct"] for one in status["mentions"] if str(one["id"]) != me.id)})
    private = direct and len(others) == 1
    place = Place(channel, "+".join(others) if direct else THREAD + root, kind="direct" if private else "group")
    words, named = without_mention(words_of(status), me)
    text = whole(status, words)
    attachments = tuple(map(attachment, status.get("media_attachments") or ()))
    if not text.strip() and not attachments:
        return None
    answered = status.get("in_reply_to_account_id")
    return Message(
        id=str(status["id"]),
        place=place,
        sender=Person(channel, author["acct"], author.get("display_name") or author["username"], author["acct"]),
        text=text,
        at=seconds(status.get("edited_at") or status["created_at"]),
        # Among several people everyone is named in every post: it is whose turn it is that counts.
        addressed=private or named or answered is None or str(answered) == me.id,
        edited=edited,
        quote=Quote(str(status["in_reply_to_id"])) if status.get("in_reply_to_id") else None,
        attachments=attachments,
        ticket=ticket(status, author["acct"], others),
        raw=status,
    )


def words_of(status: Json) -> str:
    """The text of a post: names and hashtags are words, not links."""
    pages = {one["url"]: "@" + one["acct"] for one in status["mentions"]}

    def replace(href: str, label: str) -> str | None:
        return pages.get(href) or (label if label.startswith("#") or label == href else None)

    return to_markdown(status["content"], replace)


def without_mention(text: str, me: Me) -> tuple[str, bool]:
    """A text without the bot among the names before it; and whether the bot is the first of them, or named later."""
    host = urlsplit(me.url).hostname or ""
    known = {f"@{me.acct}".lower(), f"@{me.acct}@{host}".lower()}

    def is_me(name: str) -> bool:
        return name.replace("\\", "").lower() in known

    found = LEADING.match(text)
    before = found.group().split() if found else []
    rest = text[found.end() :] if found else text
    named = bool(before and is_me(before[0])) or any(is_me(name) for name in NAME.findall(rest))
    return " ".join([*(name for name in before if not is_me(name)), rest]), named


def whole(status: Json, words: str) -> str:
    """A text with what else a post shows: its warning, what is in its pictures, its poll."""
    parts = [f"[content warning: {status['spoiler_text']}]" if status.get("spoiler_text") else "", words]
    shown = [one for one in status.get("media_attachments") or () if one.get("description")]
    parts += [f"[{one.get('type') or 'file'}: {one['description']}]" for one in shown]
    if status.get("poll"):
        parts.append(f"[poll: {', '.join(str(one['title']) for one in status['poll']['options'])}]")
    return "\n\n".join(part for part in parts if part.strip())


def attachment(media: Json) -> Attachment:
    url = media.get("url") or media.get("remote_url") or ""
    name = urlsplit(url).path.rpartition("/")[2]
    mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Attachment(KINDS.get(media.get("type") or "", "file"), name, mime, ref=url)


def seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def ticket(status: Json, author: str, others: Sequence[str]) -> str:
    """What an answer to this post needs."""
    to = [author, *(one for one in others if one != author)]
    visibility = NARROWER.get(status["visibility"], "direct")
    return json.dumps([to, visibility, status.get("spoiler_text") or "", str(status["id"])])


def aimed(place: Place, ticket: str) -> Aim:
    """Where a reply goes: an answer where its question was, anything else to the people of the place."""
    if ticket:
        to, visibility, warning, answers = json.loads(ticket)
        return Aim(tuple(to), visibility, warning, answers)
    if place.chat.startswith(THREAD):
        return Aim((), "unlisted", answers=place.chat.removeprefix(THREAD))
    return Aim(tuple(place.chat.split("+")), "direct")


def write(text: str, aim: Aim) -> Json:
    """What is posted, without what it answers: those it is for first, nobody else called."""
    words = CALL.sub("@\u200b", render(text, PLAIN))
    return {"status": " ".join([*handles(aim), words]).strip(), "spoiler_text": aim.warning[:WARNING]}


def handles(aim: Aim) -> list[str]:
    """The names that an answer begins with. In public, who does not fit is left out; the first is who asked."""
    named: list[str] = []
    for one in aim.to:
        if not named or aim.visibility == "direct" or len(" ".join([*named, f"@{one}"])) < HANDLES:
            named.append(f"@{one}")
    return named
