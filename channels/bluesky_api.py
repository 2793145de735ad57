"""The AT Protocol's HTTP interface (XRPC) over aiohttp: sessions, queries, procedures, and what refusals mean.

https://atproto.com/specs/xrpc and https://docs.bsky.app/docs/advanced-guides/rate-limits
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import BEFORE_SENDING, DOWNLOAD, Http
from roost.reach import why

Json = dict[str, Any]
Params = Sequence[tuple[str, str]]
UPLOAD = aiohttp.ClientTimeout(total=120.0, connect=10.0)
CHUNK = 65536
CHAT = {"atproto-proxy": "did:web:api.bsky.chat#bsky_chat"}
NO_CHAT = ("Bad token method", "Bad token scope")  # what an app password without access to messages is told
GONE = {"AccountTakedown", "AccountDeactivated", "AuthFactorTokenRequired"}


class Refused(Undeliverable):
    """The server will never take this. `error` is the name it gives the reason."""

    def __init__(self, message: str, error: str) -> None:
        super().__init__(message)
        self.error = error


class NotAllowed(Undeliverable):
    """The app password is not for direct messages, or the server has none."""


class Outdated(ChannelError):
    """The token is no longer good; a new one may be."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose session it is, and the server that holds it."""

    did: str
    handle: str
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: names of headers in lower case, None for a body that is no JSON object."""

    status: int
    headers: Mapping[str, str]
    body: Json | None


class Api:
    """One account. `name` is the channel's, for what errors say.

    `server` is asked for everything; when it is empty, `resolver` tells whose handle it is, and `directory` where that
    account lives (https://atproto.com/guides/identity).
    """

    def __init__(self, name: str, handle: str, password: str, server: str, resolver: str, directory: str) -> None:
        self._name = name
        self._handle = handle.strip().removeprefix("@")
        self._password = password
        self._server = server.rstrip("/")
        self._resolver = resolver.rstrip("/")
        self._directory = directory.rstrip("/")
        self.http = Http("Bluesky")
        self._account: Account | None = None
        self._access = self._refresh = ""
        self._renewing = asyncio.Lock()

    @property
    def account(self) -> Account:
        if self._account is None:
            raise NotSent("The channel is not logged in.")
        return self._account

    # Sessions

    async def enter(self) -> Account:
        """Log in, unless a session is there already. Raises LoginFailed, NotSent, MaybeSent or Refused."""
        await self._renew("")
        return self.account

    async def _renew(self, used: str) -> None:
        """Have another token than the one that was `used`."""
        async with self._renewing:
            if self._access and self._access != used:
                return
            if self._refresh and await self._refreshed():
                return
            self._access = self._refresh = ""
            await self._log_in()

    async def _refreshed(self) -> bool:
        url = f"{self.account.server}/xrpc/com.atproto.server.refreshSession"
        try:
            # The token is used up by the request, so an answer that got lost means a new login.
            self._keep(await self._ask("POST", url, {"Authorization": f"Bearer {self._refresh}"}), self.account.server)
        except (Outdated, Refused, MaybeSent):
            return False
        return True

    async def _log_in(self) -> None:
        server = await self._home()
        body = {"identifier": self._handle, "password": self._password}
        try:
            session = await self._ask("POST", f"{server}/xrpc/com.atproto.server.createSession", json=body)
        except Outdated as error:
            raise LoginFailed(
                f"The server '{server}' refuses the 'handle' and 'password' of bot.toml: [channels.{self._name}] "
                f"({error}). Make an app password in Bluesky: Settings, Privacy and security, App passwords."
            ) from None
        if session.get("active") is False:
            raise LoginFailed(
                f"The account of bot.toml: [channels.{self._name}] is {session.get('status') or 'not active'}. Log in "
                "at Bluesky to see why."
            )
        self._keep(session, server)

    def _keep(self, session: Json, server: str) -> None:
        try:
            self._access, self._refresh = str(session["accessJwt"]), str(session["refreshJwt"])
            home = server if self._server else self._pds(session.get("didDoc")) or server
            self._account = Account(str(session["did"]), str(session["handle"]), home)
        except KeyError as error:
            raise MaybeSent(f"'{server}' gives a session without {error}.") from None

    async def _home(self) -> str:
        """The server that holds the account."""
        if self._server:
            return self._server
        try:
            did = self._handle
            if not did.startswith("did:"):
                path = "/xrpc/com.atproto.identity.resolveHandle?handle="
                did = str((await self._ask("GET", self._resolver + path + quote(did)))["did"])
            found = self._pds(await self._ask("GET", self._document(did)))
        except (Refused, Outdated, KeyError) as error:
            raise LoginFailed(
                f"There is no account '{self._handle}', which is the 'handle' of bot.toml: [channels.{self._name}]: "
                f"{str(error).rstrip('.')}. A handle looks like 'bot.bsky.social'."
            ) from None
        if found is None:
            raise LoginFailed(
                f"The account '{self._handle}' names no server. Give its address as 'base_url' in bot.toml: "
                f"[channels.{self._name}]."
            )
        return found

    def _pds(self, document: Any) -> str | None:
        """The server that a document names, unless a password would travel to it in the clear."""
        found = pds(document)
        return found if found and urlsplit(found).scheme in ("https", urlsplit(self._directory).scheme) else None

    def _document(self, did: str) -> str:
        """Where an identity is described: https://atproto.com/specs/did"""
        if did.startswith("did:web:"):
            return f"https://{did.removeprefix('did:web:')}/.well-known/did.json"
        return f"{self._directory}/{did}"

    # Asking

    async def query(self, method: str, params: Params = (), proxy: Mapping[str, str] | None = None) -> Json:
        """Raises LoginFailed, NotSent, MaybeSent, Refused or NotAllowed."""
        return await self._call("GET", method, proxy, params=list(params))

    async def procedure(self, method: str, body: Json, proxy: Mapping[str, str] | None = None) -> Json:
        """Raises the same as `query`."""
        return await self._call("POST", method, proxy, json=body)

    async def upload(self, mime: str, data: bytes) -> Json:
        """Give the server a file; returns what a record names it by."""
        headers = {"Content-Type": mime or "application/octet-stream"}
        answer = await self._call("POST", "com.atproto.repo.uploadBlob", headers, data=data, timeout=UPLOAD)
        blob = answer.get("blob")
        if not isinstance(blob, dict):
            raise NotSent("The server took the file but does not say what it calls it.")
        return blob

    async def _call(self, verb: str, method: str, headers: Mapping[str, str] | None, **content: Any) -> Json:
        used = ""
        for _ in range(3):
            await self._renew(used)
            used = self._access
            told = {**(headers or {}), "Authorization": f"Bearer {used}"}
            try:
                return await self._ask(verb, f"{self.account.server}/xrpc/{method}", told, **content)
            except Outdated as error:
                problem = error
        raise NotSent(f"The server takes none of the tokens it gives ({problem}).")

    async def _ask(self, verb: str, url: str, headers: Mapping[str, str] | None = None, **content: Any) -> Json:
        server = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        try:
            async with self.http.request(verb, url, headers=headers, **content) as said:
                told = {name.lower(): value for name, value in said.headers.items()}
                answer = Answer(said.status, told, decoded(await said.read()))
        except BEFORE_SENDING as error:
            raise NotSent(f"'{server}' is out of reach: {why(error)}.") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MaybeSent(f"The answer of '{server}' got lost: {why(error)}.") from None
        if answer.status != 200:
            raise self._explain(server, answer)
        if answer.body is None:
            raise MaybeSent(f"The answer of '{server}' is no JSON.")
        return answer.body

    def _explain(self, server: str, answer: Answer) -> ChannelError:
        """What a refusal means: https://atproto.com/specs/xrpc#error-responses"""
        body = answer.body or {}
        error, status = str(body.get("error") or ""), answer.status
        said = str(body.get("message") or error or f"status {status}")[:300].rstrip(".")
        if status == 429 or (status == 503 and "retry-after" in answer.headers):
            return NotSent(f"'{server}' asks for a pause ({said}).", pause(answer.headers, time.time()))
        if error in GONE:
            return LoginFailed(
                f"The account of bot.toml: [channels.{self._name}] cannot be used: {said} ({error}). It needs an app "
                "password, and an account in good standing."
            )
        if said in NO_CHAT or (status == 501 and error == "MethodNotImplemented"):
            return NotAllowed(f"'{server}' refuses it: {said} (status {status}).")
        if status == 401 or error in ("ExpiredToken", "InvalidToken"):
            return Outdated(said)
        if status >= 500 or status < 400:
            return MaybeSent(f"'{server}' answered with status {status}.")
        return Refused(f"'{server}' refuses it: {said} (status {status}).", error)

    async def download(self, url: str) -> AsyncIterator[bytes]:
        """Read a file that a post shows, in chunks, without telling who asks. Raises NotSent or Undeliverable."""
        if urlsplit(url).scheme not in ("https", urlsplit(self.account.server).scheme):
            raise Undeliverable("The file lies where it cannot be fetched safely.")
        try:
            async with self.http.request("GET", url, timeout=DOWNLOAD, allow_redirects=True) as answer:
                if answer.status != 200:
                    raise Undeliverable(f"The file is not given: status {answer.status}.")
                async for chunk in answer.content.iter_chunked(CHUNK):
                    yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotSent(f"The download broke: {why(error)}.") from None


def decoded(said: bytes) -> Json | None:
    """A JSON object. No body at all counts as an empty one: procedures that return nothing answer so."""
    try:
        found = json.loads(said or b"{}")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def pds(document: Any) -> str | None:
    """The account's server in a description of its identity (https://atproto.com/specs/did#did-documents)."""
    try:
        for service in document["service"]:
            if str(service["id"]).endswith("#atproto_pds"):
                address = str(service["serviceEndpoint"]).rstrip("/")
                return address if urlsplit(address).scheme in ("https", "http") else None
    except (KeyError, TypeError):
        pass
    return None


def pause(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server wants us to wait. The names are in lower case."""
    told = headers.get("retry-after", "")
    if told.isdecimal():
        return float(told)
    reset = headers.get("ratelimit-reset", "")
    return max(0.0, float(reset) - now) if reset.isdecimal() else None
