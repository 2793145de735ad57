from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from rigs.ear import Ear
from servers.ntfy import NtfyServer

from roost.channels.ntfy import Ntfy, NtfyConfig, attachment, encode, read, trouble
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Place, Reply

EVENT = {"id": "hwQ2YpKdmgab", "time": 1635528741, "event": "message", "topic": "mytopic", "message": "Disk full"}


def test_the_documented_message_is_read() -> None:
    message = read(EVENT, "ntfy")
    assert (message.id, str(message.place), str(message.sender)) == ("hwQ2YpKdmgab", "ntfy:mytopic", "ntfy:mytopic")
    assert (message.text, message.at) == ("Disk full", 1635528741.0)
    assert read(EVENT | {"title": "Alert"}, "ntfy").text == "**Alert**\nDisk full"
    with pytest.raises(ValueError, match="no text"):
        read(EVENT | {"message": 3}, "ntfy")


def test_a_file_on_the_server_is_fetched_and_one_elsewhere_is_a_link() -> None:
    kept = attachment({"name": "a.jpg", "type": "image/jpeg", "size": 7, "url": "https://ntfy.sh/file/x.jpg"})
    assert (kept.kind, kept.size, kept.ref, kept.url) == ("image", 7, "/file/x.jpg", "")
    linked = attachment({"name": "a.jpg", "url": "https://evil.example/x.jpg"})
    assert (linked.ref, linked.url) == ("", "https://evil.example/x.jpg")


@pytest.mark.parametrize("value", ["plain", "Grüße 🦉", "a\r\nX-Evil: 1"])
def test_a_header_of_any_script_is_one_line_of_ascii(value: str) -> None:
    assert encode(value).isascii()
    assert "\n" not in encode(value)


def test_a_refusal_tells_whether_to_send_again() -> None:
    pause = trouble(429, "7", "t", "ntfy")
    assert isinstance(pause, NotSent) and pause.retry_after == 7
    assert isinstance(trouble(503, "", "t", "ntfy"), MaybeSent)
    for status in (400, 403, 404, 413):
        assert isinstance(trouble(status, "", "t", "ntfy"), Undeliverable)


async def test_the_server_refuses_what_ntfy_refuses() -> None:
    async with NtfyServer({"tk_a": {"in": "rw"}}) as server, aiohttp.ClientSession() as session:
        base, a = f"http://{server.host}:{server.port}", {"Authorization": "Bearer tk_a"}
        cases = [("in", {}, 401), ("in", {"Authorization": "Bearer tk_b"}, 401), ("out", a, 403), ("in", a, 200)]
        for topic, headers, status in cases:
            async with session.post(f"{base}/{topic}", data=b"x", headers=headers) as answer:
                assert answer.status == status
        async with session.post(f"{base}/a%20b", data=b"x", headers=a) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, 40009)
        async with session.get(f"{base}/in/json", params={"since": "yesterday?"}, headers=a) as answer:
            assert answer.status == 400
        async with session.post(f"{base}/in", data=b"x" * 5000, headers=a) as answer:
            assert (await answer.json())["attachment"]["size"] == 5000


@pytest.mark.parametrize(
    ("token", "told"), [("", "ntfy wants a 'token', and there is none in"), ("tk_x", "ntfy refuses the 'token' of")]
)
async def test_a_topic_that_is_closed_is_said_to_want_a_token_or_another_one(
    token: str, told: str, tmp_path: Path
) -> None:
    ear = Ear(tmp_path)
    async with NtfyServer({"tk_a": {"in": "rw"}}) as server:
        base = f"http://{server.host}:{server.port}"
        channel = Ntfy("ntfy", NtfyConfig(listen="in", speak="out", base_url=base, token=token), ear)
        with pytest.raises(LoginFailed, match=rf"{told} bot\.toml: \[channels\.ntfy\]\.$"):
            await channel.run(ear.receive)


def channel(server: NtfyServer, home: Path, **keys: Any) -> tuple[Ntfy, Ear]:
    known = {"listen": "in", "speak": "out", "base_url": f"http://{server.host}:{server.port}"}
    ear = Ear(home)
    return Ntfy("ntfy", NtfyConfig(**(known | keys)), ear), ear  # type: ignore[arg-type]


@asynccontextmanager
async def listening(one: Ntfy, ear: Ear) -> AsyncIterator[None]:
    running = asyncio.create_task(one.run(ear.receive))
    try:
        await ear.until(lambda: ear.up.is_set() or running.done())
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_message_that_was_scheduled_is_found_although_newer_ones_were_written_before_it(tmp_path: Path) -> None:
    # The server finds an id by the order of writing, and a time by when messages were due.
    async with NtfyServer() as server:
        before = await server.add("in", b"before the first start", {})
        before["time"] -= 5
        one, ear = channel(server, tmp_path)
        async with listening(one, ear):
            waiting = await server.add("elsewhere", b"scheduled", {})
            await server.add("in", b"newer", {})
            await ear.until(lambda: "newer" in ear.texts)
        server.topics["in"].insert(1, waiting | {"topic": "in"})
        one, ear = channel(server, tmp_path)
        async with listening(one, ear):
            await ear.until(lambda: "scheduled" in ear.texts)
            assert "before the first start" not in ear.texts


async def elsewhere(server: NtfyServer, status: int) -> tuple[web.AppRunner, str]:
    """A server that sends askers on to another one; its address."""

    async def on(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"http://{server.host}:{server.port}{request.path_qs}"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_a_server_that_sends_on_to_another_is_named_when_the_token_does_not_follow(tmp_path: Path) -> None:
    async with NtfyServer({"tk_a": {"in": "r", "out": "w"}}) as server:
        runner, base = await elsewhere(server, 308)
        try:
            one, ear = channel(server, tmp_path, base_url=base, token="tk_a")
            with pytest.raises(LoginFailed, match="sends askers on"):
                await one.run(ear.receive)
        finally:
            await runner.cleanup()


async def test_a_message_that_a_redirection_turned_into_a_question_is_not_sent_for_ever(tmp_path: Path) -> None:
    # 301 and 302 make a GET of a POST (RFC 9110, section 15.4).
    async with NtfyServer() as server:
        runner, base = await elsewhere(server, 301)
        try:
            one, ear = channel(server, tmp_path, base_url=base)
            async with listening(one, ear):
                with pytest.raises(Undeliverable, match="base_url"):
                    await one.send(Place("ntfy", "in"), Reply("hello"))
        finally:
            await runner.cleanup()


async def test_a_web_page_in_the_place_of_the_server_is_one_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with NtfyServer() as server:

        async def page(request: web.Request) -> web.Response:
            return web.Response(text="<html>\n<p>\nlog in\n</html>\n", content_type="text/html")

        app = web.Application()
        app.router.add_get("/{path:.*}", page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one, ear = channel(server, tmp_path, base_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
        running = asyncio.create_task(one.run(ear.receive))
        try:
            await ear.until(lambda: ear.problem or ear.up.is_set() or caplog.messages)
            assert "web page" in ear.problem and not caplog.messages
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await runner.cleanup()
