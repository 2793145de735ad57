"""Home Assistant: what its events mean, and what the scenarios do not cover, against Home Assistant itself."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import assume, given
from hypothesis import strategies as st
from kit.rig import LIMIT
from kit.scenarios import answered
from kit.talk import Talk
from rigs.ear import Ear
from rigs.homeassistant import PUSH, HomeAssistantRig

from roost.channels.homeassistant import HomeAssistant, HomeAssistantConfig
from roost.channels.homeassistant_events import ACTION, House, house, notification, read, shown
from roost.errors import ConfigError, Undeliverable
from roost.testing import Stage
from roost.values import Button, Message, Place, Reply

Json = dict[str, Any]
HOUSE = house([["person.ann", "u-ann", "Ann"], ["person.bob", "u-bob", "Bob"], ["person.cat", "", "Cat"]])
FIRED = "2026-01-02T03:04:05.678901+00:00"
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def event(data: Json, user: str | None = None, kind: str = "roost_message", fired: str = FIRED) -> Json:
    context = {"id": "01ABC", "parent_id": None, "user_id": user}
    return {"event_type": kind, "data": data, "origin": "LOCAL", "time_fired": fired, "context": context}


def message(data: Json, user: str | None = None, residents: House = HOUSE) -> Message:
    found = read(event(data, user), "home", "roost", residents)
    assert found is not None
    return found


# What events mean


def test_a_user_speaks_in_a_chat_of_their_own() -> None:
    said = message({"text": "hello"}, "u-ann")
    assert (said.text, said.place, said.at) == ("hello", Place("home", "person.ann"), 1767323045.678901)
    assert (said.sender.id, said.sender.name) == ("u-ann", "Ann")


@pytest.mark.parametrize(
    ("value", "text"), [(42, "42"), (-1.5, "-1.5"), (True, "True"), ([1, "tea"], "[1, 'tea']"), (0, "0")]
)
def test_what_a_template_took_for_a_number_or_a_list_is_text_again(value: Any, text: str) -> None:
    assert message({"text": value}, "u-ann").text == text


def test_a_user_without_a_person_is_known_by_the_id() -> None:
    said = message({"text": "hello"}, "u-guest")
    assert (said.place.chat, said.sender.id, said.sender.name) == ("u-guest", "u-guest", "")


def test_an_automation_says_for_whom_it_speaks() -> None:
    ann, cat = message({"text": "hi", "person": "person.ann"}), message({"text": "hi", "person": "person.cat"})
    assert (ann.sender.id, ann.sender.name, ann.place.chat) == ("u-ann", "Ann", "person.ann")
    assert (cat.sender.id, cat.sender.name, cat.place.chat) == ("person.cat", "Cat", "person.cat")
    assert message({"text": "hi", "person": "The cleaner"}).sender.name == "The cleaner"


def test_a_user_cannot_speak_as_somebody_else() -> None:
    said = message({"text": "I am Ann", "person": "person.ann"}, "u-bob")
    assert (said.sender.id, said.place.chat) == ("u-bob", "person.bob")


def test_nobody_enters_the_chat_of_somebody_else() -> None:
    assert message({"text": "hi", "chat": "person.ann"}, "u-bob").place.chat == "person.bob"
    assert message({"text": "hi", "chat": "person.ann"}, "u-ann").place.chat == "person.ann"
    assert message({"text": "hi", "chat": "kitchen"}, "u-bob").place.chat == "kitchen"


def test_an_event_of_nobody_is_the_house_speaking() -> None:
    said = message({"text": "The door is open."})
    assert (said.sender.id, said.place.chat, said.place.kind) == ("home", "home", "direct")
    assert message({"text": "hi", "chat": "kitchen", "group": True}).place.kind == "group"


def test_two_events_of_one_script_are_two_messages_and_two_with_one_id_are_one() -> None:
    later = FIRED.replace("678901", "678902")
    first, second = (read(event({"text": "a"}, fired=moment), "home", "roost", HOUSE) for moment in (FIRED, later))
    assert first is not None and second is not None and first.identity != second.identity
    first, second = (read(event({"text": "a", "id": 7}, fired=one), "home", "roost", HOUSE) for one in (FIRED, later))
    assert first is not None and second is not None and first.identity == second.identity
    assert first.ticket == "7"


@given(chat=WORDS, value=WORDS, label=WORDS)
def test_a_pressed_button_says_what_it_stands_for_in_the_chat_it_was_shown_in(
    chat: str, value: str, label: str
) -> None:
    made = notification(Reply("?", buttons=(Button(label, value),)), chat, "Roost", "tag", "roost")
    actions = made["data"]["actions"]
    assume(len(actions) == 2)  # one that is too large is a line under the text
    press, field = actions
    said = read(event({"action": press["action"]}, "u-ann", ACTION), "home", "roost", HOUSE)
    assert said is not None and (said.text, said.place.chat) == (value, chat)
    said = read(event({"action": field["action"], "reply_text": "no"}, "u-ann", ACTION), "home", "roost", HOUSE)
    assert said is not None and (said.text, said.place.chat, said.sender.name) == ("no", chat, "Ann")


def test_actions_of_others_are_not_for_the_bot() -> None:
    for action in ("OPEN_1", "REPLY", "ROOSTER:a:b", "OTHER:person.ann:yes", ""):
        assert read(event({"action": action, "reply_text": "x"}, "u-ann", ACTION), "home", "roost", HOUSE) is None


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@given(st.dictionaries(st.sampled_from(["text", "chat", "person", "id", "group", "action", "reply_text"]), JSON), JSON)
def test_what_makes_no_sense_is_refused_and_nothing_worse(data: Json, context: Any) -> None:
    for kind in ("roost_message", ACTION):
        try:
            found = read(event(data, kind=kind) | {"context": context}, "home", "roost", HOUSE)
        except ValueError:
            continue
        assert found is None or found.text.strip()


# What a phone is sent


@pytest.mark.parametrize("text", ["clear_notification", "TTS", " command_dnd ", "request_location_update"])
def test_a_text_that_is_a_command_to_the_app_is_shown(text: str) -> None:
    made = notification(Reply(f"`{text}`"), "person.ann", "Roost", "t", "roost")["message"]
    assert made.strip("\u200b ") == text.strip() and made.strip() != text.strip()
    assert shown(f"Say {text} please") == f"Say {text} please"


def test_a_long_text_and_long_buttons_fit_into_a_push_message() -> None:
    buttons = tuple(Button(f"Button {n} " + "x" * 80, "y" * 400) for n in range(3))
    for text in ("a" * 2500, "你" * 833, "🦉" * 625):
        for some in ((), buttons, (Button("Yes", "y"), Button("No", "n"), Button("Open", url="https://example.org"))):
            made = notification(Reply(text, buttons=some), "person.ann", "Roost", "roost-" + "k" * 40, "roost")
            assert len(json.dumps(made, ensure_ascii=False).encode()) < PUSH - 600, "the app's registration comes too"
            assert all(one.text in made["message"] for one in some) or len(made["data"]["actions"]) == 3


# Against Home Assistant


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    rig = HomeAssistantRig(tmp_path)
    try:
        await rig.start()
        rig.prefix = "roost"
        yield Talk(rig, tmp_path)
    finally:
        await rig.stop()


def home(talk: Talk) -> HomeAssistantRig:
    assert isinstance(talk.rig, HomeAssistantRig)
    return talk.rig


class Listener:
    """An administrator's page that shows an event as it happens, and asks for what there is."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, kind: str, **keys: Any) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "type": kind, **keys})
        while (said := await self._socket.receive_json()).get("id") != self._number or said["type"] != "result":
            pass
        assert said["success"], said
        return said["result"]

    async def next(self) -> Json:
        while (said := await self._socket.receive_json())["type"] != "event":
            pass
        data: Json = said["event"]["data"]
        return data


