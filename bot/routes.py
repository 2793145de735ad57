"""Routes: which brain, persona and tools a message gets, by where it comes from and who sent it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from roost.keys import key
from roost.private import sensitivity
from roost.values import Message


@dataclass(frozen=True, slots=True)
class Route:
    """One table `[[routes]]`. A key that is absent matches everything, or changes nothing."""

    channel: str = key("", help="The channel's name in bot.toml.")
    place: str = key("", help="One place, such as 'telegram:42'; its threads too.")
    kind: Literal["", "direct", "group", "broadcast"] = key("", help="The kind of place.")
    person: str = key("", help="One person, such as 'telegram:42'.")
    role: Literal["", "owner", "admin", "person", "guest", "stranger"] = key("", help="The role of who wrote.")
    private: float | None = key(
        None, help="How private a message is at least, from 0 to 1: 0.7 for keys, cards, ids.", least=0, most=1
    )
    brain: str = key("", help="The brain that answers, by its name in [brains.NAME]; that of [brain] when empty.")
    persona: str = key("", help="The first words of the prompt; those of [bot] when empty.")
    tools: list[str] | None = key(None, help="The only tools that may be called; all when absent, none when [].")


def choose(routes: Iterable[Route], message: Message, role: str) -> Route:
    """The first route that a message fits; one that changes nothing when it fits none."""
    return next((route for route in routes if fits(route, message, role)), Route())


def fits(route: Route, message: Message, role: str) -> bool:
    place = message.place
    facts = {"channel": place.channel, "kind": place.kind, "person": str(message.sender), "role": role}
    if any(getattr(route, name) not in ("", value) for name, value in facts.items()):
        return False
    if route.place and str(place) != route.place and not str(place).startswith(f"{route.place}/"):
        return False
    return route.private is None or sensitivity(message.text) >= route.private
