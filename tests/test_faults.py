"""The fault matrix: what the platform or the network does to us, and what a person then sees."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from servers.telegram import TelegramServer

from roost import outbox
from roost.audit import audit
from roost.channels import telegram, telegram_http
from roost.channels.telegram import Telegram
from roost.testing import Stage

TOKEN = "123456:faulty"
MARK = "(possibly repeated)\n"
LINES = [f"line {number}" for number in range(6)]
# What a fault of sendMessage may leave on the screen: nothing, surely; or something, nobody knows.
SURELY_NOT = ["429"]
UNKNOWN = ["500", "502", "drop_before_read", "drop_after_processing", "invalid_json", "hang"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(telegram, "pauses", lambda: itertools.repeat(0.01))
    monkeypatch.setattr(telegram, "POLL", 1)
    monkeypatch.setattr(telegram, "READ", 1.0)  # of polls: one that is broken off too early does no harm


@contextlib.asynccontextmanager
async def talking(folder: Path, server: TelegramServer) -> AsyncIterator[Stage]:
    table = f'base_url = "{server.base_url}"\ntoken = "{TOKEN}"\nrate = 0\nplace_rate = 0\n'
    async with Stage(folder, channel=Telegram, channel_config=table) as stage:
        yield stage


def heard(chat: object) -> list[str]:
    return [one["text"] for one in chat.messages if one["from"]["is_bot"]]  # type: ignore[attr-defined]


async def converse(folder: Path, method: str, fault: str) -> list[str]:
    """Say the lines, with the fault in the middle; returns what is on the screen when all is answered."""
    async with TelegramServer(token=TOKEN) as server, talking(folder, server) as stage:
        chat = server.private(server.person("Ann"))
        for number, line in enumerate(LINES):
            if number == 2:
                server.fail(method, fault, times=2, retry_after=1)
            await chat.say(line)
        await server.until(lambda: set(LINES) <= {text.removeprefix(MARK) for text in heard(chat)}, 30)
        await stage.quiet(limit=30)
        assert server.complaints == []
        assert audit(folder / "home" / "journal.db").exceptions == []
        return heard(chat)


@pytest.mark.parametrize("fault", SURELY_NOT)
async def test_what_surely_was_not_sent_comes_once_and_in_order(tmp_path: Path, fault: str) -> None:
    assert await converse(tmp_path, "sendMessage", fault) == LINES


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_what_may_have_been_sent_comes_in_order_and_a_repetition_says_so(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_http, "READ", 1.0)
    said = await converse(tmp_path, "sendMessage", fault)
    assert list(dict.fromkeys(text.removeprefix(MARK) for text in said)) == LINES
    unmarked = [text for text in said if not text.startswith(MARK)]
    assert len(unmarked) == len(set(unmarked))
    assert any(text.startswith(MARK) for text in said)


async def test_a_slow_answer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram_http, "READ", 2.0)  # between two bytes; all of them take longer
    assert await converse(tmp_path, "sendMessage", "slow") == LINES


@pytest.mark.parametrize("fault", [*SURELY_NOT, *UNKNOWN, "slow"])
async def test_whatever_happens_to_a_poll_nothing_is_lost_or_answered_twice(tmp_path: Path, fault: str) -> None:
    assert await converse(tmp_path, "getUpdates", fault) == LINES


async def test_a_person_who_has_blocked_the_bot_gets_a_dead_letter_and_others_are_answered(tmp_path: Path) -> None:
    async with TelegramServer(token=TOKEN) as server, talking(tmp_path, server) as stage:
        ann, bob = server.private(server.person("Ann")), server.private(server.person("Bob"))
        server.fail("sendMessage", "blocked")
        await ann.say("one")
        await server.until(lambda: bool(server.refusals), 30)
        await bob.say("two")
        await server.until(lambda: heard(bob) == ["two"], 30)
        await stage.quiet()
        assert audit(tmp_path / "home" / "journal.db").parts == {"dead": 1, "sent": 1}


class Relay:
    """A network between the bot and the server that can be cut: connections break, new ones are refused.

    Frozen, it keeps the connections that there are and carries nothing more over them, without a word to anybody.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._frozen: set[asyncio.StreamWriter] = set()
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> int:
        """Half-open sockets: returns how many connections lead nowhere from now on."""
        self._frozen |= self._writers
        return len(self._frozen)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            ends.add(far_writer)
            self._writers |= ends
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if writer in self._frozen:
                    continue
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.asynccontextmanager
async def relayed(folder: Path) -> AsyncIterator[tuple[TelegramServer, Relay, Stage, Any]]:
    """A conversation that has begun over a network that can be cut."""
    async with TelegramServer(token=TOKEN) as server:
        relay = Relay(int(server.base_url.rpartition(":")[2]))
        await relay.mend()
        table = f'base_url = "http://127.0.0.1:{relay.port}"\ntoken = "{TOKEN}"\nrate = 0\nplace_rate = 0\n'
        async with Stage(folder, channel=Telegram, channel_config=table) as stage:
            chat = server.private(server.person("Ann"))
            await chat.say("before")
            await server.until(lambda: heard(chat) == ["before"], 30)
            await stage.quiet()
            yield server, relay, stage, chat


async def test_an_outage_loses_nothing_and_needs_no_restart(tmp_path: Path) -> None:
    async with relayed(tmp_path) as (server, relay, stage, chat):
        await relay.cut()
        await stage.bot.send(f"stage:{chat.id}", "said during the outage")
        await chat.say("asked during the outage")
        async with asyncio.timeout(30):
            while stage.bot.channels["stage"].state == "running":
                await asyncio.sleep(0.01)
        await relay.mend()
        await server.until(lambda: len(heard(chat)) == 3, 60)
        await stage.quiet(limit=30)
        assert sorted(heard(chat)[1:]) == ["asked during the outage", "said during the outage"]
        await relay.cut()


async def test_connections_that_lead_nowhere_are_noticed_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_http, "READ", 1.0)
    async with relayed(tmp_path) as (server, relay, stage, chat):
        assert relay.freeze() > 0
        await chat.say("asked into the void")
        await stage.bot.send(f"stage:{chat.id}", "said into the void")
        await server.until(lambda: len({text.removeprefix(MARK) for text in heard(chat)}) == 3, 60)
        await stage.quiet(limit=30)
        unmarked = [text for text in heard(chat) if not text.startswith(MARK)]
        assert len(unmarked) == len(set(unmarked))
        await relay.cut()


async def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    async with TelegramServer(token=TOKEN) as server, talking(tmp_path, server) as stage:
        chat = server.private(server.person("Ann"))
        said = []
        for jump in (0, -86_400 * 365, 86_400 * 365 * 20):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            server.fail("sendMessage", "429", retry_after=1)
            said.append(f"jump {jump}")
            await chat.say(said[-1])
            await server.until(lambda: heard(chat) == said, 30)
            await stage.quiet(limit=30)
