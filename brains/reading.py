"""What a model thinks of a text: the logarithm of the probability of every token at every position.

Only structures whose beginnings have been the same for years are touched, and their ends stay as the library made
them. https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

from roost.brains import cores
from roost.brains.gguf import verify_gguf
from roost.brains.library import function
from roost.errors import ModelError

if TYPE_CHECKING:
    from roost.brains.library import Floats

WINDOW = 512


class Settings(Structure):
    """A structure that is only passed on. It is larger than any version's, which the calling conventions allow."""

    _fields_ = (("rest", c_uint64 * 256),)


class Space(Structure):
    """`llama_context_params`, of which the first numbers are set."""

    _fields_ = (("n_ctx", c_uint32), ("n_batch", c_uint32), ("n_ubatch", c_uint32), ("rest", c_uint64 * 256))


class Batch(Structure):
    """`llama_batch`: tokens, their places, the conversations they are of, and whose results are wanted."""

    _fields_ = (
        ("count", c_int32),
        ("tokens", POINTER(c_int32)),
        ("vectors", c_void_p),
        ("places", POINTER(c_int32)),
        ("talk_counts", POINTER(c_int32)),
        ("talks", POINTER(POINTER(c_int32))),
        ("wanted", POINTER(c_int8)),
    )


class Reader:
    """A loaded model that reads `window` tokens at a time."""

    def __init__(self, path: Path, model: int, window: int) -> None:
        self.path = path
        self.window = min(window, max(1, function("llama_model_n_ctx_train", c_int32, c_void_p)(model)))
        self._vocabulary = function("llama_model_get_vocab", c_void_p, c_void_p)(model)
        self.size: int = function("llama_vocab_n_tokens", c_int32, c_void_p)(self._vocabulary)
        self._context = self._space(model)
        self._batch = function("llama_batch_init", Batch, c_int32, c_int32, c_int32)(self.window, 0, 1)

    def close(self) -> None:
        function("llama_batch_free", None, Batch)(self._batch)
        function("llama_free", None, c_void_p)(self._context)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, none put in front. Control tokens written in it are text."""
        raw = text.encode(errors="replace")
        room = (c_int32 * (len(raw) + 8))()
        split = function(
            "llama_tokenize", c_int32, c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool
        )
        count = split(self._vocabulary, raw, len(raw), room, len(room), False, False)
        if count < 0:
            raise ModelError(f"The tokenizer of '{self.path}' cannot read the text.")
        return room[:count]

    @property
    def first(self) -> list[int]:
        """What every text begins with for this model: a token, or nothing."""
        if not function("llama_vocab_get_add_bos", c_bool, c_void_p)(self._vocabulary):
            return []
        return [function("llama_vocab_bos", c_int32, c_void_p)(self._vocabulary)]

    def logarithms(self, tokens: list[int], start: int) -> Floats:
        """Row by row, what is thought to follow `tokens[start]` and each one after it, but for the last."""
        import numpy as np

        self._forget()
        batch = self._batch
        batch.count = len(tokens)
        for place, token in enumerate(tokens):
            batch.tokens[place], batch.places[place] = token, place
            batch.talk_counts[place], batch.talks[place][0] = 1, 0
            batch.wanted[place] = place >= start
        if status := function("llama_decode", c_int32, c_void_p, Batch)(self._context, batch):
            raise ModelError(f"The engine could not read {len(tokens)} tokens with '{self.path}' (status {status}).")
        given = function("llama_get_logits", POINTER(c_float), c_void_p)(self._context)
        rows: Floats = np.ctypeslib.as_array(given, (len(tokens) - start, self.size))[:-1].copy()
        if not np.isfinite(rows).all():
            raise ModelError(f"'{self.path}' answers with no numbers: its weights are broken. Make or fetch it again.")
        return settled(rows)

    def _space(self, model: int) -> int:
        wanted = function("llama_context_default_params", Space)()
        wanted.n_ctx = wanted.n_batch = self.window
        context: int | None = function("llama_init_from_model", c_void_p, c_void_p, Space)(model, wanted)
        if not context:
            raise ModelError(f"There is no room to read {self.window} tokens with '{self.path}'.")
        if function("llama_n_ctx", c_uint32, c_void_p)(context) < self.window:
            raise ModelError("This version of the engine is built in another way than was expected. Use another one.")
        threads = cores.physical() or 2
        function("llama_set_n_threads", None, c_void_p, c_int32, c_int32)(context, threads, threads)
        return context

    def _forget(self) -> None:
        memory = function("llama_get_memory", c_void_p, c_void_p)(self._context)
        function("llama_memory_clear", None, c_void_p, c_bool)(memory, True)


def settled(rows: Floats) -> Floats:
    """Scores as logarithms of probabilities, in place."""
    import numpy as np

    rows -= rows.max(axis=1, keepdims=True)
    for number in range(len(rows)):  # one at a time: a second array of this size would cost more than the loop
        rows[number] -= np.log(np.exp(rows[number]).sum())
    return rows


@contextmanager
def reader(path: Path, window: int = WINDOW) -> Iterator[Reader]:
    """Load a model to read with. Raises ModelError when it is none, or none of the engine's."""
    verify_gguf(path)
    function("llama_backend_init", None)()
    wanted = function("llama_model_default_params", Settings)()
    load = function("llama_model_load_from_file", c_void_p, c_char_p, Settings)
    model = load(str(path).encode(), wanted)
    if not model:
        raise ModelError(f"The engine cannot load '{path}': it is of a kind the engine does not know, or incomplete.")
    one = None
    try:
        one = Reader(path, model, window)
        yield one
    finally:
        if one is not None:
            one.close()
        function("llama_model_free", None, c_void_p)(model)
