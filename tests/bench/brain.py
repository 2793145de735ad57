"""The default model, through the whole bot: how long until an answer begins, late in a conversation as early.

Conversations are held over the terminal channel with the real process. The baseline is the same bot coming to a
conversation that is in its memory but not in the engine's: nothing of the prompt can be used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import turns
from bench.figures import Report, percentile
from bench.processes import Running, children, memory_of, roost
from roost.brains.store import ModelStore
from roost.contracts import Turn
from roost.home import data_folder
from roost.link import Address, Link, connect
from roost.memory.window import Window, WindowConfig
from roost.values import Place

KEPT, LOST = "prefix kept", "prefix lost"
TURNS = (2, 10, 30)
MANY, MANY_TURNS = 8, 5
BRAIN = 'use = "llamacpp"\nmodel = {model}\nmax_tokens = 24\ntemperature = 0.0'
WATCHER = Path(__file__).parent / "watcher.py"
QUESTIONS = (
    "Tell me about the {n}th thing that a gardener has to do in a long year, in one sentence please.",
    "And why does that matter more in spring than in autumn? Number {n} on my list, briefly.",
    "What would happen to question {n} if it rained for a whole week without a pause?",
)


def measure(rounds: int) -> list[Report]:
    model = asyncio.run(ModelStore(data_folder() / "models").ensure())
    report = Report("brain", f"Time to the first text, {model.stem}, the whole bot", KEPT, LOST)
    brain = BRAIN.format(model=json.dumps(str(model)))
    for _ in range(rounds):
        with roost(brain=brain, plugin=WATCHER.read_text(), prepare=remember_for_later) as bot:
            bot.line("is ready")
            asyncio.run(hold(report, bot))
    report.notes.append("Seen: on the terminal. Thought: from the prompt's being ready until the first token.")
    report.notes.append(f"{MANY} in turn: one message each, {MANY_TURNS} times over; from their second turns on.")
    return [report, *turns.measure(rounds, model)]


def remember_for_later(home: Path) -> None:
    """Conversations of which the engine knows nothing, one for each turn that is measured."""

    async def fill() -> None:
        memory = Window(WindowConfig(), home / "memory")
        await memory.open()
        for turn in TURNS:
            past = [one for number in range(turn - 1) for one in pair(turn, number)]
            await memory.remember(Place("terminal", f"lost{turn}"), past)
        await memory.close()

    asyncio.run(fill())


def pair(turn: int, number: int) -> list[Turn]:
    answer = f"In year {turn}, step {number}: sow, water, wait for the sun."
    asked = Turn("user", question(number), "Ann", 1.0, f"{turn}.{number}", 24)
    return [asked, Turn("assistant", answer, id=f"{turn}.{number}", tokens=18)]


def question(number: int) -> str:
    return QUESTIONS[number % len(QUESTIONS)].format(n=number)


async def hold(report: Report, bot: Running) -> None:
    home = bot.folder / "home"
    address = await found(home / "channels" / "terminal" / "address.json")
    await Talk.once(address, home, "warm-up", question(0))
    async with connect(address, "kept") as link:
        talk = Talk(link, home, "kept")
        for number in range(1, TURNS[-1] + 1):
            took = await talk.ask(question(number))
            if number in TURNS:
                took.add_to(report, f"turn {number}", KEPT)
    for turn in TURNS:
        (await Talk.once(address, home, f"lost{turn}", question(turn))).add_to(report, f"turn {turn}", LOST)
    compare(report)
    await many(report, address, home)
    for pid in children(bot.pid):
        report.add("memory of the engine (rss)", "MB", KEPT, memory_of(pid)["rss"])
    report.add("memory of the bot (rss)", "MB", KEPT, bot.memory()["rss"])


def compare(report: Report) -> None:
    """Add this round's last turn over its first."""
    for kind in ("seen", "thought"):
        rows = {row.what: row for row in report.rows}
        for column in (KEPT, LOST):
            last, first = (rows[f"turn {turn}, {kind}"].values[column][-1] for turn in (TURNS[-1], TURNS[0]))
            report.add(f"turn {TURNS[-1]} : turn {TURNS[0]}, {kind}", "times", column, last / first)


async def many(report: Report, address: Address, home: Path) -> None:
    """Several conversations, a message of each in turn."""
    async with contextlib.AsyncExitStack() as stack:
        links = [await stack.enter_async_context(connect(address, f"many{n}")) for n in range(MANY)]
        talks = [Talk(link, home, f"many{n}") for n, link in enumerate(links)]
        said = (
            (talk, f"Garden {n}: {question(n + number)}")
            for number in range(MANY_TURNS)
            for n, talk in enumerate(talks)
        )
        took = [await talk.ask(text) for talk, text in said][MANY:]
    for kind, waits in (("seen", [one.seen for one in took]), ("thought", [one.thought for one in took])):
        report.add(f"{MANY} in turn, mean, {kind}", "s", KEPT, fmean(waits))
        report.add(f"{MANY} in turn, p95, {kind}", "s", KEPT, percentile(waits, 0.95))
    report.add(f"{MANY} in turn, prompt", "tokens", KEPT, fmean(one.prompt for one in took))
    report.add(f"{MANY} in turn, of which read anew", "tokens", KEPT, fmean(one.read for one in took))


class Took:
    """What one answer took: seconds and tokens."""

    def __init__(self, seen: float, thought: dict[str, Any]) -> None:
        self.seen, self.thought = seen, thought["first"]
        self.prompt, self.read = thought["prompt"], thought["prompt"] - thought["cached"]

    def add_to(self, report: Report, what: str, column: str) -> None:
        report.add(f"{what}, seen", "s", column, self.seen)
        report.add(f"{what}, thought", "s", column, self.thought)
        report.add(f"{what}, prompt", "tokens", column, self.prompt)
        report.add(f"{what}, of which read anew", "tokens", column, self.read)


class Talk:
    """One conversation over the terminal channel."""

    def __init__(self, link: Link, home: Path, chat: str) -> None:
        self._link, self._thoughts, self._place = link, home / "thoughts.jsonl", f"terminal:{chat}"

    @classmethod
    async def once(cls, address: Address, home: Path, chat: str, text: str) -> Took:
        async with connect(address, chat) as link:
            return await cls(link, home, chat).ask(text)

    async def ask(self, text: str) -> Took:
        """Say something and wait for the whole answer."""
        before = len(self._all())
        begun = time.perf_counter()
        id, seen = await self._link.say(text), 0.0
        while (frame := await self._link.next()) is not None:
            if frame["type"] not in ("message", "edit") or frame["answers"] != id:
                continue
            seen = seen or time.perf_counter() - begun
            if frame["done"]:
                break
        mine = [one for one in self._all()[before:] if one["place"] == self._place]
        if not mine:
            raise RuntimeError(f"The bot did not think about '{text}'.")
        return Took(seen, mine[-1])

    def _all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._thoughts.read_text().splitlines()] if self._thoughts.exists() else []


async def found(path: Path) -> Address:
    """The terminal's address, which is written a moment after the bot says that it is ready."""
    while not path.exists():
        await asyncio.sleep(0.05)
    return Address.read(path)
