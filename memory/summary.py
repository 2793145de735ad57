"""The summary of what is older than the window: by the brain where its words will do, else an extract."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from roost.contracts import Action, Brain, Call, Count, Piece, Prompt, Turn
from roost.memory.check import INSTRUCTION, circular, faults, missing
from roost.memory.counting import cut
from roost.memory.extract import ASSISTANT, compose, extract, lighter, name, read, spoken
from roost.memory.sentences import END, shorten, sound, tidy
from roost.memory.sliding import OVERHEAD, SHORTEST

CONVERSATION = "compaction"
# The share of the context that an answer, and so a summary, may have: beside it stand the summary before, which is as
# long, and the conversation.
SHARE = 4
# Fewer tokens than these hold no sentence.
LEAST = 16
# Characters of a tool's result that a brain is shown.
TOOL = 200
# An answer is checked for running in circles each time it has grown by these characters, in its last ones.
STEP, TAIL = 200, 400
# More characters than these for a token that was asked for, and the brain does not keep to its limit.
WIDEST = 24
# Pieces of an answer may be empty, but not without end.
IDLE = 1000

BEFORE, SINCE, AFTER = "Summary so far:", "Conversation:", "Summary:"
PREAMBLE = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|okay|ok)[,!.]*\s*)?"
    r"(?:(?:here(?:'s| is| are)|this is|below is)[^\n:]{0,60}(?:summary|notes|conversation)[^\n:]{0,60}:|"
    r"\W{0,4}(?:updated |new |brief )?summary\W{0,4}[:：]\W{0,3}\s)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for a part of a conversation.

    `note` says why the brain's words were not taken, for a person to read; no word of the conversation is in it.
    """

    text: str
    action: Action
    note: str = ""


class Unfit(Exception):
    """Says why what the brain wrote, or can write, will not do."""


async def summarise(earlier: str, turns: Sequence[Turn], room: int, brain: Brain) -> Summary:
    """Fold `turns`, oldest first, into the summary `earlier`, in at most `room` tokens.

    By the brain, in parts where its context is small; when it fails or its words will not do, by `extract`. Each part
    may take `brain.config.timeout` seconds. The text takes fewer tokens than what it stands for, and is "" where
    nothing worth keeping was said. Raises nothing but what cancels it.
    """
    count = sturdy(brain)
    if not any(spoken(turn).strip() and turn.role != "system" for turn in turns):
        return Summary(await extract(earlier, turns, room, count), "extract")
    try:
        return Summary(await _by_brain(earlier, turns, room, brain, count), "summary")
    except Unfit as error:
        note = str(error)
    except Exception as error:
        note = f"the brain failed: {type(error).__name__}"
    return Summary(await extract(earlier, turns, room, count), "extract", note)


def sturdy(brain: Brain) -> Count:
    """The brain's own count, or an estimate from above where that fails."""

    async def count(text: str) -> int:
        try:
            return await brain.count(text)
        except Exception:
            return len(text.encode(errors="replace")) // 2 + 1

    return count


