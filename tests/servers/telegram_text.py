"""Texts as Telegram reads them: HTML, MarkdownV2 and Markdown into plain text and entities.

Source: https://core.telegram.org/bots/api#formatting-options. Offsets and lengths are in UTF-16 code units; the
limits of 4096 and 1024 are in Unicode characters. Error texts follow the vendor's: byte offsets into the UTF-8
source. What the documentation forbids and the vendor's server repairs in silence (a bare `&`, bold inside code)
is repaired here too and noted in `complaints`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from servers.telegram_rules import FACTS, Refused, bad

Entity = dict[str, Any]
Users = Callable[[int], "dict[str, Any] | None"]

MAX_ENTITIES = 100
STYLES = frozenset({"bold", "italic", "underline", "strikethrough", "spoiler"})
QUOTES = frozenset({"blockquote", "expandable_blockquote"})
CODE = frozenset({"pre", "code"})
KNOWN = frozenset(FACTS["entities"])


@dataclass
class Parsed:
    text: str
    entities: list[Entity] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def units(text: str) -> int:
    """The length in UTF-16 code units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, offset: int, length: int) -> str:
    """What an entity covers: offset and length in UTF-16 code units."""
    data = text.encode("utf-16-le")[offset * 2 : (offset + length) * 2]
    return data.decode("utf-16-le", "replace")


def broken(reason: str) -> Refused:
    return bad(f"can't parse entities: {reason}")


def parse(text: str, mode: str | None, entities: list[Entity] | None, users: Users) -> Parsed:
    """Make text and entities of what a method was given. Raises Refused 400 as Telegram words it."""
    if not mode:
        parsed = Parsed(text, checked(text, entities) if entities else [])
    elif mode.lower() in MODES:
        parsed = MODES[mode.lower()](text, users)
    else:
        raise bad("unsupported parse_mode")
    if len(parsed.entities) > MAX_ENTITIES:
        parsed.complaints.append(f"{len(parsed.entities)} entities; Telegram ignores all after the 100th")
        parsed.entities = parsed.entities[:MAX_ENTITIES]
    return trimmed(parsed)


def trimmed(parsed: Parsed) -> Parsed:
    """Remove white space around the text; entities move and shrink with it."""
    text = parsed.text.rstrip()
    start = len(text) - len(text.lstrip())
    if start == 0 and len(text) == len(parsed.text):
        return parsed
    moved, kept, end = units(text[:start]), [], units(text)
    for entity in parsed.entities:
        first = max(entity["offset"], moved)
        last = min(entity["offset"] + entity["length"], end)
        if last > first:
            kept.append({**entity, "offset": first - moved, "length": last - first})
    return Parsed(text[start:], kept, parsed.complaints)


def checked(text: str, entities: list[Entity]) -> list[Entity]:
    """Explicit entities, refused when they are no part of the text."""
    size, starts = units(text), None if text.isascii() else _boundaries(text)
    for entity in entities:
        offset, end = entity["offset"], entity["offset"] + entity["length"]
        if entity["type"] not in KNOWN:
            raise bad(f"can't parse MessageEntity: unsupported type '{entity['type']}' specified")
        if offset < 0:
            raise bad(f"receive an entity with incorrect offset {offset}")
        if end < offset:
            raise bad(f"receive an entity with incorrect length {entity['length']}")
        if end > size:
            raise bad(
                f"entity beginning at UTF-16 offset {offset} ends after the end of the text at UTF-16 offset {size}"
            )
        if starts is not None and offset not in starts:
            raise bad(f"entity begins in a middle of a UTF-16 symbol at UTF-16 offset {offset}")
        if starts is not None and end not in starts:
            raise bad(f"entity ends in a middle of a UTF-16 symbol at UTF-16 offset {end}")
    return ordered(entities)


def _boundaries(text: str) -> set[int]:
    offset, found = 0, {0}
    for character in text:
        offset += 2 if ord(character) > 0xFFFF else 1
        found.add(offset)
    return found


def ordered(entities: list[Entity]) -> list[Entity]:
    return sorted((e for e in entities if e["length"] > 0), key=lambda e: (e["offset"], -e["length"]))


