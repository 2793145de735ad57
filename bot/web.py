"""The web face: one HTTP server that carries the routes of every channel, and guards them."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import extract_tb
from urllib.parse import parse_qs, unquote, urlsplit

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from roost.contracts import Route, unsigned
from roost.errors import ConfigError
from roost.hosts import bindable, is_address, is_loopback, own_names, reachable
from roost.login import SESSION_SECONDS, STYLE_HASH, Login, login_page
from roost.ports import holder
from roost.settings import WebTable

log = logging.getLogger(__name__)
_wire = logging.getLogger(f"{__name__}.wire")

MAX_BODY = 1024 * 1024
BODY_SECONDS = 30.0

_WINDOWS_EACCES = 10013  # WSAEACCES, a port in a reserved range
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "CF-Connecting-IP", "Via")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; connect-src 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    # With "no-referrer" browsers send forms with the Origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def people(request: web.Request, body: bytes) -> bool:
    """Verify a page meant for people: whoever holds a session, or sits at this machine when there is no token.

    The web face also checks the Origin of what changes state on such a route, and shows its login page.
    """
    return request.app[_WEB].person(request)


def _visitor(request: web.Request, body: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Mounted:
    owner: str
    route: Route
    segments: tuple[str, ...]

    @property
    def shape(self) -> tuple[str, ...]:
        return (self.route.method, *("{}" if _is_name(part) else part for part in self.segments))

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the path's names, or None when the path is another."""
        if len(segments) != len(self.segments):
            return None
        pairs = list(zip(self.segments, segments, strict=True))
        if any(not _is_name(part) and part != value for part, value in pairs):
            return None
        return {part[1:-1]: value for part, value in pairs if _is_name(part)}


