"""A model file written again with its weights in other types: everything else of it stays, byte by byte."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from roost.brains import library
from roost.brains.gguf import BLOCKS, MAGIC
from roost.brains.survey import PART, Survey
from roost.errors import ModelError

if TYPE_CHECKING:
    from roost.brains.library import Floats

SLICE = 1 << 22  # weights at a time: 16 MB as 32-bit numbers
THREADS = max(1, min(8, os.cpu_count() or 1))
LARGEST = 65504.0  # in FP16
FILE_TYPE, QUANTIZATION = "general.file_type", "general.quantization_version"
# What `general.file_type` says of a file, by the type most of it has: `llama_ftype` in llama.h.
FILE_TYPES = {0: 0, 1: 1, 2: 2, 3: 3, 6: 8, 7: 9, 8: 7, 10: 10, 11: 12, 12: 15, 13: 17, 14: 18, 20: 25, 23: 30, 30: 32}
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Weights:
    """One tensor: its sizes, the longest rows first, the number of its type, and where its bytes begin in the file."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    start: int

    @property
    def count(self) -> int:
        count = 1
        for size in self.sizes:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        return library.size_of(self.kind, self.count)


@dataclass(frozen=True, slots=True)
class Layout:
    """A model file as far as writing it again goes. `pairs` are its keys with their values, as they are written."""

    path: Path
    architecture: str
    version: int
    alignment: int
    pairs: tuple[tuple[str, bytes], ...]
    tensors: tuple[Weights, ...]


class Inventory(Survey):
    """Reads a header with the distrust of its bases, and keeps what it takes to write it again."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self.pairs: list[tuple[str, bytes]] = []
        self.sizes: list[tuple[int, ...]] = []

    def layout(self) -> Layout:
        header = self.read()
        alignment = int(header.keys.get("general.alignment", 32))
        start = self.file.tell() + -self.file.tell() % alignment
        tensors = tuple(
            Weights(one.name, sizes, one.kind, start + one.start)
            for one, sizes in zip(self.tensors, self.sizes, strict=True)
        )
        if unknown := next((one for one in tensors if one.kind not in BLOCKS), None):
            raise ModelError(f"'{self.path}': '{unknown.name}' has the unknown type {unknown.kind}. Update Roost.")
        architecture = str(header.keys.get("general.architecture", ""))
        return Layout(self.path, architecture, header.version, alignment, tuple(self.pairs), tensors)

    def _pair(self) -> tuple[str, str | int | float]:
        start = self.file.tell()
        key, value = super()._pair()
        end = self.file.tell()
        self.file.seek(start)
        self.pairs.append((key, self.file.read(end - start)))
        return key, value

    def _tensor(self, values: dict[str, str | int | float]) -> int:
        start = self.file.tell()
        data_end = super()._tensor(values)
        end = self.file.tell()
        self.file.seek(start)
        raw = self.file.read(end - start)
        length = struct.unpack_from("<Q", raw)[0]
        (dimensions,) = struct.unpack_from("<I", raw, 8 + length)
        self.sizes.append(struct.unpack_from(f"<{dimensions}Q", raw, 12 + length))
        return data_end


def read_layout(path: Path) -> Layout:
    """Raises ModelError when the file is no whole model, or one part of several."""
    if PART.fullmatch(path.name):
        raise ModelError(f"'{path}' is one part of a model in several files. Join them first (`llama-gguf-split`).")
    try:
        with path.open("rb") as file:
            return Inventory(path, file).layout()
    except FileNotFoundError:
        raise ModelError(f"There is no model file '{path}'.") from None
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error


def header_of(layout: Layout, kinds: Mapping[str, int]) -> bytes:
    """The beginning of the new file, up to the first weights."""
    pairs = [pair for pair in layout.pairs if pair[0] not in {FILE_TYPE, QUANTIZATION}]
    pairs += [number(FILE_TYPE, FILE_TYPES.get(commonest(layout, kinds), 0)), number(QUANTIZATION, 2)]
    head = MAGIC + struct.pack("<IQQ", layout.version, len(layout.tensors), len(pairs))
    head += b"".join(raw for _, raw in pairs)
    place = 0
    for one in layout.tensors:
        kind = kinds.get(one.name, one.kind)
        name = one.name.encode()
        head += struct.pack("<Q", len(name)) + name
        head += struct.pack(f"<I{len(one.sizes)}QIQ", len(one.sizes), *one.sizes, kind, place)
        place += padded(library.size_of(kind, one.count), layout.alignment)
    return head + bytes(-len(head) % layout.alignment)


def size_with(layout: Layout, kinds: Mapping[str, int]) -> int:
    """Bytes of the whole new file."""
    sizes = (library.size_of(kinds.get(one.name, one.kind), one.count) for one in layout.tensors)
    return len(header_of(layout, kinds)) + sum(padded(size, layout.alignment) for size in sizes)


def number(key: str, value: int) -> tuple[str, bytes]:
    name = key.encode()
    return key, struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, value)


def padded(size: int, alignment: int) -> int:
    return size + -size % alignment


def commonest(layout: Layout, kinds: Mapping[str, int]) -> int:
    """The type that most of the new file's weights have."""
    counts: dict[int, int] = {}
    for one in layout.tensors:
        kind = kinds.get(one.name, one.kind)
        counts[kind] = counts.get(kind, 0) + one.count
    return max(sorted(counts), key=lambda kind: counts[kind])


