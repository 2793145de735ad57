"""How well texts that are no turns fit a question: the measure of recall, without an index."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from roost.memory import words
from roost.memory.search import COVERING, MOST, B, K


def weigh(question: str, texts: Sequence[str]) -> list[float]:
    """A weight for each text, 0 where it has no word of the question: BM25 among these texts, times what is covered."""
    asked = dict.fromkeys(islice(words.ask(question), MOST))
    said = [words.cut(text) for text in texts]
    found = [Counter(word for word in one if word in asked) for one in said]
    holders = Counter(word for one in found for word in one)
    rarity = {word: math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for word, n in holders.items()}
    usual = sum(map(len, said)) / max(1, len(said)) or 1.0
    whole = sum(rarity.values()) or 1.0

    def score(counts: Counter[str], length: int) -> float:
        size = K * (1 - B + B * length / usual)
        fits = sum(rarity[word] * n * (K + 1) / (n + size) for word, n in counts.items())
        return fits * (1 - COVERING + COVERING * sum(rarity[word] for word in counts) / whole)

    return [score(counts, len(one)) for counts, one in zip(found, said, strict=True)]
