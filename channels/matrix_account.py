"""An account on a Matrix homeserver: logging in, asking the server, and what its refusals mean.

https://spec.matrix.org/v1.16/client-server-api/
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from nio import (  # type: ignore[import-untyped]
    AsyncClient,
    AsyncClientConfig,
    DiscoveryInfoResponse,
    EncryptionError,
    ErrorResponse,
    LocalProtocolError,
    LoginError,
    SendRetryError,
)
from nio.crypto import ENCRYPTION_ENABLED  # type: ignore[import-untyped]
from python_socks import ProxyError

from roost.channels.matrix_words import Json
from roost.durable import Kept, save
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.proxy import proxy
from roost.reach import why

# What matrix-nio warns about holds what people wrote, and what its store tells of itself holds keys.
for source in ("nio", "peewee"):
    logging.getLogger(source).setLevel(logging.CRITICAL)

BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ProxyError)
REQUEST_SECONDS = 30.0
LOGGED_OUT = frozenset(("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED", "M_USER_LOCKED"))
REFUSAL = "The Matrix server refuses it"
TEMPORARY = 500


class Account:
    """The way to one homeserver. `client` is matrix-nio's, logged in, between `log_in` and `close`."""

    SCHEME = "https"  # of a server that is only known by its name

    def __init__(self, name: str, config: Any, home: Path) -> None:
        self.name = name
        self.config = config
        self.home = home
        self._client: AsyncClient | None = None
        self._session = Kept(home / "session.json")
        self._marking = asyncio.Lock()

    @property
    def client(self) -> AsyncClient:
        """Raises NotSent while there is none."""
        if self._client is None:
            raise NotSent("The channel is not connected to its Matrix server.")
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            if client.store is not None:
                client.store.database.close()

    # Logging in

    async def log_in(self) -> None:
        """Raises LoginFailed when the credentials are refused, NotSent and the like when nobody can tell."""
        await self.close()
        table = f"bot.toml: [channels.{self.name}]"
        if not (self.config.token or (self.config.user and self.config.password)):
            raise LoginFailed(f"There is no 'token' in {table}, and no 'user' with a 'password' either. Give one.")
        base = (self.config.base_url or await self._discover()).rstrip("/")
        if self.config.token:
            await self._by_token(base, self.config.token)
            return
        kept = self._session.all() if self._session.get("for") == [base, self.config.user] else {}
        try:
            if kept.get("token"):
                await self._by_token(base, kept["token"])
                return
        except LoginFailed:
            await self.close()
        await self._by_password(base, str(kept.get("device", "")))

    async def _by_token(self, base: str, token: str) -> None:
        client = self._client = self._connect(base, "")
        client.access_token = token
        who = await self.ask(client.whoami())
        client.restore_login(who.user_id, who.device_id or "", token)

    async def _by_password(self, base: str, device: str) -> None:
        """Log in, as the device of the last time: encrypted rooms know it by that."""
        client = self._client = self._connect(base, device)
        try:
            found = await self.ask(client.login(self.config.password, device_name=self.config.device_name))
        except Undeliverable as error:
            said = str(error).removeprefix(f"{REFUSAL}: ").rstrip(".")
            raise LoginFailed(
                f"The Matrix server refuses the 'user' or 'password' of bot.toml: [channels.{self.name}] ({said}). "
                "Correct them, or give a 'token'."
            ) from None
        self._session.replace({"for": [base, self.config.user], "token": found.access_token, "device": found.device_id})

    def forget_token(self) -> bool:
        """Whether another one can be had."""
        if not self.config.token:
            self._session.put("token", "")
        return not self.config.token

    def _connect(self, base: str, device: str) -> AsyncClient:
        keys = self.home / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        config = AsyncClientConfig(
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=REQUEST_SECONDS,
            encryption_enabled=ENCRYPTION_ENABLED,
            pickle_key=self._pickle_key() if ENCRYPTION_ENABLED else "",
        )
        return AsyncClient(base, self.config.user, device, str(keys), config, proxy=proxy(base, socks=True))

    def _pickle_key(self) -> str:
        """What the keys in the store are encrypted with: made up once, in a file for its owner's eyes."""
        path = self.home / "pickle-key"
        kept = path.read_text(encoding="utf-8") if path.exists() else ""
        if not kept:
            kept = secrets.token_urlsafe(32)
            save(path, kept)
        return kept

    async def _discover(self) -> str:
        """The server of a user (https://spec.matrix.org/v1.16/client-server-api/#server-discovery)."""
        server = self.config.user.partition(":")[2]
        if not server:
            raise LoginFailed(
                f"There is no 'base_url' in bot.toml: [channels.{self.name}], and the 'user' there does not tell the "
                "server either. Write the user as '@name:example.org', or give the server's address."
            )
        config = AsyncClientConfig(max_timeouts=0, request_timeout=REQUEST_SECONDS, encryption_enabled=False)
        base = f"{self.SCHEME}://{server}"
        client = AsyncClient(base, config=config, proxy=proxy(base, socks=True))
        try:
            found = await client.discovery_info()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotSent(
                f"'{server}' does not tell where its Matrix server is: {why(error)}. Check 'user' in bot.toml: "
                f"[channels.{self.name}], or give the server's address as 'base_url'."
            ) from None
        finally:
            await client.close()
        return str(found.homeserver_url) if isinstance(found, DiscoveryInfoResponse) else base

    # Asking

    async def ask(self, request: Awaitable[Any]) -> Any:
        """Wait for an answer of matrix-nio's that is none of its errors. Raises ChannelErrors."""
        try:
            answer = await request
        except BEFORE_SENDING as error:
            raise NotSent(f"The Matrix server is out of reach: {why(error)}.") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MaybeSent(f"The Matrix server's answer got lost: {why(error)}.") from None
        except (EncryptionError, LocalProtocolError, SendRetryError) as error:
            raise NotSent(f"It could not be encrypted yet: {str(error)[:200].rstrip('.')}.") from None
        if isinstance(answer, ErrorResponse):
            raise self.explain(answer)
        return answer

    async def send(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """Ask for what matrix-nio has no words for; returns the status and the answer. `path` is below `client`."""
        data = json.dumps(body) if body is not None else None
        try:
            response = await self.client.send(method, f"/_matrix/client/{path}", data, self.headers())
            async with response:
                found = await response.json(content_type=None)
        except BEFORE_SENDING as error:
            raise NotSent(f"The Matrix server is out of reach: {why(error)}.") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise MaybeSent(f"The Matrix server's answer got lost: {why(error)}.") from None
        return response.status, found if isinstance(found, dict) else {}

    async def obtain(self, method: str, path: str, body: Json | None = None) -> Json:
        """The same, where only success is an answer. Raises ChannelErrors."""
        status, found = await self.send(method, path, body)
        if status != 200:
            raise self.meaning(status, str(found.get("errcode", "")), str(found.get("error", "")), None)
        return found

    # Rooms with one other person (https://spec.matrix.org/v1.16/client-server-api/#direct-messaging)

    @property
    def _direct_path(self) -> str:
        return f"v3/user/{part(str(self.client.user_id))}/account_data/m.direct"

    async def direct(self) -> Json:
        """Person -> rooms."""
        try:
            return await self.obtain("GET", self._direct_path)
        except Undeliverable:  # none was ever marked
            return {}

    async def mark_direct(self, user: str, room: str) -> None:
        async with self._marking:
            marked = await self.direct()
            if room not in marked.get(user, []):
                await self.obtain("PUT", self._direct_path, marked | {user: [*marked.get(user, []), room]})

    async def joined(self) -> list[str]:
        """The rooms that the bot is in, of which the next sync may still have to tell."""
        return list((await self.obtain("GET", "v3/joined_rooms"))["joined_rooms"])

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.client.access_token}", "Content-Type": "application/json"}

    def explain(self, answer: ErrorResponse) -> ChannelError:
        response = answer.transport_response
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        wait = float(asked) if asked.isdecimal() else None
        if answer.retry_after_ms is not None:
            wait = answer.retry_after_ms / 1000
        refused = isinstance(answer, LoginError) and response is not None and response.status in {400, 401, 403, 404}
        status = 400 if refused else response.status if response is not None else TEMPORARY
        return self.meaning(status, answer.status_code or "", answer.message or "", wait)

    def meaning(self, status: int, code: str, said: str, wait: float | None) -> ChannelError:
        """What a refusal means (https://spec.matrix.org/v1.16/client-server-api/#standard-error-response)."""
        said = f"{code} {said}".strip()[:200].rstrip(".")
        if status == 401 or code in LOGGED_OUT:
            return LoginFailed(
                f"The Matrix server refuses the 'token' of bot.toml: [channels.{self.name}] ({said}). "
                "Log in again for another one."
            )
        if status == 429 or code == "M_LIMIT_EXCEEDED":
            return NotSent("The Matrix server asks for a pause.", wait)
        if 400 <= status < TEMPORARY:
            return Undeliverable(f"{REFUSAL}: {said}.")
        if status < 400:
            return MaybeSent(
                "What answers at the Matrix server's address does not speak Matrix, or only half of it came."
            )
        return MaybeSent(f"The Matrix server is in trouble: {status} {said}.")


def part(id: str) -> str:
    """An id as part of a path."""
    return quote(id, safe="")
