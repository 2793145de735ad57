"""Does a channel get through to its platform? Asked of the bot that runs, or tried here for a moment."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from roost.errors import RoostError
from roost.supervisor import Supervisor
from roost.values import Event, Message
from roost.wishes import offer

if TYPE_CHECKING:
    from roost.bot import Bot

PATIENCE = 30.0  # seconds for a sign of life
IN_TROUBLE = 10.0  # seconds that its trouble may pass in
LOOK = 0.1  # seconds between two looks
REFUSED = "refused: "


@offer
async def tried(bot: Bot, name: str) -> str:
    """A sentence about the channel `name`; it begins with REFUSED when the platform refuses its keys."""
    if bot.resting:
        return await _for_a_moment(bot, name)
    for _ in range(int(PATIENCE / LOOK)):
        if name in bot.channels:
            return await _sign_of_life(name, bot.channels[name])
        await asyncio.sleep(LOOK)  # bot.toml was changed a moment ago
    raise RoostError(f"The bot that runs has no channel '{name}'. See its log.")


async def _for_a_moment(bot: Bot, name: str) -> str:
    """Connect and listen, and take nothing: what comes meanwhile is not acknowledged, and comes again."""
    entry = bot.config.channels.get(name)
    if entry is None:
        if any(f"[channels.{name}]" in problem for problem in bot.config.problems):
            raise RoostError(f"[channels.{name}] is not in order.")
        known = ", ".join(sorted(bot.config.channels)) or "none"
        raise RoostError(f"{bot.config.path} has no channel '{name}'. There are: {known}.")
    supervisor = bot.supervised(name, entry)
    supervisor.start(_never, quiet=True)
    try:
        return await _sign_of_life(name, supervisor)
    finally:
        await supervisor.stop()


async def _never(item: Message | Event) -> bool:
    await asyncio.Event().wait()
    return False


async def _sign_of_life(name: str, supervisor: Supervisor) -> str:
    for _ in range(int(PATIENCE / LOOK)):
        if supervisor.state == "running":
            return f"{name}: it works."
        if supervisor.state == "stopped":
            return f"{REFUSED}{supervisor.problem}"
        if supervisor.state == "waiting" and time.time() - supervisor.since > IN_TROUBLE:
            return f"{name}: it does not work yet. {supervisor.problem}"
        await asyncio.sleep(LOOK)
    return f"{name}: no answer within {PATIENCE:.0f} seconds. {supervisor.problem}".strip()


@offer
async def states(bot: Bot) -> str:
    """What each channel is at, as a JSON object: its name to "running", or to "waiting. " and why."""
    return json.dumps({name: f"{one.state}. {one.problem}".removesuffix(". ") for name, one in bot.channels.items()})
