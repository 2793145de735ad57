"""Nostr events, and what is sealed in them: the pure part, where the SDK's cryptography is used.

NIP-17 (private messages), NIP-59 (gift wraps), NIP-04 (the old private messages), NIP-25 (reactions), NIP-42 (login):
https://github.com/nostr-protocol/nips
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

# Its classes for relays are not used: their streams do not tell when a message is safe with us.
from nostr_sdk import (  # type: ignore[import-untyped]
    Event as SignedEvent,
)
from nostr_sdk import (
    EventBuilder,
    Keys,
    Kind,
    NostrSdkError,
    PublicKey,
    Tag,
    Timestamp,
    UnsignedEvent,
    UnwrappedGift,
    nip59_make_gift_wrap,
)

from roost.dialects import PLAIN, render
from roost.values import Event, Message, Person, Place, Quote, Reply

Json = dict[str, Any]
Tags = tuple[tuple[str, ...], ...]

PROFILE, OLD_MESSAGE, DELETION, REACTION = 0, 4, 5, 7
MESSAGE, FILE = 14, 15
WRAP, INBOXES, LOGIN = 1059, 10050, 22242
OLD = "nip04"  # the ticket of a message that came the old way, and is answered so
LIKES = {"+": "👍", "": "👍", "-": "👎"}
MOST_MEMBERS = 20
AHEAD = 86400  # seconds that the clock of a writer may be ahead of ours; no time beyond that is believed
NPUB = re.compile(r"(?:nostr:|@)?(npub1[02-9ac-hj-np-z]{58})")


@dataclass(frozen=True, slots=True)
class Rumor:
    """Something one person said to some others: who they are is proven, when they said it is their word.

    `author` is hexadecimal, `at` in seconds. `kind` is one of the above; an unknown one is nobody's.
    """

    id: str
    author: str
    at: int
    kind: int
    tags: Tags
    content: str

    def named(self, tag: str) -> list[str]:
        return [one[1] for one in self.tags if len(one) > 1 and one[0] == tag]

    def first(self, tag: str) -> str:
        return next(iter(self.named(tag)), "")


# Keys


def keys_of(secret: str) -> Keys:
    """The key in `nsec1…` or 64 hexadecimal digits. Raises ValueError, without the secret in it."""
    try:
        return Keys.parse(secret.strip())
    except NostrSdkError:
        raise ValueError("it is no secret key.") from None


def fresh_secret() -> str:
    return str(Keys.generate().secret_key().to_bech32())


def hexadecimal(person: str) -> str:
    """A public key given as `npub1…` or in hexadecimal digits. Raises ValueError."""
    try:
        return str(PublicKey.parse(person).to_hex())
    except NostrSdkError:
        raise ValueError(f"'{person[:80]}' is no public key.") from None


def npub(public: str) -> str:
    return str(PublicKey.parse(public).to_bech32())


# Events in


def opened(event: Json, keys: Keys) -> Rumor:
    """What is in a gift wrap, or in an old private message, for these keys. Raises ValueError.

    Whoever sealed a rumor is its author (the SDK refuses anything else), and its id is made anew from what it says.
    """
    try:
        signed = SignedEvent.from_json(json.dumps(event))
        if event["kind"] == OLD_MESSAGE:
            return _old(signed, event, keys)
        told = json.loads(UnwrappedGift.from_gift_wrap(keys, signed).rumor().as_json())
        bare = {name: told[name] for name in ("pubkey", "created_at", "kind", "tags", "content")}
        id = UnsignedEvent.from_json(json.dumps(bare)).ensure_id().id()
        return _rumor(bare, id.to_hex() if id else "")
    except (NostrSdkError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def _old(signed: SignedEvent, event: Json, keys: Keys) -> Rumor:
    if not signed.verify():
        raise ValueError("its signature is wrong.")
    content = keys.nip04_decrypt(signed.author(), signed.content())
    return _rumor({**event, "content": content}, signed.id().to_hex())


def _rumor(told: Json, id: str) -> Rumor:
    tags = tuple(tuple(str(part) for part in tag) for tag in told["tags"])
    at = min(int(told["created_at"]), int(time.time()) + AHEAD)
    return Rumor(id, told["pubkey"], at, int(told["kind"]), tags, told["content"])


def inboxes(events: Sequence[Json], person: str) -> tuple[str, ...]:
    """Where a person wants private messages: the relays of the newest list among these events, or none."""
    lists = [one for one in events if one.get("kind") == INBOXES and one.get("pubkey") == person and genuine(one)]
    newest = max(lists, key=lambda one: one["created_at"], default=Json())
    return tuple(tag[1] for tag in newest.get("tags", ()) if len(tag) > 1 and tag[0] == "relay")


def genuine(event: Json) -> bool:
    try:
        return bool(SignedEvent.from_json(json.dumps(event)).verify())
    except NostrSdkError:
        return False


def place_of(rumor: Rumor, channel: str, me: str) -> Place:
    """The room of whoever it is between: one other person, or several. Raises ValueError."""
    others = sorted({rumor.author, *map(hexadecimal, rumor.named("p"))} - {me})
    if not 1 <= len(others) <= MOST_MEMBERS:
        raise ValueError(f"{len(others)} other people are in this room.")
    return Place(channel, "+".join(map(npub, others)), kind="direct" if len(others) == 1 else "group")


def members(place: Place) -> list[str]:
    """The public keys of the people in a room, without ours. Raises ValueError."""
    return [hexadecimal(one) for one in place.chat.split("+")]


def read(rumor: Rumor, channel: str, me: str, name: str, own: Collection[str] = ()) -> Message | Event | None:
    """What a rumor means; None for our own and for kinds that nobody reads. `own` are ids of what the bot said.

    Raises ValueError.
    """
    if rumor.author == me:
        return None
    place = place_of(rumor, channel, me)
    person = Person(channel, npub(rumor.author))
    target = (rumor.named("e") or [""])[-1]
    if rumor.kind == REACTION and target:
        value = LIKES.get(rumor.content, rumor.content)
        return Event("reacted", place, person, float(rumor.at), target, value)
    if rumor.kind == DELETION and target:
        return Event("deleted", place, person, float(rumor.at), target)
    if rumor.kind not in (OLD_MESSAGE, MESSAGE, FILE):
        return None
    text = _file(rumor) if rumor.kind == FILE else rumor.content
    text, called = without_mention(text, npub(me), name)
    if not text.strip():
        return None
    return Message(
        id=rumor.id,
        place=place,
        sender=person,
        text=text,
        at=float(rumor.at),
        addressed=place.kind == "direct" or called or target in own,
        quote=Quote(target) if target else None,
        ticket=OLD if rumor.kind == OLD_MESSAGE else "",
        key=rumor.id,
    )


def _file(rumor: Rumor) -> str:
    """The file itself is encrypted, on a web server."""
    return f"[file {rumor.first('file-type')} {rumor.content}]".replace("  ", " ")


def without_mention(text: str, me: str, name: str) -> tuple[str, bool]:
    """A text without the bot's name, or its npub, before it; and whether the bot is named at all."""
    called = any(found == me for found in NPUB.findall(text))
    leading = re.compile(rf"\s*(?:(?:nostr:|@)?{me}|@{re.escape(name)}\b|{re.escape(name)}[:,])[\s:,]*", re.IGNORECASE)
    found = leading.match(text)
    return (text[found.end() :], True) if found else (text, called)


