"""Where a text may be cut without tearing a character apart (Unicode Standard Annex 29, erring towards together)."""

from __future__ import annotations

import unicodedata
from itertools import takewhile

_JOINERS = {"\u200d", "\u200c"}
_EXTENDING = {"Mn", "Mc", "Me"}


def joined(text: str, place: int) -> bool:
    """Whether a cut at `place` would take a grapheme cluster apart.

    It keeps together at least what UAX #29 (https://unicode.org/reports/tr29) does, and a little more.
    """
    if not 0 < place < len(text):
        return False
    left, right = text[place - 1], text[place]
    if right < "\u0300" and left < "\u0300":
        return left == "\r" and right == "\n"
    if left in "\r\n" or right in "\r\n":
        return False
    return _extends(right) or _binds(text, place) or _flag(text, place) or _syllable(left, right)


def _extends(char: str) -> bool:
    """Marks, joiners, skin tones, half-width voicing marks and tags belong to what stands before them."""
    code = ord(char)
    return (
        char in _JOINERS
        or unicodedata.category(char) in _EXTENDING
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xFF9E <= code <= 0xFF9F
        or 0xE0020 <= code <= 0xE007F
        or code in {0x0E33, 0x0EB3}
    )


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
