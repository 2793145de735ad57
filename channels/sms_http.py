"""Twilio's REST API over aiohttp: what Twilio's own client is carried by, and what its answers mean for a message.

https://www.twilio.com/docs/usage/api
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

# `twilio.rest.Client` brings `requests`: 6 MB and 0.14 s. Its generated classes for messages would bring all of the
# API's others: 8 MB and 0.2 s more, for what is one POST and three GETs. So only its core is used, and its signatures.
# Its own carrier, AsyncTwilioHttpClient, logs addresses with phone numbers in them, sets no time limit, and uses what
# aiohttp is about to remove.
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import BEFORE_SENDING
from roost.proxy import proxy
from roost.reach import why

log = logging.getLogger(__name__)

Json = dict[str, Any]
ACCOUNTS = "/2010-04-01/Accounts/"
LIMITS = aiohttp.ClientTimeout(total=30.0, connect=10.0, sock_read=20.0)
DOWNLOAD = aiohttp.ClientTimeout(connect=10.0, sock_read=20.0)
REDIRECTS = 5

# https://www.twilio.com/docs/api/errors
NO_LOGIN = {20003, 20005, 20006, 20008, 10001}
QUEUE_FULL = {21611, 30001, 63018}
HINTS = {
    21610: "Whoever it is for has sent STOP. Only a START from the same phone opens this number again.",
    21608: "A trial account reaches verified numbers only. Verify this one in Twilio's Console, or upgrade.",
    21408: "Allow this country in Twilio's Console: Messaging, Settings, Geo permissions.",
    63016: "On WhatsApp a bot may write freely only within 24 hours after the person's last message.",
}
BAD_SENDER = {21212, 21603, 21606, 21659, 21660, 21661, 21703, 21704, 21705, 63007}


class Carrier:
    """A pool of kept connections between `open` and `close`, in the place of Twilio's own HTTP client.

    Outside of that every request opens a connection and closes it, so that the last answers of a channel that is
    being stopped still leave.
    """

    is_async = True

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._pool: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        if self._pool is None:
            self._pool = self._connect()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        allow_redirects: bool = False,
    ) -> Response:
        """The signature is twilio.http.HttpClient's. Raises aiohttp's errors and TimeoutError."""
        given = {**(headers or {}), **authorization(auth)}
        url = f"{uri}?{urlencode(params)}" if params else uri
        body = urlencode(data or {}, doseq=True).encode() if method == "POST" else None
        async with (
            self.session() as session,
            # A redirection would carry the token elsewhere.
            session.request(method, url, data=body, headers=given, timeout=LIMITS, allow_redirects=False) as answer,
        ):
            return Response(answer.status, (await answer.read()).decode(errors="replace"), answer.headers)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        if self._pool is not None:
            yield self._pool
        else:
            async with self._connect() as session:
                yield session

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(proxy=proxy(self._base_url), cookie_jar=aiohttp.DummyCookieJar())


def authorization(auth: tuple[str, str] | None) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(":".join(auth).encode()).decode()} if auth else {}


class Api:
    """One account. `name` is the channel's, for what errors say."""

    def __init__(self, name: str, base_url: str, account: str, token: str) -> None:
        self.carrier = Carrier(base_url)
        self._name = name
        self._base = base_url.rstrip("/")
        self._auth = (account, token)
        # An edge or region from the environment would change the address.
        self._client = Client(account, token, http_client=self.carrier, environment={"TWILIO_EDGE": ""})
        self._ahead = 0.0

    def now(self) -> float:
        """The time on Twilio's clock, as its last answer told it."""
        return time.time() + self._ahead

    async def get(self, path: str, **params: str) -> Json:
        return await self._call("GET", path, params=params)

    async def post(self, path: str, form: Mapping[str, Any]) -> Json:
        return await self._call("POST", path, data=dict(form))

    async def _call(self, method: str, path: str, **fields: Any) -> Json:
        """Raises LoginFailed, NotSent, MaybeSent or Undeliverable."""
        try:
            answer = await self._client.request_async(method, self._base + path, **fields)
        except BEFORE_SENDING as error:
            raise NotSent(f"Twilio is out of reach: {why(error)}.") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MaybeSent(f"Twilio's answer got lost: {why(error)}.") from None
        self._set_clock(answer.headers.get("Date", ""))
        found = decoded(answer.content)
        if 200 <= answer.status_code < 300:
            if found is None:
                raise MaybeSent("Twilio's answer is no JSON object.")
            return found
        raise explain(self._name, answer.status_code, found or {}, answer.headers)

    def _set_clock(self, date: str) -> None:
        try:
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            log.debug("%s: An answer has no date.", self._name)

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Read a media file in chunks. Credentials go to Twilio only; it redirects to where the file lies.

        Raises NotSent or Undeliverable.
        """
        url, headers = self._base + path, authorization(self._auth)
        try:
            async with self.carrier.session() as session:
                for _ in range(REDIRECTS):
                    async with session.get(url, headers=headers, timeout=DOWNLOAD, allow_redirects=False) as answer:
                        if answer.status not in (301, 302, 303, 307, 308):
                            self._check_file(answer.status)
                            async for chunk in answer.content.iter_chunked(65536):
                                yield chunk
                            return
                        url, headers = self._next(url, answer.headers.get("Location", "")), {}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotSent(f"The download broke: {why(error)}.") from None
        raise Undeliverable("Twilio's file is always somewhere else.")

    def _next(self, url: str, location: str) -> str:
        """Where a file really is; never back to plain HTTP from HTTPS."""
        found = urljoin(url, location)
        if urlsplit(found).scheme not in ("https", urlsplit(self._base).scheme):
            raise Undeliverable("Twilio's file lies where it cannot be fetched safely.")
        return found

    def _check_file(self, status: int) -> None:
        if status >= 500 or status == 429:
            raise NotSent(f"Twilio's file server answered {status}.")
        if status != 200:
            raise Undeliverable(f"Twilio does not give the file: status {status}.")


def decoded(text: str) -> Json | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def explain(name: str, status: int, body: Json, headers: Mapping[str, str]) -> ChannelError:
    """What a refusal means for a message: https://www.twilio.com/docs/usage/troubleshooting/debugging-your-application

    A 429 is never processed; after any other 5xx nobody knows.
    """
    code = body.get("code") if isinstance(body.get("code"), int) else 0
    said = str(body.get("message") or f"status {status}")[:300].rstrip(".")
    if status == 401 or code in NO_LOGIN:
        return LoginFailed(
            f"Twilio refuses 'account' and 'token' of bot.toml: [channels.{name}] ({said}). Copy the Account "
            "SID and the Auth Token from the first page of Twilio's Console."
        )
    if status == 429 or code in QUEUE_FULL:
        return NotSent("Twilio asks for a pause.", seconds(headers.get("Retry-After", "")))
    if status >= 500 or status < 400:
        return MaybeSent(f"Twilio answered with status {status}.")
    hint = HINTS.get(code or 0, "")
    if code in BAD_SENDER:
        hint = f"Correct 'number', 'whatsapp' or 'service' in bot.toml: [channels.{name}]."
    return Undeliverable(f"Twilio refuses it: {said} (error {code}). {hint}".rstrip())


def seconds(told: str) -> float | None:
    try:
        return max(0.0, float(told))
    except ValueError:
        return None
