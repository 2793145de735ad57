from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost.channels import terminal
from roost.channels.terminal import Terminal
from roost.contracts import ChannelConfig, Said
from roost.values import Button, Event, Message, Place, Reply, Sent

PLACE = Place("terminal", "terminal")
Frame = dict[str, Any]


class Core:
    """The host and the receiving end, as a channel sees them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bot_name = "Roost"
        self.ready = asyncio.Event()
        self.got: asyncio.Queue[Message | Event] = asyncio.Queue()
        self.broken = False
        self.said: list[Said] = []

    def pulse(self) -> None:
        self.ready.set()

    def commands(self) -> Sequence[tuple[str, str]]:
        return [("help", "Show what there is.")]

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        if self.broken:
            raise OSError("the disk is gone")
        return self.said[-limit:]

    async def receive(self, message: Message | Event) -> bool:
        if self.broken:
            raise OSError("the disk is gone")
        await self.got.put(message)
        return True


class Wire:
    """A terminal client down at the level of lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def put(self, frame: Frame) -> None:
        await self.write(json.dumps(frame).encode() + b"\n")

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def next(self) -> Frame:
        async with asyncio.timeout(30):
            frame: Frame = json.loads(await self.reader.readline())
            return frame

    async def ends(self) -> bool:
        """Whether the other side hangs up, with nothing more said."""
        async with asyncio.timeout(30):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


class House:
    """A running channel and the way to its door."""

    def __init__(self, home: Path) -> None:
        self.core = Core(home)
        self.channel = Terminal("terminal", ChannelConfig(), self.core)

    @property
    def address(self) -> Frame:
        found: Frame = json.loads((self.core.home / "address.json").read_text())
        return found

    @asynccontextmanager
    async def knock(self) -> AsyncIterator[Wire]:
        address = self.address
        reader, writer = await asyncio.open_connection(address["host"], address["port"], limit=2**24)
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()
            try:
                await writer.wait_closed()
            except OSError:
                assert writer.is_closing()

    @asynccontextmanager
    async def enter(self, chat: str = "terminal") -> AsyncIterator[Wire]:
        async with self.knock() as wire:
            await wire.put({"type": "hello", "token": self.address["token"], "chat": chat, "name": "Ann"})
            assert (await wire.next())["type"] == "welcome"
            yield wire

    async def alone(self) -> None:
        """Wait until the channel has noticed that every client has left."""
        async with asyncio.timeout(30):
            while self.channel._tasks:
                await asyncio.wait(self.channel._tasks)


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[House]:
    house = House(home)
    task = asyncio.create_task(house.channel.run(house.core.receive))
    async with asyncio.timeout(30):
        await house.core.ready.wait()
    try:
        yield house
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(tmp_path) as house:
        yield house


