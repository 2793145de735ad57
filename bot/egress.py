"""Say who is talking, and see what leaves: every connection that Python code of this process makes, in one place.

A channel, a brain or a plugin is named by `by` around what it does; tasks and threads begun there inherit the name.
What is written down, and what is refused, is decided in `Watch`; where connections are seen, in `egress_hook`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from roost.errors import RoostError

if TYPE_CHECKING:
    from roost.config import Config
    from roost.egress_rules import Rules
    from roost.ledger import Row

log = logging.getLogger("roost.privacy")
T = TypeVar("T")

WHO: ContextVar[str] = ContextVar("roost_who", default="")
UNKNOWN = "unknown"
SAMPLE = 10.0  # seconds between two looks at how much went over connections that stay open
SAME = 10.0  # seconds for which one datagram to a destination stands for those that follow
REFUSALS = 1000  # that are told apart in the log

_watches: list[Watch] = []


class Refused(RoostError, PermissionError):
    """A connection that the configuration does not name. Libraries take it for a connection that failed."""

    def __str__(self) -> str:
        return self.strerror or ""


class by:  # noqa: N801
    """Whatever connects in here, and in tasks begun here, is `who`: "channel ntfy", "plugin weather"."""

    __slots__ = ("_token", "_who")

    def __init__(self, who: str) -> None:
        self._who = who

    def __enter__(self) -> None:
        self._token = WHO.set(self._who)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # a generator that was closed elsewhere
            WHO.reset(self._token)


def attributed(thing: T, who: str, names: Iterable[str]) -> T:
    """The same object, whose methods `names` are done by `who`. What they call is looked up when they are called."""
    for name in names:
        if name not in vars(thing) and hasattr(type(thing), name):
            setattr(thing, name, _said_by(thing, who, name))
    return thing


def _said_by(thing: Any, who: str, name: str) -> Callable[..., Any]:
    method = getattr(type(thing), name)

    def begun(*arguments: Any, **named: Any) -> Any:
        with by(who):
            made = getattr(type(thing), name)(thing, *arguments, **named)
        return _pieces(made, who) if hasattr(made, "__anext__") else made

    async def awaited(*arguments: Any, **named: Any) -> Any:
        with by(who):
            return await getattr(type(thing), name)(thing, *arguments, **named)

    return wraps(method)(awaited if iscoroutinefunction(method) else begun)


async def _pieces(made: AsyncIterator[Any], who: str) -> AsyncIterator[Any]:
    """What an iterator gives, each piece made by `who`; what is done with it in between is not."""
    try:
        while True:
            with by(who):
                try:
                    piece = await anext(made)
                except StopAsyncIteration:
                    return
            yield piece
    finally:
        if (close := getattr(made, "aclose", None)) is not None:
            with by(who):
                await close()


def note_private(kinds: Iterable[str], host: str = "") -> None:
    """Write down that private data of these kinds is about to leave by whoever is talking, to `host` if known."""
    from roost.ledger import row

    watch, named = current(), sorted(set(kinds))
    if watch is not None and named:
        watch.put(row(WHO.get() or UNKNOWN, host, sort="private", kinds=named))


def current() -> Watch | None:
    """The watch that is kept; the newest, should there be several bots in this process."""
    return _watches[-1] if _watches else None


@contextlib.contextmanager
def noted(who: str) -> Iterator[None]:
    """Have what is done in here by `who` written down, by the bot of this process or, at a command line, without one.

    Without one nothing is refused: a person has asked for just this.
    """
    from roost.home import data_folder
    from roost.ledger import FILE

    own = Witness(data_folder() / FILE) if current() is None else None
    if own is not None:
        own.begin()
    try:
        with by(who):
            yield
    finally:
        if own is not None:
            own.end()


class Watch:
    """Sees what leaves on behalf of one bot. `config` gives the configuration that is in force."""

    def __init__(self, config: Callable[[], Config], path: Path) -> None:
        from roost.ledger import Ledger

        self.ledger = Ledger(path)
        self._config = config
        self._rules: tuple[Config, Rules] | None = None
        self._rows: queue.SimpleQueue[Row | threading.Event | None] = queue.SimpleQueue()
        self._clerk: threading.Thread | None = None
        self._lock = threading.Lock()
        self._told: set[tuple[str, str]] = set()
        self._datagrams: dict[tuple[str, str, int], float] = {}

    def begin(self) -> None:
        """See every connection of this process from now on. Call it where the bot's event loop runs."""
        from roost import egress_hook

        egress_hook.install()
        _watches.append(self)
        egress_hook.listen(bool(_watches))

    def end(self) -> None:
        """Stop looking, and have everything written down."""
        from roost import egress_hook

        if self in _watches:
            egress_hook.sample(self)
            _watches.remove(self)
            egress_hook.listen(bool(_watches))
        with self._lock:
            clerk, self._clerk = self._clerk, None
        if clerk is not None:
            self._rows.put(None)
            clerk.join(timeout=5.0)

    @property
    def rules(self) -> Rules:
        config = self._config()
        if self._rules is None or self._rules[0] is not config:
            from roost.egress_rules import rules_of

            self._rules = config, rules_of(config)
        return self._rules[1]

    # What is seen. Any thread, and never for long.

    def lookup(self, host: str) -> None:
        """A name is about to be looked up. Raises Refused: the question alone tells others something."""
        if self.rules.strict:
            self._judge((host,), 0)

    def connect(self, names: tuple[str, ...], host: str, port: int, counted: bool) -> tuple[str, str] | None:
        """A connection to the address `host` is about to be made, which the newest of `names` was looked up for.

        Gives who it is and what the host is called, or None for what stays here. Raises Refused.
        """
        from roost.egress_rules import is_home
        from roost.ledger import row

        rules = self.rules
        if is_home(host) and not any((name, port) in rules.proxies for name in (host, *names)):
            return None
        known = (*names, host)
        if rules.strict:
            known = (self._judge(known, port), *known)
        who = self.speaker(known)
        self.put(row(who, known[0], port, connections=1, unknown=0 if counted else 1))
        return who, known[0]

    def datagram(self, names: tuple[str, ...], host: str, port: int) -> None:
        """A datagram is about to be sent. Raises Refused. Those that follow one another count as one connection."""
        key, now = (WHO.get(), host, port), time.monotonic()
        if now - self._datagrams.get(key, -SAME) >= SAME:
            if len(self._datagrams) > REFUSALS:
                self._datagrams.clear()
            self.connect(names, host, port, counted=False)
            self._datagrams[key] = now
        elif self.rules.strict:
            self._judge((*names, host), port, home=True)

    def program(self, name: str) -> None:
        """A program is about to be started. What it connects to is not seen."""
        from roost.ledger import row

        self.put(row(WHO.get() or UNKNOWN, name, sort="program", connections=1))

    def speaker(self, names: tuple[str, ...]) -> str:
        """Who is talking: whoever said so, or else whoever the configuration has speak to this host."""
        return WHO.get() or next(filter(None, map(self.rules.speaker, names)), UNKNOWN)

    def _judge(self, names: tuple[str, ...], port: int, home: bool = False) -> str:
        """The name under which a host is allowed. Raises Refused."""
        from roost.egress_rules import is_home

        for name in names:
            if self.rules.speaker(name) or (home and is_home(name)):
                return name
        raise self._refusal(names, port)

    def _refusal(self, names: tuple[str, ...], port: int) -> Refused:
        from roost.ledger import row, shown

        who, host = WHO.get() or UNKNOWN, shown(names[0])
        self.put(row(who, host, port, refused=1))
        sentence = (
            f"'{who}' wanted to reach '{host}'{f' (port {port})' if port else ''}, which nothing in bot.toml names: "
            f'refused, since [privacy] has strict = true. To allow it, add "{host}" to [privacy] allow.'
        )
        if (who, host) not in self._told and len(self._told) < REFUSALS:
            self._told.add((who, host))
            log.error("%s", sentence)
        return Refused(errno.EACCES, sentence)

    # Writing it down

    def put(self, row: Row) -> None:
        """Hand a row to the clerk, who is hired with the first."""
        self._rows.put(row)
        if self._clerk is None:
            with self._lock:
                if self._clerk is None:
                    self._clerk = threading.Thread(target=self._write, name="roost egress", daemon=True)
                    self._clerk.start()

    def written(self, timeout: float = 5.0) -> bool:
        """Wait until everything so far is in the file."""
        done = threading.Event()
        if self._clerk is None:
            return self._rows.empty()
        self._rows.put(done)
        return done.wait(timeout)

    def _write(self) -> None:
        from roost import egress_hook

        while True:
            rows, waiting, last = self._next()
            self._append(rows)
            for one in waiting:
                one.set()
            if last:
                return
            if not rows and not waiting:
                egress_hook.sample(self)

    def _next(self) -> tuple[list[Row], list[threading.Event], bool]:
        """What has come since; nothing at all when nothing came for a while."""
        rows: list[Row] = []
        waiting: list[threading.Event] = []
        with contextlib.suppress(queue.Empty):
            one = self._rows.get(timeout=SAMPLE)
            while True:
                if one is None:
                    return rows, waiting, True
                if isinstance(one, threading.Event):
                    waiting.append(one)
                else:
                    rows.append(one)
                one = self._rows.get_nowait()
        return rows, waiting, False

    def _append(self, rows: list[Row]) -> None:
        from roost.ledger import added_up

        try:
            if rows:
                self.ledger.write(added_up(rows))
        except (OSError, RoostError) as error:
            log.error("What left this machine could not be written down in '%s': %s", self.ledger.path, error)


class Witness(Watch):
    """Writes down what leaves, and refuses nothing."""

    def __init__(self, path: Path) -> None:
        from roost.egress_rules import Rules, proxies

        super().__init__(self._nothing, path)
        self._known = Rules({}, proxies())

    def _nothing(self) -> Config:
        raise AssertionError("A witness has no configuration.")

    @property
    def rules(self) -> Rules:
        return self._known
