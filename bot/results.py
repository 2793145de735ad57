"""What a tool returned, shortened to what a prompt has room for.

The parts that answer the question stay, with the beginning and the end, and a note says how much is gone. JSON stays
JSON. No brain is asked: what is too long for the prompt is too long for its summary as well, and a small model would
make things up in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator

from roost.contracts import Count
from roost.excerpts import LONGEST, READ, SHORTEST, Excerpt, Weigh, ends
from roost.hypertext import to_markdown
from roost.tools import DATA
from roost.trees import Tree

A_TOKEN = 4  # characters, to begin with
GUESSES = 8  # at the size, each checked by a count of the whole
ENOUGH = 0.9  # of the room filled ends the guessing
PAGE = re.compile(r"<!doctype html|<html[\s>]", re.IGNORECASE)
TAG = re.compile(r"</(?:p|div|span|li|td|tr|a|h\d|script)>|<br ?/?>", re.IGNORECASE)
TAGS = 10  # in the first SEEN characters make it a page
SEEN = 20_000
BLANK = re.compile(r"\n(?:[ \t]*\n){2,}")

Draft = Callable[[int], str]
"""The text in about so many characters."""


async def fit(text: str, tokens: int, count: Count, weigh: Weigh) -> str:
    """The text in at most `tokens` tokens; `weigh` says how much each of some texts matters for the question."""
    if await _fits(text, tokens, count):
        return text
    said, text = _said_first(text)
    text = await asyncio.to_thread(_bare, text)
    if await _fits(said + text, tokens, count):
        return said + text
    draft = await asyncio.to_thread(drafted, text, tokens, weigh)
    return await _longest(said, draft, tokens, count) or await _beginning(said + text, tokens, count)


async def _fits(text: str, tokens: int, count: Count) -> bool:
    """What has no more bytes than that needs no counting, nor does what is far too long."""
    if len(text) > 64 * tokens:
        return False
    return len(text.encode("utf-8", "replace")) <= tokens or await count(text) <= tokens


async def _longest(said: str, draft: Draft, tokens: int, count: Count) -> str:
    """The longest of some drafts that fits; empty when none does."""
    best, size, fits, fails = "", A_TOKEN * tokens, 0, 0
    for _ in range(GUESSES):
        text = said + await asyncio.to_thread(draft, size)
        taken = await count(text)
        if taken > tokens:
            fails = size
        else:
            best, fits = max(best, text, key=len), size
        if ENOUGH * tokens <= taken <= tokens:
            break
        size = int(min(size, len(text)) * min(2.0, 0.95 * tokens / max(1, taken)))
        if not fits < size < (fails or size + 1):
            size = (fits + fails) // 2
        if size <= fits:
            break
    return best


async def _beginning(text: str, tokens: int, count: Count) -> str:
    keep = tokens
    while keep and await count(text[:keep]) > tokens:
        keep //= 2
    return text[:keep]


def _said_first(text: str) -> tuple[str, str]:
    """The line that says that strangers wrote it, which stays; and the rest."""
    first, line, rest = text.partition("\n")
    return (first + line, rest) if line and DATA in first and len(first) <= LONGEST else ("", text)


def _bare(text: str) -> str:
    """A page without its marks, and no text with many blank lines."""
    start = text[:SEEN]
    if PAGE.search(start[:1000]) or len(TAG.findall(start)) >= TAGS:
        text = to_markdown(ends(text)) or text
    return BLANK.sub("\n\n", text)


def drafted(text: str, tokens: int, weigh: Weigh) -> Draft:
    """How a text is shortened: as JSON where it is that, else by its pieces."""
    if text.lstrip()[:1] in ("{", "[") and len(text) <= 8 * READ:
        try:
            return Tree(json.loads(text), weigh).write
        except (ValueError, RecursionError):
            pass
    wide = len(text[:SEEN].encode("utf-8", "replace")) / len(text[:SEEN])  # bytes of a character
    return Excerpt(text, weigh, min(LONGEST, max(SHORTEST, int(tokens / 2 / wide)))).write


def asked(said: str, arguments: str) -> str:
    """What a call was made to find out: what the person said, and the texts it was called with."""

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for one in inside:
            yield from texts(one)

    try:
        return " ".join([said, *texts(json.loads(arguments))])
    except (ValueError, RecursionError):
        return said
