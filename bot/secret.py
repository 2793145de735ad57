"""The owner's key to an encrypted data folder: where it is kept, and what it may look like."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import unicodedata
from dataclasses import dataclass, field

from roost import logs
from roost.errors import ConfigError
from roost.references import fetch, file_of, is_open

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
    """The owner's key from `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`; without a user, that of `key`.

    Raises ConfigError when it is not there or is no key.
    """
    kind, _, name = source.partition(":")
    try:
        content = fetch(source, "encryption key")
    except ConfigError as error:
        raise ConfigError(f"{error} {ABOUT_KEY}") from error
    if kind == "file" and is_open(path := file_of(name, "encryption key")):
        log.warning("Others on this machine can use the key file '%s'. Say: chmod 600 '%s'", path, path)
    return _read_secret(content, source)


def _read_secret(content: bytes, source: str) -> Secret:
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        if len(content) == KEY:
            return Secret(content)
        raise ConfigError(f"What {source} holds is no encryption key. {ABOUT_KEY}") from None
    logs.hide([text])
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
