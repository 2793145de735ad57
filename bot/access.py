"""Who may talk to the bot."""

from __future__ import annotations

import hmac
import logging
import sqlite3
import time
from dataclasses import dataclass
from typing import Protocol

from roost.budgets import Budgets, Spent
from roost.journal import Journal
from roost.pairing import Pairing, Request, meant, new_code
from roost.people import People
from roost.roles import Role
from roost.rules import doubts, rules_at
from roost.settings import AccessTable
from roost.values import Message, Person, Place

log = logging.getLogger("roost.access")

WRONG_CODES = 1000  # in all, of 10**12, after which the code is void until the next start
GROUPS = 10_000  # groups known to be listened to, besides those where somebody known speaks again

UNPROVEN = (
    "That is the right code, and I cannot make you my owner here, where others could write in your name. Send it to me "
    "on another platform. Why"
)
NOBODY = "I answer only to people my owner has let in."


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


class House(Protocol):
    """What there is to know of channels, by name, and who tells the owner of a request: see `roost.door`."""

    def local(self, channel: str) -> bool: ...
    def personal(self, channel: str) -> bool: ...
    def unproven(self, person: str) -> str: ...
    async def announce(self, request: Request) -> None: ...


class Access:
    """Keeps who is let in, and decides."""

    def __init__(self, table: AccessTable, owner: str, journal: Journal, house: House) -> None:
        self.owner = owner
        self.code = ""
        self.budgets = Budgets(journal)
        self.pairing = Pairing(journal, self.budgets)
        self.people = People(journal)
        self._table = table
        self._house = house
        self._journal = journal
        self._roles: dict[str, Role] = {}
        self._blocked: set[str] = set()
        self._seats: dict[str, str] = {}
        self._wrong = 0
        self._groups: set[str] = set()

    @property
    def table(self) -> AccessTable:
        return self._table

    @table.setter
    def table(self, table: AccessTable) -> None:
        if table != self._table:
            self._table = table
            self._warn()

    async def load(self) -> None:
        self._warn()
        await self.refresh()
        sql = "SELECT person, place FROM seat ORDER BY at"
        self._seats = dict(await self._journal.do(lambda db: db.execute(sql).fetchall()))

    async def refresh(self) -> None:
        """Read again who is known."""
        known = await self.people.known()
        self._roles = {one.id: one.role for one in known if one.role != "stranger"}
        self._blocked = {one.id for one in known if one.blocked}

    def _warn(self) -> None:
        for doubt in doubts(self._table):
            log.warning("%s", doubt)

    # Who somebody is

    def claimable(self) -> bool:
        """Whether somebody still has to say that the bot is theirs."""
        below = (*self.table.channels.values(), *self.table.places.values())
        pairing = "pairing" in (self.table.direct, *(one.direct for one in below))
        return pairing and not self.owner and "owner" not in self._roles.values()

    def new_code(self) -> str:
        """The code that makes whoever sends it the owner, once."""
        self.code = new_code()
        return self.code

    def role(self, person: Person | str, local: bool = False, place: Place | None = None) -> Role:
        """`local` people sit at the machine itself, which makes them its owner. Who is blocked is a stranger.

        An id that nothing proves is a guest at most, unless bot.toml itself says more.
        """
        id = str(person)
        given = self._given(id)
        if local or id == self.owner or given == "owner":
            return "owner"
        if id in self._blocked:
            return "stranger"
        listed = (rules_at(self.table, place) if place is not None else self.table).people
        if id in listed and given != self._roles.get(id):
            return "person"
        return given or ("person" if id in listed else "stranger")

    def _given(self, id: str) -> Role | None:
        """What somebody was made in a chat or by a command, as far as it holds for the id."""
        given = self._roles.get(id)
        return "guest" if given in ("person", "admin", "owner") and self._house.unproven(id) else given

    def blocked(self, person: Person | str) -> bool:
        return str(person) in self._blocked and self.role(person) != "owner"

    # Whether a message goes on

    async def admit(self, message: Message, local: bool) -> Verdict:
        """Decide on a message. The owner's code is taken here and goes no further."""
        if not local and self.blocked(message.sender):
            return Verdict(False, "blocked")
        rules, role = rules_at(self.table, message.place), self.role(message.sender, local, message.place)
        if message.place.kind != "direct":
            verdict = self._group(message, rules, role != "stranger")
        elif not message.addressed:
            verdict = Verdict(False, "not addressed", overhear=role != "stranger")
        else:
            verdict = WELCOME if local else await self._direct(message, rules, role)
        if not verdict.welcome or message.edited:
            return verdict
        if role == "owner":
            await self._sit(message)
            return verdict
        return spent_all(await self.budgets.take(message, rules), message)

    def metered(self, message: Message) -> bool:
        """Whether a budget of tokens holds for a message."""
        return self.budgets.metered(message, rules_at(self.table, message.place))

    async def spend(self, message: Message, tokens: int) -> None:
        """Count the tokens that the answer to a message took, its prompt included."""
        await self.budgets.spend(message, rules_at(self.table, message.place), tokens)

    async def _direct(self, message: Message, rules: AccessTable, role: Role) -> Verdict:
        if rules.direct == "closed":
            return Verdict(False, "[access] direct is closed")
        if role != "stranger" or rules.direct == "open":
            return WELCOME
        if rules.direct != "pairing":
            return Verdict(False, f"stranger, and [access] direct is {rules.direct}")
        if self._is_code(message.text):
            return await self._claim(message.sender)
        if self._house.personal(message.place.channel):
            return Verdict(False, "stranger on a personal account")
        return await self._turn_away(message, rules)

    def _group(self, message: Message, rules: AccessTable, known: bool) -> Verdict:
        """A group is listened to once somebody known has spoken there, so that nobody can fill the disk."""
        if rules.groups == "closed":
            return Verdict(False, "[access] groups is closed")
        if known and len(self._groups) < GROUPS:
            self._groups.add(str(message.place))
        if message.addressed and (known or rules.groups == "open"):
            return WELCOME
        heard = known or rules.groups == "open" or str(message.place) in self._groups
        return Verdict(False, "stranger in a group" if message.addressed else "not addressed", overhear=heard)

    # Becoming the owner

    def _is_code(self, text: str) -> bool:
        said = meant(text)
        if not self.code or len(said) != len(self.code) or not self.claimable():
            return False
        if hmac.compare_digest(said.encode(), self.code.encode()):
            return True
        self._wrong += 1
        if self._wrong >= WRONG_CODES:
            self.code = ""
            log.warning("%d wrong owner codes were sent. The code is void; start Roost again for another.", WRONG_CODES)
        return False

    async def _claim(self, person: Person) -> Verdict:
        """The code is void before anything is awaited, so that two who send it at once cannot both have it."""
        if why := self._house.unproven(str(person)):
            log.warning("The owner's code came from %s, which is no proof of who sent it: %s.", person, why)
            return Verdict(False, "owner code without proof", f"{UNPROVEN}: {why}.")
        code, self.code = self.code, ""
        try:
            await self.let_in(str(person), "owner", person.name)
        except BaseException:
            self.code = code
            raise
        log.info("%s is the owner now.", person)
        return Verdict(False, "owner code", "You are my owner now. What can I do for you?")

    # Strangers

    async def _turn_away(self, message: Message, rules: AccessTable) -> Verdict:
        owned = not self.claimable() or bool(self.seats())
        request = await self.pairing.ask(message, rules.strangers_per_hour, pending=owned)
        if request is None:
            return Verdict(False, "stranger")
        answer = NOBODY
        if self.code:
            answer += " If I am yours, send me the code that I printed when I was started."
        if request.state == "pending":
            await self._house.announce(request)
            answer += (
                f" I have asked. Let my owner know this code, so that it is clear who you are: "
                f"**roost-code-{request.token}**. It is good for an hour."
            )
        return Verdict(False, "stranger", answer)

    # What the owner decides

    async def let_in(self, person: str, role: Role, name: str = "") -> None:
        """Say who somebody is from now on. Whoever was blocked no longer is."""
        await self._journal.let_in(person, role, name)
        await self.refresh()

    async def block(self, person: str, blocked: bool = True) -> None:
        """Give somebody nothing but silence, or no longer: then they are what they were before."""
        await self.people.block(person, blocked)
        await self.refresh()

    async def remove(self, person: str) -> bool:
        """Let somebody be a stranger again; False when they were one."""
        removed = await self.people.remove(person)
        await self.refresh()
        return removed

    # Where the owner is

    async def _sit(self, message: Message) -> None:
        """Remember in which chat an owner spoke last."""
        person, place = str(message.sender), str(message.place)
        if message.place.kind != "direct" or list(self._seats.items())[-1:] == [(person, place)]:
            return
        self._seats.pop(person, None)
        self._seats[person] = place

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO seat (person, place, at) VALUES (?, ?, ?)", (person, place, time.time()))

        await self._journal.do(write)

    def seats(self) -> list[Place]:
        """The chats in which those who are owners spoke, the last first."""
        places = [(person, Place.parse(place)) for person, place in reversed(self._seats.items())]
        return [place for person, place in places if self.role(person, self._house.local(place.channel)) == "owner"]


def spent_all(spent: Spent | None, message: Message) -> Verdict:
    """What is said to somebody whose budget is used up: once, and then nothing until it is fresh."""
    if spent is None:
        return WELCOME
    minutes = max(1, round(spent.wait / 60))
    wait = f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"
    answer = "" if spent.told else f"That was as much as I may answer here. I am back in {wait}."
    return Verdict(False, "budget", answer, overhear=message.place.kind != "direct")
