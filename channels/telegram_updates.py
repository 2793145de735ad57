"""What Telegram's updates say, in the words of the core.

Updates are read as the plain dicts they arrive as: making python-telegram-bot's objects of them costs more than all
the rest, and one that cannot be made would cost the others of its batch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from telegram import User

from roost import writing
from roost.channels.telegram_entities import Json, content, covered, read_text, words
from roost.values import Attachment, AttachmentKind, Event, Message, Person, Place, PlaceKind, Quote


def read(update: Json, name: str, me: User) -> Message | Event | None:
    """Read an Update (https://core.telegram.org/bots/api#update) for the channel `name` of the bot `me`.

    None is for what nobody said: service messages, other bots. Raises KeyError and the like when it is malformed.
    """
    for kind, reader in OTHERS.items():
        if kind in update:
            return reader(update[kind], name)
    edited = update.get("edited_message") or update.get("edited_channel_post")
    body = edited or update.get("message") or update.get("channel_post")
    if body is None or (is_bot(body) and "sender_chat" not in body):
        return None
    if "new_chat_members" in body or "left_chat_member" in body:
        return read_members(body, name, me)
    message = read_message(body, name, me)
    if message is None or not edited:
        return message
    # Two edits may share a second, so the time alone does not tell one from a second delivery of the other.
    moment = f"{body.get('edit_date', 0)}.{update['update_id']}"
    return replace(message, edited=True, key=f"{message.key}@{moment}")


def read_message(body: Json, name: str, me: User) -> Message | None:
    attachments = read_attachments(body)
    text, mentions = read_text(body, me)
    if not attachments and "text" not in body:
        text = "\n\n".join(filter(None, [text, describe(body)]))
        if not text:
            return None
    place = read_place(body, name)
    return Message(
        id=str(body["message_id"]),
        place=place,
        sender=read_person(body, name),
        text=text,
        at=float(body["date"]),
        addressed=place.kind == "direct" or is_addressed(body, me),
        mentions=mentions,
        quote=read_quote(body, name),
        attachments=attachments,
        album=str(body.get("media_group_id", "")),
        key=f"{body['chat']['id']}:{body['message_id']}",
        raw=body,
    )


DIRECT = "direct-"  # before the topic's id, in the thread of a place
KINDS: dict[str, PlaceKind] = {"private": "direct", "group": "group", "supergroup": "group", "channel": "broadcast"}


def read_place(body: Json, name: str) -> Place:
    """Replies outside of topics have a `message_thread_id` too, which is not one that can be written to.

    The direct messages of a channel are one chat, in which each person is a topic of its own.
    """
    chat = body["chat"]
    thread = str(body["message_thread_id"]) if body.get("is_topic_message") else ""
    if topic := body.get("direct_messages_topic"):
        thread = f"{DIRECT}{topic['topic_id']}"
    return Place(name, str(chat["id"]), thread, KINDS[chat["type"]])


def is_bot(body: Json) -> bool:
    return bool(body.get("from", {}).get("is_bot"))


def read_person(body: Json, name: str) -> Person:
    """Who wrote it. Anonymous admins and channels write as a chat; `from` is then a stand-in that is a bot."""
    chat = body.get("sender_chat") or (body["chat"] if "from" not in body else None)
    return person(chat or body["from"], name)


def person(who: Json, name: str) -> Person:
    """Make a Person of a User or a Chat."""
    names = [who.get("first_name", ""), who.get("last_name", "")]
    shown = who.get("title") or " ".join(part for part in names if part)
    return Person(name, str(who["id"]), shown, who.get("username", ""))


def read_quote(body: Json, name: str) -> Quote | None:
    """What is answered: the part that was picked, or all of it. The first message of a topic is not an answer."""
    part, origin = body.get("quote"), body.get("reply_to_message")
    if origin is None or "forum_topic_created" in origin:
        return Quote("", words(part)) if part else None
    return Quote(str(origin["message_id"]), words(part or origin) or describe(origin), read_person(origin, name).name)


def is_addressed(body: Json, me: User) -> bool:
    """Whether a message in a group is for the bot: a command, a mention or an answer to it."""
    text, entities = content(body)
    names = [(entity, covered(text, entity).lower()) for entity in entities]
    mine = f"@{me.username}".lower()
    for entity, name in names:
        if entity["type"] == "bot_command" and entity["start"] == 0:
            return "@" not in name or name.endswith(mine)
    if any(entity["type"] == "mention" and name == mine for entity, name in names):
        return True
    if any(entity.get("user", {}).get("id") == me.id for entity in entities):
        return True
    origin = body.get("reply_to_message", {})
    return origin.get("from", {}).get("id") == me.id and "forum_topic_created" not in origin


def read_press(press: Json, name: str) -> Message | None:
    """A pressed button: its data, said in the place of the message it hangs under. It has no time of its own."""
    if "message" not in press or "data" not in press:
        return None
    return Message(
        id=f"press:{press['id']}",
        place=read_place(press["message"], name),
        sender=person(press["from"], name),
        text=str(press["data"]),
        at=time.time(),
        key=f"press:{press['id']}",
        raw=press,
    )


def read_reaction(change: Json, name: str) -> Event | None:
    """The emoji that were added; none when one was taken away."""
    who = change.get("user") or change.get("actor_chat") or change["chat"]
    if who.get("is_bot"):
        return None
    old, new = (
        [one.get("emoji") or one.get("custom_emoji_id") or "⭐" for one in change[side]]
        for side in ("old_reaction", "new_reaction")
    )
    added = "".join(emoji for emoji in new if emoji not in old)
    place = read_place(change, name)
    return Event("reacted", place, person(who, name), float(change["date"]), str(change["message_id"]), added, change)


def read_membership(change: Json, name: str) -> Event | None:
    """The bot was let in or thrown out; in a direct chat, a person unblocked or blocked it."""
    place = read_place(change, name)
    there = [change[side]["status"] not in {"left", "kicked"} for side in ("old_chat_member", "new_chat_member")]
    if there[0] == there[1]:
        return None
    who = change["from"] if place.kind == "direct" else change["new_chat_member"]["user"]
    return Event("joined" if there[1] else "left", place, person(who, name), float(change["date"]), raw=change)


def read_members(body: Json, name: str, me: User) -> Event | None:
    """People who came or went. `value` names them all, `person` is the first; the bot itself is told elsewhere."""
    came = "new_chat_members" in body
    members = body["new_chat_members"] if came else [body["left_chat_member"]]
    people = [person(one, name) for one in members if one["id"] != me.id]
    if not people:
        return None
    place, at, names = read_place(body, name), float(body["date"]), ", ".join(one.name for one in people)
    return Event("joined" if came else "left", place, people[0], at, str(body["message_id"]), names, body)


OTHERS: dict[str, Callable[[Json, str], Message | Event | None]] = {
    "callback_query": read_press,
    "message_reaction": read_reaction,
    "my_chat_member": read_membership,
}

MEDIA: dict[str, tuple[AttachmentKind, str, str]] = {
    # A document goes along with an animation for old clients, so the animation is looked for first.
    "animation": ("video", "video/mp4", "mp4"),
    "audio": ("audio", "audio/mpeg", "mp3"),
    "document": ("file", "application/octet-stream", "bin"),
    "sticker": ("sticker", "image/webp", "webp"),
    "video": ("video", "video/mp4", "mp4"),
    "video_note": ("video", "video/mp4", "mp4"),
    "voice": ("voice", "audio/ogg", "ogg"),
    "photo": ("image", "image/jpeg", "jpg"),
}


def read_attachments(body: Json) -> tuple[Attachment, ...]:
    """The file of a message; it has one at most. `ref` is the file_id, good for this bot and for ever."""
    found = next((kind for kind in MEDIA if kind in body), None)
    if found is None:
        return ()
    kind, mime, ending = MEDIA[found]
    file = body[found]
    if found == "photo":
        file = max(file, key=lambda size: size["width"] * size["height"])
    if file.get("is_video") or file.get("is_animated"):
        mime, ending = ("video/webm", "webm") if file.get("is_video") else ("application/x-tgsticker", "tgs")
    name = file.get("file_name") or f"{found}-{file['file_unique_id']}.{ending}"
    return (Attachment(kind, name, file.get("mime_type", mime), file.get("file_size"), file["file_id"]),)


# Everything in a Message that says how, not what; the rest of its keys are what describe() looks at.
ENVELOPE = re.compile(
    r"message_id|message_thread_id|direct_messages_topic|from|sender_\w+|date|guest_\w+|business_\w+|chat|forward_\w+"
    r"|is_\w+|reply_\w+|external_reply|quote|via_bot|edit_date|has_\w+|media_group_id|author_signature|show_caption\w+"
    r"|paid_star_count|effect_id|link_preview_options|suggested_post_info|caption|caption_entities|entities|text"
)
SERVICE = re.compile(
    r"new_chat_\w+|delete_chat_photo|\w+_chat_created|chat_\w+|message_auto_delete\w+|migrate_\w+|pinned_message"
    r"|\w*forum_topic\w+|video_chat_\w+|boost_added|giveaway_c\w+|managed_bot_created|poll_option_\w+"
    r"|suggested_post_\w+|\w+_price_changed|checklist_tasks_\w+|write_access_allowed|connected_website"
)


def describe(body: Json) -> str:
    """What is not text, in brackets: `[location 52.1, 4.3]`. Empty for a service message."""
    kinds = [kind for kind in body if not ENVELOPE.fullmatch(kind)]
    if not kinds or any(SERVICE.fullmatch(kind) for kind in kinds):
        return ""
    # A venue comes with its location, a game with its animation.
    kind = next((one for one in DETAILS if one in kinds), kinds[0])
    details = DETAILS[kind](body[kind]) if kind in DETAILS else ""
    return "\n".join(map(writing.escape, f"[{kind.replace('_', ' ')} {details}".rstrip().split("\n"))) + "]"


def _where(location: Json) -> str:
    return f"{location['latitude']}, {location['longitude']}"


DETAILS: dict[str, Callable[[Json], str]] = {
    "venue": lambda it: f"{it['title']}, {it['address']}, {_where(it['location'])}",
    "location": _where,
    "contact": lambda it: f"{it['first_name']} {it.get('last_name', '')}".rstrip() + f", {it['phone_number']}",
    "poll": lambda it: " / ".join([it["question"], *(option["text"] for option in it["options"])]),
    "checklist": lambda it: " / ".join([it["title"], *(task["text"] for task in it["tasks"])]),
    "dice": lambda it: f"{it['emoji']} {it['value']}",
    "game": lambda it: str(it["title"]),
    "invoice": lambda it: str(it["title"]),
    "web_app_data": lambda it: str(it["data"]),
    "rich_message": lambda it: "\n".join("".join(_strings(block)) for block in it["blocks"]),
}


def _strings(node: Any) -> Iterator[str]:
    """The words of a block of a rich message, whatever it is."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        node = [node[name] for name in ("summary", "text", "caption", "blocks", "items", "cells") if name in node]
    if isinstance(node, list):
        for part in node:
            yield from _strings(part)
