"""What smaller files lose: held against sums by hand, against the engine's own answers, and against real models."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aiohttp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_llama import BYTES, small_llama
from tiny_gguf import gguf

from roost.brains import jobs
from roost.brains.apart import unheard
from roost.brains.engine import KEY
from roost.brains.evaluate import evaluate
from roost.brains.losses import Reference, Text, Trial, cut, estimate, reference
from roost.brains.plot import Point, axis, plot
from roost.brains.process import EngineProcess
from roost.brains.reading import Reader, reader
from roost.brains.speed import speed
from roost.errors import ModelError, RoostError

TEXT = "The owl sat in the oak; the more it saw the less it spoke, and the less it spoke the more it heard. " * 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("models") / "small.gguf")


def smaller(source: Path, target: Path, kind: str, *, requantize: bool = False) -> Path:
    jobs.write(unheard, str(source), str(target), "int4", kind, requantize)
    return target


def tried(source: Path, other: Path, folder: Path, *, limit: int = 300, text: str = TEXT) -> Trial:
    with reference(source, [Text("owl", text)], folder, limit) as held:
        return held.judge(other)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_a_file_loses_nothing_against_itself(small: Path, tmp_path: Path) -> None:
    trial = tried(small, small, tmp_path)
    assert abs(trial.divergence).max() < 1e-5
    assert trial.agrees.all()
    assert trial.loss().value == 0


def test_fewer_bits_lose_more(small: Path, tmp_path: Path) -> None:
    lost = [
        estimate(tried(small, smaller(small, tmp_path / kind, kind), tmp_path).divergence).value
        for kind in ("q8_0", "q5_0", "q4_0")
    ]
    assert 0 < lost[0] < lost[1] < lost[2]


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large(tmp_path: Path) -> None:
    blank = small_llama(tmp_path / "blank.gguf", loudness=0.0, vocabulary=BYTES + 10)
    trial = tried(blank, blank, tmp_path)
    assert trial.perplexity().value == pytest.approx(BYTES + 10, rel=1e-5)
    assert trial.perplexity().error == pytest.approx(0, abs=1e-3)


def test_the_figures_are_those_of_the_definitions(small: Path, tmp_path: Path) -> None:
    other = smaller(small, tmp_path / "q4", "q4_0")
    trial = tried(small, other, tmp_path, limit=120)
    surprise, divergence, agrees = by_hand(small, other, 120)
    assert trial.surprise == pytest.approx(surprise, abs=1e-4)
    assert trial.divergence == pytest.approx(divergence, rel=2e-3, abs=1e-5)
    assert list(trial.agrees) == agrees


def by_hand(one: Path, other: Path, count: int) -> tuple[list[float], list[float], list[float]]:
    """Surprise of the other file, KL divergence and agreement, token by token in plain floating point."""
    with reader(one) as first, reader(other) as second:
        tokens = first.tokens(TEXT)[:count]
        start = count // 2 - 1
        rows = [
            (list(map(float, a)), list(map(float, b)))
            for a, b in zip(first.logarithms(tokens, start), second.logarithms(tokens, start), strict=True)
        ]
    surprise = [-mine[token] for (_, mine), token in zip(rows, tokens[start + 1 :], strict=True)]
    divergence = [sum(math.exp(p) * (p - q) for p, q in zip(whole, mine, strict=True)) for whole, mine in rows]
    agrees = [float(whole.index(max(whole)) == mine.index(max(mine))) for whole, mine in rows]
    return surprise, divergence, agrees


async def test_what_is_read_here_is_what_the_engine_answers(model: Path) -> None:
    """The default model through C functions, against the same through the engine's own server."""
    with reader(model) as one:
        tokens = one.tokens("The capital of France is Paris, and the capital of Italy is")
        mine = one.logarithms([*tokens, 0], len(tokens) - 1)[0]
    assert abs(np.exp(mine, dtype=np.float64).sum() - 1) < 1e-4
    for token, logarithm in (await answered(model, tokens)).items():
        assert mine[token] == pytest.approx(logarithm, abs=0.05)


