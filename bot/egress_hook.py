"""Where connections are seen: the audit events of Python (PEP 578), which every library in Python raises.

https://docs.python.org/3/library/audit_events.html. Code that is no Python (a Rust or C library with sockets of its
own, a child process) raises none. An audit hook stays for the life of the process; it does nothing while nobody
listens. Names of addresses are learnt from lookups, sizes from the system when a socket is closed, and now and then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import wraps
from typing import Any
from weakref import WeakSet

from roost.addresses import read_address
from roost.egress import Refused, Watch, current
from roost.egress_bytes import ASKED, traffic
from roost.egress_rules import is_home, normal
from roost.ledger import row

log = logging.getLogger("roost.privacy")

KNOWN = 4096  # addresses whose names are remembered
NAMES = 4  # of one address

Act = Callable[..., None]


@dataclass(slots=True)
class Open:
    """A connection that is open, by its file descriptor, and what was written down of it."""

    watch: Watch
    who: str
    host: str
    port: int
    peer: str
    sent: int = 0
    received: int = 0


_acts: dict[str, Act] = {}
_open: dict[int, Open] = {}
_names: OrderedDict[str, tuple[str, ...]] = OrderedDict()
_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_installed = False


def install() -> None:
    """Put the hook in, once. Threads of the running loop's executor know who is talking from now on."""
    global _installed  # noqa: PLW0603
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)
        _learn_names()
        _count_at_close()
        _see_windows()
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        if loop not in _loops:
            _loops.add(loop)
            loop.set_default_executor(Pool(thread_name_prefix="asyncio"))


def listen(on: bool) -> None:
    """Heed events, or not."""
    _acts.clear()
    if on:
        _acts.update(ACTS)
    else:
        _open.clear()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    act = _acts.get(event)
    if act is None:
        return
    try:
        act(*arguments)
    except Refused:
        raise
    except Exception as error:
        log.exception("A connection was not understood (%s).", event)
        watch = current()
        if watch is not None and watch.rules.strict:
            raise Refused(errno.EACCES, "What cannot be understood is refused: [privacy] has strict = true.") from error


class Pool(ThreadPoolExecutor):
    """Threads that inherit the context, as tasks do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


# Events


def _connect(sock: Any, address: Any) -> None:
    watch, found = current(), _destination(sock, address)
    if watch is None or found is None:
        return
    host, port = found
    counted = sock.type == socket.SOCK_STREAM and sys.platform in ASKED
    met = watch.connect(names_of(host), host, port, counted)
    _open.pop(sock.fileno(), None)
    if met is not None and counted:
        _open[sock.fileno()] = Open(watch, *met, port, host)


def _send_to(sock: Any, address: Any = None) -> None:
    watch, found = current(), _destination(sock, address)
    if watch is not None and found is not None:
        watch.datagram(names_of(found[0]), *found)


def _look_up(host: Any, *_: Any) -> None:
    watch = current()
    if watch is None or host is None:
        return
    name = normal(host.decode("ascii", "replace") if isinstance(host, bytes) else str(host))
    if not is_home(name) and read_address(name) is None:
        watch.lookup(name)


def _start(program: Any, arguments: Any = None, *_: Any) -> None:
    if (watch := current()) is not None:
        watch.program(program_name(program, arguments))


ACTS: dict[str, Act] = {
    "socket.connect": _connect,
    "socket.sendto": _send_to,
    "socket.sendmsg": _send_to,
    "socket.getaddrinfo": _look_up,
    "socket.gethostbyname": _look_up,
    "socket.gethostbyaddr": _look_up,
    "subprocess.Popen": _start,
    "os.posix_spawn": _start,
    "os.spawn": lambda mode, path, arguments, env: _start(path, arguments),
    "os.system": lambda command: _start(command.split()[0] if command.split() else ""),
}


def _destination(sock: Any, address: Any) -> tuple[str, int] | None:
    """Host and port of what a socket is about to reach; None for sockets that stay on this machine."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or not isinstance(address, tuple) or len(address) < 2:
        return None
    host = address[0].decode("ascii", "replace") if isinstance(address[0], bytes | bytearray) else str(address[0])
    return normal(host).partition("%")[0], int(address[1])


