"""bot.toml: read, overridden by the environment, checked, described.

Every error names the file, the table, the key, the value and the cure. A broken table of a channel becomes a
problem of that channel alone; anything else broken raises ConfigError with all problems at once.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from roost.contracts import Brain, BrainConfig, Channel, ChannelConfig, Memory, MemoryConfig
from roost.errors import ConfigError
from roost.gauges import size
from roost.registry import Registry, did_you_mean
from roost.settings import AccessTable, BotTable, JournalTable, PluginsTable, WebTable

T = TypeVar("T")
Table = dict[str, Any]

CORE: dict[str, type[Any]] = {
    "bot": BotTable,
    "access": AccessTable,
    "web": WebTable,
    "journal": JournalTable,
}
TABLES = (*CORE, "brain", "memory", "channels", "plugins")
NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes", list: "a list"}


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """One table `[channels.NAME]` that is in order."""

    cls: type[Channel]
    config: ChannelConfig


@dataclass(frozen=True, slots=True)
class Config:
    """What bot.toml says. `problems` holds a sentence for each channel table that had to be left out."""

    path: Path
    bot: BotTable
    access: AccessTable
    web: WebTable
    journal: JournalTable
    plugins: PluginsTable
    brain_class: type[Brain]
    brain: BrainConfig
    memory_class: type[Memory]
    memory: MemoryConfig
    channels: dict[str, ChannelEntry]
    plugin_tables: dict[str, Table] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def plugin_folder(self) -> Path:
        return self.path.parent / self.plugins.folder


def load(path: Path, registry: Registry, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration. Raises ConfigError."""
    return Reader(path, registry, os.environ if environment is None else environment).read()


def plugin_settings(path: Path) -> tuple[Path, list[str]]:
    """Where the user's plugins are and which are switched off: needed before anything else can be read."""
    table = read_toml(path).get("plugins", {})
    table = table if isinstance(table, dict) else {}
    disabled = table.get("disable", [])
    folder = path.parent / str(table.get("folder", PluginsTable().folder))
    return folder, [str(name) for name in disabled] if isinstance(disabled, list) else []


