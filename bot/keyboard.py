"""Lines typed at a terminal, read without holding up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

if sys.platform != "win32":
    import select
    import termios

T = TypeVar("T")

INTERRUPT = "\x03"
PROMPT = "> "
PAST_LINES = 1000


class Keyboard:
    """Reads lines in a thread, with editing and the lines of before where `readline` is to be had.

    GNU readline returns a paste as one line with breaks in it, and Ctrl-C as a line that contains INTERRUPT,
    because the key is taken from the terminal driver while a line is read. Elsewhere Ctrl-C is a signal.
    """

    def __init__(self, past: Path | None, words: Sequence[str]) -> None:
        self._past = past
        self._words = words
        self._saved = _terminal_state()
        self.reading = False
        try:
            import readline
        except ImportError:
            self._readline = None
        else:
            self._readline = readline
        self._gnu = self._readline is not None and "libedit" not in (self._readline.__doc__ or "")
        self._prepare()

    def _prepare(self) -> None:
        if self._readline is None:
            return
        if self._gnu:
            self._readline.parse_and_bind('"\\C-c": "\\C-v\\C-c\\C-m"')
            self._readline.parse_and_bind("set enable-bracketed-paste on")
        self._readline.parse_and_bind("tab: complete" if self._gnu else "bind ^I rl_complete")
        self._readline.set_completer_delims(" \t\n")
        self._readline.set_completer(self._complete)
        self._readline.set_auto_history(False)
        for line in _recall(self._past):
            self._readline.add_history(line)

    def _complete(self, text: str, state: int) -> str | None:
        fitting = [word for word in self._words if text.startswith("/") and word.startswith(text)]
        return fitting[state] if state < len(fitting) else None

    def read(self, done: Callable[[str | None], None]) -> None:
        """Show the prompt; `done` gets the line, or None at the end of input."""
        self.reading = True
        self._set(echo=True, interrupt=not self._gnu)

        def finish(future: asyncio.Future[str | None]) -> None:
            self.reading = False
            self._set(echo=False, interrupt=True)
            done(future.result())

        in_thread(self._line).add_done_callback(finish)

    def _line(self) -> str | None:
        try:
            line = input(PROMPT)
            while not self._gnu and _more():
                line += "\n" + input()
        except (EOFError, KeyboardInterrupt, OSError, ValueError):
            return None
        return line

    def remember(self, line: str) -> None:
        """Keep a line for the arrow keys, now and next time."""
        if self._readline is not None:
            self._readline.add_history(line)
        if self._past is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(self._past, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")

    @property
    def typed(self) -> str:
        """What stands at the prompt, not yet sent."""
        return self._readline.get_line_buffer() if self._readline is not None and self.reading else ""

    def resume(self) -> None:
        """After Ctrl-Z and `fg` the shell has set the terminal up anew: have it as it was here."""
        self._set(echo=self.reading and not self._gnu, interrupt=not (self.reading and self._gnu))
        if self.reading and self._gnu:
            self._set(echo=False, interrupt=False, lines=False)

    def _set(self, echo: bool, interrupt: bool, lines: bool = True) -> None:
        """Set whether keys show, whether Ctrl-C is a signal and whether input comes in whole lines.

        The rest stays as it was found.
        """
        if sys.platform != "win32" and self._saved is not None:
            state = [*self._saved[:6], list(self._saved[6])]
            if not echo:
                state[3] &= ~termios.ECHO
            if not lines:
                state[3] &= ~termios.ICANON
                state[6][termios.VMIN], state[6][termios.VTIME] = 1, 0
            if not interrupt:
                state[6][termios.VINTR] = b"\0"
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, state)

    def close(self) -> None:
        """Leave the terminal as it was found, even when a thread still waits for a line."""
        self._set(echo=True, interrupt=True)
        if self.reading and self._gnu:
            sys.stdout.write("\x1b[?2004l")
            sys.stdout.flush()


def _terminal_state() -> list[Any] | None:
    if sys.platform != "win32":
        with contextlib.suppress(termios.error):
            return termios.tcgetattr(0)
    return None


def _more() -> bool:
    """Whether a paste goes on behind the line just read."""
    return sys.platform != "win32" and bool(select.select([0], [], [], 0.03)[0])


def _recall(past: Path | None) -> list[str]:
    """The last lines typed in earlier conversations; unreadable ones are passed over."""
    found: list[str] = []
    if past is None or not past.exists():
        return found
    for line in past.read_text("utf-8", "replace").splitlines()[-PAST_LINES:]:
        with contextlib.suppress(ValueError):
            found.append(str(json.loads(line)))
    return found


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Do blocking work in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True, name="roost-chat").start()
    return future
