"""`roost model …`: the model files of this machine."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from roost.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from roost.brains.machine import Build, Machine
    from roost.brains.plan import Plan
    from roost.brains.shape import Shape
    from roost.brains.store import ModelStore


@click.group()
def model() -> None:
    """List, fetch, check and remove model files; plan how they run here."""


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
    path = _fetch(name)
    click.echo(f"{path}\nTo think with it: roost model use {name or _store().describe(name).name}")


@model.command()
@click.argument("name")
@click.option("--config", default="bot.toml", type=click.Path(path_type=Path), help="The configuration to change.")
def use(name: str, config: Path) -> None:
    """Fetch a model if it is not here, and write it into bot.toml. A bot that runs changes over by itself."""
    from roost.edit import put

    if not config.is_file():
        raise ConfigError(f"There is no '{config}'. Name another file with --config FILE.")
    _fetch(name)
    put(config, "brain", {"use": "llamacpp", "model": name})
    click.echo(f'[brain] model = "{name}" is in {config}.')


def _fetch(name: str) -> Path:
    """The model's file, fetched if need be, with what is to be known before it is."""
    from roost.brains.store import unheard
    from roost.progress import Bar, watched

    store = _store()
    one = store.describe(name)
    if store.find(name) is None and one.licence:
        click.echo(f"{one.title or one.name}, {one.size / 1e6:,.0f} MB, licence: {one.licence}")
    progress = Bar(f"Fetching {one.name}") if watched() else unheard
    return asyncio.run(store.ensure(name, progress))


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


MEMORY = click.option("--memory", default="", help="Plan for so much memory, such as 16G, instead of what is here.")
CONTEXT = click.option(
    "--context",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Tokens a prompt and its answer may have.",
)


@model.command()
@click.argument("name", metavar="[MODEL]", default="")
@MEMORY
@CONTEXT
@click.option("--slots", type=click.IntRange(1), default=2, show_default=True, help="Answers made at the same time.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "int4", "int8", "fp16"]), default="auto", show_default=True)
@click.option("--params", default="", help="Plan for a usual model of so many parameters, such as 7B.")
@click.option("--measure", is_flag=True, help="Also run the engine, fill its slots, and look at its memory.")
def plan(
    name: str,
    memory: str,
    context: int,
    slots: int,
    device: Literal["auto", "cpu", "gpu"],
    precision: str,
    params: str,
    measure: bool,
) -> None:
    """Reckon how a model runs on this machine, and how much memory that takes. Fails when it does not fit."""
    from roost.brains.choice import advice
    from roost.brains.plan import Wish, make
    from roost.brains.report import report, verdict

    wish = Wish(context, slots, device=device)
    machine, build = _machine(memory)
    if device == "gpu" and not build.cards:
        raise ConfigError("The engine sees no graphics card it can use here. Leave `--device gpu` out.")
    file, shape = _shape(name, params, precision)
    made = make(shape, machine, build, wish)
    for line in (*report(machine, build, made), "", verdict(made)):
        click.echo(line)
    if made.context < context:
        click.echo(f"Its context is what the model was made for, not the {context:,} that were asked for.")
    if measure:
        click.echo(_measured(file, made))
    if not made.fits:
        click.echo(advice(shape, machine, build, wish))
        raise SystemExit(1)


@model.command()
@MEMORY
@CONTEXT
def suggest(memory: str, context: int) -> None:
    """Show the models known by name, which of them fit this machine, and the one to take."""
    from roost.brains.choice import best, offers
    from roost.brains.plan import Wish
    from roost.brains.report import machine_line
    from roost.gauges import in_words

    machine, build = _machine(memory)
    found = offers(machine, build, Wish(context))
    chosen = best(found)
    click.echo(f"{machine_line(machine, build)}\n\n  {'model':<20} {'needs':>8} {'download':>8}  licence, reason")
    for one in found:
        mark = ">" if one is chosen else " " if one.plan.fits else "-"
        sizes = f"{in_words(one.plan.needed):>8} {in_words(one.model.source_size or one.model.size):>8}"
        click.echo(f"{mark} {one.model.name:<20} {sizes}  {one.model.licence}. {one.model.reason}")
    if chosen is None:
        raise ModelError('None of them fits here. Let a server think instead: [brain] use = "openai".')
    click.echo(f"\n- does not fit; > is the one to take: roost model use {chosen.model.name}")


def _machine(memory: str) -> tuple[Machine, Build]:
    """What is here; with `memory`, an imagined machine with so much of it, the same cores and no cards."""
    from dataclasses import replace

    from roost.brains.machine import read_build, read_machine
    from roost.gauges import size

    machine, build = read_machine(), read_build()
    if not memory:
        return machine, build
    return replace(machine, memory=size(memory), free=0, limit="machine", cards=()), replace(build, cards=())


def _shape(name: str, params: str, precision: str) -> tuple[Path | None, Shape]:
    """The model's file, if it is here, and its shape. Raises ModelError when too little is known of it."""
    from roost.brains.choice import suitable
    from roost.brains.shape import typical
    from roost.brains.survey import read_shape

    if params:
        return None, typical(_count(params), "int4" if precision == "auto" else precision)
    store = _store()
    name = suitable(name, precision)
    if file := store.find(name):
        return file, _known(file, read_shape(file))
    one = store.describe(name)
    if shape := one.outline():
        return None, shape
    if not name.startswith(("https://", "http://", "hf:", "pypi:")):
        raise ModelError(f"There is no model file '{name}'. Correct the path.")
    raise ModelError(
        f"Nothing is known of '{name}' yet: fetch it with `roost model pull {name}`, or plan for a usual model of its "
        "size with --params 7B --precision int4."
    )


def _known(file: Path, shape: Shape) -> Shape:
    if shape.layers:
        return shape
    raise ModelError(
        f"'{file}' does not tell how many layers it has, so nothing can be reckoned. Its architecture "
        f"'{shape.architecture}' is none that is known. Use another file of this model."
    )


def _count(params: str) -> int:
    """7B is seven billion. Raises ConfigError."""
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([mbMB])\s*", params)
    if found is None or not float(found[1]):
        raise ConfigError(f"'{params}' is no number of parameters. Write it like 7B or 350M.")
    return round(float(found[1]) * (1e9 if found[2] in "bB" else 1e6))


def _measured(file: Path | None, made: Plan) -> str:
    """Predicted against measured, of the engine's process with full slots and no prompt cache."""
    from roost.brains.measure import measure

    if file is None:
        raise ModelError("Only a model that is here can be measured: fetch it with `roost model pull`.")
    seen = asyncio.run(measure(file, made)).resident
    off = 100 * (made.resident / seen - 1)
    return (
        f"Measured with full slots: {seen / 1e6:,.1f} MB resident; predicted {made.resident / 1e6:,.1f} ({off:+.1f} %)."
    )


def _store() -> ModelStore:
    from roost.brains.store import ModelStore
    from roost.home import data_folder

    return ModelStore(data_folder() / "models")
