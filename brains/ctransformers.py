"""Models of 2023, by ctransformers: GGML files from before GGUF, and the GGUF files of LLaMA and Falcon of that year.

https://github.com/marella/ctransformers
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from roost.brains.ggml import read_ggml
from roost.brains.gguf import MAGIC
from roost.brains.llamacpp import Report
from roost.brains.store import ModelStore
from roost.brains.thinker import Thinker
from roost.brains.vocabulary import read_vocabulary
from roost.errors import ConfigError, ModelError


class CTransformers(Thinker):
    """Runs the file `model`, if ctransformers can; what it cannot is said before the library sees the file."""

    module = "roost.brains.engine_ctransformers"

    async def options(self) -> dict[str, Any]:
        path = await self._file()
        await asyncio.to_thread(look, path)
        return {"model": str(path)}

    async def _file(self) -> Path:
        model = self.config.model.strip()
        if not model:
            raise ConfigError(
                'bot.toml: [brain] use = "ctransformers" needs `model`, a file that ctransformers can load: the '
                'default model is newer than it. For that one, set use = "llamacpp".'
            )
        if path := await asyncio.to_thread(local, model):
            return path
        store = ModelStore(self.home / "models")
        return await store.ensure(model, self.progress or Report(model).note, self.config.precision)


def local(model: str) -> Path | None:
    """The file here that is meant, which need not be a GGUF file."""
    path = Path(model).expanduser()
    return path if path.is_file() else None


def look(path: Path) -> None:
    """Raises ModelError for a file that ctransformers cannot load."""
    try:
        with path.open("rb") as file:
            modern = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error
    if modern:
        read_vocabulary(path)
    else:
        read_ggml(path)
