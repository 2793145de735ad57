"""AT Protocol schemas, checked by the letter: https://atproto.com/specs/lexicon

Stricter than a server in one thing: a field that a schema does not name is refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from roost.graphemes import graphemes

Json = dict[str, Any]
SOURCE = Path(__file__).with_name("bluesky_lexicons.json")
DEFS: dict[str, Json] = json.loads(SOURCE.read_text(encoding="utf-8"))["defs"]

# https://atproto.com/specs/lexicon#string-formats
FORMATS = {
    "did": r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]",
    "handle": r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?",
    "nsid": r"[a-zA-Z][a-zA-Z0-9-]{0,62}(\.[a-zA-Z0-9-]{1,63})+\.[a-zA-Z][a-zA-Z0-9]{0,62}",
    "at-uri": r"at://did:[a-z]+:[a-zA-Z0-9._:%-]+(/[a-zA-Z0-9.-]+(/[a-zA-Z0-9._~:-]{1,512})?)?",
    "cid": r"b[a-z2-7]{58}",
    "record-key": r"(?!\.{1,2}$)[a-zA-Z0-9._~:-]{1,512}",
    "tid": r"[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}",
    "datetime": r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,20})?(Z|[+-][0-2]\d:[0-5]\d)",
    "language": r"(i|[a-z]{2,3})(-[a-zA-Z0-9]+)*",
    "uri": r"[a-zA-Z][a-zA-Z0-9+.-]{0,80}:\S+",
}
FORMATS["at-identifier"] = f"{FORMATS['did']}|{FORMATS['handle']}"


class Invalid(Exception):
    """What is wrong, and where."""


def check(schema: Json, value: Any, path: str = "input") -> None:
    """Raises Invalid."""
    kind = schema["type"]
    if kind == "ref":
        check(DEFS.get(schema["ref"], {"type": "unknown"}), value, path)
    elif kind == "union":
        _union(schema, value, path)
    elif kind in ("object", "params"):
        _object(schema, value, path)
    elif kind == "record":
        _object(schema["record"], value, path)
    elif kind == "array":
        _array(schema, value, path)
    elif kind == "string":
        _string(schema, value, path)
    elif kind == "integer":
        _integer(schema, value, path)
    elif kind == "boolean":
        expect(isinstance(value, bool), path, "must be a boolean")
    elif kind == "blob":
        _blob(schema, value, path)
    else:
        expect(kind == "unknown" and isinstance(value, dict), path, "must be an object")


def expect(right: bool, path: str, rule: str) -> None:
    if not right:
        raise Invalid(f"{path} {rule}")


def _union(schema: Json, value: Any, path: str) -> None:
    expect(isinstance(value, dict) and isinstance(value.get("$type"), str), path, "must be an object with a $type")
    name = value["$type"] if "#" in value["$type"] else value["$type"] + "#main"
    expect(name in schema["refs"], path, f"must be one of {schema['refs']}, not {name}")
    if name in DEFS:
        check(DEFS[name], value, path)


def _object(schema: Json, value: Any, path: str) -> None:
    expect(isinstance(value, dict), path, "must be an object")
    known = schema["properties"]
    for name in schema.get("required", ()):
        expect(name in value, path, f"must have the property {name!r}")
    for name, one in value.items():
        if name == "$type":
            continue
        expect(name in known, path, f"has the unknown property {name!r}")
        if one is None and name in schema.get("nullable", ()):
            continue
        check(known[name], one, f"{path}/{name}")


def _array(schema: Json, value: Any, path: str) -> None:
    expect(isinstance(value, list), path, "must be an array")
    expect(len(value) <= schema.get("maxLength", len(value)), path, "has too many elements")
    expect(len(value) >= schema.get("minLength", 0), path, "has too few elements")
    for number, one in enumerate(value):
        check(schema["items"], one, f"{path}/{number}")


def _string(schema: Json, value: Any, path: str) -> None:
    expect(isinstance(value, str), path, "must be a string")
    size = len(value.encode())
    expect(size <= schema.get("maxLength", size), path, f"must not be longer than {schema.get('maxLength')} bytes")
    expect(size >= schema.get("minLength", 0), path, "is too short")
    most = schema.get("maxGraphemes")
    expect(most is None or graphemes(value) <= most, path, f"must not be longer than {most} graphemes")
    expect(graphemes(value) >= schema.get("minGraphemes", 0), path, "has too few graphemes")
    form = schema.get("format")
    expect(form is None or bool(re.fullmatch(FORMATS[form], value)), path, f"must be a valid {form}, not {value!r}")


def _integer(schema: Json, value: Any, path: str) -> None:
    expect(isinstance(value, int) and not isinstance(value, bool), path, "must be an integer")
    expect(schema.get("minimum", value) <= value <= schema.get("maximum", value), path, "is out of range")


def _blob(schema: Json, value: Any, path: str) -> None:
    """https://atproto.com/specs/data-model#blob-type"""
    right = isinstance(value, dict) and value.get("$type") == "blob" and isinstance(value.get("ref"), dict)
    expect(right and isinstance(value["ref"].get("$link"), str), path, "must be a blob")
    expect(isinstance(value.get("size"), int) and isinstance(value.get("mimeType"), str), path, "must be a whole blob")
    accepted = [re.escape(one).replace(r"\*", ".*") for one in schema.get("accept", ["*/*"])]
    expect(any(re.fullmatch(one, value["mimeType"]) for one in accepted), path, f"must be of {schema.get('accept')}")
    most = schema.get("maxSize", value["size"])
    expect(value["size"] <= most, path, f"must have {most} bytes at most")
