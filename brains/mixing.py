"""A recipe of two types for one model: the parts that suffer most keep more bits, as far as a budget reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.brains.losses import Estimate, Reference, Text, Told, estimate
from roost.brains.recipes import KINDS, uniform
from roost.brains.rewriting import Layout, rewrite, size_with
from roost.brains.sensitivity import Damage, affordable, damages, parts, raised, whole, with_raised
from roost.errors import ModelError


@dataclass(frozen=True, slots=True)
class Budget:
    """What a mixed file may have: `size` bytes, or a perplexity higher by the share `loss`. 0 is no limit."""

    size: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """Types by tensor, the parts in the order of their worth, how many of them keep more bits, and the loss then."""

    kinds: dict[str, int]
    ranked: tuple[Damage, ...]
    chosen: frozenset[str]
    loss: Estimate
    divergence: Estimate


class Mixer:
    """Tries mixtures of one model against its whole self."""

    def __init__(self, source: Layout, low: str, keep: str, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.low = uniform(source, low, output=False)
        self.high = raised(source, self.low, KINDS[keep])
        self.parts = parts(source, self.low, self.high)
        self.least = size_with(source, self.low)

    def mix(self, texts: Sequence[Text], limit: int, budget: Budget, told: Told) -> Mixture:
        """Measure every part, then choose. Raises ModelError when no mixture keeps to the budget."""
        if budget.size and budget.size < self.least:
            raise ModelError(
                f"No mixture is as small as {budget.size:,} bytes: with everything at the low type the file has "
                f"{self.least:,}. Allow that much, or choose a smaller --type."
            )
        with whole(self.source, texts, self.folder, limit, told) as (layout, given):
            ranked = damages(layout, given, self.low, self.parts, told)
            if budget.size:
                names = [part.name for part in affordable(ranked, self.least, budget.size)]
                return self.tried(ranked, names, given)
            return self.search(ranked, budget.loss, given)

    def search(self, ranked: list[Damage], loss: float, given: Reference) -> Mixture:
        """The smallest number of raised parts, in the order of their worth, that keeps the loss low enough.

        The loss counts with one standard error on top, and is measured on the file as the engine will run it.
        """
        order = [one.part.name for one in ranked]
        best = self.tried(ranked, order, given)
        if best.loss.value + best.loss.error > loss:
            raise ModelError(
                f"No mixture loses as little as {100 * loss:g} %: with everything at the high type the loss is "
                f"{100 * best.loss.value:.2f} ± {100 * best.loss.error:.2f} %. Allow more, or use --keep f16."
            )
        least, most = 0, len(order)
        while least < most:
            middle = (least + most) // 2
            one = self.tried(ranked, order[:middle], given)
            if one.loss.value + one.loss.error <= loss:
                best, most = one, middle
            else:
                least = middle + 1
        return best

    def tried(self, ranked: list[Damage], names: Sequence[str], given: Reference) -> Mixture:
        """A mixture written, read with, and deleted again."""
        chosen = frozenset(names)
        kinds = with_raised(self.low, self.high, [part for part in self.parts if part.name in chosen])
        path = self.folder / "tried.gguf"
        rewrite(self.source, path, kinds)
        try:
            trial = given.judge(path)
        finally:
            path.unlink()
        return Mixture(kinds, tuple(ranked), chosen, trial.loss(), estimate(trial.divergence))
