"""Where an answer has to end."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Looks for stop strings in a text that arrives in pieces. However it is cut, the same text comes out."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = [stop for stop in stops if stop]
        self.found = False
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now. Nothing comes after a stop was found."""
        if self.found:
            return ""
        self._held += piece
        starts = [start for stop in self.stops if (start := self._held.find(stop)) >= 0]
        if starts:
            self.found = True
            return self._held[: min(starts)]
        cut = len(self._held) - max((overlap(self._held, stop) for stop in self.stops), default=0)
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def end(self) -> str:
        """What was held back and turns out to be no stop."""
        text, self._held = "" if self.found else self._held, ""
        return text


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may begin `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
