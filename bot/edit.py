"""Changes that a command makes to bot.toml: one table or key, with everything else left as a person wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roost.errors import ConfigError


def put(path: Path, table: str, values: Mapping[str, Any]) -> None:
    """Set keys in a table such as "brain" or "channels.telegram", which is made if need be.

    The file is replaced in one step, and is then its owner's alone. Raises ConfigError.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
        place: Any = document
        *outer, last = table.split(".")
        for name in outer:
            place = place.setdefault(name, tomlkit.table(is_super_table=True))
        if last not in place:
            place[last] = tomlkit.table()
        for name, value in values.items():
            place[last][name] = value
        text = tomlkit.dumps(document)
    except (OSError, UnicodeDecodeError, TOMLKitError, TypeError, AttributeError) as error:
        raise ConfigError(f"'{path}' cannot be changed: {error}.") from error
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
