"""A summary without a brain: the sentences that matter most, as they were said. The same turns give the same text."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from roost.contracts import Count, Turn
from roost.memory.cues import ASKED, ASKING, CHAFF, FIRM, LIFE, PASSING, PERSONAL, TASTE
from roost.memory.marks import marks
from roost.memory.sentences import ASKS, clip, labelled, sentences, shorten, terms, tidy, words

# The share of the room that the best sentences of the summary before have for themselves: newer ones must not push
# out what was told once, long ago.
GUARANTEED = 0.5
# And this share is for new sentences that score at least WORTHY, else a full summary would never learn anything.
NEWCOMERS, WORTHY = 0.25, 3.0
# A sentence has at most these characters.
LONGEST = 240
# Lines of the summary before are taken whole up to this length, which an extract's never exceed; longer ones are prose.
LINE = LONGEST + 40
# Sentences that score less say nothing, and are left out also where there is room.
FLOOR = 0.6
# What a person says weighs more than what the bot says: that it can say again.
PERSON, BOT = 1.0, 0.2
# A question that was answered is worth this share of one that was not.
ANSWERED = 0.3
# An answer of at most these words is kept with the question it answers.
TERSE = 3
# How much the newest sentence gains: only a little, since the newest turns are still there themselves.
FRESH = 0.2
# A sentence loses this share where better or newer ones have the same words in a row: "I had tea", "I had tea again".
REPEATED = 0.4
# Guesses at the size, each checked by a count of the whole. Two or three do in most scripts.
GUESSES = 8
ASSISTANT = "Assistant"
COMMA = re.compile(r"[,，、;；]")


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence that may stand in a summary. `label` is who said it, `old` that it comes from the summary before."""

    text: str
    order: int
    label: str = ""
    bot: bool = False
    old: bool = False
    open: bool = False
    fresh: float = 0.0
    score: float = 0.0
    marks: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.label}: {self.text}" if self.label else self.text

    @property
    def size(self) -> int:
        """Tokens from a rough rule, which choosing corrects by what was counted."""
        return len(str(self).encode()) // 4 + 2


async def extract(earlier: str, turns: Sequence[Turn], room: int, count: Count) -> str:
    """Keep the sentences of `earlier` and `turns`, oldest first, that matter most, in at most `room` tokens.

    One sentence a line, in the order in which they were said, with the speaker's name where several persons speak.
    It always takes fewer tokens than what it is made of, and is "" where nothing worth keeping was said.
    """
    if not turns and await count(tidy(earlier)) <= room:
        return tidy(earlier).strip()
    limit = await lighter(room, earlier, turns, count)
    return await compose(await asyncio.to_thread(read, earlier, turns), limit, count)


async def lighter(room: int, earlier: str, turns: Sequence[Turn], count: Count) -> int:
    """`room`, or what is one token less than `earlier` and `turns` together if that is less."""
    texts = (earlier, *(turn.text for turn in turns))
    # Hardly a token holds two words, so twice as many words as tokens need no counting.
    if sum(len(text.split()) for text in texts) > 2 * room:
        return room
    weight = 0
    for text in sorted(texts, key=len, reverse=True):
        if weight > room or not text:
            break
        weight += await count(tidy(text))
    return min(room, weight - 1)


async def compose(lines: Sequence[Line], limit: int, count: Count) -> str:
    """The best of `lines`, in their order, in at most `limit` tokens."""
    best, most, size = "", 0.0, float(limit)
    for _ in range(GUESSES):
        chosen = choose(lines, size)
        text = "\n".join(map(str, chosen))
        tokens = await count(text) if text else 0
        worth = sum(line.score for line in chosen)
        if tokens <= limit and worth > most:
            best, most = text, worth
        if not text or 0.9 * limit <= tokens <= limit or (tokens <= limit and len(chosen) == len(lines)):
            break
        # Too much: from what was taken, so that the next try takes less.
        size = size if tokens < limit else min(size, sum(line.size for line in chosen))
        size *= min(4.0, 0.97 * limit / max(1, tokens))
    return best


def choose(lines: Iterable[Line], size: float) -> list[Line]:
    """The best lines of together at most `size`, oldest first; the best one cut short when none fits."""
    ranked = sorted(lines, key=lambda line: (-line.score, line.order))
    kept: list[Line] = []
    worthy = [line for line in ranked if not line.old and line.score >= WORTHY]
    for some, share in ([line for line in ranked if line.old], GUARANTEED), (worthy, NEWCOMERS), (ranked, None):
        room = share * size if share else size - sum(line.size for line in kept)
        there = {line.order for line in kept}
        kept += _fill([line for line in some if line.order not in there], room)
    if not kept and ranked and size >= 4:
        best = ranked[0]
        characters = len(best.text) * size / max(1, best.size)
        kept = [replace(best, text=text)] if (text := clip(best.text, int(characters))) else []
    return sorted(kept, key=lambda line: line.order)


def _fill(ranked: Iterable[Line], size: float) -> list[Line]:
    """The first lines that fit."""
    taken = []
    for line in ranked:
        if line.size <= size:
            taken.append(line)
            size -= line.size
    return taken


def read(earlier: str, turns: Sequence[Turn]) -> list[Line]:
    """Every sentence once, scored; those without anything worth keeping are left out."""
    old = list(_old(earlier))
    several = len({turn.person or turn.author for turn in turns if turn.role == "user"}) > 1
    several = several or any(line.label and not line.bot for line in old)
    lines = [*old, *_new(turns, len(old), several)]
    lines = [found for line in lines if (found := _understood(line))]
    told = {mark for line in lines if not line.bot for mark in line.marks}
    lines = [replace(line, marks=tuple(x for x in line.marks if x not in told)) if line.bot else line for line in lines]
    weights = _weights(lines)
    lines = _told_once(_scored(line, weights) for line in _unique(lines))
    return [line for line in lines if line.score >= FLOOR]


