"""What is stored of one place: recent turns in a TinyDB file, older ones folded into a summary and an archive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from re import sub
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from roost.contracts import Hit, Turn
from roost.memory.archive import Archive
from roost.memory.counting import guess
from roost.memory.disk import Disk
from roost.memory.lines import decode, encode, replay
from roost.memory.sliding import OVERHEAD
from roost.memory.store import Fsync, Store, erase, set_aside
from roost.memory.words import cut as index_words
from roost.values import Place, PlaceKind

if TYPE_CHECKING:
    from roost.cipher import Cipher

log = logging.getLogger("roost.memory")

TURNS, WINDOW, PINS = "turns", "window", "pins"
PENDING = 16  # counts of tokens that wait for a write; fewer than a compaction keeps, and made again if lost
RECORD = 1

T = TypeVar("T")

DEFAULTS = {one.name: one.default for one in fields(Turn)}


@dataclass(frozen=True, slots=True)
class Record:
    """What a file says about itself: whose it is, where the window begins, what is older.

    `start` is the number of the window's first turn, `cap` the tokens its turns are cut to, 0 for uncut. Turns up to
    the number `folded` are in the archive alone, and `summary` tells of them; `tokens` is its own count.
    """

    place: str
    kind: PlaceKind
    start: int = 0
    cap: int = 0
    folded: int = 0
    summary: str = ""
    tokens: int = 0


def file_name(name: str, cipher: Cipher | None = None) -> str:
    """A file name for a place or person: readable, and unlike any other's on every file system.

    Lower case, ASCII, at most 63 bytes, and none of the names that Windows keeps for itself. With a cipher it tells
    nothing: a stand-in begins with a digest that takes the key (RFC 5297, the synthetic IV).
    """
    if cipher is not None:
        return f"sealed-{cipher.blind(name)[:16]}.jsonl"
    readable = sub(r"[^a-z0-9]+", "_", name.lower())[:40].strip("_")
    return f"{readable}-{sha256(name.encode()).hexdigest()[:16]}.jsonl"


FILES = "*-" + "[0-9a-f]" * 16 + ".jsonl"


def read_place(path: Path, cipher: Cipher | None = None) -> Place | None:
    """Whose file this is, without opening or repairing it; None when it does not say.

    Raises OSError, and StoreError for a file from a newer Roost.
    """
    row = replay(path.read_bytes(), cipher).tables.get(WINDOW, {}).get(RECORD)
    record = convert(row and decode(row), Record)
    try:
        return replace(Place.parse(record.place), kind=record.kind) if record else None
    except ValueError:
        return None


class Conversation:
    """Reads and writes the files of one place. One thread at a time may use it.

    `last` is the number of the newest turn; `cuts` is what long turns were cut to for the window as it is.
    """

    def __init__(
        self,
        path: Path,
        place: Place,
        fsync: Fsync = "always",
        disk: Disk | None = None,
        cipher: Cipher | None = None,
        vectors: bool = False,
    ) -> None:
        self.cuts: dict[int, Turn] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._recent: dict[int, Turn] | None = None
        self._counts: dict[int, Turn] = {}
        disk = disk or Disk()
        self._db = Store(path, fsync=fsync, disk=disk, cipher=cipher)
        try:
            cold = path.with_suffix(".cold")
            self.archive = Archive(cold, fsync=fsync, disk=disk, cipher=cipher, vectors=vectors)
            self._claim(path, place, disk)
            self._turns = self._db.table(TURNS)
            self._pins = self._db.table(PINS)
            self.last = max(self.record.folded, self.archive.last)
            self._index()
        except BaseException:
            self._db.close()
            raise

    def _claim(self, path: Path, place: Place, disk: Disk) -> None:
        record = convert(self._db.table(WINDOW).get(doc_id=RECORD), Record)
        if record is not None and record.place != str(place):
            aside = set_aside(path, path.read_bytes(), disk)
            log.warning("'%s' belongs to another place, so it is kept as '%s'.", path, aside.name)
            self._db.drop_tables()
            self._db.storage.compact()
            record = None
        self.record = record or Record(str(place), place.kind)
        if record is None:
            self._db.table(WINDOW).put({RECORD: asdict(self.record)})

    def _index(self) -> None:
        for document in self._turns:
            self.last = max(self.last, document.doc_id)
            if (turn := convert(document, Turn)) is not None and turn.id:
                self._keys[turn.role, turn.id] = document.doc_id

    def close(self) -> None:
        try:
            if self._counts:
                self._put({})
        finally:
            self._db.close()
            self.archive.close()

    def move(self, start: int, cap: int) -> None:
        """Let the window begin at the turn with the number `start`, and cut its turns to `cap` tokens."""
        if self._recent is not None:
            self._recent = {key: turn for key, turn in self._recent.items() if key >= start}
        self._write(replace(self.record, start=start, cap=cap))

    def count_summary(self, tokens: int) -> None:
        self._write(replace(self.record, tokens=tokens))

    def tell(self, summary: str) -> None:
        """Replace the summary."""
        self._write(replace(self.record, summary=summary, tokens=0))

    def _write(self, record: Record) -> None:
        self._db.table(WINDOW).put({RECORD: asdict(record)})
        self.record = record

    # Turns

    def add(self, turns: Sequence[Turn]) -> None:
        """Append in one write; a turn whose (role, id) is here replaces that one where it is."""
        documents: dict[int, Turn] = {}
        archived: dict[int, Turn] = {}
        keys: dict[tuple[str, str], int] = {}
        last = self.last
        unheard: set[str] = set()
        for turn in turns:
            name = (turn.role, turn.id)
            known = (keys.get(name) or self._keys.get(name)) if turn.id else None
            old = self._archived(*name) if known is None and self._may_be_archived(turn.id, unheard) else None
            if old is not None:
                archived[old] = turn
                continue
            last += known is None
            documents[known or last] = turn
            if turn.id:
                keys[name] = known or last
        if archived:
            self.archive.append(archived)
        self._put({key: self._counted(key, turn) if key <= self.last else turn for key, turn in documents.items()})
        self._keys |= keys
        self.last = last

    def _may_be_archived(self, id: str, unheard: set[str]) -> bool:
        """Whether the archive knows an id; asked once for a question and its answer, which have the same."""
        if not id or not self.record.folded or id in unheard:
            return False
        if not self.archive.knows(id):
            unheard.add(id)
        return id not in unheard

    def _archived(self, role: str, id: str) -> int | None:
        """The number of a turn that is in the archive alone."""
        number = self.archive.number(role, id) if self.record.folded else None
        return number if number is not None and number <= self.record.folded else None

    def _counted(self, key: int, turn: Turn) -> Turn:
        old = None if turn.tokens else self.turn(key)
        return replace(turn, tokens=old.tokens) if old is not None and old.text == turn.text else turn

    def _put(self, turns: Mapping[int, Turn]) -> None:
        waiting = {key: turn for key, turn in self._counts.items() if key not in turns}
        if not turns or len(waiting) >= PENDING:
            turns, waiting = {**waiting, **turns}, {}
        if not turns:
            return
        self._turns.put({key: plain(turn) for key, turn in turns.items()})
        self._counts = waiting
        for key in turns:
            self.cuts.pop(key, None)
        if len(self._pins) and (
            pinned := {key: turn for key, turn in turns.items() if self._pins.contains(doc_id=key)}
        ):
            self._pins.put({key: plain(turn) for key, turn in pinned.items()})
        if self._recent is not None:
            start = self._begin
            self._recent |= {key: turn for key, turn in turns.items() if key >= start}

    def keep_counts(self, counted: Mapping[int, Turn]) -> None:
        """Remember the tokens of turns that still are what was counted; the next write stores them."""
        for key, turn in counted.items():
            old = self.turn(key)
            if old is not None and old.text == turn.text:
                self._counts[key] = replace(old, tokens=turn.tokens)
                if self._recent is not None and key in self._recent:
                    self._recent[key] = self._counts[key]

    def turn(self, key: int) -> Turn | None:
        """A turn that is not folded away."""
        return convert(self._turns.get(doc_id=key), Turn)

    @property
    def _begin(self) -> int:
        return max(self.record.start, self.record.folded + 1, 1)

    def recent(self) -> dict[int, Turn]:
        """The window's turns by number, oldest first."""
        if self._recent is None:
            self._recent = {key: turn for key, turn in self._kept() if key >= self._begin}
        return dict(self._recent)

    def _kept(self) -> Iterator[tuple[int, Turn]]:
        """The turns that are not folded away, oldest first."""
        for key in sorted(document.doc_id for document in self._turns):
            if (turn := self.turn(key)) is not None:
                yield key, turn

    def __iter__(self) -> Iterator[tuple[int, Turn]]:
        """Every turn, oldest first, by its number."""
        if self.record.folded:
            yield from self.archive.turns(last=self.record.folded)
        yield from self._kept()

    def __len__(self) -> int:
        """The number of turns that are not folded away."""
        return len(self._turns)

    def scan(self, words: str, limit: int) -> list[Hit]:
        """The kept turns with the most of these words, each with its neighbours, the best first."""
        asked = set(index_words(words))
        kept = list(self._kept())
        scores = {place: len(asked & set(index_words(turn.text))) for place, (_, turn) in enumerate(kept)}
        best = sorted((place for place, score in scores.items() if score), key=lambda place: (-scores[place], -place))
        hits: list[Hit] = []
        shown: set[int] = set()
        for place in best:
            around = range(max(0, place - 1), min(len(kept), place + 2))
            if len(hits) < limit and place not in shown:
                hits.append(Hit(tuple(kept[one][1] for one in around), scores[place] / len(asked)))
                shown.update(around)
        return hits

    # Pins

    def pin(self, role: str, id: str, pinned: bool) -> bool:
        number = self._keys.get((role, id)) or self._archived(role, id)
        turn = self._anywhere(number) if number is not None else None
        if number is None or turn is None:
            return False
        if pinned:
            self._pins.put({number: plain(replace(turn, pinned=True))})
        elif self._pins.contains(doc_id=number):
            self._pins.remove(doc_ids=[number])
        return True

    def _anywhere(self, number: int) -> Turn | None:
        found = self.turn(number)
        return found or next((turn for _, turn in self.archive.turns(number, number)), None)

    def pins(self) -> dict[int, Turn]:
        """The pinned turns by number, oldest first."""
        found = ((document.doc_id, convert(document, Turn)) for document in self._pins)
        return {number: turn for number, turn in sorted(found) if turn is not None}

    # Folding old turns away

    def foldable(self, keep: int, room: int = 0) -> dict[int, Turn]:
        """The turns that the summary may stand for: all but the last `keep`, or fewer that take `room` tokens.

        Those before the window are folded anyway. What is kept begins with a person's turn, so no question is
        parted from its answer.
        """
        kept = dict(self._kept())
        numbers = list(kept)
        if room:
            weights = accumulate(guess(turn) + OVERHEAD for turn in reversed(kept.values()))
            keep = min(keep, max(2, sum(weight <= room for weight in weights)))
        if len(numbers) <= keep:
            return {}
        border = max(numbers[len(numbers) - keep] if keep else self.last + 1, self.record.start)
        users = [number for number in numbers if number <= border and kept[number].role == "user"]
        border = max(users, default=border)
        return {number: turn for number, turn in kept.items() if number < border}

    def fold(self, turns: Mapping[int, Turn], summary: str, tokens: int) -> bool:
        """Replace turns, which the archive has, by a summary that takes in the one before. One write.

        False, and nothing is changed, when they are not what they were any more.
        """
        now = {number: self.turn(number) for number in turns}
        if any(one is None or bare(one) != bare(turns[number]) for number, one in now.items()):
            return False
        folded = max(turns)
        start, cap = (0, 0) if folded >= self.record.start else (self.record.start, self.record.cap)
        record = replace(self.record, folded=folded, summary=summary, tokens=tokens, start=start, cap=cap)
        gone: dict[int, bytes | None] = dict.fromkeys(turns)
        self._db.storage.apply({TURNS: gone, WINDOW: {RECORD: encode(asdict(record))}})
        self._turns.clear_cache()
        self._db.table(WINDOW).clear_cache()
        self.record = record
        self._let_go(turns)
        return True

    def _let_go(self, turns: Mapping[int, Turn]) -> None:
        for number, turn in turns.items():
            self._keys.pop((turn.role, turn.id), None)
            self._counts.pop(number, None)
            self.cuts.pop(number, None)
        self._recent = None

    def drop(self, unwanted: Callable[[Turn], bool]) -> int:
        """Erase turns for good, and the summary, which may tell of them; returns how many there were."""
        here = {number: turn for number, turn in self._kept() if unwanted(turn)}
        folded = sum(unwanted(turn) for _, turn in self.archive.turns(last=self.record.folded))
        pins: dict[int, bytes | None] = {number: None for number, turn in self.pins().items() if unwanted(turn)}
        if self.archive.last:
            self.archive.rewrite(lambda turn: not unwanted(turn))
        if not here and not folded:
            return 0
        gone: dict[int, bytes | None] = dict.fromkeys(here)
        record = replace(self.record, summary="", tokens=0)
        self._db.storage.apply({TURNS: gone, PINS: pins, WINDOW: {RECORD: encode(asdict(record))}})
        for table in (self._turns, self._pins, self._db.table(WINDOW)):
            table.clear_cache()
        self.record = record
        self._let_go(here)
        self._db.storage.compact()
        return len(here) + folded

    def __bool__(self) -> bool:
        return True


def erase_all(path: Path, disk: Disk) -> None:
    """Remove everything that is stored of a place, its archive and what lies beside them."""
    Archive.erase(path.with_suffix(".cold"), disk)
    erase(path, disk)


def bare(turn: Turn) -> Turn:
    """A turn without what is only a measure of it."""
    return replace(turn, tokens=0)


def plain(turn: Turn) -> dict[str, Any]:
    """A turn as it is stored: without what is as it is in most turns."""
    values: dict[str, Any] = msgspec.to_builtins(turn)
    return {name: value for name, value in values.items() if value != DEFAULTS.get(name)}


def convert(document: Any, kind: type[T]) -> T | None:
    """A stored document as what it should be, None when it is anything else."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError:
        return None
