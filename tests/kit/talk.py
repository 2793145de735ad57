"""A whole bot with one channel on one rig, and a second channel in memory that nothing may disturb."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from kit.rig import LIMIT, Rig
from roost import hookimpl
from roost.contracts import Channel
from roost.testing import Stage
from roost.values import Event, Message

Script = Callable[[str], str | Iterable[str]]


class Talk:
    """`async with talk.up() as stage`: the bot runs. Brought up again, it goes on where it was."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.events: list[Event] = []
        self.said: list[Message] = []

    @asynccontextmanager
    async def up(
        self, script: Script | None = None, *, table: dict[str, Any] | None = None, more: str = ""
    ) -> AsyncIterator[Stage]:
        async with self.begun(script, table=table, more=more) as stage:
            await (self.ready(stage) if table is None else self._open(stage))
            yield stage

    @asynccontextmanager
    async def begun(
        self, script: Script | None = None, *, table: dict[str, Any] | None = None, more: str = ""
    ) -> AsyncIterator[Stage]:
        """The bot runs; the channel may still be on its way."""
        keys = self.rig.table() if table is None else table
        lines = [f"[channels.{self.rig.kind}]", *(f"{name} = {toml(value)}" for name, value in keys.items())]
        core = '[access]\ndirect = "open"\ngroups = "open"\n' + ("[web]\nport = 0\n" if self.rig.web else "")
        stage = Stage(self.folder, config="\n".join([core, more, *lines]), script=script or echo)
        async with stage:
            self._listen(stage)
            yield stage

    async def ready(self, stage: Stage) -> None:
        """The channel is running, and people may write."""
        supervisor = stage.bot.channels[self.rig.kind]
        try:
            async with asyncio.timeout(LIMIT):
                await supervisor.up.wait()
        except TimeoutError:
            raise AssertionError(f"It is {supervisor.state}: {supervisor.problem}") from None
        await self._open(stage)

    async def _open(self, stage: Stage) -> None:
        await self.rig.opened(stage.bot.web.address if stage.bot.web else "")

    def _listen(self, stage: Stage) -> None:
        """Note what the core takes from the channel."""
        kit = types.ModuleType("kit")

        @hookimpl
        def on_message(message: Message) -> None:
            self.said.append(message)

        @hookimpl
        def on_event(event: Event) -> None:
            self.events.append(event)

        vars(kit).update(on_message=on_message, on_event=on_event)
        stage.registry.add(kit, "kit")

    def channel(self, stage: Stage) -> Channel:
        channel = stage.bot.channel(self.rig.kind)
        assert channel is not None
        return channel


def echo(said: str) -> str:
    """The brain of the scenarios: the last line that was said, without the name before it."""
    line = said.splitlines()[-1] if said else ""
    name, colon, rest = line.partition(": ")
    return f"echo {rest if colon and name.istitle() else line}"


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{msgspec.json.encode(name).decode()} = {toml(one)}" for name, one in value.items())
            + " }"
        )
    return msgspec.json.encode(value).decode()
