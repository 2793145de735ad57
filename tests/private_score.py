"""How well the detector finds what is labelled, and what would have left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from private_set import Label, Labelled

from roost.private import THRESHOLD, Item, find, sensitivity
from roost.standins import StandIns

Tally = Counter[tuple[str, str]]
ENOUGH = 0.8  # of an item's characters, for it to count as found


@dataclass(slots=True)
class Score:
    """Counts by (language, kind), and by language under the kind ''."""

    labelled: Tally = field(default_factory=Counter)
    found: Tally = field(default_factory=Counter)
    said: Tally = field(default_factory=Counter)
    right: Tally = field(default_factory=Counter)
    missed: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def recall(self, language: str, kind: str = "") -> float:
        return self.found[language, kind] / max(1, self.labelled[language, kind])

    def precision(self, language: str, kind: str = "") -> float:
        """1 where nothing of the kind was said."""
        return self.right[language, kind] / said if (said := self.said[language, kind]) else 1.0


def covered(label: Label, items: Iterable[Item]) -> float:
    """The share of a label's characters that some item masks."""
    over = sum(max(0, min(label.end, one.end) - max(label.start, one.start)) for one in items)
    return over / (label.end - label.start)


def score(messages: Iterable[Labelled]) -> Score:
    """An item counts as found when enough of it is masked, as whatever kind; one said is right when on a label."""
    made = Score()
    for message in messages:
        items = find(message.text)
        for label in message.labels:
            good = covered(label, items) >= ENOUGH
            count(made.labelled, made.found, message.language, label.kind, good)
            if not good:
                made.missed.append((label.kind, message.text[label.start : label.end]))
        for item in items:
            good = any(item.start < label.end and label.start < item.end for label in message.labels)
            count(made.said, made.right, message.language, item.kind, good)
            if not good:
                made.wrong.append((item.kind, f"{message.text[item.start : item.end]} | {message.text}"))
    return made


def count(all_: Tally, good: Tally, language: str, kind: str, is_good: bool) -> None:
    for place in ((language, kind), (language, ""), ("all", kind), ("all", "")):
        all_[place] += 1
        good[place] += is_good


@dataclass(frozen=True, slots=True)
class Leaving:
    """Of so many private items, how many leave when nothing is done, hidden only, and with the threshold as well."""

    items: int
    hidden: int
    routed: int
    messages: int
    kept: int


def leaving(messages: Iterable[Labelled]) -> Leaving:
    """What is left in clear of each labelled item after `hide`; a message above the threshold stays at home."""
    items = hidden = routed = total = kept = 0
    for message in messages:
        home = sensitivity(message.text) >= THRESHOLD
        out = StandIns("seed").hide(message.text)
        left = sum(tells(message.text[one.start : one.end], out) for one in message.labels)
        items += len(message.labels)
        hidden += left
        routed += 0 if home else left
        total, kept = total + 1, kept + home
    return Leaving(items, hidden, routed, total, kept)


def tells(private: str, out: str) -> bool:
    """Whether a private text, or a word of it that says something, is still there."""
    words = [one for one in re.split(r"[\s,]+", private) if len(one) >= 4 or (len(one) > 1 and not one.isascii())]
    return any(one in out for one in [private, *words])
