"""What a platform sends, recorded and damaged, and whether what a channel makes of it can be kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

import msgspec

from roost.rows import bare, encode, identity, kind_of, read_item, readable
from roost.values import Event, Message, Place

Item = Message | Event
Update = Any
"""What a channel's `read` takes: JSON that was read, or a text or bytes."""

HARD = (
    *("", " ", "\n", "\0", "\x1b[2J", "\u202e", "\u200b", "e" + "\u0301" * 40, "ﬃ", "İ", "ß", "नमस्ते", "مرحبا", "ไทย"),
    *(
        "😀",
        "👩‍👩‍👧‍👦",
        "🇳🇱",
        "👍🏽",
        "今天天气很好。",
        "𝕬",
        "\ufeff",
        "\r\n",
        "\u2028",
        "x" * 5000,
        "nan",
        "-1",
        "9" * 400,
    ),
    *("/", "//", "/help", "@", "#", "<b>", "&amp;", "[a](javascript:b)", "```", "`" * 9, "*_" * 50, "> " * 99, "|| ||"),
    *("../../etc/passwd", "http://[::1", "%00%zz", "0001-01-01T00:00:00", "{}", '"', "'", "\\", "$(x)", "${x}", "{x}"),
)
"""Texts that are hard on whoever reads or writes them; all valid Unicode."""

NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**64, 10**400, 1e308, -0.5, float("nan"), float("inf"))
ODD: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": ""}, "\ud800", *NUMBERS, *HARD)
SHOWN = 500  # characters of an update in a message


def check_read(
    read: Callable[[Any], Any], *updates: Update, raises: tuple[type[Exception], ...] = (ValueError,), times: int = 200
) -> list[Item]:
    """Whether a channel reads recorded updates, and reads or refuses damaged ones; gives what was recorded.

        def test_whatever_comes_in_is_read_or_refused():
            check_read(read, {"id": "1", "from": "ann", "text": "hello"})

    `read` gives a Message, an Event, several of them, or None. It may raise what `raises` names and nothing else; what
    it gives has to come back from the journal as it was. Each update is damaged `times` times, always in the same ways.
    Raises AssertionError with the update.
    """
    found = [item for update in updates for item in _read(read, deepcopy(update), (), "as it was recorded")]
    assert found, "None of these updates is read: all of them give nothing."
    for number, update in enumerate(updates):
        for time in range(times):
            damaged = damage(update, Random(f"{number} {time}"))
            _read(read, damaged, raises, f"damaged, number {time}")
    return found


def _read(read: Callable[[Any], Any], update: Update, raises: tuple[type[Exception], ...], how: str) -> list[Item]:
    shown = repr(update)[:SHOWN]  # before it is read: that may change it
    try:
        made = read(update)
        items = list(made) if isinstance(made, Iterable) else [made]
    except raises:
        return []
    except Exception as error:
        raise AssertionError(f"An update, {how}, raises {type(error).__name__} ({error}): {shown}") from error
    for item in items:
        if item is not None:
            try:
                check_kept(item)
            except AssertionError as error:
                raise AssertionError(f"{error} Of an update, {how}: {shown}") from error
    return [item for item in items if item is not None]


def check_kept(item: Item) -> None:
    """Whether the journal keeps what a channel has read and gives it back the same. Raises AssertionError.

    What the journal says at once that it cannot keep is passed over, as the bot does.
    """
    assert isinstance(item, Message | Event), f"It is neither a Message nor an Event: {item!r:.200}."
    try:
        item = readable(item)
    except (TypeError, ValueError, OverflowError):
        return
    again = read_item(kind_of(item), encode(item))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(bare(item)), f"Another comes back: {item!r:.200}."
    assert (again.place, identity(again)) == (item.place, identity(item)), f"It changes its identity: {item!r:.200}."
    assert Place.parse(str(item.place)) == item.place, f"Its place cannot be read again: '{item.place}'."
    for one in item.attachments if isinstance(item, Message) else ():
        leads = re.search(r"[/\\\0\r\n]", one.name) or one.name in (".", "..")
        assert not leads, f"The name of a file leads somewhere: {one.name!r}."


# Damage


def damage(update: Update, random: Random) -> Update:
    """A copy of an update with one to four things wrong. JSON stays JSON, text stays text."""
    update = deepcopy(update)
    for _ in range(random.randint(1, 4)):
        if isinstance(update, bytes):
            update = _wrong_text(update.decode("latin-1"), random).encode("utf-8", "replace")
        elif isinstance(update, str):
            update = _wrong_text(update, random)
        else:
            update = _wrong_tree(update, random)
    return update


def _wrong_text(text: str, random: Random) -> str:
    """Something put in, left out or said twice."""
    start = random.randint(0, len(text))
    end = min(len(text), start + random.choice((0, 0, 1, 8, 60)))
    put = random.choice(
        (random.choice(HARD), chr(random.randint(0, 255)), text[start:end] * random.choice((2, 30)), "")
    )
    return text[:start] + put + text[end:]


def _wrong_tree(tree: Any, random: Random) -> Any:
    """One value odd, gone, wrapped, repeated, a little wrong, or of another place."""
    known = list(_paths(tree))
    path = random.choice(known)
    value = _at(tree, path)
    kind = random.choice(("odd", "odd", "odd", "gone", "wrapped", "repeated", "wrong", "other"))
    if kind == "gone" and path:
        del _at(tree, path[:-1])[path[-1]]
        return tree
    if kind == "wrapped":
        value = [value] if random.random() < 0.5 else {"text": value}
    elif kind == "repeated" and isinstance(value, list):
        value = [deepcopy(one) for one in value * random.choice((2, 30))]
    elif kind == "wrong" and isinstance(value, str):
        value = _wrong_text(value, random)
    elif kind == "other":
        value = deepcopy(_at(tree, random.choice(known)))
    else:
        value = deepcopy(random.choice(ODD))
    if not path:
        return value
    _at(tree, path[:-1])[path[-1]] = value
    return tree


def _paths(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is in a tree, the tree itself first."""
    yield here
    if isinstance(tree, dict | list):
        for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _paths(part, (*here, name))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree
