"""What a channel, a brain and a memory promise the core, and what the core promises them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from roost.dialects import PLAIN, Dialect
from roost.errors import ConfigError, StoreError
from roost.keys import key
from roost.values import Attachment, AttachmentKind, Event, Message, Place, Reply, Sent

if TYPE_CHECKING:
    from aiohttp import web

    from roost.cipher import Cipher

# ---------------------------------------------------------------------------------------------- channels

Unit = Literal["graphemes", "characters", "utf16", "bytes"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a platform can carry. Everything else a channel can do is read off the methods it overrides.

    `max_text` counts `unit`s of the *rendered* text of one message, `max_bytes` its UTF-8 where the platform counts
    that too, 0 where it does not. `media` maps an attachment kind to the largest size in bytes; a kind that is absent
    is sent as a link. `files` is the largest number of attachments in one message, 0 for any; `urls` says that one
    may be just the address of a file, which otherwise is sent as a link. `buttons` is the largest number under one
    message, 0 for none. `stream` is the shortest time in seconds between two edits of a growing answer, None
    when answers are not streamed. `rate`, `place_rate` and `group_rate` are messages per second for the whole
    account, for one place, and for one group where that differs. `idempotent` says that the platform drops a
    second send with the same `reply.key`.
    """

    max_text: int = 4096
    unit: Unit = "characters"
    max_bytes: int = 0
    markup: Dialect = PLAIN
    media: dict[AttachmentKind, int] = field(default_factory=dict)
    files: int = 0
    urls: bool = True
    buttons: int = 0
    quotes: bool = False
    threads: bool = False
    proactive: bool = True
    stream: float | None = None
    rate: float | None = None
    place_rate: float | None = None
    group_rate: float | None = None
    idempotent: bool = False


Receive = Callable[[Message | Event], Awaitable[bool]]
"""Hand the core what came in. It returns once that is safe on disk: only then may the channel acknowledge
it to the platform. False means it was a duplicate, which is acknowledged all the same."""


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a conversation as a person saw it. `bot` tells which side said it."""

    id: str
    bot: bool
    author: str
    text: str
    at: float


class Host(Protocol):
    """What the core offers a channel."""

    @property
    def home(self) -> Path:
        """A folder of its own for the channel's state; it exists."""

    @property
    def bot_name(self) -> str: ...

    def pulse(self) -> None:
        """Say that the transport is alive: call it on every sign of life from the platform's side.

        The first call after `run` begins, or after trouble, is what turns the channel's state to "running".
        """

    def trouble(self, why: str) -> None:
        """Say why the platform cannot be listened to just now, in a sentence: call it at every try that fails.

        The channel's state is "waiting" until the next pulse, and what there is to send waits too. The log has it
        once, and not at all where the very next try succeeds. `reach.why` words what an exception means.
        """

    def address(self, path: str = "") -> str:
        """Where others reach a path of the web face, such as a route of the channel's own; "" when nowhere.

        It is `[web] public_url`, to which a channel's own key of that name is to be preferred.
        """

    def commands(self) -> Sequence[tuple[str, str]]:
        """Name and one-line help of every command, for a platform's own menu."""

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        """The last `limit` lines of a place, oldest first: for a channel that shows the conversation itself."""


Busy = Literal["queue", "collect", "interrupt"]
"""What becomes of messages that come while an answer is being made: each is answered in its turn; those that
wait are answered together; or the answer is broken off for the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """The keys every table `[channels.NAME]` may have. A channel's own Config adds to them."""

    kind: str = key("", help="The platform; the table's own name when absent.")
    enabled: bool = key(True, help="Set to false to keep the table but not the channel.")
    personal: bool | None = key(
        None,
        help="Whether the account is also a person's own, so that strangers who write to it get silence; as is usual "
        "on the platform when absent.",
    )
    busy: Busy = key(
        "queue",
        help="What becomes of messages that come while an answer is being made: queue answers each in its turn, "
        "collect answers those that wait together, interrupt breaks off for the newest.",
    )
    busy_in: dict[str, Busy] = key(factory=dict, help='The same for single chats, by id: { "42" = "collect" }.')
    rate: float | None = key(
        None, help="Messages a second for the whole account; 0 for no limit, the platform's own when absent.", least=0
    )
    place_rate: float | None = key(
        None, help="Messages a second in one chat; 0 for no limit, the platform's own when absent.", least=0
    )
    group_rate: float | None = key(
        None, help="Messages a second in one group; 0 for no limit, as `place_rate` says when absent.", least=0
    )


