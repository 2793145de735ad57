"""Plugins: found, loaded, registered. Ours come in the same way as anybody's."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from roost import hookspecs
from roost.commands import Command
from roost.contracts import Brain, Channel, Memory
from roost.errors import ConfigError, PluginError
from roost.jobs import Job

log = logging.getLogger("roost.plugins")
C = TypeVar("C")

BUILTINS = (
    "roost.builtin",
    "roost.owner",
    "roost.remembering",
    "roost.linking",
    "roost.channels.builtin",
    "roost.brains.builtin",
    "roost.memory.builtin",
)


@dataclass(slots=True)
class Shelf(Generic[C]):
    """Classes of one kind by name; one that is only named is imported when it is taken."""

    noun: str
    entries: dict[str, type[C] | str] = field(default_factory=dict)
    always: list[str] = field(default_factory=list)

    def put(self, name: str, entry: type[C] | str, always: bool = False) -> None:
        """Add an entry. One that is `always` there needs no table in bot.toml."""
        if name in self.entries and self.entries[name] != entry:
            raise PluginError(f"There are two {self.noun}s named '{name}': {self.entries[name]} and {entry}.")
        self.entries[name] = entry
        if always:
            self.always.append(name)

    def take(self, name: str) -> type[C]:
        """The class called `name`. Raises ConfigError when there is none, or when it needs a package."""
        entry = self.entries.get(name)
        if entry is None:
            raise ConfigError(f"There is no {self.noun} '{name}'.{did_you_mean(name, self.entries)}")
        if isinstance(entry, str):
            entry = self._import(name, entry)
            self.entries[name] = entry
        return entry

    def _import(self, name: str, entry: str) -> type[C]:
        module, _, attribute = entry.partition(":")
        try:
            cls: type[C] = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name and error.name.partition(".")[0] == "roost":
                raise
            raise ConfigError(
                f"The {self.noun} '{name}' needs the package '{error.name}'. Install it: roost {self.noun}s add {name}"
            ) from error
        except Exception as error:
            raise ConfigError(f"The {self.noun} '{name}' cannot be loaded: {where_it_failed(error)}") from error
        return cls


@dataclass(frozen=True, slots=True)
class Failure:
    """A plugin that could not be loaded, and why."""

    plugin: str
    reason: str


class Registry:
    """Everything plugins have registered."""

    def __init__(self) -> None:
        self.plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self.plugins.add_hookspecs(hookspecs)
        self.channels: Shelf[Channel] = Shelf("channel")
        self.brains: Shelf[Brain] = Shelf("brain")
        self.memories: Shelf[Memory] = Shelf("memory")
        self.commands: dict[str, Command] = {}
        self.jobs: dict[str, Job] = {}
        self.failures: list[Failure] = []
        self.files: dict[str, Path] = {}

    def load(self, folder: Path | None = None, disabled: Iterable[str] = ()) -> None:
        """Load built-ins, installed plugins and the files in `folder`. One that fails stops no other."""
        disabled = set(disabled)
        for name in BUILTINS:
            self.add(importlib.import_module(name), name)
        for point in importlib.metadata.entry_points(group=hookspecs.PROJECT):
            if point.name not in disabled:
                self._try(point.name, point.load)
        for name, path in plugin_files(folder):
            if name not in disabled:
                self._try(name, lambda name=name, path=path: import_file(name, path))
                self.files[name] = path

    def add(self, module: ModuleType | object, name: str) -> None:
        """Register one plugin: its hooks, then the commands and jobs marked in it. Raises PluginError."""
        before = dict(self.commands), dict(self.jobs)
        self.plugins.register(module, name)
        try:
            self._check_hooks(name)
            self._collect(module, name)
        except Exception:
            self.commands, self.jobs = before
            self.plugins.unregister(name=name)
            raise

    def remove(self, name: str) -> None:
        """Take a plugin out again, with everything it registered."""
        self.plugins.unregister(name=name)
        self.commands = {key: one for key, one in self.commands.items() if one.plugin != name}
        self.jobs = {key: one for key, one in self.jobs.items() if one.plugin != name}

    def _try(self, name: str, load: Any) -> None:
        try:
            self.add(load(), name)
        except (Exception, SystemExit) as error:
            self.failures.append(Failure(name, where_it_failed(error)))
            log.error("The plugin '%s' was left out: %s", name, self.failures[-1].reason)

    def _check_hooks(self, name: str) -> None:
        known = [hook for hook in vars(hookspecs) if hasattr(getattr(hookspecs, hook), "roost_spec")]
        try:
            self.plugins.check_pending()
        except pluggy.PluginValidationError as error:
            hook = str(error).split("'")[1] if "'" in str(error) else ""
            raise PluginError(
                f"'{name}' has a hook that does not exist: {error}.{did_you_mean(hook, known)}"
            ) from error

    def _collect(self, module: ModuleType | object, name: str) -> None:
        plugin = self.plugins.subset_hook_caller
        others = [one for one in self.plugins.get_plugins() if one is not module]
        plugin("register_channels", others)(register=self.channels.put)
        plugin("register_brains", others)(register=self.brains.put)
        plugin("register_memories", others)(register=self.memories.put)
        plugin("register_commands", others)(register=lambda command: self._add_command(command, name))
        plugin("register_jobs", others)(register=lambda job: self._add_job(job, name))
        for thing in list(vars(module).values()):
            if isinstance(mark := getattr(thing, "__roost_command__", None), Command):
                self._add_command(mark, name)
            if isinstance(mark := getattr(thing, "__roost_job__", None), Job):
                self._add_job(mark, name)

    def _add_command(self, command: Command, plugin: str) -> None:
        command.plugin = plugin
        if any(one.kind is one.VAR_POSITIONAL for one in command.signature.parameters.values()):
            raise PluginError(f"The command '{command.name}' has '*' arguments. Let its last `str` take the rest.")
        for name in (command.name, *command.aliases):
            other = self.commands.get(name)
            if other is not None and other.plugin != plugin:
                raise PluginError(f"Both '{other.plugin}' and '{plugin}' have a command '{name}'. Rename one.")
            self.commands[name] = command

    def _add_job(self, job: Job, plugin: str) -> None:
        job.plugin = plugin
        job.check()
        self.jobs[f"{plugin}.{job.name}"] = job


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name, or all of them when none is near."""
    known = sorted(known)
    near = get_close_matches(word, known, 1, 0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" There are: {', '.join(known)}." if known else ""


def plugin_files(folder: Path | None) -> list[tuple[str, Path]]:
    """Name and path of each plugin in a folder: NAME.py or NAME/__init__.py, not those that begin with _ or a dot."""
    if folder is None or not folder.is_dir():
        return []
    found = {path.stem: path for path in folder.glob("*.py")}
    found.update({path.parent.name: path for path in folder.glob("*/__init__.py")})
    return sorted((name, path) for name, path in found.items() if not name.startswith(("_", ".")))


def import_file(name: str, path: Path) -> ModuleType:
    """Import a plugin's file under a name of its own, so that it cannot shadow anything."""
    full = f"roost_plugins.{name}"
    folder = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(full, path, submodule_search_locations=folder)
    if spec is None or spec.loader is None:
        raise PluginError(f"'{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    return module


def where_it_failed(error: BaseException) -> str:
    """The error with the file and line it came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}: {error}{place}"
