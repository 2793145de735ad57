"""What was measured: values of several rounds, shown as a median and its spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Row:
    """One quantity: the values of each contestant, one a round, in the same order."""

    what: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, one: str, other: str) -> float | None:
        """The median of the rounds' own ratios: what slowed a round down slowed both."""
        pairs = zip(self.values.get(one, ()), self.values.get(other, ()), strict=False)
        found = [a / b for a, b in pairs if b]
        return statistics.median(found) if found else None


@dataclass(slots=True)
class Report:
    """One bench: its rows, and which contestant (`column`) is compared with which baseline."""

    name: str
    title: str
    column: str
    against: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, unit: str, column: str, *values: float | None) -> None:
        """Add values to a row, which begins to exist with the first. None is what cannot be known here."""
        row = next((one for one in self.rows if one.what == what), None)
        if row is None:
            row = Row(what, unit)
            self.rows.append(row)
        row.values.setdefault(column, []).extend(value for value in values if value is not None)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows for column in row.values))

    def show(self, console: Console) -> None:
        table = Table("", title=self.title, title_justify="left")
        for heading in (*self.columns, f"{self.column} : {self.against}"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            ratio = row.ratio(self.column, self.against)
            cells = [spread(row.values.get(column, ())) for column in self.columns]
            table.add_row(f"{row.what}, {row.unit}", *cells, "" if ratio is None else f"{ratio:.2f}")
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", markup=False)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "title": self.title,
            "notes": self.notes,
            "ratio": f"{self.column} : {self.against}",
            "rows": [
                {
                    "what": row.what,
                    "unit": row.unit,
                    "ratio": row.ratio(self.column, self.against),
                    "columns": {column: summary(values) for column, values in row.values.items() if values},
                }
                for row in self.rows
            ],
        }


def summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def spread(values: Sequence[float]) -> str:
    """Median and, where there is more than one round, the smallest and the largest value."""
    if not values:
        return "—"
    median = brief(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({brief(min(values))}..{brief(max(values))})"


def brief(value: float | None) -> str:
    """Three digits that matter; a dash for what is not known."""
    if value is None:
        return "—"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` (0 to 1) of the values do not exceed: an actual one, nothing in between."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * part // 1) - 1)]


def load() -> float | None:
    """How many processes wanted a processor in the last minute; Windows does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def write(folder: Path, report: Report, before: float | None) -> Path:
    """Write NAME.json with the machine and its load before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    machine = {"system": platform.system(), "kind": platform.machine(), "cores": os.cpu_count()}
    facts = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "python": platform.python_version(), "machine": machine}
    whole = facts | {"load": [before, load()]} | report.plain()
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
