"""SMS by SMPP 3.4: a session with an operator's SMSC, which both brings and takes messages.

The packets are written and read here, not by a library: those that there are answer a deliver_sm by themselves, before
anybody can have kept the message. https://smpp.org/SMPP_v3_4_Issue1_2.pdf
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

from roost.channels.smpp_config import SmppConfig, check
from roost.channels.smpp_inbox import Inbox, Record, Whole
from roost.channels.smpp_link import Link, Lost, Refused
from roost.channels.smpp_messages import own_address, read, receipt, undelivered, write
from roost.channels.smpp_pdu import (
    BAD_PASSWORD,
    BAD_SYSTEM_ID,
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    FINAL,
    OK,
    QUEUE_FULL,
    REJECTED,
    SUBMIT,
    TEMPORARY,
    THROTTLED,
    Pdu,
    Short,
    bind,
    name,
    read_id,
    read_short,
    submit,
)
from roost.channels.sms_segments import longest
from roost.contracts import Channel, Host, Limits, Receive
from roost.durable import Kept
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.pauses import pauses
from roost.reach import why
from roost.together import first
from roost.trust import trust
from roost.values import Event, Place, Reply, Sent

log = logging.getLogger(__name__)

LOOK = 15.0  # seconds between two looks for long messages that will never be whole
BATCH, MAX_WAITING, MAX_BEGUN = 100, 1000, 1000
SLOWER = 1.0  # seconds without a request after the SMSC found us too fast; it names no time itself
FULL = 5.0  # seconds before the next try where the SMSC's queue for this person is full


@dataclass(slots=True)
class Begun:
    """A reply of several packets that did not all go out: which did, and what is left."""

    rest: list[Short]
    ids: list[str] = field(default_factory=list)


class Smpp(Channel):
    """One account with one operator."""

    Config = SmppConfig
    forgeable = "whoever has access to a carrier can choose the number that it seems to come from"
    silence: float | None = 120.0
    limits = Limits(max_text=longest(10), unit="utf16")

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        check(config, name)
        self.limits = replace(self.limits, max_text=longest(config.segments))
        self.silence = 2 * (config.keepalive + config.timeout)
        self._own = {config.number, own_address(config).number}
        self._inbox = Inbox(host.home / "inbox.json", config.patience)
        self._stopped = Kept(host.home / "stopped.json")
        self._queue: asyncio.Queue[Pdu] = asyncio.Queue()
        self._out: Link | None = None
        self._links = 0
        self._came_up = False
        self._not_before = 0.0
        self._reference = random.randrange(65_536)
        self._begun: dict[str, Begun] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses()
        while True:
            try:
                await self._session(receive)
            except Refused as error:
                if error.status in (BAD_PASSWORD, BAD_SYSTEM_ID):
                    raise LoginFailed(self._refusal(error.status)) from None
                self.host.trouble(str(error))
            except (Lost, OSError) as error:
                self.host.trouble(str(error) if isinstance(error, Lost) else f"The SMSC is out of reach: {why(error)}.")
            if self._came_up:
                self._came_up, waits = False, pauses()
            await asyncio.sleep(next(waits))

    def _refusal(self, status: int) -> str:
        return (
            f"The SMSC '{self.config.host}' refuses the 'system_id' and 'password' of bot.toml: "
            f"[channels.{self.name}] ({name(status)}). Ask your operator for them, and whether your address may log in."
        )

    async def _session(self, receive: Receive) -> None:
        """Bind, and live until a connection breaks."""
        links: list[Link] = []
        separate = self.config.bind == "separate"
        self._queue = asyncio.Queue()
        try:
            for command in (BIND_RECEIVER, BIND_TRANSMITTER) if separate else (BIND_TRANSCEIVER,):
                links.append(await self._open())
                await links[-1].bind(command, self._login())
            self._links += 1
            self._out, self._came_up = links[-1], True
            self.host.pulse()
            await first(self._work(links[0], receive), *(link.live(self.config.keepalive) for link in links))
        finally:
            self._out = None
            await asyncio.gather(*(link.close() for link in links))

    async def _open(self) -> Link:
        config = self.config
        tls = trust(self.name, config.ca) if config.tls else None
        return await Link.open(config.host, config.port, tls, config.timeout, config.window, self._heard, self._queued)

    def _heard(self) -> None:
        if self._out is not None:  # logged in
            self.host.pulse()

    def _login(self) -> bytes:
        config = self.config
        return bind(config.system_id, config.password, config.system_type, config.address_range)

    def _queued(self, link: Link, pdu: Pdu) -> None:
        if self._queue.qsize() < MAX_WAITING:
            self._queue.put_nowait(pdu)
        else:
            link.answer(pdu, QUEUE_FULL)

    # Taking messages in

    async def _work(self, link: Link, receive: Receive) -> None:
        """Take what has come in, in order; look now and then for what will never be whole."""
        while True:
            batch = []
            try:
                async with asyncio.timeout(min(LOOK, self.config.patience)):
                    batch.append(await self._queue.get())
            except TimeoutError:
                pass
            while not self._queue.empty() and len(batch) < BATCH:
                batch.append(self._queue.get_nowait())
            await self._accept(batch, link, receive)

    async def _accept(self, batch: list[Pdu], link: Link, receive: Receive) -> None:
        """Keep, hand over, and only then answer."""
        self._inbox.confirm(self._links, link.heard)
        noted = [self._noted(pdu) for pdu in batch]
        whole: dict[str, Whole | Event] = {name_of(one): one for _, one in noted if one is not None}
        whole |= {one.key: one for one in self._inbox.due()}
        if self._inbox.changed:
            await asyncio.to_thread(self._inbox.written)
        # Tasks begin in the order in which they are made, and that is the order the core keeps.
        outcomes = await asyncio.gather(
            *(self._hand_over(one, receive) for one in whole.values()), return_exceptions=True
        )
        failed = {one for one, outcome in zip(whole, outcomes, strict=True) if isinstance(outcome, Exception)}
        for pdu, (record, one) in zip(batch, noted, strict=True):
            self._answer(link, pdu, record, one is not None and name_of(one) in failed)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def _noted(self, pdu: Pdu) -> tuple[Record | None, Whole | Event | None]:
        """What a packet brings: nothing where it makes no sense, or is the receipt of what was delivered."""
        try:
            short = read_short(pdu)
            told = receipt(short)
            if told is None:
                return self._inbox.note(pdu, self._links)
        except ValueError as error:
            log.warning("%s: A message cannot be read: %s", self.name, error)
            return None, None
        if not (told.id and told.state):
            log.info("%s: A delivery receipt does not say which message it is about, or what became of it.", self.name)
        return Record("", 0.0), undelivered(told, short, self.name, self.config)

    async def _hand_over(self, whole: Whole | Event, receive: Receive) -> None:
        if isinstance(whole, Event):
            await receive(whole)
            return
        try:
            found = read(whole, self.name, self._own, self.config, time.time())
        except ValueError as error:
            log.warning("%s: A message cannot be read: %s", self.name, error)
            found = None
        if isinstance(found, Event):
            self._consent(found)
        if found is not None:
            await receive(found)
        self._inbox.done(whole.group)

    def _answer(self, link: Link, pdu: Pdu, record: Record | None, failed: bool) -> None:
        link.answer(pdu, REJECTED if record is None else TEMPORARY if failed else OK)
        if record is not None:
            record.after = link.sequence

    def _consent(self, event: Event) -> None:
        """Keep in mind who wants no messages, and say so once."""
        chat, known = event.place.chat, dict(self._stopped.all())
        if event.kind == "joined":
            known.pop(chat, None)
        elif chat not in known:
            known[chat] = time.time()
            if self.config.stopped:
                task = asyncio.create_task(self._say_goodbye(event.place))
                self._goodbyes.add(task)
                task.add_done_callback(self._goodbyes.discard)
        if known != self._stopped.all():
            self._stopped.replace(known)

    async def _say_goodbye(self, place: Place) -> None:
        try:
            for short in self._write(place, Reply(self.config.stopped)):
                await self._deliver(short)
        except ChannelError as error:
            log.warning("%s: The answer to STOP did not go out: %s", self.name, error)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        if place.chat in self._stopped.all():
            raise Undeliverable(f"'{place}' has asked for no more messages, and has not written START since.")
        begun = self._begun.pop(reply.key, None) if reply.key else None
        if begun is None:
            begun = Begun(self._write(place, reply))
        try:
            while begun.rest:
                begun.ids.append(await self._deliver(begun.rest[0]))
                del begun.rest[0]
        except ChannelError as error:
            raise self._halfway(reply.key, begun, error) from None
        return Sent(place, tuple(begun.ids))

    def _write(self, place: Place, reply: Reply) -> list[Short]:
        written = write(place, reply, self.config, self._reference)
        self._reference = (self._reference + len(written)) % 65_536
        return written

    def _halfway(self, key: str, begun: Begun, error: ChannelError) -> ChannelError:
        """Remember which parts are out, so that sending the reply again sends the others only.

        A phone leaves out a part that it has, so one that may be out is sent again as it is.
        """
        if key and len(begun.ids) + len(begun.rest) > 1:
            self._begun = dict([*self._begun.items(), (key, begun)][-MAX_BEGUN:])
        elif begun.ids and isinstance(error, NotSent):
            return MaybeSent(f"{error} Some of its parts are out already.")
        return error

    async def _deliver(self, short: Short) -> str:
        """Have the SMSC take one packet; returns the id it gives. Raises NotSent, MaybeSent or Undeliverable."""
        link = self._out
        if link is None:
            raise NotSent("The SMSC is out of reach.")
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise NotSent("The SMSC asked for a slower pace.", wait)
        answer = await link.ask(SUBMIT, submit(short))
        if answer.status != OK:
            raise self._sorted(answer.status)
        return read_id(answer)

    def _sorted(self, status: int) -> ChannelError:
        """A refusal of the SMSC's. What it means is not always known, but nothing was delivered."""
        if status in FINAL:
            return Undeliverable(f"The SMSC does not take it: {name(status)}.")
        if status == THROTTLED:
            self._not_before = time.monotonic() + SLOWER
            return NotSent("The SMSC asks for a slower pace (ESME_RTHROTTLED).", SLOWER)
        return NotSent(f"The SMSC did not take it: {name(status)}.", FULL if status == QUEUE_FULL else None)


def name_of(one: Whole | Event) -> str:
    """What two of the same have in common."""
    return one.key if isinstance(one, Whole) else f"receipt {one.message_id}"
