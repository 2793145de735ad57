"""The text of a Telegram message and its entities, as Markdown.

https://core.telegram.org/bots/api#messageentity
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote as urlquote

from telegram import User

from roost import markdown, writing
from roost.markdown import Block, Bold, Break, Code, Fence, Inline, Italic, Link, Paragraph, Strike, Text
from roost.values import Mention

Json = dict[str, Any]

# Two characters that Unicode keeps free for uses like this: they show where a mention is until the end.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
Piece = Inline | Fence | markdown.Quote
STYLES: dict[str, type[Bold | Italic | Strike]] = {"bold": Bold, "italic": Italic, "strikethrough": Strike}


def read_text(body: Json, me: User) -> tuple[str, tuple[Mention, ...]]:
    """The text as Markdown and who is named in it, without the bot's own name where it only calls the bot."""
    text, entities = content(body)
    persons = [
        str(one["user"]["id"]) if "user" in one else covered(text, one) for one in entities if names_someone(one)
    ]
    written = to_markdown(text, entities)
    mine = rf"@{re.escape(me.username or '')}"
    called = re.match(rf"{OPEN}{mine}{CLOSE}[\s,:]*", written, re.IGNORECASE)
    if called:
        written, persons = written[called.end() :], persons[1:]
    written = re.sub(rf"^(/\w+){mine}\b", r"\1", written, count=1, flags=re.IGNORECASE)
    return pick_mentions(written, persons)


def words(body: Json) -> str:
    return pick_mentions(to_markdown(*content(body)), ())[0]


def content(body: Json) -> tuple[str, list[Json]]:
    """The text or caption, and its entities in the order in which they begin, with `start` and `end` in characters."""
    prefix = "" if "text" in body else "caption_"
    text = body.get(prefix[:-1] or "text", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    units = text.encode("utf-16-le")
    entities = []
    for entity in body.get(f"{prefix}entities", ()):
        # Telegram counts UTF-16 code units; half a character is left out.
        first, last = entity["offset"], entity["offset"] + entity["length"]
        start, end = (len(units[: 2 * max(one, 0)].decode("utf-16-le", "ignore")) for one in (first, last))
        entities += [{**entity, "start": start, "end": end}] if start < end else []
    return text, sorted(entities, key=lambda one: (one["start"], -one["end"]))


def covered(text: str, entity: Json) -> str:
    return text[entity["start"] : entity["end"]]


def names_someone(entity: Json) -> bool:
    return entity["type"] in {"mention", "text_mention"}


def pick_mentions(written: str, persons: Sequence[str]) -> tuple[str, tuple[Mention, ...]]:
    """Take the marks of mentions out; a mention by handle gives `@handle` for a person, any other the id."""
    text, mentions = "", []
    for number, piece in enumerate(re.split(f"[{OPEN}{CLOSE}]", written)):
        if number % 2 and number // 2 < len(persons):
            mentions.append(Mention(len(text), len(text) + len(piece), persons[number // 2]))
        text += piece
    return text, tuple(mentions)


def to_markdown(text: str, entities: Sequence[Json]) -> str:
    """Write a text and its entities (https://core.telegram.org/bots/api#messageentity) as Markdown."""
    text = re.sub(f"[{OPEN}{CLOSE}]", "\ufffd", text)
    return writing.write(to_blocks(pieces(text, 0, len(text), entities)))


def to_blocks(parts: Iterable[Piece]) -> list[Block]:
    """Gather what stands between blocks into paragraphs."""
    found: list[Block] = []
    line: list[Inline] = []
    for part in [*parts, None]:
        if part is not None and not isinstance(part, Fence | markdown.Quote):
            line += [part] if line or not is_blank(part) else []
            continue
        while line and is_blank(line[-1]):
            line.pop()
        found += [Paragraph(tuple(line))] if line else []
        found += [part] if part is not None else []
        line = []
    return found


def is_blank(part: Inline) -> bool:
    return isinstance(part, Break) or (isinstance(part, Text) and not part.text.strip())


def pieces(text: str, start: int, end: int, entities: Sequence[Json]) -> Iterator[Piece]:
    """A stretch of text in order. `entities` are those that begin in it; one that crosses another's end is clipped."""
    while entities:
        entity = entities[0]
        first, last = max(entity["start"], start), min(entity["end"], end)
        inner = [one for one in entities[1:] if one["start"] < last]
        entities = entities[1 + len(inner) :]
        if first < last:
            yield from plain(text[start:first])
            yield from dress(entity, text[first:last], pieces(text, first, last, inner))
            start = last
    yield from plain(text[start:end])


def plain(text: str) -> Iterator[Inline]:
    for number, line in enumerate(text.split("\n")):
        if number:
            yield Break()
        if line:
            yield Text(line)


def dress(entity: Json, text: str, inner: Iterator[Piece]) -> Iterator[Piece]:
    """Write one entity. Kinds that Markdown has no words for stay what they say."""
    kind = entity["type"]
    if kind in STYLES:
        yield from by_line(STYLES[kind], inner)
    elif kind == "code":
        yield from by_line(lambda line: Code(words_of(line)), plain(text))
    elif kind == "pre":
        language = re.fullmatch(r"[\w+#.-]{1,40}", entity.get("language", ""), re.ASCII)
        yield Fence(text.strip("\n"), language.group() if language else "")
    elif kind in {"blockquote", "expandable_blockquote"}:
        yield markdown.Quote(tuple(to_blocks(inner)))
    elif kind == "text_link":
        href = re.sub(r"[\s<>\\]", lambda match: urlquote(match.group()), entity["url"])
        yield from by_line(lambda line: Link(href, line), inner)
    elif kind == "url" and "://" in text and writing.escape(text) != text:
        yield Link(text, (Text(text),))
    elif names_someone(entity):
        yield Text(OPEN)
        yield from inner
        yield Text(CLOSE)
    else:
        yield from inner


def words_of(line: Sequence[Inline]) -> str:
    return "".join(part.text for part in line if isinstance(part, Text))


def by_line(make: Callable[[tuple[Inline, ...]], Inline], parts: Iterable[Piece]) -> Iterator[Piece]:
    """Style every line by itself, without the spaces at its ends: Markdown's marks cannot stand beside those."""
    line: list[Inline] = []
    for part in [*parts, None]:
        if part is not None and not isinstance(part, Break | Fence | markdown.Quote):
            line.append(part)
            continue
        yield from styled(make, line)
        line = []
        if part is not None:
            yield part


def styled(make: Callable[[tuple[Inline, ...]], Inline], line: list[Inline]) -> Iterator[Inline]:
    before = after = ""
    if line and isinstance(first := line[0], Text):
        before = first.text[: len(first.text) - len(first.text.lstrip())]
        line[0] = Text(first.text.lstrip())
    if line and isinstance(last := line[-1], Text):
        after = last.text[len(last.text.rstrip()) :]
        line[-1] = Text(last.text.rstrip())
    yield Text(before)
    if not all(is_blank(part) for part in line):
        yield make(tuple(line))
    yield Text(after)
