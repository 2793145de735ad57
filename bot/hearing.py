"""Voice messages: an engine that turns speech into text, and what becomes of a message that was spoken."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from roost.egress import by
from roost.errors import RoostError
from roost.keys import key
from roost.media import called, fetched
from roost.sniffing import Form, form_of, seconds
from roost.values import Attachment, Message

log = logging.getLogger("roost.hearing")

SPOKEN = ("voice", "audio")
MOST = 10  # recordings of one message
DEAF = "I cannot listen to voice messages: `[hearing]` in my configuration names no engine for that. Please write."


class NotHeard(RoostError):
    """A voice message could not be turned into text; the text says why, in words for who sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingConfig:
    """The keys of `[hearing]` that every engine for speech understands. An engine's own Config adds to them."""

    use: str = key("none", help="The engine that turns speech into text: openai, or none.")
    language: str = key("", help="The language spoken, as ISO 639-1: 'en'; found out when empty.")
    timeout: float = key(120.0, help="Seconds that one voice message may take.", least=0.01)
    max_bytes: int = key(25_000_000, help="The largest voice message, in bytes.", least=1)
    max_seconds: float = key(3600.0, help="The longest voice message, in seconds.", least=1.0)


class Hearing(ABC):
    """Turns speech into text. `max_bytes` of the configuration holds before it is called."""

    Config: ClassVar[type[HearingConfig]] = HearingConfig
    hosts: ClassVar[tuple[str, ...]] = ()  # as those of a channel

    def __init__(self, config: Any, home: Path) -> None:
        self.config = config
        self.home = home

    @abstractmethod
    async def transcribe(self, speech: bytes, name: str, mime: str) -> str:
        """What is said in a recording, as people sent it: mostly Opus in an Ogg file. Raises BrainError."""

    @property
    def remote(self) -> bool:
        """Whether it is on somebody else's machine."""
        return False

    async def close(self) -> None:
        """Give connections and memory back."""


class Deaf(Hearing):
    """Hears nothing, and says so."""

    async def transcribe(self, speech: bytes, name: str, mime: str) -> str:
        raise NotHeard(DEAF)


async def heard(message: Message, engine: Hearing) -> Message:
    """The message with what was spoken as its text, where nothing was written. Raises RoostError."""
    spoken = [one for one in message.attachments if one.kind in SPOKEN]
    if not spoken or message.text.strip():
        return message
    if isinstance(engine, Deaf) and all(one.kind == "audio" for one in spoken):
        return message  # a song or a podcast: it is mentioned, as any file is
    said = [text for text in await _words(spoken, engine) if text]
    if not said:
        raise NotHeard("I hear no words in that. Please say it again, or write.")
    others = tuple(one for one in message.attachments if one not in spoken)
    return replace(message, text="\n".join(said), attachments=others)


async def _words(spoken: Sequence[Attachment], engine: Hearing) -> list[str]:
    """What is said in each recording. `max_bytes` and `max_seconds` are for all of a message together."""
    if isinstance(engine, Deaf):
        return [await engine.transcribe(b"", "", "")]
    if len(spoken) > MOST:
        raise NotHeard(f"I listen to {MOST} recordings of a message at most, and these are {len(spoken)}.")
    taken: list[tuple[bytes, Form]] = []
    size, length = 0, 0.0
    for one in spoken:
        speech, form = await _taken(one, engine.config.max_bytes - size, together=size > 0)
        size += len(speech)
        told: float | None = await asyncio.to_thread(seconds, speech)
        length += told or 0.0
        if length > engine.config.max_seconds:
            raise NotHeard(
                f"{called(one)} is too long: that makes {length / 60:.0f} minutes, and I listen to "
                f"{engine.config.max_seconds / 60:.0f} at most."
            )
        taken.append((speech, form))
    with by("hearing"):
        return [(await engine.transcribe(speech, f"voice.{form.ending}", form.mime)).strip() for speech, form in taken]


async def _taken(one: Attachment, most: int, together: bool) -> tuple[bytes, Form]:
    """A recording, and what it really is. Raises NotHeard."""
    try:
        speech = await fetched(one, most)
    except ValueError as error:
        whole = " That is too much with the others of this message: send it alone." if together else ""
        raise NotHeard(f"I cannot listen to that: {error}{whole}") from error
    form = form_of(speech)
    if form is None or form.sort not in ("audio", "video"):
        what = form.words if form is not None else "none that I know"
        raise NotHeard(f"{called(one)} says that it is a recording, and it is {what}. I do not open it.")
    return speech, form
