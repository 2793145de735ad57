"""Slack: a strict server written from the documentation, with Socket Mode."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from servers.slack import Conversation, Delivery, Json, SlackServer
from servers.slack_blocks import buttons, seen

NAMES = {"👍": "+1"}


class SlackRig(Rig):
    kind = "slack"
    sending = b"/chat.postMessage"
    way = "socket"

    @property
    def server(self) -> str:
        return "a server of our own, from Slack's documentation of 2026"

    async def start(self) -> None:
        self._server = await SlackServer(self.way).__aenter__()
        self.ann = self._server.person("Ann", "ann")
        self.bob = self._server.person("Bob", "bob")
        self._direct = self._server.direct(self.ann)
        self._group = self._server.channel("tea", [self.ann, self.bob])
        address = urlsplit(self._server.url)
        self.gate = await Gate(str(address.hostname), address.port or 0).__aenter__()
        self._server.front = self.gate.url

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self._server.__aexit__()
        assert not self._server.complaints, self._server.complaints[:2]

    def table(self) -> Json:
        assert self.gate is not None
        keys = {"token": self._server.token, "app_token": self._server.app_token, "base_url": f"{self.gate.url}/api"}
        return keys | {"rate": 0, "place_rate": 0, "group_rate": 0}

    def bad_table(self) -> Json:
        return self.table() | {"token": "xoxb-wrong"}

    async def news(self) -> None:
        self._server.changed.clear()
        try:
            async with asyncio.timeout(0.05):
                await self._server.changed.wait()
        except TimeoutError:
            pass

    async def until(self, condition: Callable[[Sequence[Shown]], Any], chat: Chat = "direct") -> Sequence[Shown]:
        """Once the app knows of it too: what is posted shows before the app has its answer."""
        shown = await super().until(condition, chat)
        while self._server.busy:
            await self.news()
        await asyncio.sleep(0.01)
        return shown

    def _chat(self, chat: Chat) -> Conversation:
        return self._direct if chat == "direct" else self._group

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        root = {"thread_ts": thread} if thread else {}
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        said = await self._chat(chat).say(self.ann, f"<@{self._server.bot}> {text}" if mention else text, **root)
        return str(said["ts"])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [self._shown(one) for one in self._chat(chat).messages if one["user"] == self._server.bot]

    def _shown(self, one: Json) -> Shown:
        return Shown(
            id=one["ts"],
            text=seen(one),
            thread=one.get("thread_ts", ""),
            buttons=tuple(button["text"]["text"] for button in buttons(one)),
            files=tuple(self._server.contents[file["id"]] for file in one.get("files", [])),
            raw=one,
        )

    async def open_thread(self) -> str:
        return str((await self._group.say(self.bob, "who wants tea"))["ts"])

    async def say_again(self, shown: Shown) -> None:
        await self._direct.say(self.ann, shown.raw["text"], blocks=shown.raw["blocks"])

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        file = self._server.keep(name, mime, content)
        await self._direct.say(self.ann, text, files=[file], subtype="file_share", upload=True)

    async def edit(self, id: str, text: str) -> None:
        await self._direct.edit(id, text)

    async def react(self, shown: Shown, emoji: str) -> None:
        await self._direct.react(self.ann, shown.id, NAMES[emoji])

    async def reactions(self, id: str) -> Sequence[str]:
        said = self._direct.find(id)
        assert said is not None
        emoji = {name: char for char, name in NAMES.items()}
        return [emoji[one["name"]] for one in said.get("reactions", []) if self._server.bot in one["users"]]

    async def typed(self) -> int:
        return len([one for one in self._server.statuses if one["status"]])

    async def press(self, shown: Shown, label: str) -> None:
        await self._direct.press(self.ann, shown.id, label)

    async def again(self) -> None:
        """With the same event_id, as after an acknowledgement that got lost."""
        last = [one for one in self._server.acknowledged if one.payload["event"].get("user") == self.ann.id][-1]
        await self._server.deliver(last.kind, last.payload)

    async def taken(self) -> bool:
        last = [one for one in self._direct.messages if one["user"] == self.ann.id][-1]
        return any(one.payload.get("event", {}).get("ts") == last["ts"] for one in self._server.acknowledged)

    async def garbage(self) -> None:
        nonsense: list[Any] = [
            *({"type": "message"}, {"type": "message", "channel": 3, "user": "U1", "ts": "x"}, {"type": "odd"}, {}),
            {"type": "message", "channel": "D1", "user": self.ann.id, "ts": "1.0", "blocks": [{"type": "rich_text"}]},
            {"type": "message", "subtype": "message_changed", "channel": "D1", "message": None},
            {"type": "reaction_added", "item": []},
        ]
        for event in nonsense:
            await self._server.event(event)
        for payload in ({}, {"type": "event_callback"}, {"type": "block_actions"}, {"command": 3}):
            await self._server.deliver("interactive", payload)

    def too_fast(self, seconds: int) -> bytes:
        body = json.dumps({"ok": False, "error": "ratelimited"}).encode()
        return http("429 Too Many Requests", body, retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>502 Bad Gateway</html>", content_type="text/html")


class SlackHttpRig(SlackRig):
    """The same with events by HTTP, signed."""

    mode = "HTTP events"
    way = "http"
    web = True
    burst = 200  # the way after the door is that of the default, which takes 1,000

    def table(self) -> Json:
        return super().table() | {
            "mode": self.way,
            "app_token": "",
            "signing_secret": self._server.signing_secret,
        }

    async def opened(self, address: str) -> None:
        self._server.request_url = f"{address}/channels/slack"

    async def forged(self) -> int:
        body, headers = self._server.signed(self._delivery("forged"))
        return await self._post(body.replace(b"forged", b"f0rged"), headers)

    async def replayed(self) -> int:
        last = self._server.acknowledged[-1]
        return await self._post(*self._server.signed(last, at=time.time() - 3600))

    def _delivery(self, text: str) -> Delivery:
        event = {"type": "message", "channel": self._direct.id, "user": self.ann.id, "text": text, "ts": "1.000000"}
        return Delivery("events_api", {"type": "event_callback", "event_id": "Ev1", "event": event})

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        address = self._server.request_url
        async with aiohttp.ClientSession() as session, session.post(address, data=body, headers=headers) as answer:
            return answer.status


RIG = SlackRig
MODES = (SlackHttpRig,)
