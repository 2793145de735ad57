"""nostr-relay, with Ann and Bob as keys on it, each a client that keeps NIP-17."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from nostr_sdk import (
    Event,
    EventBuilder,
    Keys,
    Kind,
    PublicKey,
    Tag,
    Timestamp,
    UnsignedEvent,
    UnwrappedGift,
    nip59_make_gift_wrap,
)
from servers.nostr import running

Json = dict[str, Any]


class NostrRig(Rig):
    """What a person's client shows: messages by the time they say they were written at, each once, none deleted."""

    kind = "nostr"
    written_by_others = True

    @property
    def server(self) -> str:
        return "nostr-relay 1.14"

    async def start(self) -> None:
        relay = running()
        self.bot, self._ann, self._bob = Keys.generate(), Keys.generate(), Keys.generate()
        self.gate = await Gate("127.0.0.1", relay.port).__aenter__()
        self._clock = 0
        self._last: tuple[UnsignedEvent, list[Keys]] | None = None
        self._rumors: dict[str, Json] = {}
        self._confirmed: dict[str, asyncio.Future[list[Any]]] = {}
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._session = aiohttp.ClientSession()
        self._line = await self._session.ws_connect(relay.url, heartbeat=30)
        self._reading = asyncio.create_task(self._read())
        await self._line.send_json(["REQ", "ann", {"kinds": [1059], "#p": [public(self._ann)]}])
        async with asyncio.timeout(LIMIT):
            await self._ready.wait()

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._session.close()
        if self.gate is not None:
            await self.gate.__aexit__()

    async def _read(self) -> None:
        async for frame in self._line:
            kind, *rest = json.loads(frame.data)
            if kind == "OK":
                self._confirmed[rest[0]].set_result(rest[1:])
            elif kind == "EOSE":
                self._ready.set()
            elif kind == "EVENT":
                gift = UnwrappedGift.from_gift_wrap(self._ann, Event.from_json(json.dumps(rest[1])))
                rumor = json.loads(gift.rumor().as_json())
                self._rumors.setdefault(rumor["id"], rumor)
                self._news.set()

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.05)
        self._news.clear()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {"relays": [f"ws://127.0.0.1:{self.gate.port}"], "secret_key": self.bot.secret_key().to_bech32()}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"secret_key": "nsec1" + "q" * 58}

    def _now(self) -> int:
        """A clock of seconds that never stands still: clients have nothing else to put messages in order."""
        self._clock = max(int(time.time()), self._clock + 1)
        return self._clock

    async def _send(self, kind: int, content: str, tags: list[list[str]], chat: Chat = "direct") -> str:
        to = [self.bot] if chat == "direct" else [self.bot, self._bob]
        everyone = [Tag.parse(["p", public(one)]) for one in to]
        builder = EventBuilder(Kind(kind), content).tags([*everyone, *(Tag.parse(tag) for tag in tags)])
        rumor = builder.custom_created_at(Timestamp.from_secs(self._now())).finalize_unsigned(self._ann.public_key())
        self._last = rumor.ensure_id(), [*to, self._ann]
        await self._deliver()
        id = self._last[0].id()
        assert id is not None
        return id.to_hex()

    async def _deliver(self) -> None:
        """To everyone, and a copy for Ann's other devices."""
        assert self._last is not None
        rumor, to = self._last
        for one in to:
            await self._publish(json.loads(nip59_make_gift_wrap(self._ann, one.public_key(), rumor).as_json()))

    async def _publish(self, event: Json) -> None:
        waiting = self._confirmed[event["id"]] = asyncio.get_running_loop().create_future()
        await self._line.send_json(["EVENT", event])
        async with asyncio.timeout(LIMIT):
            taken, reason = await waiting
        assert taken, reason

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        named = f"nostr:{self.bot.public_key().to_bech32()} {text}" if mention else text
        return await self._send(14, named, [["e", quote]] if quote else [], chat)

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        room = {public(self._ann)} if chat == "direct" else {public(self._ann), public(self._bob)}
        mine = [
            one for one in self._rumors.values() if one["pubkey"] == public(self.bot) and set(named(one, "p")) == room
        ]
        gone = {id for one in mine if one["kind"] == 5 for id in named(one, "e")}
        texts = sorted(
            (one for one in mine if one["kind"] == 14 and one["id"] not in gone), key=lambda one: one["created_at"]
        )
        return [Shown(one["id"], one["content"], quote="".join(named(one, "e")[-1:]), raw=one) for one in texts]

    async def react(self, shown: Shown, emoji: str) -> None:
        await self._send(7, emoji, [["e", shown.id], ["k", "14"]])

    async def reactions(self, id: str) -> Sequence[str]:
        return [one["content"] for one in self._rumors.values() if one["kind"] == 7 and named(one, "e") == [id]]

    async def again(self) -> None:
        """The same message in other wraps, as when a client tries a second time."""
        await self._deliver()

    async def garbage(self) -> None:
        """A wrap with noise in it, one with a rumor of no kind, and one that Bob says Ann had written."""
        noise = EventBuilder(Kind(1059), "noise").tags([Tag.parse(["p", public(self.bot)])])
        await self._publish(json.loads(noise.finalize(Keys.generate()).as_json()))
        for kind, content in ((14, " "), (7, "x"), (5, ""), (30000, "?")):
            await self._send(kind, content, [])
        lie = EventBuilder(Kind(14), "I am Ann").finalize_unsigned(self._ann.public_key()).ensure_id().as_json()
        await self._publish(wrap(lie, self._bob, self.bot.public_key()))


def wrap(rumor: str, sealer: Keys, to: PublicKey) -> Json:
    """NIP-59 by hand, for what the SDK would not make."""
    seal = EventBuilder(Kind(13), sealer.nip44_encrypt(to, rumor)).finalize(sealer)
    once = Keys.generate()
    outer = EventBuilder(Kind(1059), once.nip44_encrypt(to, seal.as_json())).tags([Tag.parse(["p", to.to_hex()])])
    made: Json = json.loads(outer.finalize(once).as_json())
    return made


def public(keys: Keys) -> str:
    return keys.public_key().to_hex()


def named(rumor: Json, tag: str) -> list[str]:
    return [one[1] for one in rumor["tags"] if one[0] == tag]


RIG = NostrRig
