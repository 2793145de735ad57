"""Whether the schema of a tool can be shown to a brain.

An engine makes a grammar of it, and one schema that it cannot read fails every answer for which the tool is offered.
Refused is what was seen to do so with llama.cpp's engine, besides what is no JSON Schema at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LONGEST = 8192  # characters
DEEPEST = 16  # levels
LEAST = 1000  # what a 'minLength' or 'minItems' may ask for at the most
BOUNDS = tuple((f"min{what}", f"max{what}") for what in ("Length", "Items", "Properties", "imum"))
HOLDERS = ("properties", "$defs", "definitions")

Node = Mapping[str, Any]


def unfit(schema: Node) -> str:
    """Why it cannot be shown, as the rest of a sentence; empty when it can."""
    return unreadable(schema) or wrong(schema)


def unreadable(schema: Node) -> str:
    """The same for what is known to be a JSON Schema."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text) > LONGEST:
        return f"its schema has {len(text)} characters, {LONGEST} are the most"
    if depth(schema) > DEEPEST:
        return f"its schema is more than {DEEPEST} levels deep"
    if "<|" in text:
        return "its schema has marks of a chat template in it"
    checks: tuple[Callable[[Node, Node], str], ...] = (reference, choices, bounds, booleans)
    found = (problem for node in nodes(schema) for check in checks if (problem := check(node, schema)))
    return next(found, "")


def depth(value: Any) -> int:
    """Levels of nesting."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((depth(one) for one in inside), default=0)


def nodes(value: Any) -> Iterator[Node]:
    """Every object in it, itself first."""
    if isinstance(value, dict):
        yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inside:
        yield from nodes(one)


def reference(node: Node, schema: Node) -> str:
    """A `$ref` has to lead to an object in the same schema, and not round in a circle."""
    seen: set[str] = set()
    target: Any = node
    while isinstance(target, dict) and isinstance(ref := target.get("$ref"), str):
        if ref in seen or not ref.startswith("#/"):
            return "its schema refers to itself or to another document"
        seen.add(ref)
        target = pointed(schema, ref)
    return "" if isinstance(target, Mapping) else "its schema refers to what is not there"


def pointed(schema: Any, ref: str) -> Any:
    """What a JSON pointer leads to (RFC 6901), None for nothing."""
    for step in ref[2:].split("/"):
        schema = schema.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(schema, dict) else None
    return schema


def choices(node: Node, _: Node) -> str:
    return "its schema has an empty 'enum'" if node.get("enum") == [] else ""


def bounds(node: Node, _: Node) -> str:
    for low, high in BOUNDS:
        least, most = node.get(low), node.get(high)
        if not isinstance(least, int | float):
            continue
        if isinstance(most, int | float) and least > most:
            return f"its schema has a '{low}' above its '{high}'"
        if low != "minimum" and least > LEAST:
            return f"its schema has a '{low}' above {LEAST}"
    return ""


def booleans(node: Node, _: Node) -> str:
    """`true` and `false` are schemas too, which engines do not know in these places."""
    held = [one for holder in HOLDERS if isinstance(node.get(holder), dict) for one in node[holder].values()]
    if isinstance(node.get("items"), bool) or any(isinstance(one, bool) for one in held):
        return "its schema has 'true' or 'false' in place of a schema"
    return ""


def wrong(schema: Node) -> str:
    from jsonschema import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]

    try:
        validator_for(schema).check_schema(schema)
    except (SchemaError, RecursionError, ValueError) as error:
        return f"its schema is no JSON Schema: {str(getattr(error, 'message', error))[:120]}"
    return ""
