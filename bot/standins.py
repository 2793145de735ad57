"""Stand-ins for private data: what leaves has them, what comes back is restored. One `StandIns` a conversation.

The same name or number always has the same stand-in, and no two share one. A stand-in that occurs in the conversation
by itself is never taken; should the conversation come to speak of one later, that gets a stand-in of its own, so that
`restore(hide(text)) == text` for every text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from roost.errors import RoostError
from roost.private import Item, find
from roost.private_chinese import COMPOUND, SURNAMES
from roost.private_names import PARTICLES, WORD, lists
from roost.restoring import Match, Pair, Restorer, Trie, digits, letter, matches
from roost.standin_forms import POOL, candidates, han

ROUNDS = 100  # two or three are usual
TRIES = 200  # more than there are names in a pool
NUMBER = re.compile(r"\d(?:[ ./()-]{0,2}\d){4,40}", re.ASCII)
FAMILY = re.compile(rf"{COMPOUND}|[小老阿]?[{SURNAMES}]")


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is written as `standin`."""

    start: int
    end: int
    kind: str
    standin: str = ""


class StandIns:
    """The stand-ins of one conversation. Not for several threads at once."""

    def __init__(self, seed: str = "") -> None:
        self.seed = seed or secrets.token_hex(8)
        self._pairs: dict[str, Pair] = {}
        self._known: dict[str, str] = {}
        self._taken: set[str] = set()
        self._trie, self._finder = Trie(), Trie()
        self._folded = ""
        self._present: list[str] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def hide(self, text: str) -> str:
        """The text with a stand-in for everything private. Raises RoostError where that would not be undone exactly."""
        return self.hide_all([text])[0]

    def hide_all(self, texts: Sequence[str]) -> list[str]:
        """Several texts of the conversation at once: what one of them gives away is hidden in all of them."""
        self._notice(texts)
        found = [find(text) for text in texts]
        for text, items in zip(texts, found, strict=True):
            for item in items:
                self._learn(item.kind, text[item.start : item.end])
        spans = [[*self._spans(text, items)] for text, items in zip(texts, found, strict=True)]
        hidden = [self._write(text, some) for text, some in zip(texts, spans, strict=True)]
        self._present = []
        return hidden

    def restore(self, text: str) -> str:
        """What `hide` was given, or an answer to it with what its stand-ins stand for."""
        restorer = self.restorer()
        return restorer.feed(text) + restorer.end()

    def restorer(self) -> Restorer:
        """For a stream of pieces."""
        return Restorer(self._trie)

    def plain(self) -> dict[str, Any]:
        """As JSON has it. It holds what is private: keep it where the conversation is kept."""
        pairs = [[pair.kind, pair.private, pair.standin] for pair in self._pairs.values()]
        return {"seed": self.seed, "pairs": pairs, "known": dict(self._known), "taken": sorted(self._taken)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> StandIns:
        """From what `plain` gave."""
        made = cls(plain["seed"])
        for kind, private, standin in plain["pairs"]:
            made._add(Pair(kind, private, standin))
        for text, kind in plain["known"].items():
            made._learn(kind, text)
        made._taken.update(plain["taken"])
        return made

    def _notice(self, texts: Iterable[str]) -> None:
        """Remember what no stand-in may be, because people say it."""
        self._present = [text.lower() for text in texts]
        for text in self._present:
            self._taken.update(name.lower() for name in POOL if name.lower() in text)
            self._taken.update(digits(match.group()) for match in NUMBER.finditer(text))

    def _learn(self, kind: str, private: str) -> None:
        """Know a private text again where nothing beside it gives it away."""
        for text in (
            (private, *(private[start:end] for start, end, _ in parts(private))) if kind == "name" else (private,)
        ):
            if text not in self._known and distinct(kind, text):
                self._known[text] = kind
                self._finder.add(Pair(kind, text, text))

    def _spans(self, text: str, items: Sequence[Item]) -> Iterator[Span]:
        """What is to be written otherwise: what was found, and what is known from elsewhere."""
        again = [match for match in matches(self._finder, text) if isinstance(match, Match)]
        covered = bytearray(len(text))
        for one in items:
            covered[one.start : one.end] = b"\1" * (one.end - one.start)
        free = [match for match in again if whole(text, match) and not any(covered[match.start : match.end])]
        wanted = [(one.start, one.end, one.kind) for one in items] + [
            (one.start, one.end, one.pair.kind) for one in free
        ]
        for start, end, kind in sorted(wanted):
            within = (
                [Span(start + a, start + b, part) for a, b, part in parts(text[start:end])] if kind == "name" else []
            )
            yield from within or [Span(start, end, kind)]

    def _write(self, text: str, spans: list[Span]) -> str:
        """The text with stand-ins, widened until reading it back gives the text and nothing else."""
        for _ in range(ROUNDS):
            spans = [
                one
                if one.standin
                else Span(one.start, one.end, one.kind, self._standin(one.kind, text[one.start : one.end]))
                for one in spans
            ]
            hidden, places = join(text, spans)
            wrong = misread(hidden, places, self._trie, text, spans)
            if not wrong:
                return hidden
            spans = widened(spans, wrong, len(text))
        raise RoostError("A text could not be hidden so that it would come back as it was. Keep it at home.")

    def _standin(self, kind: str, private: str) -> str:
        if pair := self._pairs.get(private):
            return pair.standin
        for change in (str.upper, str.lower):
            for known in (private.title(), private.capitalize(), private.lower()):
                pair = self._pairs.get(known)
                if pair and change(known) == private and pair.restored(change(pair.standin)) == private:
                    return change(pair.standin)
        chance = Random(f"{self.seed}:{len(self._pairs)}:{kind}")
        made = next((one for one in islice(candidates(kind, private, chance), TRIES) if self._free(one)), "")
        while not made:
            made = next((one for one in islice(candidates("", private, chance), TRIES) if self._free(one)), "")
        return self._add(Pair(kind, private, made)).standin

    def _free(self, standin: str) -> bool:
        """Whether nobody has said this, and it is no part of another stand-in."""
        low, number = standin.lower(), digits(standin)
        if low in self._taken or (len(number) >= 7 and number in self._taken):
            return False
        return low not in self._folded and not any(low in text for text in self._present)

    def _add(self, pair: Pair) -> Pair:
        self._pairs[pair.private] = pair
        self._trie.add(pair)
        self._folded += pair.standin.lower() + "\n"
        return pair


def parts(name: str) -> list[tuple[int, int, str]]:
    """The words of a name, each with its own stand-in, so that `Ann` is hidden alike in `Ann Smith` and alone."""
    if han(name) and "·" not in name:
        family = FAMILY.match(name)
        at = family.end() if family else 0
        cut = at - 1 if family and family[0][0] in "小老阿" and at == 2 else 0
        return [(a, b, kind) for a, b, kind in ((cut, at, "surname"), (at, len(name), "given")) if a < b]
    if han(name):
        return [(*match.span(), "given") for match in re.finditer(r"[^·]+", name)]
    words = [
        match for match in WORD.finditer(name) if len(match.group()) > 1 and match.group().casefold() not in PARTICLES
    ]
    return [(*match.span(), "name") for match in words]


def distinct(kind: str, text: str) -> bool:
    """Whether a text is private wherever it stands: `Priya` is, `Will` may be a verb and 王 a word."""
    if kind != "name":
        return len(text) >= 4
    if han(text):
        return len(text) >= 2 and text[0] not in "小老阿"
    return (
        len(text) >= 3
        and text[0].isupper()
        and text.casefold() not in lists()["nobody"]
        and text not in lists()["ambiguous"]
    )


def whole(text: str, match: Match) -> bool:
    """Whether a known text was found as it is written, and not within a word."""
    found = text[match.start : match.end]
    after = text[match.end : match.end + 1]
    return found in (match.pair.private, match.pair.private.upper()) and not (
        letter(found[-1]) and after != "" and letter(after)
    )


def join(text: str, spans: Sequence[Span]) -> tuple[str, list[tuple[int, int]]]:
    """The hidden text, and where in it each stand-in is."""
    out: list[str] = []
    places: list[tuple[int, int]] = []
    done = at = 0
    for span in spans:
        out += text[done : span.start], span.standin
        at += span.start - done
        places.append((at, at + len(span.standin)))
        at, done = at + len(span.standin), span.end
    return "".join([*out, text[done:]]), places


def misread(hidden: str, places: Sequence[tuple[int, int]], trie: Trie, text: str, spans: Sequence[Span]) -> list[Span]:
    """The parts of the text that would not come back from the hidden one as they were."""
    wanted = dict(zip(places, spans, strict=True))
    wrong: list[Span] = []
    for match in matches(trie, hidden):
        assert isinstance(match, Match)
        span = wanted.pop((match.start, match.end), None)
        if span is None:
            wrong.append(Span(*source(match, places, spans), match.pair.kind))
        elif match.pair.restored(span.standin) != text[span.start : span.end]:
            wrong.append(Span(span.start, span.end, span.kind))
    missed = [Span(max(0, span.start - 1), min(len(text), span.end + 1), "") for span in wanted.values()]
    return wrong + [
        one for one in missed if not any(other.start <= one.start and one.end <= other.end for other in wrong)
    ]


def source(match: Match, places: Sequence[tuple[int, int]], spans: Sequence[Span]) -> tuple[int, int]:
    """The part of the text that a place in the hidden one comes from, with the whole of every stand-in it touches."""
    start, end, shift = None, 0, 0
    for (a, b), span in zip(places, spans, strict=True):
        if b <= match.start:
            shift = span.end - b
        elif a < match.end:
            start = min(span.start, match.start + shift) if start is None else start
            end, shift = span.end, span.end - b
    begin = match.start + shift if start is None else start
    return begin, max(end, match.end + shift) if start is None or match.end + shift > end else end


def widened(spans: Sequence[Span], wrong: Sequence[Span], length: int) -> list[Span]:
    """Spans with what was misread among them; those that touch become one."""
    merged: list[Span] = []
    for span in sorted([*spans, *wrong], key=lambda one: (one.start, -one.end)):
        last = merged[-1] if merged else None
        if last and span.start < last.end:
            same = (span.start, span.end) == (last.start, last.end)
            kind = last.kind if same and last.kind else ""
            merged[-1] = Span(last.start, min(length, max(last.end, span.end)), kind if same else "")
        else:
            merged.append(span)
    return merged
