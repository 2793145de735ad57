"""From nothing to a bot that listens; what it costs to be there."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.figures import Report
from bench.processes import Running, Wire, environment, plain_bot, roost, wire

IDLE = 2.0  # seconds after the start before memory is looked at
OURS, PLAIN, NOTHING = "Roost", "python-telegram-bot", "python -c pass"


def measure(rounds: int) -> Report:
    report = Report("start", "Start of the whole process, and its memory when idle", OURS, PLAIN)
    for _ in range(rounds):
        with wire() as server:
            with roost(server) as bot:
                bot.line("is ready")
                report.add('to "is ready"', "s", OURS, time.monotonic() - bot.begun)
                note(report, OURS, server, bot)
            with plain_bot(server) as bot:
                note(report, PLAIN, server, bot)
        report.add("to the first getUpdates", "s", NOTHING, nothing())
    report.notes.append("Memory is that of the bot's one process: the echo brain has no engine beside it.")
    return report


def note(report: Report, name: str, server: Wire, bot: Running) -> None:
    """Wait for the first poll, then look at the process now and when it has come to rest."""
    polled = server.ask("called", method="getUpdates", since=bot.begun)["at"]
    report.add("to the first getUpdates", "s", name, polled - bot.begun)
    report.add("CPU of the start", "s", name, bot.cpu())
    time.sleep(IDLE)
    report.add("CPU after idling 2 s more", "s", name, bot.cpu())
    for kind, size in bot.memory().items():
        report.add(f"memory ({kind})", "MB", name, size)


def nothing() -> float:
    """What Python itself takes to start and end."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env=environment())
    return time.monotonic() - begun
