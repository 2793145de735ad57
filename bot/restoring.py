"""Finding stand-ins in a text and putting back what they stand for, also in a stream that cuts them anywhere.

A match is decided by what comes before and only as far ahead as a stand-in may still go on, so any cutting of a stream
gives the same as the whole text: leftmost, then longest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

SEPARATORS = " -./()\u00a0"
WAIT = -1  # more text may decide it


@dataclass(frozen=True, slots=True)
class Pair:
    """What is private and what stands for it."""

    kind: str
    private: str
    standin: str

    def restored(self, found: str) -> str:
        """What to write where a stand-in was found, in the case or the grouping that it was found in."""
        if found == self.standin:
            return self.private
        if found == self.standin.upper():
            return self.private.upper()
        if found == self.standin.lower():
            return self.private.lower()
        return regrouped(found, self.private) if found[0].isdigit() and self.numeric else self.private

    @property
    def numeric(self) -> bool:
        """Whether its digits alone say it, however they are grouped."""
        return loose(self.standin) and len(digits(self.standin)) == len(digits(self.private)) and loose(self.private)


@dataclass(frozen=True, slots=True)
class Match:
    start: int
    end: int
    pair: Pair


def digits(text: str) -> str:
    return "".join(one for one in text if "0" <= one <= "9")


def loose(text: str) -> bool:
    return len(digits(text)) >= 7 and all("0" <= one <= "9" or one in "+" + SEPARATORS for one in text)


def regrouped(layout: str, number: str) -> str:
    """The digits of a number in the layout of another that has as many."""
    rest = iter(digits(number))
    return "".join(next(rest) if "0" <= one <= "9" else one for one in layout)


def folded(one: str) -> str:
    """A character without its case, where that is one character."""
    lower = one.lower()
    return lower if len(lower) == 1 else one


def letter(one: str) -> bool:
    """Whether a character would make a word of what follows it: not so in Chinese, where words do not show."""
    return one.isalnum() and not "\u2e80" <= one <= "\u9fff" and not "\uac00" <= one <= "\ud7ff"


@dataclass(slots=True)
class Trie:
    """Stand-ins by their characters; those of digits a second time, by their digits only."""

    words: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    starts: re.Pattern[str] | None = None

    def add(self, pair: Pair) -> None:
        insert(self.words, map(folded, pair.standin), pair)
        if pair.numeric:
            insert(self.numbers, digits(pair.standin), pair)
        self.starts = None

    def next(self, text: str, at: int) -> int:
        """The first place from `at` on where a stand-in may begin; the text's length when there is none."""
        if self.starts is None:
            first = {*self.words, *self.numbers}
            first |= {one.upper() for one in first if len(one.upper()) == 1 and folded(one.upper()) == one}
            self.starts = re.compile(f"[{re.escape(''.join(sorted(first)))}]" if first else "(?!)")
        found = self.starts.search(text, at)
        return found.start() if found else len(text)

    def match(self, text: str, at: int, before: str, final: bool) -> tuple[int, Pair | None]:
        """The end of the longest stand-in that begins here, or WAIT. `before` is the character before, or empty."""
        word = self._word(text, at, before, final)
        if word[0] == WAIT:
            return word
        number = self._number(text, at, before, final)
        return number if number[0] == WAIT or number[0] > word[0] else word

    def _word(self, text: str, at: int, before: str, final: bool) -> tuple[int, Pair | None]:
        if before and letter(before) and letter(text[at]):
            return 0, None
        node, place, best = self.words, at, (0, None)
        while place < len(text):
            step = node.get(folded(text[place]))
            if step is None:
                return best
            node, place = step, place + 1
            pair = node.get("")
            if pair and not (text[place - 1].isdigit() and text[place : place + 1].isdigit()):
                best = (place, pair)
        return best if final else (WAIT, None)

    def _number(self, text: str, at: int, before: str, final: bool) -> tuple[int, Pair | None]:
        if not self.numbers or before.isdigit() or not text[at].isdigit():
            return 0, None
        node, place, gap = self.numbers, at, 0
        while place < len(text):
            one = text[place]
            if one in SEPARATORS and gap < 2 and "" not in node:
                gap, place = gap + 1, place + 1
                continue
            pair = node.get("")
            if pair and not one.isdigit():
                return place, pair
            step = node.get(one)
            if step is None:
                return 0, None
            node, place, gap = step, place + 1, 0
        if not final:
            return WAIT, None
        pair = node.get("")
        return (place, pair) if pair else (0, None)


def insert(node: dict[str, Any], path: Iterable[str], pair: Pair) -> None:
    for one in path:
        node = node.setdefault(one, {})
    node[""] = pair


def matches(trie: Trie, text: str, before: str = "", final: bool = True) -> Iterator[Match | int]:
    """Every stand-in in a text; the last thing, where more text may decide, is the place to wait at."""
    at = 0
    while (at := trie.next(text, at)) < len(text):
        end, pair = trie.match(text, at, text[at - 1] if at else before, final)
        if end == WAIT:
            yield at
            return
        if pair:
            yield Match(at, end, pair)
        at = end if pair else at + 1


class Restorer:
    """Restore a stream: what `feed` gives back never ends within a stand-in, and holds back no more than one."""

    def __init__(self, trie: Trie) -> None:
        self._trie, self._held, self._before = trie, "", ""

    @property
    def held(self) -> str:
        """What waits for more text: the beginning of what may be a stand-in."""
        return self._held

    def feed(self, piece: str) -> str:
        """The restored text that is certain after this piece."""
        return self._go_on(self._held + piece, final=False)

    def end(self) -> str:
        """What was held back. The restorer may then be used for another stream."""
        rest = self._go_on(self._held, final=True)
        self._before = ""
        return rest

    def _go_on(self, text: str, final: bool) -> str:
        out: list[str] = []
        done, stop = 0, len(text)
        for match in matches(self._trie, text, self._before, final):
            if isinstance(match, int):
                stop = match
                break
            out += text[done : match.start], match.pair.restored(text[match.start : match.end])
            done = match.end
        out.append(text[done:stop])
        self._held = text[stop:]
        self._before = text[stop - 1] if stop else self._before
        return "".join(out)
