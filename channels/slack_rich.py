"""Markdown as Slack's rich text, and back.

https://docs.slack.dev/reference/block-kit/blocks/rich-text-block: what Slack's own composer sends, and what Slack asks
apps to prefer to mrkdwn. Nothing in it needs escaping, and styles hold in languages that have no spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from roost import markdown, writing
from roost.markdown import Block, Bold, Break, Code, Fence, Heading, Inline, Italic, Link, List, Paragraph, Strike, Text
from roost.values import Mention

Json = dict[str, Any]

SAFE = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"]+", re.IGNORECASE)
STYLES: dict[type[Inline], str] = {Bold: "bold", Italic: "italic", Strike: "strike"}
DEEPEST = 8  # levels that Slack indents

# ------------------------------------------------------------------------------------------------ writing


def rich(text: str) -> Json | None:
    """The rich text block that shows Markdown; None when there is nothing to show."""
    elements = list(_elements(markdown.parse(text).blocks))
    return {"type": "rich_text", "elements": elements} if elements else None


def _elements(blocks: Sequence[Block], depth: int = 0) -> Iterator[Json]:
    """Paragraphs that follow each other share a section, as in a message that a person wrote."""
    for is_text, run in groupby(blocks, lambda block: isinstance(block, Paragraph | Heading | markdown.Rule)):
        if is_text:
            yield from _section("rich_text_section", _lines(list(run)))
            continue
        for block in run:
            if isinstance(block, Fence):
                yield {"type": "rich_text_preformatted", "elements": [_text(block.text or " ")]}
            elif isinstance(block, List):
                yield from _list(block, depth)
            elif isinstance(block, markdown.Quote):
                yield from _section("rich_text_quote", _lines(block.children))


def _section(kind: str, elements: list[Json]) -> Iterator[Json]:
    if elements:
        yield {"type": kind, "elements": elements}


def _list(node: List, depth: int) -> Iterator[Json]:
    """Slack's lists hold lines only: what else an item holds stands between two pieces of the list."""
    lines: list[Json] = []
    first = node.start or 1
    for number, item in enumerate(node.items):
        head, rest = (item[:1], item[1:]) if item and isinstance(item[0], Paragraph | Heading) else ((), item)
        lines.append({"type": "rich_text_section", "elements": _lines(head) or [_text(" ")]})
        if rest:
            yield _piece(node, lines, first, depth)
            yield from _elements(rest, depth + 1)
            lines, first = [], (node.start or 1) + number + 1
    if lines:
        yield _piece(node, lines, first, depth)


def _piece(node: List, lines: list[Json], first: int, depth: int) -> Json:
    style = "bullet" if node.start is None else "ordered"
    piece: Json = {"type": "rich_text_list", "style": style, "indent": min(depth, DEEPEST), "elements": lines}
    return piece | ({"offset": first - 1} if node.start is not None and first > 1 else {})


def _lines(blocks: Sequence[Block]) -> list[Json]:
    """Blocks as one run of text: what a quote can hold."""
    found: list[Json] = []
    for block in blocks:
        found += ([_text("\n\n")] if found else []) + list(_flat(block))
    return merge(found)


def _flat(block: Block) -> Iterator[Json]:
    if isinstance(block, Paragraph):
        yield from _spans(block.children, {})
    elif isinstance(block, Heading):
        yield from _spans(block.children, {"bold": True})
    elif isinstance(block, Fence):
        yield _text(block.text or " ", {"code": True})
    elif isinstance(block, markdown.Quote):
        yield from _lines(block.children)
    elif isinstance(block, markdown.Rule):
        yield _text("———")
    else:
        for number, item in enumerate(block.items):
            marker = "• " if block.start is None else f"{block.start + number}. "
            yield _text(("\n" if number else "") + marker)
            yield from _lines(item)


def _spans(children: Sequence[Inline], style: dict[str, bool]) -> Iterator[Json]:
    for node in children:
        if isinstance(node, Text):
            yield _text(node.text, style)
        elif isinstance(node, Break):
            yield _text("\n")
        elif isinstance(node, Code):
            yield _text(node.text, style | {"code": True})
        elif isinstance(node, Link):
            yield from _link(node, style)
        else:
            yield from _spans(node.children, style | {STYLES[type(node)]: True})


