"""The whole bot, its disk full: it says so, acknowledges nothing more, and goes on when there is room again."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from servers.telegram import TelegramServer
from test_kill import CONFIG, MARK, TOKEN

from roost.audit import audit

if sys.platform != "linux":
    pytest.skip("only Linux can take the room on the disk from a process that runs", allow_module_level=True)

import resource


@asynccontextmanager
async def bot(folder: Path) -> AsyncIterator[Process]:
    environment = {**os.environ, "ROOST_HOME": str(folder / "home"), "ROOST_CHANNELS_TELEGRAM_TOKEN": TOKEN}
    command = (sys.executable, "-m", "roost", "run")
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stdout=DEVNULL, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def line(process: Process, containing: str) -> str:
    """The next line of the log that contains something."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        async for raw in process.stderr:
            if containing in (text := raw.decode()):
                return text
    raise AssertionError(f"The bot ended without saying '{containing}'.")


def fill(process: Process) -> None:
    """From now on no file of this process may grow: every write to its end fails."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


def free(process: Process) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def accepted(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "home" / "journal.db")) as db:
        return int(db.execute("SELECT count(*) FROM inbox").fetchone()[0])


async def test_a_full_disk_stops_the_bot_from_acknowledging_until_there_is_room(tmp_path: Path) -> None:
    async with TelegramServer(token=TOKEN) as server:
        (tmp_path / "bot.toml").write_text(CONFIG.format(brain="echo", url=server.base_url))
        chat = server.private(server.person("Ann"))

        def heard() -> list[str]:
            return [one["text"] for one in chat.messages if one["from"]["is_bot"]]

        async with bot(tmp_path) as process:
            await chat.say("before")
            await server.until(lambda: heard() == ["before"], 60)
            fill(process)
            for number in range(5):
                await chat.say(f"while it is full {number}")
            await line(process, "The journal cannot be written")
            assert accepted(tmp_path) == 1
            assert heard() == ["before"]
            free(process)
            await line(process, "The journal can be written again")
            expected = ["before", *(f"while it is full {number}" for number in range(5))]
            await server.until(lambda: [text.removeprefix(MARK) for text in heard()] == expected, 60)
            await chat.say("after")
            await server.until(lambda: heard()[-1] == "after", 60)
        assert server.complaints == []
        assert audit(tmp_path / "home" / "journal.db").exceptions == []
