"""IRC's lines and its formatting, read and written.

https://modern.ircdocs.horse/#message-format, https://ircv3.net/specs/extensions/message-tags,
https://modern.ircdocs.horse/formatting
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from roost import writing
from roost.dialects import IRC, render
from roost.graphemes import joined
from roost.markdown import Bold, Code, Inline, Italic, Paragraph, Strike, Text

FORBIDDEN = re.compile(r"[\r\n\0]")
TAG_ESCAPES = {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"}
TAG_UNESCAPES = {escape[1]: char for char, escape in TAG_ESCAPES.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the protocol. `source` is `nick!user@host` or a server; tags are without escapes."""

    command: str
    params: tuple[str, ...] = ()
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def nick(self) -> str:
        return self.source.partition("!")[0]

    def param(self, place: int) -> str:
        """A parameter, empty when it is not there."""
        return self.params[place] if -len(self.params) <= place < len(self.params) else ""


def parse(raw: bytes) -> Line | None:
    """Read a line; None when it is none. What is not UTF-8 is read as Windows-1252, as people's clients send it."""
    rest = decode(raw.strip(b"\r\n")).partition("\0")[0]
    tags: dict[str, str] = {}
    if rest.startswith("@"):
        written, _, rest = rest[1:].partition(" ")
        tags = dict(parse_tag(tag) for tag in written.split(";") if tag)
    rest, colon, trailing = rest.lstrip(" ").partition(" :")
    found = [word for word in rest.split(" ") if word]
    source = found.pop(0)[1:] if found and found[0].startswith(":") else ""
    if not found:
        return None
    return Line(found[0].upper(), (*found[1:], *([trailing] if colon else ())), source, tags)


def decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def parse_tag(tag: str) -> tuple[str, str]:
    name, _, value = tag.partition("=")
    return name, re.sub(r"\\(.?)", lambda match: TAG_UNESCAPES.get(match[1], match[1]), value)


def build(command: str, *params: str, tags: Mapping[str, str] | None = None) -> bytes:
    """Write a line. Raises ValueError where a parameter would end the line, or is one that only the last may be."""
    if any(FORBIDDEN.search(part) for part in (command, *params)):
        raise ValueError(f"A line of IRC has no line breaks in it: {(command, *params)!r}")
    if any(not part or " " in part or part.startswith(":") for part in params[:-1]):
        raise ValueError(f"Only the last parameter of a line of IRC may have spaces: {(command, *params)!r}")
    told = ";".join(f"{name}={escape_tag(value)}" if value else name for name, value in (tags or {}).items())
    words = [*([f"@{told}"] if told else []), command, *params[:-1], *(f":{last}" for last in params[-1:])]
    return " ".join(words).encode() + b"\r\n"


def escape_tag(value: str) -> str:
    return "".join(TAG_ESCAPES.get(char, char) for char in value)


CASES = {"ascii": ("", ""), "strict-rfc1459": ("[]\\", "{}|"), "rfc1459": ("[]\\^", "{}|~")}


def fold(name: str, mapping: str = "rfc1459") -> str:
    """A nick or channel as the server compares it (https://modern.ircdocs.horse/#casemapping-parameter)."""
    upper, lower = CASES.get(mapping, CASES["ascii"])
    plain = name.translate(str.maketrans(upper, lower))
    return re.sub(r"[A-Z]+", lambda match: match[0].lower(), plain)


# ------------------------------------------------------------------------------------------- formatting

BOLD, ITALIC, STRIKE, CODE, RESET = "\x02", "\x1d", "\x1e", "\x11", "\x0f"
KINDS: dict[str, type[Bold | Italic | Strike]] = {BOLD: Bold, ITALIC: Italic, STRIKE: Strike}
# Colours take digits with them; underlined and reversed have no words in Markdown.
COLOUR = r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|\x04(?:[0-9a-fA-F]{6}(?:,[0-9a-fA-F]{6})?)?|[\x16\x1f]"
CODES = re.compile(rf"({COLOUR}|[\x02\x0f\x11\x1d\x1e])")

