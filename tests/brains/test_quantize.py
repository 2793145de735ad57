"""Smaller model files: what stays, what is refused, and mixtures that keep to their budget."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_llama import BLOCKS, small_llama
from tiny_gguf import gguf

from roost.brains import jobs, library
from roost.brains.apart import unheard, work
from roost.brains.gguf import verify_gguf
from roost.brains.losses import Estimate, Text, Trial
from roost.brains.quantize import budget, quantize
from roost.brains.recipes import KINDS, OFFERED, Q8_0, matrices, uniform
from roost.brains.rewriting import Layout, Weights, read_layout, rewrite, size_with
from roost.brains.sensitivity import Damage, Part, affordable, alone, part_of, parts, raised, roughen, stored, whole
from roost.errors import ConfigError, ModelError, RoostError

TEXT = "The owl sat in the oak; the more it saw the less it spoke, and the less it spoke the more it heard. " * 4


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return small_llama(tmp_path / "small.gguf")


def told(done: int, total: int) -> None:
    """Progress that nobody follows."""


def made(source: Path, target: Path, precision: str, *, kind: str = "", requantize: bool = False) -> Layout:
    jobs.write(unheard, str(source), str(target), precision, kind, requantize)
    return read_layout(target)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(quantize, [str(argument) for argument in arguments])


def refusal(result: Result) -> str:
    assert isinstance(result.exception, RoostError), (result.output, result.exception)
    return str(result.exception)


def alone_in(folder: Path, *expected: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(expected)


def test_a_smaller_file_keeps_all_keys_all_shapes_and_all_that_is_no_matrix(small: Path, tmp_path: Path) -> None:
    before, after = read_layout(small), made(small, tmp_path / "int8.gguf", "int8")
    changed = {"general.file_type", "general.quantization_version"}
    assert [pair for pair in after.pairs if pair[0] not in changed] == [
        pair for pair in before.pairs if pair[0] not in changed
    ]
    assert [(one.name, one.sizes) for one in after.tensors] == [(one.name, one.sizes) for one in before.tensors]
    assert {one.kind for one in matrices(after)} == {Q8_0}
    kept = [one for one in before.tensors if len(one.sizes) == 1]
    assert len(kept) == 1 + 2 * BLOCKS
    there = {one.name: one for one in after.tensors}
    assert all(stored(small, one) == stored(after.path, there[one.name]) for one in kept)
    assert verify_gguf(after.path).keys["general.file_type"] == 7


def test_a_file_written_again_with_the_same_types_has_the_same_weights(small: Path, tmp_path: Path) -> None:
    before = read_layout(small)
    rewrite(before, tmp_path / "again.gguf", {})
    after = read_layout(tmp_path / "again.gguf")
    assert [stored(small, one) for one in before.tensors] == [stored(after.path, one) for one in after.tensors]


@pytest.mark.parametrize("kind", OFFERED)
def test_weights_come_back_as_near_as_their_bits_allow(kind: str) -> None:
    numbers = np.random.default_rng(7).normal(size=(8, 256)).astype(np.float32)
    packed = library.blocks(KINDS[kind], numbers, 256)
    back = library.floats(KINDS[kind], packed, numbers.size).reshape(numbers.shape)
    error = float(np.sqrt(((back - numbers) ** 2).mean()))
    bits = min(12, 8 * len(packed) / numbers.size)  # FP16 has eleven of its bits for the digits
    assert 0 < error < 2.4 * 2**-bits * 2  # a normal distribution, cut into 2^bits steps over its usual range


def test_the_same_model_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        made(small, tmp_path / name, "int4", kind="q4_k")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_matrix_larger_than_a_piece_is_packed_like_one_piece(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(small, tmp_path / "one", "int4", kind="q4_0")
    monkeypatch.setattr("roost.brains.rewriting.SLICE", 3 * 64)
    made(small, tmp_path / "two", "int4", kind="q4_0")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_output_keeps_more_bits_and_short_rows_get_small_blocks(small: Path) -> None:
    layout = read_layout(small)
    kinds = uniform(layout, "q4_k")
    assert kinds["token_embd.weight"] == Q8_0
    assert set(kinds.values()) == {Q8_0, KINDS["q5_0"]}
    wide = Layout(small, "llama", 3, 32, (), (Weights("blk.0.ffn_up.weight", (256, 2), 1, 0),))
    assert uniform(wide, "q4_k") == {"blk.0.ffn_up.weight": KINDS["q4_k"]}


def test_routers_norms_and_other_small_matrices_stay_as_they_are() -> None:
    names = ["blk.0.ffn_gate_inp.weight", "blk.0.attn_q_norm.weight", "blk.0.ssm_conv1d.weight", "blk.0.attn_q.bias"]
    tensors = tuple(Weights(name, (64, 64), 1, 0) for name in [*names, "blk.0.attn_q.weight"])
    assert list(uniform(Layout(Path("x"), "llama", 3, 32, (), tensors), "q8_0")) == ["blk.0.attn_q.weight"]


def test_a_file_made_smaller_before_is_refused_unless_asked_for(small: Path, tmp_path: Path) -> None:
    made(small, tmp_path / "int8.gguf", "int8")
    with pytest.raises(ModelError, match="made smaller before: it has weights in Q8_0"):
        made(tmp_path / "int8.gguf", tmp_path / "int4.gguf", "int4")
    assert not (tmp_path / "int4.gguf").exists()
    assert made(tmp_path / "int8.gguf", tmp_path / "int4.gguf", "int4", requantize=True)


def test_what_is_no_whole_model_is_refused_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    whole_file = small.read_bytes()
    bad = {"text": b"I am no model", "cut": whole_file[:-40], "empty": b"", "vectors": gguf()}
    for name, content in bad.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "in.gguf").write_bytes(content)
        assert "'" in refusal(run(folder / "in.gguf", folder / "out.gguf", "--precision", "int8", "--requantize"))
        assert alone_in(folder, "in.gguf")
    assert "There is no model file" in refusal(run(tmp_path / "no.gguf", tmp_path / "out.gguf", "--precision", "int8"))


def test_a_part_of_a_split_model_is_refused(small: Path) -> None:
    part = small.rename(small.with_name("small-00001-of-00002.gguf"))
    with pytest.raises(ModelError, match="one part of a model in several files"):
        read_layout(part)


def test_broken_weights_are_named_and_an_older_file_stays(tmp_path: Path) -> None:
    small_llama(tmp_path / "bad.gguf", spoil="blk.1.ffn_up.weight")
    (tmp_path / "out.gguf").write_bytes(b"older")
    said = refusal(run(tmp_path / "bad.gguf", tmp_path / "out.gguf", "--precision", "int4", "--overwrite"))
    assert "'blk.1.ffn_up.weight' are broken" in said
    assert (tmp_path / "out.gguf").read_bytes() == b"older"
    assert alone_in(tmp_path, "bad.gguf", "out.gguf")


def test_a_file_is_only_replaced_when_asked_and_never_the_model_itself(small: Path, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"older")
    assert "already" in refusal(run(small, tmp_path / "out.gguf", "--precision", "int8"))
    before = small.read_bytes()
    assert "is the model to read" in refusal(run(small, small, "--precision", "int8", "--overwrite"))
    assert small.read_bytes() == before
    assert "no folder" in refusal(run(small, tmp_path / "no" / "out.gguf", "--precision", "int8"))
    assert run(small, tmp_path / "out.gguf", "--precision", "int8", "--overwrite").exit_code == 0
    assert verify_gguf(tmp_path / "out.gguf")
    assert alone_in(tmp_path, "small.gguf", "out.gguf")


def test_a_disk_too_small_is_noticed_before_anything_is_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = size_with(read_layout(small), uniform(read_layout(small), "q8_0"))
    full = type("Usage", (), {"free": needed - 1})()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(ModelError, match="needs"):
        made(small, tmp_path / "out.gguf", "int8")
    assert not (tmp_path / "out.gguf").exists()
    full.free = needed
    assert made(small, tmp_path / "out.gguf", "int8").path.stat().st_size == needed


def test_a_mixture_keeps_to_its_size_and_spends_it_on_what_suffers_most(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    low = size_with(layout, uniform(layout, "q4_0", output=False))
    high = size_with(layout, uniform(layout, "q8_0"))
    (tmp_path / "text").write_text(TEXT)
    room = (low + high) // 2
    options = ("--type", "q4_0", "--size", room, "--text", tmp_path / "text", "--tokens", 128, "--json")
    result = json.loads(run(small, tmp_path / "mixed.gguf", "--precision", "mixed", *options).output)
    assert low < (tmp_path / "mixed.gguf").stat().st_size == result["size"] <= room
    worth = [one["divergence"][0] / one["bytes"] for one in result["parts"]]
    assert worth == sorted(worth, reverse=True)
    kept = {one["name"] for one in result["parts"] if one["kept"]}
    assert result["parts"][0]["kept"] and 0 < len(kept) < len(result["parts"]) == 2 * BLOCKS + 1
    raised_parts = {part_of(one.name) for one in matrices(read_layout(tmp_path / "mixed.gguf")) if one.kind == Q8_0}
    assert raised_parts == kept
    assert alone_in(tmp_path, "small.gguf", "mixed.gguf", "text")


def test_a_mixture_keeps_to_its_loss_with_as_few_parts_as_it_can(small: Path, tmp_path: Path) -> None:
    def mixed(loss: float) -> dict[str, Any]:
        texts = [("owl", TEXT)]
        return jobs.mix(
            unheard, str(small), str(tmp_path / "m"), "q4_0", "f16", 0, loss, texts, 128, str(tmp_path), False
        )

    strict, loose = mixed(0.05), mixed(10.0)
    assert strict["loss"][0] + strict["loss"][1] <= 0.05
    assert loose["size"] < strict["size"]
    assert strict["divergence"][0] < loose["divergence"][0]
    with pytest.raises(ModelError, match=r"No mixture loses as little as"):
        mixed(-0.5)


def test_a_size_that_no_mixture_has_is_refused_before_measuring(small: Path, tmp_path: Path) -> None:
    said = refusal(run(small, tmp_path / "mixed.gguf", "--precision", "mixed", "--size", "10K"))
    assert "No mixture is as small as 10,000 bytes" in said
    assert alone_in(tmp_path, "small.gguf")


def test_measuring_a_part_changes_only_that_part_and_puts_it_back(small: Path, tmp_path: Path) -> None:
    source = read_layout(small)
    low = uniform(source, "q4_0", output=False)
    found = parts(source, low, raised(source, low, Q8_0))
    with whole(source, [Text("owl", TEXT)], tmp_path, 128, told) as (layout, given):
        before = layout.path.read_bytes()
        seen: list[set[str]] = []

        class Spy:
            def judge(self, path: Path) -> Trial:
                now = read_layout(path)
                changed = {one.name for one in now.tensors if stored(path, one) not in before}
                seen.append(changed)
                return given.judge(path)

        results = [alone(layout, part, low, Spy()) for part in found]  # type: ignore[arg-type]
        assert layout.path.read_bytes() == before
    assert seen == [set(part.matrices) for part in found]
    assert all(result.value > 0 for result in results)
    assert not layout.path.exists()


def test_a_roughened_tensor_has_the_weights_of_its_low_type(small: Path) -> None:
    layout = read_layout(small)
    one = matrices(layout)[0]
    numbers = library.floats(one.kind, stored(small, one), one.count)
    expected = library.floats(2, library.blocks(2, numbers, one.sizes[0]), one.count)
    roughen(small, one, 2)
    now = library.floats(one.kind, stored(small, one), one.count)
    assert np.allclose(now, expected, rtol=1e-3, atol=1e-6)
    assert not np.allclose(now, numbers, rtol=1e-3)


def test_parts_are_blocks_in_two_halves_and_the_two_ends() -> None:
    names = [
        "blk.12.attn_k.weight",
        "blk.12.ffn_down_exps.weight",
        "blk.3.ssm_in.weight",
        "token_embd.weight",
        "output.weight",
    ]
    assert [part_of(name) for name in names] == [
        *("block 12 attention", "block 12 feed-forward", "block 3 attention", "vocabulary", "output")
    ]


def test_a_part_that_is_too_large_does_not_keep_smaller_ones_from_being_raised() -> None:
    ranked = [
        Damage(Part(name, (name,), 10, 10 + more), Estimate(1, 0)) for name, more in (("a", 5), ("b", 90), ("c", 5))
    ]
    assert [part.name for part in affordable(ranked, 30, 40)] == ["a", "c"]
    assert affordable(ranked, 30, 34) == []


def test_sizes_are_written_as_sizes_of_files_are() -> None:
    assert [budget(size, None)["size"] for size in ("90M", "1.5GB", "700k", "12345")] == [90e6, 1.5e9, 700e3, 12345]
    assert budget("", 3.0) == {"size": 0, "loss": 0.03}
    for wrong in ("many", "-3M", "M", "inf"):
        with pytest.raises(ConfigError, match="is no size"):
            budget(wrong, None)


def test_options_that_belong_to_mixtures_are_refused_elsewhere(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    assert "mixed` only" in refusal(run(small, target, "--precision", "int8", "--size", "90M"))
    assert "not both" in refusal(run(small, target, "--precision", "mixed", "--size", "90M", "--loss", "2"))


def test_work_that_falls_over_ends_in_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"ended in the middle, with status 1.*KeyError"):
        work("sleep", {})


def test_work_ends_with_the_one_who_asked_for_it(small: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['roost.brains.jobs'] = __import__('types').SimpleNamespace("
            "JOBS={'wait': lambda report: (report('x', 0, 1), __import__('threading').Event().wait())}); "
            "from roost.brains.apart import serve; serve()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin and child.stdout
    try:
        child.stdin.write(b'{"job": "wait"}\n')
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["step"] == "x"
        child.stdin.close()
        assert child.wait(60) == 3
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
