"""The web face: one HTTP server that carries the routes of every channel, and guards them."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from traceback import extract_tb
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from roost.addresses import read_address
from roost.contracts import Route, unsigned
from roost.errors import ConfigError
from roost.hosts import bindable, is_loopback, reachable
from roost.logs import redact
from roost.ports import holder
from roost.settings import WebTable
from roost.web_connections import KEEP_ALIVE, Connections
from roost.web_headers import Public
from roost.web_limits import FORGED, REFUSED, Toll
from roost.web_login import LoginPages, anybody
from roost.web_routes import Mounted, Routes
from roost.web_tls import Certificate
from roost.web_visitors import VISITOR, Proxies, Visitor, seen

log = logging.getLogger(__name__)
_wire = logging.getLogger(f"{__name__}.wire")

MAX_BODY = 1024 * 1024
BODY_SECONDS = 30.0

_WINDOWS_EACCES = 10013  # WSAEACCES, a port in a reserved range
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "CF-Connecting-IP", "Via")


def people(request: web.Request, body: bytes) -> bool:
    """Verify a page meant for people: whoever holds a session, or sits at this machine when there is no token.

    The web face also checks the Origin of what changes state on such a route, and shows its login page.
    """
    return request.app[_WEB].person(request)


class Web:
    """Serve routes that owners mount and unmount while it runs.

    A path may have names in it, `/hooks/{account}`: the value is in `request.match_info["account"]`. A request that a
    trusted proxy handed on has the visitor's own `remote`, `scheme` and `host`.
    """

    def __init__(self, config: WebTable) -> None:
        self._config = config
        self._public = Public(config)
        # Browsers share cookies between all ports of a host, where another Roost may live.
        self._login = LoginPages(config.token, f"roost-{config.port}", self._public) if config.token else None
        self._routes = Routes()
        self._proxies = Proxies(config.trusted_proxies)
        self._toll = Toll()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._connections: Connections | None = None
        self.mount("the web face", self._own_routes())

    # ------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address is open to others without a token, or cannot be had."""
        self._refuse_open_door()
        certificate = Certificate(self._config) if self._config.certificate else None
        app = web.Application(client_max_size=MAX_BODY, logger=log)
        app[_WEB] = self
        app.on_response_prepare.append(self._public.guard)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        # A signature is over the bytes that were sent, so what is packed stays packed.
        options: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE, "auto_decompress": False, "logger": _wire}
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0, **options)
        await self._runner.setup()
        assert self._runner.server is not None
        encrypt = certificate.context if certificate is not None else None
        self._connections = Connections(self._runner.server, self._is_shared, encrypt)
        try:
            await self._listen(self._connections)
        except OSError as error:
            await self.stop()
            raise ConfigError(self._explain(error)) from error

    async def _listen(self, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connections, bindable(self._config.host), self._config.port)

    async def stop(self) -> None:
        """Stop listening and close what is open. Harmless when it does not run."""
        runner, self._runner = self._runner, None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        if runner is not None:
            await runner.cleanup()
        if self._connections is not None:
            await self._connections.close()

    @property
    def address(self) -> str:
        """Where a browser on this machine finds it: `http://127.0.0.1:8787`."""
        port = self._config.port
        if self._server is not None and self._server.sockets:
            port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._config.certificate else 'http'}://{reachable(self._config.host)}:{port}"

    def _is_shared(self, address: str) -> bool:
        """Whether many visitors come from one address: through a proxy, or a tunnel that ends on this machine."""
        return is_loopback(address) or self._proxies.trusts(read_address(address))

    def _refuse_open_door(self) -> None:
        if not self._config.token and not is_loopback(self._config.host):
            raise ConfigError(
                f"bot.toml: [web] host = '{self._config.host}' lets other machines reach the web face, and "
                "[web] has no 'token' to log in with. Set a long random one (ROOST_WEB_TOKEN works too), or "
                "use host = '127.0.0.1'."
            )

    def _explain(self, error: OSError) -> str:
        host, port = self._config.host, self._config.port
        if error.errno == errno.EADDRINUSE:
            who = f" by {found}" if (found := holder(port)) else ""
            return (
                f"The web face cannot listen on port {port}: it is taken{who}. "
                "Stop that program, or set another port in bot.toml: [web] port."
            )
        if error.errno in (errno.EACCES, _WINDOWS_EACCES):
            return (
                f"The web face may not listen on port {port}: the system keeps it for itself. "
                "Set another port, above 1024, in bot.toml: [web] port."
            )
        return (
            f"The web face cannot listen on '{host}', port {port}: {error.strerror or error}. "
            "Set an address of this machine in bot.toml: [web] host."
        )

    # ------------------------------------------------------------------------------------- routes

    def mount(self, owner: str, routes: Sequence[Route]) -> None:
        """Add an owner's routes, all or none. Raises ConfigError when one of them already has an owner."""
        self._routes.mount(owner, routes)

    def unmount(self, owner: str) -> None:
        """Take an owner's routes away; what they are answering goes on."""
        self._routes.unmount(owner)

    def _own_routes(self) -> Sequence[Route]:
        health = Route("GET", "/health", _health, unsigned)
        return (health, *self._login.routes()) if self._login is not None else (health,)

    # ------------------------------------------------------------------------------------- requests

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        visitor = request[VISITOR] = self._proxies.visitor(request)
        assert self._connections is not None
        with self._connections.answering(request.transport):
            try:
                return await self._answer(seen(request, visitor), visitor, self._connections)
            except web.HTTPException as error:
                if error.status >= 400 and error.text:
                    error.text = redact(error.text)
                raise

    async def _answer(self, request: web.Request, visitor: Visitor, connections: Connections) -> web.StreamResponse:
        entry: Mounted | None = None
        proven = False
        try:
            self._check_host(request, visitor)
            entry = self._routes.find(request)
            await self._let_in(entry.route, request, visitor)
            if proven := entry.route.verify not in (unsigned, anybody):
                connections.prove(request.transport)
            return await entry.route.answer(request)
        except web.HTTPException as answer:
            if proven:
                raise
            raise self._charged(answer, entry, visitor) from None
        except Exception as error:
            _report(entry, error)
            raise web.HTTPInternalServerError(text="Something went wrong here; the log says what.") from None

    async def _let_in(self, route: Route, request: web.Request, visitor: Visitor) -> None:
        """Refuse what may not come in. For people, nothing is read from whoever is nobody we know."""
        if route.verify not in (people, anybody):
            if not route.verify(request, await _body(request)):
                raise web.HTTPUnauthorized(text="This request is not signed as it should be.")
            return
        if _changes_state(request) and not self._public.is_same(request.headers.get(hdrs.ORIGIN, ""), visitor):
            raise web.HTTPForbidden(text="This request comes from another site.")
        if route.verify is anybody:
            self._charge(visitor, REFUSED)
        elif not self.person(request):
            raise self._refusal(request)
        await _body(request)

    def _check_host(self, request: web.Request, visitor: Visitor) -> None:
        if visitor.unclear:
            raise web.HTTPBadRequest(
                text="The headers 'Forwarded' and 'X-Forwarded-For' contradict each other. "
                "Have the proxy remove the one that it does not write itself."
            )
        asked = request.headers.get(hdrs.HOST, "")
        if not (self._public.is_own(asked) and self._public.is_own(visitor.host)):
            raise web.HTTPMisdirectedRequest(
                text="This name is not one of Roost's. Set bot.toml: [web] public_url to the address used here."
            )

    def _charged(self, answer: web.HTTPException, entry: Mounted | None, visitor: Visitor) -> web.HTTPException:
        """What somebody unproven is answered; that there were too many of it, where there were."""
        signed = entry is not None and entry.route.verify not in (people, anybody, unsigned)
        try:
            self._charge(visitor, FORGED if signed and answer.status == 401 else REFUSED)
        except web.HTTPTooManyRequests as enough:
            return enough
        return answer

    def _charge(self, visitor: Visitor, cost: int) -> None:
        if wait := self._toll.spend(visitor.address, cost):
            enough = f"Too many requests from your address were refused. Try again in {wait} s."
            refusal = web.HTTPTooManyRequests(text=enough, headers={hdrs.RETRY_AFTER: str(wait)})
            refusal.force_close()
            raise refusal

    def person(self, request: web.Request) -> bool:
        """Whether a request comes from someone who may use the pages for people."""
        if self._login is not None:
            return self._login.knows(request)
        return not request[VISITOR].proxied and _is_direct(request)

    def _refusal(self, request: web.Request) -> web.HTTPException:
        if self._login is None:
            return web.HTTPForbidden(
                text="Without a login, this page is only for this machine itself. "
                "Set bot.toml: [web] token to open it to others."
            )
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return web.HTTPSeeOther("/login")
        return web.HTTPUnauthorized(text="Log in first, at /login.")


