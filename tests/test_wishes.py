"""What the command line asks: of a running bot through its journal, on the spot where none runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roost import bot as bot_module
from roost import wishes
from roost.bot import Bot
from roost.errors import RoostError, StoreError
from roost.testing import Stage
from roost.wishes import offer, wish


@offer
async def shout(bot: Bot, word: str) -> str:
    if word == "refuse":
        raise StoreError("No, and this is why.")
    if word == "break":
        raise RuntimeError("secret detail")
    return f"{bot.name} says {word}!"


async def silent(bot: Bot) -> str:
    return "not offered"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bot_module, "HEED", 0.01)
    monkeypatch.setattr(wishes, "LOOK", 0.01)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("hello", "Roost says hello!"),
        ("refuse", "No, and this is why."),
        ("break", "That failed: RuntimeError. The bot's log has the details."),
    ],
)
async def test_a_running_bot_answers(tmp_path: Path, word: str, answer: str) -> None:
    async with Stage(tmp_path) as stage:
        bot = stage.bot
        assert await asyncio.to_thread(wish, bot.config, bot.registry, shout, word) == answer
        assert await bot.journal.do(lambda db: db.execute("SELECT * FROM wish").fetchall()) == []


async def test_only_what_is_offered_can_be_asked_for(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        bot = stage.bot
        assert "does not know" in await asyncio.to_thread(wish, bot.config, bot.registry, silent)
        answer = await asyncio.to_thread(wishes.ask, bot.journal.path, "os:system", "true")
        assert "does not know" in answer


async def test_without_a_bot_it_is_done_on_the_spot_and_the_folder_is_free_again(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        config, registry = stage.bot.config, stage.bot.registry
    for _ in range(2):
        assert await asyncio.to_thread(wish, config, registry, shout, "hello") == "Roost says hello!"


async def test_a_bot_that_does_not_answer_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        path = stage.bot.journal.path
    with pytest.raises(RoostError, match="did not answer within 0 seconds"):
        wishes.ask(path, "nobody:listens", patience=0.05)
