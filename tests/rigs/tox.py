"""A small Tox network on this machine, with Ann and Bob as clients of its relay.

The bot has UDP off and comes to the relay, Debian's tox-bootstrapd, through the gate: so a cut connection is one. Tox
itself goes on over the next connection to the relay; what it sends is encrypted, so no request can be told from another
there. It has neither accounts nor anything that keeps messages.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.apart import free_port

BOT = "Birdie"
PATIENCE = 90.0  # seconds


class People:
    """Ann and Bob's process. Their network takes 15 seconds to come up, so there is one for all tests."""

    def __init__(self) -> None:
        self.port, self.relay = free_port(), free_port()
        program = Path(__file__).parent.parent / "servers" / "tox_people.py"
        self._program = subprocess.Popen(
            [sys.executable, str(program), str(self.port), str(self.relay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def _end(self) -> None:
        self._program.communicate("", timeout=LIMIT)

    def _read(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            self.events.append(json.loads(line))

    async def happens(self, wanted: Callable[[dict[str, Any]], Any], since: int = 0) -> dict[str, Any]:
        """The first event of this kind. Fails when it does not come."""
        try:
            async with asyncio.timeout(2 * LIMIT):
                while True:
                    for event in self.events[since:]:
                        if wanted(event):
                            return event
                    since = max(since, len(self.events) - 1)
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"It does not happen; the last are {self.events[-8:]}") from None

    async def up(self) -> str:
        """The relay's public key, once the network is there."""
        key: str = (await self.happens(lambda event: event["event"] == "up"))["key"]
        return key

    async def ask(self, do: str, who: str = "Ann", **values: Any) -> Any:
        number, since = next(self._numbers), len(self.events)
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps({"id": number, "who": who, "do": do, "with": values}) + "\n")
        self._program.stdin.flush()
        answer = await self.happens(lambda event: event["event"] == "answer" and event["to"] == number, since)
        assert "error" not in answer, answer
        return answer["result"]


@cache
def people() -> People:
    return People()


class ToxRig(Rig):
    kind = "tox"
    written_by_others = True
    login = False  # there are no accounts: a Tox ID is a key that the bot makes for itself
    redelivers = False  # nothing keeps a message; Ann's client waits until the bot is online
    programs = (("tox-bootstrapd", "toxcore-utils"),)
    # toxcore confirms what it received once a second when it has nothing to say itself, and the bot waits for that: a
    # thousand answers would take a thousand seconds.
    burst = 20

    @property
    def server(self) -> str:
        return "libtoxcore and tox-bootstrapd 0.2.18"

    async def start(self) -> None:
        self._people = people()
        self._key = await self._people.up()
        self._since = len(self._people.events)
        self._friend = self._group = -1
        self.gate = await Gate("127.0.0.1", self._people.relay).__aenter__()

    async def stop(self) -> None:
        if self._group >= 0:
            await self._people.ask("leave", group=self._group)
        if self._friend >= 0:
            await self._people.ask("remove", friend=self._friend)
        if self.gate is not None:
            await self.gate.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {
            "name": BOT,
            "udp": False,
            "local": False,
            "nodes": [f"127.0.0.1:{self._people.port}:{self._key}"],
            "relays": [f"127.0.0.1:{self.gate.port}:{self._key}"],
            "rate": 0.0,
        }

    async def opened(self, address: str) -> None:
        """Let Ann add the bot, by the Tox ID that it leaves in its folder, and wait until it is online for her."""
        (file,) = self.folder.parent.glob("home/**/tox-id.txt")
        self.id = (await asyncio.to_thread(file.read_text)).strip()
        if self._friend < 0:
            self._friend = await self.ask("add", address=self.id)
        await self.until_online()

    async def ask(self, do: str, **values: Any) -> Any:
        return await self._people.ask(do, **values)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What happened of one kind between Ann and this bot."""
        return [
            event
            for event in self._people.events[self._since :]
            if event["event"] == kind
            and event.get("who") == "Ann"
            and event.get("friend", self._friend) == self._friend
        ]

    async def until(self, condition: Callable[[Sequence[Shown]], Any], chat: Chat = "direct") -> Sequence[Shown]:
        """More patient than usual: toxcore finds out that a relay is gone by its next ping, after 30 seconds or so."""
        latest = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await super().until(condition, chat)
            except AssertionError:
                if asyncio.get_running_loop().time() > latest:
                    raise

    async def until_online(self) -> None:
        async with asyncio.timeout(2 * LIMIT):
            while not ((turned := self.of("online")) and turned[-1]["status"]):
                await self.news()

    async def meet(self) -> None:
        """Have a group of Ann, Bob and the bot."""
        self._group = await self.ask("group")
        for friend in (0, self._friend):
            await self.ask("invite", group=self._group, friend=friend)
        # Who joins tells its name once it has the list of who is there; before, its Tox drops what they say.
        wanted = {"event": "peer name", "who": "Ann", "group": self._group, "key": self.id[:64], "text": BOT}
        await self._people.happens(lambda event: wanted == event, self._since)

    # Ann

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        if chat == "direct":
            await self.ask("say", friend=self._friend, text=text)
            return ""
        if self._group < 0:
            await self.meet()
        await self.ask("say_in", group=self._group, text=f"{BOT}: {text}" if mention else text)
        return ""

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        if chat == "group":
            said = [
                one for one in self.of("group message") if (one["group"], one["key"]) == (self._group, self.id[:64])
            ]
            return [Shown(str(number), one["text"], raw=one) for number, one in enumerate(said)]
        found = [event for event in self._people.events[self._since :] if event.get("friend") == self._friend]
        return [
            Shown(str(number), one.get("text", ""), files=files(one), raw=one)
            for number, one in enumerate(found)
            if one["who"] == "Ann" and one["event"] in {"message", "file"}
        ]

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        number = await self.ask("file", friend=self._friend, name=name, content=base64.b64encode(content).decode())
        await self._people.happens(
            lambda event: (
                (event["event"], event.get("friend"), event.get("number")) == ("file sent", self._friend, number)
            ),
            self._since,
        )

    async def typed(self) -> int:
        return len([event for event in self.of("typing") if event["on"]])

    async def garbage(self) -> None:
        for odd in (b"\x00", b" \n", b"\xff\xfe\xfd", b"\xc3", b"\xff" * 1372):
            await self.ask("raw_text", friend=self._friend, content=odd.hex())
        await self.ask("raw", friend=self._friend, content="a0" + "00" * 40)
        await self.ask("raw", friend=self._friend, content="c8" + "ff" * 40, lossy=True)
        await self.ask("file", friend=self._friend, name="avatar.png", content="AAAA", kind=1)


def files(event: dict[str, Any]) -> tuple[bytes, ...]:
    return (base64.b64decode(event["content"]),) if event["event"] == "file" else ()


RIG = ToxRig
