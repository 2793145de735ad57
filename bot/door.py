"""Who is at the door: the owner is told of strangers who ask to be let in, where the owner was last."""

from __future__ import annotations

import logging
import unicodedata
from typing import TYPE_CHECKING, Final

from roost.commands import shorten
from roost.errors import RoostError
from roost.pairing import Request
from roost.proof import forgeable, unproven
from roost.values import Button, Place, Reply

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.access")

CONSOLE = Place("terminal", "terminal")  # where `roost chat` listens, whoever has used it
LONGEST = 40  # characters of a name
GUEST: Final = "guest"  # said behind /approve, for an id that is no proof


class Door:
    """What access knows of the channels, and how it reaches the owner."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    def local(self, channel: str) -> bool:
        """Whether whoever reaches a channel is the owner of the machine."""
        found = self._bot.channel(channel)
        return found is not None and found.local

    def personal(self, channel: str) -> bool:
        """Whether a channel's account is also a person's own."""
        found = self._bot.channel(channel)
        if found is None:
            return False
        return bool(found.personal if found.config.personal is None else found.config.personal)

    def unproven(self, person: str) -> str:
        """Why an id is no proof of who bears it; empty where it is."""
        return unproven(self._bot.config.channels, person)

    async def announce(self, request: Request) -> None:
        """Tell the owner of a request. The log names it too, in case nobody can be told."""
        log.info("%s asks to be let in: roost people approve %s", request.person, request.person)
        place = self.owners_place()
        if place is None:
            log.warning("The owner was not told of it: there is no chat in which the owner has spoken to me.")
            return
        try:
            why = self.unproven(request.person)
            doubt = why or forgeable(self._bot.config.channels, request.person)
            await self._bot.send(place, asked(request, self._bot.config.bot.prefix, doubt, proven=not why))
        except RoostError as error:
            log.error("The owner could not be told of it: %s", error)

    async def tell(self, request: Request, text: str) -> None:
        """Say something to whoever asked, where the platform lets the bot speak first."""
        channel = self._bot.channel(request.place.channel)
        if channel is not None and channel.limits_at(request.place).proactive:
            await self._bot.send(request.place, text)

    def owners_place(self) -> Place | None:
        """The chat in which an owner spoke last, of those that can be reached; else the console."""
        seats = [*self._bot.access.seats(), *([CONSOLE] if self.local(CONSOLE.channel) else [])]
        return next((one for one in seats if self._reaches(one, now=True)), None) or next(
            (one for one in seats if self._reaches(one)), None
        )

    def _reaches(self, place: Place, now: bool = False) -> bool:
        find = self._bot.running if now else self._bot.channel
        channel = find(place.channel)
        return channel is not None and channel.limits_at(place).proactive


def asked(request: Request, prefix: str, doubt: str = "", proven: bool = True) -> Reply:
    """What the owner reads, and may press. `doubt` says why the id may be somebody else's."""
    text = (
        f"Somebody asks to be let in on {request.person.partition(':')[0]}.\n\n"
        f"- id: `{plain(request.person, 200)}`\n"
        f"- calls themselves `{plain(request.name) or 'nothing'}`, which anybody can\n"
        f"{f'- that id is no proof: {doubt}{chr(10)}' if doubt else ''}\n"
        "If you do not know this id, ask the person you think it is for the code I gave them, and send me "
        f"`{prefix}approve CODE`."
    )
    let_in = {"Approve": f"approve {request.id}"} if proven else {"Let in as a guest": f"approve {request.id} {GUEST}"}
    presses = {**let_in, "Deny": f"deny {request.id}", "Block": f"block {request.id}"}
    buttons = tuple(Button(word, f"{prefix}{command}") for word, command in presses.items())
    return Reply(text, buttons=buttons)


def plain(text: str, most: int = LONGEST) -> str:
    """What a stranger chose, as it may stand between backticks: one short line that cannot pass for anything else."""
    seen = "".join(" " if char.isspace() else char for char in text if not _unseen(char))
    return shorten(" ".join(seen.replace("`", "'").split()), most)


def _unseen(char: str) -> bool:
    """Whether a character shows nothing, or changes how others are shown, such as which way they run."""
    return unicodedata.category(char).startswith("C") and not char.isspace()
