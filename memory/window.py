"""The default memory: a sliding window of recent turns, a summary and an archive of what is older.

The window fills up to `high` of the token budget, then falls to `low` in one step, and begins at a user's turn.
Where it begins is stored, so the beginning of the prompt stays the same between two steps and over restarts.
A compaction folds the turns before the window into the summary; the archive keeps every word of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from roost.contracts import (
    Brain,
    Compaction,
    Count,
    Fact,
    Hit,
    Memory,
    Recollection,
    Role,
    Trigger,
    Turn,
)
from roost.errors import ConfigError, StoreError
from roost.memory.counting import cut, estimate, measure, narrow, words
from roost.memory.disk import Disk
from roost.memory.files import Files, Fold, Size, View
from roost.memory.sealing import unseal_folder
from roost.memory.settings import WindowConfig
from roost.memory.sliding import OVERHEAD, SMALLEST, STAND_IN, Start, cost, slide, weigh
from roost.values import Place

if TYPE_CHECKING:
    from roost.memory.summary import Summary

log = logging.getLogger("roost.memory")

T = TypeVar("T")

FOUND = 6  # what was found in the archive may take a sixth of the budget
PINNED = 4  # pinned turns may take a quarter of it
SUMMARY = 8  # the summary's share of the context is at most an eighth
ANEW = 400  # archived turns that a new summary is made of
HITS = 3  # stretches of the archive that a prompt gets at most
# The share of the window's room that makes a compaction due; or earlier, when the next exchange would not fit: a window
# that slides first moves the prompt's beginning twice.
FULL = 0.9


class Window(Memory):
    """Remembers every turn and recalls what matters.

    Files are read and written in one thread of its own, in the order of the calls; the event loop never waits
    for the disk. With `fsync = "os"` a killed process loses nothing, but a power cut may take turns that were
    answered: the core's journal has let go of them by then.
    """

    Config = WindowConfig

    def __init__(self, config: Any, home: Path, disk: Disk | None = None) -> None:
        super().__init__(config, home)
        if not 0 < config.low <= config.high <= 1:
            raise ConfigError(
                f"bot.toml: [memory] has high = {config.high} and low = {config.low}. "
                "Both are shares of the budget: write 0 < low <= high <= 1."
            )
        self._disk = disk or Disk()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="roost-memory")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._compacting: set[str] = set()
        self._limits: dict[str, int] = {}  # the most tokens that the windows of places may have, as far as known
        self._closed = False

    async def open(self) -> None:
        self._files = await self._run(Files, self.config, self.home, self._disk, self.cipher)

    async def unseal(self) -> None:
        """Write everything in clear text again, in place of `open`. May be interrupted, and done again."""
        if self.cipher is not None:
            await self._run(unseal_folder, self.home, self.cipher, self._disk)

    async def remember(self, place: Place, turns: Sequence[Turn]) -> None:
        if turns:
            async with self._lock(place):
                await self._run(self._files.add, place, tuple(turns))

    # Recalling

    async def recall(self, place: Place, budget: int, count: Count, query: str = "") -> Recollection:
        """The summary, the window's turns, pinned ones, and what the archive has about `query`.

        Uncounted turns are counted by `count`, and the counts stored with them. Each turn costs OVERHEAD tokens
        beyond its text. A turn too long for the window is cut in the middle, in what is returned only. A budget
        under SMALLEST tokens holds nothing.
        """
        if int(budget * self.config.high) < SMALLEST:
            return Recollection()
        async with self._lock(place):
            view = await self._run(self._files.view, place)
            if not view.turns and not view.archived:
                return Recollection()
            pins = await self._pinned(view, budget // PINNED, count)
            room = budget - await self._weigh_summary(place, view, count) - sum(map(cost, pins))
            found = await self._found(place, room // FOUND, count, query) if view.archived else ()
            room -= room // FOUND if view.archived else 0
            self._limits[str(place)] = limit = int(room * self.config.high)
            if limit < SMALLEST or not view.turns:
                return Recollection(view.summary, (), found, pins)
            turns = await self._window(place, view, limit, max(SMALLEST, int(room * self.config.low)), count)
            return Recollection(view.summary, turns, found, pins)

    async def _weigh_summary(self, place: Place, view: View, count: Count) -> int:
        if not view.summary:
            return 0
        tokens = view.tokens
        if not tokens:
            tokens = await count(view.summary)
            await self._run(self._files.count_summary, place, tokens)
        return tokens + 2 * OVERHEAD

    async def _pinned(self, view: View, room: int, count: Count) -> tuple[Turn, ...]:
        """The pinned turns, newest first as far as there is room, in their order."""
        chosen: list[Turn] = []
        for pin in reversed(view.pins):
            tokens = pin.tokens or await count(words(pin))
            room -= tokens + OVERHEAD
            if room < 0:
                break
            chosen.append(replace(pin, tokens=tokens))
        return tuple(reversed(chosen))

    async def _found(self, place: Place, room: int, count: Count, query: str) -> tuple[Hit, ...]:
        """What the archive has about `query`, the best first, as far as there is room."""
        chosen: list[Hit] = []
        for hit in await self._run(self._files.search, place, query, HITS) if query else ():
            turns = await narrow(hit.turns, query, room, count)
            if not turns:
                break
            room -= sum(map(cost, turns))
            chosen.append(replace(hit, turns=tuple(turns)))
        return tuple(chosen)

    async def _window(self, place: Place, view: View, limit: int, floor: int, count: Count) -> tuple[Turn, ...]:
        turns = await measure(view.turns, view.cap, limit, count)
        counted = {number: turn for number, turn in turns.items() if not view.turns[number].tokens}
        start: Start | None = None
        numbers, cap, weight = list(turns), view.cap, weigh(list(turns.values()), view.cap)
        if weight > limit:
            start = slide(list(turns.values()), limit, floor)
            numbers, cap = numbers[start.index :], start.cap
        cuts = {} if start else dict(view.cuts or {})
        for number in numbers:
            if cap and turns[number].tokens > cap and number not in cuts:
                cuts[number] = await cut(turns[number], cap, count)
        mark = (numbers[0], cap) if start else None
        if counted or mark or cuts != view.cuts:
            await self._run(self._files.keep, place, counted, mark, cuts)
        full = self.config.compact_tokens or min(FULL * limit, limit - sum(map(cost, list(turns.values())[-2:])))
        if start or view.unfolded or weight > full:
            await self._run(self._files.schedule.now, place, time.time(), "tokens")
        recent = tuple(cuts.get(number, turns[number]) for number in numbers)
        return recent if recent[0].role == "user" else (STAND_IN, *recent)

    async def search(self, place: Place, words: str, limit: int = 5) -> Sequence[Hit]:
        async with self._lock(place):
            return await self._run(self._files.search, place, words, limit, everything=True)

    def weigh(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        from roost.memory.weighing import weigh

        return weigh(question, texts)

    async def pin(self, place: Place, id: str, pinned: bool = True, role: Role = "user") -> bool:
        async with self._lock(place):
            return await self._run(self._files.pin, place, role, id, pinned)

    # Compacting

    async def compact(self, place: Place, brain: Brain | None, trigger: Trigger = "person") -> Compaction | None:
        if str(place) in self._compacting:
            return None
        self._compacting.add(str(place))
        try:
            steps = [one async for one in self._compact(place, brain, trigger)]
            while await self._run(self._files.tend, place):
                pass
        finally:
            self._compacting.discard(str(place))
        return _joined(steps)

    async def _compact(self, place: Place, brain: Brain | None, trigger: Trigger) -> AsyncIterator[Compaction]:
        """Fold what there is, in steps, each of which stands if the next one fails or is broken off."""
        more = True
        while more:
            report, more = await self._step(place, brain, trigger)
            if report is not None:
                yield report

    async def _step(self, place: Place, brain: Brain | None, trigger: Trigger) -> tuple[Compaction | None, bool]:
        """Archive, then summarise, then swap; what became of it, and whether there is more to fold.

        Whatever fails, the window stays as it was.
        """
        begun = time.monotonic()
        more = False
        report = Compaction(str(place), time.time(), trigger, self.config.compact_action)
        try:
            async with self._lock(place):
                fold = await self._run(self._files.archive, place, self._room_kept(place))
            if fold is None:
                await self._run(self._files.schedule.done, place)
                return None, False
            summary = await self._summarise(fold, brain)
            after = await (brain.count if brain else estimate)(summary.text)
            report = replace(report, action=summary.action, turns=len(fold.turns), note=summary.note)
            report = replace(report, tokens_before=fold.tokens, tokens_after=after)
            async with self._lock(place):
                if not await self._run(self._files.swap, place, fold, summary.text, after if brain else 0):
                    report = replace(report, done=False, note="What was to be folded was edited meanwhile.")
            more = fold.more and report.done
        except Exception as error:
            log.error("The conversation in %s could not be compacted: %s", place, error)
            report = replace(report, done=False, note=f"{type(error).__name__}: {error}")
        report = replace(report, seconds=time.monotonic() - begun)
        await self._run(self._files.report, place, report, more)
        return report, more

    def _room_kept(self, place: Place) -> int:
        """Tokens that a compaction leaves in a window, 0 while nobody knows what it may hold."""
        return int(self._limits.get(str(place), 0) * self.config.low / self.config.high)

    async def _summarise(self, fold: Fold, brain: Brain | None) -> Summary:
        # Imported when it is needed: a start has no use for it, and it takes a twentieth of a second.
        from roost.memory.extract import extract
        from roost.memory.summary import Summary, summarise

        turns = list(fold.turns.values())
        if brain is None or self.config.compact_action == "extract":
            count, context = (brain.count, brain.context) if brain else (estimate, 2048)
            room = min(self.config.compact_room, context // SUMMARY)
            return Summary(await extract(fold.earlier, turns, room, count), "extract")
        return await summarise(fold.earlier, turns, min(self.config.compact_room, brain.context // SUMMARY), brain)

    async def due(self, now: float) -> Sequence[tuple[Place, Trigger]]:
        return await self._run(self._files.schedule.due, now)

    async def reports(self) -> list[Compaction]:
        """What became of the last compactions, the newest last."""
        return await self._run(lambda: list(self._files.reports))

    # Facts

    async def note(self, owner: str, text: str, at: float = 0.0) -> Fact:
        """Note a fact, as of `at` in seconds since the epoch, or of now."""
        return await self._run(self._files.facts.note, owner, text, at)

    async def facts(self, owner: str) -> Sequence[Fact]:
        return await self._run(self._files.facts.all, owner)

    async def drop(self, owner: str, id: int) -> Fact | None:
        return await self._run(self._files.facts.drop, owner, id)

    # Forgetting

    async def forget(self, place: Place) -> int:
        async with self._lock(place):
            self._limits.pop(str(place), None)
            return await self._run(self._files.erase, place)

    async def forget_person(self, person: str) -> int:
        total = 0
        for place in await self.places():
            async with self._lock(place):
                dropped = await self._run(self._files.drop, place, person)
                if dropped:
                    await self._summarise_anew(place)
            total += dropped
        await self._run(self._files.facts.erase, person)
        return total

    async def _summarise_anew(self, place: Place) -> None:
        """Make a summary of what is left in the archive, where there was one that is gone."""
        from roost.memory.extract import extract

        turns = await self._run(self._files.folded, place, ANEW)
        if turns:
            text = await extract("", turns, self.config.compact_room, estimate)
            await self._run(self._files.resummarise, place, text)

    # Looking and letting go

    async def turns(self, place: Place) -> list[Turn]:
        """Every turn of `place`, the archived ones too, oldest first."""
        async with self._lock(place):
            return await self._run(self._files.turns, place)

    async def places(self) -> list[Place]:
        """Every place with stored turns, by name. Reads every file."""
        return await self._run(self._files.places)

    async def size(self, place: Place) -> Size:
        """How much is stored of a place, and its summary."""
        async with self._lock(place):
            return await self._run(self._files.size, place)

    async def pinned(self, place: Place) -> list[Turn]:
        """The pinned turns of `place`, oldest first."""
        async with self._lock(place):
            return await self._run(self._files.pinned, place)

    async def owners(self) -> list[str]:
        """Everybody who has facts, by name. Reads every file."""
        return await self._run(self._files.facts.owners)

    async def damage(self) -> list[str]:
        """What cannot be read of windows, facts and archives, in words."""
        found = await self._run(self._files.stores)
        found += [told for place in await self.places() for told in await self._run(self._files.damage, place)]
        return found + [f"'{name}' was set aside as damaged." for name in await self._run(self._files.copies)]

    async def shrink(self) -> None:
        await self._run(self._files.shrink)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if hasattr(self, "_files"):
                await self._run(self._files.close)
            self._thread.shutdown(wait=False)

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(str(place), asyncio.Lock())

    async def _run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: work(*arguments, **named))
        except OSError as error:
            raise StoreError(
                f"The memory in '{self.home}' could not be read or written: {error}. "
                "See that the folder is there, belongs to you and has room."
            ) from error


def _joined(steps: Sequence[Compaction]) -> Compaction | None:
    """What became of all steps, the failed one left out if others were done."""
    steps = [one for one in steps if one.done] or steps
    if not steps:
        return None
    turns, tokens = sum(one.turns for one in steps), sum(one.tokens_before for one in steps)
    return replace(steps[-1], turns=turns, tokens_before=tokens, seconds=sum(one.seconds for one in steps))
