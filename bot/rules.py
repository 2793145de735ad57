"""What `[access]` says of one place: the table itself, with what its channel and the place have of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from roost.settings import AccessRules, AccessTable
from roost.values import Place

PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*:.+", re.S)
HANDLE = re.compile(r"@[^:@]*")  # not `@ann:example.org`, which is for life where it is used


def rules_at(table: AccessTable, place: Place) -> AccessTable:
    """The table that holds in a place. The nearest says what is done; people who are let in anywhere above stay so."""
    for layer in _layers(table, place):
        own = {one.name: getattr(layer, one.name) for one in fields(AccessRules)}
        said: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        table = replace(table, **{**said, "people": [*table.people, *layer.people]})
    return table


def _layers(table: AccessTable, place: Place) -> Iterator[AccessRules]:
    if (found := table.channels.get(place.channel)) is not None:
        yield found
    for wanted in dict.fromkeys((Place(place.channel, place.chat), place)):
        yield from (found for name, found in table.places.items() if Place.parse(name) == wanted)


def doubts(table: AccessTable) -> Iterator[str]:
    """A sentence for each person let in by what looks like a name, which somebody else may bear tomorrow."""
    lists = {"access": table.people}
    lists |= {f"access.channels.{name}": one.people for name, one in table.channels.items()}
    lists |= {f'access.places."{name}"': one.people for name, one in table.places.items()}
    for where, people in lists.items():
        for one in people:
            if looks_like_a_name(one):
                yield (
                    f"bot.toml: [{where}] people: '{one}' looks like a name, and names can be changed: whoever bears "
                    "it is let in, or nobody is. Write the stable id, which /whoami tells, such as 'telegram:42'."
                )


def looks_like_a_name(entry: str) -> bool:
    """Whether an entry is no `channel:id`, or one whose id is a @handle or a name of several words."""
    if not PERSON.fullmatch(entry):
        return True
    id = entry.partition(":")[2]
    return HANDLE.fullmatch(id) is not None or re.search(r"\s", id) is not None
