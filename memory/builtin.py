"""The memories that come with Roost, registered like any third party's."""

from __future__ import annotations

from collections.abc import Callable

from roost.contracts import Memory
from roost.hookspecs import hookimpl


@hookimpl
def register_memories(register: Callable[[str, type[Memory] | str], None]) -> None:
    register("window", "roost.memory.window:Window")
