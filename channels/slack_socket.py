"""Slack's Socket Mode: what Slack delivers comes through a WebSocket that this side opens.

https://docs.slack.dev/apis/events-api/using-socket-mode

Bolt's own carrier, slack_sdk's SocketModeClient, is not used: when Slack announces the end of a connection it closes
that before it has another, when a connection fails it tries the same address for ever, whose ticket is good for one
try, and it never says that a token is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

log = logging.getLogger(__name__)

PING = 10.0  # seconds between two questions whether the other side is there
SILENT = 3 * PING  # seconds without a sign of life after which a connection is given up
GONE = 60.0  # seconds that a connection may live on after Slack said that it ends
MAX_FRAME = 16 * 1024 * 1024

Take = Callable[[dict[str, Any]], Awaitable[bool]]
"""Have the payload of an envelope made safe; returns whether it may be acknowledged."""


class SocketOff(Exception):
    """Socket Mode was switched off for this app."""


@dataclass(eq=False)
class Link:
    """One connection. `ready` is set once Slack has greeted, `ending` once it wants a new one; both when it is gone."""

    socket: aiohttp.ClientWebSocketResponse
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    greeted: bool = False
    off: bool = False
    heard: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    takes: set[asyncio.Task[None]] = field(default_factory=set)


class Socket:
    """Keeps one connection, or two while Slack replaces one by another: then the new one is there first."""

    def __init__(self, take: Take, pulse: Callable[[], None]) -> None:
        self._take = take
        self._pulse = pulse
        self._links: set[asyncio.Task[None]] = set()

    async def connect(self, session: aiohttp.ClientSession, address: str, proxy: str | None = None) -> Link:
        """Open a connection and wait for Slack's greeting. Raises what aiohttp raises, TimeoutError or SocketOff."""
        socket = await session.ws_connect(
            address,
            autoping=False,
            proxy=proxy,
            max_msg_size=MAX_FRAME,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )
        link = Link(socket)
        task = asyncio.create_task(self._keep(link))
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        async with asyncio.timeout(PING):
            await link.ready.wait()
        if link.off:
            raise SocketOff
        if not link.greeted:
            raise ConnectionError("Slack hung up without a greeting.")
        return link

    async def replaced(self, link: Link) -> None:
        """Wait until another connection is needed. Raises SocketOff when there will be none."""
        await link.ending.wait()
        if link.off:
            raise SocketOff

    async def close(self) -> None:
        for task in list(self._links):
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _keep(self, link: Link) -> None:
        """Listen to the end of a connection. What was taken by then is still acknowledged, if that can be."""
        watch = asyncio.create_task(self._watch(link))
        try:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async for frame in link.socket:
                    await self._hear(link, frame)
        finally:
            link.ready.set()
            link.ending.set()
            watch.cancel()
            for task in link.takes:
                task.cancel()
            await asyncio.gather(watch, *link.takes, return_exceptions=True)
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                await link.socket.close()

    async def _watch(self, link: Link) -> None:
        """Ask for signs of life, and hang up when there are none."""
        loop = asyncio.get_running_loop()
        end = float("inf")
        while True:
            await asyncio.sleep(PING)
            if link.ending.is_set():
                end = min(end, loop.time() + GONE)
            if loop.time() - link.heard > SILENT or loop.time() > end:
                await link.socket.close()
                return
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await link.socket.ping()

    async def _hear(self, link: Link, frame: aiohttp.WSMessage) -> None:
        link.heard = asyncio.get_running_loop().time()
        self._pulse()
        if frame.type == aiohttp.WSMsgType.PING:
            await link.socket.pong(frame.data)
        elif frame.type == aiohttp.WSMsgType.TEXT:
            try:
                envelope = json.loads(frame.data)
                kind = envelope.get("type")
            except (ValueError, AttributeError, RecursionError):
                log.warning("Slack sent something that is no envelope. I leave it out.")
                return
            if kind == "disconnect":
                link.off = envelope.get("reason") == "link_disabled"
                link.ready.set()
                link.ending.set()
            elif kind == "hello":
                link.greeted = True
                link.ready.set()
            elif isinstance(envelope.get("envelope_id"), str):
                # Tasks begin in the order in which they are made, and that is the order the core keeps.
                task = asyncio.create_task(self._accept(link, envelope))
                link.takes.add(task)
                task.add_done_callback(link.takes.discard)

    async def _accept(self, link: Link, envelope: dict[str, Any]) -> None:
        """Take an envelope, then acknowledge it. What cannot be acknowledged comes again, and is known by then."""
        payload = envelope.get("payload")
        if await self._take(payload if isinstance(payload, dict) else {}):
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await link.socket.send_str(json.dumps({"envelope_id": envelope["envelope_id"]}))
