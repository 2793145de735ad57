"""One thread that owns a SQLite connection. What waits at the same moment shares one transaction and one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger("roost.journal")

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

GROUP = 256  # operations that may share a transaction; more would only delay the first of them
DISK = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
}
PAUSE = 1.0  # seconds between two tries while the disk takes nothing


@dataclass(slots=True)
class _Task:
    """An operation and whoever waits for it."""

    operation: Operation[Any]
    done: asyncio.Future[Any]
    alone: bool
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations in order, in transactions that are committed when `do` returns."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble = ""
        self._held: _Task | None = None

    async def open(self) -> None:
        """Connect and begin. Raises what `connect` raises."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._closing.clear()
        self._thread = threading.Thread(target=self._work, args=(opened,), name="journal", daemon=True)
        self._thread.start()
        await opened

    async def close(self) -> None:
        """Commit what waits and disconnect."""
        if self._thread is not None:
            self._closing.set()
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def do(self, operation: Operation[T], alone: bool = False) -> T:
        """Run an operation and return its result once that is committed.

        While the disk is full or fails, this waits, and says so in the log; it raises sqlite3.Error when the
        writer is closed meanwhile. `alone` runs the operation outside a transaction.
        """
        if self._thread is None or self._loop is None or self._closing.is_set():
            raise sqlite3.ProgrammingError("it is closed")
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Task(operation, done, alone))
        return await done

    def _work(self, opened: asyncio.Future[Any]) -> None:
        try:
            db = self._connect()
        except Exception as error:
            self._tell(opened, None, error)
            return
        self._tell(opened, None, None)
        try:
            with contextlib.closing(db):
                while tasks := self._next_group():
                    self._run(db, tasks)
        finally:
            self._closing.set()
            self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Nobody may wait for a thread that is gone."""
        with contextlib.suppress(queue.Empty):
            while True:
                if (task := self._waiting.get_nowait()) is not None:
                    self._tell(task.done, None, sqlite3.ProgrammingError("it is closed"))

    def _next_group(self) -> list[_Task]:
        task = self._held or self._waiting.get()
        self._held = None
        group: list[_Task] = []
        while task is not None:
            if task.alone and group:
                self._held = task  # it begins the next group
                return group
            group.append(task)
            if task.alone or len(group) >= GROUP:
                return group
            try:
                task = self._waiting.get_nowait()
            except queue.Empty:
                return group
        if group:
            self._waiting.put(None)  # the end comes after this group
        return group

    def _run(self, db: sqlite3.Connection, tasks: list[_Task]) -> None:
        """Run a group in one transaction; when it fails, each alone, so that only the culprit hears of it."""
        try:
            run(db, tasks)
            self._note("")
        except Exception:
            for task in tasks:
                self._run_one(db, task)
        self._tell_all(tasks)

    def _run_one(self, db: sqlite3.Connection, task: _Task) -> None:
        """Run one operation, as often as it takes while it is the disk's fault and the writer is not to close."""
        while True:
            try:
                run(db, [task])
            except Exception as error:
                if is_disk(error) and self._wait(error):
                    continue
                task.error = error
            else:
                self._note("")
            return

    def _wait(self, error: Exception) -> bool:
        """Let some time pass; False when it is time to go."""
        self._note(str(error))
        return not self._closing.wait(PAUSE)

    def _note(self, trouble: str) -> None:
        """Say once when the disk stops taking what is written, and once when it takes it again."""
        if trouble and not self._trouble:
            log.error("The journal cannot be written: %s. Nothing more is acknowledged until it can.", trouble)
        elif self._trouble and not trouble:
            log.info("The journal can be written again.")
        self._trouble = trouble

    def _tell_all(self, tasks: list[_Task]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            self._loop.call_soon_threadsafe(_settle_all, tasks)

    def _tell(self, done: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, done, value, error)


def run(db: sqlite3.Connection, tasks: list[_Task]) -> None:
    """Run the tasks in one transaction, all or none. Raises what fails."""
    if tasks[0].alone:
        tasks[0].result = tasks[0].operation(db)
        return
    try:
        db.execute("BEGIN IMMEDIATE")
        for task in tasks:
            task.result = task.operation(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def is_disk(error: Exception) -> bool:
    """Whether it was the disk (full, failing, locked by another program) rather than the operation."""
    return isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK


def _settle_all(tasks: list[_Task]) -> None:
    for task in tasks:
        _settle(task.done, task.result, task.error)


def _settle(done: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)
