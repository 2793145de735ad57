"""Finds the turns of an archive that mean what is asked in other words. Only for who has vectors switched on.

A turn is a hit when it is near enough to the question, and would be without the words that both have. Questions
about nothing that was said stay below that floor, nearly all of them. The more turns there are, the nearer the nearest
comes by chance, so the floor rises with their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from roost.contracts import Hit, Turn
from roost.memory.index import Index
from roost.memory.meaning import content
from roost.memory.segments import Segments
from roost.memory.vectors import SEARCHED, Vectors

NEAR, MANY, HIGHER = 0.3, 1000, 0.025  # the least cosine up to so many turns, and how much more for ten times as many
CANDIDATES = 32  # turns that are read
AROUND = (2, 3)  # turns before and behind a hit that go with it
SHARE = 3  # of the places that a search has, one in so many is kept for what is alike in meaning only


@dataclass(slots=True)
class Alike:
    """One question to one archive. `before` is the number that no turn may reach."""

    index: Index
    segments: Segments
    vectors: Vectors
    before: int | None

    def find(self, question: str, limit: int) -> list[Hit]:
        """At most `limit` hits, the nearest first."""
        asked = content(question)
        vector = self.vectors.meaning.vector(asked)
        if vector is None:
            return []
        numbers = self.index.near(vector, self.before, CANDIDATES)
        turns = self.segments.turns(numbers)
        near = {n: self.vectors.meaning.alike(asked, content(turn.text[:SEARCHED])) for n, turn in turns.items()}
        floor = NEAR + HIGHER * max(0.0, math.log10(max(1, self.index.turns) / MANY))
        best = sorted((number for number in near if near[number] >= floor), key=lambda number: (-near[number], -number))
        return [hit for number in self._apart(best)[:limit] if (hit := self._hit(number, near[number])).turns]

    def _apart(self, numbers: Sequence[int]) -> list[int]:
        """Those that are not among the turns around a nearer one."""
        chosen: list[int] = []
        for number in numbers:
            if all(abs(number - other) > sum(AROUND) for other in chosen):
                chosen.append(number)
        return chosen

    def _hit(self, number: int, score: float) -> Hit:
        around = range(max(1, number - AROUND[0]), number + AROUND[1] + 1)
        turns = self.segments.turns([one for one in around if self.before is None or one < self.before])
        return Hit(tuple(_from_question(turns, number)), score)


def _from_question(turns: dict[int, Turn], number: int) -> list[Turn]:
    """Turns without those that answer what is not among them."""
    first = next((one for one in turns if one == number or turns[one].role == "user"), number)
    return [turn for one, turn in turns.items() if one >= first]


def together(words: Sequence[Hit], meaning: Sequence[Hit], limit: int) -> list[Hit]:
    """Hits of both kinds, those of words first, no turn in two of them."""
    said = {turn for hit in words for turn in hit.turns}
    new = [hit for hit in meaning if said.isdisjoint(hit.turns)]
    kept = words[: max(limit - len(new), limit - limit // SHARE)]
    return [*kept, *new][:limit]
