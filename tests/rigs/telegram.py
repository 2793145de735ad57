"""Telegram: a strict server written from the Bot API's documentation."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from kit.gate import Front, Gate, http
from kit.rig import Chat, Rig, Shown
from servers.telegram import TelegramServer

Json = dict[str, Any]
SECRET = "s3cret-of-the-webhook"


class TelegramRig(Rig):
    kind = "telegram"
    sending = b"/sendMessage"

    @property
    def server(self) -> str:
        return "a server of our own, from the Bot API 10.1 documentation"

    async def start(self) -> None:
        self._server = await TelegramServer().__aenter__()
        self._server.privacy = False
        self.ann = self._server.person("Ann", "ann")
        self._direct = self._server.private(self.ann)
        self._forum = self._server.forum("Tea", [self.ann, self._server.person("Bob", "bob")])
        address = urlsplit(self._server.base_url)
        self.gate = await Gate(str(address.hostname), address.port or 0).__aenter__()

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self._server.__aexit__()
        complaints = self._server.complaints
        assert not complaints, complaints[:2]

    def table(self) -> Json:
        assert self.gate is not None
        return {"token": self._server.token, "base_url": self.gate.url, "rate": 0, "place_rate": 0, "group_rate": 0}

    def bad_table(self) -> Json:
        return self.table() | {"token": "110201543:wrong"}

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        said = await self._chat(chat).say(
            f"@roost_bot {text}" if mention else text,
            reply_to=int(quote) if quote else None,
            topic=int(thread) if thread else None,
        )
        return str(said["message_id"])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [self._shown(one) for one in self._chat(chat).messages if one["from"]["is_bot"]]

    def _shown(self, one: Json) -> Shown:
        rows = one.get("reply_markup", {}).get("inline_keyboard", [])
        return Shown(
            id=str(one["message_id"]),
            text=str(one.get("text") or one.get("caption") or ""),
            quote=str(one.get("reply_to_message", {}).get("message_id", "")),
            thread=str(one.get("message_thread_id", "")),
            buttons=tuple(button["text"] for row in rows for button in row),
            files=tuple(self._files(one)),
            raw=one,
        )

    def _files(self, one: Json) -> Sequence[bytes]:
        found = [one["photo"][-1]] if "photo" in one else [one["document"]] if "document" in one else []
        return [self._server.files[part["file_id"]].data for part in found]

    def _chat(self, chat: Chat) -> Any:
        return self._direct if chat == "direct" else self._forum

    async def open_thread(self) -> str:
        return str(await self._forum.topic("Green"))

    async def say_again(self, shown: Shown) -> None:
        await self._direct.say(shown.text, entities=shown.raw.get("entities", []))

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        await self._direct.say(text, photo=content, name=name, mime=mime)

    async def edit(self, id: str, text: str) -> None:
        await self._direct.edit(int(id), text)

    async def react(self, shown: Shown, emoji: str) -> None:
        await self._direct.react(int(shown.id), emoji)

    async def reactions(self, id: str) -> Sequence[str]:
        given = self._direct.reactions.get(int(id), {}).get(self._server.user["id"], [])
        return [one["emoji"] for one in given]

    async def typed(self) -> int:
        return len([one for one in self._server.actions if one.action == "typing"])

    async def press(self, shown: Shown, label: str) -> None:
        await self._direct.press(int(shown.id), label)

    async def again(self) -> None:
        last = [one for one in self._direct.messages if not one["from"]["is_bot"]][-1]
        self._server.push("message", dict(last))

    async def taken(self) -> bool:
        return not (self._server.webhook.pending() if self._server.webhook else self._server.updates)

    async def garbage(self) -> None:
        for body in (
            {},
            {"message_id": "x", "chat": 3},
            {"message_id": 1, "date": 0, "chat": {"id": 1, "type": "odd"}},
        ):
            self._server.push("message", body)

    def too_fast(self, seconds: int) -> bytes:
        told = {"ok": False, "error_code": 429, "description": f"Too Many Requests: retry after {seconds}"}
        body = json.dumps(told | {"parameters": {"retry_after": seconds}}).encode()
        return http("429 Too Many Requests", body, retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>502 Bad Gateway</html>", content_type="text/html")


class TelegramHookRig(TelegramRig):
    """The same by webhook, at an address in front of the web face."""

    mode = "webhook"
    web = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.front = Front("127.0.0.1", 1)

    async def start(self) -> None:
        await super().start()
        await self.front.__aenter__()

    async def stop(self) -> None:
        await self.front.__aexit__()
        await super().stop()

    async def opened(self, address: str) -> None:
        self.front.open_to(address)

    def table(self) -> Json:
        return super().table() | {"mode": "webhook", "public_url": self.front.url, "secret": SECRET}

    async def garbage(self) -> None:
        await super().garbage()
        for body in (b"", b"[]", b"null", b"3", b"{", b'{"update_id": []}', b"\xff"):
            assert await self._post(body, SECRET) in (200, 400)

    async def forged(self) -> int:
        said = {"message_id": 999, "date": int(time.time()), "text": "forged"}
        body = said | {"chat": self._direct.info, "from": self.ann.user}
        return await self._post(json.dumps({"update_id": 999_999_999, "message": body}).encode(), SECRET[:-1])

    async def _post(self, body: bytes, secret: str) -> int:
        headers = {"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": secret}
        address = f"{self.front.url}/channels/telegram"
        async with aiohttp.ClientSession() as session, session.post(address, data=body, headers=headers) as answer:
            return answer.status


RIG = TelegramRig
MODES = (TelegramHookRig,)
