"""What may leave for a brain on another machine: nothing, what is not private, or everything.

Every prompt for such a brain goes through here, those of summaries and of plugins too. Where `[privacy] remote` says
"redact", private data goes as stand-ins, which come back in the streamed answer; what is too private is for a brain at
home. The stand-ins of a conversation are kept with it, and forgotten with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from roost.contracts import Brain, Call, Piece, Prompt, Turn
from roost.egress import note_private
from roost.errors import RoostError
from roost.hearing import Deaf, Hearing, HearingConfig, NotHeard
from roost.private import find, sensitivity
from roost.settings import PrivacyTable, Remote
from roost.shelf import Shelf
from roost.standins import StandIns
from roost.values import Message, Person, Place

if TYPE_CHECKING:
    from roost.bot import Bot

STRICTNESS: dict[Remote, int] = {"allow": 0, "redact": 1, "never": 2}
STAYS = "I may not send voice messages to another machine, which is where I listen. Please write."
KEY = "stand-ins"
LONGEST = 200_000  # characters of a prompt that is searched; a longer one stays at home


class TooPrivate(RoostError):
    """What was said does not leave, and there is no brain at home."""


class Leaving:
    """Decides and hides, for one bot."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    def rule(self, place: Place, person: Person | None = None) -> Remote:
        return rule(self._bot.config.privacy, place, person)

    async def names(self, message: Message, names: Sequence[str]) -> list[str]:
        """The brains of a chain that a message may go to; those at home when it stays. Raises TooPrivate."""
        allowed = self.rule(message.place, message.sender)
        if allowed == "allow" or not any(self._brain(name).remote for name in names):
            return list(names)
        if allowed == "redact" and not await asyncio.to_thread(self._too_private, message):
            return list(names)
        home = [name for name in (*names, *self._bot.minds.names()) if not self._brain(name).remote]
        if not home:
            why = "" if allowed == "never" else "This is too private to leave home. "
            raise TooPrivate(
                f"{why}I have no brain at home to ask: [brains.NAME] in bot.toml makes one, and [privacy] says what "
                "may leave."
            )
        return list(dict.fromkeys(home))

    def _brain(self, name: str) -> Brain:
        return self._bot.minds.brain(name)

    def _too_private(self, message: Message) -> bool:
        """Pictures count as private: nothing in them can be hidden."""
        quoted = message.quote.text if message.quote else ""
        text = f"{message.text}\n{quoted}"
        seen = any(one.kind == "image" for one in message.attachments)
        return seen or len(text) > LONGEST or sensitivity(text) >= self._bot.config.privacy.keep_home

    def between(self, brain: Brain, place: Place, person: Person | None = None) -> Brain:
        """The brain, as what goes to it has to go. Raises TooPrivate for one that gets nothing."""
        if not brain.remote:
            return brain
        allowed = self.rule(place, person)
        if allowed == "never":
            raise TooPrivate('This stays at home, and the brain is on another machine: [privacy] remote = "never".')
        return Noted(brain) if allowed == "allow" else Veiled(brain, self._bot.shelf("privacy"), place)

    def for_summary(self, brain: Brain, place: Place) -> Brain | None:
        """The brain for a summary of a place; None when nothing said there may go to it."""
        try:
            return self.between(brain, place)
        except TooPrivate:
            return None

    def ear(self, message: Message) -> Hearing:
        """What turns speech into text; a voice cannot be hidden, so `never` keeps it from another machine."""
        hearing = self._bot.hearing
        return Stays() if hearing.remote and self.rule(message.place, message.sender) == "never" else hearing


class Stays(Deaf):
    """For speech that does not leave."""

    def __init__(self) -> None:
        self.config = HearingConfig()

    async def transcribe(self, speech: bytes, name: str, mime: str) -> str:
        raise NotHeard(STAYS)


