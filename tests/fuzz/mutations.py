"""Updates damaged in ways that keep their structure: JSON stays JSON, XML stays XML, a line stays nearly a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

Shape = Literal["json", "xml", "bytes"]
Path = tuple[Any, ...]

LONG = 300
TEXTS = (
    *(
        "",
        " ",
        "\n",
        "\0",
        "\x1b[2J",
        "\ud800",
        "\u202e",
        "😀",
        "e" + "\u0301" * 40,
        "nan",
        "inf",
        "-1",
        "1e999",
        "9" * 5000,
    ),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "file:///etc/passwd",
        "http://169.254.169.254/",
        "http://[::1",
        "//",
        "%00%zz",
        "a:b/c",
    ),
    *("0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "2024-02-30T00:00:00Z", "true", "null", "[]", "{}"),
    *("<script>", "&#x110000;", "&#xD800;", "[a](javascript:b)", "<@", "<@U|", "<!date^1^{date}|", "`" * 50, "*_" * 50),
    *("> " * LONG, "[" * LONG, "<b>" * LONG, "(" * LONG, "- " * LONG, "@a " * LONG, "]( " * LONG, "\x02\x1d" * LONG),
)
NUMBERS = (0, -1, 255, -(2**31), 2**53 + 1, 2**63, 2**64, 10**400, 1e308, -0.5, float("nan"), float("inf"))
ODD: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": ""}, [None], *NUMBERS, *TEXTS)
TOKENS = (
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"\x80",
    b":",
    b";",
    b"=",
    b"@",
    b"--",
    b'"',
    b"<",
    b">",
    b"%",
    b"\x01",
    b"9" * 30,
)


def damage(data: bytes, shape: Shape, random: Random, others: tuple[bytes, ...] = ()) -> bytes:
    """The same update with one to five things wrong; `others` are updates whose parts may turn up in it."""
    if shape == "json":
        return _damaged_json(data, random, others)
    if shape == "xml":
        return _damaged_xml(data, random)
    for _ in range(random.randint(1, 5)):
        data = random.choice(BYTES)(data, random)
    return data


# JSON


def dump(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _damaged_json(data: bytes, random: Random, others: tuple[bytes, ...]) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _replaced(data, random)
    try:
        for _ in range(random.randint(1, 5)):
            tree = _wronged(tree, random, others)
        return dump(tree)
    except RecursionError:
        return _replaced(data, random)


def paths(tree: Any, here: Path = ()) -> Iterator[Path]:
    """Where something is in a tree, the tree itself first."""
    yield here
    if isinstance(tree, dict | list):
        for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from paths(part, (*here, name))


def at(tree: Any, path: Path) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def put(tree: Any, path: Path, value: Any) -> Any:
    """The tree with something else in one place."""
    if not path:
        return value
    at(tree, path[:-1])[path[-1]] = value
    return tree


def _wronged(tree: Any, random: Random, others: tuple[bytes, ...]) -> Any:
    known = list(paths(tree))
    path = random.choice(known)
    kind = random.choice(("odd", "odd", "odd", "gone", "copied", "deep", "twice", "word", "foreign"))
    if kind == "odd":
        return put(tree, path, deepcopy(random.choice(ODD)))
    if kind == "gone" and path:
        del at(tree, path[:-1])[path[-1]]
        return tree
    if kind == "copied":
        return put(tree, path, json.loads(dump(at(tree, random.choice(known)))))
    if kind == "deep":
        value = at(tree, path)
        for _ in range(random.choice((1, 2, 40))):
            value = [value] if random.random() < 0.5 else {"text": value}
        return put(tree, path, value)
    if kind == "twice" and isinstance(at(tree, path), list):
        return put(tree, path, [deepcopy(one) for one in at(tree, path) * random.choice((2, 30))])
    if kind == "foreign" and others:
        other = json.loads(random.choice(others))
        return put(tree, path, at(other, random.choice(list(paths(other)))))
    value = at(tree, path)
    return (
        put(tree, path, _worded(value, random))
        if isinstance(value, str)
        else put(tree, path, deepcopy(random.choice(ODD)))
    )


def _worded(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    return text[:place] + random.choice(TEXTS) + text[random.randint(place, len(text)) :]


# XML


def _damaged_xml(data: bytes, random: Random) -> bytes:
    try:
        root = fromstring(data)
    except ParseError:
        return data
    for _ in range(random.randint(1, 5)):
        _wrong_element(root, random)
    return tostring(root)


def _wrong_element(root: Element, random: Random) -> None:
    known = list(root.iter())
    one, kind = random.choice(known), random.choice(("text", "attribute", "gone", "twice", "into", "less"))
    if kind == "text":
        one.text = _legal(_worded(one.text or "", random))
    elif kind == "attribute":
        name = random.choice([*one.keys(), "id", "from", "type", "stamp", "start", "for", "uri"])
        one.set(name, _legal(random.choice((_worded(one.get(name, ""), random), random.choice(TEXTS)))))
    elif kind == "less" and one.keys():
        del one.attrib[random.choice(list(one.keys()))]
    elif kind == "gone" and len(one):
        one.remove(random.choice(list(one)))
    elif len(one):
        copy = deepcopy(random.choice(list(one)))
        (one if kind == "twice" else random.choice(known)).append(copy)


def _legal(text: str) -> str:
    """Without what XML 1.0 cannot carry, so that the parser lets it through."""
    return "".join(char for char in text if char in "\t\n" or (char >= " " and not "\ud800" <= char <= "\udfff"))


# Bytes


def _replaced(data: bytes, random: Random) -> bytes:
    start = random.randint(0, len(data))
    fresh = bytes(random.randint(0, 255) for _ in range(random.randint(1, 4)))
    return data[:start] + fresh + data[start + len(fresh) :]


def _inserted(data: bytes, random: Random) -> bytes:
    start = random.randint(0, len(data))
    token = random.choice((random.choice(TOKENS), random.choice(TEXTS).encode("utf-8", "replace")))
    return data[:start] + token + data[start:]


def _removed(data: bytes, random: Random) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + data[start + random.choice((1, 2, 16, 200)) :]


def _repeated(data: bytes, random: Random) -> bytes:
    start = random.randint(0, len(data))
    end = start + random.choice((1, 8, 60))
    return data[:start] + data[start:end] * random.choice((2, 50)) + data[end:]


def _moved(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    random.shuffle(lines)
    return b"\n".join(lines)


BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_replaced, _replaced, _inserted, _inserted, _removed, _repeated, _moved),
)
