from __future__ import annotations

import asyncio

import pytest

from kit import loop
from kit.loop import Loop


async def talk(leave: bool, kept: list[asyncio.StreamWriter]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        if not leave:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while not kept:
        await asyncio.sleep(0)
    writer.close()
    server.close()


def run(leave: bool) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(talk(leave, []))


def test_a_connection_that_is_being_closed_is_waited_for() -> None:
    run(False)


def test_a_connection_left_open_fails_the_test_that_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "GRACE", 0.05)
    with pytest.raises(AssertionError, match="leaves connections open"):
        run(True)


async def test_the_tests_run_on_it() -> None:
    assert isinstance(asyncio.get_running_loop(), Loop)
