"""The names of the web face, and the headers that guard its pages in a browser."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from roost.hosts import is_address, is_loopback, own_names
from roost.settings import WebTable
from roost.web_visitors import VISITOR, Visitor

HSTS_SECONDS = 30 * 24 * 3600
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; connect-src 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    # With "no-referrer" browsers send forms with the Origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


class Public:
    """What a web face may be called, and how `[web] public_url` says that it is reached."""

    def __init__(self, config: WebTable) -> None:
        self._names = own_names(config)
        self._shared = not is_loopback(config.host)
        self._public = urlsplit(config.public_url)

    def is_own(self, host: str) -> bool:
        """Whether a host, with or without a port, is one of ours: a page elsewhere may point its own name here."""
        match = _HOST.fullmatch(host)
        name = match["name"].lower().strip("[]") if match else ""
        # Nobody can point a literal address elsewhere, so where others may come in, any of them is ours.
        return name in self._names or (is_address(name) and self._shared)

    def is_same(self, origin: str, visitor: Visitor) -> bool:
        """Whether an Origin is a page of ours, as this visitor sees it."""
        parts = urlsplit(origin)
        name = parts.netloc.lower()
        if not name or (name != visitor.host.lower() and not self._is_public(name)):
            return False
        # A page that came unencrypted may have been written by anybody on the way.
        needed = visitor.secure or (self._is_public(name) and self._public.scheme == "https")
        return parts.scheme == "https" or not needed

    def secure(self, visitor: Visitor) -> bool:
        """Whether a request came encrypted: as is seen here, or as a trusted proxy or public_url says."""
        return visitor.secure or (self._is_public(visitor.host) and self._public.scheme == "https")

    async def guard(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put the headers on a response."""
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers[hdrs.SERVER] = "roost"
        visitor: Visitor = request[VISITOR]
        # Browsers keep to it for every port of a name, so it is said only where bot.toml promises https for that name,
        # and never on a connection without it (RFC 6797, section 7.2).
        if visitor.secure and self._is_public(visitor.host) and self._public.scheme == "https":
            response.headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
        # A policy cannot name an IPv6 address.
        if _HOST.fullmatch(visitor.host) and not visitor.host.startswith("["):
            # To older Safari, WebSockets of the same origin are not 'self'.
            schemes = ("wss",) if visitor.secure else ("ws", "wss")
            allowed = " ".join(f"{scheme}://{visitor.host}" for scheme in schemes)
            response.headers["Content-Security-Policy"] += f" {allowed}"

    def _is_public(self, host: str) -> bool:
        return host.lower() == self._public.netloc.lower()
