"""A plan and its reckoning as lines for people. MB and GB are 1024 of the next smaller, as for `--memory 16G`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from roost.brains.machine import Build, Card, Machine
from roost.brains.plan import BOT, CARD_MARGIN, Plan, Row
from roost.gauges import in_words

KEPT = {"f16": "16 bits each", "q8_0": "8 bits each, because 16 would not fit"}


def report(machine: Machine, build: Build, plan: Plan, asked: bool = False) -> Iterator[str]:
    """The machine, the model, what was chosen, and the table of what it takes. `asked` is whether bits were."""
    shape = plan.shape
    yield f"Machine  {machine_line(machine, build)}"
    trained = f", made for {shape.trained:,} tokens" if shape.trained else ""
    told = "" if shape.measured else " (by its numbers, not its file)"
    parameters = f", {shape.parameters / 1e6:,.0f} million parameters" if shape.parameters else ""
    yield f"Model    {shape.title}: {len(shape.layers)} layers{parameters}{trained}{told}"
    threads = plural(plan.threads, "thread") + (f", {plan.writing} to write" if plan.writing != plan.threads else "")
    kept = KEPT["f16" if plan.kept == "f16" else "q8_0"] if not asked else plan.kept
    yield f"Plan     {where(plan)}: context {plan.context:,}, {plural(plan.slots, 'slot')}, keys and values {kept},"
    yield f"         {threads}, batches of {plan.batch}"
    yield ""
    yield from table(plan.rows)
    if plan.cache:
        yield from table([Row("prompt cache", plan.cache, "at most, for conversations that wait")])
    yield from table([Row("bot", BOT, "beside the engine")])
    if plan.spare:
        yield from table([Row("not needed", -plan.spare, "mapped and shown, but given back when memory is short")])
    yield from table([Row("sum", plan.needed), Row("there is", plan.room, limit(machine))])
    if plan.on_card and plan.card:
        yield ""
        yield f"  On {plan.card.name}; an estimate, the engine measures it again when it starts:"
        there = max(0, (plan.card.free or plan.card.memory) - CARD_MARGIN)
        sums = [Row("sum", sum(row.size for row in plan.on_card)), Row("there is", there, "with 1 GB left free")]
        yield from table([*plan.on_card, *sums])


def table(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        size = f"-{in_words(-row.size)}" if row.size < 0 else in_words(row.size)
        yield f"  {row.name:<17} {size:>9}  {row.why}".rstrip()


def where(plan: Plan) -> str:
    if plan.card is None:
        return "on the processor"
    if plan.card.shared:
        return f"on {plan.card.name}"
    return f"{plan.offloaded} of {len(plan.shape.layers) + 1} layers on {plan.card.name}"


def limit(machine: Machine) -> str:
    if machine.limit == "machine":
        return f"of {in_words(machine.memory)}; the system keeps some"
    return f"of {in_words(machine.memory)}, the limit of the {machine.limit}"


def machine_line(machine: Machine, build: Build) -> str:
    """The machine in one line, with the cards that the installed engine cannot use."""
    parts = [f"{plural(machine.cores, 'core')} ({plural(machine.threads, 'thread')})"]
    parts += [" ".join(machine.features)] if machine.features else []
    free = f", {in_words(machine.free)} of it free" if machine.free else ""
    parts += [f"{in_words(machine.memory)}{free}", cards_line(machine, build)]
    return "; ".join(parts)


def cards_line(machine: Machine, build: Build) -> str:
    if build.problem:
        return f"the engine cannot be loaded: {build.problem}"
    if build.cards:
        return ", ".join(card_words(card) for card in build.cards)
    if machine.cards:
        names = ", ".join(card_words(card) for card in machine.cards)
        return f"{names}, which this build of the engine cannot use"
    return "no graphics card"


def card_words(card: Card) -> str:
    return f"{card.name} with {in_words(card.memory)}{' of the same memory' if card.shared else ''}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def verdict(plan: Plan) -> str:
    """Whether a plan fits, in a sentence."""
    need, there = in_words(plan.needed), in_words(plan.room)
    if plan.fits:
        return f"It fits: {need} of {there}."
    return f"It does not fit: {need} are needed, and {there} may be used."
