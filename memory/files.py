"""The files of the window memory: conversations, facts, due times, reports. All of it happens in one thread."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from roost.contracts import Compaction, Hit, Turn
from roost.errors import StoreError
from roost.memory.conversation import FILES, Conversation, erase_all, file_name, read_place
from roost.memory.counting import guess
from roost.memory.disk import Disk
from roost.memory.facts import Facts
from roost.memory.lines import replay
from roost.memory.schedule import Reports, Schedule
from roost.memory.sealing import seal_folder
from roost.memory.settings import WindowConfig
from roost.memory.store import erase_copies
from roost.values import Place

if TYPE_CHECKING:
    from roost.cipher import Cipher

STEP = 1000  # turns folded at a time

log = logging.getLogger("roost.memory")


@dataclass(frozen=True, slots=True)
class View:
    """What a recall works on: the window's turns by number, how far they were cut, and what goes with them."""

    turns: dict[int, Turn]
    cap: int = 0
    cuts: dict[int, Turn] | None = None
    summary: str = ""
    tokens: int = 0
    pins: tuple[Turn, ...] = ()
    archived: bool = False
    unfolded: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """What a compaction is about to fold away; the archive has it already. There may be more for another step."""

    turns: dict[int, Turn]
    earlier: str
    tokens: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Turns kept and folded away, bytes in files, and what the summary says."""

    kept: int = 0
    folded: int = 0
    bytes: int = 0
    summary: str = ""


def first(turns: dict[int, Turn], most: int) -> dict[int, Turn]:
    """The first turns, about `most` of them, so that the next one is a person's if there is one."""
    numbers = list(turns)
    ends = (at for at in range(most, len(numbers)) if turns[numbers[at]].role == "user")
    return {number: turns[number] for number in numbers[: next(ends, len(numbers))]}


def load_vectors() -> None:
    """Raises ConfigError at the start, rather than at somebody's first question, when they are not installed."""
    from roost.memory.meaning import load

    load()


