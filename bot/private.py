"""What in a message is private: which pieces, of which kind, and how much the whole would tell a stranger.

Rules only: no model, no network, about a millisecond a message. Names and addresses can never all be found, so what
must not leave at all belongs to a brain at home.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.private_chinese import chinese_addresses, chinese_names
from roost.private_keys import keys_and_passwords
from roost.private_names import names
from roost.private_places import addresses
from roost.private_rules import Item, by_form
from roost.private_topics import topic

__all__ = ["KINDS", "THRESHOLD", "Item", "find", "sensitivity"]

# Where two lie over one another the kind that comes first here wins, then the longer.
KINDS = ("url", "key", "password", "email", "iban", "id", "card", "birth", "ip", "account", "phone", "address", "name")
THRESHOLD = 0.7  # a message as private as this is for a brain at home
RANKS = {kind: rank for rank, kind in enumerate(KINDS)}
NUMBERS = frozenset(
    ("iban", "id", "card", "account", "phone")
)  # among these the longest wins: a part of a card may pass as an id


def find(text: str) -> list[Item]:
    """The private pieces of a text in their order, none over another."""
    found = [*by_form(text), *keys_and_passwords(text), *addresses(text), *names(text)]
    if not text.isascii():
        found += [*chinese_names(text), *chinese_addresses(text)]
    return apart(found)


def apart(found: Iterable[Item]) -> list[Item]:
    """Items without those that lie over a better one."""
    best = sorted(found, key=order)
    taken = bytearray(max((item.end for item in best), default=0))
    kept: list[Item] = []
    for item in best:
        if not any(taken[item.start : item.end]):
            taken[item.start : item.end] = b"\1" * (item.end - item.start)
            kept.append(item)
    return sorted(kept, key=lambda item: item.start)


def order(item: Item) -> tuple[int, int, int, int]:
    rank = RANKS[item.kind]
    return (RANKS["iban"] if item.kind in NUMBERS else rank, item.start - item.end, rank, item.start)


def sensitivity(text: str) -> float:
    """How private a whole message is, 0 to 1: its most private piece, or what it is about; more for several pieces."""
    found = find(text)
    highest = max([topic(text), *(item.sensitivity for item in found)])
    kinds = {item.kind for item in found}
    return min(1.0, highest + 0.1 * max(0, len(kinds) - 2))
