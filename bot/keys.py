"""Keys of bot.toml: a dataclass is a table, a field made with `key` is a key in it."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any


def key(
    default: Any = MISSING,
    *,
    help: str,
    secret: bool = False,
    ask: bool = False,
    factory: Any = MISSING,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare one key: a dataclass field that carries its explanation.

    `help` is one sentence for a person. A `secret` value is never logged or shown. With `ask`, `roost channels add`
    asks for it although it has a default. Give `factory` instead of
    `default` for lists and tables. `least` and `most` bound a number, or the length of a text, list or table.
    """
    metadata = {"help": help, "secret": secret, "ask": ask, "least": least, "most": most}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata, repr=not secret)
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)
