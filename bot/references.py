"""Secrets that lie elsewhere: `env:NAME`, `file:PATH` and `keyring:SERVICE/USER`, in place of the secret itself."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from roost.errors import ConfigError

KINDS = ("env", "file", "keyring")
USER = "key"  # whose entry in the keyring is meant where none is named
SURE = 8  # characters of what only looks like a secret
LARGEST = 64 * 1024  # bytes of a file that is read
HOW = 'Write it, or where it is: "env:NAME", "file:PATH" or "keyring:SERVICE/USER".'

PLACEHOLDER = re.compile(
    r"""
    <[^<>]*> | \{\{[^{}]*\}\} | \$\{[^{}]*\} | .*(?:\.{3}|…)
    | (?:[a-z0-9]{1,8}[-_:])* (?:x{3,}|\*{3,}|\#{3,}|_{3,}|-{3,})
    | change[-_\ ]?(?:me|it|this)!* | (?:replace|fill)[-_\ ]?(?:me|this|in).{0,40} | todo | tbd | fixme | placeholder
    | (?:[a-z0-9]{1,8}[-_:])? (?:put|paste|insert|enter|add|the|my|your)?[-_\ ]? (?:[a-z]+[-_\ ]){0,4} here
    | (?:[a-z0-9]{1,8}[-_:])* your[-_\ ] (?:[a-z]+[-_\ ]){0,4} (?:token|key|secret|password|passphrase|pass)
    | 123456(?:789)?:abc.{0,3} | 123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11
    """,
    re.VERBOSE | re.IGNORECASE,
)

SECRET_NAME = re.compile(r"token|secret|passw|passphrase|key|auth|credential|cookie|pin$", re.IGNORECASE)
Kind = Literal["bot.toml", "environment", "env", "file", "keyring"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one secret of the configuration came from. `name` is the variable, the file, the entry of the keyring.

    `shared` is a value of a table of texts, where not every one is a secret.
    """

    key: str
    kind: Kind
    name: str = ""
    value: str = field(default="", repr=False)
    shared: bool = False


def is_reference(value: str) -> bool:
    return value.partition(":")[0] in KINDS and ":" in value


def fetch(source: str, noun: str) -> bytes:
    """What a reference leads to; `noun` is what is looked for, such as "encryption key". Raises ConfigError."""
    kind, _, name = source.partition(":")
    if not name or kind not in KINDS:
        raise ConfigError(
            f"'{source}' does not say where the {noun} is. Write env:NAME, file:PATH or keyring:SERVICE/USER."
        )
    if kind == "env":
        return _from_environment(name)
    return _from_file(name, noun) if kind == "file" else _from_keyring(name, noun)


def _from_environment(name: str) -> bytes:
    value = os.environ.get(name, "")
    if not value.strip():
        raise ConfigError(f"In the environment, {name} is not set.")
    return os.fsencode(value)


def file_of(name: str, noun: str) -> Path:
    """The file that `file:NAME` means. Raises ConfigError where that depends on where the bot was started."""
    path = Path(name).expanduser()
    if not path.is_absolute():
        raise ConfigError(f"The path of the {noun}'s file, '{name}', has to begin at the root or with '~'.")
    return path


def _from_file(name: str, noun: str) -> bytes:
    path = file_of(name, noun)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
            raise ConfigError(f"'{path}' is to hold the {noun}, and is no file.")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"The {noun}'s file '{path}' cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST:
        raise ConfigError(f"'{path}' is to hold the {noun}, and has more than {LARGEST >> 10} KB.")
    return content


def _from_keyring(entry: str, noun: str) -> bytes:
    service, user = entry_of(entry)
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            f"The {noun} should come from the system's keyring, which needs the package 'keyring'. "
            'Install what it needs, in the checkout: .venv/bin/pip install -e ".[encryption]". '
            "Or keep it elsewhere: env:NAME or file:PATH."
        ) from None
    try:
        value = keyring.get_password(service, user)
    except Exception as error:  # backends raise errors of their own, and those of D-Bus
        raise ConfigError(
            f"The system's keyring does not give the {noun} '{entry}': {str(error).rstrip('.')}. "
            f"Unlock it, or keep the {noun.rsplit(maxsplit=1)[-1]} elsewhere: env:NAME or file:PATH."
        ) from error
    if not value:
        raise ConfigError(f"The system's keyring has no {noun} '{entry}'. Say: keyring set {service} {user}.")
    return value.encode()


