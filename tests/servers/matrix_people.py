"""People with accounts on Synapse: some who speak over its plain API, one whose program encrypts, and the bot."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote as part

import aiohttp
from nio import (  # type: ignore[import-untyped]
    AsyncClient,
    AsyncClientConfig,
    KeyVerificationKey,
    MegolmEvent,
    RoomMessage,
)
from nio.store import SqliteMemoryStore  # type: ignore[import-untyped]

from roost.channels.matrix import Matrix, MatrixConfig
from roost.values import Event, Message
from servers import synapse

Json = dict[str, Any]
SECONDS = 30.0
NUMBERS = itertools.count(1)
WAIT_MS = 200
MANY = {"room": {"timeline": {"limit": 5000}}}


class Member:
    """Somebody with an account, and what their program has heard of all rooms so far."""

    def __init__(self, name: str) -> None:
        self.account: Json = synapse.running().register(f"{name.lower()}{next(NUMBERS)}", "secret")
        self.id: str = self.account["user_id"]
        self.token: str = self.account["access_token"]
        self.name = name
        self.events: dict[str, list[Json]] = {}
        self.typing: list[tuple[str, str]] = []
        self.receipts: set[tuple[str, str]] = set()
        self._since = ""
        self._transactions = itertools.count(1)

    async def __aenter__(self) -> Member:
        headers = {"Authorization": f"Bearer {self.token}"}
        self._http = aiohttp.ClientSession(synapse.running().url, headers=headers)
        await self.ask("PUT", f"v3/profile/{part(self.id)}/displayname", {"displayname": self.name})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def log_in_again(self) -> Json:
        """Another device of the same person: user_id, access_token, device_id."""
        who = {"type": "m.id.user", "user": self.id}
        return await self.ask("POST", "v3/login", {"type": "m.login.password", "identifier": who, "password": "secret"})

    async def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        async with self._http.request(method, f"/_matrix/client/{path}", json=body, params=query) as answer:
            said: Json = await answer.json()
            assert answer.status == 200, (path, said)
            return said

    async def room(self, *invited: Member, direct: bool = False, **more: Any) -> str:
        body = {"invite": [one.id for one in invited], "is_direct": direct, "preset": "private_chat", **more}
        return str((await self.ask("POST", "v3/createRoom", body))["room_id"])

    async def send(self, room: str, content: Json, kind: str = "m.room.message") -> str:
        path = f"v3/rooms/{part(room)}/send/{kind}/{next(self._transactions)}"
        return str((await self.ask("PUT", path, content))["event_id"])

    async def upload(self, name: str, mime: str, content: bytes) -> str:
        headers = {"Content-Type": mime}
        path = "/_matrix/media/v3/upload"
        async with self._http.post(path, data=content, headers=headers, params={"filename": name}) as answer:
            return str((await answer.json())["content_uri"])

    async def download(self, address: str) -> bytes:
        path = f"/_matrix/client/v1/media/download/{address.removeprefix('mxc://')}"
        async with self._http.get(path) as answer:
            return await answer.read()

    async def sync(self) -> None:
        query = {"timeout": str(WAIT_MS), "filter": json.dumps(MANY)} | ({"since": self._since} if self._since else {})
        found = await self.ask("GET", "v3/sync", **query)
        self._since = found["next_batch"]
        for room, joined in found.get("rooms", {}).get("join", {}).items():
            assert not joined["timeline"]["limited"] or room not in self.events
            self.events.setdefault(room, []).extend(joined["timeline"]["events"])
            for one in joined.get("ephemeral", {}).get("events", []):
                if one["type"] == "m.typing":
                    self.typing += [(room, user) for user in one["content"]["user_ids"]]
                else:
                    self.receipts |= {(id, user) for id, read in one["content"].items() for user in read["m.read"]}

    async def until(self, room: str, condition: Callable[[Json], Any]) -> Json:
        """The first event in a room that fulfils a condition."""
        async with asyncio.timeout(SECONDS):
            while True:
                await self.sync()
                for event in self.events.get(room, []):
                    if condition(event):
                        return event


class Friend:
    """Somebody whose program encrypts: another matrix-nio, with keys of its own."""

    def __init__(self, member: Member, account: Json | None = None) -> None:
        self.account = account
        config = AsyncClientConfig(store=SqliteMemoryStore, max_limit_exceeded=0, max_timeouts=0)
        self.member = member
        self.client = AsyncClient(synapse.running().url, member.id, config=config)
        self.said: list[Any] = []
        self.pictures: list[str] = []
        self.client.add_event_callback(self._hear, (RoomMessage, MegolmEvent))
        self.client.add_to_device_callback(self._verify, KeyVerificationKey)

    async def __aenter__(self) -> Friend:
        account = self.member.account if self.account is None else self.account
        self.client.restore_login(self.member.id, account["device_id"], account["access_token"])
        await self.sync()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def _hear(self, room: Any, event: Any) -> None:
        if event.sender != self.member.id:
            self.said.append(event)

    async def _verify(self, event: Any) -> None:
        sas = self.client.key_verifications.get(event.transaction_id)
        if isinstance(event, KeyVerificationKey) and sas is not None:
            self.pictures = [name for _, name in sas.get_emoji()]
            await self.client.confirm_short_auth_string(event.transaction_id)

    async def sync(self) -> None:
        client = self.client
        await client.sync(WAIT_MS, MANY, full_state=not client.next_batch)
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        await client.send_to_device_messages()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await self.sync()

    async def meet(self, room: str, count: int = 2) -> None:
        """Wait until everybody is in a room, and their devices are known."""
        await self.until(lambda: room in self.client.rooms and self.client.rooms[room].joined_count >= count)
        await self.client.joined_members(room)
        if self.client.should_query_keys:
            await self.client.keys_query()

    async def send(self, room: str, content: Json) -> str:
        sent = await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        return str(sent.event_id)


class Host:
    """What the core is to a channel; what came in is in `heard`."""

    bot_name = "Roost"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.heard: list[Message | Event] = []
        self.changed = asyncio.Condition()
        self.alive = asyncio.Event()

    def pulse(self) -> None:
        self.alive.set()

    def trouble(self, why: str) -> None: ...

    def address(self, path: str = "") -> str:
        return ""

    def commands(self) -> list[tuple[str, str]]:
        return [("help", "Say what there is.")]

    async def history(self, place: Any, limit: int) -> list[Any]:
        return []

    async def receive(self, one: Message | Event) -> bool:
        async with self.changed:
            self.heard.append(one)
            self.changed.notify_all()
        return True

    async def next(self, condition: Callable[[Message | Event], Any] = bool) -> Any:
        """The first that fulfils a condition; it is taken out, with all before it."""
        async with asyncio.timeout(SECONDS), self.changed:
            while True:
                for number, one in enumerate(self.heard):
                    if condition(one):
                        del self.heard[: number + 1]
                        return one
                await self.changed.wait()


class Line:
    """The channel alone, on an account of its own."""

    def __init__(self, bot: Member, home: Path, **keys: Any) -> None:
        self.bot = bot
        self.host = Host(home)
        login = {} if "password" in keys else {"token": bot.token}
        self.config = MatrixConfig(**{"base_url": synapse.running().url, **login, **keys})
        self.channel = Matrix("matrix", self.config, self.host)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Line]:
        """Let it run; raises what ends it before it is up. Every time is a fresh start."""
        self.channel = Matrix("matrix", self.config, self.host)
        self.host.alive.clear()
        run = asyncio.create_task(self.channel.run(self.host.receive))
        alive = asyncio.create_task(self.host.alive.wait())
        try:
            await asyncio.wait([run, alive], return_when=asyncio.FIRST_COMPLETED, timeout=SECONDS)
            if run.done():
                run.result()
            assert alive.done(), "the channel did not come up"
            yield self
        finally:
            for task in (run, alive):
                task.cancel()
            await asyncio.gather(run, alive, return_exceptions=True)

    async def joined(self, room: str) -> None:
        """Wait until the bot is in a room and knows it."""
        await self.sync_until(lambda: room in self.channel._account.client.rooms)

    def devices(self, user: str) -> Json:
        """The devices of a person that the bot knows, by id."""
        found: Json = self.channel._account.client.device_store[user]
        return found

    async def sync_until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def ended_session(self) -> AsyncIterator[None]:
        """End the session of the running channel, as another program of the account can."""
        headers = {"Authorization": f"Bearer {self.channel._account.client.access_token}"}
        async with aiohttp.ClientSession(synapse.running().url, headers=headers) as session:
            async with session.post("/_matrix/client/v3/logout", json={}) as answer:
                assert answer.status == 200
            yield