@asynccontextmanager
async def listening(rig: HomeAssistantRig, *kinds: str) -> AsyncIterator[Listener]:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{rig.house.url}/api/websocket") as socket:
        await socket.receive_json()
        await socket.send_json({"type": "auth", "access_token": rig.house.tokens["Ann"]})
        assert (await socket.receive_json())["type"] == "auth_ok"
        page = Listener(socket)
        for kind in kinds:
            await page.ask("subscribe_events", event_type=kind)
        async with asyncio.timeout(LIMIT):
            yield page


async def ask(rig: HomeAssistantRig, path: str, body: Json, who: str = "Ann") -> Any:
    return await asyncio.to_thread(rig.house.ask, "POST", path, body, who)


async def test_a_user_who_may_do_little_speaks_through_a_script_and_is_answered_by_an_event(talk: Talk) -> None:
    rig = home(talk)
    async with talk.up(), listening(rig, "roost_reply") as page:
        await rig.heard()
        await ask(rig, "/api/services/script/tell_roost", {"text": "hello **there**"}, "Guest")
        data = await page.next()
    guest = rig.house.users["Guest"]
    assert (data["chat"], data["text"], data["markdown"]) == (guest, "echo hello there", "echo hello **there**")
    assert talk.said[-1].sender.id == guest