async def _by_brain(earlier: str, turns: Sequence[Turn], room: int, brain: Brain, count: Count) -> str:
    answer = min(room, brain.context // SHARE)
    if answer < LEAST:
        raise Unfit(f"{answer} tokens are too few for a summary by the brain")
    parts = await _parts([turn for turn in turns if turn.role != "system"], answer, brain, count)
    summary = await extract(earlier, (), answer, count)
    for number, part in enumerate(parts, 1):
        before, summary = summary, await _fold(summary, part, answer, brain, count)
        known, since = (earlier, turns) if number == len(parts) else (before, part)
        if fault := await asyncio.to_thread(faults, summary, known, since):
            raise Unfit(f"the brain's summary {fault}")
    return await _mended(tidy(summary), earlier, turns, room, count)


async def _parts(turns: Sequence[Turn], answer: int, brain: Brain, count: Count) -> list[list[Turn]]:
    """The turns in parts that fit the context beside the summary so far and the answer."""
    around = await count("\n\n".join((INSTRUCTION, BEFORE, SINCE, AFTER))) + 2 * OVERHEAD
    room = brain.context - 2 * answer - around
    if room < SHORTEST:
        raise Unfit(f"the brain's context of {brain.context} tokens is too small for a summary of {answer}")
    shown = (replace(turn, text=_shown(turn, WIDEST * room)) for turn in turns)
    return await _split([turn for turn in shown if turn.text], room, count)


def _shown(turn: Turn, most: int) -> str:
    return shorten(spoken(turn).strip(), TOOL if turn.role == "tool" else most)


def written(turns: Iterable[Turn]) -> str:
    """Turns as a conversation on paper."""
    return "\n".join(f"{_label(turn)}: {turn.text}" for turn in turns)


def _label(turn: Turn) -> str:
    return {"assistant": ASSISTANT, "tool": "Tool"}.get(turn.role) or name(turn)


async def _split(turns: list[Turn], room: int, count: Count) -> list[list[Turn]]:
    """Neighbours in parts of at most `room` tokens, parts of about the same length; a turn that is longer is cut."""
    tokens = await count(written(turns))
    if tokens <= room:
        return [turns] if turns else []
    if len(turns) == 1:
        return [[await _cut(turns[0], room, count)]]
    ends = list(accumulate(len(turn.text) for turn in turns))
    half = min(len(turns) - 1, max(1, bisect(ends, ends[-1] // 2)))
    return await _split(turns[:half], room, count) + await _split(turns[half:], room, count)


async def _cut(turn: Turn, room: int, count: Count) -> Turn:
    """A turn that takes at most `room` tokens with its label; a name that takes most of them itself is left out."""
    left = room - await count(f"{_label(turn)}: ") - 2
    if left < SHORTEST // 2:
        turn = replace(turn, author="")
        left = room - await count(f"{_label(turn)}: ") - 2
    return await cut(replace(turn, tokens=await count(turn.text)), left, count)


async def _fold(summary: str, turns: Sequence[Turn], answer: int, brain: Brain, count: Count) -> str:
    """What the brain makes of the summary so far and a part of the conversation, in at most `answer` tokens."""
    asked = [f"{BEFORE}\n{summary}"] if summary else []
    asked += [f"{SINCE}\n{written(turns)}", AFTER]
    prompt = Prompt((Turn("system", INSTRUCTION), Turn("user", "\n\n".join(asked))), CONVERSATION, answer)
    return await _fitting(peeled(sound(await _listen(brain, prompt))), answer, count)


async def _listen(brain: Brain, prompt: Prompt) -> str:
    """The brain's whole answer. Raises Unfit as soon as nothing good can come of it."""
    limit = asyncio.timeout(brain.config.timeout)
    pieces: AsyncIterator[Piece] | None = None
    try:
        async with limit:
            pieces = brain.think(prompt)
            return await _gathered(pieces, prompt.max_tokens)
    except TimeoutError:
        if limit.expired():
            raise Unfit(f"the brain took longer than {brain.config.timeout:g} seconds") from None
        raise
    finally:
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()


async def _gathered(pieces: AsyncIterator[Piece], tokens: int) -> str:
    text, checked, number = "", 0, 0
    async for piece in pieces:
        text += "" if isinstance(piece, Call) else piece
        number += 1
        if len(text) > WIDEST * tokens or number > IDLE + WIDEST * tokens:
            raise Unfit("the brain did not come to an end")
        if len(text) >= checked + STEP:
            checked = len(text)
            if circular(text[-TAIL:]):
                raise Unfit("the brain's summary went round in circles")
    return text


def peeled(text: str) -> str:
    """An answer without what models put around it: an announcement, quotation marks, a fence."""
    text = PREAMBLE.sub("", text.strip(), count=1).strip()
    for left, right in (("```", "```"), ('"', '"'), ("“", "”"), ("「", "」")):
        if text.startswith(left) and text.endswith(right) and left not in text[len(left) : len(text) - len(right)]:
            return text[len(left) : len(text) - len(right)].strip()
    return text


async def _fitting(text: str, limit: int, count: Count) -> str:
    """The text, without the sentences that are too many and the one that a brain at its limit leaves unfinished."""
    tokens = await count(text)
    if tokens < limit - 1:
        return text
    flat = text.replace("\n", " ") + " "
    ends = {end.end() for end in END.finditer(flat)} | {at for at, char in enumerate(text) if char == "\n"}
    most = len(text) * limit // max(1, tokens) + STEP
    for end in sorted((end for end in ends if 0 < end <= most), reverse=True):
        if await count(shorter := text[:end].rstrip()) <= limit:
            return shorter
    raise Unfit("the brain's summary was longer than asked for")


async def _mended(text: str, earlier: str, turns: Sequence[Turn], room: int, count: Count) -> str:
    """The brain's words, and where there is room the sentences with the names and numbers that they leave out."""
    limit = await lighter(room, earlier, turns, count)
    tokens = await count(text)
    if tokens > limit:
        raise Unfit("the brain's summary was longer than what it sums up")
    lost = set(await asyncio.to_thread(missing, text, earlier, turns))
    lines = [line for line in await asyncio.to_thread(read, earlier, turns) if not line.bot and lost & {*line.marks}]
    whole = f"{text}\n{await compose(lines, limit - tokens - 2, count)}".rstrip()
    return whole if await count(whole) <= limit else text
