"""One table of bot.toml into one dataclass, overridden by the environment, with a sentence for each thing wrong."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from roost.errors import ConfigError
from roost.references import SECRET_NAME, Origin, leave_secret, read_secret
from roost.registry import did_you_mean

T = TypeVar("T")
Table = dict[str, Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes", list: "a list"}
NOUNS |= {dict: "a table of texts"}


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


class Tables:
    """Makes dataclasses from tables, gathering problems on the way.

    `lacking` are those of [mcp.NAME], each a problem of that server alone. `origins` says where secrets came from.
    """

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        self.file = file
        self.environment = environment
        self.problems: list[str] = []
        self.lacking: list[str] = []
        self.origins: list[Origin] = []

    def say(self, sentence: str) -> None:
        self.problems.append(f"{self.file}: {sentence}")

    def _secret(self, where: str, one: Field[Any], value: Any, used: bool) -> Any:
        """A secret, from where it lies; None, and a problem noted, when it is not there. One not `used` is left."""
        source = f"{prefix(where)}{one.name.upper()}" if isinstance(value, Given) else ""
        read = read_secret if used else leave_secret
        try:
            found, origins = read(f"[{where}] {one.name}", value, source, required(one))
        except ConfigError as error:
            into = self.lacking if where.startswith("mcp.") else self.problems
            into.append(f"{self.file}: {error}")
            return None
        self.origins += origins
        return Given(found) if source else found

    def override(self, where: str, table: Table) -> Table:
        start = prefix(where)
        ours = {key[len(start) :].lower(): value for key, value in self.environment.items() if key.startswith(start)}
        return {**table, **{key: Given(value) for key, value in ours.items()}}

    def table(self, where: str, table: Any, cls: type[T]) -> T:
        """Make `cls` from a table. Problems are noted; what is returned then is not used."""
        if not isinstance(table, dict):
            self.say(f"'{where}' is not a table. Write [{where}] and its keys below it.")
            return None  # type: ignore[return-value]
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        hints = typing.get_type_hints(cls)
        values = {}
        before = len(self.problems)
        given = self.override(where, table)
        used = str(given.get("enabled", True)).lower() != "false"
        for name, value in given.items():
            if name in known and known[name].metadata.get("secret"):
                found = self._secret(where, known[name], value, used)
                values[name] = None if found is None else self._value(where, known[name], hints[name], found)
            elif name in known:
                values[name] = self._value(where, known[name], hints[name], value)
            elif not isinstance(value, Given):
                shown = self._shown(name, value, known)
                self.say(f"[{where}] has no key '{name}' ({shown}).{did_you_mean(name, known)}")
            elif near := get_close_matches(name, known, 1, 0.8):
                self.say(
                    f"{prefix(where)}{name.upper()} in the environment: [{where}] has no key '{name}'. "
                    f"Did you mean '{near[0]}'?"
                )
        missing = [one for one in known.values() if one.name not in values and required(one)]
        for one in missing:
            self.say(
                f"[{where}] has no '{one.name}'. {one.metadata.get('help', '')} "
                f"Or set {prefix(where)}{one.name.upper()} in the environment."
            )
        return cls(**values) if len(self.problems) == before else None  # type: ignore[return-value]

    def _shown(self, name: str, value: Any, known: Mapping[str, Field[Any]]) -> str:
        """The value of a key that does not exist: it may be a secret whose name was mistyped."""
        plain = isinstance(value, bool | int | float)
        secret = not plain and any(one.metadata.get("secret") for one in known.values())
        return "value hidden" if secret or (not plain and SECRET_NAME.search(name)) else f"value {show(value)}"

    def _value(self, where: str, one: Field[Any], hint: Any, value: Any) -> Any:
        given = isinstance(value, Given)
        if (cls := table_in(hint)) is not None:
            return self._named_tables(f"{where}.{one.name}", value, cls)
        try:
            return read(value, one, hint) if given else fit(value, one, hint)
        except ValueError as error:
            self._refuse(where, one, value, str(error))
            return None

    def _named_tables(self, where: str, tables: Any, cls: type[T]) -> dict[str, T]:
        """Tables in a table, by names of the person's own."""
        if not isinstance(tables, dict):
            self.say(f"[{where}] is not a table. Write [{where}.NAME] and its keys below it.")
            return {}
        names = {name: name if NAME.fullmatch(name) else show(name) for name in tables}
        return {name: self.table(f"{where}.{names[name]}", table, cls) for name, table in tables.items()}

    def _refuse(self, where: str, one: Field[Any], value: Any, wanted: str) -> None:
        shown = "(hidden)" if one.metadata.get("secret") else show(value)
        source = f" (from {prefix(where)}{one.name.upper()})" if isinstance(value, Given) else ""
        self.say(f"[{where}] {one.name} = {shown}{source} is not {wanted}. {one.metadata.get('help', '')}")


class Given(str):
    """A text from the environment, to be read as whatever its key needs."""


def read(text: str, one: Field[Any], hint: Any) -> Any:
    """The value of a key, of type `hint`, from a text such as "2775" or "a, b". Raises ValueError, as `fit` does."""
    return fit(split_list(text, hint), one, hint, strict=False)


def fit(value: Any, one: Field[Any], hint: Any, *, strict: bool = True) -> Any:
    """A key's value, checked. Raises ValueError that says what the key wants: "a whole number", "at least 1"."""
    try:
        found = msgspec.convert(value, hint, strict=strict)
    except msgspec.ValidationError:
        raise ValueError(noun(hint)) from None
    if not within(found, one.metadata.get("least"), one.metadata.get("most")):
        raise ValueError(bounds(one))
    return found


def prefix(where: str) -> str:
    """What the environment's names for a table's keys begin with: ROOST_CHANNELS_TELEGRAM_."""
    return "ROOST_" + re.sub(r"[^A-Za-z0-9]", "_", where).upper() + "_"


def within(value: Any, least: float | None, most: float | None) -> bool:
    size = len(value) if isinstance(value, str | list | dict) else value
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


def table_in(hint: Any) -> type[Any] | None:
    """The class of the tables that a key holds by name, if that is what it holds."""
    inner = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def noun(hint: Any) -> str:
    """What a key wants, in words."""
    if table_in(hint) is not None:
        return "tables by name"
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return "one of " + ", ".join(f'"{one}"' for one in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(noun(one) for one in typing.get_args(hint) if one is not type(None))
    return NOUNS.get(origin, f"a {getattr(origin, '__name__', origin)}")