def _link(node: Link, style: dict[str, bool]) -> Iterator[Json]:
    label = "".join(part["text"] for part in _spans(node.children, {}) if "text" in part).replace("\n", " ")
    if SAFE.fullmatch(node.href):
        yield {"type": "link", "url": node.href} | _named(label, node.href) | ({"style": style} if style else {})
    else:
        yield _text(label if label == node.href else f"{label} ({node.href})", style)


def _named(label: str, href: str) -> Json:
    return {"text": label} if label.strip() and label != href else {}


def _text(text: str, style: dict[str, bool] | None = None) -> Json:
    return {"type": "text", "text": text} | ({"style": style} if style else {})


def merge(elements: Iterable[Json]) -> list[Json]:
    """Put texts of one style together, and leave out empty ones, which Slack refuses."""
    found: list[Json] = []
    for one in elements:
        if one.get("text") == "" and one["type"] == "text":
            continue
        if found and one["type"] == found[-1]["type"] == "text" and one.get("style") == found[-1].get("style"):
            found[-1] = found[-1] | {"text": found[-1]["text"] + one["text"]}
        else:
            found.append(one)
    return found


# ------------------------------------------------------------------------------------------------ reading

# Characters that Unicode keeps free for uses like this: they show where a mention is until the end.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
Name = Callable[[str], str]
"""What people call a person or a channel, by id."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A piece of a line and its styles."""

    node: Inline
    styles: frozenset[str] = frozenset()


def unrich(block: Json, name: Name) -> list[Block]:
    """The blocks of a rich text block. Kinds that Markdown has no words for stay what they say."""
    found: list[Block] = []
    lists: list[Json] = []
    for element in [*block["elements"], {"type": ""}]:
        if element["type"] == "rich_text_list":
            lists.append(element)
            continue
        found += _nested(lists, name)
        lists = []
        if element["type"] == "rich_text_preformatted":
            found.append(Fence("".join(part.get("text", part.get("url", "")) for part in element["elements"])))
        elif element["type"] == "rich_text_quote":
            found.append(markdown.Quote((Paragraph(_line(element, name)),)))
        elif element["type"] and (line := _line(element, name)):
            found.append(Paragraph(line))
    return found


def _nested(pieces: Sequence[Json], name: Name) -> list[Block]:
    """Lists by their indents: one that stands deeper belongs to the last item before it."""
    if not pieces:
        return []
    level = min(int(piece.get("indent", 0)) for piece in pieces)
    found: list[Block] = []
    items: list[tuple[Block, ...]] = []
    deeper: list[Json] = []
    head = pieces[0]
    for piece in [*pieces, None]:
        if piece is not None and int(piece.get("indent", 0)) > level:
            deeper.append(piece)
            continue
        if deeper:
            inner = tuple(_nested(deeper, name))
            items = [*items[:-1], items[-1] + inner] if items else [inner]
            deeper = []
        if items and (piece is None or piece["style"] != head["style"]):
            found.append(_read_list(head, items))
            items = []
        if piece is not None:
            head = piece if not items else head
            items += [(Paragraph(_line(line, name)),) for line in piece["elements"]]
    return found


def _read_list(head: Json, items: list[tuple[Block, ...]]) -> List:
    ordered = head["style"] == "ordered"
    return List(tuple(items), int(head.get("offset", 0)) + 1 if ordered else None, mark="." if ordered else "-")


def _line(element: Json, name: Name) -> tuple[Inline, ...]:
    return dressed([leaf for part in element["elements"] for leaf in _leaves(part, name)])


def _leaves(part: Json, name: Name) -> Iterator[Leaf]:
    styles = frozenset(kind for kind, on in (part.get("style") or {}).items() if on)
    kind = part["type"]
    if kind == "text":
        yield from lines(part["text"], styles)
    elif kind == "link":
        label = part.get("text") or part["url"]
        yield Leaf(link(part["url"], label), styles)
    elif kind == "user":
        yield from lines(mention(part["user_id"], name), styles)
    else:
        yield from lines(_other(part, name), styles)


