"""What one streamed answer says: text, tool calls, and what it cost.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from roost.contracts import Call, Piece
from roost.errors import BrainError

Body = dict[str, Any]
LAST, DONE = "last", "done"
MOST_CALLS = 32
LONGEST_ARGUMENTS = 256 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost, in tokens. `cached` ones of the prompt did not have to be read again."""

    prompt: int = 0
    cached: int = 0
    answer: int = 0


@dataclass(slots=True)
class Begun:
    """A call of which more may come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0


class Answer:
    """Reads the events of one answer. A call is a piece of it once all of it is there."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.done = ""  # LAST after the last piece, DONE when the server has said that it is done
        self._calls: dict[int, Begun] = {}
        self._whole_calls = 0

    def read(self, data: str) -> Iterator[Piece]:
        """The pieces in the data of one event; none in what is not JSON. Raises BrainError."""
        if data.strip() == "[DONE]":
            self.done = DONE
            yield from self._complete()
            return
        try:
            event = json.loads(data)
        except ValueError:
            return
        if isinstance(event, dict):
            yield from self._event(event)

    def whole(self, raw: bytes) -> Iterator[Piece]:
        """The pieces of an answer that came in one piece. Raises ValueError when it is none."""
        answer = json.loads(raw)
        if not isinstance(answer, dict):
            raise ValueError("it answered with JSON that is no chat completion")
        if answer.get("error"):
            raise Broken(reason(answer))
        self._note(answer)
        yield from self._message(first(answer.get("choices")).get("message"))
        yield from self._complete()

    def _event(self, event: Body) -> Iterator[Piece]:
        if event.get("error"):
            raise Broken(reason(event))
        self._note(event)
        choice = first(event.get("choices"))
        yield from self._message(choice.get("delta"))
        if choice.get("finish_reason"):
            self.done = LAST
            yield from self._complete()

    def _message(self, message: Any) -> Iterator[Piece]:
        if not isinstance(message, dict):
            return
        text, calls = message.get("content"), message.get("tool_calls")
        if isinstance(text, str) and text:
            yield text
        for number, call in enumerate(calls if isinstance(calls, list) else []):
            if isinstance(call, dict):
                self._add(call, number)

    def _add(self, part: Body, number: int) -> None:
        """Add a part of a call to the one it belongs to. Some servers number every call 0: a new id is a new call."""
        index, id = part.get("index"), part.get("id")
        index = index if isinstance(index, int) else number
        begun = self._calls.setdefault(index, Begun())
        while id and begun.id and begun.id != id:
            index += MOST_CALLS
            begun = self._calls.setdefault(index, Begun())
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        begun.id = begun.id or str(id or "")
        begun.name = begun.name or str(function.get("name") or "")
        self._extend(begun, function.get("arguments"))
        if len(self._calls) > MOST_CALLS:
            raise BrainError(f"The model wants more than {MOST_CALLS} tools at once.")

    def _extend(self, begun: Begun, arguments: Any) -> None:
        # Some servers give an object where the reference says a text.
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        begun.arguments.append(text)
        begun.size += len(text)
        if begun.size > LONGEST_ARGUMENTS:
            raise BrainError(f"The model gives the tool '{begun.name[:80]}' arguments without end.")

    def _complete(self) -> Iterator[Piece]:
        calls, self._calls = self._calls, {}
        for begun in calls.values():
            if begun.name:
                self._whole_calls += 1
                yield Call(begun.id or f"call{self._whole_calls}", begun.name, "".join(begun.arguments) or "{}")

    def _note(self, event: Body) -> None:
        """Keep the counts: llama.cpp gives `timings`, others `usage`, either only with the last event."""
        timings, usage = event.get("timings"), event.get("usage")
        if isinstance(timings, dict):
            read, cached = timings.get("prompt_n", 0), timings.get("cache_n", 0)
            self.usage = Usage(read + cached, cached, timings.get("predicted_n", 0))
        elif isinstance(usage, dict):
            details = usage.get("prompt_tokens_details") or {}
            cached = details.get("cached_tokens") or 0
            self.usage = Usage(usage.get("prompt_tokens", 0), cached, usage.get("completion_tokens", 0))


class Broken(Exception):
    """The server says, where an answer should be, that there is none, and why."""


def first(choices: Any) -> Body:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def parse(raw: bytes) -> Body:
    """The error object of an answer: OpenAI's form, or the flatter ones of others."""
    try:
        answer = json.loads(raw)
    except ValueError:
        return {}
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def reason(answer: Body | bytes) -> str:
    """What the server gives as its reason, as a sentence of at most 300 characters."""
    if isinstance(answer, bytes):
        text = answer.decode(errors="replace").strip()
        text = "" if text.startswith("<") else text
    else:
        error = answer.get("error")
        text = str((error.get("message") if isinstance(error, dict) else error) or "")
    text = " ".join(text.split())[:300] or "it gave no reason"
    return text if text.endswith((".", "!", "?")) else text + "."
