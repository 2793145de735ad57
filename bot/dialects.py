"""Markdown in the words of every chat: one tree, several dialects.

Text stays text: nothing in it can begin, end or leave a construct of the dialect. A link is a link only where
its scheme is http, https, mailto or tel; any other becomes `text (target)`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import ClassVar
from urllib.parse import unquote

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
    Styled,
    Text,
    Tree,
    parse,
)

_SAFE = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"]+", re.IGNORECASE)

# A parsed tree holds no control characters, so these two can stand for something until the end of rendering:
# the edge of a style, and a newline of code, which is never indented.
_EDGE = "\x00"
_CODE_NEWLINE = "\x01"


class Dialect(ABC):
    """How a platform writes bold, links, lists and the rest."""

    name: str

    @abstractmethod
    def render(self, tree: Tree) -> str:
        """Write the tree. Nothing is raised; an empty tree gives an empty string."""


def render(text: str, dialect: Dialect) -> str:
    """Write Markdown `text` in a dialect."""
    return dialect.render(parse(text))


def words(children: Sequence[Inline]) -> str:
    """The text of a paragraph's children, without styles."""
    return "".join(_words(child) for child in children)


def _words(node: Inline) -> str:
    if isinstance(node, Text | Code):
        return node.text
    return "\n" if isinstance(node, Break) else words(node.children)


def _target(link: Link) -> str | None:
    """Where a link leads when its label does not say it already."""
    label = words(link.children)
    shown = {label, f"mailto:{label}"}
    return None if {link.href, unquote(link.href)} & shown else link.href


class _Verbatim(Dialect):
    """Markdown as it came, for platforms that read it themselves."""

    name = "markdown"

    def render(self, tree: Tree) -> str:
        return tree.source


class _Lines(Dialect):
    """Lines of text: what plain text and the dialects that resemble it have in common."""

    name = "plain"
    bullet = "-"
    gap = "\n\n"
    rule = "---"
    marks: ClassVar[dict[type[Inline], tuple[str, str]]] = {}
    across_lines = True

    def render(self, tree: Tree) -> str:
        return self.finish(self.blocks(tree.blocks))

    def finish(self, rendered: str) -> str:
        return rendered.replace(_CODE_NEWLINE, "\n").replace(_EDGE, "")

    def blocks(self, blocks: Sequence[Block], gap: str | None = None) -> str:
        written = [self.block(block) for block in blocks]
        return (self.gap if gap is None else gap).join(part for part in written if part)

    def block(self, block: Block) -> str:
        if isinstance(block, Paragraph):
            return self.inline(block.children, ())
        if isinstance(block, Heading):
            return self.inline((Bold(block.children),), ())
        if isinstance(block, Fence):
            return self.fence(block)
        if isinstance(block, Quote):
            return self.quote(block)
        return self.rule if isinstance(block, Rule) else self.listing(block)

    def listing(self, node: List) -> str:
        items = []
        for place, item in enumerate(node.items):
            marker = f"{self.bullet} " if node.start is None else f"{node.start + place}. "
            body = self.blocks(item, "\n" if node.tight else None)
            items.append(marker + re.sub(r"\n(?=[^\n])", "\n" + " " * len(marker), body))
        return ("\n" if node.tight else self.gap).join(items)

    def quote(self, node: Quote) -> str:
        lines = self.blocks(node.children).replace(_CODE_NEWLINE, "\n").split("\n")
        return "\n".join(f"> {line}".rstrip(" ") for line in lines)

    def fence(self, node: Fence) -> str:
        return node.text

    def inline(self, children: Sequence[Inline], active: tuple[type[Inline], ...]) -> str:
        return "".join(self.span(child, active) for child in children)

    def span(self, node: Inline, active: tuple[type[Inline], ...]) -> str:
        if isinstance(node, Text):
            return self.text(node.text)
        if isinstance(node, Code):
            return self.code(node.text)
        if isinstance(node, Break):
            return self.newline(active)
        if isinstance(node, Link):
            return self.link(node, active)
        return self.style(node, active)

    def style(self, node: Styled, active: tuple[type[Inline], ...]) -> str:
        kind = type(node)
        if kind in active or kind not in self.marks:
            return self.inline(node.children, active)
        opening, closing = self.marks[kind]
        return opening + self.inline(node.children, (*active, kind)) + closing

    def newline(self, active: tuple[type[Inline], ...]) -> str:
        if self.across_lines or not active:
            return "\n"
        closing = "".join(self.marks[kind][1] for kind in reversed(active))
        return closing + "\n" + "".join(self.marks[kind][0] for kind in active)

    def link(self, node: Link, active: tuple[type[Inline], ...]) -> str:
        label = self.inline(node.children, active)
        target = _target(node)
        return label if target is None else f"{label} ({self.text(target)})"

    def code(self, text: str) -> str:
        return self.text(text)

    def text(self, text: str) -> str:
        return text


