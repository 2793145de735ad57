"""The bot: its parts, put together from one configuration, and put together again when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roost import logs, wishes
from roost.access import Access, Role
from roost.commands import as_reply
from roost.config import ChannelEntry, Config, load, secrets
from roost.contracts import Brain, Channel, Fact, Limits, Memory
from roost.degrade import fit
from roost.dispatch import Dispatcher
from roost.encryption import unlock
from roost.errors import ConfigError, RoostError
from roost.gauges import Sensor, size
from roost.home import Lock
from roost.jobs import Schedule
from roost.journal import Journal
from roost.outbox import Outbox
from roost.people import People
from roost.pipeline import Pipeline
from roost.pressure import Pressure
from roost.registry import Registry
from roost.rows import sound
from roost.supervisor import Supervisor
from roost.tidying import Tidying
from roost.values import Message, Place, Reply

if TYPE_CHECKING:
    from roost.web import Web

log = logging.getLogger("roost")

HEED = 2.0  # seconds between two looks for what the command line wants
HOUSEKEEPING = 6 * 3600.0  # seconds
STEP_TIME = 5.0  # seconds that each step of a stop may take
TABLES_LATER = ("journal", "plugins")  # what cannot be changed while the bot runs
ENCRYPTION = "[bot] encryption"
LATER = {ENCRYPTION, *(f"[{name}]" for name in TABLES_LATER)}


class Bot:
    """One running assistant. What plugins get as `bot`."""

    def __init__(self, config: Config, registry: Registry, home: Path) -> None:
        self.config = config
        self.registry = registry
        self.home = home
        self.dispatch = Dispatcher(registry.plugins)
        self.journal = Journal(home / "journal.db", config.journal.synchronous)
        self.people = People(self.journal)
        self.access = Access(config.access, config.bot.owner, self.journal)
        self.brain: Brain = config.brain_class(config.brain, home)
        self.memory: Memory = config.memory_class(config.memory, home / "memory")
        self.outbox = Outbox(self.journal, self.running, config.journal.repeat_mark)
        self.pipeline = Pipeline(self)
        self.channels: dict[str, Supervisor] = {}
        self.web: Web | None = None
        self._lock = Lock(home)
        self.tidying = Tidying(self)
        self.pressure = Pressure(
            Sensor(lambda: size(self.config.bot.memory_limit)),
            {"memory": self._shrink_memory, "brain": self._shrink_brain},
        )
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
        self.outbox.put(await self.journal.post(await self.fitted(place, [reply])))

    async def fitted(self, place: Place, replies: Sequence[Reply]) -> list[tuple[Place, Reply]]:
        """Replies as the messages that the channel of `place` can carry, after plugins have seen them."""
        channel = self.channel(place.channel)
        limits = self.outbox.limits(channel) if channel is not None else Limits()
        parts: list[tuple[Place, Reply]] = []
        for reply in replies:
            said = reply
            async for other in self.dispatch.each("before_send", bot=self, place=place, reply=said):
                said = as_reply(other)
            parts += [(place, part) for part in fit(replace(said, text=sound(said.text)), limits)]
        return parts

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

    async def owners(self, message: Message) -> list[str]:
        """Whose facts matter where a message was said: the person's own in private, the place's in a group."""
        if message.place.kind != "direct":
            return [str(message.place)]
        return await self.people.others(str(message.sender))

    async def facts(self, message: Message) -> list[tuple[str, Fact]]:
        """These facts with their owners, oldest first."""
        found = [(owner, fact) for owner in await self.owners(message) for fact in await self.memory.facts(owner)]
        return sorted(found, key=lambda one: one[1].at)

    def menu(self, owner: bool = False) -> Sequence[tuple[str, str]]:
        """Name and help of each command, once, in alphabetical order; the owner's own only for the owner."""
        commands = sorted(self.registry.commands.items())
        return [(name, one.help) for name, one in commands if name == one.name and (owner or not one.owner)]

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
        await self._open_stores()
        await self.access.load()
        await self.pipeline.states.load()
        await self._serve()
        for name, entry in self.config.channels.items():
            self._make_channel(name, entry)
        await self.journal.interrupted()
        for name in self.channels:
            await self._take_up(name)
        for supervisor in self.channels.values():
            supervisor.start(self.pipeline.accept)
        await self._warn_of_stranded()
        self._do(self._schedule.start({**self.registry.jobs, "memory.compact": self.tidying.job()}))
        await self.dispatch.all("startup", bot=self)
        for work in (
            self._load_brain(self.brain),
            self._watch(),
            self._keep_house(),
            self._heed(),
            self.pressure.watch(),
        ):
            self._do(work)

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
        await step("jobs", self._schedule.stop())
        await step("last answers", self._settle(), quiet=True)
        await step("answers", self.pipeline.lanes.stop())
        await step("outbox", self.outbox.stop())
        await step("channels", self._stop_channels())
        await step("background", self._cancel_background())
        if self.web is not None:
            await step("web face", self.web.stop())
        await step("brain", self.brain.unload())
        await step("memory", self.memory.close())
        await step("journal", self.journal.close())
        self._lock.free()

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[Bot]:
        """The journal and the memory alone, for the command line while no bot runs."""
        self._lock.take()
        try:
            await self._open_stores()
            yield self
        finally:
            await step("brain", self.brain.unload())
            await step("memory", self.memory.close())
            await step("journal", self.journal.close())
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

    async def _load_brain(self, brain: Brain) -> None:
        """Load ahead of the first message. What goes wrong is said now, and again to whoever writes."""
        try:
            await brain.load()
        except RoostError as error:
            log.error("The brain is not ready: %s", error)
        except Exception:
            log.exception("The brain is not ready.")

    async def _keep_house(self) -> None:
        while True:
            with logged("The journal was not cleaned up."):
                await self.journal.prune(self.config.journal.keep_days)
            await asyncio.sleep(HOUSEKEEPING)

    async def _heed(self) -> None:
        """Look for what the command line wants: dead letters sent again, wishes granted."""
        while True:
            await asyncio.sleep(HEED)
            with logged("What the command line wants was not looked for."):
                self.outbox.put(await self.journal.revived())
                await wishes.grant(self)

    def _do(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Channels and the web face

    def _make_channel(self, name: str, entry: ChannelEntry) -> Supervisor | None:
        """Put a channel together. One that cannot be made is named and left out; the others go on."""
        try:
            supervisor = Supervisor(
                lambda host: entry.cls(name, entry.config, host),
                home=self.home / "channels" / name,
                bot_name=self.name,
                menu=self,
                journal=self.journal,
                changed=self.outbox.wake,
            )
        except (Exception, SystemExit) as error:
            log.error("The channel '%s' is left out: %s", name, error)
            log.debug("What went wrong:", exc_info=True)
            return None
        self.channels[name] = supervisor
        self._mount(supervisor)
        return supervisor

    async def _shrink_memory(self) -> None:
        await self.memory.shrink()

    async def _shrink_brain(self) -> None:
        await self.brain.shrink()

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

    async def _start_channel(self, name: str, entry: ChannelEntry) -> None:
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

    async def _stop_channel(self, name: str) -> None:
        if self.web is not None:
            self.web.unmount(name)
        await self.channels.pop(name).stop()
        self.pipeline.leave(name)
        await self.outbox.leave(name)

    async def _serve(self) -> None:
        if not self.config.web.enabled:
            return
        from roost.web import Web

        web = Web(self.config.web)
        await web.start()
        self.web = web
        for supervisor in self.channels.values():
            self._mount(supervisor)

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
            with logged("bot.toml was changed, and that could not be applied."):
                await self.reload()

    async def reload(self) -> None:
        """Read bot.toml again and apply what changed, and only that; a broken one changes nothing."""
        try:
            config = load(self.config.path, self.registry)
            logs.hide(secrets(config))
            changed = await self.apply(config)
        except ConfigError as error:
            log.error("bot.toml was changed but not applied; the last good one stays in force. %s", error)
            return
        for problem in config.problems:
            log.error("%s", problem)
        later = [name for name in changed if name in LATER]
        now = [name for name in changed if name not in LATER]
        if now:
            log.info("bot.toml: applied the changes in %s.", ", ".join(now))
        if later:
            log.info("bot.toml: the changes in %s take effect at the next start.", ", ".join(later))

    async def apply(self, config: Config) -> list[str]:
        """Change over to another configuration; returns the tables that differ. Raises before anything is changed."""
        old = self.config
        brain = config.brain_class(config.brain, self.home) if differs("brain", old, config) else None
        memory = config.memory_class(config.memory, self.home / "memory") if differs("memory", old, config) else None
        self.config = config
        now = replace(old, bot=replace(old.bot, encryption=config.bot.encryption))
        changed = [f"[{name}]" for name in ("bot", "access", *TABLES_LATER) if differs(name, now, config)]
        changed += [ENCRYPTION] if differs("bot", old, now) else []
        self.access.table, self.access.owner = config.access, config.bot.owner
        if old.bot.log != config.bot.log:
            logs.hear(config.bot.log)
        if brain is not None:
            self._change_brain(brain)
            changed.append("[brain]")
        if memory is not None and await self._change_memory(memory, old):
            changed.append("[memory]")
        if differs("web", old, config) and await self._change_web(old):
            changed.append("[web]")
        return changed + await self._change_channels(old, config)

    def _change_brain(self, brain: Brain) -> None:
        old, self.brain = self.brain, brain
        if not self._thinking[old]:
            self._do(old.unload())
        self._do(self._load_brain(brain))

    async def _change_memory(self, memory: Memory, old: Config) -> bool:
        """Between two answers, so that none finds its memory closed. One that cannot be opened changes nothing."""
        memory.cipher = self.journal.cipher
        async with self.pipeline.lanes.held():
            try:
                await memory.open()
            except RoostError as error:
                log.error("The memory stays as it was: %s", error)
                self.config = replace(self.config, memory=old.memory, memory_class=old.memory_class)
                return False
            before, self.memory = self.memory, memory
            await before.close()
        return True

    async def _change_web(self, old: Config) -> bool:
        """Serve as the new table says; when that fails, as the old one said, and return False."""
        if self.web is not None:
            await self.web.stop()
            self.web = None
        try:
            await self._serve()
        except (RoostError, OSError) as error:
            log.error("The web face stays as it was: %s", error)
            self.config = replace(self.config, web=old.web)
            await self._serve()
            return False
        return True

    async def _change_channels(self, old: Config, new: Config) -> list[str]:
        names = sorted(old.channels.keys() | new.channels.keys())
        changed = [name for name in names if old.channels.get(name) != new.channels.get(name)]
        for name in changed:
            if name in self.channels:
                await self._stop_channel(name)
            if name in new.channels:
                await self._start_channel(name, new.channels[name])
        return [f"[channels.{name}]" for name in changed]


def differs(table: str, old: Config, new: Config) -> bool:
    return bool(getattr(old, table) != getattr(new, table))


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
