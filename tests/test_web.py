from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web
from face import FORM, HOOK, OPEN, PAGE, PUBLIC, SOCKET, TOKEN, hello, serving, signed, status

from roost.contracts import Route, unsigned
from roost.errors import ConfigError
from roost.settings import WebTable
from roost.web import MAX_BODY, Web, people


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


# ------------------------------------------------------------------------------------------ routes


async def test_health_answers_ok(session: aiohttp.ClientSession) -> None:
    async with serving() as face, session.get(f"{face.address}/health") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


async def test_names_in_a_path_are_decoded_and_given_to_the_answer(session: aiohttp.ClientSession) -> None:
    async with serving(Route("GET", "/a/{one}/b/{two}", hello, unsigned)) as face:
        async with session.get(f"{face.address}/a/x%2Fy/b/%C3%A9?q=1") as answer:
            assert "{'one': 'x/y', 'two': 'é'}" in await answer.text()
        assert await status(session, face, "GET", "/a/x/b") == 404
        assert await status(session, face, "GET", "/a/x/b/y/") == 404


async def test_a_literal_path_wins_over_a_name_whatever_the_order(session: aiohttp.ClientSession) -> None:
    async def literal(request: web.Request) -> web.StreamResponse:
        return web.Response(text="literal")

    routes = [Route("GET", "/{name}", hello, unsigned), Route("GET", "/~me", literal, unsigned)]
    async with serving(*routes) as face, session.get(f"{face.address}/~me") as answer:
        assert await answer.text() == "literal"


async def test_another_method_and_an_unknown_path_are_told_apart(session: aiohttp.ClientSession) -> None:
    async with serving(OPEN) as face:
        async with session.delete(f"{face.address}/open") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        assert await status(session, face, "GET", "/nothing") == 404
        assert await status(session, face, "HEAD", "/open") == 200


async def test_routes_come_and_go_while_it_runs(session: aiohttp.ClientSession) -> None:
    async with serving() as face:
        assert await status(session, face, "GET", "/open") == 404
        face.mount("late", [OPEN])
        assert await status(session, face, "GET", "/open") == 200
        face.unmount("late")
        assert await status(session, face, "GET", "/open") == 404


