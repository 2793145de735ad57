"""Whether an id is proof of who bears it, as far as channels know.

A channel's class says it by two things, either of which it may leave out:

- `unproven(id, config)`, a static method: why this id has not been proven, where the platform could prove one; or "".
  Nothing above a guest is made of such an id in a chat or by a command, and never without an explicit word.
- `forgeable`: why anybody can write in the name of any id there. It is told to the owner, who decides.

Both are the end of a sentence that begins with "that id is no proof:".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def unproven(channels: Mapping[str, Any], person: str) -> str:
    """Why a `channel:id` may be anybody's; empty where its platform vouches for it, or where there is no such channel.

    `channels` are those of the configuration, by name.
    """
    name, _, id = person.partition(":")
    entry = channels.get(name)
    ask = getattr(entry.cls, "unproven", None) if entry is not None else None
    return str(ask(id, entry.config)) if entry is not None and ask is not None else ""


def forgeable(channels: Mapping[str, Any], person: str) -> str:
    """Why others can write in the name of a `channel:id`, proven or not; empty where they cannot."""
    entry = channels.get(person.partition(":")[0])
    return str(getattr(entry.cls, "forgeable", "")) if entry is not None else ""