def read_toml(path: Path) -> Table:
    """The file's tables. Raises ConfigError when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"There is no '{path}'. Name another file with --config FILE.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}.") from error


class Reader:
    """Turns one file and the environment into a Config, gathering problems on the way."""

    def __init__(self, path: Path, registry: Registry, environment: Mapping[str, str]) -> None:
        self.path = path
        self.registry = registry
        self.environment = environment
        self.problems: list[str] = []

    def read(self) -> Config:
        data = read_toml(self.path)
        for name in data.keys() - set(TABLES):
            self._say(f"There is no table [{name}].{did_you_mean(name, TABLES)}")
        core = {name: self._table(name, data.get(name, {}), cls) for name, cls in CORE.items()}
        self._check_timezone(core["bot"])
        self._check_memory_limit(core["bot"])
        plugins, plugin_tables = self._plugins(data.get("plugins", {}))
        brain_class, brain = self._chosen("brain", data.get("brain", {}), self.registry.brains, BrainConfig)
        memory_class, memory = self._chosen("memory", data.get("memory", {}), self.registry.memories, MemoryConfig)
        if self.problems:
            raise ConfigError("\n".join(self.problems))
        channels = dict(self._channels(data.get("channels", {})))
        return Config(
            path=self.path,
            **core,
            plugins=plugins,
            brain_class=brain_class,
            brain=brain,
            memory_class=memory_class,
            memory=memory,
            channels=channels,
            plugin_tables=plugin_tables,
            problems=tuple(self.problems),
        )

    def _check_timezone(self, bot: BotTable | None) -> None:
        try:
            ZoneInfo(bot.timezone if bot and bot.timezone else "UTC")
        except (KeyError, ValueError):
            self._say(f"[bot] timezone = {show(bot.timezone if bot else '')} is not one. Write 'Europe/Amsterdam'.")

    def _check_memory_limit(self, bot: BotTable | None) -> None:
        try:
            size(bot.memory_limit if bot else "")
        except ConfigError as error:
            self._say(f"[bot] memory_limit: {error}")

    def _say(self, sentence: str) -> None:
        self.problems.append(f"{self.path.name}: {sentence}")

    def _plugins(self, table: Any) -> tuple[PluginsTable, dict[str, Table]]:
        if not isinstance(table, dict):
            return self._table("plugins", table, PluginsTable), {}
        tables = {name: value for name, value in table.items() if isinstance(value, dict)}
        own = {name: value for name, value in table.items() if name not in tables}
        return self._table("plugins", own, PluginsTable), tables

    def _chosen(self, name: str, table: Any, shelf: Any, default: Any) -> tuple[Any, Any]:
        """A table whose key `use` says which class reads the others."""
        overridden = self._override(name, table if isinstance(table, dict) else {})
        use = overridden.get("use", default().use)
        try:
            cls = shelf.take(str(use))
        except ConfigError as error:
            self._say(f"[{name}] use = {show(use)}: {error}")
            return None, None
        return cls, self._table(name, table, cls.Config)

    def _channels(self, tables: Any) -> Iterator[tuple[str, ChannelEntry]]:
        if not isinstance(tables, dict):
            self._say("[channels] is not a table. Write [channels.NAME], for example [channels.telegram].")
            return
        unwritten = [*self.registry.channels.always, *self._named_by_environment(tables)]
        for name in {**tables, **dict.fromkeys(unwritten)}:
            before = len(self.problems)
            entry = self._channel(name, tables.get(name, {}))
            if entry is not None and len(self.problems) == before:
                yield name, entry

    def _channel(self, name: str, table: Any) -> ChannelEntry | None:
        where = f"channels.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            self._say(f"[{where}]: '{name}' cannot name a channel. Use letters, digits, '-' and '_'.")
            return None
        if not isinstance(table, dict):
            self._say(f"'{where}' is not a table. Write [{where}] and its keys below it.")
            return None
        kind = str(self._override(where, table).get("kind") or name)
        try:
            cls = self.registry.channels.take(kind)
        except ConfigError as error:
            self._say(f"[{where}]: {error}")
            return None
        config = self._table(where, table, cls.Config)
        return ChannelEntry(cls, config) if config is not None and config.enabled else None

    def _named_by_environment(self, tables: Table) -> list[str]:
        """Channel kinds that have no table but an override in the environment."""
        kinds = [kind for kind in self.registry.channels.entries if kind not in tables]
        return [kind for kind in kinds if any(key.startswith(prefix(f"channels.{kind}")) for key in self.environment)]

    def _override(self, where: str, table: Table) -> Table:
        start = prefix(where)
        ours = {key[len(start) :].lower(): value for key, value in self.environment.items() if key.startswith(start)}
        return {**table, **{key: Given(value) for key, value in ours.items()}}

    def _table(self, where: str, table: Any, cls: type[T]) -> T:
        """Make `cls` from a table. Problems are noted; what is returned then is not used."""
        if not isinstance(table, dict):
            self._say(f"'{where}' is not a table. Write [{where}] and its keys below it.")
            return None  # type: ignore[return-value]
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        hints = typing.get_type_hints(cls)
        values = {}
        before = len(self.problems)
        for name, value in self._override(where, table).items():
            if name in known:
                values[name] = self._value(where, known[name], hints[name], value)
            elif not isinstance(value, Given):
                self._say(f"[{where}] has no key '{name}' ({self._shown(value, known)}).{did_you_mean(name, known)}")
            elif near := get_close_matches(name, known, 1, 0.8):
                self._say(
                    f"{prefix(where)}{name.upper()} in the environment: [{where}] has no key '{name}'. "
                    f"Did you mean '{near[0]}'?"
                )
        missing = [one for one in known.values() if one.name not in values and required(one)]
        for one in missing:
            self._say(
                f"[{where}] has no '{one.name}'. {one.metadata.get('help', '')} "
                f"Or set {prefix(where)}{one.name.upper()} in the environment."
            )
        return cls(**values) if len(self.problems) == before else None  # type: ignore[return-value]

    def _shown(self, value: Any, known: Mapping[str, Field[Any]]) -> str:
        """The value of a key that does not exist: it may be a secret whose name was mistyped."""
        secret = not isinstance(value, bool | int | float) and any(one.metadata.get("secret") for one in known.values())
        return "value hidden" if secret else f"value {show(value)}"

    def _value(self, where: str, one: Field[Any], hint: Any, value: Any) -> Any:
        given = isinstance(value, Given)
        try:
            found = msgspec.convert(split_list(value, hint) if given else value, hint, strict=not given)
        except msgspec.ValidationError:
            self._refuse(where, one, value, noun(hint))
            return None
        if not within(found, one.metadata.get("least"), one.metadata.get("most")):
            self._refuse(where, one, value, bounds(one))
        return found

    def _refuse(self, where: str, one: Field[Any], value: Any, wanted: str) -> None:
        shown = "(hidden)" if one.metadata.get("secret") else show(value)
        source = f" (from {prefix(where)}{one.name.upper()})" if isinstance(value, Given) else ""
        self._say(f"[{where}] {one.name} = {shown}{source} is not {wanted}. {one.metadata.get('help', '')}")


class Given(str):
    """A text from the environment, to be read as whatever its key needs."""


def prefix(where: str) -> str:
    """What the environment's names for a table's keys begin with: ROOST_CHANNELS_TELEGRAM_."""
    return "ROOST_" + re.sub(r"[^A-Za-z0-9]", "_", where).upper() + "_"


def within(value: Any, least: float | None, most: float | None) -> bool:
    size = len(value) if isinstance(value, str) else value
    return value is None or ((least is None or size >= least) and (most is None or size <= most))


def bounds(one: Field[Any]) -> str:
    """What a bounded key wants, in words."""
    least, most = one.metadata.get("least"), one.metadata.get("most")
    said = f"at least {least:g}" if least is not None else ""
    return f"{said} and at most {most:g}".removeprefix(" and ") if most is not None else said


def required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def split_list(value: str, hint: Any) -> Any:
    return (
        [part.strip() for part in value.split(",") if part.strip()] if typing.get_origin(hint) is list else str(value)
    )


def show(value: Any) -> str:
    """A value as bot.toml writes it, short enough for a sentence."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 80 else text[:77] + "..."


