"""What a person sees while an answer is being made: the typing sign, then the growing text.

A draft owns the preview until `close`, which hands it to the outbox; from then on the outbox alone delivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from roost.contracts import Channel
from roost.errors import ChannelError, NotSent, Undeliverable
from roost.journal import Journal
from roost.split import split
from roost.values import Message, Place, Reply, Sent

log = logging.getLogger("roost.draft")

HESITATION = 0.25  # seconds: an answer that is there sooner needs no sign that it is coming
TYPING = 4.0  # seconds between two typing signs; platforms show one for five or more
LAST_PREVIEW = 15.0  # seconds to wait for a preview that is on its way when the answer is complete


class Queue(Protocol):
    """Whoever delivers finished messages."""

    def busy(self, place: Place) -> bool: ...
    def spare(self, place: Place) -> bool: ...


class Draft:
    """The preview of one answer in one place. `earlier` is what an earlier run left on the screen."""

    def __init__(
        self,
        channel: Channel,
        message: Message,
        seq: int,
        journal: Journal,
        earlier: Sent | None,
        queue: Queue,
    ) -> None:
        self.channel = channel
        self.place = message.place
        self.limits = channel.limits_at(message.place)
        self.sent = earlier if earlier and earlier.ids else None
        self.unsure = earlier is not None and not earlier.ids
        self._leaving = False
        self._queue = queue
        self._ticket = message.ticket
        self._seq = seq
        self._journal = journal
        self._text = ""
        self._painted = ""
        self._changed = asyncio.Event()
        self._putting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Be ready to show the typing sign and text, if the answer takes longer than a moment."""
        pause = min(HESITATION, self.limits.stream or HESITATION)
        self._timer = asyncio.get_running_loop().call_later(pause, self._begin)

    def _begin(self) -> None:
        if self.channel.can("type"):
            self._tasks.append(asyncio.create_task(self._type()))
        if self.limits.stream is not None and self.channel.can("edit"):
            self._tasks.append(asyncio.create_task(self._paint(self.limits.stream)))

    def show(self, text: str) -> None:
        """The answer so far. Returns at once; the preview follows at the pace the platform allows."""
        self._text = text
        self._changed.set()

    async def close(self) -> Sent | None:
        """Stop, and return the preview that is on the screen, if there is one. Closing again is harmless."""
        self._timer.cancel()
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._putting.acquire(), LAST_PREVIEW)
            self.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
        self.unsure = self.unsure or (self._leaving and self.sent is None)
        return self.sent

    def cancel(self) -> None:
        """Stop at once."""
        self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    async def _type(self) -> None:
        while self.sent is None:
            try:
                await self.channel.type(self.place)
            except ChannelError as error:
                log.debug("No typing sign in %s: %s", self.place, error)
            await asyncio.sleep(TYPING)

    async def _paint(self, interval: float) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                async with self._putting:
                    await self._put(self._first_part())
                await asyncio.sleep(interval)
        except Exception as error:
            log.debug("The preview in %s ended: %s", self.place, error)

    def _first_part(self) -> str:
        limits = self.limits
        if 8 * len(self._text) < limits.max_text:
            return self._text  # no dialect writes a character with more than eight
        return next(iter(split(self._text, limits.markup, limits.max_text, limits.unit, limits.max_bytes)), "")

    async def _put(self, text: str) -> None:
        if not text or text == self._painted:
            return
        if self.sent is None and self._queue.busy(self.place):
            return  # an earlier reply has not arrived yet, and nothing may overtake it
        if not self._queue.spare(self.place):
            self._changed.set()  # the platform has no room for a preview now: look again later
            return
        reply = Reply(text, ticket=self._ticket)
        if self.sent is None:
            await self._journal.preview(self._seq, Sent(self.place))
            self.sent = await self._first(reply)
            await self._journal.preview(self._seq, self.sent)
        else:
            await self.channel.edit(self.sent, reply)
        self._painted = text

    async def _first(self, reply: Reply) -> Sent:
        """Send the preview. Unless it surely was not delivered, it may be on the screen."""
        self._leaving = True
        try:
            return await self.channel.send(self.place, reply)
        except (NotSent, Undeliverable):
            self._leaving = False
            raise
