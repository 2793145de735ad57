"""The log: one line an event on standard error, never a secret in it; nor in what else is printed."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, cast

from roost.secret_forms import finder, without

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Redaction(logging.Formatter):
    """Replaces every known secret in what is written, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(FORMAT, "%H:%M:%S")
        self.secrets: tuple[str, ...] = ()

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))

    def redact(self, text: str) -> str:
        return without(text, finder(self.secrets))


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
    kept = {one for one in {*_redaction.secrets, *secrets} if one.strip()}
    _redaction.secrets = tuple(sorted(kept, key=lambda one: (-len(one), one)))


def redact(text: str) -> str:
    """The text without the secrets that are known."""
    return _redaction.redact(text)


class Clean:
    """A text stream that is written to without the secrets that are known; in all else the stream it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = self.stood_for = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text) if isinstance(text, str) else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Clean:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()


def plain(stream: TextIO) -> TextIO:
    """The stream that a clean one stands for: for what people are told on purpose."""
    return cast(TextIO, getattr(stream, "stood_for", stream))


@contextmanager
def clean() -> Iterator[None]:
    """Keep secrets out of all that this process prints, by whatever plugin.

    They are forgotten at the end, unless an error goes on that is still to be printed.
    """
    before = sys.stdout, sys.stderr, _redaction.secrets
    sys.stdout, sys.stderr = (cast(TextIO, Clean(one)) if one is not None else one for one in before[:2])
    sys.excepthook = last_words
    try:
        yield
    except Exception:
        sys.stdout, sys.stderr = before[:2]
        raise
    except BaseException:
        sys.stdout, sys.stderr, _redaction.secrets = before
        raise
    sys.stdout, sys.stderr, _redaction.secrets = before


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the error that ends the process, as Python would, without secrets."""
    if sys.stderr is not None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
