"""What the bot says, as parameters of Slack's Web API."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from roost.channels.slack_rich import Json, rich
from roost.dialects import MRKDWN, render
from roost.errors import Undeliverable
from roost.values import Attachment, Button, Place, Reply

log = logging.getLogger(__name__)

MAX_FILE = 1024 * 1024 * 1024  # bytes
MAX_LABEL, MAX_VALUE, MAX_SECTION = 75, 2000, 3000  # characters


def write(place: Place, reply: Reply) -> Json:
    """The parameters of chat.postMessage. `text` is what notifications show, `blocks` is what the chat shows.

    Raises Undeliverable for a place that is none of Slack's.
    """
    return target(place) | content(reply) | {"unfurl_links": False, "unfurl_media": False}


def content(reply: Reply) -> Json:
    """https://docs.slack.dev/reference/methods/chat.postMessage, `text` and `blocks`"""
    text = with_links(reply)
    shown = rich(text)
    return {
        "text": render(text, MRKDWN),
        "blocks": [*([shown] if shown else []), *keyboard(reply.buttons)],
    }


def plain(parameters: Json) -> Json:
    """The same without rich text, for the day on which Slack does not take a block."""
    buttons = [block for block in parameters["blocks"] if block["type"] == "actions"]
    if not buttons:
        return {**parameters, "blocks": []}
    text = parameters["text"]
    pieces = [text[at : at + MAX_SECTION] for at in range(0, len(text), MAX_SECTION)]
    sections = [{"type": "section", "text": {"type": "mrkdwn", "text": piece}} for piece in pieces]
    return {**parameters, "blocks": [*sections, *buttons]}


def with_links(reply: Reply) -> str:
    """The text, and the addresses of attachments that are nothing but an address: Slack does not fetch them."""
    links = [f"<{one.url}>" for one in reply.attachments if not has_content(one) and one.url]
    return "\n\n".join([reply.text, *links]) if links else reply.text


def has_content(attachment: Attachment) -> bool:
    return attachment.data is not None or attachment.open is not None


async def files(reply: Reply) -> list[tuple[str, bytes]]:
    """Name and content of what is to be uploaded. Raises Undeliverable for what cannot be."""
    found = []
    for one in reply.attachments:
        if not has_content(one) and one.url:
            continue
        try:
            data = await one.read(MAX_FILE)
        except ValueError as error:
            raise Undeliverable(str(error)) from None
        if not data:
            raise Undeliverable(f"The file '{one.name}' is empty, which Slack does not take.")
        found.append((file_name(one), data))
    return found


def file_name(attachment: Attachment) -> str:
    return re.sub(r"[\x00-\x1f\"\\/]", "_", attachment.name) or attachment.kind


def target(place: Place) -> Json:
    """Where a message goes: a conversation, or a person, whose direct conversation Slack finds."""
    if not re.fullmatch(r"[CDGUW][A-Z0-9]{2,}", place.chat):
        raise Undeliverable(
            f"'{place}' is no chat of Slack. Give an id such as 'C0123ABCD', from the channel's details."
        )
    return {"channel": place.chat} | ({"thread_ts": place.thread} if place.thread else {})


def keyboard(buttons: Sequence[Button]) -> list[Json]:
    """https://docs.slack.dev/reference/block-kit/block-elements/button-element"""
    if not buttons:
        return []
    return [{"type": "actions", "elements": [button(number, one) for number, one in enumerate(buttons)]}]


def button(number: int, one: Button) -> Json:
    label = one.text or one.value or one.url
    shown = label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
    element: Json = {"type": "button", "action_id": f"choice-{number}"}
    element["text"] = {"type": "plain_text", "text": shown, "emoji": False}
    if one.url:
        return element | {"url": one.url}
    value = one.value or one.text
    if len(value) > MAX_VALUE:
        log.warning("Slack takes %d characters behind a button: the rest of '%s' is cut off.", MAX_VALUE, shown)
    return element | {"value": value[:MAX_VALUE]}
