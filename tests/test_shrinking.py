"""What the parts of the bot let go of when memory is short."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from roost.brains import llamacpp
from roost.brains.llamacpp import LlamaCpp
from roost.gauges import Reading
from roost.pressure import Pressure
from roost.testing import Stage


async def test_an_idle_engine_ends_when_memory_is_short_and_starts_again_for_an_answer(
    tmp_path: Path, model: Path
) -> None:
    config = f'[brain]\nuse = "llamacpp"\nmodel = "{model}"\ncontext = 512\nmax_tokens = 8\nslots = 1\n'
    async with Stage(tmp_path, config=config) as stage:
        brain = cast(LlamaCpp, stage.bot.brain)
        for chat in ("1", "2"):
            await stage.say("hello", chat=chat)
            await stage.quiet(limit=120)
        # One of its own, beside which the bot's does not look.
        pressure = Pressure(lambda: [Reading(99, 100, "test")], stage.bot.pressure._reliefs)
        stage.bot.pressure._sense = lambda: []
        await stage.bot.memory.remember(stage.message("").place, [])
        await pressure.look()
        assert brain.engine is None
        assert pressure.state().times == 1
        await stage.say("hello again")
        await stage.quiet(limit=120)
        assert brain.engine is not None
        assert "⚠️" not in stage.channel.sent[-1][1].text
        await brain.shrink()
        assert brain.engine is not None, "it holds no more conversations than it has slots, and was just used"
        brain._used -= llamacpp.UNUSED
        await brain.shrink()
        assert brain.engine is None


async def test_an_engine_at_work_is_left_alone(tmp_path: Path, model: Path) -> None:
    config = f'[brain]\nuse = "llamacpp"\nmodel = "{model}"\ncontext = 512\nmax_tokens = 100\nslots = 1\n'
    async with Stage(tmp_path, config=config) as stage:
        brain = cast(LlamaCpp, stage.bot.brain)
        await brain.load()
        await stage.say("Tell me about the sea.")
        async with asyncio.timeout(60):
            while not brain._answering:
                await asyncio.sleep(0.01)
        brain._used -= 10 * llamacpp.UNUSED
        await brain.shrink()
        assert brain.engine is not None
        await stage.quiet(limit=120)


async def test_the_memory_closes_its_files_and_goes_on(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        stage.bot.pressure._sense = lambda: []
        for chat in "123":
            await stage.talk("hello", chat=chat)
        files = stage.bot.memory._files
        assert len(files._conversations) == 3
        await stage.bot.memory.shrink()
        assert len(files._conversations) == 0
        await stage.talk("and again")
        assert [turn.text for turn in stage.brain.prompts[-1].turns[1:]] == ["hello", "hello", "and again"]
