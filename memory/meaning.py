"""What English words mean, as vectors, so that a question in other words than what was said is answered as well.

The vectors are WordLlama's (https://github.com/dleemiller/WordLlama, MIT): 256 numbers for each of 32,000 pieces of
words, made for this from the tables of larger models. Two files of its wheel are read; none of its code is run, and
nothing is fetched. What they make of other languages in Latin letters is little, other scripts are left out.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roost.errors import ConfigError
from roost.memory import words

if TYPE_CHECKING:
    import numpy as np

    Vector = np.ndarray[Any, np.dtype[np.float32]]

MODEL = "l2_supercat_256 1"  # part of what is stored: other vectors are made anew
SIZE = 256  # numbers of a vector
LEAST = 2  # words: fewer mean too much
LONGEST = 32  # characters of a word

INSTALL = '.venv/bin/pip install -e ".[vectors]"'
NEEDED = f"[memory] vectors = true needs the packages 'wordllama' and 'numpy'. Install them, in the checkout: {INSTALL}"

_TABLE, _PIECES = (
    Path("weights", "l2_supercat_256.safetensors"),
    Path("tokenizers", "l2_supercat_tokenizer_config.json"),
)
_LATIN = re.compile("[a-z]{2,}")


def content(text: str) -> list[str]:
    """The words that vectors are made of: in Latin letters, without those that every text has."""
    return [word[:LONGEST] for word in _LATIN.findall(words.fold(text)) if word not in words.STOP]


class Meaning:
    """Makes vectors of words. Read at first use, some 40 MB of memory with what numpy takes."""

    def __init__(self, home: Path) -> None:
        self._table = _table(home / _TABLE)
        self._known: dict[str, int] = json.loads((home / _PIECES).read_bytes())["model"]["vocab"]
        self._pieces = lru_cache(maxsize=8192)(self._cut)

    def vector(self, said: Iterable[str]) -> Vector | None:
        """The mean of words, of length 1; None when there are too few."""
        said = list(said)
        return self._mean([piece for word in said for piece in self._pieces(word)]) if len(said) >= LEAST else None

    def alike(self, asked: Sequence[str], said: Sequence[str]) -> float:
        """How much two texts mean the same beyond the words that both have, -1 to 1.

        What is the same in both, be it a part of a word, is for a search of words to judge: that "orchid" and
        "Orchard" begin alike, or that a church has an organ and a choir has a church, says nothing.
        """
        whole = self._cosine(self._all(asked), self._all(said))
        mine, theirs = {words.root(word) for word in asked}, {words.root(word) for word in said}
        first = self._all(word for word in asked if words.root(word) not in theirs)
        second = self._all(word for word in said if words.root(word) not in mine)
        both = set(first) & set(second)
        return min(whole, self._cosine([one for one in first if one not in both], [x for x in second if x not in both]))

    def _all(self, said: Iterable[str]) -> list[int]:
        return [piece for word in said for piece in self._pieces(word)]

    def _cosine(self, first: Sequence[int], second: Sequence[int]) -> float:
        one, other = self._mean(first), self._mean(second)
        return float(one @ other) if one is not None and other is not None else -1.0

    def _mean(self, pieces: Sequence[int]) -> Vector | None:
        if not pieces:
            return None
        mean: Vector = self._table[list(pieces)].mean(axis=0, dtype="float32")
        length = float(mean @ mean) ** 0.5
        return mean / length if length else None

    def _cut(self, word: str) -> tuple[int, ...]:
        """The known pieces of a word, as byte pair encoding joins them: the pair first that was learned first."""
        parts = ["▁", *word]
        while len(parts) > 1:
            joined = [self._known.get(a + b, len(self._known)) for a, b in pairwise(parts)]
            if (best := min(joined)) == len(self._known):
                break
            at = joined.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return tuple(self._known[part] for part in parts)


def _table(path: Path) -> np.ndarray[Any, np.dtype[np.float16]]:
    """The one table of a safetensors file (https://github.com/huggingface/safetensors), left on the disk."""
    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        (about,) = (one for name, one in json.loads(file.read(length)).items() if name != "__metadata__")
    begin, end = about["data_offsets"]
    if about["dtype"] != "F16" or about["shape"][1] != SIZE or end - begin != 2 * about["shape"][0] * SIZE:
        raise ConfigError(
            f"'{path}' has other vectors than were expected. Install them anew, in the checkout: {INSTALL}"
        )
    return np.memmap(path, np.float16, "r", 8 + length + begin, tuple(about["shape"]))


@lru_cache(maxsize=1)
def load() -> Meaning:
    """The vectors that are installed. Raises ConfigError when they are not."""
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("numpy") is None:
        raise ConfigError(NEEDED)
    try:
        return Meaning(Path(found.submodule_search_locations[0]))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The vectors of 'wordllama' cannot be read: {error}. Install them anew, in the checkout: {INSTALL}"
        ) from error
