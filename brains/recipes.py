"""Which type each tensor of a model gets at a precision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from roost.brains.gguf import BLOCKS
from roost.brains.shape import TYPES
from roost.errors import ModelError

if TYPE_CHECKING:
    from roost.brains.rewriting import Layout, Weights

KINDS = {name.lower(): kind for kind, name in TYPES.items()}
F32, F16, Q4_0, Q5_0, Q8_0, Q6_K, BF16 = 0, 1, 2, 6, 8, 14, 30
FULL = {F32, F16, BF16, 28}
# Types that the engine packs without statistics of what flows through the model, which it does not offer to collect.
FOUR_BITS = ("q4_0", "q4_1", "q4_k", "iq4_nl")
OFFERED = (*FOUR_BITS, "q5_0", "q5_1", "q5_k", "q6_k", "q8_0", "f16")
USUAL = {"int8": "q8_0", "int4": "q4_k", "mixed": "q4_k", "fp16": "f16"}
# Of blocks of 256 there is none in rows of another length: the next type up in blocks of 32, as llama.cpp does.
SMALLER = {12: Q5_0, 13: 7, 14: Q8_0}
# Matrices that are small and matter much, or that the engine wants as they are: `llama_tensor_quantize` there.
KEPT = re.compile(
    r"_norm|ffn_gate_inp|position_embd|token_types|ssm_conv1d|shortconv\.conv|altup|laurel|per_layer_model_proj"
    r"|time_mix_(first|w0|w1|w2|v0|v1|v2|a0|a1|a2|g1|g2|decay_w1|decay_w2|lerp)|attn_rel_b|rope_freqs|indexer"
)


def is_matrix(one: Weights) -> bool:
    """Whether a tensor may be stored with fewer bits."""
    return len(one.sizes) > 1 and one.name.endswith(".weight") and not KEPT.search(one.name)


def matrices(layout: Layout) -> list[Weights]:
    return [one for one in layout.tensors if is_matrix(one)]


def is_output(one: Weights, layout: Layout) -> bool:
    """Whether a tensor makes the scores of the tokens. A model without an output of its own uses its vocabulary."""
    own = any(other.name == "output.weight" for other in layout.tensors)
    return one.name == ("output.weight" if own else "token_embd.weight")


def fitted(one: Weights, kind: int) -> int:
    """The type itself, or what comes next to it for rows of this length."""
    while one.sizes[0] % BLOCKS[kind][0]:
        kind = SMALLER.get(kind, F16)
    return kind


def uniform(layout: Layout, name: str, output: bool = True) -> dict[str, int]:
    """All matrices in one type. With `output`, the output keeps 6 or 8 bits, as it does in llama.cpp's own files."""
    kind = KINDS[name]
    best = max(kind, Q6_K, key=bits)
    return {one.name: fitted(one, best if output and is_output(one, layout) else kind) for one in matrices(layout)}


def bits(kind: int) -> float:
    """Bits of one weight."""
    block, size = BLOCKS[kind]
    return 8 * size / block


def average_bits(layout: Layout, kinds: Mapping[str, int] | None = None) -> float:
    """Bits of one weight over a whole file."""
    kinds = kinds or {}
    total = sum(one.count * bits(kinds.get(one.name, one.kind)) for one in layout.tensors)
    return total / sum(one.count for one in layout.tensors)


def check_source(layout: Layout, requantize: bool) -> None:
    """Raises ModelError for a file whose weights were made smaller before, unless that is asked for."""
    small = sorted({TYPES.get(one.kind, str(one.kind)) for one in matrices(layout) if one.kind not in FULL})
    if not matrices(layout):
        raise ModelError(f"'{layout.path}' has no matrices to make smaller: it is no language model.")
    if small and not requantize:
        raise ModelError(
            f"'{layout.path}' was made smaller before: it has weights in {', '.join(small)}. What was lost then does "
            "not come back, and a second loss adds to it. Start from the model in FP16, or insist with --requantize."
        )


def described(kinds: Iterable[int]) -> str:
    """Types by name, the commonest first."""
    counts: dict[int, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(TYPES.get(kind, str(kind)) for kind in sorted(counts, key=lambda kind: (-counts[kind], kind)))
