"""Requests as bytes on a socket, right ones and those that no client makes."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator, Sequence
from random import Random

from fuzz.mutations import TEXTS

LIMIT = 20.0  # seconds for an answer, however slow the machine
MB = 1024 * 1024
Headers = Sequence[tuple[str, str | bytes]]
METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "PRI", "P\x00ST", "")
TYPES = (
    *("", "application/json; charset=nonsense", "text/plain; charset=utf-7", "text/plain; charset=utf-16"),
    *(
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded; charset=idna",
        "application/json",
        ";",
        "a",
    ),
    *("application/json; charset=base64", "application/x-www-form-urlencoded", "text/plain; charset=undefined"),
)
VALUES = (
    "",
    " ",
    "x" * 7000,
    "0",
    "-1",
    "9" * 400,
    "é",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "a, b",
    "v1,",
    "v0=",
    "null",
    "=",
    "\t",
)


def written(method: str, path: str, headers: Headers, body: bytes, length: bool = True) -> bytes:
    head = b"%s %s HTTP/1.1\r\n" % (method.encode(), path.encode("utf-8", "surrogateescape"))
    lines = [*headers, *([("Content-Length", str(len(body)))] if length else []), ("Connection", "close")]
    for name, value in lines:
        head += name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return head + b"\r\n" + body


async def ask(port: int, request: bytes, whole: bool = True) -> int:
    """The status of the answer; 0 when the connection is closed without one. TimeoutError when nothing comes.

    `whole` is False for a request after which the server may wait for more: it is told that there is none.
    """
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            if not whole:
                writer.write_eof()
            line = await reader.readline()
            await reader.read()
        except ConnectionError:
            line = b""  # it was closed before all was said
        finally:
            writer.transport.abort()
    return int(line.split(b" ")[1]) if line.startswith(b"HTTP/1.") else 0


def chunked(body: bytes, size: int = 100) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def bad_chunks() -> Iterator[bytes]:
    for size in (b"FFFFFFFFFFFFFFFF", b"-1", b"x", b"", b"0x10", b"1" * 5000, b"5;" + b"a" * 70_000, b"5\n"):
        yield size + b"\r\nhello\r\n0\r\n\r\n"
    yield b"5\r\nhello0\r\n\r\n"
    yield b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"
    yield b"1\r\na\r\n" * 30_000


def bodies() -> Iterator[bytes]:
    """What is no update of anybody's, of every size."""
    yield from (b"", b" ", b"\0", b"null", b"[]", b"{}", b'""', b"NaN", b"1e999", b"-", b"[" * 100_000, b"{" * 100)
    yield from (
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"[" * 900 + b"]" * 900,
        b"9" * 5000,
        b'{"update_id":' + b"9" * 5000 + b"}",
    )
    yield from (
        "é".encode("utf-16"),
        "é".encode("latin-1"),
        b"\xff" * 100,
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b"%ff%zz&=&&;=",
    )
    yield from (
        b"a=1&" * 999 + b"b=2",
        b"a=1&" * 5000,
        b'{"' + b"a" * 500_000 + b'": 1}',
        b"[" + b"1," * 400_000 + b"1]",
    )
    yield from (b" " * MB, b" " * (MB + 1), b'"' + b"x" * (2 * MB))
    yield from (text.encode("utf-8", "surrogatepass") for text in TEXTS)


def bombs(size: int = 100 * MB) -> list[tuple[str, bytes]]:
    """Little that becomes much: what the header says, and the body."""
    whole = gzip.compress(bytes(MB), 9)
    small, flat = zlib.compressobj(9, zlib.DEFLATED, 31), zlib.compressobj(9)
    streams = [b"".join([*(one.compress(bytes(MB)) for _ in range(size // MB)), one.flush()]) for one in (small, flat)]
    members = whole * (size // MB)
    return [("gzip", members), ("gzip", streams[0]), ("deflate", streams[1]), ("gzip, gzip", gzip.compress(members))]


def odd(host: str, path: str, body: bytes) -> Iterator[bytes]:
    """Requests whose framing is wrong; with a right body, should anything let it through."""
    length = str(len(body))
    ours = ("Host", host)
    for more in (
        [("Content-Length", length), ("Content-Length", "5")],
        [("Content-Length", length), ("Transfer-Encoding", "chunked")],
        *([("Content-Length", wrong)] for wrong in ("-5", "+5", "0x5", "1_0", "9" * 30, "", "5 5")),
        *(
            [("Transfer-Encoding", wrong)]
            for wrong in ("chunked, identity", "xchunked", "\x0bchunked", "gzip, chunked")
        ),
        [("Content-Length", "999999")],
        [("Expect", "100-continue"), ("Content-Length", length)],
        [("Expect", "nonsense"), ("Content-Length", length)],
        [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Content-Length", length)],
        [("X", "y" * 100_000)],
        [(f"X-{number}", "y") for number in range(3000)],
        [("X y", "z")],
        [("", "z")],
        [("X", b"\x00")],
    ):
        yield written("POST", path, [ours, *more], body, length=False)
    for hosts in ([], [ours, ours], [("Host", "")], [("Host", "a b")], [("Host", "[::1")], [("Host", "x" * 5000)]):
        yield written("POST", path, hosts, body)
    for line in (
        b"POST %s",
        b"POST %s HTTP/9.9",
        b"POST  %s HTTP/1.1",
        b"POST %s HTTP/1.0\r\nHost:",
        b"POST http://[%s HTTP/1.1",
    ):
        yield line % path.encode() + b"\r\n\r\n" + body
    yield from (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n\r\n", b"", b"A" * 100_000)


def header(random: Random) -> tuple[str, str | bytes]:
    names = (
        "Accept",
        "Cookie",
        "Origin",
        "Forwarded",
        "X-Forwarded-For",
        "Range",
        "If-Match",
        "Content-Language",
        "Via",
    )
    return random.choice(names), random.choice(VALUES)