# Events out


def signed(kind: int, content: str, tags: Sequence[Sequence[str]], keys: Keys) -> Json:
    return _json(EventBuilder(Kind(kind), content).tags(_tags(tags)).finalize(keys).as_json())


def rumor(kind: int, content: str, tags: Sequence[Sequence[str]], at: int, keys: Keys) -> UnsignedEvent:
    """The same arguments give the same id."""
    builder = EventBuilder(Kind(kind), content).tags(_tags(tags)).custom_created_at(Timestamp.from_secs(at))
    return builder.finalize_unsigned(keys.public_key()).ensure_id()


def id_of(one: UnsignedEvent) -> str:
    """The hash of what it says, in hexadecimal digits."""
    return str(one.ensure_id().id().to_hex())


def wrapped(one: UnsignedEvent, to: str, keys: Keys) -> Json:
    return _json(nip59_make_gift_wrap(keys, PublicKey.parse(to), one).as_json())


def written(place: Place, reply: Reply, at: int, keys: Keys) -> UnsignedEvent:
    """A reply as a chat message, in plain text as NIP-17 wants it. Raises ValueError for a place that is none."""
    tags = [["p", one] for one in members(place)] + ([["e", reply.quote]] if reply.quote else [])
    return rumor(MESSAGE, render(reply.text, PLAIN), tags, at, keys)


def written_old(to: str, reply: Reply, keys: Keys) -> Json:
    tags = [["p", to]] + ([["e", reply.quote]] if reply.quote else [])
    return signed(OLD_MESSAGE, keys.nip04_encrypt(PublicKey.parse(to), render(reply.text, PLAIN)), tags, keys)


def login(challenge: str, url: str, keys: Keys) -> Json:
    """The answer to a relay that wants to know who reads (NIP-42)."""
    return signed(LOGIN, "", [["relay", url], ["challenge", challenge]], keys)


def _tags(tags: Sequence[Sequence[str]]) -> list[Tag]:
    return [Tag.parse(list(tag)) for tag in tags]


def _json(text: str) -> Json:
    made: Json = json.loads(text)
    return made
