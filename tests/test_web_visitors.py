"""Who a visitor is: what a proxy says counts when bot.toml names it, and then only the part that it wrote itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from face import FORM, OPEN, PAGE, PUBLIC, TELL, TOKEN, serving, status
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from roost.errors import ConfigError
from roost.settings import WebTable
from roost.web import Web
from roost.web_visitors import Proxies, Visitor, source, wide

PROXY = "127.0.0.1"
NAME = "bot.example.org"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


def look(*headers: tuple[str, str], trusted: tuple[str, ...] = ("10.0.0.0/8",), peer: str = "10.0.0.1") -> Visitor:
    """The visitor of a request with such headers, from such a peer."""
    request = make_mocked_request("GET", "/", CIMultiDict([("Host", NAME), *headers]))
    return Proxies(trusted).visitor(request.clone(remote=peer))


def test_without_a_trusted_proxy_nothing_that_a_visitor_says_of_itself_counts() -> None:
    spoofed = [
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=198.51.100.7;proto=https;host=evil.example"),
        ("X-Real-IP", "198.51.100.7"),
    ]
    assert look(*spoofed, trusted=()) == Visitor("10.0.0.1", "http", NAME)
    assert look(*spoofed, peer="192.0.2.1") == Visitor("192.0.2.1", "http", NAME)


SEEN = [
    ("one", [("X-Forwarded-For", "198.51.100.7")], "198.51.100.7"),
    ("made up to the left", [("X-Forwarded-For", "1.1.1.1, 127.0.0.1, 198.51.100.7")], "198.51.100.7"),
    ("made up in a line of its own", [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "198.51.100.7")], ""),
    ("two proxies", [("X-Forwarded-For", "1.1.1.1, 198.51.100.7, 10.0.0.2")], "198.51.100.7"),
    ("with a port", [("X-Forwarded-For", "198.51.100.7:5312")], "198.51.100.7"),
    ("proxies alone", [("X-Forwarded-For", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
    ("no address", [("X-Forwarded-For", "1.1.1.1, unknown")], "10.0.0.1"),
    ("no address before a proxy", [("X-Forwarded-For", "1.1.1.1, _hidden, 10.0.0.2")], "10.0.0.2"),
    ("empty", [("X-Forwarded-For", "")], "10.0.0.1"),
    ("commas", [("X-Forwarded-For", "1.1.1.1,,")], "10.0.0.1"),
    ("six", [("X-Forwarded-For", "2001:db8::7")], "2001:db8::7"),
    ("six with a port", [("X-Forwarded-For", "[2001:db8::7]:443")], "2001:db8::7"),
    ("four as six", [("X-Forwarded-For", "::ffff:198.51.100.7")], "198.51.100.7"),
    ("forwarded", [("Forwarded", "for=198.51.100.7;proto=https")], "198.51.100.7"),
    ("forwarded six", [("Forwarded", 'for="[2001:db8::7]:4711"')], "2001:db8::7"),
    ("forwarded, made up", [("Forwarded", "for=1.1.1.1"), ("Forwarded", "for=198.51.100.7")], "198.51.100.7"),
    ("forwarded, an open quote", [("Forwarded", 'for="1.1.1.1, for=198.51.100.7')], "198.51.100.7"),
    ("forwarded, two proxies", [("Forwarded", "for=1.1.1.1, for=198.51.100.7, for=10.0.0.2")], "198.51.100.7"),
    ("both", [("Forwarded", "for=198.51.100.7"), ("X-Forwarded-For", "198.51.100.7")], "198.51.100.7"),
]


@pytest.mark.parametrize(("headers", "address"), [one[1:] for one in SEEN], ids=[one[0] for one in SEEN])
def test_of_a_chain_the_last_hop_that_is_no_trusted_proxy_is_the_visitor(
    headers: list[tuple[str, str]], address: str
) -> None:
    visitor = look(*headers)
    assert visitor == Visitor(address or "198.51.100.7", visitor.scheme, NAME, proxied=True)


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https")], "https", NAME),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "wss")], "https", NAME),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "gopher")], "http", NAME),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https, http")], "http", NAME),
        ([("X-Forwarded-For", "1.1.1.1, 10.0.0.2"), ("X-Forwarded-Proto", "https, http")], "https", NAME),
        ([("X-Forwarded-For", "1.1.1.1, 10.0.0.2"), ("X-Forwarded-Proto", "https")], "https", NAME),
        ([("X-Forwarded-Proto", "https")], "https", NAME),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Host", "a.example:8443")], "http", "a.example:8443"),
        ([("Forwarded", "for=1.1.1.1;proto=https;host=a.example")], "https", "a.example"),
        ([("Forwarded", "for=2.2.2.2;proto=https, for=1.1.1.1;proto=http")], "http", NAME),
    ],
    ids=str,
)
def test_scheme_and_host_are_those_that_the_visitor_came_to(
    headers: list[tuple[str, str]], scheme: str, host: str
) -> None:
    visitor = look(*headers)
    assert (visitor.scheme, visitor.host, visitor.unclear) == (scheme, host, False)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=1.1.1.1")],
        [("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "for=unknown")],
        [("X-Forwarded-For", "unknown"), ("Forwarded", "for=1.1.1.1")],
        [("X-Forwarded-Proto", "https"), ("Forwarded", "for=1.1.1.1")],
        [("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "proto=https")],
        [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "http"), ("Forwarded", "for=1.1.1.1;proto=https")],
        [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Host", "a.example"),
            ("Forwarded", "for=1.1.1.1;host=b.example"),
        ],
    ],
    ids=str,
)
def test_headers_of_two_kinds_that_contradict_each_other_are_seen(headers: list[tuple[str, str]]) -> None:
    """A proxy that writes one kind hands the other on as the visitor made it up."""
    assert look(*headers).unclear


@given(st.lists(st.tuples(st.sampled_from(["X-Forwarded-For", "Forwarded"]), st.text(st.characters(codec="ascii")))))
def test_what_is_to_the_left_of_what_the_proxy_wrote_changes_nothing(made_up: list[tuple[str, str]]) -> None:
    kind = "X-Forwarded-For"
    visitor = look(*((kind, value) for _, value in made_up), (kind, "198.51.100.7"))
    assert visitor == Visitor("198.51.100.7", "http", NAME, proxied=True)
    visitor = look(*(("Forwarded", value) for _, value in made_up), ("Forwarded", "for=198.51.100.7;proto=https"))
    assert visitor == Visitor("198.51.100.7", "https", NAME, proxied=True)
    visitor = look(*made_up, (kind, "198.51.100.7"))
    assert visitor.unclear or visitor.address == "198.51.100.7"


def test_a_very_long_chain_is_read_from_its_end_and_no_further() -> None:
    assert look(("X-Forwarded-For", "1.1.1.1, " + "10.0.0.2, " * 900 + "10.0.0.2")).address == "10.0.0.2"
    assert look(("Forwarded", "for=1.1.1.1, " + "for=10.0.0.2, " * 500 + "for=10.0.0.2")).address == "10.0.0.2"


@pytest.mark.parametrize("peer", ["10.255.0.1", "::ffff:10.0.0.9"])
def test_a_network_trusts_all_in_it(peer: str) -> None:
    assert look(("X-Forwarded-For", "1.1.1.1"), peer=peer).address == "1.1.1.1"


@pytest.mark.parametrize("text", ["localhost", "10.0.0.5/8", "", "10.0.0.0/33", "*"])
def test_what_is_no_address_and_no_network_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[web\] trusted_proxies has '.*', which is no address or network"):
        Web(WebTable(trusted_proxies=[text]))


def test_networks_with_strangers_in_them_are_told_from_those_of_proxies() -> None:
    assert list(wide(["0.0.0.0/0", "::/0", "10.0.0.0/8", "127.0.0.1", "2400:cb00::/32", "128.0.0.0/1"])) == [
        "0.0.0.0/0",
        "::/0",
        "128.0.0.0/1",
    ]


def test_a_subscriber_is_one_source() -> None:
    assert source("2001:db8::1") == source("2001:db8::ffff:1") != source("2001:db8:0:1::1")
    assert source("::ffff:192.0.2.1") == source("192.0.2.1") != source("192.0.2.2")
    assert source("") == ""


# ------------------------------------------------------------------------------------------ over the wire


async def told(session: aiohttp.ClientSession, face: Web, **headers: str) -> dict[str, str]:
    async with session.get(f"{face.address}/tell", headers={k.replace("_", "-"): v for k, v in headers.items()}) as got:
        answer: dict[str, str] = await got.json()
        return answer


async def test_a_route_sees_the_visitor_of_a_trusted_proxy_and_the_peer_of_any_other(
    session: aiohttp.ClientSession,
) -> None:
    said = {"X_Forwarded_For": "198.51.100.7", "X_Forwarded_Proto": "https", "Host": NAME}
    async with serving(TELL, public_url=PUBLIC, trusted_proxies=[PROXY]) as face:
        assert await told(session, face, **said) == {"remote": "198.51.100.7", "scheme": "https", "host": NAME}
    async with serving(TELL, public_url=PUBLIC) as face:
        assert await told(session, face, **said) == {"remote": PROXY, "scheme": "http", "host": NAME}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Host": "evil.example"}, 421),
        ({"X-Forwarded-Host": NAME, "Host": "evil.example"}, 421),
        ({"Forwarded": "for=1.1.1.1;host=evil.example"}, 421),
        ({"X-Forwarded-Host": NAME}, 200),
        ({"X-Forwarded-For": "1.1.1.1", "Forwarded": "for=2.2.2.2"}, 400),
    ],
    ids=str,
)
async def test_a_proxy_does_not_get_a_strange_name_past_the_check_of_names(
    session: aiohttp.ClientSession, headers: dict[str, str], expected: int
) -> None:
    async with serving(OPEN, public_url=PUBLIC, trusted_proxies=[PROXY]) as face:
        assert await status(session, face, "GET", "/open", headers=headers) == expected


async def cookie(session: aiohttp.ClientSession, face: Web, **headers: str) -> str:
    options: dict[str, Any] = {"data": {"token": TOKEN}, "headers": headers, "allow_redirects": False}
    async with session.post(f"{face.address}/login", **options) as answer:
        assert answer.status == 303
        return answer.headers["Set-Cookie"]


async def test_the_scheme_that_a_trusted_proxy_tells_makes_the_session_secure(session: aiohttp.ClientSession) -> None:
    said = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    async with serving(PAGE, token=TOKEN, trusted_proxies=[PROXY]) as face:
        origin = face.address.replace("http:", "https:")
        assert "Secure" in await cookie(session, face, Origin=origin, **said)
    async with serving(PAGE, token=TOKEN) as face:
        assert "Secure" not in await cookie(session, face, Origin=face.address, **said)


async def test_where_a_visitor_came_by_https_a_page_that_came_without_is_another_site(
    session: aiohttp.ClientSession,
) -> None:
    said = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    async with serving(FORM, token=TOKEN, trusted_proxies=[PROXY]) as face:
        for origin, expected in ((face.address, 403), (face.address.replace("http:", "https:"), 401)):
            headers = {"Origin": origin, **said}
            assert await status(session, face, "POST", "/form", headers=headers) == expected
    async with serving(FORM, token=TOKEN, public_url=PUBLIC) as face:
        for origin, expected in ((PUBLIC.replace("https:", "http:"), 403), (PUBLIC, 401)):
            headers = {"Origin": origin, "Host": NAME}
            assert await status(session, face, "POST", "/form", headers=headers) == expected


async def test_browsers_are_told_to_stay_with_https_only_where_they_came_by_it_and_the_name_is_public(
    session: aiohttp.ClientSession,
) -> None:
    async def promised(face: Web, **headers: str) -> bool:
        async with session.get(f"{face.address}/open", headers=headers) as answer:
            return "Strict-Transport-Security" in answer.headers

    https = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    async with serving(OPEN, public_url=PUBLIC, trusted_proxies=[PROXY]) as face:
        assert await promised(face, Host=NAME, **https)
        assert not await promised(face, Host=NAME)
        assert not await promised(face, Host="localhost", **https)
    async with serving(OPEN, public_url=PUBLIC) as face:
        assert not await promised(face, Host=NAME, **https)
    async with serving(OPEN, public_url=f"http://{NAME}", trusted_proxies=[PROXY]) as face:
        assert not await promised(face, Host=NAME, **https)


async def test_without_a_token_nobody_is_let_in_through_a_proxy_that_says_nothing_of_whom_it_serves(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(PAGE, trusted_proxies=[PROXY]) as face:
        assert await status(session, face, "GET", "/") == 403
    async with serving(PAGE) as face, aiohttp.ClientSession(version=aiohttp.HttpVersion10) as old:
        assert await status(old, face, "GET", "/") == 403
        assert await status(session, face, "GET", "/") == 200


async def test_tries_of_a_token_are_counted_for_the_visitor_and_not_for_the_proxy(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(PAGE, token=TOKEN, trusted_proxies=[PROXY]) as face:
        options: dict[str, Any] = {"data": {"token": "guess"}, "headers": {"Origin": face.address}}
        for number in range(6):
            options["headers"]["X-Forwarded-For"] = f"192.0.2.{number}, 198.51.100.7"
            assert await status(session, face, "POST", "/login", **options) == (403 if number < 5 else 429)
        options["headers"]["X-Forwarded-For"] = "198.51.100.8"
        assert await status(session, face, "POST", "/login", **options) == 403
