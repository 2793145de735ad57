"""Which turns go into one segment together, and which segments belong together when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from roost.contracts import Turn
from roost.memory.columns import MOST
from roost.memory.records import Record

WINDOW = 64 * 1024  # the largest segment unpacked, bytes, unless a single turn is larger
GAP = 64  # numbers that may be missing between two turns of a segment

FEW, PART = 16, 4  # segments are put together when that makes so many fewer, and concerns one part of so many


@dataclass(frozen=True, slots=True)
class Group:
    """Records whose numbers lie among each other, in the order of the file: later ones override."""

    first: int
    last: int
    records: tuple[Record, ...]


def is_loose(groups: Sequence[Group]) -> bool:
    """Whether many segments could be put together, with a good part of all. Right after that, none can."""
    fewer = loose = whole = count = raw = last = 0
    for one in groups:
        more, size = sum(record.count for record in one.records), sum(record.raw for record in one.records)
        joins = last > 0 and count + more <= MOST and raw + size <= WINDOW and one.first - last <= GAP
        fewer += len(one.records) - 1 + joins
        loose, whole = loose + joins * size, whole + size
        count, raw, last = joins * count + more, joins * raw + size, one.last
    return fewer >= FEW and PART * loose >= whole


def split(turns: Mapping[int, Turn] | Iterable[tuple[int, Turn]]) -> Iterator[dict[int, Turn]]:
    """Parts that make one segment each: not too many turns, not too long, and near each other."""
    part: dict[int, Turn] = {}
    size = last = 0
    for number, turn in turns.items() if isinstance(turns, Mapping) else turns:
        length = len(turn.text.encode("utf-8", "surrogatepass"))
        if part and (len(part) == MOST or size + length > WINDOW or number - last > GAP):
            yield part
            part, size = {}, 0
        part[number] = turn
        size, last = size + length, number
    if part:
        yield part


def group(records: Iterable[Record]) -> Iterator[Group]:
    """By number; no two groups share one."""
    together: list[Record] = []
    last = 0
    for record in sorted(records, key=lambda one: one.first):
        if together and record.first > last:
            yield _grouped(together)
            together = []
        together.append(record)
        last = max(last, record.last)
    if together:
        yield _grouped(together)


def _grouped(records: list[Record]) -> Group:
    ordered = sorted(records, key=lambda one: one.offset)
    return Group(records[0].first, max(one.last for one in records), tuple(ordered))