_WEB = web.AppKey("_WEB", Web)


async def _health(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


async def _body(request: web.Request) -> bytes:
    """Read a body raw, once; `request.read()` gives it again. What follows an upgrade is no body."""
    if _is_upgrade(request):
        return b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The body took too long.") from None


def _is_speaking_http(record: logging.LogRecord) -> bool:
    """Keep what strangers send that is no HTTP, headers and all, out of the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_wire.addFilter(_is_speaking_http)


def _report(entry: Mounted | None, error: Exception) -> None:
    """Say where it failed. The error's own text may quote the request, so only the debug level shows it."""
    where = extract_tb(error.__traceback__)[-1]
    what = (entry.owner, entry.route.method, entry.route.path) if entry is not None else ("the web face", "any", "")
    log.error(
        "'%s' could not answer %s '%s': %s in %s, line %s.",
        *(*what, type(error).__name__, where.filename, where.lineno),
    )
    log.debug("The whole error:", exc_info=error)


def _changes_state(request: web.Request) -> bool:
    return _is_upgrade(request) or request.method not in (hdrs.METH_GET, hdrs.METH_HEAD)


def _is_upgrade(request: web.Request) -> bool:
    return request.method == hdrs.METH_GET and "websocket" in request.headers.get(hdrs.UPGRADE, "").lower()


def _is_direct(request: web.Request) -> bool:
    """Whether nothing stands between us and a browser on this machine: a tunnel also connects from loopback."""
    # Some proxies say nothing of whom they serve, and speak as no browser does: nginx as it comes, up to 1.29.
    if request.version < HttpVersion11 or any(name in request.headers for name in _FORWARDED):
        return False
    host = request.url.host or ""
    return is_loopback(host) and is_loopback(request.remote or "")
