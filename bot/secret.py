"""The owner's key to an encrypted data folder: where it is kept, and what it may look like."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from roost.errors import ConfigError

log = logging.getLogger("roost.cipher")

KEY = 32  # bytes
SHORTEST = 12  # characters of a passphrase

ABOUT_KEY = "Make it 32 random bytes, in base64 or hexadecimal, or a passphrase; keep a copy somewhere else."


@dataclass(frozen=True, slots=True)
class Secret:
    """The owner's key: 32 bytes, or the UTF-8 of a passphrase."""

    value: bytes = field(repr=False)
    passphrase: bool = False


def new_key() -> str:
    """A fresh key for an owner to keep, in base64."""
    return base64.b64encode(os.urandom(KEY)).decode()


def find_key(source: str) -> Secret:
    """The owner's key from `env:NAME`, `file:PATH` or `keyring:SERVICE`, where the user's name is `key`.

    Raises ConfigError when it is not there or is no key.
    """
    kind, _, name = source.partition(":")
    find = {"env": _from_environment, "file": _from_file, "keyring": _from_keyring}.get(kind)
    if find is None or not name:
        raise ConfigError(
            f"'{source}' does not say where the encryption key is. Write env:NAME, file:PATH or keyring:SERVICE."
        )
    return _read_secret(find(name), source)


def _from_environment(name: str) -> bytes:
    value = os.environ.get(name, "")
    if not value.strip():
        raise ConfigError(f"The environment has no encryption key: {name} is not set. {ABOUT_KEY}")
    return os.fsencode(value)


def _from_file(name: str) -> bytes:
    path = Path(name).expanduser()
    if not path.is_absolute():
        raise ConfigError(f"The path of the key file, '{name}', has to begin at the root or with '~'.")
    try:
        content = path.read_bytes()
        open_to = path.stat().st_mode & 0o077
    except OSError as error:
        raise ConfigError(f"The key file '{path}' cannot be read: {error.strerror}. {ABOUT_KEY}") from error
    if open_to and sys.platform != "win32":
        log.warning("Others on this machine can use the key file '%s'. Say: chmod 600 '%s'", path, path)
    return content


def _from_keyring(service: str) -> bytes:
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            "The encryption key should come from the system's keyring, which needs the package 'keyring'. "
            "Install 'roost[encryption]', or keep the key elsewhere: env:NAME or file:PATH."
        ) from None
    try:
        value = keyring.get_password(service, "key")
    except Exception as error:  # backends raise errors of their own, and those of D-Bus
        raise ConfigError(
            f"The system's keyring does not give the encryption key '{service}': {str(error).rstrip('.')}. "
            "Unlock it, or keep the key elsewhere: env:NAME or file:PATH."
        ) from error
    if not value:
        raise ConfigError(
            f"The system's keyring has no encryption key '{service}'. Say: keyring set {service} key. {ABOUT_KEY}"
        )
    return value.encode()


def _read_secret(content: bytes, source: str) -> Secret:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        if len(content) == KEY:
            return Secret(content)
        raise ConfigError(f"What {source} holds is no encryption key. {ABOUT_KEY}") from None
    if (key := _decoded(text)) is not None:
        return Secret(key)
    if len(text) < SHORTEST:
        raise ConfigError(
            f"The passphrase from {source} has {len(text)} characters; it needs {SHORTEST} at least. {ABOUT_KEY}"
        )
    return Secret(unicodedata.normalize("NFC", text).encode(), passphrase=True)


def _decoded(text: str) -> bytes | None:
    """The 32 bytes that a text spells in hexadecimal or base64, of either alphabet, padded or not."""
    try:
        if len(text) == 2 * KEY:
            return bytes.fromhex(text)
        if len(text) in (43, 44):
            standard = text.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=") + "="
            return base64.b64decode(standard, validate=True)
    except (ValueError, binascii.Error):
        pass
    return None
