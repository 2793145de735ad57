"""HTML, as mails and chats carry it, read into blocks of Markdown.

Nothing in it is run or fetched, and what is hidden is left out: scripts, styles, comments, elements that are not
shown. Any text is HTML, so nothing is raised (https://html.spec.whatwg.org/multipage/parsing.html, in small).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import groupby
from urllib.parse import quote as urlquote

from roost import writing
from roost.markdown import (
    Block,
    Bold,
    Break,
    Code,
    Fence,
    Heading,
    Inline,
    Italic,
    Link,
    List,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Text,
    clean,
)

MAX_DEPTH = 60


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


VOID = _tags("area base br col embed hr img input link meta param source track wbr")
HIDDEN = _tags("head iframe math mx-reply noscript object script select style svg template textarea title")
BLOCKS = _tags(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section summary table tbody td tfoot th thead tr ul"
)
MARKS: dict[str, type[Bold | Italic | Strike]] = {
    **dict.fromkeys(("b", "strong"), Bold),
    **dict.fromkeys(("i", "em", "cite", "var", "dfn"), Italic),
    **dict.fromkeys(("s", "strike", "del"), Strike),
}
CODE = frozenset(("code", "tt", "kbd", "samp"))
# An element that may stay open until one of these begins, and the element within which that counts.
ENDS = {"li": ({"li"}, {"ul", "ol"}), "dt": ({"dt", "dd"}, {"dl"}), "dd": ({"dt", "dd"}, {"dl"})}
ENDS |= {"tr": ({"tr", "td", "th"}, {"table"}), "td": ({"td", "th"}, {"tr"}), "th": ({"td", "th"}, {"tr"})}
SAFE = re.compile(r"(?:https?://|mailto:|tel:)\S+", re.IGNORECASE)
UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

Replace = Callable[[str, str], str | None]
"""Given the address and the words of a link: what to write instead, or None to leave it a link."""


def to_markdown(html: str, replace: Replace | None = None) -> str:
    """Write HTML as Markdown."""
    return writing.write(read(html, replace))


def read(html: str, replace: Replace | None = None) -> list[Block]:
    """Read HTML into the blocks that `roost.writing.write` takes."""
    grower = _Grower()
    grower.feed(clean(html))
    grower.close()
    return list(_Reader(replace or (lambda href, label: None)).blocks(grower.root.children))


# ---------------------------------------------------------------------------------------------- the elements


@dataclass(slots=True)
class _Node:
    """An element. `blocky` says that it is a block or holds one."""

    tag: str
    attributes: dict[str, str]
    blocky: bool = False
    children: list[_Node | str] = field(default_factory=list)


class _Grower(HTMLParser):
    """Grow a tree of elements; end tags that are missing or too many do no harm."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = _Node("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_what_ends(tag)
        node = _Node(tag, {name: value or "" for name, value in attrs}, tag in BLOCKS)
        if len(self._open) > MAX_DEPTH and tag not in HIDDEN:
            return
        self._open[-1].children.append(node)
        if node.blocky:
            for outer in self._open:
                outer.blocky = True
        if tag not in VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def _end_what_ends(self, tag: str) -> None:
        if tag in BLOCKS and self._open[-1].tag == "p":
            self._open.pop()
        ended, within = ENDS.get(tag, (set(), set()))
        last = len(self._open)
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag in within:
                break
            if self._open[depth].tag in ended:
                last = depth
        else:
            return
        del self._open[last:]


# ------------------------------------------------------------------------------------------------ the blocks


@dataclass(frozen=True, slots=True)
class _Run:
    """Letters of one style: `marks` are what is around them, outermost first; an address is a link."""

    text: str
    marks: tuple[type[Bold | Italic | Strike] | str, ...] = ()
    code: bool = False


_NEWLINE = _Run("\n")


