"""What the bot says, as the content of Matrix's events.

https://spec.matrix.org/v1.16/client-server-api/#mroommessage-msgtypes
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from roost.channels.matrix_words import Json
from roost.dialects import HTML_CHAT, PLAIN, render
from roost.markdown import Break, Paragraph, Text, Tree, parse
from roost.values import Attachment, AttachmentKind

# An event may have 65,536 bytes as its server stores it (https://spec.matrix.org/v1.16/client-server-api/#size-limits).
# Encrypted it grows by a third, and matrix-nio encrypts it as JSON in ASCII; the rest is for what the server adds.
MAX_CONTENT = 46_000
MAX_FALLBACK = 200

KINDS: dict[AttachmentKind, str] = {"image": "m.image", "audio": "m.audio", "voice": "m.audio", "video": "m.video"}


def write_text(text: str, msgtype: str = "m.text") -> Json:
    """Write a message, with HTML where its Markdown says more than its words do."""
    content: Json = {"msgtype": msgtype, "body": render(text, PLAIN)}
    if not is_plain(parse(text)):
        content |= {"format": "org.matrix.custom.html", "formatted_body": render(text, HTML_CHAT)}
    if len(json.dumps(content)) > MAX_CONTENT:
        content = {"msgtype": msgtype, "body": content["body"]}
    return content


def is_plain(tree: Tree) -> bool:
    return all(
        isinstance(block, Paragraph) and all(isinstance(part, Text | Break) for part in block.children)
        for block in tree.blocks
    )


def write_edit(target: str, content: Json) -> Json:
    """Write a new text for an earlier message. Its fallback is short, so that both fit into one event.

    https://spec.matrix.org/v1.16/client-server-api/#event-replacements
    """
    return {
        "msgtype": content["msgtype"],
        "body": f"* {content['body'][:MAX_FALLBACK]}",
        "m.mentions": {},
        "m.new_content": content,
        "m.relates_to": {"rel_type": "m.replace", "event_id": target},
    }


def write_file(attachment: Attachment, address: str, key: Json | None, size: int) -> Json:
    """Write a message with a file that is on the server. `key` opens an encrypted one."""
    content: Json = {
        "msgtype": KINDS.get(attachment.kind, "m.file"),
        "body": attachment.name or attachment.kind,
        "filename": attachment.name or attachment.kind,
        "info": {"mimetype": attachment.mime, "size": size},
    }
    if attachment.kind == "voice":
        content |= {"org.matrix.msc3245.voice": {}}
    return content | ({"file": {**key, "url": address}} if key else {"url": address})


def relate(content: Json, thread: str, last: str, quote: str, author: str) -> Json:
    """Put a message into a thread or below the one it answers, whose author is told.

    `last` is the newest message of the thread, for programs that know no threads.
    """
    relates: Json = {}
    if thread:
        relates = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": not quote}
        relates |= {"m.in_reply_to": {"event_id": quote or last or thread}}
    elif quote:
        relates = {"m.in_reply_to": {"event_id": quote}}
    mentions = {"user_ids": [author]} if author else {}
    return content | {"m.mentions": mentions} | ({"m.relates_to": relates} if relates else {})


def transaction(key: str, parts: Iterable[Any]) -> str:
    """The id by which the server knows a repetition; one for each message that a reply becomes."""
    return "-".join(["roost", key, *map(str, parts)]).replace("/", "_")