def link(url: str) -> str:
    """The address Telegram keeps, or "" for one that it drops without an error (no host, unknown scheme)."""
    if not re.match(r"[a-zA-Z][\w+.-]*://", url):
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return ""
    if parts.scheme in ("tg", "ton", "tonsite"):
        return url
    if parts.scheme not in ("http", "https", "ftp") or re.search(r"\s", url) or not re.search(r"[.:]", host):
        return ""
    return url if parts.path or parts.query or parts.fragment else url + "/"


def special(url: str) -> Entity:
    """The entity behind tg://emoji?id=… and tg://time?unix=…"""
    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    if parts.scheme == "tg" and parts.netloc == "emoji":
        return custom_emoji(query.get("id", ""))
    if parts.scheme == "tg" and parts.netloc == "time":
        return date_time(query.get("unix", ""), query.get("format", ""))
    raise broken("Custom emoji entity must contain a tg://emoji URL")


def custom_emoji(number: str) -> Entity:
    if not re.fullmatch(r"\d{1,19}", number):
        raise broken("Invalid custom emoji identifier specified")
    return {"type": "custom_emoji", "custom_emoji_id": number}


def date_time(unix: str, form: str) -> Entity:
    if not re.fullmatch(r"\d{1,10}", unix):
        raise broken("Invalid date-time specified")
    if not re.fullmatch(r"r|w?[dD]?[tT]?", form):
        raise broken("Invalid date-time format specified")
    return {"type": "date_time", "unix_time": int(unix)} | ({"date_time_format": form} if form else {})


@dataclass
class Open:
    """An entity whose end has not been seen."""

    kind: str
    offset: int
    at: int
    tag: str = ""
    more: Entity = field(default_factory=dict)
    begin: int = 0


class Writer:
    """Collects plain text and finished entities, counting UTF-16 units."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self.pieces: list[str] = []
        self.offset = 0
        self.open: list[Open] = []
        self.entities: list[Entity] = []
        self.complaints: list[str] = []

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.offset += units(text)

    def begin(self, kind: str, at: int, tag: str = "", **more: Any) -> None:
        self.open.append(Open(kind, self.offset, at, tag, more, len(self.pieces)))

    def since(self, opened: Open) -> str:
        return "".join(self.pieces[opened.begin :])

    def end(self) -> None:
        opened = self.open.pop()
        entity = self._entity(opened)
        if entity is None or self.offset == opened.offset:
            return
        for outer in self.open:
            if forbidden(outer.kind, opened.kind):
                self.complaints.append(f"{opened.kind} inside {outer.kind}; Telegram drops one of them")
                return
        self.entities.append({**entity, "offset": opened.offset, "length": self.offset - opened.offset})

    def _entity(self, opened: Open) -> Entity | None:
        if opened.kind != "text_link":
            return {"type": opened.kind, **opened.more} if opened.kind else None
        url = opened.more.get("url") or self.since(opened)
        if person := re.fullmatch(r"tg://user\?id=(\d+)", url):
            user = self.users(int(person[1]))
            return {"type": "text_mention", "user": user} if user else None
        url = link(url)
        if not url:
            self.complaints.append("a link whose address Telegram drops")
        return {"type": "text_link", "url": url} if url else None

    def result(self) -> Parsed:
        return Parsed("".join(self.pieces), ordered(self.entities), self.complaints)


def forbidden(outer: str, inner: str) -> bool:
    """Whether the documentation forbids an entity inside another."""
    if outer == "" or inner == "":
        return False
    if outer in CODE or inner in CODE:
        return True
    if inner in STYLES or outer in STYLES:
        return False
    return outer not in QUOTES or inner in QUOTES


TAGS = {
    **dict.fromkeys(("b", "strong"), "bold"),
    **dict.fromkeys(("i", "em"), "italic"),
    **dict.fromkeys(("u", "ins"), "underline"),
    **dict.fromkeys(("s", "strike", "del"), "strikethrough"),
    **{"tg-spoiler": "spoiler", "span": "spoiler", "a": "text_link", "code": "code", "pre": "pre"},
    **{"blockquote": "blockquote", "tg-emoji": "custom_emoji", "tg-time": "date_time"},
}
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
REFERENCE = re.compile(r"&(?:#(\d+)|#[xX]([0-9a-fA-F]+)|(lt|gt|amp|quot));?")
ATTRIBUTE = re.compile(r"""\s+([^\s=/>]+)(?:\s*=\s*("[^"]*"|'[^']*'|[A-Za-z0-9.-]+))?""")
TAG_NAME = re.compile(r"[^\s>/]*")


