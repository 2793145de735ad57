"""Fetch what a person or a model names by an address, and nothing that is not out on the internet.

Every address that a name stands for is looked at, and the connection goes to the very address that was looked at: a
name that means something else a moment later (DNS rebinding) reaches nothing. Redirects are new addresses. No cookies,
no credentials, no proxy: a proxy would look the name up again, where nobody can see to what.
"""

from __future__ import annotations

import asyncio
import re
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from roost.addresses import Address, is_outside, read_address
from roost.errors import RoostError

PORTS = frozenset({80, 443, 8080, 8443})
REDIRECTS = 5
LONGEST = 4096  # characters of an address
CHUNK = 65536
PAGES = ("text/*", "application/json", "application/xhtml+xml", "application/xml")
# A last part such as 1, 0x7f or 017 makes a host an address to some readers and a name to others.
NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
# How files begin that are no text, whatever their server says.
BINARY = (b"\x7fELF", b"MZ", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG", b"GIF8", b"\xff\xd8", b"%PDF", b"OggS", b"RIFF")

Resolve = Callable[[str], Awaitable[Sequence[str]]]


class NotFetched(RoostError):
    """Something was not fetched; the text says why, in words for whoever asked."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from `url`, the last one after redirects. `mime` is in lower case, without parameters."""

    url: str
    mime: str
    data: bytes
    charset: str = ""

    @property
    def text(self) -> str:
        try:
            return self.data.decode(self.charset or "utf-8", "replace")
        except LookupError:
            return self.data.decode("utf-8", "replace")


async def lookup(host: str) -> Sequence[str]:
    """The addresses of a name, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Guard:
    """Says what may be reached. `public` judges an address, `resolve` gives those of a name."""

    def __init__(
        self,
        resolve: Resolve = lookup,
        public: Callable[[Address], bool] = is_outside,
        ports: frozenset[int] = PORTS,
    ) -> None:
        self.resolve = resolve
        self.public = public
        self.ports = ports

    def check(self, url: URL) -> None:
        """Raises NotFetched for an address that must not be fetched, as far as one can tell by looking at it."""
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise NotFetched(f"'{shown(url)}' is no web address. Only http:// and https:// are fetched.")
        if url.raw_user is not None or url.raw_password is not None:
            raise NotFetched(f"'{shown(url)}' holds a user name or a password. Leave them out.")
        if url.port not in self.ports:
            raise NotFetched(f"'{shown(url)}' has port {url.port}. Only {listed(self.ports)} are fetched from.")
        host = url.raw_host.rstrip(".")
        literal = read_address(host)
        if literal is not None:
            self.judge(literal, host)
        elif NUMBER.fullmatch(host.rpartition(".")[2]):
            raise NotFetched(f"'{host}' is no host's name, and no address as addresses are written.")

    def judge(self, address: Address, host: str) -> None:
        """Raises NotFetched for an address that is not out on the internet."""
        if not self.public(address):
            raise NotFetched(f"'{host}' is no place out on the internet, so it is not fetched.")

    async def addresses(self, host: str) -> list[Address]:
        """All addresses of a name. Raises NotFetched when one of them must not be reached."""
        try:
            found = [read_address(one) for one in await self.resolve(host)]
        except (OSError, UnicodeError) as error:
            raise NotFetched(f"There is no host '{host}'.") from error
        addresses = list(dict.fromkeys(one for one in found if one is not None))
        if not addresses or None in found:
            raise NotFetched(f"There is no host '{host}'.")
        for address in addresses:
            self.judge(address, host)
        return addresses


class Looked(AbstractResolver):
    """Gives aiohttp the addresses that were looked at; it connects to these and asks nobody else."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.addresses(host)
        ]

    async def close(self) -> None:
        pass


GUARD = Guard()


async def fetch(
    url: str,
    *,
    max_bytes: int = 2_000_000,
    timeout: float = 20.0,  # noqa: ASYNC109
    kinds: Sequence[str] = PAGES,
    guard: Guard = GUARD,
) -> Fetched:
    """Fetch a web address, redirects followed. Raises NotFetched.

    `max_bytes` bounds what comes over the wire and what it unpacks to, `timeout` is seconds for all of it, `kinds`
    are the media types that are taken, such as "image/*".
    """
    try:
        async with asyncio.timeout(timeout):
            return await Errand(guard, max_bytes, kinds).run(read_url(url))
    except TimeoutError:
        raise NotFetched(f"'{shown(url)}' did not come within {timeout:g} seconds.") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotFetched(f"'{shown(url)}' cannot be fetched: {error or type(error).__name__}.") from error


