"""The methods of the Telegram server: what each of them checks and does, as its documentation says."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from servers import telegram_rules as rules
from servers.telegram_chats import CONTENT, MEDIA, Chat, Json, Topic, describe, identify, member, now, wording
from servers.telegram_rules import RULES, Refused, Upload, bad
from servers.telegram_text import Parsed, parse
from servers.telegram_webhook import check_webhook

if TYPE_CHECKING:
    from servers.telegram import TelegramServer

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current "
    "content and reply markup of the message"
)


class Action(NamedTuple):
    chat_id: int
    action: str
    topic: int | None
    at: float


class Methods:
    """What each method of the Bot API does to the state. One function a method, named like it; errors are Refused."""

    def __init__(self, server: TelegramServer) -> None:
        self.server = server
        self.attached: dict[str, Upload] = {}
        self.table: dict[str, Callable[[Json], Any]] = {
            name: getattr(self, method) for name, (method, _) in RULES.methods.items() if method != "getUpdates"
        }

    # Targets and contents

    def chat(self, chat_id: int | str) -> Chat:
        server = self.server
        chat = server.chats.get(chat_id) if isinstance(chat_id, int) else server.named(chat_id)
        if chat is None:
            raise bad("chat not found")
        if chat.migrated_to is not None:
            reason = "group chat was upgraded to a supergroup chat"
            raise bad(reason, migrate_to_chat_id=chat.migrated_to)
        if chat.bot_status == "kicked":
            raise Refused(403, f"Forbidden: bot was kicked from the {chat.kind} chat")
        if chat.bot_status == "left":
            raise Refused(403, f"Forbidden: bot is not a member of the {chat.kind} chat")
        return chat

    def target(self, p: Json) -> tuple[Chat, int | None]:
        """The chat and topic a message may be sent to."""
        if p.get("business_connection_id"):
            raise bad("business connection not found")
        chat, topic = self.chat(p["chat_id"]), p.get("message_thread_id") or None
        if chat.kind == "private" and next(iter(chat.people.values())).blocked:
            raise Refused(403, "Forbidden: bot was blocked by the user")
        if chat.kind == "channel" and not chat.admin:
            raise bad("need administrator rights in the channel chat")
        if topic is not None and chat.is_group and not chat.is_forum:
            self.server.complain(f"message_thread_id {topic} in a chat that is not a forum")
            topic = None
        if topic is not None and topic not in chat.topics:
            raise bad("message thread not found")
        if topic is not None and chat.topics[topic].closed and not chat.admin:
            raise bad("TOPIC_CLOSED")
        return chat, topic

    def send(self, p: Json, *contents: Json) -> list[Json]:
        rules.check_keyboard(p.get("reply_markup"))
        chat, topic = self.target(p)
        reply_to = self._reply_to(p.get("reply_parameters"), chat)
        if self.server.enforce_rates:
            for _ in contents:
                self.server.rates.take(chat.id, chat.is_group)
        markup = p.get("reply_markup", {})
        extra = {"reply_markup": markup} if "inline_keyboard" in markup else {}
        if p.get("protect_content"):
            extra["has_protected_content"] = True
        if chat.info.get("is_direct_messages"):
            extra["direct_messages_topic"] = self._direct(p, chat)
        if markup and not extra.get("reply_markup"):
            self.server.keyboards[chat.id] = markup
        return [chat.post_by_bot({**content, **extra}, topic, reply_to) for content in contents]

    @staticmethod
    def _direct(p: Json, chat: Chat) -> Json:
        """ "Required if the message is sent to a direct messages chat". The words of the refusals are ours."""
        if "direct_messages_topic_id" not in p:
            raise bad("direct messages topic must be specified")
        person = chat.people.get(int(p["direct_messages_topic_id"]))
        if person is None:
            raise bad("direct messages topic not found")
        return {"topic_id": person.id, "user": person.user}

    def _reply_to(self, reply: Json | None, chat: Chat) -> int | None:
        if reply is None:
            return None
        source = self.chat(reply["chat_id"]) if "chat_id" in reply else chat
        found = source.by_id.get(reply["message_id"])
        if found is None and not (reply.get("allow_sending_without_reply") and source is chat):
            raise bad("message to be replied not found")
        if found is not None and reply.get("quote"):
            quote = self._words(reply["quote"], reply.get("quote_parse_mode"), reply.get("quote_entities"))
            if quote.text not in wording(found):
                raise bad("QUOTE_TEXT_INVALID")
        return int(found["message_id"]) if found is not None and source is chat else None

    def _words(self, text: str, mode: str | None, entities: list[Json] | None) -> Parsed:
        parsed = parse(text, mode, entities, self.server.user_by_id)
        for complaint in parsed.complaints:
            self.server.complain(complaint)
        return parsed

    def _text(self, p: Json, empty: bool = False) -> Json:
        text = p.get("text", "")
        if not text and not empty:
            raise bad("message text is empty")
        parsed = self._words(text, p.get("parse_mode"), p.get("entities"))
        if not parsed.text and not empty:
            raise bad("text must be non-empty")
        if len(parsed.text) > rules.MAX_TEXT:
            raise bad("message is too long")
        content: Json = {"text": parsed.text}
        return content | {"entities": parsed.entities} if parsed.entities else content

    def _caption(self, p: Json) -> Json:
        if not p.get("caption"):
            return {}
        parsed = self._words(p["caption"], p.get("parse_mode"), p.get("caption_entities"))
        if len(parsed.text) > rules.MAX_CAPTION:
            raise bad("message caption is too long")
        content: Json = {"caption": parsed.text} if parsed.text else {}
        return content | {"caption_entities": parsed.entities} if parsed.entities else content

    def _media(self, kind: str, value: Upload | str) -> Json:
        if isinstance(value, str) and value.startswith("attach://"):
            name = value.removeprefix("attach://")
            if name not in self.attached:
                raise bad(f'file "{name}" is not in the request: wrong attach:// address')
            value = self.attached[name]
        if isinstance(value, str) and re.match(r"https?://", value):
            if value not in self.server.web:
                raise bad("failed to get HTTP URL content")
            value = Upload(value.rsplit("/", 1)[-1], "", self.server.web[value])
        if isinstance(value, Upload):
            rules.check_upload(kind, value.data)
            return self.server.attach(kind, value)
        file = self.server.files.get(value)
        if file is None:
            raise bad("wrong file identifier/HTTP URL specified")
        if file.kind != kind:
            raise bad(f"can't use file of type {file.kind.title()} as {kind.title()}")
        return describe(file)

    def _file(self, kind: str, p: Json) -> Json:
        return self.send(p, self._media(kind, p[kind]) | self._caption(p))[0]

    def _message(self, p: Json, what: str) -> tuple[Chat, Json]:
        if "chat_id" not in p or "message_id" not in p:
            raise bad("message identifier is not specified")
        chat = self.chat(p["chat_id"])
        found = chat.by_id.get(p["message_id"])
        if found is None:
            raise bad(f"message to {what} not found")
        return chat, found

    def _edit(self, p: Json, change: Callable[[Json], Json]) -> Json:
        """Replace content and keyboard; a keyboard that is not given again goes away."""
        rules.check_keyboard(p.get("reply_markup"))
        chat, found = self._message(p, "edit")
        if found.get("from", self.server.sender)["id"] != self.server.user["id"]:
            raise bad("message can't be edited")
        old = {key: value for key, value in found.items() if key in CONTENT}
        new = change(found)
        if p.get("reply_markup", {}).get("inline_keyboard"):
            new["reply_markup"] = p["reply_markup"]
        if new == old:
            raise bad(NOT_MODIFIED)
        for key in old:
            del found[key]
        found.update(new, edit_date=now())
        chat.edits.append((found["message_id"], wording(found)))
        return found

    # Getting updates

    def getMe(self, p: Json) -> Json:
        return self.server.user

    def setWebhook(self, p: Json) -> bool:
        if not p["url"]:
            return self.deleteWebhook(p)
        check_webhook(p)
        self.server.allow(p.get("allowed_updates"))
        self.server.set_webhook(p)
        return True

    def deleteWebhook(self, p: Json) -> bool:
        self.server.set_webhook(None)
        if p.get("drop_pending_updates"):
            self.server.updates.clear()
        return True

    def getWebhookInfo(self, p: Json) -> Json:
        hook = self.server.webhook
        info: Json = {"url": "", "has_custom_certificate": False}
        info["pending_update_count"] = len(self.server.updates)
        if hook is not None:
            info |= {"url": hook.url, "pending_update_count": hook.pending(), **hook.error}
            info |= {"max_connections": hook.connections, "ip_address": "127.0.0.1"}
        if self.server.allowed != rules.DEFAULT_UPDATES:
            info["allowed_updates"] = sorted(self.server.allowed)
        return info

    # Sending

    def sendMessage(self, p: Json) -> Json:
        return self.send(p, self._text(p))[0]

    def sendMessageDraft(self, p: Json) -> bool:
        if p["draft_id"] == 0:
            raise bad("TEXTDRAFT_ID_INVALID")
        content = self._text(p, empty=True)
        chat, _ = self.target(p)
        if chat.kind != "private":
            raise bad("TEXTDRAFT_PEER_INVALID")
        self.server.drafts.append((chat.id, p["draft_id"], content["text"]))
        return True

    def sendPhoto(self, p: Json) -> Json:
        return self._file("photo", p)

    def sendAudio(self, p: Json) -> Json:
        return self._file("audio", p)

    def sendDocument(self, p: Json) -> Json:
        return self._file("document", p)

    def sendVideo(self, p: Json) -> Json:
        return self._file("video", p)

    def sendAnimation(self, p: Json) -> Json:
        return self._file("animation", p)

    def sendVoice(self, p: Json) -> Json:
        return self._file("voice", p)

    def sendVideoNote(self, p: Json) -> Json:
        return self._file("video_note", p)

    def sendSticker(self, p: Json) -> Json:
        return self._file("sticker", p)

    def sendMediaGroup(self, p: Json) -> list[Json]:
        if not 2 <= len(p["media"]) <= 10:
            raise bad("wrong number of items specified in the album")
        kinds = {item["type"] for item in p["media"]}
        if len(kinds) > 1 and kinds & {"document", "audio"}:
            raise bad("can't use the media of the specified type in the album")
        album = {"media_group_id": str(13_000_000_000 + len(self.server.files))}
        return self.send(p, *(self._media(i["type"], i["media"]) | self._caption(i) | album for i in p["media"]))

    def sendLocation(self, p: Json) -> Json:
        if abs(p["latitude"]) > 90 or abs(p["longitude"]) > 180:
            raise bad("wrong location specified")
        return self.send(p, {"location": {"latitude": p["latitude"], "longitude": p["longitude"]}})[0]

    def sendVenue(self, p: Json) -> Json:
        place = {"latitude": p["latitude"], "longitude": p["longitude"]}
        venue = {"location": place, "title": p["title"], "address": p["address"]}
        return self.send(p, {"venue": venue, "location": place})[0]

    def sendContact(self, p: Json) -> Json:
        return self.send(p, {"contact": {"phone_number": p["phone_number"], "first_name": p["first_name"]}})[0]

    def sendDice(self, p: Json) -> Json:
        return self.send(p, {"dice": {"emoji": p.get("emoji", "🎲"), "value": 4}})[0]

    def forwardMessage(self, p: Json) -> Json:
        _, found = self._message({**p, "chat_id": p["from_chat_id"]}, "forward")
        origin: Json = {"type": "user", "sender_user": found.get("from"), "date": found["date"]}
        if "from" not in found:
            origin = {"type": "channel", "chat": found["chat"], "message_id": found["message_id"]}
            origin["date"] = found["date"]
        return self.send(p, {k: v for k, v in found.items() if k in CONTENT} | {"forward_origin": origin})[0]

    def copyMessage(self, p: Json) -> Json:
        _, found = self._message({**p, "chat_id": p["from_chat_id"]}, "copy")
        content = {k: v for k, v in found.items() if k in CONTENT and k != "reply_markup"}
        return {"message_id": self.send(p, content | self._caption(p))[0]["message_id"]}

    def sendChatAction(self, p: Json) -> bool:
        if p["action"] not in rules.ACTIONS:
            raise bad("wrong parameter action in request")
        chat, topic = self.target(p)
        self.server.actions.append(Action(chat.id, p["action"], topic, time.monotonic()))
        return True

    def setMessageReaction(self, p: Json) -> bool:
        chat, found = self._message(p, "react")
        rules.check_reactions(p.get("reaction", []))
        chat.reactions.setdefault(found["message_id"], {})[self.server.user["id"]] = p.get("reaction", [])
        return True

    # Changing what was sent

    def editMessageText(self, p: Json) -> Json:
        if "rich_message" in p:
            raise bad("rich messages are not offered by this server")
        content = self._text(p)

        def change(found: Json) -> Json:
            if "text" not in found:
                raise bad("there is no text in the message to edit")
            return content

        return self._edit(p, change)

    def editMessageCaption(self, p: Json) -> Json:
        content = self._caption(p)

        def change(found: Json) -> Json:
            media = {key: value for key, value in found.items() if key in MEDIA}
            if not media:
                raise bad("there is no caption in the message to edit")
            return media | content

        return self._edit(p, change)

    def editMessageMedia(self, p: Json) -> Json:
        content = self._media(p["media"]["type"], p["media"]["media"]) | self._caption(p["media"])
        return self._edit(p, lambda found: content)

    def editMessageReplyMarkup(self, p: Json) -> Json:
        return self._edit(p, lambda found: {k: v for k, v in found.items() if k in CONTENT and k != "reply_markup"})

    def deleteMessage(self, p: Json) -> bool:
        chat, found = self._message(p, "delete")
        own = found.get("from", self.server.sender)["id"] == self.server.user["id"]
        if not own and chat.kind != "private" and not chat.admin:
            raise bad("message can't be deleted")
        chat.remove(found)
        return True

    def deleteMessages(self, p: Json) -> bool:
        if not 1 <= len(p["message_ids"]) <= 100:
            raise bad("too many message identifiers specified")
        chat = self.chat(p["chat_id"])
        for number in p["message_ids"]:  # "If some of the specified messages can't be found, they are skipped"
            if number in chat.by_id:
                self.deleteMessage({"chat_id": chat.id, "message_id": number})
        return True

    def answerCallbackQuery(self, p: Json) -> bool:
        if p["callback_query_id"] not in self.server.queries:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        if len(p.get("text", "")) > rules.MAX_ANSWER:
            raise bad("MESSAGE_TOO_LONG")
        self.server.answers[p["callback_query_id"]] = p
        return True

    # Files

    def getFile(self, p: Json) -> Json:
        file = self.server.files.get(p["file_id"])
        if file is None:
            raise bad("wrong file_id or the file is temporarily unavailable")
        if len(file.data) > rules.MAX_DOWNLOAD:
            raise bad("file is too big")
        return {**identify(file), "file_path": file.path}

    def getUserProfilePhotos(self, p: Json) -> Json:
        if self.server.user_by_id(p["user_id"]) is None:
            raise bad("user not found")
        return {"total_count": 0, "photos": []}

    # Chats

    def getChat(self, p: Json) -> Json:
        chat = self.chat(p["chat_id"])
        gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
        full = {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": dict.fromkeys(gifts, True)}
        return {**chat.info, **full}

    def getChatMember(self, p: Json) -> Json:
        chat, number = self.chat(p["chat_id"]), p["user_id"]
        if number == self.server.user["id"]:
            return member(self.server.user, chat.bot_status)
        user = self.server.user_by_id(number)
        if user is None:
            raise bad("PARTICIPANT_ID_INVALID")
        return member(user, "member" if number in chat.people else "left")

    def getChatAdministrators(self, p: Json) -> list[Json]:
        chat = self.chat(p["chat_id"])
        if chat.kind == "private":
            raise bad("there are no administrators in the private chat")
        owner = [{"status": "creator", "is_anonymous": False, "user": q.user} for q in chat.people.values()][:1]
        return owner + ([member(self.server.user, "administrator")] if chat.admin else [])

    def getChatMemberCount(self, p: Json) -> int:
        return len(self.chat(p["chat_id"]).people) + 1

    def banChatMember(self, p: Json) -> bool:
        chat = self._administered(p)
        if chat.people.pop(p["user_id"], None) is None:
            raise bad("PARTICIPANT_ID_INVALID")
        return True

    def unbanChatMember(self, p: Json) -> bool:
        return bool(self._administered(p))

    def leaveChat(self, p: Json) -> bool:
        self.chat(p["chat_id"]).bot_status = "left"
        return True

    def _administered(self, p: Json) -> Chat:
        chat = self.chat(p["chat_id"])
        if not chat.admin:
            raise bad("not enough rights")
        return chat

    def pinChatMessage(self, p: Json) -> bool:
        chat, found = self._message(p, "pin")
        if chat.kind != "private" and not chat.admin:
            raise bad("not enough rights to manage pinned messages in the chat")
        chat.pinned.append(found["message_id"])
        return True

    def unpinChatMessage(self, p: Json) -> bool:
        chat = self.chat(p["chat_id"])
        number = p.get("message_id", chat.pinned[-1] if chat.pinned else 0)
        if number not in chat.pinned:
            raise bad("message to unpin not found")
        chat.pinned.remove(number)
        return True

    def unpinAllChatMessages(self, p: Json) -> bool:
        self.chat(p["chat_id"]).pinned.clear()
        return True

    def createForumTopic(self, p: Json) -> Json:
        if not 1 <= len(p["name"]) <= 128:
            raise bad("TOPIC_TITLE_EMPTY" if not p["name"] else "TOPIC_TITLE_TOO_LONG")
        chat = self.chat(p["chat_id"])
        if chat.is_forum and not chat.admin:
            raise bad("not enough rights to create a topic")
        number = chat.open_topic(p["name"], {"from": self.server.sender})
        return {"message_thread_id": number, "name": p["name"], "icon_color": 7322096}

    def _topic(self, p: Json) -> Topic:
        chat = self._administered(p)
        if p["message_thread_id"] not in chat.topics:
            raise bad("TOPIC_ID_INVALID")
        return chat.topics[p["message_thread_id"]]

    def editForumTopic(self, p: Json) -> bool:
        topic = self._topic(p)
        topic.name = p.get("name") or topic.name
        return True

    def closeForumTopic(self, p: Json) -> bool:
        self._topic(p).closed = True
        return True

    def reopenForumTopic(self, p: Json) -> bool:
        self._topic(p).closed = False
        return True

    def deleteForumTopic(self, p: Json) -> bool:
        self._topic(p)
        del self.chat(p["chat_id"]).topics[p["message_thread_id"]]
        return True

    # The bot's own card

    def _scope(self, p: Json) -> tuple[str, str]:
        return json.dumps(p.get("scope", {"type": "default"}), sort_keys=True), p.get("language_code", "")

    def setMyCommands(self, p: Json) -> bool:
        if len(p["commands"]) > 100:
            raise bad("BOT_COMMANDS_TOO_MUCH")
        for entry in p["commands"]:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", entry["command"].removeprefix("/")):
                raise bad("BOT_COMMAND_INVALID")
            if not 1 <= len(entry["description"]) <= 256:
                raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
        self.server.commands[self._scope(p)] = p["commands"]
        return True

    def getMyCommands(self, p: Json) -> list[Json]:
        return self.server.commands.get(self._scope(p), [])

    def deleteMyCommands(self, p: Json) -> bool:
        self.server.commands.pop(self._scope(p), None)
        return True

    def _set_card(self, p: Json, key: str, limit: int) -> bool:
        if len(p.get(key, "")) > limit:
            raise bad(f"{key.upper()}_TOO_LONG")
        self.server.card[key] = p.get(key, "")
        return True

    def _get_card(self, key: str) -> Json:
        return {key: self.server.card.get(key, "")}

    def setMyName(self, p: Json) -> bool:
        return self._set_card(p, "name", 64)

    def getMyName(self, p: Json) -> Json:
        return self._get_card("name")

    def setMyDescription(self, p: Json) -> bool:
        return self._set_card(p, "description", 512)

    def getMyDescription(self, p: Json) -> Json:
        return self._get_card("description")

    def setMyShortDescription(self, p: Json) -> bool:
        return self._set_card(p, "short_description", 120)

    def getMyShortDescription(self, p: Json) -> Json:
        return self._get_card("short_description")

    def setChatMenuButton(self, p: Json) -> bool:
        self.server.card["menu_button"] = p.get("menu_button", {"type": "default"})
        return True

    def getChatMenuButton(self, p: Json) -> Json:
        return dict(self.server.card.get("menu_button", {"type": "default"}))
