"""A connection to one Nostr relay: NIP-01 over a WebSocket, with NIP-42 where the relay wants to know who reads.

https://github.com/nostr-protocol/nips/blob/master/01.md
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from roost.errors import ChannelError, MaybeSent, NotSent, Undeliverable
from roost.http import Http
from roost.reach import why

log = logging.getLogger(__name__)

Json = dict[str, Any]
Filters = Sequence[Json]

CONNECT = 10.0  # seconds
ANSWER = 20.0
PING = 30.0
LARGEST = 4_000_000  # bytes of one message
WAITING = 10_000  # events that were read and not yet taken
MOST = 5000  # stored events that are put in order together
LATER = ("rate-limited", "error", "auth-required")
GONE = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


class Lost(ChannelError):
    """The connection is gone, or the relay closed a subscription."""


class Relay:
    """One relay at `url`. `login` makes the event that answers a challenge; `alive` is told every sign of life."""

    def __init__(
        self, url: str, login: Callable[[str, str], Json], alive: Callable[[], None] = lambda: None, ping: float = PING
    ) -> None:
        self.url = url
        self._login = login
        self._alive = alive
        self._ping = ping
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._subscriptions: dict[str, tuple[Filters, asyncio.Queue[list[Any]]]] = {}
        self._confirmations: dict[str, asyncio.Future[tuple[bool, str]]] = {}
        self._logged_in: asyncio.Future[bool] | None = None
        self._heard = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, http: Http) -> AsyncIterator[asyncio.Task[None]]:
        """Be connected; what is given is done, with Lost, when the connection is gone. Raises Lost."""
        try:
            async with asyncio.timeout(CONNECT):
                socket = await http.connect(self.url, autoping=False, max_msg_size=LARGEST)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Lost(f"The relay '{self.url}' cannot be reached: {why(error)}.") from None
        self._socket = socket
        reading = asyncio.create_task(self._live(socket))
        try:
            yield reading
        finally:
            self._socket = None
            reading.cancel()
            for task in (tasks := list(self._tasks)):
                task.cancel()
            await asyncio.gather(reading, *tasks, return_exceptions=True)
            self._forget()
            await socket.close()

    def _forget(self) -> None:
        for confirmation in self._confirmations.values():
            if not confirmation.done():
                confirmation.set_exception(MaybeSent(f"The relay '{self.url}' was lost before it confirmed."))
        self._confirmations.clear()
        self._subscriptions.clear()
        self._logged_in = None

    # What comes

    async def _live(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            await first(self._read(socket), self._keep_awake(socket))
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"The relay '{self.url}' was lost: {why(error)}.") from None

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while (frame := await socket.receive()).type not in GONE:
            self._heard = asyncio.get_running_loop().time()
            self._alive()
            if frame.type is aiohttp.WSMsgType.PING:
                await socket.pong(frame.data)
            elif frame.type is aiohttp.WSMsgType.TEXT:
                await self._take(frame.data)
        raise Lost(f"The relay '{self.url}' closed the connection.")

    async def _keep_awake(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._heard = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - self._heard < 2.5 * self._ping:
            await asyncio.sleep(self._ping)
            await socket.ping()
        raise Lost(f"The relay '{self.url}' fell silent.")

    async def _take(self, text: str) -> None:
        try:
            kind, *rest = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return
        match [kind, *rest]:
            case ["EVENT", str(subscription), dict()] | ["EOSE", str(subscription)] | ["CLOSED", str(subscription), _]:
                if subscription in self._subscriptions:
                    await self._subscriptions[subscription][1].put([kind, *rest[1:]])
            case ["OK", str(id), bool(done), *reason]:
                if (confirmation := self._confirmations.get(id)) and not confirmation.done():
                    confirmation.set_result((done, str(reason[0]) if reason else ""))
            case ["AUTH", str(challenge)]:
                self._spawn(self._log_in(challenge))
            case ["NOTICE", notice]:
                log.debug("%s says: %s", self.url, str(notice)[:300])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _log_in(self, challenge: str) -> None:
        """Say who we are, and ask again for what was asked before that."""
        login = self._logged_in = asyncio.get_running_loop().create_future()
        event = self._login(challenge, self.url)
        try:
            done, reason = await self._confirmed(["AUTH", event], event["id"])
        except ChannelError as error:
            done, reason = False, str(error)
        login.set_result(done)
        if login is not self._logged_in:
            return  # the relay has asked again meanwhile, and that counts
        if not done:
            log.warning("The relay '%s' does not accept the bot's key: %s", self.url, reason[:300])
            return
        for id, (filters, _) in list(self._subscriptions.items()):
            with suppress(ChannelError):
                await self._say(["REQ", id, *filters])

    # What is asked

    async def _say(self, message: list[Any]) -> None:
        if self._socket is None:
            raise NotSent(f"The relay '{self.url}' is not connected.")
        try:
            await self._socket.send_str(json.dumps(message, ensure_ascii=False))
        except (aiohttp.ClientError, OSError) as error:
            raise MaybeSent(f"The relay '{self.url}' was lost: {why(error)}.") from None

    async def _confirmed(self, message: list[Any], id: str) -> tuple[bool, str]:
        waiting = self._confirmations.setdefault(id, asyncio.get_running_loop().create_future())
        try:
            await self._say(message)
            async with asyncio.timeout(ANSWER):
                return await asyncio.shield(waiting)
        except TimeoutError:
            raise MaybeSent(f"The relay '{self.url}' did not confirm it.") from None
        finally:
            self._confirmations.pop(id, None)

    async def publish(self, event: Json) -> None:
        """Give the relay an event; one that it has already is as good. Raises NotSent, MaybeSent or Undeliverable."""
        done, reason = await self._confirmed(["EVENT", event], event["id"])
        if not done and reason.startswith("auth-required") and await self._is_logged_in():
            done, reason = await self._confirmed(["EVENT", event], event["id"])
        if done or reason.startswith("duplicate"):
            return
        problem = f"The relay '{self.url}' refuses it: {reason[:300] or 'it does not say why'}."
        raise NotSent(problem) if reason.startswith(LATER) else Undeliverable(problem)

    async def _is_logged_in(self) -> bool:
        return self._logged_in is not None and await asyncio.shield(self._logged_in)

    async def query(self, filters: Filters) -> list[Json]:
        """What the relay has, in its own order. Raises Lost."""
        id = uuid.uuid4().hex
        try:
            return await self._stored(id, filters)
        finally:
            self._subscriptions.pop(id, None)
            with suppress(ChannelError):
                await self._say(["CLOSE", id])

    async def _stored(self, id: str, filters: Filters) -> list[Json]:
        events: asyncio.Queue[list[Any]] = asyncio.Queue(WAITING)
        self._subscriptions[id] = filters, events
        found: list[Json] = []
        asked, shut = asyncio.get_running_loop().time(), False
        try:
            await self._say(["REQ", id, *filters])
            while True:
                async with asyncio.timeout(ANSWER):
                    kind, *rest = await events.get()
                if kind == "EOSE":
                    return found
                shut = kind == "CLOSED"
                found += self._events(kind, rest)
        except (TimeoutError, NotSent, MaybeSent) as error:
            # Some relays never say that it was all (EOSE). What one that lives gives later is taken as news.
            if isinstance(error, TimeoutError) and self._heard > asked and not shut:
                return found
            raise Lost(f"The relay '{self.url}' does not answer.") from None

    def _events(self, kind: str, rest: list[Any]) -> list[Json]:
        """One event or none. A subscription that waits for the login is asked for again after it."""
        if kind == "CLOSED" and not str(rest[0]).startswith("auth-required"):
            raise Lost(f"The relay '{self.url}' gives nothing: {str(rest[0])[:300]}.")
        return [rest[0]] if kind == "EVENT" and valid(rest[0]) else []

    async def follow(self, filters: Filters, take: Callable[[list[Json]], Awaitable[None]]) -> None:
        """Hand over what the relay has, many at once, and then what comes, one by one. Never returns. Raises Lost.

        A relay gives its newest events only, as many as it likes; older ones are asked for until there are none.
        """
        id = uuid.uuid4().hex
        page = await self._stored(id, filters)
        _, events = self._subscriptions[id]
        known: set[str] = set()
        batch: list[Json] = []
        while fresh := [one for one in page if one["id"] not in known]:
            known |= {one["id"] for one in fresh}
            batch += fresh
            if len(batch) >= MOST:
                await take(batch)
                batch = []
            until = min(one["created_at"] for one in fresh)
            page = await self.query([one | {"until": until} for one in filters])
        await take(batch)
        while True:
            kind, *rest = await events.get()
            await take(self._events(kind, rest))


def valid(event: Json) -> bool:
    """Whether an event has what paging through many needs."""
    return isinstance(event.get("id"), str) and type(event.get("created_at")) is int


async def answers(*works: Coroutine[Any, Any, list[Json]], more: float) -> list[list[Json]]:
    """What several give: all that answer within `more` seconds of the one before. Who fails gives nothing."""
    tasks = {asyncio.ensure_future(work) for work in works}
    left, found = tasks, list[list[Json]]()
    try:
        while left:
            done, left = await asyncio.wait(left, timeout=more if found else None, return_when=asyncio.FIRST_COMPLETED)
            found += [task.result() for task in done if task.exception() is None]
            if not done:
                break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def first(*works: Coroutine[Any, Any, Any]) -> None:
    """Do several things until one of them ends, and end with it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
