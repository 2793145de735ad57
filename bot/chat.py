"""`roost chat`: talk to the bot from this terminal, or from a script.

It is a client of the terminal channel, whose module describes the protocol, and knows nothing of the bot.
At a terminal it is a conversation; anywhere else it says all of its standard input and prints the answer.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import TextIO

from roost.dialogue import Dialogue
from roost.errors import ChannelError, StoreError
from roost.keyboard import in_thread
from roost.link import CHAT, Address, Link, connect
from roost.logs import plain
from roost.screen import Screen, printable

QUIET_SECONDS = 0.25


async def chat(address_file: Path, *, past: Path | None = None, limit: float = 600.0) -> int:
    """Talk over this process's own standard streams with the bot that left `address_file`.

    `past` keeps what was typed, for the arrow keys. `limit` is how many seconds a script waits for its
    answer. Returns an exit status: 0, 1 when there was no answer, 2 when there was nothing to say.
    """
    try:
        address = Address.read(address_file)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return await converse(address, sys.stdin, plain(sys.stdout), plain(sys.stderr), past=past, limit=limit)


async def converse(
    address: Address,
    stdin: TextIO,
    stdout: TextIO,
    stderr: TextIO,
    *,
    past: Path | None = None,
    limit: float = 600.0,
    name: str = CHAT,
) -> int:
    """Hold a conversation at a terminal, or answer a script. Returns the exit status, as `chat` does.

    A conversation reads lines with `input`, so there `stdin` and `stdout` must be the process's own.
    """
    try:
        if stdin.isatty() and stdout.isatty():
            _widen(stdin, stdout)
            async with connect(address, name) as link:
                return await Dialogue(link, Screen(stdout), past).run()
        return await _script(address, stdin, stdout, stderr, limit=limit, name=name)
    except ChannelError as error:
        print(error, file=stderr)
        return 1


async def _script(address: Address, stdin: TextIO, stdout: TextIO, stderr: TextIO, *, limit: float, name: str) -> int:
    text = (await in_thread(lambda: _read_all(stdin.fileno()))).rstrip()
    if not text.strip():
        print("There is nothing to say on the standard input. Try: echo hello | roost chat", file=stderr)
        return 2
    answer = await ask(address, text, limit=limit, chat=name)
    _widen(stdout)
    stdout.write(printable(answer) + "\n")
    stdout.flush()
    return 0


def _read_all(descriptor: int) -> str:
    """Read to the end below Python's own buffers, whose locks an abandoned thread would keep at exit."""
    return b"".join(iter(lambda: os.read(descriptor, 65536), b"")).decode("utf-8-sig", "replace")


def _widen(*streams: TextIO) -> None:
    """Have every character accepted: as UTF-8 in a pipe, as well as can be at a terminal."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


async def ask(address: Address, text: str, *, limit: float = 600.0, chat: str = CHAT) -> str:
    """Say `text` and return the Markdown of the answer. Raises ChannelError when none comes, with the bot's reason."""
    async with connect(address, chat) as link:
        try:
            async with asyncio.timeout(limit):
                return await _answer(link, await link.say(text))
        except TimeoutError as error:
            raise ChannelError(f"The bot gave no answer within {limit:g} seconds.") from error
        except (OSError, ValueError) as error:
            raise ChannelError(f"The bot did not get the message. {error}") from error


async def _answer(link: Link, id: str) -> str:
    """Collect the messages that answer `id`: nothing announces the last, so a short quiet ends them."""
    parts: dict[str, str] = {}
    failed = False
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS if parts else None):
                frame = await link.next()
        except TimeoutError:
            break
        if frame is None:
            break
        if frame["type"] == "error" and frame["id"] in (id, ""):
            raise ChannelError(frame["text"])
        if frame["type"] in ("message", "edit") and frame["done"] and frame["answers"] == id:
            parts[frame["id"]] = frame["text"]
            failed = failed or frame["notice"]
    if failed:
        raise ChannelError("\n".join(parts.values()))
    if not parts:
        raise ChannelError("The connection to the bot ended before there was an answer.")
    return "\n".join(parts.values())
