"""Encryption of the data folder: looked at, switched on and off, given another key.

`[bot] encryption` says where the owner's key is, and the next start seals everything: the journal in one transaction,
then the memory file by file. Whatever is interrupted goes on at the start after it. The way back needs a command,
because a key that is missing from bot.toml by mistake must never make clear text of anything, nor lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from roost.cipher import COPY, FILE, begin, change, find_sealed, is_begun
from roost.errors import ConfigError, RoostError, StoreError
from roost.home import TYPED, Lock
from roost.salvage import is_damaged
from roost.schema import connect, connect_whole
from roost.sealing import open_copies, undo
from roost.secret import find_key

if TYPE_CHECKING:
    from roost.cipher import Cipher
    from roost.config import Config
    from roost.registry import Registry

log = logging.getLogger("roost.cipher")

OFF = "Encryption is off."
HOW = (
    "Make a key with `roost encryption new-key` and keep it in two places that are not this folder. "
    'Then write where it is in bot.toml, below [bot]: encryption = "env:ROOST_KEY", or "file:PATH", or '
    '"keyring:SERVICE". Who loses the key has lost everything that was said.'
)


@runtime_checkable
class Sealable(Protocol):
    """A memory that can be written in clear text again."""

    async def unseal(self) -> None:
        """Write everything in clear text, in place of `open`. May be interrupted, and done again."""


def unlock(home: Path, source: str) -> Cipher | None:
    """The cipher of a data folder whose lock is held, made if need be; None when it is in clear text.

    Raises ConfigError and StoreError, before anything is changed.
    """
    if source:
        cipher = begin(home, _checked(source))
        with contextlib.suppress(FileNotFoundError):
            (home / TYPED).unlink()
            log.info("'%s' is removed: what is typed at a terminal is not kept in an encrypted folder.", home / TYPED)
        return cipher
    if is_begun(home):
        raise ConfigError(
            f"The data folder '{home}' is encrypted, and bot.toml does not say where the key is. Write it there again, "
            'below [bot]: encryption = "env:NAME". To have it in clear text again: roost encryption off env:NAME'
        )
    return None


def look(home: Path, source: str) -> Cipher | None:
    """The cipher of a data folder that a bot may be running on; None when it has none. Makes nothing."""
    return begin(home, _checked(source)) if source and is_begun(home) else None


def _checked(source: str) -> str:
    if source.partition(":")[0] not in ("env", "file", "keyring"):
        raise ConfigError(
            "[bot] encryption in bot.toml does not say where the key is. Write env:NAME, file:PATH or keyring:SERVICE; "
            "the key itself does not belong there."
        )
    return source


def status(home: Path, source: str) -> str:
    """How it is, for a person. Raises ConfigError and StoreError when the key does not open the folder."""
    if is_begun(home):
        if not source:
            return f"'{home}' is encrypted, but bot.toml does not say where the key is, so no bot can start on it."
        look(home, source)
        return f"'{home}' is encrypted; the key from {source} opens it."
    if not source:
        return OFF
    find_key(_checked(source))
    return f"'{home}' is in clear text. The next start encrypts it with the key from {source}."


def turn_on(config: Config, registry: Registry, home: Path) -> str:
    """Encrypt everything now, as the next start would."""
    from roost.bot import Bot

    async def open_and_close() -> None:
        async with Bot(config, registry, home).at_rest():
            pass

    if not config.bot.encryption:
        raise ConfigError(f"bot.toml does not say where the key is. {HOW}")
    asyncio.run(open_and_close())
    return f"'{home}' is encrypted. Who loses the key from {config.bot.encryption}, or '{FILE}', loses the data."


def turn_off(config: Config, home: Path, source: str) -> str:
    """Write everything in clear text again. The key goes last: until then, this may be interrupted and done again."""
    with _held(home):
        if not is_begun(home):
            raise StoreError(f"'{home}' is not encrypted.")
        cipher = begin(home, _checked(source))
        asyncio.run(_open_memory(config, home, cipher))
        _open_journal(home / "journal.db", cipher)
        open_copies(home, cipher)
        _end(home)
    return f"'{home}' is in clear text. Take the key out of bot.toml now, or the next start encrypts it again."


async def _open_memory(config: Config, home: Path, cipher: Cipher) -> None:
    memory = config.memory_class(config.memory, home / "memory")
    if not isinstance(memory, Sealable):
        raise RoostError(f"The memory '{config.memory.use}' cannot be decrypted. Nothing was changed.")
    memory.cipher = cipher
    try:
        await memory.unseal()
    finally:
        await memory.close()


def _open_journal(path: Path, cipher: Cipher) -> None:
    if path.is_file():
        db = (connect_whole if is_damaged(path) else connect)(path, cipher=cipher)
        with contextlib.closing(db):
            undo(db, cipher)


def _end(home: Path) -> None:
    """Let go of the folder's key, unless something still needs it."""
    if (path := find_sealed(home)) is not None:
        raise StoreError(
            f"'{path}' could not be decrypted, so '{FILE}' was kept; everything else is in clear text. "
            "Move that file away, if it may be lost, and say it again."
        )
    for name in (FILE, COPY):
        (home / name).unlink(missing_ok=True)


def change_key(config: Config, home: Path, to: str) -> str:
    """Let another key open the folder."""
    with _held(home):
        change(home, _checked(config.bot.encryption), _checked(to))
    return f"Now the key from {to} opens '{home}'. Write it in bot.toml, below [bot]: encryption = \"{to}\""


@contextlib.contextmanager
def _held(home: Path) -> Iterator[None]:
    lock = Lock(home)
    lock.take()
    try:
        yield
    finally:
        lock.free()
