"""The header of a GGUF file, read with distrust: a model file is checked before an engine sees it.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from roost.errors import ModelError

MAGIC = b"GGUF"
MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 17
LONGEST_NAME = 1 << 16
KEPT_TEXT = 1 << 12
MOST_STRINGS = 1 << 22

SCALARS = dict(zip(range(8), ("B", "b", "H", "h", "I", "i", "f", "?"), strict=True)) | {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Elements and bytes of one block, by tensor type; a type that is not listed is newer than this table.
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a model file says about itself. `keys` has the scalar values and the short texts."""

    version: int
    tensors: int
    keys: dict[str, str | int | float]


def verify_gguf(path: Path) -> Header:
    """Read the header and check that all it promises is in the file. Raises ModelError."""
    try:
        with path.open("rb") as file:
            return Reader(path, file).read()
    except FileNotFoundError:
        raise ModelError(f"There is no model file '{path}'.") from None
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error


class Reader:
    """Reads one header. Nothing is read or allocated on the word of a count that the file's size contradicts."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size

    def read(self) -> Header:
        if self.file.read(4) != MAGIC:
            raise self._wrong("does not begin like a GGUF file")
        version = self._number("I")
        if version not in (2, 3):
            raise self._wrong(f"has version {version} of the format, and only 2 and 3 are known")
        tensors, keys = self._number("Q"), self._number("Q")
        if not 0 < tensors <= MOST_TENSORS or keys > MOST_KEYS:
            raise self._wrong(f"promises {tensors} tensors and {keys} keys, which no model has")
        values = dict(self._pair() for _ in range(keys))
        end = max(self._tensor(values) for _ in range(tensors))
        start = self.file.tell()
        alignment = int(values.get("general.alignment", 32))
        if start + -start % alignment + end > self.size:
            raise self._short()
        return Header(version, tensors, {key: value for key, value in values.items() if value != ""})

    def _pair(self) -> tuple[str, str | int | float]:
        key = self._text(LONGEST_NAME).decode(errors="replace")
        kind = self._number("I")
        if kind == ARRAY:
            self._skip_array()
            return key, ""
        if kind == STRING:
            return self._aligned(key, self._beginning().decode(errors="replace"))
        return self._aligned(key, self._scalar(kind))

    def _aligned(self, key: str, value: str | int | float) -> tuple[str, str | int | float]:
        if key == "general.alignment" and (not isinstance(value, int) or value < 1 or value & (value - 1)):
            raise self._wrong(f"has the alignment '{value}', which is not a power of two")
        return key, value

    def _scalar(self, kind: int) -> int | float:
        if kind not in SCALARS:
            raise self._wrong(f"has a value of the unknown type {kind}")
        return self._number(SCALARS[kind])

    def _skip_array(self) -> None:
        kind, count = self._number("I"), self._number("Q")
        if kind == STRING:
            if count > MOST_STRINGS:
                raise self._wrong(f"promises a list of {count} texts, which no model has")
            for _ in range(count):
                self._skip(self._number("Q"))
        elif kind in SCALARS:
            self._skip(count * struct.calcsize(SCALARS[kind]))
        else:
            raise self._wrong(f"has a list of the unknown type {kind}")

    def _tensor(self, values: dict[str, str | int | float]) -> int:
        """Where the data of the next tensor ends, counted from the beginning of all data."""
        name = self._text(LONGEST_NAME).decode(errors="replace")
        dimensions = self._number("I")
        if not 0 < dimensions <= 4:
            raise self._wrong(f"gives the tensor '{name}' {dimensions} dimensions")
        elements = math.prod(self._number("Q") for _ in range(dimensions))
        kind, offset = self._number("I"), self._number("Q")
        block, size = BLOCKS.get(kind, (1, 0))
        if offset % int(values.get("general.alignment", 32)):
            raise self._wrong(f"puts the tensor '{name}' at {offset}, which is not aligned")
        return int(offset + -(-elements // block) * size)

    def _number(self, form: str) -> int:
        width = struct.calcsize("<" + form)
        raw = self.file.read(width)
        if len(raw) < width:
            raise self._short()
        number: int = struct.unpack("<" + form, raw)[0]
        return number

    def _text(self, longest: int) -> bytes:
        length = self._number("Q")
        if length > longest:
            raise self._wrong(f"promises a name of {length} bytes")
        self._need(length)
        return self.file.read(length)

    def _beginning(self) -> bytes:
        length = self._number("Q")
        self._need(length)
        kept = self.file.read(min(length, KEPT_TEXT))
        self._skip(length - len(kept))
        return kept

    def _skip(self, length: int) -> None:
        self._need(length)
        self.file.seek(length, 1)

    def _need(self, length: int) -> None:
        if length > self.size - self.file.tell():
            raise self._short()

    def _wrong(self, what: str) -> ModelError:
        return ModelError(f"'{self.path}' is not a model that can be used: it {what}. Use a file in GGUF format.")

    def _short(self) -> ModelError:
        return ModelError(
            f"The model file '{self.path}' is cut short: it has {self.size} bytes and needs more. Download it again."
        )
