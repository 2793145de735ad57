"""The prompt: its beginning never changes from one turn to the next, what changes comes last.

system text          persona, what people asked to be remembered, pinned turns, the summary of what is older
turns                as they were said, only ever appended to
the new message      after what the archive has about it, which holds for this moment only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from roost.contracts import Brain, Hit, Memory, Prompt, Recollection, Role, Turn
from roost.values import Message

OVERHEAD = 8  # tokens that a chat template adds to a turn, from above
FACTS = 8  # facts may take an eighth of the context
CUT = "\n[… {count} characters left out …]\n"


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens for each section of a prompt. Together with the answer they fill the context.

    `message` is kept free for the new message; a longer one may have up to `longest`, at the window's cost.
    """

    context: int
    answer: int
    system: int
    message: int
    longest: int

    @property
    def window(self) -> int:
        """What is left for the turns before the new message."""
        return self.before(0)

    def before(self, message: int) -> int:
        """What is left for the turns before a new message of so many tokens."""
        return max(0, self.context - self.answer - self.system - max(self.message, message))


async def plan(brain: Brain, system: str) -> Budget:
    """Share out the brain's context. The answer never takes more than half, the new message a third of the rest."""
    answer = min(brain.config.max_tokens, brain.context // 2)
    own = await brain.count(system) + OVERHEAD
    rest = brain.context - answer - own
    return Budget(brain.context, answer, own, max(64, rest // 8), max(64, rest // 3))


async def build(
    brain: Brain, memory: Memory, system: str, message: Message, facts: Sequence[str] = ()
) -> tuple[Prompt, Turn]:
    """The prompt for a message, and the turn of that message as it is to be remembered."""
    system = await _with_facts(brain, system, facts)
    budget = await plan(brain, system)
    text = await cut(turn_text(message), budget.longest - OVERHEAD, brain)
    room = budget.before(await brain.count(text) + OVERHEAD)
    turn = Turn("user", text, message.sender.name, message.at, message.id, person=str(message.sender))
    past = await memory.recall(message.place, room, brain.count, message.text)
    first = Turn("system", "\n\n".join([system, *_older(past)]))
    asked = replace(turn, text=f"{_found(past.found)}{text}")
    turns = [first, *(one for one in past.turns if one.id != message.id), asked]
    return Prompt(tuple(joined(turns)), str(message.place), budget.answer), turn


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
        if result and result[-1].role == turn.role:
            role: Role = turn.role
            result[-1] = Turn(role, f"{result[-1].text}\n{turn.text}", turn.author, turn.at, turn.id)
        else:
            result.append(turn)
    return result
