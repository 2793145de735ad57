"""How a model is run on a machine, and how much memory that takes. Arithmetic only: nothing here looks at anything.

The constants were measured on Linux, x86-64, with xllamacpp 2026.10; docs/models.md holds predictions next to
measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from roost.brains.machine import Build, Card, Machine
from roost.brains.shape import Layer, Shape, Tensor
from roost.gauges import MIB

Device = Literal["cpu", "gpu"]
Kept = Literal["f16", "q8_0"]

# A request that was cancelled stops between two batches: on a processor a small batch is as fast as a large
# one, and 128 tokens are over in half a second where 2048 would hold the slot for many.
BATCH: dict[Device, int] = {"cpu": 128, "gpu": 512}
# Writing a token with a small model is so little work that threads wait for each other longer than they work:
# one alone writes 79 tokens a second where two write 45. Reading a prompt still takes them all.
SMALL = 256 * MIB
# The engine rounds contexts up to this many tokens, and keeps one look back in so many at windows and states.
PAGE, LOOK_BACK = 256, 8192
# Bytes of a number that is kept: Q8_0 has 34 for 32.
BYTES: dict[Kept, float] = {"f16": 2.0, "q8_0": 34 / 32}
# Program and libraries; heap without any model; then for each token and merge of the tokenizer, layer and slot.
PROGRAM, HEAP, TOKEN, MERGE, LAYER, SLOT = 24.9e6, 19.7e6, 237, 217, 110e3, 270e3
# For each token that could come next, a slot holds its score, and an id and two numbers while it chooses.
CHOICE = 4 + 12
BOT = 64 * MIB
# The engine itself leaves so much of a card free.
CARD_MARGIN = 1024 * MIB
# Which types the processor's code copies into an order of its own, and the rows that must divide for it, by what
# it was compiled for: `ggml_repack_get_optimal_repack_type` in ggml-cpu/repack.cpp. Q4_0, Q4_K, IQ4_NL, MXFP4 ...
REPACKED = {
    "avx2": {2: 8, 12: 8, 20: 8, 39: 8},
    "avx512": {10: 8},
    "neon": {20: 4},
    "dotprod": {2: 4, 8: 4, 12: 8, 13: 8, 14: 8, 39: 4},
    "matmul_int8": {2: 4, 8: 4, 12: 8, 13: 8, 14: 8},
}
LEAST = 512


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `cache` is bytes for the beginnings of conversations; 0 threads is one for each core.

    With `kept` empty, numbers of 16 bits are kept of conversations if they fit, otherwise of 8.
    """

    context: int = 4096
    slots: int = 2
    threads: int = 0
    cache: int = 256 * MIB
    kept: Kept | None = None
    device: Literal["auto", "cpu", "gpu"] = "auto"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the reckoning: bytes, and how they come about."""

    name: str
    size: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run a model. `context` is for each of the `slots`; `writing` threads write, `threads` read prompts.

    `rows` are what the engine takes of the machine's memory, `on_card` what it takes of a card's, where `offloaded`
    layers are. `spare` is mapped from the file and not needed after loading: tools count it, but the system takes it
    back when it has use for it. `prompts` limits the prompts kept for later, which take `cache` at most. `room` is
    what there is for all of it.
    """

    shape: Shape
    device: Device
    context: int
    slots: int
    kept: Kept
    threads: int
    writing: int
    batch: int
    rows: tuple[Row, ...]
    prompts: int
    cache: int
    spare: int
    memory: int
    room: int
    on_card: tuple[Row, ...] = ()
    card: Card | None = None
    offloaded: int = 0

    @property
    def resident(self) -> int:
        """Bytes that a tool shows for the engine's process once its slots are full and no prompt is kept yet."""
        return sum(row.size for row in self.rows)

    @property
    def needed(self) -> int:
        """Bytes that must be there for the engine and the bot at their largest."""
        return self.least + self.cache + BOT

    @property
    def least(self) -> int:
        """Bytes without which the engine cannot work at all."""
        return self.resident - self.spare

    @property
    def fits(self) -> bool:
        """Where nobody knows how much memory there is, everything does."""
        return self.needed <= self.room or self.memory <= 0


