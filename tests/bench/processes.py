"""The processes a bench measures, each started afresh, and what the system says of their use of it.

CPU time and memory come from /proc, so other systems than Linux give None for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
PATIENCE = 120.0  # seconds that a control request may take
CONFIG = """
[brain]
{brain}
[web]
port = 0
[access]
direct = "open"
"""
TELEGRAM = """
[channels.telegram]
token = "{token}"
base_url = "{base_url}"
# The vendor's limits, 30 a second and 1 a second to a chat, would be all that a burst measures.
rate = 0
place_rate = 0
"""


@dataclass(slots=True)
class Running:
    """A process, and the monotonic time just before it was started."""

    process: subprocess.Popen[str]
    begun: float
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self, containing: str = "") -> str:
        """The next line of its standard output that contains something."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if containing in line:
                return line
        raise RuntimeError(f"The process ended without saying '{containing}'. {self.complaint()}")

    def complaint(self) -> str:
        path = self.folder / "stderr"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def cpu(self) -> float | None:
        """Seconds of CPU used so far, in steps of 10 ms."""
        return cpu_of(self.pid)

    def memory(self) -> dict[str, float | None]:
        return memory_of(self.pid)


def cpu_of(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def memory_of(pid: int) -> dict[str, float | None]:
    """MB of resident memory: `rss` all of it, `pss` with shared pages divided among their users, `private` its own."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {"rss": None, "pss": None, "private": None}
    sizes = {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines[1:])}
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "private": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(number) for number in path.read_text().split()]
    return found


def environment(**more: str) -> dict[str, str]:
    """Ours without proxies and without what would configure a bot."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY") and not k.startswith("ROOST_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


@contextlib.contextmanager
def running(command: list[str], folder: Path, **more: str) -> Iterator[Running]:
    """A process for as long as the block lasts. It is asked to end, and then made to."""
    pipe = subprocess.PIPE
    with (folder / "stderr").open("a") as errors:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environment(**more), stdin=pipe, stdout=pipe, stderr=errors, text=True
        )
        try:
            yield Running(process, begun, folder)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, whatever a killed process still held open."""
    with tempfile.TemporaryDirectory(prefix="roost-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@dataclass(slots=True)
class Wire:
    """The Telegram server in its own process."""

    base_url: str
    token: str

    def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        """Use its control API. Raises RuntimeError with its own words."""
        body = json.dumps(asked).encode()
        request = urllib.request.Request(f"{self.base_url}/control/{verb}", body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"The Telegram server cannot do '{verb}': {error.read().decode()}") from None
        return found


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    with scratch() as folder, running([sys.executable, "-m", "servers.telegram"], folder, PYTHONPATH=str(TESTS)) as one:
        told = json.loads(one.line())
        yield Wire(told["base_url"], told["token"])


@contextlib.contextmanager
def roost(
    server: Wire | None = None,
    brain: str = 'use = "echo"',
    plugin: str = "",
    prepare: Callable[[Path], None] = lambda home: None,
) -> Iterator[Running]:
    """`roost run` in a folder of its own, not waited for: with the web face, the terminal and, if given, Telegram.

    `brain` is the content of that table, `plugin` the text of a plugin, and `prepare` gets the data folder before.
    """
    with scratch() as folder:
        config = CONFIG.format(brain=brain)
        if server is not None:
            config += TELEGRAM.format(token=server.token, base_url=server.base_url)
        (folder / "bot.toml").write_text(config, encoding="utf-8")
        (folder / "plugins").mkdir()
        if plugin:
            (folder / "plugins" / "watcher.py").write_text(plugin, encoding="utf-8")
        prepare(folder / "home")
        with running([sys.executable, "-m", "roost", "run"], folder, ROOST_HOME=str(folder / "home")) as bot:
            yield bot


@contextlib.contextmanager
def plain_bot(server: Wire) -> Iterator[Running]:
    """The baseline: python-telegram-bot with one handler, nothing durable, nothing else."""
    # -P: the folder of this file has a telegram.py too.
    command = [sys.executable, "-P", str(Path(__file__).parent / "plain_bot.py"), server.base_url, server.token]
    with scratch() as folder, running(command, folder) as bot:
        yield bot
