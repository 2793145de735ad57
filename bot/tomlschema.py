"""JSON Schema of bot.toml, for editors and for the reference."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

import msgspec

from roost.config import CORE
from roost.errors import ConfigError
from roost.registry import Registry
from roost.routes import Route
from roost.settings import McpTable, PluginsTable
from roost.tables import Table, required, table_in


def schema(registry: Registry) -> Table:
    """JSON Schema (2020-12) of bot.toml, with every channel, brain and memory that is known here."""
    properties = {name: table_schema(cls) for name, cls in CORE.items()}
    properties["brain"] = choice_schema(registry.brains)
    properties["hearing"] = choice_schema(registry.hearings)
    properties["brains"] = {"type": "object", "additionalProperties": properties["brain"]}
    properties["routes"] = {"type": "array", "items": table_schema(Route)}
    properties["mcp"] = {"type": "object", "additionalProperties": table_schema(McpTable)}
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
    if (inner := table_in(hint)) is not None:
        about = one.metadata.get("help", "")
        return {"type": "object", "additionalProperties": table_schema(inner), "description": about}
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
