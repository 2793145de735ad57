"""The default memory: a sliding window of recent turns, one TinyDB file for each place.

The window fills up to `high` of the token budget, then falls to `low` in one step, and begins at a user's turn.
Where it begins is stored, so the beginning of the prompt stays the same between two steps and over restarts.
Turns outside the window stay in the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from roost.contracts import Count, Memory, MemoryConfig, Recollection, Turn
from roost.errors import ConfigError, StoreError
from roost.keys import key
from roost.memory.conversation import FILES, Conversation, file_name, read_place
from roost.memory.counting import cut, measure
from roost.memory.disk import Disk
from roost.memory.sliding import SMALLEST, STAND_IN, Start, slide, weigh
from roost.memory.store import Fsync, erase
from roost.values import Place

log = logging.getLogger("roost.memory")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WindowConfig(MemoryConfig):
    """The keys of `[memory]` when it says `use = "window"`."""

    high: float = key(1.0, help="The share of the token budget that the window fills before it slides.")
    low: float = key(0.5, help="The share of the token budget that is left of the window when it slides.")
    open_files: int = key(64, help="Conversations kept open at a time; the others are opened when needed.")
    fsync: Fsync = key(
        "always",
        help='"always" survives a power cut; "os" is faster and may lose the last seconds before one.',
    )


@dataclass(frozen=True, slots=True)
class View:
    """What a recall works on: the window's turns by id, and how far its turns were cut."""

    turns: dict[int, Turn]
    cap: int
    cuts: dict[int, Turn]


class Window(Memory):
    """Remembers every turn and recalls the most recent ones.

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
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        self._closed = False

    async def open(self) -> None:
        await self._run(self._make_home)

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def remember(self, place: Place, turns: Sequence[Turn]) -> None:
        if turns:
            async with self._lock(place):
                await self._run(self._add, place, tuple(turns))

    async def recall(self, place: Place, budget: int, count: Count, query: str = "") -> Recollection:
        """The window's turns, uncounted ones counted by `count` and stored with it.

        Each turn costs OVERHEAD tokens beyond its text. A turn too long for the window is cut in the middle, in
        what is returned only. A budget under SMALLEST tokens holds nothing.
        """
        limit = int(budget * self.config.high)
        if limit < SMALLEST:
            return Recollection()
        async with self._lock(place):
            view = await self._run(self._view, place)
            if not view.turns:
                return Recollection()
            return await self._window(place, view, limit, max(SMALLEST, int(budget * self.config.low)), count)

    async def _window(self, place: Place, view: View, limit: int, floor: int, count: Count) -> Recollection:
        turns = await measure(view.turns, view.cap, limit, count)
        counted = {number: turn for number, turn in turns.items() if not view.turns[number].tokens}
        start: Start | None = None
        numbers, cap = list(turns), view.cap
        if weigh(list(turns.values()), cap) > limit:
            start = slide(list(turns.values()), limit, floor)
            numbers, cap = numbers[start.index :], start.cap
        cuts = {} if start else dict(view.cuts)
        for number in numbers:
            if cap and turns[number].tokens > cap and number not in cuts:
                cuts[number] = await cut(turns[number], cap, count)
        mark = (numbers[0], cap) if start else None
        if counted or mark or cuts != view.cuts:
            await self._run(self._keep, place, counted, mark, cuts)
        recent = tuple(cuts.get(number, turns[number]) for number in numbers)
        return Recollection(turns=recent if recent[0].role == "user" else (STAND_IN, *recent))

    async def forget(self, place: Place) -> int:
        async with self._lock(place):
            return await self._run(self._erase, place)

    async def turns(self, place: Place) -> list[Turn]:
        """Every stored turn of `place`, oldest first."""
        async with self._lock(place):
            return await self._run(self._all, place)

    async def places(self) -> list[Place]:
        """Every place with stored turns, by name. Reads every file."""
        return await self._run(self._places)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._run(self._close_all)
            self._thread.shutdown(wait=False)

    # From here on, everything but `_lock` and `_run` happens in the thread.

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(str(place), asyncio.Lock())

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, *arguments)
        except OSError as error:
            raise StoreError(
                f"The memory in '{self.home}' could not be read or written: {error}. "
                "See that the folder is there, belongs to you and has room."
            ) from error

    def _conversation(self, place: Place) -> Conversation:
        """The conversation of `place`, opened, and begun if there was none."""
        name = str(place)
        if name not in self._conversations:
            while len(self._conversations) >= max(1, self.config.open_files):
                self._conversations.popitem(last=False)[1].close()
            self._conversations[name] = Conversation(self._path(place), place, self.config.fsync, self._disk)
        self._conversations.move_to_end(name)
        return self._conversations[name]

    def _known(self, place: Place) -> bool:
        return str(place) in self._conversations or self._path(place).exists()

    def _path(self, place: Place) -> Path:
        return self.home / file_name(place)

    def _add(self, place: Place, turns: Sequence[Turn]) -> None:
        self._conversation(place).add(turns)

    def _view(self, place: Place) -> View:
        if not self._known(place):
            return View({}, 0, {})
        conversation = self._conversation(place)
        return View(conversation.recent(), conversation.record.cap, dict(conversation.cuts))

    def _keep(
        self, place: Place, counted: dict[int, Turn], mark: tuple[int, int] | None, cuts: dict[int, Turn]
    ) -> None:
        conversation = self._conversation(place)
        if counted:
            conversation.keep_counts(counted)
        if mark:
            conversation.move(*mark)
        conversation.cuts = cuts

    def _erase(self, place: Place) -> int:
        try:
            erased = len(self._conversation(place)) if self._known(place) else 0
        except StoreError:  # a file from a newer Roost is erased unread
            erased = 0
        if (conversation := self._conversations.pop(str(place), None)) is not None:
            conversation.close()
        erase(self._path(place), self._disk)
        return erased

    def _all(self, place: Place) -> list[Turn]:
        return list(self._conversation(place)) if self._known(place) else []

    def _places(self) -> list[Place]:
        found = [place for path in self.home.glob(FILES) if (place := _owner(path)) is not None]
        return sorted(found, key=str)

    def _close_all(self) -> None:
        while self._conversations:
            self._conversations.popitem()[1].close()


def _owner(path: Path) -> Place | None:
    try:
        return read_place(path)
    except (StoreError, OSError) as error:
        log.warning("'%s' is left out: %s", path, error)
        return None
