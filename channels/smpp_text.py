"""Texts as octets of SMS, cut into the parts of a long message, and back. Pure functions.

Alphabets and packing: 3GPP TS 23.038, section 6; headers of parts: 3GPP TS 23.040, section 9.2.3.24.1; what
data_coding means: SMPP 3.4, section 5.2.19.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from roost.channels.sms_segments import EXTENSION, GSM, UCS, is_gsm

Alphabet = Literal["gsm7", "gsm7-packed", "latin1"]
Cut = Literal["udh", "udh16", "sar", "payload"]

TABLE: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
ESCAPED: Final[Mapping[int, str]] = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
ESC: Final = 0x1B
SEPTETS: Final = {letter: bytes((at,)) for at, letter in enumerate(TABLE)} | {
    letter: bytes((ESC, at)) for at, letter in ESCAPED.items()
}
UCS2: Final = 8
BINARY: Final = frozenset({2, 4})
# Section 5.2.19; 1 is IA5, which Latin-1 contains.
CODECS: Final[Mapping[int, str]] = {
    1: "latin-1",
    3: "latin-1",
    5: "shift_jis",
    6: "iso8859_5",
    7: "iso8859_8",
    UCS2: "utf-16-be",
    10: "iso2022_jp",
    13: "euc_jp",
    14: "euc_kr",
}


class Part(NamedTuple):
    """Which part of which long message this is; `number` begins at 1. `wide` says how the reference came."""

    reference: int
    total: int
    number: int
    wide: str = "8"


class Header(NamedTuple):
    """What a user data header says. `port` tells that the rest is for a program, not for a person."""

    length: int
    part: Part | None = None
    port: bool = False


# Writing


def coding(letters: str, alphabet: Alphabet) -> int:
    """data_coding for a text: 0, the operator's default alphabet, where that holds it, UCS-2 otherwise."""
    fits = is_gsm(letters) and (alphabet != "latin1" or all(letter <= "\xff" for letter in letters))
    return 0 if fits else UCS2


def encode(letters: str, code: int, alphabet: Alphabet, offset: int = 0) -> bytes:
    """The octets of a text; packed septets begin after `offset` octets of header."""
    if code == UCS2:
        return letters.encode("utf-16-be", "surrogatepass")
    if alphabet == "latin1":
        return letters.encode("latin-1")
    septets = b"".join(SEPTETS[letter] for letter in letters)
    return pack(septets, -8 * offset % 7) if alphabet == "gsm7-packed" else septets


def pack(septets: bytes, skip: int = 0) -> bytes:
    """Eight septets in seven octets, after `skip` bits. Seven bits left over are a carriage return, not an @."""
    if (skip + 7 * len(septets)) % 8 == 1:
        septets += b"\r"
    bits = sum(septet << (skip + 7 * at) for at, septet in enumerate(septets))
    return bits.to_bytes((skip + 7 * len(septets) + 7) // 8, "little")


def unpack(octets: bytes, skip: int = 0) -> bytes:
    """The septets in packed octets, without the carriage return that fills the last one."""
    bits = int.from_bytes(octets, "little") >> skip
    count = max(0, (8 * len(octets) - skip) // 7)
    septets = bytes(bits >> (7 * at) & 0x7F for at in range(count))
    spare = (8 * len(octets) - skip) % 7 == 0 and count > 0
    return septets[:-1] if spare and septets[-1] == 0x0D else septets


def cut(letters: str, code: int, how: Cut) -> list[str]:
    """The parts of a text that each go into one segment. No character is cut in two."""
    single, room = UCS if code == UCS2 else GSM
    if how == "udh16":
        room -= 1
    sizes = [size(letter, code) for letter in letters]
    if how == "payload" or sum(sizes) <= single:
        return [letters]
    parts, left = [""], room
    for letter, needed in zip(letters, sizes, strict=True):
        if needed > left:
            parts.append("")
            left = room
        parts[-1] += letter
        left -= needed
    return parts


def size(letter: str, code: int) -> int:
    return 1 + (letter > "\uffff" if code == UCS2 else letter in EXTENSION)


def udh(part: Part) -> bytes:
    """The header of one part, with a reference of 8 or 16 bits (TS 23.040, sections 9.2.3.24.1 and 9.2.3.24.8)."""
    if part.wide == "16":
        return bytes((6, 8, 4, part.reference >> 8, part.reference & 0xFF, part.total, part.number))
    return bytes((5, 0, 3, part.reference & 0xFF, part.total, part.number))


# Reading


def read_header(data: bytes) -> Header:
    """The user data header that a message begins with. Raises ValueError."""
    length = data[0] + 1 if data else 1
    if length > len(data):
        raise ValueError("its header is longer than it is.")
    part, port = None, False
    for kind, value in elements(data[1:length]):
        if kind == 0 and len(value) == 3:
            part = Part(value[0], value[1], value[2])
        elif kind == 8 and len(value) == 4:
            part = Part(int.from_bytes(value[:2]), value[2], value[3], "16")
        port = port or kind in (4, 5)
    return Header(length, part if part and sound(part) else None, port)


def sound(part: Part) -> bool:
    """One that makes no sense is to be overlooked, as the standard says."""
    return 1 <= part.number <= part.total


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        yield kind, data[at + 2 : at + 2 + length]
        at += 2 + length


def kind(code: int) -> int:
    """data_coding without the message's class and the sign of a waiting message: 0, 4 or 8 for those that have one."""
    if code >= 0xF0:
        return 4 if code & 4 else 0
    if code >= 0xC0:
        return UCS2 if code >= 0xE0 else 0
    if 0x10 <= code < 0x80:  # the general group of TS 23.038, section 4, that SMPP leaves out and SMSCs pass on
        return 4 if code & 0x20 else (0, 4, UCS2, 0)[code >> 2 & 3]
    return code


def decode(data: bytes, code: int, alphabet: Alphabet, offset: int = 0) -> str | None:
    """A text from its octets; None where they are none. What cannot be read becomes a replacement character."""
    code = kind(code)
    if code in BINARY:
        return None
    if code:
        return data.decode(CODECS.get(code, "latin-1"), "replace")
    if alphabet == "latin1":
        return data.decode("latin-1")
    return letters(unpack(data, -8 * offset % 7) if alphabet == "gsm7-packed" else data)


def letters(septets: bytes) -> str:
    """The text of septets, an octet each. An unknown one after an escape is what it would be without it."""
    found, escaped = [], False
    for septet in septets:
        if septet == ESC and not escaped:
            escaped = True
            continue
        plain = TABLE[septet] if septet < 128 else "\ufffd"
        found.append(ESCAPED.get(septet, " " if septet == ESC else plain) if escaped else plain)
        escaped = False
    return "".join(found) + " " * escaped
