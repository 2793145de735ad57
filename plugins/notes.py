"""Notes and things to do, of each person: `/note milk is out`, `/notes`, `/todo call Bob`, `/todos`, `/done 1`."""

from typing import Literal

from roost import Message, command


@command
async def note(bot, message: Message, text: str) -> str:
    """Write something down."""
    return f"Noted, as number {await add(bot, message, 'note', text)}."


@command
async def notes(bot, message: Message, what: Literal["list", "drop"] = "list", number: int | None = None) -> str:
    """List your notes, or drop one."""
    if what == "drop":
        return await drop(bot, message, "note", number)
    return await listed(bot, message, "note") or "You have no notes. `/note` makes one."


@command
async def todo(bot, message: Message, text: str) -> str:
    """Put something on your list of things to do."""
    return f"On your list, as number {await add(bot, message, 'todo', text)}."


@command
async def todos(bot, message: Message) -> str:
    """List what you have to do."""
    return await listed(bot, message, "todo") or "You have nothing to do. `/todo` changes that."


@command
async def done(bot, message: Message, number: int) -> str:
    """Take something off your list of things to do."""
    return await drop(bot, message, "todo", number)


async def add(bot, message: Message, kind: str, text: str) -> int:
    shelf = bot.shelf(kind)
    mine = await shelf.all(person=message.sender)
    key = max((int(one.key) for one in mine), default=0) + 1
    await shelf.put(str(key), text, person=message.sender)
    return len(mine) + 1


async def listed(bot, message: Message, kind: str) -> str:
    mine = await bot.shelf(kind).all(person=message.sender)
    return "\n".join(f"{number}. {one.value}" for number, one in enumerate(mine, 1))


async def drop(bot, message: Message, kind: str, number: int | None) -> str:
    mine = await bot.shelf(kind).all(person=message.sender)
    if number is None or not 0 < number <= len(mine):
        return "There is no such number."
    await bot.shelf(kind).drop(mine[number - 1])
    return f"Gone: {mine[number - 1].value}"
