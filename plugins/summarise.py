"""Summarise: `/summary` of the last 50 lines here, `/summary 200` of more."""

from roost import Message, command

TASK = "Summarise this conversation in a few short points: what was decided, what is open, who does what."
MOST = 500  # lines


@command(aliases=["summarise", "summarize"])
async def summary(bot, message: Message, lines: int = 50) -> str:
    """Sum up what was said here lately."""
    said = await bot.history(message.place, min(max(lines, 1), MOST) + 1)
    talk = [f"{one.author or bot.name}: {one.text}" for one in said if one.id != message.id and one.text]
    if not talk:
        return "Nothing was said here yet."
    return await bot.think(message, TASK, "\n".join(talk))
