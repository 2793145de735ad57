"""bot.toml: read, overridden by the environment, checked, described.

Every error names the file, the table, the key, the value and the cure. A broken table of a channel becomes a
problem of that channel alone; anything else broken raises ConfigError with all problems at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from roost.contracts import Brain, BrainConfig, Channel, ChannelConfig, Memory, MemoryConfig
from roost.errors import ConfigError
from roost.gauges import size
from roost.hearing import Hearing, HearingConfig
from roost.references import Origin
from roost.registry import Registry, did_you_mean
from roost.routes import Route
from roost.secret_forms import finder, without
from roost.settings import (
    AccessTable,
    BotTable,
    JournalTable,
    McpTable,
    PluginsTable,
    PrivacyTable,
    ToolsTable,
    WebTable,
)
from roost.tables import NAME, Table, Tables, prefix, read_toml, show
from roost.values import Place

CORE: dict[str, type[Any]] = {
    "bot": BotTable,
    "access": AccessTable,
    "web": WebTable,
    "journal": JournalTable,
    "tools": ToolsTable,
    "privacy": PrivacyTable,
}
TABLES = (*CORE, "brain", "brains", "routes", "hearing", "memory", "channels", "mcp", "plugins")
KEYS = {one.name for one in fields(PluginsTable)}
HIDDEN_FROM = 6  # characters; a shorter value of a table of secrets is part of too many words to be hidden


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """One table `[channels.NAME]` that is in order."""

    cls: type[Channel]
    config: ChannelConfig


@dataclass(frozen=True, slots=True)
class BrainEntry:
    """The table `[brain]`, or one of `[brains.NAME]`."""

    cls: type[Brain]
    config: BrainConfig


@dataclass(frozen=True, slots=True)
class Config:
    """What bot.toml says. `problems` holds a sentence for each channel table that had to be left out.

    `origins` says where its secrets came from, those of what is switched off too.
    """

    path: Path
    bot: BotTable
    access: AccessTable
    web: WebTable
    journal: JournalTable
    tools: ToolsTable
    plugins: PluginsTable
    brain_class: type[Brain]
    brain: BrainConfig
    memory_class: type[Memory]
    memory: MemoryConfig
    hearing_class: type[Hearing]
    hearing: HearingConfig
    channels: dict[str, ChannelEntry]
    brains: dict[str, BrainEntry] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    mcp: dict[str, McpTable] = field(default_factory=dict)
    privacy: PrivacyTable = field(default_factory=PrivacyTable)
    plugin_options: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = field(default=(), repr=False, compare=False)

    @property
    def plugin_folder(self) -> Path:
        return self.path.parent / self.plugins.folder


def load(path: Path, registry: Registry, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration. Raises ConfigError."""
    reader = Reader(path, registry, os.environ if environment is None else environment)
    try:
        return reader.read()
    except ConfigError as error:  # a secret may stand where none is expected, too
        raise ConfigError(without(str(error), finder(tuple({one.value for one in reader.tables.origins})))) from None


def plugin_settings(path: Path) -> tuple[PluginsTable, Path]:
    """Where the user's plugins are, and beside what: needed before anything else can be read."""
    table = read_toml(path).get("plugins", {})
    own = {name: value for name, value in table.items() if name in KEYS} if isinstance(table, dict) else {}
    try:
        return msgspec.convert(own, PluginsTable), path.parent
    except msgspec.ValidationError:  # said in full when everything is read
        return PluginsTable(), path.parent


