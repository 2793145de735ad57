"""The cold turns of one conversation: compressed in NAME.cold, and searched through NAME.index beside it.

The index holds nothing that is not in the archive: it may be removed at any time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from roost.contracts import Hit, Turn
from roost.memory import index, segments
from roost.memory.disk import Disk
from roost.memory.index import RUN, Index
from roost.memory.search import Search
from roost.memory.segments import Segments
from roost.memory.store import Fsync

if TYPE_CHECKING:
    from roost.cipher import Cipher
    from roost.memory.vectors import Vectors

log = logging.getLogger("roost.memory")


class Archive:
    """Keeps turns under growing numbers above 0. Nothing is made on the disk before the first append.

    `path` is the file NAME.cold. One thread at a time may use an archive, and one process. With a `cipher`, what
    was said is sealed and every word of the index is hidden; an archive that was not encrypted before is rewritten
    when it is opened. With `vectors`, what was said in other words is found as well. Damage is passed over, and told
    by `damage`. Raises OSError, ConfigError when there are no vectors here, and StoreError for a file from a newer
    Roost or one that is encrypted otherwise.
    """

    def __init__(
        self,
        path: Path,
        *,
        fsync: Fsync = "always",
        disk: Disk | None = None,
        cipher: Cipher | None = None,
        vectors: bool = False,
    ) -> None:
        disk = disk or Disk()
        self.path = path
        self._segments = Segments(path, fsync, disk, cipher)
        self._vectors = _vectors(self._segments, cipher) if vectors else None
        self._index = Index(_index(path), self._segments, fsync, disk, cipher, self._vectors)
        self._index.drop_clear()
        self._steps: Generator[None, None, None] | None = None

    @property
    def last(self) -> int:
        """The highest number held, 0 for none."""
        return self._segments.last

    def append(self, turns: Mapping[int, Turn]) -> None:
        """Keep turns under their numbers; what is there already is not written again, other turns override.

        Returns when they are safe: from a killed process, and with fsync="always" from a power cut.
        """
        held = self._held(turns)
        fresh = {number: turn for number, turn in sorted(turns.items()) if held.get(number) != turn}
        if not fresh:
            self._segments.sync()
            return
        self._segments.append(fresh)
        self._keep_up(Index.update)
        self._keep_up(Index.mean)

    def tend(self) -> bool:
        """Put small segments together, a step at a time; False when nothing is left.

        To be called after `append`, when there is time. Other calls may come in between.
        """
        if self._steps is None and self._segments.is_loose():
            self._steps = self._tidy()
        if self._steps is None:
            self._keep_up(Index.tidy)
            return False
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except (OSError, sqlite3.Error) as error:
            log.warning("'%s' could not be rewritten, which is tried again later: %s.", self.path, error)
            self._steps = None
            return False
        return True

    def _tidy(self) -> Generator[None, None, None]:
        steps = self._segments.tidying()
        current = False
        for _ in steps:
            yield
            current = self._index.is_current
        if current:
            self._index.follow()

    def _stop(self) -> None:
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()

    def knows(self, id: str) -> bool:
        """Whether there may be a turn with this id; False only when there is none."""
        if not self.last or not id:
            return False
        try:
            return bool(self._index.ask(lambda found: found.places(id)))
        except sqlite3.Error:
            return True

    def number(self, role: str, id: str) -> int | None:
        """The number of the newest turn with this role and id; None when there is none."""
        if not self.last or not id:
            return None
        try:
            places = self._index.ask(lambda found: found.places(id))
        except sqlite3.Error:
            numbers = (number for number, turn in self.turns() if (turn.role, turn.id) == (role, id))
            return max(numbers, default=None)
        held = self._held({number for place in places for number in range(place, place + RUN)})
        return max((number for number, turn in held.items() if (turn.role, turn.id) == (role, id)), default=None)

    def turns(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, Turn]]:
        """Numbers and turns from `first` to `last`, both included, in the order of the numbers."""
        while last is None or first <= last:
            group = self._segments.find(first)
            if group is None or (last is not None and group.first > last):
                return
            held = self._segments.read(group.records)
            yield from (item for item in held.items() if item[0] >= first and (last is None or item[0] <= last))
            first = group.last + 1

    def search(self, words: str, *, before: int | None = None, limit: int = 5, now: float) -> list[Hit]:
        """At most `limit` stretches of turns that fit `words`, the best first; none when nothing fits well enough.

        Turns with numbers from `before` on are left out. `now` is in seconds since the epoch: what is recent counts
        a little more. Whatever is in `words` is looked for; nothing in them is a command.
        """
        if not self.last or limit < 1:
            return []
        try:
            return self._index.ask(lambda found: self._find(found, words, before, limit, now))
        except sqlite3.Error as error:
            log.warning("Nothing can be searched for in '%s': %s.", self._index.path, error)
            return []

    def _find(self, index: Index, words: str, before: int | None, limit: int, now: float) -> list[Hit]:
        hits = Search(index, self._segments, before, now).find(words, limit)
        if self._vectors is None:
            return hits
        from roost.memory.alike import Alike, together

        return together(hits, Alike(index, self._segments, self._vectors, before).find(words, limit), limit)

    def rewrite(self, keep: Callable[[Turn], bool]) -> int:
        """Drop the turns that `keep` refuses, for good, and return how many there were.

        What is damaged or was overridden goes with them. A crash leaves all as it was, or all done.
        """
        self._stop()
        dropped = self._segments.rewrite(keep, self._index.remove)
        if self.last:
            self._keep_up(Index.update)
        return dropped

    def damage(self) -> list[str]:
        """Read everything, and say in sentences what cannot be read. A damaged index is made again."""
        found = self._segments.damage()
        if self.last:
            self._keep_up(Index.check)
        return found

    def __len__(self) -> int:
        """How many turns there are. What is damaged counts until somebody tried to read it."""
        groups = self._segments.groups
        alone = sum(group.records[0].count for group in groups if len(group.records) == 1)
        return alone + sum(len(self._segments.read(group.records)) for group in groups if len(group.records) > 1)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        self._stop()
        self._index.close()

    @staticmethod
    def erase(path: Path, disk: Disk) -> None:
        """Remove the archive at `path`, its index and whatever a crash may have left of them."""
        index.erase(_index(path), disk)
        segments.erase(path, disk)

    def _held(self, numbers: Iterable[int]) -> dict[int, Turn]:
        """What there is under these numbers."""
        found: dict[int, Turn] = {}
        group, held = None, dict[int, Turn]()
        for number in sorted(numbers):
            if (here := self._segments.find(number)) is None:
                break
            if here is not group:
                group, held = here, self._segments.read(here.records)
            if number in held:
                found[number] = held[number]
        return found

    def _keep_up(self, change: Callable[[Index], object]) -> None:
        """Change the index; when that fails, it is behind, and catches up when it is asked next."""
        try:
            self._index.ask(change)
        except (sqlite3.Error, OSError) as error:
            log.warning("'%s' could not be written, which is tried again later: %s.", self._index.path, error)


def _vectors(segments: Segments, cipher: Cipher | None) -> Vectors:
    from roost.memory.meaning import load
    from roost.memory.vectors import Vectors

    return Vectors(load(), segments, cipher)


def _index(path: Path) -> Path:
    return path.with_suffix(".index")
