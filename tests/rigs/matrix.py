"""Matrix: a real homeserver, Synapse, with people who speak to it over its client-server API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import quote as part

from kit.gate import Gate, http
from kit.rig import Chat, Rig, Shown
from nio.crypto import decrypt_attachment  # type: ignore[import-untyped]
from servers import synapse
from servers.matrix_people import Friend, Member

Json = dict[str, Any]


class MatrixRig(Rig):
    kind = "matrix"
    written_by_others = True
    sending = b"/send/m.room.message/"
    # One message and its answer cost Synapse about 60 ms: six requests, with those for typing and receipts.
    burst = 300
    state: ClassVar[Sequence[Json]] = ()  # what rooms begin with

    @property
    def server(self) -> str:
        return f"Synapse {synapse.VERSION}"

    async def start(self) -> None:
        server = await asyncio.to_thread(synapse.running)
        self.gate = await Gate("127.0.0.1", server.port).__aenter__()
        self.bot, self.ann, self._bob = Member("Roost"), Member("Ann"), Member("Bob")
        for one in (self.bot, self.ann, self._bob):
            await one.__aenter__()
        self._rooms = {
            "direct": await self.ann.room(self.bot, direct=True, initial_state=self.state),
            "group": await self.ann.room(self._bob, name="Tea", initial_state=self.state),
        }
        group = f"v3/rooms/{part(self._rooms['group'])}"
        await self._bob.ask("POST", f"{group}/join", {})
        await self.ann.ask("POST", f"{group}/invite", {"user_id": self.bot.id})
        self._files: dict[str, bytes] = {}

    async def _send(self, chat: Chat, content: Json, kind: str = "m.room.message") -> str:
        return await self.ann.send(self._rooms[chat], content, kind)

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        for one in (self.bot, self.ann, self._bob):
            await one.__aexit__()

    def table(self) -> Json:
        assert self.gate is not None
        return {"base_url": self.gate.url, "token": self.bot.token}

    def bad_table(self) -> Json:
        return self.table() | {"token": "syt_wrong"}

    async def news(self) -> None:
        await self.ann.sync()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        content: Json = {"msgtype": "m.text", "body": text, "m.mentions": {}}
        if mention:
            pill = f'<a href="https://matrix.to/#/{self.bot.id}">Roost</a>'
            content |= {"body": f"Roost: {text}", "m.mentions": {"user_ids": [self.bot.id]}}
            content |= {"format": "org.matrix.custom.html", "formatted_body": f"{pill}: {text}"}
        relates: Json = {"rel_type": "m.thread", "event_id": thread, "is_falling_back": True} if thread else {}
        if quote or thread:
            relates["m.in_reply_to"] = {"event_id": quote or thread}
        return await self._send(chat, content | ({"m.relates_to": relates} if relates else {}))

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        events = await self._events(self._rooms[chat])
        redacted = {one.get("redacts") or one["content"].get("redacts") for one in events if one["type"] == REDACTION}
        edits = {relation(one)["event_id"]: one for one in self._mine(events) if rel_type(one) == "m.replace"}
        first = [one for one in self._mine(events) if rel_type(one) != "m.replace" and one["event_id"] not in redacted]
        return [await self._shown(one, edits.get(one["event_id"])) for one in first]

    async def _events(self, room: str) -> Sequence[Json]:
        """What has happened in a room."""
        await self.ann.sync()
        return self.ann.events.get(room, [])

    def _mine(self, events: Sequence[Json]) -> Sequence[Json]:
        mine = [one for one in events if one["sender"] == self.bot.id and one["type"] == "m.room.message"]
        return [one for one in mine if one["content"]]

    async def _shown(self, one: Json, edit: Json | None) -> Shown:
        content = edit["content"]["m.new_content"] if edit else one["content"]
        relates = relation(one)
        thread = relates["event_id"] if relates.get("rel_type") == "m.thread" else ""
        quoted = "" if relates.get("is_falling_back") else relates.get("m.in_reply_to", {}).get("event_id", "")
        html = content.get("formatted_body")
        text = seen(html) if html else content["body"]
        return Shown(one["event_id"], text, quoted, thread, (), await self._contents(content), content)

    async def _contents(self, content: Json) -> tuple[bytes, ...]:
        address = content.get("url")
        if address and address not in self._files:
            self._files[address] = await self.ann.download(address)
        return (self._files[address],) if address else ()

    async def open_thread(self) -> str:
        return await self.say("let us speak of tea", "group")

    async def say_again(self, shown: Shown) -> None:
        kept = {name: value for name, value in shown.raw.items() if name != "m.relates_to"}
        await self._send("direct", kept)

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        file = {
            "msgtype": "m.image",
            "body": text or name,
            "filename": name,
            **await self._uploaded(name, mime, content),
        }
        await self._send("direct", file | {"info": {"mimetype": mime, "size": len(content)}})

    async def _uploaded(self, name: str, mime: str, content: bytes) -> Json:
        return {"url": await self.ann.upload(name, mime, content)}

    async def edit(self, id: str, text: str) -> None:
        relates = {"rel_type": "m.replace", "event_id": id}
        fresh = {"msgtype": "m.text", "body": text, "m.mentions": {}}
        edited = {"msgtype": "m.text", "body": f"* {text}", "m.new_content": fresh, "m.relates_to": relates}
        await self._send("direct", edited)

    async def react(self, shown: Shown, emoji: str) -> None:
        relates = {"rel_type": "m.annotation", "event_id": shown.id, "key": emoji}
        await self._send("direct", {"m.relates_to": relates}, "m.reaction")

    async def reactions(self, id: str) -> Sequence[str]:
        path = f"v1/rooms/{part(self._rooms['direct'])}/relations/{part(id)}/m.annotation"
        found = (await self.ann.ask("GET", path))["chunk"]
        return [relation(one)["key"] for one in found if one["sender"] == self.bot.id and one["content"]]

    async def typed(self) -> int:
        return self.ann.typing.count((self._rooms["direct"], self.bot.id))

    async def garbage(self) -> None:
        """Synapse itself asks for a body that is text; other servers, and what is encrypted, may hold anything."""
        room = self._rooms["direct"]
        one = next(event["event_id"] for event in await self._events(room) if event["type"] == "m.room.message")
        for content in (
            {"msgtype": "m.image", "body": "x", "url": 9, "file": [], "info": "big"},
            {"msgtype": "m.location", "body": "x", "geo_uri": None},
            {"msgtype": "m.text", "body": "", "formatted_body": 5, "format": "org.matrix.custom.html"},
            {"msgtype": "m.text", "body": "x", "m.relates_to": {"m.in_reply_to": 5, "rel_type": "m.thread"}},
            {"msgtype": "m.text", "body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": one}},
        ):
            await self._send("direct", content)
        await self._send("direct", {"m.relates_to": {"rel_type": "m.annotation"}}, "m.reaction")
        await self._send("direct", {"strange": [1, {}]}, "org.example.strange")
        await self.ann.send(room, {"algorithm": "m.megolm.v1.aes-sha2"}, "m.room.encrypted")

    def too_fast(self, seconds: int) -> bytes:
        said = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": seconds * 1000}
        return http("429 Too Many Requests", json.dumps(said).encode(), retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("502 Bad Gateway", b"<html>502 Bad Gateway</html>", content_type="text/html")


REDACTION = "m.room.redaction"


def relation(event: Json) -> Json:
    found: Json = event["content"].get("m.relates_to", {})
    return found


def rel_type(event: Json) -> str:
    return str(relation(event).get("rel_type", ""))


class _Seen(HTMLParser):
    """What a person sees of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._number = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.text += "\n" if tag in {"br", "p", "li", "pre", "blockquote"} and self.text else ""
        self._number = int(dict(attrs).get("start", 1)) if tag == "ol" else 0 if tag == "ul" else self._number
        if tag == "li" and self._number:
            self.text += f"{self._number}. "
            self._number += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(html: str) -> str:
    reader = _Seen()
    reader.feed(html)
    reader.close()
    return reader.text


