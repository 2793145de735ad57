"""What Slack delivers, in the words of the core: events, pressed buttons and slash commands.

https://docs.slack.dev/reference/events and https://docs.slack.dev/interactivity
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from roost import markdown, writing
from roost.channels import slack_mrkdwn
from roost.channels.slack_names import emoji
from roost.channels.slack_rich import Json, to_text, unrich
from roost.markdown import Block, Link, Paragraph, Text
from roost.values import Attachment, AttachmentKind, Event, EventKind, Message, Person, Place

SAID = frozenset({"", "file_share", "thread_broadcast", "me_message"})
"""Subtypes of messages that a person wrote; the others are what Slack or an app says."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Whose eyes read: the channel's name in bot.toml, the bot's user id, what ids are called, the known commands."""

    channel: str
    me: str
    name: Callable[[str], str]
    handle: Callable[[str], str] = lambda id: ""
    commands: Collection[str] = ()

    def person(self, id: str, otherwise: str = "") -> Person:
        """`otherwise` is what to call someone whose name cannot be had."""
        name = self.name(id)
        return Person(self.channel, id, otherwise if otherwise and name == id else name, self.handle(id))

    def place(self, chat: str, thread: str = "") -> Place:
        """The id of a direct conversation begins with a D."""
        return Place(self.channel, chat, thread, "direct" if chat.startswith("D") else "group")


def ids(body: Json) -> set[str]:
    """The people and channels whose names a message needs."""
    event = body.get("event")
    event = event if isinstance(event, dict) else {}
    inner = event.get("message")
    said = inner if isinstance(inner, dict) else event
    named = re.findall(r"<[@#]([A-Z0-9]+)\|?>", str(said.get("text", "")))
    pressed = body.get("user")
    who = (said.get("user"), body.get("user_id"), pressed.get("id") if isinstance(pressed, dict) else None)
    return {id for id in (*who, *named) if isinstance(id, str)}


def read(body: Json, desk: Desk) -> Message | Event | None:
    """Read the payload of one delivery.

    None is for what nobody said to anybody. Raises KeyError and the like when it is malformed.
    """
    if "command" in body:
        return read_command(body, desk)
    if body.get("type") == "block_actions":
        return read_press(body, desk)
    if body.get("type") != "event_callback":
        return None
    event = body["event"]
    reader = READERS.get(event["type"])
    return reader(event, desk) if reader is not None else None


def read_said(event: Json, desk: Desk) -> Message | Event | None:
    subtype = event.get("subtype", "")
    if subtype == "message_changed":
        return read_changed(event, desk)
    if subtype == "message_deleted":
        return read_deleted(event, event["deleted_ts"], desk)
    return read_message(event, event["channel"], desk) if subtype in SAID else None


def read_message(said: Json, chat: str, desk: Desk) -> Message | None:
    """A message of a person. A mention arrives twice, as `message` and as `app_mention`, with one key."""
    if is_ours(said, desk):
        return None
    files = said.get("files", ())
    attachments = tuple(read_file(file) for file in files if not unreadable(file))
    text, mentions = to_text(list(content(said, desk)), desk.me)
    text = "\n\n".join(filter(None, [text, *map(unreadable, files)]))
    if not text and not attachments:
        return None
    root = said.get("thread_ts", "")
    place = desk.place(chat, root if root != said["ts"] else "")
    return Message(
        id=said["ts"],
        place=place,
        sender=desk.person(said["user"]),
        text=text,
        at=float(said["ts"]),
        addressed=place.kind == "direct" or is_addressed(said, desk.me),
        mentions=mentions,
        attachments=attachments,
        key=f"{chat}:{said['ts']}",
        raw=said,
    )


def is_ours(said: Json, desk: Desk) -> bool:
    """Whether a program said it: this bot, another one, or Slack itself."""
    return bool(said.get("bot_id")) or said.get("user") in {None, desk.me, "USLACKBOT"}


def is_addressed(said: Json, me: str) -> bool:
    """Whether a message in a channel names the bot, or stands in a thread below a message of the bot's."""
    return f"<@{me}>" in said.get("text", "") or f"<@{me}|" in said.get("text", "") or said.get("parent_user_id") == me


def content(said: Json, desk: Desk) -> Iterator[Block]:
    """The text and what was forwarded with it."""
    blocks = said.get("blocks") or []
    if blocks and all(block["type"] == "rich_text" for block in blocks):
        for block in blocks:
            yield from unrich(block, desk.name)
    else:
        yield from slack_mrkdwn.blocks(said.get("text", ""), desk.name)
    for shared in said.get("attachments", ()):
        yield from forwarded(shared, desk, bool(said.get("text")))


def forwarded(shared: Json, desk: Desk, has_text: bool) -> Iterator[Block]:
    """A message that is passed on. Previews of links that the text has are left out."""
    if has_text and not (shared.get("is_share") or shared.get("is_msg_unfurl")):
        return
    inner = slack_mrkdwn.blocks(shared.get("text") or shared.get("fallback", ""), desk.name)
    author = shared.get("author_name") or shared.get("title", "")
    head = [Paragraph((Text(f"{author}:"),))] if author else []
    if head or inner:
        yield markdown.Quote((*head, *inner))
    if not inner and shared.get("from_url"):
        yield Paragraph((Link(shared["from_url"], (Text(shared["from_url"]),)),))


