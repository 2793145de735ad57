"""Slow visitors, and many of them: what waits for ever is ended, and a crowd leaves room for the others."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certificates import certificate, keys
from face import HOOK, OPEN, connect, leave, serving, signature, status

from roost.contracts import Route, unsigned
from roost.web import Web
from roost.web_connections import LINGERING, TOTAL, Connection, Connections, open_files

HEAD = "roost.web_connections.HEAD_SECONDS"
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def lines(face: Web, count: int) -> AsyncIterator[list[Line]]:
    """Bare connections that say nothing yet, all of them accepted."""
    crowd = face._connections
    assert crowd is not None
    expected = len(crowd) + count
    opened = [await connect(face) for _ in range(count)]
    try:
        async with asyncio.timeout(15):
            while len(crowd) < min(expected, crowd._total):
                await asyncio.sleep(0)
        yield opened
    finally:
        for _, writer in opened:
            await leave(writer)


async def is_over(line: Line) -> bool:
    """Whether the other side ended it. Waits for that."""
    try:
        return await asyncio.wait_for(line[0].read(1), 15) == b""
    except ConnectionError:
        return True


async def ask(line: Line, request: bytes = b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n") -> bytes:
    reader, writer = line
    writer.write(request)
    return await asyncio.wait_for(reader.readline(), 15)


# ------------------------------------------------------------------------------------------ slow


@pytest.mark.parametrize("begun", [b"", b"GET /open HT", b"GET /open HTTP/1.1\r\nHost: localhost\r\nX: "])
async def test_a_head_that_does_not_come_is_not_waited_for_forever(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HEAD, 0.05)
    async with serving(OPEN) as face, lines(face, 1) as (line,):
        line[1].write(begun)
        assert await is_over(line)


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HEAD, 0.2)

    async def drip(writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async with serving(OPEN) as face, lines(face, 1) as (line,):
        line[1].write(b"GET /open HTTP/1.1\r\nX: ")
        dripping = asyncio.create_task(drip(line[1]))
        assert await is_over(line)
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_the_second_head_of_a_connection_is_waited_for_no_longer_than_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(OPEN) as face, lines(face, 1) as (line,):
        request = b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert b" 200 " in await ask(line, request)
        monkeypatch.setattr(HEAD, 0.05)
        line[1].write(request[:10])
        async with asyncio.timeout(15):
            await line[0].readuntil(b"hello {} ")
            assert await is_over(line)


async def test_an_answer_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HEAD, 2.0)

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2.5)
        return web.Response()

    async def chat(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for frame in ws:
            await ws.send_str(frame.data)
        return ws

    routes = (Route("POST", "/slow", slow, unsigned), Route("GET", "/ws", chat, unsigned))
    async with serving(*routes) as face, aiohttp.ClientSession() as session:
        assert await status(session, face, "POST", "/slow", data=b"x" * 100_000) == 200
        ws = await session.ws_connect(f"{face.address}/ws")
        for _ in range(3):
            await asyncio.sleep(0.8)
            await ws.send_str("still here")
            assert (await ws.receive(10)).data == "still here"
        await ws.close()


async def test_a_connection_between_two_requests_is_kept_for_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HEAD, 2.0)
    async with serving(OPEN) as face, lines(face, 1) as (line,):
        assert b" 200 " in await ask(line)
        await line[0].readuntil(b"hello {} ")
        await asyncio.sleep(2.5)
        assert b" 200 " in await ask(line)


async def test_a_connection_between_two_requests_is_not_kept_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.web.KEEP_ALIVE", 0.05)
    async with serving(OPEN) as face, lines(face, 1) as (line,):
        assert b" 200 " in await ask(line)
        await line[0].readuntil(b"hello {} ")
        assert await is_over(line)


async def test_whoever_does_not_read_what_was_asked_for_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.web_connections.WRITE_SECONDS", 0.05)

    async def much(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 64_000_000)

    async with serving(Route("GET", "/open", much, unsigned)) as face:
        with socket.create_connection(("127.0.0.1", int(face.address.rpartition(":")[2]))) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n")
            crowd = face._connections
            assert crowd is not None
            async with asyncio.timeout(15):
                while not len(crowd):
                    await asyncio.sleep(0)
                while len(crowd):
                    await asyncio.sleep(0.01)


async def test_whoever_reads_slowly_gets_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.web_connections.WRITE_SECONDS", 5.0)

    async def much(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 16_000_000)

    async with serving(Route("GET", "/open", much, unsigned)) as face, aiohttp.ClientSession() as session:
        async with session.get(f"{face.address}/open") as answer:
            assert len(await answer.read()) == 16_000_000
        assert face._connections is not None
        assert all(one._stuck is None for one in face._connections._all)


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"])
async def test_a_handshake_that_does_not_come_is_not_waited_for_forever(
    begun: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HEAD, 0.05)
    certificate(tmp_path)
    async with serving(OPEN, **keys(tmp_path)) as face, lines(face, 1) as (line,):
        line[1].write(begun)
        assert await is_over(line)


# ------------------------------------------------------------------------------------------ many


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr("roost.web_connections.TOTAL", 8)
    yield 8


async def test_when_all_is_taken_the_one_that_waits_for_longest_makes_room(few: int) -> None:
    async with serving(OPEN) as face, lines(face, few) as crowd, lines(face, 1) as (late,):
        assert b" 200 " in await ask(late)
        assert await is_over(crowd[0])
        assert b" 200 " in await ask(crowd[1])
        assert face._connections is not None
        assert len(face._connections) == few


async def test_handshakes_count_as_well(few: int, tmp_path: Path) -> None:
    certificate(tmp_path)
    async with serving(OPEN, **keys(tmp_path)) as face, lines(face, few) as crowd, lines(face, 1):
        assert await is_over(crowd[0])


async def test_what_is_proven_stays_and_when_all_is_proven_a_newcomer_goes(few: int) -> None:
    body = b"hello"
    head = f"POST /hooks/a HTTP/1.1\r\nHost: localhost\r\nX-Signature: {signature(body)['X-Signature']}\r\n"
    post = head.encode() + b"Content-Length: 5\r\n\r\n" + body
    async with serving(HOOK, OPEN) as face, lines(face, few) as crowd:
        for line in crowd:
            assert b" 200 " in await ask(line, post)
        async with lines(face, 1) as (late,):
            assert await is_over(late)
        for reader, _ in crowd:
            await reader.readuntil(b"hello")
        assert b" 200 " in await ask(crowd[0], post)


async def test_an_unsigned_request_proves_nothing(few: int) -> None:
    async with serving(OPEN) as face, lines(face, few) as crowd:
        for line in crowd:
            assert b" 200 " in await ask(line)
        async with lines(face, 1):
            await crowd[0][0].readuntil(b"hello {} ")
            assert await is_over(crowd[0])


class Wire(asyncio.Transport):
    """A connection from any address, as far as the crowd looks at it."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Crowd:
    """Connections from addresses that a test has not got."""

    def __init__(self, shared: str = "") -> None:
        self.all = Connections(asyncio.Protocol, lambda address: address == shared)

    def come(self, address: str, since: float = 0.0) -> Wire:
        line, wire = Connection(self.all), Wire(address)
        line.since += since
        line.connection_made(wire)
        return wire


