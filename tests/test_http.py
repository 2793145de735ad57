"""The HTTP of channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from roost.errors import ConfigError, NotSent
from roost.http import BEFORE_SENDING, Http


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, list[web.Request]]]:
    """An address, and what it is asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        if request.path == "/away":
            raise web.HTTPFound("/there")
        said = web.Response(text=request.headers.get("Authorization", "nobody"))
        said.set_cookie("crumb", "1")
        return said

    async def socket(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse()
        await made.prepare(request)
        await made.send_str("hello")
        await made.close()
        return made

    app = web.Application()
    app.router.add_get("/socket", socket)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_nothing_leaves_while_it_is_closed() -> None:
    http = Http("Gotify")
    for ask in (lambda: http.request("GET", "http://127.0.0.1:9"), lambda: http.request("POST", "http://x.test")):
        with pytest.raises(NotSent, match="Gotify is out of reach"):
            ask()
    with pytest.raises(NotSent):
        await http.connect("ws://127.0.0.1:9")


async def test_redirections_are_followed_only_where_that_is_asked_for() -> None:
    async with server() as (url, asked):
        http = Http("it")
        async with http.open():
            async with http.request("GET", f"{url}/away") as answer:
                assert answer.status == 302
            async with http.request("GET", f"{url}/away", allow_redirects=True) as answer:
                assert answer.status == 200
        assert [one.path for one in asked] == ["/away", "/away", "/there"]


async def test_cookies_are_not_kept_and_the_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with server() as (url, asked):
        http = Http("it", headers={"X-Own": "1"})
        async with http.open():
            for headers, expected in (({}, "nobody"), ({"Authorization": "Bearer t"}, "Bearer t")):
                async with http.request("GET", url, headers=headers) as answer:
                    assert await answer.text() == expected
        assert [one.headers["X-Own"] for one in asked] == ["1", "1"]
        assert not any("Cookie" in one.headers for one in asked)


async def test_each_server_is_asked_through_the_proxy_that_the_environment_names_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with server() as (url, asked):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        http = Http("it")
        async with http.open():
            async with http.request("GET", f"{url}/direct"), http.request("GET", "http://far.test/proxied"):
                pass
            assert [(one.path, one.host) for one in asked] == [
                ("/direct", url.removeprefix("http://")),
                ("/proxied", "far.test"),
            ]
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        async with http.open():
            with pytest.raises(BEFORE_SENDING):
                async with http.request("GET", "http://far.test/proxied"):
                    pass
            async with await http.connect(f"{url.replace('http', 'ws')}/socket") as socket:
                assert (await socket.receive()).data == "hello"
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
        async with http.open():
            with pytest.raises(ConfigError, match="only HTTP proxies"):
                http.request("GET", "http://far.test/")


async def test_what_nobody_listens_to_has_seen_nothing() -> None:
    http = Http("it")
    async with http.open():
        with pytest.raises(BEFORE_SENDING):
            async with http.request("GET", "http://127.0.0.1:9/", timeout=aiohttp.ClientTimeout(total=5)):
                pass
