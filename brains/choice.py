"""Which model, precision and context suit a machine, and what to do when the ones asked for do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from roost.brains.machine import Build, Machine
from roost.brains.models import Model, family, known, recommended
from roost.brains.plan import LEAST, PAGE, Plan, Wish, make
from roost.brains.shape import BITS, Shape, Tensor
from roost.gauges import in_words

# What one token may read of the weights where only a processor works: about ten tokens a second with the 30 GB/s
# that two channels of ordinary memory give.
READABLE = 3_000_000_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A model, and how it would run here."""

    model: Model
    plan: Plan


def offers(machine: Machine, build: Build, wish: Wish) -> list[Offer]:
    """Every model known by name, the largest first, with its plan."""
    models = chain(known().values(), recommended().values())
    plans = [Offer(one, make(shape, machine, build, wish)) for one in models if (shape := one.outline())]
    return sorted(plans, key=lambda offer: (offer.model.parameters, offer.model.size), reverse=True)


def best(found: Sequence[Offer]) -> Offer | None:
    """The largest model that fits and is not too slow, in the precision that its device is quick with.

    On a processor the weights that a token reads decide its speed, so four bits; a card has bandwidth to spare.
    One that leaves no room for prompts is taken only if all do.
    """
    quick = [
        offer
        for offer in found
        if offer.plan.fits
        and (is_on_card(offer.plan) or (offer.model.read <= READABLE and offer.model.precision == "int4"))
    ]
    most = max((offer.plan.prompts for offer in quick), default=0)
    return next((offer for offer in quick if offer.plan.prompts == most), None)


def is_on_card(plan: Plan) -> bool:
    """Whether a card holds all of a model."""
    return plan.device == "gpu" and plan.offloaded > len(plan.shape.layers)


def suitable(name: str, precision: str) -> str:
    """The file to use of a model that is published in several; another name stays as it is.

    Four bits unless something else is asked for: they fit where more do, and a processor reads them soonest.
    """
    files = family(name)
    return next((one.name for one in files if precision in {one.precision, "auto"}), name)


def refusal(shape: Shape, machine: Machine, build: Build, wish: Wish) -> str:
    """Why a model cannot run here at all, and what would; empty when it can.

    Prompts kept for later, the bot and the system can do with less, so only what is indispensable counts.
    """
    plan = make(shape, machine, build, wish)
    if plan.card or not 0 < plan.memory < plan.least:
        return ""
    return (
        f"'{shape.title}' with context = {plan.context} and slots = {plan.slots} needs {in_words(plan.least)} of "
        f"memory, and there are {in_words(plan.memory)}. {advice(shape, machine, build, wish)} See `roost model plan`."
    )


def largest_context(shape: Shape, machine: Machine, build: Build, wish: Wish) -> int:
    """The most tokens that fit, in whole pages, 0 when not even LEAST do."""
    low, high = 0, min(wish.context, shape.trained or wish.context) // PAGE
    while low < high:
        middle = (low + high + 1) // 2
        if make(shape, machine, build, replace(wish, context=middle * PAGE)).fits:
            low = middle
        else:
            high = middle - 1
    return low * PAGE if low * PAGE >= LEAST else 0


def advice(shape: Shape, machine: Machine, build: Build, wish: Wish) -> str:
    """What would fit instead, as sentences."""
    found = list(remedies(shape, machine, build, wish))
    return " ".join(found) or "Nothing that is known by name would fit: this machine has too little memory."


def remedies(shape: Shape, machine: Machine, build: Build, wish: Wish) -> Iterator[str]:
    for slots in dict.fromkeys((wish.slots, 1)):
        fewer = replace(wish, slots=slots)
        if context := largest_context(shape, machine, build, fewer):
            also = f", slots = {slots}" if slots != wish.slots else ""
            yield f"It would fit with context = {context}{also}."
            return
    smaller = requantized(shape)
    if smaller and make(smaller, machine, build, wish).fits:
        yield f"A four-bit file of the same model, of about {in_words(smaller.weights)}, would fit."
    offer = best(offers(machine, build, wish))
    if offer and offer.plan.shape.weights < shape.weights:
        yield f"The model '{offer.model.name}' would fit: it needs {in_words(offer.plan.needed)}."


def requantized(shape: Shape) -> Shape | None:
    """The same model in four bits, if it is not so already."""
    size = round(shape.parameters * BITS["int4"] / 8)
    if not shape.parameters or shape.weights < size * 1.25:
        return None
    tensors = tuple(one for one in shape.tensors if one.matrix)
    whole = sum(one.size for one in tensors) or 1
    return replace(shape, tensors=tuple(scaled(one, size / whole) for one in tensors))


def scaled(tensor: Tensor, by: float) -> Tensor:
    return replace(tensor, start=round(tensor.start * by), size=round(tensor.size * by))
