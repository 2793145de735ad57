"""The process that an engine thinks in: questions come on standard input, pieces of answers go to standard output.

One line of JSON each way. In come
`{"do": "think", "id": 1, "messages": [...], "max_tokens": 512, "stop": [...], "temperature": 0.2, "conversation": "",
"schema": ""}`, `{"do": "cancel", "id": 1}`, `{"do": "count", "id": 2, "text": "..."}` and `{"do": "shrink"}`. Out go
`{"ready": true, "context": 2048}` or `{"failed": "..."}` once; then `{"id": 1, "text": "..."}`, at an answer's end
`{"id": 1, "usage": [prompt, cached, answer]}` or `{"id": 1, "error": "..."}`; and `{"id": 2, "tokens": 7}`.

Answers are made one after the other; counting and cancelling do not wait for them. The process ends with its input.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from roost.brains.stops import Stops
from roost.brains.template import Message, Template
from roost.errors import BrainError, RoostError

Line = dict[str, Any]
# What an answer costs the bot beside it is latency, so thinking gives way.
NICENESS = 5


class Cancelled(Exception):
    """Nobody wants the answer any more."""


class Engine(ABC):
    """What a library has to do for an answer. All but `count` is called from one thread.

    `controls` are the texts of tokens with a meaning of their own; `chunk` is the most tokens of a prompt read in one
    go, which is how long a cancelled answer may go on.
    """

    context: int
    chunk: int = 32
    template: Template
    controls: Sequence[str] = ()

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The tokens of a whole prompt, control tokens included."""

    @abstractmethod
    def count(self, text: str) -> int:
        """The number of tokens in a text. Called while an answer is being made."""

    @abstractmethod
    def open(self, conversation: str, tokens: Sequence[int], temperature: float, schema: str) -> int:
        """Begin an answer to the prompt `tokens`; returns how many of them were read before and need not be again.

        Where there is a JSON `schema`, the answer has to fit it.
        """

    @abstractmethod
    def read(self, tokens: Sequence[int]) -> None:
        """Read the next part of the prompt."""

    @abstractmethod
    def write(self) -> str | None:
        """Make one token: its text, empty while a character is not complete, or None at the answer's end."""

    def shrink(self) -> None:
        """Forget the beginnings of conversations."""


class Desk:
    """Takes questions for one engine and sends its answers."""

    def __init__(self, engine: Engine, out: BinaryIO) -> None:
        self.engine = engine
        self._out = out
        self._lock = threading.Lock()
        self._questions: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def run(self) -> None:
        """Answer until standard input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        self.say(ready=True, context=self.engine.context)
        while True:
            self._answer(self._questions.get())

    def say(self, **line: Any) -> None:
        with self._lock:
            self._out.write(json.dumps(line).encode() + b"\n")
            self._out.flush()

    def _listen(self) -> None:
        try:
            for raw in sys.stdin.buffer:
                self._sort(json.loads(raw))
        finally:
            os._exit(0)  # the library may be in the middle of something long

    def _sort(self, line: Line) -> None:
        if line["do"] == "cancel":
            self._cancelled.add(line["id"])
        elif line["do"] == "count":
            self._count(line)
        else:
            self._questions.put(line)

    def _count(self, line: Line) -> None:
        try:
            self.say(id=line["id"], tokens=self.engine.count(line["text"]))
        except Exception as error:
            self.say(id=line["id"], error=sentence(error))

    def _answer(self, line: Line) -> None:
        if line["do"] == "shrink":
            self.engine.shrink()
            return
        try:
            self.say(id=line["id"], usage=self._think(line))
        except Exception as error:
            self.say(id=line["id"], error=sentence(error))
        self._cancelled.discard(line["id"])

    def _think(self, line: Line) -> tuple[int, int, int]:
        """Send the pieces of one answer; returns the tokens of the prompt, of it known before, and of the answer."""
        engine = self.engine
        self._check(line)
        text, ends = engine.template.render([disarmed(one, engine.controls) for one in line["messages"]])
        tokens = engine.encode(text)
        room = engine.context - len(tokens)
        if room < 1:
            raise BrainError(
                f"The conversation is too long for the model: it has {len(tokens)} tokens, and with the answer there "
                f"can be {engine.context}. Lower `context` in [brain]."
            )
        known = engine.open(line["conversation"], tokens, line["temperature"], line["schema"])
        for start in range(known, len(tokens), engine.chunk):
            engine.read(tokens[start : start + engine.chunk])
            self._check(line)
        return len(tokens), known, self._write(line, Stops((*line["stop"], *ends)), min(room, line["max_tokens"]))

    def _write(self, line: Line, stops: Stops, most: int) -> int:
        written = 0
        while written < most and not stops.found and (piece := self.engine.write()) is not None:
            written += 1
            self._check(line)
            if shown := stops.feed(piece):
                self.say(id=line["id"], text=shown)
        if rest := stops.end():
            self.say(id=line["id"], text=rest)
        return written

    def _check(self, line: Line) -> None:
        if line["id"] in self._cancelled:
            raise Cancelled("Nobody wants this answer any more.")


def disarmed(message: Message, controls: Sequence[str]) -> Message:
    """The message with control tokens made plain text, so that nobody can speak as somebody else by writing one."""
    text = message["content"]
    for control in controls:
        if control in text:
            text = text.replace(control, f"{control[0]} {control[1:]}")
    return {**message, "content": text}


def sentence(error: Exception) -> str:
    return str(error) if isinstance(error, RoostError | Cancelled) else f"The engine failed: {error}."


def serve(make: Callable[[Line], Engine]) -> None:
    """Run the engine that `make` gives for the options on the command line."""
    # Libraries print to standard output; what they print must not come between our lines.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        desk = Desk(make(json.loads(sys.argv[1])), out)
    except RoostError as error:
        out.write(json.dumps({"failed": str(error), "kind": type(error).__name__}).encode() + b"\n")
        out.flush()
        os._exit(1)
    desk.run()
