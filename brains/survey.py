"""The shape of a model file, read off its header with the same distrust as `gguf` has."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from roost.brains.gguf import ARRAY, BLOCKS, SCALARS, STRING, Header, Reader
from roost.brains.shape import Layer, Shape, Tensor, is_full, mixture
from roost.errors import ModelError

KEPT_NUMBERS = 4096
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
# How often a layer sees everything where the others see a window only, by architecture, and whether it is the first
# of its group. A file may say so itself. Source: `load_arch_hparams` of each in https://github.com/ggml-org/llama.cpp
PERIODS = {
    **{"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma-embedding": 6, "cohere2": 4, "gpt-oss": 2, "exaone4": 4},
    **{"olmo2": 4, "afmoe": 4, "llama4": 4, "smallthinker": 4, "exaone-moe": 4},
}
FULL_FIRST = {"smallthinker", "cohere2moe"}


def read_shape(path: Path) -> Shape:
    """The shape of a model file, of all its parts if it has several. Raises ModelError."""
    survey = surveyed(path)
    tensors = list(survey.tensors)
    for other in parts(path):
        offset = max((one.start + one.size for one in tensors), default=0)
        tensors += [replace(one, start=one.start + offset) for one in surveyed(other).tensors]
    return Outline(survey, tensors).shape(path)


def surveyed(path: Path) -> Survey:
    try:
        with path.open("rb") as file:
            survey = Survey(path, file)
            survey.header = survey.read()
    except FileNotFoundError:
        raise ModelError(f"There is no model file '{path}'.") from None
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error
    return survey


def parts(path: Path) -> Iterator[Path]:
    """The other files of a model that is split: NAME-00001-of-00003.gguf and so on."""
    match = PART.fullmatch(path.name)
    if match:
        for number in range(1, int(match["count"]) + 1):
            other = path.with_name(f"{match['stem']}-{number:05d}-of-{match['count']}.gguf")
            if other != path:
                yield other


class Survey(Reader):
    """Reads a header as its base does, with the same distrust, and notes the tensors and the lists of numbers."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self.header = Header(0, 0, {})
        self.tensors: list[Tensor] = []
        self.numbers: dict[str, tuple[int, ...]] = {}
        self.counts: dict[str, int] = {}

    def _pair(self) -> tuple[str, str | int | float]:
        start = self.file.tell()
        key, value = super()._pair()
        end = self.file.tell()
        # What was just checked is read again, so nothing here can go past the end.
        self.file.seek(start)
        self._skip(self._number("Q"))
        if self._number("I") == ARRAY:
            self._note(key)
        self.file.seek(end)
        return key, value

    def _note(self, key: str) -> None:
        kind, count = self._number("I"), self._number("Q")
        self.counts[key] = count
        if kind != STRING and count <= KEPT_NUMBERS and SCALARS[kind] not in {"f", "d"}:
            self.numbers[key] = tuple(int(self._number(SCALARS[kind])) for _ in range(count))

    def _tensor(self, values: dict[str, str | int | float]) -> int:
        start = self.file.tell()
        data_end = super()._tensor(values)
        end = self.file.tell()
        self.file.seek(start)
        raw = self.file.read(end - start)
        length = struct.unpack_from("<Q", raw)[0]
        (dimensions,) = struct.unpack_from("<I", raw, 8 + length)
        sizes = struct.unpack_from(f"<{dimensions}Q", raw, 12 + length)
        kind, offset = struct.unpack_from("<IQ", raw, 12 + length + 8 * dimensions)
        name = raw[8 : 8 + length].decode(errors="replace")
        # A type newer than the table has no size there; where the next tensor begins tells it.
        size = data_end - offset if kind in BLOCKS else 0
        rows = sizes[1] if dimensions > 1 else 1
        self.tensors.append(Tensor(name, rows, kind, offset, size, dimensions > 1))
        return data_end


