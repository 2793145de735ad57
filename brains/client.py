"""The client for chat completions as OpenAI defined them and many servers offer them.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
from yarl import URL

from roost.brains.answer import DONE, LAST, Answer, Body, Broken, Usage, parse, reason
from roost.brains.sse import Events
from roost.contracts import Piece
from roost.errors import BrainError

CONNECT = 10.0
ATTEMPTS = 4
LINGER = 2.0
ERROR_BYTES = 16 * 1024
BUSY = {408, 425, 429, 500, 502, 503, 504, 529}


class Refusal(BrainError):
    """The server said no. `again` tells whether asking again may help, after `wait` seconds if it said so."""

    def __init__(
        self, message: str, *, status: int = 0, param: str = "", again: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.again = again
        self.wait = wait


class Client:
    """Asks one server. Nothing is opened before the first question; `close` when done.

    `total` and `idle` are seconds: for a whole answer, and between two signs of life. `local` is for our
    own engine: no proxy, no second attempt, and a connection for each question, because llama.cpp drops idle ones
    without a word.
    """

    def __init__(
        self, base_url: str, api_key: str = "", *, total: float = 300.0, idle: float = 60.0, local: bool = False
    ) -> None:
        self.base_url = base_url
        self.total = total
        self.idle = idle
        self.local = local
        self.pause = 0.5
        self.usage = Usage()
        self._key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    async def stream(self, body: Body) -> AsyncGenerator[Piece, None]:
        """Pieces of the answer. Before the first one, what may help is tried again. Raises BrainError."""
        deadline = time.monotonic() + self.total
        attempts = 1 if self.local else ATTEMPTS
        for attempt in range(1, attempts + 1):
            begun = False
            try:
                async with aclosing(self._once(body, deadline)) as answer:
                    async for piece in answer:
                        begun = True
                        yield piece
                return
            except Refusal as refusal:
                wait = self._wait(attempt, refusal)
                if begun or not refusal.again or attempt == attempts or time.monotonic() + wait > deadline:
                    raise
            await asyncio.sleep(wait)

    async def post(self, url: str, body: Body) -> Any:
        """The JSON answer to a small request. Raises BrainError."""
        return await self._small("POST", url, body)

    async def get(self, url: str) -> Any:
        """The JSON at an address. Raises BrainError."""
        return await self._small("GET", url)

    async def _small(self, method: str, url: str, body: Body | None = None) -> Any:
        try:
            async with asyncio.timeout(self.idle), self._open().request(method, url, json=body) as response:
                await self._check(response, body or {})
                return await response.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._broken(error) from error

    def _wait(self, attempt: int, refusal: Refusal) -> float:
        if refusal.wait is not None:
            return refusal.wait
        return float(self.pause * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))

    async def _once(self, body: Body, deadline: float) -> AsyncGenerator[Piece, None]:
        response = None
        begun = False
        try:
            response = await self._within(
                deadline, self.total, self._open().post(f"{self.base_url}/chat/completions", json=body)
            )
            await self._check(response, body)
            async with aclosing(self._pieces(response, deadline)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._late(deadline) if is_late(error) else self._broken(error, begun) from error
        finally:
            if response is not None:
                response.close()

    async def _pieces(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[Piece, None]:
        answer = Answer()
        whole = response.content_type == "application/json"  # from a server that cannot stream
        try:
            if whole:
                for piece in answer.whole(await self._within(deadline, self.total, response.read())):
                    yield piece
                return
            async with aclosing(self._streamed(response, deadline, answer)) as pieces:
                async for piece in pieces:
                    yield piece
        except Broken as error:
            how = "refused" if whole else "broke off"
            raise Refusal(f"{self._who()} {how}: {error}", again=not whole) from error
        finally:
            self.usage = answer.usage

    async def _streamed(
        self, response: aiohttp.ClientResponse, deadline: float, answer: Answer
    ) -> AsyncGenerator[Piece, None]:
        """Read on until the server says that it is done. After the last piece an end of any kind will do."""
        events, limit = Events(), self.total
        while answer.done != DONE:
            try:
                chunk = await self._within(deadline, limit, response.content.readany())
            except (aiohttp.ClientError, OSError):
                if answer.done == LAST:
                    return
                raise
            for data in events.feed(chunk) if chunk else events.end():
                for piece in answer.read(data):
                    yield piece
            if not chunk and not answer.done:
                raise aiohttp.ClientPayloadError("it ended before the answer did")
            if not chunk:
                return
            limit = LINGER if answer.done == LAST else self.idle

    async def _within(self, deadline: float, limit: float, work: Any) -> Any:
        async with asyncio.timeout(max(0.0, min(limit, deadline - time.monotonic()))):
            return await work

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=self.local, limit=0),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                trust_env=not self.local,
            )
        return self._session

    async def _check(self, response: aiohttp.ClientResponse, body: Body) -> None:
        if response.status == 200 and response.content_type == "text/html":
            raise Refusal(f"{self._who()} answered with a web page. Check `base_url` in [brain].")
        if response.status == 200:
            return
        raw = await response.content.read(ERROR_BYTES)
        details = parse(raw)
        code = str(details.get("code") or "")
        raise Refusal(
            self._sentence(response.status, body, reason({"error": details} if details else raw), code),
            status=response.status,
            param=str(details.get("param") or ""),
            again=response.status in BUSY and code != "insufficient_quota",
            wait=retry_after(response.headers.get("Retry-After")),
        )

    def _sentence(self, status: int, body: Body, why: str, code: str) -> str:
        if status == 401:
            return f"{self._who()} refuses the api_key: {why} Set `api_key` in [brain]."
        if status == 404 and (code == "model_not_found" or "model" in why.lower()):
            return f"{self._who()} has no model '{body.get('model', '')}': {why} Set `model` in [brain]."
        if status == 404:
            return f"{self._who()} offers no chat completions there. Check `base_url` in [brain]."
        if code == "context_length_exceeded" or "context" in why.lower():
            return f"The conversation is too long for the model: {why} Lower `context` in [brain]."
        if status == 429:
            return f"{self._who()} is asked too often or its quota is used up: {why}"
        return f"{self._who()} answered with status {status}: {why}"

    def _late(self, deadline: float) -> BrainError:
        if time.monotonic() >= deadline - 0.01:
            what = f"did not finish within {self.total:g} seconds. Raise `timeout` in [brain]."
        else:
            what = f"fell silent for {self.idle:g} seconds in the middle of an answer."
        return BrainError(f"{self._who()} {what}")

    def _broken(self, error: Exception, begun: bool = False) -> BrainError:
        if isinstance(error, TimeoutError):
            return Refusal(f"{self._who()} does not answer.", again=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            return Refusal(f"{self._who()} cannot be reached: {error.os_error}. Is it running?", again=True)
        if begun:
            return Refusal(f"The connection to {self._who(middle=True)} broke in the middle of an answer.")
        return Refusal(f"The connection to {self._who(middle=True)} broke: {str(error).rstrip('.')}.", again=True)

    def _who(self, middle: bool = False) -> str:
        return f"{'the' if middle else 'The'} model server '{visible(self.base_url)}'"


def is_late(error: Exception) -> bool:
    """Whether our own time ran out, not the connection's."""
    return isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError)


def visible(url: str) -> str:
    """An address without the password that may be in it."""
    return str(URL(url).with_user(None))


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
