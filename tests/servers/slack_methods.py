"""The methods of Slack's Web API that the server has, from https://docs.slack.dev/reference/methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Holder = Literal["bot", "app"]


@dataclass(frozen=True, slots=True)
class Method:
    """`json` says that the documentation lists application/json among the content types."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    holder: Holder = "bot"
    json: bool = True


LOOKS = ("icon_emoji", "icon_url", "username")
METHODS: dict[str, Method] = {
    "auth.test": Method(),
    "apps.connections.open": Method(scopes=("connections:write",), holder="app"),
    "chat.postMessage": Method(
        ("channel",),
        (
            *("as_user", "attachments", "blocks", "link_names", "markdown_text", "metadata", "mrkdwn", "parse", *LOOKS),
            *("reply_broadcast", "text", "thread_ts", "unfurl_links", "unfurl_media"),
        ),
        ("chat:write",),
    ),
    "chat.update": Method(
        ("channel", "ts"),
        (
            *("as_user", "attachments", "blocks", "file_ids", "link_names", "markdown_text", "metadata", "parse"),
            *("reply_broadcast", "text"),
        ),
        ("chat:write",),
    ),
    "chat.delete": Method(("channel", "ts"), ("as_user",), ("chat:write",)),
    "reactions.add": Method(("channel", "name", "timestamp"), (), ("reactions:write",)),
    "reactions.remove": Method(
        ("name",), ("channel", "timestamp", "file", "file_comment"), ("reactions:write",)
    ),
    "reactions.get": Method(
        (), ("channel", "timestamp", "file", "file_comment", "full"), ("reactions:read",), json=False
    ),
    "conversations.info": Method(
        ("channel",), ("include_locale", "include_num_members"), ("channels:read",), json=False
    ),
    "conversations.history": Method(
        ("channel",), ("cursor", "include_all_metadata", "inclusive", "latest", "limit", "oldest"),
        ("im:history",), json=False,
    ),
    "conversations.replies": Method(
        ("channel", "ts"),
        ("cursor", "include_all_metadata", "inclusive", "latest", "limit", "oldest"),
        ("im:history",),
        json=False,
    ),
    "users.info": Method(("user",), ("include_locale",), ("users:read",), json=False),
    "files.getUploadURLExternal": Method(
        ("filename", "length"), ("alt_txt", "snippet_type"), ("files:write",), json=False
    ),
    "files.completeUploadExternal": Method(
        ("files",), ("blocks", "channel_id", "channels", "initial_comment", "thread_ts"), ("files:write",)
    ),
    "files.info": Method(("file",), ("count", "cursor", "limit", "page"), ("files:read",), json=False),
    "files.delete": Method(("file",), (), ("files:write",)),
    "assistant.threads.setStatus": Method(
        ("channel_id", "thread_ts", "status"), ("loading_messages", *LOOKS), ("chat:write",)
    ),
}  # fmt: skip
SCOPES = frozenset(scope for method in METHODS.values() for scope in method.scopes)
EMOJI = frozenset(["+1", "thumbsup", "heart", "eyes", "tada", "white_check_mark", "wave", "female-technologist"])