Verify = Callable[["web.Request", bytes], bool]
"""Check a request's signature over its raw body, before anything parses it."""


def unsigned(request: web.Request, body: bytes) -> bool:
    """Let every request through: for pages that check the session themselves. Write it out to use it."""
    return True


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the web face that belongs to a channel. `verify` has no default, so none is open by accident."""

    method: str
    path: str
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    verify: Verify


class Channel(ABC):
    """One account on one chat platform.

    Override `edit`, `delete`, `react`, `type`, `fetch` and `routes` where the platform has them: the core reads
    a channel's abilities off the methods it overrides (`channel.can("edit")`).

    `local` says that whoever reaches this channel already is the owner of the machine. `personal` says that the
    account usually is a person's own, whose contacts write to that person: a stranger is not answered. `silence` is
    how long, in seconds, a sound connection may go without a `host.pulse()`: after that the channel is started again.
    None is for a transport whose silence says nothing.

    `hosts` are what it connects to beside the hosts and addresses in its table: 'files.example.com', '*.example.com',
    '{key}' for the host in the value of a key, '{env:NAME}' for that in a variable of the environment.
    """

    Config: ClassVar[type[ChannelConfig]] = ChannelConfig
    hosts: ClassVar[tuple[str, ...]] = ()
    limits: Limits = Limits()
    local: ClassVar[bool] = False
    personal: ClassVar[bool] = False
    silence: float | None = None

    def __init__(self, name: str, config: Any, host: Host) -> None:
        self.name = name
        self.config = config
        self.host = host

    def limits_at(self, place: Place) -> Limits:
        """What one place carries: `limits`, unless some of the platform's places carry more or less than others.

        The channel's `limits` are those of most places; of them only `rate` counts for the whole account. Nothing
        is connected to, since the channel may not run.
        """
        return self.limits

    @abstractmethod
    async def run(self, receive: Receive) -> None:
        """Connect and listen until cancelled, which is the only way to stop.

        Reconnecting after an ordinary cut is the channel's own business. Raise LoginFailed when the
        credentials are refused; any other exception makes the supervisor start it again later.
        """

    @abstractmethod
    async def send(self, place: Place, reply: Reply) -> Sent:
        """Deliver one message that already fits `limits_at(place)`. Raises NotSent, MaybeSent or Undeliverable.

        Any other exception counts as MaybeSent.
        """

    async def edit(self, sent: Sent, reply: Reply) -> None:
        """Replace what `send` returned `sent` for. Same errors as `send`; no change is no error."""
        raise NotImplementedError

    async def delete(self, sent: Sent) -> None:
        """Take back what `send` returned `sent` for."""
        raise NotImplementedError

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        """Put a reaction on a person's message; an empty emoji takes it away."""
        raise NotImplementedError

    async def type(self, place: Place) -> None:
        """Show that the bot is writing, for some seconds."""
        raise NotImplementedError

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Read an inbound attachment by its `ref`, in chunks."""
        raise NotImplementedError

    def routes(self) -> Sequence[Route]:
        """The paths this channel answers on the web face, webhooks for example."""
        return ()

    @classmethod
    def can(cls, ability: str) -> bool:
        """Whether this channel overrides an optional method."""
        return getattr(cls, ability) is not getattr(Channel, ability)


# ------------------------------------------------------------------------------------------------ brains

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the brain wants called. `arguments` is a JSON object, `id` what its result refers to."""

    id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a brain may ask for. `parameters` is a JSON Schema of an object, as text, so that it stays the same
    byte for byte (https://json-schema.org/draft/2020-12).
    """

    name: str
    help: str
    parameters: str = '{"type": "object", "properties": {}}'


Piece = str | Call
"""What a brain answers with: text to show, and tools it wants called, in the order it gives them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a brain is shown. It is never remembered."""

    mime: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of a conversation as the brain sees it.

    `id` is the identity of the message it came from, so that remembering it twice changes nothing.
    `tokens` is the engine's own count of `text`, 0 when it has not been counted. `author` is a name for showing,
    `person` is `str(person)` of who wrote it. A `pinned` turn stays in every prompt. An assistant's turn may have
    `calls`; each is answered by a turn of the role "tool" right behind it, whose `call` is the call's id. Only the
    newest turn may have `pictures`, and only for a brain that `sees`.
    """

    role: Role
    text: str
    author: str = ""
    at: float = 0.0
    id: str = ""
    tokens: int = 0
    person: str = ""
    pinned: bool = False
    calls: tuple[Call, ...] = ()
    call: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a brain is asked. Its beginning stays the same, byte for byte, from one turn to the next.

    `conversation` is the same for all prompts of one place, so that an engine can keep their prefix. `tools` are
    those that may be called this time; they belong to the beginning, so their order is always the same. `said` is
    what the person said, without what the last turn adds to it for the model: old turns that were found, hints.
    """

    turns: tuple[Turn, ...]
    conversation: str = ""
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    said: str = ""

    @property
    def question(self) -> str:
        """What was said last, without what was added to it. All of it where a plugin wrote it anew."""
        last = self.turns[-1]
        added = last.role == "user" and self.said and self.said in last.text
        return self.said if added else last.text


@dataclass(frozen=True, slots=True, kw_only=True)
class BrainConfig:
    """The keys of `[brain]` that every engine understands. An engine's own Config adds to them."""

    use: str = key(
        "auto", help="The engine: llamacpp, openai, ctransformers, onnx or echo; auto takes what fits the other keys."
    )
    model: str = key("", help="A model's name, file or address; the engine's default when absent.")
    max_tokens: int = key(512, help="The longest answer, in tokens.", least=1)
    context: int = key(4096, help="Tokens a prompt and its answer may have together.", least=256)
    temperature: float = key(0.2, help="0 gives the likeliest answer, 1 a varied one.", least=0, most=2)
    fallback: list[str] = key(
        factory=list, help="Names of [brains.NAME] that answer, in this order, when this one fails."
    )
    timeout: float = key(
        300.0, help="Seconds an answer may take, waiting included, before it becomes an error notice.", least=0.01
    )


Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, 0 when that is not known."""


class Brain(ABC):
    """What thinks. One interface whatever the engine or device.

    `progress`, when it is set, is told how far a download is; otherwise the log is. `hosts` is as a channel's.
    """

    Config: ClassVar[type[BrainConfig]] = BrainConfig
    hosts: ClassVar[tuple[str, ...]] = ()
    progress: Progress | None = None

    def __init__(self, config: Any, home: Path) -> None:
        self.config = config
        self.home = home

    @property
    def context(self) -> int:
        """The number of tokens a prompt and its answer may have together."""
        return int(self.config.context)

    @property
    def sees(self) -> bool:
        """Whether it takes pictures; asked when it is loaded."""
        return False

    @property
    def remote(self) -> bool:
        """Whether it is on somebody else's machine, so that what is private may not go there as it is."""
        return False

    async def load(self) -> None:
        """Make ready to think. Raises ModelError or BrainError. Calling it again is harmless."""

    @abstractmethod
    def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        """Answer in pieces as they come. Closing the iterator stops the work. Raises BrainError.

        A call's arguments are what the model wrote, checked by whoever carries it out. A brain that cannot call
        tools answers without them.
        """

    async def count(self, text: str) -> int:
        """The number of tokens in `text`; an engine without a tokenizer estimates it from above."""
        return len(text.encode("utf-8", "replace")) // 3 + 1

    async def shrink(self) -> None:
        """Let go of what can be made again, prefixes of idle conversations first: the machine is short of memory."""

    async def unload(self) -> None:
        """Give memory, processes and connections back."""


# ------------------------------------------------------------------------------------------------ memory

Count = Callable[[str], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A stretch of an old conversation that was looked for: turns that belong together, oldest first.

    `score` is at least 0 and at most 1, and comparable within one search only.
    """

    turns: tuple[Turn, ...]
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Recollection:
    """What memory gives for a prompt: a summary of what is older, turns, oldest first, what was `found` for this
    question, which belongs at the prompt's end since it changes each time, and older turns that were `pinned`.
    """

    summary: str = ""
    turns: tuple[Turn, ...] = ()
    found: tuple[Hit, ...] = ()
    pinned: tuple[Turn, ...] = ()


Trigger = Literal["turns", "tokens", "idle", "pressure", "person"]
Action = Literal["summary", "extract"]


@dataclass(frozen=True, slots=True)
class Compaction:
    """A report of one compaction, for people to read. It holds no word of what was said.

    `turns` were folded away; `tokens_before` and `tokens_after` are what the summary and the turns that were
    there took in a prompt. `note` says why it failed, or why the summary is an extract although the brain was
    asked; `done` is False when nothing was changed.
    """

    place: str
    at: float
    trigger: Trigger
    action: Action
    turns: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    seconds: float = 0.0
    note: str = ""
    done: bool = True


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a person asked to be remembered. `id` is a small number, for naming it in a chat."""

    id: int
    text: str
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """The keys of `[memory]` that every memory understands. A memory's own Config adds to them."""

    use: str = key("window", help="The memory: window.")
    quiet_hours: str = key("", help='Hours without compaction, such as "08:00-23:00"; none when empty.')


class Memory(ABC):
    """What remembers. Places are keys; nothing leaks from one to another.

    Only recalling, remembering and forgetting are needed; a memory without the rest keeps the methods below,
    which say so or do nothing. With a `cipher`, which is set before `open`, nothing is written in clear text.
    """

    Config: ClassVar[type[MemoryConfig]] = MemoryConfig
    cipher: Cipher | None = None

    def __init__(self, config: Any, home: Path) -> None:
        """Raises ConfigError."""
        hours = config.quiet_hours
        if hours and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", hours):
            raise ConfigError(f"bot.toml: [memory] quiet_hours = '{hours}' is no span. Write it so: \"22:00-07:00\".")
        self.config = config
        self.home = home

    async def open(self) -> None:
        """Make ready. Raises StoreError."""

    @abstractmethod
    async def recall(self, place: Place, budget: int, count: Count, query: str = "") -> Recollection:
        """What `place` needs for its next prompt, within `budget` tokens.

        `query` is what was just said: old turns that matter for it are `found`.
        """

    @abstractmethod
    async def remember(self, place: Place, turns: Sequence[Turn]) -> None:
        """Append turns. A turn whose (role, id) is already there replaces it instead of being added."""

    @abstractmethod
    async def forget(self, place: Place) -> int:
        """Erase what was said in `place`, wherever it is; returns the number of turns. Facts belong to owners."""

    async def forget_person(self, person: str) -> int:
        """Erase what `person` (as `str(person)`) said anywhere, and the answers; returns the number of turns."""
        raise StoreError("This memory cannot forget a single person.")

    async def compact(self, place: Place, brain: Brain | None, trigger: Trigger = "person") -> Compaction | None:
        """Fold old turns away, or return None when there is nothing to fold.

        Cancelling it changes nothing. `brain` writes the summary; without one it is an extract.
        """
        return None

    async def due(self, now: float) -> Sequence[tuple[Place, Trigger]]:
        """The places whose compaction is due at `now`, in seconds since the epoch; the most urgent first."""
        return ()

    async def search(self, place: Place, words: str, limit: int = 5) -> Sequence[Hit]:
        """The stretches of the conversation in `place` that fit `words` best, the best first."""
        return ()

    def weigh(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each of these texts fits a question, 0 for not at all. Called in threads; nothing is remembered."""
        return [0.0] * len(texts)

    async def pin(self, place: Place, id: str, pinned: bool = True, role: Role = "user") -> bool:
        """Keep the turn (role, id) in every prompt, or no longer; False when it is not there."""
        return False

    async def note(self, owner: str, text: str) -> Fact:
        """Remember a fact for `owner`: `str(person)` or `str(place)`. Saying it again changes nothing."""
        raise StoreError("This memory keeps no facts.")

    async def facts(self, owner: str) -> Sequence[Fact]:
        """What was noted for `owner`, oldest first."""
        return ()

    async def drop(self, owner: str, id: int) -> Fact | None:
        """Erase one fact and return it; None when there is none with this number."""
        return None

    async def shrink(self) -> None:
        """Let go of what can be read again from the disk: the machine is short of memory."""

    async def close(self) -> None:
        """Write what is not written and let go of files."""
