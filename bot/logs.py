"""The log: one line an event on standard error, never a secret in it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
HIDDEN = "(hidden)"


class Redaction(logging.Formatter):
    """Replaces every known secret in what is written, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(FORMAT, "%H:%M:%S")
        self.secrets: tuple[str, ...] = ()

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))

    def redact(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


_redaction = Redaction()


def begin(level: str) -> None:
    """Write the log to standard error from `level` on. Other libraries are heard from warnings on."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_redaction)
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    hear(level)


def hear(level: str) -> None:
    """Write our own lines from `level` on."""
    logging.getLogger("roost").setLevel(level.upper())


def hide(secrets: Iterable[str]) -> None:
    """Keep these values out of the log from now on, longest first so that no rest of one stays behind."""
    _redaction.secrets = tuple(sorted({*_redaction.secrets, *secrets}, key=len, reverse=True))


def redact(text: str) -> str:
    """The text without the secrets that are known."""
    return _redaction.redact(text)
