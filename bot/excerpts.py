"""The parts of a text that answer a question, with its beginning and its end, and a note of how much is gone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise

Weigh = Callable[[Sequence[str]], Sequence[float]]
"""How much each text matters for a question; 0 for not at all."""

READ = 2_000_000  # characters that are looked at: of a longer text its beginning and its end
HEAD, TAIL = 0.2, 0.1  # shares of the room for the beginning and the end, whatever they say
SHORTEST, LONGEST = 40, 300  # characters of a piece that is taken or left out as a whole
ROOMY = 400  # characters from which a note says what to do about it
LEFT = "…"
GAP = f" [{LEFT}] "
LINE = re.compile(r"[^\n]*\n|[^\n]+")
BREAK = re.compile(r"(?<=[.!?;,>|}\s。！？；，、])")


def note(left: int, whole: int, size: int) -> str:
    """What stands where something was left out."""
    if size < ROOMY:
        return f"[{LEFT} {left} characters left out]"
    return f"[{LEFT} {left} of {whole} characters left out. Ask for something narrower to see more.]"


def ends(text: str) -> str:
    """What is looked at of a text."""
    return text if len(text) <= READ else f"{text[: READ * 2 // 3]}{GAP}{text[-READ // 3 :]}"


class Excerpt:
    """A text of any kind in pieces: lines, or parts of long ones."""

    def __init__(self, text: str, weigh: Weigh, longest: int = LONGEST) -> None:
        self._length = len(text)
        self._pieces = list(pieces(ends(text), longest))
        weights = weigh(self._pieces)
        self._best = sorted((one for one, weight in enumerate(weights) if weight > 0), key=lambda one: -weights[one])

    def write(self, size: int) -> str:
        """About `size` characters of it."""
        room = size - len(note(self._length, self._length, size))
        kept = sorted(self._kept(room))
        parts = [self._pieces[one] for one in kept[:1]] or [self._beginning(max(0, room))]
        for before, one in pairwise(kept):
            parts += [self._pieces[one]] if one == before + 1 else [GAP, self._pieces[one]]
        left = self._length - sum(len(part) for part in parts if part is not GAP)
        text = "".join(parts).strip("\n")
        return f"{text}\n{note(left, self._length, size)}" if left > 0 else text

    def _beginning(self, room: int) -> str:
        """Of the piece that matters most, where not even one has room."""
        return self._pieces[self._best[0] if self._best else 0][:room] if self._pieces else ""

    def _kept(self, room: int) -> set[int]:
        """The numbers of the pieces that are kept: both ends, what matters, what is beside it, then from the start."""
        every, best = range(len(self._pieces)), self._best
        beside = (near for one in best for near in (one + 1, one - 1) if near in every)
        head, tail = (HEAD, TAIL) if best else (1 - 2 * TAIL, 2 * TAIL)
        kept: set[int] = set()
        room -= self._take(best[:1], room, kept)
        for order, share in ((every, head), (every[::-1], tail)):
            one = min(room // 3, self._cost(order[0])) if order else 0
            room -= self._take(order, max(one, int(share * room)), kept)
        room -= self._take(chain(best, beside), room, kept, skip=True)
        self._take(every, room, kept)
        return kept

    def _take(self, order: Iterable[int], room: int, kept: set[int], skip: bool = False) -> int:
        """Keep those that fit, up to the first that does not or without those that do not; what they take together."""
        taken = 0
        for one in order:
            if one in kept:
                continue
            cost = self._cost(one)
            if taken + cost <= room:
                kept.add(one)
                taken += cost
            elif not skip or room - taken < SHORTEST:
                break
        return taken

    def _cost(self, one: int) -> int:
        return len(self._pieces[one]) + len(GAP)


def pieces(text: str, longest: int) -> Iterator[str]:
    """Lines, and long lines in parts; together they are the text."""
    for line in LINE.findall(text):
        held = ""
        for part in BREAK.split(line) if len(line) > longest else [line]:
            if held and len(held) + len(part) > longest:
                yield held
                held = ""
            held += part
            for at in range(0, len(held) - longest, longest):
                yield held[at : at + longest]
            held = held[(len(held) - 1) // longest * longest :]
        if held:
            yield held
