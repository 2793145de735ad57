"""The door that the scenarios put between a channel and its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.gate import Gate, http
from kit.listener import listening

LIMIT = 10.0


@pytest.fixture
async def complaints() -> AsyncIterator[list[Any]]:
    """What asyncio says of errors that nobody takes."""
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    yield found


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    async with listening(answer) as port:
        yield port


async def connected(gate: Gate, word: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(word)
    assert await reader.readexactly(len(word)) == word
    return reader, writer


@pytest.mark.parametrize("held", [False, True], ids=["open", "held"])
async def test_a_gate_that_closes_on_its_connections_makes_no_noise(
    echo: int, held: bool, complaints: list[Any]
) -> None:
    before = asyncio.all_tasks()
    gate = await Gate("127.0.0.1", echo).__aenter__()
    pairs = [await connected(gate, b"hello") for _ in range(3)]
    if held:
        gate.hold()
        for _, writer in pairs:
            writer.write(b"again")
    late = await asyncio.open_connection("127.0.0.1", gate.port)
    await gate.__aexit__()
    for reader, writer in (*pairs, late):
        with pytest.raises(OSError):
            if not await reader.read(1):
                raise ConnectionResetError
        writer.close()
    async with asyncio.timeout(LIMIT):
        while {task for task in asyncio.all_tasks() - before if "_serve" in repr(task)}:
            await asyncio.sleep(0)
    assert complaints == []


async def test_a_request_that_is_never_whole_does_not_hold_the_loop_up(echo: int, complaints: list[Any]) -> None:
    async with Gate("127.0.0.1", echo) as gate:
        gate.answer(b"POST", http("500 Oops"))
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(b"POST / HTTP/1.1\r\ncontent-le")
        writer.write_eof()
        _, other = await connected(gate, b"still here")
        writer.close()
        other.close()
    assert complaints == []


async def test_an_answer_in_another_protocol_is_given_at_once(echo: int) -> None:
    async with Gate("127.0.0.1", echo) as gate:
        gate.answer(b"RCPT", b"550 no\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(b"RCPT TO:<ann@mail.test>\r\n")
        assert await asyncio.wait_for(reader.read(), LIMIT) == b"550 no\r\n"
        writer.close()