def unreadable(file: Json) -> str:
    """What to say, in Markdown, of a file whose content Slack does not give; empty for one that it gives."""
    name = writing.escape(" ".join(str(file.get("name") or file.get("title") or "").split()))
    if file.get("mode") == "tombstone":
        return "[file: deleted]"
    if file.get("mode") == "hidden_by_limit":
        return "[file: hidden by the limits of this workspace]"
    if file.get("is_external"):
        return f"[file {name}: <{file.get('url_private', '')}>]"
    return ""


KINDS: dict[str, AttachmentKind] = {"image": "image", "audio": "audio", "video": "video"}


def read_file(file: Json) -> Attachment:
    """`ref` is the address of the content; the file's id where Slack wants to be asked first."""
    kind = KINDS.get(file.get("mimetype", "").partition("/")[0], "file")
    ref = file.get("url_private_download") or file.get("url_private") or file["id"]
    return Attachment(
        kind="voice" if file.get("subtype") == "slack_audio" else kind,
        name=file.get("name") or file.get("title") or file["id"],
        mime=file.get("mimetype") or "application/octet-stream",
        size=file.get("size"),
        ref=file["id"] if file.get("file_access") == "check_file_info" else ref,
    )


def read_changed(event: Json, desk: Desk) -> Message | Event | None:
    """An edit. Slack sends the same when it adds the preview of a link or counts the replies."""
    said, before = event["message"], event.get("previous_message", {})
    if said.get("subtype") == "tombstone":
        return read_deleted(event, said["ts"], desk)
    edited = said.get("edited")
    if edited is None or edited == before.get("edited") or said.get("subtype", "") not in SAID:
        return None
    message = read_message(said, event["channel"], desk)
    return message and replace(message, edited=True, key=f"{message.key}@{edited['ts']}")


def read_deleted(event: Json, id: str, desk: Desk) -> Event | None:
    before = event.get("previous_message", {})
    if before and is_ours(before, desk):
        return None
    person = desk.person(before["user"]) if before else None
    root = before.get("thread_ts", "")
    place = desk.place(event["channel"], root if root != id else "")
    return Event("deleted", place, person, float(event["event_ts"]), id, raw=event)


def read_reaction(event: Json, desk: Desk) -> Event | None:
    """The emoji that was added; none when one was taken away."""
    item = event["item"]
    if item["type"] != "message" or event["user"] == desk.me:
        return None
    value = emoji(event["reaction"]) if event["type"] == "reaction_added" else ""
    at = float(event["event_ts"])
    return Event("reacted", desk.place(item["channel"]), desk.person(event["user"]), at, item["ts"], value, event)


def read_member(event: Json, desk: Desk) -> Event:
    kind: EventKind = "joined" if event["type"] == "member_joined_channel" else "left"
    at = float(event.get("event_ts", 0)) or time.time()
    return Event(kind, desk.place(event["channel"]), desk.person(event["user"]), at, raw=event)


READERS: dict[str, Callable[[Json, Desk], Message | Event | None]] = {
    "message": read_said,
    "app_mention": read_said,
    "reaction_added": read_reaction,
    "reaction_removed": read_reaction,
    "member_joined_channel": read_member,
    "member_left_channel": read_member,
}


def read_press(body: Json, desk: Desk) -> Message | None:
    """A pressed button: its value, said in the place of the message it hangs under.

    Its ticket is the address that answers where the bot is no member, as below its own answer to a slash command.
    """
    action, where, user = body["actions"][0], body["container"], body["user"]
    if action["type"] != "button" or not action.get("value"):
        return None
    root = where.get("thread_ts", "")
    id = f"press:{where['message_ts']}:{user['id']}:{action['action_ts']}"
    return Message(
        id=id,
        place=desk.place(where["channel_id"], root if root != where["message_ts"] else ""),
        sender=desk.person(user["id"], user.get("name") or user.get("username", "")),
        text=action["value"],
        at=float(action["action_ts"]),
        ticket=body.get("response_url", ""),
        key=f"{where['channel_id']}:{id}",
        raw=body,
    )


def read_command(body: Json, desk: Desk) -> Message:
    """A slash command: `/new` is the bot's own `/new`; of any other, such as `/roost tea?`, only what follows counts.

    Its ticket is the address that answers where the bot is no member.
    """
    name, text = body["command"].lstrip("/"), body.get("text", "").strip()
    said, mentions = to_text(slack_mrkdwn.blocks(text, desk.name), desk.me)
    if name in desk.commands:
        said, mentions = f"/{name} {text}".rstrip(), ()
    id = f"command:{body['trigger_id']}"
    return Message(
        id=id,
        place=desk.place(body["channel_id"]),
        sender=desk.person(body["user_id"], body.get("user_name", "")),
        text=said or "/help",
        at=time.time(),
        mentions=mentions,
        ticket=body.get("response_url", ""),
        key=id,
        raw=body,
    )