_LINKED = re.compile("\x02([^\x03]*)\x03([^\x04]*)\x04")


class Labels(_Lines):
    """Plain text that shows a link's label only; where it leads is for `links` to say."""

    name = "labels"

    def render(self, tree: Tree) -> str:
        return self.links(tree)[0]

    def links(self, tree: Tree) -> tuple[str, list[tuple[int, int, str]]]:
        """The text, and of every link in it the beginning, the end (in characters) and the address."""
        text, spans, past = "", [], 0
        rendered = self.finish(self.blocks(tree.blocks))
        for found in _LINKED.finditer(rendered):
            text += rendered[past : found.start()]
            spans.append((len(text), len(text) + len(found[2]), found[1]))
            text += found[2]
            past = found.end()
        return text + rendered[past:], spans

    def link(self, node: Link, active: tuple[type[Inline], ...]) -> str:
        label = self.inline(node.children, active)
        if not _SAFE.fullmatch(node.href):
            return super().link(node, active)
        return f"\x02{node.href}\x03{label if label.strip() else node.href}\x04"


class _Irc(_Lines):
    """Control codes, each line on its own and none empty (https://modern.ircdocs.horse/formatting)."""

    name = "irc"
    gap = "\n"
    across_lines = False
    marks: ClassVar[dict[type[Inline], tuple[str, str]]] = {
        Bold: ("\x02", "\x02"),
        Italic: ("\x1d", "\x1d"),
        Strike: ("\x1e", "\x1e"),
    }

    def code(self, text: str) -> str:
        return f"\x11{text}\x11"

    def fence(self, node: Fence) -> str:
        return "\n".join(self.code(line) for line in node.text.split("\n") if line.strip())


_ZERO_WIDTH = "\u200b"
_MARKERS = re.compile(r"`+|[*_~]+")
_INNER_EDGE = re.compile(rf"(?<={_EDGE}[*_~]){_EDGE}(?=[*_~`])|{_EDGE}(?=[*_~]{_EDGE})|{_EDGE}(?={_EDGE})")
_OUTER_EDGE = re.compile(rf"(?:(?<=[\s(\[])|^){_EDGE}|{_EDGE}(?=[\s.,;:!?)\]]|$)", re.MULTILINE)


class _Mrkdwn(_Lines):
    """Slack's mrkdwn (https://docs.slack.dev/messaging/formatting-message-text).

    It has no escape for its four markers, so a literal one that could open or close a style gets a zero-width
    space on both sides: that is neither the edge of a word nor the beginning of one, whichever way it is read.
    Markers inside a word (`snake_case`) or alone between spaces need none. A style that touches a word gets a
    zero-width space in between, without which it would not be seen.
    """

    name = "mrkdwn"
    bullet = "•"
    across_lines = False
    marks: ClassVar[dict[type[Inline], tuple[str, str]]] = {
        Bold: (_EDGE + "*", "*" + _EDGE),
        Italic: (_EDGE + "_", "_" + _EDGE),
        Strike: (_EDGE + "~", "~" + _EDGE),
    }

    def finish(self, rendered: str) -> str:
        rendered = _INNER_EDGE.sub("", rendered)
        return _OUTER_EDGE.sub("", rendered).replace(_EDGE, _ZERO_WIDTH).replace(_CODE_NEWLINE, "\n")

    def fence(self, node: Fence) -> str:
        code = escape(node.text, quote=False).replace("```", f"`{_ZERO_WIDTH}`{_ZERO_WIDTH}`")
        return f"```\n{code}\n```".replace("\n", _CODE_NEWLINE)

    def link(self, node: Link, active: tuple[type[Inline], ...]) -> str:
        if not _SAFE.fullmatch(node.href):
            return super().link(node, active)
        target = escape(node.href, quote=False).replace("|", "%7C")
        label = self.text(words(node.children).replace("\n", " "))
        return f"<{target}>" if _target(node) is None else f"<{target}|{label}>"

    def code(self, text: str) -> str:
        """Code that holds a backtick cannot be told from its own end, so it is shown as text."""
        return self.text(text) if "`" in text else f"{_EDGE}`{escape(text, quote=False)}`{_EDGE}"

    def text(self, text: str) -> str:
        guarded = escape(_MARKERS.sub(_guard, text), quote=False)
        # An escaped > begins a quote as well as a bare one does.
        return _ZERO_WIDTH + guarded if guarded.startswith("&gt;") else guarded


