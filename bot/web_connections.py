"""The connections of the web face: how many may be open, and how long one may be slow.

aiohttp bounds the size of a request's head, and what passes between two requests. The rest is here, before it: each
connection is counted from its first moment, also while it negotiates TLS, and ended when it is slow.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from roost.web_visitors import source

TOTAL = 1000
LINGERING = 100  # unproven connections of one address that are older than PATIENCE
PATIENCE = 5.0
HEAD_SECONDS = 20.0  # for TLS and a request's head
WRITE_SECONDS = 60.0  # for a visitor who does not read what was asked for
KEEP_ALIVE = 180.0  # between two requests; proxies end their own connections sooner (nginx 60 s, Caddy 120 s)

Inner = Callable[[], asyncio.Protocol]
Encrypt = Callable[[], ssl.SSLContext]


class Connections:
    """What is open. `inner` makes the HTTP protocol of one connection; `encrypt` gives what its TLS is made with.

    A connection is proven by a request that was let in. When there is no room, the oldest unproven one of the address
    with most of them goes; of proven ones none does. `shared` says which addresses stand for many visitors.
    """

    def __init__(self, inner: Inner, shared: Callable[[str], bool], encrypt: Encrypt | None = None) -> None:
        self.inner = inner
        self.encrypt = encrypt
        self._shared = shared
        self._total = min(TOTAL, open_files() // 2)
        self._all: set[Connection] = set()
        self._unproven: dict[str, dict[Connection, None]] = {}
        self._carried: dict[asyncio.BaseTransport, Connection] = {}

    def __call__(self) -> Connection:
        return Connection(self)

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def answering(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """A request that came over `transport` is being answered meanwhile, which may take as long as it takes."""
        connection = self._carried.get(transport) if transport is not None else None
        if connection is None:
            yield
            return
        connection.begin()
        try:
            yield
        finally:
            connection.answering = False

    def prove(self, transport: asyncio.BaseTransport | None) -> None:
        """Keep a connection, whatever others come: it has sent a request that was let in."""
        if transport is not None and transport in self._carried:
            self._forget(self._carried[transport])

    async def close(self) -> None:
        """End all that is open, at once."""
        tasks = [one.shaking for one in self._all if one.shaking is not None]
        for connection in list(self._all):
            connection.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection, making room for it. Returns False when there is none."""
        self._end_lingering(connection)
        if len(self._all) >= self._total and not self._make_room():
            return False
        self._all.add(connection)
        self._unproven.setdefault(connection.source, {})[connection] = None
        return True

    def carry(self, connection: Connection, transport: asyncio.BaseTransport) -> None:
        self._carried[transport] = connection

    def leave(self, connection: Connection, transport: asyncio.BaseTransport | None) -> None:
        self._all.discard(connection)
        self._forget(connection)
        if transport is not None:
            self._carried.pop(transport, None)

    def _end_lingering(self, newcomer: Connection) -> None:
        """Let an address have a burst of connections, and not a crowd that only waits."""
        mine = self._unproven.get(newcomer.source, {})
        if len(mine) < LINGERING or self._shared(newcomer.address):
            return
        oldest = next(iter(mine))
        if newcomer.since - oldest.since > PATIENCE:
            oldest.cut()

    def _make_room(self) -> bool:
        crowd = max(self._unproven.values(), key=len, default=None)
        if not crowd:
            return False
        next(iter(crowd)).cut()
        return True

    def _forget(self, connection: Connection) -> None:
        mine = self._unproven.get(connection.source, {})
        mine.pop(connection, None)
        if not mine:
            self._unproven.pop(connection.source, None)


class Connection(asyncio.Protocol):
    """One connection: between its socket, or its TLS, and the HTTP protocol inside."""

    def __init__(self, crowd: Connections) -> None:
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._slow: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self.since = self._loop.time()
        self.address = self.source = ""
        self.answering = False
        self.over = False
        self.shaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.address = str((transport.get_extra_info("peername") or [""])[0])
        self.source = source(self.address)
        if not self._crowd.admit(self):
            self.cut()
            return
        self._slow = self._loop.call_later(HEAD_SECONDS, self.cut)
        if self._crowd.encrypt is None:
            self._speak(transport)
        else:
            self.shaking = self._loop.create_task(self._shake_hands(transport, self._crowd.encrypt))

    async def _shake_hands(self, transport: asyncio.Transport, encrypt: Encrypt) -> None:
        try:
            tls = await self._loop.start_tls(transport, self, encrypt(), server_side=True)
        except OSError:  # of which ssl.SSLError is one: no TLS, or none that both sides know, or gone meanwhile
            tls = None
        if tls is None or self.over:
            self.cut()
        else:
            self._speak(tls)

    def _speak(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._crowd.carry(self, transport)
        self._inner = self._crowd.inner()
        self._inner.connection_made(transport)
        for data in self._early:
            self._inner.data_received(data)
        self._early.clear()

    def begin(self) -> None:
        self.answering = True
        self._cancel_slow()

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            self._early.append(data)
            return
        if self._slow is None and not self.answering:
            self._slow = self._loop.call_later(HEAD_SECONDS, self.cut)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        self._stuck = self._loop.call_later(WRITE_SECONDS, self.cut)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def cut(self) -> None:
        """End it at once, without a word that could wait as well."""
        transport = self._transport
        self._end()
        if transport is not None:
            transport.abort()

    def _end(self) -> None:
        self.over = True
        self._cancel_slow()
        if self._stuck is not None:
            self._stuck.cancel()
        self._crowd.leave(self, self._transport)

    def _cancel_slow(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


def open_files() -> int:
    """How many files and connections this process may have open."""
    if sys.platform == "win32":
        return 2 * TOTAL
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2 * TOTAL if soft == resource.RLIM_INFINITY else soft
