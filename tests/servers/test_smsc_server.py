"""The SMSC is held against a client that is not the channel: smpp34's own."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import smpp34

from servers.smsc import Smsc


def client(server: Smsc) -> Any:
    return smpp34.Client("127.0.0.1", server.port, "roost", "secret-1", bind_type="TRX")


async def test_a_bot_is_let_in_with_its_password_only() -> None:
    async with Smsc({"roost": "secret-1"}) as server:
        assert await status_of_bind(server, b"roost\0no\0") == 0x0E
        assert await status_of_bind(server, b"nobody\0secret-1\0") == 0x0F
        session = await client(server).connect()
        answer = await session.submit_sm("4477", b"hello", source_addr="4478")
        assert (answer.message_id, [one.text for one in server.texts]) == ("m1", ["hello"])
        await session.unbind()


async def status_of_bind(server: Smsc, who: bytes) -> int:
    """By hand: smpp34's client tells a refusal and a silence alike."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = who + b"\0\x34\0\0\0"
    writer.write(struct.pack("!4I", 16 + len(body), 9, 0, 1) + body)
    _, command, status, _ = struct.unpack("!4I", await reader.readexactly(16))
    writer.close()
    await writer.wait_closed()
    assert command == 0x80000009
    return int(status)


async def test_what_waits_is_brought_to_the_next_session() -> None:
    async with Smsc({"roost": "secret-1"}) as server:
        server.bring("4477", "4478", b"one")
        assert server.left == 1
        session = await client(server).connect()
        event = await session.next()
        assert (event.short_message, event.source_addr) == (b"one", "4477")
        async with asyncio.timeout(30):
            while server.left:
                await server.changed.wait()
        await session.unbind()


async def test_the_phone_shows_a_message_once_all_its_parts_are_there() -> None:
    async with Smsc({"roost": "secret-1"}) as server:
        session = await client(server).connect()
        for number, data in ((2, b"there"), (1, b"hello ")):
            assert not server.texts
            await session.submit_sm("4477", bytes((5, 0, 3, 9, 2, number)) + data, source_addr="1", esm_class=0x40)
        assert [(one.text, one.parts) for one in server.texts] == [("hello there", 2)]
        server.refuse = [smpp34.ESME_RTHROTTLED]
        assert (await session.submit_sm("4477", b"x", source_addr="1")).command_status == 0x58
        await session.unbind()
