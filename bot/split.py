"""Cut a long text into messages. What counts is the length after rendering."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from roost.dialects import MARKDOWN, Dialect, words
from roost.graphemes import graphemes, joined
from roost.markdown import (
    Block,
    Break,
    Code,
    Fence,
    Heading,
    Inline,
    Link,
    List,
    Paragraph,
    Quote,
    Rule,
    Styled,
    Text,
    Tree,
    merge,
    parse,
)
from roost.writing import escape_all, write

if TYPE_CHECKING:
    from roost.contracts import Unit

_BLANK = re.compile(r"\s+")
_SENTENCE = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]+")
_WORD = re.compile(r"\s+")


def split(text: str, dialect: Dialect, limit: int, unit: Unit, max_bytes: int = 0) -> list[str]:
    """Cut Markdown into pieces of Markdown, in order, that each render to at most `limit` units.

    With `max_bytes`, each has at most so many bytes of UTF-8 as well.

    Cuts fall between blocks, else between lines, sentences or words, else between grapheme clusters. A fence,
    list, quote, link or style that is cut goes on in the next piece. A text that renders to nothing gives no
    piece. A piece is longer than `limit` only where a single character is. Raises ValueError when `limit` is
    less than 1.
    """
    if limit < 1:
        raise ValueError(f"A message cannot have at most '{limit}' {unit}; the limit must be 1 or more.")
    tree = parse(text)
    rendered = dialect.render(tree)
    if not rendered.strip():
        return []
    splitter = _Splitter(dialect, limit, unit, max_bytes)
    return [text] if splitter.size(rendered) <= limit else splitter.split(tree)


def length(text: str, unit: Unit) -> int:
    """The length of `text` in grapheme clusters, characters (code points), UTF-16 code units or UTF-8 bytes."""
    if unit == "characters" or text.isascii():
        return len(text)
    if unit == "graphemes":
        return graphemes(text)
    if unit == "utf16":
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(slots=True)
class _Span:
    """A node and the part of the block's content that it covers. An item of a list has no node."""

    node: Block | Inline | None
    start: int
    end: int = 0
    children: list[_Span] = field(default_factory=list)

    def between(self, start: int, end: int) -> list[_Span]:
        first = bisect_right(self.children, start, key=lambda child: child.end)
        last = bisect_left(self.children, end, key=lambda child: child.start)
        return self.children[first:last]


class _Content:
    """The text of a block as one string, in which places to cut are looked for; each line ends in a newline."""

    def __init__(self, block: Block) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.ends: list[int] = []
        self.links: list[_Span] = []
        self.root = self._read(block)
        self.text = "".join(self.parts)

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)

    def _read(self, node: Block | Inline) -> _Span:
        span = _Span(node, self.size)
        if isinstance(node, List):
            span.children = [self._read_item(item) for item in node.items]
        elif isinstance(node, Text | Code | Fence):
            self._add(node.text)
        elif not isinstance(node, Break | Rule):
            span.children = [self._read(child) for child in node.children]
        if isinstance(node, Paragraph | Heading | Fence | Rule | Break):
            self._add("\n")
        if isinstance(node, Paragraph | Fence | Rule):
            self.ends.append(self.size)
        if isinstance(node, Link):
            self.links.append(span)
        span.end = self.size
        return span

    def _read_item(self, item: Sequence[Block]) -> _Span:
        span = _Span(None, self.size)
        span.children = [self._read(block) for block in item]
        if not item:
            self._add("\n")
        span.end = self.size
        return span

    def cut(self, start: int, end: int) -> tuple[Block, ...]:
        """The blocks that hold the content from `start` to `end`."""
        return tuple(_cut_block(self.root, start, end))

    def best(self, start: int, end: int) -> int:
        """The best place to cut after `start` and not after `end`: no later half is worse than an earlier one."""
        half = start + (end - start + 1) // 2
        block = bisect_right(self.ends, end) - 1
        if block >= 0 and self.ends[block] >= half:
            return self.ends[block]
        line = self.text.rfind("\n", half, end) + 1
        if line:
            return line
        sentences = [match.end() for match in _SENTENCE.finditer(self.text, start, end)]
        if sentences and sentences[-1] >= half and not joined(self.text, sentences[-1]):
            return self._outside_link(start, sentences[-1])
        spaces = [match.end() for match in _WORD.finditer(self.text, start, end)]
        if spaces and not joined(self.text, spaces[-1]):
            return self._outside_link(start, spaces[-1])
        place = self._outside_link(start, end)
        while place > start and joined(self.text, place):
            place -= 1
        return place if place > start else end

    def _outside_link(self, start: int, place: int) -> int:
        link = bisect_left(self.links, place, key=lambda span: span.end)
        inside = link < len(self.links) and start < self.links[link].start < place
        return self.links[link].start if inside else place


