"""The prompt: its beginning never changes from one turn to the next, what changes comes last.

system text          persona, what people asked to be remembered, pinned turns, the summary of what is older
turns                as they were said, only ever appended to
the new message      after what the archive has about it, which holds for this moment only
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from roost.contracts import Brain, Hit, Memory, Prompt, Recollection, Role, Tool, Turn
from roost.looking import pictures
from roost.values import Message

log = logging.getLogger("roost.prompt")

OVERHEAD = 8  # tokens that a chat template adds to a turn, from above
PICTURE = 1024  # tokens that a picture takes, from above for most models
TOOLS = 4  # descriptions of tools may take a quarter of it
TOOL, MANNER = 24, 60  # tokens that a chat template adds to a tool and to all of them, from above
FACTS = 8  # facts may take an eighth of the context
# Said only where it is needed: a small model that reads about languages in every prompt begins to speak in tongues.
SAME_LANGUAGE = "\n(Answer in the language of this message.)"
CUT = "\n[… {count} characters left out …]\n"


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens for each section of a prompt. Together with the answer they fill the context.

    `message` is kept free for the new message; a longer one may have up to `longest`, at the window's cost. `tools`
    is what the descriptions of tools take, `work` what their calls and results may take.
    """

    context: int
    answer: int
    system: int
    message: int
    longest: int
    tools: int = 0
    work: int = 0

    @property
    def window(self) -> int:
        """What is left for the turns before the new message."""
        return self.before(0)

    def before(self, message: int) -> int:
        """What is left for the turns before a new message of so many tokens."""
        others = self.answer + self.system + self.tools + self.work
        return max(0, self.context - others - max(self.message, message))


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, the turn of the new message as it is to be remembered, and the tokens left for work with tools."""

    prompt: Prompt
    turn: Turn
    work: int = 0


async def plan(brain: Brain, system: str, tools: int = 0) -> Budget:
    """Share out the brain's context. The answer never takes more than half, the new message a third of the rest.

    `tools` is what descriptions of tools take; where there are some, a quarter of the rest is for their results.
    """
    answer = min(brain.config.max_tokens, brain.context // 2)
    own = await brain.count(system) + OVERHEAD
    rest = brain.context - answer - own - tools
    work = rest // 4 if tools else 0
    return Budget(brain.context, answer, own, max(64, (rest - work) // 8), max(64, (rest - work) // 3), tools, work)


async def build(
    brain: Brain,
    memory: Memory,
    system: str,
    message: Message,
    facts: Sequence[str] = (),
    tools: Sequence[Tool] = (),
    any_language: bool = False,
) -> Asked:
    """The prompt for a message. With `any_language` the answer is to follow the person's.

    Raises NotSeen when it is a picture and the brain does not see.
    """
    seen = await pictures(message, brain.sees)
    system = await _with_facts(brain, system, facts)
    offered, weight = await _affordable(brain, tools)
    budget = await plan(brain, system, weight)
    text = await cut(turn_text(message), budget.longest - OVERHEAD, brain)
    hint = SAME_LANGUAGE if any_language and other_script(message.text) else ""
    seen = seen[: max(1, budget.window // PICTURE)]
    room = budget.before(await brain.count(f"{text}{hint}") + OVERHEAD + PICTURE * len(seen))
    turn = Turn("user", text, message.sender.name, message.at, message.id, person=str(message.sender))
    past = await memory.recall(message.place, room, brain.count, message.text)
    first = Turn("system", "\n\n".join([system, *_older(past)]))
    asked = replace(turn, text=f"{_found(past.found)}{text}{hint}", pictures=seen)
    turns = [first, *(one for one in past.turns if one.id != message.id), asked]
    prompt = Prompt(tuple(joined(turns)), str(message.place), budget.answer, tools=offered, said=text)
    return Asked(prompt, turn, budget.work)


async def _affordable(brain: Brain, tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], int]:
    """The tools whose descriptions fit in a quarter of the context, and their weight in tokens."""
    chosen: list[Tool] = []
    weight = MANNER if tools else 0
    for tool in tools:
        own = await brain.count(f"{tool.name} {tool.help} {tool.parameters}") + TOOL
        if weight + own > brain.context // TOOLS:
            left_out(tool.name, len(tools), brain.context)
            continue
        chosen.append(tool)
        weight += own
    return tuple(chosen), weight if chosen else 0


@lru_cache(maxsize=256)  # said once
def left_out(name: str, count: int, context: int) -> None:
    log.warning("The tool '%s' is left out: %d tools need more than a quarter of %d tokens.", name, count, context)


async def _with_facts(brain: Brain, system: str, facts: Sequence[str]) -> str:
    """The system text and as many of the newest facts as an eighth of the context holds."""
    room = brain.context // FACTS
    chosen: list[str] = []
    for fact in reversed(facts):
        room -= await brain.count(fact) + 2
        if room < 0:
            break
        chosen.insert(0, f"- {fact}")
    return "\n".join([f"{system}\n\nYou were asked to remember:", *chosen]) if chosen else system


def _older(past: Recollection) -> Iterator[str]:
    if past.pinned:
        yield "\n".join(["Keep this in mind:", *map(_line, past.pinned)])
    if past.summary:
        yield f"Earlier in this conversation: {past.summary}"


def _found(hits: Sequence[Hit]) -> str:
    """Old turns that matter for the question, before the question itself."""
    if not hits:
        return ""
    lines = [line for hit in sorted(hits, key=lambda hit: hit.turns[0].at) for line in ["…", *map(_line, hit.turns)]]
    return "\n".join(["(From long ago in this conversation:", *lines, "…)", "", ""])


def _line(turn: Turn) -> str:
    return f"{turn.author or ('you' if turn.role == 'assistant' else turn.role)}: {turn.text}"


def other_script(text: str) -> bool:
    """Whether a text is mostly written in another script than that of our own English words."""
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters) > len(letters)


def turn_text(message: Message) -> str:
    """What a person said, as the brain reads it: the name where several may speak, the quote, the attachments."""
    lines = [f"> {line}" for line in message.quote.text.splitlines()] if message.quote else []
    lines += [message.text] if message.text else []
    lines += [f"[{one.kind} {one.name}]".replace(" ]", "]") for one in message.attachments]
    text = "\n".join(lines)
    named = message.place.kind != "direct" and message.sender.name
    return f"{message.sender.name}: {text}" if named else text


async def cut(text: str, tokens: int, brain: Brain) -> str:
    """The text if it fits, otherwise its beginning and end with a mark between them."""
    if len(text) <= tokens:  # a token is at least one character of what people write, or close to it
        return text
    if len(text) <= 64 * tokens and await brain.count(text) <= tokens:
        return text
    keep = 4 * tokens
    while keep > 8:
        half = keep // 2
        short = text[:half] + CUT.format(count=len(text) - 2 * half) + text[len(text) - half :]
        if len(short) < len(text) and await brain.count(short) <= tokens:
            return short
        keep = keep * 3 // 4
    return text[:8]


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """Turns with neighbours of one role made one: many chat templates insist that roles alternate."""
    result: list[Turn] = []
    for turn in turns:
        if result and result[-1].role == turn.role and not (turn.role == "tool" or turn.calls or result[-1].calls):
            role: Role = turn.role
            text = f"{result[-1].text}\n{turn.text}"
            result[-1] = Turn(role, text, turn.author, turn.at, turn.id, pictures=turn.pictures)
        else:
            result.append(turn)
    return result
