"""Disks whose plug is pulled at a chosen step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

from roost.memory.disk import Disk

Phase = Literal["before", "half", "after"]
PHASES: tuple[Phase, ...] = ("before", "half", "after")


class Died(BaseException):
    """The process is gone: nothing after this runs in it."""


class Plug(Disk):
    """Dies before, half through or after the `at`th step; whatever is asked of it then fails as well."""

    def __init__(self, at: int = 0, phase: Phase = "before") -> None:
        self.at, self.phase = at, phase
        self.steps = 0
        self.dead = False
        self.files: list[BinaryIO] = []

    def _step(self, act: Callable[[], None], half: Callable[[], None] = lambda: None) -> None:
        if self.dead:
            raise Died
        self.steps += 1
        if self.steps != self.at:
            act()
            return
        self.dead = True
        {"before": lambda: None, "half": half, "after": act}[self.phase]()
        raise Died

    def append(self, path: Path) -> BinaryIO:
        if self.dead:
            raise Died
        self.files.append(super().append(path))
        return self.files[-1]

    def write(self, file: BinaryIO, data: bytes) -> None:
        whole, part = super().write, data[: len(data) // 2]
        self._step(lambda: whole(file, data), lambda: whole(file, part))

    def sync(self, file: BinaryIO) -> None:
        self._step(lambda: self._synced(file))

    def _synced(self, file: BinaryIO) -> None:
        """Content is safe; tests have no use for the real thing, which is slow."""

    def truncate(self, file: BinaryIO, size: int) -> None:
        act = super().truncate
        self._step(lambda: act(file, size))

    def replace(self, source: Path, target: Path) -> None:
        act = super().replace
        self._step(lambda: act(source, target))

    def remove(self, path: Path) -> None:
        act = super().remove
        self._step(lambda: act(path))

    def sync_folder(self, folder: Path) -> None:
        self._step(lambda: self._names_synced(folder))

    def _names_synced(self, folder: Path) -> None:
        """Names are safe."""

    def after_death(self) -> None:
        """Let go of the files, as the system does for a dead process."""
        for file in self.files:
            file.close()


class PowerCut(Plug):
    """Dies with the whole machine: content that was not synced is gone, and so are names."""

    def __init__(self, at: int = 0, phase: Phase = "before") -> None:
        super().__init__(at, phase)
        self.safe: dict[str, bytes] = {}
        self.named: dict[str, bytes] = {}
        self.renamed: set[str] = set()

    def _synced(self, file: BinaryIO) -> None:
        path = Path(file.name)
        with contextlib.suppress(FileNotFoundError):
            self.safe[path.name] = path.read_bytes()
        if path.name in self.named and path.name not in self.renamed:
            self.named[path.name] = self.safe[path.name]

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.safe[target.name] = self.safe.pop(source.name, b"")
        self.renamed.add(target.name)

    def _names_synced(self, folder: Path) -> None:
        self.renamed.clear()
        self.named = {path.name: self.safe.get(path.name, b"") for path in folder.iterdir()}

    def lose(self, folder: Path) -> None:
        """Leave in `folder` what the drive had."""
        self.after_death()
        for path in folder.iterdir():
            path.unlink()
        for name, content in self.named.items():
            (folder / name).write_bytes(content)
