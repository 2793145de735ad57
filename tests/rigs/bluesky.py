"""Bluesky's conversations, of Ann with the bot and of both with Bob, on a server of our own.

Public threads have no talk that the bot overhears; they are tested in tests/channels/test_bluesky.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from servers.bluesky import CONVO, BlueskyServer


class BlueskyRig(Rig):
    kind = "bluesky"
    sending = b"chat.bsky.convo.sendMessage"

    @property
    def server(self) -> str:
        return "own server, from the lexicons"

    async def start(self) -> None:
        self.platform = await BlueskyServer().__aenter__()
        self.ann = self.platform.account("ann.example.org", "Ann")
        self.bob = self.platform.account("bob.example.org", "Bob")
        self.bot = self.platform.account("bot.example.org", "Roost")
        self.convos = {
            "direct": self.platform.converse(self.ann, self.bot),
            "group": self.platform.converse(self.ann, self.bob, self.bot, group="Lunch"),
        }
        self._news = asyncio.Event()
        self.platform.news = self._news.set
        self.gate = await Gate("127.0.0.1", self.platform.port).__aenter__()

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self.platform.__aexit__()

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.1)
        self._news.clear()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        account = {"handle": self.bot.handle, "password": self.bot.password}
        return {"base_url": self.gate.url, **account, "poll": 0.1, "rate": 0, "group_rate": 0}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "abcd-efgh-ijkl-mnop"}

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        message: dict[str, Any] = {"text": f"@{self.bot.handle} {text}" if mention else text}
        if mention:
            message["facets"] = self.platform.mention(self.bot, message["text"])
        if quote:
            message["replyTo"] = {"messageId": quote}
        return str(self.platform.message(self.ann, self.convos[chat], **message)["id"])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        """What the bot said; without what it deleted, which is deleted for itself alone: there is no other deleting."""
        return [
            Shown(one["id"], one["text"], one.get("replyTo", {}).get("id", ""), raw=one)
            for one in self.convos[chat].messages
            if one["sender"]["did"] == self.bot.did and one["id"] not in self.bot.hidden
        ]

    async def react(self, shown: Shown, emoji: str) -> None:
        self.platform.reacted(self.ann, self.convos["direct"], shown.id, emoji)

    async def reactions(self, id: str) -> Sequence[str]:
        (view,) = [one for one in self.convos["direct"].messages if one["id"] == id]
        return [one["value"] for one in view["reactions"] if one["sender"]["did"] == self.bot.did]

    async def again(self) -> None:
        mine = [one for one in self.convos["direct"].messages if one["sender"]["did"] == self.ann.did]
        self.platform.again(self.convos["direct"], mine[-1])

    async def garbage(self) -> None:
        """Entries of kinds and shapes that the log does not have yet, and a conversation that is not there."""
        view = {"$type": f"{CONVO}#messageView", "id": "x", "rev": "x", "text": 7, "sender": None, "sentAt": "never"}
        convo = self.convos["direct"]
        for entry in (
            {"$type": f"{CONVO}#logCreateMessage", "convoId": convo.id, "message": view},
            {"$type": f"{CONVO}#logCreateMessage", "convoId": convo.id, "message": {"$type": f"{CONVO}#newView"}},
            {"$type": f"{CONVO}#logCreateMessage", "convoId": convo.id},
            {"$type": f"{CONVO}#logCreateMessage", "convoId": "gone", "message": view},
            {"$type": f"{CONVO}#logAddReaction", "convoId": convo.id, "message": view, "reaction": "?"},
            {"$type": f"{CONVO}#logSomethingNew"},
            {},
        ):
            self.bot.log.append({"rev": self.platform._rev(), **entry})
        self.platform.lenient = True

    def too_fast(self, seconds: int) -> bytes:
        """A second more, since the server tells a moment in whole seconds."""
        reset = str(int(time.time()) + seconds + 1)
        told = {"ratelimit-limit": "5000", "ratelimit-remaining": "0", "ratelimit-reset": reset}
        body = json.dumps({"error": "RateLimitExceeded", "message": "Rate Limit Exceeded"}).encode()
        return http("429 Too Many Requests", body, **told)

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b'{"error": "UpstreamFailure", "message": "Upstream service unreachable"}')


RIG = BlueskyRig
