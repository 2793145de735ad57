"""What waits for its turn, by its number in the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

ROOM = 1000  # things held in memory; of the others the number is enough, the journal has the rest


class Waiting(Generic[T]):
    """Holds the first that come, reads the others again from the journal when it is their turn."""

    def __init__(self, read: Callable[[int], Awaitable[T | None]], room: int = ROOM) -> None:
        self._read = read
        self._room = room
        self._held: dict[int, T] = {}

    def put(self, number: int, thing: T) -> None:
        if len(self._held) < self._room:
            self._held[number] = thing

    async def take(self, number: int) -> T | None:
        """The thing with this number, or None when the journal has it no more."""
        held = self._held.pop(number, None)
        return held if held is not None else await self._read(number)

    def drop(self, concerned: Callable[[T], bool]) -> None:
        for number in [number for number, thing in self._held.items() if concerned(thing)]:
            del self._held[number]
