"""Every channel at once, in one process, each connected to its server: what that costs when nothing is said."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kit.rig import Rig
from kit.talk import toml

from bench.figures import Report
from bench.processes import CONFIG, children, cpu_of, environment, memory_of, scratch

ALL, NONE = "all channels", "none"
CALM, LOOK = 10.0, 20.0  # seconds: until it has come to rest, and for which it is looked at
PATIENCE = 180.0


def measure(rounds: int) -> Report:
    report = Report("channels", "Every channel switched on in one process with the default model", ALL, NONE)
    for _ in range(rounds):
        asyncio.run(_round(report, {}))
        asyncio.run(_with_rigs(report))
    report.notes.append(f"Idle: {LOOK:g} s, {CALM:g} s after the last one is up. None: web face and terminal only.")
    return report


async def _with_rigs(report: Report) -> None:
    with scratch() as folder:
        async with contextlib.AsyncExitStack() as stack:
            rigs = {kind: await stack.enter_async_context(_started(kind, folder)) for kind in kinds()}
            await _round(report, {kind: rig.table() for kind, rig in rigs.items()})


def kinds() -> list[str]:
    found = sorted(path.stem for path in (Path(__file__).parents[1] / "rigs").glob("[a-z]*.py"))
    modules = {name: importlib.import_module(f"rigs.{name}") for name in found}
    return [name for name, module in modules.items() if hasattr(module, "RIG")]


@contextlib.asynccontextmanager
async def _started(kind: str, folder: Path) -> AsyncIterator[Rig]:
    home = folder / kind
    home.mkdir()
    rig: Rig = importlib.import_module(f"rigs.{kind}").RIG(home)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def _round(report: Report, tables: dict[str, dict[str, Any]]) -> None:
    column = ALL if tables else NONE
    with scratch() as folder:
        lines = [CONFIG.format(brain='use = "llamacpp"')]
        for kind, table in tables.items():
            lines += [f"[channels.{kind}]", *(f"{name} = {toml(value)}" for name, value in table.items())]
        (folder / "bot.toml").write_text("\n".join(lines), encoding="utf-8")
        pipe = asyncio.subprocess.PIPE
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roost", "run"),
            cwd=folder,
            env=environment(ROOST_HOME=str(folder / "home"), ROOST_BOT_LOG="info"),
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            up = await _up(process, {*tables, "web", "terminal"}, begun)
            report.add("to the first that runs", "s", column, min(up.values()))
            report.add("until all run", "s", column, max(up.values()))
            reading = asyncio.create_task(_drain(process))
            await asyncio.sleep(CALM)
            _look(report, column, process.pid, await _idle(process.pid))
            reading.cancel()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def _up(process: asyncio.subprocess.Process, wanted: set[str], begun: float) -> dict[str, float]:
    """Seconds until each channel ran."""
    up: dict[str, float] = {}
    said: list[str] = []
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while wanted - up.keys():
                line = (await process.stdout.readline()).decode()
                if not line:
                    break
                said.append(line)
                if "is running." in line and "'" in line:
                    up[line.split("'")[1]] = time.monotonic() - begun
    except TimeoutError:
        pass
    if missing := wanted - up.keys():
        raise RuntimeError(f"These never ran: {', '.join(sorted(missing))}.\n{''.join(said[-20:])}")
    return up


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


async def _idle(pid: int) -> float:
    """The share of one core that it takes while nothing happens, in percent."""
    before, begun = cpu_of(pid) or 0.0, time.monotonic()
    await asyncio.sleep(LOOK)
    return 100 * ((cpu_of(pid) or 0.0) - before) / (time.monotonic() - begun)


def _look(report: Report, column: str, pid: int, idle: float) -> None:
    report.add("idle CPU of the bot", "% of a core", column, idle)
    for kind, size in memory_of(pid).items():
        report.add(f"memory of the bot ({kind})", "MB", column, size)
    others = [memory_of(one)["pss"] or 0.0 for one in children(pid)]
    report.add("memory of engine and helpers (pss)", "MB", column, sum(others))
    report.add("CPU since the start", "s", column, cpu_of(pid))