class _Reader:
    def __init__(self, replace: Replace) -> None:
        self._replace = replace

    def blocks(self, children: Iterable[_Node | str]) -> Iterator[Block]:
        line: list[_Run] = []
        for child in children:
            if isinstance(child, str) or not child.blocky:
                line += self.runs(child, ())
                continue
            yield from _paragraph(line)
            line = []
            if _shown(child):
                yield from self.block(child)
        yield from _paragraph(line)

    def block(self, node: _Node) -> Iterator[Block]:
        if re.fullmatch("h[1-6]", node.tag):
            if inline := _inline(self._flat(node)):
                yield Heading(int(node.tag[1]), tuple(Text(" ") if part == Break() else part for part in inline))
        elif node.tag == "pre":
            yield Fence(_letters(node).strip("\n"), _language(node))
        elif node.tag == "blockquote":
            if inner := tuple(self.blocks(node.children)):
                yield Quote(inner)
        elif node.tag in {"ul", "ol"}:
            yield from self.listing(node)
        elif node.tag == "hr":
            yield Rule()
        elif node.tag == "table":
            yield from self.table(node)
        else:
            yield from self.blocks(node.children)

    def listing(self, node: _Node) -> Iterator[Block]:
        parts = [child for child in node.children if isinstance(child, _Node) or child.strip()]
        made = [tuple(self.blocks(_contents(part))) for part in parts]
        items = [item or (Paragraph(()),) for item in made]
        number = node.attributes.get("start", "1")
        start = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 1
        tight = all(sum(isinstance(block, Paragraph) for block in item) < 2 for item in items)
        if items:
            yield List(tuple(items), start if node.tag == "ol" else None, tight, "." if node.tag == "ol" else "-")

    def table(self, node: _Node) -> Iterator[Block]:
        """Write each row as a line of cells; a table that only lays out other blocks is no table."""
        rows = [[_contents(cell) for cell in row] for row in _rows(node)]
        cells = [cell for row in rows for cell in row]
        plain = not any(isinstance(part, _Node) and part.blocky for cell in cells for part in cell)
        if plain and any(len(row) > 1 for row in rows):
            line: list[_Run] = []
            for row in rows:
                for cell in row:
                    line += [run for part in cell for run in self.runs(part, ())]
                    line += [_Run(" | ")] if cell is not row[-1] else []
                line.append(_NEWLINE)
            yield from _paragraph(line)
        else:
            for cell in cells:
                yield from self.blocks(cell)

    # The lines

    def runs(self, node: _Node | str, marks: tuple[type[Bold | Italic | Strike] | str, ...]) -> Iterator[_Run]:
        if isinstance(node, str):
            yield _Run(re.sub(r"\s+", " ", node), marks)
        elif not _shown(node):
            return
        elif node.tag == "br":
            yield _NEWLINE
        elif node.tag == "img":
            yield _Run(node.attributes.get("alt") or node.attributes.get("title") or "", marks)
        elif node.tag in CODE:
            yield _Run(re.sub(r"\s+", " ", _letters(node)).strip(), marks, code=True)
        elif node.tag == "a":
            yield from self._link(node, marks)
        else:
            mark = MARKS.get(node.tag)
            inner = marks if mark is None or mark in marks else (*marks, mark)
            for child in node.children:
                yield from self.runs(child, inner)

    def _link(self, node: _Node, marks: tuple[type[Bold | Italic | Strike] | str, ...]) -> Iterator[_Run]:
        href, label = node.attributes.get("href", "").strip(), " ".join(_letters(node).split())
        instead = self._replace(href, label)
        if instead is not None:
            yield _Run(instead, marks)
            return
        linked = any(isinstance(mark, str) for mark in marks)
        if SAFE.fullmatch(href) and label and not linked:
            marks = (*marks, re.sub(r"[\s<>\\]", lambda match: urlquote(match.group()), href))
        for child in node.children:
            yield from self.runs(child, marks)

    def _flat(self, node: _Node) -> list[_Run]:
        """Everything in a heading on one line, blocks as well."""
        return [run for child in node.children for run in self.runs(child, ())]


def _shown(node: _Node) -> bool:
    hidden = "hidden" in node.attributes or UNSEEN.search(node.attributes.get("style", ""))
    return node.tag not in HIDDEN and not hidden


def _contents(part: _Node | str) -> list[_Node | str]:
    if isinstance(part, _Node) and part.tag in {"li", "td", "th"}:
        return part.children if _shown(part) else []
    return [part]


def _rows(node: _Node) -> Iterator[list[_Node]]:
    for child in node.children:
        if isinstance(child, _Node) and child.tag == "tr":
            yield [cell for cell in child.children if isinstance(cell, _Node)]
        elif isinstance(child, _Node) and child.tag in {"thead", "tbody", "tfoot"}:
            yield from _rows(child)
        elif isinstance(child, _Node):
            yield [child]


def _letters(node: _Node | str) -> str:
    if isinstance(node, str):
        return node
    if not _shown(node):
        return ""
    return "\n" if node.tag == "br" else "".join(map(_letters, node.children))


def _language(node: _Node) -> str:
    """The language a block of code says it is in (https://spec.matrix.org/latest/client-server-api, 11.2.1)."""
    named = [node, *(child for child in node.children if isinstance(child, _Node))]
    classes = " ".join(one.attributes.get("class", "") for one in named)
    found = re.search(r"(?:^|\s)language-([\w+#.-]{1,40})(?:\s|$)", classes, re.ASCII)
    return found[1] if found else ""


# ------------------------------------------------------------------------------------------------- the spans


def _paragraph(line: Sequence[_Run]) -> Iterator[Block]:
    if inline := _inline(line):
        yield Paragraph(inline)


def _inline(runs: Iterable[_Run]) -> tuple[Inline, ...]:
    """The lines of a paragraph, without the spaces that HTML does not show and the blank lines at its ends."""
    lines: list[list[_Run]] = [[]]
    for run in runs:
        if run is _NEWLINE:
            lines.append([])
        else:
            lines[-1].append(run)
    made = [list(_nest(_collapse(line))) for line in lines]
    while made and not made[-1]:
        made.pop()
    while made and not made[0]:
        made.pop(0)
    return tuple(part for number, line in enumerate(made) for part in ([Break(), *line] if number else line))


def _collapse(line: Iterable[_Run]) -> list[_Run]:
    kept: list[_Run] = []
    spaced = True
    for run in line:
        text = run.text if run.code else run.text.removeprefix(" ") if spaced else run.text
        if text:
            kept.append(_Run(text, run.marks, run.code))
            spaced = text.endswith(" ") and not run.code
    while kept and not kept[-1].code and not kept[-1].text.strip(" "):
        kept.pop()
    if kept and not kept[-1].code:
        kept[-1] = _Run(kept[-1].text.rstrip(" "), kept[-1].marks)
    return kept


def _nest(runs: Sequence[_Run]) -> Iterator[Inline]:
    for outer, grouped in groupby(runs, key=lambda run: run.marks[:1]):
        group = list(grouped)
        if not outer:
            yield from (Code(run.text) if run.code else Text(run.text) for run in group)
            continue
        inner = [_Run(run.text, run.marks[1:], run.code) for run in group]
        before = " " if not inner[0].code and inner[0].text.startswith(" ") else ""
        after = " " if not inner[-1].code and inner[-1].text.endswith(" ") else ""
        children = tuple(_nest(_collapse(inner)))
        if not children:
            yield Text(before or after)
            continue
        mark = outer[0]
        if before:
            yield Text(before)
        yield Link(mark, children) if isinstance(mark, str) else mark(children)
        if after:
            yield Text(after)
