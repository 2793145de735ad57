"""What the detector of private data finds in messages it was not tuned on, how fast, and what would have left."""

from __future__ import annotations

import time

from private_score import Score, leaving, score
from private_set import SEED, Labelled, messages

from bench.figures import Report
from roost.private import THRESHOLD, find
from roost.standins import StandIns

LANGUAGES = {"en": "English", "zh": "Chinese", "de": "German", "fr": "French", "es": "Spanish"}


def measure(rounds: int) -> list[Report]:
    held = messages("held")
    return [quality(held), by_kind(held), left(held), speed(held, rounds)]


def quality(held: list[Labelled]) -> Report:
    """Recall and precision by language."""
    report = Report("private", f"Private data in {len(held)} messages (seed {SEED})", "recall", "precision")
    found = score(held)
    for language, name in LANGUAGES.items():
        add(report, found, language, "", name)
        add(report, found, language, "name", f"{name}, names")
    add(report, found, "all", "", "all")
    return report


def by_kind(held: list[Labelled]) -> Report:
    """Recall and precision by kind."""
    report = Report("private-kinds", "The same by kind, all languages", "recall", "precision")
    found = score(held)
    for _, kind in sorted(one for one in found.labelled if one[0] == "all" and one[1]):
        add(report, found, "all", kind, kind)
    return report


def add(report: Report, found: Score, language: str, kind: str, name: str) -> None:
    what = f"{name} ({found.labelled[language, kind]})"
    report.add(what, "%", "recall", 100 * found.recall(language, kind))
    report.add(what, "%", "precision", 100 * found.precision(language, kind))


def left(held: list[Labelled]) -> Report:
    """How many of the private pieces leave."""
    report = Report(
        "private-leaving", "Private pieces that leave for a remote brain", "stand-ins and threshold", "nothing"
    )
    out = leaving(held)
    columns = {"nothing": out.items, "stand-ins": out.hidden, "stand-ins and threshold": out.routed}
    for column, count in columns.items():
        report.add(f"of {out.items} pieces", "pieces", column, count)
        report.add("share", "%", column, 100 * count / out.items)
    report.notes.append(f"{out.kept} of {out.messages} messages stay at home at the threshold {THRESHOLD}.")
    return report


def speed(held: list[Labelled], rounds: int) -> Report:
    """Texts a second, on one core."""
    report = Report("private-speed", "Texts a second", "hide", "find")
    texts = [message.text for message in held]
    for _ in range(rounds):
        report.add(
            "messages of the set", "a second", "find", len(texts) / seconds(lambda: [find(text) for text in texts])
        )
        hiding = StandIns("bench")
        report.add("messages of the set", "a second", "hide", len(texts) / seconds(lambda: hiding.hide_all(texts)))  # noqa: B023
    return report


def seconds(work: object) -> float:
    assert callable(work)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
