"""A core just large enough for the chat page: it keeps what it receives, and answers when told how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from roost.channels.web import WebChat
from roost.contracts import ChannelConfig, Said
from roost.settings import WebTable
from roost.values import Event, Message, Place, Reply
from roost.web import Web

Answer = Callable[["TinyCore", Message], Awaitable[None]]


async def silent(core: TinyCore, message: Message) -> None:
    """Accept without a word."""


class TinyCore:
    """Host and receiver of one WebChat, mounted on a real Web."""

    bot_name = "Roost"

    def __init__(self, answer: Answer = silent, table: WebTable | None = None) -> None:
        self.table = table or WebTable(port=0)
        self.answer = answer
        self.received: list[Message] = []
        self.lines: dict[str, list[Said]] = {}
        self.pulses = 0
        self.accepting = asyncio.Event()
        self.accepting.set()
        self.started = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def home(self) -> Path:
        raise AssertionError("The chat page keeps no files.")

    def pulse(self) -> None:
        self.pulses += 1
        self.started.set()

    def trouble(self, why: str) -> None: ...

    def commands(self) -> Sequence[tuple[str, str]]:
        return ()

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        return self.lines.get(place.chat, [])[-limit:]

    async def start(self, port: int = 0) -> None:
        self.table = WebTable(port=port or self.table.port, host=self.table.host, token=self.table.token)
        self.web = Web(self.table)
        self.chat = WebChat("web", ChannelConfig(), self)
        self.web.mount("web", self.chat.routes())
        await self.web.start()
        self.started.clear()
        self.running = asyncio.create_task(self.chat.run(self.receive))
        await self.started.wait()

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.web.stop()
        await asyncio.gather(*self._tasks)

    async def receive(self, message: Message | Event) -> bool:
        assert isinstance(message, Message)
        await self.accepting.wait()
        if any(known.identity == message.identity for known in self.received):
            return False
        self.received.append(message)
        self._keep(message.place, Said(message.id, False, "You", message.text, message.at))
        task = asyncio.create_task(self.answer(self, message))
        self._tasks.add(task)
        return True

    async def say(self, place: Place, reply: Reply) -> str:
        sent = await self.chat.send(place, reply)
        self._keep(place, Said(sent.ids[0], True, self.bot_name, reply.text, 1_700_000_000.0))
        return sent.ids[0]

    async def stream(self, place: Place, texts: Sequence[str], key: str = "") -> None:
        """Show a growing answer: the first text is sent, each later one replaces it."""
        sent = await self.chat.send(place, Reply(text=texts[0], key=key))
        for text in texts[1:]:
            await self.chat.edit(sent, Reply(text=text))
        self._keep(place, Said(sent.ids[0], True, self.bot_name, texts[-1], 1_700_000_000.0))

    def _keep(self, place: Place, said: Said) -> None:
        self.lines.setdefault(place.chat, []).append(said)
