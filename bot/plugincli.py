"""`roost plugins …` and `roost new …`."""

from __future__ import annotations

from pathlib import Path

import click

from roost.cli import config_option, find, load_plugins
from roost.hookspecs import hookimpl


@click.group()
def plugins() -> None:
    """Look at the plugins, install what they need."""


@plugins.command("list")
@config_option
def plugins_list(path: Path | None) -> None:
    """List the plugins with their commands, and those that could not be loaded."""
    registry = load_plugins(find(path))
    for name, _plugin in registry.plugins.list_name_plugin():
        own = [f"/{one.name}" for one in registry.commands.values() if one.plugin == name]
        click.echo(f"{name:<24} {' '.join(sorted(set(own)))}")
    for failure in registry.failures:
        click.echo(f"{failure.plugin:<24} left out: {failure.reason}", err=True)


@plugins.command("install")
@click.argument("name")
@config_option
def plugins_install(name: str, path: Path | None) -> None:
    """Install what a plugin says it needs in its header '# /// script'."""
    from roost.config import plugin_settings
    from roost.errors import RoostError
    from roost.extras import install_packages
    from roost.folder import missing, needs, sources
    from roost.registry import did_you_mean

    table, beside = plugin_settings(find(path))
    found = {one.name: one for one in sources(beside / table.folder, links=table.links)}
    if name not in found:
        raise RoostError(f"There is no plugin '{name}' in '{beside / table.folder}'.{did_you_mean(name, found)}")
    absent = list(missing(needs(found[name])))
    if not absent:
        click.echo(f"'{name}' has all it needs.")
        return
    install_packages(absent)
    click.echo(f"Installed: {', '.join(absent)}. Start Roost again, or save the plugin's file once more.")
    if name in table.disable:
        click.echo(f"'{name}' is switched off: take it out of [plugins] disable in '{find(path)}'.")


@click.group()
def new() -> None:
    """Write the beginnings of a plugin or a channel, with a test."""


@new.command("plugin")
@click.argument("name")
@config_option
def new_plugin(name: str, path: Path | None) -> None:
    """Write plugins/NAME.py and tests/test_NAME.py beside bot.toml."""
    _write("plugin", name, path)


@new.command("channel")
@click.argument("name")
@config_option
def new_channel(name: str, path: Path | None) -> None:
    """Write plugins/NAME.py, a channel, and tests/test_NAME.py beside bot.toml."""
    _write("channel", name, path)


def _write(kind: str, name: str, path: Path | None) -> None:
    from roost.scaffolds import write

    for file in write(kind, name, find(path).resolve().parent):
        click.echo(f"Wrote {file}")


@hookimpl
def register_cli(cli: click.Group) -> None:
    cli.add_command(plugins)
    cli.add_command(new)
