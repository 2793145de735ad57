"""The memory and what it is measured beside, with one face: SQLite and TinyDB as they come, and a bare file."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tinydb import TinyDB

from roost.contracts import Compaction, Recollection, Turn
from roost.memory.conversation import plain
from roost.memory.disk import Disk
from roost.memory.files import Files
from roost.memory.settings import WindowConfig
from roost.memory.window import Window
from roost.values import Place

BUDGET = 3000  # tokens, about what a context of 4,096 leaves
OPEN = 64  # TinyDB's files kept open, as many as the memory's

_COLUMNS = "role, text, author, at, id, tokens, person"
_SCHEMA = """
CREATE TABLE turn (
    number INTEGER PRIMARY KEY, place TEXT, role TEXT, text TEXT, author TEXT, at REAL, id TEXT, tokens INTEGER,
    person TEXT
);
CREATE INDEX by_place ON turn (place, number);
"""


def tokens(text: str) -> int:
    return len(text) // 4 + 1


async def count(text: str) -> int:
    return tokens(text)


class Roost:
    """The memory that is measured. `rest` does what the bot does while nobody is answered."""

    def __init__(self, folder: Path, config: WindowConfig) -> None:
        self.window = Window(config, folder)

    async def open(self) -> None:
        await self.window.open()

    async def append(self, place: Place, turns: Sequence[Turn]) -> None:
        await self.window.remember(place, turns)

    async def recall(self, place: Place) -> Recollection:
        return await self.window.recall(place, BUDGET, count)

    async def ask(self, place: Place, question: str) -> Recollection:
        return await self.window.recall(place, BUDGET, count, question)

    async def rest(self) -> list[Compaction]:
        """Fold what is due, without a brain."""
        due = await self.window.due(time.time())
        reports = [await self.window.compact(place, None, trigger) for place, trigger in due]
        return [one for one in reports if one is not None]

    async def close(self) -> None:
        await self.window.close()


class Inline:
    """The memory's files without the thread that they have to themselves: SQLite is measured so too."""

    def __init__(self, folder: Path, config: WindowConfig) -> None:
        self._files = Files(config, folder, Disk(), None)

    def append(self, place: Place, turns: Sequence[Turn]) -> None:
        self._files.add(place, turns)

    def close(self) -> None:
        self._files.close()


class Sqlite:
    """A row a turn in one file, in WAL mode, a transaction an exchange."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._db = sqlite3.connect(folder / "turns.db", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            self._db.executescript(_SCHEMA)

    def append(self, place: Place, turns: Sequence[Turn]) -> None:
        rows = [
            (str(place), one.role, one.text, one.author, one.at, one.id, tokens(one.text), one.person) for one in turns
        ]
        self._db.execute("BEGIN")
        self._db.executemany(f"INSERT INTO turn (place, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def recall(self, place: Place) -> list[Turn]:
        """The newest turns that fit the budget, oldest first."""
        found, room = [], BUDGET
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM turn WHERE place = ? ORDER BY number DESC", (str(place),)):
            room -= row["tokens"] + 8
            if room < 0:
                break
            found.append(Turn(*row))
        return found[::-1]

    def close(self) -> None:
        self._db.close()


class Tiny:
    """TinyDB with its own storage and table, a file a place, a document a turn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[Place, TinyDB] = OrderedDict()

    def fill(self, place: Place, turns: Sequence[Turn]) -> None:
        """Write a whole file as TinyDB would, without its sync."""
        rows = {str(number): plain(turn) for number, turn in enumerate(turns, 1)}
        self._path(place).write_text(json.dumps({"_default": rows}), encoding="utf-8")

    def append(self, place: Place, turns: Sequence[Turn]) -> None:
        self._db(place).insert_multiple(plain(turn) for turn in turns)

    def recall(self, place: Place) -> list[Turn]:
        found, room = [], BUDGET
        for row in reversed(self._db(place).all()):
            room -= tokens(row["text"]) + 8
            if room < 0:
                break
            found.append(Turn(**row))
        return found[::-1]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _db(self, place: Place) -> TinyDB:
        if place not in self._open:
            if len(self._open) >= OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[place] = TinyDB(self._path(place))
        self._open.move_to_end(place)
        return self._open[place]

    def _path(self, place: Place) -> Path:
        return self._folder / f"{place.chat}.json"


class Bare:
    """The least that keeping an exchange costs on this disk: its bytes at the end of a file, and a sync."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "bare").open("ab", buffering=0)

    def append(self, place: Place, turns: Sequence[Turn]) -> None:
        self._file.write(json.dumps([str(place), *map(asdict, turns)]).encode())
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Hop:
    """The least that a call costs which works in a thread while the event loop goes on."""

    def __init__(self, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1)

    async def append(self, place: Place, turns: Sequence[Turn]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def close(self) -> None:
        self._thread.shutdown()
