from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import F32, KEYS, TENSORS, gguf, pair, tensor, text

from roost.brains.gguf import verify_gguf
from roost.errors import ModelError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


def complaint(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        verify_gguf(file)
    return str(caught.value)


def test_a_whole_file_tells_what_it_is(file: Path) -> None:
    file.write_bytes(gguf())
    header = verify_gguf(file)
    assert (header.version, header.tensors) == (3, 2)
    assert header.keys["general.name"] == "Tiny"
    assert header.keys["tiny.context_length"] == 64


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    whole = gguf()
    for length in range(4, len(whole)):
        assert "cut short" in complaint(file, whole[:length])


def test_another_file_is_refused(file: Path) -> None:
    assert "does not begin like a GGUF file" in complaint(file, b"PK\x03\x04" + gguf())
    assert "does not begin like a GGUF file" in complaint(file, b"")


@pytest.mark.parametrize("version", [0, 1, 4, 3 << 24])
def test_a_version_that_is_not_known_is_refused(file: Path, version: int) -> None:
    assert f"version {version}" in complaint(file, b"GGUF" + struct.pack("<I", version) + gguf()[8:])


@pytest.mark.parametrize(("tensors", "keys"), [(2**63, 5), (2, 2**63), (0, 5), (2**20, 5), (2, 2**20)])
def test_hostile_counts_are_refused_without_reading_on(file: Path, tensors: int, keys: int) -> None:
    assert "which no model has" in complaint(file, b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + gguf()[24:])


@pytest.mark.parametrize(
    "key",
    [
        struct.pack("<Q", 2**62) + b"x",
        text("k") + struct.pack("<IQ", 8, 2**62) + b"x",
        text("k") + struct.pack("<IIQ", 9, 8, 2**62),
        text("k") + struct.pack("<IIQ", 9, 5, 2**62),
        text("k") + struct.pack("<IIQ", 9, 9, 1),
        text("k") + struct.pack("<I", 99),
        pair("general.alignment", 0),
        pair("general.alignment", 24),
        pair("general.alignment", "big"),
    ],
)
def test_hostile_keys_are_refused(file: Path, key: bytes) -> None:
    complaint(file, gguf((*KEYS, key)))


@pytest.mark.parametrize(
    "bad",
    [
        tensor("c", 8, F32, 2**40),
        tensor("c", 2**62, F32, 0),
        tensor("c", 8, F32, 7),
        text("c") + struct.pack("<IQIQ", 0, 8, F32, 0),
        text("c") + struct.pack("<I4QIQ", 4, 2**63, 2**63, 2**63, 2**63, F32, 0),
        text("c") + struct.pack("<I", 2**31),
    ],
)
def test_hostile_tensors_are_refused(file: Path, bad: bytes) -> None:
    complaint(file, gguf(tensors=(*TENSORS, bad)))


@given(st.binary(max_size=200))
def test_rubbish_after_the_magic_only_ever_raises_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes
) -> None:
    complaint(tmp_path_factory.getbasetemp() / "rubbish.gguf", b"GGUF" + rest)


@given(st.data())
def test_a_flipped_byte_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / "flipped.gguf"
    whole = bytearray(gguf())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(whole)
    try:
        assert verify_gguf(file).version in (2, 3)
    except ModelError as error:
        assert str(file) in str(error)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file '.*tiny\.gguf'"):
        verify_gguf(file)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        verify_gguf(tmp_path)
