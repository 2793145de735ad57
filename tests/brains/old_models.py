"""Model files from before GGUF, of some ten kilobytes: the families' real layouts, random weights, bytes as words.

Layouts: `models/llms` of https://github.com/marella/ctransformers, version 0.2.27.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from random import Random

WIDTH, HEADS, LAYERS, CONTEXT, ROTATED, MULTIPLE = 32, 2, 2, 256, 16, 32
END = b"<|endoftext|>"
WORDS = [bytes([number]) for number in range(256)] + [END]
GPT = (len(WORDS), CONTEXT, WIDTH, HEADS, LAYERS)
MOSAIC = (WIDTH, CONTEXT, HEADS, LAYERS, len(WORDS))
NUMBERS = {
    "gpt2": (*GPT, 0, len(WORDS)),
    "gpt_bigcode": (*GPT, 0, len(WORDS)),
    "gptj": (*GPT, ROTATED, 0, len(WORDS)),
    "gptneox": (*GPT, ROTATED, 1, 0),
    "dolly-v2": (*GPT, ROTATED, 1, 0),
    "mpt": (*MOSAIC, struct.unpack("<i", struct.pack("<f", 8.0))[0], 0, 0),
    "llama": (3, 3 + len(WORDS) - 1, WIDTH, MULTIPLE, HEADS, LAYERS, ROTATED, 0),
}
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def both(name: str, *shape: int) -> Shapes:
    """A weight and its bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[-1:]


def gpt2() -> Shapes:
    for name in ("g", "b"):
        yield f"model/ln_f/{name}", (WIDTH,)
    yield "model/wte", (WIDTH, len(WORDS))
    yield "model/wpe", (WIDTH, CONTEXT)
    parts = {
        **{"attn/c_attn": (WIDTH, 3 * WIDTH), "attn/c_proj": (WIDTH, WIDTH)},
        **{"mlp/c_fc": (WIDTH, 4 * WIDTH), "mlp/c_proj": (4 * WIDTH, WIDTH)},
    }
    for layer in range(LAYERS):
        for norm in ("ln_1", "ln_2"):
            yield f"model/h{layer}/{norm}/g", (WIDTH,)
            yield f"model/h{layer}/{norm}/b", (WIDTH,)
        for part, shape in parts.items():
            yield f"model/h{layer}/{part}/w", shape
            yield f"model/h{layer}/{part}/b", shape[-1:]


def gptj() -> Shapes:
    yield "transformer.wte.weight", (WIDTH, len(WORDS))
    yield from both("transformer.ln_f", WIDTH)
    yield from both("lm_head", WIDTH, len(WORDS))
    for layer in range(LAYERS):
        yield from both(f"transformer.h.{layer}.ln_1", WIDTH)
        for part in ("q", "k", "v", "out"):
            yield f"transformer.h.{layer}.attn.{part}_proj.weight", (WIDTH, WIDTH)
        yield from both(f"transformer.h.{layer}.mlp.fc_in", WIDTH, 4 * WIDTH)
        yield from both(f"transformer.h.{layer}.mlp.fc_out", 4 * WIDTH, WIDTH)


def gptneox() -> Shapes:
    yield "gpt_neox.embed_in.weight", (WIDTH, len(WORDS))
    yield from both("gpt_neox.final_layer_norm", WIDTH)
    yield "embed_out.weight", (WIDTH, len(WORDS))
    for layer in range(LAYERS):
        begin = f"gpt_neox.layers.{layer}"
        yield from both(f"{begin}.input_layernorm", WIDTH)
        yield from both(f"{begin}.post_attention_layernorm", WIDTH)
        yield from both(f"{begin}.attention.query_key_value", WIDTH, 3 * WIDTH)
        yield from both(f"{begin}.attention.dense", WIDTH, WIDTH)
        yield from both(f"{begin}.mlp.dense_h_to_4h", WIDTH, 4 * WIDTH)
        yield from both(f"{begin}.mlp.dense_4h_to_h", 4 * WIDTH, WIDTH)


def mpt() -> Shapes:
    yield "transformer.wte.weight", (WIDTH, len(WORDS))
    yield "transformer.norm_f.weight", (WIDTH,)
    sizes = {"attn.Wqkv": (WIDTH, 3 * WIDTH), "attn.out_proj": (WIDTH, WIDTH)}
    sizes |= {"ffn.up_proj": (WIDTH, 4 * WIDTH), "ffn.down_proj": (4 * WIDTH, WIDTH)}
    for layer in range(LAYERS):
        for part, shape in ({"norm_1": (WIDTH,), "norm_2": (WIDTH,)} | sizes).items():
            yield f"transformer.blocks.{layer}.{part}.weight", shape


def llama() -> Shapes:
    vocabulary = len(words("llama"))
    inner = -(-(2 * 4 * WIDTH // 3) // MULTIPLE) * MULTIPLE
    yield from (("tok_embeddings.weight", (WIDTH, vocabulary)), ("norm.weight", (WIDTH,)))
    yield "output.weight", (WIDTH, vocabulary)
    for layer in range(LAYERS):
        for norm in ("attention_norm", "ffn_norm"):
            yield f"layers.{layer}.{norm}.weight", (WIDTH,)
        for part in "qkvo":
            yield f"layers.{layer}.attention.w{part}.weight", (WIDTH, WIDTH)
        for number, shape in ((1, (WIDTH, inner)), (2, (inner, WIDTH)), (3, (WIDTH, inner))):
            yield f"layers.{layer}.feed_forward.w{number}.weight", shape


SHAPES = {"gpt2": gpt2, "gpt_bigcode": gpt2, "gptj": gptj, "gptneox": gptneox, "dolly-v2": gptneox}
SHAPES |= {"mpt": mpt, "llama": llama}


def words(family: str) -> list[bytes]:
    """Every byte, and an end. MPT's are written as the text of the characters with these numbers."""
    if family == "llama":
        return [b"<unk>", b"<s>", b"</s>", *WORDS[:-1]]
    if family == "mpt":
        return [word.decode("latin-1").encode() for word in WORDS]
    last = {"dolly-v2": b"### End", "gpt_bigcode": b"<|end|>"}.get(family, END)
    return [*WORDS[:-1], last]


def model(family: str, seed: int = 5) -> bytes:
    """The whole file. Weights are small, so that no number overflows."""
    random, old = Random(seed), family == "llama"
    file = bytearray((b"tjgg" if old else b"lmgg") + struct.pack(f"<{len(NUMBERS[family])}i", *NUMBERS[family]))
    for number, word in enumerate(words(family)):
        file += struct.pack("<I", len(word)) + word + (struct.pack("<f", -number) if old else b"")
    for name, shape in SHAPES[family]():
        raw = name.encode()
        file += struct.pack(f"<3i{len(shape)}i", len(shape), len(raw), 0, *shape) + raw
        file += bytes(-len(file) % 32) if old else b""
        elements = prod(shape)
        file += struct.pack(f"<{elements}f", *(random.gauss(0, 0.3) for _ in range(elements)))
    return bytes(file)


def write(family: str, folder: Path) -> Path:
    path = folder / f"{family}.bin"
    path.write_bytes(model(family))
    return path
