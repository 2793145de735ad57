"""A soak: tens of thousands of messages, faults and, if wanted, kills. Is anything lost, and does anything grow?

    PYTHONPATH=tests python -m soak --messages 20000 --places 200 --kills 5

`roost run` with the echo brain talks to the Telegram server, each a process of its own. Messages come in waves, and
most waves meet a fault: a cut or refused poll, a send that is throttled, refused or cut. It ends with 1 when something
was lost, repeated without a mark or out of order, or when the journal's audit finds an exception.

Resident memory comes from /proc, so other systems than Linux show none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import platform
import random
import sqlite3
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.figures import brief, load, percentile
from bench.processes import CONFIG, TELEGRAM, TESTS, Running, Wire, running, scratch
from servers import telegram
from servers.telegram import TelegramServer, booth
from servers.telegram_chats import Json, wording

from roost.audit import Audit, audit

MARK = "(possibly repeated)\n"
# Method, what goes wrong, and how often at most. A part whose outcome stays unknown five times is given up.
FAULTS = (
    ("getUpdates", "drop_before_read", 3),
    ("getUpdates", "drop_after_processing", 3),
    ("getUpdates", "500", 2),
    ("getUpdates", "502", 2),
    ("sendMessage", "429", 3),
    ("sendMessage", "500", 3),
    ("sendMessage", "invalid_json", 3),
    ("sendMessage", "drop_before_read", 3),
    ("sendMessage", "drop_after_processing", 3),
)
FAULTY = 0.7  # the part of the waves that meet a fault
WARM_UP = 0.6  # the part of a life after which memory should not grow any more: by then every place was compacted
PATIENCE = 120.0  # seconds without progress after which what is missing counts as lost
POLL = 0.25  # seconds between two looks at the chats
OLD = 40 * 86400.0  # seconds that are added to the age of everything in the journal
# Small, so that every place comes to be compacted again and again, as it would in a long life.
MEMORY = """
[memory]
compact_turns = 40
compact_keep = 10
"""
PROBE = 0.05  # seconds between two requests to the web face


# In the server's process


def say_of(chat: int, line: int) -> str:
    return f"chat {chat}, line {line}: a message of a length that people write, which is not long"


async def control_wave(server: TelegramServer, asked: Json) -> Json:
    """{"chats": [n, ...], "lines": [n, ...]}: say a line in each of these chats."""
    for chat, line in zip(asked["chats"], asked["lines"], strict=True):
        await booth(server, chat).say(say_of(chat, line))
    return {}


async def control_fail(server: TelegramServer, asked: Json) -> Json:
    """{"method": "...", "kind": "...", "times": n}"""
    server.fail(asked["method"], asked["kind"], asked["times"], retry_after=1)
    return {}


async def control_missing(server: TelegramServer, asked: Json) -> Json:
    """{"said": [n of each chat]}: how many lines have no answer yet."""
    return {"missing": sum(count - len(answered(server, chat)) for chat, count in enumerate(asked["said"]))}


def answered(server: TelegramServer, number: int) -> set[str]:
    """The lines that the bot said again, whole."""
    said: set[str] = set()
    heard: set[str] = set()
    for message in booth(server, number).messages:
        bot = message["from"]["id"] == server.sender["id"]
        (heard if bot else said).add(wording(message).removeprefix(MARK))
    return said & heard


def serve() -> None:
    """The server with what a soak needs besides; runs until its standard input ends."""
    telegram.CONTROLS.update(wave=control_wave, fail=control_fail, missing=control_missing)
    asyncio.run(telegram.serve(telegram.TOKEN, 0, None))


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    command = [sys.executable, "-c", "import soak; soak.serve()"]
    with scratch() as folder, running(command, folder, PYTHONPATH=str(TESTS)) as one:
        told = json.loads(one.line())
        yield Wire(told["base_url"], told["token"])


# The bot, its lives and what is seen of it from outside


@dataclass(slots=True)
class Sample:
    """The bot at rest after a wave. `life` counts its processes; sizes are in bytes, `rss` in MB."""

    said: int
    life: int
    rss: float | None
    files: int | None
    journal: int
    memory: int


@dataclass(slots=True)
class House:
    """The folder of a bot, whichever process lives in it."""

    folder: Path
    lives: int = 0
    bot: Running | None = None
    leaving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> str:
        """Start the bot; gives the address of its web face."""
        command = [sys.executable, "-m", "roost", "run"]
        home = str(self.folder / "home")
        self.bot = self.leaving.enter_context(running(command, self.folder, ROOST_HOME=home))
        self.lives += 1
        return self.bot.line("is ready").rpartition(" ")[2].strip()

    def stop(self, kill: bool = False) -> None:
        if kill and self.bot is not None:
            self.bot.process.kill()
        self.leaving.close()
        self.bot = None

    @property
    def journal(self) -> Path:
        return self.folder / "home" / "journal.db"

    def sample(self, said: int) -> Sample:
        assert self.bot is not None
        journal, memory = size(self.journal.parent, "journal.db*"), size(self.journal.parent / "memory", "**/*")
        return Sample(said, self.lives, self.bot.memory()["rss"], open_files(self.bot.pid), journal, memory)


def size(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def open_files(pid: int) -> int | None:
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


class Probe(threading.Thread):
    """Asks the web face for /health all the time: what it waits is what the event loop was late."""

    def __init__(self) -> None:
        super().__init__(name="probe", daemon=True)
        self.address = ""
        self.waits: list[float] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(PROBE):
            if self.address:
                with contextlib.suppress(OSError, http.client.HTTPException):  # the bot is being killed
                    self._ask_on(self.address)

    def _ask_on(self, address: str) -> None:
        """Over one connection for as long as the bot has this address."""
        place = urlsplit(address)
        with contextlib.closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)) as line:
            while self.address == address and not self.done.wait(PROBE):
                begun = time.perf_counter()
                line.request("GET", "/health")
                line.getresponse().read()
                self.waits.append(1000 * (time.perf_counter() - begun))


# The soak


@dataclass(slots=True)
class Soak:
    """One run. `said` has the number of lines said in each chat."""

    given: argparse.Namespace
    server: Wire
    house: House
    probe: Probe
    chance: random.Random
    said: list[int]
    samples: list[Sample] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        waves = -(-self.given.messages // self.given.wave)
        killing = set(self.chance.sample(range(waves), min(waves, self.given.kills)))
        self.probe.address = self.house.start()
        for wave in range(waves):
            self.make_trouble()
            self.say(min(self.given.wave, self.given.messages - sum(self.said)))
            if wave in killing:
                self.kill()
            if missing := self.wait():
                print(f"Wave {wave}: {missing} lines stay without an answer.")
                return
            self.samples.append(self.house.sample(sum(self.said)))
            show(self.samples[-1])

    def make_trouble(self) -> None:
        if self.chance.random() < FAULTY:
            method, kind, most = self.chance.choice(FAULTS)
            self.faults[f"{method} {kind}"] += 1
            self.server.ask("fail", method=method, kind=kind, times=self.chance.randint(1, most))

    def say(self, count: int) -> None:
        chats, lines = [], []
        for _ in range(count):
            chat = self.chance.randrange(len(self.said))
            chats.append(chat)
            lines.append(self.said[chat])
            self.said[chat] += 1
        self.server.ask("wave", chats=chats, lines=lines)

    def kill(self) -> None:
        time.sleep(self.chance.uniform(0, 0.5))  # the instant of the kill
        self.probe.address = ""
        self.house.stop(kill=True)
        self.probe.address = self.house.start()

    def wait(self) -> int:
        """Until every line is answered; gives how many are not when nothing has moved for long."""
        missing = self.missing()
        moved = time.monotonic()
        while missing and time.monotonic() - moved < PATIENCE:
            time.sleep(POLL)
            if (now := self.missing()) != missing:
                missing, moved = now, time.monotonic()
        return missing

    def missing(self) -> int:
        return int(self.server.ask("missing", said=self.said)["missing"])

    def grow_old(self) -> dict[str, Any]:
        """Let the journal be of last month, start again, and see that what is new fits where the old was."""
        self.probe.address = ""
        self.house.stop()
        before = self.house.journal.stat().st_size
        with contextlib.closing(sqlite3.connect(self.house.journal)) as db:
            for table in ("inbox", "outbox"):
                db.execute(f"UPDATE {table} SET at = at - {OLD}")
            db.commit()
        self.probe.address = self.house.start()
        left = self.wait_for_rows()
        for _ in range(4):
            self.say(self.given.wave)
            self.wait()
        after = self.house.journal.stat().st_size
        return {"rows left": left, "journal before": before, "journal after as much again": after}

    def wait_for_rows(self) -> int:
        """Until housekeeping is done; gives the rows that stay."""
        until, left = time.monotonic() + PATIENCE, 1
        while left and time.monotonic() < until:
            time.sleep(POLL)
            with contextlib.closing(sqlite3.connect(self.house.journal)) as db:
                (left,) = db.execute("SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)").fetchone()
        return int(left)

    def settle(self) -> Audit:
        """Wait for what is still on its way after the last answer, and look at the books."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = audit(self.house.journal)
            if not found.open and set(found.parts) <= {"sent", "dead"}:
                break
            time.sleep(POLL)
        return found


