"""Markdown as a small tree, read from text and written back to it.

The flavour is CommonMark 0.31 (https://spec.commonmark.org) with strikethrough, for chats: a single newline is a
line break, bare addresses are links, a table becomes lines, an image becomes a link. There is no raw HTML and no
link reference definition, so no text is ever hidden. Reading never fails: what is too large or too deeply nested
becomes one plain paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

MAX_SIZE = 400_000
MAX_BLOCK_DEPTH = 24
MAX_INLINE_DEPTH = 12
MAX_ADDRESS = 2_000


@dataclass(frozen=True, slots=True)
class Text:
    """Words as they are; no newline in them."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Code within a line; no newline in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a line inside a paragraph."""


@dataclass(frozen=True, slots=True)
class Bold:
    """`mark` is how the source wrote it."""

    children: tuple[Inline, ...]
    mark: str = field(default="**", compare=False)


@dataclass(frozen=True, slots=True)
class Italic:
    """`mark` is how the source wrote it."""

    children: tuple[Inline, ...]
    mark: str = field(default="*", compare=False)


@dataclass(frozen=True, slots=True)
class Strike:
    """Text that is crossed out."""

    children: tuple[Inline, ...]
    mark: str = field(default="~~", compare=False)


@dataclass(frozen=True, slots=True)
class Link:
    """A link or an image. `href` is percent-encoded; its scheme may be anything but script and data."""

    href: str
    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines of text."""

    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` is 1 to 6."""

    level: int
    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code, without its last newline. `lang` is one word of letters, digits and `+#.-_`, or empty."""

    text: str
    lang: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """Somebody's words."""

    children: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class List:
    """Items, each a row of blocks. `start` is None for bullets. A tight list has no blank lines in it."""

    items: tuple[tuple[Block, ...], ...]
    start: int | None = None
    tight: bool = True
    mark: str = field(default="-", compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across the page."""


Styled = Bold | Italic | Strike
Inline = Text | Code | Break | Bold | Italic | Strike | Link
Block = Paragraph | Heading | Fence | Quote | List | Rule


@dataclass(frozen=True, slots=True)
class Tree:
    """A text, cleaned, and its blocks.

    `lines` are the source lines of each block: the first, and one past the last.
    """

    source: str
    blocks: tuple[Block, ...]
    lines: tuple[tuple[int, int], ...] = field(default=(), compare=False)


# ------------------------------------------------------------------------------------------------ reading

_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])
_CONTROLS |= {0: "\ufffd", 0x09: "\t", 0x0A: "\n", 0x0B: "\n", 0x0C: "\n", 0x0D: "\n", 0x85: "\n"}
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ADDRESS = re.compile(r"(?<![\w@/])https?://[^\s<>\"'`|\\^{}]+", re.IGNORECASE)
_LANG = re.compile(r"[\w+#.-]{1,40}", re.ASCII)
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_BAR = re.compile(r"(?<!\\)\|")


def clean(text: str) -> str:
    """Make every line end a newline, drop control characters, and replace NUL and lone surrogates by U+FFFD."""
    if not _UNCLEAN.search(text):
        return text
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").translate(_CONTROLS))


@lru_cache(maxsize=128)
def parse(text: str) -> Tree:
    """Read Markdown. Any text is Markdown, so nothing is raised."""
    source = clean(text)
    if len(source) > MAX_SIZE:
        return plain(source)
    tokens = _reader().parse(source)
    # The reader leaves out what lies deeper than it goes, so reaching its bound means text is missing.
    if any(token.level >= MAX_BLOCK_DEPTH - 1 for token in tokens):
        return plain(source)
    builder = _Builder()
    for token in tokens:
        builder.add(token)
    return Tree(source, tuple(builder.root.children), tuple(builder.lines))


def plain(text: str) -> Tree:
    """A tree of one paragraph in which no character means anything."""
    source = clean(text)
    lines = [line.strip() for line in source.split("\n")]
    children = _join_lines([Text(line)] if line else [] for line in lines)
    blocks = (Paragraph(children),) if any(lines) else ()
    return Tree(source, blocks, ((0, len(lines)),) if blocks else ())


def _join_lines(lines: Iterable[Sequence[Inline]]) -> tuple[Inline, ...]:
    joined: list[Inline] = []
    for line in lines:
        joined += [*line, Break()]
    return tuple(joined[:-1])


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    from markdown_it import MarkdownIt  # here, because `roost --help` reads no Markdown

    reader = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_BLOCK_DEPTH})
    reader.enable("strikethrough").disable(["reference", "html_block", "html_inline"])
    reader.core.ruler.before("inline", "flatten_tables", _flatten_tables)
    return reader


def _flatten_tables(state: StateCore) -> None:
    """Turn a table's source into lines of cells; the standard rule would drop cells that have no heading."""
    for token in state.tokens:
        if token.type == "inline" and "|" in token.content and "-" in token.content:
            lines = token.content.split("\n")
            for row in range(1, len(lines)):
                if "|" in lines[row] and "|" in lines[row - 1] and _TABLE_RULE.fullmatch(lines[row].strip()):
                    token.content = "\n".join(lines[: row - 1] + [_cells(line) for line in _rows(lines, row)])
                    token.meta["heading"] = row - 1
                    break


def _rows(lines: list[str], rule: int) -> list[str]:
    return [lines[rule - 1], *lines[rule + 1 :]]


def _cells(line: str) -> str:
    cells = [cell.strip() for cell in _BAR.split(line)]
    inner = cells[not cells[0] : len(cells) - (not cells[-1])]
    return " | ".join(inner)


@dataclass(slots=True)
class _Frame:
    opener: Token | None
    children: list[Block] = field(default_factory=list)
    items: list[tuple[Block, ...]] = field(default_factory=list)
    loose: bool = False


class _Builder:
    """Fold the reader's flat tokens into blocks."""

    def __init__(self) -> None:
        self.root = _Frame(None)
        self.stack = [self.root]
        self.lines: list[tuple[int, int]] = []

    def add(self, token: Token) -> None:
        if token.nesting == 1:
            self.stack.append(_Frame(token))
        elif token.nesting == -1:
            self._close(self.stack.pop())
        elif token.type == "inline":
            self._fill(token)
        elif token.type == "hr":
            self._append(Rule(), token)
        else:
            text = clean(token.content).removesuffix("\n")
            self._append(Fence(text, _language(token.info)), token)

    def _append(self, block: Block, token: Token) -> None:
        self.stack[-1].children.append(block)
        if len(self.stack) == 1:
            first, last = token.map or (0, 0)
            self.lines.append((first, last))

    def _fill(self, token: Token) -> None:
        children = read_inline(token.children or [])
        if "heading" in token.meta:
            children = _embolden(children, token.meta["heading"])
        opener = self.stack[-1].opener
        if opener is not None and opener.type == "heading_open":
            self.stack[-1].children.append(Heading(int(opener.tag[1:]), children))
        else:
            self.stack[-1].children.append(Paragraph(children))

    def _close(self, frame: _Frame) -> None:
        opener = frame.opener
        assert opener is not None
        parent = self.stack[-1]
        if opener.type == "list_item_open":
            parent.items.append(tuple(frame.children))
            parent.loose |= frame.loose
        elif opener.type in {"bullet_list_open", "ordered_list_open"}:
            self._append(_list(opener, frame), opener)
        elif opener.type == "blockquote_open":
            if frame.children:
                self._append(Quote(tuple(frame.children)), opener)
        else:
            parent.loose |= opener.type == "paragraph_open" and not opener.hidden
            for child in frame.children:
                self._append(child, opener)


def _list(opener: Token, frame: _Frame) -> List:
    start = int(opener.attrGet("start") or 0 if "start" in opener.attrs else 1)
    ordered = opener.type == "ordered_list_open"
    return List(tuple(frame.items), start if ordered else None, not frame.loose, opener.markup or "-")


def _language(info: str) -> str:
    found = _LANG.match(info.strip())
    return found.group() if found else ""


def _embolden(children: tuple[Inline, ...], row: int) -> tuple[Inline, ...]:
    lines: list[list[Inline]] = [[]]
    for child in children:
        if isinstance(child, Break):
            lines.append([])
        else:
            lines[-1].append(child)
    if row < len(lines) and lines[row]:
        lines[row] = [Bold(tuple(lines[row]))]
    return _join_lines(lines)


_STYLES: dict[str, Callable[[tuple[Inline, ...], str], Inline]] = {
    "strong_close": Bold,
    "em_close": Italic,
    "s_close": Strike,
}


def read_inline(tokens: Sequence[Token]) -> tuple[Inline, ...]:
    """Fold the tokens of one paragraph. What is nested too deeply loses its style, not its text."""
    stack: list[list[Inline]] = [[]]
    links: list[str] = []
    for token in tokens:
        if token.nesting == 1:
            stack.append([])
            if token.type == "link_open":
                links.append(str(token.attrGet("href") or ""))
        elif token.nesting == -1:
            children = merge(stack.pop())
            deep = len(stack) > MAX_INLINE_DEPTH
            if token.type == "link_close":
                stack[-1].append(_link(links.pop(), children))
            elif deep or not children:
                stack[-1] += children
            else:
                stack[-1].append(_STYLES[token.type](children, token.markup))
        else:
            stack[-1] += _leaf(token, linked=bool(links))
    return merge(stack[0])


def _leaf(token: Token, linked: bool) -> list[Inline]:
    if token.type in {"softbreak", "hardbreak"}:
        return [Break()]
    content = _flat(token.content)
    if token.type == "code_inline":
        return [Code(content)] if content else []
    if token.type != "image":
        return [Text(content)] if linked else _find_addresses(content)
    source = str(token.attrGet("src") or "")
    label = [Text(_flat(content) or source)]
    return list(label) if linked else [_link(source, merge(label))]


def _flat(text: str) -> str:
    """An entity may stand for a newline or a control character; those are not text."""
    return clean(text).replace("\n", " ")


def _link(href: str, children: tuple[Inline, ...]) -> Inline:
    label = children or (Text(href),)
    return Link(href, label) if href else (label[0] if len(label) == 1 else Bold(label))


def _find_addresses(text: str) -> list[Inline]:
    """Make links of bare web addresses; punctuation that ends a sentence is not part of one."""
    if "://" not in text:
        return [Text(text)]
    found: list[Inline] = []
    end = 0
    for match in _ADDRESS.finditer(text):
        address = _trim_address(match.group()) if len(match.group()) <= MAX_ADDRESS else ""
        if len(address) > len("https://"):
            found += [Text(text[end : match.start()]), Link(address, (Text(address),))]
            end = match.start() + len(address)
    return [*found, Text(text[end:])]


def _trim_address(address: str) -> str:
    address = address.rstrip(".,;:!?*_~")
    while address.endswith((")", "]")):
        opening = "(" if address[-1] == ")" else "["
        if address.count(opening) >= address.count(address[-1]):
            break
        address = address[:-1].rstrip(".,;:!?*_~")
    return address


def merge(children: Iterable[Inline]) -> tuple[Inline, ...]:
    """Join neighbouring texts and leave out empty ones."""
    merged: list[Inline] = []
    for child in children:
        if isinstance(child, Text) and merged and isinstance(last := merged[-1], Text):
            merged[-1] = Text(last.text + child.text)
        elif child != Text(""):
            merged.append(child)
    return tuple(merged)
