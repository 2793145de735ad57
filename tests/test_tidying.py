"""Compaction as a job: it comes when it is due, and nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost import tidying
from roost.contracts import Prompt
from roost.errors import ConfigError
from roost.testing import Stage
from roost.tidying import within
from roost.values import Place

DUE = "[memory]\ncompact_turns = 10\ncompact_keep = 4\ncompact_action = 'summary'\n"
PLACE = Place("stage", "1")


async def talk(stage: Stage, turns: int, chat: str = "1") -> None:
    for number in range(turns):
        await stage.talk(f"My dog {number} is called Rex{number} and is {number + 3} years old.", chat=chat)


async def test_what_is_due_is_compacted_and_reported(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=DUE) as stage:
        await talk(stage, 4)
        await stage.bot.tidying.run()
        assert await stage.bot.memory.reports() == []
        await talk(stage, 4)
        await stage.bot.tidying.run()
        (report,) = await stage.bot.memory.reports()
        assert (report.place, report.trigger, report.turns, report.done) == ("stage:1", "turns", 12, True)
        assert report.tokens_after < report.tokens_before
        await stage.talk("hello")
        prompt = stage.brain.prompts[-1]
        assert "Earlier in this conversation: " in prompt.turns[0].text
        assert len(prompt.turns) == 1 + 4 + 1
        assert len(await stage.bot.memory.turns(PLACE)) == 18


async def test_a_place_that_was_not_reached_stays_due_over_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=DUE) as stage:
        await talk(stage, 6)
    async with Stage(tmp_path, config=DUE) as stage:
        await stage.bot.tidying.run()
        assert [report.done for report in await stage.bot.memory.reports()] == [True]
        await stage.bot.tidying.run()
        assert len(await stage.bot.memory.reports()) == 1, "and is not done twice"


async def test_silence_makes_it_due_and_a_clock_set_back_does_not_put_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path, config="[memory]\ncompact_idle = 600\ncompact_keep = 4\n") as stage:
        await talk(stage, 5)
        memory = stage.bot.memory
        now = time.time()
        assert await memory.due(now + 500) == []
        assert await memory.due(now + 700) == [(PLACE, "idle")]
        assert await memory.due(now - 10 * 365 * 86400) == [(PLACE, "idle")]


async def test_somebody_who_writes_breaks_it_off_and_three_times_is_enough(tmp_path: Path) -> None:
    gate = asyncio.Event()
    asked: list[str] = []

    async with Stage(tmp_path, config=DUE) as stage:
        await talk(stage, 6)
        think = stage.brain.think

        async def slowly(prompt: Prompt) -> AsyncIterator[str]:
            if prompt.conversation == "compaction":
                asked.append("summary")
                gate.set()
                await asyncio.Event().wait()
            async for piece in think(prompt):
                yield piece

        stage.brain.think = slowly  # type: ignore[method-assign]
        for _ in range(tidying.GIVE_WAY):
            gate.clear()
            running = asyncio.create_task(stage.bot.tidying.run())
            await gate.wait()
            assert await stage.talk("quick question") == "quick question"
            await running
        assert await stage.bot.memory.reports() == []
        await stage.bot.tidying.run()
        (report,) = await stage.bot.memory.reports()
        assert (report.done, report.action) == (True, "extract")
        assert asked == ["summary"] * tidying.GIVE_WAY


async def test_nothing_is_begun_while_somebody_is_answered_or_in_quiet_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = DUE + 'quiet_hours = "00:00-23:59"\n'
    async with Stage(tmp_path, config=quiet) as stage:
        await talk(stage, 6)
        monkeypatch.setattr(tidying, "within", lambda hours, now: hours == "00:00-23:59")
        await stage.bot.tidying.run()
        assert await stage.bot.memory.reports() == []
        monkeypatch.setattr(tidying, "within", lambda hours, now: False)
        async with stage.bot.pipeline.lanes.held():
            await stage.say("I wait")
            await stage.bot.tidying.run()
            assert await stage.bot.memory.reports() == []
            for _ in range(tidying.GIVE_WAY):
                await stage.bot.tidying.run()
            (report,) = await stage.bot.memory.reports()
            assert report.action == "extract", "a bot that is never at rest compacts all the same, without the brain"


async def test_every_place_has_its_turn_however_many_are_due(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=DUE) as stage:
        places = [str(number) for number in range(30)]
        for chat in places:
            await talk(stage, 5, chat)
        async with stage.bot.pipeline.lanes.held():
            await stage.say("I wait")
            for _ in range(tidying.GIVE_WAY + 1):
                await stage.bot.tidying.run()
        assert {report.place for report in await stage.bot.memory.reports()} == {f"stage:{chat}" for chat in places}


async def test_a_brain_that_fails_leaves_an_extract_and_says_why(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=DUE) as stage:
        await talk(stage, 6)

        async def broken(prompt: Prompt) -> AsyncIterator[str]:
            raise RuntimeError("no power")
            yield ""

        stage.brain.think = broken  # type: ignore[method-assign]
        await stage.bot.tidying.run()
        (report,) = await stage.bot.memory.reports()
        assert (report.done, report.action) == (True, "extract")
        assert "RuntimeError" in report.note
        assert "Rex0" not in report.note


async def test_a_compaction_that_cannot_be_written_changes_nothing_and_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path, config=DUE) as stage:
        await talk(stage, 6)
        memory = stage.bot.memory
        before = await memory.turns(PLACE)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("roost.memory.archive.Archive.append", full)
            await stage.bot.tidying.run()
        (report,) = await memory.reports()
        assert not report.done
        assert "No space left on device" in report.note
        assert await memory.turns(PLACE) == before
        assert await memory.due(time.time()) == []
        assert await memory.due(time.time() + 200) == [(PLACE, "turns")]


async def test_the_job_is_on_apschedulers_list_without_waiting_for_it_at_the_start(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        async with asyncio.timeout(30):
            while stage.bot.schedule._scheduler is None:
                await asyncio.sleep(0.01)
        assert [job.id for job in stage.bot.schedule._scheduler.get_jobs()] == ["memory.compact"]


@pytest.mark.parametrize(
    ("hours", "now", "quiet"),
    [
        ("", "12:00", False),
        ("08:00-23:00", "08:00", True),
        ("08:00-23:00", "23:00", False),
        ("08:00-23:00", "07:59", False),
        ("22:00-07:00", "23:30", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "12:00", False),
    ],
)
def test_hours_may_go_over_midnight(hours: str, now: str, quiet: bool) -> None:
    assert within(hours, now) is quiet


@pytest.mark.parametrize("wrong", ["8-23", "08:00", "25:00-07:00", "night"])
async def test_hours_that_are_none_are_refused_with_a_sentence(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"quiet_hours = .* is no span"):
        async with Stage(tmp_path, config=f'[memory]\nquiet_hours = "{wrong}"\n'):
            pass
