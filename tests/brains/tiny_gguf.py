"""GGUF files of a few hundred bytes, written by hand from the format's specification."""

from __future__ import annotations

import struct

F32, Q4_0 = 0, 2


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, value: str | int | list[str]) -> bytes:
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return text(key) + struct.pack("<I", 8) + text(value)


def tensor(name: str, elements: int, kind: int, offset: int) -> bytes:
    return text(name) + struct.pack("<IQIQ", 1, elements, kind, offset)


KEYS = (
    pair("general.architecture", "tiny"),
    pair("general.name", "Tiny"),
    pair("general.license", "mit"),
    pair("tiny.context_length", 64),
    pair("tokenizer.ggml.tokens", ["a", "b", "🦉"]),
)
TENSORS = (tensor("a", 8, F32, 0), tensor("b", 64, Q4_0, 32))


def gguf(keys: tuple[bytes, ...] = KEYS, tensors: tuple[bytes, ...] = TENSORS, data: int = 32 + 36) -> bytes:
    """A whole file with `data` bytes of tensor data, which is what TENSORS need."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join((*keys, *tensors))
    return head + bytes(-len(head) % 32) + bytes(range(256)) * (data // 256) + bytes(range(data % 256))
