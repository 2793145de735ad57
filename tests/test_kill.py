"""kill -9 at random instants, over a real chat platform's wire: nothing lost, nothing repeated unmarked, all in order.

ROOST_KILLS is how many times the bot is killed; ROOST_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from seeded import seeded
from servers.telegram import TelegramServer

TOKEN = "123456:killed-often"
MARK = "(possibly repeated)\n"
KILLS = int(os.environ.get("ROOST_KILLS", "20"))
CHATS = 8

CONFIG = """
[brain]
use = "{brain}"
[web]
enabled = false
[access]
direct = "open"
[channels.telegram]
base_url = "{url}"
rate = 0
place_rate = 0
"""

SLOW_BRAIN = """
import asyncio
from roost import hookimpl
from roost.contracts import Brain


class Slow(Brain):
    async def think(self, prompt):
        for word in prompt.turns[-1].text.split(" "):
            yield word + " "
            await asyncio.sleep(0.12)


@hookimpl
def register_brains(register):
    register("slow", Slow)
"""


@asynccontextmanager
async def bot(folder: Path) -> AsyncIterator[Process]:
    environment = {**os.environ, "ROOST_HOME": str(folder / "home"), "ROOST_CHANNELS_TELEGRAM_TOKEN": TOKEN}
    command = (sys.executable, "-m", "roost", "run")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Crowd:
    """People who keep talking, each in a chat of their own, and remember what they said."""

    def __init__(self, server: TelegramServer, chance: random.Random) -> None:
        self.chance = chance
        self.chats = [server.private(server.person(f"Person {number}")) for number in range(CHATS)]
        self.said: list[list[str]] = [[] for _ in self.chats]

    async def talk(self) -> None:
        while True:
            number = self.chance.randrange(CHATS)
            text = f"chat {number} line {len(self.said[number])}"
            self.said[number].append(text)
            await self.chats[number].say(text)
            await asyncio.sleep(self.chance.uniform(0, 0.05))

    def heard(self, number: int) -> list[str]:
        """What the bot has said in a chat, in the order of the screen, edits applied."""
        return [one["text"] for one in self.chats[number].messages if one["from"]["is_bot"]]

    def answered(self) -> bool:
        pairs = enumerate(self.said)
        return all(set(said) <= {text.removeprefix(MARK) for text in self.heard(number)} for number, said in pairs)


def check(said: list[str], heard: list[str]) -> None:
    """Every line answered, in order, and whatever was said again says so.

    A part of a line can be left on the screen where the bot was killed while a preview was leaving; the whole
    line follows then, marked.
    """
    whole = [text for text in heard if text.removeprefix(MARK) in said]
    first = list(dict.fromkeys(text.removeprefix(MARK) for text in whole))
    assert first == said, "lost or out of order"
    unmarked = [text for text in whole if not text.startswith(MARK)]
    assert len(unmarked) == len(set(unmarked)), "repeated without a mark"
    for text in set(heard) - set(whole):
        owner = [line for line in said if line.startswith(text.removeprefix(MARK).rstrip())]
        assert any(MARK + line in whole for line in owner), f"left behind: '{text}'"


@pytest.mark.parametrize("brain", ["echo", "slow"])
async def test_nothing_is_lost_or_repeated_unmarked_however_often_the_bot_is_killed(tmp_path: Path, brain: str) -> None:
    chance = seeded()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(SLOW_BRAIN)
    async with TelegramServer(token=TOKEN) as server:
        (tmp_path / "bot.toml").write_text(CONFIG.format(brain=brain, url=server.base_url))
        crowd = Crowd(server, chance)
        for _ in range(KILLS):
            before = len(server.called("getUpdates"))
            async with bot(tmp_path) as process:
                await server.until(lambda before=before: len(server.called("getUpdates")) > before, 60)
                talking = asyncio.create_task(crowd.talk())
                await asyncio.sleep(chance.uniform(0, 0.5))  # the instant of the kill
                process.kill()
                talking.cancel()
        async with bot(tmp_path):
            await server.until(crowd.answered, 60 + 2 * KILLS)  # what is left of all lives is answered in this one
            await server.until(lambda: settled(tmp_path / "home" / "journal.db"), 60)
        assert server.complaints == []
        for number, said in enumerate(crowd.said):
            check(said, crowd.heard(number))
        print(f"{sum(map(len, crowd.said))} lines, {KILLS} kills")


def settled(path: Path) -> bool:
    """Whether every accepted message has its one end and every part has left."""
    with sqlite3.connect(path) as db:
        (open_items,) = db.execute("SELECT count(*) FROM inbox WHERE outcome IS NULL").fetchone()
        (open_parts,) = db.execute("SELECT count(*) FROM outbox WHERE state != 'sent'").fetchone()
    db.close()
    return not open_items and not open_parts
