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
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from roost.asking import Asked, Pending, Permission
from roost.contracts import Busy, ChannelConfig, Turn
from roost.degrade import choose
from roost.dispatch import is_cancelled
from roost.draft import Draft
from roost.errors import RoostError, StoreError
from roost.functions import Functions
from roost.hearing import heard
from roost.journal import Outcome
from roost.lanes import Lanes
from roost.logs import redact
from roost.prompt import turn_text
from roost.rows import Open, readable
from roost.states import States
from roost.thinking import Thinking
from roost.values import Button, Event, Message, Person, Place, Reply, Sent
from roost.waiting import Waiting

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.pipeline")

OFFERED = 1000  # places whose last buttons are remembered where a platform shows them as a list
ALBUM = 1.0  # seconds in which the rest of an album comes
ASIDE = " !"  # ends the key of a lane for what cannot wait; no place has a space
STOPPED = " … (stopped)"


@dataclass(slots=True)
class Accepted:
    """A message on its way: its number in the journal, and what a person sees of the answer so far.

    `earlier` is the preview that a run before this one left on the screen. `stopped` is why the answer was broken
    off; `collected` are the numbers of messages that are answered together with this one.
    """

    seq: int
    lane: str
    earlier: Sent | None = None
    sender: Person | None = None
    draft: Draft | None = None
    text: str = ""
    stopped: str = ""
    collected: tuple[int, ...] = ()

    def show(self, text: str) -> None:
        """The answer so far."""
        self.text = text
        if self.draft is not None:
            self.draft.show(text)


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
        self.lanes: Lanes[int] = Lanes(self._take_up, urgent=lambda key: key.endswith(ASIDE))
        self.states = States(bot.journal)
        self.functions = Functions(bot)
        self.thinking = Thinking(bot)
        self._waiting: Waiting[Open] = Waiting(bot.journal.open_item)
        self.closed = False
        self._accepting: set[asyncio.Future[bool]] = set()
        self._current: dict[str, Accepted] = {}
        self._offered: OrderedDict[str, tuple[Button, ...]] = OrderedDict()

    # Arrival

    async def accept(self, item: Message | Event) -> bool:
        """Make an item durable and queue it; False when it was here before. This is what channels call `receive`."""
        if self.closed:
            await asyncio.Future()  # stopping: what is not accepted is not acknowledged, and comes again
        # Once it is in the journal it must be queued, also when whoever brought it is gone.
        accepting = asyncio.ensure_future(self._accept(item))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepting.discard)
        return await asyncio.shield(accepting)

    async def _accept(self, item: Message | Event) -> bool:
        try:
            item = readable(item)
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("[channels.%s] brought what is no message, it was passed over: %s", item.place.channel, error)
            return False
        seq = await self.bot.journal.accept(item)
        if seq is None:
            return False
        self.queue(Open(seq, item))
        return True

    def queue(self, accepted: Open) -> None:
        """Put an accepted item in its lane; a command that cannot wait gets a lane of its own."""
        if self.closed:
            return  # the journal has it
        key = self._lane(accepted.item)
        if isinstance(accepted.item, Message) and not key.endswith(ASIDE):
            self._interrupt(accepted.item)
            self.bot.tidying.give_way()
        self._waiting.put(accepted.seq, accepted)
        self.lanes.put(key, accepted.seq)

    def leave(self, channel: str) -> None:
        """Let what waits on a channel wait in the journal alone."""
        self.lanes.drop(lambda key: key.startswith(f"{channel}:"))
        self._waiting.drop(lambda one: one.item.place.channel == channel)

    def _lane(self, item: Message | Event) -> str:
        named = self.functions.command(item.text) if isinstance(item, Message) else None
        aside = named is not None and named.command is not None and named.command.immediate
        return str(item.place) + (ASIDE if aside else "")

    def break_off(self, place: Place, reason: str = "stopped") -> bool:
        """Cancel the answer that is being made in a place. False when there is none."""
        current = self._current.get(str(place))
        if current is None:
            return False
        current.stopped = reason
        return self.lanes.interrupt(str(place))

    def _interrupt(self, message: Message) -> None:
        """Where bot.toml says so, break off the answer to what the same person said before."""
        current = self._current.get(str(message.place))
        if current is None or current.draft is None or message.edited or not message.addressed:
            return
        if current.sender == message.sender and self._busy(message.place) == "interrupt":
            self.break_off(message.place, "interrupted by a newer message")

    def _busy(self, place: Place) -> Busy:
        channel = self.bot.channel(place.channel)
        if channel is None:
            return "queue"
        config: ChannelConfig = channel.config
        return config.busy_in.get(place.chat, config.busy)

    def _bound(self, message: Message) -> Message:
        """Give attachments the means to be read."""
        channel = self.bot.channel(message.place.channel)
        if not message.attachments or channel is None or not channel.can("fetch"):
            return message
        opened = (replace(one, open=functools.partial(channel.fetch, one)) for one in message.attachments)
        return replace(message, attachments=tuple(opened))

    # The middle

    async def _take_up(self, seq: int) -> None:
        found = await self._waiting.take(seq)
        if found is None:
            return
        if isinstance(found.item, Event):
            event = found.item
            if event.kind == "undelivered":
                await self.bot.outbox.undelivered(event.place.channel, event.message_id, event.value)
            await self.bot.dispatch.all("on_event", bot=self.bot, event=event)
            await self.bot.journal.finish(seq, "silent", (), "event")
            return
        await self._work(Accepted(seq, self._lane(found.item), found.earlier), found.item)

    async def _work(self, accepted: Accepted, message: Message) -> None:
        accepted.sender = message.sender
        try:
            message = await self._collect(accepted, self._bound(message))
            message = replace(message, _state=await self.states.of(message))
            await self._finish(accepted, message, await self._ending(accepted, message))
        finally:
            if accepted.draft is not None:
                accepted.draft.cancel()

    async def _collect(self, accepted: Accepted, message: Message) -> Message:
        """Take along the rest of an album and, where bot.toml says so, what the same person has said meanwhile."""
        if message.album:
            await self._await_album()
        elif self._busy(message.place) != "collect" or not self._is_plain(message):
            return message
        while (seq := self.lanes.next(accepted.lane)) is not None:
            following = await self._waiting.take(seq)
            if following is None or not self._joins(message, following.item):
                if following is not None:
                    self._waiting.put(seq, following)
                break
            self.lanes.take_next(accepted.lane)
            message = self._joined(accepted, message, following)
        return message

    def _joined(self, accepted: Accepted, message: Message, following: Open) -> Message:
        assert isinstance(following.item, Message)
        accepted.collected += (accepted.seq,)
        accepted.seq, accepted.earlier = following.seq, following.earlier or accepted.earlier
        return replace(
            following.item,
            text="\n".join(filter(None, (message.text, following.item.text))),
            attachments=message.attachments + self._bound(following.item).attachments,
            addressed=message.addressed or following.item.addressed,
            quote=following.item.quote or message.quote,
        )

    @staticmethod
    async def _await_album() -> None:
        """Its messages come one by one, and none says that it is the last."""
        await asyncio.sleep(ALBUM)

    def _joins(self, message: Message, item: Message | Event) -> bool:
        if not isinstance(item, Message) or not self._is_plain(item) or item.sender != message.sender:
            return False
        if message.album or item.album:
            return item.album == message.album
        return item.addressed == message.addressed

    def _is_plain(self, message: Message) -> bool:
        return not message.edited and self.functions.command(message.text) is None

    async def _ending(self, accepted: Accepted, message: Message) -> Answer:
        """The answer, whatever happens. Only while it is being made can it be broken off."""
        try:
            with self._breakable(accepted):
                return await self._answer(accepted, message)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if not isinstance(error, asyncio.CancelledError):
                return await self._notice(accepted, message, error)
            if accepted.stopped:
                return await self._broken_off(accepted, message)
            if is_cancelled():
                raise
            return await self._notice(accepted, message, error)

    async def _broken_off(self, accepted: Accepted, message: Message) -> Answer:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        said = accepted.text + STOPPED if accepted.text else ""
        await self._overhear(message, said)
        return Answer.say(*([Reply(said)] if said else []), reason=accepted.stopped)

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
        pending = message.state.get(Pending)
        if pending is not None:  # an answer needs no mention of the bot
            message = replace(message, addressed=True)
        verdict = await self.bot.access.admit(message, local=channel is not None and channel.local)
        if not verdict.welcome:
            if verdict.overhear:
                await self._overheard(message)
            return Answer.say(*([Reply(verdict.answer)] if verdict.answer else []), reason=verdict.reason)
        if message.edited:
            await self._overheard(message)
            return Answer("silent", reason="edited")
        message = await heard(self._chosen(message), self.bot.leaving.ear(message))
        named = self.functions.command(message.text)
        if pending is not None and named is None:
            return await self._go_on(accepted, pending, message)
        if (said := await self.functions.answer(message)) is not None:
            return Answer.say(*said.replies, reason=said.reason)
        if not message.text.strip() and not message.attachments:
            return Answer("silent", reason="empty")
        return await self._think(accepted, message)

    async def _go_on(self, accepted: Accepted, pending: Pending, message: Message) -> Answer:
        """Let what asked this person something go on with the answer."""
        del message.state[Pending]
        first = pending.first(message)
        if pending.what == "tools":
            return await self._think(accepted, first, pending)
        said = await self.functions.go_on(pending, first)
        return Answer.say(*said.replies, reason=said.reason)

    async def _overheard(self, message: Message) -> None:
        await self._overhear(message)
        await self.bot.dispatch.all("on_overheard", bot=self.bot, message=message)

    async def _overhear(self, message: Message, said: str = "") -> None:
        """Remember what gets no full answer: talk in a group, the new text of an old message, an answer broken off."""
        person = str(message.sender)
        turns = [Turn("user", turn_text(message), message.sender.name, message.at, message.id, person=person)]
        turns += [Turn("assistant", said, id=message.id)] if said else []
        try:
            await self.bot.memory.remember(message.place, turns)
        except Exception as error:
            trace = error if unexpected(error) else None
            log.error("A line in %s is not remembered: %s", message.place, error, exc_info=trace)

    def _chosen(self, message: Message) -> Message:
        """Where buttons were shown as a numbered list, "2" means the second."""
        offered = self._offered.pop(str(message.place), ())
        value = choose(message.text, offered) if offered else None
        return message if value is None else replace(message, text=value)

    # Thinking

    async def _think(self, accepted: Accepted, message: Message, pending: Pending | None = None) -> Answer:
        channel = self.bot.channel(message.place.channel)
        if channel is not None:
            accepted.draft = Draft(channel, message, accepted.seq, self.bot.journal, accepted.earlier, self.bot.outbox)
            accepted.draft.open()
        try:
            thought = await self.thinking.about(message, accepted.show, pending)
        except Asked as asked:
            return await self._wait(message, asked, pending)
        await self.bot.memory.remember(message.place, thought.turns)
        return Answer.say(Reply(thought.note + thought.text), reason="thought")

    async def _wait(self, message: Message, asked: Asked, before: Pending | None) -> Answer:
        """Ask what tools need a person's word for. What was said so far is remembered, and replaced by the answer."""
        work = asked.work if isinstance(asked, Permission) else before.work if before else None
        pending = replace(Pending.of("tools", "", message, asked), work=work)
        message.state.put(Pending, pending, asked.seconds)
        await self._overhear(message, asked.question.text)
        return Answer.say(asked.question, reason="asked for permission")

    async def _notice(self, accepted: Accepted, message: Message, error: BaseException) -> Answer:
        """Tell the person that there is no answer, and why, in words that are for them."""
        why = str(error) or type(error).__name__
        log.error("No answer in %s: %s", message.place, why, exc_info=error if unexpected(error) else None)
        await self.bot.dispatch.all("on_error", bot=self.bot, error=error, message=message)
        text = f"{accepted.text.strip()}\n\n⚠️ {excuse(error)}".strip()
        return Answer("notice", [Reply(text, notice=True)], type(error).__name__)

    # The end

    async def _finish(self, accepted: Accepted, message: Message, answer: Answer) -> None:
        draft, earlier = accepted.draft, accepted.earlier
        preview = await draft.close() if draft is not None else earlier
        parts = await self._parts(message, answer)
        written = await self.bot.journal.finish(
            accepted.seq,
            answer.outcome if parts else "silent",
            parts,
            answer.reason,
            preview,
            unsure=draft.unsure if draft is not None else earlier is not None and not earlier.ids,
            collected=accepted.collected,
            state=self.states.changed(message, failed=answer.outcome == "notice"),
        )
        self.bot.outbox.put(written)

    async def _parts(self, message: Message, answer: Answer) -> list[tuple[Place, Reply]]:
        """The answer as the messages its channel can carry; a plain excuse if that is not to be had."""
        replies = [self._addressed(reply, message) for reply in answer.replies]
        try:
            parts = await self.bot.fitted(message.place, replies)
        except Exception:
            log.exception("The answer in %s cannot be written.", message.place)
            parts = [(message.place, self._addressed(Reply(FAILED, notice=True), message))]
        else:
            self._offer(message.place, replies)
        return parts

    def _addressed(self, reply: Reply, message: Message) -> Reply:
        quote = reply.quote or (message.id if message.place.kind != "direct" else "")
        return replace(reply, quote=quote, ticket=reply.ticket or message.ticket)

    def _offer(self, place: Place, said: list[Reply]) -> None:
        """Remember buttons that are shown as a numbered list."""
        channel = self.bot.channel(place.channel)
        buttons = tuple(button for reply in said for button in reply.buttons)
        if buttons and channel is not None and len(buttons) > channel.limits_at(place).buttons:
            self._offered[str(place)] = buttons
            if len(self._offered) > OFFERED:
                self._offered.popitem(last=False)


FAILED = "Something went wrong while I was answering. My log has the details."


def unexpected(error: BaseException) -> bool:
    return not isinstance(error, RoostError | TimeoutError)


def excuse(error: BaseException) -> str:
    """What a person is told of an error. Files and addresses are for the log alone."""
    if isinstance(error, TimeoutError):
        return "That took too long, so I stopped."
    if isinstance(error, StoreError):
        return "I cannot read or write my files. My log has the details."
    return redact(str(error)) if isinstance(error, RoostError) else FAILED
