"""Message styling, read: *bold*, _italic_, ~strike~, `code`, fences and quotes (https://xmpp.org/extensions/xep-0393.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from roost import writing
from roost.markdown import Block, Bold, Break, Code, Fence, Inline, Italic, Paragraph, Quote, Strike, Text

STYLES: dict[str, type[Bold | Italic | Strike]] = {"*": Bold, "_": Italic, "~": Strike}
# A style begins at the start of a line, after a space or after another mark, and neither begins nor ends with a space.
SPAN = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=[*_~]))(?P<mark>[*_~`])(?!\s)(?P<inner>.{1,1000}?)(?<!\s)(?P=mark)")
FENCE = "```"
LONGEST = 20_000  # characters of a message that is looked through for styles
DEEPEST = 5  # quotes in quotes


def to_markdown(text: str, styled: bool = True) -> str:
    """The text of a message as Markdown; one that is not `styled` means what it says."""
    lines = text.replace("\r\n", "\n").split("\n")
    styled = styled and len(text) <= LONGEST
    return writing.write(list(blocks(lines) if styled else paragraph(lines, styled=False)))


def blocks(lines: Sequence[str], depth: int = 0) -> Iterator[Block]:
    place, begun = 0, 0
    while place < len(lines):
        if lines[place].startswith((FENCE, ">") if depth < DEEPEST else FENCE):
            yield from paragraph(lines[begun:place])
            last = end_of_fence(lines, place) if lines[place].startswith(FENCE) else end_of_quote(lines, place)
            yield fence(lines[place:last]) if lines[place].startswith(FENCE) else quote(lines[place:last], depth)
            place = begun = last
        else:
            place += 1
    yield from paragraph(lines[begun:])


def end_of_fence(lines: Sequence[str], place: int) -> int:
    """The place behind the closing line, or behind the last line: an open fence goes on to the end."""
    closing = (number for number in range(place + 1, len(lines)) if lines[number].rstrip() == FENCE)
    return next(closing, len(lines) - 1) + 1


def end_of_quote(lines: Sequence[str], place: int) -> int:
    while place < len(lines) and lines[place].startswith(">"):
        place += 1
    return place


def fence(lines: Sequence[str]) -> Fence:
    language = re.fullmatch(r"```([\w+#.-]{1,40})?\s*", lines[0])
    inner = lines[1:-1] if len(lines) > 1 and lines[-1].rstrip() == FENCE else lines[1:]
    said = [] if language else [lines[0].removeprefix(FENCE)]  # more than the name of a language is words
    return Fence("\n".join([*said, *inner]), (language and language[1]) or "")


def quote(lines: Sequence[str], depth: int) -> Quote:
    return Quote(tuple(blocks([re.sub(r"^> ?", "", line) for line in lines], depth + 1)))


def paragraph(lines: Sequence[str], styled: bool = True) -> Iterator[Paragraph]:
    """Lines between blocks: paragraphs, parted by empty lines."""
    children: list[Inline] = []
    for line in [*lines, ""]:
        if line.strip():
            children += [Break()] if children else []
            children += spans(line) if styled else [Text(line)]
        elif children:
            yield Paragraph(tuple(children))
            children = []


def spans(line: str) -> list[Inline]:
    found: list[Inline] = []
    place = 0
    for match in SPAN.finditer(line):
        found += [Text(line[place : match.start()])] if match.start() > place else []
        inner = match["inner"]
        found.append(Code(inner) if match["mark"] == "`" else STYLES[match["mark"]](tuple(spans(inner))))
        place = match.end()
    return [*found, Text(line[place:])] if place < len(line) else found
