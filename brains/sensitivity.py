"""Which parts of a model suffer most from fewer bits: measured one part at a time, with all others whole.

A file with all matrices in FP16 is the reference. Each part in turn is packed to the low type and unpacked again in
that file, which is read, and then put back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roost.brains import library
from roost.brains.download import check_space
from roost.brains.losses import Estimate, Reference, Text, estimate, reference
from roost.brains.recipes import F16, bits, fitted, matrices
from roost.brains.rewriting import THREADS, Layout, Weights, open_weights, read_layout, rewrite, size_with, slices

Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Matrices that are raised together, by name, and how many bytes the low and the high type take for them."""

    name: str
    matrices: tuple[str, ...]
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Damage:
    """The KL divergence, in nats a token, that a part alone causes at the low type."""

    part: Part
    divergence: Estimate

    @property
    def worth(self) -> float:
        """What is won for each byte more."""
        return self.divergence.value / max(1, self.part.high - self.part.low)


def parts(layout: Layout, low: dict[str, int], high: dict[str, int]) -> list[Part]:
    """The vocabulary, the output, and of each block the attention and the rest, as far as the types differ."""
    groups: dict[str, list[Weights]] = {}
    for one in matrices(layout):
        if low[one.name] != high[one.name]:
            groups.setdefault(part_of(one.name), []).append(one)
    return [
        Part(
            name,
            tuple(one.name for one in group),
            sum(library.size_of(low[one.name], one.count) for one in group),
            sum(library.size_of(high[one.name], one.count) for one in group),
        )
        for name, group in groups.items()
    ]


def part_of(tensor: str) -> str:
    """ "blk.3.attn_k.weight" is of "block 3 attention"."""
    match = re.match(r"blk\.(\d+)\.(attn|ssm|time_mix)?", tensor)
    if match:
        return f"block {match[1]} {'attention' if match[2] else 'feed-forward'}"
    return {"token_embd.weight": "vocabulary", "output.weight": "output"}.get(tensor, tensor)


def raised(layout: Layout, low: dict[str, int], keep: int) -> dict[str, int]:
    """Every matrix in the type that sensitive ones keep; what has more bits already stays."""
    kinds = {one.name: fitted(one, keep) for one in matrices(layout)}
    return {name: kind if bits(kind) > bits(low[name]) else low[name] for name, kind in kinds.items()}


@contextmanager
def whole(
    source: Layout, texts: Sequence[Text], folder: Path, limit: int, told: Told
) -> Iterator[tuple[Layout, Reference]]:
    """The model in FP16 as a file in `folder` that may be changed, and what it thinks of the texts."""
    path = folder / "whole.gguf"
    kinds = {one.name: F16 for one in matrices(source)}
    check_space(folder, size_with(source, kinds))
    rewrite(source, path, kinds)
    try:
        with reference(path, texts, folder, limit, told) as given:
            yield read_layout(path), given
    finally:
        path.unlink()


def damages(layout: Layout, given: Reference, low: dict[str, int], found: Sequence[Part], told: Told) -> list[Damage]:
    """What each part suffers, the worst a byte first."""
    measured = []
    for number, part in enumerate(found, 1):
        measured.append(Damage(part, alone(layout, part, low, given)))
        told(number, len(found))
    return sorted(measured, key=lambda one: (-one.worth, one.part.name))


def alone(layout: Layout, part: Part, low: dict[str, int], given: Reference) -> Estimate:
    """The divergence with only this part at the low type. The file is as it was afterwards."""
    tensors = [one for one in layout.tensors if one.name in part.matrices]
    before = [(one, stored(layout.path, one)) for one in tensors]
    try:
        for one in tensors:
            roughen(layout.path, one, low[one.name])
        return estimate(given.judge(layout.path).divergence)
    finally:
        for one, raw in before:
            put(layout.path, one.start, raw)


def stored(path: Path, one: Weights) -> bytes:
    with open_weights(path) as raw:
        return raw[one.start : one.start + one.bytes]


def roughen(path: Path, one: Weights, kind: int) -> None:
    """Pack a tensor's weights and unpack them, in place."""

    def made(place: tuple[int, int]) -> bytes:
        start, count = place
        begin = one.start + library.size_of(one.kind, start)
        numbers = library.floats(one.kind, raw[begin : begin + library.size_of(one.kind, count)], count)
        packed = library.blocks(kind, numbers, one.sizes[0])
        return library.blocks(one.kind, library.floats(kind, packed, count), one.sizes[0])

    with open_weights(path) as raw, ThreadPoolExecutor(THREADS) as pool:
        there = b"".join(pool.map(made, slices(one, one.kind)))
    put(path, one.start, there)


def put(path: Path, start: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(raw)


def affordable(ranked: Sequence[Damage], size: int, room: int) -> list[Part]:
    """The parts to raise, the most useful a byte first, while a file of `size` bytes stays within `room`."""
    chosen = []
    for one in ranked:
        more = one.part.high - one.part.low
        if size + more <= room:
            chosen.append(one.part)
            size += more
    return chosen


def with_raised(low: dict[str, int], high: dict[str, int], chosen: Sequence[Part]) -> dict[str, int]:
    names = {name for part in chosen for name in part.matrices}
    return {name: high[name] if name in names else kind for name, kind in low.items()}
