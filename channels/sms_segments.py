"""How many segments an SMS takes, which is what it costs.

Alphabet and extension table: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1. Sizes of segments:
https://www.twilio.com/docs/glossary/what-sms-character-limit
"""

from __future__ import annotations

from collections.abc import Sequence

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("\f^{}\\[~]|€")  # each is an escape and a character
GSM, UCS = (160, 153), (70, 67)  # units in a message of one segment, and in each of several
MAX_TEXT = 1600  # characters of one Twilio message


def is_gsm(text: str) -> bool:
    """Whether all of a text is in the GSM 7-bit default alphabet; a single other character makes it UCS-2."""
    return BASIC.union(EXTENSION).issuperset(text)


def segments(text: str) -> int:
    """The segments of a text: 7-bit units where the alphabet allows it, UTF-16 code units otherwise."""
    if is_gsm(text):
        return packed([1 + (letter in EXTENSION) for letter in text], *GSM)
    return packed([1 + (letter > "\uffff") for letter in text], *UCS)


def packed(sizes: Sequence[int], single: int, part: int) -> int:
    """The segments that hold characters of these sizes; none is cut in two."""
    if sum(sizes) <= single:
        return 1 if sizes else 0
    count, room = 1, part
    for size in sizes:
        if size > room:
            count, room = count + 1, part
        room -= size
    return count


def longest(most: int) -> int:
    """The longest text, in UTF-16 code units, that may fit into `most` segments."""
    return min(MAX_TEXT, GSM[0] if most == 1 else most * GSM[1])


def surely(most: int) -> int:
    """The length, in UTF-16 code units, of which any text fits into `most` segments, whatever is in it."""
    return min(MAX_TEXT, UCS[0] if most == 1 else most * (UCS[1] - 1))
