"""The prompt: its beginning never changes from one turn to the next, what changes comes last.

system text          persona, then the summary of what is older
turns                as they were said, only ever appended to
the new message      with what holds for this moment only at its very end
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.contracts import Brain, Memory, Prompt, Role, Turn
from roost.values import Message

OVERHEAD = 8  # tokens that a chat template adds to a turn, from above
CUT = "\n[… {count} characters left out …]\n"


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens for each section of a prompt. Together with the answer they fill the context."""

    context: int
    answer: int
    system: int
    message: int

    @property
    def window(self) -> int:
        """What is left for the turns before the new message."""
        return max(0, self.context - self.answer - self.system - self.message)


async def plan(brain: Brain, system: str) -> Budget:
    """Share out the brain's context. The answer never takes more than half, the new message a third of the rest."""
    answer = min(brain.config.max_tokens, brain.context // 2)
    own = await brain.count(system) + OVERHEAD
    return Budget(brain.context, answer, own, max(64, (brain.context - answer - own) // 3))


async def build(brain: Brain, memory: Memory, system: str, message: Message) -> tuple[Prompt, Turn]:
    """The prompt for a message, and the turn of that message as it is to be remembered."""
    budget = await plan(brain, system)
    text = await cut(turn_text(message), budget.message - OVERHEAD, brain)
    turn = Turn("user", text, message.sender.name, message.at, message.id)
    past = await memory.recall(message.place, budget.window, brain.count)
    first = Turn("system", f"{system}\n\nEarlier in this conversation: {past.summary}" if past.summary else system)
    turns = [first, *(one for one in past.turns if one.id != message.id), turn]
    return Prompt(tuple(joined(turns)), str(message.place), budget.answer), turn


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