def rule(table: PrivacyTable, place: Place, person: Person | None = None) -> Remote:
    """What the table says of a place and a person; the strictest, where both have something of their own."""
    whole = Place(place.channel, place.chat)
    found = [table.places[name].remote for name in {str(place), str(whole)} if name in table.places]
    found += [table.people[str(person)].remote] if person is not None and str(person) in table.people else []
    return max(found, key=STRICTNESS.__getitem__, default=table.remote)


class Between(Brain):
    """Stands before a brain on another machine."""

    def __init__(self, inner: Brain) -> None:
        super().__init__(inner.config, inner.home)
        self._inner = inner

    @property
    def context(self) -> int:
        return self._inner.context

    @property
    def remote(self) -> bool:
        return True

    async def load(self) -> None:
        await self._inner.load()

    async def count(self, text: str) -> int:
        return await self._inner.count(text)

    async def unload(self) -> None:
        """It is somebody else's to unload."""


class Noted(Between):
    """Writes down which kinds of private data leave."""

    @property
    def sees(self) -> bool:
        return self._inner.sees

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        note_private(await asyncio.to_thread(kinds, prompt))
        async with aclosing(self._inner.think(prompt)) as answer:  # type: ignore[type-var]
            async for piece in answer:
                yield piece


class Veiled(Between):
    """Hides what is private behind stand-ins, and puts it back in the answer."""

    def __init__(self, inner: Brain, shelf: Shelf, place: Place) -> None:
        super().__init__(inner)
        self._shelf = shelf
        self._place = place

    async def count(self, text: str) -> int:
        return await Brain.count(self, text)  # a server that counts would be told the text

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        kept = await self._shelf.get(KEY, self._place)
        standins = StandIns.of(kept) if kept else StandIns()
        hidden = await asyncio.to_thread(veil, prompt, standins)
        if standins.plain() != kept:
            await self._shelf.put(KEY, standins.plain(), self._place)
        restorer = standins.restorer()
        async with aclosing(self._inner.think(hidden)) as answer:  # type: ignore[type-var]
            async for piece in answer:
                if isinstance(piece, Call):
                    if rest := restorer.end():
                        yield rest
                    restorer = standins.restorer()
                    yield replace(piece, arguments=mapped(piece.arguments, standins.restore))
                elif said := restorer.feed(piece):
                    yield said
        if rest := restorer.end():
            yield rest


def texts(prompt: Prompt) -> list[str]:
    """Everything in a prompt that somebody said or something told: turns, and the arguments of calls."""
    return [text for turn in prompt.turns for text in (turn.text, *(call.arguments for call in turn.calls))]


def kinds(prompt: Prompt) -> set[str]:
    """The kinds of private data in a prompt."""
    return {item.kind for text in texts(prompt) if len(text) <= LONGEST for item in find(text)}


def veil(prompt: Prompt, standins: StandIns) -> Prompt:
    """The prompt with stand-ins. Raises TooPrivate when it is too long to be searched, or they would not come back."""
    plain = [decoded(text) if text.startswith("{") else text for text in texts(prompt)]
    if sum(map(len, plain)) > LONGEST:
        raise TooPrivate("This is too long to be searched for what is private.")
    try:
        hidden = iter(standins.hide_all(plain))
    except RoostError as error:
        raise TooPrivate(f"What is private in this cannot be hidden: {error}") from error
    turns = tuple(_veiled(turn, hidden) for turn in prompt.turns)
    return replace(prompt, turns=turns, said="")


def _veiled(turn: Turn, hidden: Any) -> Turn:
    text = next(hidden)
    return replace(
        turn, text=text, calls=tuple(replace(call, arguments=next(hidden)) for call in turn.calls), author=""
    )


def decoded(text: str) -> str:
    """JSON with its characters as themselves, so that they can be searched; other text as it is."""
    return mapped(text, str)


def mapped(text: str, change: Callable[[str], str]) -> str:
    """JSON with every text in it changed; what is no JSON is changed as it is."""

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [walk(one) for one in value]
        return {walk(name): walk(one) for name, one in value.items()} if isinstance(value, dict) else value

    try:
        return json.dumps(walk(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return change(text)
