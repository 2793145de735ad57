"""The models that are known by name, and where each comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from roost.brains.ollama import blob
from roost.brains.shape import Shape, Sketch, sketched
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
    shape: Sketch | None = None
    active: int = 0

    @property
    def read(self) -> int:
        """Bytes of weights that one token needs: of a mixture of experts, those of the experts it goes to."""
        return self.size * (self.active or self.parameters) // self.parameters if self.parameters else self.size

    def outline(self) -> Shape | None:
        """What planning needs, where it is known without the file."""
        if self.shape is None:
            return None
        return sketched(self.title or self.name, self.shape, self.parameters, self.precision or "int4", self.size)


@dataclass(frozen=True, slots=True)
class File:
    """One precision of a recommended model."""

    source: str
    size: int


@dataclass(frozen=True, slots=True)
class Family:
    """A recommended model, published in one or more precisions. `active` parameters of a mixture work at a time."""

    title: str
    licence: str
    parameters: int
    reason: str
    shape: Sketch
    files: dict[str, File]
    active: int = 0

    def model(self, name: str, precision: str) -> Model:
        file = self.files[precision]
        return Model(
            name=f"{name}-{precision}",
            file=file_of(file.source),
            source=file.source,
            title=f"{self.title}, {precision}",
            licence=self.licence,
            parameters=self.parameters,
            precision=precision,
            size=file.size,
            reason=self.reason,
            shape=self.shape,
            active=self.active,
        )


@cache
def known() -> dict[str, Model]:
    """The models that come with a checksum, by name, the default one first."""
    tables = tables_of("models.toml")
    return {
        name: msgspec.convert({"name": name, **table}, Model) for name, table in tables.items() if name != "recommended"
    }


@cache
def recommended() -> dict[str, Model]:
    """Every file of the models recommended beyond these, the smallest model first: "qwen3-4b-int4"."""
    tables = tables_of("models.toml").get("recommended", {})
    families = {name: msgspec.convert(table, Family) for name, table in tables.items()}
    files = [family.model(name, precision) for name, family in families.items() for precision in family.files]
    return {one.name: one for one in files}


def family(name: str) -> list[Model]:
    """The files of a recommended model by its name without a precision, the first being the usual choice."""
    return [one for one in recommended().values() if one.name == f"{name.strip()}-{one.precision}"]


def tables_of(file: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))


def named(name: str, models: Mapping[str, Model]) -> Model:
    """What `[brain] model` means: a known name, an address, `hf:…`, or a file. Raises ModelError for none of these.

    Empty means the first of `models`. A file is returned with its path as `source`, whether it exists or not. Of a
    recommended model in several precisions, the one of four bits is meant.
    """
    name = name.strip() or next(iter(models))
    if name in models:
        return models[name]
    if name in recommended():
        return recommended()[name]
    if files := family(name):
        return files[0]
    if name.startswith(("http://", "https://", "hf:", "pypi:")):
        return Model(name, file_of(name), name)
    if name.startswith("ollama:"):
        path = blob(name.removeprefix("ollama:"))
        return Model(name, path.name, str(path))
    if looks_like_file(name):
        return Model(name, Path(name).name, str(Path(name).expanduser()))
    all_names = [*models, *(one.name.removesuffix(f"-{one.precision}") for one in recommended().values())]
    close = get_close_matches(name, all_names, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ModelError(
        f"There is no model '{name}'.{hint} Known are {', '.join(dict.fromkeys(all_names))}; or give the path "
        "of a .gguf file, an https address of one, hf:owner/repository:file, or ollama:name:tag."
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
