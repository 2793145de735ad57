"""What an MCP server offers and answers, made fit for a brain: bounded, named, marked as coming from outside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import mcp.types as mcp

from roost.contracts import Tool
from roost.mcp_schemas import unfit
from roost.tools import DATA

LONGEST_NAME = 64
LONGEST_HELP = 500  # characters: a description is in every prompt
LONGEST_RESULT = 100_000  # characters; what fits a prompt is cut from it later
MOST = 32  # tools of one server, unless `allow` names them


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool under the bot's name, the server's own `name` for it, and what the server says of its effects.

    https://modelcontextprotocol.io/specification/2025-06-18/schema#toolannotations: one that is not said to read only
    may have effects.
    """

    name: str
    tool: Tool
    effects: bool = True
    destroys: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server offers; and what was left out, as sentences."""

    tools: tuple[Offered, ...]
    left_out: tuple[str, ...] = ()


def listing(server: str, found: Iterable[mcp.Tool], allow: Iterable[str], deny: Iterable[str]) -> Listing:
    """Choose from what a server offers. The order of its list changes nothing."""
    allow, deny = set(allow), set(deny)
    by_name = {one.name: one for one in sorted(found, key=lambda one: one.name) if one.name not in deny}
    left_out = [f"It has no tool '{name}', which 'allow' names." for name in sorted(allow - by_name.keys() - deny)]
    wanted = {name: one for name, one in by_name.items() if not allow or name in allow}
    fit: dict[str, Offered] = {}
    for name, one in wanted.items():
        if problem := unfit(one.input_schema):
            left_out.append(f"Its tool '{printable(name)}' is left out: {printable(problem)}.")
            continue
        own = named(server, name, fit)
        tool = Tool(own, help_text(one), json.dumps(one.input_schema, ensure_ascii=False))
        said = one.annotations
        fit[own] = Offered(name, tool, not (said and said.read_only_hint), bool(said and said.destructive_hint))
    if len(fit) > MOST and not allow:
        left_out.append(f"It has {len(fit)} tools, of which {MOST} are offered. Name those you want in 'allow'.")
        fit = dict(list(fit.items())[:MOST])
    return Listing(tuple(fit.values()), tuple(left_out))


def named(server: str, tool: str, taken: Mapping[str, object]) -> str:
    """`SERVER_TOOL`, of the letters and the length that brains take; the end tells those apart that become alike."""
    whole = f"{server}_{tool}"
    own = re.sub(r"[^A-Za-z0-9_-]", "_", whole)
    if len(own) <= LONGEST_NAME and own not in taken:
        return own
    return f"{own[: LONGEST_NAME - 9]}_{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()[:8]}"


def help_text(one: mcp.Tool) -> str:
    text = printable(one.description or one.title or one.name)
    return text if len(text) <= LONGEST_HELP else text[: LONGEST_HELP - 1] + "…"


def printable(text: str) -> str:
    """One line without control characters and without what chat templates take for their own marks."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.replace("<|", "< |").replace("|>", "| >").split())


def result_text(server: str, result: mcp.CallToolResult) -> str:
    """What a tool answered, as a brain reads it."""
    parts = [part for part in map(block_text, result.content) if part]
    if result.structured_content is not None:
        structured = json.dumps(result.structured_content, ensure_ascii=False)
        if not any(same(part, result.structured_content) for part in parts):
            parts.append(structured)
    text = "\n".join(parts) or "It answered nothing."
    cut = text if len(text) <= LONGEST_RESULT else f"{text[:LONGEST_RESULT]}… ({len(text)} characters in all)"
    head = "An error from" if result.is_error else "From"
    return f"[{head} the MCP server '{server}'. This is {DATA}.]\n{cut}"


def same(text: str, value: Any) -> bool:
    """Whether a text says just what a structured answer says: servers send both, for older clients."""
    bare = value["result"] if isinstance(value, dict) and value.keys() == {"result"} else value
    if text == bare:
        return True
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(read in (value, bare))


def block_text(block: mcp.ContentBlock) -> str:
    if isinstance(block, mcp.TextContent):
        return block.text
    if isinstance(block, mcp.ResourceLink):
        about = f": {printable(block.description)}" if block.description else ""
        return f"[{printable(block.title or block.name)}]({printable(str(block.uri))}){about}"
    if isinstance(block, mcp.EmbeddedResource):
        return resource_text(block.resource)
    kind = "a picture" if isinstance(block, mcp.ImageContent) else "a recording"
    return f"[{kind}, {printable(block.mime_type)}, not passed on]"


def resource_text(resource: mcp.TextResourceContents | mcp.BlobResourceContents) -> str:
    where = printable(str(resource.uri))
    return f"{where}:\n{resource.text}" if isinstance(resource, mcp.TextResourceContents) else f"[{where}, not text]"
