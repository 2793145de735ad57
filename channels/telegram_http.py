"""The requests of python-telegram-bot, carried by aiohttp.

Its own carrier, httpx, makes a send cost two and a half times the CPU, and logs every address, token included.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from telegram.error import BadRequest, NetworkError, TelegramError, TimedOut
from telegram.request import BaseRequest, RequestData

from roost.proxy import proxy
from roost.reach import why

BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
CONNECT, READ, WRITE, WRITE_FILE = 10.0, 20.0, 20.0, 300.0


class Unreached(NetworkError):
    """No connection came about, so nothing was sent."""


class Missing(Unreached):
    """Status 404 to a token that was taken before: the server has no such method, or is not there now."""


class TooFast(TelegramError):
    """Status 429. `seconds` is the wait it asks for, None when it does not say.

    python-telegram-bot's own RetryAfter warns about its type whenever it is made.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__("Too Many Requests")
        self.seconds = seconds


class Http(BaseRequest):
    """A pool of kept connections to one server, between `initialize` and `shutdown`.

    Outside of that every request opens a connection and closes it, so that the last answers of a channel that is
    being stopped still leave, and nothing is left open.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._pool: aiohttp.ClientSession | None = None
        self._known = False

    @property
    def read_timeout(self) -> float | None:
        return READ

    async def initialize(self) -> None:
        if self._pool is None:
            self._pool = self._connect()

    async def shutdown(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = BaseRequest.DEFAULT_NONE,
        write_timeout: Any = BaseRequest.DEFAULT_NONE,
        connect_timeout: Any = BaseRequest.DEFAULT_NONE,
        pool_timeout: Any = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        given = (connect_timeout, read_timeout, write_timeout)
        limits = timeouts(*given, upload=bool(request_data and request_data.contains_files))
        try:
            # A redirection would carry the token elsewhere.
            how = {"timeout": limits, "allow_redirects": False, **(encode(request_data) if request_data else {})}
            async with self._session() as session, session.request(method, url, **how) as response:
                return self._check(response.status, await response.read())
        except BEFORE_SENDING as error:
            raise Unreached(why(error)) from None
        except TimeoutError:
            raise TimedOut("no answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            # The text of an error may hold the address, and that holds the token.
            raise NetworkError(why(error)) from None

    def _check(self, status: int, payload: bytes) -> tuple[int, bytes]:
        """python-telegram-bot takes every 404 for a wrong token, which is so only until one was taken."""
        if status == 404 and self._known:
            raise Missing("The server has no such method.")
        self._known = self._known or status == 200
        return check(status, payload)

    async def download(self, url: str) -> AsyncIterator[bytes]:
        """Read a file in chunks. Raises BadRequest when it is not there, NetworkError for anything else."""
        limits = aiohttp.ClientTimeout(connect=CONNECT, sock_read=READ)
        try:
            async with self._session() as session, session.get(url, timeout=limits) as response:
                if response.status != 200:
                    kind = BadRequest if response.status < 500 else NetworkError
                    raise kind(f"The file server answered {response.status}")
                async for chunk in response.content.iter_chunked(65536):
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise NetworkError(f"the download broke: {why(error)}") from None

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"User-Agent": self.USER_AGENT}, proxy=proxy(self._base_url), cookie_jar=aiohttp.DummyCookieJar()
        )

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        if self._pool is not None:
            yield self._pool
        else:
            async with self._connect() as session:
                yield session

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """Decode an answer; unlike the original, log nothing of it."""
        try:
            decoded = json.loads(payload.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise TelegramError("The answer is not a JSON object.")
        return decoded


@dataclass(frozen=True, slots=True)
class Plain:
    """Parameters that are JSON already, in the place of a RequestData.

    python-telegram-bot's own way of making one of them costs as much as the request.
    """

    parameters: dict[str, Any]
    contains_files: bool = False


def timeouts(connect: Any = None, read: Any = None, write: Any = None, upload: bool = False) -> aiohttp.ClientTimeout:
    """aiohttp has no time limit for writing, so `write` only widens the limit for the whole request."""
    connect = connect if isinstance(connect, int | float) else CONNECT
    read = read if isinstance(read, int | float) else READ
    write = write if isinstance(write, int | float) else WRITE_FILE if upload else WRITE
    return aiohttp.ClientTimeout(total=connect + write + read, connect=connect, sock_read=read)


def encode(data: RequestData) -> dict[str, Any]:
    """aiohttp's arguments for a body: JSON, or a form where there are files."""
    if not data.contains_files:
        return {"json": data.parameters}
    form = aiohttp.FormData(quote_fields=False)
    for name, value in data.json_parameters.items():
        form.add_field(name, value)
    for name, (filename, content, mime) in data.multipart_data.items():
        # aiohttp warns about large plain bytes: they would be copied to the socket in one go.
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        form.add_field(name, stream, filename=filename, content_type=mime)
    return {"data": form}


def check(status: int, payload: bytes) -> tuple[int, bytes]:
    """Raise for the two answers python-telegram-bot does not tell apart from a network error."""
    if status == 429:
        try:
            seconds = float(json.loads(payload)["parameters"]["retry_after"])
        except (ValueError, KeyError, TypeError):
            seconds = None
        raise TooFast(seconds)
    if status == 413:
        raise BadRequest("Request Entity Too Large")
    return status, payload
