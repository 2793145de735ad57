"""What is done in a process of its own: model files made and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from roost.brains.apart import Report
from roost.brains.download import check_space
from roost.brains.gguf import verify_gguf
from roost.brains.losses import Estimate, Text, Told, Trial, estimate, reference
from roost.brains.mixing import Budget, Mixer, Mixture
from roost.brains.recipes import USUAL, average_bits, check_source, described, uniform
from roost.brains.rewriting import Layout, read_layout, rewrite, size_with


def step(report: Report, name: str) -> Told:
    return lambda done, total: report(name, done, total)


def write(report: Report, source: str, target: str, precision: str, kind: str, requantize: bool) -> dict[str, Any]:
    """One type for all matrices."""
    layout = prepared(Path(source), requantize)
    return written(report, layout, Path(target), uniform(layout, kind or USUAL[precision]))


def mix(
    report: Report,
    source: str,
    target: str,
    kind: str,
    keep: str,
    size: int,
    loss: float,
    texts: Sequence[tuple[str, str]],
    tokens: int,
    folder: str,
    requantize: bool,
) -> dict[str, Any]:
    """Two types, shared out by what each part was measured to suffer."""
    layout = prepared(Path(source), requantize)
    mixer = Mixer(layout, kind or USUAL["mixed"], keep, Path(folder))
    told = step(report, "Measuring parts")
    mixture = mixer.mix([Text(*one) for one in texts], tokens, Budget(size, loss), told)
    return written(report, layout, Path(target), mixture.kinds) | outcome(mixture)


def compare(
    report: Report,
    reference_path: str,
    others: Sequence[str],
    texts: Sequence[tuple[str, str]],
    tokens: int,
    folder: str,
) -> dict[str, Any]:
    """Hold files against a reference."""
    given_texts = [Text(*one) for one in texts]
    path = Path(reference_path)
    with reference(path, given_texts, Path(folder), tokens, step(report, f"Reading with {path.name}")) as given:
        parts = given.parts()
        files = [verdict(path, as_trial(given.surprise), parts)]
        for name in others:
            trial = given.judge(Path(name), step(report, f"Reading with {Path(name).name}"))
            files.append(verdict(Path(name), trial, parts))
    return {"judged": len(given.surprise), "files": files}


def as_trial(surprise: Any) -> Trial:
    """The reference held against itself."""
    return Trial(surprise, surprise, 0 * surprise, 0 * surprise + 1)


def prepared(source: Path, requantize: bool) -> Layout:
    layout = read_layout(source)
    check_source(layout, requantize)
    return layout


def written(report: Report, layout: Layout, target: Path, kinds: dict[str, int]) -> dict[str, Any]:
    size = size_with(layout, kinds)
    check_space(target.parent, size)
    rewrite(layout, target, kinds, step(report, f"Writing {target.name}"))
    verify_gguf(target)
    return {"size": size, "kinds": described(kinds.values()), "bits": average_bits(layout, kinds)}


def outcome(mixture: Mixture) -> dict[str, Any]:
    parts = [
        {
            "name": one.part.name,
            "divergence": pair(one.divergence),
            "bytes": one.part.high - one.part.low,
            "kept": one.part.name in mixture.chosen,
        }
        for one in mixture.ranked
    ]
    return {"loss": pair(mixture.loss), "divergence": pair(mixture.divergence), "parts": parts}


def verdict(path: Path, trial: Trial, parts: dict[str, slice]) -> dict[str, Any]:
    layout = read_layout(path)
    return {
        "path": str(path),
        "size": path.stat().st_size,
        "kinds": described(one.kind for one in layout.tensors if len(one.sizes) > 1),
        "bits": average_bits(layout),
        **judged(trial),
        "texts": {name: judged(trial.part(chosen)) for name, chosen in parts.items()},
    }


def judged(trial: Trial) -> dict[str, Any]:
    import numpy as np

    return {
        "tokens": len(trial.surprise),
        "perplexity": pair(trial.perplexity()),
        "loss": pair(trial.loss()),
        "divergence": pair(estimate(trial.divergence)),
        "divergence_99": float(np.quantile(trial.divergence, 0.99)),
        "agreement": pair(estimate(trial.agrees)),
    }


def pair(one: Estimate) -> list[float]:
    return [one.value, one.error]


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"write": write, "mix": mix, "compare": compare}
