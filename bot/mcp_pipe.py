"""An MCP server as a child process, spoken to over its standard input and output, one JSON message a line.

The transport is that of the specification
(https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio). The SDK's own puts no bound on a
line and on what is no message, so a broken server could fill the memory or the log; this one has bounds for both.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from roost.errors import RoostError
from roost.pace import Bucket

LONGEST = 4 << 20  # bytes of one message
STRANGE = 100  # lines that are no message: installers print some, a broken server nothing else
RATE, BURST = 200.0, 1000.0  # messages a second
PART = 64 << 10  # bytes of a message that count as one of these
GRACE, TICK = 1.0, 0.01  # seconds for each step of an end, and between two looks
BASICS = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("APPDATA", "LOCALAPPDATA", "USERPROFILE", "USERNAME", "HOMEDRIVE", "HOMEPATH"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "PATHEXT", "TEMP", "TMP", "PROCESSOR_ARCHITECTURE"),
)

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What the child sees: where programs and its home are, and what its table names. Nothing else of the bot's."""
    return {name: os.environ[name] for name in BASICS if name in os.environ} | dict(own)


def program(command: str, args: Sequence[str], env: Mapping[str, str], cwd: Path) -> list[str]:
    """The command as a list, its program found in the child's PATH. Raises RoostError."""
    try:
        words = [*shlex.split(command, posix=sys.platform != "win32"), *args]
    except ValueError as error:
        raise RoostError(f"The command '{command}' cannot be read: {error}.") from error
    first = words[0] if words else ""
    found = shutil.which(cwd / first if len(Path(first).parts) > 1 else first, path=env.get("PATH"))
    if found is None:
        raise RoostError(f"There is no program '{first}' here. Install it, or write its whole path.")
    return [str(found), *words[1:]]


class Child:
    """One run of a server. `ended` is set when nothing comes from it any more; `why` says why, unless we ended it."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.ended = asyncio.Event()
        self.why = ""
        self.said: deque[str] = deque(maxlen=5)
        self._words, self._env, self._cwd = words, env, cwd

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Streams]:
        """Start it, and end it with all it has started. Raises RoostError when it cannot be started."""
        process = await self._start()
        to_us, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, from_us = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, process, to_us)
                group.start_soon(self._write, process, from_us)
                group.start_soon(self._listen, process)
                try:
                    yield read, write
                finally:
                    group.cancel_scope.cancel()
        finally:
            for stream in (to_us, read, write, from_us):
                stream.close()
            with anyio.CancelScope(shield=True):
                await end(process)

    def last_words(self) -> str:
        """Why it ended and what it said last, as sentences."""
        return " ".join([self.why, *self.said]).strip()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                limit=LONGEST,
                env=dict(self._env),
                cwd=self._cwd,
                **apart(),
            )
        except (OSError, ValueError) as error:
            raise RoostError(f"'{self._words[0]}' cannot be started in '{self._cwd}': {error}.") from error

    async def _read(self, process: asyncio.subprocess.Process, to_us: MemoryObjectSendStream[Any]) -> None:
        try:
            self.why = await self._pass_on(process, to_us)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self.ended.set()
            to_us.close()

    async def _pass_on(self, process: asyncio.subprocess.Process, to_us: MemoryObjectSendStream[Any]) -> str:
        """Pass its messages on until it ends or has to; returns why. What it may not do in time, its pipe delays."""
        assert process.stdout is not None
        pace, strange = Bucket(RATE, BURST), 0
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                return f"It wrote a message of more than {LONGEST >> 20} MB."
            if not line:
                return await _status(process)
            pause = max(pace.take() for _ in range(1 + len(line) // PART))
            await asyncio.sleep(pause)
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                strange += 1
                if strange > STRANGE:
                    return f"What it writes is not MCP: {line[:80].decode(errors='replace')!r}."
                continue
            await to_us.send(SessionMessage(message))

    async def _write(self, process: asyncio.subprocess.Process, from_us: MemoryObjectReceiveStream[Any]) -> None:
        assert process.stdin is not None
        async for one in from_us:
            process.stdin.write(one.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            try:
                await process.stdin.drain()
            except OSError:  # it is about to be seen as ended
                return

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than the limit; the rest comes with the next lines
                continue
            if not line:
                return
            if text := line.decode(errors="replace").strip():
                self.said.append(text[:300])


async def _status(process: asyncio.subprocess.Process) -> str:
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE)
    return "It closed its output." if process.returncode is None else f"It ended with status {process.returncode}."


async def end(process: asyncio.subprocess.Process) -> None:
    """End a child: by closing its input, kindly, by force; and then whatever it has started."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        if not await _gone(process):
            signalled(process, kindly=True)
            await _gone(process)
    finally:
        signalled(process, kindly=False)
        await _gone(process)
        # The transport stays half open otherwise, and complains when it is collected.
        process._transport.close()  # type: ignore[attr-defined]


async def _gone(process: asyncio.subprocess.Process) -> bool:
    """Wait a moment for the process alone: `wait()` also waits for pipes, which its own children may hold."""
    for _ in range(int(GRACE / TICK)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(TICK)
    return process.returncode is not None


def signalled(process: asyncio.subprocess.Process, *, kindly: bool) -> None:
    """Signal the child and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            _kill_tree(process.pid)
        else:
            os.killpg(process.pid, signal.SIGTERM if kindly else signal.SIGKILL)


def _kill_tree(pid: int) -> None:
    import psutil

    with suppress(psutil.Error):
        top = psutil.Process(pid)
        for one in [*top.children(recursive=True), top]:
            with suppress(psutil.Error):
                one.kill()


def apart() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C from the child, and let it be ended with its own children."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
