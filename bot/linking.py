"""`/link`: one person on several channels. A code from one chat, sent in another, joins the two."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from roost.commands import command
from roost.hookspecs import hookimpl
from roost.pairing import meant, new_code, shown
from roost.values import Message
from roost.wishes import offer

if TYPE_CHECKING:
    from roost.bot import Bot

VALID = 600.0  # seconds
TRIES = 5  # wrong codes of one person within the time a code is valid
KEPT = 1000  # codes and persons with wrong tries


@dataclass(slots=True)
class Codes:
    """Codes that were given out, and wrong ones that were tried. They live as long as the process."""

    given: OrderedDict[str, tuple[str, float]] = field(default_factory=OrderedDict)
    wrong: OrderedDict[str, list[float]] = field(default_factory=OrderedDict)

    def give(self, person: str) -> str:
        """A new code for a person, valid for ten minutes and once."""
        code = new_code()
        self.given[code] = person, time.monotonic() + VALID
        while len(self.given) > KEPT:
            self.given.popitem(last=False)
        return code

    def take(self, code: str, person: str) -> str | None:
        """Who a code was given to; None when it is not valid or this person has tried too often."""
        now = time.monotonic()
        tries = [at for at in self.wrong.get(person, []) if now - at < VALID]
        code = meant(code)
        known = next((one for one in self.given if hmac.compare_digest(one.encode(), code.encode())), None)
        if known is None or len(tries) >= TRIES or self.given[known][1] < now:
            self.wrong[person] = [*tries, now]
            while len(self.wrong) > KEPT:
                self.wrong.popitem(last=False)
            return None
        return self.given.pop(known)[0]


codes = Codes()


@command
async def link(bot: Bot, message: Message, code: str = "") -> str:
    """Tell me that you are the same person on another channel: get a code here, send it there."""
    if message.place.kind != "direct":
        return "That is for a chat with me alone."
    prefix, me = bot.config.bot.prefix, str(message.sender)
    if not code:
        given = codes.give(me)
        return f"Within ten minutes, write to me on the other channel: `{prefix}link {shown(given)}`"
    other = codes.take(code, me)
    if other is None:
        return f"That code is not valid. `{prefix}link` on the other channel gives a new one."
    if other == me:
        return "That is the account you got the code with. Send it from the other one."
    await bot.people.join(me, other)
    return "Now I know you here and there. What I was asked to remember is shared; conversations stay apart."


@command
async def unlink(bot: Bot, message: Message) -> str:
    """Be a person of your own again on this channel."""
    if await bot.people.part_from(str(message.sender)):
        return "From now on you are nobody else to me."
    return "You are nobody else to me anyway."


@offer
async def link_persons(bot: Bot, person: str, other: str) -> str:
    for one in (person, other):
        if not all(one.partition(":")[::2]):
            return f"'{one}' is no person. `/whoami` tells who somebody is, such as telegram:42."
    if person == other:
        return f"'{person}' is one person anyway."
    await bot.people.join(person, other)
    return f"Linked: {' = '.join(await bot.people.others(person))}"


@offer
async def unlink_person(bot: Bot, person: str) -> str:
    return "Unlinked." if await bot.people.part_from(person) else f"'{person}' is not linked to anybody."


@hookimpl
def register_cli(cli: click.Group) -> None:
    cli.add_command(people)


@click.group()
def people() -> None:
    """Who is let in, who is kept out, and who is the same person on several channels."""


@people.command("link")
@click.argument("person")
@click.argument("other")
def people_link(person: str, other: str) -> None:
    """Say that two are one person, such as telegram:42 and slack:U7."""
    from roost.cli import granted

    click.echo(granted(link_persons, person, other))


@people.command("unlink")
@click.argument("person")
def people_unlink(person: str) -> None:
    """Say that a person is nobody else."""
    from roost.cli import granted

    click.echo(granted(unlink_person, person))
