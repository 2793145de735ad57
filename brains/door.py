"""Who may use a served model: keys from the environment or a file, and no strange pages in the owner's browser."""

from __future__ import annotations

import hmac
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from roost.errors import ConfigError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A load balancer asks without a key, and is told no more than yes or no.
OPEN = frozenset({"/health", "/v1/health"})


class Keys:
    """Keys that let somebody in: those given, and one a line of a file that is read again when it changes."""

    def __init__(self, given: str, file: Path | None = None) -> None:
        self.given = frozenset(given.replace(",", " ").split())
        self.file = file
        self._stamp: tuple[int, int] | None = None
        self._read: frozenset[str] = frozenset()
        if file is not None and not self._of_file():
            raise ConfigError(f"The key file '{file}' has no keys. Write one a line into it.")

    def __bool__(self) -> bool:
        return bool(self.given) or self.file is not None

    def allow(self, key: str) -> bool:
        """Takes the same time for every wrong key."""
        said = key.encode(errors="surrogateescape")
        return sum(hmac.compare_digest(said, one.encode()) for one in self.given | self._of_file()) > 0

    def _of_file(self) -> frozenset[str]:
        """The keys in the file now. One that has gone lets nobody in."""
        if self.file is None:
            return frozenset()
        try:
            state = self.file.stat()
            if self._stamp != (state.st_mtime_ns, state.st_size):
                self._read = frozenset(keys_in(self.file))
                self._stamp = (state.st_mtime_ns, state.st_size)
                self._warn(state)
        except (OSError, UnicodeDecodeError) as error:
            if self._stamp is None:
                raise ConfigError(f"The key file '{self.file}' cannot be read: {error}.") from error
            self._read, self._stamp = frozenset(), (0, 0)
        return self._read

    def _warn(self, state: os.stat_result) -> None:
        if os.name == "posix" and state.st_mode & 0o077:
            print(f"Others on this machine can read '{self.file}': chmod 600 it.", file=sys.stderr)


def keys_in(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def given_key(request: web.Request) -> str:
    """As OpenAI's clients send it, or as Anthropic's do."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else request.headers.get("X-Api-Key", "")


def problem(status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> web.Response:
    """An error in OpenAI's form. https://platform.openai.com/docs/guides/error-codes"""
    error = {"message": message, "type": kind, "param": None, "code": code}
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(status)
    return web.json_response({"error": error}, status=status, headers=headers)


def own_host(request: web.Request) -> bool:
    """Whether the page or program means this machine by name: a name that leads here by a trick is another one."""
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname in LOOPBACK
    except ValueError:
        return False


def guard(keys: Keys) -> Middleware:
    """Lets through who has a key. Without keys, who is a program on this machine."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Origin") and not keys.allow(given_key(request)):
            return problem(403, "Pages in a browser need a key to use this server.", "permission_error")
        if request.path in OPEN:
            return await handler(request)
        if keys and not keys.allow(given_key(request)):
            message = "This server needs a key: send one that it knows as 'Authorization: Bearer KEY'."
            return problem(401, message, "authentication_error", "invalid_api_key")
        if not keys and not own_host(request):
            return problem(403, "Without a key, this server answers to 'localhost' only.", "permission_error")
        return await handler(request)

    return check
