"""Keys of bot.toml: a dataclass is a table, a field made with `key` is a key in it."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any


def key(
    default: Any = MISSING,
    *,
    help: str,
    secret: bool = False,
    factory: Any = MISSING,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare one key: a dataclass field that carries its explanation.

    `help` is one sentence for a person. A `secret` value is never logged or shown. Give `factory` instead of
    `default` for lists and tables. `least` and `most` bound a number, or the length of a text.
    """
    metadata = {"help": help, "secret": secret, "least": least, "most": most}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)
