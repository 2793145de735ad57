"""Turn a reply into the messages that a channel with given limits can carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from roost.markdown import Block, Fence, Inline, Link, List, Paragraph, Text, clean, parse
from roost.split import split
from roost.values import Attachment, AttachmentKind, Button, Reply
from roost.writing import write

if TYPE_CHECKING:
    from roost.contracts import Limits

# What a file without an address may travel as where its own kind is not carried.
_STAND_INS: dict[AttachmentKind, tuple[AttachmentKind, ...]] = {
    "image": ("file",),
    "audio": ("file",),
    "voice": ("audio", "file"),
    "video": ("file",),
    "sticker": ("image", "file"),
    "file": (),
}
_ESCAPED = re.compile(r"\\([!-/:-@[-`{-~])")
_NUMBER = re.compile(r"[#(]?(\d{1,3})\ufe0f?\u20e3?\s?[.):]?")


def fit(reply: Reply, limits: Limits) -> list[Reply]:
    """The messages that carry a reply, in order; none when there is nothing in it.

    Text is split; the buttons and attachments ride on its last part and the quote on its first. More attachments
    than one message takes go on in further parts. More buttons than the channel has become a numbered list, which
    `choose` understands; an attachment it cannot carry becomes a link or a line that says so. Every part keeps the
    ticket and the key.
    """
    buttons = reply.buttons if len(reply.buttons) <= limits.buttons else ()
    attachments = []
    lines: list[Inline] = []
    for attachment in reply.attachments:
        carried = _carry(attachment, limits)
        if carried is None:
            lines.append(_mention(attachment, limits))
        else:
            attachments.append(carried)
    text = append(reply.text, _additions(lines, () if buttons else reply.buttons))
    if not text.strip() and not attachments and buttons:
        # Buttons hang on a text on nearly every platform.
        text = write((Paragraph((Text(", ".join(_label(button) for button in buttons)),)),))
    texts = split(text, limits.markup, limits.max_text, limits.unit, limits.max_bytes)
    return list(_parts(reply, texts, tuple(attachments), buttons, limits))


def _label(button: Button) -> str:
    return _line(button.text) or _line(button.value) or button.url or "…"


def _line(text: str) -> str:
    return " ".join(clean(text).split())


def _parts(
    reply: Reply,
    texts: Sequence[str],
    attachments: tuple[Attachment, ...],
    buttons: tuple[Button, ...],
    limits: Limits,
) -> Iterator[Reply]:
    texts = texts or ([""] if attachments or buttons else [])
    most = limits.files or len(attachments)
    for place, text in enumerate(texts):
        last = place == len(texts) - 1
        yield replace(
            reply,
            text=text,
            attachments=attachments[:most] if last else (),
            buttons=buttons if last else (),
            quote=reply.quote if limits.quotes and place == 0 else "",
        )
    for first in range(most, len(attachments), most or 1):
        yield replace(reply, text="", attachments=attachments[first : first + most], buttons=(), quote="")


def _additions(lines: Sequence[Inline], buttons: Sequence[Button]) -> Iterator[Block]:
    for line in lines:
        yield Paragraph((line,))
    if buttons:
        yield List(tuple((Paragraph((_choice(button),)),) for button in buttons), start=1, mark=".")


def _choice(button: Button) -> Inline:
    label = Text(_label(button))
    return Link(button.url, (label,)) if button.url else label


def append(text: str, blocks: Iterator[Block]) -> str:
    """`text` with blocks after it: an open fence is closed, and a list at its end does not take them in."""
    added = tuple(blocks)
    if not added:
        return text
    tree = parse(text)
    if not tree.blocks:
        return write(added)
    last = tree.blocks[-1]
    if isinstance(last, Fence) or (isinstance(last, List) and isinstance(added[0], List)):
        return write((*tree.blocks, *added))
    return f"{tree.source.rstrip()}\n\n{write(added)}"


# ------------------------------------------------------------------------------------------- attachments


def _carry(attachment: Attachment, limits: Limits) -> Attachment | None:
    """The attachment as this channel can carry it, or None when it cannot."""
    if attachment.url and attachment.data is None and not limits.urls:
        return None
    kinds = (attachment.kind,) if attachment.url else (attachment.kind, *_STAND_INS[attachment.kind])
    size = _size(attachment)
    for kind in kinds:
        most = limits.media.get(kind)
        if most is not None and (size is None or size <= most):
            return attachment if kind == attachment.kind else replace(attachment, kind=kind)
    return None


def _size(attachment: Attachment) -> int | None:
    return attachment.size if attachment.data is None else len(attachment.data)


def _mention(attachment: Attachment, limits: Limits) -> Inline:
    name = _line(attachment.name)
    if attachment.url:
        return Link(attachment.url, (Text(name or attachment.url),))
    size = _size(attachment)
    label = f"{attachment.kind} {name}".strip() + ("" if size is None else f", {_readable(size)}")
    large = any(kind in limits.media for kind in (attachment.kind, *_STAND_INS[attachment.kind]))
    return Text(f"[{label}: {'too large for this chat' if large else 'this chat cannot carry it'}]")


def _readable(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size = round(size / 1000)
    return f"{size} GB"


# ----------------------------------------------------------------------------------------------- choices


def choose(text: str, buttons: Sequence[Button]) -> str | None:
    """What a person's "2", or a label in any case, means: the button's value, or its label if it has none.

    None when it means none of them, or one that only opens an address.
    """
    text = _ESCAPED.sub(r"\1", text)  # channels escape what Markdown would take for its own, "2." for one
    wanted = _normal(text)
    labels = [button for button in buttons if wanted and _normal(button.text) == wanted]
    if labels:
        return _value(labels[0])
    number = _NUMBER.fullmatch(text.strip())
    place = int(number.group(1)) if number else 0
    return _value(buttons[place - 1]) if 1 <= place <= len(buttons) else None


def _value(button: Button) -> str | None:
    return button.value or (None if button.url else button.text)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()
