"""`roost channels add`: from nothing to a channel in bot.toml."""

from __future__ import annotations

import tomllib
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click
import msgspec

from roost.config import read_toml, required
from roost.errors import ConfigError
from roost.extras import install, requirements
from roost.registry import Registry, did_you_mean


def add_channel(kind: str, path: Path, registry: Registry) -> None:
    """Install the extra, ask for every key that has no default, write the table. Raises ConfigError."""
    if kind not in registry.channels.entries:
        raise ConfigError(f"There is no channel '{kind}'.{did_you_mean(kind, registry.channels.entries)}")
    if kind in read_toml(path).get("channels", {}):
        raise ConfigError(f"{path} has a table [channels.{kind}] already.")
    cls = _take(kind, registry)
    keys = [one for one in fields(cls.Config) if required(one)]
    write(path, kind, {one.name: _ask(one) for one in keys})
    click.echo(f"[channels.{kind}] is in {path}. A bot that runs has seen it; otherwise: roost run")


def _take(kind: str, registry: Registry) -> Any:
    try:
        return registry.channels.take(kind)
    except ConfigError:
        click.echo(f"Installing {', '.join(requirements(kind))}.")
        install(kind)
        return registry.channels.take(kind)


def _ask(one: Field[Any]) -> str:
    click.echo(one.metadata.get("help", ""))
    hidden = bool(one.metadata.get("secret"))
    return str(click.prompt(f"{one.name}{' (not shown)' if hidden else ''}", hide_input=hidden)).strip()


def write(path: Path, name: str, values: dict[str, str]) -> None:
    """Append a table to bot.toml, with all that was there left as it is. The file is then its owner's alone."""
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items()]
    before = path.read_text(encoding="utf-8")
    text = "\n".join([before.rstrip("\n"), "", f"[channels.{name}]", *lines, ""])
    tomllib.loads(text)
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
