"""Who may talk to the bot."""

from __future__ import annotations

import hmac
import logging
import secrets
from dataclasses import dataclass
from typing import Literal

from roost.journal import Journal
from roost.settings import AccessTable
from roost.values import Message, Person

log = logging.getLogger("roost.access")

Role = Literal["owner", "person", "stranger"]
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without 0 O 1 I, which people confuse
WRONG_CODES = 1000  # in all, of 10**12, after which the code is void until the next start
STRANGERS = 10_000  # people remembered as having had their one answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a message goes on. If not, `answer` is said once, and `reason` is written down.

    What is not answered may still be `overhear`d, as context for what is.
    """

    welcome: bool
    reason: str = ""
    answer: str = ""
    overhear: bool = False


WELCOME = Verdict(True)


class Access:
    """Keeps who is let in, and decides."""

    def __init__(self, table: AccessTable, owner: str, journal: Journal) -> None:
        self.table = table
        self.owner = owner
        self.code = ""
        self._journal = journal
        self._roles: dict[str, str] = {}
        self._wrong = 0
        self._told: set[str] = set()
        self._groups: set[str] = set()

    async def load(self) -> None:
        self._roles = await self._journal.people()

    def claimable(self) -> bool:
        """Whether somebody still has to say that the bot is theirs."""
        return self.table.direct == "pairing" and not self.owner and "owner" not in self._roles.values()

    def new_code(self) -> str:
        """The code that makes whoever sends it the owner, once."""
        self.code = "".join(secrets.choice(ALPHABET) for _ in range(8))
        return self.code

    def role(self, person: Person, local: bool) -> Role:
        """`local` people sit at the machine itself, which makes them its owner."""
        id = str(person)
        if local or id == self.owner or self._roles.get(id) == "owner":
            return "owner"
        return "person" if id in self._roles or id in self.table.people else "stranger"

    async def admit(self, message: Message, local: bool) -> Verdict:
        """Decide on a message. The owner's code is taken here and goes no further."""
        if message.place.kind != "direct":
            return self._group(message, self.role(message.sender, local) != "stranger")
        if local:
            return WELCOME
        if self.table.direct == "closed":
            return Verdict(False, "[access] direct is closed")
        return WELCOME if self.role(message.sender, local) != "stranger" else await self._direct(message)

    async def _direct(self, message: Message) -> Verdict:
        if self.table.direct == "open":
            return WELCOME
        if self.table.direct != "pairing":
            return Verdict(False, f"stranger, and [access] direct is {self.table.direct}")
        if self._is_code(message.text):
            return await self._claim(message.sender)
        return self._turn_away(message.sender)

    def _group(self, message: Message, known: bool) -> Verdict:
        """A group is listened to once somebody known has spoken there, so that nobody can fill the disk."""
        if self.table.groups == "closed":
            return Verdict(False, "[access] groups is closed")
        if known:
            self._groups.add(str(message.place))
        if message.addressed and (known or self.table.groups == "open"):
            return WELCOME
        heard = self.table.groups == "open" or str(message.place) in self._groups
        return Verdict(False, "stranger in a group" if message.addressed else "not addressed", overhear=heard)

    def _is_code(self, text: str) -> bool:
        said = text.strip().replace("-", "").replace(" ", "").upper()
        if not self.code or len(said) != len(self.code):
            return False
        if hmac.compare_digest(said.encode(), self.code.encode()):
            return True
        self._wrong += 1
        if self._wrong >= WRONG_CODES:
            self.code = ""
            log.warning("%d wrong owner codes were sent. The code is void; start Roost again for another.", WRONG_CODES)
        return False

    async def _claim(self, person: Person) -> Verdict:
        self.code = ""
        await self._journal.let_in(str(person), "owner", person.name)
        self._roles[str(person)] = "owner"
        log.info("%s is the owner now.", person)
        return Verdict(False, "owner code", "You are my owner now. What can I do for you?")

    def _turn_away(self, person: Person) -> Verdict:
        if str(person) in self._told or len(self._told) >= STRANGERS:
            return Verdict(False, "stranger")
        self._told.add(str(person))
        answer = "I answer only to people my owner has let in."
        if self.code:
            answer += " If I am yours, send me the code that I printed when I was started."
        return Verdict(False, "stranger", answer)
