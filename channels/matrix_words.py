"""The words of a Matrix message: its HTML or its plain body as Markdown, and who is named in it.

https://spec.matrix.org/v1.16/client-server-api/#mroommessage-msgtypes
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from roost import hypertext, writing
from roost.markdown import Block, Break, Inline, Paragraph, Text, clean
from roost.values import Mention

Json = dict[str, Any]

# Two characters that Unicode keeps free for uses like this: they show where a mention is until the end.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
PILL = re.compile(r"https://matrix\.to/#/((?:@|%40)[^/?]+)|matrix:u/([^/?]+)", re.IGNORECASE)


def marked(content: Json, reply: bool) -> tuple[str, list[str]]:
    """The body as Markdown, with each mention between two marks, and who is mentioned."""
    pills: list[str] = []

    def pill(href: str, label: str) -> str | None:
        found = PILL.fullmatch(href.partition("?")[0])
        if found is None:
            return None
        pills.append(unquote(found[1] or f"@{found[2]}"))
        return f"{OPEN}{label}{CLOSE}"

    html = content.get("formatted_body")
    if content.get("format") == "org.matrix.custom.html" and isinstance(html, str):
        text = hypertext.to_markdown(unmarked(html), pill)
        if text:
            return text, pills
    body = unmarked(str(content["body"]))
    return plain(without_fallback(body) if reply else body), []


def unmarked(text: str) -> str:
    return re.sub(f"[{OPEN}{CLOSE}]", "\ufffd", text)


def without_fallback(body: str) -> str:
    """Leave out the quoted lines that older programs put before an answer (matrix-spec-proposals 2781)."""
    return re.sub(r"\A> <@[^>]+>.*\n(?:>.*\n)*\n?", "", body)


def plain(body: str) -> str:
    """Write lines in which no character means anything as Markdown."""
    blocks: list[Block] = []
    for part in re.split(r"\n[ \t]*\n\s*", clean(body).strip("\n")):
        line: list[Inline] = []
        for said in part.split("\n"):
            line += [Break()] if line else []
            line += [Text(said.strip())] if said.strip() else []
        blocks += [Paragraph(tuple(line))] if line else []
    return writing.write(blocks)


def uncalled(written: str, me: str, names: Sequence[str], pills: Sequence[str]) -> str:
    """Leave out the bot's own name where the text begins by calling it. `names` are what it may be called."""
    if pills and pills[0] == me and (found := re.match(rf"{OPEN}[^{CLOSE}]*{CLOSE}[\s,:]*", written)):
        return written[found.end() :]
    for name in names:
        end = r"(?:[,:]\s*|\s+|$)" if name.startswith("@") else r"[,:]\s+"
        found = re.match(rf"(?:{re.escape(name)}|{re.escape(writing.escape(name))}){end}", written, re.IGNORECASE)
        if found:
            return written[found.end() :]
    return written


def pick_mentions(written: str, persons: Sequence[str]) -> tuple[str, tuple[Mention, ...]]:
    """Take the marks out, and say where they were."""
    text, mentions = "", []
    for number, piece in enumerate(re.split(f"[{OPEN}{CLOSE}]", written)):
        if number % 2 and number // 2 < len(persons):
            mentions.append(Mention(len(text), len(text) + len(piece), persons[number // 2]))
        text += piece
    return text, tuple(mentions)
