"""What must hold whatever comes in: a declared error or something the journal keeps, in few steps."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any

from fuzz.targets import TARGETS, Item, NotCarried, Read, Target
from roost.rows import encode, readable
from roost.updates import check_kept

CALLS_A_BYTE = 300
WIDEST = 40  # bytes that one byte of an update may become


class TooManyCalls(BaseException):
    """More calls than a reader that looks at each byte a bounded number of times would make."""


class Meter:
    """Counts calls, of functions in Python and in C, and ends what makes too many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.calls = 0

    def __enter__(self) -> Meter:
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1
            if self.calls > self.most:
                sys.setprofile(None)
                raise TooManyCalls(f"more than {self.most} calls, now in {frame.f_code.co_qualname}")


@cache
def reader(name: str) -> Read:
    """What reads for a target. It has read its corpus once: tables that are made when first needed do not count."""
    target = TARGETS[name]
    read = target.make()
    for seed in target.seeds():
        outcome(target, read, seed)
    return read


def check(target: Target, data: bytes) -> list[Item]:
    """Read an update and look at what came of it. Raises AssertionError, or the error that was not declared."""
    read = reader(target.name)
    with Meter(target.calls + CALLS_A_BYTE * len(data)):
        found = outcome(target, read, data)
    for item in found:
        keeps(item, data)
    return found


def outcome(target: Target, read: Read, data: bytes) -> list[Item]:
    found: list[Item] = []
    try:
        found.extend(item for item in read(data) if item is not None)
    except (NotCarried, *target.errors):
        pass
    return found


def keeps(item: Item, data: bytes) -> None:
    """Whether the journal keeps it and gives it back the same, or says at once that it cannot."""
    check_kept(item)
    with suppress(TypeError, ValueError, OverflowError):  # the pipeline passes it over
        body = encode(readable(item))
        assert len(body) <= 20_000 + WIDEST * len(data), f"{len(data)} bytes became {len(body)}"
