"""Model files from before GGUF, whose format does not say which family they are of: it is told from their tensors.

The loaders of that time trust a file: one that is cut short or of another family gives garbage or ends the process. So
every tensor is looked at first. Layouts: `models/llms` of https://github.com/marella/ctransformers, version 0.2.27.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from roost.brains.gguf import BLOCKS
from roost.errors import ModelError

GGML, GGJT = b"lmgg", b"tjgg"
LARGEST = 1 << 24
MOST_TENSORS = 1 << 14
LONGEST_WORD = 1 << 12
# Layer number in a tensor's name.
LAYER = re.compile(r"(?:^|(?<=[/.]))(?:h|layers\.|h\.|blocks\.)(\d+)(?=[/.])")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a family begins its files: its numbers in their order, `again` if the vocabulary's size follows once more,
    `scored` if each word has a score. `around` are the tensors it must have besides its layers, `mark` is one in them.
    """

    family: str
    numbers: tuple[str, ...]
    mark: str
    around: tuple[str, ...]
    again: bool = False
    scored: bool = False


GPT = ("words", "context", "width", "heads", "layers")
MOSAIC = ("width", "context", "heads", "layers", "words")
WQKV, MOSAIC_AROUND = "transformer.blocks.0.attn.Wqkv.weight", ("transformer.wte.weight", "transformer.norm_f.weight")
LAYOUTS = (
    Layout(
        "gpt2",
        (*GPT, "type"),
        "model/h0/attn/c_attn/w",
        ("model/ln_f/g", "model/ln_f/b", "model/wte", "model/wpe"),
        again=True,
    ),
    Layout(
        "gptj",
        (*GPT, "rotated", "type"),
        "transformer.h.0.attn.q_proj.weight",
        tuple(f"{one}.{end}" for one in ("transformer.ln_f", "lm_head") for end in ("weight", "bias")),
        again=True,
    ),
    Layout(
        "gptneox",
        (*GPT, "rotated", "parallel", "type"),
        "gpt_neox.layers.0.attention.query_key_value.weight",
        ("gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight", "embed_out.weight"),
    ),
    Layout("mpt", (*MOSAIC, "bias", "clip", "type"), WQKV, MOSAIC_AROUND),
)
LLAMA = Layout(
    "llama",
    ("words", "width", "multiple", "heads", "layers", "rotated", "type"),
    "layers.0.attention.wq.weight",
    ("tok_embeddings.weight", "norm.weight", "output.weight"),
    scored=True,
)
# What StarCoder's kin have for filling in the middle, and for a turn's end.
FILLERS = {b"<fim_prefix>", b"<fim-prefix>", b"<|end|>"}
FREE = {"type", "parallel", "bias", "clip", "rotated", "multiple"}


class Unlike(Exception):
    """The file does not have this layout."""


@dataclass(frozen=True, slots=True)
class Old:
    """What a file turned out to be. `family` is what ctransformers calls it; `context` is 0 where it does not say."""

    family: str
    context: int
    words: frozenset[bytes]


def read_ggml(path: Path) -> Old:
    """Tell what a model file from before GGUF is. Raises ModelError."""
    try:
        with path.open("rb") as file:
            return told(path, file)
    except FileNotFoundError:
        raise ModelError(f"There is no model file '{path}'.") from None
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error


def told(path: Path, file: BinaryIO) -> Old:
    magic = file.read(4)
    if magic == GGJT and file.read(4) != struct.pack("<I", 3):
        raise ModelError(
            f"'{path}' is a LLaMA file older than June 2023, which nothing loads any more. Get a newer one."
        )
    reasons = []
    start = file.tell()
    for layout in {GGML: LAYOUTS, GGJT: (LLAMA,)}.get(magic, ()):
        file.seek(start)
        try:
            return Look(file, path.stat().st_size, layout).read()
        except Unlike as reason:
            reasons.append(f"{layout.family}: {reason}")
    known = ", ".join(layout.family for layout in (*LAYOUTS, LLAMA))
    raise ModelError(
        f"'{path}' is not a model that ctransformers can load: it is cut short, or of none of the families {known}. "
        + (f"({'; '.join(reasons)}.) " if reasons else "")
        + "Download it again, or get the same model as GGUF."
    )


