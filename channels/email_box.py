"""A mailbox on an IMAP server (RFC 9051), by imapclient, whose calls wait: they do so in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import imapclient  # type: ignore[import-untyped]
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError  # type: ignore[import-untyped]

from roost.errors import ChannelError, LoginFailed
from roost.reach import why

# It would log every mail.
logging.getLogger("imapclient").setLevel(logging.WARNING)

T = TypeVar("T")
CONNECT, ANSWER = 15.0, 60.0  # seconds
HELD = 20_000_000  # bytes of mail in memory at once
GONE = (OSError, IMAPClientError, EOFError)


class Cut(ChannelError):
    """The connection is lost, or the server said something it should not have."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a mailbox is and how to get in. `tls` is None for a connection in the clear."""

    host: str
    port: int
    username: str
    password: str
    folder: str
    tls: ssl.SSLContext | None
    starttls: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it is on the server; of one that is too large, `raw` is the headers, and `cut` its size."""

    uid: int
    at: float
    raw: bytes
    cut: int | None = None


class Mailbox:
    """One connection to one folder. `validity` names the numbering: when it changes, UIDs mean other mails."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imap")
        self._client: Any = None
        self._closed = False
        self._pushes = False
        self.validity = 0
        self.next = 0

    async def open(self) -> None:
        """Connect, log in and open the folder. Raises Cut, or LoginFailed with the reason alone."""
        await self._do(self._open)

    async def after(self, uid: int) -> list[int]:
        """The UIDs above `uid`, in order."""
        return await self._do(lambda: self._after(uid))

    async def unseen(self, since: date) -> list[int]:
        return sorted(await self._do(lambda: self._client.search(["UNSEEN", "SINCE", since])))

    async def read(self, uids: Sequence[int], most: int) -> AsyncIterator[Mail]:
        """The mails, as many at once as fit into memory. Those that were deleted meanwhile are absent."""
        sizes = await self._do(lambda: self._client.fetch(uids, ["RFC822.SIZE"]))
        known = [(uid, int(sizes[uid].get(b"RFC822.SIZE", 0))) for uid in uids if uid in sizes]
        for group in groups(known, most):
            found = await self._load({uid: None for uid, size in group if size <= most}, "BODY.PEEK[]")
            found |= await self._load({uid: size for uid, size in group if size > most}, "BODY.PEEK[HEADER]")
            for uid, _ in group:
                if uid in found:
                    yield found[uid]

    async def _load(self, wanted: dict[int, int | None], what: str) -> dict[int, Mail]:
        if not wanted:
            return {}
        answer = await self._do(lambda: self._client.fetch(list(wanted), ["INTERNALDATE", what]))
        name = what.replace(".PEEK", "").encode()
        return {
            uid: Mail(uid, moment(found.get(b"INTERNALDATE")), found[name], wanted[uid])
            for uid, found in answer.items()
            if uid in wanted and found.get(name)
        }

    async def mark_seen(self, uids: Sequence[int]) -> None:
        if uids:
            await self._do(lambda: self._client.add_flags(uids, [imapclient.SEEN], silent=True))

    async def wait(self, seconds: float, poll: float) -> None:
        """Until something may have changed: the server says so (IDLE, RFC 2177), or it is time to look."""
        if self._pushes:
            await self._do(lambda: self._idle(seconds))
        else:
            await asyncio.sleep(poll)
            await self._do(self._client.noop)

    async def close(self) -> None:
        """Hang up, also on a call that is under way."""
        self._closed = True
        if self._client is not None:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                self._client.socket().shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)

    # In the thread

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except LoginFailed:
            raise
        except GONE as error:
            raise Cut(f"{plain(why(error))}.") from error
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise Cut(f"The server's answer makes no sense ({error}).") from error

    def _open(self) -> None:
        access = self._access
        client = imapclient.IMAPClient(
            access.host,
            access.port,
            ssl=access.tls is not None and not access.starttls,
            ssl_context=access.tls,
            timeout=imapclient.SocketTimeout(CONNECT, ANSWER),
        )
        self._client = client
        if self._closed:
            self._hang_up()
            return
        client.normalise_times = False
        if access.starttls:
            self._encrypt(client)
        try:
            client.login(access.username, access.password)
        except LoginError as error:
            self._refused(error)
        self._select(client)
        self._pushes = bool(client.has_capability("IDLE"))

    def _encrypt(self, client: Any) -> None:
        if not client.has_capability("STARTTLS"):
            raise LoginFailed("it offers no STARTTLS")
        client.starttls(self._access.tls)

    def _refused(self, error: Exception) -> None:
        """A server in trouble says so (RFC 5530), or hangs up; anything else is about the credentials."""
        said = str(error)
        trouble = any(word in said.upper() for word in ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]"))
        if trouble or isinstance(error.__context__, IMAPClientAbortError):
            raise Cut(said)
        raise LoginFailed(said.replace(self._access.password, "…") if self._access.password else said)

    def _select(self, client: Any) -> None:
        try:
            told = client.select_folder(self._access.folder)
        except IMAPClientAbortError:
            raise
        except IMAPClientError as error:
            raise LoginFailed(f"it has no folder '{self._access.folder}' ({error})") from None
        self.validity = int(told.get(b"UIDVALIDITY") or 0)
        self.next = int(told.get(b"UIDNEXT") or 0) or max(client.search("ALL"), default=0) + 1

    def _after(self, uid: int) -> list[int]:
        while True:
            found = self._client.search(["UID", f"{uid + 1}:*"])
            fresh = sorted(one for one in found if one > uid)  # "*" is the last mail even when it is an old one
            # A mail that came during the search is told of here, and not again when idling begins.
            if fresh or self._client._imap.response("EXISTS")[1] == [None]:
                return fresh

    def _idle(self, seconds: float) -> None:
        self._client.idle()
        self._client.idle_check(seconds)
        self._client.idle_done()

    def _hang_up(self) -> None:
        with contextlib.suppress(Exception):
            self._client.shutdown()


def plain(said: str) -> str:
    """What the server said, without the marks of Python that imapclient leaves around it."""
    return re.sub(r"\bb'(?:\* )?([^']*)'", r"'\1'", said)


def moment(value: datetime | None) -> float:
    return value.timestamp() if value else 0.0


def groups(sizes: Sequence[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """As many mails at once as fit into memory together; of those above `most`, only headers are read."""
    group: list[tuple[int, int]] = []
    held = 0
    for uid, size in sizes:
        taken = size if size <= most else 0
        if group and held + taken > HELD:
            yield group
            group, held = [], 0
        group.append((uid, size))
        held += taken
    if group:
        yield group
