from __future__ import annotations

from pathlib import Path

import pytest

from roost.brains import ggml
from roost.brains.auto import Auto
from roost.brains.ctransformers import CTransformers
from roost.brains.llamacpp import LlamaCpp
from roost.brains.onnx import Onnx
from roost.brains.openai import OpenAI
from roost.brains.settings import EngineConfig


@pytest.mark.parametrize("content", [b"GGUF", b"", b"PK\x03\x04"])
def test_a_model_file_is_for_llamacpp_whatever_is_in_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    for model in ("", "qwen3-4b", str(path), "hf:ann/owl", str(tmp_path / "none")):
        assert type(Auto(EngineConfig(use="auto", model=model), tmp_path)) is LlamaCpp


def test_other_engines_are_known_by_what_the_table_names(tmp_path: Path) -> None:
    assert type(Auto(EngineConfig(use="auto", base_url="http://127.0.0.1:1/v1"), tmp_path)) is OpenAI
    (tmp_path / "genai_config.json").write_text("{}")
    assert type(Auto(EngineConfig(use="auto", model=str(tmp_path)), tmp_path)) is Onnx


@pytest.mark.parametrize("magic", [ggml.GGML, ggml.GGJT])
def test_a_file_of_before_gguf_is_for_ctransformers(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "old.bin").write_bytes(magic + bytes(100))
    assert type(Auto(EngineConfig(use="auto", model=str(tmp_path / "old.bin")), tmp_path)) is CTransformers
