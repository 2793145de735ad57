"""Markdown nodes back to Markdown: what `parse` would read as the same tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from roost.markdown import Block, Break, Code, Fence, Heading, Inline, Link, List, Paragraph, Quote, Rule, Text

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_MEANINGFUL = re.compile(
    r"\\(?=[!-/:-@\[-`{-~]|\s*$)|`|(?<!\s)\*|\*(?!\s)|(?<![^\W_])_|_(?![^\W_])|^~|~(?=~|$)|(?<=~)~"
    r"|!(?=\[|$)|\](?=\(|$)|<(?=\S|$)|&(?=#?\w{1,40};)"
)
_OPENING = re.compile(
    r"#{1,6}(?=\s|$)|>|[-+*](?=\s|$)|(?:[-=_*][ \t]*)+$|[-|:][-|: \t]*$|(?P<number>\d{1,9})(?=[.)](?:\s|$))"
)


def escape(text: str) -> str:
    """Put a backslash before whatever could mean something, so that one line of text reads as it is."""
    return _guard_line(_MEANINGFUL.sub(r"\\\g<0>", text))


def escape_all(text: str) -> str:
    """Put a backslash before all punctuation; lines stay lines."""
    lines = (line.strip() for line in text.split("\n"))
    return "\n".join(_PUNCTUATION.sub(r"\\\1", line) for line in lines)


def _guard_line(line: str) -> str:
    opening = _OPENING.match(line)
    if opening is None:
        return line
    place = opening.end() if opening.group("number") else 0
    return f"{line[:place]}\\{line[place:]}"


def write(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown that reads as the same blocks, or nearly: styles that touch may be lost."""
    return _write_blocks(blocks, tight=False)


def _write_blocks(blocks: Sequence[Block], tight: bool) -> str:
    written = ""
    previous: Block | None = None
    for block in blocks:
        node = _apart(block, previous) if isinstance(block, List) and isinstance(previous, List) else block
        if previous is not None:
            written += "\n" if tight and _may_follow(node) else "\n\n"
        written += _write_block(node)
        previous = node
    return written


def _may_follow(block: Block) -> bool:
    """Whether a block can begin on the line after a paragraph without becoming part of it."""
    return not isinstance(block, Paragraph) and not (isinstance(block, List) and block.start not in {None, 1})


def _apart(node: List, previous: List) -> List:
    """Two lists in a row are two only when their markers differ."""
    if node.mark != previous.mark:
        return node
    return replace(node, mark={"-": "*", "*": "-", "+": "-", ".": ")", ")": "."}[node.mark])


def _write_block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _write_lines(block.children)
    if isinstance(block, Heading):
        line = "".join(_write_span(child) for child in block.children).replace("\n", " ").strip()
        return f"{'#' * block.level} {re.sub(r'(#+)$', _escape_match, line)}"
    if isinstance(block, Fence):
        return _write_fence(block)
    if isinstance(block, Quote):
        lines = _write_blocks(block.children, tight=False).split("\n")
        return "\n".join(f"> {line}".rstrip() for line in lines)
    return "___" if isinstance(block, Rule) else _write_list(block)


def _escape_match(match: re.Match[str]) -> str:
    return "\\" + match.group()


def _write_fence(node: Fence) -> str:
    ticks = "`" * max(3, 1 + _longest_run(node.text))
    return f"{ticks}{node.lang}\n{node.text}\n{ticks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _write_list(node: List) -> str:
    items = []
    for place, item in enumerate(node.items):
        marker = f"{node.mark} " if node.start is None else f"{node.start + place}{node.mark} "
        body = _write_blocks(item, node.tight)
        items.append((marker + re.sub(r"\n(?=[^\n])", "\n" + " " * len(marker), body)).rstrip())
    return ("\n" if node.tight else "\n\n").join(items)


def _write_lines(children: Sequence[Inline]) -> str:
    lines = "".join(_write_span(child) for child in children).split("\n")
    return "\n".join(_guard_line(line.strip()) for line in lines)


def _write_span(node: Inline) -> str:
    if isinstance(node, Text):
        return _MEANINGFUL.sub(r"\\\g<0>", node.text)
    if isinstance(node, Break):
        return "\n"
    if isinstance(node, Code):
        return _write_code(node.text)
    label = "".join(_write_span(child) for child in node.children)
    if isinstance(node, Link):
        return _write_link(node, label)
    return f"{node.mark}{label}{node.mark}"


def _write_code(text: str) -> str:
    ticks = "`" * (1 + _longest_run(text))
    pad = " " if text[0] == "`" or text[-1] == "`" or (text[0] == text[-1] == " " and text.strip()) else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _write_link(node: Link, label: str) -> str:
    if node.children == (Text(node.href),):
        return f"<{node.href}>"
    href = re.sub(r"&(?=#?\w{1,40};)", "&amp;", node.href)
    label = re.sub(r"(?<!\\)([\[\]])", r"\\\1", label)
    return f"[{label}](<{href}>)" if re.search(r"[()\s]", href) else f"[{label}]({href})"