async def answered(path: Path, tokens: list[int]) -> dict[int, float]:
    """The likeliest next tokens and their logarithms, as the engine's server tells them."""
    key = secrets.token_urlsafe(8)
    options = ["--port", "0", "--context", "256", "--slots", "1", "--cache-ram", "0", "--watch-stdin"]
    engine = EngineProcess(["--model-path", str(path), *options], {KEY: key})
    await engine.start()
    try:
        body = {"prompt": tokens, "n_predict": 1, "n_probs": 8, "temperature": 0.0}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
            session.post(f"{engine.address}/completion", json=body) as answer,
        ):
            told = await answer.json()
    finally:
        await engine.stop()
    found = {one["id"]: one["logprob"] for one in told["completion_probabilities"][0]["top_logprobs"]}
    assert len(found) == 8
    return found


def test_eight_bits_of_the_default_model_lose_little_and_four_lose_more(model: Path, tmp_path: Path) -> None:
    text = "\n".join(Path(__file__).read_text(encoding="utf-8").splitlines()[:60])
    whole = smaller(model, tmp_path / "f16.gguf", "f16", requantize=True)
    with reference(whole, [Text("code", text)], tmp_path, 192) as held:
        eight, four = (held.judge(smaller(whole, tmp_path / kind, kind)) for kind in ("q8_0", "q4_0"))
    assert estimate(eight.divergence).value < 0.03 < estimate(four.divergence).value
    assert abs(eight.loss().value) < 0.1
    assert estimate(eight.agrees).value > 0.9


def test_an_error_is_larger_where_neighbours_resemble_each_other() -> None:
    mixed = np.tile([0.0, 1.0], 512)
    runs = np.repeat(np.tile([0.0, 1.0], 8), 64)
    assert estimate(mixed).value == estimate(runs).value == 0.5
    assert estimate(mixed).error == pytest.approx(0, abs=1e-9)
    assert estimate(runs).error == pytest.approx(0.5 / math.sqrt(32), rel=0.05)
    few = np.array([1.0, 2.0, 3.0])
    assert estimate(few).error == pytest.approx(1 / math.sqrt(3))


