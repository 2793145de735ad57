"""JSON made shorter: long lists and texts lose what matters least, and say how much; it stays JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from roost.excerpts import LEFT, ROOMY, Excerpt, Weigh, note

MARK = 20  # characters that a mark within takes
SMALL = 40  # characters under which nothing is taken apart
MEANT = 1000  # characters of an entry that are weighed
A_FOURTH = 4  # one entry of a list takes no more of it, while there are others


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Tree:
    """JSON to be shortened."""

    def __init__(self, value: Any, weigh: Weigh) -> None:
        """Raises RecursionError when it is too deep."""
        self._value = value
        self._weigh = weigh
        self._sizes: dict[int, int] = {}
        self._weights: dict[int, Sequence[float]] = {}
        self._excerpts: dict[int, Excerpt] = {}
        self._length = self._measure(value)

    def write(self, size: int) -> str:
        """In about `size` characters."""
        if self._length <= size:
            return dump(self._value)
        short = self._short(self._value, size - len(note(self._length, self._length, size)) - MARK)
        said = note(self._length - len(dump(short)), self._length, size).strip("[]")
        if isinstance(short, dict):
            return dump({**short, _free(short): said})
        return dump([*short, said] if isinstance(short, list) else [short, said])

    def _measure(self, value: Any) -> int:
        """Characters that it takes, noted for everything that holds others."""
        if isinstance(value, dict):
            size = 1 + sum(len(dump(name)) + 2 + self._measure(one) for name, one in value.items())
        elif isinstance(value, list):
            size = 1 + sum(1 + self._measure(one) for one in value)
        else:
            return len(dump(value))
        self._sizes[id(value)] = size
        return size

    def _size(self, value: Any) -> int:
        known = self._sizes.get(id(value)) if isinstance(value, dict | list) else None
        return len(dump(value)) if known is None else known

    def _weighed(self, holder: Any, texts: Callable[[], list[str]]) -> Sequence[float]:
        if id(holder) not in self._weights:
            self._weights[id(holder)] = self._weigh(texts())
        return self._weights[id(holder)]

    def _short(self, value: Any, room: int) -> Any:
        if self._size(value) <= room:
            return value
        if isinstance(value, str):
            return self._text(value, room)
        if isinstance(value, dict):
            return self._object(value, room) if room > SMALL else f"{{{LEFT} {len(value)} keys}}"
        if isinstance(value, list):
            return self._list(value, room) if room > SMALL else f"[{LEFT} {len(value)} entries]"
        return value if self._size(value) <= SMALL else f"{str(value)[:MARK]}{LEFT}"

    def _text(self, text: str, room: int) -> str:
        """Marks that JSON escapes make it longer than it looks."""
        keep = int(max(8, room - 2 * MARK) * len(text) / self._size(text))
        if keep > ROOMY:
            if id(text) not in self._excerpts:
                self._excerpts[id(text)] = Excerpt(text, self._weigh)
            return self._excerpts[id(text)].write(keep)
        end = keep // 3 if keep > SMALL else 0
        return f"{text[: keep - end]}{LEFT} {len(text) - keep} characters {LEFT}{text[len(text) - end :]}"

    def _list(self, items: list[Any], room: int) -> list[Any]:
        """The first, those that matter, the last, and then from the beginning, as many as there is room for."""
        weights = self._weighed(items, lambda: [dump(one)[:MEANT] for one in items])
        best = sorted((one for one in range(len(items)) if weights[one] > 0), key=lambda one: -weights[one])
        most = room // A_FOURTH if room > ROOMY else room
        order = dict.fromkeys(chain(best[:1], [0], best, [len(items) - 1], range(len(items))))
        sizes, room = self._chosen(order, {one: min(most, self._size(items[one])) for one in order}, room)
        longer = [one for one in sizes if sizes[one] < self._size(items[one])]
        kept: list[Any] = []
        before = -1
        for one in [*sorted(sizes), len(items)]:
            if one - before > 1:
                kept.append(f"{LEFT} {one - before - 1} left out")
            if one < len(items):
                kept.append(self._short(items[one], sizes[one] + (room // len(longer) if one in longer else 0)))
            before = one
        return kept

    def _object(self, items: Mapping[str, Any], room: int) -> dict[str, Any]:
        """Every key where there is room for that, the long values shortened alike; else those that matter most."""
        keys = {name: len(dump(name)) + 3 for name in items}
        least = {name: keys[name] + min(SMALL, self._size(one)) for name, one in items.items()}
        if sum(least.values()) > room:
            texts = [f"{name} {dump(one)[:MEANT]}" for name, one in items.items()]
            weights = dict(zip(items, self._weighed(items, lambda: texts), strict=True))
            sizes, room = self._chosen(dict.fromkeys(sorted(items, key=lambda name: -weights[name])), least, room)
            items = {name: one for name, one in items.items() if name in sizes}
            left = len(weights) - len(items)
            return {**self._even(items, keys, room + sum(sizes.values())), _free(items): f"{left} keys left out"}
        return self._even(items, keys, room)

    def _even(self, items: Mapping[str, Any], keys: Mapping[str, int], room: int) -> dict[str, Any]:
        """Every value in the same room, what the short ones do not need going to the long ones."""
        room -= sum(keys[name] for name in items)
        short: dict[str, Any] = {}
        left = len(items)
        for name in sorted(items, key=lambda name: self._size(items[name])):
            short[name] = self._short(items[name], room // left)
            room -= min(room, self._size(short[name]))
            left -= 1
        return {name: short[name] for name in items}

    def _chosen(self, order: Mapping[Any, None], sizes: Mapping[Any, int], room: int) -> tuple[dict[Any, int], int]:
        """Those that fit, in their order, with their sizes; and the room that is left."""
        chosen: dict[Any, int] = {}
        room -= MARK
        for one in order:
            if sizes[one] + MARK > room and chosen:
                if room < SMALL:
                    break
                continue
            chosen[one] = sizes[one]
            room -= sizes[one] + MARK
        return chosen, max(0, room)


def _free(items: Mapping[str, Any]) -> str:
    name = LEFT
    while name in items:
        name += LEFT
    return name
