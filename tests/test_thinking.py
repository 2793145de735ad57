"""The whole bot with the real engine and the real default model."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import types
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from roost import tool
from roost.brains.llamacpp import LlamaCpp
from roost.testing import Stage

QUESTIONS = ["What is the capital of France?", "And of Italy?", "And of Spain?", "Which of them is the largest?"]


@pytest.fixture
def config(model: Path) -> str:
    return f'[brain]\nuse = "llamacpp"\nmodel = "{model}"\ncontext = 1024\nmax_tokens = 32\ntemperature = 0.0\n'


def brain(stage: Stage) -> LlamaCpp:
    return cast(LlamaCpp, stage.bot.brain)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def talk(stage: Stage, text: str) -> str:
    before = len(stage.channel.sent)
    await stage.say(text)
    await stage.quiet(limit=120)
    return " ".join(reply.text for _, reply in stage.channel.sent[before:])


async def test_a_real_model_answers_and_each_turn_reads_only_what_is_new(tmp_path: Path, config: str) -> None:
    async with Stage(tmp_path, config=config) as stage:
        assert await talk(stage, QUESTIONS[0])
        for question in QUESTIONS[1:]:
            before = brain(stage).usage
            assert await talk(stage, question)
            usage = brain(stage).usage
            assert usage.cached >= before.prompt - 1, "the beginning of the prompt changed"


async def test_a_tool_that_the_engine_cannot_read_costs_no_answer(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    def pair(both: tuple[int, str]) -> str:
        """Takes two."""
        return ""

    monkeypatch.setattr("roost.tools.fault", lambda tool: "")  # what the check does not know of
    plugin = types.ModuleType("pairs")
    vars(plugin)["pair"] = pair
    async with Stage(tmp_path, plugins=[plugin], config=config) as stage:
        said = await talk(stage, QUESTIONS[0])
        assert said and "⚠️" not in said
        assert "asked again without them" in caplog.text and "status 400" in caplog.text


async def test_the_conversation_is_there_after_a_restart(tmp_path: Path, config: str) -> None:
    async with Stage(tmp_path, config=config) as stage:
        await talk(stage, QUESTIONS[0])
        first = brain(stage).usage.prompt
    async with Stage(tmp_path, config=config) as stage:
        await talk(stage, QUESTIONS[1])
        assert brain(stage).usage.prompt > first + 10


async def test_an_engine_killed_in_mid_answer_gives_a_notice_and_the_next_message_works(
    tmp_path: Path, config: str
) -> None:
    async with Stage(tmp_path, config=config.replace("max_tokens = 32", "max_tokens = 800")) as stage:
        await talk(stage, QUESTIONS[0])
        engine = brain(stage).engine
        assert engine is not None
        said = asyncio.create_task(talk(stage, "Write a story about a lighthouse and its keeper."))
        await until(lambda: any(one.text for one in stage.bot.pipeline._current.values()))
        os.kill(engine.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        assert "⚠️ The engine stopped in the middle of an answer." in await said
        again = await talk(stage, "Thank you. Say hello.")
        assert again
        assert "⚠️" not in again


@pytest.mark.parametrize("text", ["a" * 200_000, "word " * 40_000, "🦉" * 20_000, "\x00\x07\x1b[31m" * 500, "\ud800?"])
async def test_monstrous_messages_are_handled(tmp_path: Path, config: str, text: str) -> None:
    async with Stage(tmp_path, config=config) as stage:
        await talk(stage, text)
        outcome = "SELECT outcome, reason FROM inbox"
        (row,) = await stage.bot.journal.do(lambda db: db.execute(outcome).fetchall())
        assert row[0] in ("reply", "silent"), row
        assert await talk(stage, "/whoami")


async def test_a_long_conversation_stays_within_the_context(tmp_path: Path, config: str) -> None:
    async with Stage(tmp_path, config=config.replace("max_tokens = 32", "max_tokens = 8")) as stage:
        sizes = []
        for number in range(30):
            assert await talk(stage, f"Remember that item {number} costs {number * 7} coins, will you? " * 2)
            sizes.append(brain(stage).usage.prompt)
        assert max(sizes) <= 1024
        assert any(later < earlier for earlier, later in itertools.pairwise(sizes)), "it never slid"
