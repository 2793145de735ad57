"""Names and numbers: what a summary must not lose, and must not make up.

A mark is a string that says itself how it is looked for: "#30.555.142" is a number by its runs of digits,
" utrech" the beginning of a word, and anything else a piece of text as it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from roost.memory.sentences import IS_DENSE, LETTERS, words

NUMBER = re.compile(r"\d+(?:[ .,:/'’()\-–]{1,2}\d+){0,7}")
RUN = re.compile(r"\d+")
MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,32}){1,4}")
ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
QUOTED = re.compile(r"「([^「」]{2,20})」|『([^『』]{2,20})』|《([^《》]{2,20})》|“([^“”]{2,20})”")
SPACED = re.compile(rf"{LETTERS}(?:['’-]{LETTERS})*")
ENDING = re.compile(r"['’](?:s|m|ve|ll|d|re|t)$", re.IGNORECASE)
LATIN = re.compile(r"[A-Za-z][A-Za-z.+#-]*[A-Za-z+#]")
NO_NAMES = frozenset({"ok", "lol", "haha", "hi", "app", "ai", "vs", "pm", "am"})

# More capitals than this, and they say nothing: a headline, or somebody shouts.
SHOUTED = 0.6

# Counts that people write in letters. Only these: who writes others is understood as having made up a number.
COUNTED = "one two three four five six seven eight nine ten eleven twelve"
COUNTS = {word: number for number, word in enumerate(COUNTED.split(), 1)}
HAN = dict(zip("一二三四五六七八九十", range(1, 11), strict=True)) | {"两": 2, "零": 0}
HAN_NUMBER = re.compile("[一二三四五六七八九]?十[一二三四五六七八九]?|[零一二两三四五六七八九]")


def plain(text: str) -> str:
    """One form for what looks the same: wide and narrow characters, small letters, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def runs(number: str) -> list[str]:
    """The runs of digits in a number, in ASCII."""
    return ["".join(str(unicodedata.decimal(char)) for char in run) for run in RUN.findall(number)]


def value(*run: str) -> str:
    """Runs as one, without leading zeros: 05 is 5."""
    return "".join(run).lstrip("0") or "0"


def numbers(text: str) -> list[str]:
    """Marks of the numbers in `text`, addresses of pages left out."""
    return ["#" + ".".join(runs(found)) for found in NUMBER.findall(ADDRESS.sub(" ", text))]


def stem(word: str) -> str:
    """The mark of a name: without the endings that genitives, plurals and cases put on it."""
    bare = ENDING.sub("", word).casefold()
    return " " + (bare if len(bare) <= 4 else bare[: max(4, len(bare) - 2)])[:40]


def names(sentence: str) -> tuple[list[str], str]:
    """Marks of the capitalised words inside a sentence, and of the one that begins it, if it is one.

    Which of those that begin sentences are names, only other sentences tell.
    """
    found = SPACED.findall(sentence)
    great = [word for word in found if word[0].isupper() and len(ENDING.sub("", word)) > 1]
    if len(found) > 3 and len(great) > SHOUTED * len(found):
        return [], ""
    first = stem(found[0]) if great and great[0] is found[0] else ""
    return [stem(word) for word in (great[1:] if first else great)], first


def marks(sentence: str) -> tuple[list[str], str]:
    """Marks of all names and numbers in a sentence, and of a capitalised word that begins it."""
    mails = [mail.casefold() for mail in MAIL.findall(sentence)] if "@" in sentence else []
    rest = ADDRESS.sub(" ", MAIL.sub(" ", sentence) if mails else sentence)
    if not IS_DENSE.search(rest):
        inside, first = names(rest)
        return [*mails, *numbers(rest), *inside], first
    quoted = [plain("".join(groups)).lstrip(" #") for groups in QUOTED.findall(rest)]
    latin = [stem(word) for word in LATIN.findall(rest) if word.casefold() not in NO_NAMES]
    return [*mails, *numbers(rest), *(one for one in quoted if one), *latin], ""


@dataclass(frozen=True, slots=True)
class Content:
    """What is said in some texts, for looking marks up: all text, its words, and its numbers however they are cut."""

    text: str
    words: str
    numbers: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Content:
        said = "\n".join(texts)
        found: set[str] = set()
        for number in NUMBER.findall(said):
            found |= _pieces(runs(number))
        known = words(said)
        found |= {str(COUNTS[word]) for word in known if word in COUNTS}
        found |= {str(_han(one)) for one in HAN_NUMBER.findall(said)}
        latin = (word.casefold() for word in LATIN.findall(said)) if IS_DENSE.search(said) else ()
        return cls(plain(said), " " + " ".join([*known, *latin]), frozenset(found))

    def has(self, mark: str) -> bool:
        if mark.startswith("#"):
            return self.counts(mark[1:].split("."))
        return mark in (self.words if mark.startswith(" ") else self.text)

    def counts(self, number: list[str]) -> bool:
        """Whether a number is here, written in one piece or in others; a run may be missing where there are three."""
        there = sum(value(run) in self.numbers for run in number)
        return value(*number) in self.numbers or 3 * there >= (2 if len(number) > 2 else 3) * len(number)

    def invents(self, number: list[str]) -> bool:
        """Whether a number has a part that is not here."""
        return value(*number) not in self.numbers and any(value(run) not in self.numbers for run in number)


def _pieces(number: list[str]) -> set[str]:
    """A number's runs, and each neighbouring few of them joined: phone numbers are spaced in many ways."""
    ends = range(len(number) + 1)
    return {value(*number[begin:end]) for begin in ends for end in ends if begin < end}


def _han(text: str) -> int:
    tens, ten, ones = text.rpartition("十")
    return (HAN.get(tens, 1) * 10 if ten else 0) + HAN.get(ones, 0)
