"""Files that ctransformers can load, and those that it must never see."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from random import Random

import old_models
import pytest
from tiny_gguf import gguf

from roost.brains.ctransformers import CTransformers, look
from roost.brains.ggml import read_ggml
from roost.brains.onnx import Onnx
from roost.brains.settings import EngineConfig
from roost.contracts import Prompt, Turn
from roost.errors import BrainError, ConfigError, ModelError

FAMILIES = sorted(old_models.SHAPES)
CONFIG = EngineConfig(context=2048, temperature=0.0, threads=1)
HELLO = Prompt((Turn("system", "Be brief."), Turn("user", "Hello owl")), "test:1", 12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_of_a_file_is_told_from_its_tensors(family: str, tmp_path: Path) -> None:
    old = read_ggml(old_models.write(family, tmp_path))
    assert (old.family, old.context) == (family, 0 if family == "llama" else old_models.CONTEXT)


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_model_from_before_gguf_answers(family: str, tmp_path: Path) -> None:
    brain = CTransformers(replace(CONFIG, model=str(old_models.write(family, tmp_path))), tmp_path)
    try:
        await brain.load()
        assert brain.context == (2048 if family == "llama" else old_models.CONTEXT)
        first = [piece async for piece in brain.think(HELLO)]
        assert brain.usage.prompt > 20
        assert 1 <= brain.usage.answer <= HELLO.max_tokens
        assert [piece async for piece in brain.think(HELLO)] == first
        assert brain.usage.cached == brain.usage.prompt - 1
        with pytest.raises(BrainError, match="too long for the model"):
            _ = [piece async for piece in brain.think(Prompt((Turn("user", "owl " * 2000),)))]
    finally:
        await brain.unload()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole, path = old_models.model("gpt2"), tmp_path / "cut.bin"
    for length in (*range(0, 4000, 97), *range(4000, len(whole), 7919), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            look(path)


def test_a_damaged_head_never_raises_anything_else(tmp_path: Path) -> None:
    path, random = tmp_path / "odd.bin", Random(7)
    print("seed 7")
    for family in FAMILIES:
        for _ in range(20):
            whole = bytearray(old_models.model(family))
            for _ in range(random.randint(1, 4)):
                whole[random.randrange(4, 3000)] = random.randrange(256)
            path.write_bytes(whole)
            try:
                assert look(path) is None  # type: ignore[func-returns-value]
            except ModelError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "of none of the families"),
        (b"<html>", "of none of the families"),
        (b"tjgg" + struct.pack("<I", 1), "older than June 2023"),
        (gguf(), "its architecture is 'tiny'"),
    ],
)
def test_another_file_is_refused_with_the_reason(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=why):
        look(path)


def test_a_model_whose_output_is_its_embedding_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match=r"shares the weights of its embedding.*use = \"llamacpp\""):
        look(model)


async def test_without_a_model_the_file_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs `model`, a file that ctransformers can load"):
        await CTransformers(CONFIG, tmp_path).load()
    with pytest.raises(ConfigError, match="needs `model`, the folder"):
        await Onnx(CONFIG, tmp_path).load()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "genai_config.json cannot be read"),
        ("{", "does not describe a model"),
        ('{"model": {"decoder": {"filename": "model.onnx"}}}', "has no file 'model.onnx'"),
        ('{"model": {"type": "clip"}}', "does not describe a model"),
    ],
)
async def test_a_folder_that_is_no_model_is_refused(config: str | None, why: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "genai_config.json").write_text(config)
    with pytest.raises(ModelError, match=why):
        await Onnx(replace(CONFIG, model=str(tmp_path)), tmp_path).load()


async def test_a_damaged_graph_is_an_error_with_its_reason(tmp_path: Path) -> None:
    config = {"type": "llama", "context_length": 64, "vocab_size": 8, "decoder": {"filename": "model.onnx"}}
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": config}))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.onnx").write_text("nonsense")
    with pytest.raises(ModelError, match=r"cannot load.*Protobuf"):
        await Onnx(replace(CONFIG, model=str(tmp_path)), tmp_path).load()