def entry_of(entry: str) -> tuple[str, str]:
    """Service and user of an entry in the keyring. A service may have slashes of its own."""
    service, slash, user = entry.rpartition("/")
    return (service, user) if slash and service and user else (entry, USER)


def is_open(path: Path, bits: int = 0o077) -> bool:
    """Whether others on this machine may do something with a file: read it with `bits` 0o044, change it with 0o022."""
    if sys.platform == "win32":
        return False
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & bits)
    except OSError:
        return False


# Keys of bot.toml


def read_secret(key: str, value: Any, source: str, needed: bool) -> tuple[Any, list[Origin]]:
    """The value of a secret key of bot.toml, from where it lies, with its origin, or one for each text in a table.

    `key` is the key as sentences name it; `source` names the variable that it came from instead of bot.toml. What is
    no text is returned as it is. Raises ConfigError with a sentence that does not have the value in it.
    """
    if isinstance(value, Mapping):
        return _read_table(key, value)
    if not isinstance(value, str):
        return value, []
    found = _read_text(key, value, source, needed)
    return found.value, [found] if found.value else []


def leave_secret(key: str, value: Any, source: str, needed: bool) -> tuple[Any, list[Origin]]:
    """The same for a key of something that is switched off: nothing is looked up, nothing has to be right."""
    parts = value.values() if isinstance(value, Mapping) else [value]
    texts = [one for one in parts if isinstance(one, str) and one and not is_reference(one)]
    kind: Kind = "environment" if source else "bot.toml"
    return value, [Origin(key, kind, source, one, isinstance(value, Mapping)) for one in texts]


def _read_table(key: str, table: Mapping[str, Any]) -> tuple[dict[str, Any], list[Origin]]:
    texts = {name: value for name, value in table.items() if isinstance(value, str)}
    found = {name: _read_text(f"{key}: '{name}'", value, "", False, shared=True) for name, value in texts.items()}
    return {**table, **{name: one.value for name, one in found.items()}}, [one for one in found.values() if one.value]


def _read_text(key: str, value: str, source: str, needed: bool, shared: bool = False) -> Origin:
    kind: Any = "environment" if source else "bot.toml"
    name = source
    if is_reference(value):
        kind, _, name = value.partition(":")
        try:
            value = _text(fetch(value, "secret"), value)
        except ConfigError as error:
            raise ConfigError(f"{key} takes {value} for its value. {error} {HOW}") from None
        needed = True
    _refuse_placeholder(key, value, f" (from {name})" if name else "", needed)
    return Origin(key, kind, name, value, shared and kind == "bot.toml")


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"What {source} holds is no text in UTF-8.") from None


def _refuse_placeholder(key: str, value: str, source: str, needed: bool) -> None:
    if needed and not value.strip():
        raise ConfigError(f"{key}{source} is empty. {HOW}")
    if is_placeholder(value):
        raise ConfigError(f"{key}{source} has the text of an example in place of the real one. {HOW}")


def is_placeholder(value: str) -> bool:
    """Whether a value is what examples show in place of a secret, such as 'changeme'."""
    return bool(PLACEHOLDER.fullmatch(value.strip()))


def early(path: Path) -> Iterator[str]:
    """What looks like a secret in a bot.toml that nobody has read yet: plugins may fail before it is, and say so."""
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError):
        tables = {}
    given = {name: value for name, value in os.environ.items() if name.startswith("ROOST_")}
    for name, value in _texts({**tables, **given}):
        if value.startswith(("env:", "file:")):
            with contextlib.suppress(ConfigError):
                yield _text(fetch(value, "secret"), value)
        elif SECRET_NAME.search(name) and len(value) >= SURE and not is_reference(value):
            yield value


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in tables and lists, with the key it stands under."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        yield from (found for one in value for found in _texts(one, name))
    elif isinstance(value, dict):
        yield from (found for own, one in value.items() for found in _texts(one, own))


def exposures(path: Path, origins: Iterable[Origin]) -> Iterator[str]:
    """A sentence for each file with secrets that others on this machine can read."""
    origins = list(origins)
    literal = sorted({one.key for one in origins if one.kind == "bot.toml"})
    if literal and is_open(path, 0o004):
        listed = ", ".join(literal[:3]) + (f" and {len(literal) - 3} more" if len(literal) > 3 else "")
        yield f"Everybody on this machine can read '{path}', and it has secrets ({listed}). Say: chmod 600 '{path}'"
    for one in sorted({Path(one.name).expanduser() for one in origins if one.kind == "file"}):
        if is_open(one):
            yield f"Others on this machine can use the file '{one}', which holds a secret. Say: chmod 600 '{one}'"
