"""Slack's mrkdwn as blocks of Markdown: for texts that come without rich text.

https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from itertools import groupby

from roost import markdown
from roost.channels.slack_rich import Leaf, Name, dressed, lines, link, mention
from roost.markdown import Block, Code, Fence, Inline, Paragraph

FENCE = re.compile(r"```\n?(.*?)\n?```", re.DOTALL)
QUOTED = re.compile(r"(?:&gt;|>) ?")
WHOLE = re.compile(r"`([^`\n]+)`|<([^<>\n]+)>")
# A style begins and ends at the edge of a word.
STYLED = re.compile(r"(?<![\w*_~])([*_~])(?=\S)([^\n]+?)(?<=\S)\1(?![\w*_~])")
STYLES = {"*": "bold", "_": "italic", "~": "strike"}
SLOT = re.compile("\ufdd2(\\d+)\ufdd3")


def blocks(text: str, name: Name) -> list[Block]:
    """Read a text. Reading never fails: what is no markup is text."""
    found: list[Block] = []
    for number, piece in enumerate(FENCE.split(re.sub("[\ufdd0-\ufdd3]", "\ufffd", text))):
        found += [Fence(unescape(_bare(piece)))] if number % 2 else _paragraphs(piece, name)
    return found


def _paragraphs(text: str, name: Name) -> Iterator[Block]:
    for quoted, run in groupby(text.split("\n"), lambda line: bool(QUOTED.match(line))):
        body = "\n".join(QUOTED.sub("", line, count=1) if quoted else line for line in run)
        inner = Paragraph(_inline(body, name))
        if inner.children:
            yield markdown.Quote((inner,)) if quoted else inner


def _inline(text: str, name: Name) -> tuple[Inline, ...]:
    """Code and addresses are set aside first: what looks like a marker in them is none."""
    aside: list[Leaf] = []

    def set_aside(match: re.Match[str]) -> str:
        code, control = match.groups()
        leaves = [Leaf(Code(unescape(code)))] if code else list(_control(control, name))
        aside.extend(leaves)
        first = len(aside) - len(leaves)
        return "".join(f"\ufdd2{number}\ufdd3" for number in range(first, len(aside)))

    return dressed(list(_styled(WHOLE.sub(set_aside, text), frozenset(), aside)))


def _styled(text: str, styles: frozenset[str], aside: list[Leaf]) -> Iterator[Leaf]:
    end = 0
    for match in STYLED.finditer(text):
        yield from _plain(text[end : match.start()], styles, aside)
        yield from _styled(match[2], styles | {STYLES[match[1]]}, aside)
        end = match.end()
    yield from _plain(text[end:], styles, aside)


def _plain(text: str, styles: frozenset[str], aside: list[Leaf]) -> Iterator[Leaf]:
    for number, piece in enumerate(SLOT.split(text)):
        if number % 2:
            leaf = aside[int(piece)]
            yield Leaf(leaf.node, leaf.styles | styles)
        else:
            yield from lines(unescape(piece), styles)


def _control(inside: str, name: Name) -> Iterator[Leaf]:
    """What stands between angle brackets: a person, a channel, a group, a date, or an address."""
    target, _, label = (unescape(part) for part in inside.partition("|"))
    if target.startswith("@"):
        yield from lines(mention(target[1:], name))
    elif target.startswith("#"):
        yield from lines(f"#{label or name(target[1:])}")
    elif target.startswith("!"):
        yield from lines(label or f"@{target[1:].partition('^')[0]}")
    else:
        yield Leaf(link(target, label or target))


def _bare(code: str) -> str:
    """Slack makes links even of the addresses in code."""
    return re.sub(r"<([^<>|\n]+)(?:\|([^<>\n]+))?>", lambda match: match[2] or match[1], code)
