"""The surface that plugins are written against, as lines: names, signatures, fields.

`python tests/surface.py` writes what is new into tests/surface.txt. A line that is there stays true for all of 1.x.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import roost
from roost import contracts, hookspecs, testing
from roost.bot import Bot
from roost.shelf import Shelf

FILE = Path(__file__).parent / "surface.txt"
BOT = ("name", "send", "history", "think", "shelf", "options", "role", "channel", "do", "home", "memory")
MESSAGE = ("ask", "state", "identity")
CONTRACTS = ("Limits", "Channel", "ChannelConfig", "Brain", "BrainConfig", "Memory", "Route", "Prompt", "Turn", "Tool")
TESTING = (
    *("Stage", "ScriptedBrain", "StageChannel", "Clock", "play"),
    *("texts", "messages", "people", "places", "attachments", "arguments", "check_read", "module_of"),
)


def lines() -> list[str]:
    """Every line, sorted."""
    found = [*_names("roost", roost, roost.__all__), *_names("roost.contracts", contracts, CONTRACTS)]
    found += _names("roost.testing", testing, TESTING)
    found += [f"hook {signature(name, hook)}" for name, hook in vars(hookspecs).items() if hasattr(hook, "roost_spec")]
    found += [f"bot.{signature(name, getattr(Bot, name, None))}" for name in BOT]
    found += [f"message.{signature(name, getattr(roost.Message, name))}" for name in MESSAGE]
    found += [f"shelf.{signature(name, one)}" for name, one in vars(Shelf).items() if not name.startswith("_")]
    return sorted(set(found))


def _names(where: str, module: Any, names: Any) -> Iterator[str]:
    for name in names:
        one = getattr(module, name)
        if is_dataclass(one):
            yield from (f"{where}.{name}.{field.name}: {field.type}" for field in fields(one) if field.name[0] != "_")
        if inspect.isclass(one):
            yield f"{where}.{name}"
            yield from _methods(f"{where}.{name}", one)
        else:
            yield f"{where}.{signature(name, one)}"


def _methods(where: str, cls: type[Any]) -> Iterator[str]:
    for name, one in vars(cls).items():
        if not name.startswith("_") and inspect.isfunction(one):
            yield f"{where}.{signature(name, one)}"


def signature(name: str, one: Any) -> str:
    if isinstance(one, property) or not callable(one):
        return name
    whole = inspect.signature(one)
    kept = [_plain(part) for part in whole.parameters.values() if not part.name.startswith("_")]
    returned = Written(whole.return_annotation) if isinstance(whole.return_annotation, str) else whole.return_annotation
    return name + re.sub(r"\s+", " ", str(whole.replace(parameters=kept, return_annotation=returned)))


class Written(str):
    """A hint as it stands in the source, shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _plain(part: inspect.Parameter) -> inspect.Parameter:
    hint = Written(part.annotation) if isinstance(part.annotation, str) else part.annotation
    return part.replace(annotation=hint, default=_default(part.default))


def _default(value: Any) -> Any:
    """As it stands in the source; an object without a spelling as dots."""
    if isinstance(value, type) and value is not inspect.Parameter.empty:
        return Written(value.__name__)
    return Written("...") if " object at 0x" in repr(value) else value


if __name__ == "__main__":
    kept = FILE.read_text().splitlines() if FILE.exists() else []
    FILE.write_text("\n".join(sorted({*kept, *lines()})) + "\n")