class Html:
    """The documented tags, nested; `&lt; &gt; &amp; &quot;` and numerical references."""

    def __init__(self, source: str, users: Users) -> None:
        self.source, self.at = source, 0
        self.out = Writer(users)

    def parse(self) -> Parsed:
        source, find = self.source, re.compile("[<&>]").search
        while (hit := find(source, self.at)) is not None:
            if hit.start() > self.at:
                self.out.add(source[self.at : hit.start()])
            self.at = hit.start()
            if source[self.at] == "<":
                self._tag()
            else:
                self._reference()
        self.out.add(source[self.at :])
        if self.out.open:
            raise broken(f'Can\'t find end tag corresponding to start tag "{self.out.open[-1].tag}"')
        return self.out.result()

    def _bytes(self, at: int) -> int:
        return len(self.source[:at].encode())

    def _reference(self) -> None:
        character, end = decode(self.source, self.at)
        if not character:
            self.out.complaints.append(f"a bare '{self.source[self.at]}' in HTML must be escaped")
            character, end = self.source[self.at], self.at + 1
        self.out.add(character)
        self.at = end

    def _tag(self) -> None:
        start = self.at
        if self.source.startswith("</", start):
            self._close(start)
            return
        name_end = TAG_NAME.match(self.source, start + 1)
        assert name_end is not None
        name = name_end[0].lower()
        if name_end.end() >= len(self.source):
            raise broken(f"Unclosed start tag at byte offset {self._bytes(start)}")
        if name not in TAGS:
            raise broken(f'Unsupported start tag "{name_end[0]}" at byte offset {self._bytes(start)}')
        attributes, self.at = self._attributes(name, start, name_end.end())
        self._open(name, attributes, start)

    def _attributes(self, name: str, start: int, at: int) -> tuple[dict[str, str], int]:
        found: dict[str, str] = {}
        while (hit := ATTRIBUTE.match(self.source, at)) is not None:
            value = hit[2] or ""
            bare = value[1:-1] if value[:1] in ("'", '"') else value
            found[hit[1].lower()] = REFERENCE.sub(lambda r: decode(r[0], 0)[0] or r[0], bare)
            at = hit.end()
        at = re.compile(r"\s*").match(self.source, at).end()  # type: ignore[union-attr]
        if not self.source.startswith(">", at):
            raise broken(f'Unclosed start tag "{name}" at byte offset {self._bytes(start)}')
        return found, at + 1

    def _open(self, name: str, attributes: dict[str, str], start: int) -> None:
        kind, more = TAGS[name], {}
        if name == "span" and attributes.get("class") != "tg-spoiler":
            raise broken(f'Tag "span" must have class "tg-spoiler" at byte offset {self._bytes(start)}')
        if name == "a":
            more = {"url": attributes.get("href", "")}
        elif name == "tg-emoji":
            more = custom_emoji(attributes.get("emoji-id", ""))
        elif name == "tg-time":
            more = date_time(attributes.get("unix", ""), attributes.get("format", ""))
        elif name == "blockquote" and "expandable" in attributes:
            kind = "expandable_blockquote"
        elif name == "code" and self._is_language(attributes):
            self.out.open[-1].more["language"] = attributes["class"].removeprefix("language-")
            kind = ""
        more.pop("type", None)
        self.out.begin(kind, start, name, **more)

    def _is_language(self, attributes: dict[str, str]) -> bool:
        """`<pre><code class="language-…">` is one entity; any other `<code>` in a `<pre>` is not documented."""
        opened = self.out.open
        inside = bool(opened) and opened[-1].tag == "pre" and opened[-1].offset == self.out.offset
        return inside and attributes.get("class", "").startswith("language-")

    def _close(self, start: int) -> None:
        offset = self._bytes(start)
        if not self.out.open:
            raise broken(f"Unexpected end tag at byte offset {offset}")
        end = re.compile(r"</([^\s>]*)\s*>").match(self.source, start)
        if end is None:
            raise broken(f"Unclosed end tag at byte offset {offset}")
        expected = self.out.open[-1].tag
        if end[1] and end[1].lower() != expected:
            raise broken(
                f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{end[1].lower()}>"'
            )
        self.out.end()
        self.at = end.end()


