"""The commands every bot has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.asking import Pending
from roost.commands import called, command
from roost.values import Message

if TYPE_CHECKING:
    from roost.bot import Bot


@command("help", aliases=("start",))
def help_(bot: Bot, message: Message, name: str = "") -> str:
    """Tell what I can do, or how one command is written."""
    prefix = bot.config.bot.prefix
    one = bot.registry.commands.get(called(name.removeprefix(prefix)))
    if one is not None:
        return f"{one.help}\n\n`{prefix}{one.usage}`"
    lines = [f"- `{prefix}{name}` {text}" for name, text in bot.menu(bot.role(message))]
    return f"I am {bot.name}. Write to me and I answer. I also know these commands:\n\n" + "\n".join(lines)


@command(immediate=True)
async def stop(bot: Bot, message: Message) -> str:
    """Stop the answer I am giving."""
    return "Stopped." if bot.pipeline.break_off(message.place) else "I was not saying anything."


@command
def cancel(message: Message) -> str:
    """Let go of what I asked you."""
    return "All right." if message.state.pop(Pending, None) else "I have not asked you anything."


@command
async def new(bot: Bot, message: Message) -> str:
    """Forget this conversation and begin a new one."""
    turns = await bot.memory.forget(message.place)
    await bot.journal.forget(message.place)
    return f"Forgotten: {turns} turns. We begin anew." if turns else "We begin anew."


@command
def whoami(bot: Bot, message: Message) -> str:
    """Tell who you are to me."""
    return f"You are `{message.sender}` in `{message.place}`. To me you are: {bot.role(message)}."
