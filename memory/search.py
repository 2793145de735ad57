"""Finds the stretches of a conversation that fit a question.

The index names windows that have the question's rarest words. Their turns, and those around them, are read from the
segments and weighed: every STRETCH neighbouring turns get

    sum over the question's words of  rarity * n * (K + 1) / (n + K * (1 - B + B * length / usual length))

which is BM25 with `n` as how often a word is there, a word in the middle counting for more than one at the edge,
and `rarity` as ln(1 + (windows - windows with it + 0.5) / (windows with it + 0.5)). That is multiplied by
0.6 + 0.4 * the covered part of the question's rarity, and by 1 + 0.2 * 0.5 ** (age / 30 days).

What covers too little of the question is no hit, so a question about nothing that was said finds nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest
from itertools import groupby, islice

from roost.contracts import Hit, Turn
from roost.memory import words
from roost.memory.index import SEARCHED, WINDOW, Index
from roost.memory.segments import Segments

STRETCH = (0.4, 0.7, 1.0, 1.0, 0.7, 0.4)  # what a word counts for, by the turn it is in
LONGEST = 10  # turns of a hit that was put together from overlapping ones
K, B = 0.8, 0.3
COVERED, COVERING = 0.3, 0.4  # the least part of a question's rarity, and how much it matters beyond that
RECENT, HALF = 0.2, 30 * 86400.0  # what being new is worth, and the seconds after which it is half
WEAKEST = 0.35  # of the best hit's score

MUCH = 2.5  # rarities of a word that was said once: so much of a long question is enough
EDGE = 2  # turns that a stretch may lack at the ends
JOINING = 0.5  # of the score of the hit that a stretch is added to
FARTHEST = 4  # turns that a hit is longer for what belongs together

MOST = 200  # words of a question that are looked at
TERMS = 10  # words looked up in the index
ASKED = 12  # words, the rarest, that count as the question
POSTINGS = 10_000  # windows read from the index for one question, about
CANDIDATES = 16  # windows whose turns are read
MISSPELT, MEANT, DOUBT = 4, 3, 0.7  # words looked at for slips, what each may have meant, and what that counts for
PAIRED = 0.25  # of its rarity is what an unknown pair of characters weighs
SHORTEST = 5  # letters: a shorter word may mean anything


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the question: what it weighs there and where it is found, the words of the index it stands for, and
    the windows with them, None when it is too common to look.

    Both weights are rarities; what is only guessed weighs less where it is found, and an unknown pair of
    characters weighs little, as most such pairs come from two words.
    """

    asked: float
    rarity: float
    forms: tuple[str, ...]
    windows: set[int] | None


@dataclass(frozen=True, slots=True)
class Weighed:
    """One turn: how often each term is in it, by the term's place, which are in its author's name, and its words."""

    number: int
    turn: Turn
    found: Mapping[int, int]
    author: frozenset[int]
    length: int


Run = Sequence[Weighed]
"""Turns with none missing in between."""


@dataclass(slots=True)
class Stretch:
    """The turns of a run from place `first` to before `end`."""

    run: Run
    first: int
    end: int
    score: float

    @property
    def numbers(self) -> tuple[int, int]:
        return self.run[self.first].number, self.run[self.end - 1].number

    def overlaps(self, other: Stretch) -> bool:
        return self.run is other.run and self.first < other.end and other.first < self.end


