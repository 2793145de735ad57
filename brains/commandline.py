"""`roost model …`: the model files of this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from roost.brains.store import ModelStore


@click.group()
def model() -> None:
    """List, fetch, check and remove model files."""


@model.command("list")
def list_models() -> None:
    """List the models known by name, and the files that are here."""
    store = _store()
    for one in store.models.values():
        here = "here" if store.find(one.name) else f"{one.size // 1_000_000} MB to fetch"
        click.echo(f"{one.name:<24} {here:<20} {one.title}, {one.licence}")
    named = {one.file for one in store.models.values()}
    for path in store.installed():
        if path.name not in named:
            click.echo(f"{path.stem:<24} {'here':<20} {path.stat().st_size // 1_000_000} MB")


@model.command()
@click.argument("name", default="")
def pull(name: str) -> None:
    """Fetch a model: a known name, an https address, or hf:owner/repository:file."""
    from roost.brains.store import unheard
    from roost.progress import Bar, watched

    store = _store()
    progress = Bar(f"Fetching {store.describe(name).name}") if watched() else unheard
    path = asyncio.run(store.ensure(name, progress))
    click.echo(f'{path}\nTo think with it: model = "{name or store.describe(name).name}" in [brain].')


@model.command()
@click.argument("name", default="")
def info(name: str) -> None:
    """Tell what is known about a model."""
    store = _store()
    one = store.describe(name)
    facts = {
        "name": one.name,
        "title": one.title,
        "licence": one.licence,
        "parameters": f"{one.parameters:,}" if one.parameters else "",
        "size": f"{one.size / 1e6:.0f} MB" if one.size else "",
        "from": one.source,
        "file": str(store.find(name) or "not here"),
        "why": one.reason,
    }
    for fact, value in facts.items():
        if value:
            click.echo(f"{fact:<11} {value}")


@model.command()
@click.argument("name", default="")
def verify(name: str) -> None:
    """Read a model file through and check it."""
    store = _store()
    store.verify(name)
    click.echo(f"{store.find(name)} is sound.")


@model.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a model's file from the store."""
    click.echo("Removed." if _store().remove(name) else "It was not here.")


def _store() -> ModelStore:
    from roost.brains.store import ModelStore
    from roost.home import data_folder

    return ModelStore(data_folder() / "models")
