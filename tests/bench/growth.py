"""One conversation of two thousand turns: what the last ones cost over the first."""

from __future__ import annotations

import statistics

from bench.figures import Report
from bench.processes import Wire, roost, wire
from bench.telegram import spent

TURNS = (10, 500, 1000, 2000)
SAMPLE = 50


def measure(rounds: int) -> Report:
    report = Report("growth", "One conversation over Telegram, echo brain", f"turn {TURNS[-1]}", f"turn {TURNS[0]}")
    for _ in range(rounds):
        with wire() as server, roost(server) as bot:
            bot.line("is ready")
            said = 0
            for turn in TURNS:
                said += talk(server, turn - said)
                cpu = bot.cpu()
                waits = server.ask("talk", count=SAMPLE, text=f"turn {turn}")["seconds"]
                said += SAMPLE
                report.add(f"median of {SAMPLE} from there on", "ms", f"turn {turn}", 1000 * statistics.median(waits))
                report.add("CPU a message", "ms", f"turn {turn}", spent(bot, cpu, SAMPLE))
                report.add("memory (rss)", "MB", f"turn {turn}", bot.memory()["rss"])
    report.notes.append("CPU is known in steps of 10 ms, so of 0.2 ms a message here.")
    return report


def talk(server: Wire, count: int) -> int:
    """Go on for some turns, in several requests: each has a time limit."""
    for done in range(0, count, 250):
        server.ask("talk", count=min(250, count - done), text="and so on")
    return count