class Look:
    """Reads one file as a layout has it, and does not believe it."""

    def __init__(self, file: BinaryIO, size: int, layout: Layout) -> None:
        self.file = file
        self.size = size
        self.layout = layout

    def read(self) -> Old:
        layout = self.layout
        numbers = dict(zip(layout.numbers, self._numbers(len(layout.numbers)), strict=True))
        for name, number in numbers.items():
            if name not in FREE and not 0 < number < LARGEST:
                raise Unlike(f"{number} {name}")
        if numbers["width"] % numbers["heads"]:
            raise Unlike(f"{numbers['heads']} heads do not divide {numbers['width']}")
        if layout.again and self._numbers(1)[0] != numbers["words"]:
            raise Unlike("its vocabulary has two sizes")
        words = frozenset(self._word() for _ in range(numbers["words"]))
        names = set(self._tensors())
        self._complete(names, numbers["layers"])
        return Old(self._family(words), numbers.get("context", 0), words)

    def _family(self, words: frozenset[bytes]) -> str:
        """Two pairs of families share a layout, and differ by words that their tokenizers know."""
        family = self.layout.family
        if family == "gpt2" and words & FILLERS:
            return "gpt_bigcode"
        if family == "gptneox" and b"### End" in words:
            return "dolly-v2"
        if family == "mpt" and not all(map(is_text, words)):
            raise Unlike("its words are not UTF-8, over which the library would end the process")
        return family

    def _complete(self, names: set[str], depth: int) -> None:
        """The loaders do not miss a tensor that is not there: they compute with what is in its memory."""
        if missing := {self.layout.mark, *self.layout.around} - names:
            raise Unlike(f"no tensor '{min(missing)}'")
        each: dict[int, set[str]] = {}
        for name in names:
            if match := LAYER.search(name):
                each.setdefault(int(match[1]), set()).add(LAYER.sub("", name))
        if set(each) != set(range(depth)) or any(parts != each[0] for parts in each.values()):
            raise Unlike(f"its {depth} layers are not all there")

    def _tensors(self) -> Iterator[str]:
        for _ in range(MOST_TENSORS):
            if self.file.tell() == self.size:
                return
            dimensions, length, kind = self._numbers(3)
            if not 1 <= dimensions <= 4 or not 0 < length < 256 or kind not in BLOCKS:
                raise Unlike(f"no tensor where one should be, at {self.file.tell() - 12}")
            shape = tuple(self._numbers(dimensions))
            name = self._bytes(length).decode(errors="replace")
            self._skip(shape, kind)
            yield name
        raise Unlike(f"more than {MOST_TENSORS} tensors")

    def _skip(self, shape: tuple[int, ...], kind: int) -> None:
        elements = 1
        for side in shape:
            if not 0 < side < LARGEST:
                raise Unlike(f"a tensor with a side of {side}")
            elements *= side
        block, size = BLOCKS[kind]
        if self.layout is LLAMA:
            self.file.seek(-self.file.tell() % 32, 1)
        end = self.file.tell() + elements // block * size
        if end > self.size:
            raise Unlike("its last tensor is cut short")
        self.file.seek(end)

    def _word(self) -> bytes:
        length = self._numbers(1)[0]
        if not 0 <= length <= LONGEST_WORD:
            raise Unlike(f"a word of {length} bytes")
        word = self._bytes(length)
        if self.layout.scored:
            self._bytes(4)
        return word

    def _numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self._bytes(4 * count))

    def _bytes(self, count: int) -> bytes:
        raw = self.file.read(count)
        if len(raw) < count:
            raise Unlike("it is cut short")
        return raw


def is_text(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True
