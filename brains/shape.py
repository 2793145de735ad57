"""What of a model decides how much memory it takes, and the shapes of models that are known by numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass

F32, F16, Q8_0, Q4_K, Q6_K = 0, 1, 8, 12, 14
TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K"},
    **{13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16", 39: "MXFP4"},
}
# Bits of one weight. Q4_K_M holds about as many in models of every size: 4.9 in Llama 3.1 8B, 4.97 in Qwen3 4B.
BITS = {"int4": 4.95, "int8": 8.5, "fp16": 16.0}
# Of a Q4_K_M file, what is Q4_K; the rest is Q6_K.
SHARE = 0.72


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: `rows` of a matrix, its type's number, where it starts and how many bytes it has."""

    name: str
    rows: int
    kind: int
    start: int
    size: int
    matrix: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps of a conversation.

    `keys` and `values` are numbers kept for each token, of the last `window` tokens only if that is not 0. `state` is
    bytes for the whole conversation, in layers that keep a state instead.
    """

    keys: int = 0
    values: int = 0
    window: int = 0
    state: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as far as memory goes. `wide` is the numbers a token takes while it passes a layer.

    `blockwise` says whether keys and values can be kept in blocks of 32 numbers, as Q8_0 does.
    """

    title: str
    architecture: str = ""
    layers: tuple[Layer, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    parameters: int = 0
    embedding: int = 0
    wide: int = 0
    vocabulary: int = 0
    merges: int = 0
    trained: int = 0
    blockwise: bool = True
    measured: bool = True

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return sum(one.size for one in self.tensors)

    @property
    def kinds(self) -> str:
        """The types most of the weights have, the commonest first."""
        sizes: dict[int, int] = {}
        for one in self.tensors:
            sizes[one.kind] = sizes.get(one.kind, 0) + one.size
        common = [kind for kind in sorted(sizes, key=lambda kind: -sizes[kind]) if sizes[kind] * 20 > self.weights]
        return ", ".join(TYPES.get(kind, f"type {kind}") for kind in common)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A model in a few numbers, for planning before its file is here. `head` is numbers a head has.

    `window` tokens are seen by all layers but each `period`th. Of a mixture, `used` experts of `expert` numbers each.
    """

    layers: int
    embedding: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    head: int = 0
    merges: int = 0
    window: int = 0
    period: int = 0
    used: int = 0
    expert: int = 0
    trained: int = 0


# Models of a size resemble each other. These are Qwen2.5 0.5B, 1.5B, 3B, Llama 3.1 8B, Qwen2.5 14B and 32B and Llama
# 3.1 70B, as their published configurations say.
TYPICAL = {
    0.5e9: Sketch(24, 896, 14, 2, 4864, 151_936, merges=151_387),
    1.5e9: Sketch(28, 1536, 12, 2, 8960, 151_936, merges=151_387),
    3.1e9: Sketch(36, 2048, 16, 2, 11_008, 151_936, merges=151_387),
    8.0e9: Sketch(32, 4096, 32, 8, 14_336, 128_256, merges=280_147),
    14.8e9: Sketch(48, 5120, 40, 8, 13_824, 152_064, merges=151_387),
    32.8e9: Sketch(64, 5120, 40, 8, 27_648, 152_064, merges=151_387),
    70.6e9: Sketch(80, 8192, 64, 8, 28_672, 128_256, merges=280_147),
}


def sketched(title: str, sketch: Sketch, parameters: int, precision: str, size: int = 0) -> Shape:
    """The shape of a model that is known by numbers only. `size` is its file's, estimated when 0."""
    head = sketch.head or sketch.embedding // sketch.heads
    width = head * sketch.kv_heads
    windows = [0 if is_full(number, sketch.period, False) else sketch.window for number in range(sketch.layers)]
    return Shape(
        title,
        layers=tuple(Layer(width, width, window) for window in windows),
        tensors=imagined(size or round(parameters * BITS[precision] / 8), precision, sketch.layers),
        parameters=parameters,
        embedding=sketch.embedding,
        wide=max(4 * sketch.feed_forward, mixture(sketch.used, sketch.expert, sketch.embedding)),
        vocabulary=sketch.vocabulary,
        merges=sketch.merges,
        trained=sketch.trained,
        blockwise=head % 32 == 0,
        measured=False,
    )


def typical(parameters: int, precision: str) -> Shape:
    """What a model with so many parameters usually looks like."""
    nearest = min(TYPICAL, key=lambda size: abs(math.log(size / parameters)))
    billions = f"{parameters / 1e9:.3g}B"
    return sketched(f"a usual model of {billions} parameters, {precision}", TYPICAL[nearest], parameters, precision)


def imagined(size: int, precision: str, layers: int) -> tuple[Tensor, ...]:
    """Tensors that stand for a whole file: matrices of two types in each layer, the vocabulary, the output."""
    common, other = {"int4": (Q4_K, Q6_K), "int8": (Q8_0, Q8_0), "fp16": (F16, F16)}[precision]
    share = SHARE if precision == "int4" else 0.5
    most, rest = round(size * share / layers), round(size * (1 - share) / (layers + 2))
    named = [("token_embd.weight", other, rest)]
    for number in range(layers):
        named += [(f"blk.{number}.most", common, most), (f"blk.{number}.rest", other, rest)]
    tensors, start = [], 0
    for name, kind, each in [*named, ("output.weight", other, rest)]:
        tensors.append(Tensor(name, 32, kind, start, each))
        start += each
    return tuple(tensors)


def mixture(used: int, expert: int, embedding: int) -> int:
    return used * (3 * expert + embedding) if used else 0


def is_full(number: int, period: int, first: bool) -> bool:
    """Whether a layer sees all tokens, where each `period`th does."""
    return period > 0 and number % period == (0 if first else period - 1)
