"""C functions of the engine's own library: weights as numbers and back, in the very code that will run the model.

The wheels for Linux and macOS export llama.cpp's C interface beside the Python module; the one for Windows does not.
https://github.com/ggml-org/llama.cpp/blob/master/ggml/include/ggml.h
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from typing import TYPE_CHECKING, Any

from roost.brains.gguf import BLOCKS
from roost.brains.shape import TYPES
from roost.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

F32, F16, BF16 = 0, 1, 30
# By type, the function that turns rows into 32-bit numbers.
READERS = {
    **{F16: "ggml_fp16_to_fp32_row", BF16: "ggml_bf16_to_fp32_row", 2: "dequantize_row_q4_0"},
    **{3: "dequantize_row_q4_1", 6: "dequantize_row_q5_0", 7: "dequantize_row_q5_1", 8: "dequantize_row_q8_0"},
    **{10: "dequantize_row_q2_K", 11: "dequantize_row_q3_K", 12: "dequantize_row_q4_K", 13: "dequantize_row_q5_K"},
    **{14: "dequantize_row_q6_K", 20: "dequantize_row_iq4_nl", 23: "dequantize_row_iq4_xs"},
    **{39: "dequantize_row_mxfp4"},
}
Log = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


def ignore(_level: int, _text: bytes, _data: object) -> None:
    """Where the library's log goes."""


IGNORED = Log(ignore)


@cache
def engine_library() -> ctypes.CDLL:
    """The engine's library, silenced. Raises ModelError where it cannot be called."""
    require_numpy()
    try:
        from xllamacpp import xllamacpp
    except ImportError as error:
        raise ModelError(f"The engine cannot be loaded, so there is nothing to calculate with: {error}.") from error
    library = ctypes.CDLL(xllamacpp.__file__)
    if not hasattr(library, "ggml_quantize_chunk") or not hasattr(library, "llama_decode"):
        raise ModelError(
            "The engine's package for this system keeps its functions to itself, as the one for Windows does, so "
            "model files can be neither made nor compared here. Do it on Linux (also WSL) or macOS."
        )
    library.llama_log_set(IGNORED, None)
    return library


def require_numpy() -> None:
    """Raises ModelError when numpy is missing."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise ModelError(
            "Making and comparing model files needs the package 'numpy'. Install it, in the checkout: "
            '.venv/bin/pip install -e ".[quantize]"'
        ) from None


@cache
def function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the library, with its types. Raises ModelError when this version has none of that name."""
    try:
        found = getattr(engine_library(), name)
    except AttributeError:
        raise ModelError(f"This version of the engine has no function '{name}'. Use another version of it.") from None
    found.restype, found.argtypes = result, arguments
    return found


def can_read(kind: int) -> bool:
    return kind == F32 or kind in READERS


def floats(kind: int, raw: bytes, count: int) -> Floats:
    """`count` weights of a type as 32-bit numbers. Raises ModelError for a type that cannot be read."""
    import numpy as np

    if kind == F32:
        return np.frombuffer(raw, np.float32, count)
    if kind not in READERS:
        raise ModelError(f"Weights of the type {TYPES.get(kind, kind)} cannot be read here. Use a file in F16 or BF16.")
    numbers = np.empty(count, np.float32)
    function(READERS[kind], None, c_char_p, c_void_p, c_int64)(raw, numbers.ctypes.data, count)
    return numbers


def blocks(kind: int, numbers: Floats, columns: int) -> bytes:
    """32-bit numbers, whole rows of `columns`, as weights of a type."""
    import numpy as np

    if kind == F32:
        return numbers.tobytes()
    numbers = np.ascontiguousarray(numbers)
    made = ctypes.create_string_buffer(size_of(kind, numbers.size))
    pack = function(
        "ggml_quantize_chunk", c_size_t, c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, ctypes.POINTER(c_float)
    )
    written = pack(kind, numbers.ctypes.data, made, 0, numbers.size // columns, columns, None)
    if written != len(made):
        raise ModelError(f"The engine made {written} bytes of weights where {len(made)} were due. Use another version.")
    return made.raw


def size_of(kind: int, count: int) -> int:
    """Bytes of `count` weights of a type."""
    block, size = BLOCKS[kind]
    return count // block * size
