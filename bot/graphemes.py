"""Characters as people see them: grapheme clusters (Unicode Standard Annex 29, https://unicode.org/reports/tr29).

Where versions of the standard differ, cuts err towards together, and counts towards apart: what is cut here nobody
tears apart, and what is counted here nobody finds to be more.
"""

from __future__ import annotations

import unicodedata
from itertools import takewhile

_JOINERS = {"\u200d", "\u200c"}
_EXTENDING = {"Mn", "Mc", "Me"}
_ENDING = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
# Some of the pictographs of Unicode 15: those that emoji are put together from.
_PICTOGRAPHS = (
    *((0x2194, 0x2199), (0x2640, 0x2640), (0x2642, 0x2642), (0x2695, 0x2696), (0x26A7, 0x26A7), (0x2708, 0x2708)),
    *((0x2764, 0x2764), (0x27A1, 0x27A1), (0x2B05, 0x2B07), (0x2B1B, 0x2B1C), (0x1F300, 0x1F3FA), (0x1F400, 0x1F53D)),
    *((0x1F546, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F7E0, 0x1F7EB), (0x1F90C, 0x1F93A), (0x1F93C, 0x1F945)),
    (0x1F947, 0x1FAFF),
)


def graphemes(text: str) -> int:
    """The number of grapheme clusters in a text, or a few more."""
    return len(text) - sum(_surely_joined(text, place) for place, char in enumerate(text) if place and char >= "\u0300")


def joined(text: str, place: int) -> bool:
    """Whether a cut at `place` would take a grapheme cluster apart."""
    if not 0 < place < len(text):
        return False
    left, right = text[place - 1], text[place]
    if right < "\u0300" and left < "\u0300":
        return left == "\r" and right == "\n"
    if left in "\r\n" or right in "\r\n":
        return False
    return _extends(right) or _binds(text, place) or _flag(text, place) or _syllable(left, right)


def _surely_joined(text: str, place: int) -> bool:
    left, right = text[place - 1], text[place]
    if _is_mark(right):
        return _is_mark(left) or unicodedata.category(left) not in _ENDING
    if left == "\u200d":
        return _is_pictograph(right) and _is_pictograph(_base(text, place - 1))
    return _flag(text, place) or _block(left, right)


def _base(text: str, place: int) -> str:
    """What the marks before `place` belong to."""
    marks = takewhile(lambda char: _is_mark(char) and char != "\u200d", reversed(text[:place]))
    place -= sum(1 for _ in marks)
    return text[place - 1 : place]


def _is_pictograph(char: str) -> bool:
    return bool(char) and any(first <= ord(char) <= last for first, last in _PICTOGRAPHS)


def _is_mark(char: str) -> bool:
    """Marks that take no room, joiners, skin tones, half-width voicing marks and tags."""
    code = ord(char)
    return (
        char in _JOINERS
        or unicodedata.category(char) in {"Mn", "Me"}
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xFF9E <= code <= 0xFF9F
        or 0xE0020 <= code <= 0xE007F
    )


def _extends(char: str) -> bool:
    """What belongs to what stands before it."""
    return _is_mark(char) or unicodedata.category(char) in _EXTENDING or char in "\u0e33\u0eb3"


def _binds(text: str, place: int) -> bool:
    """Joiners, viramas (with more marks or not) and prepended signs belong to what stands after them."""
    left = text[place - 1]
    if left == "\u200d" or left in _PREPENDED:
        return True
    marks = reversed(text[max(0, place - 8) : place])
    run = takewhile(_extends, marks)
    return any(unicodedata.combining(char) == 9 for char in run)


_PREPENDED = frozenset(
    map(
        chr,
        [
            *range(0x600, 0x606),
            *(0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x113D1),
            *(0x1193F, 0x11941, 0x11A84, 0x11A85, 0x11A86, 0x11A87, 0x11A88, 0x11A89, 0x11D46, 0x11F02),
        ],
    )
)


def _flag(text: str, place: int) -> bool:
    start = place
    while start > 0 and "\U0001f1e6" <= text[start - 1] <= "\U0001f1ff":
        start -= 1
    return (place - start) % 2 == 1 and "\U0001f1e6" <= text[place] <= "\U0001f1ff"


def _syllable(left: str, right: str) -> bool:
    """Hangul: a leading consonant joins what follows, a vowel or trailing consonant what precedes."""
    leading = "\u1100" <= left <= "\u115f" or "\ua960" <= left <= "\ua97c"
    trailing = "\u1160" <= right <= "\u11ff" or "\ud7b0" <= right <= "\ud7fb"
    hangul = "\u1100" <= left <= "\u11ff" or "\uac00" <= left <= "\ud7fb" or leading
    return (
        (leading and "\uac00" <= right <= "\ud7a3")
        or (leading and "\u1100" <= right <= "\u115f")
        or ((leading and "\ua960" <= right <= "\ua97c") or (trailing and hangul))
    )


def _block(left: str, right: str) -> bool:
    """Hangul as the standard joins it: consonants, then vowels, then consonants."""
    first, second = _jamo(left), _jamo(right)
    return second in {"L": ("L", "V", "LV", "LVT"), "LV": ("V", "T"), "V": ("V", "T"), "LVT": ("T",), "T": ("T",)}.get(
        first, ()
    )


def _jamo(char: str) -> str:
    """What a part of a Hangul syllable is: leading, vowel, trailing, or several of them."""
    code = ord(char)
    if 0xAC00 <= code <= 0xD7A3:
        return "LVT" if (code - 0xAC00) % 28 else "LV"
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    return "T" if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB else ""