async def test_room_is_made_by_the_address_with_most_connections(few: int) -> None:
    crowd = Crowd()
    others = [crowd.come(f"192.0.2.{number}") for number in range(3)]
    greedy = [crowd.come("198.51.100.7") for _ in range(few - 3)]
    more = [crowd.come("198.51.100.7") for _ in range(3)]
    assert crowd.come("203.0.113.1").aborted is False
    assert [one.aborted for one in [*others, *greedy, *more]] == [False] * 3 + [True] * 4 + [False] * 4
    await crowd.all.close()


async def test_of_one_address_only_so_many_may_linger_and_a_burst_may_be_larger() -> None:
    crowd = Crowd()
    burst = [crowd.come("198.51.100.7") for _ in range(2 * LINGERING)]
    assert not any(one.aborted for one in burst)
    assert not crowd.come("198.51.100.8", since=3600).aborted
    crowd.come("198.51.100.7", since=3600)
    assert [one.aborted for one in burst[:2]] == [True, False]
    await crowd.all.close()


async def test_addresses_of_one_ipv6_subscriber_linger_together() -> None:
    crowd = Crowd()
    burst = [crowd.come(f"2001:db8::{number:x}") for number in range(LINGERING)]
    crowd.come("2001:db8::ffff", since=3600)
    assert burst[0].aborted
    await crowd.all.close()


async def test_the_connections_of_a_proxy_may_linger() -> None:
    crowd = Crowd(shared="198.51.100.7")
    burst = [crowd.come("198.51.100.7") for _ in range(LINGERING)]
    crowd.come("198.51.100.7", since=3600)
    assert not any(one.aborted for one in burst)
    await crowd.all.close()


async def test_a_tunnel_and_a_trusted_proxy_are_shared_addresses() -> None:
    async with serving(trusted_proxies=["192.0.2.0/24"]) as face:
        assert [face._is_shared(one) for one in ("127.0.0.1", "::1", "192.0.2.9", "198.51.100.7")] == [
            True,
            True,
            True,
            False,
        ]


async def test_files_are_left_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_files() > 0
    monkeypatch.setattr("roost.web_connections.open_files", lambda: 256)
    assert Connections(asyncio.Protocol, lambda address: False)._total == 128
    monkeypatch.setattr("roost.web_connections.open_files", lambda: 10**9)
    assert Connections(asyncio.Protocol, lambda address: False)._total == TOTAL


async def test_nothing_of_a_connection_is_kept_when_it_is_over() -> None:
    async with serving(OPEN, HOOK) as face:
        async with aiohttp.ClientSession() as session:
            for path in ("/open", "/nothing"):
                assert await status(session, face, "GET", path) in (200, 404)
            post: dict[str, Any] = {"data": b"hello", "headers": signature(b"hello")}
            assert await status(session, face, "POST", "/hooks/a", **post) == 200
        crowd = face._connections
        assert crowd is not None
        async with asyncio.timeout(15):
            while len(crowd):
                await asyncio.sleep(0)
        assert (crowd._unproven, crowd._carried) == ({}, {})


async def test_cutting_off_writes_nothing_to_the_log(few: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(OPEN) as face, lines(face, few) as crowd, lines(face, few):
            for line in crowd:
                assert await is_over(line)
    assert caplog.records == []


# ------------------------------------------------------------------------------------------ packed


async def test_what_is_packed_stays_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is over the bytes that were sent, and what is small may become large."""

    async def length(request: web.Request) -> web.StreamResponse:
        return web.Response(text=str(len(await request.read())))

    async with serving(Route("POST", "/hook", length, unsigned)) as face, aiohttp.ClientSession() as session:
        packed = b"\x1f\x8b\x08\x00" + b"\x00" * 16
        headers = {"Content-Encoding": "gzip"}
        async with session.post(f"{face.address}/hook", data=packed, headers=headers) as answer:
            assert await answer.text() == str(len(packed))