def _guard(match: re.Match[str]) -> str:
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    markers = match.group()
    if markers[0] != "`" and ((before.isalnum() and after.isalnum()) or (before.isspace() and after.isspace())):
        return markers
    return _ZERO_WIDTH + _ZERO_WIDTH.join(markers) + _ZERO_WIDTH


# What stands for the marks of message styling until the end of rendering; other marks are text.
_STYLING = {"*": "\x02", "_": "\x03", "~": "\x04", "`": "\x05"}
_LITERAL = re.compile(
    r"(?<![^\s*_~`\x02-\x05])(?P<mark>[*_~`])(?=\S)(?=[^\n]{0,1000}?\S(?P=mark))|^(?:>|```)", re.MULTILINE
)


class _Styling(_Lines):
    """Message styling (https://xmpp.org/extensions/xep-0393.html).

    It has no escape, so what would begin a style or a block without being meant to gets a zero-width space before it.
    """

    name = "styling"
    across_lines = False
    marks: ClassVar[dict[type[Inline], tuple[str, str]]] = {
        kind: (_STYLING[mark], _STYLING[mark]) for kind, mark in ((Bold, "*"), (Italic, "_"), (Strike, "~"))
    }

    def finish(self, rendered: str) -> str:
        rendered = rendered.replace(_CODE_NEWLINE, "\n")
        for mark, stand_in in _STYLING.items():
            rendered = rendered.replace(stand_in, mark)
        return rendered.replace(_EDGE, "")

    def inline(self, children: Sequence[Inline], active: tuple[type[Inline], ...]) -> str:
        written = super().inline(children, active)
        return written if active else _LITERAL.sub(rf"{_ZERO_WIDTH}\g<0>", written)

    def code(self, text: str) -> str:
        """Code that holds a backtick cannot be told from its own end, so it is shown as text."""
        if "`" in text:
            return self.text(text)
        return f"`{text}`".translate(str.maketrans("".join(_STYLING), "".join(_STYLING.values())))

    def fence(self, node: Fence) -> str:
        code = node.text.replace("```", f"`{_ZERO_WIDTH}``")
        return f"```\n{code}\n```".replace("\n", _CODE_NEWLINE)


class _HtmlLines(_Lines):
    """The few tags that Telegram's HTML mode takes (https://core.telegram.org/bots/api#html-style)."""

    name = "html_subset"
    bullet = "•"
    marks: ClassVar[dict[type[Inline], tuple[str, str]]] = {
        Bold: ("<b>", "</b>"),
        Italic: ("<i>", "</i>"),
        Strike: ("<s>", "</s>"),
    }

    def quote(self, node: Quote) -> str:
        return f"<blockquote>{_INNER_HTML_LINES.blocks(node.children)}</blockquote>"

    def fence(self, node: Fence) -> str:
        return _pre(node).replace("\n", _CODE_NEWLINE)

    def link(self, node: Link, active: tuple[type[Inline], ...]) -> str:
        if not _SAFE.fullmatch(node.href):
            return super().link(node, active)
        return f'<a href="{escape(node.href)}">{self.inline(node.children, active)}</a>'

    def code(self, text: str) -> str:
        return f"<code>{self.text(text)}</code>"

    def text(self, text: str) -> str:
        return escape(text, quote=False)


