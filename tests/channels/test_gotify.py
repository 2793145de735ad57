from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from servers.gotify import GotifyServer

from roost.channels.gotify import App, Gotify, GotifyConfig, find, read, trouble, write
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Button, Event, Message, Place, Reply

POST = {"id": 25, "appid": 5, "message": "**Backup** was successfully finished.", "title": "Backup", "priority": 2}
POST |= {"date": "2018-02-27T19:36:10.5045044+01:00"}
APP = App(5, "Backup Server")
APPS = [{"id": 5, "name": "In"}, {"id": 6, "name": "Out", "token": "Aout"}, {"id": 7, "name": "5"}]
APPS += [{"id": 8, "name": "Twice"}, {"id": 9, "name": "Twice"}]


def test_the_documented_message_is_read() -> None:
    message = read(POST, APP, "gotify")
    assert message is not None
    assert (message.id, str(message.place), str(message.sender)) == ("25", "gotify:5", "gotify:5")
    assert message.text == "**Backup**\n**Backup** was successfully finished."
    assert (message.at, message.sender.name) == (1519756570.504504, "Backup Server")
    with pytest.raises(ValueError, match="no text"):
        read(POST | {"message": None}, APP, "gotify")


def test_the_title_that_the_server_puts_there_is_left_out() -> None:
    message = read(POST | {"title": "Backup Server"}, APP, "gotify")
    assert message is not None and message.text == POST["message"]


def test_a_number_that_a_new_server_gives_again_is_another_message() -> None:
    first, second = read(POST, APP, "gotify"), read(POST | {"date": "2019-02-27T19:36:10Z"}, APP, "gotify")
    assert first is not None and second is not None and first.identity != second.identity


def test_what_the_bot_wrote_is_not_read_whatever_application_it_went_to() -> None:
    ours = write(Reply("hello", key="k1"), "Roost", None)
    assert read(POST | ours, APP, "gotify") is None


def test_a_reply_is_markdown_with_its_first_link_to_open() -> None:
    buttons = (Button("Yes", "yes"), Button("Map", url="https://osm.org"), Button("More", url="https://b.example"))
    post = write(Reply("**hi**", buttons=buttons), "Roost", 7)
    assert (post["title"], post["message"], post["priority"]) == ("Roost", "**hi**", 7)
    assert post["extras"]["client::display"] == {"contentType": "text/markdown"}
    assert post["extras"]["client::notification"] == {"click": {"url": "https://osm.org"}}
    assert "priority" not in write(Reply("hi"), "Roost", None)


def test_an_application_is_found_by_name_before_number() -> None:
    assert find(APPS, "In", "Aout", "gotify") == App(5, "In")
    assert find(APPS, "5", "Aout", "gotify") == App(7, "5")
    assert find(APPS, "6", "Aother", "gotify") == App(6, "Out")


@pytest.mark.parametrize(("wanted", "why"), [("Nobody", "no application"), ("Twice", "8, 9"), ("Out", "answer myself")])
def test_an_application_that_cannot_be_listened_to_is_refused_with_a_cure(wanted: str, why: str) -> None:
    with pytest.raises(LoginFailed, match=why) as refused:
        find(APPS, wanted, "Aout", "gotify")
    assert "[channels.gotify]" in str(refused.value) and "Aout" not in str(refused.value)


def test_a_refusal_tells_whether_to_send_again() -> None:
    pause = trouble(429, "<html>", "7", "gotify")
    assert isinstance(pause, NotSent) and pause.retry_after == 7
    assert isinstance(trouble(503, "", "", "gotify"), MaybeSent)
    for status in (301, 400, 401, 403, 404, 413):
        assert isinstance(trouble(status, "", "", "gotify"), Undeliverable)
    assert "Field 'message'" in str(trouble(400, '{"errorDescription":"Field \'message\' is required"}', "", "gotify"))


class Desk:
    """A host that counts signs of life."""

    bot_name = "Roost"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.alive = asyncio.Event()

    def pulse(self) -> None:
        self.alive.set()

    def trouble(self, why: str) -> None: ...


def channel(server: GotifyServer, home: Path, **keys: Any) -> tuple[Gotify, Desk]:
    base = f"http://{server.host}:{server.port}"
    known = {"base_url": base, "token": "Aout", "client_token": "Cbot", "listen_app": "In"}
    desk = Desk(home)
    return Gotify("gotify", GotifyConfig(**(known | keys)), desk), desk  # type: ignore[arg-type]


async def heard(server: GotifyServer, home: Path, count: int) -> list[str]:
    """What a channel that is started now hears first."""
    found: list[str] = []
    enough = asyncio.Event()

    async def receive(item: Message | Event) -> bool:
        assert isinstance(item, Message)
        found.append(item.text)
        if len(found) >= count:
            enough.set()
        return True

    one, desk = channel(server, home)
    running = asyncio.create_task(one.run(receive))
    try:
        async with asyncio.timeout(30):
            await desk.alive.wait()
            if count:
                await enough.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return found


