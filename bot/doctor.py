"""`roost doctor`: look at everything a start would need, and say what to mend."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from roost import __version__, logs
from roost.cipher import is_begun
from roost.config import Config, load, plugin_settings
from roost.encryption import status
from roost.errors import ConfigError, RoostError
from roost.home import data_folder, in_use
from roost.prompt import plan
from roost.registry import Registry


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. What is not `ok` is to be mended."""

    ok: bool
    text: str


def examine(path: Path) -> int:
    """Print the report; returns 0 when all is well, 1 when something is to be mended."""
    logs.begin("critical")
    bad = False
    for finding in findings(path):
        bad = bad or not finding.ok
        mark = click.style("ok ", fg="green") if finding.ok else click.style("-> ", fg="red", bold=True)
        click.echo(mark + finding.text)
    return 1 if bad else 0


def findings(path: Path) -> Iterator[Finding]:
    yield Finding(True, f"Roost {__version__} on Python {sys.version.split()[0]}")
    yield from _folder()
    registry = Registry()
    try:
        registry.load(*plugin_settings(path))
        config = load(path, registry)
    except ConfigError as error:
        yield from (Finding(False, line) for line in str(error).splitlines())
        return
    yield Finding(True, f"{path}: read")
    yield from (Finding(False, problem) for problem in config.problems)
    yield from (Finding(False, f"Plugin '{one.plugin}' is left out: {one.reason}") for one in registry.failures)
    yield Finding(True, f"Channels: {', '.join(sorted(config.channels)) or 'none'}")
    yield from _guarded(lambda: _encryption(config))
    yield from _guarded(lambda: _brain(config))


def _folder() -> Iterator[Finding]:
    home = data_folder()
    state = "a bot is running on it" if in_use(home) else "free"
    yield Finding(True, f"Data folder {home}: {state}")


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except RoostError as error:
        yield Finding(False, str(error))


def _encryption(config: Config) -> Iterator[Finding]:
    home = data_folder()
    lost = is_begun(home) and not config.bot.encryption
    yield Finding(not lost, status(home, config.bot.encryption))


def _brain(config: Config) -> Iterator[Finding]:
    """Load the brain for a moment: the token budget is counted by the engine itself."""
    brain = config.brain_class(config.brain, data_folder())

    async def ask() -> str:
        try:
            await brain.load()
            budget = await plan(brain, config.bot.persona)
        finally:
            await brain.unload()
        return (
            f"Brain {config.brain.use}: {budget.context} tokens of context = {budget.system} persona + "
            f"{budget.window} conversation + {budget.message} new message + {budget.answer} answer"
        )

    yield Finding(True, asyncio.run(ask()))
