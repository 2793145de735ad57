"""`roost model eval`: what smaller files of a model lost, how large they are and how fast they run here."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from roost.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from roost.brains.apart import Report

SAMPLES = {"English": "sample-en.txt", "Chinese": "sample-zh.txt"}
TEXT = click.option(
    "--text", "texts", multiple=True, type=click.Path(path_type=Path), help="Read this file instead of the samples."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON.")


@click.command("eval")
@click.argument("reference")
@click.argument("others", metavar="FILE...", nargs=-1, required=True)
@TEXT
@click.option("--tokens", default=16384, show_default=True, type=click.IntRange(64), help="Read so many at most.")
@click.option("--speed/--no-speed", "timed", default=True, show_default=True, help="Also time the engine.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Runs to take the median of.")
@click.option("--plot", "drawing", type=click.Path(path_type=Path), help="Draw loss against size into this SVG file.")
@JSON
def evaluate(
    reference: str,
    others: tuple[str, ...],
    texts: tuple[Path, ...],
    tokens: int,
    timed: bool,
    runs: int,
    drawing: Path | None,
    as_json: bool,
) -> None:
    """Hold model files against REFERENCE, the same model with more bits, on the same text."""
    paths = [located(name) for name in (reference, *others)]
    result = compared(paths, contents(texts), tokens)
    if timed:
        add_speeds(result["files"], runs)
    if drawing is not None:
        write_text(drawing, drawn(result))
    click.echo(json.dumps(result, indent=2)) if as_json else show(result)


def compared(paths: Sequence[Path], texts: list[tuple[str, str]], tokens: int) -> dict[str, Any]:
    """The figures of each file, the reference first. Raises ModelError."""
    from roost.brains.apart import work

    with tempfile.TemporaryDirectory(prefix="roost-") as folder, shown() as report:
        arguments = {
            "reference_path": str(paths[0]),
            "others": [str(path) for path in paths[1:]],
            "texts": texts,
            "tokens": tokens,
            "folder": folder,
        }
        result: dict[str, Any] = work("compare", arguments, report)
        return result


def located(name: str) -> Path:
    """A model file by its path, or by a name of the store. Raises ModelError."""
    from roost.brains.store import ModelStore
    from roost.home import data_folder

    path = Path(name)
    if path.is_file():
        return path
    found = ModelStore(data_folder() / "models").find(name)
    if found is None:
        raise ModelError(f"There is no model file '{name}', and no model of that name was fetched: `roost model pull`.")
    return found


def contents(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Texts by name: the files', or the samples in English and Chinese. Raises ConfigError."""
    if not paths:
        return [(name, sample(file)) for name, file in SAMPLES.items()]
    try:
        return [(path.name, path.read_text(encoding="utf-8")) for path in dict.fromkeys(paths)]
    except OSError as error:
        raise ConfigError(f"The text cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"A text is not in UTF-8: {error}. Convert it first.") from error


def sample(file: str) -> str:
    return (files("roost.brains") / file).read_text(encoding="utf-8")


def add_speeds(results: list[dict[str, Any]], runs: int) -> None:
    from roost.brains.speed import speed

    for one in results:
        found = asyncio.run(speed(Path(one["path"]), runs))
        one["speed"] = {"prompt": found.prompt, "answer": found.answer}


def show(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table(result))
    names = list(result["files"][0]["texts"])
    if len(names) > 1:
        for one in result["files"][1:]:
            parts = (f"{name} {plus_minus(one['texts'][name]['loss'], 100)}" for name in names)
            console.print(f"  {Path(one['path']).name}: loss {', '.join(parts)} %", highlight=False)
    console.print(f"{result['judged']:,} tokens judged. ± is one standard error.", highlight=False)


def table(result: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        grid.add_column(column, justify="left" if column in {"file", "types"} else "right", no_wrap=True)
    for one in result["files"]:
        grid.add_row(*(written(one) for written in COLUMNS.values()))
    return grid


def plus_minus(pair: Sequence[float], times: float = 1.0, digits: int = 2) -> str:
    return f"{times * pair[0]:.{digits}f} ± {times * pair[1]:.{digits}f}"


def paced(one: dict[str, Any], name: str) -> str:
    return f"{one['speed'][name]:.0f}" if "speed" in one else ""


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "file": lambda one: Path(one["path"]).name,
    "types": lambda one: str(one["kinds"]),
    "MB": lambda one: f"{one['size'] / 1e6:.1f}",
    "bits": lambda one: f"{one['bits']:.2f}",
    "perplexity": lambda one: f"{one['perplexity'][0]:.2f}",
    "loss %": lambda one: plus_minus(one["loss"], 100),
    "KL": lambda one: plus_minus(one["divergence"], 1, 4),
    "same %": lambda one: plus_minus(one["agreement"], 100, 1),
    "prompt/s": lambda one: paced(one, "prompt"),
    "answer/s": lambda one: paced(one, "answer"),
}


def drawn(result: dict[str, Any]) -> str:
    from roost.brains.plot import Point, plot

    points = [
        Point(Path(one["path"]).stem, one["size"] / 1e6, 100 * one["loss"][0], 100 * one["loss"][1])
        for one in result["files"]
    ]
    title = f"What smaller files lose against {Path(result['files'][0]['path']).name}"
    return plot(title, points, "size, MB", "perplexity higher by, %")


def write_text(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error}.") from error


@contextmanager
def shown() -> Iterator[Report]:
    """A bar for each step, where there is somebody to see it."""
    from roost.brains.apart import unheard
    from roost.progress import watched

    if not watched():
        yield unheard
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield report
