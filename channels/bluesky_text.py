"""Bluesky's rich text: plain text, and facets that say which of its bytes are a link or a mention.

https://docs.bsky.app/docs/advanced-guides/post-richtext
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from roost.dialects import LABELS
from roost.markdown import Link, Paragraph, Text, parse
from roost.writing import write as write_markdown

Json = dict[str, Any]
FACET = "app.bsky.richtext.facet"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, in bytes of its UTF-8, and what it is: one feature of a facet."""

    start: int
    end: int
    feature: Json


def write(text: str) -> tuple[str, list[Json]]:
    """Markdown as text and facets. An `@name` becomes no mention: an answer calls nobody else in."""
    shown, links = LABELS.links(parse(text))
    return shown, [facet(shown, *link) for link in links]


def facet(text: str, start: int, end: int, uri: str) -> Json:
    """A link on the characters from `start` to `end`."""
    first = len(text[:start].encode())
    last = first + len(text[start:end].encode())
    return {"index": {"byteStart": first, "byteEnd": last}, "features": [{"$type": f"{FACET}#link", "uri": uri}]}


def read(text: str, facets: Any, me: str) -> tuple[str, bool]:
    """Text and facets as Markdown, without the mention of `me` at its beginning; and whether `me` is mentioned."""
    raw = text.encode("utf-8", "replace")
    written, past, named = "", 0, False
    for span in spans(raw, facets):
        shown = raw[span.start : span.end].decode("utf-8", "replace")
        before = raw[past : span.start].decode("utf-8", "replace")
        past = span.end
        mine = span.feature.get("did") == me
        named = named or mine
        if mine and not (written + before).strip():
            written, before, shown = "", "", ""
            past += len(raw[past:]) - len(raw[past:].lstrip(b" ,:\n\t"))
        written += before + (linked(shown, span.feature["uri"]) if "uri" in span.feature else shown)
    return written + raw[past:].decode("utf-8", "replace"), named


def spans(raw: bytes, facets: Any) -> Iterator[Span]:
    """The links and mentions of a text in order; what overlaps, or cuts a character in two, is none."""
    past = 0
    for span in sorted(_found(facets), key=lambda one: one.start):
        if past <= span.start < span.end <= len(raw) and _whole(raw[span.start : span.end]):
            past = span.end
            yield span


def _found(facets: Any) -> Iterator[Span]:
    for one in facets if isinstance(facets, list) else ():
        try:
            start, end = one["index"]["byteStart"], one["index"]["byteEnd"]
            feature = next(f for f in one["features"] if isinstance(f.get("uri"), str) or isinstance(f.get("did"), str))
        except (KeyError, TypeError, AttributeError, StopIteration):
            continue
        if isinstance(start, int) and isinstance(end, int):
            yield Span(start, end, feature)


def _whole(part: bytes) -> bool:
    try:
        return bool(part.decode())
    except UnicodeDecodeError:
        return False


def linked(shown: str, uri: str) -> str:
    """A link as Markdown; one that shows its own address, whole, stays as it is."""
    if uri.removesuffix("/") in {shown, f"https://{shown}", f"http://{shown}"}:
        return uri
    return write_markdown((Paragraph((Link(uri, (Text(shown),)),)),))


def lines(parts: Sequence[str]) -> str:
    """What is not empty of several parts, one below the other."""
    return "\n\n".join(part for part in parts if part.strip())
