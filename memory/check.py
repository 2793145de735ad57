"""Whether a text will do as the summary of a conversation. Plain rules: the same text gets the same answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from roost.contracts import Turn
from roost.memory.cues import FIRM, LIFE, PERSONAL
from roost.memory.extract import spoken
from roost.memory.marks import ADDRESS, NUMBER, Content, marks, names, runs
from roost.memory.sentences import CONTROL, IS_DENSE, labelled, sentences, shorten, terms, tidy, words

INSTRUCTION = (
    "Sum up the conversation in a few short sentences, in the language of the conversation. "
    "Keep names, numbers, dates, what people like and want, what was decided, and questions that are still open. "
    "Write nothing that was not said, and nothing but the summary."
)

# Of the names and numbers that matter, by weight, a summary must have this share. It cannot be all of them: it is to
# be short, and some of them mattered for a moment only.
KEPT = 0.6
# Those of the summary before must nearly all be there: what is lost here is lost at every step.
KEPT_EARLIER = 0.75
# A name or number matters from this weight on: told twice, told of oneself, or in the summary before.
MATTERS = 2
# No more than these are asked for, the weightiest: a short text cannot hold everything of a long conversation.
ASKED = 16
# Where nothing weighs that much, but this many names and numbers were told, one of them has to be there.
MANY = 4
# More than this share of its names that nobody said, and at least two, and it tells another story. Some are
# always new: words that a language writes with a capital, or "User".
STRANGE = 1 / 3
# Less than this share of its longer words in what was said, and it is about something else. Good summaries in other
# words have about two thirds.
GROUNDED = 0.4
# Stretches of SHINGLE characters that differ, as a share of all. Prose has over 0.9, lists about 0.8, a loop of three
# rounds a third. Shorter texts than LOOP characters do not tell.
DISTINCT = 0.6
SHINGLE = 10
LOOP = 80
# This many words in a row from the instruction, and nobody said them: an echo.
ECHO = 6

ROLE = re.compile(
    r"^\W{0,4}(?:assistant|ai|bot|system|human|conversation|summary so far)\W{0,3}[:：]", re.IGNORECASE | re.MULTILINE
)
# What an assistant says to a person; a summary is not addressed to anybody.
ADDRESSED = re.compile(
    r"^\W{0,3}(?:hi|hello|hey|welcome|sure|certainly|of course|thank you|thanks|i'?m sorry|i am sorry|sorry"
    r"|i apologi[sz]e|i can(?:'?t|not)|i'?m unable|as an ai|hallo|es tut mir leid|bonjour|je suis désolé|désolé"
    r"|hola|lo siento|ciao|mi dispiace|olá|desculpe|извините|привет)(?!\w)"
    r"|^\W{0,3}(?:你好|您好|抱歉|对不起|作为一个|こんにちは|申し訳|안녕하세요|죄송)"
    r"|\b(?:as an ai|language model|(?:happy|glad|here) to (?:help|assist)|how (?:can|may) i (?:help|assist))\b",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"^[ \t]*\d{1,2}[.)、]\s", re.MULTILINE)


def faults(text: str, earlier: str, turns: Sequence[Turn]) -> str:
    """Say why `text` is no good as the summary of `earlier` and `turns`; "" when it is good.

    What is said fits behind "the summary", and has no word of the conversation.
    """
    if not words(text):
        return "was empty"
    said = [earlier, *(part for turn in turns for part in (turn.text, turn.author))]
    if len(text) >= len(earlier) + sum(len(turn.text) for turn in turns):
        return "was longer than what it sums up"
    if CONTROL.search(text):
        return "had control tokens"
    if circular(text):
        return "went round in circles"
    source = Content.of(map(tidy, said))
    return (
        _not_one(text, source) or _invented(text, source) or _left_out(text, earlier, turns) or _elsewhere(text, source)
    )


def circular(text: str) -> bool:
    """Whether most of a text says the same again."""
    text = " ".join(text.split())
    stretches = max(0, len(text) - SHINGLE + 1)
    distinct = len({text[at : at + SHINGLE] for at in range(stretches)})
    lines = [line for line in sentences(text) if len(line) > 3]
    repeated = len(lines) - len(set(lines))
    return len(text) > LOOP and (distinct < DISTINCT * stretches or repeated > max(2, len(lines) // 3))


def due(earlier: str, turns: Iterable[Turn]) -> tuple[dict[str, int], dict[str, int]]:
    """The marks that matter and their weights: those of the summary before, and those that people told since."""
    old = {mark: MATTERS for line in sentences(tidy(earlier)) for mark in _line_marks(labelled(line)[1])[0]}
    weights: Counter[str] = Counter()
    beginnings: Counter[str] = Counter()
    for turn in turns:
        if turn.role == "user":
            inside, first = _told(turn)
            weights.update(inside)
            beginnings.update(first)
    for mark, weight in beginnings.items():
        if mark in weights or mark in old:
            weights[mark] += weight
    return old, {mark: weight for mark, weight in weights.items() if mark not in old}


def missing(text: str, earlier: str, turns: Sequence[Turn]) -> list[str]:
    """The marks that matter and are not in `text`, those of the summary before first, then the weightiest."""
    old, new = due(earlier, turns)
    content = Content.of([text])
    return [mark for mark in [*old, *_weighty(new)] if not content.has(mark)]


def _told(turn: Turn) -> tuple[dict[str, int], dict[str, int]]:
    """What one turn weighs in: a mark counts once, and once more in a sentence of oneself or of what lasts."""
    inside: dict[str, int] = {}
    first: dict[str, int] = {}
    for line in sentences(shorten(spoken(turn))):
        found, beginning = _line_marks(line)
        weight = 1 + bool({*terms(words(line))} & (PERSONAL | FIRM | LIFE)) if found or beginning else 0
        inside |= {mark: max(weight, inside.get(mark, 0)) for mark in found}
        if beginning:
            first[beginning] = weight
    return inside, first


def _line_marks(line: str) -> tuple[list[str], str]:
    found, first = marks(line)
    return list(dict.fromkeys(found)), first


def _weighty(weights: dict[str, int]) -> dict[str, int]:
    """The ASKED weightiest that matter, the later of equals first."""
    heavy = [(mark, weight) for mark, weight in weights.items() if weight >= MATTERS]
    heavy.reverse()
    return dict(sorted(heavy, key=lambda one: -one[1])[:ASKED])


def _left_out(text: str, earlier: str, turns: Sequence[Turn]) -> str:
    old, new = due(earlier, turns)
    content = Content.of([text])
    for weights, share in ((old, KEPT_EARLIER), (_weighty(new), KEPT)):
        kept = {mark: weight for mark, weight in weights.items() if content.has(mark)}
        if sum(kept.values()) < share * sum(weights.values()):
            return f"left out {len(weights) - len(kept)} of {len(weights)} names and numbers"
    if len(new) >= MANY and not any(content.has(mark) for mark in [*old, *new]):
        return f"left out all of {len(new)} names and numbers"
    return ""


def _invented(text: str, source: Content) -> str:
    rest = ADDRESS.sub(" ", NUMBERED.sub(" ", text))
    made_up = [number for number in NUMBER.findall(rest) if source.invents(runs(number))]
    if made_up:
        return f"made up {_several(len(made_up), 'number')}"
    called = {mark for line in sentences(text) if not IS_DENSE.search(line) for mark in names(line)[0]}
    strange = [mark for mark in called if not source.has(mark)]
    if len(strange) > max(1, STRANGE * len(called)):
        return f"made up {_several(len(strange), 'name')}"
    return ""


def _several(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _not_one(text: str, source: Content) -> str:
    """Why this is no summary at all, but something else that models write when they are asked for one."""
    given = words(INSTRUCTION)
    echoes = (" ".join(given[at : at + ECHO]) for at in range(len(given) - ECHO + 1))
    spoken = " " + " ".join(words(text))
    if any(f" {echo}" in spoken and f" {echo}" not in source.words for echo in echoes):
        return "repeated the instruction"
    if ROLE.search(text):
        return "went on with the conversation"
    if ADDRESSED.search(text.replace("’", "'")):
        return "was an answer to somebody"
    return ""


def _elsewhere(text: str, source: Content) -> str:
    """Whether what the words are about was never spoken of."""
    about = {term for term in terms(words(text)) if len(term) > 3 or IS_DENSE.match(term)}
    known = sum(term in source.text for term in about)
    return "was about something else" if known < GROUNDED * len(about) else ""
