"""Where the window begins. Pure arithmetic over token counts.

The window moves in steps: it fills until its cost exceeds `limit`, then falls to `floor`. Between two steps its
beginning does not change, so an engine that keeps the prompt's prefix has to read only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from roost.contracts import Turn

# Tokens a chat template puts around one turn: five in ChatML, Llama 3 and Gemma, and some room.
OVERHEAD = 8

# Chat templates want a user's turn first. This one goes before an assistant's when no user's turn is at hand.
STAND_IN = Turn(role="user", text="…", tokens=4)

# A turn is never cut to fewer tokens than these.
SHORTEST = 32

# The smallest window: the stand-in and one turn, cut short.
SMALLEST = STAND_IN.tokens + SHORTEST + 2 * OVERHEAD


@dataclass(frozen=True, slots=True)
class Start:
    """The index of the window's first turn, and the tokens that each turn is cut to, 0 for uncut."""

    index: int = 0
    cap: int = 0


def cost(turn: Turn, cap: int = 0) -> int:
    """Tokens that `turn` takes in a prompt."""
    return (min(turn.tokens, cap) if cap else turn.tokens) + OVERHEAD


def weigh(turns: Sequence[Turn], cap: int = 0) -> int:
    """Tokens that a window of `turns` takes in a prompt, its stand-in included."""
    return _weights(turns, cap)[0] if turns else 0


def _weights(turns: Sequence[Turn], cap: int = 0) -> list[int]:
    """For each turn, what a window weighs that begins with it."""
    sums = list(accumulate(cost(turn, cap) for turn in reversed(turns)))[::-1]
    return [total + (turn.role != "user") * cost(STAND_IN) for total, turn in zip(sums, turns, strict=True)]


def slide(turns: Sequence[Turn], limit: int, floor: int) -> Start:
    """Choose where a window begins that has become heavier than `limit`.

    In order of preference: the oldest user's turn from which everything weighs at most `floor`; the newest user's
    turn, if the window still stays within `limit`; the same with its long turns cut; the oldest turn of anyone,
    long turns cut. A tool's result is never parted from the call, unless nothing else fits. Needs at least one turn,
    and a floor of at least SMALLEST.
    """
    weights = _weights(turns)
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    for index in users:
        if weights[index] <= floor:
            return Start(index)
    if users and weights[users[-1]] <= limit:
        return Start(users[-1])
    if users and (cap := fit(turns[users[-1] :], floor)) >= SHORTEST:
        return Start(users[-1], cap)
    heads = [index for index, turn in enumerate(turns) if turn.role != "tool"]
    cap = floor - cost(STAND_IN) - OVERHEAD
    last = turns[heads[-1] :] if heads else []
    if last and weigh(last, cap) > floor and (tighter := fit(last, floor - cost(STAND_IN))) >= SHORTEST:
        cap = tighter
    fitting = [index for index, weight in enumerate(_weights(turns, cap)) if weight <= floor]
    return Start(next((index for index in fitting if index in heads), fitting[0]), cap)


def fit(turns: Sequence[Turn], room: int) -> int:
    """The largest number of tokens to cut each turn to so that all of them weigh at most `room`.

    Short turns leave what they do not need to the long ones. Negative when there is not even room for templates.
    """
    room -= OVERHEAD * len(turns)
    sizes = sorted(turn.tokens for turn in turns)
    for index, size in enumerate(sizes):
        share = room // (len(sizes) - index)
        if size > share:
            return share
        room -= size
    return max(sizes, default=0)