class Web:
    """Serve routes that owners mount and unmount while it runs.

    A path may have names in it, `/hooks/{account}`: the value is in `request.match_info["account"]`.
    """

    def __init__(self, config: WebTable) -> None:
        self._config = config
        self._login = Login(config.token) if config.token else None
        self._mounted: list[_Mounted] = []
        self._runner: web.AppRunner | None = None
        self._names = own_names(config)
        self.mount("the web face", self._own_routes())

    # ------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address is open to others without a token, or cannot be had."""
        self._refuse_open_door()
        app = web.Application(client_max_size=MAX_BODY, logger=log)
        app[_WEB] = self
        app.on_response_prepare.append(_secure)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0, logger=_wire)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, bindable(self._config.host), self._config.port).start()
        except OSError as error:
            await self.stop()
            raise ConfigError(self._explain(error)) from error

    async def stop(self) -> None:
        """Stop listening and close what is open. Harmless when it does not run."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def address(self) -> str:
        """Where a browser on this machine finds it: `http://127.0.0.1:8787`."""
        port = self._config.port
        if self._runner is not None and self._runner.addresses:
            port = self._runner.addresses[0][1]
        return f"http://{reachable(self._config.host)}:{port}"

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
        fresh: list[_Mounted] = []
        for route in routes:
            entry = _Mounted(owner, route, tuple(route.path.split("/")[1:]))
            for other in (*self._mounted, *fresh):
                if other.shape == entry.shape:
                    raise ConfigError(
                        f"'{owner}' and '{other.owner}' both want the path '{route.path}' ({route.method}) of "
                        "the web face. Switch one of them off, or give it another path, in bot.toml."
                    )
            fresh.append(entry)
        # A literal segment wins over a name.
        self._mounted = sorted([*self._mounted, *fresh], key=lambda entry: [*map(_is_name, entry.segments)])

    def unmount(self, owner: str) -> None:
        """Take an owner's routes away; what they are answering goes on."""
        self._mounted = [entry for entry in self._mounted if entry.owner != owner]

    def _own_routes(self) -> list[Route]:
        routes = [Route("GET", "/health", _health, unsigned)]
        if self._login is not None:
            routes.append(Route("GET", "/login", self._ask, _visitor))
            routes.append(Route("POST", "/login", self._admit, _visitor))
        return routes

    def _find(self, request: web.Request) -> _Mounted:
        segments = [unquote(part) for part in request.rel_url.raw_path.split("/")[1:]]
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        methods: set[str] = set()
        for entry in self._mounted:
            names = entry.match(segments)
            if names is None:
                continue
            if entry.route.method == method:
                request.match_info.clear()
                request.match_info.update(names)
                return entry
            methods.add(entry.route.method)
        if methods:
            raise web.HTTPMethodNotAllowed(request.method, sorted(methods), text="This path has another method.")
        raise web.HTTPNotFound(text="There is nothing here.")

    # ------------------------------------------------------------------------------------- requests

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        self._check_host(request)
        entry = self._find(request)
        try:
            return await self._answer(entry.route, request)
        except web.HTTPException:
            raise
        except Exception as error:
            _report(entry, error)
            raise web.HTTPInternalServerError(text="Something went wrong here; the log says what.") from None

    async def _answer(self, route: Route, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        if route.verify in (people, _visitor) and _changes_state(request):
            self._check_origin(request)
        if not route.verify(request, body):
            raise self._refusal(route, request)
        return await route.answer(request)

    def _check_host(self, request: web.Request) -> None:
        """Refuse names that are not ours: a page elsewhere may point its own name at this address."""
        match = _HOST.fullmatch(request.headers.get(hdrs.HOST, ""))
        name = match["name"].lower().strip("[]") if match else ""
        # Nobody can point a literal address elsewhere, so where others may come in, any of them is ours.
        if name in self._names or (is_address(name) and not is_loopback(self._config.host)):
            return
        raise web.HTTPMisdirectedRequest(
            text="This name is not one of Roost's. Set bot.toml: [web] public_url to the address used here."
        )

    def _check_origin(self, request: web.Request) -> None:
        origin = urlsplit(request.headers.get(hdrs.ORIGIN, "")).netloc.lower()
        ours = {request.headers.get(hdrs.HOST, "").lower(), urlsplit(self._config.public_url).netloc.lower()}
        if not origin or origin not in ours:
            raise web.HTTPForbidden(text="This request comes from another site.")

    def person(self, request: web.Request) -> bool:
        """Whether a request comes from someone who may use the pages for people."""
        if self._login is not None:
            return self._login.knows(request.cookies.get(self._cookie, ""))
        return _is_direct(request)

    def _refusal(self, route: Route, request: web.Request) -> web.HTTPException:
        if route.verify is not people:
            return web.HTTPUnauthorized(text="This request is not signed as it should be.")
        if self._login is None:
            return web.HTTPForbidden(
                text="Without a login, this page is only for this machine itself. "
                "Set bot.toml: [web] token to open it to others."
            )
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return web.HTTPSeeOther("/login")
        return web.HTTPUnauthorized(text="Log in first, at /login.")

    # ------------------------------------------------------------------------------------- login

    @property
    def _cookie(self) -> str:
        # Browsers share cookies between all ports of a host, where another Roost may live.
        return f"roost-{self._config.port}"

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        if self.person(request):
            raise web.HTTPSeeOther("/")
        return _login_response()

    async def _admit(self, request: web.Request) -> web.StreamResponse:
        assert self._login is not None
        address = request.remote or ""
        if not self._login.patient(address):
            return _login_response("Too many tries. Wait a minute, then try again.", status=429)
        form = parse_qs((await request.read()).decode(errors="replace"))
        if not self._login.matches(form.get("token", [""])[0]):
            self._login.failed(address)
            log.warning("Someone at '%s' gave a wrong token to the web face.", address)
            return _login_response("That is not the token.", status=403)
        response = web.HTTPSeeOther("/")
        response.set_cookie(
            self._cookie,
            self._login.session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=self._is_public(request) and self._config.public_url.startswith("https:"),
        )
        raise response

    def _is_public(self, request: web.Request) -> bool:
        host = request.headers.get(hdrs.HOST, "").lower()
        return host == urlsplit(self._config.public_url).netloc.lower()


_WEB = web.AppKey("_WEB", Web)


async def _health(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


def _login_response(note: str = "", status: int = 200) -> web.Response:
    response = web.Response(text=login_page(note), content_type="text/html", status=status)
    response.headers["Content-Security-Policy"] = _POLICY.replace("style-src 'self'", f"style-src {STYLE_HASH}")
    return response


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "roost"
    host = request.headers.get(hdrs.HOST, "")
    # A policy cannot name an IPv6 address.
    if _HOST.fullmatch(host) and not host.startswith("["):
        # To older Safari, WebSockets of the same origin are not 'self'.
        policy = response.headers["Content-Security-Policy"]
        response.headers["Content-Security-Policy"] = f"{policy} ws://{host} wss://{host}"


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


def _report(entry: _Mounted, error: Exception) -> None:
    """Say where it failed. The error's own text may quote the request, so only the debug level shows it."""
    where = extract_tb(error.__traceback__)[-1]
    log.error(
        "'%s' could not answer %s '%s': %s in %s, line %s.",
        *(entry.owner, entry.route.method, entry.route.path, type(error).__name__, where.filename, where.lineno),
    )
    log.debug("The whole error:", exc_info=error)


def _changes_state(request: web.Request) -> bool:
    return _is_upgrade(request) or request.method not in (hdrs.METH_GET, hdrs.METH_HEAD)


def _is_upgrade(request: web.Request) -> bool:
    return request.method == hdrs.METH_GET and "websocket" in request.headers.get(hdrs.UPGRADE, "").lower()


def _is_name(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("}")


def _is_direct(request: web.Request) -> bool:
    """Whether nothing stands between us and a browser on this machine: a tunnel also connects from loopback."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    host = request.url.host or ""
    return is_loopback(host) and is_loopback(request.remote or "")
