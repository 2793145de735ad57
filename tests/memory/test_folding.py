"""Folding in big steps and seldom, and putting an archive together without anybody waiting for it."""

from __future__ import annotations

import time
from pathlib import Path

from roost.contracts import Turn
from roost.memory import files, segments
from roost.memory.archive import Archive
from roost.memory.settings import WindowConfig
from roost.memory.sliding import OVERHEAD
from roost.memory.window import Window
from roost.values import Place

HERE, ELSEWHERE = Place("test", "1"), Place("test", "2")
SOON = 1_700_000_000.0


async def count(text: str) -> int:
    return len(text) // 4 + 1


def exchange(number: int) -> list[Turn]:
    said = f"question {number} ".ljust(120, "x"), f"answer {number} ".ljust(200, "y")
    return [Turn("user", said[0], "Ann", SOON + number, f"m{number}"), Turn("assistant", said[1], id=f"m{number}")]


def turns(first: int, count: int) -> dict[int, Turn]:
    return {
        n: Turn("user", f"line {n} about {n % 7} things", "Ann", SOON + n, f"m{n}") for n in range(first, first + count)
    }


async def opened(folder: Path) -> Window:
    window = Window(WindowConfig(fsync="os"), folder / "memory")
    await window.open()
    return window


async def lives(window: Window, budget: int) -> list[int]:
    """How many exchanges each beginning of the prompt lasted, folding between two exchanges what is due."""
    spans, last, span = [], ("", ""), 0
    for number in range(160):
        await window.remember(HERE, exchange(number))
        found = await window.recall(HERE, budget, count)
        if (begin := (found.summary, found.turns[0].text)) != last:
            spans.append(span)
            last, span = begin, 0
        span += 1
        for place, trigger in await window.due(time.time()):
            await window.compact(place, None, trigger)
    return spans[3:]


async def test_a_prompts_beginning_lasts_for_many_exchanges(tmp_path: Path):
    window = await opened(tmp_path)
    spans = await lives(window, 3000)
    await window.close()
    assert sum(spans) / len(spans) > 13


async def test_in_a_small_context_it_lasts_for_some(tmp_path: Path):
    window = await opened(tmp_path)
    spans = await lives(window, 1000)
    await window.close()
    assert sum(spans) / len(spans) > 3.5


async def test_what_a_folding_leaves_takes_its_share_of_the_window_at_most(tmp_path: Path):
    window = await opened(tmp_path)
    for number in range(60):
        await window.remember(HERE, exchange(number))
    await window.recall(HERE, 3000, count)
    await window.compact(HERE, None)
    kept = (await window.recall(HERE, 3000, count)).turns
    await window.close()
    assert 2 < len(kept) < 20
    assert kept[0].role == "user"
    assert sum(turn.tokens + OVERHEAD for turn in kept[2:]) <= 0.3 * 3000


async def test_a_large_import_is_folded_in_steps_that_each_stand(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(files, "STEP", 50)
    window = await opened(tmp_path)
    for number in range(100):
        await window.remember(HERE, exchange(number))
    report = await window.compact(HERE, None)
    assert report is not None
    assert (report.done, report.turns) == (True, 180)
    assert [one.turns for one in await window.reports()] == [50, 50, 50, 30]
    assert (await window.size(HERE)).folded == 180
    assert await window.due(time.time()) == []
    await window.close()


async def test_a_step_that_was_broken_off_is_due_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(files, "STEP", 50)
    window = await opened(tmp_path)
    for number in range(100):
        await window.remember(HERE, exchange(number))
    report, more = await window._step(HERE, None, "turns")
    assert report is not None
    assert (report.turns, more) == (50, True)
    assert [place for place, _ in await window.due(time.time())] == [HERE]
    await window.close()


# Putting an archive together.


def loose(folder: Path, count: int = 1200) -> Archive:
    archive = Archive(folder / "x.cold", fsync="os")
    for first in range(1, count, 10):
        archive.append(turns(first, 10))
    return archive


def test_other_calls_come_in_between_the_steps(tmp_path: Path):
    archive = loose(tmp_path)
    before = len(archive._segments.records)
    steps = 0
    while archive.tend():
        steps += 1
        if steps == 2:
            archive.append(turns(1201, 10) | {5: Turn("user", "an edited line", id="m5")})
            assert archive.number("user", "m700") == 700
    assert steps > 3
    assert len(archive._segments.records) < before / 4
    held = dict(archive.turns())
    assert (len(held), held[5].text, held[1205]) == (1210, "an edited line", turns(1205, 1)[1205])
    assert archive._index.is_current
    assert [turn.text for hit in archive.search("edited", now=SOON) for turn in hit.turns if "edited" in turn.text]
    archive.close()
    again = Archive(tmp_path / "x.cold", fsync="os")
    assert dict(again.turns()) == held
    again.close()


def test_what_is_forgotten_between_two_steps_does_not_come_back(tmp_path: Path, caplog):
    archive = loose(tmp_path)
    assert archive.tend() and archive.tend()
    archive.rewrite(lambda turn: turn.id != "m700")
    while archive.tend():
        pass
    assert archive.number("user", "m700") is None
    assert len(archive) == 1199
    assert caplog.records == []
    assert b"line 700 about" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    archive.close()


def test_an_archive_that_is_closed_between_two_steps_is_as_it_was(tmp_path: Path):
    archive = loose(tmp_path)
    held = dict(archive.turns())
    assert archive.tend() and archive.tend()
    archive.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.cold", "x.index"]
    again = Archive(tmp_path / "x.cold", fsync="os")
    assert dict(again.turns()) == held
    again.close()


def test_a_step_reads_and_writes_a_segment_only(tmp_path: Path, monkeypatch):
    archive = loose(tmp_path)
    packed: list[int] = []
    pack = segments.Segments._pack
    monkeypatch.setattr(segments.Segments, "_pack", lambda *given: packed.append(1) or pack(*given))
    each = []
    while archive.tend():
        each.append(len(packed))
        packed.clear()
    archive.close()
    assert max(each) == 1
