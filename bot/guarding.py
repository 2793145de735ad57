"""The commands for letting people in and keeping them out, in a chat and as `roost people`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Literal, cast

import click

from roost.commands import command, shorten
from roost.door import GUEST, plain
from roost.linking import people
from roost.pairing import Request, is_code
from roost.people import Known
from roost.proof import forgeable
from roost.roles import RANK, Role
from roost.rules import PERSON
from roost.values import Button, Message, Reply
from roost.wishes import offer

if TYPE_CHECKING:
    from roost.bot import Bot

WELCOME = "My owner has let you in. What can I do for you?"
LOCKED = "Too many wrong codes. Codes are not taken from you for an hour; the buttons of a request still work."
WHO = "Name a request by its number, or somebody by their id, such as `telegram:42`."


# What is meant by a word


async def _request(bot: Bot, what: str) -> Request | None:
    """The request with a number, or the last of a person, that waits to be decided on."""
    pairing = bot.access.pairing
    found = await (pairing.by_number(int(what)) if _is_number(what) else pairing.by_person(what))
    return found if found is not None and found.state == "pending" else None


def _is_number(what: str) -> bool:
    return what.isdecimal() and len(what) < 8


async def _person(bot: Bot, what: str) -> str:
    """Who is meant by an id, or by the number of a request; empty when that is nobody."""
    what = what.strip("` ")
    if _is_number(what):
        found = await bot.access.pairing.by_number(int(what))
        return found.person if found is not None else ""
    return what if PERSON.fullmatch(what) else ""


def _above(bot: Bot, message: Message, person: str) -> bool:
    """Whether somebody ranks so low that who wrote this may change it."""
    return RANK[bot.role(message)] > RANK[bot.access.role(person)]


# In a chat


@command(role="admin")
async def approve(bot: Bot, message: Message, who: str) -> Reply | str:
    """Let somebody in: by the code they have told you, the number of their request, or their id.

    Where an id is no proof of who bears it, I ask for the word `guest` behind it.
    """
    who, word = _meant(who)
    if is_code(who) and not _is_number(who) and ":" not in who:
        return await _by_code(bot, message, who, word)
    request = await _request(bot, who)
    if request is not None and _is_number(who) and not request.fresh:
        return _late(bot, request)
    if request is not None:
        return await _let_in(bot, request, word)
    return await _let_in_by_id(bot, message, who, word)


def _meant(who: str) -> tuple[str, bool]:
    """Whom an approval is for, and whether it says that they are to be a guest."""
    bare, _, last = who.strip("` ").rpartition(" ")
    return (bare.strip("` "), True) if bare and last.lower() == GUEST else (who.strip("` "), False)


async def _by_code(bot: Bot, message: Message, code: str, as_guest: bool) -> Reply | str:
    me, pairing = str(message.sender), bot.access.pairing
    if await pairing.locked(me):
        return LOCKED
    request = await pairing.by_code(code, me)
    if request is None:
        return LOCKED if await pairing.locked(me) else "There is no request with that code. A code is good for an hour."
    return await _let_in(bot, request, as_guest)


def _late(bot: Bot, request: Request) -> Reply:
    button = Button("Let them in", f"{bot.config.bot.prefix}approve {request.person}")
    return Reply(f"That was more than an hour ago. Let `{plain(request.person, 200)}` in all the same?", (), (button,))


async def _let_in(bot: Bot, request: Request, as_guest: bool) -> Reply | str:
    if bot.access.role(request.person) != "stranger":
        await bot.access.pairing.decide(request, "approved")
        return f"`{plain(request.person, 200)}` has been let in already."
    if (doubt := _doubt(bot, request.person, as_guest, str(request.id))) is not None:
        return doubt
    if not await bot.access.pairing.decide(request, "approved"):
        return "Somebody else has just decided on that."
    await bot.access.let_in(request.person, GUEST if as_guest else "person", request.name)
    await bot.door.tell(request, WELCOME)
    return _is_in(request.person, as_guest)


def _is_in(person: str, as_guest: bool) -> str:
    return f"`{plain(person, 200)}` is let in{' as a guest' if as_guest else ''}."


def _doubt(bot: Bot, person: str, as_guest: bool, request: str = "") -> Reply | None:
    """What is said before an id that is no proof is let in: nothing above a guest, and not without the word."""
    why = "" if as_guest else bot.door.unproven(person)
    if not why:
        return None
    again = f"{bot.config.bot.prefix}approve {request or person} {GUEST}"
    text = (
        f"`{plain(person, 200)}` is no proof of who writes: {why}. Whoever forges it is taken for its bearer, so "
        f"that it can be a guest at most. For that: `{again}`, or `roost people role {plain(person, 200)} guest`."
    )
    return Reply(text, buttons=(Button("Let them in as a guest", again),))


async def _let_in_by_id(bot: Bot, message: Message, who: str, as_guest: bool) -> Reply | str:
    person = await _person(bot, who) if not _is_number(who) else ""
    if not person:
        return f"There is no request '{shorten(plain(who))}' that waits. {WHO}"
    if bot.access.role(person) != "stranger":
        return f"`{plain(person, 200)}` has been let in already."
    if (doubt := _doubt(bot, person, as_guest)) is not None:
        return doubt
    await bot.access.let_in(person, GUEST if as_guest else "person")
    return _is_in(person, as_guest)


@command(role="admin")
async def deny(bot: Bot, who: str) -> str:
    """Turn a request down, by its number or the id of whoever asked. They are not told."""
    request = await _request(bot, who.strip("` "))
    if request is None or not await bot.access.pairing.decide(request, "denied"):
        return f"There is no request '{shorten(plain(who))}' that waits. {WHO}"
    return f"`{plain(request.person, 200)}` stays outside, and is not told."


@command(role="admin")
async def block(bot: Bot, message: Message, who: str) -> str:
    """Answer somebody with nothing but silence, whatever they were before."""
    person = await _person(bot, who)
    if not person:
        return f"There is no '{shorten(plain(who))}'. {WHO}"
    if not _above(bot, message, person):
        return "You cannot block somebody who may do what you may."
    return await _block(bot, person)


async def _block(bot: Bot, person: str) -> str:
    request = await _request(bot, person)
    if request is not None:
        await bot.access.pairing.decide(request, "denied")
    await bot.access.block(person)
    others = [one for one in await bot.people.others(person) if one != person and not bot.access.blocked(one)]
    also = f" Also known as, and not blocked: {', '.join(f'`{plain(one, 200)}`' for one in others)}." if others else ""
    return f"`{plain(person, 200)}` is blocked.{also}"


@command(role="admin")
async def unblock(bot: Bot, who: str) -> str:
    """Let somebody who was blocked be what they were before."""
    person = await _person(bot, who)
    if not bot.access.blocked(person):
        return f"'{shorten(plain(who))}' is not blocked. {WHO}"
    await bot.access.block(person, False)
    return f"`{plain(person, 200)}` is no longer blocked, and to me: {bot.access.role(person)}."


@command(role="owner")
async def role(bot: Bot, who: str, what: Literal["admin", "person", "guest"]) -> str:
    """Say what somebody is to me: an admin, a person, or a guest, who may chat and use what is for everybody."""
    return await set_role(bot, who, what)


@command("people", role="admin")
async def people_(bot: Bot) -> str:
    """List whom I know, who is blocked, and who asks to be let in."""
    return "\n".join([line async for line in _listed(bot)]) or "I know nobody yet."


async def _listed(bot: Bot) -> AsyncIterator[str]:
    for one in await bot.people.known():
        yield "- " + "".join(_line(bot, one))
    listed = dict.fromkeys(bot.config.access.people)
    for person in listed:
        yield f"- `{plain(person, 200)}`: {bot.access.role(person)}, by bot.toml"
    for request in await bot.access.pairing.pending():
        called = f", calls themselves `{plain(request.name)}`" if plain(request.name) else ""
        late = "" if request.fresh else ", more than an hour ago"
        yield f"- {request.id}. `{plain(request.person, 200)}` asks to be let in{called}{late}"


def _line(bot: Bot, one: Known) -> Iterator[str]:
    yield f"`{plain(one.id, 200)}`: {'blocked' if bot.access.blocked(one.id) else bot.access.role(one.id)}"
    if plain(one.name):
        yield f", called themselves `{plain(one.name)}`"


# At the command line, which is the owner's


@offer
async def list_people(bot: Bot) -> str:
    await bot.access.refresh()
    lines = [line async for line in _listed(bot)]
    links = [f"- the same person: {' = '.join(persons)}" for persons in await bot.people.all()]
    return "\n".join([*lines, *links]).replace("`", "") or "Nobody is known yet."


@offer
async def let_in(bot: Bot, who: str) -> str:
    await bot.access.refresh()
    request = await _request(bot, who)
    if request is not None:
        said = await _let_in(bot, request, as_guest=False)
        return (said.text if isinstance(said, Reply) else said).replace("`", "")
    person = await _person(bot, who)
    if not person:
        return f"There is no '{who}'. {WHO}".replace("`", "")
    if bot.access.role(person) != "stranger":
        return f"{person} has been let in already."
    if (doubt := _doubt(bot, person, as_guest=False)) is not None:
        return doubt.text.replace("`", "")
    await bot.access.let_in(person, "person")
    return f"{person} is let in."


@offer
async def block_person(bot: Bot, who: str) -> str:
    await bot.access.refresh()
    person = await _person(bot, who)
    if not person:
        return f"There is no '{who}'. {WHO}".replace("`", "")
    if bot.access.role(person) == "owner":
        return f"{person} is the owner. Take that away first: roost people remove {person}"
    return (await _block(bot, person)).replace("`", "")


@offer
async def remove_person(bot: Bot, who: str) -> str:
    await bot.access.refresh()
    if not await bot.access.remove(who):
        return f"'{who}' is not known. `roost people list` tells who is.".replace("`", "")
    return f"{who} is a stranger again." + (" bot.toml lets them in." if bot.access.role(who) != "stranger" else "")


@offer
async def set_role(bot: Bot, who: str, what: str) -> str:
    await bot.access.refresh()
    person = await _person(bot, who)
    if not person:
        return f"There is no '{shorten(plain(who))}'. {WHO}"
    if person == bot.access.owner or (bot.access.role(person) == "owner" and what != "owner"):
        return f"`{plain(person, 200)}` is the owner. Take that away first: `roost people remove {plain(person, 200)}`"
    if what != GUEST and (why := bot.door.unproven(person)):
        return f"`{plain(person, 200)}` is no proof of who writes: {why}. It can be a guest, and nothing above."
    name = next((one.name for one in await bot.people.known() if one.id == person), "")
    request = await _request(bot, person)
    if request is not None:
        await bot.access.pairing.decide(request, "approved")
    await bot.access.let_in(person, cast(Role, what), name or (request.name if request is not None else ""))
    doubt = forgeable(bot.config.channels, person) if what in ("admin", "owner") else ""
    warned = f" Mind that this id is no proof: {doubt}." if doubt else ""
    return f"`{plain(person, 200)}` is to me, from now on: {what}.{warned}"


@people.command("list")
def people_list() -> None:
    """List who is known and as what, who is blocked, who asks to be let in, and who is the same person."""
    from roost.cli import granted

    click.echo(granted(list_people))


@people.command("approve")
@click.argument("who")
def people_approve(who: str) -> None:
    """Let somebody in, by the number of a request or an id such as telegram:42."""
    from roost.cli import granted

    click.echo(granted(let_in, who))


@people.command("block")
@click.argument("who")
def people_block(who: str) -> None:
    """Answer somebody with nothing but silence."""
    from roost.cli import granted

    click.echo(granted(block_person, who))


@people.command("remove")
@click.argument("who")
def people_remove(who: str) -> None:
    """Let somebody be a stranger again, who is neither let in nor blocked."""
    from roost.cli import granted

    click.echo(granted(remove_person, who))


@people.command("role")
@click.argument("who")
@click.argument("what", type=click.Choice(["owner", "admin", "person", "guest"]))
def people_role(who: str, what: str) -> None:
    """Say what somebody is to the bot."""
    from roost.cli import granted

    click.echo(granted(set_role, who, what).replace("`", ""))
