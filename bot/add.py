"""`roost channels add`: from nothing to a channel in bot.toml."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import click

from roost.edit import put
from roost.errors import ConfigError, RoostError
from roost.extras import install, requirements
from roost.registry import Registry, did_you_mean
from roost.tables import read, read_toml, required, show
from roost.trial import REFUSED


def add_channel(kind: str, path: Path, registry: Registry, check: Callable[[str], str] | None = None) -> None:
    """Install the extra, ask for every key that has no default, write the table, and try it by `check`.

    Raises ConfigError, with bot.toml as it was, when the platform or the channel refuses what was given.
    """
    if kind not in registry.channels.entries:
        raise ConfigError(f"There is no channel '{kind}'.{did_you_mean(kind, registry.channels.entries)}")
    if kind in read_toml(path).get("channels", {}):
        raise ConfigError(
            f"{path} has a table [channels.{kind}] already. Change it there, or take it out to be asked again."
        )
    cls = _take(kind, registry)
    keys = [one for one in fields(cls.Config) if required(one) or one.metadata.get("ask")]
    before = path.read_bytes()
    hints = get_type_hints(cls.Config)
    given = {one.name: _ask(one, hints[one.name]) for one in keys}
    put(path, f"channels.{kind}", {name: value for name, value in given.items() if value is not None})
    if check:
        said = _said(check, kind)
        if said.startswith(REFUSED):
            path.write_bytes(before)
            raise ConfigError(f"{said.removeprefix(REFUSED)} Nothing was written.")
        click.echo(said)
    click.echo(f"[channels.{kind}] is in {path}. A bot that runs has seen it; otherwise: roost run")


def _said(check: Callable[[str], str], kind: str) -> str:
    try:
        return check(kind)
    except RoostError as error:
        return f"{REFUSED}{error}"


def _take(kind: str, registry: Registry) -> Any:
    try:
        return registry.channels.take(kind)
    except ConfigError:
        click.echo(f"Installing {', '.join(requirements(kind))}.")
        install(kind)
        return registry.channels.take(kind)


def _ask(one: Field[Any], hint: Any) -> Any:
    """What a person gives for a key, None for nothing. They are asked again for what the key cannot be."""
    click.echo(one.metadata.get("help", ""))
    while True:
        said = _line(one)
        if not said and not required(one):
            return None
        try:
            if not said:
                raise ValueError("there")
            return read(said, one, hint)
        except ValueError as error:
            if not sys.stdin.isatty():
                raise ConfigError(f"'{one.name}' has to be {error}. Nothing was written.") from None
            click.echo(f"It has to be {error}.")


def _line(one: Field[Any]) -> str:
    hidden = bool(one.metadata.get("secret"))
    usual = "" if required(one) or one.default in ("", None) else f" for {show(one.default)}"
    instead = "" if required(one) else f", or nothing{usual}"
    told = f"{one.name}{' (not shown)' if hidden else ''}{instead}"
    if sys.stdin.isatty():
        return str(click.prompt(told, hide_input=hidden, default="", show_default=False)).strip()
    click.echo(f"{told}: ")
    if not (line := sys.stdin.readline()):
        raise click.Abort
    return line.strip()
