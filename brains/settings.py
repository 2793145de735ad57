"""The keys of `[brain]` that all engines which come with Roost take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from roost.contracts import BrainConfig
from roost.keys import key

# Where models are fetched from, when they are.
SOURCES = (
    *("pypi.org", "files.pythonhosted.org", "{env:PIP_INDEX_URL}", "{env:UV_DEFAULT_INDEX}", "{env:UV_INDEX_URL}"),
    *("huggingface.co", "*.huggingface.co", "*.hf.co", "{env:HF_ENDPOINT}"),
)


@dataclass(frozen=True, slots=True)
class EngineConfig(BrainConfig):
    """One set of keys for every engine, so that changing `use` never makes another key an error."""

    precision: Literal["auto", "fp16", "int8", "int4"] = key(
        "auto", help="Which file of a model that is published in several; auto takes a four-bit one."
    )
    device: Literal["auto", "cpu", "gpu"] = key(
        "auto", help="auto uses a graphics card when the engine sees one; gpu insists on it. For local engines."
    )
    slots: int = key(
        2,
        help="Answers made at the same time; each keeps its own `context` in memory. For llamacpp and onnx.",
        least=1,
    )
    threads: int = key(0, help="Processor threads while thinking; 0 chooses. For local engines.", least=0)
    cache_ram: int = key(
        256,
        help="Memory in MiB that may hold the beginnings of conversations, to continue them at once. For llamacpp.",
        least=0,
    )
    vision: bool = key(False, help="Whether the model takes pictures. For openai; llamacpp knows by itself.")
    projector: str = key(
        "", help="The file by which a model sees pictures, published beside it as mmproj. For llamacpp."
    )
    home: bool = key(
        False, help="Whether the server at base_url is yours although its address does not tell. For openai."
    )
    base_url: str = key("", help="The server's address, such as 'http://127.0.0.1:11434/v1'. For openai.")
    api_key: str = key("", secret=True, help="The key that the server asks for, if it does. For openai.")
