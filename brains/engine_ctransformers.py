"""The process that ctransformers thinks in: `python -m roost.brains.engine_ctransformers OPTIONS`."""

from __future__ import annotations

import os
import re
import secrets
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from roost.brains.cores import physical
from roost.brains.ggml import read_ggml
from roost.brains.gguf import MAGIC, verify_gguf
from roost.brains.template import Template
from roost.brains.thinking import Engine, Line, serve
from roost.brains.vocabulary import CONTROL, USER_DEFINED, Vocabulary, read_vocabulary
from roost.errors import BrainError, ConfigError, ModelError

# The library cuts text up with regular expressions that take stack for every character.
LONGEST_RUN = 1000
ALL_LAYERS = 1000
DEFAULT_CONTEXT = 2048


def make(options: Line) -> GgmlEngine:
    """The engine for a file that was found sound. Raises ModelError or ConfigError."""
    path = Path(options["model"])
    with path.open("rb") as file:
        modern = file.read(len(MAGIC)) == MAGIC
    if not modern:
        old = read_ggml(path)
        ends = frozenset(word for word in (b"<|end|>", b"### End", b"<|endoftext|>") if word in old.words)
        return GgmlEngine(load(path, old.family, options, old.context), Words(split=True, ends=ends), Template())
    made_for = verify_gguf(path).keys
    vocabulary = read_vocabulary(path)
    context = made_for.get(f"{made_for['general.architecture']}.context_length", 0)
    words = {f"{name}_token": vocabulary.word(f"{name}_token_id") for name in ("bos", "eos")}
    model = load(path, "gguf", options, int(context))
    return GgmlEngine(model, GgufWords(vocabulary), Template(vocabulary.template, words))


def load(path: Path, family: str, options: Line, made_for: int) -> Any:
    try:
        from ctransformers.llm import LLM, Config
    except ImportError as error:
        raise ConfigError(
            f"The engine ctransformers cannot be loaded: {error}. Install it, in the checkout: "
            '.venv/bin/pip install -e ".[ctransformers]"'
        ) from error
    context = min(options["context"], made_for or DEFAULT_CONTEXT)
    gpu = options["device"] == "gpu"
    # Its threads spin while they wait for each other: where another program wants a core too, they all but stand still.
    threads = options["threads"] or max(1, (physical() or os.cpu_count() or 1) - 1)
    config = Config(context_length=context, threads=threads, gpu_layers=ALL_LAYERS if gpu else 0)
    try:
        return LLM(str(path), family, config=config)
    except OSError as error:
        what = "on a graphics card" if gpu else "on this machine"
        raise ConfigError(f"The engine ctransformers cannot run {what}: {str(error).strip()}.") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The engine ctransformers cannot load '{path}' ({family}).") from error


class Words:
    """How text becomes tokens and tokens text, by the library alone: for files from before GGUF."""

    controls: tuple[str, ...] = ()

    def __init__(self, split: bool, ends: frozenset[bytes] = frozenset()) -> None:
        self.split = split
        self.ends = ends

    def encode(self, model: Any, text: str) -> list[int]:
        """The tokens of a prompt."""
        return [token for part in self.parts(text) for token in self.plain(model, part)]

    def count(self, model: Any, text: str) -> int:
        return sum(len(self.plain(model, part)) for part in self.parts(text))

    def plain(self, model: Any, text: str) -> list[int]:
        """The tokens of text that has no control tokens in it; the library's own room for them is too small."""
        raw = text.encode(errors="replace")
        room = (model_int() * (len(raw) + 8))()
        return list(room[: model.ctransformers_llm_tokenize(raw.replace(b"\0", b" "), False, room)])

    def parts(self, text: str) -> Iterator[str]:
        if not self.split:
            yield from [text] if text else []
            return
        for start in range(0, len(text), LONGEST_RUN):
            yield text[start : start + LONGEST_RUN]

    def text(self, model: Any, token: int) -> bytes:
        return bytes(model.detokenize([token], decode=False))

    def is_end(self, model: Any, token: int) -> bool:
        return bool(model.is_eos_token(token)) or (bool(self.ends) and self.text(model, token) in self.ends)


class GgufWords(Words):
    """The same with the control tokens that a GGUF file names, which the library takes for plain text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        bpe = vocabulary.header.keys.get("tokenizer.ggml.model") == "gpt2"
        super().__init__(split=bpe)
        self.special = vocabulary.special(CONTROL, USER_DEFINED)
        self.controls = tuple(vocabulary.special(CONTROL))
        self.stops = frozenset(vocabulary.special(CONTROL).values())
        self.bos = vocabulary.key("bos_token_id", -1 if bpe else 1)
        self.begins = bool(vocabulary.header.keys.get("tokenizer.ggml.add_bos_token", not bpe))
        self.cut = re.compile("|".join(map(re.escape, self.special)) or r"(?!)")

    def encode(self, model: Any, text: str) -> list[int]:
        tokens: list[int] = []
        start = 0
        for found in self.cut.finditer(text):
            tokens += [*super().encode(model, text[start : found.start()]), self.special[found.group()]]
            start = found.end()
        tokens += super().encode(model, text[start:])
        return [self.bos, *tokens] if self.begins and self.bos >= 0 and tokens[:1] != [self.bos] else tokens

    def is_end(self, model: Any, token: int) -> bool:
        return token in self.stops or bool(model.is_eos_token(token))


class GgmlEngine(Engine):
    """One model, one memory of what it read last."""

    def __init__(self, model: Any, words: Words, template: Template) -> None:
        self.model = model
        self.words = words
        self.template = template
        self.context = int(model.context_length)
        self.controls = words.controls
        self._temperature = 0.0
        self._pending: list[int] = []
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def encode(self, text: str) -> list[int]:
        return self.words.encode(self.model, text)

    def count(self, text: str) -> int:
        return self.words.count(self.model, text)

    def open(self, conversation: str, tokens: Sequence[int], temperature: float, schema: str) -> int:
        if schema:
            raise BrainError("The engine ctransformers cannot hold an answer to a schema.")
        self._temperature = temperature
        self._pending = []
        self._decoder.reset()
        return len(tokens) - len(self.model.prepare_inputs_for_generation(list(tokens), reset=True))

    def read(self, tokens: Sequence[int]) -> None:
        self.model.eval(list(tokens), batch_size=self.chunk)

    def write(self) -> str | None:
        if self._pending:
            self.read(self._pending)
        token = self._sample()
        if self.words.is_end(self.model, token):
            return None
        self._pending = [token]
        return self._decoder.decode(self.words.text(self.model, token))

    def _sample(self) -> int:
        # Left alone, the library seeds with the clock's seconds, and all tokens of a second fall alike.
        chance = {"top_k": 40, "top_p": 0.95, "temperature": self._temperature} if self._temperature else {"top_k": 1}
        exact = {"top_p": 1.0, "temperature": 1.0, **chance}
        return int(self.model.sample(**exact, repetition_penalty=1.0, seed=secrets.randbits(31)))


def model_int() -> Any:
    from ctypes import c_int

    return c_int


if __name__ == "__main__":
    serve(make)
