"""Keep a channel running: start it, start it again when it falls, stop when the platform refuses us."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from roost.contracts import Channel, Receive, Said
from roost.dispatch import is_cancelled
from roost.egress import attributed
from roost.errors import ChannelError, LoginFailed
from roost.journal import Journal
from roost.logs import redact
from roost.values import Place

log = logging.getLogger("roost.channels")

State = Literal["starting", "running", "waiting", "stopped"]
LONGEST_PAUSE = 300.0  # seconds between two starts of a channel that keeps falling
LOOK = 5.0  # seconds between two looks for signs of life
SPEAKING = ("run", "send", "edit", "delete", "react", "type", "fetch")  # what a channel connects for
STEADY = 60.0  # seconds of running after which a fall counts as the first again


class Menu(Protocol):
    """Whoever knows the bot's commands."""

    def menu(self) -> Sequence[tuple[str, str]]: ...


class Supervisor:
    """One channel and its task; what the core offers the channel."""

    def __init__(
        self,
        make: Callable[[Supervisor], Channel],
        home: Path,
        bot_name: str,
        menu: Menu,
        journal: Journal,
        changed: Callable[[], None],
        public_url: str = "",
    ) -> None:
        self.home = home
        self.bot_name = bot_name
        self.state: State = "starting"
        self.problem = ""
        self.since = time.time()
        self.last_sign = 0.0
        self._sign = 0.0
        self._told: tuple[State, str] = ("starting", "")
        self._quiet = False
        self.up = asyncio.Event()
        self._menu = menu
        self._journal = journal
        self._changed = changed
        self._public_url = public_url.rstrip("/")
        self._task: asyncio.Task[None] | None = None
        home.mkdir(parents=True, exist_ok=True)
        channel = make(self)
        self.channel = attributed(channel, f"channel {channel.name}", SPEAKING)

    # What the channel is offered (contracts.Host)

    def pulse(self) -> None:
        self.last_sign, self._sign = time.time(), time.monotonic()
        self._turn("running")

    def trouble(self, why: str) -> None:
        self._sign = time.monotonic()  # it is at work
        self._turn("waiting", why, news=self.state != "running")

    def address(self, path: str = "") -> str:
        return self._public_url and self._public_url + path

    def commands(self) -> Sequence[tuple[str, str]]:
        return self._menu.menu()

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        return await self._journal.history(place, limit, self.bot_name)

    # What the bot does with it

    def start(self, receive: Receive, *, quiet: bool = False) -> None:
        """Keep it running; `quiet` is for whoever tells what becomes of it in words of their own."""
        if self.state == "stopped":
            return
        self._quiet = quiet
        self._task = asyncio.create_task(self._keep(receive), name=f"channel {self.channel.name}")

    def refuse(self, error: BaseException) -> None:
        """Do not start it at all, and say why."""
        self._turn("stopped", str(error))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._turn("stopped")

    async def _keep(self, receive: Receive) -> None:
        falls = 0
        while True:
            began = time.monotonic()
            problem = "it ended by itself"
            try:
                await self._run(receive)
            except LoginFailed as error:
                self._turn("stopped", str(error))
                return
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                problem = f"{type(error).__name__}: {error}"
                log.debug("The channel '%s' fell.", self.channel.name, exc_info=True)
            falls = 1 if time.monotonic() - began > STEADY else falls + 1
            self._turn("waiting", problem)
            await asyncio.sleep(min(LONGEST_PAUSE, 2.0 ** min(falls, 9)) * random.uniform(0.5, 1))

    async def _run(self, receive: Receive) -> None:
        """Run the channel; end it when its transport has shown no sign of life for too long."""
        self._sign = time.monotonic()
        run = asyncio.ensure_future(self.channel.run(receive))
        try:
            while not run.done():
                await asyncio.wait([run], timeout=LOOK)
                silent = time.monotonic() - self._sign
                if self.channel.silence is not None and silent > self.channel.silence:
                    raise ChannelError(f"Its connection has shown no sign of life for {silent:.0f} seconds.")
            run.result()
        finally:
            run.cancel()
            await asyncio.wait([run])

    def _turn(self, state: State, problem: str = "", *, news: bool = True) -> None:
        """Change state and say so, once; not at all what is no `news`."""
        if self.state == "stopped":
            return  # for good
        self.problem = problem and redact(problem)
        if state != self.state:
            self.state, self.since = state, time.time()
            (self.up.set if state == "running" else self.up.clear)()
            self._changed()
        if news and not self._quiet and (state, self.problem) != self._told:
            self._told = state, self.problem
            self._tell()

    def _tell(self) -> None:
        if self.state == "running":
            log.info("The channel '%s' is running.", self.channel.name)
        elif self.problem:
            level = logging.ERROR if self.state == "stopped" else logging.WARNING
            log.log(level, "The channel '%s' is %s: %s", self.channel.name, self.state, self.problem)
