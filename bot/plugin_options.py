"""The options of a plugin: a class whose fields are the keys of its table in bot.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

from roost.keys import key

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(key, field))
def options(cls: type[T], /) -> type[T]:
    """Let `[plugins.NAME]` in bot.toml fill a class: its fields are the keys, what they are set to the defaults.

        @options
        class Options:
            city: str = "Amsterdam"
            token: str = key("", help="The key of your account.", secret=True)

    `bot.options(Options)` is the table as it is now. A plugin has one such class.
    """
    made = dataclass(frozen=True, kw_only=True)(cls)
    made.__roost_options__ = True  # type: ignore[attr-defined]
    return made
