"""What a model writes and nobody should read: control tokens, thoughts, loops."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from roost.brains.repetition import Repetition
from roost.contracts import Call, Piece

# What stands between these is the model's own: thoughts, and calls that no engine recognised as such.
BLOCKS = {f"<{name}>": f"</{name}>" for name in ("think", "tool_call")}
# Control tokens of the chat templates of ChatML, Llama 2 and 3, Mistral, Gemma, Phi and DeepSeek.
LITERALS = (
    *("<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    # What a small model writes around its answer once it has seen results of tools.
    *("<tool_response>", "</tool_response>"),
    *BLOCKS.values(),
)
# No spaces inside: `f <| x |> g` is a program, not a token.
PIPED = r"<[|｜][\w▁]{1,40}[|｜]>"
TOKEN = re.compile("|".join([*map(re.escape, (*BLOCKS, *LITERALS)), PIPED]))
BEGUN = re.compile(r"<[|｜][\w▁]{0,40}[|｜]?\Z")
LONGEST = 44
LOOP = " …"


class Hygiene:
    """Filters a text that arrives in pieces. However it is cut, the same text comes out.

    Leading white space is dropped too: it is what remains between thoughts and the answer. A block that never ends
    is never shown.
    """

    def __init__(self) -> None:
        self._held = ""
        self._until = ""  # what ends the block that is open
        self._begun = False

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        self._held += piece
        return self._show(self._pass(final=False))

    def end(self) -> str:
        """What was held back and turns out to be plain text."""
        return self._show(self._pass(final=True))

    def _pass(self, final: bool) -> str:
        shown = []
        while self._held:
            text, more = self._pass_over(final) if self._until else self._speak(final)
            shown.append(text)
            if not more:
                break
        return "".join(shown)

    def _pass_over(self, final: bool) -> tuple[str, bool]:
        """Drop a block up to its end. The second value tells whether to go on."""
        _, found, rest = self._held.partition(self._until)
        if found:
            self._held, self._until = rest, ""
        else:
            self._held = "" if final else self._held[-len(self._until) + 1 :]
        return "", bool(found)

    def _speak(self, final: bool) -> tuple[str, bool]:
        """Pass text on up to the next token. The second value tells whether to go on."""
        token = TOKEN.search(self._held)
        if token:
            text, self._held = self._held[: token.start()], self._held[token.end() :]
            self._until = BLOCKS.get(token.group(), "")
            return text, True
        cut = len(self._held) if final else safe(self._held)
        text, self._held = self._held[:cut], self._held[cut:]
        return text, False

    def _show(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text


def safe(text: str) -> int:
    """How much of `text`, which has no whole token, cannot become part of one."""
    for start in range(max(0, len(text) - LONGEST), len(text)):
        if text[start] in "<[" and may_begin(text[start:]):
            return start
    return len(text)


def may_begin(tail: str) -> bool:
    """Whether more text could make `tail` a control token."""
    return bool(BEGUN.match(tail)) or any(token.startswith(tail) for token in (*BLOCKS, *LITERALS))


def clean(text: str) -> str:
    """A whole text without control tokens and thoughts."""
    filter_ = Hygiene()
    return filter_.feed(text) + filter_.end()


async def cleaned(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """An answer as a person may read it, ended when it runs in circles; calls pass."""
    filter_, repetition = Hygiene(), Repetition()
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Call):
                if text := filter_.end():
                    yield text
                yield piece
                continue
            if text := filter_.feed(piece):
                yield text
            if repetition.feed(piece):
                yield LOOP
                return
    if text := filter_.end():
        yield text
