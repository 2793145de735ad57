"""`roost doctor`: look at everything a start would need, and say what to mend."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from roost import __version__, logs
from roost.cipher import is_begun
from roost.config import Config, load, plugin_settings, secrets
from roost.encryption import status
from roost.errors import ConfigError, RoostError
from roost.home import data_folder, in_use
from roost.prompt import plan
from roost.references import early, exposures
from roost.registry import Registry
from roost.rules import doubts
from roost.security import Finding, Subject, weaknesses


def examine(path: Path, security: bool = False) -> int:
    """Print the report; returns 0 when all is well, 1 when something is to be mended."""
    logs.begin("critical")
    bad = False
    for finding in secure(path) if security else findings(path):
        bad = bad or not (finding.ok or finding.advice)
        click.echo(_mark(finding) + logs.redact(finding.text))
    return 1 if bad else 0


def _mark(finding: Finding) -> str:
    if finding.advice:
        return click.style("?  ", fg="yellow", bold=True)
    return click.style("ok ", fg="green") if finding.ok else click.style("-> ", fg="red", bold=True)


def secure(path: Path) -> Iterator[Finding]:
    """What lets others in, or lets out what is private."""
    try:
        registry, config = _read(path)
    except ConfigError as error:
        yield from (Finding(False, line) for line in str(error).splitlines())
        return
    yield from (Finding(False, problem) for problem in config.problems)
    yield from weaknesses(Subject(config, registry, data_folder()))


def _read(path: Path) -> tuple[Registry, Config]:
    """The configuration and what its plugins register; its secrets are not shown from now on."""
    logs.hide(early(path))
    registry = Registry()
    registry.load(*plugin_settings(path))
    config = load(path, registry)
    logs.hide(secrets(config))
    return registry, config


def findings(path: Path) -> Iterator[Finding]:
    yield Finding(True, f"Roost {__version__} on Python {sys.version.split()[0]}")
    yield from _folder()
    try:
        registry, config = _read(path)
    except ConfigError as error:
        yield from (Finding(False, line) for line in str(error).splitlines())
        return
    yield Finding(True, f"{path}: read")
    yield from (Finding(False, problem) for problem in config.problems)
    yield from (Finding(False, f"Plugin '{one.plugin}' is left out: {one.reason}") for one in registry.failures)
    yield from (Finding(False, doubt) for doubt in doubts(config.access))
    yield from (Finding(False, exposed) for exposed in exposures(path, config.origins))
    yield Finding(True, f"Channels: {', '.join(sorted(config.channels)) or 'none'}")
    yield from _certificate(config)
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


def _certificate(config: Config) -> Iterator[Finding]:
    if config.web.enabled and config.web.certificate:
        from roost.web_tls import certificate_doubts

        found = [Finding(False, one.text, advice=not one.wrong) for one in certificate_doubts(config.web)]
        yield from found or [Finding(True, f"The certificate of the web face: {config.web.certificate}")]


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