async def test_the_address_is_there_while_it_runs_and_gone_afterwards(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        assert set(house.address) == {"host", "port", "token"}
        assert [file.name for file in tmp_path.iterdir()] == ["address.json"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
async def test_only_its_owner_can_read_the_address(house: House) -> None:
    assert stat.S_IMODE((house.core.home / "address.json").stat().st_mode) == 0o600


async def test_the_address_of_a_later_bot_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path):
        terminal.publish(tmp_path / "address.json", {"host": "127.0.0.1", "port": 1, "token": "another"})
    assert (tmp_path / "address.json").exists()


async def test_stopping_hangs_up_on_the_clients(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        knock = house.enter()
        wire = await knock.__aenter__()
    assert await wire.ends()
    await knock.__aexit__(None, None, None)


async def test_the_welcome_tells_name_commands_and_the_longest_line(house: House) -> None:
    async with house.knock() as wire:
        await wire.put({"type": "hello", "token": house.address["token"]})
        assert await wire.next() == {
            "type": "welcome",
            "bot": "Roost",
            "commands": [["help", "Show what there is."]],
            "max_line": 1024 * 1024,
        }


@pytest.mark.parametrize(
    "first",
    [
        b'{"type": "hello", "token": "wrong"}\n',
        b'{"type": "hello", "token": "w\xc3\xb6rong"}\n',
        b'{"type": "say", "id": "1", "text": "let me in"}\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
    ],
)
async def test_without_the_token_the_connection_is_closed_and_nothing_is_heard(house: House, first: bytes) -> None:
    async with house.knock() as wire:
        await wire.write(first + b'{"type": "say", "id": "1", "text": "x"}\n')
        assert await wire.ends()
    assert house.core.got.empty()


async def test_a_caller_that_says_nothing_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "HELLO_SECONDS", 0.01)
    async with house.knock() as wire:
        assert await wire.ends()


async def test_what_is_said_reaches_the_core_and_is_accepted(house: House) -> None:
    async with house.enter() as wire:
        await wire.put({"type": "say", "id": "m1", "text": "Grüße\nund 👋"})
        assert await wire.next() == {"type": "accepted", "id": "m1"}
    heard = house.core.got.get_nowait()
    assert isinstance(heard, Message)
    assert (heard.id, heard.text, heard.place) == ("m1", "Grüße\nund 👋", PLACE)
    assert (heard.sender.id, heard.sender.name, heard.addressed) == ("owner", "Ann", True)
    assert heard.place.kind == "direct"
    assert heard.at > 0


async def test_what_could_not_be_kept_is_not_accepted(house: House) -> None:
    async with house.enter() as wire:
        house.core.broken = True
        await wire.put({"type": "say", "id": "m1", "text": "hello"})
        answer = await wire.next()
        assert (answer["type"], answer["id"]) == ("error", "m1")
        house.core.broken = False
        await wire.put({"type": "say", "id": "m2", "text": "hello"})
        assert await wire.next() == {"type": "accepted", "id": "m2"}


async def test_an_answer_grows_by_edits_and_the_one_with_a_key_is_the_last(house: House) -> None:
    async with house.enter() as wire:
        sent = await house.channel.send(PLACE, Reply("He", ticket="m1"))
        first = await wire.next()
        await house.channel.edit(sent, Reply("Hello", ticket="m1", key="k", buttons=(Button("A", "a"),)))
        last = await wire.next()
    assert (first["type"], first["text"], first["done"], first["answers"]) == ("message", "He", False, "m1")
    assert (last["type"], last["text"], last["done"], last["answers"]) == ("edit", "Hello", True, "m1")
    assert first["id"] == last["id"] == sent.ids[0]
    assert last["buttons"] == [{"text": "A", "value": "a", "url": ""}]


async def test_typing_and_taking_back_are_told(house: House) -> None:
    async with house.enter() as wire:
        await house.channel.type(PLACE)
        await house.channel.delete(Sent(PLACE, ("1", "2")))
        assert [await wire.next() for _ in range(3)] == [
            {"type": "typing"},
            {"type": "delete", "id": "1"},
            {"type": "delete", "id": "2"},
        ]


async def test_finished_messages_wait_for_the_next_client_in_order(house: House) -> None:
    preview = await house.channel.send(PLACE, Reply("gro"))
    await house.channel.send(PLACE, Reply("reminder", key="k1"))
    await house.channel.edit(preview, Reply("grown", key="k2"))
    await house.channel.delete(await house.channel.send(PLACE, Reply("mistaken", key="k3")))
    await house.channel.send(Place("terminal", "other"), Reply("not for you", key="k4"))
    async with house.enter() as wire:
        frames = [await wire.next(), await wire.next()]
        await wire.put({"type": "history"})
        assert (await wire.next())["type"] == "history"
    assert [(one["type"], one["text"]) for one in frames] == [("message", "reminder"), ("message", "grown")]
    async with house.enter("other") as wire:
        assert (await wire.next())["text"] == "not for you"


async def test_messages_between_two_connections_arrive_at_the_second(house: House) -> None:
    async with house.enter():
        pass
    await house.alone()
    await house.channel.send(PLACE, Reply("while you were out", key="k"))
    async with house.enter() as wire:
        assert (await wire.next())["text"] == "while you were out"


async def test_what_waits_for_nobody_is_bounded_and_the_newest_stay(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "MAX_HELD", 3)
    for number in range(10):
        await house.channel.send(PLACE, Reply(str(number), key=f"k{number}"))
    async with house.enter() as wire:
        assert [(await wire.next())["text"] for _ in range(3)] == ["7", "8", "9"]


async def test_the_same_key_sent_twice_is_one_message(house: House) -> None:
    first = await house.channel.send(PLACE, Reply("once", key="k"))
    second = await house.channel.send(PLACE, Reply("once", key="k"))
    assert first == second
    assert len(house.channel._held) == 1


async def test_two_terminals_of_one_chat_see_the_same(house: House) -> None:
    async with house.enter() as one, house.enter() as two:
        await house.channel.send(PLACE, Reply("for both", key="k"))
        assert (await one.next())["text"] == (await two.next())["text"] == "for both"


async def test_history_is_the_hosts_and_none_when_it_fails(house: House) -> None:
    house.core.said = [Said(str(n), n % 2 == 1, "", f"line {n}", float(n)) for n in range(5)]
    async with house.enter() as wire:
        await wire.put({"type": "history", "limit": 2})
        lines = (await wire.next())["lines"]
        house.core.broken = True
        await wire.put({"type": "history", "limit": 2})
        assert await wire.next() == {"type": "history", "lines": []}
    assert [line["text"] for line in lines] == ["line 3", "line 4"]
    assert lines[0] == {"id": "3", "bot": True, "author": "", "text": "line 3", "at": 3.0}


async def test_a_line_that_is_too_long_is_refused_and_the_next_is_heard(house: House) -> None:
    async with house.enter() as wire:
        long = json.dumps({"type": "say", "id": "long", "text": "x" * terminal.MAX_LINE}).encode()
        await wire.write(long + b"\n")
        assert (await wire.next())["type"] == "error"
        await wire.put({"type": "say", "id": "short", "text": "hello"})
        while (frame := await wire.next())["type"] == "error":
            assert "line" in frame["text"]
        assert frame == {"type": "accepted", "id": "short"}
    assert house.core.got.qsize() == 1


async def test_a_client_that_reads_nothing_is_cut_off_and_its_messages_are_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "MAX_WAITING", 20)
    monkeypatch.setattr(terminal, "MAX_HELD", 10)
    async with house.enter() as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        while house.channel._clients and count < 1000:
            await house.channel.send(PLACE, Reply(f"{count} " + "x" * 90_000, key=f"k{count}"))
            await asyncio.sleep(0)
            count += 1
    assert count < 1000
    await house.alone()
    async with house.enter() as wire:
        frames = [await wire.next() for _ in range(10)]
    assert [frame["id"] for frame in frames] == [f"k{number}" for number in range(count - 10, count)]