def _cut_block(span: _Span, start: int, end: int) -> Iterator[Block]:
    node = span.node
    if isinstance(node, Block) and span.start >= start and span.end <= end:
        yield node
    elif isinstance(node, List):
        yield from _cut_list(span, node, start, end)
    elif isinstance(node, Quote):
        children = tuple(block for child in span.between(start, end) for block in _cut_block(child, start, end))
        if children:
            yield Quote(children)
    elif isinstance(node, Fence):
        text = node.text[max(0, start - span.start) : end - span.start].removesuffix("\n")
        if text.strip():
            yield replace(node, text=text)
    elif isinstance(node, Paragraph | Heading):
        children_ = _trim(_cut_inline(span, start, end))
        if children_:
            yield replace(node, children=children_)


def _cut_list(span: _Span, node: List, start: int, end: int) -> Iterator[Block]:
    """An item that was begun in an earlier piece goes on without a marker, before the rest of its list."""
    items: list[tuple[Block, ...]] = []
    first = bisect_left(span.children, start, key=lambda item: item.start)
    for item in span.between(start, end):
        blocks = tuple(block for child in item.between(start, end) for block in _cut_block(child, start, end))
        if item.start < start:
            yield from blocks
        else:
            items.append(blocks)
    if items:
        yield replace(node, items=tuple(items), start=None if node.start is None else node.start + first)


def _cut_inline(span: _Span, start: int, end: int) -> Iterator[Inline]:
    for child in span.between(start, end):
        node = child.node
        if isinstance(node, Inline) and child.start >= start and child.end <= end:
            yield node
        elif isinstance(node, Text | Code):
            yield replace(node, text=node.text[max(0, start - child.start) : end - child.start])
        elif isinstance(node, Styled | Link):
            yield replace(node, children=tuple(_cut_inline(child, start, end)))


def _trim(children: Iterator[Inline]) -> tuple[Inline, ...]:
    kept = _trim_side(list(children), 0)
    return tuple(_trim_side(kept, -1))


def _trim_side(children: list[Inline], side: int) -> list[Inline]:
    """Take blanks away at one end: a style that begins or ends with a blank is none."""
    while children:
        node = children[side]
        if isinstance(node, Text):
            trimmed: Inline = Text(node.text.lstrip() if side == 0 else node.text.rstrip())
            empty = trimmed == Text("")
        elif isinstance(node, Break | Code):
            trimmed, empty = node, isinstance(node, Break) or not node.text
        else:
            inner = _trim_side(list(node.children), side)
            trimmed, empty = replace(node, children=tuple(inner)), not inner
        if not empty:
            children[side] = trimmed
            return children
        del children[side]
    return children


# ---------------------------------------------------------------------------------------- filling pieces


@dataclass(slots=True)
class _Piece:
    """`written` says that it is no longer the source's own text, so it has to be read back to be trusted."""

    source: str
    blocks: list[Block]
    width: int
    written: bool = False