def show(sample: Sample) -> None:
    told = f"{sample.said:>7} said, life {sample.life}, {brief(sample.rss)} MB, {sample.files} files open, "
    print(told + f"journal {sample.journal / 1e6:.2f} MB, memory {sample.memory / 1e6:.2f} MB", flush=True)


def compare(said: Sequence[int], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Lines lost, repeated without a mark, repeated with one, chats out of order, and what nobody said."""
    stretches: list[list[str]] = []
    found = dict.fromkeys(("lost", "doubled unmarked", "repeated marked", "strange"), 0)
    for number, (count, heard) in enumerate(zip(said, texts, strict=True)):
        lines = [say_of(number, line) for line in range(count)]
        known, bare = set(lines), [text.removeprefix(MARK) for text in heard]
        plain = [text for text in heard if text in known]
        first = list(dict.fromkeys(text for text in bare if text in known))
        found["lost"] += count - len(first)
        found["doubled unmarked"] += len(plain) - len(set(plain))
        found["repeated marked"] += sum(text.startswith(MARK) for text in heard)
        stretches += [stretch] if (stretch := misplaced(lines, first)) else []
        found["strange"] += sum(text not in known for text in bare)
    return found | {"chats out of order": len(stretches), "such as": [one[:5] for one in stretches[:3]]}


def misplaced(lines: Sequence[str], first: Sequence[str]) -> list[str]:
    """The lines as they first appeared, from the first that came too early to where the order holds again."""
    kept = set(first)
    ordered = [line for line in lines if line in kept]
    wrong = [index for index, (one, other) in enumerate(zip(ordered, first, strict=True)) if one != other]
    return list(first[wrong[0] : wrong[-1] + 1]) if wrong else []


def slope(samples: Sequence[Sample]) -> float | None:
    """KB of resident memory more for 1,000 messages, over the longest life after its warm-up."""
    lives = Counter(one.life for one in samples if one.rss is not None)
    if not lives:
        return None
    longest = [one for one in samples if one.life == lives.most_common(1)[0][0]]
    late = longest[int(WARM_UP * len(longest)) :]
    if len(late) < 3:
        return None
    line = statistics.linear_regression([one.said / 1000 for one in late], [1000 * (one.rss or 0) for one in late])
    return line.slope


def soak(given: argparse.Namespace) -> dict[str, Any]:
    """Run it; gives the whole report, as JSON has it."""
    begun, before = time.monotonic(), load()
    with wire() as server, scratch() as folder:
        table = TELEGRAM.format(token=server.token, base_url=server.base_url)
        (folder / "bot.toml").write_text(CONFIG.format(brain='use = "echo"') + MEMORY + table, encoding="utf-8")
        house, probe = House(folder), Probe()
        run = Soak(given, server, house, probe, random.Random(given.seed), [0] * given.places)
        probe.start()
        try:
            run.run()
            run.settle()
            housekeeping = run.grow_old()
            run.settle()
            texts = server.ask("texts", chats=given.places)["texts"]
            complaints = server.ask("stats")["complaints"]
        finally:
            probe.done.set()
            probe.join()
            house.stop()
        books, total = audit(house.journal), sum(run.said)
        sizes = {"journal": size(folder / "home", "journal.db*"), "memory": size(folder / "home" / "memory", "**/*")}
    waits = probe.waits or [float("nan")]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "kind": platform.machine()},
        "load": [before, load()],
        "given": {name: value for name, value in vars(given).items() if name != "out"},
        "seconds": time.monotonic() - begun,
        "messages": total,
        "lives": house.lives,
        "faults": dict(run.faults),
        **compare(run.said, texts),
        "audit": books.lines(),
        "exceptions": books.exceptions,
        "dead letters": books.parts.get("dead", 0),
        "complaints": complaints,
        "memory slope, KB for 1,000 messages": slope(run.samples),
        "housekeeping": housekeeping,
        "bytes a message": {name: count / max(1, total) for name, count in sizes.items()},
        "lag, ms": {"p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "most": max(waits)},
        "probes": len(probe.waits),
        "samples": [asdict(one) for one in run.samples],
    }


def failed(report: dict[str, Any]) -> bool:
    clean = ("lost", "doubled unmarked", "chats out of order", "exceptions")
    kept = report["housekeeping"]
    grown = kept["journal after as much again"] > 1.5 * kept["journal before"]
    return any(report[name] for name in clean) or kept["rows left"] > 0 or grown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description="A soak of the whole bot over Telegram's wire.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--places", type=int, default=200)
    parser.add_argument("--wave", type=int, default=500, help="messages said at once")
    parser.add_argument("--kills", type=int, default=0, help="how often the bot is killed in the middle of a wave")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats a run's faults and kills")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="the folder for soak.json")
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    report = soak(given)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "soak.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in report.items():
        if name != "samples":
            print(f"{name}: {value}")
    print(f"Written to {path}")
    return 1 if failed(report) else 0


if __name__ == "__main__":
    sys.exit(main())