async def test_a_slow_client_skips_previews_but_gets_the_last_state(house: House) -> None:
    async with house.enter() as wire:
        sent = await house.channel.send(PLACE, Reply("x" * 90_000))
        for size in range(1, 2000):
            await house.channel.edit(sent, Reply("y" * 90_000 + str(size)))
        await house.channel.edit(sent, Reply("the end", key="k"))
        seen = 0
        while not (frame := await wire.next())["done"]:
            seen += 1
    assert frame["text"] == "the end"
    assert seen < 100


async def test_an_abrupt_cut_in_mid_line_says_nothing(house: House) -> None:
    async with house.enter() as wire:
        await wire.write(b'{"type": "say", "id": "1", "text": "half')
    await house.alone()
    assert house.core.got.empty()
    async with house.enter() as wire:
        await wire.put({"type": "say", "id": "2", "text": "whole"})
        assert await wire.next() == {"type": "accepted", "id": "2"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FRAMES = st.dictionaries(st.sampled_from(["type", "id", "text", "limit", "token"]), JSON, max_size=5)
KNOWN = st.builds(lambda frame, kind: {**frame, "type": kind}, FRAMES, st.sampled_from(["say", "history"]))
LINES = st.binary(max_size=200) | (FRAMES | KNOWN).map(lambda frame: json.dumps(frame).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.lists(LINES, max_size=8))
def test_no_garbage_keeps_the_channel_from_hearing_the_next_line(tmp_path: Path, garbage: list[bytes]) -> None:
    async def scene() -> None:
        async with running(tmp_path) as house, house.enter() as wire:
            await wire.write(b"".join(line + b"\n" for line in garbage))
            await wire.put({"type": "say", "id": "the last", "text": "still there?"})
            while await wire.next() != {"type": "accepted", "id": "the last"}:
                pass
            while not house.core.got.empty():
                heard = house.core.got.get_nowait()
                assert isinstance(heard, Message)
                assert heard.text.encode()
            assert heard.text == "still there?"

    asyncio.run(scene())


@given(st.binary(max_size=300))
def test_a_line_is_a_frame_or_a_value_error(line: bytes) -> None:
    try:
        frame = terminal.read(line)
    except ValueError:
        return
    assert isinstance(frame, terminal.Hello | terminal.Say | terminal.Ask)


def test_deep_nesting_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested"):
        terminal.read(b'{"type":"history","more":' + b"[" * 100_000)