@dataclass(slots=True)
class Search:
    """One question to one archive. `before` is the number that no turn may reach, `now` seconds since the epoch."""

    index: Index
    segments: Segments
    before: int | None
    now: float

    def find(self, question: str, limit: int) -> list[Hit]:
        terms = self._terms(question)
        runs = self._runs(self._candidates(terms), terms)
        stretches = [one for run in runs for one in self._stretches(run, terms)]
        most = sum(term.asked for term in terms) * (K + 1) * (1 + RECENT)
        return [
            Hit(tuple(row.turn for row in one.run[one.first : one.end]), min(1.0, one.score / most))
            for one in choose(stretches, limit)
        ]

    # What is asked for.

    def _terms(self, question: str) -> list[Term]:
        """The rarest words of the question, those that nobody ever said included."""
        asked = dict(islice(words.ask(question).items(), MOST))
        counts = self.index.counts(asked)
        meant = {word: {word: counts[word]} if word in counts else {} for word in asked}
        unknown = (word for word, written in asked.items() if word not in counts and len(written) >= SHORTEST)
        for word in islice(unknown, MISSPELT):
            meant[word] = self._meant(asked[word])
        rarest = sorted(asked, key=lambda word: sum(meant[word].values()))[:ASKED]
        terms: list[Term] = []
        read = 0
        for word in rarest:
            windows = self._windows(meant[word]) if len(terms) < TERMS and read < POSTINGS else None
            read += len(windows or ())
            rarity = self._rarity(sum(meant[word].values()) if windows is None else len(windows))
            if word in counts:
                terms.append(Term(rarity, rarity, (word,), windows))
            else:
                weight = self._rarity(0) * (1.0 if asked[word] else PAIRED)
                terms.append(Term(weight, DOUBT * rarity, tuple(meant[word]), windows))
        return terms

    def _meant(self, written: str) -> dict[str, int]:
        """Words of the index that one slip parts from what was written, the commonest."""
        found = self.index.counts(word for word in words.near(written) if len(word) > 2)
        return dict(sorted(found.items(), key=lambda item: -item[1])[:MEANT])

    def _windows(self, forms: Iterable[str]) -> set[int]:
        return set[int]().union(*(self.index.windows(form) for form in forms))

    def _rarity(self, count: int) -> float:
        among = max(self.index.count, count)
        return math.log(1 + (among - count + 0.5) / (count + 0.5))

    # Where it may be.

    def _candidates(self, terms: Iterable[Term]) -> list[int]:
        scores: dict[int, float] = defaultdict(float)
        for term in terms:
            for window in term.windows or ():
                scores[window] += term.rarity
        last = math.inf if self.before is None else self.before / WINDOW
        rated = zip(scores.values(), scores, strict=True)
        return [window for _, window in nlargest(CANDIDATES, (one for one in rated if one[1] < last))]

    def _runs(self, windows: Iterable[int], terms: Sequence[Term]) -> Iterator[Run]:
        """The turns of the windows and those that a stretch around them may reach, oldest first."""
        places = {form: place for place, term in enumerate(terms) for form in term.forms}
        reach = len(STRETCH) - 1
        around = (range(window * WINDOW - reach, (window + 1) * WINDOW + reach) for window in windows)
        numbers = sorted({number for part in around for number in part if self.before is None or number < self.before})
        turns = self.segments.turns(numbers)
        for _, together in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
            if run := [_weigh(number, turns[number], places) for _, number in together if number in turns]:
                yield run

    # What fits best.

    def _stretches(self, run: Run, terms: Sequence[Term]) -> Iterator[Stretch]:
        """The stretches that cover enough of the question. At the ends of a run there are some shorter ones."""
        asked = sum(term.asked for term in terms)
        least, much = self._rarity(max(3, self.index.count // 4)), MUCH * self._rarity(1)
        usual = len(STRETCH) * self.index.length
        for start in range(-EDGE, max(1, len(run) - len(STRETCH) + EDGE + 1)):
            part = list(zip(run[max(0, start) : start + len(STRETCH)], STRETCH[max(0, -start) :], strict=False))
            found = _count(part)
            covered = sum(terms[place].rarity for place in found)
            if not part or covered < least or (covered < COVERED * asked and covered < much):
                continue
            size = 1 - B + B * sum(row.length for row, _ in part) / usual
            score = sum(terms[place].rarity * n * (K + 1) / (n + K * size) for place, n in found.items())
            score *= (1 - COVERING + COVERING * covered / asked) * self._freshness(part)
            yield _round_off(Stretch(run, max(0, start), max(0, start) + len(part), score))

    def _freshness(self, part: Sequence[tuple[Weighed, float]]) -> float:
        age = max(0.0, self.now - max(row.turn.at for row, _ in part))
        return 1 + RECENT * math.pow(0.5, age / HALF)


def _weigh(number: int, turn: Turn, places: Mapping[str, int]) -> Weighed:
    said = words.cut(turn.text[:SEARCHED])
    found = Counter([places[word] for word in said if word in places])
    author = frozenset([places[word] for word in _named(turn.author) if word in places])
    return Weighed(number, turn, found, author, len(said))


@lru_cache(maxsize=256)
def _named(author: str) -> tuple[str, ...]:
    return tuple(words.cut(author))


def _count(part: Sequence[tuple[Weighed, float]]) -> dict[int, float]:
    """How often each term is there, more or less. Whose turns they are counts once."""
    found: dict[int, float] = dict.fromkeys({place for row, _ in part for place in row.author}, 1.0)
    for row, weight in part:
        for place, times in row.found.items():
            found[place] = found.get(place, 0.0) + weight * times
    return found


def _round_off(one: Stretch) -> Stretch:
    """Let a stretch begin with a question rather than its answer, and keep calls and their results together."""
    run, first, end = one.run, one.first, one.end
    while first and run[first].turn.role != "user" and one.first - first < FARTHEST:
        first -= 1
    if run[first].turn.role != "user" and run[one.first].turn.role != "tool":
        first = one.first
    while end < len(run) and run[end].turn.role == "tool" and end - one.end < FARTHEST:
        end += 1
    return Stretch(run, first, end, one.score)


def choose(stretches: Iterable[Stretch], limit: int) -> list[Stretch]:
    """The best ones, the best first. Those that overlap are put together while they are not too long."""
    ordered = sorted(stretches, key=lambda one: (-one.score, [-number for number in one.numbers]))
    chosen: list[Stretch] = []
    for one in ordered:
        if one.score < WEAKEST * ordered[0].score:
            break
        near = [other for other in chosen if other.overlaps(one)]
        if not near and len(chosen) < limit:
            chosen.append(one)
        elif len(near) == 1 and one.score > JOINING * near[0].score:
            first, end = min(near[0].first, one.first), max(near[0].end, one.end)
            if end - first <= LONGEST:
                near[0].first, near[0].end = first, end
    return chosen
