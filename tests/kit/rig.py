"""A platform as the scenarios see it: a server, people who write to the bot, and what they see of it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from kit.gate import Gate

Chat = Literal["direct", "group"]
LIMIT = 30.0  # seconds within which something must have happened, however slow the machine


@dataclass(frozen=True, slots=True)
class Shown:
    """A message of the bot's, as the platform shows it: `text` is what people read, `raw` the platform's own."""

    id: str
    text: str
    quote: str = ""
    thread: str = ""
    buttons: tuple[str, ...] = ()
    files: tuple[bytes, ...] = ()
    raw: Any = None


class Rig(ABC):
    """Ann writes to the bot directly and, with Bob, in a group.

    Override what the platform has; the scenarios that need it run where it is overridden, and a channel that says it
    can do something whose scenario cannot run fails. `sending` is what the bytes of a request that sends a text
    contain, empty where they cannot be read. `gate` is the door between the channel and the server.
    """

    kind: ClassVar[str]
    mode: ClassVar[str] = ""  # what is other than by default: a way in, or a server
    written_by_others: ClassVar[bool] = False
    groups: ClassVar[bool] = True
    login: ClassVar[bool] = True  # the server knows accounts, and refuses wrong ones
    files: ClassVar[bool] = True  # a channel that sends files can do so here
    ordered: ClassVar[bool] = True  # what is sent at almost the same time arrives in the order in which it was sent
    redelivers: ClassVar[bool] = True  # the platform brings again what was not acknowledged
    burst: ClassVar[int] = 1000
    sending: ClassVar[bytes] = b""
    programs: ClassVar[tuple[tuple[str, str], ...]] = ()  # of the system, with the Debian package they come from
    web: ClassVar[bool] = False  # the channel answers on the web face
    gate: Gate | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def name(cls) -> str:
        """The channel and the mode, for the table: "slack (HTTP events)"."""
        return f"{cls.kind} ({cls.mode})" if cls.mode else cls.kind

    @property
    @abstractmethod
    def server(self) -> str:
        """Name and version of the server, for the table: "Synapse 1.163"."""

    @abstractmethod
    async def start(self) -> None:
        """Have a server with Ann, Bob and the bot's account on it, and a door in front."""

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    def table(self) -> dict[str, Any]:
        """The keys of the channel's table in bot.toml, through the door, without limits of rate."""

    def bad_table(self) -> dict[str, Any]:
        """The same with credentials that the server refuses."""
        raise NotImplementedError

    async def opened(self, address: str) -> None:
        """The bot is up; its web face is at `address`, where it has one."""

    @abstractmethod
    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        """Let Ann write; returns the message's id as the platform has it. `mention` names the bot first."""

    @abstractmethod
    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        """Every message of the bot's in a chat, in the order people see, as it is now."""

    async def news(self) -> None:
        """Wait until something may have changed on the platform."""
        await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[Sequence[Shown]], Any], chat: Chat = "direct") -> Sequence[Shown]:
        """What is shown once that fulfils a condition. Fails, and tells what there is, when it never does."""
        shown: Sequence[Shown] = ()
        try:
            async with asyncio.timeout(LIMIT):
                while not condition(shown := await self.shown(chat)):
                    await self.news()
        except TimeoutError:
            texts = [one.text[:200] for one in shown[-5:]]
            raise AssertionError(f"After {LIMIT:g} seconds, the last of {len(shown)} in {chat} are {texts}") from None
        return shown

    async def answers(self, count: int, chat: Chat = "direct") -> Sequence[Shown]:
        """What is shown once there are `count` messages."""
        return await self.until(lambda shown: len(shown) >= count, chat)

    # What a platform may have

    async def open_thread(self) -> str:
        """Begin a thread in the group; returns its id."""
        raise NotImplementedError

    async def say_again(self, shown: Shown) -> None:
        """Let Ann send a message of the bot's herself, formatted as it is."""
        raise NotImplementedError

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        """Let Ann send a file directly."""
        raise NotImplementedError

    async def edit(self, id: str, text: str) -> None:
        """Let Ann change what she wrote directly."""
        raise NotImplementedError

    async def react(self, shown: Shown, emoji: str) -> None:
        """Let Ann react to a message of the bot's in the direct chat."""
        raise NotImplementedError

    async def reactions(self, id: str) -> Sequence[str]:
        """The bot's reactions to a message of Ann's in the direct chat."""
        raise NotImplementedError

    async def typed(self) -> int:
        """How often the bot has shown Ann that it is writing."""
        raise NotImplementedError

    async def press(self, shown: Shown, label: str) -> None:
        """Let Ann press a button."""
        raise NotImplementedError

    async def again(self) -> None:
        """Deliver the last thing Ann wrote directly once more, as the platform does when it is unsure."""
        raise NotImplementedError

    async def taken(self) -> bool:
        """Whether the bot has acknowledged the last thing Ann wrote: then the platform does not bring it again."""
        raise NotImplementedError

    async def garbage(self) -> None:
        """Deliver things that no version of the platform would."""
        raise NotImplementedError

    def too_fast(self, seconds: int) -> bytes:
        """A whole HTTP answer that asks for a pause, as the platform gives it."""
        raise NotImplementedError

    def broken(self) -> bytes:
        """A whole HTTP answer of a server in trouble, as the platform gives it."""
        raise NotImplementedError

    async def forged(self) -> int:
        """Deliver a message with a wrong signature; returns the bot's HTTP status."""
        raise NotImplementedError

    async def replayed(self) -> int:
        """Deliver the last request once more, an hour late by its own signed time; returns the bot's HTTP status."""
        raise NotImplementedError

    @classmethod
    def has(cls, ability: str) -> bool:
        """Whether this rig overrides an optional method."""
        return getattr(cls, ability) is not getattr(Rig, ability)
