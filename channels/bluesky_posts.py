"""Bluesky's posts read and written: the pure part.

https://docs.bsky.app/docs/tutorials/creating-a-post and the lexicons in https://github.com/bluesky-social/atproto
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from roost.channels import bluesky_text as rich
from roost.contracts import Limits
from roost.dialects import LABELS
from roost.values import Attachment, Message, Person, Place, Quote

Json = dict[str, Any]
POST = "app.bsky.feed.post"
EMBED = "app.bsky.embed"
URI = "at://"  # what the place of a thread begins with: the address of its first post
PICTURE = 1_000_000  # bytes; the lexicon says twice that, older servers this
LIMITS = Limits(  # lexicons/app/bsky/feed/post.json and lexicons/app/bsky/embed/images.json
    max_text=300,
    unit="graphemes",
    max_bytes=3000,
    markup=LABELS,
    media={"image": PICTURE},
    files=4,
    urls=False,
    quotes=True,
    group_rate=0.5,
    idempotent=True,
)
ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Ref:
    """One version of a record: com.atproto.repo.strongRef."""

    uri: str
    cid: str

    def json(self) -> Json:
        return {"uri": self.uri, "cid": self.cid}


@dataclass(frozen=True, slots=True)
class Aim:
    """What a post answers, in which thread, and a time (seconds) that is the same for every try."""

    root: Ref
    parent: Ref
    at: float


def read(notification: Json, channel: str, me: str, around: Mapping[str, Json] | None = None) -> Message | None:
    """The message in a notification: a mention, a reply, a quote. None for anything else, and for the bot's own.

    `me` is the bot's DID; `around` holds the posts it answers or quotes, by address. Raises KeyError, TypeError,
    ValueError or AttributeError.
    """
    author, record = notification["author"], notification["record"]
    if author["did"] == me or record.get("$type") != POST:
        return None
    said, named = rich.read(str(record.get("text") or ""), record.get("facets"), me)
    uri, reply = str(notification["uri"]), record.get("reply")
    root = reply["root"] if reply else {"uri": uri, "cid": notification["cid"]}
    parent = str(reply["parent"]["uri"]) if reply else ""
    text = rich.lines([said, *embedded(record.get("embed"), said, around or {})])
    attachments = tuple(pictures(uri, record.get("embed")))
    if not text.strip() and not attachments:
        return None
    at = seconds(notification["indexedAt"])
    return Message(
        id=uri,
        place=Place(channel, str(root["uri"]), kind="group"),
        sender=person(channel, author),
        text=text,
        at=at,
        # Who is a few replies above is told of a reply as well, and a quote is a talk about the bot, not with it.
        addressed=named or owner(parent) == me,
        quote=quote(parent, around or {}),
        attachments=attachments,
        ticket=json.dumps([root["uri"], root["cid"], uri, notification["cid"], at]),
        raw=notification,
    )


def related(notification: Json, me: str) -> list[str]:
    """The posts, of others than the bot, without which a post cannot be understood."""
    record = notification.get("record") or {}
    reply, embed = record.get("reply") or {}, record.get("embed") or {}
    found = [(reply.get("parent") or {}).get("uri"), quoted(embed)]
    return [uri for uri in found if isinstance(uri, str) and f"/{POST}/" in uri and owner(uri) != me]


def quoted(embed: Json) -> str | None:
    record = embed.get("record") or {}
    record = record.get("record") or record  # with pictures it lies one deeper
    return record.get("uri")


def embedded(embed: Any, said: str, around: Mapping[str, Json]) -> Iterator[str]:
    """What else a post shows, in words."""
    if not isinstance(embed, dict):
        return
    if uri := quoted(embed):
        shown = around.get(uri)
        yield f"[quotes {handle(shown)}: {words(shown)}]" if shown else f"[quotes {uri}]"
    media = embed.get("media") or embed
    for one in images(media):
        yield f"[image: {one['alt']}]" if one.get("alt") else ""
    kind = str(media.get("$type") or "").removeprefix(EMBED + ".")
    if kind == "video":
        yield f"[video: {media['alt']}]" if media.get("alt") else "[video]"
    elif kind == "external" and media["external"]["uri"] not in said:
        yield f"[link: {media['external'].get('title') or ''} {media['external']['uri']}]"
    elif kind not in ("images", "gallery", "record", "external"):
        yield f"[{kind or 'something'}]"


def images(media: Json) -> list[Json]:
    found = media.get("images") or media.get("items") or []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("image"), dict)]


def pictures(uri: str, embed: Any) -> Iterator[Attachment]:
    if not isinstance(embed, dict):
        return
    for number, one in enumerate(images(embed.get("media") or embed)):
        mime = str(one["image"].get("mimeType") or "image/jpeg")
        # What is fetched may be another version of the picture, so its size is not known.
        name = f"picture-{number + 1}.{mime.partition('/')[2] or 'jpeg'}"
        yield Attachment("image", name, mime, ref=f"{uri} {number}")


def picture(view: Json, number: int) -> str:
    """The address of a picture in a post as the network shows it. Raises KeyError, IndexError or TypeError."""
    embed = view["embed"]
    media = embed.get("media") or embed
    return str((media.get("images") or media["items"])[number]["fullsize"])


def quote(parent: str, around: Mapping[str, Json]) -> Quote | None:
    if not parent:
        return None
    shown = around.get(parent)
    return Quote(parent, words(shown), handle(shown)) if shown else Quote(parent)


def words(view: Json) -> str:
    return str((view.get("record") or {}).get("text") or "")


def handle(view: Json) -> str:
    return str((view.get("author") or {}).get("handle") or "")


def person(channel: str, author: Json) -> Person:
    named = str(author.get("handle") or "")
    return Person(channel, author["did"], author.get("displayName") or named, named)


def owner(uri: str) -> str:
    """Whose record it is: the DID in its address."""
    return uri.removeprefix(URI).partition("/")[0]


def key_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def dated(told: Any) -> list[Json]:
    """The notifications that have an address and a time, as all do: others cannot be put in order."""
    found = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return [one for one in found if isinstance(one.get("uri"), str) and moment(str(one.get("indexedAt"))) > 0]


def moment(cursor: str) -> float:
    """The time that a place in the list of notifications is named by; 0 when it is named otherwise."""
    try:
        return seconds(cursor)
    except ValueError:
        return 0.0


def aimed(ticket: str) -> Aim | None:
    """Where an answer to a message goes; None for what answers nothing."""
    if not ticket:
        return None
    root, root_cid, uri, cid, at = json.loads(ticket)
    return Aim(Ref(root, root_cid), Ref(uri, cid), at)


def write(text: str, aim: Aim, languages: Sequence[str], now: float) -> Json:
    """The record of a post: https://atproto.com/guides/applications"""
    shown, facets = rich.write(text)
    created = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record: Json = {"$type": POST, "text": shown, "createdAt": created}
    record["reply"] = {"root": aim.root.json(), "parent": aim.parent.json()}
    return record | ({"facets": facets} if facets else {}) | ({"langs": list(languages)} if languages else {})


def with_pictures(record: Json, blobs: Sequence[tuple[Json, str]]) -> Json:
    """A post with pictures: what the server calls each, and its file's name, which says the best there is to say."""
    shown = [{"image": blob, "alt": PurePath(name).stem} for blob, name in blobs]
    return record | {"embed": {"$type": f"{EMBED}.images", "images": shown}} if shown else record


def record_key(once: str, at: float) -> str:
    """The name of the post that `once` stands for: a TID (https://atproto.com/specs/tid), the same for every try.

    Its time is the second `at`; what is finer, and the clock's identifier, come from `once`.
    """
    digest = hashlib.sha256(once.encode()).digest()
    micros = int(at) * 1_000_000 + int.from_bytes(digest[:4]) % 1_000_000
    value = (micros & (1 << 53) - 1) << 10 | int.from_bytes(digest[4:6]) & 1023
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(13)))


def time_of(key: str) -> float:
    """The time (seconds) in a TID; 0 for another name."""
    if len(key) != 13 or any(letter not in ALPHABET for letter in key):
        return 0.0
    value = 0
    for letter in key:
        value = value << 5 | ALPHABET.index(letter)
    return (value >> 10) / 1_000_000
