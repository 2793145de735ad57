"""The login page of the web face."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import ceil
from urllib.parse import parse_qs

from aiohttp import hdrs, web

from roost.contracts import Route
from roost.login import SESSION_SECONDS, STYLE_HASH, TRY_SECONDS, Login, login_page
from roost.web_headers import POLICY, Public
from roost.web_visitors import VISITOR

log = logging.getLogger(__name__)


def anybody(request: web.Request, body: bytes) -> bool:
    """Verify the login page itself."""
    return True


class LoginPages:
    """Who is logged in, and how somebody comes to be. `cookie` is the name of the session."""

    def __init__(self, token: str, cookie: str, public: Public) -> None:
        self._login = Login(token)
        self._cookie = cookie
        self._public = public

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/login", self._ask, anybody), Route("POST", "/login", self._admit, anybody))

    def knows(self, request: web.Request) -> bool:
        return self._login.knows(request.cookies.get(self._cookie, ""))

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        if self.knows(request):
            raise web.HTTPSeeOther("/")
        return _page()

    async def _admit(self, request: web.Request) -> web.StreamResponse:
        address = request[VISITOR].address
        if not self._login.patient(address):
            response = _page("Too many tries. Wait a minute, then try again.", status=429)
            response.headers[hdrs.RETRY_AFTER] = str(ceil(TRY_SECONDS))
            return response
        form = parse_qs((await request.read()).decode(errors="replace"))
        if not self._login.matches(form.get("token", [""])[0]):
            self._login.failed(address)
            log.warning("Someone at '%s' gave a wrong token to the web face.", address)
            return _page("That is not the token.", status=403)
        response = web.HTTPSeeOther("/")
        response.set_cookie(
            self._cookie,
            self._login.session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=self._public.secure(request[VISITOR]),
        )
        raise response


def _page(note: str = "", status: int = 200) -> web.Response:
    response = web.Response(text=login_page(note), content_type="text/html", status=status)
    response.headers["Content-Security-Policy"] = POLICY.replace("style-src 'self'", f"style-src {STYLE_HASH}")
    return response
