"""TinyDB tables that tell their storage what changed instead of handing it everything.

TinyDB names `TinyDB.table_class` as the way to bring one's own table. The two methods overridden here have
their names since TinyDB 4.0; with a storage that has no `apply` they do what TinyDB's own do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from tinydb.table import Table

from roost.memory.lines import Rows, decode, encode


class Documents(Mapping[str, Any]):
    """A table as TinyDB reads it: ids are strings, documents are decoded afresh each time."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, key: str) -> Any:
        try:
            return decode(self.rows[int(key)])
        except ValueError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return map(str, self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Draft(MutableMapping[int, Any]):
    """A table while TinyDB changes it. The rows below stay as they are; `changes` tells what became of them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._touched: dict[int, Any] = {}

    def __getitem__(self, key: int) -> Any:
        if key not in self._touched:
            self._touched[key] = decode(self._rows[key])
        if self._touched[key] is None:
            raise KeyError(key)
        return self._touched[key]

    def __setitem__(self, key: int, document: Any) -> None:
        self._touched[key] = document

    def __delitem__(self, key: int) -> None:
        if key not in self:
            raise KeyError(key)
        self._touched[key] = None

    def __contains__(self, key: object) -> bool:
        return self._touched[key] is not None if key in self._touched else key in self._rows

    def __iter__(self) -> Iterator[int]:
        yield from (key for key in self._rows if key in self)
        yield from (key for key in self._touched if key not in self._rows and key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        self._touched = dict.fromkeys(self._rows)

    def changes(self) -> dict[int, bytes | None]:
        """Rows that are new, other than before, or gone (None). Raises TypeError for what is not JSON."""
        now = {key: None if doc is None else encode(doc) for key, doc in self._touched.items()}
        return {key: row for key, row in now.items() if row != self._rows.get(key)}


class JournalTable(Table):
    """A TinyDB table whose writes cost what they change. Ids are integers."""

    _next_id: int | None  # type: ignore[assignment]

    def put(self, documents: Mapping[int, Mapping[str, Any]]) -> None:
        """Insert or replace whole documents under the ids given, in one write."""
        self._update_table(lambda table: table.update({key: dict(doc) for key, doc in documents.items()}))
        if self._next_id is not None:
            self._next_id = max(self._next_id, *(key + 1 for key in documents))

    def _read_table(self) -> Any:
        if not self._journaled:
            return super()._read_table()
        return Documents(self._rows)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        if not self._journaled:
            super()._update_table(updater)
            return
        draft = Draft(self._rows)
        updater(draft)
        self._storage.apply({self.name: draft.changes()})  # type: ignore[attr-defined]
        self.clear_cache()

    @property
    def _journaled(self) -> bool:
        # Asked of the class: a caching middleware passes attributes through, and must not be bypassed.
        return hasattr(type(self._storage), "apply")

    @property
    def _rows(self) -> Rows:
        rows: Rows = self._storage.tables.get(self.name, {})  # type: ignore[attr-defined]
        return rows
