"""Questions that plugins ask people: `city = await message.ask("Which city?")`.

Waiting for the answer takes nothing but a row in the journal, so it outlives restarts and changes of the plugin. When
the answer is there, the function that asked runs again from its beginning, on the message it ran for first, and each
`ask` that was answered returns at once: what it says before is not said again, but what it does before is done again.
So what has effects belongs behind the last question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from roost.commands import UsageError, choices_of, convert
from roost.rows import bare
from roost.state import DAY, state_name
from roost.values import Button, Message, Reply


class Asked(BaseException):
    """Ends the run of a function that has asked something. No error, and not to be caught by `except Exception`."""

    def __init__(self, question: Reply, seconds: float, answers: Sequence[Message] = ()) -> None:
        super().__init__(question.text)
        self.question = question
        self.seconds = seconds
        self.answers = answers


class Permission(Asked):
    """A question whether tools may be called; `work` is what the thinking goes on with."""

    def __init__(self, question: Reply, work: dict[str, Any]) -> None:
        super().__init__(question, DAY)
        self.work = work


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits for a person's answer: who asked, on which message, and what was answered before.

    `shown` counts what the function has said before its last question. `work` is what the thinking that asks for a
    tool is to go on with.
    """

    what: Literal["command", "hook", "tools"]
    name: str
    message: dict[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)
    shown: int = 0
    work: dict[str, Any] | None = None

    @classmethod
    def of(cls, what: Literal["command", "hook", "tools"], name: str, message: Message, asked: Asked) -> Pending:
        return cls(what, name, packed(message), [packed(one) for one in asked.answers])

    def first(self, answer: Message) -> Message:
        """The message it all began with, as it goes on: with this answer behind the others."""
        message = unpacked(self.message)
        answers = [*map(unpacked, self.answers), answer]
        return replace(message, ticket=answer.ticket, _state=answer.state, _asking=Asking(answers))


PENDING = state_name(Pending)


def packed(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(bare(message))
    return made


def unpacked(row: dict[str, Any]) -> Message:
    return msgspec.convert(row, Message)


class Asking:
    """The answers that one run of a function gets, in the order of its questions."""

    def __init__(self, answers: Sequence[Message] = ()) -> None:
        self.answers = answers
        self._next = 0

    def ask(self, question: str | Reply, kind: Any, choices: Sequence[str], seconds: float) -> Any:
        """The next answer, read as `kind`. Raises Asked when there is none, or none that fits."""
        known = self.answers[: self._next]
        choices = tuple(choices) or choices_of(kind)
        asked = _with_buttons(Reply(question) if isinstance(question, str) else question, choices)
        if self._next == len(self.answers):
            raise Asked(asked, seconds, known)
        try:
            value = _read(self.answers[self._next], kind, choices)
        except UsageError as error:
            raise Asked(replace(asked, text=f"{error}\n\n{asked.text}"), seconds, known) from None
        self._next += 1
        return value


def _with_buttons(question: Reply, choices: Sequence[str]) -> Reply:
    buttons = tuple(Button(choice, choice) for choice in choices)
    return replace(question, buttons=question.buttons or buttons)


def _read(answer: Message, kind: Any, choices: Sequence[str]) -> Any:
    if kind is Message:
        return answer
    text = answer.text.strip()
    if text.isdecimal() and text not in choices and 1 <= int(text) <= len(choices):
        text = choices[int(text) - 1]
    if choices and kind is str:
        kind = Literal[tuple(choices)]
    return convert(text, kind, "the answer")