class Files:
    """Opens conversations as they are needed, and keeps the last ones open."""

    def __init__(self, config: WindowConfig, home: Path, disk: Disk, cipher: Cipher | None) -> None:
        if config.vectors:
            load_vectors()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if cipher is not None:
            seal_folder(home, cipher, disk)
        self._config = config
        self._home = home
        self._disk = disk
        self._cipher = cipher
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        self.facts = Facts(home / "facts", config.fsync, disk, cipher)
        self.schedule = Schedule(home / "due.jsonl", config.compact_idle, disk, cipher)
        self.reports = Reports(home / "compactions.jsonl", disk, cipher)

    def _conversation(self, place: Place) -> Conversation:
        """The conversation of `place`, opened, and begun if there was none."""
        name = str(place)
        if name not in self._conversations:
            while len(self._conversations) >= self._config.open_files:
                self._conversations.popitem(last=False)[1].close()
            path = self._path(place)
            self._conversations[name] = Conversation(
                path, place, self._config.fsync, self._disk, self._cipher, self._config.vectors
            )
        self._conversations.move_to_end(name)
        return self._conversations[name]

    def _known(self, place: Place) -> bool:
        return str(place) in self._conversations or self._path(place).exists()

    def _path(self, place: Place) -> Path:
        return self._home / file_name(str(place), self._cipher)

    def add(self, place: Place, turns: Sequence[Turn]) -> None:
        conversation = self._conversation(place)
        conversation.add(turns)
        with contextlib.suppress(OSError):  # the turns are safe; the next ones say it again
            if 0 < self._config.compact_turns <= len(conversation):
                self.schedule.now(place, time.time(), "turns")
            else:
                self.schedule.active(place, time.time())

    def view(self, place: Place) -> View:
        if not self._known(place):
            return View({})
        one = self._conversation(place)
        turns, record = one.recent(), one.record
        begin = next(iter(turns), one.last + 1)
        pins = tuple(turn for number, turn in one.pins().items() if number < begin)
        return View(
            turns,
            record.cap,
            dict(one.cuts),
            record.summary,
            record.tokens,
            pins,
            archived=record.folded > 0,
            unfolded=len(turns) < len(one),
        )

    def keep(self, place: Place, counted: dict[int, Turn], mark: tuple[int, int] | None, cuts: dict[int, Turn]) -> None:
        conversation = self._conversation(place)
        if counted:
            conversation.keep_counts(counted)
        if mark:
            conversation.move(*mark)
        conversation.cuts = cuts

    def count_summary(self, place: Place, tokens: int) -> None:
        self._conversation(place).count_summary(tokens)

    def search(self, place: Place, words: str, limit: int, everything: bool = False) -> list[Hit]:
        if not self._known(place):
            return []
        one = self._conversation(place)
        before = one.record.folded + 1
        hits = one.archive.search(words, before=before, limit=limit, now=time.time()) if one.record.folded else []
        if not everything:
            return hits
        recent = one.scan(words, limit)
        return [*recent[: max(1, limit - len(hits))], *hits][:limit]

    def pin(self, place: Place, role: str, id: str, pinned: bool) -> bool:
        return self._known(place) and self._conversation(place).pin(role, id, pinned)

    def archive(self, place: Place, room: int = 0) -> Fold | None:
        """Put what is to be folded in the archive, first of all. What stays takes at most `room` tokens, if any."""
        if not self._known(place):
            return None
        one = self._conversation(place)
        every = one.foldable(self._config.compact_keep, room)
        turns = first(every, STEP)
        if not turns:
            return None
        one.archive.append(turns)
        tokens = one.record.tokens + sum(map(guess, turns.values()))
        return Fold(turns, one.record.summary, tokens, len(turns) < len(every))

    def swap(self, place: Place, fold: Fold, summary: str, tokens: int) -> bool:
        return self._conversation(place).fold(fold.turns, summary, tokens)

    def tend(self, place: Place) -> bool:
        """A step of what an archive wants done when there is time; False when nothing is left."""
        one = self._conversations.get(str(place))
        return one is not None and one.archive.tend()

    def report(self, place: Place, report: Compaction, more: bool = False) -> None:
        self.reports.add(report)
        if report.done:
            self.schedule.done(place)
            if more:
                self.schedule.now(place, time.time(), report.trigger)
        else:
            self.schedule.failed(place, time.time(), report.trigger)

    def erase(self, place: Place) -> int:
        try:
            erased = sum(1 for _ in self._conversation(place)) if self._known(place) else 0
        except StoreError:  # a file from a newer Roost is erased unread
            erased = 0
        if (conversation := self._conversations.pop(str(place), None)) is not None:
            conversation.close()
        erase_all(self._path(place), self._disk)
        self.schedule.forget(place)
        self.reports.forget(place)
        return erased

    def drop(self, place: Place, person: str) -> int:
        erase_copies(self._path(place), self._disk)
        one = self._conversation(place)
        ids = {turn.id for _, turn in one if turn.person == person and turn.id}

        def concerns(turn: Turn) -> bool:
            return turn.person == person or (turn.role != "user" and turn.id.partition("#")[0] in ids)

        dropped = one.drop(concerns)
        if dropped and not any(True for _ in one):
            self.erase(place)
        return dropped

    def folded(self, place: Place, most: int) -> list[Turn]:
        """The newest turns that are in the archive alone."""
        last = self._conversation(place).record.folded if self._known(place) else 0
        return [turn for _, turn in self._conversation(place).archive.turns(last - most + 1, last)] if last else []

    def resummarise(self, place: Place, summary: str) -> None:
        self._conversation(place).tell(summary)

    def turns(self, place: Place) -> list[Turn]:
        return [turn for _, turn in self._conversation(place)] if self._known(place) else []

    def places(self) -> list[Place]:
        found = [place for path in self._home.glob(FILES) if (place := self._owner(path)) is not None]
        return sorted(found, key=str)

    def pinned(self, place: Place) -> list[Turn]:
        return list(self._conversation(place).pins().values()) if self._known(place) else []

    def copies(self) -> list[str]:
        """Names of damaged files that were set aside."""
        return sorted(path.name for path in self._home.rglob("*.damaged-*"))

    def size(self, place: Place) -> Size:
        if not self._known(place):
            return Size()
        one = self._conversation(place)
        path = self._path(place)
        stored = sum(other.stat().st_size for other in path.parent.glob(f"{path.stem}.*") if other.is_file())
        return Size(len(one), len(one.archive), stored, one.record.summary)

    def _owner(self, path: Path) -> Place | None:
        try:
            return read_place(path, self._cipher)
        except (StoreError, OSError) as error:
            log.warning("'%s' is left out: %s", path, error)
            return None

    def stores(self) -> list[str]:
        """What is damaged of the files that are appended to, in words; opening one mends it."""
        return [told for path in sorted(self._home.rglob("*.jsonl")) if (told := self._fault(path))]

    def _fault(self, path: Path) -> str:
        try:
            seen = replay(path.read_bytes(), self._cipher)
        except (StoreError, OSError) as error:
            return f"'{path}' cannot be read: {error}"
        lost = seen.bad + bool(seen.torn)
        return f"'{path}' is damaged: {lost} of {seen.good + lost} lines cannot be read." if seen.damaged else ""

    def damage(self, place: Place) -> list[str]:
        return [f"{place}: {told}" for told in self._conversation(place).archive.damage()]

    def shrink(self) -> None:
        """Close every conversation; the longest are due to be compacted."""
        now = time.time()
        for name, one in self._conversations.items():
            if len(one) > 2 * self._config.compact_keep:
                self.schedule.now(replace(Place.parse(name), kind=one.record.kind), now, "pressure")
        while self._conversations:
            self._conversations.popitem()[1].close()
        self.facts.let_go()
        self.schedule.shrink()

    def close(self) -> None:
        while self._conversations:
            self._conversations.popitem()[1].close()
        self.schedule.close()
        self.reports.close()
