"""The plan: files of many architectures, the arithmetic, the choices, and the real engine's memory."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import pair, text

from roost.brains import commandline, engine, llamacpp
from roost.brains.choice import advice, best, largest_context, offers, refusal, suitable
from roost.brains.commandline import model as command
from roost.brains.engine import KEY, EngineOptions
from roost.brains.gguf import BLOCKS
from roost.brains.llamacpp import LlamaCpp
from roost.brains.machine import Build, Card, Machine, read_build, read_machine
from roost.brains.measure import measure
from roost.brains.models import known, named, recommended
from roost.brains.plan import BYTES, PAGE, Plan, Wish, make, repacked, room
from roost.brains.process import EngineProcess
from roost.brains.report import report
from roost.brains.shape import Layer, Shape, Sketch, Tensor, sketched, typical
from roost.brains.survey import read_shape
from roost.errors import BrainError, ConfigError, ModelError

GIB = 1 << 30
TOLERANCE = 0.10
AVX2 = Build(frozenset({"avx2", "repack"}))
F32, Q4_0, Q8_0, Q4_K = 0, 2, 8, 12
Part = tuple[str, Sequence[int], int]


def small(memory: int, cores: int = 4) -> Machine:
    return Machine(cores, cores, memory=memory)


def numbers(key: str, values: Sequence[int], kind: int = 4) -> bytes:
    form = {4: "I", 7: "?"}[kind]
    return text(key) + struct.pack("<IIQ", 9, kind, len(values)) + struct.pack(f"<{len(values)}{form}", *values)


def file(
    path: Path, architecture: str, keys: dict[str, int | Sequence[int] | Sequence[bool]], parts: Sequence[Part]
) -> Path:
    """A model file whose data are zeros that take no room on the disk."""
    packed = [pair("general.architecture", architecture), pair("general.name", path.stem)]
    for key, value in keys.items():
        name = f"{architecture}.{key}"
        if isinstance(value, int):
            packed.append(pair(name, value))
        else:
            packed.append(numbers(name, value, 7 if isinstance(value[0], bool) else 4))
    packed.append(pair("tokenizer.ggml.tokens", [f"t{number}" for number in range(256)]))
    infos, offset = [], 0
    for name, sizes, kind in parts:
        block, width = BLOCKS.get(kind, (1, 4))
        infos.append(text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset))
        offset += -(-(math.prod(sizes) // block * width) // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(packed)) + b"".join((*packed, *infos))
    with path.open("wb") as out:
        out.write(head + bytes(-len(head) % 32))
        out.truncate(out.tell() + offset)
    return path


def plain(layer: int, kind: int = Q8_0) -> list[Part]:
    sizes = {"attn_q": (256, 256), "attn_k": (256, 128), "attn_v": (256, 128), "ffn_up": (256, 512)}
    norm: Part = (f"blk.{layer}.attn_norm.weight", (256,), F32)
    return [norm, *((f"blk.{layer}.{name}.weight", size, kind) for name, size in sizes.items())]


EMBEDDING: Part = ("token_embd.weight", (256, 256), Q8_0)
OUTPUT: Part = ("output.weight", (256, 256), Q8_0)
PLAIN: dict[str, int | Sequence[int] | Sequence[bool]] = {
    **{"block_count": 4, "embedding_length": 256, "attention.head_count": 4, "attention.head_count_kv": 2},
    **{"feed_forward_length": 512, "context_length": 8192},
}


def layers(path: Path, architecture: str = "llama", parts: Sequence[Part] = (), **more: object) -> tuple[Layer, ...]:
    keys = {**PLAIN, **{name.replace("__", "."): value for name, value in more.items()}}
    usual = [EMBEDDING, *(part for number in range(4) for part in plain(number))]
    return read_shape(file(path / "a.gguf", architecture, keys, parts or usual)).layers  # type: ignore[arg-type]


# What a file tells


def test_a_file_tells_its_shape(tmp_path: Path) -> None:
    parts = [EMBEDDING, *(part for number in range(4) for part in plain(number)), OUTPUT]
    shape = read_shape(file(tmp_path / "owl.gguf", "llama", PLAIN, parts))
    assert (shape.title, shape.architecture, shape.trained, shape.embedding) == ("owl", "llama", 8192, 256)
    assert shape.layers == (Layer(128, 128),) * 4
    assert (shape.vocabulary, shape.merges, shape.blockwise) == (256, 0, True)
    assert shape.wide == 4 * 512
    assert shape.weights == 4 * (1024 + 256 * (256 + 128 + 128 + 512) * 34 // 32) + 2 * 256 * 256 * 34 // 32
    assert shape.parameters == 4 * (256 + 256 * 1024) + 2 * 256 * 256
    assert shape.kinds == "Q8_0"


def test_layers_may_differ_in_their_heads(tmp_path: Path) -> None:
    found = layers(tmp_path, attention__head_count_kv=[2, 1, 4, 2])
    assert [layer.keys for layer in found] == [128, 64, 256, 128]


def test_heads_may_have_a_size_of_their_own(tmp_path: Path) -> None:
    assert layers(tmp_path, attention__key_length=96, attention__value_length=32)[0] == Layer(192, 64)


@pytest.mark.parametrize(
    ("architecture", "more", "windows"),
    [
        ("gemma2", {}, [32, 0, 32, 0]),
        ("gpt-oss", {}, [32, 0, 32, 0]),
        ("gemma3", {}, [32, 32, 32, 32]),
        ("smallthinker", {}, [0, 32, 32, 32]),
        ("gemma3", {"attention__sliding_window_pattern": 3}, [32, 32, 0, 32]),
        ("gemma4", {"attention__sliding_window_pattern": [True, False, False, True]}, [32, 0, 0, 32]),
        ("llama", {}, [0, 0, 0, 0]),
    ],
)
def test_layers_that_see_a_window_only_are_known(
    tmp_path: Path, architecture: str, more: dict[str, object], windows: list[int]
) -> None:
    found = layers(tmp_path, architecture, attention__sliding_window=32, **more)
    assert [layer.window for layer in found] == windows


def test_layers_that_share_what_others_keep_add_nothing(tmp_path: Path) -> None:
    assert layers(tmp_path, "gemma4", attention__shared_kv_layers=3) == (Layer(128, 128), Layer(), Layer(), Layer())


def test_layers_with_a_state_keep_no_tokens(tmp_path: Path) -> None:
    parts = [EMBEDDING, *plain(0), ("blk.1.ssm_in.weight", (256, 512), Q8_0), *plain(2), *plain(3)]
    more = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16, "ssm__group_count": 1}
    found = layers(tmp_path, "granitehybrid", parts, **more)
    assert found[0] == Layer(128, 128)
    assert found[1] == Layer(state=4 * (3 * (512 + 2 * 16) + 512 * 16))


def test_compressed_attention_keeps_one_vector_for_all_heads(tmp_path: Path) -> None:
    parts = [EMBEDDING]
    for number in range(4):
        parts += [
            (f"blk.{number}.attn_kv_a_mqa.weight", (256, 96), Q8_0),
            (f"blk.{number}.attn_k_b.weight", (32, 64, 4), Q8_0),
        ]
    found = layers(tmp_path, "deepseek2", parts, attention__kv_lora_rank=64, rope__dimension_count=32)
    assert found == (Layer(96, 0),) * 4


def test_layers_that_only_guess_ahead_are_left_out(tmp_path: Path) -> None:
    assert len(layers(tmp_path, nextn_predict_layers=1)) == 3


def test_a_file_cannot_claim_more_layers_than_it_has(tmp_path: Path) -> None:
    assert len(layers(tmp_path, block_count=2**31)) == 4


def test_experts_count_as_far_as_a_token_goes_to_them(tmp_path: Path) -> None:
    keys = {**PLAIN, "expert_count": 64, "expert_used_count": 4, "expert_feed_forward_length": 96}
    shape = read_shape(file(tmp_path / "a.gguf", "qwen3moe", keys, [EMBEDDING, *plain(0)]))
    assert shape.wide == 4 * (3 * 96 + 256)


def test_a_model_in_several_files_is_read_whole(tmp_path: Path) -> None:
    first = file(tmp_path / "owl-00001-of-00002.gguf", "llama", PLAIN, [EMBEDDING, *plain(0), *plain(1)])
    whole = file(tmp_path / "whole.gguf", "llama", PLAIN, [EMBEDDING, *(p for n in range(4) for p in plain(n))])
    with pytest.raises(ModelError, match="owl-00002-of-00002"):
        read_shape(first)
    file(tmp_path / "owl-00002-of-00002.gguf", "llama", {}, [*plain(2), *plain(3)])
    assert read_shape(first).weights == read_shape(whole).weights
    assert read_shape(first).layers == read_shape(whole).layers


def test_tensors_of_a_type_nobody_knows_have_the_room_up_to_the_next(tmp_path: Path) -> None:
    parts = [EMBEDDING, ("blk.0.attn_k.weight", (256, 32), 99), OUTPUT]
    shape = read_shape(file(tmp_path / "a.gguf", "llama", PLAIN, parts))
    assert [one.size for one in shape.tensors] == [69632, 256 * 32 * 4, 69632]


def test_a_damaged_file_is_refused_as_ever(tmp_path: Path, model: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(model.read_bytes()[:5_000_000])
    with pytest.raises(ModelError, match="cut short"):
        read_shape(tmp_path / "cut.gguf")
    with pytest.raises(ModelError, match="no model file"):
        read_shape(tmp_path / "none.gguf")


@given(st.data())
def test_a_flipped_byte_is_a_model_error_or_still_a_plan(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.gguf"
    keys = {**PLAIN, "attention.head_count_kv": [2, 1, 4, 2], "attention.sliding_window_pattern": [True, False]}
    whole = bytearray(file(path, "gemma4", keys, [EMBEDDING, *plain(0), OUTPUT]).read_bytes())
    place = data.draw(st.integers(4, whole.index(b"t0") + 4000))
    whole[min(place, len(whole) - 1)] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    try:
        shape = read_shape(path)
    except ModelError as error:
        assert str(path) in str(error)
        return
    plan = make(shape, small(16 * GIB), AVX2, Wish())
    assert plan.needed > 0
    assert list(report(small(16 * GIB), AVX2, plan))


# The arithmetic


def sizes(plan: Plan) -> dict[str, int]:
    return {row.name: row.size for row in plan.rows}


def test_the_default_model_is_run_as_ever(model: Path) -> None:
    plan = make(read_shape(model), small(16 * GIB, 8), AVX2, Wish())
    assert (plan.context, plan.slots, plan.kept, plan.batch) == (4096, 2, "f16", 128)
    assert (plan.threads, plan.writing, plan.device, plan.offloaded) == (8, 1, "cpu", 0)
    assert plan.fits


def test_keys_and_values_are_counted(model: Path) -> None:
    shape = read_shape(model)
    for kept in BYTES:
        plan = make(shape, small(16 * GIB), AVX2, Wish(3000, 3, kept=kept))
        assert sizes(plan)["KV cache"] == 3 * 3072 * 30 * (192 + 192) * BYTES[kept]


def test_windows_bound_what_their_layers_keep(tmp_path: Path) -> None:
    shape = Shape("a", layers=(Layer(128, 128, 512), Layer(128, 128)))
    rows = sizes(make(shape, small(16 * GIB), AVX2, Wish(8192, 2)))
    assert rows["KV cache"] == 2 * 8192 * 256 * 2
    assert rows["KV cache, window"] == 2 * 768 * 256 * 2
    assert rows["look back"] == 2 * rows["KV cache, window"]


def test_a_copy_is_made_of_what_the_processor_likes_in_another_order(tmp_path: Path) -> None:
    parts: list[Part] = [EMBEDDING, *plain(0, Q4_0), *plain(1, Q4_K), ("blk.2.odd.weight", (256, 12), Q4_0), OUTPUT]
    shape = read_shape(file(tmp_path / "a.gguf", "llama", PLAIN, parts))
    copied = 2 * 256 * (256 + 128 + 128 + 512) * 18 // 32
    plan = make(shape, small(16 * GIB), AVX2, Wish())
    assert (sizes(plan)["repacked weights"], plan.spare) == (copied, copied)
    assert "repacked weights" not in sizes(make(shape, small(16 * GIB), Build(frozenset({"avx2"})), Wish()))
    arm = make(shape, small(16 * GIB), Build(frozenset({"neon", "dotprod", "repack"})), Wish())
    assert sizes(arm)["repacked weights"] == copied + 69632 + 256 * 12 * 18 // 32


def test_a_vocabulary_that_is_the_output_too_is_both_mapped_and_copied(tmp_path: Path) -> None:
    shape = read_shape(file(tmp_path / "a.gguf", "llama", PLAIN, [("token_embd.weight", (256, 256), Q4_0), *plain(0)]))
    plan = make(shape, small(16 * GIB), AVX2, Wish())
    assert sizes(plan)["repacked weights"] == 256 * 256 * 18 // 32
    assert plan.spare == 0


def test_nothing_is_copied_of_a_type_without_such_an_order() -> None:
    assert 8 not in repacked(frozenset({"avx2", "repack"}))
    assert 8 in repacked(frozenset({"neon", "dotprod", "repack"}))
    assert repacked(frozenset({"avx2"})) == {}


def test_the_sum_is_that_of_its_parts() -> None:
    plan = make(typical(7_000_000_000, "int4"), small(16 * GIB), AVX2, Wish())
    assert plan.needed == sum(sizes(plan).values()) - plan.spare + plan.cache + 64 * 1024 * 1024
    assert plan.cache == Wish().cache + sizes(plan)["KV cache"] // 2
    assert make(plan.shape, small(16 * GIB), AVX2, Wish(cache=0)).cache == 0


def test_a_7b_model_in_16_gb_is_planned_without_its_file() -> None:
    plan = make(typical(7_000_000_000, "int4"), small(16 * GIB), AVX2, Wish(8192))
    assert plan.fits and plan.kept == "f16"
    assert sizes(plan)["weights"] == pytest.approx(4.33e9, rel=0.01)
    assert sizes(plan)["KV cache"] == 2 * 8192 * 32 * 2 * 1024 * 2
    assert not make(typical(7_000_000_000, "fp16"), small(8 * GIB), AVX2, Wish()).fits


def test_part_of_the_memory_is_left_to_the_system() -> None:
    assert room(Machine(memory=GIB)) == GIB * 7 // 8
    assert room(Machine(memory=64 * GIB)) == 64 * GIB - GIB // 2
    assert room(Machine(memory=GIB, limit="cgroup")) == GIB * 31 // 32


def test_where_memory_is_unknown_all_is_as_asked_for() -> None:
    plan = make(typical(7_000_000_000, "int4"), Machine(), AVX2, Wish())
    assert plan.fits and plan.kept == "f16"


# The choices


def test_eight_bits_are_kept_only_where_sixteen_do_not_fit() -> None:
    shape = typical(7_000_000_000, "int4")
    wide, tight = make(shape, small(16 * GIB), AVX2, Wish()), make(shape, small(11 * GIB // 2), AVX2, Wish(cache=0))
    assert (wide.kept, tight.kept) == ("f16", "q8_0")
    assert tight.fits
    assert make(shape, small(11 * GIB // 2), AVX2, Wish(cache=0, kept="f16")).kept == "f16"
    assert make(replace(shape, blockwise=False), small(11 * GIB // 2), AVX2, Wish(cache=0)).kept == "f16"


def test_fewer_prompts_are_kept_for_later_where_not_even_eight_bits_fit() -> None:
    shape = typical(7_000_000_000, "int4")
    none = make(shape, small(16 * GIB), AVX2, Wish(kept="q8_0", cache=0)).needed + GIB // 2
    plans = [make(shape, small(none + more), AVX2, Wish()) for more in (0, GIB // 2, 2 * GIB)]
    assert all(plan.fits for plan in plans)
    assert [plan.kept for plan in plans] == ["q8_0", "q8_0", "f16"]
    assert plans[0].prompts == plans[0].cache == 0
    assert 0 < plans[1].prompts < Wish().cache and plans[1].needed > plans[1].room - 2**20
    assert plans[2].prompts == Wish().cache


def test_a_context_is_never_larger_than_the_model_was_made_for(model: Path) -> None:
    assert make(read_shape(model), small(16 * GIB), AVX2, Wish(1_000_000)).context == 8192


def test_threads_are_as_many_as_asked_for_or_as_there_are_cores() -> None:
    shape = typical(1_500_000_000, "int4")
    plan = make(shape, small(16 * GIB, 6), AVX2, Wish())
    assert (plan.threads, plan.writing) == (6, 6)
    plan = make(shape, small(16 * GIB, 6), AVX2, Wish(threads=3))
    assert (plan.threads, plan.writing) == (3, 3)


@given(st.integers(1, 64), st.integers(1, 8), st.sampled_from([0.5e9, 3e9, 7e9, 14e9]))
def test_the_largest_context_that_fits_is_the_largest(memory: int, slots: int, parameters: float) -> None:
    shape, machine = typical(int(parameters), "int4"), small(memory * GIB // 2)
    wish = Wish(32_768, slots)
    found = largest_context(shape, machine, AVX2, wish)
    assert found % PAGE == 0
    if found:
        assert make(shape, machine, AVX2, replace(wish, context=found)).fits
    if found < wish.context:
        assert not make(shape, machine, AVX2, replace(wish, context=max(found + PAGE, 512))).fits


@given(st.integers(256, 65_536), st.integers(1, 8), st.booleans())
def test_more_of_anything_never_takes_less(context: int, slots: int, eight: bool) -> None:
    shape, machine = typical(3_000_000_000, "int4"), small(64 * GIB)
    wish = Wish(context, slots, kept="q8_0" if eight else "f16")
    plan = make(shape, machine, AVX2, wish)
    assert make(shape, machine, AVX2, replace(wish, context=context + PAGE)).needed > plan.needed
    assert make(shape, machine, AVX2, replace(wish, slots=slots + 1)).needed > plan.needed


def test_what_would_fit_instead_is_said() -> None:
    shape = typical(7_000_000_000, "int4")
    assert advice(shape, small(8 * GIB), AVX2, Wish(65_536)).startswith("It would fit with context = ")
    text = advice(shape, small(5 * GIB), AVX2, Wish(8192, 8, cache=0))
    assert "slots = 1" in text
    text = advice(typical(7_000_000_000, "fp16"), small(8 * GIB), AVX2, Wish())
    assert "A four-bit file of the same model, of about 4131 MB, would fit." in text
    assert "The model 'qwen3-4b-int4' would fit" in text
    text = advice(typical(70_000_000_000, "int4"), small(2 * GIB), AVX2, Wish())
    assert text.startswith("The model 'qwen2.5-1.5b-int4' would fit")
    assert "too little memory" in advice(shape, small(GIB // 4), AVX2, Wish())


def test_what_is_said_to_fit_does() -> None:
    shape, machine, wish = typical(7_000_000_000, "int4"), small(8 * GIB), Wish(65_536)
    context = int(advice(shape, machine, AVX2, wish).removesuffix(".").rpartition(" ")[2])
    assert make(shape, machine, AVX2, replace(wish, context=context)).fits


def test_only_what_cannot_work_at_all_is_refused() -> None:
    shape = typical(7_000_000_000, "int4")
    plan = make(shape, small(8 * GIB), AVX2, Wish())
    assert refusal(shape, small(plan.least), AVX2, Wish(kept="f16")) == ""
    text = refusal(shape, small(plan.least - 1), AVX2, Wish(kept="f16"))
    assert "context = 4096 and slots = 2 needs" in text and "would fit" in text
    assert refusal(shape, Machine(), AVX2, Wish()) == ""


# Graphics cards: arithmetic only, no card was there to try


def card(memory: int, shared: bool = False) -> Build:
    return Build(cards=(Card("Card", memory, shared=shared),))


def test_a_card_takes_as_many_layers_as_fit_and_all_if_they_do() -> None:
    shape = typical(8_000_000_000, "int4")
    counts = [make(shape, small(32 * GIB), card(size * GIB), Wish()).offloaded for size in (1, 2, 4, 6, 8, 24)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 33)
    assert 0 < counts[2] < 33


def test_layers_move_to_a_card_from_the_last_on() -> None:
    tensors = [Tensor(f"blk.{number}.w", 32, Q8_0, 0, GIB * (3 if number == 2 else 1) // 2) for number in range(4)]
    shape = Shape("a", layers=(Layer(),) * 4, tensors=(*tensors, Tensor("output.weight", 32, Q8_0, 0, GIB // 2)))
    plan = make(shape, small(32 * GIB), card(3 * GIB), Wish())
    assert plan.offloaded == 2  # the output and layer 3; layer 2 does not fit, though 1 and 0 would
    assert plan.on_card[0].size == GIB


def test_what_is_on_a_card_fits_there_and_is_not_counted_twice() -> None:
    shape = typical(8_000_000_000, "int4")
    for size in (4, 6, 24):
        plan = make(shape, small(32 * GIB), card(size * GIB), Wish())
        assert sum(row.size for row in plan.on_card) <= (size - 1) * GIB
        kept = sum(row.size for row in (*plan.rows, *plan.on_card) if row.name == "KV cache")
        assert kept == 2 * 4096 * 32 * 2048 * 2
        assert plan.batch == 512


def test_a_card_that_shares_the_memory_takes_all_layers_and_none_of_it_twice() -> None:
    plan = make(typical(8_000_000_000, "int4"), small(16 * GIB), card(12 * GIB, shared=True), Wish())
    assert (plan.device, plan.offloaded, plan.on_card) == ("gpu", 33, ())
    assert "repacked weights" not in sizes(plan)


def test_a_card_is_left_alone_when_the_processor_is_asked_for() -> None:
    plan = make(typical(8_000_000_000, "int4"), small(16 * GIB), card(24 * GIB), Wish(device="cpu"))
    assert (plan.device, plan.card, plan.offloaded, plan.batch) == ("cpu", None, 0, 128)


# Models known by name


def test_every_recommended_model_says_all_about_itself() -> None:
    for one in recommended().values():
        assert one.source.startswith("hf:") and one.file.endswith(".gguf") and "/" not in one.file
        assert one.title and one.licence and one.reason and one.size and one.parameters and not one.sha256
        assert one.precision in {"int4", "int8", "fp16"}
        bits = 8 * one.size / one.parameters
        assert {"int4": 4 < bits < 8.5, "int8": 8 < bits < 9.5}[one.precision], one.name


def test_every_model_known_by_name_can_be_planned_without_its_file() -> None:
    found = offers(small(64 * GIB), AVX2, Wish())
    assert {one.model.name for one in found} == {*known(), *recommended()}
    assert all(one.plan.fits for one in found)


def test_the_default_model_s_numbers_are_those_of_its_file(model: Path) -> None:
    told, read = next(iter(known().values())).outline(), read_shape(model)
    assert told is not None
    assert (told.layers, told.wide, told.vocabulary, told.merges) == (
        read.layers,
        read.wide,
        read.vocabulary,
        read.merges,
    )
    assert (told.embedding, told.trained, told.parameters) == (read.embedding, read.trained, read.parameters)
    plans = [make(one, small(16 * GIB), Build(), Wish()).needed for one in (told, read)]
    assert plans[0] == pytest.approx(plans[1], rel=0.01)


def test_the_precision_chooses_the_file_of_a_family() -> None:
    assert suitable("qwen3-4b", "auto") == "qwen3-4b-int4" == named("qwen3-4b", known()).name
    assert suitable("qwen3-4b", "int8") == "qwen3-4b-int8"
    assert suitable("qwen3-4b-int8", "auto") == "qwen3-4b-int8"
    assert suitable("", "int4") == "" and suitable("some.gguf", "int8") == "some.gguf"
    assert named(suitable("qwen3-4b", "int8"), known()).source.endswith("q8_0.gguf")


@pytest.mark.parametrize(
    ("memory", "name"),
    [
        (GIB, "smollm2-135m"),
        (2 * GIB, "qwen2.5-1.5b-int4"),
        (4 * GIB, "ministral-3-3b-int4"),
        (8 * GIB, "qwen3-4b-int4"),
        (16 * GIB, "gpt-oss-20b-int4"),
        (32 * GIB, "qwen3-30b-a3b-int4"),
    ],
)
def test_the_suggestion_fits_and_is_quick_enough_for_a_processor(memory: int, name: str) -> None:
    offer = best(offers(small(memory), AVX2, Wish()))
    assert offer is not None
    assert offer.plan.fits
    assert offer.model.name == name


def test_a_card_that_holds_more_is_given_more() -> None:
    offer = best(offers(small(16 * GIB), card(24 * GIB), Wish()))
    assert offer is not None and offer.model.name == "qwen3-30b-a3b-int4"


def test_nothing_is_suggested_where_nothing_fits() -> None:
    assert best(offers(small(GIB // 8), AVX2, Wish())) is None


def test_of_a_mixture_only_the_experts_at_work_are_read() -> None:
    assert recommended()["gpt-oss-20b-int4"].read < recommended()["ministral-3-8b-int4"].read


# The command


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, arguments)
    problem = done.exception
    assert problem is None or isinstance(problem, (SystemExit, ModelError, ConfigError)), problem
    return done.exit_code, done.output + (str(problem) if isinstance(problem, (ModelError, ConfigError)) else "")


@pytest.fixture
def store(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(commandline, "_store", lambda: llamacpp.ModelStore(tmp_path))
    return tmp_path


def test_the_plan_of_a_7b_model_shows_its_reckoning(store: Path) -> None:
    code, said = run("plan", "--params", "7B", "--precision", "int4", "--memory", "16G", "--context", "8192")
    assert code == 0
    assert "2 x 8,192 tokens x 32 layers x (1,024 + 1,024) x 2 bytes" in said
    for word in ("weights", "compute", "engine", "prompt cache", "bot", "sum", "there is", "It fits"):
        assert word in said


def test_a_plan_that_does_not_fit_fails_and_says_what_would(store: Path) -> None:
    code, said = run("plan", "qwen3-30b-a3b", "--memory", "8G")
    assert code == 1
    assert "It does not fit" in said and "The model 'qwen3-4b-int4' would fit" in said


def test_a_file_is_planned_by_what_is_in_it(store: Path, model: Path) -> None:
    code, said = run("plan", str(model), "--memory", "2G", "--context", "2048", "--slots", "1")
    assert code == 0
    assert "1 x 2,048 tokens x 30 layers x (192 + 192) x 2 bytes" in said
    assert "by its numbers" not in said
    assert "by its numbers" in run("plan", "smollm2-135m", "--memory", "2G")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--params", "many"], "'many' is no number of parameters"),
        (["--params", "0B"], "'0B' is no number of parameters"),
        (["--memory", "much"], "'much' is no amount of memory"),
        (["hf:ann/owl"], "Nothing is known of 'hf:ann/owl' yet"),
        (["absent.gguf"], "There is no model file 'absent.gguf'"),
        (["qwen4"], "Did you mean 'qwen3-4b'"),
        (["qwen3-4b", "--measure"], "Only a model that is here can be measured"),
        (["--device", "gpu", "--memory", "8G"], "no graphics card"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(store: Path, arguments: list[str], words: str) -> None:
    code, said = run("plan", *arguments)
    assert code == 1
    assert words in said


@pytest.mark.parametrize(
    "arguments",
    [["plan", "--slots", "0"], ["plan", "--slots", "-1"], ["plan", "--context", "0"], ["suggest", "--context", "-5"]],
    ids=" ".join,
)
def test_numbers_that_no_model_can_have_are_refused(store: Path, arguments: list[str]) -> None:
    code, said = run(*arguments)
    assert code == 2 and "is not in the range" in said


def test_a_context_that_was_cut_is_said_to_be(store: Path, model: Path) -> None:
    assert "not the 99,999 that were asked for" in run("plan", str(model), "--context", "99999")[1]
    assert "asked for" not in run("plan", str(model), "--context", "8192")[1]


def test_a_file_of_an_architecture_nobody_knows_is_not_planned(store: Path, model: Path) -> None:
    data = model.read_bytes()[:4_000_000]
    other = store / "other.gguf"
    with other.open("wb") as file:
        file.write(data.replace(b"llama", b"xlama", 1))
        file.truncate(model.stat().st_size)
    code, said = run("plan", str(other))
    assert code == 1 and "architecture 'xlama'" in said and "It fits" not in said


def test_suggestions_come_with_licence_and_reason(store: Path) -> None:
    code, said = run("suggest", "--memory", "8G")
    assert code == 0
    assert "> qwen3-4b-int4" in said and "- gpt-oss-20b-int4" in said and "Apache-2.0. Answers well" in said
    assert run("suggest", "--memory", "200M")[0] == 1


def test_a_card_the_engine_cannot_use_is_shown_as_such() -> None:
    machine = replace(small(8 * GIB), cards=(Card("RTX", 12 * GIB),))
    plan = make(typical(3_000_000_000, "int4"), machine, AVX2, Wish())
    assert "RTX with 12.0 GB, which this build of the engine cannot use" in "\n".join(report(machine, AVX2, plan))
    plan = make(typical(3_000_000_000, "int4"), machine, card(6 * GIB), Wish())
    assert "layers on Card" in "\n".join(report(machine, card(6 * GIB), plan))


# The engine


def test_the_engine_starts_with_what_the_plan_says(model: Path) -> None:
    import xllamacpp

    options = EngineOptions(model, context=3000, slots=3, device="cpu", memory="400M", cache_ram=16)
    plan = engine.planned(xllamacpp, options, read_shape(model))
    wanted = engine.parameters(xllamacpp, options, plan, "key")
    assert (wanted.n_ctx, wanted.n_parallel, wanted.kv_unified) == (9000, 3, False)
    assert (wanted.n_batch, wanted.n_ubatch, wanted.n_gpu_layers) == (128, 128, 0)
    assert plan.kept == "q8_0"
    assert (int(wanted.cache_type_k), int(wanted.cache_type_v)) == (8, 8)
    assert (wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads) == (1, read_machine().cores)
    options = EngineOptions(model, threads=2, device="cpu")
    wanted = engine.parameters(xllamacpp, options, engine.planned(xllamacpp, options, read_shape(model)), "key")
    assert (wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads, int(wanted.cache_type_k)) == (2, 2, 1)


def arguments(model: Path, *more: str) -> list[str]:
    return ["--model-path", str(model), "--port", "0", "--watch-stdin", *more]


async def test_a_context_larger_than_the_memory_is_refused_with_what_fits(model: Path) -> None:
    one = EngineProcess(arguments(model, "--device", "cpu", "--memory", "300M", "--context", "8192"), {KEY: "k"})
    with pytest.raises(BrainError, match=r"context = 8192 and slots = 2 needs 3\d\d MB.*It would fit with context = "):
        await one.start()


async def test_a_graphics_card_that_is_asked_for_and_absent_is_said_to_be(model: Path) -> None:
    if read_build().cards:
        pytest.skip("There is a graphics card here.")
    one = EngineProcess(arguments(model, "--device", "gpu"), {KEY: "k"})
    with pytest.raises(BrainError, match=r'device = "gpu", but the engine sees no graphics card'):
        await one.start()


async def test_a_model_that_is_known_to_be_too_large_is_not_even_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(llamacpp, "read_machine", lambda: small(4 * GIB))
    brain = LlamaCpp(LlamaCpp.Config(model="qwen3-30b-a3b"), tmp_path)
    with pytest.raises(
        ModelError, match=r"needs 17\.\d GB of memory, and there are 4096 MB.*'ministral-3-3b-int4' would fit"
    ):
        await brain.load()
    assert not brain.store.folder.exists()
    monkeypatch.setattr(llamacpp, "read_machine", lambda: small(64 * GIB))
    with pytest.raises(ModelError, match="could not be fetched"):
        await brain.load()


@pytest.mark.skipif(sys.platform != "linux", reason="What a process takes was measured on Linux only.")
@pytest.mark.parametrize(("context", "kept", "tokens"), [(256, "f16", None), (1024, "f16", None), (2048, "q8_0", 300)])
async def test_the_engine_takes_what_was_predicted(model: Path, context: int, kept: str, tokens: int | None) -> None:
    """Resident memory of the real process, mapped weights included, after a prompt that fills its slot: within 10 %."""
    wish = Wish(context, 1, cache=0, kept=kept, device="cpu")  # type: ignore[arg-type]
    plan = make(read_shape(model), read_machine(), read_build(), wish)
    seen = await measure(model, plan, tokens=tokens)
    print(f"predicted {plan.resident:,}, measured {seen.resident:,}")
    assert plan.resident == pytest.approx(seen.resident, rel=TOLERANCE)


def test_a_sketch_counts_like_the_file_it_stands_for(tmp_path: Path) -> None:
    sketch = Sketch(4, 256, 4, 2, 512, 256, trained=8192)
    parts = [EMBEDDING, *(part for number in range(4) for part in plain(number)), OUTPUT]
    shape = read_shape(file(tmp_path / "a.gguf", "llama", PLAIN, parts))
    drawn = sketched("a", sketch, shape.parameters, "int8", shape.weights)
    one, other = (make(each, small(GIB), AVX2, Wish()) for each in (shape, drawn))
    assert one.needed == pytest.approx(other.needed, rel=0.001)
