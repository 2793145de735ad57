"""Joins rooms of different platforms: what is said in one is shown in the others.

[plugins.bridge]
rooms = [["telegram:-100123", "slack:C0123"], ["irc:#roost", "matrix:!abc:example.org"]]

`/whoami` in a room shows its name. The bot has to see what is said there: privacy mode off on Telegram, for example.
"""

from dataclasses import replace

from roost import Attachment, Message, Reply, hookimpl, key, options

LARGEST = 10 * 1024 * 1024  # bytes of a file that is carried over


@options
class Options:
    rooms: list[list[str]] = key(factory=list, help="Groups of places that are one room, by their names.")


@hookimpl
async def on_message(bot, message: Message) -> None:
    await carry(bot, message)


@hookimpl
async def on_overheard(bot, message: Message) -> None:
    await carry(bot, message)


async def carry(bot, message: Message) -> None:
    """Show a message in the other rooms of its group."""
    here = str(message.place)
    others = {place for group in bot.options(Options).rooms if here in group for place in group if place != here}
    if not others or message.text.startswith(bot.config.bot.prefix):
        return
    reply = Reply(text(message), tuple([await carried(one) for one in message.attachments]))
    for place in sorted(others):
        await bot.send(place, reply)


def text(message: Message) -> str:
    name = message.sender.name or message.sender.handle or message.sender.id
    quote = "".join(f"> {line}\n" for line in message.quote.text.splitlines()) if message.quote else ""
    return f"{quote}{chr(10) if quote else ''}**{name}**{' (edited)' if message.edited else ''}: {message.text}"


async def carried(one: Attachment) -> Attachment:
    """A file with its content; one that is too large is named only."""
    try:
        data = await one.read(LARGEST)
    except ValueError:
        return replace(
            one, data=f"'{one.name}' is too large to be carried over.".encode(), mime="text/plain", open=None
        )
    return replace(one, data=data, size=len(data), open=None, ref="")
