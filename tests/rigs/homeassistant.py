"""Home Assistant itself, with the companion app on Ann's phone: notifications come by push, answers by webhook."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web
from kit.gate import Gate, http
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.homeassistant import VERSION, HomeAssistant, running

NUMBERS = itertools.count(1)
PUSH = 4096  # bytes of a notification, all in all
ACTION = "mobile_app_notification_action"

Json = dict[str, Any]


class Phone:
    """What its owner sees: notifications in the order they came, each in the place of the one with its tag."""

    def __init__(self, house: HomeAssistant, who: str) -> None:
        self._house = house
        self._who = who
        self.seen: dict[str, Json] = {}
        self.refused: list[Json] = []
        self.news = asyncio.Event()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/push", self._push)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}/push"
        self._webhook, self.service = await asyncio.to_thread(self._house.phone, self._who, url)
        self._session = aiohttp.ClientSession(self._house.url)

    async def stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _push(self, request: web.Request) -> web.Response:
        """https://companion.home-assistant.io/docs/notifications/notifications-basic"""
        note = await request.json()
        size = len(json.dumps(note, ensure_ascii=False).encode())
        tag = str(note.get("data", {}).get("tag") or len(self.seen))
        if size > PUSH or len(note.get("data", {}).get("actions", ())) > 3:
            self.refused.append(note)
            return web.json_response({"message": "The notification is too large."}, status=413)
        if note["message"] == "clear_notification":
            self.seen.pop(tag, None)
        else:
            self.seen[tag] = note
        self.news.set()
        limits = {"successful": 1, "errors": 0, "maximum": 500, "resetsAt": "2026-01-01T00:00:00Z"}
        return web.json_response({"rateLimits": limits}, status=201)

    async def fire(self, kind: str, data: Json) -> None:
        """https://developers.home-assistant.io/docs/api/native-app-integration/sending-data#fire-event"""
        body = {"type": "fire_event", "data": {"event_type": kind, "event_data": data}}
        async with self._session.post(self._webhook, json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def write(self, note: Json, text: str) -> None:
        """Answer under a notification."""
        action = next(one for one in note["data"]["actions"] if one.get("behavior") == "textInput")
        await self.fire(ACTION, {"action": action["action"], "reply_text": text, "tag": note["data"]["tag"]})

    async def press(self, note: Json, label: str) -> None:
        action = next(one for one in note["data"]["actions"] if one["title"] == label)
        await self.fire(ACTION, {"action": action["action"], "tag": note["data"]["tag"]})


class Door(Gate):
    """Tells that the bot was cut off, before the house knows."""

    was_cut = False

    def cut(self) -> None:
        self.was_cut = True
        super().cut()


class HomeAssistantRig(Rig):
    kind = "homeassistant"
    written_by_others = True
    groups = False  # a house has no groups whose talk could be overheard
    redelivers = False  # an event that nobody listens to is over; Ann waits for the bot
    sending = b"POST /api/services/notify/"

    @property
    def server(self) -> str:
        return f"Home Assistant {VERSION}"

    async def start(self) -> None:
        self.house = await asyncio.to_thread(running)
        self.prefix = f"roost{next(NUMBERS)}"
        self.phone = Phone(self.house, "Ann")
        await self.phone.start()
        self.gate = await Door("127.0.0.1", self.house.port).__aenter__()
        headers = {"Authorization": f"Bearer {self.house.tokens['Ann']}"}
        self._session = aiohttp.ClientSession(self.house.url, headers=headers)

    async def stop(self) -> None:
        await self._session.close()
        await self.phone.stop()
        if self.gate is not None:
            await self.gate.__aexit__()

    def table(self) -> Json:
        assert self.gate is not None
        keys = {"base_url": self.gate.url, "token": self.house.tokens["Roost"], "prefix": self.prefix}
        return {**keys, "notify": {"person.ann": self.phone.service}}

    def bad_table(self) -> Json:
        return self.table() | {"token": "a-wrong-token"}

    async def _listeners(self) -> int:
        """How many listen to all that the bot wants to hear."""
        async with self._session.get("/api/events") as answer:
            counts = {one["event"]: one["listener_count"] for one in await answer.json()}
        return min(counts.get(f"{self.prefix}_message", 0), counts.get(ACTION, 0))

    async def heard(self) -> None:
        """Wait until the bot listens; after a cut, until the house has seen the end of the old connection too."""
        assert isinstance(self.gate, Door)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.4):  # the bot takes a longer pause before it comes back
                while self.gate.was_cut and await self._listeners():
                    await asyncio.sleep(0.002)
        self.gate.was_cut = False
        async with asyncio.timeout(LIMIT):
            while not await self._listeners():
                await asyncio.sleep(0.01)

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        """Ann answers under the last notification; before there is one, the app tells the house what she says."""
        await self.heard()
        notes = [one for one in self.phone.seen.values() if one["data"]["actions"][-1]["title"] == "Reply"]
        if notes:
            await self.phone.write(notes[-1], text)
        else:
            await self.phone.fire(f"{self.prefix}_message", {"text": text})
        return ""

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        assert not self.phone.refused
        return [shown(tag, note) for tag, note in self.phone.seen.items()]

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.phone.news.wait(), 0.05)
        self.phone.news.clear()

    async def press(self, shown: Shown, label: str) -> None:
        await self.heard()
        await self.phone.press(shown.raw, label)

    async def garbage(self) -> None:
        await self.heard()
        ours, mark = f"{self.prefix}_message", self.prefix.upper()
        for data in ({}, {"text": ""}, {"text": " "}, {"text": None}, {"chat": "a"}):
            await self.phone.fire(ours, data)
        for action in ("", "OPEN_1", mark, f"{mark}:", f"{mark}::", f"{mark}:a", f"{mark}:a:b:c", 3, None):
            await self.phone.fire(ACTION, {"action": action})
        await self.phone.fire(ACTION, {"action": f"{mark}:a:", "reply_text": 7.5})
        await self.phone.fire(ACTION, {})

    def too_fast(self, seconds: int) -> bytes:
        """What stands before a house: nginx's limit_req."""
        return http("429 Too Many Requests", b"<html>", content_type="text/html", retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("500 Internal Server Error", b"500 Internal Server Error", content_type="text/plain")


def shown(tag: str, note: Json) -> Shown:
    labels = tuple(one["title"] for one in note["data"]["actions"] if one.get("behavior") != "textInput")
    return Shown(tag, note["message"], buttons=labels, raw=note)


RIG = HomeAssistantRig
