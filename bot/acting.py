"""Which plugin is at work: so that one which holds everybody up can be named, and one that floods be held back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType

from roost import egress
from roost.errors import PluginError
from roost.folder import PACKAGE

log = logging.getLogger("roost.plugins")

PATIENCE = 1.0  # seconds that the event loop may be held up
PER_MINUTE = 600  # messages that one plugin may send unasked in a minute

_plugin: ContextVar[str] = ContextVar("plugin", default="")


def plugin() -> str:
    """The plugin whose code runs now, or that began what runs now; empty for the core's own."""
    return _plugin.get()


class Watch:
    """Sees that no plugin holds up the event loop. Its thread sleeps while no plugin is at work."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.slow: set[str] = set()
        self._patience = patience
        self._working = 0
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = False

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """While something of a plugin is running."""
        before = _plugin.set(name)
        self._begin()
        try:
            with egress.by(f"plugin {name}"):
                yield
        finally:
            self._working -= 1
            if not self._working:
                self._work.clear()
            with contextlib.suppress(ValueError):  # a generator that was closed in another context
                _plugin.reset(before)

    def _begin(self) -> None:
        self._working += 1
        self._work.set()
        if self._thread is None:
            loop, own = asyncio.get_running_loop(), threading.get_ident()
            self._thread = threading.Thread(target=self._look, args=(loop, own), name="roost-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._work.set()

    def _look(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while self._work.wait() and not self._ended:
            alive = threading.Event()
            try:
                loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # closed
                return
            if not alive.wait(self._patience):
                self._tell(sys._current_frames().get(thread))
                alive.wait()
            time.sleep(self._patience / 2)

    def _tell(self, frame: FrameType | None) -> None:
        """Name the plugin that is running, if it is one."""
        while frame is not None:
            package, _, name = str(frame.f_globals.get("__name__", "")).partition(".")
            if package == PACKAGE:
                name = name.partition(".")[0]
                self.slow.add(name)
                log.warning(
                    "The plugin '%s' holds everybody up (%s, line %d). Await what takes time, or use a plain `def`: "
                    "its hooks that are one run in a thread from now on.",
                    *(name, frame.f_code.co_filename, frame.f_lineno),
                )
                return
            frame = frame.f_back


class Flood:
    """How many messages each plugin may send unasked."""

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._sent: dict[str, list[float]] = {}

    def count(self) -> None:
        """One more of the plugin at work. Raises PluginError when it is too many."""
        name = plugin()
        if not name:
            return
        now = time.monotonic()
        recent = [at for at in self._sent.get(name, ()) if at > now - 60]
        if len(recent) >= self._per_minute:
            raise PluginError(f"The plugin '{name}' has sent {len(recent)} messages in a minute; it has to wait.")
        self._sent[name] = [*recent, now]
