"""Delivery of updates to a webhook: https://core.telegram.org/bots/api#setwebhook"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec

from servers.telegram_chats import Json, now
from servers.telegram_rules import Refused, bad

if TYPE_CHECKING:
    from servers.telegram import TelegramServer

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_webhook(p: Json) -> None:
    parts = urlsplit(p["url"])
    local = parts.hostname in LOOPBACK
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise bad("invalid webhook URL specified")
    if parts.scheme == "http" and not local:
        raise bad("bad webhook: An HTTPS URL must be provided for webhook")
    if not local and (parts.port or 443) not in (80, 88, 443, 8443):
        raise bad("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
    secret = p.get("secret_token", "")
    if len(secret) > 256:
        raise bad("secret token is too long")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", secret):
        raise bad("secret token contains unallowed characters")
    if not 1 <= p.get("max_connections", 40) <= 100:
        raise bad("max_connections must be between 1 and 100")


class Webhook:
    """Delivers updates over HTTP: in order within a chat, several chats at a time, until the answer is 2xx."""

    FIRST_DELAY, LAST_DELAY = 0.02, 0.5

    def __init__(self, server: TelegramServer, p: Json) -> None:
        self.server, self.url = server, str(p["url"])
        self.connections = int(p.get("max_connections", 40))
        self.headers = {"Content-Type": "application/json"}
        if p.get("secret_token"):
            self.headers["X-Telegram-Bot-Api-Secret-Token"] = p["secret_token"]
        self.error: Json = {}
        self._queues: dict[int, deque[Json]] = {}
        self._ready: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def pending(self) -> int:
        return sum(map(len, self._queues.values()))

    def push(self, update: Json) -> None:
        key = origin(update)
        if key not in self._queues:
            self._queues[key] = deque()
            self._ready.append(key)
        self._queues[key].append(update)
        self._start()

    def close(self) -> list[Json]:
        """Stop; gives the updates that were not delivered."""
        for task in self._tasks:
            task.cancel()
        left = [update for queue in self._queues.values() for update in queue]
        self._queues.clear()
        return sorted(left, key=lambda update: int(update["update_id"]))

    def _start(self) -> None:
        while self._ready and len(self._tasks) < self.connections:
            task = asyncio.create_task(self._drain(self._ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()
            self._start()

    async def _drain(self, key: int) -> None:
        queue, delay = self._queues[key], self.FIRST_DELAY
        while queue:
            if await self._deliver(queue[0]):
                queue.popleft()
                delay = self.FIRST_DELAY
                continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, self.LAST_DELAY)
        del self._queues[key]

    async def _deliver(self, update: Json) -> bool:
        reason = ""
        try:
            body = msgspec.json.encode(update)
            async with self.server.client.post(self.url, data=body, headers=self.headers, ssl=False) as answer:
                content = await answer.read()
                if not 200 <= answer.status < 300:
                    reason = f"Wrong response from the webhook: {answer.status} {answer.reason}"
        except (aiohttp.ClientError, OSError) as error:
            reason = f"Connection failed: {error}"
        if reason:
            self.error = {"last_error_date": now(), "last_error_message": reason}
            self.server.changed()
            return False
        self._answer(content)
        return True

    def _answer(self, content: bytes) -> None:
        """The answer to a webhook may be a call: `{"method": "sendMessage", …}`; its result is not reported."""
        try:
            call = json.loads(content)
        except ValueError:
            return
        if isinstance(call, dict) and "method" in call:
            with contextlib.suppress(Refused):
                self.server.perform(str(call.pop("method")), call, {})


def origin(update: Json) -> int:
    """The chat (or user) an update came from; 0 for what is no update at all."""
    body = next(value for key, value in update.items() if key != "update_id")
    try:
        return int((body.get("chat") or body.get("message", {}).get("chat") or body["from"])["id"])
    except (KeyError, TypeError):
        return 0
