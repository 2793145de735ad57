"""Encryption of the data folder, for whoever switches it on.

Everything is sealed with one random key of the folder's own. That key is kept in `cipher.json`, itself sealed
with the owner's key, which comes from the environment, a file or the system's keyring and is stored nowhere
here. Who loses the owner's key, or both `cipher.json` and its copy, has lost the data: nobody can help then.

    owner's key ── HKDF-SHA256, with the folder's salt ──► opens the folder's key in cipher.json
    passphrase ─── scrypt, with the same salt ──► stands for an owner's key
    folder's key ─ HKDF-SHA256 ──► one key that seals, one key that blinds

HKDF is RFC 5869, scrypt RFC 7914. All sealing is AES-SIV with 512-bit keys (RFC 5297). With a random nonce of
128 bits (section 3) it may seal as many messages as anyone will ever write: after 2^48 of them, two share a
nonce with a chance of 2^-33, and would then merely show whether they are the same. AES-GCM with random nonces
has to stop at 2^32 and falls apart when it does not. Without a nonce (section 4) it makes what is the same look
the same, which is what a search index needs, and is what RFC 5297 was made for: keys that seal keys.

It protects what lies on the disk: a stolen machine, a lost backup, a copied folder. Names, sizes and times of
files stay visible, and it protects nothing from a program that runs as the same user. Whoever can write to the
folder can put an old file in the place of a new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from roost.errors import ConfigError, StoreError
from roost.secret import KEY, Secret, find_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

log = logging.getLogger("roost.cipher")

FILE, COPY = "cipher.json", "cipher.json.copy"
FORMAT = 1
NONCE = 16  # bytes
WORD = 8  # bytes: a blinded word tells how many of these it takes, no more

# scrypt's N, r and p: 64 MiB and half a second. One of the settings that OWASP's Password Storage Cheat Sheet calls
# equal; less memory or more time would be the others.
COST = (2**16, 8, 2)
MOST_MEMORY = 256 * 1024 * 1024  # bytes

# What tells a sealed file from others: these words near its beginning, or this number as SQLite's application_id.
SEALED = b"roost sealed"
SEALED_ID = 0x526F6F53

NEEDED = (
    "Encryption needs the package 'cryptography', version 46 or newer. Install it, in the checkout: "
    '.venv/bin/pip install -e ".[encryption]"'
)


class Cipher:
    """Seals what is stored and opens it again. `key` is 32 random bytes. Safe to use from several threads.

    `about` says what the data are and where they belong: sealed data open only with the same `about`, so they
    cannot be passed off as something else. Sealing adds 32 bytes.
    """

    __slots__ = ("_blind", "_refused", "_seal")

    def __init__(self, key: bytes) -> None:
        self._seal, self._blind = _siv(key, b"roost seal 1"), _siv(key, b"roost blind 1")
        self._refused = _refusals()

    def seal(self, data: bytes, about: bytes = b"") -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._seal.encrypt(data, [about, nonce])

    def open(self, data: bytes, about: bytes = b"") -> bytes:
        """Raises StoreError for what was sealed with another key or another `about`, or changed since."""
        try:
            return self._seal.decrypt(data[NONCE:], [about, data[:NONCE]])
        except self._refused:
            raise StoreError("It was sealed with another key, or changed since.") from None

    def blind(self, word: str) -> str:
        """A stand-in for a word, of the characters 0-9 and a-f: the same for the same word, and for no other.

        Who reads an index of them learns how often each unknown word occurs and where, and its length to within
        eight bytes. What is rare stays hidden; what is common can be guessed from how common it is.
        """
        data = word.encode("utf-8", "surrogatepass") + b"\1"
        return self._blind.encrypt(data + bytes(-len(data) % WORD), []).hex()

    def unblind(self, word: str) -> str:
        """The word behind a stand-in. Raises StoreError for one that this key did not make."""
        try:
            data = self._blind.decrypt(bytes.fromhex(word), [])
        except self._refused:
            raise StoreError("A word in the index was made with another key, or changed since.") from None
        return data.rstrip(b"\0")[:-1].decode("utf-8", "surrogatepass")


def _siv(key: bytes, use: bytes, salt: bytes | None = None) -> AESSIV:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise ConfigError(NEEDED) from None
    try:
        return AESSIV(HKDF(SHA256(), 64, salt, use).derive(key))
    except UnsupportedAlgorithm:
        raise ConfigError(f"The OpenSSL of this Python is too old to encrypt. {NEEDED}") from None


def _refusals() -> tuple[type[Exception], ...]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag, ValueError


@dataclass(frozen=True, slots=True)
class Box:
    """What `cipher.json` says. `key` is the folder's key, sealed; `crc` the checksum of the rest."""

    salt: bytes
    cost: tuple[int, int, int]
    key: bytes
    format: int = FORMAT
    note: str = "Keep this file: without it and its key, what is sealed here cannot be read by anybody."
    crc: int = 0

    def sum(self) -> int:
        return crc32(msgspec.json.encode(replace(self, crc=0)))


