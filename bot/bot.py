"""The bot: its parts, put together from one configuration, and put together again when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roost.access import Access, Role
from roost.config import ChannelEntry, Config, load
from roost.contracts import Brain, Channel, Memory
from roost.degrade import fit
from roost.dispatch import Dispatcher
from roost.errors import ConfigError, RoostError
from roost.home import Lock
from roost.jobs import Schedule
from roost.journal import Journal
from roost.outbox import Outbox
from roost.pipeline import Pipeline
from roost.registry import Registry
from roost.supervisor import Supervisor
from roost.values import Message, Place, Reply

if TYPE_CHECKING:
    from roost.web import Web

log = logging.getLogger("roost")

REVIVE = 5.0  # seconds between two looks for dead letters to send again
STOP_TIME = 10.0  # seconds that a graceful stop may take


class Bot:
    """One running assistant. What plugins get as `bot`."""

    def __init__(self, config: Config, registry: Registry, home: Path) -> None:
        self.config = config
        self.registry = registry
        self.home = home
        self.dispatch = Dispatcher(registry.plugins)
        self.journal = Journal(home / "journal.db", config.journal.synchronous)
        self.access = Access(config.access, config.bot.owner, self.journal)
        self.brain: Brain = config.brain_class(config.brain, home)
        self.memory: Memory = config.memory_class(config.memory, home / "memory")
        self.outbox = Outbox(self.journal, self.running, config.journal.repeat_mark)
        self.pipeline = Pipeline(self)
        self.channels: dict[str, Supervisor] = {}
        self.web: Web | None = None
        self._lock = Lock(home)
        self._schedule = Schedule(self)
        self._thinking: Counter[Brain] = Counter()
        self._background: set[asyncio.Task[None]] = set()

    # For plugins

    @property
    def name(self) -> str:
        return self.config.bot.name

    async def send(self, place: Place | str, reply: Reply | str) -> None:
        """Say something in a place, unasked. It is durable when this returns; delivery follows."""
        place = Place.parse(place) if isinstance(place, str) else place
        reply = Reply(reply) if isinstance(reply, str) else reply
        channel = self.channel(place.channel)
        if channel is None:
            raise RoostError(f"There is no channel '{place.channel}' to send to.")
        parts = [(place, part) for part in fit(reply, self.outbox.limits(channel))]
        self.outbox.put(await self.journal.post(parts))

    def channel(self, name: str) -> Channel | None:
        supervisor = self.channels.get(name)
        return supervisor.channel if supervisor else None

    def running(self, name: str) -> Channel | None:
        """A channel, while it can deliver."""
        supervisor = self.channels.get(name)
        return supervisor.channel if supervisor and supervisor.state == "running" else None

    def role(self, message: Message) -> Role:
        channel = self.channel(message.place.channel)
        return self.access.role(message.sender, local=channel is not None and channel.local)

    def menu(self) -> Sequence[tuple[str, str]]:
        """Name and help of each command, once, in alphabetical order."""
        return [(name, one.help) for name, one in sorted(self.registry.commands.items()) if name == one.name]

    def system_text(self) -> str:
        """The first words of every prompt."""
        text = self.config.bot.persona.replace("{name}", self.name)
        language = self.config.bot.language
        return f"{text} Answer in {language}." if language else text

    @contextlib.asynccontextmanager
    async def thinking(self) -> AsyncIterator[Brain]:
        """The brain in use now. One that is replaced meanwhile is unloaded when its last answer is done."""
        brain = self.brain
        self._thinking[brain] += 1
        try:
            yield brain
        finally:
            self._thinking[brain] -= 1
            if brain is not self.brain and not self._thinking[brain]:
                self._do(brain.unload())

    # Starting and stopping

    async def start(self) -> None:
        """Bring everything up. Raises RoostError when the bot cannot work at all."""
        self._lock.take()
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    async def _open(self) -> None:
        await self.journal.open()
        await self.memory.open()
        await self.access.load()
        await self._serve()
        for name, entry in self.config.channels.items():
            self._start_channel(name, entry)
        self.outbox.put(await self.journal.unsent())
        for seq, item, earlier in await self.journal.unanswered():
            self.pipeline.queue(seq, item, earlier)
        self._schedule.start(self.registry.jobs)
        await self.dispatch.all("startup", bot=self)
        self._do(self._load_brain(self.brain))
        self._do(self._watch())
        self._do(self._keep_house())
        self._do(self._revive())

    async def stop(self) -> None:
        """Stop listening, give what is being answered a moment, leave the rest to the journal."""
        await self.dispatch.all("shutdown", bot=self)
        self._schedule.stop()
        self.pipeline.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIME / 2):
                await self.pipeline.lanes.idle()
                await self.outbox.still()
        await self.pipeline.lanes.stop()
        await self.outbox.stop()
        await asyncio.gather(*(supervisor.stop() for supervisor in self.channels.values()))
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self.web is not None:
            await self.web.stop()
        await self.brain.unload()
        await self.memory.close()
        await self.journal.close()
        self._lock.free()

    async def settle(self) -> None:
        """Wait until nothing is being answered or delivered."""
        await self.pipeline.lanes.idle()
        await self.outbox.idle()

    async def _load_brain(self, brain: Brain) -> None:
        """Load ahead of the first message. What goes wrong is said now, and again to whoever writes."""
        try:
            await brain.load()
        except RoostError as error:
            log.error("The brain is not ready: %s", error)

    async def _keep_house(self) -> None:
        while True:
            await self.journal.prune(self.config.journal.keep_days)
            await asyncio.sleep(6 * 3600)

    async def _revive(self) -> None:
        """Send dead letters that a person wants sent again; the command line only marks them."""
        while True:
            await asyncio.sleep(REVIVE)
            self.outbox.put(await self.journal.revived())

    def _do(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Channels and the web face

    def _start_channel(self, name: str, entry: ChannelEntry) -> None:
        supervisor = Supervisor(
            lambda host: entry.cls(name, entry.config, host),
            home=self.home / "channels" / name,
            bot_name=self.name,
            menu=self,
            journal=self.journal,
            changed=self.outbox.wake,
        )
        self.channels[name] = supervisor
        try:
            if self.web is not None:
                self.web.mount(name, supervisor.channel.routes())
        except ConfigError as error:
            supervisor.refuse(error)
        else:
            supervisor.start(self.pipeline.accept)

    async def _stop_channel(self, name: str) -> None:
        if self.web is not None:
            self.web.unmount(name)
        await self.channels.pop(name).stop()

    async def _serve(self) -> None:
        if not self.config.web.enabled:
            return
        from roost.web import Web

        web = Web(self.config.web)
        await web.start()
        for name, supervisor in self.channels.items():
            web.mount(name, supervisor.channel.routes())
        self.web = web

    # Changes of bot.toml

    async def _watch(self) -> None:
        import watchfiles

        path = self.config.path.resolve()
        if not path.is_file():
            return
        changes = watchfiles.awatch(
            path.parent, watch_filter=lambda _, changed: Path(changed) == path, debounce=400, recursive=False
        )
        async for _ in changes:
            await self.reload()

    async def reload(self) -> None:
        """Read bot.toml again and apply what changed, and only that; a broken one changes nothing."""
        try:
            config = load(self.config.path, self.registry)
        except ConfigError as error:
            log.error("bot.toml was changed but not applied; the last good one stays in force. %s", error)
            return
        changed = await self.apply(config)
        for problem in config.problems:
            log.error("%s", problem)
        if changed:
            log.info("bot.toml: applied the changes in %s.", ", ".join(changed))

    async def apply(self, config: Config) -> list[str]:
        """Change over to another configuration; returns the tables that differ."""
        old, self.config = self.config, config
        changed = [f"[{name}]" for name in ("bot", "access", "journal", "plugins") if differs(name, old, config)]
        self.access.table, self.access.owner = config.access, config.bot.owner
        if differs("brain", old, config):
            self._change_brain()
            changed.append("[brain]")
        if differs("memory", old, config):
            await self._change_memory()
            changed.append("[memory]")
        if differs("web", old, config):
            await self._change_web()
            changed.append("[web]")
        return changed + await self._change_channels(old, config)

    def _change_brain(self) -> None:
        old, self.brain = self.brain, self.config.brain_class(self.config.brain, self.home)
        if not self._thinking[old]:
            self._do(old.unload())
        self._do(self._load_brain(self.brain))

    async def _change_memory(self) -> None:
        old, self.memory = self.memory, self.config.memory_class(self.config.memory, self.home / "memory")
        await old.close()
        await self.memory.open()

    async def _change_web(self) -> None:
        if self.web is not None:
            await self.web.stop()
            self.web = None
        try:
            await self._serve()
        except RoostError as error:
            log.error("The web face is down: %s", error)

    async def _change_channels(self, old: Config, new: Config) -> list[str]:
        names = sorted(old.channels.keys() | new.channels.keys())
        changed = [name for name in names if old.channels.get(name) != new.channels.get(name)]
        for name in changed:
            if name in self.channels:
                await self._stop_channel(name)
            if name in new.channels:
                self._start_channel(name, new.channels[name])
        return [f"[channels.{name}]" for name in changed]


def differs(table: str, old: Config, new: Config) -> bool:
    return bool(getattr(old, table) != getattr(new, table))
