"""Who can be reached, and in words why somebody cannot."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Iterator

from roost.contracts import Host

log = logging.getLogger("roost.channels")

WORDS = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ECONNRESET: "the connection was broken",
    errno.ECONNABORTED: "the connection was broken",
    errno.EPIPE: "the connection was broken",
    errno.ENETUNREACH: "there is no way to its network",
    errno.EHOSTUNREACH: "there is no way to its address",
    errno.ENETDOWN: "this machine has no network",
    errno.ETIMEDOUT: "it does not answer",
    errno.EADDRNOTAVAIL: "that is no address of a machine",
    errno.EACCES: "this machine does not allow it",
    errno.EPERM: "this machine does not allow it",
}


def why(error: BaseException) -> str:
    """What an exception of a connection means, without a full stop: "nobody listens there".

    Libraries wrap what the system said into exceptions of their own, whose words are for programmers: the innermost
    one that is known decides. What nothing is known of is named by its class.
    """
    for one in reversed(list(chain(error))):
        if told := _known(one):
            return told
    if isinstance(status := getattr(error, "status", None), int):
        return f"it answered with status {status}"
    said = str(error).strip().rstrip(".")
    return said if said and "://" not in said else type(error).__name__  # an address may hold a token


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it came from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        inner = getattr(one, "os_error", None)  # aiohttp
        one = inner if isinstance(inner, BaseException) else one.__cause__ or one.__context__


def _known(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS as it should ({error.reason or 'no reason given'})"
    if isinstance(error, socket.gaierror) or type(error).__name__ == "DNSError":  # aiodns
        return "its name cannot be found"
    return WORDS.get(_number(error), "")


def _number(error: BaseException) -> int:
    """The errno that fits."""
    if isinstance(error, EOFError | ConnectionAbortedError | ConnectionResetError | BrokenPipeError):
        return errno.ECONNRESET
    if isinstance(error, TimeoutError):
        return errno.ETIMEDOUT
    number = error.errno if isinstance(error, OSError) else None
    # Of several addresses that all refuse, asyncio makes one OSError, with the others in its words alone.
    several = str(error).startswith("Multiple exceptions: [Errno") and f"[Errno {errno.ECONNREFUSED}]" in str(error)
    return number or (errno.ECONNREFUSED if several else 0)


class Ways:
    """Several ways to a platform, of which one is enough: the channel is in trouble when all of them fail."""

    def __init__(self, host: Host, name: str, count: int) -> None:
        self._host, self._name, self._count = host, name, count
        self._fails: dict[str, int] = {}

    def works(self, way: str) -> None:
        if self._fails.pop(way, 0) > 1:
            log.info("%s: '%s' can be reached again.", self._name, way)

    def fails(self, way: str, why: str) -> None:
        """One more try failed. One that the next try mends is not told of."""
        self._fails[way] = self._fails.get(way, 0) + 1
        if len(self._fails) == self._count:
            self._host.trouble(why)
        elif self._fails[way] == 2:
            log.warning("%s: %s", self._name, why)