Run = tuple[str, frozenset[str]]


def plain(text: str) -> str:
    """A text without its formatting."""
    return CODES.sub("", text)


def to_markdown(text: str) -> str:
    """The text of a message, with its control codes, as Markdown."""
    spans = nest(list(runs(text)), (CODE, BOLD, ITALIC, STRIKE))
    return writing.write((Paragraph(tuple(spans)),))


def runs(text: str) -> Iterator[Run]:
    """The stretches of a text and the codes that are on in each."""
    on: frozenset[str] = frozenset()
    for number, part in enumerate(CODES.split(text)):
        if number % 2 == 0:
            # A character of control that means nothing here must not reach anybody's terminal.
            clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", part)
            yield from [(clean, on)] if clean else []
        elif part == RESET:
            on = frozenset()
        elif part in KINDS or part == CODE:
            on ^= {part}


def nest(parts: Sequence[Run], kinds: Sequence[str]) -> Iterator[Inline]:
    """Style each stretch, outer kinds first, without the spaces at its ends: Markdown's marks cannot stand there."""
    if not kinds:
        yield Text("".join(text for text, _ in parts))
        return
    for on, group in groupby(parts, key=lambda part: kinds[0] in part[1]):
        inner = list(group)
        if not on:
            yield from nest(inner, kinds[1:])
            continue
        whole = "".join(text for text, _ in inner)
        before = whole[: len(whole) - len(whole.lstrip())]
        after = whole[len(whole.rstrip()) :] if whole.strip() else ""
        yield Text(before)
        if whole.strip():
            yield dress(kinds, trim(inner))
        yield Text(after)


def dress(kinds: Sequence[str], inner: Sequence[Run]) -> Inline:
    if kinds[0] == CODE:
        return Code("".join(text for text, _ in inner))
    return KINDS[kinds[0]](tuple(nest(inner, kinds[1:])))


def trim(parts: Sequence[Run]) -> list[Run]:
    """The same without spaces at either end."""
    kept = list(parts)
    while kept and not kept[0][0].strip():
        kept.pop(0)
    while kept and not kept[-1][0].strip():
        kept.pop()
    kept[0] = kept[0][0].lstrip(), kept[0][1]
    kept[-1] = kept[-1][0].rstrip(), kept[-1][1]
    return kept


# ------------------------------------------------------------------------------------------------ writing


def write(text: str, room: int) -> list[str]:
    """The lines that carry a Markdown text, in order: each at most `room` bytes and none without words."""
    lines = [line for line in render(text, IRC).split("\n") if plain(line).strip()]
    return [piece for line in lines for piece in cut(line, room)]


def cut(line: str, room: int) -> Iterator[str]:
    """Cut a line at spaces, else between grapheme clusters. Formatting ends with a line, so a piece begins it anew."""
    current, written, on = "", frozenset[str](), frozenset[str]()
    for atom in atoms(line, max(1, room - 4)):
        if CODES.fullmatch(atom):
            on ^= {atom}
            continue
        longer = current + "".join(sorted(written ^ on)) + atom
        if len(longer.encode()) > room and plain(current).strip():
            yield current.rstrip(" ")
            longer = "".join(sorted(on)) + atom.lstrip(" ")
        current, written = longer, on
    if plain(current).strip():
        yield current + "".join(sorted(written - on))[: room - len(current.encode())]


def atoms(line: str, room: int) -> Iterator[str]:
    """What a line is cut between: words with the spaces before them, codes, and parts of words that are too long."""
    for part in CODES.split(line):
        for word in [part] if CODES.fullmatch(part) else re.findall(r" *[^ ]+| +", part):
            yield from clusters(word, room)


def clusters(word: str, room: int) -> Iterator[str]:
    while len(word.encode()) > room:
        place = end = len(word.encode()[:room].decode(errors="ignore"))
        while place > 0 and joined(word, place):
            place -= 1
        place = place or max(1, end)
        yield word[:place]
        word = word[place:]
    if word:
        yield word