def read_url(text: str, base: URL | None = None) -> URL:
    """An address, from `base` on where it is not a whole one. Raises NotFetched."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        url = URL(text.strip())
        return (base.join(url) if base is not None else url).with_fragment(None)
    except (ValueError, TypeError):
        raise NotFetched(f"'{shown(text)}' is no web address.") from None


class Errand:
    """One fetch, from the first address to the last."""

    def __init__(self, guard: Guard, max_bytes: int, kinds: Sequence[str]) -> None:
        self._guard = guard
        self._most = max_bytes
        self._kinds = kinds

    async def run(self, url: URL) -> Fetched:
        def opened(info: Any) -> socket.socket:
            # Literal addresses come this way without being looked up.
            address = read_address(str(info[4][0]))
            if address is None:
                raise OSError(f"'{info[4][0]}' is no address")
            self._guard.judge(address, str(address))
            return socket.socket(info[0], info[1], info[2])

        connector = aiohttp.TCPConnector(
            resolver=Looked(self._guard), use_dns_cache=False, force_close=True, socket_factory=opened
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "roost", "Accept-Encoding": "gzip", "Accept": accepted(self._kinds)},
        ) as session:
            return await self._follow(session, url)

    async def _follow(self, session: aiohttp.ClientSession, url: URL) -> Fetched:
        for _ in range(REDIRECTS + 1):
            self._guard.check(url)
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status not in {301, 302, 303, 307, 308}:
                    return await self._take(answer)
                url = read_url(answer.headers.get("Location", ""), url)
        raise NotFetched(f"'{shown(url)}' was redirected more than {REDIRECTS} times.")

    async def _take(self, answer: aiohttp.ClientResponse) -> Fetched:
        where = shown(answer.url)
        if answer.status != 200:
            raise NotFetched(f"'{where}' answered with status {answer.status}.")
        mime = answer.content_type.lower()
        if not any(fnmatchcase(mime, kind) for kind in self._kinds):
            raise NotFetched(f"'{where}' is of the type '{mime[:80]}', which is not taken here.")
        if (answer.content_length or 0) > self._most:
            raise self._too_large(where)
        data = bytearray()
        async for piece in unpacked(answer, self._most + 1):
            data += piece
            if len(data) > self._most:
                raise self._too_large(where)
        if not sound(mime, data):
            raise NotFetched(f"'{where}' says that it is '{mime[:80]}', and is something else.")
        return Fetched(str(answer.url), mime, bytes(data), answer.charset or "")

    def _too_large(self, where: str) -> NotFetched:
        return NotFetched(f"'{where}' has more than the {self._most} bytes that are taken.")


async def unpacked(answer: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
    """The body as it was before it was packed, in pieces of at most `most` bytes. Raises NotFetched."""
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in {"identity", ""}:
        async for chunk in answer.content.iter_chunked(min(CHUNK, most)):
            yield chunk
    elif coding in {"gzip", "x-gzip", "deflate"}:
        async for piece in inflated(answer.content, most):
            yield piece
    else:
        raise NotFetched(f"'{shown(answer.url)}' is packed as '{coding[:40]}', which was not asked for.")


async def inflated(content: aiohttp.StreamReader, most: int) -> AsyncIterator[bytes]:
    """Unpack gzip, of several members too, or zlib. Never more than `most` bytes are unpacked at once."""
    packed = 0
    reader = zlib.decompressobj(wbits=47)
    try:
        async for chunk in content.iter_chunked(CHUNK):
            packed += len(chunk)
            if packed > most:
                raise NotFetched("It is longer packed than it may be unpacked.")
            left = chunk
            while left:
                yield reader.decompress(left, most)
                left = reader.unused_data if reader.eof else reader.unconsumed_tail
                if reader.eof and left:
                    reader = zlib.decompressobj(wbits=47)
    except zlib.error as error:
        raise NotFetched("What came cannot be unpacked.") from error
    if packed and not reader.eof:
        raise NotFetched("What came broke off.")


def sound(mime: str, data: bytes | bytearray) -> bool:
    """Whether what says that it is text may be."""
    return not mime.startswith("text/") or not bytes(data[:8]).startswith(BINARY)


def accepted(kinds: Sequence[str]) -> str:
    return ", ".join(kinds)


def listed(ports: frozenset[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))


def shown(url: URL | str) -> str:
    """An address short enough for a sentence, without what may be secret in it."""
    text = re.sub(r"//[^/@]*@", "//…@", str(url)).partition("?")[0]
    return text if len(text) <= 100 else text[:99] + "…"