async def test_two_owners_of_one_path_are_both_named_and_nothing_is_mounted(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(HOOK) as face:
        with pytest.raises(ConfigError, match=r"'other' and 'test' both want the path '/hooks/{id}'"):
            face.mount("other", [OPEN, Route("POST", "/hooks/{id}", hello, unsigned)])
        assert await status(session, face, "GET", "/open") == 404
        face.mount("other", [Route("GET", "/hooks/{id}", hello, unsigned)])


# ------------------------------------------------------------------------------------------ checks


async def test_a_webhook_is_verified_over_its_raw_body_and_needs_no_origin(
    session: aiohttp.ClientSession,
) -> None:
    body = b'{"not":"parsed", \xff}'
    signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    async with serving(Route("POST", "/hook", _length, signed)) as face:
        headers = {"X-Signature": signature, "Origin": "https://elsewhere.example"}
        async with session.post(f"{face.address}/hook", data=body, headers=headers) as answer:
            assert await answer.text() == str(len(body))
        assert await status(session, face, "POST", "/hook", data=body + b" ", headers=headers) == 401
        assert await status(session, face, "POST", "/hook", data=body) == 401


async def _length(request: web.Request) -> web.StreamResponse:
    return web.Response(text=str(len(await request.read())))


async def test_asking_for_a_websocket_does_not_get_a_body_past_its_signature(
    session: aiohttp.ClientSession,
) -> None:
    signature = hmac.new(b"secret", b"", hashlib.sha256).hexdigest()
    headers = {"X-Signature": signature, "Connection": "Upgrade", "Upgrade": "websocket"}
    async with serving(Route("POST", "/hook", _length, signed)) as face:
        assert await status(session, face, "POST", "/hook", data=b"evil", headers=headers) == 401


async def test_a_body_over_the_limit_is_refused(session: aiohttp.ClientSession) -> None:
    async with serving(Route("POST", "/hook", _length, unsigned)) as face:
        assert await status(session, face, "POST", "/hook", data=BytesIO(b"x" * MAX_BODY)) == 200
        assert await status(session, face, "POST", "/hook", data=BytesIO(b"x" * (MAX_BODY + 1))) == 413


async def test_a_body_that_does_not_come_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.web.BODY_SECONDS", 0.05)
    async with serving(Route("POST", "/hook", _length, unsigned)) as face:
        port = int(face.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8787", "LOCALHOST", "bot.example.org"])
async def test_our_own_names_are_answered(session: aiohttp.ClientSession, host: str) -> None:
    async with serving(OPEN, public_url=PUBLIC) as face:
        assert await status(session, face, "GET", "/open", headers={"Host": host}) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5", "", "localhost@evil.example", "[::1"]
)
async def test_any_other_name_is_refused(session: aiohttp.ClientSession, host: str) -> None:
    async with serving(OPEN, public_url=PUBLIC) as face:
        assert await status(session, face, "GET", "/open", headers={"Host": host}) in (400, 421)


async def test_where_others_may_come_in_any_address_is_ours_and_strange_names_are_not(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(OPEN, host="0.0.0.0", token=TOKEN) as face:
        for host, expected in (("192.168.1.5:8787", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            assert await status(session, face, "GET", "/open", headers={"Host": host}) == expected


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1:1", "http://localhost"])
async def test_a_form_and_a_websocket_from_another_site_are_refused(
    session: aiohttp.ClientSession, origin: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with serving(FORM, SOCKET) as face:
        assert await status(session, face, "POST", "/form", headers=headers) == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await session.ws_connect(f"{face.address}/ws", headers=headers)
        assert refusal.value.status == 403


async def test_a_form_and_a_websocket_from_our_own_page_are_answered(session: aiohttp.ClientSession) -> None:
    async with serving(FORM, SOCKET) as face:
        headers = {"Origin": face.address}
        assert await status(session, face, "POST", "/form", headers=headers) == 200
        await (await session.ws_connect(f"{face.address}/ws", headers=headers)).close()


async def test_pages_for_people_carry_the_headers_that_guard_them(session: aiohttp.ClientSession) -> None:
    async with serving(PAGE) as face, session.get(face.address) as answer:
        policy = answer.headers["Content-Security-Policy"]
        for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "Python" not in answer.headers["Server"]


# ------------------------------------------------------------------------------------------ people


async def test_without_a_token_a_browser_on_this_machine_is_let_in(session: aiohttp.ClientSession) -> None:
    async with serving(PAGE) as face:
        assert await status(session, face, "GET", "/") == 200
        assert await status(session, face, "GET", "/login") == 404


@pytest.mark.parametrize(
    "headers",
    [{"Host": "bot.example.org"}, {"X-Forwarded-For": "198.51.100.7"}, {"Forwarded": "for=198.51.100.7"}],
)
async def test_without_a_token_a_visitor_through_a_tunnel_is_not_let_in(
    session: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    async with serving(PAGE, OPEN, public_url=PUBLIC) as face:
        async with session.get(face.address, headers=headers) as answer:
            assert answer.status == 403
            assert "[web] token" in await answer.text()
        assert await status(session, face, "GET", "/open", headers=headers) == 200


async def test_with_a_token_pages_lead_to_the_login_and_the_rest_is_refused(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(PAGE, SOCKET, token=TOKEN) as face:
        async with session.get(face.address, headers={"Accept": "text/html"}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/login")
        assert await status(session, face, "GET", "/") == 401
        assert await status(session, face, "GET", "/ws", headers={"Origin": face.address}) == 401


async def test_the_right_token_opens_a_session_that_is_not_the_token(session: aiohttp.ClientSession) -> None:
    async with serving(PAGE, token=TOKEN) as face:
        options = {"data": {"token": TOKEN}, "headers": {"Origin": face.address}, "allow_redirects": False}
        async with session.post(f"{face.address}/login", **options) as answer:  # type: ignore[arg-type]
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        assert await status(session, face, "GET", "/") == 200
        assert await status(session, face, "GET", "/login") == 303


async def test_behind_https_the_session_travels_only_over_https(session: aiohttp.ClientSession) -> None:
    async with serving(PAGE, token=TOKEN, public_url=PUBLIC) as face:
        headers = {"Origin": PUBLIC, "Host": "bot.example.org", "X-Forwarded-For": "198.51.100.7"}
        options = {"data": {"token": TOKEN}, "headers": headers, "allow_redirects": False}
        async with session.post(f"{face.address}/login", **options) as answer:  # type: ignore[arg-type]
            assert answer.status == 303
            assert "Secure" in answer.headers["Set-Cookie"]


async def test_a_wrong_token_is_refused_and_too_many_are_not_even_looked_at(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(PAGE, token=TOKEN) as face:
        headers = {"Origin": face.address}
        for _ in range(5):
            assert await status(session, face, "POST", "/login", data={"token": "guess"}, headers=headers) == 403
        async with session.post(f"{face.address}/login", data={"token": TOKEN}, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "60")
        assert "guess" not in caplog.text


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"token=%FF", b"token", b"a=b&" * 1000])
async def test_a_strange_login_form_is_only_a_wrong_token(session: aiohttp.ClientSession, body: bytes) -> None:
    async with serving(PAGE, token=TOKEN) as face:
        headers = {"Origin": face.address}
        assert await status(session, face, "POST", "/login", data=body, headers=headers) == 403


async def test_the_login_cannot_be_sent_from_another_site(session: aiohttp.ClientSession) -> None:
    async with serving(PAGE, token=TOKEN) as face:
        headers = {"Origin": "https://evil.example"}
        async with session.post(f"{face.address}/login", data={"token": TOKEN}, headers=headers) as answer:
            assert answer.status == 403
            assert "Set-Cookie" not in answer.headers


# ------------------------------------------------------------------------------------------ failures


async def test_a_failing_answer_is_a_500_and_one_line_of_log_without_the_body(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        return web.json_response(json.loads(await request.text())["key of private words"])

    async with serving(Route("POST", "/fail/{secret}", fail, unsigned)) as face:
        with caplog.at_level(logging.INFO):
            assert await status(session, face, "POST", "/fail/hidden", data='{"private":1}') == 500
            assert await status(session, face, "GET", "/health") == 200
    (record,) = caplog.records
    assert "KeyError" in record.getMessage() and "'/fail/{secret}'" in record.getMessage()
    assert "private" not in caplog.text and "hidden" not in caplog.text


async def test_a_failing_check_lets_nothing_through(session: aiohttp.ClientSession) -> None:
    def broken(request: web.Request, body: bytes) -> bool:
        raise KeyError("X-Signature")

    async with serving(Route("POST", "/hook", hello, broken)) as face:
        assert await status(session, face, "POST", "/hook") == 500


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nX: secret\r\n\r\n", b"\0" * 9000])
async def test_what_is_no_http_gets_a_400_and_is_not_in_the_log(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as face:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(face.address.rpartition(":")[2]))
        writer.write(data)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        await writer.wait_closed()
    assert caplog.records == []


async def test_an_answer_that_is_forgotten_is_in_the_log(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget(request: web.Request) -> None:
        return None

    async with serving(Route("GET", "/forget", forget, unsigned)) as face:  # type: ignore[arg-type]
        assert await status(session, face, "GET", "/forget") == 500
    assert len(caplog.records) == 1


async def test_a_taken_port_is_named_with_the_key_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        face = Web(WebTable(port=port))
        with pytest.raises(ConfigError) as error:
            await face.start()
    assert f"port {port}" in str(error.value) and "[web] port" in str(error.value)
    if sys.platform == "linux":
        assert "process" in str(error.value)
    await face.start()
    assert face.address == f"http://127.0.0.1:{port}"
    await face.stop()
    await face.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host.invalid"])
async def test_an_address_that_is_not_ours_is_named_with_the_key_to_change(host: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{host}'.*\[web\] host"):
        await Web(WebTable(host=host, port=0, token=TOKEN)).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "myhost.example"])
async def test_listening_for_others_without_a_token_is_refused_with_the_cure(host: str) -> None:
    with pytest.raises(ConfigError, match=r"\[web\] has no 'token'.*ROOST_WEB_TOKEN"):
        await Web(WebTable(host=host, port=0)).start()


async def test_on_loopback_it_listens_without_a_token_and_its_address_leads_there(
    session: aiohttp.ClientSession,
) -> None:
    for host in ("localhost", "127.0.0.1"):
        async with serving(PAGE, host=host) as face:
            assert await status(session, face, "GET", "/") == 200


async def test_an_open_websocket_does_not_hold_up_stopping(session: aiohttp.ClientSession) -> None:
    async def linger(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async with serving(Route("GET", "/ws", linger, people)) as face:
        await session.ws_connect(f"{face.address}/ws", headers={"Origin": face.address})
        async with asyncio.timeout(30):
            await face.stop()
