"""The program that speaks Delta Chat: deltachat-rpc-server, JSON-RPC 2.0 in lines over its standard input and output.

https://github.com/chatmail/core/tree/main/deltachat-rpc-server; `deltachat-rpc-server --openrpc` lists its methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LINE = 256 * 1024 * 1024  # bytes of one answer, at most
PATIENCE = 10.0  # seconds that it has for ending by itself


class Refused(Exception):
    """It answered that it will not, or cannot."""


class Gone(Exception):
    """It is not running; `asked` says that it may have read the request before it ended."""

    def __init__(self, asked: bool, why: str = "") -> None:
        super().__init__(f"deltachat-rpc-server has ended. {why}".strip())
        self.asked = asked


def program() -> str:
    """Where the wheel has put it. Raises ImportError when it is not installed."""
    found = find_spec("deltachat_rpc_server")
    if found is None or found.origin is None:
        raise ImportError("deltachat-rpc-server is not installed.")
    suffix = ".exe" if os.name == "nt" else ""
    return str(Path(found.origin).with_name("deltachat-rpc-server" + suffix))


class Core:
    """One process of it. `folder` is where it keeps its accounts; only one process at a time can have it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._last_words = ""
        self._ended = False

    async def __aenter__(self) -> Core:
        self._process = await asyncio.create_subprocess_exec(
            program(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE,
            env={**os.environ, "DC_ACCOUNTS_PATH": str(self._folder)},
            # An interrupt from the keyboard is for us: we end it.
            start_new_session=True,
        )
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._note())]
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            log.debug("deltachat-rpc-server does not end by itself.")
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._fail()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, method: str, *params: Any) -> Any:
        """Ask for something. Raises Refused or Gone."""
        if self._ended:
            raise Gone(asked=False, why=self._last_words)
        id = next(self._ids)
        line = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        answer = self._waiting[id] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
            return await answer
        except OSError:
            raise Gone(asked=True, why=self._last_words) from None
        finally:
            self._waiting.pop(id, None)

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._settle(json.loads(line))
        except (OSError, ValueError) as error:
            log.warning("deltachat-rpc-server said what cannot be read: %s", error)
        finally:
            # What it said last is on its way, and tells why it ended.
            await asyncio.wait(self._tasks[1:], timeout=1)
            self._fail()

    def _settle(self, answer: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(answer.get("id", 0))
        if waiting is None or waiting.done():
            return
        if "error" in answer:
            waiting.set_exception(Refused(str(answer["error"].get("message", ""))))
        else:
            waiting.set_result(answer.get("result"))

    async def _note(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._last_words = line.decode(errors="replace").strip()
            log.debug("deltachat-rpc-server: %s", self._last_words)

    def _fail(self) -> None:
        self._ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Gone(asked=True, why=self._last_words))


async def account(core: Core) -> int:
    """The number of the account, which is made where there is none."""
    there: Sequence[int] = await core.call("get_all_account_ids")
    return int(there[0] if there else await core.call("add_account"))