def make(shape: Shape, machine: Machine, build: Build, wish: Wish) -> Plan:
    """The plan for a model. A context is cut to what the model was made for.

    Where memory is short, keys and values are kept in eight bits, which is hardly noticed; after that fewer prompts
    are kept for later, so that conversations in turns wait longer.
    """
    wish = replace(wish, context=min(wish.context, shape.trained or wish.context))
    plan = laid_out(shape, machine, build, wish, wish.kept or "f16")
    if wish.kept is None and not plan.fits and shape.blockwise:
        plan = laid_out(shape, machine, build, wish, "q8_0")
    if not plan.fits and wish.cache:
        left = wish.cache - (plan.needed - plan.room)
        plan = laid_out(shape, machine, build, replace(wish, cache=max(0, left // MIB * MIB)), plan.kept)
    return plan


def laid_out(shape: Shape, machine: Machine, build: Build, wish: Wish, kept: Kept) -> Plan:
    card = chosen(build, wish)
    device: Device = "gpu" if card else "cpu"
    threads = wish.threads or machine.cores
    batch = max(BATCH[device], wish.slots)
    working = compute(shape, wish.context, batch)
    own = card if card and not card.shared else None
    offloaded = offload(shape, own, wish, kept, working.size) if own else len(shape.layers) + 1 if card else 0
    # Where the card has memory of its own, only what is left of the layers stays in the machine's.
    here = shape.layers[: max(0, len(shape.layers) - offloaded)] if own else shape.layers
    there = shape.layers[len(here) :]
    types = {} if card else repacked(build.features)
    rows = (*weights(shape, types), *conversations(here, wish, kept, batch), working, overhead(shape, wish.slots))
    on_card = (moved(shape, offloaded), *conversations(there, wish, kept, batch), working) if own else ()
    return Plan(
        shape=shape,
        device=device,
        context=wish.context,
        slots=wish.slots,
        kept=kept,
        threads=threads,
        writing=1 if not wish.threads and shape.weights < SMALL else threads,
        batch=batch,
        rows=tuple(row for row in rows if row.size),
        prompts=wish.cache,
        cache=wish.cache and wish.cache + one_slot(shape, wish, kept, batch),
        spare=sum(row.size for row in on_card[:1]) if own else spare(shape, types),
        memory=machine.memory,
        room=room(machine),
        on_card=tuple(row for row in on_card if row.size),
        card=card,
        offloaded=offloaded,
    )


def chosen(build: Build, wish: Wish) -> Card | None:
    """The card to use: the one with most memory, unless none is wanted."""
    return None if wish.device == "cpu" else max(build.cards, key=lambda card: card.memory, default=None)


def room(machine: Machine) -> int:
    """What the engine and the bot may take: the system and other programs keep an eighth, 512 MB at most.

    A control group has no system in it: a thirty-second is left for what is not counted here.
    """
    kept = machine.memory // 32 if machine.limit != "machine" else min(512 * MIB, machine.memory // 8)
    return machine.memory - kept


# Weights


def repacked(features: frozenset[str]) -> dict[int, int]:
    """The types that the engine's code puts into another order, with the rows that must divide."""
    if "repack" not in features:
        return {}
    return {kind: rows for name in REPACKED if name in features for kind, rows in REPACKED[name].items()}


def is_copied(tensor: Tensor, types: dict[int, int], tied: bool) -> bool:
    """Whether a tensor is multiplied with, and kept in another order for it. Without an output matrix of its own a
    model uses the one of its vocabulary twice."""
    multiplied = tensor.name.startswith("blk.") or tensor.name == ("token_embd.weight" if tied else "output.weight")
    return multiplied and tensor.matrix and tensor.kind in types and tensor.rows % types[tensor.kind] == 0


def copies(shape: Shape, types: dict[int, int]) -> tuple[Tensor, ...]:
    tied = all(one.name != "output.weight" for one in shape.tensors)
    return tuple(one for one in shape.tensors if is_copied(one, types, tied))


def weights(shape: Shape, types: dict[int, int]) -> tuple[Row, Row]:
    """The file's tensors, mapped from the first to the last that is used as it is, and the copies of the others."""
    copied = set(copies(shape, types))
    used = [one for one in shape.tensors if one not in copied or one.name == "token_embd.weight"]
    start, end = min((one.start for one in used), default=0), max((one.start + one.size for one in used), default=0)
    return (
        Row("weights", end - start, f"mapped from the file ({shape.kinds})"),
        Row("repacked weights", sum(one.size for one in copied), "a copy in the order this processor likes"),
    )


def spare(shape: Shape, types: dict[int, int]) -> int:
    """What of the mapped file is not looked at again, because the engine uses the copy."""
    mapped, _ = weights(shape, types)
    copied = sum(one.size for one in copies(shape, types) if one.name != "token_embd.weight")
    outside = shape.weights - mapped.size
    return max(0, copied - outside)


def moved(shape: Shape, offloaded: int) -> Row:
    """The weights of the last layers, and of what comes after them, on a card."""
    first = len(shape.layers) + 1 - offloaded
    size = sum(
        one.size
        for one in shape.tensors
        if (number := layer_of(one, len(shape.layers))) is not None and number >= first
    )
    return Row("weights", size, f"{offloaded} of {len(shape.layers) + 1} layers")


# What is kept of conversations


def cells(layer: Layer, context: int, batch: int) -> int:
    """Tokens that a layer keeps of one conversation, as `llama_kv_cache_iswa` counts them."""
    whole = paged(context)
    return min(whole, paged(layer.window + batch)) if layer.window else whole


def paged(tokens: int) -> int:
    return -(-tokens // PAGE) * PAGE


def conversations(layers: Sequence[Layer], wish: Wish, kept: Kept, batch: int) -> tuple[Row, ...]:
    """What the layers keep for all slots, and what the engine keeps to look back where a layer forgets."""
    groups: dict[Layer, int] = {}
    for layer in layers:
        groups[layer] = groups.get(layer, 0) + 1
    rows = tuple(row for layer, count in groups.items() for row in group(layer, count, wish, kept, batch))
    windows, states = (sum(row.size for row in rows if row.name == name) for name in ("KV cache, window", "states"))
    looks = 1 + wish.context // LOOK_BACK
    size = windows * looks + states * (looks + 1)
    return (*rows, Row("look back", size, "what layers that forget would need to go back"))


def group(layer: Layer, count: int, wish: Wish, kept: Kept, batch: int) -> tuple[Row, Row]:
    """The rows of `count` layers that are alike."""
    tokens = cells(layer, wish.context, batch)
    each = (layer.keys + layer.values) * BYTES[kept]
    numbers = f"{count} layers x ({layer.keys:,} + {layer.values:,}) x {BYTES[kept]:g} bytes"
    name = "KV cache, window" if tokens < paged(wish.context) else "KV cache"
    return (
        Row(name, round(wish.slots * tokens * count * each), f"{wish.slots} x {tokens:,} tokens x {numbers}"),
        Row("states", wish.slots * count * layer.state, f"{wish.slots} x {count} layers x {layer.state:,} bytes"),
    )


def one_slot(shape: Shape, wish: Wish, kept: Kept, batch: int) -> int:
    """What a full slot keeps: the engine may hold one more than its limit while it lets another go."""
    return sum(row.size for row in conversations(shape.layers, wish, kept, batch)) // wish.slots


# The rest


def compute(shape: Shape, context: int, batch: int) -> Row:
    """Numbers on their way through a layer: twice the embedding, its widest place, and who may see whom."""
    windows = {cells(layer, context, batch) for layer in shape.layers} | {paged(context)}
    each = 2 * shape.embedding + shape.wide + sum(windows) // 2
    return Row("compute", 4 * batch * each, f"{batch} tokens x {each:,} numbers x 4 bytes")


def overhead(shape: Shape, slots: int) -> Row:
    """The program itself, its tokenizer, and what it needs for each layer and slot."""
    tokenizer = shape.vocabulary * TOKEN + shape.merges * MERGE
    slot = slots * (SLOT + shape.vocabulary * CHOICE)
    size = round(PROGRAM + HEAP + tokenizer + slot + LAYER * len(shape.layers))
    return Row("engine", size, f"the program, and a tokenizer of {shape.vocabulary:,} tokens")


# Cards


def layer_of(tensor: Tensor, depth: int) -> int | None:
    """The layer of a tensor, `depth` for what comes after the last, None for what stays with the processor."""
    if tensor.name.startswith("blk."):
        number = tensor.name.split(".")[1]
        return int(number) if number.isdecimal() else 0
    return depth if tensor.name.startswith("output") else None


def offload(shape: Shape, card: Card, wish: Wish, kept: Kept, working: int) -> int:
    """How many layers, counted from the last, fit on a card beside what else it must hold.

    The engine itself measures this again when it starts, and its count is the one that holds.
    """
    left = (card.free or card.memory) - CARD_MARGIN - working
    depth = len(shape.layers)
    sizes = [0] * (depth + 1)
    for one in shape.tensors:
        if (number := layer_of(one, depth)) is not None:
            sizes[min(number, depth)] += one.size
    for number, layer in enumerate(shape.layers):
        sizes[number] += sum(row.size for row in conversations((layer,), wish, kept, BATCH["gpu"]))
    count = 0
    while count <= depth and left >= sizes[depth - count]:
        left -= sizes[depth - count]
        count += 1
    return count
