"""The values that travel between platforms, the core, plugins, brains and memory.

All are frozen: a change is `dataclasses.replace`. Ids are opaque strings, whatever the platform's own type.
Times are seconds since the epoch, UTC. `text` is Markdown in both directions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote
from zlib import crc32

from roost.state import DAY, State

PlaceKind = Literal["direct", "group", "broadcast"]
AttachmentKind = Literal["image", "audio", "voice", "video", "sticker", "file"]
EventKind = Literal["deleted", "reacted", "joined", "left", "undelivered"]

MAX_ATTACHMENT = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation happens.

    `channel` is the name of the table in bot.toml, so two accounts of one platform are two channels.
    `str(place)`, such as `telegram:42/7`, is the key for memory and permissions and the target for sends.
    """

    channel: str
    chat: str
    thread: str = ""
    kind: PlaceKind = field(default="direct", compare=False)

    def __post_init__(self) -> None:
        if not (self.channel and self.chat):
            raise ValueError(f"A place needs a channel and a chat, not '{self.channel}' and '{self.chat}'.")

    def __str__(self) -> str:
        chat = quote(self.chat, safe="@!#+:=-_.~")
        thread = "/" + quote(self.thread, safe="@!#+:=-_.~") if self.thread else ""
        return f"{self.channel}:{chat}{thread}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str(place)` wrote. Raises ValueError when there is no `channel:chat` in it."""
        channel, colon, rest = text.partition(":")
        chat, _, thread = rest.partition("/")
        if not (channel and colon and chat):
            raise ValueError(f"'{text}' is not a place. A place looks like 'telegram:42' or 'slack:C1/171.2'.")
        return cls(channel, unquote(chat), unquote(thread))


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote something. `id` is stable on its channel; `name` and `handle` are for showing only."""

    channel: str
    id: str
    name: str = ""
    handle: str = ""

    def __str__(self) -> str:
        return f"{self.channel}:{self.id}"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file beside a text. Inbound it is lazy: `ref` is the channel's own word for it, read on demand.

    Outbound, give `data` (bytes) or `url` (which the platform, or the person, fetches).
    `size` is in bytes and None when the platform does not tell.
    """

    kind: AttachmentKind = "file"
    name: str = ""
    mime: str = "application/octet-stream"
    size: int | None = None
    ref: str = ""
    url: str = ""
    data: bytes | None = None
    open: Callable[[], AsyncIterator[bytes]] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def file(cls, path: Path, kind: AttachmentKind = "file", mime: str = "application/octet-stream") -> Attachment:
        data = path.read_bytes()
        return cls(kind=kind, name=path.name, mime=mime, size=len(data), data=data)

    async def read(self, max_bytes: int = MAX_ATTACHMENT) -> bytes:
        """Fetch the content. Raises ValueError when it is larger than `max_bytes` or nothing can fetch it."""
        if self.data is not None:
            self._check(len(self.data), max_bytes)
            return self.data
        if self.open is None:
            raise ValueError(f"'{self.name}' cannot be read: no channel is bound to it.")
        if self.size is not None:
            self._check(self.size, max_bytes)
        content, chunks = bytearray(), self.open()
        try:
            async for chunk in chunks:
                self._check(len(content) + len(chunk), max_bytes)
                content += chunk
        finally:  # not when the garbage is collected: the platform goes on sending until then
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        return bytes(content)

    def _check(self, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            raise ValueError(f"'{self.name}' has more than {max_bytes} bytes.")


@dataclass(frozen=True, slots=True)
class Mention:
    """A span of `text` that names someone: `text[start:end]`, in characters."""

    start: int
    end: int
    person: str


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that this one answers."""

    id: str
    text: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Button:
    """A choice under a reply. Pressing it sends `value` (or opens `url`) as if it had been typed."""

    text: str
    value: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Something a person said.

    `addressed` tells whether it is meant for the bot: a direct message, a mention, a reply to the bot or the
    prefix; the bot's own leading mention is already gone from `text`. `edited` marks the whole new text of a
    message sent before. `key` names this delivery when `id` alone does not (an edit keeps its id); duplicates
    are dropped by (channel, key). `album` is the same for messages that their sender sent as one, such as several
    pictures: they are answered together. `ticket` is opaque and returns with the reply. `raw` is the platform's own
    object: it lives in this process only and is neither stored nor logged. `state` is what plugins keep between
    two messages of this person in this place.
    """

    id: str
    place: Place
    sender: Person
    text: str = ""
    at: float = 0.0
    addressed: bool = True
    edited: bool = False
    mentions: tuple[Mention, ...] = ()
    quote: Quote | None = None
    attachments: tuple[Attachment, ...] = ()
    album: str = ""
    ticket: str = ""
    key: str = ""
    raw: Any = field(default=None, compare=False, repr=False)
    _state: Any = field(default=None, compare=False, repr=False)
    _asking: Any = field(default=None, compare=False, repr=False)

    async def ask(
        self, question: str | Reply, kind: Any = str, *, choices: Sequence[str] = (), seconds: float = DAY
    ) -> Any:
        """Ask this person something, and wait for their next message here: through restarts, for a day.

        `kind` is what the answer is read as: str, int, float, bool, timedelta, a Literal or Message, which is the
        answer as it came. `choices`, and what a Literal or bool lets one choose from, are shown as buttons. What does
        not fit is asked for again. A command ends the waiting if it asks something itself; `/cancel` ends it.

        The function runs again from its beginning when the answer comes: see `roost.asking`. For `async def` only.
        Raises RuntimeError for a message that no plugin was given.
        """
        if self._asking is None:
            raise RuntimeError("Only a message that a command or on_message was given can be asked about.")
        return self._asking.ask(question, kind, choices, seconds)

    @property
    def state(self) -> State:
        """A mapping; see `roost.state`. What it holds outlives this process once the message is answered."""
        if self._state is None:
            object.__setattr__(self, "_state", State())
        state: State = self._state
        return state

    @property
    def identity(self) -> str:
        """What a second delivery of the same message would repeat, within its channel."""
        if self.key:
            return self.key
        return f"{self.place}#{self.id}" + (f"~{crc32(self.text.encode('utf-8', 'replace')):x}" if self.edited else "")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a place without being said: deleted, reacted, joined, left, undelivered.

    `message_id` is the message it is about. "undelivered" says that the platform had taken the bot's own message of
    that id and could not deliver it; `value` is why, and there is no `at`, so that being told twice changes nothing.
    """

    kind: EventKind
    place: Place
    person: Person | None = None
    at: float = 0.0
    message_id: str = ""
    value: str = ""
    raw: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the bot says. A plain string is a Reply with only text.

    `quote` is the id of the message it answers. `key` is the idempotency key: it stays the same when the same
    part is sent again. `ticket` comes from the message being answered. A `notice` says why there is no answer.
    """

    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    buttons: tuple[Button, ...] = ()
    quote: str = ""
    ticket: str = ""
    key: str = ""
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """What the platform made of a Reply: one id for each message it became, in order."""

    place: Place
    ids: tuple[str, ...] = ()
