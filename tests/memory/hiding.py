"""A cipher for tests: nothing it makes can be read, and it is no good for anything else."""

from __future__ import annotations

import hashlib
import os

from roost.errors import StoreError


class Hiding:
    """Seals with a stream of SHAKE-256 and a checksum."""

    def __init__(self, key: bytes = b"key") -> None:
        self.key = key

    def seal(self, data: bytes, about: bytes = b"") -> bytes:
        nonce = os.urandom(8)
        return nonce + self._sum(nonce + data, about) + self._stream(nonce, data)

    def open(self, data: bytes, about: bytes = b"") -> bytes:
        nonce, checksum = data[:8], data[8:24]
        plain = self._stream(nonce, data[24:])
        if self._sum(nonce + plain, about) != checksum:
            raise StoreError("It was sealed with another key, or changed since.")
        return plain

    def blind(self, word: str) -> str:
        return hashlib.blake2b(word.encode("utf-8", "surrogatepass"), key=self.key, digest_size=16).hexdigest()

    def _stream(self, nonce: bytes, data: bytes) -> bytes:
        stream = hashlib.shake_256(self.key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _sum(self, data: bytes, about: bytes) -> bytes:
        return hashlib.blake2b(about + b"\0" + data, key=self.key, digest_size=16).digest()
