"""The real engine with the real default model, fetched once by the store's own code and kept for later runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tiny_gguf import gguf

from roost.brains.engine import KEY
from roost.brains.llamacpp import LlamaCpp
from roost.brains.process import EngineProcess
from roost.contracts import Prompt, Turn
from roost.errors import BrainError, ModelError, RoostError

pytestmark = pytest.mark.asyncio(loop_scope="module")
SYSTEM = Turn("system", "You are Roost, a helpful assistant. Answer briefly and plainly.")
CONFIG = LlamaCpp.Config(context=2048, temperature=0.0, cache_ram=64)
LONG = "word " * 1800


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def brain(model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlamaCpp]:
    one = LlamaCpp(replace(CONFIG, model=str(model)), tmp_path_factory.mktemp("home"))
    await one.load()
    yield one
    await one.unload()


def ask(*texts: str, max_tokens: int = 16) -> Prompt:
    roles = ("user", "assistant")
    turns = (Turn(roles[number % 2], text) for number, text in enumerate(texts))  # type: ignore[arg-type]
    return Prompt((SYSTEM, *turns), "test:1", max_tokens)


async def said(brain: LlamaCpp, prompt: Prompt) -> str:
    return "".join([piece async for piece in brain.think(prompt)])


async def slots(brain: LlamaCpp) -> list[dict[str, object]]:
    assert brain.engine is not None
    headers = {"Authorization": f"Bearer {brain.engine.environment[KEY]}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{brain.engine.address}/slots") as answer,
    ):
        return list(await answer.json())


async def all_free(brain: LlamaCpp) -> None:
    """Wait until no slot is at work."""
    while any(slot["is_processing"] for slot in await slots(brain)):
        await asyncio.sleep(0.01)


async def test_an_answer_arrives_in_pieces(brain: LlamaCpp) -> None:
    pieces = [piece async for piece in brain.think(ask("What is the capital of France?"))]
    assert len(pieces) > 1
    assert "".join(pieces).strip()


async def test_tokens_are_counted_exactly(brain: LlamaCpp) -> None:
    assert await brain.count("") == 0
    assert await brain.count("hello") == 1
    assert await brain.count("hello hello hello hello") == 4
    assert await brain.count("🦉 a\ud83e") > 1


async def test_a_second_turn_does_not_read_the_first_again(brain: LlamaCpp) -> None:
    question = "Tell me about the owls that live in the woods of the north, in one sentence please."
    first = await said(brain, ask(question))
    before = brain.usage
    await said(brain, ask(question, first, "And where do they sleep?"))
    after = brain.usage
    assert after.cached >= before.prompt + before.answer - 8
    assert after.prompt - after.cached < 32


async def test_conversations_that_take_turns_all_keep_their_beginnings(brain: LlamaCpp) -> None:
    talks = [[f"Conversation {number} is about {topic * 12}"] for number, topic in enumerate(("red ", "sea ", "tea "))]
    for talk in talks:
        talk.append(await said(brain, ask(*talk)))
    for talk in talks:
        talk.append("Go on.")
        await said(brain, ask(*talk))
        assert brain.usage.cached > brain.usage.prompt - 32


async def test_more_conversations_than_slots_all_get_their_answers(brain: LlamaCpp) -> None:
    answers = await asyncio.gather(*(said(brain, ask(f"Say {number}.", max_tokens=4)) for number in range(5)))
    assert all(answers)


async def test_closing_the_iterator_frees_the_slot(brain: LlamaCpp) -> None:
    pieces = brain.think(ask("Write a very long story.", max_tokens=1500))
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]
    await all_free(brain)
    assert await said(brain, ask("Hello", max_tokens=2))


async def test_giving_up_in_the_middle_of_a_long_prompt_stops_the_reading(brain: LlamaCpp) -> None:
    reading = asyncio.create_task(said(brain, ask(LONG)))
    while not any(slot["is_processing"] for slot in await slots(brain)):
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await all_free(brain)
    await said(brain, ask(LONG, max_tokens=1))
    assert brain.usage.cached < brain.usage.prompt - 256  # two batches at least were never read


async def test_a_prompt_that_is_too_long_is_said_to_be(brain: LlamaCpp) -> None:
    with pytest.raises(BrainError, match="too long for the model"):
        await said(brain, ask(LONG * 2))


async def test_emoji_are_never_broken(brain: LlamaCpp) -> None:
    prompt = ask("Repeat exactly: 🦉🏳️‍🌈👩‍🚀🇳🇱", "🦉🏳️‍🌈👩‍🚀🇳🇱", "Repeat exactly: 🦉🏳️‍🌈👩‍🚀🇳🇱", max_tokens=60)
    pieces = [piece async for piece in brain.think(prompt)]
    assert "🦉" in "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


async def test_an_engine_that_dies_spoils_one_answer_only(brain: LlamaCpp) -> None:
    assert brain.engine is not None
    dead = brain.engine.pid
    pieces = brain.think(ask("Write a very long story.", max_tokens=1500))
    await anext(pieces)
    os.kill(dead, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    with pytest.raises(BrainError, match="The engine stopped") as caught:
        async for _ in pieces:
            pass
    assert " W " not in str(caught.value), "a person is shown the engine's log"
    assert await said(brain, ask("Hello", max_tokens=2))
    assert brain.engine.pid != dead


async def test_all_who_load_at_once_get_one_engine(model: Path, tmp_path: Path) -> None:
    brain = LlamaCpp(replace(CONFIG, model=str(model), context=256), tmp_path)
    impatient = asyncio.create_task(brain.load())
    waiting = [asyncio.create_task(brain.load()) for _ in range(3)]
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(*waiting)
    engine = brain.engine
    assert engine is not None and engine.alive
    await brain.load()
    assert brain.engine is engine
    await brain.unload()
    assert not engine.alive
    await brain.unload()


async def test_unloading_while_it_loads_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    brain = LlamaCpp(replace(CONFIG, model=str(model), context=256), tmp_path)
    loading = asyncio.create_task(brain.load())
    await asyncio.sleep(0.2)
    await brain.unload()
    with pytest.raises((asyncio.CancelledError, RoostError)):
        await loading
    assert brain.engine is None


async def test_the_context_is_never_larger_than_the_model_was_made_for(model: Path, tmp_path: Path) -> None:
    brain = LlamaCpp(replace(CONFIG, model=str(model), context=1_000_000, slots=1, cache_ram=0), tmp_path)
    assert brain.context == 1_000_000
    await brain.load()
    assert brain.context == 8192
    await brain.unload()


async def test_a_file_that_is_no_model_never_reaches_the_engine(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    brain = LlamaCpp(replace(CONFIG, model=str(tmp_path / "page.gguf")), tmp_path)
    with pytest.raises(ModelError, match="does not begin like a GGUF file"):
        await brain.load()
    assert brain.engine is None


async def test_a_model_the_engine_cannot_load_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    brain = LlamaCpp(replace(CONFIG, model=str(tmp_path / "tiny.gguf")), tmp_path)
    with pytest.raises(BrainError, match=r"could not start.*tiny\.gguf"):
        await brain.load()
    assert brain.engine is None


async def test_the_engine_needs_its_key(brain: LlamaCpp) -> None:
    assert brain.engine is not None
    assert brain.engine.environment[KEY] not in " ".join(brain.engine.arguments)
    async with aiohttp.ClientSession() as session:
        for path, body in (("/v1/chat/completions", {"messages": []}), ("/tokenize", {"content": "x"})):
            async with session.post(brain.engine.address + path, json=body) as answer:
                assert answer.status == 401


async def test_a_graphics_card_that_is_not_there_is_said_to_be_missing(model: Path) -> None:
    import xllamacpp

    cards = [one for one in xllamacpp.get_device_info() if "CPU" not in one["type"].name]
    engine = EngineProcess(["--model-path", str(model), "--device", "gpu", "--port", "0", "--watch-stdin"], {KEY: "k"})
    if cards:
        await engine.start()
        await engine.stop()
        return
    with pytest.raises(BrainError, match="no graphics card"):
        await engine.start()


async def test_beyond_this_machine_it_serves_only_with_a_key(model: Path) -> None:
    options = ["--model-path", str(model), "--host", "0.0.0.0", "--port", "0", "--watch-stdin"]
    engine = EngineProcess(options, {KEY: ""})
    with pytest.raises(BrainError, match="set a key"):
        await engine.start()


LATE = """
import json, sys

