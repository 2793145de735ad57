"""`roost model quantize`: a smaller file of a model, with the parts that suffer most kept better."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from roost.brains.evaluate import JSON, TEXT, contents, located, plus_minus, sample, shown
from roost.brains.recipes import OFFERED, USUAL
from roost.errors import ConfigError, ModelError

CHOICE = "sample-choice.txt"
USUAL_LOSS = 2.0


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--precision", type=click.Choice(list(USUAL)), required=True)
@click.option("--type", "kind", type=click.Choice(OFFERED), help="The low type. [default: by precision]")
@click.option(
    "--keep", type=click.Choice(["q8_0", "f16"]), default="q8_0", show_default=True, help="Of mixed: the high."
)
@click.option("--size", default="", help="Of mixed: the file may have so much, such as 90M.")
@click.option("--loss", type=click.FloatRange(0, 1000), help="Of mixed: perplexity may rise by so many percent. [2]")
@click.option(
    "--tokens", default=1024, show_default=True, type=click.IntRange(64), help="Of mixed: measure on so many."
)
@TEXT
@click.option("--requantize", is_flag=True, help="Take a file that was made smaller before.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@JSON
def quantize(
    source: str,
    target: Path,
    precision: str,
    kind: str | None,
    keep: str,
    size: str,
    loss: float | None,
    tokens: int,
    texts: tuple[Path, ...],
    requantize: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the model IN as OUT, with 8 bits a weight, 4, or a mixture by what each part was measured to lose."""
    if precision != "mixed" and (size or loss is not None or texts):
        raise ConfigError("--size, --loss and --text are for `--precision mixed` only.")
    if size and loss is not None:
        raise ConfigError("Give --size or --loss, not both: the other one follows.")
    path = located(source)
    options = {"source": str(path), "kind": kind or "", "requantize": requantize}
    with fresh(path, target, overwrite) as part, shown() as report:
        from roost.brains.apart import work

        if precision == "mixed":
            options |= {"keep": keep, "texts": choice(texts), "tokens": tokens, **budget(size, loss)}
            with tempfile.TemporaryDirectory(prefix=".roost-", dir=part.parent) as folder:
                made = work("mix", {**options, "target": str(part), "folder": folder}, report)
        else:
            made = work("write", {**options, "target": str(part), "precision": precision}, report)
    made["path"] = str(target)
    click.echo(json.dumps(made, indent=2)) if as_json else show(made)


def budget(size: str, loss: float | None) -> dict[str, float]:
    """`90M` is 90 million bytes, as sizes of files are written. Raises ConfigError."""
    if not size:
        return {"size": 0, "loss": (USUAL_LOSS if loss is None else loss) / 100}
    number, unit = size.strip().rstrip("bB"), 1.0
    if number[-1:].upper() in UNITS:
        number, unit = number[:-1], UNITS[number[-1].upper()]
    try:
        amount = float(number) * unit
    except ValueError:
        amount = 0.0
    if not 1 <= amount < 1e15:
        raise ConfigError(f"'{size}' is no size of a file. Write bytes, or a number with K, M or G: 90M.")
    return {"size": int(amount), "loss": 0.0}


UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


def choice(texts: Sequence[Path]) -> list[tuple[str, str]]:
    """What parts are measured on. It is not among the samples that `eval` reads, so that these judge fairly."""
    return contents(texts) if texts else [("choice", sample(CHOICE))]


@contextmanager
def fresh(source: Path, target: Path, overwrite: bool) -> Iterator[Path]:
    """A file beside `target` that takes its place when all went well, and vanishes otherwise. Raises ModelError."""
    from roost.brains.store import settle_folder

    if target.exists():
        if target.samefile(source):
            raise ModelError(f"'{target}' is the model to read. Write to another file.")
        if not overwrite or not target.is_file():
            raise ModelError(f"There is a file '{target}' already. Choose another name, or add --overwrite.")
    if not target.parent.is_dir():
        raise ModelError(f"There is no folder '{target.parent}' to write to. Make it first.")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)  # noqa: PTH105
        settle_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def show(made: dict[str, Any]) -> None:
    click.echo(f"{made['path']}: {made['size'] / 1e6:.1f} MB, {made['bits']:.2f} bits a weight, {made['kinds']}.")
    if "parts" not in made:
        return
    kept = [one for one in made["parts"] if one["kept"]]
    click.echo(f"{len(kept)} of {len(made['parts'])} parts keep more bits; the divergence that each alone would cause:")
    for one in kept[:12]:
        click.echo(f"  {one['name']:<24} {plus_minus(one['divergence'], 1, 5)}  for {one['bytes'] / 1e6:.2f} MB")
    if len(kept) > 12:
        click.echo(f"  … and {len(kept) - 12} more (--json names them all)")
    click.echo(
        f"Measured on the whole file: perplexity {plus_minus(made['loss'], 100)} % higher, KL divergence "
        f"{plus_minus(made['divergence'], 1, 4)}. Judge it on other text: `roost model eval IN OUT`."
    )
