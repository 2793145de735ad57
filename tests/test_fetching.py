from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from roost import addresses
from roost.addresses import Address, is_outside, is_public
from roost.fetching import Fetched, Guard, NotFetched, fetch, inflated

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

INNER = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
OUTER = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("text", INNER)
def test_what_is_somebodys_own_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", OUTER)
def test_what_is_out_on_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_neighbour_at_home_with_a_public_address_is_not_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {ip_address("2a02:a44::5"), ip_address("5.6.7.8"), ip_address("fe80::1")}
    monkeypatch.setattr(addresses, "own_addresses", lambda: own)
    for text in ("2a02:a44::5", "2a02:a44::99", "5.6.7.8"):
        assert is_public(ip_address(text)) and not is_outside(ip_address(text))
    for text in ("2a02:a45::5", "5.6.7.9"):
        assert is_outside(ip_address(text))


def test_this_machines_own_addresses_are_known() -> None:
    assert ip_address("127.0.0.1") in addresses.own_addresses()


class Place:
    """A web server on loopback, which a guard takes for the internet; `came` counts its requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.came: list[web.BaseRequest] = []
        self.names = {"site.test": ["127.0.0.1"]}
        self.asked: list[str] = []

    def guard(self, **fields: Any) -> Guard:
        fields = {"resolve": self.resolve, "public": is_this, "ports": frozenset({self.port})} | fields
        return Guard(**fields)

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.names[host]

    def url(self, path: str = "/", host: str = "site.test") -> str:
        return f"http://{host}:{self.port}{path}"

    async def fetch(self, path: str = "/", **fields: Any) -> Fetched:
        return await fetch(self.url(path), **{"guard": self.guard(), "timeout": 10.0} | fields)


def is_this(address: Address) -> bool:
    return str(address) == "127.0.0.1"


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Place]:
    async def take(request: web.BaseRequest) -> web.StreamResponse:
        place.came.append(request)
        return await answer(request)

    runner = web.ServerRunner(web.Server(take, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    place = Place(runner.addresses[0][1])
    try:
        yield place
    finally:
        await runner.cleanup()


async def page(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="<p>hallo</p>", content_type="text/html")


def moved(to: str, status: int = 302) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return answer


async def test_a_page_is_fetched_without_cookies_or_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(page) as place:
        found = await place.fetch("/a?b=c#d")
        assert (found.url, found.mime, found.text) == (place.url("/a?b=c"), "text/html", "<p>hallo</p>")
        sent = place.came[0].headers
        assert {"Host", "User-Agent"} <= sent.keys()
        assert not sent.keys() & {"Authorization", "Cookie", "Referer", "Proxy-Authorization"}


async def test_without_a_special_guard_nothing_on_this_machine_is_reached() -> None:
    async with serving(page) as place:
        ports = frozenset({place.port})
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost."):
            with pytest.raises(NotFetched):
                await fetch(place.url(host=host), guard=Guard(ports=ports))
        assert place.came == []


ODD = ("2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.0x1", "1")


@pytest.mark.parametrize("host", ODD)
async def test_an_address_written_oddly_is_refused_before_anything_is_asked(host: str) -> None:
    async with serving(page) as place:
        with pytest.raises(NotFetched, match="no host's name"):
            await fetch(place.url(host=host), guard=place.guard())
        assert (place.came, place.asked) == ([], [])


@pytest.mark.parametrize("host", ["１２７.0.0.2", "127。0。0。2", "①②⑦.0.0.2"])
async def test_digits_of_other_scripts_reach_nothing_either(host: str) -> None:
    async with serving(page) as place:
        with pytest.raises(NotFetched):
            await fetch(place.url(host=host), guard=place.guard())
        assert place.came == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "no web address"),
        ("ftp://site.test/a", "no web address"),
        ("gopher://site.test/a", "no web address"),
        ("//site.test/a", "no web address"),
        ("site.test", "no web address"),
        ("http://", "no web address"),
        ("http://[::1", "no web address"),
        ("http://site.test:99999/", "no web address"),
        ("http://ann:secret@site.test/", "Leave them out"),
        ("http://ann@site.test/", "Leave them out"),
        ("http://site.test:22/", "port 22"),
        ("https://site.test:6379/", "port 6379"),
        ("http://site.test/" + "a" * 5000, "no web address"),
    ],
)
async def test_what_is_no_plain_web_address_is_refused(url: str, why: str) -> None:
    async with serving(page) as place:
        with pytest.raises(NotFetched, match=why) as caught:
            await fetch(url, guard=place.guard(ports=frozenset({80, 443})))
        assert "secret" not in str(caught.value)
        assert place.asked == []


async def test_a_name_with_one_address_at_home_is_refused() -> None:
    async with serving(page) as place:
        for inner in ("10.0.0.5", "::1", "169.254.169.254"):
            place.names["site.test"] = ["127.0.0.1", inner]
            with pytest.raises(NotFetched, match="out on the internet"):
                await place.fetch()
        assert place.came == []


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A name that means the internet when it is asked first, and home from then on, reaches home never."""
    async with serving(page) as place:
        answers = iter([["127.0.0.1"], ["10.0.0.5"], ["10.0.0.5"]])

        async def rebind(host: str) -> Sequence[str]:
            place.asked.append(host)
            return next(answers)

        guard = place.guard(resolve=rebind)
        assert (await fetch(place.url(), guard=guard)).text == "<p>hallo</p>"
        assert place.asked == ["site.test"]
        with pytest.raises(NotFetched, match="out on the internet"):
            await fetch(place.url(), guard=guard)


