"""A conversation at a terminal, for people."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from roost.keyboard import INTERRUPT, Keyboard
from roost.link import Frame, Link
from roost.screen import FRAME_SECONDS, Screen

Event = tuple[str, Any]


class Dialogue:
    """A conversation at a terminal: a line, its answer, the next line.

    Everything that happens, a line typed, a frame received or Ctrl-C, is an event in one queue.
    """

    def __init__(self, link: Link, screen: Screen, past: Path | None) -> None:
        self._link = link
        self._screen = screen
        self._bot = str(link.welcome["bot"])
        words = [f"/{name}" for name, _ in link.welcome["commands"]]
        self._keyboard = Keyboard(past, sorted({*words, "/quit"}))
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._awaited: set[str] = set()
        self._preview = ""
        self._shown: dict[str, str] = {}
        self._buttons: Sequence[Frame] = ()
        self._status: int | None = None

    async def run(self) -> int:
        """Talk until the person leaves (0) or the bot does (1)."""
        await self._open()
        pump = asyncio.create_task(self._pump())
        try:
            with _signals(self._events):
                self._prompt()
                while self._status is None:
                    await self._step()
                return self._status
        finally:
            if self._awaited:
                self._screen.end()
            self._keyboard.close()
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _open(self) -> None:
        """Show the last lines, dimmed, then what came while no terminal was there."""
        self._screen.note(f"{self._bot} is here. /help shows what it can do, Ctrl-D leaves.")
        await self._link.ask_history(6)
        early: list[Frame] = []
        while (frame := await self._link.next()) is not None and frame["type"] != "history":
            early.append(frame)
        fresh = {one["text"] for one in early if one["type"] == "message"}
        lines = frame["lines"] if frame is not None else []
        self._screen.past([line for line in lines if line["text"] not in fresh], self._bot)
        self._screen.console.print()
        for one in early:
            self._frame(one)

    async def _pump(self) -> None:
        while (frame := await self._link.next()) is not None:
            self._events.put_nowait(("frame", frame))
        self._events.put_nowait(("cut", None))

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(FRAME_SECONDS if self._awaited else None):
                what, value = await self._events.get()
        except TimeoutError:
            what, value = "tick", None
        if what == "line":
            await self._line(value)
        elif what == "frame":
            self._frame(value)
        elif what == "interrupt":
            await self._interrupt()
        elif what == "resume":
            self._resume()
        elif what == "cut":
            self._cut()
        if self._awaited:
            self._screen.tick()

    def _prompt(self) -> None:
        self._keyboard.read(lambda line: self._events.put_nowait(("line", line)))

    async def _line(self, line: str | None) -> None:
        if line is None or line == INTERRUPT or line.strip() == "/quit":
            self._status = 0
            if line is None:
                self._screen.console.print()
        elif not line.strip() or INTERRUPT in line:
            self._prompt()
        else:
            self._keyboard.remember(line)
            await self._say(self._chosen(line.strip()))

    def _chosen(self, line: str) -> str:
        """A button's number means the button."""
        if line.isdecimal() and 0 < int(line) <= len(self._buttons):
            button = self._buttons[int(line) - 1]
            return str(button["value"] or button["text"])
        return line

    async def _say(self, text: str) -> None:
        try:
            id = await self._link.say(text)
        except ValueError as error:
            self._screen.note(str(error), "red")
            self._prompt()
        except OSError:
            self._cut()
        else:
            self._awaited, self._preview = {id}, ""
            self._screen.begin()

    async def _interrupt(self) -> None:
        """Ctrl-C: ask the bot to stop, and the second time wait no longer; at the prompt it leaves."""
        if not self._awaited:
            self._status = 0
            self._screen.console.print()
        elif len(self._awaited) == 1:
            self._screen.grow("", "stopping")
            with contextlib.suppress(OSError):
                self._awaited.add(await self._link.say("/stop"))
        else:
            self._finish(self._screen.console.print)

    def _resume(self) -> None:
        self._keyboard.resume()
        if self._keyboard.reading:
            self._screen.over_prompt(self._keyboard.typed, lambda: None)

    def _finish(self, show: Callable[[], None]) -> None:
        """Wait no longer, show how it ended, and let the person write."""
        self._awaited = set()
        self._screen.end()
        show()
        self._prompt()

    def _cut(self) -> None:
        self._status = 1
        self._show(lambda: self._screen.note(f"{self._bot} has gone: the connection ended.", "red"))

    def _frame(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "typing":
            self._screen.grow(self._preview, f"{self._bot} is typing")
        elif kind == "error":
            self._conclude(frame["id"], lambda: self._screen.note(frame["text"], "red"))
        elif kind in ("message", "edit") and frame["done"]:
            self._message(frame)
        elif kind in ("message", "edit") and self._ours(frame["answers"]):
            self._preview = frame["text"]
            self._screen.grow(self._preview, "")

    def _message(self, frame: Frame) -> None:
        if self._shown.get(frame["id"]) == frame["text"]:
            return
        self._shown[frame["id"]] = frame["text"]
        self._buttons = frame["buttons"]
        self._conclude(frame["answers"], lambda: self._screen.message(frame))

    def _ours(self, id: str) -> bool:
        return bool(self._awaited) and (not id or id in self._awaited)

    def _conclude(self, id: str, show: Callable[[], None]) -> None:
        """Show something for good; when it concerns what is awaited, the person's turn comes."""
        if self._ours(id):
            self._finish(show)
        else:
            self._show(show)

    def _show(self, show: Callable[[], None]) -> None:
        """Show something for good, whatever is on the screen now."""
        if self._awaited:
            self._screen.above(show)
        elif self._keyboard.reading:
            self._screen.over_prompt(self._keyboard.typed, show)
        else:
            show()


@contextlib.contextmanager
def _signals(events: asyncio.Queue[Event]) -> Iterator[None]:
    """Have Ctrl-C, and coming back after Ctrl-Z, be events."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    meanings = {signal.SIGINT: "interrupt"}
    if sys.platform != "win32":
        meanings[signal.SIGCONT] = "resume"

    def note(number: int, _: object) -> None:
        loop.call_soon_threadsafe(events.put_nowait, (meanings[signal.Signals(number)], None))

    before = {number: signal.signal(number, note) for number in meanings}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
