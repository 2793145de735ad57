"""The user's own plugins: files in one folder, found, read and imported so that they can be imported again."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from types import CodeType, ModuleType

from roost.errors import PluginError

PACKAGE = "roost_plugins"
HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""Inline script metadata, https://packaging.python.org/en/latest/specifications/inline-script-metadata/."""


@dataclass(frozen=True, slots=True)
class Source:
    """A plugin in the folder: `path` is NAME.py or NAME/__init__.py. Where `fault` says why, it is not imported."""

    name: str
    path: Path
    fault: str = ""

    def files(self) -> list[Path]:
        """Every Python file of it."""
        return [self.path] if self.path.name != "__init__.py" else sorted(self.path.parent.rglob("*.py"))

    def digest(self) -> bytes:
        """Changes when its code does, whatever the clock of its files says."""
        made = hashlib.sha256(f"{self.path}\0{self.fault}".encode())
        for path in self.files():
            try:
                made.update(f"\0{path}\0".encode() + path.read_bytes())
            except OSError as error:
                made.update(str(error.errno).encode())
        return made.digest()


def sources(folder: Path | None, order: Sequence[str] = (), links: bool = False) -> list[Source]:
    """What is in a folder: those named in `order` first, the others by name; not those that begin with _ or a dot.

    Links that lead out of the folder are at fault unless `links` allows them.
    """
    if folder is None or not folder.is_dir():
        return []
    paths = sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")])
    found: dict[str, Source] = {}
    for path in paths:
        name = path.parent.name if path.name == "__init__.py" and path.parent != folder else path.stem
        if not name.startswith(("_", ".")):
            found[name] = _source(name, path, folder, found.get(name), links)
    place = {name: number for number, name in enumerate(order)}
    return sorted(found.values(), key=lambda one: (place.get(one.name, len(place)), one.name))


def _source(name: str, path: Path, folder: Path, other: Source | None, links: bool) -> Source:
    if other is not None:
        return Source(name, path, f"There are two of this name: '{other.path}' and '{path}'. Rename one.")
    if not name.isidentifier():
        return Source(name, path, f"'{name}' cannot be imported. Use letters, digits and '_' for its name.")
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return Source(name, path, f"'{path}' is a link that leads round in a circle. Remove it.")
    if path.is_dir():
        return Source(name, path, f"'{path}' is a folder. Name it '{name}', with an '__init__.py' in it.")
    if not links and not inside:
        problem = f"'{path}' is a link that leads out of the folder. Copy it, or allow it: [plugins] links = true."
        return Source(name, path, problem)
    return Source(name, path)


def import_source(source: Source) -> ModuleType:
    """Import a plugin anew under a name of its own, so that it cannot shadow anything.

    Its modules from before stay with those who use them, and stay known when this fails. Raises PluginError, and
    whatever the plugin raises.
    """
    if source.fault:
        raise PluginError(source.fault)
    check_needs(source)
    full = f"{PACKAGE}.{source.name}"
    before = _taken(full)
    try:
        return _imported(full, source.path)
    except BaseException as error:
        _taken(full)
        sys.modules.update(before)
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise PluginError(_absent(source, error)) from error
        raise


def _absent(source: Source, error: ModuleNotFoundError) -> str:
    """What to do about a module that is not there."""
    trace = [(code.f_code.co_filename, line) for code, line in walk_tb(error.__traceback__)]
    own = [one for one in trace if one[0] in map(str, source.files())]
    place = "".join(f" ({file}, line {line})" for file, line in (own or trace)[-1:])
    package = str(error.name).partition(".")[0]
    if package in (PACKAGE, "roost"):
        folder = " A plugin that has other files beside it is a folder, with an '__init__.py'."
        return f"It imports '{error.name}', which is not there{place}.{folder if package == PACKAGE else ''}"
    return (
        f"It imports '{error.name}', which is not installed{place}. Install what has it: "
        f"{sys.executable} -m pip install {package}"
    )


def forget(name: str) -> None:
    """Let go of a plugin's modules."""
    _taken(f"{PACKAGE}.{name}")


def _taken(full: str) -> dict[str, ModuleType]:
    names = [name for name in list(sys.modules) if name == full or name.startswith(f"{full}.")]
    return {name: sys.modules.pop(name) for name in names}


def _imported(full: str, path: Path) -> ModuleType:
    if not any(isinstance(one, Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    spec = _spec(full, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


class Fresh(importlib.machinery.SourceFileLoader):
    """Reads the source each time. Python's cache of compiled files goes by whole seconds and sizes."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        try:
            return self.source_to_code(self.get_data(path), path)
        except SyntaxError as error:  # of a text with zeros in it Python does not say where it is
            error.filename, error.lineno = error.filename or path, error.lineno or 1
            raise


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of a plugin that is a folder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{PACKAGE}.") or path is None:
            return None
        tail = fullname.rpartition(".")[2]
        places = (Path(folder) / name for folder in path for name in (f"{tail}/__init__.py", f"{tail}.py"))
        return next((_spec(fullname, place) for place in places if place.is_file()), None)


def _spec(full: str, path: Path) -> importlib.machinery.ModuleSpec | None:
    folder = [str(path.parent)] if path.name == "__init__.py" else None
    return importlib.util.spec_from_file_location(
        full, path, loader=Fresh(full, str(path)), submodule_search_locations=folder
    )


# What a plugin needs


def needs(source: Source) -> list[str]:
    """The requirements that a plugin's file names in its header (PEP 723). Raises PluginError."""
    try:
        text = source.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PluginError(f"'{source.path}' is not UTF-8: {error}. Save it so.") from error
    found = list(HEADER.finditer(text))
    if not found:
        return []
    if len(found) > 1:
        raise PluginError(f"'{source.path}' has two headers '# /// script'.")
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in found[0]["content"].splitlines())
    try:
        wanted = tomllib.loads("\n".join(lines)).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"The header '# /// script' of '{source.path}' is not valid TOML: {error}.") from error
    if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
        raise PluginError(f"The header of '{source.path}' has dependencies that are no list of texts.")
    return wanted


def missing(requirements: Iterable[str]) -> Iterator[str]:
    """Those that are not installed here, or in another version. Raises PluginError for what is no requirement."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requirements:
        try:
            one = Requirement(text)
        except InvalidRequirement as error:
            raise PluginError(f"'{text}' is no requirement: {str(error).splitlines()[0]}.") from error
        if one.marker is not None and not one.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            yield text
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield text


def check_needs(source: Source) -> None:
    """Raises PluginError with the line to type when something that a plugin needs is not installed."""
    absent = list(missing(needs(source)))
    if absent:
        raise PluginError(f"It needs {', '.join(absent)}. Install what it needs: roost plugins install {source.name}")
