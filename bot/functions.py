"""What plugins answer: their `on_message` hooks first, then the command that a text calls; and what they ask."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from roost.asking import Asked, Asking, Pending
from roost.commands import MOST, Command, called, replies, shorten
from roost.errors import RoostError
from roost.registry import did_you_mean, where_it_failed
from roost.roles import allows
from roost.values import Message, Reply

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.plugins")

NEEDED = {"person": "for people I know.", "admin": "for my owner and those who help.", "owner": "for my owner."}
GONE = "What I asked you about is no longer there."


@dataclass(frozen=True, slots=True)
class Said:
    """What a plugin said, and why it was its turn."""

    replies: list[Reply]
    reason: str


@dataclass(frozen=True, slots=True)
class Call:
    """A command that a text calls, as far as there is one, its name as it was written, and its arguments."""

    command: Command | None
    name: str
    rest: str


class Functions:
    """Calls the functions of plugins for one bot."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    def command(self, text: str) -> Call | None:
        """The command a text calls; None when the text is no command."""
        prefix = re.escape(self._bot.config.bot.prefix)
        match = re.match(rf"{prefix}([A-Za-z0-9_-]+)(?:@\w+)?(?:\s+|$)", text)
        if match is None:
            return None
        name = called(match[1])
        return Call(self._bot.registry.commands.get(name), name, text[match.end() :])

    async def answer(self, message: Message) -> Said | None:
        """What hooks or a command say; None when the message is for the brain."""
        message = replace(message, _asking=Asking())
        said = await self._hooks(message)
        call = self.command(message.text)
        return said if said is not None or call is None else await self._run(call, message)

    async def go_on(self, pending: Pending, first: Message) -> Said:
        """What the function says that asked this person something, now that it is answered."""
        said: Said | None = None
        if pending.what == "hook":
            said = await self._hooks(first, pending)
        elif (call := self.command(first.text)) is not None:
            said = await self._run(call, first, pending.shown)
        return said or Said([Reply(GONE)], "nothing asked")

    async def _hooks(self, message: Message, pending: Pending | None = None) -> Said | None:
        """What the first plugin says that has an answer; the one that asked, when it goes on."""
        shown = pending.shown if pending else 0
        for one in self._bot.registry.implementations("on_message", pending.name if pending else ""):
            name = one.plugin_name
            hearing = partial(_heard, self._hook(one, message), "hook", name, message, shown)
            said = await self._bot.dispatch.within("on_message", name, hearing)
            if said is not None:
                return Said(said, "plugin")
        return None

    async def _hook(self, one: Any, message: Message) -> AsyncGenerator[Reply | None, None]:
        answer = await self._bot.dispatch.call("on_message", one, bot=self._bot, message=message)
        passes = answer is None or inspect.isgenerator(answer) or inspect.isasyncgen(answer)
        async with aclosing(replies(answer)) as found:
            async for reply in found:
                passes = False
                yield reply
        if passes:
            yield None

    async def _run(self, call: Call, message: Message, shown: int = 0) -> Said:
        bot, name, command = self._bot, call.name, call.command
        prefix = bot.config.bot.prefix
        if command is None:
            hint = did_you_mean(name, [known for known, _ in bot.menu(bot.role(message))])
            return Said([Reply(f"There is no command {prefix}{shorten(name)}.{hint}")], "unknown command")
        if not allows(bot.role(message), command.role):
            return Said([Reply(f"{prefix}{name} is {NEEDED[command.role]}")], "not allowed")
        try:
            async with asyncio.timeout(bot.dispatch.time_limit):
                with bot.dispatch.watch.of(command.plugin):
                    running = command.run(call.rest, message, bot, prefix)
                    said = await _heard(running, "command", name, message, shown)
        except TimeoutError:
            log.error("The plugin '%s' took too long in %s%s and was cut off.", command.plugin, prefix, name)
            raise
        except (Exception, SystemExit) as error:
            if not isinstance(error, RoostError):
                log.error("The plugin '%s' failed in %s%s. %s", command.plugin, prefix, name, where_it_failed(error))
            raise
        return Said(said or [], f"command {name}")


async def _heard(
    said: AsyncGenerator[Reply | None, None], what: Literal["command", "hook"], name: str, message: Message, shown: int
) -> list[Reply] | None:
    """What a function says, without the first `shown`; None when it passes. What it asks is kept in the state."""
    found: list[Reply] = []
    try:
        async with aclosing(said):
            async for reply in said:
                if reply is None:
                    return None
                found.append(reply)
                if len(found) == MOST:
                    log.warning("'%s' says %d things at once; the rest, if any, is left out.", name, MOST)
                    break
    except Asked as asked:
        pending = Pending.of(what, name, message, asked)
        message.state.put(Pending, replace(pending, shown=len(found)), asked.seconds)
        found.append(asked.question)
    return found[shown:]
