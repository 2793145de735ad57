"""The way of one message, top to bottom.

accept    journal the message (only then may the channel acknowledge it), queue it in its place's lane
work      access -> plugins -> commands -> memory -> brain, ending in exactly one Answer
finish    before_send -> fit to the channel -> journal the end and the parts together -> outbox
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from roost.commands import Command, replies
from roost.contracts import Busy, ChannelConfig, Limits, Turn
from roost.degrade import choose, fit
from roost.draft import Draft
from roost.errors import RoostError
from roost.journal import Outcome, mend
from roost.lanes import Lanes
from roost.prompt import build, turn_text
from roost.registry import did_you_mean
from roost.values import Button, Event, Message, Place, Reply, Sent

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.pipeline")

OFFERED = 1000  # places whose last buttons are remembered where a platform shows them as a list
STOPPED = " … (stopped)"


@dataclass(slots=True)
class Accepted:
    """An item on its way: its number in the journal, and what a person sees of the answer so far.

    `earlier` is the preview that a run before this one left on the screen. `stopped` is why the answer was broken
    off; `collected` are the numbers of messages that are answered together with this one.
    """

    seq: int
    item: Message | Event
    lane: str
    earlier: Sent | None = None
    draft: Draft | None = None
    text: str = ""
    stopped: str = ""
    collected: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """How a message ends: a reply, an error notice, or a declared silence with its reason."""

    outcome: Outcome
    replies: list[Reply] = field(default_factory=list)
    reason: str = ""

    @classmethod
    def say(cls, *said: Reply, reason: str = "") -> Answer:
        return cls("reply", list(said), reason) if said else cls("silent", [], reason or "nothing to say")


class Pipeline:
    """Takes every message from its arrival to its end."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self.lanes: Lanes[Accepted] = Lanes(self._work)
        self.closed = False
        self._current: dict[str, Accepted] = {}
        self._offered: OrderedDict[str, tuple[Button, ...]] = OrderedDict()

    # Arrival

    async def accept(self, item: Message | Event) -> bool:
        """Make an item durable and queue it; False when it was here before. This is what channels call `receive`."""
        if self.closed:
            await asyncio.Future()  # stopping: what is not accepted is not acknowledged, and comes again
        try:
            seq = await self.bot.journal.accept(item)
        except UnicodeEncodeError:
            item = mend(item)
            seq = await self.bot.journal.accept(item)
        if seq is None:
            return False
        self.queue(seq, item)
        return True

    def queue(self, seq: int, item: Message | Event, earlier: Sent | None = None) -> None:
        """Put an accepted item in its lane; a command that cannot wait gets a lane of its own."""
        item = self._bound(item)
        key = str(item.place)
        named = self._command(item.text) if isinstance(item, Message) else None
        if named and named[0] and named[0].immediate:
            key += "!"
        elif isinstance(item, Message) and not item.edited and self._busy(item.place) == "interrupt":
            self.stop(item.place, "interrupted by a newer message")
        self.lanes.put(key, Accepted(seq, item, key, earlier))

    def stop(self, place: Place, reason: str = "stopped") -> bool:
        """Break off the answer that is being made in a place. False when there is none."""
        current = self._current.get(str(place))
        if current is None or current.draft is None:
            return False
        current.stopped = reason
        return self.lanes.interrupt(str(place))

    def _busy(self, place: Place) -> Busy:
        channel = self.bot.channel(place.channel)
        if channel is None:
            return "queue"
        config: ChannelConfig = channel.config
        return config.busy_in.get(place.chat, config.busy)

    def _bound(self, item: Message | Event) -> Message | Event:
        """Give attachments the means to be read."""
        channel = self.bot.channel(item.place.channel)
        if not isinstance(item, Message) or not item.attachments or channel is None or not channel.can("fetch"):
            return item
        opened = (replace(one, open=functools.partial(channel.fetch, one)) for one in item.attachments)
        return replace(item, attachments=tuple(opened))

    # The middle

    async def _work(self, accepted: Accepted) -> None:
        if isinstance(accepted.item, Event):
            await self.bot.dispatch.all("on_event", bot=self.bot, event=accepted.item)
            await self.bot.journal.finish(accepted.seq, "silent", (), "event")
            return
        message = self._collect(accepted, accepted.item)
        answer = await self._ending(accepted, message)
        try:
            await self._finish(accepted, message, answer)
        except Exception:
            log.exception("A message in %s has no end yet. It will be tried again at the next start.", message.place)

    def _collect(self, accepted: Accepted, message: Message) -> Message:
        """Where bot.toml says so, take along what the same person has said meanwhile."""
        waiting = self.lanes.waiting(accepted.lane)
        if self._busy(message.place) != "collect" or not self._is_plain(message):
            return message
        while waiting and isinstance(following := waiting[0].item, Message) and self._is_plain(following):
            if following.sender != message.sender or following.addressed != message.addressed:
                break
            accepted.collected += (accepted.seq,)
            accepted.seq = waiting.popleft().seq
            text, attachments = f"{message.text}\n{following.text}", message.attachments + following.attachments
            message = replace(following, text=text, attachments=attachments)
        return message

    def _is_plain(self, message: Message) -> bool:
        return not message.edited and self._command(message.text) is None

    async def _ending(self, accepted: Accepted, message: Message) -> Answer:
        """The answer, whatever happens. Only while it is being made can it be broken off."""
        try:
            with self._breakable(accepted):
                return await self._answer(accepted, message)
        except asyncio.CancelledError:
            if not accepted.stopped:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            await self._overhear(message)
            return Answer.say(*([Reply(accepted.text + STOPPED)] if accepted.text else []), reason=accepted.stopped)
        except Exception as error:
            return await self._notice(accepted, message, error)

    @contextlib.contextmanager
    def _breakable(self, accepted: Accepted) -> Iterator[None]:
        self._current[accepted.lane] = accepted
        try:
            yield
        finally:
            del self._current[accepted.lane]

    async def _answer(self, accepted: Accepted, message: Message) -> Answer:
        """The first station that has something to say ends the way."""
        channel = self.bot.channel(message.place.channel)
        verdict = await self.bot.access.admit(message, local=channel is not None and channel.local)
        if not verdict.welcome:
            if verdict.reason == "not addressed":
                await self._overhear(message)
            return Answer.say(*([Reply(verdict.answer)] if verdict.answer else []), reason=verdict.reason)
        if message.edited:
            await self._overhear(message)
            return Answer("silent", reason="edited")
        message = self._chosen(message)
        if (answer := await self.bot.dispatch.first("on_message", bot=self.bot, message=message)) is not None:
            return Answer.say(*[one async for one in replies(answer)], reason="plugin")
        if (named := self._command(message.text)) is not None:
            return await self._run(*named, message)
        if not message.text.strip() and not message.attachments:
            return Answer("silent", reason="empty")
        return await self._think(accepted, message)

    async def _overhear(self, message: Message) -> None:
        """Remember a line that is not answered: talk in a group, or the new text of an old message."""
        turn = Turn("user", turn_text(message), message.sender.name, message.at, message.id)
        await self.bot.memory.remember(message.place, [turn])

    def _chosen(self, message: Message) -> Message:
        """Where buttons were shown as a numbered list, "2" means the second."""
        offered = self._offered.pop(str(message.place), ())
        value = choose(message.text, offered) if offered else None
        return message if value is None else replace(message, text=value)

    # Commands

    def _command(self, text: str) -> tuple[Command | None, str, str] | None:
        """The command a text calls, its name and its arguments; None when the text is no command."""
        prefix = re.escape(self.bot.config.bot.prefix)
        called = re.match(rf"{prefix}([A-Za-z0-9_-]+)(?:@\w+)?(?:\s+|$)", text)
        if called is None:
            return None
        name = called[1].lower().replace("_", "-")
        return self.bot.registry.commands.get(name), name, text[called.end() :]

    async def _run(self, command: Command | None, name: str, rest: str, message: Message) -> Answer:
        prefix = self.bot.config.bot.prefix
        if command is None:
            hint = did_you_mean(name, self.bot.registry.commands)
            return Answer.say(Reply(f"There is no command {prefix}{name}.{hint}"), reason="unknown command")
        if command.owner and self.bot.role(message) != "owner":
            return Answer.say(Reply(f"{prefix}{name} is for my owner."), reason="not allowed")
        async with asyncio.timeout(self.bot.dispatch.time_limit):
            said = await command.run(rest, message, self.bot, prefix)
        return Answer.say(*said, reason=f"command {name}")

    # Thinking

    async def _think(self, accepted: Accepted, message: Message) -> Answer:
        channel = self.bot.channel(message.place.channel)
        if channel is not None:
            accepted.draft = Draft(channel, message, accepted.seq, self.bot.journal, accepted.earlier)
            accepted.draft.open()
        async with self.bot.thinking() as brain, asyncio.timeout(brain.config.timeout):
            await brain.load()
            prompt, turn = await build(brain, self.bot.memory, self.bot.system_text(), message)
            async for other in self.bot.dispatch.each("before_think", bot=self.bot, message=message, prompt=prompt):
                prompt = other
            async for piece in brain.think(prompt):
                accepted.text += piece
                if accepted.draft is not None:
                    accepted.draft.show(accepted.text)
        text = accepted.text.strip()
        if not text:
            raise RoostError("I have no answer to that.")
        await self.bot.memory.remember(message.place, [turn, Turn("assistant", text, id=message.id)])
        return Answer.say(Reply(text), reason="thought")

    async def _notice(self, accepted: Accepted, message: Message, error: Exception) -> Answer:
        """Tell the person that there is no answer, and why, in words that are for them."""
        log.error("No answer in %s: %s", message.place, error, exc_info=not isinstance(error, RoostError))
        await self.bot.dispatch.all("on_error", bot=self.bot, error=error, message=message)
        if isinstance(error, RoostError):
            said = str(error)
        elif isinstance(error, TimeoutError):
            said = "That took too long, so I stopped."
        else:
            said = "Something went wrong while I was answering. My log has the details."
        text = f"{accepted.text.strip()}\n\n⚠️ {said}".strip()
        return Answer("notice", [Reply(text)], f"{type(error).__name__}: {error}")

    # The end

    async def _finish(self, accepted: Accepted, message: Message, answer: Answer) -> None:
        bot, place = self.bot, message.place
        channel = bot.channel(place.channel)
        limits = bot.outbox.limits(channel) if channel is not None else Limits()
        said = [await self._before_send(place, self._addressed(reply, message)) for reply in answer.replies]
        parts = [(place, part) for reply in said for part in fit(reply, limits)]
        self._offer(place, said, limits)
        draft = accepted.draft
        preview = await draft.close() if draft is not None else None
        outcome: Outcome = answer.outcome if parts else "silent"
        written = await bot.journal.finish(
            accepted.seq,
            outcome,
            parts,
            answer.reason,
            preview,
            leaving=bot.outbox.ready(place),
            unsure=draft is not None and draft.unsure,
            collected=accepted.collected,
        )
        bot.outbox.put(written)

    def _addressed(self, reply: Reply, message: Message) -> Reply:
        quote = reply.quote or (message.id if message.place.kind != "direct" else "")
        return replace(reply, quote=quote, ticket=reply.ticket or message.ticket)

    async def _before_send(self, place: Place, reply: Reply) -> Reply:
        async for other in self.bot.dispatch.each("before_send", bot=self.bot, place=place, reply=reply):
            reply = other
        return reply

    def _offer(self, place: Place, said: list[Reply], limits: Limits) -> None:
        buttons = tuple(button for reply in said for button in reply.buttons)
        if buttons and len(buttons) > limits.buttons:
            self._offered[str(place)] = buttons
            if len(self._offered) > OFFERED:
                self._offered.popitem(last=False)