def noun(hint: Any) -> str:
    """What a key wants, in words."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return "one of " + ", ".join(f'"{one}"' for one in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(noun(one) for one in typing.get_args(hint) if one is not type(None))
    return NOUNS.get(origin, f"a {getattr(origin, '__name__', origin)}")


def secrets(config: Config) -> set[str]:
    """Every secret value in use, to be kept out of what is printed."""
    tables = [config.web, config.brain, config.memory, *(entry.config for entry in config.channels.values())]
    found = {
        str(getattr(table, one.name))
        for table in tables
        for one in fields(table)  # type: ignore[arg-type]
        if one.metadata.get("secret")
    }
    return {value for value in found if value}


def schema(registry: Registry) -> Table:
    """JSON Schema (2020-12) of bot.toml, with every channel, brain and memory that is known here."""
    properties = {name: table_schema(cls) for name, cls in CORE.items()}
    properties["brain"] = choice_schema(registry.brains)
    properties["memory"] = choice_schema(registry.memories)
    properties["channels"] = {"type": "object", "properties": dict(channel_schemas(registry))}
    properties["channels"]["additionalProperties"] = {"type": "object", "required": ["kind"]}
    plugins = table_schema(PluginsTable)
    properties["plugins"] = {**plugins, "additionalProperties": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bot.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def table_schema(cls: type[Any]) -> Table:
    """JSON Schema of one table."""
    hints = typing.get_type_hints(cls)
    properties = {one.name: key_schema(one, hints[one.name]) for one in fields(cls)}
    needed = [one.name for one in fields(cls) if required(one)]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def key_schema(one: Field[Any], hint: Any) -> Table:
    described = {**msgspec.json.schema(hint), "description": one.metadata.get("help", "")}
    if one.default is not MISSING:
        described["default"] = one.default
    limits = {"minimum": one.metadata.get("least"), "maximum": one.metadata.get("most")}
    if described.get("type") in ("integer", "number"):
        described |= {name: limit for name, limit in limits.items() if limit is not None}
    return described


def choice_schema(shelf: Any) -> Table:
    """A table that `use` makes mean different things: every key that any choice has."""
    merged: Table = {"type": "object", "properties": {}, "additionalProperties": False}
    for name in shelf.entries:
        try:
            merged["properties"] |= table_schema(shelf.take(name).Config)["properties"]
        except ConfigError:
            continue  # its package is not installed here
    merged["properties"]["use"]["enum"] = sorted(shelf.entries)
    return merged


def channel_schemas(registry: Registry) -> Iterator[tuple[str, Table]]:
    for kind in registry.channels.entries:
        try:
            yield kind, table_schema(registry.channels.take(kind).Config)
        except ConfigError:
            continue  # its package is not installed here
