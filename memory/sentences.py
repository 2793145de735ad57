"""Sentences and words in any script, by plain rules. Every pattern takes time in proportion to the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from roost.graphemes import joined

# Scripts whose words no space tells apart, and Hangul, whose words change their ends: Thai to Khmer, kana, Han.
DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u30a0-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before them, which `\w` leaves out: accents, vowels of Hebrew, Arabic and Hindi.
MARKS = "".join(map(chr, (code for code in range(0x300, 0xE00) if unicodedata.category(chr(code)) in {"Mn", "Mc"})))
LETTERS = rf"[^\W\d_{DENSE}]+"
WORD = re.compile(rf"{LETTERS}(?:[{MARKS}]+(?:{LETTERS})?|['’-]{LETTERS})*|[\u30a1-\u30ff]{{2,}}|[{DENSE}]+")
KATAKANA = re.compile(r"[\u30a1-\u30ff]+\Z")
IS_DENSE = re.compile(f"[{DENSE}]")

# What ends a sentence: with a space after it where words have spaces, by itself where they do not.
END = re.compile(r"[.!?…]{1,8}[\"'”’»)\]*_]{0,3}(?= )|[。！？｡؟۔।॥]{1,8}[\"'”’»」』）)]{0,3}")
# A point ends nothing after an initial or these, before a number after those, and in a date such as "12. Mai".
TITLE = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|Hr|Fr|Sra?|Mme|vs|approx|ca|bzw|inkl|e\.g|i\.e|z\. ?B|d\. ?h)\.$",
    re.IGNORECASE,
)
COUNTED = re.compile(r"(?:^|\s)(?:No|Nr|Tel|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|O[ck]t|Nov|De[cz])\. \d$", re.IGNORECASE)
DATED = re.compile(r"(?:^|\s)\d{1,2}\. (?:[^\W\d_A-Z]|Jan|Feb|M[aä]r|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])")
BULLET = re.compile(r"(?:[-*•·#]{1,6}|\d{1,2}[.)、])\s+")
ASKS = re.compile(r"[?？؟\u037e]['\"”’»」』）)*_ ]{0,3}$")
FENCE = "```"
LABEL = re.compile(r"([^\s:：][^:：\n]{0,39}): ")

# Control tokens of chat templates: in a prompt they would end the turn they stand in.
CONTROL = re.compile(
    r"<[|｜][^\s|｜<>]{1,40}[|｜]>|</?s>|<(?:unk|pad|bos|eos)>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|\[/?SYSTEM_PROMPT\]|</?think>"
)
INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")

# Longer texts are read at their beginning and end only: the middle of what was pasted in is rarely about a person.
READ = 6000


def sound(text: str) -> str:
    """The text as valid Unicode, without control characters."""
    return INVISIBLE.sub(" ", text.encode(errors="replace").decode())


def tidy(text: str) -> str:
    """The text as valid Unicode, without control characters and control tokens."""
    return CONTROL.sub(" ", sound(text))


def shorten(text: str, most: int = READ) -> str:
    """At most `most` characters and a mark: two thirds from the beginning, the rest from the end."""
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3]} … {text[len(text) - most // 3 :]}"


def clip(text: str, most: int) -> str:
    """The beginning of `text`, in at most `most` characters, a mark included; cut between words where there are any."""
    if len(text) <= most:
        return text
    cut = max(0, most - 1)
    space = text.rfind(" ", cut * 2 // 3, cut + 1)
    cut = space if space > 0 else cut
    while cut and joined(text, cut):
        cut -= 1
    return f"{text[:cut].rstrip()}…" if cut else ""


def sentences(text: str) -> Iterator[str]:
    """Sentences on one line each, in order. Code in fences, quoted lines and marks of lists are left out."""
    fenced = False
    for raw in text.splitlines():
        line = " ".join(raw.split())
        if line.startswith(FENCE):
            fenced = not fenced
        elif line and not fenced and not line.startswith(">"):
            yield from _split(BULLET.sub("", line, count=1) if BULLET.match(line) else line)


def _split(line: str) -> Iterator[str]:
    begin = 0
    for end in END.finditer(line):
        if end.group() != "." or not _goes_on(line, end.end()):
            yield line[begin : end.end()].strip()
            begin = end.end()
    if rest := line[begin:].strip():
        yield rest


def _goes_on(line: str, at: int) -> bool:
    """Whether the point before `at` is one of an abbreviation or a date."""
    before = line[max(0, at - 10) : at]
    return bool(
        TITLE.search(before) or COUNTED.search(before + line[at : at + 2]) or DATED.search(before + line[at : at + 4])
    )


def labelled(line: str) -> tuple[str, str]:
    """The name that stands before what was said, and what was said."""
    named = LABEL.match(line)
    return (named[1], line[named.end() :]) if named else ("", line)


def words(text: str) -> list[str]:
    """Words as they compare: small letters, straight apostrophes; a stretch of a dense script is one word."""
    return [word.casefold() for word in WORD.findall(text.replace("’", "'"))]


def terms(found: list[str]) -> list[str]:
    """What words are about: themselves, without the English genitive; pairs of characters in dense scripts."""
    result: list[str] = []
    for word in found:
        if not IS_DENSE.match(word):
            result.append(word[:40].removesuffix("'s"))
        elif len(word) < 2 or KATAKANA.match(word):
            result.append(word[:40])
        else:
            result += [word[at : at + 2] for at in range(len(word) - 1)]
    return result
