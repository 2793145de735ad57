"""IRC: InspIRCd with Atheme services. Ann and Bob are read with a parser of others', irctokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import Sequence
from typing import Any

import irctokens
from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.inspircd import NUMBERS, PASSWORD, PROGRAMS, network

CAPS = "message-tags server-time account-tag echo-message batch"
CODES = re.compile(r"\x03(\d{1,2}(,\d{1,2})?)?|[\x02\x0f\x11\x16\x1d\x1e\x1f]")


class Client:
    """A person's IRC client. `lines` is everything that came."""

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.lines: list[irctokens.Line] = []
        self.news = asyncio.Event()

    _writer: asyncio.StreamWriter | None = None

    async def connect(self, port: int, caps: str = CAPS, account: str = "") -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        self._listening = asyncio.create_task(self._listen())
        await self.register(caps, account)

    async def register(self, caps: str, account: str) -> None:
        """Names come last: InspIRCd looks only once a second at those who gave them and were not done with the rest."""
        if caps or account:
            sasl = " sasl" if account else ""
            await self.ask(f"CAP REQ :{caps}{sasl}", lambda line: line.params[1:2] == ["ACK"])
        if account:
            secret = base64.b64encode(f"\0{account}\0{PASSWORD}".encode()).decode()
            await self.ask("AUTHENTICATE PLAIN", lambda line: line.command == "AUTHENTICATE")
            await self.ask(f"AUTHENTICATE {secret}", lambda line: line.command == "903")
        if caps or account:
            self.send("CAP END")
        self.send(f"NICK {self.nick}")
        await self.ask("USER someone 0 * :Someone", lambda line: line.command in {"376", "422"})

    def send(self, line: str) -> None:
        assert self._writer is not None
        self._writer.write(line.encode() + b"\r\n")

    async def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while raw := await self._reader.readline():
                line = irctokens.tokenise(raw.rstrip(b"\r\n"))
                if line.command == "PING":
                    self.send(f"PONG {line.params[-1]}")
                self.lines.append(line)
                self.took(line)
                self.news.set()

    def took(self, line: irctokens.Line) -> None:
        """A line came."""

    async def seen(self, wanted: Any, start: int = 0) -> irctokens.Line:
        """The first line that is wanted, from the place `start` on, once there is one."""
        async with asyncio.timeout(LIMIT):
            while True:
                self.news.clear()
                for line in self.lines[start:]:
                    if wanted(line):
                        return line
                start = len(self.lines)
                await self.news.wait()

    async def ask(self, line: str, wanted: Any) -> irctokens.Line:
        start = len(self.lines)
        self.send(line)
        return await self.seen(wanted, start)

    async def close(self) -> None:
        if self._writer is None:
            return
        with contextlib.suppress(OSError):
            self.send("QUIT")
            await asyncio.wait_for(asyncio.shield(self._listening), LIMIT)
        self._listening.cancel()
        self._writer.close()
        await asyncio.gather(self._listening, return_exceptions=True)


class Ann(Client):
    """She looks whether the bot is in the channel before she writes, as it cannot hear her otherwise."""

    def __init__(self, nick: str, bot: str) -> None:
        super().__init__(nick)
        self.bot = bot
        self.there = False
        self.left = 0
        self.shown: dict[str, list[Shown]] = {"direct": [], "group": []}
        self.typed = 0

    def took(self, line: irctokens.Line) -> None:
        nick = line.source and line.hostmask.nickname
        if line.command == "JOIN" and nick == self.bot:
            self.there = True
        elif line.command == "353":
            self.there = self.there or self.bot in line.params[-1].split()
        elif line.command == "NICK" and self.bot in {nick, line.params[0]}:
            self.there = line.params[0] == self.bot
        elif line.command == "QUIT":
            self.left += 1
            self.there = self.there and nick != self.bot
        elif line.command == "PRIVMSG" and nick == self.bot:
            self._show(line)
        elif line.command == "TAGMSG" and nick == self.bot:
            self.typed += (line.tags or {}).get("+typing") == "active"

    def _show(self, line: irctokens.Line) -> None:
        """What the bot says; the lines of one message together, as the bot marks them."""
        shown = self.shown["group" if line.params[0].startswith("#") else "direct"]
        tags = line.tags or {}
        text = line.params[1]
        assert len(line.format().partition(" :")[2].encode()) < 512
        if not tags.get("+roost/line", "1/1").startswith("1/"):
            last = shown.pop()
            shown.append(Shown(last.id, f"{last.text}\n{CODES.sub('', text)}", last.quote))
            return
        named = re.sub(rf"^{self.nick}: ", "", CODES.sub("", text)) if line.params[0].startswith("#") else text
        shown.append(Shown(tags["msgid"], CODES.sub("", named), tags.get("+draft/reply", ""), raw=text))