def rewrite(layout: Layout, target: Path, kinds: Mapping[str, int], told: Told = lambda done, total: None) -> None:
    """Write the model to `target` with the types of `kinds`, by tensor, and have the system write it out.

    The same input gives the same bytes. Raises ModelError, leaving a beginning of the file behind.
    """
    total = size_with(layout, kinds)
    with target.open("wb") as file, open_weights(layout.path) as raw, ThreadPoolExecutor(THREADS) as pool:
        file.write(header_of(layout, kinds))
        for one in layout.tensors:
            for piece in pieces(raw, one, kinds.get(one.name, one.kind), pool):
                file.write(piece)
            file.write(bytes(-file.tell() % layout.alignment))
            told(file.tell(), total)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def open_weights(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        yield raw


def pieces(raw: mmap.mmap, one: Weights, kind: int, pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """The bytes of a tensor in another type. As many pieces at a time as there are threads, so memory is bounded."""
    places = list(slices(one, kind))
    for first in range(0, len(places), THREADS):
        yield from pool.map(lambda place: converted(raw, one, kind, *place), places[first : first + THREADS])


def slices(one: Weights, kind: int) -> Iterator[tuple[int, int]]:
    """Where each piece begins, counted in weights, and how many it has: whole rows."""
    columns = one.sizes[0]
    step = max(1, SLICE // columns) * columns
    for start in range(0, one.count, step):
        yield start, min(step, one.count - start)


def converted(raw: mmap.mmap, one: Weights, kind: int, start: int, count: int) -> bytes:
    begin = one.start + library.size_of(one.kind, start)
    there = raw[begin : begin + library.size_of(one.kind, count)]
    if kind == one.kind:
        return there
    numbers = library.floats(one.kind, there, count)
    check(numbers, one, kind)
    return library.blocks(kind, numbers, one.sizes[0])


def check(numbers: Floats, one: Weights, kind: int) -> None:
    """Raises ModelError for what a type cannot hold."""
    largest = float(abs(numbers).max())
    if not math.isfinite(largest):
        raise ModelError(f"The weights '{one.name}' are broken: some are no numbers. Fetch the model again.")
    if kind == library.F16 and largest > LARGEST:
        raise ModelError(f"'{one.name}' has the weight {largest:g}, more than FP16 holds. Start from another file.")
