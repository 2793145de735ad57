"""Messages over Telegram's protocol, answered by the echo brain: the cost of everything but thinking."""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager

from bench.figures import Report, percentile
from bench.processes import Running, Wire, plain_bot, roost, wire

OURS, PLAIN = "Roost", "python-telegram-bot"
TEXT = "A message of a length that people write, which is not long,"
WARM_UP, TALK, CHATS, EACH = 20, 300, 50, 20
QUIET = 0.5  # seconds without a new text after which nothing more is expected


def measure(rounds: int) -> Report:
    title = f"Telegram, echo brain: one user, then {CHATS} chats at once with {EACH} messages each"
    report = Report("telegram", title, OURS, PLAIN)
    for _ in range(rounds):
        with wire() as server:
            run(report, OURS, server, roost(server))
        with wire() as server:
            run(report, PLAIN, server, plain_bot(server))
    report.notes.append("Telegram's own rate limits are switched off, in the server and in Roost.")
    report.notes.append("The server runs on the same cores; the burst says everything at once, so p50 is mostly queue.")
    return report


def run(report: Report, name: str, server: Wire, starting: AbstractContextManager[Running]) -> None:
    with starting as bot:
        server.ask("called", method="getUpdates")
        server.ask("talk", count=WARM_UP, text="warm")
        one_user(report, name, server, bot)
        crowd(report, name, server, bot)


def one_user(report: Report, name: str, server: Wire, bot: Running) -> None:
    calls, cpu = server.ask("stats")["calls"], bot.cpu()
    waits = server.ask("talk", count=TALK, text=TEXT)["seconds"]
    settle(server)
    report.add("one user, median", "ms", name, 1000 * statistics.median(waits))
    report.add("one user, p99", "ms", name, 1000 * percentile(waits, 0.99))
    report.add("one user, CPU a message", "ms", name, spent(bot, cpu, TALK))
    made = sum(server.ask("stats")["calls"].values()) - sum(calls.values())
    report.add("one user, calls a message", "calls", name, made / TALK)


def crowd(report: Report, name: str, server: Wire, bot: Running) -> None:
    cpu = bot.cpu()
    burst = server.ask("burst", chats=CHATS, each=EACH, text="burst", numbered=True)
    texts = settle(server)
    report.add("burst, messages a second", "1/s", name, burst["rate"])
    report.add("burst, median wait", "ms", name, 1000 * burst["p50"])
    report.add("burst, CPU a message", "ms", name, spent(bot, cpu, CHATS * EACH))
    lost, doubled, disordered = compare(texts)
    report.add("burst, lost", "messages", name, lost)
    report.add("burst, doubled", "messages", name, doubled)
    report.add("burst, chats out of order", "chats", name, disordered)


def spent(bot: Running, before: float | None, messages: int) -> float | None:
    after = bot.cpu()
    return None if before is None or after is None else 1000 * (after - before) / messages


def settle(server: Wire) -> list[list[str]]:
    """What stands in the chats once nothing changes any more: late doubles count too."""
    texts: list[list[str]] = server.ask("texts", chats=CHATS)["texts"]
    while True:
        time.sleep(QUIET)
        now = server.ask("texts", chats=CHATS)["texts"]
        if now == texts:
            return texts
        texts = now


def compare(texts: list[list[str]]) -> tuple[int, int, int]:
    """How many answers to the burst are missing, how many too many, and in how many chats the order is not kept."""
    said = [f"burst {number}" for number in range(EACH)]
    lost = doubled = disordered = 0
    for chat in texts:
        heard = [text for text in chat if text.startswith("burst ")]
        lost += sum(text not in heard for text in said)
        doubled += len(heard) - len(set(heard))
        first = list(dict.fromkeys(heard))
        disordered += first != [text for text in said if text in first]
    return lost, doubled, disordered