class Door(Gate):
    """Counts how often the bot's connection was lost, so that Ann knows how often she must see it leave."""

    losses = 0

    def cut(self) -> None:
        self.losses += bool(self._ways)
        super().cut()

    def inject(self, data: bytes) -> None:
        """Let the server say something that it would not say."""
        for way in self._ways:
            way.client.write(data)


class IrcRig(Rig):
    kind = "irc"
    written_by_others = True
    redelivers = False  # a message to who is not there is refused by the server; Ann waits for the bot
    sending = b"PRIVMSG Ann"
    programs = PROGRAMS

    @property
    def server(self) -> str:
        return f"{network().version} with Atheme"

    async def start(self) -> None:
        number = next(NUMBERS)
        self.channel = f"#tea{number}"
        self.nick = f"roost{number}"
        self.ann = Ann(f"Ann{number}", self.nick)
        self.bob = Client(f"Bob{number}")
        port = network().port
        await asyncio.gather(network().account(self.nick), self.ann.connect(port), self.bob.connect(port))
        await self.ann.ask(*registration(self.ann.nick))
        for one in (self.ann, self.bob):
            await one.ask(f"JOIN {self.channel}", lambda line: line.command == "366")
        self.gate = await Door("127.0.0.1", network().port).__aenter__()

    async def stop(self) -> None:
        await self.ann.close()
        await self.bob.close()
        if self.gate is not None:
            await self.gate.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {
            "host": "127.0.0.1",
            "port": self.gate.port,
            "tls": False,
            "nick": self.nick,
            "password": PASSWORD,
            "channels": [self.channel],
            "rate": 0,
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-horse"}

    async def news(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ann.news.wait(), 0.05)
        self.ann.news.clear()

    async def _present(self) -> None:
        """Wait for the bot to be there, and there anew where its connection was cut."""
        assert isinstance(self.gate, Door)
        async with asyncio.timeout(LIMIT):
            while self.ann.left < self.gate.losses or not self.ann.there:
                await self.news()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        await self._present()
        target = self.channel if chat == "group" else self.nick
        tags = f"@+draft/reply={quote} " if quote else ""
        named = f"{self.nick}: {text}" if mention else text
        echo = await self.ann.ask(
            f"{tags}PRIVMSG {target} :{named}",
            lambda line: line.command == "401" or is_echo(line, self.ann.nick, named),
        )
        assert echo.command == "PRIVMSG", "The bot left just now."
        return str(echo.tags["msgid"])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return list(self.ann.shown[chat])

    async def react(self, shown: Shown, emoji: str) -> None:
        self.ann.send(f"@+draft/react={emoji};+draft/reply={shown.id} TAGMSG {self.nick}")

    async def reactions(self, id: str) -> Sequence[str]:
        tags = [line.tags or {} for line in self.ann.lines if line.command == "TAGMSG"]
        return [one["+draft/react"] for one in tags if one.get("+draft/reply") == id and "+draft/react" in one]

    async def typed(self) -> int:
        return self.ann.typed

    async def garbage(self) -> None:
        assert isinstance(self.gate, Door)
        lines = (b"", b":", b"@", b"@a", b":x", b"PRIVMSG", b":a!b@c PRIVMSG", b":a!b@c PRIVMSG #nowhere")
        lines += (b"@time=x :a!b@c PRIVMSG q", b"@\xff\xfe=\\ :\xff!\xff@\xff TAGMSG", b":a NICK", b":a KICK", b"BATCH")
        lines += (b"BATCH -nothing", b"433", b"005", b"PONG", b":" + b"x" * 20_000)
        self.gate.inject(b"\r\n".join(lines) + b"\r\n")


def registration(account: str) -> tuple[str, Any]:
    """What makes an account of a nick, and logs in to it."""
    return f"PRIVMSG NickServ :REGISTER {PASSWORD} {account}@example.org", lambda line: line.command == "900"


def is_echo(line: irctokens.Line, nick: str, text: str) -> bool:
    return bool(
        line.command == "PRIVMSG" and line.hostmask.nickname == nick and line.params[1] == text and "msgid" in line.tags
    )


RIG = IrcRig