async def test_the_voice_assistant_speaks_the_answer(talk: Talk) -> None:
    rig = home(talk)
    async with talk.up():
        await rig.heard()
        said = await ask(rig, "/api/conversation/process", {"text": "ask roost what is tea", "language": "en"})
    assert said["response"]["speech"]["plain"]["speech"] == "echo what is tea"
    assert (talk.said[-1].place.chat, talk.said[-1].place.kind) == ("assist", "group")


async def test_two_events_with_one_id_are_answered_once(talk: Talk) -> None:
    rig = home(talk)
    async with talk.up(), listening(rig, "roost_reply") as page:
        await rig.heard()
        for text, id in (("one", "a"), ("one", "a"), ("two", "b")):
            await ask(rig, "/api/events/roost_message", {"text": text, "id": id, "chat": "kitchen"})
        answers = [await page.next(), await page.next()]
    assert [(one["text"], one["to"]) for one in answers] == [("echo one", "a"), ("echo two", "b")]


async def test_the_panel_shows_a_message_once_and_changed_and_no_longer(talk: Talk) -> None:
    rig, place = home(talk), Place("homeassistant", "persistent_notification")
    async with talk.up() as stage, listening(rig) as page:
        channel = talk.channel(stage)

        async def texts() -> list[str]:  # the house says things of its own there, such as who failed to log in
            said = await page.ask("persistent_notification/get")
            return [one["message"] for one in said if one["notification_id"] == sent.ids[0]]

        for _ in range(2):
            sent = await channel.send(place, Reply("**Tea** is ready", key="k1", buttons=(Button("Good", "g"),)))
        assert await texts() == ["**Tea** is ready\n\n- Good"]
        await channel.edit(sent, Reply("Tea is cold"))
        assert await texts() == ["Tea is cold"]
        await channel.delete(sent)
        assert await texts() == []


async def test_an_answer_that_is_changed_or_taken_back_is_told_by_an_event(talk: Talk) -> None:
    rig, place = home(talk), Place("homeassistant", "kitchen")
    async with talk.up() as stage, listening(rig, "roost_reply") as page:
        channel = talk.channel(stage)
        sent = await channel.send(place, Reply("one", buttons=(Button("Yes", "y"),)))
        await channel.edit(sent, Reply("two"))
        await channel.delete(sent)
        first, second, third = [await page.next() for _ in range(3)]
    assert first["buttons"] == [{"text": "Yes", "value": "y", "url": ""}]
    assert (second["id"], second["text"], second["edited"]) == (first["id"], "two", True)
    assert (third["id"], third["deleted"]) == (first["id"], True)


async def test_a_notifier_that_is_not_there_is_named(talk: Talk) -> None:
    async with talk.up() as stage:
        channel = talk.channel(stage)
        with pytest.raises(Undeliverable, match="services/notify/nobody"):
            await channel.send(Place("homeassistant", "notify.nobody"), Reply("hello"))