def program_name(program: Any, arguments: Any) -> str:
    """A program's name, for a module of Python the module's. Its other arguments may hold secrets."""
    words = [os.fsdecode(one) for one in arguments] if isinstance(arguments, list | tuple) else []
    path = os.fsdecode(program) if program else (words or [""])[0]
    name = os.path.basename(path)  # noqa: PTH119
    if name.startswith("python") and "-m" in words[1:-1]:
        return f"{name} -m {words[words.index('-m') + 1]}"
    return name


# Names of addresses


def learn(name: Any, addresses: Sequence[str]) -> None:
    """Remember what a name stands for."""
    plain = normal(name.decode("ascii", "replace") if isinstance(name, bytes) else str(name))
    for address in addresses:
        others = tuple(one for one in _names.pop(address, ()) if one != plain)
        _names[address] = (plain, *others)[:NAMES]
    while len(_names) > KNOWN:
        _names.popitem(last=False)


def names_of(address: str) -> tuple[str, ...]:
    """The names that stood for an address, the newest first."""
    return _names.get(address, ())


def _learn_names() -> None:
    lookup = socket.getaddrinfo

    @wraps(lookup)
    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        found = lookup(host, *arguments, **named)
        if _acts and host and read_address(str(host)) is None:
            learn(host, [str(one[4][0]).partition("%")[0] for one in found])
        return found

    setattr(socket, "getaddrinfo", getaddrinfo)  # noqa: B010
    with suppress(ImportError, AttributeError):
        _learn_from_cares()


def _learn_from_cares() -> None:
    """aiohttp and slixmpp look names up with c-ares where it is installed, which is no Python."""
    import aiodns

    lookup = aiodns.DNSResolver.getaddrinfo

    @wraps(lookup)
    def getaddrinfo(self: Any, host: str, *arguments: Any, **named: Any) -> Any:
        if _acts:
            _look_up(host)
        future = lookup(self, host, *arguments, **named)
        future.add_done_callback(lambda done: _learn_nodes(host, done))
        return future

    setattr(aiodns.DNSResolver, "getaddrinfo", getaddrinfo)  # noqa: B010


def _learn_nodes(host: str, done: Any) -> None:
    if not done.cancelled() and done.exception() is None and read_address(host) is None:
        learn(host, [os.fsdecode(node.addr[0]).partition("%")[0] for node in done.result().nodes])


# Sizes


def _count_at_close() -> None:
    close = socket.socket.close

    @wraps(close)
    def counted(self: socket.socket) -> None:
        descriptor = self.fileno() if _open else -1
        one = _open.pop(descriptor, None)
        if one is not None:
            _count(one, self)
        close(self)
        if one is not None and self.fileno() == descriptor:  # a file made of it is still open
            _open[descriptor] = one

    setattr(socket.socket, "close", counted)  # noqa: B010


def _count(one: Open, sock: socket.socket) -> None:
    """Write down what went over a connection since it was looked at last."""
    with suppress(OSError):
        found = traffic(sock)
        if found is not None and found != (one.sent, one.received):
            sent, received = found[0] - one.sent, found[1] - one.received
            one.sent, one.received = found
            one.watch.put(row(one.who, one.host, one.port, sent=max(0, sent), received=max(0, received)))


def sample(watch: Watch) -> None:
    """Look at the connections that are open, so that a long one is not missing until it ends."""
    for descriptor, one in list(_open.items()):
        if one.watch is watch:
            with suppress(OSError, ValueError):
                borrowed = socket.socket(fileno=descriptor)
                try:
                    # Another thread may have closed it meanwhile, and its number may be another's now.
                    if normal(str(borrowed.getpeername()[0])).partition("%")[0] == one.peer:
                        _count(one, borrowed)
                finally:
                    borrowed.detach()


def _see_windows() -> None:
    """The event loop of Windows connects by itself, without an event."""
    if sys.platform == "win32":
        from asyncio.windows_events import IocpProactor

        connect, send_to = IocpProactor.connect, IocpProactor.sendto

        def connected(self: Any, conn: Any, address: Any) -> Any:
            sys.audit("socket.connect", conn, address)
            return connect(self, conn, address)

        def sent(self: Any, conn: Any, buf: Any, flags: int = 0, addr: Any = None) -> Any:
            sys.audit("socket.sendto", conn, addr)
            return send_to(self, conn, buf, flags, addr)

        IocpProactor.connect, IocpProactor.sendto = connected, sent
