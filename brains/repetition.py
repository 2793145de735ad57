"""Small models fall into loops. An answer that says the same again and again is ended."""

from __future__ import annotations

from collections.abc import Sequence

# Bytes at the end of the answer. In bytes a text of Chinese is as long as an English one of as many tokens, so that
# both are ended before `max_tokens` does it.
WATCHED = 960
SHORT = 640
TIMES = 6  # how often the same must be said in them, one after the other
STEP = 96


class Repetition:
    """Watches a growing answer for the same stretch of text said over and over: six times and more.

    A person may ask for a line ten times; so what is said must fill 640 bytes with nothing else, and 960 when it is
    longer than 106.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._fresh = 0

    def feed(self, text: str) -> bool:
        """Whether the answer, `text` included, has fallen into a loop."""
        said = text.encode(errors="surrogatepass")
        self._tail = (self._tail + said)[-WATCHED:]
        self._fresh += len(said)
        if self._fresh < STEP:
            return False
        self._fresh = 0
        return any(len(self._tail) >= size and period(self._tail[-size:]) * TIMES <= size for size in (SHORT, WATCHED))


def period(text: Sequence[object]) -> int:
    """The length of the shortest stretch whose repetition makes `text`; its whole length when there is none.

    By the failure function of Knuth, Morris and Pratt (SIAM Journal on Computing 6, 1977).
    """
    border = [0] * len(text)
    length = 0
    for place in range(1, len(text)):
        while length and text[place] != text[length]:
            length = border[length - 1]
        length += text[place] == text[length]
        border[place] = length
    return len(text) - length