async def test_a_quiet_connection_is_asked_whether_it_is_there(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.channels.homeassistant.QUIET", 0.2)
    pulses = asyncio.Semaphore(0)
    async with talk.up() as stage:
        connections = home(talk).gate.connections  # type: ignore[union-attr]
        monkeypatch.setattr(type(talk.channel(stage).host), "pulse", lambda host: pulses.release())
        async with asyncio.timeout(LIMIT):
            for _ in range(4):
                await pulses.acquire()
        assert home(talk).gate.connections == connections  # type: ignore[union-attr]


async def test_a_person_who_moves_in_is_known_at_once(talk: Talk) -> None:
    rig = home(talk)
    async with talk.up(), listening(rig, "roost_reply") as page:
        await rig.heard()
        guest = rig.house.users["Guest"]
        made = await page.ask("person/create", name="Gus", user_id=guest, device_trackers=[])
        try:
            await ask(rig, "/api/services/script/tell_roost", {"text": "hello"}, "Guest")
            assert (await page.next())["chat"] == "person.gus"
        finally:
            await page.ask("person/delete", person_id=made["id"])


async def test_a_house_that_restarts_is_found_again(talk: Talk) -> None:
    rig = home(talk)
    async with talk.up() as stage:
        await rig.say("one")
        await rig.until(answered("echo one"))
        await asyncio.to_thread(rig.house.halt)
        await stage.bot.send(talk.said[-1].place, "said while it was down")
        await asyncio.to_thread(rig.house.start)
        await rig.until(answered("echo one", "said while it was down"))
        await rig.say("two")
        await rig.until(answered("echo two"))


# What is wrong in bot.toml


async def stopped(talk: Talk, table: Json) -> str:
    async with talk.up(table=table) as stage:
        return await problem(stage)


async def problem(stage: Stage) -> str:
    bad = stage.bot.channels["homeassistant"]
    async with asyncio.timeout(LIMIT):
        while bad.state != "stopped":
            await asyncio.sleep(0.01)
    return str(bad.problem)


async def test_a_token_of_a_mere_user_is_explained(talk: Talk) -> None:
    told = await stopped(talk, talk.rig.table() | {"token": home(talk).house.tokens["Guest"]})
    assert "administrator" in told


async def test_a_route_to_nowhere_is_explained(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    async with talk.up(table=talk.rig.table() | {"notify": {"kitchen": "light.kitchen"}}) as stage:
        assert "homeassistant" not in stage.bot.channels
    assert "'light.kitchen'" in caplog.text and "in 'kitchen'" in caplog.text


@pytest.mark.parametrize("url", ["homeassistant.local:8123", "homeassistant.local", "http://", "http://[::1"])
def test_what_is_no_address_is_refused_before_it_is_looked_for(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"base_url = '{url}' is no address.")):
        HomeAssistant("homeassistant", HomeAssistantConfig(base_url=url, token="t"), Ear(tmp_path))  # type: ignore[arg-type]


async def test_an_address_without_a_home_assistant_is_explained(talk: Talk) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        assert "'base_url'" in await stopped(talk, talk.rig.table() | {"base_url": url})
    finally:
        await runner.cleanup()


async def test_a_server_that_was_there_is_waited_for_when_a_proxy_says_it_is_not(tmp_path: Path) -> None:
    statuses = [101, 404, 200, 101]
    seen: list[int] = []

    async def socket(request: web.Request) -> web.StreamResponse:
        seen.append(status := statuses[min(len(seen), len(statuses) - 1)])
        if status != 101:
            return web.Response(status=status, text="page")
        speaking = web.WebSocketResponse()
        await speaking.prepare(request)
        await speaking.send_json({"type": "auth_required"})
        await speaking.receive()
        await speaking.send_json({"type": "auth_ok"})
        for _ in range(2):
            asked = await speaking.receive_json()
            await speaking.send_json({"id": asked["id"], "type": "result", "success": True, "result": None})
        if len(seen) == len(statuses):
            await speaking.receive()
        return speaking

    async def residents(request: web.Request) -> web.Response:
        return web.Response(text="[]")

    app = web.Application()
    app.router.add_get("/api/websocket", socket)
    app.router.add_post("/api/template", residents)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ear = Ear(tmp_path)
    config = HomeAssistantConfig(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}", token="t")
    running = asyncio.create_task(HomeAssistant("home", config, ear).run(ear.receive))
    try:
        await ear.until(lambda: len(seen) == len(statuses) or running.done())
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runner.cleanup()