def decode(source: str, at: int) -> tuple[str, int]:
    """One character reference at a position: the character and where it ends, or ("", at)."""
    hit = REFERENCE.match(source, at)
    if hit is None:
        return "", at
    if hit[3]:
        return NAMED[hit[3]], hit.end()
    number = int(hit[1] or hit[2], 10 if hit[1] else 16)
    if not 0 < number <= 0x10FFFF or 0xD800 <= number < 0xE000:
        return "", at
    return chr(number), hit.end()


MARKS = {"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler", "`": "code"}
CLOSERS = {kind: mark for mark, kind in MARKS.items()} | {"pre": "```"}
MARK = re.compile(r"```|`|__|_|\|\||\*|~")
OUTSIDE = re.compile(r"[\\_*\[\]()~`>#+\-=|{}.!\n]")
INSIDE = re.compile(r"[\\`]")
LANGUAGE = re.compile(r"(?:([^\s`]+)(?=\s))?(?:\r\n|\n\r|\n|\r)?")
LINK_END = re.compile(r"\(((?:\\[\x01-\x7e]|[^)])*)(\)?)")


class MarkdownV2:
    """`*bold*`, `_italic_` and so on, nested; every other reserved character must be escaped."""

    def __init__(self, source: str, users: Users) -> None:
        self.source, self.at = source, 0
        self.out = Writer(users)
        self.fresh = True

    def parse(self) -> Parsed:
        while self.at < len(self.source):
            pattern = INSIDE if self._innermost() in CODE else OUTSIDE
            hit = pattern.search(self.source, self.at)
            stop = hit.start() if hit else len(self.source)
            if stop > self.at:
                self._write(self.source[self.at : stop])
                self.at = stop
            if hit:
                self._special(hit[0])
        if self._innermost() in QUOTES:
            self.out.end()
        if self.out.open:
            raise self._unended()
        return self.out.result()

    def _innermost(self) -> str:
        return self.out.open[-1].kind if self.out.open else ""

    def _write(self, text: str) -> None:
        self.out.add(text)
        self.fresh = text.endswith("\n")

    def _unended(self) -> Refused:
        last = self.out.open[-1]
        name = {"pre": "Pre", "code": "Code", "text_link": "TextUrl"}.get(last.kind, last.kind.title())
        return broken(f"Can't find end of {name} entity at byte offset {len(self.source[: last.at].encode())}")

    def _reserved(self) -> Refused:
        character = self.source[self.at]
        return broken(f"Character '{character}' is reserved and must be escaped with the preceding '\\'")

    def _special(self, character: str) -> None:
        step = {"\\": self._escape, "\n": self._newline, ">": self._quote, "[": self._link, "]": self._link_end}
        if character in step:
            step[character]()
        elif character == "!":
            self._special_link()
        else:
            self._mark()

    def _escape(self) -> None:
        following = self.source[self.at + 1 : self.at + 2]
        escaped = following and 1 <= ord(following) <= 126
        self._write(following if escaped else "\\")
        self.at += 2 if escaped else 1

    def _newline(self) -> None:
        in_quote = any(o.kind in QUOTES for o in self.out.open)
        if in_quote and not self.source.startswith(">", self.at + 1):
            if self._innermost() not in QUOTES:
                raise self._unended()
            self.out.end()
        self._write("\n")
        self.at += 1
        if in_quote and self.source.startswith(">", self.at):
            self.at += 1

    def _quote(self) -> None:
        if not self.fresh or any(o.kind in QUOTES for o in self.out.open):
            raise self._reserved()
        self.out.begin("blockquote", self.at)
        self.at += 1
        self.fresh = False

    def _mark(self) -> None:
        hit = MARK.match(self.source, self.at)
        mark = hit[0] if hit else ""
        innermost = self._innermost()
        if mark == "```" and innermost == "code":
            mark = "`"
        if mark and mark == CLOSERS.get(innermost):
            self.out.end()
        elif innermost in CODE and mark:
            self._write(mark)
        elif mark == "||" and self._ends_quote():
            self.out.open[-1].kind = "expandable_blockquote"
        elif mark == "```":
            self._begin_pre()
            return
        elif mark in MARKS:
            self.out.begin(MARKS[mark], self.at)
        else:
            raise self._reserved()
        self.at += len(mark)

    def _ends_quote(self) -> bool:
        after = self.source[self.at + 2 : self.at + 3]
        return self._innermost() == "blockquote" and after in ("", "\n")

    def _begin_pre(self) -> None:
        start = self.at
        head = LANGUAGE.match(self.source, start + 3)
        assert head is not None
        self.out.begin("pre", start, **({"language": head[1]} if head[1] else {}))
        self.at = head.end()

    def _link(self) -> None:
        self.out.begin("text_link", self.at, url="")
        self.at += 1

    def _special_link(self) -> None:
        if not self.source.startswith("![", self.at):
            raise self._reserved()
        self.out.begin("custom_emoji", self.at)
        self.at += 2

    def _link_end(self) -> None:
        kind = self._innermost()
        if kind not in ("text_link", "custom_emoji"):
            raise self._reserved()
        url = self._address(self.at + 1)
        opened = self.out.open[-1]
        if kind == "text_link":
            opened.more = {"url": url}
        else:
            found = special(url)
            opened.kind = found.pop("type")
            opened.more = found
        self.out.end()

    def _address(self, at: int) -> str:
        hit = LINK_END.match(self.source, at)
        if hit is None:
            self.at = at
            return ""
        if not hit[2]:
            raise broken(f"Can't find end of a URL at byte offset {len(self.source[: at + 1].encode())}")
        self.at = hit.end()
        return re.sub(r"\\([\x01-\x7e])", r"\1", hit[1])


