"""What a model writes for itself and nobody should read: control tokens and thoughts."""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
# Control tokens of the chat templates of ChatML, Llama 2 and 3, Mistral, Gemma, Phi and DeepSeek.
LITERALS = (
    *("<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    CLOSE,
)
# No spaces inside: `f <| x |> g` is a program, not a token.
PIPED = r"<[|｜][\w▁]{1,40}[|｜]>"
TOKEN = re.compile("|".join([re.escape(OPEN), *map(re.escape, LITERALS), PIPED]))
BEGUN = re.compile(r"<[|｜][\w▁]{0,40}[|｜]?\Z")
LONGEST = 44


class Hygiene:
    """Filters a text that arrives in pieces. However it is cut, the same text comes out.

    Leading white space is dropped too: it is what remains between thoughts and the answer. Thoughts that never
    end are never shown.
    """

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
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
            text, more = self._think(final) if self._thinking else self._speak(final)
            shown.append(text)
            if not more:
                break
        return "".join(shown)

    def _think(self, final: bool) -> tuple[str, bool]:
        """Drop thoughts up to their end. The second value tells whether to go on."""
        _, found, rest = self._held.partition(CLOSE)
        if found:
            self._held, self._thinking = rest, False
        else:
            self._held = "" if final else self._held[-len(CLOSE) + 1 :]
        return "", bool(found)

    def _speak(self, final: bool) -> tuple[str, bool]:
        """Pass text on up to the next token. The second value tells whether to go on."""
        token = TOKEN.search(self._held)
        if token:
            text, self._held = self._held[: token.start()], self._held[token.end() :]
            self._thinking = token.group() == OPEN
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
    return bool(BEGUN.match(tail)) or any(token.startswith(tail) for token in (OPEN, *LITERALS))


def clean(text: str) -> str:
    """A whole text without control tokens and thoughts."""
    filter_ = Hygiene()
    return filter_.feed(text) + filter_.end()
