"""Tries a model's chat template, in a process with limits: `python -m roost.brains.trial FILE`.

It exits with 0 when the engine can use it. Most of what can be wrong with one ends or stops the process.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 3
MEMORY = 2 << 30
SHAPE = {"context_length": 2048, "embedding_length": 32, "block_count": 1, "feed_forward_length": 32}
HEADS = {"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": 32}
UNKNOWN, CONTROL, BYTE, NORMAL = 2, 3, 6, 1
U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9
KEPT: list[Any] = []


def main(path: Path) -> None:
    bound()
    status = tried(path)
    # A server that ends in the moment of its start may wait for itself for ever.
    os._exit(status)


def tried(path: Path) -> int:
    import xllamacpp

    try:
        server = xllamacpp.Server(parameters(xllamacpp, path))
    except RuntimeError:
        return 1
    KEPT.append(server)
    return 0


def bound() -> None:
    """Limit this process's time and memory, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def parameters(xllamacpp: Any, path: Path) -> Any:
    wanted = xllamacpp.CommonParams()
    wanted.model.path, wanted.hostnames, wanted.port, wanted.ui = str(path), ["127.0.0.1"], 0, False
    wanted.api_keys, wanted.verbosity, wanted.warmup = ["none"], 0, False
    wanted.n_ctx, wanted.n_parallel, wanted.n_gpu_layers, wanted.fit_params = 512, 1, 0, False
    wanted.n_batch = wanted.n_ubatch = 32
    wanted.cache_ram_mib, wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads = 0, 1, 1
    return wanted


def model(template: str = "") -> bytes:
    """The smallest model that llama.cpp runs: one layer of zeros, so that every token is as likely as any other.

    Its tokens are the 256 bytes. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, NORMAL]
    keys = list(pairs(tokens, kinds, template))
    tensors, size = laid_out(len(tokens))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join([*keys, *tensors])
    return head + bytes(-len(head) % 32) + bytes(size)


def pairs(tokens: list[str], kinds: list[int], template: str) -> Iterator[bytes]:
    yield pair("general.architecture", STRING, text("llama"))
    for name, number in (SHAPE | HEADS).items():
        yield pair(f"llama.{name}", U32, struct.pack("<I", number))
    yield pair("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))
    yield pair("tokenizer.ggml.model", STRING, text("llama"))
    yield pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, len(tokens)) + b"".join(map(text, tokens)))
    yield pair(
        "tokenizer.ggml.scores", ARRAY, struct.pack(f"<IQ{len(tokens)}f", F32, len(tokens), *[0.0] * len(tokens))
    )
    yield pair("tokenizer.ggml.token_type", ARRAY, struct.pack(f"<IQ{len(kinds)}i", I32, len(kinds), *kinds))
    yield pair("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", 1))
    yield pair("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 2))
    if template:
        yield pair("tokenizer.chat_template", STRING, text(template))


def laid_out(vocabulary: int) -> tuple[list[bytes], int]:
    """The description of each tensor, all of 32 numbers a row, and the bytes that they take together."""
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    rows = {"token_embd.weight": vocabulary, "output.weight": vocabulary} | {f"blk.0.{one}.weight": 32 for one in names}
    flat = dict.fromkeys(("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), 0)
    found, offset = [], 0
    for name, count in (rows | flat).items():
        sizes = struct.pack("<IQQ", 2, 32, count) if count else struct.pack("<IQ", 1, 32)
        found.append(text(name) + sizes + struct.pack("<IQ", 0, offset))
        offset += 32 * max(1, count) * 4
    return found, offset


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


if __name__ == "__main__":
    main(Path(sys.argv[1]))
