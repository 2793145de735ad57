"""Plugins: found, loaded, registered. Ours come in the same way as anybody's."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from roost import hookspecs
from roost.commands import Command
from roost.contracts import Brain, Channel, Memory
from roost.errors import ConfigError, PluginError
from roost.folder import PACKAGE, Source, import_source, sources
from roost.hearing import Deaf, Hearing
from roost.jobs import Job
from roost.logs import redact
from roost.settings import PluginsTable
from roost.tools import Mark, Offer, check, offer

log = logging.getLogger("roost.plugins")
C = TypeVar("C")

BUILTINS = (
    "roost.builtin",
    "roost.owner",
    "roost.guarding",
    "roost.remembering",
    "roost.linking",
    "roost.plugincli",
    "roost.privacycli",
    "roost.mounts",
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
    plugins: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, entry: type[C] | str, always: bool = False, *, plugin: str = "") -> None:
        """Add an entry. One that is `always` there needs no table in bot.toml."""
        if name in self.entries and self.entries[name] != entry:
            raise PluginError(f"There are two {self.noun}s named '{name}': {self.entries[name]} and {entry}.")
        self.entries[name] = entry
        self.plugins[name] = plugin
        if always and name not in self.always:
            self.always.append(name)

    def drop(self, plugin: str) -> None:
        """Take out what a plugin put in."""
        for name in [name for name, whose in self.plugins.items() if whose == plugin]:
            del self.entries[name], self.plugins[name]
            if name in self.always:
                self.always.remove(name)

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
        self.hearings: Shelf[Hearing] = Shelf("engine for speech", {"none": Deaf})
        self.commands: dict[str, Command] = {}
        self.jobs: dict[str, Job] = {}
        self.tools: dict[str, Offer] = {}
        self.failures: list[Failure] = []
        self.order: dict[str, int] = {}
        self.options: dict[str, type[Any]] = {}

    def load(self, where: PluginsTable | None = None, beside: Path | None = None) -> None:
        """Load built-ins, installed plugins and, as `where` says, the files in a folder `beside` bot.toml.

        One that fails stops no other.
        """
        disabled = set(where.disable) if where else set()
        for name in BUILTINS:
            self.add(importlib.import_module(name), name)
        for point in importlib.metadata.entry_points(group=hookspecs.PROJECT):
            if point.name not in disabled:
                self._try(point.name, point.load)
        if where is not None and beside is not None:
            for source in in_folder(where, beside):
                self._try(source.name, lambda source=source: import_source(source))

    def add(self, module: ModuleType | object, name: str) -> None:
        """Register one plugin: its hooks, then the commands and jobs marked in it. Raises PluginError."""
        before = dict(self.commands), dict(self.jobs), dict(self.tools)
        self.plugins.register(module, name)
        try:
            self._check_hooks(name)
            self._collect(module, name)
        except BaseException:
            self.commands, self.jobs, self.tools = before
            self.options.pop(name, None)
            self._drop(name)
            raise
        self.order.setdefault(name, len(self.order))

    def remove(self, name: str) -> None:
        """Take a plugin out again, with everything it registered."""
        self._drop(name)
        self.commands = {key: one for key, one in self.commands.items() if one.plugin != name}
        self.jobs = {key: one for key, one in self.jobs.items() if one.plugin != name}
        self.tools = {key: one for key, one in self.tools.items() if one.plugin != name}
        self.options.pop(name, None)

    def _drop(self, name: str) -> None:
        self.plugins.unregister(name=name)
        for shelf in self._shelves():
            shelf.drop(name)

    def _shelves(self) -> tuple[Shelf[Any], ...]:
        return (self.channels, self.brains, self.memories, self.hearings)

    def replace(self, name: str, module: ModuleType | object) -> None:
        """Put another version of a plugin where the one before was. Raises PluginError, and that one stays."""
        before = self.plugins.get_plugin(name)
        if before is not None:
            self.remove(name)
        try:
            self.add(module, name)
        except BaseException:
            if before is not None:
                self.add(before, name)
            raise

    def offers(self, name: str) -> bool:
        """Whether a table of bot.toml may say something that a plugin has offered."""
        return name in self.options or any(name in shelf.plugins.values() for shelf in self._shelves())

    def implementations(self, hook: str, plugin: str = "") -> list[pluggy.HookImpl]:
        """Who has a hook, in the order in which plugins were first loaded, whatever was replaced since."""
        found = getattr(self.plugins.hook, hook).get_hookimpls()
        found = [one for one in found if not plugin or one.plugin_name == plugin]
        return sorted(found, key=lambda one: self.order.get(one.plugin_name, len(self.order)))

    def failed(self, name: str, error: BaseException | None) -> str:
        """Note why a plugin is not there as it should be, or that it is; returns the reason."""
        self.failures = [one for one in self.failures if one.plugin != name]
        if error is None:
            return ""
        reason = redact(str(error) if isinstance(error, PluginError) else where_it_failed(error))
        self.failures.append(Failure(name, reason))
        return reason

    def _try(self, name: str, load: Any) -> None:
        try:
            self.add(load(), name)
        except (Exception, SystemExit) as error:
            log.error("The plugin '%s' was left out: %s", name, self.failed(name, error))

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
        plugin("register_channels", others)(register=partial(self.channels.put, plugin=name))
        plugin("register_brains", others)(register=partial(self.brains.put, plugin=name))
        plugin("register_memories", others)(register=partial(self.memories.put, plugin=name))
        plugin("register_hearings", others)(register=partial(self.hearings.put, plugin=name))
        plugin("register_commands", others)(register=lambda command: self._add_command(command, name))
        plugin("register_tools", others)(register=lambda one: self._add_tool(one, name))
        plugin("register_jobs", others)(register=lambda job: self._add_job(job, name))
        for thing in list(vars(module).values()):
            if isinstance(mark := getattr(thing, "__roost_command__", None), Command):
                self._add_command(mark, name)
            if isinstance(mark := getattr(thing, "__roost_job__", None), Job):
                self._add_job(mark, name)
            if isinstance(mark := getattr(thing, "__roost_tool__", None), Mark):
                self._add_tool(offer(thing, mark), name)
            if isinstance(thing, type) and getattr(thing, "__roost_options__", False):
                self._add_options(thing, name)

    def _add_command(self, command: Command, plugin: str) -> None:
        command.plugin = plugin
        if any(one.kind is one.VAR_POSITIONAL for one in command.signature.parameters.values()):
            raise PluginError(f"The command '{command.name}' has '*' arguments. Let its last `str` take the rest.")
        for name in (command.name, *command.aliases):
            other = self.commands.get(name)
            if other is not None and other.plugin != plugin:
                raise PluginError(f"Both '{other.plugin}' and '{plugin}' have a command '{name}'. Rename one.")
            self.commands[name] = command

    def _add_options(self, cls: type[Any], plugin: str) -> None:
        if self.options.get(plugin, cls) is not cls:
            other = self.options[plugin].__name__
            raise PluginError(f"'{plugin}' has two classes of options: '{other}' and '{cls.__name__}'.")
        self.options[plugin] = cls

    def _add_tool(self, one: Offer, plugin: str) -> None:
        one.plugin = plugin
        check(one.tool)
        other = self.tools.get(one.tool.name)
        if other is not None and other.plugin != plugin:
            raise PluginError(f"Both '{other.plugin}' and '{plugin}' have a tool '{one.tool.name}'. Rename one.")
        self.tools[one.tool.name] = one

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


def in_folder(where: PluginsTable, beside: Path) -> list[Source]:
    """The user's own plugins, without those that are switched off."""
    found = sources(beside / where.folder, where.order, where.links)
    return [one for one in found if one.name not in where.disable]


def where_it_failed(error: BaseException) -> str:
    """The error with the file and line it came from: those of the plugin, where it came from what a plugin called."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [(trace.f_code.co_filename, line, trace.f_globals) for trace, line in walk_tb(error.__traceback__)]
    own = [frame for frame in frames if str(frame[2].get("__name__", "")).startswith(f"{PACKAGE}.")]
    place = "".join(f" ({file}, line {line})" for file, line, _ in (own or frames)[-1:])
    return f"{type(error).__name__}: {error}{place}"