class Reader:
    """Turns one file and the environment into a Config, gathering problems on the way."""

    def __init__(self, path: Path, registry: Registry, environment: Mapping[str, str]) -> None:
        self.path = path
        self.registry = registry
        self.environment = environment
        self.tables = Tables(path.name, environment)
        self._say = self.tables.say

    def read(self) -> Config:
        data = read_toml(self.path)
        for name in data.keys() - set(TABLES):
            self._say(f"There is no table [{name}].{did_you_mean(name, TABLES)}")
        core = {name: self.tables.table(name, data.get(name, {}), cls) for name, cls in CORE.items()}
        self._check_timezone(core["bot"])
        self._check_memory_limit(core["bot"])
        self._check_places(core["access"])
        plugins, plugin_tables = self._plugins(data.get("plugins", {}))
        brain_class, brain = self._chosen("brain", data.get("brain", {}), self.registry.brains, BrainConfig)
        memory_class, memory = self._chosen("memory", data.get("memory", {}), self.registry.memories, MemoryConfig)
        hearing_class, hearing = self._chosen("hearing", data.get("hearing", {}), self.registry.hearings, HearingConfig)
        brains = self._brains(data.get("brains", {}))
        routes = self._routes(data.get("routes", []), brains)
        self._check_fallbacks(brain, brains)
        mcp = self._mcp(data.get("mcp", {}))
        if self.tables.problems:
            raise ConfigError("\n".join(self.tables.problems))
        channels = dict(self._channels(data.get("channels", {})))
        if not core["web"].enabled:  # a page of this machine's own is not there without the web face
            channels = {name: one for name, one in channels.items() if not (one.cls.local and has_routes(one.cls))}
        return Config(
            path=self.path,
            **core,
            plugins=plugins,
            brain_class=brain_class,
            brain=brain,
            memory_class=memory_class,
            memory=memory,
            hearing_class=hearing_class,
            hearing=hearing,
            channels=channels,
            brains=brains,
            routes=routes,
            mcp=mcp,
            plugin_options=dict(self._plugin_options(plugin_tables)),
            problems=(*self.tables.problems, *self.tables.lacking),
            origins=tuple(self.tables.origins),
        )

    def _check_timezone(self, bot: BotTable | None) -> None:
        try:
            ZoneInfo(bot.timezone if bot and bot.timezone else "UTC")
        except (KeyError, ValueError):
            self._say(f"[bot] timezone = {show(bot.timezone if bot else '')} is not one. Write 'Europe/Amsterdam'.")

    def _check_places(self, access: AccessTable | None) -> None:
        for name in access.places if access else ():
            try:
                Place.parse(name)
            except ValueError as error:
                self._say(f"[access.places.{show(name)}]: {error}")

    def _check_memory_limit(self, bot: BotTable | None) -> None:
        try:
            size(bot.memory_limit if bot else "")
        except ConfigError as error:
            self._say(f"[bot] memory_limit: {error}")

    def _plugins(self, table: Any) -> tuple[PluginsTable, dict[str, Table]]:
        if not isinstance(table, dict):
            return self.tables.table("plugins", table, PluginsTable), {}
        tables = {name: value for name, value in table.items() if isinstance(value, dict)}
        own = {name: value for name, value in table.items() if name not in tables}
        return self.tables.table("plugins", own, PluginsTable), tables

    def _plugin_options(self, tables: dict[str, Table]) -> Iterator[tuple[str, Any]]:
        """The tables of plugins that are there; a broken one is that plugin's problem alone."""
        for name in tables.keys() - self.registry.options.keys():
            self._say(f"[plugins.{name}]: no plugin has such options.{did_you_mean(name, self.registry.options)}")
        for name, cls in self.registry.options.items():
            before = len(self.tables.problems)
            found = self.tables.table(f"plugins.{name}", tables.get(name, {}), cls)
            if len(self.tables.problems) == before:
                yield name, found

    def _chosen(self, name: str, table: Any, shelf: Any, default: Any) -> tuple[Any, Any]:
        """A table whose key `use` says which class reads the others."""
        overridden = self.tables.override(name, table if isinstance(table, dict) else {})
        use = overridden.get("use", default().use)
        try:
            cls = shelf.take(str(use))
        except ConfigError as error:
            self._say(f"[{name}] use = {show(use)}: {error}")
            return None, None
        return cls, self.tables.table(name, table, cls.Config)

    def _brains(self, tables: Any) -> dict[str, BrainEntry]:
        if not isinstance(tables, dict):
            self._say("[brains] is not a table. Write [brains.NAME], for example [brains.big].")
            return {}
        found = {}
        for name, table in tables.items():
            if not NAME.fullmatch(name):
                self._say(f"[brains.{name}]: '{name}' cannot name a brain. Use letters, digits, '-' and '_'.")
                continue
            found[name] = BrainEntry(*self._chosen(f"brains.{name}", table, self.registry.brains, BrainConfig))
        return found

    def _routes(self, tables: Any, brains: Mapping[str, BrainEntry]) -> tuple[Route, ...]:
        if not isinstance(tables, list):
            self._say("'routes' is not a list of tables. Write [[routes]], with its keys below it, once for each.")
            return ()
        routes = tuple(self.tables.table(f"routes.{number}", table, Route) for number, table in enumerate(tables, 1))
        for route in filter(None, routes):
            self._check_brain("[[routes]] brain", route.brain, brains)
        return routes

    def _check_fallbacks(self, main: BrainConfig | None, brains: Mapping[str, BrainEntry]) -> None:
        tables = {"brain": main} | {f"brains.{name}": entry.config for name, entry in brains.items()}
        for where, table in tables.items():
            for name in table.fallback if table else ():
                self._check_brain(f"[{where}] fallback", name, brains)

    def _check_brain(self, where: str, name: str, brains: Mapping[str, BrainEntry]) -> None:
        if name and name not in brains:
            self._say(f"{where}: there is no table [brains.{name}].{did_you_mean(name, brains)}")

    def _mcp(self, tables: Any) -> dict[str, McpTable]:
        if not isinstance(tables, dict):
            self._say("[mcp] is not a table. Write [mcp.NAME], for example [mcp.time].")
            return {}
        found = {}
        for name, table in tables.items():
            if not NAME.fullmatch(name):
                self._say(f"[mcp.{name}]: '{name}' cannot name a server. Use letters, digits, '-' and '_'.")
                continue
            before = len(self.tables.lacking)
            one = self.tables.table(f"mcp.{name}", table, McpTable)
            if one is not None and len(self.tables.lacking) == before:
                self._check_mcp(f"mcp.{name}", one)
                found[name] = one
        return {name: one for name, one in found.items() if one.enabled}

    def _check_mcp(self, where: str, one: McpTable) -> None:
        if bool(one.command) == bool(one.url):
            have = "both 'command' and 'url'" if one.url else "neither 'command' nor 'url'"
            self._say(f"[{where}] has {have}. Write one: what starts the server, or the address it is reached at.")
        if one.url and not one.url.startswith(("http://", "https://")):
            self._say(f"[{where}] url = {show(one.url)} is no address. It begins with http:// or https://.")

    def _channels(self, tables: Any) -> Iterator[tuple[str, ChannelEntry]]:
        if not isinstance(tables, dict):
            self._say("[channels] is not a table. Write [channels.NAME], for example [channels.telegram].")
            return
        unwritten = [*self.registry.channels.always, *self._named_by_environment(tables)]
        for name in {**tables, **dict.fromkeys(unwritten)}:
            before = len(self.tables.problems)
            entry = self._channel(name, tables.get(name, {}))
            if entry is not None and len(self.tables.problems) == before:
                yield name, entry

    def _channel(self, name: str, table: Any) -> ChannelEntry | None:
        where = f"channels.{name}"
        if not NAME.fullmatch(name):
            self._say(f"[{where}]: '{name}' cannot name a channel. Use letters, digits, '-' and '_'.")
            return None
        if not isinstance(table, dict):
            self._say(f"'{where}' is not a table. Write [{where}] and its keys below it.")
            return None
        kind = str(self.tables.override(where, table).get("kind") or name)
        try:
            cls = self.registry.channels.take(kind)
        except ConfigError as error:
            self._say(f"[{where}]: {error}")
            return None
        config = self.tables.table(where, table, cls.Config)
        return ChannelEntry(cls, config) if config is not None and config.enabled else None

    def _named_by_environment(self, tables: Table) -> list[str]:
        """Channel kinds that have no table but an override in the environment."""
        kinds = [kind for kind in self.registry.channels.entries if kind not in tables]
        return [kind for kind in kinds if any(key.startswith(prefix(f"channels.{kind}")) for key in self.environment)]


def has_routes(cls: type[Channel]) -> bool:
    return cls.routes is not Channel.routes


def secrets(config: Config) -> set[str]:
    """Every secret value in use, to be kept out of what is printed."""
    brains = [config.brain, *(entry.config for entry in config.brains.values())]
    tables = [config.web, *brains, config.hearing, config.memory, *(entry.config for entry in config.channels.values())]
    tables += config.plugin_options.values()
    kept = [getattr(table, name) for table in [*tables, *config.mcp.values()] for name in secret_keys(table)]
    single = {str(value) for value in kept if value and not isinstance(value, dict)}
    single |= {one.value for one in config.origins if not one.shared or len(one.value) >= HIDDEN_FROM}
    return single | {text for value in kept if isinstance(value, dict) for text in hidden(value)}


def secret_keys(table: Any) -> list[str]:
    return [one.name for one in fields(table) if one.metadata.get("secret")]


def hidden(table: Mapping[str, str]) -> Iterator[str]:
    """The values of a table of secrets that can be kept out of a text."""
    for value in table.values():
        if len(value) >= HIDDEN_FROM:
            yield value