async def test_the_socket_is_the_last_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way an address came in, none is connected to that the guard has not let through."""
    monkeypatch.setattr(Guard, "check", lambda self, url: None)
    async with serving(page) as place:
        guard = place.guard(public=lambda address: False)
        with pytest.raises(NotFetched, match="out on the internet"):
            await fetch(place.url(host="127.0.0.1"), guard=guard)
        assert place.came == []


@pytest.mark.parametrize(
    "to", ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "http://inner.test:{port}/", "http://site.test:22/"]
)
async def test_a_redirect_is_a_new_address(to: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": to.format(port=place.port)})

    async with serving(answer) as place:
        place.names["inner.test"] = ["192.168.1.1"]
        with pytest.raises(NotFetched):
            await place.fetch()
        assert len(place.came) == 1


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://a:b@site.test/", "", "http://[", "data:text/html,x"])
async def test_a_redirect_to_no_web_address_is_refused(to: str) -> None:
    async with serving(moved(to)) as place:
        with pytest.raises(NotFetched):
            await place.fetch()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(status: int) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/old/":
            return web.Response(status=status, headers={"Location": "../new"})
        return await page(request)

    async with serving(answer) as place:
        assert (await place.fetch("/old/")).url == place.url("/new")


async def test_redirects_that_go_in_circles_come_to_an_end() -> None:
    async with serving(moved("/again")) as place:
        with pytest.raises(NotFetched, match="redirected more than 5 times"):
            await place.fetch()
        assert len(place.came) == 6


@pytest.mark.parametrize("length", [None, 3_000_000])
async def test_a_body_without_end_is_cut_off(length: int | None) -> None:
    ended = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.content_length = length
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 1000)
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with serving(answer) as place:
        with pytest.raises(NotFetched, match="more than the 100000 bytes"):
            await place.fetch(max_bytes=100_000)
        async with asyncio.timeout(30):
            await ended.wait()


@pytest.mark.parametrize("headers", [True, False])
async def test_a_server_that_dawdles_is_left(headers: bool) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        if headers:
            await response.prepare(request)
            await response.write(b"x")
        await asyncio.Event().wait()
        return response

    async with serving(answer) as place:
        with pytest.raises(NotFetched, match=r"within 0\.2 seconds"):
            await place.fetch(timeout=0.2)


def packed(data: bytes, coding: str) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=data, content_type="text/plain", headers={"Content-Encoding": coding})

    return answer


async def test_what_is_packed_is_unpacked() -> None:
    text = b"many words " * 9000
    for data, coding in [
        (gzip.compress(text, mtime=0), "gzip"),
        (gzip.compress(text[:500], mtime=0) + gzip.compress(text[500:]), "GZIP"),
        (zlib.compress(text), "deflate"),
        (text, "identity"),
    ]:
        async with serving(packed(data, coding)) as place:
            assert (await place.fetch()).data == text


async def test_a_bomb_does_not_go_off() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 9, mtime=0)
    assert len(bomb) < 100_000
    async with serving(packed(bomb, "gzip")) as place:
        with pytest.raises(NotFetched, match="more than the 100000 bytes"):
            await place.fetch(max_bytes=100_000)


async def test_no_more_is_unpacked_at_once_than_is_taken() -> None:
    class Body:
        async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
            yield gzip.compress(b"\0" * 5_000_000, 9, mtime=0)

    content: Any = Body()
    pieces = [len(piece) async for piece in inflated(content, 10_000)]
    assert max(pieces) == 10_000 and sum(pieces) == 5_000_000


@pytest.mark.parametrize(
    ("data", "coding", "why"),
    [
        (b"no gzip at all", "gzip", "unpacked"),
        (gzip.compress(b"x" * 9000, mtime=0)[:-9], "gzip", "broke off"),
        (b"x", "br", "not asked for"),
        (b"x", "gzip, gzip", "not asked for"),
        (b"\x7fELF and so on", "identity", "something else"),
    ],
)
async def test_what_is_packed_wrongly_is_refused(data: bytes, coding: str, why: str) -> None:
    async with serving(packed(data, coding)) as place:
        with pytest.raises(NotFetched, match=why):
            await place.fetch()


async def test_only_the_kinds_that_are_wanted_are_taken() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"\x89PNG", content_type="image/png")

    async with serving(answer) as place:
        with pytest.raises(NotFetched, match="image/png"):
            await place.fetch()
        assert (await place.fetch(kinds=["image/*"])).data == b"\x89PNG"


async def test_an_error_is_a_sentence() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404)

    async with serving(answer) as place:
        with pytest.raises(NotFetched, match="status 404"):
            await place.fetch("/a?token=secret")
        with pytest.raises(NotFetched, match=r"no host 'nowhere\.test'"):
            await fetch(place.url(host="nowhere.test"), guard=place.guard())
        place.names["site.test"] = []
        with pytest.raises(NotFetched, match="no host"):
            await place.fetch()


async def test_a_connection_that_is_refused_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        guard = Guard(public=is_this, ports=frozenset({taken.getsockname()[1]}))
        with pytest.raises(NotFetched, match="cannot be fetched"):
            await fetch(str(URL.build(scheme="http", host="127.0.0.1", port=taken.getsockname()[1])), guard=guard)


def test_a_text_of_an_unknown_charset_is_read_all_the_same() -> None:
    assert Fetched("", "text/plain", b"a\xff", "klingon").text == "a�"
