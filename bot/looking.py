"""Pictures: what a brain that sees is shown with a message, and what is said where it does not see."""

from __future__ import annotations

import logging

from roost.contracts import Picture
from roost.errors import RoostError
from roost.media import called, fetched
from roost.sniffing import GIF, JPEG, PNG, WEBP, Form, form_of, pixels
from roost.values import Attachment, Message

log = logging.getLogger("roost.looking")

MOST = 4  # pictures of one message
MAX_BYTES = 10_000_000  # of one picture
TOGETHER = 20_000_000  # bytes of all pictures of one message
MAX_PIXELS = 50_000_000  # of one picture: 150 MB where it is unpacked
MAX_SIDE = 20_000  # of those in one direction
BLIND = "I cannot look at pictures with the model I have. What would you like to know about it?"
SEEN = (PNG, JPEG, GIF, WEBP)  # what brains take
KNOWN = "I know PNG, JPEG, GIF and WebP."


class NotSeen(RoostError):
    """There is a picture that nobody can look at, or that is none; the text says why, in words for who sent it."""


async def pictures(message: Message, sees: bool) -> tuple[Picture, ...]:
    """The pictures of a message, for a brain that sees.

    Raises NotSeen where there is nothing else to answer, and for a file that is not what it says it is.
    """
    images = [one for one in message.attachments if one.kind == "image"]
    if not images:
        return ()
    alone = len(images) == len(message.attachments) and not message.text.strip()
    if not sees:
        if alone:
            raise NotSeen(BLIND)
        return ()
    found = await _seen(images[:MOST])
    if alone and not found:
        raise NotSeen(f"I cannot look at pictures of that kind. {KNOWN}")
    return found


async def _seen(images: list[Attachment]) -> tuple[Picture, ...]:
    found: list[Picture] = []
    left = TOGETHER
    for one in images:
        try:
            content = await fetched(one, min(MAX_BYTES, left))
        except ValueError as error:
            whole = "" if left >= MAX_BYTES else " That is too much with the others of this message: send it alone."
            raise NotSeen(f"I cannot look at that: {error}{whole}") from error
        left -= len(content)
        if (picture := _picture(one, content)) is not None:
            found.append(picture)
    return tuple(found)


def _picture(one: Attachment, content: bytes) -> Picture | None:
    """None for a picture of a kind that brains do not take, and that is called what it is. Raises NotSeen."""
    form = form_of(content)
    if form in SEEN:
        _small(one, content, form)
        return Picture(form.mime, content)
    if form is not None and form.sort != "image" and form.mime != one.mime:
        raise NotSeen(f"{called(one)} says that it is a picture, and it is {form.words}. I do not open it.")
    if form is None and one.mime in {known.mime for known in SEEN}:
        raise NotSeen(f"{called(one)} says that it is a picture, and it is none that I know. {KNOWN}")
    log.warning("A picture that is '%s' is not shown to the brain.", one.mime)
    return None


def _small(one: Attachment, content: bytes, form: Form) -> None:
    """Raises NotSeen for a picture that is damaged, or so large that it fills the memory when it is unpacked."""
    size = pixels(content)
    if size is None:
        raise NotSeen(f"{called(one)} is {form.words} that is damaged: it does not say how large it is.")
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise NotSeen(
            f"{called(one)} is {form.words} of {width} x {height} points, and I look at {MAX_PIXELS // 1_000_000} "
            f"million at most, {MAX_SIDE} in a row. Please send it smaller."
        )
