"""Conversations that were made up, and are as hard to compress as real ones.

Words come by Zipf's law, one common word in three is English, and after each word a few others are more likely than the
rest. So a zstd of level 15 makes 64 KB, 300 KB and 1 MB of it 2.8, 3.2 and 3.5 times smaller; for Topical-Chat
(https://github.com/alexa/Topical-Chat), messages of people, it is 3.0, 3.2 and 3.6 times.
"""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import accumulate, product

from roost.contracts import Turn

_COMMON = """
the to a and of i you in is it that for on was my with be have this at not but are so we what me can do they if just as
or your about will like how there would know get all from one out when up think he she has more no time by good had who
go see them some want could really an then been did now than her well only yes make also too our him day because here
other did work right much need where any which very back take their people last even most way new first two why still
going thanks
"""
SYLLABLES = [
    "".join(parts)
    for parts in product(
        ("", *"bcdfghklmnprstvw", "br", "ch", "gr", "pl", "st", "tr"),
        ("a", "e", "i", "o", "u", "ea", "ou"),
        ("", *"nrslt"),
    )
]
WORDS = 8000
HABIT, HABITS = 0.68, 3  # how often a word is followed by one of so many that it likes
NAMED, NUMBERED = 0.04, 0.03  # the share of words that are names and numbers
EVERY = 47.0  # seconds between two exchanges
BEGIN = 1_700_000_000.0


@lru_cache
def language() -> tuple[list[str], list[float], dict[str, list[str]]]:
    """Words, the commonest first; their summed weights; and for each the ones that it likes."""
    chance = random.Random(7)
    found = dict.fromkeys(_COMMON.split())
    while len(found) < WORDS:
        found["".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 2, 3))))] = None
    words, weights = list(found), list(accumulate(1 / (rank + 3) for rank in range(WORDS)))
    return words, weights, {word: chance.choices(words, cum_weights=weights, k=HABITS) for word in words}


class Smalltalk:
    """Turns of Ann and the bot, the same for the same seed."""

    def __init__(self, seed: int = 1) -> None:
        self._words, self._weights, self._likes = language()
        self._names = [word.capitalize() for word in self._words[200:500]]
        self._random = random.Random(seed)

    def exchange(self, number: int) -> list[Turn]:
        """What Ann says and what the bot answers, some 80 and 175 characters in the mean."""
        at, id = BEGIN + number * EVERY, str(100_000 + number)
        asked = Turn("user", self.text(0.8), "Ann", at, id, person="bench:ann")
        return [asked, Turn("assistant", self.text(2.5), id=id)]

    def turns(self, first: int, count: int) -> list[Turn]:
        """`count` turns, an even number, from the exchange with number `first` on."""
        return [turn for number in range(first, first + count // 2) for turn in self.exchange(number)]

    def text(self, more: float) -> str:
        """A sentence, and `more` in the mean."""
        return " ".join(self._sentence() for _ in range(1 + min(12, int(self._random.expovariate(1 / more)))))

    def _sentence(self) -> str:
        word, said = self._word(), []
        for _ in range(max(3, int(self._random.lognormvariate(2.2, 0.5)))):
            dice = self._random.random()
            said.append(self._name() if dice < NAMED else self._number() if dice < NAMED + NUMBERED else word)
            word = self._random.choice(self._likes[word]) if self._random.random() < HABIT else self._word()
        return f"{said[0].capitalize()} {' '.join(said[1:])}{self._random.choice('....?!')}"

    def _word(self) -> str:
        return self._random.choices(self._words, cum_weights=self._weights)[0]

    def _name(self) -> str:
        return self._random.choice(self._names)

    def _number(self) -> str:
        return str(int(self._random.lognormvariate(4, 2)))
