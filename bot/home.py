"""The data folder: where it is, and that only one bot uses it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import platformdirs

from roost.errors import RoostError, StoreError

# The lines typed at a terminal, for its arrow keys. Not kept in an encrypted folder, nor when something is forgotten.
TYPED = "chat-history"


def data_folder() -> Path:
    """ROOST_HOME, or the place the system has for a user's application data. Created private when missing."""
    given = os.environ.get("ROOST_HOME")
    folder = Path(given).expanduser() if given else platformdirs.user_data_path("roost", appauthor=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The data folder '{folder}' cannot be made: {error}. Set ROOST_HOME to another.") from error
    return folder


class Lock:
    """Holds the data folder for this process. The operating system lets go of it when the process dies.

    SQLite's file lock is used because it works on every system we run on.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "roost.lock"
        self._db: sqlite3.Connection | None = None

    def take(self) -> None:
        """Raises RoostError when another process has it."""
        db = None
        try:
            db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if db is not None:
                db.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise StoreError(f"The data folder '{self.path.parent}' cannot be used: {error}.") from error
            raise RoostError(
                f"Another Roost uses the data folder '{self.path.parent}'. "
                "Stop it, or set ROOST_HOME to another folder."
            ) from error
        self._db = db

    def free(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def in_use(folder: Path) -> bool:
    """Whether a bot runs on this data folder."""
    lock = Lock(folder)
    try:
        lock.take()
    except StoreError:
        raise
    except RoostError:
        return True
    lock.free()
    return False
