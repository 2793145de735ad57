"""The whole product, as a person meets it: the real process, a real chat platform's wire."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from servers.telegram import TelegramServer

TOKEN = "123456:first-light"


@asynccontextmanager
async def bot(folder: Path, server: TelegramServer, access: str) -> AsyncIterator[tuple[Process, str]]:
    """`roost run` with the echo brain, connected to the server, and what it printed when it was ready."""
    (folder / "bot.toml").write_text(
        f'[brain]\nuse = "echo"\n[web]\nport = 0\n[access]\ndirect = "{access}"\n'
        f'[channels.telegram]\nbase_url = "{server.base_url}"\n'
    )
    environment = {**os.environ, "ROOST_HOME": str(folder / "home"), "ROOST_CHANNELS_TELEGRAM_TOKEN": TOKEN}
    command = (sys.executable, "-u", "-m", "roost", "run")
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    try:
        printed = [await process.stdout.readline()]
        if access == "pairing":
            printed.append(await process.stdout.readline())
        yield process, b"".join(printed).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_newcomer_claims_the_bot_talks_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    async with TelegramServer(token=TOKEN) as server:
        ann, eve = server.person("Ann"), server.person("Eve")
        chat, other = server.private(ann), server.private(eve)
        async with bot(tmp_path, server, "pairing") as (process, printed):
            code = re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", printed)
            assert code is not None, printed
            await other.say("let me in")
            assert "only to people my owner has let in" in (await other.next_reply(timeout=30))["text"]
            await chat.say(code[0])
            assert "my owner now" in (await chat.next_reply(timeout=30))["text"]
            await chat.say("hello **there**")
            assert (await chat.next_reply(timeout=30))["text"] == "hello **there**"
            process.kill()
            await process.wait()
        await chat.say("said while you were away")
        async with bot(tmp_path, server, "allowlist"):
            said = (await chat.next_reply(timeout=30))["text"]
            if said.startswith("(possibly repeated)\n"):  # the kill came before the delivery was written down
                assert said.endswith("hello **there**")
                said = (await chat.next_reply(timeout=30))["text"]
            assert said == "said while you were away"
        assert server.complaints == []


async def test_a_bad_token_stops_one_channel_and_no_other(tmp_path: Path) -> None:
    async with TelegramServer(token="999:another") as server, bot(tmp_path, server, "open") as (process, printed):
        assert "is ready" in printed
        assert process.stderr is not None
        lines = []
        async with asyncio.timeout(30):
            while not any("'telegram' is stopped" in line for line in lines):
                lines.append((await process.stderr.readline()).decode())
        assert "@BotFather" in lines[-1]
        assert TOKEN not in "".join(lines)
        assert process.returncode is None
