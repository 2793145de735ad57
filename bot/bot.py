"""The bot: its parts, put together from one configuration, and put together again when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from roost import wishes
from roost.access import Access
from roost.acting import Flood
from roost.changes import Changes
from roost.commands import as_reply
from roost.config import ChannelEntry, Config
from roost.contracts import Brain, Channel, Fact, Limits, Memory, Said
from roost.degrade import fit
from roost.dispatch import Dispatcher
from roost.door import Door
from roost.egress import Watch
from roost.encryption import unlock
from roost.errors import ConfigError, RoostError
from roost.gauges import Sensor, size
from roost.hearing import Hearing
from roost.home import Lock
from roost.jobs import Schedule
from roost.journal import Journal
from roost.leaving import Leaving
from roost.minds import Minds
from roost.outbox import Outbox
from roost.people import People
from roost.pipeline import Pipeline
from roost.plugins import Plugins
from roost.pressure import Pressure
from roost.registry import Registry
from roost.roles import Role, allows
from roost.rows import sound
from roost.shelf import Shelf
from roost.supervisor import Supervisor
from roost.tidying import Tidying
from roost.values import Message, Place, Reply

if TYPE_CHECKING:
    from roost.web import Web

log = logging.getLogger("roost")
T = TypeVar("T")

HEED = 0.25  # seconds between two looks whether the command line has written what it wants
HOUSEKEEPING = 6 * 3600.0  # seconds
STEP_TIME = 5.0  # seconds that each step of a stop may take


class Bot:
    """One running assistant. What plugins get as `bot`."""

    def __init__(self, config: Config, registry: Registry, home: Path) -> None:
        self._background: set[asyncio.Task[None]] = set()
        self.config = config
        self.registry = registry
        self.home = home
        self.dispatch = Dispatcher(registry)
        self.journal = Journal(home / "journal.db", config.journal.synchronous)
        self.people = People(self.journal)
        self.door = Door(self)
        self.access = Access(config.access, config.bot.owner, self.journal, self.door)
        self.minds = Minds(config, home, self.do)
        self.hearing: Hearing = config.hearing_class(config.hearing, home)
        self.memory: Memory = config.memory_class(config.memory, home / "memory")
        self.outbox = Outbox(self.journal, self.running, config.journal.repeat_mark, self.access.pairing.fill)
        self.pipeline = Pipeline(self)
        self.channels: dict[str, Supervisor] = {}
        self.web: Web | None = None
        self.resting = False
        self.leaving = Leaving(self)
        self.changes = Changes(self)
        self.plugins = Plugins(self)
        self._flood = Flood()
        self.egress = Watch(lambda: self.config, home / "egress.jsonl")
        self._lock = Lock(home)
        self.tidying = Tidying(self)
        self.pressure = Pressure(
            Sensor(lambda: size(self.config.bot.memory_limit)),
            {"memory": self._shrink_memory, "brain": self.minds.shrink},
        )
        self.schedule = Schedule(self)

    async def reload(self) -> None:
        """Read bot.toml again, and apply what changed."""
        await self.changes.reload()

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
        self._flood.count()
        self.outbox.put(await self.journal.post(await self.fitted(place, [reply])))

    async def fitted(self, place: Place, replies: Sequence[Reply]) -> list[tuple[Place, Reply]]:
        """Replies as the messages that the channel of `place` can carry, after plugins have seen them."""
        channel = self.channel(place.channel)
        limits = self.outbox.limits(channel, place) if channel is not None else Limits()
        parts: list[tuple[Place, Reply]] = []
        for reply in replies:
            said = reply
            async for other in self.dispatch.each("before_send", bot=self, place=place, reply=said):
                said = as_reply(other)
            parts += [(place, part) for part in fit(replace(said, text=sound(said.text)), limits)]
        return parts

    def options(self, cls: type[T]) -> T:
        """What `[plugins.NAME]` says, as the plugin's class of options. Raises ConfigError when it is not in order."""
        name = next((name for name, known in self.registry.options.items() if known is cls), "")
        found = self.config.plugin_options.get(name)
        if not isinstance(found, cls):
            raise ConfigError(f"bot.toml: [plugins.{name or cls.__name__}] is not in order; the log says why.")
        return found

    def shelf(self, plugin: str) -> Shelf:
        """What a plugin keeps for good."""
        return Shelf(self.journal, plugin)

    async def history(self, place: Place, limit: int = 100) -> Sequence[Said]:
        """The last lines of a place as a person saw them, oldest first."""
        return await self.journal.history(place, limit, self.name)

    async def think(self, message: Message, task: str, text: str = "") -> str:
        """Have the brain that answers a message do something else with a text, such as translate it.

        Nothing of the conversation goes along, nothing is remembered. `text` is cut to what the brain can read.
        Raises RoostError or TimeoutError.
        """
        return await self.pipeline.thinking.task(message, task, text)

    def channel(self, name: str) -> Channel | None:
        supervisor = self.channels.get(name)
        return supervisor.channel if supervisor else None

    def running(self, name: str) -> Channel | None:
        """A channel, while it can deliver."""
        supervisor = self.channels.get(name)
        return supervisor.channel if supervisor and supervisor.state == "running" else None

    def role(self, message: Message) -> Role:
        channel = self.channel(message.place.channel)
        return self.access.role(message.sender, channel is not None and channel.local, message.place)

    async def spend(self, message: Message, tokens: int) -> None:
        """Count what an answer took, prompt and answer together, against the budgets it falls under."""
        if self.metered(message):
            await self.access.spend(message, tokens)

    def metered(self, message: Message) -> bool:
        """Whether the tokens of an answer count against a budget."""
        return self.role(message) != "owner" and self.access.metered(message)

    async def owners(self, message: Message) -> list[str]:
        """Whose facts matter where a message was said: the person's own in private, the place's in a group."""
        if message.place.kind != "direct":
            return [str(message.place)]
        return await self.people.others(str(message.sender))

    async def facts(self, message: Message) -> list[tuple[str, Fact]]:
        """These facts with their owners, oldest first."""
        found = [(owner, fact) for owner in await self.owners(message) for fact in await self.memory.facts(owner)]
        return sorted(found, key=lambda one: one[1].at)

    def menu(self, role: Role = "guest") -> Sequence[tuple[str, str]]:
        """Name and help of each command, once, in alphabetical order; those that somebody with this role may use."""
        commands = sorted(self.registry.commands.items())
        return [(name, one.help) for name, one in commands if name == one.name and allows(role, one.role)]

    def system_text(self, persona: str = "") -> str:
        """The first words of every prompt."""
        text = (persona or self.config.bot.persona).replace("{name}", self.name)
        language = self.config.bot.language
        return f"{text} Answer in {language}." if language else text

    @property
    def brain(self) -> Brain:
        """That of `[brain]`. Use it within `thinking`."""
        return self.minds.main

    def thinking(self) -> AbstractAsyncContextManager[Brain]:
        """That of `[brain]`, kept from being unloaded."""
        return self.minds.thinking()

    # Starting and stopping

    async def start(self) -> None:
        """Bring everything up. Raises RoostError when the bot cannot work at all."""
        self._lock.take()
        self.egress.begin()
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    async def _open(self) -> None:
        await self._open_stores()
        await self.access.load()
        await self.pipeline.states.load()
        await self.serve()
        for name, entry in self.config.channels.items():
            self._make_channel(name, entry)
        await self.journal.interrupted()
        for name in self.channels:
            await self._take_up(name)
        for supervisor in self.channels.values():
            supervisor.start(self.pipeline.accept)
        await self._warn_of_stranded()
        self.do(self.schedule.start({"memory.compact": self.tidying.job()}))
        await self.dispatch.all("startup", bot=self)
        for work in (
            self.minds.load(),
            self.changes.watch(),
            self.plugins.watch(),
            self._keep_house(),
            self._heed(),
            self.pressure.watch(),
        ):
            self.do(work)

    async def _open_stores(self) -> None:
        self.journal.cipher = self.memory.cipher = unlock(self.home, self.config.bot.encryption)
        await self.journal.open()
        await self.memory.open()

    async def stop(self) -> None:
        """Stop listening, give what is being answered a moment, leave the rest to the journal.

        Each step has its time and its own failure: whatever hangs or breaks, the others follow.
        """
        self.pipeline.closed = True
        await step("shutdown hooks", self.dispatch.all("shutdown", bot=self))
        await step("jobs", self.schedule.stop())
        self.dispatch.watch.stop()
        await step("last answers", self._settle(), quiet=True)
        await step("answers", self.pipeline.lanes.stop())
        await step("outbox", self.outbox.stop())
        await step("channels", self._stop_channels())
        await step("background", self._cancel_background())
        if self.web is not None:
            await step("web face", self.web.stop())
        await step("brain", self.minds.unload())
        await step("hearing", self.hearing.close())
        await step("memory", self.memory.close())
        await step("journal", self.journal.close())
        await step("ledger of what left", asyncio.to_thread(self.egress.end))
        self._lock.free()

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[Bot]:
        """The journal and the memory alone, for the command line while no bot runs."""
        self._lock.take()
        self.resting = True
        self.egress.begin()
        try:
            await self._open_stores()
            yield self
        finally:
            await step("brain", self.minds.unload())
            await step("memory", self.memory.close())
            await step("journal", self.journal.close())
            await step("ledger of what left", asyncio.to_thread(self.egress.end))
            self._lock.free()

    async def _settle(self) -> None:
        await self.pipeline.lanes.idle()
        await self.outbox.still()

    async def _stop_channels(self) -> None:
        await asyncio.gather(*(supervisor.stop() for supervisor in self.channels.values()), return_exceptions=True)

    async def _cancel_background(self) -> None:
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until nothing is being answered or delivered."""
        await self.pipeline.lanes.idle()
        await self.outbox.idle()

    async def _keep_house(self) -> None:
        while True:
            with logged("The journal was not cleaned up."):
                await self.journal.prune(self.config.journal.keep_days)
            await asyncio.sleep(HOUSEKEEPING)

    async def _heed(self) -> None:
        """Look for what the command line wants: dead letters sent again, wishes granted."""
        seen = -1  # what was written while no bot ran is looked for, too
        while True:
            with logged("What the command line wants was not looked for."):
                if (version := await self.journal.version()) != seen:
                    self.outbox.put(await self.journal.revived())
                    await wishes.grant(self)
                    seen = version
            await asyncio.sleep(HEED)

    def do(self, work: object) -> None:
        """Run something in the background until it ends or the bot stops."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Channels and the web face

    def _make_channel(self, name: str, entry: ChannelEntry) -> Supervisor | None:
        """Put a channel together. One that cannot be made is named and left out; the others go on."""
        try:
            supervisor = self.supervised(name, entry)
        except (Exception, SystemExit) as error:
            log.error("The channel '%s' is left out: %s", name, error)
            log.debug("What went wrong:", exc_info=True)
            return None
        self.channels[name] = supervisor
        self._mount(supervisor)
        return supervisor

    def supervised(self, name: str, entry: ChannelEntry) -> Supervisor:
        """A channel that has not been started. Raises whatever its class raises."""
        return Supervisor(
            lambda host: entry.cls(name, entry.config, host),
            home=self.home / "channels" / name,
            bot_name=self.name,
            menu=self,
            journal=self.journal,
            changed=self.outbox.wake,
            public_url=self.config.web.public_url,
        )

    async def _shrink_memory(self) -> None:
        await self.memory.shrink()

    async def _take_up(self, name: str) -> None:
        """Go on with what is left of a channel from before; only then may it bring more."""
        self.outbox.open(name)
        last = 0
        while parts := await self.journal.unsent(name, last):
            self.outbox.put(parts)
            last = parts[-1].id
        last = 0
        while left := await self.journal.unanswered(name, last):
            for one in left:
                self.pipeline.queue(one)
            last = left[-1].seq

    async def _warn_of_stranded(self) -> None:
        for name, count in (await self.journal.waiting()).items():
            if name not in self.channels:
                log.warning(
                    "The channel '%s' is not switched on in bot.toml; messages waiting for it: %d.", name, count
                )

    async def start_channel(self, name: str, entry: ChannelEntry) -> None:
        supervisor = self._make_channel(name, entry)
        if supervisor is not None:
            await self._take_up(name)
            supervisor.start(self.pipeline.accept)

    def _mount(self, supervisor: Supervisor) -> None:
        """Put a channel's paths on the web face; one whose paths are refused does not run."""
        if self.web is None:
            return
        try:
            self.web.mount(supervisor.channel.name, supervisor.channel.routes())
        except (Exception, SystemExit) as error:
            supervisor.refuse(error)

    async def stop_channel(self, name: str) -> None:
        if self.web is not None:
            self.web.unmount(name)
        await self.channels.pop(name).stop()
        self.pipeline.leave(name)
        await self.outbox.leave(name)

    async def serve(self) -> None:
        if not self.config.web.enabled:
            return
        from roost.web import Web

        web = Web(self.config.web)
        await web.start()
        self.web = web
        for supervisor in self.channels.values():
            self._mount(supervisor)


@contextlib.contextmanager
def logged(trouble: str) -> Iterator[None]:
    """Let nothing but cancellation end what goes on for ever."""
    try:
        yield
    except Exception:
        log.exception("%s", trouble)


async def step(name: str, work: Coroutine[Any, Any, None], quiet: bool = False) -> None:
    """Do one step of a stop. What hangs is left behind, also when it swallows its cancellation."""
    task = asyncio.ensure_future(work)
    _, late = await asyncio.wait([task], timeout=STEP_TIME)
    if late:
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
        if not quiet:
            log.warning("Stopping: '%s' took more than %g s and was left behind.", name, STEP_TIME)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.error("Stopping: '%s' failed.", name, exc_info=error)
