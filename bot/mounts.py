"""MCP servers whose tools the brain may call: each table `[mcp.NAME]` is a connection that is kept up.

They are connected once the bot runs and as long as their table is there, so that none of them holds up a start. A
server that is gone is tried again, later each time; its tools stay where the brain knows them, and answer that it is
not connected. https://modelcontextprotocol.io
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from roost.cli import config_option, prepare
from roost.dispatch import is_cancelled
from roost.egress import by
from roost.errors import ConfigError, RoostError
from roost.hookspecs import hookimpl
from roost.logs import redact
from roost.pauses import pauses
from roost.settings import McpTable
from roost.tools import Offer, Run
from roost.values import Message

if TYPE_CHECKING:
    from roost.bot import Bot
    from roost.mcp_client import Connection
    from roost.mcp_tools import Listing, Offered

log = logging.getLogger("roost.mcp")

LOOK = 2.0  # seconds between two looks at the tables of bot.toml
LULL = 5.0  # seconds between two lists of tools, however often a server says that they changed
STEADY = 60.0  # seconds of being connected after which a fall counts as the first again
LONGEST_PAUSE = 300.0  # seconds between two tries
NEEDED = "It needs the package 'mcp', version 2 ({}). Install it, in the checkout: .venv/bin/pip install -e \".[mcp]\""


class Mount:
    """One server: connected again and again, its tools registered under its name."""

    def __init__(self, bot: Bot, name: str, table: McpTable) -> None:
        self.name, self.table = name, table
        self.problem = ""
        self.ready = asyncio.Event()
        self.ended = False  # no longer wanted: it is about to be cancelled
        self._bot = bot
        self._connection: Connection | None = None
        self._listing: Listing | None = None

    @property
    def plugin(self) -> str:
        return f"mcp.{self.name}"

    async def keep(self) -> None:
        """Keep it connected until cancelled."""
        waits = pauses(LONGEST_PAUSE)
        try:
            while not self.ended:
                began = time.monotonic()
                await self._once()
                if time.monotonic() - began > STEADY:
                    waits = pauses(LONGEST_PAUSE)
                await asyncio.sleep(next(waits))
        finally:
            self._connection = None
            self._unregister()

    async def _once(self) -> None:
        connection: Connection | None = None
        try:
            client = await asyncio.to_thread(importlib.import_module, "roost.mcp_client")
            connection = client.Connection(self.name, self.table, self._bot.config.path.parent.resolve())
            with by(f"mcp {self.name}"):  # and in the tasks that begin here, where calls are made
                async with connection.open():
                    await self._serve(connection)
        except ImportError as error:
            self._say(NEEDED.format(error))
        except (Exception, asyncio.CancelledError) as error:
            # A request on its way over HTTP may leave a cancellation behind that the task no longer knows of.
            if isinstance(error, asyncio.CancelledError) and (self.ended or is_cancelled()):
                raise
            self._say(connection.trouble(error) if connection else str(error))
            log.debug("The MCP server '%s' fell.", self.name, exc_info=True)
        finally:
            self.ready.clear()
            self._connection = None

    async def _serve(self, connection: Connection) -> None:
        """Offer its tools, and look again whenever they may have changed; it raises when the server is gone."""
        while True:
            self._offer(await connection.list())
            self._connection = connection
            self.ready.set()
            await connection.due(LULL)

    def _offer(self, found: Listing) -> None:
        self.problem = ""
        if found == self._listing:
            return
        self._unregister()
        known = set(self._bot.registry.tools)
        free = [one for one in found.tools if one.tool.name not in known]
        taken = [one.tool.name for one in found.tools if one.tool.name in known]
        self._bot.registry.add(Tools(map(self._as_offer, free)), self.plugin)
        self._listing = found
        log.info("The MCP server '%s' is connected; it offers %d tools.", self.name, len(free))
        for sentence in (*found.left_out, *(f"There is a tool '{name}' already." for name in taken)):
            log.warning("The MCP server '%s': %s", self.name, sentence)

    def _as_offer(self, one: Offered) -> Offer:
        run, role = self._run(one.name), self.table.role
        return Offer(one.tool, run, role, confirm=one.destroys, effects=one.effects, outside=not self.table.trusted)

    def _unregister(self) -> None:
        if self._listing is not None:
            self._listing = None
            self._bot.registry.remove(self.plugin)

    def _run(self, tool: str) -> Run:
        async def run(given: str, message: Message, bot: Any) -> str:
            if self._connection is None:
                raise RoostError(f"The MCP server '{self.name}' is not connected now. {self.problem}".rstrip())
            return await self._connection.call(tool, given)

        return run

    def _say(self, problem: str) -> None:
        problem = redact(problem)
        if problem != self.problem:
            log.error("The MCP server '%s' is not connected: %s It is tried again.", self.name, problem)
        self.problem = problem


class Tools:
    """What is registered of one server, as a plugin that has nothing but tools."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.offers = tuple(offers)

    @hookimpl
    def register_tools(self, register: Callable[[Offer], None]) -> None:
        for one in self.offers:
            register(one)


class Mounts:
    """The servers of one bot. What bot.toml says of them is looked at as long as it runs."""

    def __init__(self, bot: Bot) -> None:
        self.mounts: dict[str, Mount] = {}
        self._bot = bot
        self._stopped = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Have a server connected for each table, and for no other, until cancelled."""
        try:
            while not self._stopped:
                await self.refresh()
                await asyncio.sleep(LOOK)
        finally:
            await self.stop()

    async def refresh(self) -> None:
        wanted = self._bot.config.mcp
        await self._end([name for name, one in self.mounts.items() if wanted.get(name) != one.table])
        for name in wanted.keys() - self.mounts.keys():
            self.mounts[name] = Mount(self._bot, name, wanted[name])
            self._tasks[name] = asyncio.create_task(self.mounts[name].keep(), name=f"mcp {name}")

    async def stop(self) -> None:
        self._stopped = True
        await self._end(list(self.mounts))

    async def _end(self, names: list[str]) -> None:
        tasks = [self._tasks.pop(name) for name in names]
        for name in names:
            self.mounts.pop(name).ended = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_all: dict[Bot, Mounts] = {}


def mounts(bot: Bot) -> Mounts:
    """Those of a bot that runs."""
    return _all.setdefault(bot, Mounts(bot))


@click.command("mcp")
@config_option
def mcp(path: Path | None) -> None:
    """Serve what the bot can do to other programs, as an MCP server on the standard input and output."""
    registry, config = prepare(path, log="error")
    try:
        from roost.mcp_server import serve
    except ImportError as error:
        raise ConfigError(f"`roost mcp`: {NEEDED.format(error)}") from error
    serve(config, registry)


@hookimpl
def register_cli(cli: click.Group) -> None:
    cli.add_command(mcp)


@hookimpl
def startup(bot: Bot) -> None:
    bot.do(mounts(bot).follow())


@hookimpl
async def shutdown(bot: Bot) -> None:
    one = _all.pop(bot, None)
    if one is not None:
        await one.stop()
