"""A conversation of ten thousand turns, in a small context."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from roost.brains.llamacpp import LlamaCpp
from roost.contracts import Prompt, Turn
from roost.prompt import OVERHEAD
from roost.testing import Stage
from roost.values import Place

PLACE = Place("stage", "1")
LONG = 10_000
WORDS = """
garden harbour letter window kitchen river morning paper bridge winter music station doctor summer bread neighbour
market cousin engine ticket island village museum painting question
""".split()  # noqa: SIM905


def talk(turns: int, seed: int = 7) -> Iterator[Turn]:
    """Small talk, with one thing said early on that matters later."""
    chance = random.Random(seed)
    for number in range(turns // 2):
        said = " ".join(chance.choices(WORDS, k=chance.randrange(3, 30)))
        if number == 40:
            said = "By the way, my boat is called Albatross and lies in Vlissingen."
        yield Turn("user", f"{number} {said}", "Ann", 1000.0 * number, str(number), person="stage:ann")
        yield Turn(
            "assistant", " ".join(chance.choices(WORDS, k=chance.randrange(3, 40))), at=1000.0 * number, id=str(number)
        )


async def remember(stage: Stage, turns: int) -> None:
    """Remember that much, compacted on the way as the bot does."""
    batch = list(talk(turns))
    for begin in range(0, len(batch), 200):
        await stage.bot.memory.remember(PLACE, batch[begin : begin + 200])
        await stage.bot.memory.compact(PLACE, None)


async def tokens(stage: Stage, prompt: Prompt) -> int:
    return sum([await stage.brain.count(turn.text) + OVERHEAD for turn in prompt.turns])


async def test_every_prompt_is_within_the_budget_and_begins_as_the_one_before(tmp_path: Path) -> None:
    config = "[brain]\nuse = 'scripted'\ncontext = 2048\nmax_tokens = 400\n[memory]\ncompact_turns = 60\n"
    async with Stage(tmp_path, config=config) as stage:
        await remember(stage, LONG)
        kept = 0
        before: tuple[Turn, ...] = ()
        for number, turn in enumerate(talk(400, seed=8)):
            if turn.role == "assistant":
                continue
            await stage.talk(turn.text)
            prompt = stage.brain.prompts[-1]
            assert await tokens(stage, prompt) <= 2048 - 400
            assert len(prompt.turns) > 3
            kept += prompt.turns[: len(before) - 1] == before[:-1]
            before = prompt.turns
            if number % 40 == 0:
                await stage.bot.tidying.run()
        assert kept > 100, "between two steps, of three or four exchanges here, a prompt only grows"
        assert len(await stage.bot.memory.turns(PLACE)) == LONG + 400


async def test_what_was_said_thousands_of_turns_ago_is_found_when_it_matters(tmp_path: Path) -> None:
    async with Stage(tmp_path, config="[brain]\nuse = 'scripted'\ncontext = 2048\nmax_tokens = 400\n") as stage:
        await remember(stage, LONG)
        await stage.talk("Where does my boat Albatross lie?")
        assert "Vlissingen" in stage.brain.prompts[-1].turns[-1].text
        await stage.talk("What is seven times eight?")
        assert "long ago" not in stage.brain.prompts[-1].turns[-1].text, "nothing is better than noise"
        assert "Vlissingen" in await stage.talk("/recall boat Albatross")


async def test_a_real_model_still_answers_and_reads_only_what_is_new(tmp_path: Path, model: Path) -> None:
    config = f'[brain]\nuse = "llamacpp"\nmodel = "{model}"\ncontext = 2048\nmax_tokens = 24\ntemperature = 0.0\n'
    async with Stage(tmp_path, config=config) as stage:
        await remember(stage, LONG)
        brain = cast(LlamaCpp, stage.bot.brain)
        read = []
        for question in ("Good morning!", "How are you?", "What is the capital of France?", "Thank you."):
            before = len(stage.channel.sent)
            await stage.say(question)
            await stage.quiet(limit=180)
            (reply,) = [reply.text for _, reply in stage.channel.sent[before:]]
            assert reply
            assert "⚠️" not in reply
            assert brain.usage.prompt <= 2048 - 24
            read.append(brain.usage.prompt - brain.usage.cached)
        assert read[0] > 500
        assert max(read[1:]) < 120, "the beginning of the prompt stays in the engine"