LEGACY = re.compile(r"```(?:(\w+)\n)?(.*?)```|`([^`]*)`|\*([^*]*)\*|_([^_]*)_|\[([^\]]*)\](?:\(([^)]*)\))?", re.DOTALL)


class Markdown:
    """The legacy mode: no nesting, no escaping inside an entity."""

    def __init__(self, source: str, users: Users) -> None:
        self.source, self.out = source, Writer(users)

    def parse(self) -> Parsed:
        at = 0
        while (hit := re.compile(r"\\[_*`\[]|[_*`\[]").search(self.source, at)) is not None:
            self.out.add(self.source[at : hit.start()])
            at = hit.end() if hit[0].startswith("\\") else self._entity(hit.start())
            if hit[0].startswith("\\"):
                self.out.add(hit[0][1])
        self.out.add(self.source[at:])
        return self.out.result()

    def _entity(self, at: int) -> int:
        hit = LEGACY.match(self.source, at)
        if hit is None:
            where = len(self.source[:at].encode())
            raise broken(f"Can't find end of the entity starting at byte offset {where}")
        language, pre, code, bold, italic, label, url = hit.groups()
        if pre is not None:
            self.out.begin("pre", at, **({"language": language} if language else {}))
        elif label is not None:
            self.out.begin("text_link", at, url=url or "")
        else:
            self.out.begin("code" if code is not None else "bold" if bold is not None else "italic", at)
        self.out.add(next(part for part in (pre, code, bold, italic, label) if part is not None))
        self.out.end()
        return hit.end()


MODES: dict[str, Callable[[str, Users], Parsed]] = {
    "html": lambda text, users: Html(text, users).parse(),
    "markdownv2": lambda text, users: MarkdownV2(text, users).parse(),
    "markdown": lambda text, users: Markdown(text, users).parse(),
}

FOUND = re.compile(
    r"(?P<url>https?://[^\s<>\"]+[^\s<>\".,;:!?)])"
    r"|(?P<email>(?<![\w.])[\w.+-]+@[\w-]+\.[\w.-]*\w)"
    r"|(?P<bot_command>(?<![\w/<>@])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/]))"
    r"|(?P<mention>(?<![\w@/])@[A-Za-z0-9_]{3,32}(?!\w))"
    r"|(?P<hashtag>(?<![\w#])#\w*[^\W\d]\w*)"
)


def detect(text: str) -> list[Entity]:
    """The entities Telegram finds by itself in a person's plain text: commands, mentions, links, mail, hashtags."""
    found = []
    for hit in FOUND.finditer(text):
        kind = hit.lastgroup
        if kind:
            found.append({"type": kind, "offset": units(text[: hit.start()]), "length": units(hit[0])})
    return found
