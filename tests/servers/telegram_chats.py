"""People and chats of the Telegram server: what a test says and does, what it sees, and the messages kept."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servers import telegram_rules as rules
from servers.telegram_rules import Upload, bad
from servers.telegram_text import cut, detect

if TYPE_CHECKING:
    from servers.telegram import TelegramServer

Json = dict[str, Any]

GENERAL_TOPIC = 1


@dataclass(frozen=True)
class File:
    id: str
    kind: str
    path: str
    data: bytes
    name: str
    mime: str


@dataclass
class Topic:
    name: str
    closed: bool = False


def now() -> int:
    return int(time.time())


def wording(message: Json) -> str:
    return str(message.get("text") or message.get("caption") or "")


RIGHTS = dict.fromkeys(
    rules.FACTS["types"]["ChatAdministratorRights"].keys()
    & {
        *("is_anonymous", "can_manage_chat", "can_delete_messages", "can_manage_video_chats"),
        *("can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users"),
        *("can_post_stories", "can_edit_stories", "can_delete_stories"),
    },
    False,
)


def member(user: Json, status: str) -> Json:
    """A ChatMember object."""
    if status == "administrator":
        return {"status": status, "user": user, "can_be_edited": False, **RIGHTS}
    return {"status": status, "user": user, **({"until_date": 0} if status == "kicked" else {})}


MEDIA: dict[str, Json] = {
    "photo": {},
    "document": {},
    "audio": {"duration": 1},
    "voice": {"duration": 1},
    "video": {"width": 320, "height": 240, "duration": 1},
    "animation": {"width": 320, "height": 240, "duration": 1},
    "video_note": {"length": 240, "duration": 1},
    "sticker": {"type": "regular", "width": 512, "height": 512, "is_animated": False, "is_video": False},
}
FOLDERS = {"photo": ("photos", ".jpg", ""), "voice": ("voice", ".oga", "audio/ogg")}
FOLDERS |= {"audio": ("music", ".mp3", "audio/mpeg"), "video": ("videos", ".mp4", "video/mp4")}
FOLDERS |= {"sticker": ("stickers", ".webp", "")}


CONTENT = MEDIA.keys() | {
    *("text", "entities", "caption", "caption_entities", "reply_markup"),
    *("location", "venue", "contact", "dice", "media_group_id"),
}


def identify(file: File) -> Json:
    return {"file_id": file.id, "file_unique_id": "AQAD" + file.id[-8:], "file_size": len(file.data)}


def describe(file: File) -> Json:
    """The part of a Message that shows a file."""
    if file.kind == "photo":
        width, height = rules.picture_size(file.data)
        small = {**identify(file), "width": max(1, width // 4), "height": max(1, height // 4)}
        return {"photo": [small, {**identify(file), "width": width, "height": height}]}
    shown = identify(file) | MEDIA[file.kind]
    if file.kind in ("document", "audio", "video", "animation"):
        shown["file_name"] = file.name
    if file.kind not in ("sticker", "video_note"):
        shown["mime_type"] = file.mime
    return {"animation": shown, "document": shown} if file.kind == "animation" else {file.kind: shown}


class Person:
    """Somebody with a Telegram account."""

    def __init__(self, server: TelegramServer, number: int, name: str, username: str, language: str) -> None:
        self.server, self.id, self.name, self.username = server, number, name, username
        self.blocked = False
        self.user: Json = {"id": number, "is_bot": False, "first_name": name, "language_code": language}
        if username:
            self.user["username"] = username

    async def block(self) -> None:
        """Block the bot: it hears of it, and what it sends is answered with 403."""
        self.blocked = True
        self._tell("member", "kicked")

    async def unblock(self) -> None:
        self.blocked = False
        self._tell("kicked", "member")

    def _tell(self, old: str, new: str) -> None:
        chat, bot = self.server.private(self), self.server.user
        change = {"chat": chat.info, "from": self.user, "date": now()}
        states = {"old_chat_member": member(bot, old), "new_chat_member": member(bot, new)}
        self.server.push("my_chat_member", change | states)


class Chat:
    """A chat, as the people in it see it. `messages` is the transcript: the bot's and the people's, oldest first.

    An edit changes the message in place and is noted in `edits` as (message_id, text or caption); a deleted message
    moves to `deleted`. All of a person's doings are coroutines on this class.
    """

    def __init__(self, server: TelegramServer, info: Json, people: tuple[Person, ...], admin: bool = False) -> None:
        self.server, self.info, self.id, self.kind = server, info, int(info["id"]), str(info["type"])
        self.people = {person.id: person for person in people}
        self.admin = admin
        self.bot_status = "administrator" if admin else "member"
        self.messages: list[Json] = []
        self.by_id: dict[int, Json] = {}
        self.deleted: list[Json] = []
        self.edits: list[tuple[int, str]] = []
        self.reactions: dict[int, dict[int, list[Json]]] = {}
        self.pinned: list[int] = []
        self.topics: dict[int, Topic] = {}
        self.migrated_to: int | None = None
        self.trace: list[float] | None = None
        self._unread: deque[Json] = deque()
        self._next_id = GENERAL_TOPIC + 1 if self.is_forum else 1

    @property
    def is_forum(self) -> bool:
        return bool(self.info.get("is_forum"))

    @property
    def is_group(self) -> bool:
        return self.kind in ("group", "supergroup")

    # A person's side

    async def say(
        self,
        text: str = "",
        *,
        by: Person | None = None,
        entities: list[Json] | None = None,
        reply_to: Json | int | None = None,
        topic: int | None = None,
        photo: bytes | None = None,
        document: bytes | None = None,
        audio: bytes | None = None,
        voice: bytes | None = None,
        video: bytes | None = None,
        sticker: bytes | None = None,
        location: tuple[float, float] | None = None,
        name: str = "",
        mime: str = "",
        **more: Any,
    ) -> Json:
        """Send a message as a person. With a file, the text is its caption; `more` are fields of Message."""
        if topic is not None and topic not in self.topics:
            raise ValueError(f"there is no topic {topic} in {self.info}")
        files = {"photo": photo, "document": document, "audio": audio, "voice": voice, "video": video}
        files["sticker"] = sticker
        content: Json = {}
        for kind, data in files.items():
            if data is not None:
                content |= self.server.attach(kind, Upload(name, mime, data))
        if location is not None:
            content["location"] = {"latitude": location[0], "longitude": location[1]}
        if text:
            words, marks = ("caption", "caption_entities") if content else ("text", "entities")
            content[words] = text
            if found := detect(text) if entities is None else entities:
                content[marks] = found
        message = self.post(self._author(by), content | more, topic, self._id(reply_to))
        self._announce(message)
        return message

    async def edit(self, message: Json | int, text: str, *, by: Person | None = None) -> Json:
        """Change the text (or caption) of a person's message."""
        found = self.by_id[self._id(message) or 0]
        words = "text" if "text" in found else "caption"
        found[words], found["edit_date"] = text, now()
        self.server.push("edited_channel_post" if self.kind == "channel" else "edited_message", dict(found))
        return found

    async def press(self, message: Json | int, button: str, *, by: Person | None = None) -> Json:
        """Press an inline button, named by its label or its callback_data; gives the callback query."""
        found = self.by_id[self._id(message) or 0]
        rows = found.get("reply_markup", {}).get("inline_keyboard", [])
        buttons = [b for row in rows for b in row if button in (b["text"], b.get("callback_data"))]
        if not buttons or "callback_data" not in buttons[0]:
            raise ValueError(f"'{button}' is no callback button of {rows}")
        query = {
            "id": str(4_382_000_000_000_000_000 + len(self.server.queries)),
            "from": self._author(by)["from"],
            "message": dict(found),
            "chat_instance": str(-self.id),
            "data": buttons[0]["callback_data"],
        }
        self.server.queries[query["id"]] = query
        self.server.push("callback_query", query)
        return query

    async def react(self, message: Json | int, emoji: str | None, *, by: Person | None = None) -> None:
        """Put one emoji on a message, or take it off (None). A bot hears of it in groups only as an admin."""
        number, user = self._id(message) or 0, self._author(by)["from"]
        given = self.reactions.setdefault(number, {})
        new = [{"type": "emoji", "emoji": emoji}] if emoji else []
        change = {"chat": self.info, "message_id": number, "user": user, "date": now()}
        change |= {"old_reaction": given.get(user["id"], []), "new_reaction": new}
        given[user["id"]] = new
        if self.admin or self.kind == "private":
            self.server.push("message_reaction", change)

    async def join(self, person: Person) -> None:
        self.people[person.id] = person
        self._announce(self.post({"from": person.user}, {"new_chat_members": [person.user]}))
        self._membership(person, "left", "member")

    async def leave(self, person: Person) -> None:
        del self.people[person.id]
        self._announce(self.post({"from": person.user}, {"left_chat_member": person.user}))
        self._membership(person, "member", "left")

    async def kick_bot(self) -> None:
        """Remove the bot: it hears of it, and what it sends is answered with 403."""
        old, self.bot_status = self.bot_status, "kicked"
        bot, author = self.server.user, self._author(None)["from"]
        change = {"chat": self.info, "from": author, "date": now()}
        states = {"old_chat_member": member(bot, old), "new_chat_member": member(bot, "kicked")}
        self.server.push("my_chat_member", change | states)

    async def topic(self, name: str, *, by: Person | None = None) -> int:
        """Open a topic; gives its message_thread_id."""
        return self.open_topic(name, self._author(by))

    async def migrate(self) -> Chat:
        """Upgrade a group to a supergroup: a new chat with a new id; the old one answers with migrate_to_chat_id."""
        new = self.server.supergroup(str(self.info["title"]), self.people.values(), self.admin)
        author = self._author(None)
        self._announce(self.post(author, {"migrate_to_chat_id": new.id}))
        new._announce(new.post(author, {"migrate_from_chat_id": self.id}))
        self.migrated_to = new.id
        return new

    async def next_reply(self, timeout: float = 5.0) -> Json:
        """The next message of the bot that was not taken yet. Raises TimeoutError, saying what the bot did do."""
        await self.server.until(lambda: self._unread, timeout, f"the bot said nothing in {self.info}")
        return self._unread.popleft()

    def _membership(self, person: Person, old: str, new: str) -> None:
        change = {"chat": self.info, "from": person.user, "date": now()}
        states = {"old_chat_member": member(person.user, old), "new_chat_member": member(person.user, new)}
        if self.admin:
            self.server.push("chat_member", change | states)

    def _author(self, by: Person | None) -> Json:
        if self.kind == "channel":
            return {"sender_chat": self.info}
        person = by or next(iter(self.people.values()))
        if person.id not in self.people:
            raise ValueError(f"'{person.name}' is not in {self.info}")
        return {"from": person.user}

    @staticmethod
    def _id(message: Json | int | None) -> int | None:
        return message if isinstance(message, int) or message is None else int(message["message_id"])

    def _announce(self, message: Json) -> None:
        if self.migrated_to is None and self.bot_status not in ("kicked", "left") and self._hears(message):
            self.server.push("channel_post" if self.kind == "channel" else "message", dict(message))

    def _hears(self, message: Json) -> bool:
        """Privacy mode: https://core.telegram.org/bots/features#privacy-mode"""
        if not self.is_group or self.admin or not self.server.privacy:
            return True
        if not message.keys() & CONTENT:
            return True  # a service message
        if message.get("reply_to_message", {}).get("from", {}).get("id") == self.server.user["id"]:
            return True
        return self._names_bot(wording(message), message.get("entities") or message.get("caption_entities") or [])

    def _names_bot(self, words: str, entities: list[Json]) -> bool:
        handle = f"@{self.server.user['username']}".lower()
        for entity in entities:
            part = cut(words, entity["offset"], entity["length"]).lower()
            if entity["type"] == "mention" and part == handle:
                return True
            if entity["type"] == "text_mention" and entity["user"]["id"] == self.server.user["id"]:
                return True
            if entity["type"] == "bot_command" and ("@" not in part or part.endswith(handle)):
                return True
        return False

    # What both sides do

    def post(self, author: Json, content: Json, topic: int | None = None, reply_to: int | None = None) -> Json:
        """Add a message to the transcript."""
        message: Json = {"message_id": self._next_id, **author, "chat": self.info, "date": now()}
        self._next_id += 1
        root = self.by_id.get(topic) if topic else None
        if topic and topic != GENERAL_TOPIC and self.is_forum:
            message |= {"message_thread_id": topic, "is_topic_message": True}
        if quoted := self.by_id.get(reply_to or 0) or (root if self.is_forum else None):
            message["reply_to_message"] = {k: v for k, v in quoted.items() if k != "reply_to_message"}
            if self.kind == "supergroup" and not self.is_forum:
                message["message_thread_id"] = quoted.get("message_thread_id", quoted["message_id"])
        if self.info.get("is_direct_messages") and author.get("from", {}).get("id") in self.people:
            message["direct_messages_topic"] = {"topic_id": author["from"]["id"], "user": author["from"]}
        message |= content
        self.messages.append(message)
        self.by_id[message["message_id"]] = message
        self._bound()
        return message

    def post_by_bot(self, content: Json, topic: int | None = None, reply_to: int | None = None) -> Json:
        author = {"sender_chat": self.info} if self.kind == "channel" else {"from": self.server.sender}
        message = self.post(author, content, topic, reply_to)
        self._unread.append(message)
        if self.trace is not None:
            self.trace.append(time.perf_counter())
        return message

    def open_topic(self, name: str, author: Json) -> int:
        if not self.is_forum:
            raise bad("the chat is not a forum")
        message = self.post(author, {"forum_topic_created": {"name": name, "icon_color": 7322096}})
        number = int(message["message_id"])
        message |= {"message_thread_id": number, "is_topic_message": True}
        self.topics[number] = Topic(name)
        if author.get("from") is not self.server.sender:
            self._announce(message)
        return number

    def remove(self, message: Json) -> None:
        del self.by_id[message["message_id"]]
        if message in self.messages:
            self.messages.remove(message)
        self.deleted.append(message)

    def _bound(self) -> None:
        keep = self.server.keep
        if keep is not None and len(self.messages) > 2 * keep:
            for message in self.messages[:-keep]:
                self.by_id.pop(message["message_id"], None)
            del self.messages[:-keep], self.edits[:-keep], self.deleted[:-keep]
            while len(self._unread) > keep:
                self._unread.popleft()