async def test_what_was_missed_is_read_in_order_over_several_pages(tmp_path: Path) -> None:
    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        await server.add(server.apps[0], {"message": "before the first start"})
        assert await heard(server, tmp_path, 0) == []
        for number in range(450):
            await server.add(server.apps[number % 5 == 0], {"message": f"n{number}"})
        expected = [f"n{number}" for number in range(450) if number % 5]
        assert await heard(server, tmp_path, len(expected)) == expected
        await server.add(server.apps[0], {"message": "after"})
        assert await heard(server, tmp_path, 1) == ["after"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"token": "Cbot"}, "'token' .* is a client's"),
        ({"token": "Aother"}, "refuses the 'token'"),
        ({"client_token": "Aout"}, "refuses the 'client_token'"),
        ({"listen_app": "Out"}, "answer myself"),
    ],
)
async def test_keys_that_were_mixed_up_are_named(tmp_path: Path, keys: dict[str, str], why: str) -> None:
    async def receive(item: Message | Event) -> bool:
        raise AssertionError(item)

    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}, tells=True) as server:
        one, _ = channel(server, tmp_path, **keys)
        with pytest.raises(LoginFailed, match=why):
            await one.run(receive)


async def test_an_address_without_a_gotify_is_named(tmp_path: Path) -> None:
    async def receive(item: Message | Event) -> bool:
        raise AssertionError(item)

    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        one, _ = channel(server, tmp_path, base_url=f"http://{server.host}:{server.port}/elsewhere")
        with pytest.raises(LoginFailed, match="base_url"):
            await one.run(receive)


async def test_a_server_that_takes_an_empty_message_is_logged_in_to_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lenient(request: web.Request) -> dict[str, Any]:
        return {"message": "", **await request.json()}

    monkeypatch.setattr("servers.gotify.body_of", lenient)
    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        assert await heard(server, tmp_path, 0) == []
        assert server.messages == []


async def test_an_answer_that_is_no_list_of_messages_hides_none(tmp_path: Path) -> None:
    class Absent(GotifyServer):
        answers = 0

        def _page(self, request: web.Request, messages: list[dict[str, Any]]) -> web.Response:
            self.answers += 1
            return web.json_response([]) if self.answers == 2 else super()._page(request, messages)

    async with Absent({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        assert await heard(server, tmp_path, 0) == []
        await server.add(server.apps[0], {"message": "while away"})
        assert await heard(server, tmp_path, 1) == ["while away"]
        assert server.answers > 2


async def test_a_server_that_was_there_is_waited_for_when_a_proxy_says_it_is_not(tmp_path: Path) -> None:
    class Restarted(GotifyServer):
        gone = 0

        def _client(self, request: web.Request) -> None:
            self.gone -= 1
            if self.gone >= 0:
                raise web.HTTPNotFound()
            super()._client(request)

    async with Restarted({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        assert await heard(server, tmp_path, 0) == []
        await server.add(server.apps[0], {"message": "while away"})
        server.gone = 2
        assert await heard(server, tmp_path, 1) == ["while away"]


async def test_nothing_is_sent_before_it_is_connected(tmp_path: Path) -> None:
    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        one, _ = channel(server, tmp_path)
        with pytest.raises(NotSent):
            await one.send(Place("gotify", "1"), Reply("hello"))


async def test_a_quiet_stream_is_asked_for_signs_of_life_and_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.channels.gotify.QUIET", 0.05)
    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server:
        one, desk = channel(server, tmp_path)
        got = asyncio.Queue[str]()

        async def receive(item: Message | Event) -> bool:
            assert isinstance(item, Message)
            await got.put(item.text)
            return True

        running = asyncio.create_task(one.run(receive))
        async with asyncio.timeout(30):
            for _ in range(12):
                desk.alive.clear()
                await desk.alive.wait()
            await server.ping(b"still there?")
            await server.add(server.apps[0], {"message": "still there"})
            assert await got.get() == "still there"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert server.joined == 1


async def test_the_server_refuses_what_gotify_refuses() -> None:
    async with GotifyServer({"Ain": "In", "Aout": "Out"}, {"Cbot"}) as server, aiohttp.ClientSession() as session:
        base = f"http://{server.host}:{server.port}"

        async def asked(method: str, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
            headers = {"X-Gotify-Key": token} if token else {}
            async with session.request(method, base + path, headers=headers, **more) as answer:
                return answer.status, await answer.json() if answer.content_length else None

        assert (await asked("POST", "/message", json={"message": "x"}))[0] == 401
        for body in ({}, {"message": ""}, {"message": 3}, {"message": "x", "priority": "5"}, {"message": "x", "b": 1}):
            assert (await asked("POST", "/message", "Aout", json=body))[0] == 400
        status, made = await asked("POST", "/message", "Aout", json={"message": "x", "appid": 1})
        assert (status, made["appid"], made["title"]) == (200, 2, "Out")
        assert (await asked("POST", "/message", "Cbot", json={"message": "x"}))[0] == 400
        assert (await asked("GET", "/application", "Aout"))[0] == 401
        assert (await asked("GET", "/application/9/message", "Cbot"))[0] == 404
        assert (await asked("GET", "/message?limit=201", "Cbot"))[0] == 400
        assert (await asked("GET", "/message?since=-1", "Cbot"))[0] == 400
        status, page = await asked("GET", "/application/2/message", "Cbot")
        assert (status, page["messages"], page["paging"]["size"]) == (200, [made], 1)
        assert [(await asked("DELETE", "/message/1", token))[0] for token in ("Aout", "Cbot", "Cbot")] == [
            401,
            200,
            404,
        ]
