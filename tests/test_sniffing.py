from __future__ import annotations

from random import Random

import pytest
from kit import samples

from roost.sniffing import MEASURES, STARTS, form_of, pixels, seconds

PICTURES = {
    "png": (samples.png(640, 480), "image/png", (640, 480)),
    "gif": (samples.gif(320, 200), "image/gif", (320, 200)),
    "jpeg": (samples.jpeg(4000, 3000), "image/jpeg", (4000, 3000)),
    "progressive jpeg": (samples.jpeg(17, 65535, progressive=True), "image/jpeg", (17, 65535)),
    "webp": (samples.webp(16384, 1), "image/webp", (16384, 1)),
    "webp without loss": (samples.webp(100, 16383, "VP8L"), "image/webp", (100, 16383)),
    "webp with loss": (samples.webp(1000, 500, "VP8 "), "image/webp", (1000, 500)),
}
OTHERS = {
    "ogg": (samples.ogg(1), "audio/ogg"),
    "wav": (samples.wav(0.1), "audio/wav"),
    "flac": (samples.flac(1), "audio/flac"),
    "amr": (b"#!AMR\n\x3c", "audio/amr"),
    "script": (b"#!/bin/sh\nrm -rf ~", "text/x-script"),
    "m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\0\0", "video/mp4"),
    "heic": (b"\0\0\0\x20ftypheic\0\0\0\0", "image/heic"),
    "page": (b"\xef\xbb\xbf \n<!DOCTYPE html><p>", "text/html"),
    "page in UTF-16": ("\ufeff<html>".encode("utf-16-le"), "text/html"),
    "page with a drawing": (b"<html><svg>", "text/html"),
    "drawing": (b"<?xml version='1.0'?>\n<svg onload='alert(1)'/>", "image/svg+xml"),
    "zip": (b"PK\x03\x04\x14", "application/zip"),
    "elf": (b"\x7fELF\x02", "application/x-elf"),
    "pdf": (b"%PDF-1.7", "application/pdf"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_known_and_measured_by_its_header(name: str) -> None:
    content, mime, size = PICTURES[name]
    form = form_of(content)
    assert form is not None and (form.mime, form.sort) == (mime, "image")
    assert pixels(content) == size


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_picture_is_known_for_what_it_is(name: str) -> None:
    content, mime = OTHERS[name]
    form = form_of(content)
    assert form is not None and form.mime == mime
    assert pixels(content) is None


@pytest.mark.parametrize("content", [b"", b"tea", b"RIFF", b"RIFF1234AVI ", b"hello <svg>", bytes(100)])
def test_what_is_not_in_the_table_is_nothing(content: bytes) -> None:
    assert form_of(content) is None


def test_a_picture_that_is_cut_off_or_damaged_has_no_size_or_a_small_one(seed: int = 5) -> None:
    """Whatever the bytes, there is an answer: none of this may raise, or take long."""
    chance = Random(seed)
    for content, _, _ in PICTURES.values():
        for end in range(len(content)):
            pixels(content[:end])
        for _ in range(300):
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            found = pixels(bytes(damaged))
            assert found is None or min(found) > 0, seed


def test_a_jpeg_of_nothing_but_empty_parts_ends() -> None:
    assert pixels(b"\xff\xd8" + b"\xff\xe0\0\x02" * 500_000 + samples.jpeg()[2:]) is None
    assert pixels(b"\xff\xd8" + b"\xff" * 100_000) is None
    assert pixels(b"\xff\xd8\xff\xe0\0\0") is None, "a part without a length is no part"


@pytest.mark.parametrize("make", [samples.ogg, samples.wav, samples.flac], ids=lambda one: str(one.__name__))
def test_a_recording_says_how_long_it_is(make: samples.Recorder) -> None:
    assert seconds(make(3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize("content", [b"", b"OggS", b"ID3", b"RIFF1234WAVE", b"fLaC", b"\0\0\0\x20ftypM4A ", b"x" * 99])
def test_a_recording_that_is_damaged_has_no_length(content: bytes) -> None:
    assert seconds(content) is None


def test_every_form_that_is_measured_is_in_the_table() -> None:
    known = {form.mime for form in STARTS.values()} | {"image/webp"}
    assert set(MEASURES) <= known
