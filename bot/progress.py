"""A progress bar for what a person waits for, where there is a person."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """Call it with the bytes done and the bytes in all: it appears with the first call and stays when all is done."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._bars: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bars is None:
            self._begin()
        self._bars.update(0, completed=done, total=total or None)
        if total and done >= total:
            self._bars.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bars = Progress(*columns, console=Console(stderr=True))
        self._bars.add_task(self._text, total=None)
        self._bars.start()


def watched() -> bool:
    """Whether there is somebody to see a bar."""
    return sys.stderr.isatty()