def _old(earlier: str) -> Iterator[Line]:
    order = 0
    for raw in tidy(earlier).splitlines():
        line = " ".join(raw.split())
        label, rest = labelled(line)
        for text in [rest] * bool(rest) if len(line) <= LINE else sentences(rest):
            yield Line(clip(text, LONGEST), order, label, label == ASSISTANT, old=True)
            order += 1


def _new(turns: Sequence[Turn], order: int, several: bool) -> Iterator[Line]:
    answered = max((at for at, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    asked = ""
    for at, turn in enumerate(turns):
        if turn.role not in {"user", "assistant"}:
            continue
        bot = turn.role == "assistant"
        label = (ASSISTANT if bot else name(turn)) if bot or several else ""
        found = list(sentences(shorten(spoken(turn))))
        if asked and not bot and len(found) == 1 and _answers(found[0], asked):
            found = [f"{asked} {found[0]}"]
        for text in found:
            yield Line(clip(text, LONGEST), order, label, bot, open=at > answered, fresh=(at + 1) / len(turns))
            order += 1
        asked = found[-1] if bot and found and asks(found[-1]) else ""


def _answers(text: str, question: str) -> bool:
    """Whether a short answer says nothing without its question, and something with it."""
    found = words(text)
    if len(found) > TERSE or asks(text):
        return False
    return any(word not in CHAFF for word in found) or bool({*terms(words(question))} & (FIRM | LIFE))


def name(turn: Turn) -> str:
    """What a turn's author is called, as one short word or two without a colon; "User" when it is not known."""
    return " ".join(tidy(turn.author).replace(":", " ").replace("：", " ").split())[:32].strip() or "User"


def spoken(turn: Turn) -> str:
    """A turn's text without the name that may stand before it in a group."""
    text = tidy(turn.text)
    return text.removeprefix(f"{turn.author}: ") if turn.author else text


def _understood(line: Line) -> Line | None:
    """The line with what it speaks of; None for greetings and thanks, and for what has no words."""
    found = words(line.text)
    inside, _ = marks(line.text)
    if (len(found) <= 6 and all(word in CHAFF for word in found)) and not inside:
        return None
    return replace(line, marks=tuple(dict.fromkeys(inside)), terms=tuple(terms(words(str(line)))))


def _unique(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines that do not say in the same words what the same speaker has said before."""
    seen: set[tuple[str, ...]] = set()
    for line in lines:
        key = (*line.terms, *(mark for mark in line.marks if mark.startswith("#")))
        if key not in seen:
            seen.add(key)
            yield line


def _weights(lines: Sequence[Line]) -> dict[str, float]:
    """What words tell about the whole: those of several lines, unless they are in every fifth."""
    counts = Counter(term for line in lines for term in set(line.terms))
    ceiling = max(3, len(lines) // 5)
    return {term: math.log(n) for term, n in counts.items() if 1 < n <= ceiling and len(term) > 1}


def _scored(line: Line, weights: dict[str, float]) -> Line:
    score = (BOT if line.bot else PERSON) + _weight_of_marks(line) + _centrality(line, weights) + FRESH * line.fresh
    if not line.bot:
        score += _weight_of_words(line)
    if asks(line.text):
        score = score + 1 if line.open and not line.bot else score * (1 if _tells(line) else ANSWERED)
    return replace(line, score=round(score, 6))


def _told_once(lines: Iterable[Line]) -> list[Line]:
    """The lines in their order, with less for those that mostly repeat others."""
    seen: set[tuple[str, ...]] = set()
    result = []
    for line in sorted(lines, key=lambda line: (-line.score, -line.order)):
        pairs = set(pairwise(line.terms))
        share = len(pairs & seen) / max(1, len(pairs))
        seen |= pairs
        result.append(replace(line, score=round(line.score * (1 - REPEATED * share), 6)))
    return sorted(result, key=lambda line: line.order)


def asks(sentence: str) -> bool:
    """Whether it is a question, also one without its mark."""
    if ASKS.search(sentence) or sentence.endswith(ASKED):
        return True
    return sentence[-1:] not in set(".!") and bool(ASKING & {*words(sentence[:20])[:1]})


def _tells(line: Line) -> bool:
    """Whether a question has something to say before it asks: "I'm vegetarian, is that a problem?"."""
    about = {*terms(words(COMMA.split(line.text)[0]))}
    return bool(about & PERSONAL and about & (FIRM | LIFE)) and COMMA.search(line.text) is not None


def _weight_of_marks(line: Line) -> float:
    """Names and numbers, long numbers and mail addresses above all."""
    digits = [sum(map(str.isdigit, mark)) for mark in line.marks]
    exact = any(n > 4 for n in digits) or any("@" in mark for mark in line.marks)
    return 0.4 * min(3, len(line.marks)) + exact


def _weight_of_words(line: Line) -> float:
    about = set(line.terms)
    passing = bool(about & PASSING)
    lasting = (0, 2, 3)[min(2, len(about & FIRM))] + 0.75 * min(2, len(about & LIFE)) + 0.5 * bool(about & TASTE)
    own = bool(about & PERSONAL) * (1 if lasting or line.marks else 0.5)
    return lasting + own - (0.5 + line.old) * passing


def _centrality(line: Line, weights: dict[str, float]) -> float:
    known = sum(weights.get(term, 0.0) for term in line.terms)
    return min(0.3, known / (4 * math.sqrt(len(line.terms) + 1)))