def _other(part: Json, name: Name) -> str:
    kind = part["type"]
    if kind == "channel":
        return f"#{name(part['channel_id'])}"
    if kind == "emoji":
        return unicode(part.get("unicode", "")) or f":{part['name']}:"
    if kind == "broadcast":
        return f"@{part['range']}"
    if kind == "usergroup":
        return f"@{name(part['usergroup_id'])}"
    return str(part.get("fallback") or part.get("text") or part.get("value") or f"[{kind}]")


def unicode(code: str) -> str:
    """The emoji that Slack writes as `1f44d-1f3fc`."""
    try:
        return "".join(chr(int(part, 16)) for part in code.split("-") if part)
    except (ValueError, OverflowError):
        return ""


def mention(id: str, name: Name) -> str:
    return f"{OPEN}{id}{CLOSE}@{name(id)}{CLOSE}"


def link(href: str, label: str) -> Inline:
    href = re.sub(r"[\s<>\\]", lambda match: f"%{ord(match.group()):02X}", href)
    return Link(href, (Text(label.replace("\n", " ")),))


def lines(text: str, styles: frozenset[str] = frozenset()) -> Iterator[Leaf]:
    """A text as leaves, one a line, with a Break between two."""
    for number, line in enumerate(text.split("\n")):
        if number:
            yield Leaf(Break())
        if line:
            plain = Code(line) if "code" in styles else Text(line)
            yield Leaf(plain, styles)


def dressed(leaves: Sequence[Leaf]) -> tuple[Inline, ...]:
    """Leaves with their styles around them, without blank lines at either end."""
    found = list(_dress(leaves, (("bold", Bold), ("italic", Italic), ("strike", Strike))))
    while found and _is_blank(found[0]):
        found.pop(0)
    while found and _is_blank(found[-1]):
        found.pop()
    return tuple(markdown.merge(found))


def _is_blank(node: Inline) -> bool:
    return isinstance(node, Break) or (isinstance(node, Text) and not node.text.strip())


def _dress(leaves: Sequence[Leaf], kinds: Sequence[tuple[str, type[Bold | Italic | Strike]]]) -> Iterator[Inline]:
    if not kinds:
        yield from (leaf.node for leaf in leaves)
        return
    (style, kind), *rest = kinds
    for has, run in groupby(leaves, lambda leaf: style in leaf.styles):
        inner = list(_dress(list(run), rest))
        yield from _styled(kind, inner) if has else inner


def _styled(kind: type[Bold | Italic | Strike], line: list[Inline]) -> Iterator[Inline]:
    """Style a line without the spaces at its ends: Markdown's marks cannot stand beside those."""
    before = after = ""
    if isinstance(first := line[0], Text):
        before = first.text[: len(first.text) - len(first.text.lstrip())]
        line[0] = Text(first.text.lstrip())
    if isinstance(last := line[-1], Text):
        after = last.text[len(last.text.rstrip()) :]
        line[-1] = Text(last.text.rstrip())
    yield Text(before)
    if not all(_is_blank(part) for part in line):
        yield kind(tuple(line))
    yield Text(after)


def to_text(blocks: Sequence[Block], me: str = "") -> tuple[str, tuple[Mention, ...]]:
    """Markdown and who is named in it, without the name of `me` where it only calls the bot."""
    written = writing.write(blocks)
    called = re.match(rf"{OPEN}{re.escape(me)}{CLOSE}[^{CLOSE}]*{CLOSE}[\s,:]*", written) if me else None
    text, mentions = "", []
    for number, piece in enumerate(re.split(f"[{OPEN}{CLOSE}]", written[called.end() :] if called else written)):
        if number % 3 == 1:
            person = piece
        elif number % 3 == 2:
            mentions.append(Mention(len(text), len(text) + len(piece), person))
            text += piece
        else:
            text += piece
    return text, tuple(mentions)
