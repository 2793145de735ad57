"""Token counts of turns: how many, and cutting a turn down to some."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from roost.contracts import Count, Turn
from roost.memory.sliding import OVERHEAD, SHORTEST, cost
from roost.memory.words import cut as index_words

# Turns counted at a time: enough to keep an engine in another process busy.
BATCH = 16

CUT = "\n[… cut …]\n"


async def measure(turns: Mapping[int, Turn], cap: int, limit: int, count: Count) -> dict[int, Turn]:
    """Count turns that are not, newest first, and stop when together they weigh more than `limit`.

    Returns the turns looked at, counted, oldest first: all of them, or the newest that exceed the limit.
    """
    newest = iter(reversed(list(turns.items())))
    seen: dict[int, Turn] = {}
    weight = 0
    while weight <= limit and (batch := list(islice(newest, BATCH))):
        seen |= await _counted(dict(batch), count)
        weight += sum(cost(seen[number], cap) for number, _ in batch)
    return dict(reversed(list(seen.items())))


async def _counted(batch: dict[int, Turn], count: Count) -> dict[int, Turn]:
    new = [(number, turn) for number, turn in batch.items() if not turn.tokens]
    if new:
        tokens = await asyncio.gather(*(count(words(turn)) for _, turn in new))
        batch |= {number: replace(turn, tokens=max(1, n)) for (number, turn), n in zip(new, tokens, strict=True)}
    return batch


def words(turn: Turn) -> str:
    """Everything of a turn that a prompt holds: its text, and the calls of tools in it."""
    return " ".join([turn.text, *(f"{call.name} {call.arguments}" for call in turn.calls)])


def guess(turn: Turn) -> int:
    """The tokens of a turn, roughly where nobody counted them."""
    return turn.tokens or len(words(turn)) // 3


async def estimate(text: str) -> int:
    """Tokens in a text, from above, where no engine is at hand."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


async def narrow(turns: Sequence[Turn], query: str, room: int, count: Count) -> list[Turn]:
    """Those of `turns` that fit `room` tokens: the one with most words of `query`, then its neighbours.

    When not even that one fits, it is cut.
    """
    asked = set(index_words(query))
    counted = [replace(turn, tokens=turn.tokens or max(1, await count(words(turn)))) for turn in turns]
    shared = [len(asked.intersection(index_words(turn.text))) for turn in counted]
    best = max(range(len(counted)), key=lambda index: shared[index])
    if cost(counted[best]) > room:
        short = room - OVERHEAD
        return [await cut(counted[best], short, count)] if short >= SHORTEST else []
    chosen: list[int] = []
    for index in sorted(range(len(counted)), key=lambda index: abs(index - best)):
        room -= cost(counted[index])
        if room < 0:
            break
        chosen.append(index)
    return [counted[index] for index in sorted(chosen)]


async def cut(turn: Turn, cap: int, count: Count) -> Turn:
    """A copy of `turn` of at most `cap` tokens: two thirds from its beginning, one from its end."""
    keep = len(turn.text) * max(0, cap) // turn.tokens
    while keep:
        text = turn.text[: keep - keep // 3] + CUT + turn.text[len(turn.text) - keep // 3 :]
        tokens = await count(text)
        if tokens <= cap:
            return replace(turn, text=text, tokens=tokens)
        keep = keep * max(1, min(9, 10 * cap // tokens)) // 10
    return replace(turn, text=CUT.strip(), tokens=min(cap, await count(CUT.strip())))