print("begins", file=sys.stderr, flush=True)
print(json.dumps({"failed": "It is damaged."}), flush=True)
print("0.00.011.286 E load: error loading model: no tensors", file=sys.stderr, flush=True)
print("0.00.011.628 E load: exiting due to model loading error", file=sys.stderr)
"""


async def test_why_it_did_not_start_is_found_in_a_log_that_is_written_late(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    engine = EngineProcess([], {"PYTHONPATH": str(tmp_path)})
    engine.module = "late"
    with pytest.raises(BrainError) as failed:
        await engine.start()
    assert str(failed.value) == "The engine could not start. It is damaged. llama.cpp says: no tensors."


PARENT = """
import asyncio, sys
from pathlib import Path
from roost.brains.llamacpp import LlamaCpp

async def main():
    brain = LlamaCpp(LlamaCpp.Config(model=sys.argv[1], context=256), Path(sys.argv[2]))
    await brain.load()
    print(brain.engine.address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_engine_does_not_outlive_a_killed_parent(model: Path, tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(model), str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    address = (await parent.stdout.readline()).decode().strip()
    parent.kill()
    await parent.wait()
    # The engine's end closes the listening socket: connections are refused from then on.
    host, port = address.removeprefix("http://").split(":")
    async with asyncio.timeout(30):
        with contextlib.suppress(OSError):
            while True:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                await asyncio.sleep(0.02)
