"""Small things that a channel keeps between two runs: a cursor, a secret, the values behind buttons."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save(path: Path, text: str) -> None:
    """Write a file for its owner's eyes, whole or not at all, and on the disk when this returns."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Kept:
    """A JSON object in a file. One that is missing or damaged counts as empty: what is kept here can be done without.

    Writing waits for the disk, a few milliseconds at most: keep what changes seldom, or once for many messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        return self._load().get(name, default)

    def put(self, name: str, value: Any) -> None:
        """Keep a value, or do nothing when it is kept already."""
        if self._load().get(name) != value:
            self.replace({**self._load(), name: value})

    def drop(self, name: str) -> None:
        """Keep a value no longer. It may still be there after a crash: the file is written with the next change."""
        self._load().pop(name, None)

    def replace(self, values: Mapping[str, Any]) -> None:
        """Keep these values and no others."""
        self._values = dict(values)
        save(self._path, json.dumps(self._values))

    def all(self) -> Mapping[str, Any]:
        return self._load()

    def _load(self) -> dict[str, Any]:
        if self._values is None:
            try:
                self._values = dict(json.loads(self._path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                self._values = {}
        return self._values
