"""What is refused too often is refused with 429, and whoever proves to be somebody is never held up by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from face import FORM, HOOK, OPEN, PAGE, TOKEN, connect, leave, serving, signature, status

from roost.contracts import Route, unsigned
from roost.web import Web
from roost.web_limits import ADDRESSES, BURST, FORGED, RATE, Toll

MANY = 3 * int(BURST)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("roost.pace.time.monotonic", clock)
    return clock


# ------------------------------------------------------------------------------------------ the table


def test_an_address_has_a_burst_and_then_waits_for_as_long_as_it_is_told(clock: Clock) -> None:
    toll = Toll()
    assert [toll.spend("192.0.2.1") for _ in range(int(BURST))] == [0] * int(BURST)
    wait = toll.spend("192.0.2.1")
    assert wait > 0
    assert toll.spend("192.0.2.2") == 0
    clock.now += wait
    assert toll.spend("192.0.2.1") == 0


def test_being_refused_costs_nothing_more(clock: Clock) -> None:
    toll = Toll()
    waits = [toll.spend("192.0.2.1", FORGED) for _ in range(1000)]
    assert waits.count(0) == BURST // FORGED
    clock.now += waits[-1]
    assert toll.spend("192.0.2.1", FORGED) == 0


def test_addresses_of_one_ipv6_subscriber_spend_together(clock: Clock) -> None:
    toll = Toll()
    waits = [toll.spend(f"2001:db8::{number:x}") for number in range(1, MANY)]
    assert waits.count(0) == BURST
    assert toll.spend("2001:db8:0:1::1") == 0


def test_the_table_is_bounded_and_the_address_unseen_for_longest_makes_room(clock: Clock) -> None:
    toll = Toll()
    while not toll.spend("192.0.2.1"):
        pass
    for number in range(ADDRESSES + 50):
        toll.spend(f"10.0.{number // 256}.{number % 256}")
        assert toll.spend("192.0.2.1") > 0, "whoever goes on is not forgotten"
    assert len(toll) == ADDRESSES


# ------------------------------------------------------------------------------------------ over the wire


async def flood(session: aiohttp.ClientSession, face: Web, method: str, path: str, **options: Any) -> list[int]:
    """Ask until it is refused with 429; everything that was answered."""
    seen: list[int] = []
    for _ in range(MANY):
        seen.append(await status(session, face, method, path, **options))
        if seen[-1] == 429:
            return seen
    return seen


FLOODS: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("forged posts", "POST", "/hooks/a", {"data": b"x", "headers": {"X-Signature": "wrong"}}, 401),
    ("no such path", "GET", "/nothing", {}, 404),
    ("no such method", "POST", "/open", {}, 405),
    ("no such name", "GET", "/open", {"headers": {"Host": "evil.example"}}, 421),
    ("pages", "GET", "/", {}, 401),
    ("pages that lead to the login", "GET", "/", {"headers": {"Accept": "text/html"}}, 303),
    ("forms of other sites", "POST", "/form", {"headers": {"Origin": "https://evil.example"}}, 403),
    ("the login page", "GET", "/login", {}, 200),
    ("what an open route does not have", "GET", "/files/x", {}, 404),
]


async def nothing(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


FILES = Route("GET", "/files/{name}", nothing, unsigned)


@pytest.mark.parametrize(
    ("method", "path", "options", "before"), [one[1:] for one in FLOODS], ids=[one[0] for one in FLOODS]
)
async def test_whoever_proves_to_be_nobody_is_refused_with_429_and_told_how_long(
    method: str, path: str, options: dict[str, Any], before: int, session: aiohttp.ClientSession
) -> None:
    async with serving(HOOK, OPEN, PAGE, FORM, FILES, token=TOKEN) as face:
        seen = await flood(session, face, method, path, **options)
        assert set(seen) == {before, 429} and len(seen) > 10
        async with session.request(method, face.address + path, allow_redirects=False, **options) as answer:
            if answer.status == 429:  # on a slow machine there may be one more by now
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.headers["Connection"] == "close"


async def test_forged_posts_cost_more_than_anything_else(session: aiohttp.ClientSession) -> None:
    async with serving(HOOK, token=TOKEN) as face:
        forged = await flood(session, face, "POST", "/hooks/a", data=b"x")
    async with serving(HOOK, token=TOKEN) as face:
        missing = await flood(session, face, "GET", "/nothing")
    assert len(forged) * 2 < len(missing)


async def test_a_burst_of_signed_posts_is_taken_whole_also_from_an_address_that_forges(
    session: aiohttp.ClientSession,
) -> None:
    """Anybody can have a platform post to a stranger's webhook, from the addresses of the true posts."""
    headers = signature(b"hello")
    async with (
        serving(HOOK, token=TOKEN) as face,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as provider,
    ):
        assert (await flood(session, face, "POST", "/hooks/a", data=b"x"))[-1] == 429
        posts = [status(provider, face, "POST", "/hooks/a", data=b"hello", headers=headers) for _ in range(1000)]
        assert set(await asyncio.gather(*posts)) == {200}


async def test_a_session_and_a_health_check_are_not_held_up_by_a_neighbour(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.web_limits.RATE", 1e-6)  # nothing comes back, however long a request takes
    async with serving(PAGE, OPEN, token=TOKEN) as face, aiohttp.ClientSession() as stranger:
        headers = {"Origin": face.address}
        assert await status(session, face, "POST", "/login", data={"token": TOKEN}, headers=headers) == 303
        assert (await flood(stranger, face, "GET", "/nothing"))[-1] == 429
        assert await status(stranger, face, "GET", "/") == 429
        assert await status(session, face, "GET", "/") == 200
        assert await status(stranger, face, "GET", "/health") == 200


async def test_an_error_of_a_proven_request_is_not_held_against_anybody(session: aiohttp.ClientSession) -> None:
    refusing = Route("POST", "/busy", nothing, HOOK.verify)
    async with serving(refusing, token=TOKEN) as face:
        seen = await flood(session, face, "POST", "/busy", data=b"hello", headers=signature(b"hello"))
        assert set(seen) == {404}


async def test_too_many_from_one_visitor_of_a_proxy_are_not_held_against_the_others(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(token=TOKEN, trusted_proxies=["127.0.0.1"]) as face:
        seen = await flood(session, face, "GET", "/nothing", headers={"X-Forwarded-For": "198.51.100.7"})
        assert seen[-1] == 429
        assert await status(session, face, "GET", "/nothing", headers={"X-Forwarded-For": "198.51.100.8"}) == 404


async def test_the_body_of_a_stranger_is_not_waited_for_where_people_are_let_in() -> None:
    async with serving(FORM, token=TOKEN) as face:
        reader, writer = await connect(face)
        head = "POST /form HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode())
        assert b" 401 " in await asyncio.wait_for(reader.readline(), 30)
        await leave(writer)


def test_the_rate_lets_a_person_who_reloads_a_page_through() -> None:
    assert RATE >= 1 and BURST >= 60
