"""The state of a dialogue: what a plugin keeps for one person in one place between two messages.

    message.state["step"] = "city"          any JSON under a name of your own
    message.state[Order] = Order("large")   a dataclass under its own type, read back as that
    message.state.get(Order)                None when there is none

Changes are written together with the end of the message, in one transaction: after a crash a message begins again
with the state it found. What fails changes nothing. A day after it was last written, a state is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")
Key = str | type[Any]

DAY = 86400.0
LARGEST = 64 * 1024  # bytes of JSON under one key


class State(MutableMapping[Key, Any]):
    """A mapping that remembers what was changed. `rows` has JSON by name."""

    def __init__(self, rows: Mapping[str, bytes] | None = None) -> None:
        self._rows = dict(rows or {})
        self._changes: dict[str, tuple[bytes, float] | None] = {}

    @overload
    def __getitem__(self, key: str) -> Any: ...
    @overload
    def __getitem__(self, key: type[T]) -> T: ...
    def __getitem__(self, key: Key) -> Any:
        row = self._rows[state_name(key)]
        try:
            return msgspec.json.decode(row, type=Any if isinstance(key, str) else key)
        except msgspec.ValidationError:  # the plugin's type has changed since
            raise KeyError(key) from None

    def __setitem__(self, key: Key, value: Any) -> None:
        self.put(key, value)

    def put(self, key: Key, value: Any, seconds: float = DAY) -> None:
        """Keep a value for so many seconds. Raises ValueError when it is more than 64 KB as JSON."""
        row = msgspec.json.encode(value)
        if len(row) > LARGEST:
            raise ValueError(f"The state '{state_name(key)}' has {len(row)} bytes; {LARGEST} are allowed.")
        self._rows[state_name(key)] = row
        self._changes[state_name(key)] = row, time.time() + seconds

    def __delitem__(self, key: Key) -> None:
        del self._rows[state_name(key)]
        self._changes[state_name(key)] = None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str | type) and state_name(key) in self._rows

    def changes(self) -> dict[str, tuple[bytes, float] | None]:
        """What is to be written: JSON and the end of its time by name, None for what is gone."""
        return dict(self._changes)


def state_name(key: Key) -> str:
    return key if isinstance(key, str) else f"{key.__module__}:{key.__qualname__}"
