"""Why somebody cannot be reached, told from what the libraries in use really raise."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import aiomqtt
import httpx
import pytest
from kit.listener import listening
from rigs.ear import Ear

from roost.reach import Ways, why

Try = Callable[[int], Awaitable[object]]


async def by_aiohttp(port: int, scheme: str = "http") -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{scheme}://127.0.0.1:{port}"):
        pass


async def by_httpx(port: int, scheme: str = "http") -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"{scheme}://127.0.0.1:{port}")


async def by_asyncio(port: int) -> None:
    await asyncio.open_connection("localhost", port)


async def by_aiomqtt(port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port):
        pass


@pytest.mark.parametrize("attempt", [by_aiohttp, by_httpx, by_asyncio, by_aiomqtt], ids=lambda one: one.__name__)
async def test_a_port_that_nobody_listens_on_is_called_so(attempt: Try) -> None:
    with socket.socket() as taken, pytest.raises(Exception) as raised:
        taken.bind(("127.0.0.1", 0))  # which keeps it from others, and it does not listen
        await attempt(taken.getsockname()[1])
    assert why(raised.value) == "nobody listens there"


@pytest.mark.parametrize("attempt", [by_aiohttp, by_httpx], ids=lambda one: one.__name__)
async def test_a_server_that_does_not_speak_tls_is_called_so(attempt: Callable[[int, str], Awaitable[object]]) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(answer) as port:
        with pytest.raises((aiohttp.ClientError, httpx.HTTPError)) as raised:
            await attempt(port, "https")
    assert why(raised.value).startswith("it does not speak TLS as it should (")


def test_of_several_ways_the_last_one_that_fails_is_the_channels_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ear = Ear(tmp_path)
    ways = Ways(ear, "nostr", 2)
    for _ in range(3):
        ways.fails("one", "The relay 'one' cannot be reached.")
    assert not ear.problem
    ways.fails("two", "The relay 'two' cannot be reached.")
    assert ear.problem == "The relay 'two' cannot be reached."
    ways.works("two")
    ways.works("one")
    told = [record.getMessage() for record in caplog.records]
    assert told == ["nostr: The relay 'one' cannot be reached.", "nostr: 'one' can be reached again."]


def wrapped(inner: Exception) -> Exception:
    try:
        raise RuntimeError("for programmers") from inner
    except RuntimeError as error:
        return error


UNTRUSTED = ssl.SSLCertVerificationError()
UNTRUSTED.verify_message = "self-signed certificate"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be found"),
        (UNTRUSTED, "its certificate cannot be trusted (self-signed certificate)"),
        (TimeoutError(), "it does not answer"),
        (ConnectionResetError(), "the connection was broken"),
        (asyncio.IncompleteReadError(b"", 1), "the connection was broken"),
        (wrapped(ConnectionRefusedError(111, "Connect call failed")), "nobody listens there"),
        (wrapped(ValueError("inner words")), "for programmers"),
        (ValueError("It is full."), "It is full"),
        (ValueError("502, message='Bad Gateway', url='http://x/bot1:A/getMe'"), "ValueError"),
        (ValueError(), "ValueError"),
    ],
    ids=["name", "certificate", "silence", "reset", "end", "wrapped", "unknown within", "words", "address", "no words"],
)
def test_what_happened_is_said_in_words(error: Exception, told: str) -> None:
    assert why(error) == told
