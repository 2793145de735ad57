"""The cold archive of one conversation: what it takes on the disk, and what keeping and finding take."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from bench.figures import Report, percentile
from bench.processes import TESTS, scratch
from bench.smalltalk import Smalltalk
from roost.contracts import Turn
from roost.memory.archive import Archive
from roost.memory.conversation import plain
from roost.memory.lines import encode

sys.path.append(str(TESTS / "memory"))
from dialogues import CHINESE, ENGLISH, OTHERS, Corpus, make
from paraphrases import LATER, PAIRS, STRANGEST, mixed, pairs
from paraphrases import OTHERS as ELSEWHERE

TURNS = (1_000, 10_000, 100_000)
BATCH = 40  # turns archived at once, as a compaction does
WITH, WITHOUT = "vectors", "words alone"
DIALOGUES = 60  # with a question each, spread over all the turns

Questions = list[tuple[str, set[int]]]


def measure(rounds: int) -> list[Report]:
    title = f"The archive of one conversation, {BATCH} turns archived at a time"
    report = Report("archive", title, column(TURNS[-1]), column(TURNS[0]))
    for count in TURNS:
        turns, questions = conversation(count)
        for _ in range(rounds):
            with scratch() as folder:
                keep(report, column(count), folder / "x.cold", turns)
                find(report, column(count), folder / "x.cold", turns, questions)
    report.notes.append("JSON lines are the turns as the window's file has them, without checksums.")
    report.notes.append("Recall: made-up dialogues between made-up small talk, half English and half Chinese.")
    report.notes.append("Small segments are put together in steps, between which other work has its turn.")
    return [report, meanings(rounds)] if find_spec("wordllama") else [report]


def meanings(rounds: int) -> Report:
    """How often what is asked for is among five hits, with vectors and without."""
    report = Report("vectors", "Recall with vectors and without, of 1", WITH, WITHOUT)
    half = len(pairs(PAIRS)) // 2
    for what, corpus in {
        "the words that were said, English": make([ENGLISH], 120, 1),
        "the words that were said, seven languages": make([ENGLISH, CHINESE, *OTHERS.values()], 140, 4),
        "other words, English": mixed(pairs(PAIRS)[:half], 120, 7),
        "other words, English, the other half": mixed(pairs(PAIRS)[half:], 120, 7),
        "other words, English, unseen": mixed(pairs(LATER), 120, 7, STRANGEST),
        "other words, other languages": mixed(pairs(ELSEWHERE), 120, 7),
    }.items():
        for column, vectors in ((WITHOUT, False), (WITH, True)):
            for _ in range(rounds):
                with scratch() as folder, closing(Archive(folder / "x.cold", fsync="os", vectors=vectors)) as archive:
                    archive.append(corpus.turns)
                    recall(report, what, column, archive, corpus)
    report.notes.append("Other words: question and line share none but those that every text has.")
    return report


def recall(report: Report, what: str, column: str, archive: Archive, corpus: Corpus) -> None:
    now = max(turn.at for turn in corpus.turns.values())
    numbers = {(turn.role, turn.id): number for number, turn in corpus.turns.items()}
    taken, found = [], 0
    for question, told in corpus.questions:
        begun = time.perf_counter()
        hits = archive.search(question, now=now)
        taken.append(time.perf_counter() - begun)
        found += any(numbers[turn.role, turn.id] in told for hit in hits for turn in hit.turns)
    noise = sum(bool(archive.search(question, now=now)) for question in corpus.strange)
    report.add(f"{what}: recall@5", "of 1", column, found / len(corpus.questions))
    report.add(f"{what}: search, median", "ms", column, 1000 * percentile(taken, 0.5))
    report.add(f"{what}: hits for what nobody said", f"of {len(corpus.strange)}", column, noise)


def column(count: int) -> str:
    return f"{count:,} turns"


def conversation(count: int) -> tuple[dict[int, Turn], Questions]:
    """Small talk with dialogues in between, and what can be asked about these."""
    corpus = make([ENGLISH, CHINESE], DIALOGUES, 1)
    every = -(-(count - len(corpus.turns)) // DIALOGUES)
    idle = iter(Smalltalk(count).turns(0, count))
    turns: dict[int, Turn] = {}
    numbers: dict[int, int] = {}
    for part in parts(corpus.turns):
        for turn in islice(idle, every):
            turns[len(turns) + 1] = turn
        for number, turn in part.items():
            numbers[number] = len(turns) + 1
            turns[len(turns) + 1] = turn
    return turns, [(question, {numbers[number] for number in told}) for question, told in corpus.questions]


def parts(turns: Mapping[int, Turn]) -> Iterator[dict[int, Turn]]:
    """Roughly a dialogue each."""
    size = -(-len(turns) // DIALOGUES)
    for first in range(1, len(turns) + 1, size):
        yield {number: turns[number] for number in range(first, min(first + size, len(turns) + 1))}


def keep(report: Report, where: str, path: Path, turns: Mapping[int, Turn]) -> None:
    archive = Archive(path, fsync="os")
    taken, steps = [], []
    for part in batches(turns, BATCH):
        begun = time.perf_counter()
        archive.append(part)
        taken.append(time.perf_counter() - begun)
        more = True
        while more:
            begun = time.perf_counter()
            more = archive.tend()
            steps.append(time.perf_counter() - begun)
    archive.close()
    lines = sum(len(encode(plain(turn))) + 1 for turn in turns.values())
    cold, index = path.stat().st_size, path.with_suffix(".index").stat().st_size
    report.add("JSON lines", "bytes a turn", where, lines / len(turns))
    report.add("archive", "bytes a turn", where, cold / len(turns))
    report.add("index", "bytes a turn", where, index / len(turns))
    report.add("JSON lines : archive", "times", where, lines / cold)
    report.add("JSON lines : archive and index", "times", where, lines / (cold + index))
    report.add("archiving", "turns/s", where, len(turns) / (sum(taken) + sum(steps)))
    report.add("append, median", "ms", where, 1000 * percentile(taken, 0.5))
    report.add("append, longest", "ms", where, 1000 * max(taken))
    report.add("a step of putting together, longest", "ms", where, 1000 * max(steps))


def batches(turns: Mapping[int, Turn], size: int) -> Iterator[dict[int, Turn]]:
    items = iter(turns.items())
    while part := dict(islice(items, size)):
        yield part


def find(report: Report, where: str, path: Path, turns: Mapping[int, Turn], questions: Questions) -> None:
    now = max(turn.at for turn in turns.values())
    begun = time.perf_counter()
    archive = Archive(path, fsync="os")
    report.add("open", "ms", where, 1000 * (time.perf_counter() - begun))
    begun = time.perf_counter()
    archive.number("user", turns[1].id)
    report.add("find a message by its id, the first time", "ms", where, 1000 * (time.perf_counter() - begun))
    taken, found = [], 0
    numbers = {id(turn): number for number, turn in turns.items()}
    back = {(turn.role, turn.id, turn.text): numbers[id(turn)] for turn in turns.values()}
    for question, told in questions:
        begun = time.perf_counter()
        hits = archive.search(question, now=now)
        taken.append(time.perf_counter() - begun)
        found += any(back[turn.role, turn.id, turn.text] in told for hit in hits for turn in hit.turns)
    archive.close()
    report.add("search, median", "ms", where, 1000 * percentile(taken, 0.5))
    report.add("search, p99", "ms", where, 1000 * percentile(taken, 0.99))
    report.add("recall@5", "of 1", where, found / len(questions))