class EncryptedRig(MatrixRig):
    """The same in encrypted rooms: another program of Ann's has keys, and nothing she or the bot writes is in clear."""

    mode = "encrypted"
    sending = b"/send/m.room.encrypted/"
    burst = 50  # the way after the deciphering is that of the default
    state = ({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},)

    async def start(self) -> None:
        await super().start()
        self._friend = await Friend(self.ann, await self.ann.log_in_again()).__aenter__()
        self._met: set[str] = set()

    async def stop(self) -> None:
        await self._friend.__aexit__()
        await super().stop()

    async def _send(self, chat: Chat, content: Json, kind: str = "m.room.message") -> str:
        room, client = self._rooms[chat], self._friend.client
        if room not in self._met:
            await self._friend.meet(room, 2 if chat == "direct" else 3)
            await self._friend.until(lambda: self.bot.id in client.device_store.users)
            self._met.add(room)
        sent = await client.room_send(room, kind, content, ignore_unverified_devices=True)
        return str(sent.event_id)

    async def _events(self, room: str) -> Sequence[Json]:
        events, _ = await asyncio.gather(super()._events(room), self._friend.sync())
        assert not [one for one in self._mine(events) if one["type"] == "m.room.message"], "in the clear"
        plain = {one.event_id: one.source for one in self._friend.said}
        return [plain.get(one["event_id"], one) for one in events]

    async def _contents(self, content: Json) -> tuple[bytes, ...]:
        assert "url" not in content, "in the clear"
        file = content.get("file")
        if not file:
            return ()
        stored = await self.ann.download(file["url"])
        return (decrypt_attachment(stored, file["key"]["k"], file["hashes"]["sha256"], file["iv"]),)

    async def _uploaded(self, name: str, mime: str, content: bytes) -> Json:
        client, size = self._friend.client, len(content)
        told, key = await client.upload(lambda *tries: BytesIO(content), mime, name, True, filesize=size)
        return {"file": {"url": told.content_uri, **key}}


RIG = MatrixRig
MODES = (EncryptedRig,)
