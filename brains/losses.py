"""What a smaller model file lost, measured on texts against the file it stands in for.

Each text is read in windows, and the second half of each window is judged, as llama.cpp's `perplexity` does: by then
there is something to go by. The reference's whole distribution over the vocabulary is kept for every token judged, in
16 bits on disk, which adds less than 0.00001 to a divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from roost.brains.download import check_space
from roost.brains.reading import WINDOW, Reader, reader
from roost.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from roost.brains.library import Floats

    Numbers = NDArray[np.float64]

LEAST = 32  # tokens judged, below which nothing can be said
RUN = 32  # neighbouring tokens that are taken to depend on each other
ROWS = 32  # rows of the vocabulary at a time
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Text:
    """A text by a name that stands in the report."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One window of a text. Judged is what follows `tokens[start]`."""

    name: str
    tokens: list[int]
    start: int

    @property
    def judged(self) -> int:
        return len(self.tokens) - self.start - 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One file on the texts, a number for each token judged: surprise, that of the reference, KL divergence in nats.

    `agrees` is 1 where both hold the same token for the likeliest.
    """

    surprise: Numbers
    reference: Numbers
    divergence: Numbers
    agrees: Numbers

    def perplexity(self) -> Estimate:
        mean = estimate(self.surprise)
        return exponential(mean)

    def loss(self) -> Estimate:
        """How much higher the perplexity is than the reference's, as a share. Its error is that of the difference."""
        grown = exponential(estimate(self.surprise - self.reference))
        return Estimate(grown.value - 1, grown.error)

    def part(self, chosen: slice) -> Trial:
        return Trial(self.surprise[chosen], self.reference[chosen], self.divergence[chosen], self.agrees[chosen])


def estimate(values: Numbers) -> Estimate:
    """The mean, and its standard error from the means of runs of neighbours, since tokens depend on each other."""
    import numpy as np

    count = len(values) // RUN
    runs = values[: count * RUN].reshape(count, RUN).mean(axis=1) if count >= 8 else values
    return Estimate(float(values.mean()), float(np.std(runs, ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else 0.0)


def exponential(mean: Estimate) -> Estimate:
    import math

    value = math.exp(min(mean.value, 700.0))
    return Estimate(value, value * mean.error)


def cut(one: Reader, texts: Sequence[Text], limit: int) -> list[Piece]:
    """The windows of all texts, of at most `limit` tokens that the texts share evenly. Raises ModelError."""
    found = []
    for text in texts:
        tokens = one.tokens(text.content)[: limit // len(texts)]
        step = one.window - len(one.first)
        for begin in range(0, len(tokens), step):
            window = [*one.first, *tokens[begin : begin + step]]
            if len(window) >= 4:
                found.append(Piece(text.name, window, len(window) // 2 - 1))
    if sum(piece.judged for piece in found) < LEAST:
        raise ModelError(f"The text is too short to say anything: it takes {2 * LEAST} tokens at least. Give more.")
    return found


class Reference:
    """What the reference thinks of the texts, to hold other files against."""

    def __init__(self, one: Reader, pieces: list[Piece], file: Any, told: Told) -> None:
        import numpy as np

        self.path, self.pieces = one.path, pieces
        count = sum(piece.judged for piece in pieces)
        self._rows = np.memmap(file, np.float16, "w+", shape=(count, one.size))
        self.surprise = np.empty(count)
        place = 0
        for number, piece in enumerate(pieces, 1):
            rows = one.logarithms(piece.tokens, piece.start)
            self._rows[place : place + len(rows)] = np.maximum(rows, -60000.0)
            self.surprise[place : place + len(rows)] = surprises(rows, piece)
            place += len(rows)
            told(number, len(pieces))

    def parts(self) -> dict[str, slice]:
        """Which of the tokens judged are of which text."""
        found: dict[str, slice] = {}
        place = 0
        for piece in self.pieces:
            begin = found[piece.name].start if piece.name in found else place
            place += piece.judged
            found[piece.name] = slice(begin, place)
        return found

    def judge(self, path: Path, told: Told = lambda done, total: None) -> Trial:
        """Have another file read the same. Raises ModelError when it is not the same model."""
        import numpy as np

        surprise, divergence, agrees = (np.empty(len(self.surprise)) for _ in range(3))
        with reader(path, max(len(piece.tokens) for piece in self.pieces)) as one:
            self._check(one)
            place = 0
            for number, piece in enumerate(self.pieces, 1):
                rows = one.logarithms(piece.tokens, piece.start)
                here = slice(place, place := place + len(rows))
                surprise[here] = surprises(rows, piece)
                divergence[here], agrees[here] = self._against(rows, here)
                told(number, len(self.pieces))
        return Trial(surprise, self.surprise, divergence, agrees)

    def _against(self, rows: Floats, here: slice) -> tuple[Numbers, Numbers]:
        import numpy as np

        divergence, agrees = np.empty(len(rows)), np.empty(len(rows))
        for first in range(0, len(rows), ROWS):
            some = slice(first, first + ROWS)
            mine = self._rows[here][some].astype(np.float32)
            mine -= np.log(np.exp(mine).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
            divergence[some] = (np.exp(mine) * (mine - rows[some])).sum(axis=1, dtype=np.float64)
            agrees[some] = mine.argmax(axis=1) == rows[some].argmax(axis=1)
        return divergence, agrees

    def _check(self, one: Reader) -> None:
        text = self.pieces[0].tokens
        if one.size != self._rows.shape[1] or one.first != text[: len(one.first)]:
            raise ModelError(
                f"'{one.path}' and '{self.path}' have different vocabularies: they are not the same model."
            )


def surprises(rows: Floats, piece: Piece) -> Numbers:
    """How little each token that came was expected: the negative logarithm of its probability."""
    import numpy as np

    return -rows[np.arange(len(rows)), piece.tokens[piece.start + 1 :]].astype(np.float64)


@contextmanager
def reference(
    path: Path, texts: Sequence[Text], folder: Path, limit: int, told: Told = lambda done, total: None
) -> Iterator[Reference]:
    """Have the reference read. What it thinks is kept in a file in `folder` that vanishes. Raises ModelError."""
    with TemporaryFile(dir=folder) as file:
        with reader(path, WINDOW) as one:
            pieces = cut(one, texts, limit)
            check_space(folder, 2 * one.size * sum(piece.judged for piece in pieces))
            read = Reference(one, pieces, file, told)
        yield read