class _Splitter:
    gap = 2

    def __init__(self, dialect: Dialect, limit: int, unit: Unit, max_bytes: int) -> None:
        self.dialect = dialect
        self.limit = limit
        self.unit = unit
        self.max_bytes = max_bytes
        self.pieces: list[_Piece] = []

    def size(self, rendered: str) -> int:
        """A length in units; where a text has more of the bytes allowed than of the units, its share of them."""
        found = length(rendered, self.unit)
        return found if not self.max_bytes else max(found, -(-length(rendered, "bytes") * self.limit // self.max_bytes))

    def split(self, tree: Tree) -> list[str]:
        end = 0
        lines = tree.source.split("\n")
        for block, (first, last) in zip(tree.blocks, tree.lines, strict=True):
            source = "\n".join(lines[first:last]).rstrip()
            width = self._width((block,), source)
            if width <= self.limit:
                piece = _Piece(source, [block], width)
                self._add(piece, self.limit, "\n" if first <= end else "\n\n")
            else:
                self._pour(_Content(self._loosen(block, self.limit // 2)))
            end = last
        return [text for piece in self.pieces for text in self._checked(piece)]

    def _add(self, piece: _Piece, limit: int, gap: str = "\n\n") -> None:
        last = self.pieces[-1] if self.pieces else None
        if last is None or last.width + self.gap + piece.width > limit:
            self.pieces.append(piece)
            return
        last.source += ("\n\n" if last.written else gap) + piece.source
        last.blocks += piece.blocks
        last.width += self.gap + piece.width
        last.written |= piece.written

    def _pour(self, content: _Content) -> None:
        """Cut a block that is too long; its beginning fills the last piece when a quarter of that is free."""
        used = self.pieces[-1].width + self.gap if self.pieces else self.limit
        room = self.limit - used if self.limit - used >= self.limit // 4 and used < self.limit else self.limit
        start = 0
        while start < content.size:
            start, blocks = self._fill(content, start, room)
            if blocks:
                source = write(blocks)
                piece = _Piece(source, list(blocks), self._width(blocks, source), written=True)
                self._add(piece, self.limit if room < self.limit else 0)
            room = self.limit

    def _fill(self, content: _Content, start: int, room: int) -> tuple[int, tuple[Block, ...]]:
        end = self._furthest(content, start, room)
        if end == start:
            # Not one character fits with its markup: a part goes on as it is, for `_checked` to take apart.
            end = min(content.size, start + room)
            return end, content.cut(start, end)
        if end < content.size:
            end = content.best(start, end)
        return end, content.cut(start, end)

    def _furthest(self, content: _Content, start: int, room: int) -> int:
        """The furthest end that fits, within a fiftieth of `room`: a guess by proportion, then by halves."""
        low, low_width = start, 0
        high = min(content.size, start + room + 64)
        high_width = self._measure(content, start, high)
        while high_width <= room:
            if high == content.size:
                return high
            # A unit may be several characters.
            low, low_width, high = high, high_width, min(content.size, 2 * high - start)
            high_width = self._measure(content, start, high)
        for attempt in range(64):
            if high - low <= 1 or (low > start and room - low_width <= room // 50):
                break
            guess = low + (high - low) * (room - low_width) // max(1, high_width - low_width)
            middle = (low + high) // 2 if attempt % 3 == 2 else min(max(guess, low + 1), high - 1)
            width = self._measure(content, start, middle)
            if width <= room:
                low, low_width = middle, width
            else:
                high, high_width = middle, width
        return low

    def _measure(self, content: _Content, start: int, end: int) -> int:
        blocks = content.cut(start, end)
        return self._width(blocks, None) if blocks else 0

    def _width(self, blocks: tuple[Block, ...], source: str | None) -> int:
        tree = Tree(write(blocks) if source is None and self.dialect is MARKDOWN else source or "", blocks)
        return self.size(self.dialect.render(tree))

    def _loosen(self, block: Block, most: int) -> Block:
        """Links whose address alone takes more than `most` units become text, which can be cut."""
        if isinstance(block, List):
            items = tuple(tuple(self._loosen(child, most) for child in item) for item in block.items)
            return replace(block, items=items)
        if isinstance(block, Quote):
            return replace(block, children=tuple(self._loosen(child, most) for child in block.children))
        if isinstance(block, Paragraph | Heading):
            return replace(block, children=self._loosen_inline(block.children, most))
        return block

    def _loosen_inline(self, children: Sequence[Inline], most: int) -> tuple[Inline, ...]:
        return merge(self._loosen_span(child, most) for child in children)

    def _loosen_span(self, node: Inline, most: int) -> Inline:
        if isinstance(node, Link):
            sample = (Paragraph((Link(node.href, (Text("x"),)),)),)
            if self._width(sample, None) <= most:
                return node
            label = words(node.children).replace("\n", " ")
            return Text(label if label == node.href else f"{label} ({node.href})")
        return replace(node, children=self._loosen_inline(node.children, most)) if isinstance(node, Styled) else node

    def _checked(self, piece: _Piece) -> Iterator[str]:
        """The piece itself when it reads back as it was meant and fits, else its bare text in further pieces."""
        if not piece.written:
            yield piece.source
            return
        text = "\n".join(_Content(block).text for block in piece.blocks)
        tree = parse(piece.source)
        read = "".join(_Content(block).text for block in tree.blocks)
        if _squeeze(read) == _squeeze(text) and self._width(tree.blocks, piece.source) <= self.limit:
            yield piece.source
        else:
            blocks = [self._loosen(block, most=0) for block in piece.blocks]
            yield from self._bare("\n".join(_Content(block).text for block in blocks))

    def _bare(self, text: str) -> Iterator[str]:
        start = 0
        while start < len(text):
            end = self._furthest_bare(text, start)
            place = end
            while place > start and joined(text, place):
                place -= 1
            end = place if place > start else end
            if text[start:end].strip():
                yield self._escaped(text[start:end])
            start = end

    def _escaped(self, text: str) -> str:
        escaped = escape_all(text)
        # Where Markdown itself is shown, a backslash may be the one character too many.
        return text if self.dialect is MARKDOWN and len(text) == 1 and not self._fits(escaped) else escaped

    def _furthest_bare(self, text: str, start: int) -> int:
        low, high = start + 1, min(len(text), start + self.limit)
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(escape_all(text[start:middle])):
                low = middle
            else:
                high = middle - 1
        return low

    def _fits(self, source: str) -> bool:
        return self.size(self.dialect.render(parse(source))) <= self.limit


def _squeeze(text: str) -> str:
    return _BLANK.sub("", text)