class Splitter:
    """As much of a reader as cutting texts takes: a token for each letter."""

    def __init__(self, window: int, first: list[int]) -> None:
        self.window, self.first = window, first

    def tokens(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=3),
    st.integers(8, 64),
    st.sampled_from([[], [1]]),
    st.integers(64, 900),
)
def test_windows_hold_the_text_in_order_and_judge_no_token_twice(
    lengths: list[int], window: int, first: list[int], limit: int
) -> None:
    texts = [
        Text(str(number), "".join(chr(1000 + place) for place in range(size))) for number, size in enumerate(lengths)
    ]
    try:
        found = cut(Splitter(window, first), texts, limit)  # type: ignore[arg-type]
    except ModelError:
        return
    for text in texts:
        mine = [piece for piece in found if piece.name == text.name]
        read = [token for piece in mine for token in piece.tokens[len(first) :]]
        assert read == list(map(ord, text.content))[: len(read)]
        assert len(read) <= limit // len(texts)
    assert all(piece.tokens[: len(first)] == first and len(piece.tokens) <= window for piece in found)
    assert all(0 < piece.judged <= (len(piece.tokens) + 1) // 2 for piece in found)


def test_files_of_different_models_are_not_compared(small: Path, tmp_path: Path) -> None:
    other = small_llama(tmp_path / "other.gguf", vocabulary=BYTES + 20)
    with pytest.raises(ModelError, match="different vocabularies"):
        tried(small, other, tmp_path)


def test_a_text_too_short_and_a_disk_too_small_are_said(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="too short"):
        tried(small, small, tmp_path, text="Owl.")
    monkeypatch.setattr("roost.brains.download.shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(ModelError, match="needs"):
        tried(small, small, tmp_path)


def test_weights_that_make_no_numbers_are_said(tmp_path: Path) -> None:
    broken = small_llama(tmp_path / "broken.gguf", spoil="blk.0.attn_q.weight")
    with pytest.raises(ModelError, match="no numbers"):
        tried(broken, broken, tmp_path)


def test_the_command_shows_a_table_for_people_and_the_same_as_json(small: Path, tmp_path: Path) -> None:
    other = smaller(small, tmp_path / "tiny.gguf", "q4_0")
    (tmp_path / "owl.txt").write_text(TEXT)
    (tmp_path / "bird.txt").write_text(TEXT.replace("owl", "jay"))
    texts = ("--text", tmp_path / "owl.txt", "--text", tmp_path / "bird.txt", "--no-speed")
    shown = run(small, other, *texts, "--plot", tmp_path / "plot.svg").output
    told: dict[str, Any] = json.loads(run(small, other, *texts, "--json").output)
    first, second = told["files"]
    assert [first["size"], second["size"]] == [small.stat().st_size, other.stat().st_size]
    assert first["loss"] == [0, 0] and second["kinds"] == "Q4_0, Q8_0"
    assert set(second["texts"]) == {"owl.txt", "bird.txt"}
    assert sum(part["tokens"] for part in second["texts"].values()) == told["judged"]
    for figure in ("tiny.gguf", f"{second['perplexity'][0]:.2f}", f"{100 * second['loss'][0]:.2f} ±"):
        assert figure in shown
    drawing = ElementTree.fromstring((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 2


def test_what_cannot_be_compared_is_said_in_a_sentence(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_bytes(b"I am no model")
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    (tmp_path / "latin").write_bytes(b"caf\xe9" * 100)
    wrong = {
        "does not begin like a GGUF file": (small, tmp_path / "text.gguf"),
        "is of a kind the engine does not know": (small, tmp_path / "tiny.gguf"),
        "There is no model file": (small, tmp_path / "absent.gguf"),
        "not in UTF-8": (small, small, "--text", tmp_path / "latin"),
        "cannot be read": (small, small, "--text", tmp_path / "absent.txt"),
    }
    for sentence, arguments in wrong.items():
        error = run(*arguments, "--no-speed", "--tokens", 256).exception
        assert isinstance(error, RoostError) and sentence in str(error)


def test_the_engine_is_timed(small: Path) -> None:
    found = asyncio.run(speed(small, 1))
    assert found.prompt > 0 and found.answer > 0


def test_a_plot_has_all_points_inside_and_writes_names_as_text() -> None:
    points = [Point("<a & b>", 98.4, 0.3, 0.1), Point("c", 270.9, 0, 0), Point("d", 91.7, 21.4, 1.7)]
    root = ElementTree.fromstring(plot("loss", points, "MB", "%"))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    assert all(0 < float(one.attrib["cx"]) < 760 and 0 < float(one.attrib["cy"]) < 440 for one in circles)
    assert "<a & b>" in [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]


@given(st.lists(st.floats(-1e6, 1e9), min_size=1, max_size=5))
@example([5e-324])
@example([1e9, 1e9 - 1e-7])
def test_an_axis_has_all_values_and_few_marks(values: list[float]) -> None:
    made = axis(values, 0.0, 100.0)
    assert made.marks[0] <= min(values) + 1e-6 and made.marks[-1] >= max(values) - 1e-6
    assert 2 <= len(made.marks) <= 12


def test_parts_of_a_trial_are_those_of_their_text(small: Path, tmp_path: Path) -> None:
    with reference(small, [Text("one", TEXT), Text("two", TEXT[:150])], tmp_path, 600) as held:
        pieces, found = held.pieces, held.parts()
        assert isinstance(held, Reference)
    assert found["one"] == slice(0, sum(piece.judged for piece in pieces if piece.name == "one"))
    assert found["two"].stop == sum(piece.judged for piece in pieces)


def test_reading_forgets_what_was_read_before(small: Path) -> None:
    with reader(small) as one:
        assert isinstance(one, Reader)
        tokens = one.tokens(TEXT)[:64]
        first = one.logarithms(tokens, 10)
        one.logarithms(one.tokens(TEXT[::-1])[:80], 10)
        assert np.array_equal(one.logarithms(tokens, 10), first)
