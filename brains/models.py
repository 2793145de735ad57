"""The models that are known by name, and where each comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import msgspec

from roost.errors import ModelError


@dataclass(frozen=True, slots=True)
class Model:
    """One model file. Sizes are bytes; what is unknown is 0 or empty.

    `file` is its name in the store. `source` is where it comes from (see `sources`), and `source_size` and
    `source_sha256` are those of the package it is in, where it is in one.
    """

    name: str
    file: str
    source: str
    title: str = ""
    licence: str = ""
    parameters: int = 0
    precision: str = ""
    size: int = 0
    sha256: str = ""
    source_size: int = 0
    source_sha256: str = ""
    reason: str = ""


@cache
def known() -> dict[str, Model]:
    """The models of models.toml by name, the default one first."""
    tables = tomllib.loads((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))
    return {name: msgspec.convert({"name": name, **table}, Model) for name, table in tables.items()}


def named(name: str, models: Mapping[str, Model]) -> Model:
    """What `[brain] model` means: a known name, an address, `hf:…`, or a file. Raises ModelError for none of these.

    Empty means the first of `models`. A file is returned with its path as `source`, whether it exists or not.
    """
    name = name.strip() or next(iter(models))
    if name in models:
        return models[name]
    if name.startswith(("http://", "https://", "hf:", "pypi:")):
        return Model(name, file_of(name), name)
    if looks_like_file(name):
        return Model(name, Path(name).name, str(Path(name).expanduser()))
    close = get_close_matches(name, models, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ModelError(
        f"There is no model '{name}'.{hint} Known are {', '.join(models)}; or give the path of a .gguf file, "
        "an https address of one, or hf:owner/repository:file."
    )


def file_of(source: str) -> str:
    """The name in the store of what a source gives. Raises ModelError when it names no .gguf file."""
    if source.startswith("hf:"):
        repository, _, wanted = source.removeprefix("hf:").partition(":")
        name = wanted.rpartition("/")[2] if wanted.endswith(".gguf") else f"{repository}-{wanted or 'auto'}.gguf"
        return name.replace("/", "--")
    name = source.partition("?")[0].partition("#")[0].rpartition("/")[2]
    if not name.endswith(".gguf") or name.startswith(".") or "\\" in name:
        raise ModelError(f"'{source}' does not name a .gguf file. Give the address of one.")
    return name


def looks_like_file(name: str) -> bool:
    return name.endswith(".gguf") or "/" in name or "\\" in name or name.startswith("~")