class _InnerHtmlLines(_HtmlLines):
    """What stands in a quote: quotes cannot be nested there."""

    def quote(self, node: Quote) -> str:
        return _Lines.quote(self, node).replace("\n>", "\n&gt;").replace(">", "&gt;", 1)


def _pre(node: Fence) -> str:
    language = f' class="language-{escape(node.lang)}"' if node.lang else ""
    return f"<pre><code{language}>{escape(node.text, quote=False)}</code></pre>"


class _Html(Dialect):
    """Blocks and spans as HTML elements. `link` are the attributes of every link beside its target."""

    tags: ClassVar[dict[type[Styled], str]] = {Bold: "strong", Italic: "em", Strike: "del"}

    def __init__(self, name: str, link: str) -> None:
        self.name = name
        self.attributes = link

    def render(self, tree: Tree) -> str:
        return self.blocks(tree.blocks)

    def blocks(self, blocks: Sequence[Block], tight: bool = False) -> str:
        return "".join(self.block(block, tight) for block in blocks)

    def block(self, block: Block, tight: bool) -> str:
        if isinstance(block, Paragraph):
            inner = self.inline(block.children)
            return inner if tight else f"<p>{inner}</p>"
        if isinstance(block, Heading):
            return f"<h{block.level}>{self.inline(block.children)}</h{block.level}>"
        if isinstance(block, Fence):
            return _pre(block)
        if isinstance(block, Quote):
            return f"<blockquote>{self.blocks(block.children)}</blockquote>"
        return "<hr>" if isinstance(block, Rule) else self.listing(block)

    def listing(self, node: List) -> str:
        items = "".join(f"<li>{self.blocks(item, node.tight)}</li>" for item in node.items)
        if node.start is None:
            return f"<ul>{items}</ul>"
        start = "" if node.start == 1 else f' start="{node.start}"'
        return f"<ol{start}>{items}</ol>"

    def inline(self, children: Sequence[Inline]) -> str:
        return "".join(self.span(child) for child in children)

    def span(self, node: Inline) -> str:
        if isinstance(node, Text):
            return escape(node.text, quote=False)
        if isinstance(node, Code):
            return f"<code>{escape(node.text, quote=False)}</code>"
        if isinstance(node, Break):
            return "<br>"
        if isinstance(node, Link):
            return self.link(node)
        tag = self.tags[type(node)]
        return f"<{tag}>{self.inline(node.children)}</{tag}>"

    def link(self, node: Link) -> str:
        label = self.inline(node.children)
        if _SAFE.fullmatch(node.href):
            return f'<a href="{escape(node.href)}"{self.attributes}>{label}</a>'
        target = _target(node)
        return label if target is None else f"{label} ({escape(target, quote=False)})"


_INNER_HTML_LINES = _InnerHtmlLines()

PLAIN: Dialect = _Lines()
"""Readable without any markup: bullets, `> ` quotes, `text (address)`, code as it is."""

MARKDOWN: Dialect = _Verbatim()
"""The text itself, without control characters."""

HTML: Dialect = _Html("html", ' rel="noopener noreferrer" target="_blank"')
"""For a web page: everything escaped, links that open elsewhere."""

HTML_CHAT: Dialect = _Html("html_chat", "")
"""The safe HTML of chat events (https://spec.matrix.org/latest/client-server-api/#mroommessage-msgtypes)."""

HTML_SUBSET: Dialect = _HtmlLines()
"""Lines of text with b, i, s, code, pre, a and blockquote; everything else is flattened."""

LABELS = Labels()
"""Readable without any markup, for platforms where a link lies on its label."""

MRKDWN: Dialect = _Mrkdwn()
"""`*bold*`, `_italic_`, `~strike~`, code, fences, `<url|text>`, with &, < and > escaped."""

IRC: Dialect = _Irc()
"""Control codes; one message a line."""

STYLING: Dialect = _Styling()
"""`*bold*`, `_italic_`, `~strike~`, code, fences and `> ` quotes."""