def begin(home: Path, source: str) -> Cipher:
    """The cipher of a data folder, which the key from `source` opens; made when the folder has none yet.

    To be called while the folder's lock is held. Raises ConfigError when the key cannot be found, and StoreError
    when it is another one, or when `cipher.json` is damaged, or missing although something sealed is there.
    Nothing is written then.
    """
    secret = find_key(source)
    if source.startswith("file:") and Path(source[5:]).expanduser().resolve().is_relative_to(home.resolve()):
        log.warning("The key file '%s' lies in the folder that it locks, which protects nothing. Move it.", source[5:])
    return Cipher(_folder_key(home, secret, source) or _make(home, secret))


def is_begun(home: Path) -> bool:
    """Whether a data folder is encrypted, or once was."""
    return any((home / name).exists() for name in (FILE, COPY))


def change(home: Path, source: str, to: str) -> None:
    """Let the key from `to` open the folder from now on, and the one from `source` no more.

    Nothing is sealed anew: who has both the old key and an old `cipher.json` still opens the folder. Raises as
    `begin` does.
    """
    key = _folder_key(home, find_key(source), source)
    if key is None:
        raise StoreError(f"'{home}' is not encrypted, so there is no key to change.")
    _keep(home, _lock(key, find_key(to)))


def _folder_key(home: Path, secret: Secret, source: str) -> bytes | None:
    """None when the folder has none. What is missing or damaged of the file and its copy is mended."""
    boxes = [box for name in (FILE, COPY) if (box := _read_box(home / name)) is not None]
    if not boxes:
        _check_absent(home)
        return None
    opened = {key: box for box in dict.fromkeys(boxes) if (key := _unlock(box, secret)) is not None}
    if not opened:
        raise StoreError(
            f"The key from {source} is not the one that '{home}' was encrypted with. Nothing was changed. "
            "Give the right one: without it the data cannot be read by anybody."
        )
    if len(opened) > 1:
        raise StoreError(
            f"'{home / FILE}' and '{COPY}' beside it belong to two different folders. Remove the one that is not "
            "of this folder; keep it elsewhere until you know."
        )
    for name in (FILE, COPY):
        _fresh(home / name).unlink(missing_ok=True)  # of a write cut short
    ((key, box),) = opened.items()
    if boxes != [box, box]:
        log.warning("'%s' or its copy was missing or damaged, and has been made again.", home / FILE)
        _keep(home, box)
    return key


def _check_absent(home: Path) -> None:
    """Raises StoreError when there ought to be a `cipher.json`."""
    if is_begun(home):
        raise StoreError(f"'{home / FILE}' and its copy are damaged. Put one back from a backup: it holds the key.")
    if (path := find_sealed(home)) is not None:
        raise StoreError(
            f"'{path}' is encrypted, but '{home / FILE}' is gone, and the key of the data with it. "
            "Put it back from a backup. If there is none, the data cannot be read any more: move them away."
        )


def find_sealed(home: Path) -> Path | None:
    return next((path for path in sorted(home.rglob("*")) if path.is_file() and _is_sealed(path)), None)


def _is_sealed(path: Path) -> bool:
    # https://www.sqlite.org/fileformat.html: the application_id is at offset 68.
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read: {error.strerror}.") from error
    return SEALED in head or (head.startswith(b"SQLite") and head[68:72] == SEALED_ID.to_bytes(4, "big"))


def _make(home: Path, secret: Secret) -> bytes:
    key = os.urandom(KEY)
    _keep(home, _lock(key, secret))
    log.info("'%s' is encrypted from now on. Who loses the key or '%s' loses the data.", home, FILE)
    return key


def _lock(key: bytes, secret: Secret) -> Box:
    salt = os.urandom(KEY)
    box = Box(salt, COST, _wrap(secret, salt, COST).encrypt(key, []))
    return replace(box, crc=box.sum())


def _unlock(box: Box, secret: Secret) -> bytes | None:
    wrap = _wrap(secret, box.salt, box.cost)
    try:
        return wrap.decrypt(box.key, [])
    except _refusals():
        return None


def _wrap(secret: Secret, salt: bytes, cost: tuple[int, int, int]) -> AESSIV:
    key = secret.value
    if secret.passphrase:
        n, r, p = cost
        key = hashlib.scrypt(key, salt=salt, n=n, r=r, p=p, maxmem=MOST_MEMORY, dklen=KEY)
    return _siv(key, b"roost owner 1", salt)


def _read_box(path: Path) -> Box | None:
    """None when it is missing or damaged."""
    try:
        box = msgspec.json.decode(path.read_bytes(), type=Box)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if box.format > FORMAT:
        raise StoreError(f"'{path}' was written by a newer Roost (format {box.format}, this one reads {FORMAT}).")
    return box if box.crc == box.sum() else None


def _keep(home: Path, box: Box) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (COPY, FILE):
            _write(home / name, msgspec.json.format(msgspec.json.encode(box)) + b"\n")
    except OSError as error:
        raise StoreError(f"'{home / FILE}' cannot be written: {error.strerror}.") from error


def _write(path: Path, content: bytes) -> None:
    """All or nothing, its owner's alone, and safe from a power cut."""
    fresh = _fresh(path)
    fresh.unlink(missing_ok=True)
    with open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + ".new")
