"""The commands that are the owner's alone: how the bot is, and what it could not deliver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from roost import letters as dead_letters
from roost.commands import command, shorten
from roost.values import Message

if TYPE_CHECKING:
    from roost.bot import Bot
    from roost.supervisor import Supervisor

SHOWN = 20  # letters listed at a time


@command(role="owner")
async def status(bot: Bot, message: Message) -> str:
    """Tell how I am: channels, what waits, what could not be delivered."""
    waiting = await bot.journal.waiting()
    waiting[message.place.channel] -= 1  # this very question
    lines = [_line(one, waiting.pop(name, 0)) for name, one in sorted(bot.channels.items())]
    lines += [f"- {name}: not switched on, {count} waiting" for name, count in sorted(waiting.items())]
    dead = len(dead_letters.dead(bot.journal.path, cipher=bot.journal.cipher))
    lines += [f"- the plugin '{one.plugin}': {one.reason}" for one in bot.registry.failures]
    lines += [f"- {dead} could not be delivered: `{bot.config.bot.prefix}letters`"] if dead else []
    return "\n".join([f"I am {bot.name}.", "", *lines])


def _line(one: Supervisor, waiting: int) -> str:
    told = f"- {one.channel.name}: {one.state}"
    told += f" for {span(time.time() - one.since)}" if one.since else ""
    if one.state == "running":
        told += f", last sign of life {span(time.time() - one.last_sign)} ago"
    told += f", {waiting} waiting" if waiting else ""
    return told + (f". {one.problem}" if one.problem else "")


def span(seconds: float) -> str:
    """A stretch of time in one unit: `3 min`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


@command(role="owner")
def letters(bot: Bot, what: Literal["list", "show", "resend", "drop"] = "list", number: int | None = None) -> str:
    """List what could not be delivered, show one, send it again or drop it; without a number, all."""
    journal = (bot.journal.path, number, bot.journal.cipher)
    if what == "resend":
        return f"{dead_letters.resend(*journal)} to be sent again."
    if what == "drop":
        return f"{dead_letters.drop(*journal)} deleted."
    found = dead_letters.dead(*journal)
    if not found:
        return "There is nothing that could not be delivered." if number is None else f"There is no letter {number}."
    if what == "show":
        return "\n\n".join(f"**{one.id}** to `{one.place}`: {one.error}\n\n{one.text}" for one in found[:SHOWN])
    return "\n".join(_titles(found))


def _titles(found: list[dead_letters.Letter]) -> Iterator[str]:
    for one in found[:SHOWN]:
        yield f"- **{one.id}** to `{one.place}`: {shorten(one.error)}"
    if len(found) > SHOWN:
        yield f"- and {len(found) - SHOWN} more"
