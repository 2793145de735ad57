"""A secret as texts show it: as it is, and as URLs, JSON, HTML, Python, base64 and hexadecimal write it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

HIDDEN = "(hidden)"

SHORT = 6  # characters; a shorter secret is hidden where it stands alone, since other words may have it in them
CODED = 8  # characters of base64 or hexadecimal that tell a secret from chance
LINE = 16  # characters of a line that is hidden by itself, in a secret of several
LONGEST = 512  # characters of a secret that are looked for in one piece


@lru_cache(4)
def finder(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds secrets in a text, the longest first; None when there are none."""
    forms = dict.fromkeys(form for secret in secrets for form in forms_of(secret))
    return re.compile("|".join(forms)) if forms else None


def without(text: str, found: re.Pattern[str] | None) -> str:
    return found.sub(HIDDEN, text) if found is not None else text


def forms_of(secret: str) -> Iterator[str]:
    """Regular expressions for one secret, the longer ones first."""
    for part in _parts(secret):
        written = "".join(map(_written, part))
        yield rf"(?<![^\W_]){written}(?![^\W_])" if len(part) < SHORT else written
    coded = secret.encode("utf-8", "surrogatepass")[:LONGEST]
    yield from _base64(coded)
    if len(coded) * 2 >= CODED:
        yield f"(?i:{coded.hex()})"


def _parts(secret: str) -> Iterator[str]:
    """The whole, and the lines that a secret of several may be printed in."""
    if len(secret) <= LONGEST:
        yield secret
    for line in secret.splitlines():
        if len(line) >= LINE and line != secret:
            yield from (line[at : at + LONGEST] for at in range(0, len(line), LONGEST))


@lru_cache(1024)
def _written(character: str) -> str:
    """The ways to write one character, as a regular expression."""
    if character.isascii() and character.isalnum():
        return character
    url = quote(character, safe="", errors="replace")
    forms = [character, url, quote(url, safe=""), f"%{ord(character):02X}" if character.isascii() else url]
    forms += [html.escape(character), json.dumps(character)[1:-1], repr(character)[1:-1], f"\\{character}"]
    forms += ["+"] if character == " " else []
    forms += ["&#x27;", "&#39;", "&apos;"] if character == "'" else []
    forms += [str(character.encode("utf-8", "replace"))[2:-1], "\\" + character]
    ordered = sorted({re.escape(one) for one in forms if one}, key=lambda one: (-len(one), one))
    return f"(?:{'|'.join(f'(?i:{one})' if '%' in one else one for one in ordered)})"


def _base64(coded: bytes) -> Iterator[str]:
    """What base64 of any text with the secret in it has: its own characters, at each of three offsets."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + coded).decode().rstrip("=")
        sure = len(coded) * 8 - (-before * 8) % 6  # bits in characters that are the secret's alone
        first = -(-before * 8 // 6)
        core = text[first : first + sure // 6]
        if len(core) >= CODED:
            yield _either_alphabet(core)
    whole = base64.b64encode(coded).decode()
    if len(coded) >= SHORT and len(whole) >= CODED:
        yield _either_alphabet(whole.rstrip("="))


def _either_alphabet(text: str) -> str:
    return "".join({"+": "(?:[-+]|%2[Bb])", "/": "(?:[_/]|%2[Ff])"}.get(one, one) for one in text)
