"""Models that Ollama has fetched already, used where they are.

Ollama keeps a manifest for each name, which names the model file by its sha256, and the file itself among its blobs
(https://github.com/ollama/ollama/blob/main/docs/faq.mdx, "Where are models stored?").
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from roost.errors import ModelError

LAYER = "application/vnd.ollama.image.model"
LIBRARY = ("registry.ollama.ai", "library")


def blob(name: str) -> Path:
    """The file of `model`, `model:tag`, `user/model:tag` or `host/user/model:tag`. Raises ModelError."""
    manifest = _manifest(name)
    try:
        layers = json.loads(manifest.read_bytes())["layers"]
        digest = next(layer["digest"] for layer in layers if layer["mediaType"] == LAYER)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise ModelError(f"Ollama's manifest '{manifest}' names no model file.") from error
    kind, _, value = str(digest).partition(":")
    if kind != "sha256" or not value.isalnum():
        raise ModelError(f"Ollama's manifest '{manifest}' names a file as '{digest}', which is no sha256.")
    return manifest_root(manifest) / "blobs" / f"sha256-{value}"


def _manifest(name: str) -> Path:
    path, _, tag = name.partition(":")
    parts = [part for part in path.split("/") if part]
    if not parts or ".." in parts or "/" in tag or tag == ".." or len(parts) > 3:
        raise ModelError(f"'ollama:{name}' names no model. Write ollama:qwen3:8b.")
    whole = Path(*LIBRARY[: 3 - len(parts)], *parts, tag or "latest")
    for folder in folders():
        if (manifest := folder / "manifests" / whole).is_file():
            return manifest
    looked = ", ".join(map(str, folders()))
    raise ModelError(f"Ollama has no model '{name}' in {looked}. `ollama list` shows what it has.")


def manifest_root(manifest: Path) -> Path:
    return next(folder for folder in folders() if manifest.is_relative_to(folder))


def folders() -> list[Path]:
    """Where Ollama keeps models: where it was told to, in one's home, as a service on Linux."""
    told = os.environ.get("OLLAMA_MODELS")
    own = [Path.home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
    return [Path(told), *own] if told else own
