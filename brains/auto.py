"""`use = "auto"`: the engine that fits what `[brain]` names. Which device it uses, the engine itself finds out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roost.brains.settings import SOURCES, EngineConfig
from roost.contracts import Brain

# What files of models began with before GGUF, in the order of their bytes on the disk.
GGML = (b"lmgg", b"fmgg", b"tjgg")


class Auto(Brain):
    """Not a brain of its own: making one makes one of the engine that `engine` names."""

    Config = EngineConfig
    hosts = SOURCES

    def __new__(cls, config: Any, home: Path) -> Any:
        return engine(config)(config, home)


def engine(config: EngineConfig) -> type[Brain]:
    """A server's address means `openai`, a folder in ONNX format `onnx`, a file of before GGUF `ctransformers`.

    Anything else is for `llamacpp`, which also says best what is wrong with it.
    """
    if config.base_url:
        from roost.brains.openai import OpenAI

        return OpenAI
    model = Path(config.model.strip()).expanduser()
    if config.model.strip() and (model / "genai_config.json").is_file():
        from roost.brains.onnx import Onnx

        return Onnx
    if config.model.strip() and model.is_file() and beginning(model) in GGML:
        from roost.brains.ctransformers import CTransformers

        return CTransformers
    from roost.brains.llamacpp import LlamaCpp

    return LlamaCpp


def beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError:
        return b""
