"""The connection between `roost chat` and the terminal channel, whose module describes the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost.errors import ChannelError, StoreError

Frame = dict[str, Any]

CHAT = "terminal"
MAX_FRAME = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a bot's terminal channel listens, and the word that lets in."""

    host: str
    port: int
    token: str

    @classmethod
    def read(cls, file: Path) -> Address:
        """Read address.json. Raises StoreError when no bot has left one there."""
        try:
            found = json.loads(file.read_text("utf-8"))
            return cls(str(found["host"]), int(found["port"]), str(found["token"]))
        except FileNotFoundError as error:
            raise StoreError(f"No bot is running: there is no '{file}'. Start one with: roost run") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(f"The address of the bot in '{file}' cannot be read: {error}.") from error


class Link:
    """A connection to the terminal channel, after its welcome."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.welcome: Frame = {}
        self._reader = reader
        self._writer = writer

    async def greet(self, address: Address, chat: str) -> None:
        """Show the token. Raises ChannelError when it is refused."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._write({"type": "hello", "token": address.token, "chat": chat, "name": _user()})
                self.welcome = await self.next() or {}
        if self.welcome.get("type") != "welcome":
            raise ChannelError(
                f"What listens at {address.host}:{address.port} did not let us in. "
                "The bot may just have been restarted: try again."
            )

    async def say(self, text: str) -> str:
        """Say something; returns its id. Raises ValueError when it is too long, OSError after a cut."""
        id = uuid.uuid4().hex
        await self._write({"type": "say", "id": id, "text": text})
        return id

    async def ask_history(self, limit: int) -> None:
        await self._write({"type": "history", "limit": limit})

    async def next(self) -> Frame | None:
        """The next frame, or None once the connection has ended."""
        try:
            line = await self._reader.readline()
            frame = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return frame if isinstance(frame, dict) else None

    async def _write(self, frame: Frame) -> None:
        line = json.dumps(frame, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        longest = self.welcome.get("max_line", len(line))
        if len(line) > longest:
            raise ValueError(f"The message is too long: the bot takes at most {longest} bytes at once.")
        self._writer.write(line)
        await self._writer.drain()


@contextlib.asynccontextmanager
async def connect(address: Address, chat: str = CHAT) -> AsyncIterator[Link]:
    """Open a connection. Raises ChannelError when no bot answers there or the token is refused."""
    where = f"{address.host}:{address.port}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=MAX_FRAME)
    except (OSError, TimeoutError) as error:
        raise ChannelError(f"No bot answers at {where}. Start one with: roost run") from error
    try:
        link = Link(reader, writer)
        await link.greet(address, chat)
        yield link
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
