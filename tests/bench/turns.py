"""What a turn costs, by the bot's own brain and its engine, without the rest of the bot."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.figures import Report, percentile
from bench.processes import scratch
from roost.brains.engine import KEY
from roost.brains.llamacpp import LlamaCpp
from roost.brains.process import EngineProcess
from roost.contracts import Prompt, Turn

KEPT, RESTORED, LOST = "prefix kept", "from disk", "prefix lost"
TURNS, COLD = (2, 10, 30, 100), (2, 10, 30)
TOGETHER = (1, 2, 4, 8)
NONE = "none"
GUESSES = ("ngram-simple", "ngram-mod", "ngram-map-k")
SYSTEM = Turn("system", "You are Roost, a helpful assistant. Answer briefly and plainly.")
ANSWER = "Sow in spring, water in the evening, keep the weeds away, and wait for the sun to do the rest."
CODE = "\n".join(
    f'def {verb}_{noun}(items):\n    """{verb.title()} every {noun} in a list."""\n'
    f"    for item in items:\n        {verb}(item)\n    return items\n"
    for verb in ("check", "count")
    for noun in ("parcel", "letter")
)
ASKED = {
    "a chat": "Tell me how to grow tomatoes on a balcony, step by step.",
    "code to edit": f"Write this code again, and rename check_parcel to test_parcel:\n```python\n{CODE}```",
    "a text to sum up": "Sum up, in the words of the text: " + " ".join([ANSWER, "Frost ends the year early."] * 8),
}


def question(number: int) -> str:
    return f"Tell me about the {number}th thing that a gardener has to do in a long year, in one sentence please."


def talk(turns: int, name: str = "one") -> tuple[Turn, ...]:
    past = [
        part
        for number in range(1, turns)
        for part in (Turn("user", f"{name}: {question(number)}"), Turn("assistant", ANSWER))
    ]
    return (SYSTEM, *past, Turn("user", f"{name}: {question(turns)}"))


def measure(rounds: int, model: Path) -> list[Report]:
    waits = Report("turns", f"What a turn costs, {model.stem}, the bot's brain alone", KEPT, LOST)
    speeds = Report("together", f"Answers written at the same time, {model.stem}", "all of them", "each of them")
    guesses = Report("guesses", f"Guessing words from those said before, {model.stem}", GUESSES[0], NONE)
    for number in range(rounds):
        with scratch() as folder:
            asyncio.run(turn_by_turn(waits, model, folder))
            asyncio.run(across_restarts(waits, model, folder))
        asyncio.run(together(speeds, model))
        asyncio.run(guessing(guesses, model, number))
    return [waits, speeds, guesses]


async def first_token(brain: LlamaCpp, turns: tuple[Turn, ...], conversation: str) -> float:
    """Seconds until an answer begins. It is read to its end, four tokens long."""
    begun, first = time.perf_counter(), 0.0
    async for _ in brain.think(Prompt(turns, conversation, 4)):
        first = first or time.perf_counter() - begun
    return first


@asynccontextmanager
async def thinking(model: Path, folder: Path, **config: Any) -> AsyncIterator[LlamaCpp]:
    brain = LlamaCpp(LlamaCpp.Config(model=str(model), temperature=0.0, **config), folder)
    await brain.load()
    try:
        yield brain
    finally:
        await brain.unload()


async def turn_by_turn(report: Report, model: Path, folder: Path) -> None:
    async with thinking(model, folder, context=8192, cache_ram=1024) as brain:
        for turn in range(1, TURNS[-1] + 1):
            took = await first_token(brain, talk(turn), "one")
            if turn in TURNS:
                note(report, f"turn {turn}", KEPT, took, brain)
        for turn in COLD:
            note(
                report, f"turn {turn}", LOST, await first_token(brain, talk(turn, f"cold{turn}"), f"cold{turn}"), brain
            )
        await in_turn(report, brain)
        await giving_up(report, brain)
        await lag(report, brain)


def note(report: Report, what: str, column: str, took: float, brain: LlamaCpp) -> None:
    report.add(f"{what}, first token", "s", column, took)
    report.add(f"{what}, read anew", "tokens", column, brain.usage.prompt - brain.usage.cached)


async def in_turn(report: Report, brain: LlamaCpp) -> None:
    """Eight conversations, a message of each in turn, over two slots."""
    waits, read = [], []
    for turn in range(3, 8):
        for number in range(8):
            took = await first_token(brain, talk(turn, f"garden {number}"), f"many{number}")
            if turn > 3:
                waits.append(took)
                read.append(brain.usage.prompt - brain.usage.cached)
    report.add("eight in turn, mean", "s", KEPT, statistics.fmean(waits))
    report.add("eight in turn, p95", "s", KEPT, percentile(waits, 0.95))
    report.add("eight in turn, read anew", "tokens", KEPT, statistics.fmean(read))


async def giving_up(report: Report, brain: LlamaCpp) -> None:
    """How long a slot is taken after nobody wants the answer any more."""
    async with aclosing(brain.think(Prompt(talk(2, "up"), "up", 500))) as pieces:  # type: ignore[type-var]
        await anext(pieces)
        begun = time.perf_counter()
    report.add("given up while writing, slot free", "s", KEPT, await freed(brain, begun))
    reading = asyncio.create_task(first_token(brain, talk(30, "cold again"), "cold"))
    while not await busy(brain):
        await asyncio.sleep(0.005)
    begun = time.perf_counter()
    reading.cancel()
    await asyncio.wait([reading])
    report.add("given up while reading, slot free", "s", KEPT, await freed(brain, begun))


async def busy(brain: LlamaCpp) -> bool:
    assert brain.engine is not None
    async with opened(brain.engine) as session, session.get(f"{brain.engine.address}/slots") as answer:
        return any(slot["is_processing"] for slot in await answer.json())


async def freed(brain: LlamaCpp, begun: float) -> float:
    while await busy(brain):
        await asyncio.sleep(0.005)
    return time.perf_counter() - begun


async def lag(report: Report, brain: LlamaCpp) -> None:
    """How late a task of this process wakes while the engine works for two."""
    for what, texts in (("idle", ()), ("engine at work", ("lag a", "lag b"))):
        stop = asyncio.Event()
        work = [asyncio.create_task(first_token(brain, talk(20, name), name)) for name in texts]
        watching = asyncio.create_task(lateness(stop))
        await (asyncio.wait(work) if work else asyncio.sleep(2))
        stop.set()
        late = await watching
        report.add(f"event loop late, {what}, median", "ms", KEPT, 1000 * statistics.median(late))
        report.add(f"event loop late, {what}, p99", "ms", KEPT, 1000 * percentile(late, 0.99))
        report.add(f"event loop late, {what}, most", "ms", KEPT, 1000 * max(late))


async def lateness(stop: asyncio.Event) -> list[float]:
    late = []
    while not stop.is_set():
        begun = time.perf_counter()
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - begun - 0.005)
    return late


# The engine alone


def opened(engine: EngineProcess) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {engine.environment[KEY]}"}
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(total=None))


@asynccontextmanager
async def engine(model: Path, *options: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    arguments = ["--model-path", str(model), "--port", "0", "--watch-stdin", *options]
    one = EngineProcess(arguments, {KEY: secrets.token_urlsafe()})
    await one.start()
    try:
        async with opened(one) as session:
            yield session, one.address
    finally:
        await one.stop()


async def post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(url, json=body) as answer:
        found: dict[str, Any] = json.loads(await answer.read())
        if answer.status != 200:
            raise RuntimeError(f"The engine refused: {found}")
        return found


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


async def across_restarts(report: Report, model: Path, folder: Path) -> None:
    """The state of a slot at turn 30, written before the engine ends and read after its next start."""
    kept = folder / "slots"
    kept.mkdir()
    options = ("--context", "8192", "--slots", "1", "--slot-folder", str(kept))
    before = {"messages": messages(talk(29)), "max_tokens": 1, "id_slot": 0}
    async with engine(model, *options) as (session, url):
        await post(session, f"{url}/v1/chat/completions", before)
        await post(session, f"{url}/slots/0?action=save", {"filename": "one"})
    report.add("a slot at turn 30 on disk", "MB", RESTORED, (kept / "one").stat().st_size / 1e6)
    async with engine(model, *options) as (session, url):
        begun = time.perf_counter()
        await post(session, f"{url}/slots/0?action=restore", {"filename": "one"})
        report.add("reading it back", "s", RESTORED, time.perf_counter() - begun)
        answer = await post(session, f"{url}/v1/chat/completions", {**before, "messages": messages(talk(30))})
        report.add("turn 30, first token", "s", RESTORED, time.perf_counter() - begun)
        report.add("turn 30, read anew", "tokens", RESTORED, answer["timings"]["prompt_n"])


async def together(report: Report, model: Path) -> None:
    async with engine(model, "--context", "512", "--slots", "8") as (session, url):
        for count in TOGETHER:
            bodies = [
                {"messages": messages(talk(1, f"{count}.{n}")), "max_tokens": 64, "ignore_eos": True}
                for n in range(count)
            ]
            answers = await asyncio.gather(*(post(session, f"{url}/v1/chat/completions", body) for body in bodies))
            each = [answer["timings"]["predicted_per_second"] for answer in answers]
            longest = max(answer["timings"]["predicted_ms"] for answer in answers) / 1000
            report.add(f"{count} at a time", "tokens/s", "all of them", 64 * count / longest)
            report.add(f"{count} at a time", "tokens/s", "each of them", statistics.fmean(each))


async def guessing(report: Report, model: Path, number: int) -> None:
    kinds = (NONE, *GUESSES)
    for kind in (*kinds[number % len(kinds) :], *kinds[: number % len(kinds)]):
        async with engine(model, "--context", "2048", "--slots", "1", "--speculate", kind) as (session, url):
            for what, text in ASKED.items():
                body = {"messages": [{"role": "user", "content": text}], "max_tokens": 160, "temperature": 0}
                found = (await post(session, f"{url}/v1/chat/completions", body))["timings"]
                add_guesses(report, what, kind, found)
            body = {"prompt": CODE * 3, "max_tokens": 160, "temperature": 0}
            found = (await post(session, f"{url}/v1/completions", body))["timings"]
            add_guesses(report, "a text that repeats itself", kind, found)


def add_guesses(report: Report, what: str, kind: str, timings: dict[str, Any]) -> None:
    report.add(what, "tokens/s", kind, timings["predicted_per_second"])
    if kind != NONE:
        report.add(f"{what}, guessed", "tokens", kind, timings.get("draft_n", 0))
        report.add(f"{what}, of which right", "tokens", kind, timings.get("draft_n_accepted", 0))
