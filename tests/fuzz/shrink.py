"""An update that does harm, made smaller as long as it does the same harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from fuzz.mutations import Shape, at, dump, paths

Harms = Callable[[bytes], bool]
TRIES = 3000


def shrunk(data: bytes, shape: Shape, harms: Harms, tries: int = TRIES) -> bytes:
    """The smallest that was found in so many tries. `harms` is asked about each."""
    ways: list[Callable[[bytes], Iterator[bytes]]] = [_cut] if shape != "json" else [_pruned, _cut]
    while tries > 0:
        before = data
        for way in ways:
            data, tries = _smaller(data, way, harms, tries)
        if data == before:
            break
    return data


def _smaller(data: bytes, way: Callable[[bytes], Iterator[bytes]], harms: Harms, tries: int) -> tuple[bytes, int]:
    """Begin again from whatever is smaller and does the same harm."""
    found: bytes | None = data
    while found is not None and tries > 0:
        data, found = found, None
        for one in way(data):
            tries -= 1
            if len(one) < len(data) and harms(one):
                found = one
                break
            if tries <= 0:
                break
    return data, tries


def _cut(data: bytes) -> Iterator[bytes]:
    size = len(data) // 2
    while size:
        for start in range(0, len(data), size):
            yield data[:start] + data[start + size :]
        size //= 2


def _pruned(data: bytes) -> Iterator[bytes]:
    """The same JSON with one part gone, or one part in the place of the whole or of what it is in."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return
    for path in [one for one in paths(tree) if one]:
        yield dump(_without(tree, path))
        if isinstance(at(tree, path), str) and at(tree, path):
            yield dump(_with(tree, path, at(tree, path)[: len(at(tree, path)) // 2]))


def _without(tree: Any, path: tuple[Any, ...]) -> Any:
    copy = deepcopy(tree)
    del at(copy, path[:-1])[path[-1]]
    return copy


def _with(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = deepcopy(tree)
    at(copy, path[:-1])[path[-1]] = value
    return copy
