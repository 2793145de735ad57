"""The memories that come with Roost, registered like any third party's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from roost.contracts import Memory
from roost.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_memories(register: Callable[[str, type[Memory] | str], None]) -> None:
    register("window", "roost.memory.window:Window")


@hookimpl
def register_cli(cli: click.Group) -> None:
    from roost.memory.commandline import memory

    cli.add_command(memory)
