"""Models in ONNX format, by ONNX Runtime GenAI.

https://onnxruntime.ai/docs/genai
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from roost.brains.thinker import Thinker
from roost.errors import ConfigError, ModelError

CONFIG = "genai_config.json"
LARGEST_CONFIG = 1 << 20


class Onnx(Thinker):
    """Runs the model in the folder `model`, as the model builder of ONNX Runtime GenAI writes it."""

    module = "roost.brains.engine_onnx"
    follows_schemas = True

    async def options(self) -> dict[str, Any]:
        model = self.config.model.strip()
        if not model:
            raise ConfigError(
                f'bot.toml: [brain] use = "onnx" needs `model`, the folder of a model in ONNX format: the one that has '
                f"its {CONFIG} in it. The default model is not in that format."
            )
        return {"model": str(await asyncio.to_thread(found, model))}


def found(model: str) -> Path:
    """The folder that is meant, looked at. Raises ModelError."""
    folder = Path(model).expanduser()
    look(folder)
    return folder


def look(folder: Path) -> dict[str, Any]:
    """The settings of a model's folder that has all its files. Raises ModelError."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            settings = json.loads(file.read(LARGEST_CONFIG))
        decoder = settings["model"]["decoder"]
        stages = decoder.get("pipeline") or [{"model": decoder}]
        names = [str(stage["filename"]) for one in stages for stage in one.values()]
    except OSError as error:
        raise ModelError(
            f"'{folder}' is no folder of a model in ONNX format: its {CONFIG} cannot be read ({error.strerror}). "
            "Download the model's whole folder."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{folder / CONFIG}' does not describe a model that writes text ({error!r}).") from error
    for name in (*names, "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelError(f"The model folder '{folder}' has no file '{name}'. Download the model's whole folder.")
    return dict(settings)