class Outline:
    """Makes a shape out of what a file's header says, which differs by architecture and is often half missing."""

    def __init__(self, survey: Survey, tensors: list[Tensor]) -> None:
        self.survey = survey
        self.keys = survey.header.keys
        self.architecture = str(self.keys.get("general.architecture", ""))
        self.tensors = tensors
        self.parts = grouped(tensors)
        self.head = self.number("embedding_length") // max(1, self.number("attention.head_count"))

    def shape(self, path: Path) -> Shape:
        embedding = self.number("embedding_length")
        lengths = [self.number("attention.key_length", self.head), self.number("attention.value_length", self.head)]
        return Shape(
            str(self.keys.get("general.name", path.stem)),
            self.architecture,
            tuple(self.layer(number) for number in range(self.depth())),
            tuple(filled(self.tensors, path.stat().st_size)),
            self.parameters(),
            embedding,
            self.wide(),
            self.survey.counts.get("tokenizer.ggml.tokens", 0),
            self.survey.counts.get("tokenizer.ggml.merges", 0),
            self.number("context_length"),
            all(length % 32 == 0 for length in lengths),
        )

    def wide(self) -> int:
        """The most numbers a token takes inside a layer: in its attention, or in its network of one or more experts."""
        attention = 4 * self.number("attention.head_count") * self.number("attention.key_length", self.head)
        size = self.number("feed_forward_length")
        used, embedding = self.number("expert_used_count"), self.number("embedding_length")
        mixed = mixture(used, self.number("expert_feed_forward_length", size), embedding)
        return max(attention, mixed or 4 * size)

    def number(self, key: str, default: int = 0) -> int:
        """A number of this architecture; the largest one where each layer has its own."""
        value = self.keys.get(f"{self.architecture}.{key}")
        if isinstance(value, int):
            return max(0, value)
        return max(self.survey.numbers.get(f"{self.architecture}.{key}", ()), default=default)

    def each(self, key: str, number: int, default: int = 0) -> int:
        """The same for one layer."""
        values = self.survey.numbers.get(f"{self.architecture}.{key}", ())
        return max(0, values[number]) if number < len(values) else self.number(key, default)

    def depth(self) -> int:
        # Layers that only guess ahead are in the file, and are not used. No file has as many as it could claim.
        depth = self.number("block_count") - self.number("nextn_predict_layers")
        return max(0, min(depth, max(self.parts, default=-1) + 1))

    def parameters(self) -> int:
        """Counted, where the file does not say."""
        total = 0
        for one in self.tensors:
            block, size = BLOCKS.get(one.kind, (1, 0))
            total += one.size // size * block if size else 0
        return total

    def layer(self, number: int) -> Layer:
        here = self.parts.get(number, set())
        state = self.state() if any(name.startswith(("ssm_", "time_mix_", "shortconv")) for name in here) else 0
        attends = {"attn_k.weight", "attn_k_b.weight", "attn_kv_a_mqa.weight"} & here
        if not attends and (state or "attn_qkv.weight" not in here):
            return Layer(state=state)
        if number >= self.depth() - self.number("attention.shared_kv_layers") or (
            self.architecture == "gemma3n" and number >= 20
        ):
            return Layer(state=state)
        if "attn_k_b.weight" in here and "attn_kv_a_mqa.weight" in here:
            # Compressed attention keeps one vector for all heads, and no values beside it.
            return Layer(self.number("attention.kv_lora_rank") + self.number("rope.dimension_count"), 0, 0, state)
        window = self.window(number)
        heads = self.each("attention.head_count_kv", number, self.number("attention.head_count"))
        suffix = "_swa" if window and self.number("attention.key_length_swa") else ""
        return Layer(
            heads * self.number(f"attention.key_length{suffix}", self.head),
            heads * self.number(f"attention.value_length{suffix}", self.head),
            window,
            state,
        )

    def window(self, number: int) -> int:
        """How many tokens a layer sees, 0 for all; all where the file leaves it open, which only takes more."""
        size = self.number("attention.sliding_window") or self.number("attention.chunk_size")
        pattern = self.survey.numbers.get(f"{self.architecture}.attention.sliding_window_pattern", ())
        if pattern:
            return size if number < len(pattern) and pattern[number] else 0
        period = self.number("attention.sliding_window_pattern", PERIODS.get(self.architecture, 0))
        if not size or not period or is_full(number, period, self.architecture in FULL_FIRST):
            return 0
        return size

    def state(self) -> int:
        """Bytes that a layer without attention keeps of a conversation: `n_embd_r` and `n_embd_s` of llama-hparams."""
        embedding = self.number("embedding_length")
        if size := self.number("wkv.head_size"):
            return 4 * embedding * (self.number("token_shift_count", 2) + size)
        if cache := self.number("shortconv.l_cache"):
            return 4 * embedding * (cache - 1)
        inner, size = self.number("ssm.inner_size"), self.number("ssm.state_size")
        kept = max(0, self.number("ssm.conv_kernel") - 1) * (inner + 2 * self.number("ssm.group_count") * size)
        return 4 * (kept + inner * size)


def grouped(tensors: list[Tensor]) -> dict[int, set[str]]:
    """The names of the tensors of each layer: "blk.3.attn_k.weight" is "attn_k.weight" in layer 3."""
    layers: dict[int, set[str]] = {}
    for one in tensors:
        if match := re.match(r"blk\.(\d{1,4})\.(.+)", one.name):
            layers.setdefault(int(match[1]), set()).add(match[2])
    return layers


def filled(tensors: list[Tensor], end: int) -> Iterator[Tensor]:
    """Give tensors of an unknown type the room up to the next one."""
    starts = sorted({one.start for one in tensors} | {end})
    following = dict(itertools.pairwise(starts))
    for one in tensors:
        size = one.size or max(0, following.get(one.start, one.start) - one.start)
        yield replace(one, size=size)
