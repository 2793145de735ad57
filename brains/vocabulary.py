"""What ctransformers needs of a GGUF file, and whether it can load that file.

The library is from September 2023. Some newer files it refuses without a reason, others end the process; so the file is
looked at before the library sees it. What it demands is in `models/ggml/llama.cpp` of
https://github.com/marella/ctransformers, version 0.2.27.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from roost.brains.gguf import STRING
from roost.brains.survey import Survey
from roost.errors import ModelError

TOKENS, TYPES, TEMPLATE = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.chat_template"
SCORES, KIND = "tokenizer.ggml.scores", "tokenizer.ggml.model"
CONTROL, USER_DEFINED = 3, 4
LARGEST_TEMPLATE = 1 << 18
# Tensor types of 2023: F32, F16 and the quantizations up to Q6_K.
TENSOR_TYPES = {0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14}
ATTENTION = {"attn_norm.weight", "attn_output.weight"}
LAYERS = {
    "llama": ATTENTION
    | {f"{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "ffn_norm", "ffn_gate", "ffn_down", "ffn_up")},
    "falcon": ATTENTION | {"attn_norm.bias", "attn_qkv.weight", "ffn_up.weight", "ffn_down.weight"},
}
OPTIONAL = {"falcon": {"attn_norm_2.weight", "attn_norm_2.bias"}}
AROUND = {
    "llama": {"token_embd.weight", "output_norm.weight", "output.weight"},
    "falcon": {"token_embd.weight", "output_norm.weight", "output_norm.bias", "output.weight"},
}
# Every byte that UTF-8 text can have in it.
BYTES = [*range(0xC0), *range(0xC2, 0xF5)]


class Vocabulary(Survey):
    """Reads a header as its base does, and keeps the tokens and the whole chat template."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self.tokens: list[bytes] = []
        self.types: tuple[int, ...] = ()
        self.template = ""

    def special(self, *types: int) -> dict[str, int]:
        """The tokens of these types by their text, the longest first."""
        found = {self.tokens[number].decode(errors="replace"): number for number in self._of(types)}
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))

    def key(self, name: str, default: int = -1) -> int:
        """A number the file gives for its tokens: "bos_token_id"."""
        value = self.header.keys.get(f"tokenizer.ggml.{name}", default)
        return int(value) if isinstance(value, int) else default

    def word(self, name: str) -> str:
        """The text of a token that the file names: "bos_token_id"; empty when it names none."""
        number = self.key(name)
        return self.tokens[number].decode(errors="replace") if 0 <= number < len(self.tokens) else ""

    def _of(self, types: tuple[int, ...]) -> list[int]:
        return [number for number, kind in enumerate(self.types) if kind in types and number < len(self.tokens)]

    def _pair(self) -> tuple[str, str | int | float]:
        start = self.file.tell()
        key, value = super()._pair()
        if key == TEMPLATE and isinstance(value, str):
            end = self.file.tell()
            self.file.seek(start)
            self._skip(self._number("Q") + 4)
            self.template = self._text(LARGEST_TEMPLATE).decode(errors="replace")
            self.file.seek(end)
        return key, value

    def _note(self, key: str) -> None:
        start = self.file.tell()
        super()._note(key)
        self.file.seek(start)
        kind, count = self._number("I"), self._number("Q")
        if key == TOKENS and kind == STRING:
            self.tokens = [self._text(1 << 16) for _ in range(count)]
        elif key == TYPES and kind == 5:
            raw = memoryview(self.file.read(4 * count)).cast("i")
            self.types = tuple(raw)


def read_vocabulary(path: Path) -> Vocabulary:
    """Raises ModelError for a file that is no model, or none that ctransformers can load, and says why."""
    try:
        with path.open("rb") as file:
            vocabulary = Vocabulary(path, file)
            vocabulary.header = vocabulary.read()
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error
    if why := objection(vocabulary):
        raise ModelError(f"ctransformers cannot load '{path}': {why}. Use it with [brain] use = \"llamacpp\".")
    return vocabulary


def objection(file: Vocabulary) -> str:
    """Why ctransformers cannot load a sound file; empty when it can."""
    architecture = str(file.header.keys.get("general.architecture", ""))
    if architecture not in LAYERS:
        return f"its architecture is '{architecture}', and of GGUF files it knows only llama and falcon"
    newer = sorted({one.kind for one in file.tensors} - TENSOR_TYPES)
    if newer:
        return f"it has weights of type {newer[0]}, which is newer than the library"
    return weights(file, architecture) or scaling(file, architecture) or words(file)


def weights(file: Vocabulary, architecture: str) -> str:
    """Why the tensors will not do: it wants all that it knows, and no others."""
    names = {one.name for one in file.tensors}
    missing = AROUND[architecture] - names
    if missing == {"output.weight"}:
        return "its output shares the weights of its embedding, which the library did not know yet"
    depth = int(file.header.keys.get(f"{architecture}.block_count", 0))
    needed = AROUND[architecture] | {f"blk.{n}.{part}" for n in range(min(depth, 512)) for part in LAYERS[architecture]}
    if missing := needed - names:
        return f"it has no tensor '{min(missing)}'"
    unknown = {name for name in names - needed if re.sub(r"blk\.\d+\.", "", name) not in OPTIONAL.get(architecture, ())}
    return f"it has a tensor '{min(unknown)}', which the library does not know" if unknown else ""


def scaling(file: Vocabulary, architecture: str) -> str:
    kind = file.header.keys.get(f"{architecture}.rope.scaling.type", "none")
    return (
        "" if kind in {"none", "linear"} else f"its positions are scaled by '{kind}', which the library does not know"
    )


def words(file: Vocabulary) -> str:
    """Why the vocabulary will not do."""
    kind = file.header.keys.get(KIND)
    if kind not in {"llama", "gpt2"}:
        return f"its tokenizer is '{kind}', and the library knows only llama and gpt2"
    if not file.tokens or len(file.types) != len(file.tokens):
        return "its list of token types does not fit its list of tokens"
    known = set(file.tokens)
    texts = [b"<0x%02X>" % one for one in BYTES] if kind == "llama" else [bytes([one]) for one in BYTES]
    if not known.issuperset(texts):
        return "its tokens are written in a newer way, and the library would end the process over them"
    if file.counts.get(SCORES) != len(file.tokens):
        return "its tokens have no scores, which the library needs"
    return ""
