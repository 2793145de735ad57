"""The HTTP of a channel, as long as it runs: no cookies, and the proxy that the environment names for each server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from roost.errors import NotSent
from roost.proxy import proxy

# With these, the server has seen nothing of the request.
BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
ANSWER = aiohttp.ClientTimeout(total=30.0, connect=10.0)
DOWNLOAD = aiohttp.ClientTimeout(connect=10.0, sock_read=20.0)
SERVERS = 100  # whose proxies are remembered


class Http:
    """Ask servers while it is open. `who` is what cannot be reached otherwise, `keys` are those of a ClientSession.

    Redirections are not followed unless a request says so: they would carry tokens elsewhere. Besides what aiohttp
    raises, there is NotSent while it is closed, and ConfigError for a proxy of a kind that cannot be used.
    """

    def __init__(self, who: str, timeout: aiohttp.ClientTimeout = ANSWER, **keys: Any) -> None:
        self._who = who
        self._keys = {"timeout": timeout, **keys}
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._proxies.clear()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), **self._keys) as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None

    def request(
        self, method: str, url: str, *, allow_redirects: bool = False, **how: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """`async with http.request("GET", url) as answer:`"""
        proxied = self._proxy(url)
        return self._opened.request(method, url, proxy=proxied, allow_redirects=allow_redirects, **how)

    async def connect(self, url: str, **how: Any) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket, which the caller closes."""
        socket: aiohttp.ClientWebSocketResponse = await self._opened.ws_connect(url, proxy=self._proxy(url), **how)
        return socket

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise NotSent(f"{self._who} is out of reach: the channel is not running.")
        return self._session

    def _proxy(self, url: str) -> str | None:
        """Asking the system for each request would double what a request costs."""
        server = urlsplit(url)[:2]
        if server not in self._proxies:
            if len(self._proxies) >= SERVERS:
                self._proxies.clear()
            self._proxies[server] = proxy(url)
        return self._proxies[server]
