"""A whole language model of some kilobytes: the architecture of real ones, random weights, bytes as tokens."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from tiny_gguf import pair, text

WIDTH, WIDE, BLOCKS, BYTES = 64, 128, 2, 256
F32, F16 = 0, 1


def letters() -> list[str]:
    """How GPT-2 writes each byte as a character that can be seen."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(number) if number in seen else chr(next(hidden)) for number in range(BYTES)]


def numbers(key: str, values: list[int]) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, 5, len(values)) + struct.pack(f"<{len(values)}i", *values)


def real(key: str, value: float) -> bytes:
    return text(key) + struct.pack("<If", 6, value)


def keys(vocabulary: int) -> list[bytes]:
    tokens = [*letters(), *(f"<extra {number}>" for number in range(vocabulary - BYTES))]
    return [
        pair("general.architecture", "llama"),
        pair("general.name", "Small"),
        pair("general.file_type", 1),
        pair("llama.block_count", BLOCKS),
        pair("llama.context_length", 512),
        pair("llama.embedding_length", WIDTH),
        pair("llama.feed_forward_length", WIDE),
        pair("llama.attention.head_count", 2),
        pair("llama.attention.head_count_kv", 2),
        pair("llama.rope.dimension_count", WIDTH // 2),
        real("llama.attention.layer_norm_rms_epsilon", 1e-5),
        pair("tokenizer.ggml.model", "gpt2"),
        pair("tokenizer.ggml.pre", "default"),
        pair("tokenizer.ggml.tokens", tokens),
        numbers("tokenizer.ggml.token_type", [1] * BYTES + [3] * (vocabulary - BYTES)),
        pair("tokenizer.ggml.merges", ["a b"]),
        pair("tokenizer.ggml.eos_token_id", BYTES),
    ]


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, vocabulary), "output_norm.weight": (WIDTH,)}
    for block in range(BLOCKS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found[f"blk.{block}.{name}.weight"] = (WIDTH, WIDTH)
        found[f"blk.{block}.ffn_gate.weight"] = found[f"blk.{block}.ffn_up.weight"] = (WIDTH, WIDE)
        found[f"blk.{block}.ffn_down.weight"] = (WIDE, WIDTH)
        found[f"blk.{block}.attn_norm.weight"] = found[f"blk.{block}.ffn_norm.weight"] = (WIDTH,)
    return found


def small_llama(
    path: Path, *, seed: int = 1, vocabulary: int = BYTES + 4, loudness: float = 0.5, spoil: str = ""
) -> Path:
    """Write the model in FP16. The first weight of the tensor `spoil` is no number; 0 for `loudness` knows nothing."""
    random = Random(seed)
    infos, data = [], b""
    for name, sizes in shapes(vocabulary).items():
        matrix = len(sizes) > 1
        count = sizes[0] * (sizes[1] if matrix else 1)
        scale = loudness if name == "token_embd.weight" else 0.25
        values = [random.gauss(0, scale) if matrix else 1.0 for _ in range(count)]
        if name == spoil:
            values[0] = float("nan")
        infos.append(
            text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, F16 if matrix else F32, len(data))
        )
        data += struct.pack(f"<{count}{'e' if matrix else 'f'}", *values)
        data += bytes(-len(data) % 32)
    pairs = keys(vocabulary)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join((*pairs, *infos))
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path
