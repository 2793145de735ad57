"""One connection to an SMSC: packets in and out, answers found by their number, signs of life.

SMPP 3.4, sections 2 (sessions), 2.7.1 (sequence numbers), 2.8 (a window of requests), 2.9 (timers).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from ssl import SSLContext

from roost.channels.smpp_pdu import (
    ALERT,
    ANSWER,
    BAD_COMMAND,
    BAD_LENGTH,
    DATA,
    DELIVER,
    ENQUIRE,
    HEADER,
    LONGEST,
    NACK,
    OK,
    UNBIND,
    Pdu,
    name,
    pack,
)
from roost.errors import MaybeSent, NotSent
from roost.reach import why

FAREWELL = 1.0  # seconds for the last words
LAST = 0x7FFFFFFF


class Lost(Exception):
    """The connection is gone, or what comes over it makes no sense."""


class Refused(Exception):
    """The SMSC does not let us in; `status` is its reason."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The SMSC refuses the bind with {name(status)}.")
        self.status = status


class Link:
    """A session. `pulse` is called for every packet, `taken` with each deliver_sm or data_sm.

    `heard` is the number of the newest request that the SMSC has answered: it has read all that we wrote before it.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        timeout: float,
        window: int,
        pulse: Callable[[], None],
        taken: Callable[[Link, Pdu], None],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._pulse, self._taken = pulse, taken
        self._waiting: dict[int, asyncio.Future[Pdu]] = {}
        self._bound = False
        self._lost = False
        self.sequence = 0
        self.heard = 0

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        tls: SSLContext | None,
        timeout: float,  # noqa: ASYNC109
        window: int,
        pulse: Callable[[], None],
        taken: Callable[[Link, Pdu], None],
    ) -> Link:
        """Connect. Raises OSError or TimeoutError."""
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        return cls(reader, writer, timeout, window, pulse, taken)

    # A session

    async def bind(self, command: int, body: bytes) -> None:
        """Log in, before `live`. Raises Refused, Lost or TimeoutError."""
        sequence = self._next()
        self._write(Pdu(command, OK, sequence, body))
        async with asyncio.timeout(self._timeout):
            while (pdu := await self._read())[:3:2] != (command | ANSWER, sequence):
                if pdu.command == NACK:
                    raise Refused(pdu.status)
        if pdu.status != OK:
            raise Refused(pdu.status)
        self._bound = True

    async def live(self, keepalive: float) -> None:
        """Take what comes and ask for signs of life, until the connection ends. Raises Lost."""
        try:
            while True:
                self._take(await self._next_or_ask(keepalive))
        except Lost:
            self._bound = False
            raise
        finally:
            self._fail()

    async def _next_or_ask(self, keepalive: float) -> Pdu:
        """The next packet. When none comes for a while, ask whether there is still somebody."""
        reading = asyncio.ensure_future(self._read())
        try:
            done, _ = await asyncio.wait([reading], timeout=keepalive)
            if not done:
                self._write(Pdu(ENQUIRE, OK, self._next()))
                done, _ = await asyncio.wait([reading], timeout=self._timeout)
            if not done:
                raise Lost(f"The SMSC has not answered for {self._timeout:g} seconds.")
            return reading.result()
        finally:
            reading.cancel()

    async def close(self) -> None:
        """Say goodbye where the SMSC still listens, without waiting for an answer, and hang up (section 4.2)."""
        self._fail()
        with contextlib.suppress(OSError, TimeoutError):
            if self._bound:
                self._writer.write(pack(Pdu(UNBIND, OK, self._next())))
            self._writer.close()
            async with asyncio.timeout(FAREWELL):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    # Requests

    async def ask(self, command: int, body: bytes) -> Pdu:
        """Send a request and wait for its answer. Raises NotSent before it left, MaybeSent after that."""
        async with self._window:
            if self._lost:
                raise NotSent("The SMSC is out of reach.")
            sequence = self._next()
            answer: asyncio.Future[Pdu] = asyncio.get_running_loop().create_future()
            self._waiting[sequence] = answer
            try:
                self._write(Pdu(command, OK, sequence, body))
                async with asyncio.timeout(self._timeout):
                    return await answer
            except TimeoutError:
                raise MaybeSent(f"The SMSC has not answered within {self._timeout:g} seconds.") from None
            except Lost as error:
                raise MaybeSent(f"The connection broke before the SMSC's answer: {error}") from None
            finally:
                self._waiting.pop(sequence, None)

    def answer(self, pdu: Pdu, status: int) -> None:
        """Answer a request of the SMSC's. Raises Lost."""
        body = b"\0" if pdu.command in (DELIVER, DATA) else b""
        self._write(Pdu(pdu.command | ANSWER, status, pdu.sequence, body))

    # Packets

    def _take(self, pdu: Pdu) -> None:
        self._pulse()
        if pdu.command & ANSWER:
            self.heard = max(self.heard, pdu.sequence if pdu.sequence <= self.sequence else 0)
            waiting = self._waiting.get(pdu.sequence)
            if waiting is not None and not waiting.done():
                waiting.set_result(pdu)
        elif pdu.command in (DELIVER, DATA):
            self._taken(self, pdu)
        elif pdu.command == ENQUIRE:
            self.answer(pdu, OK)
        elif pdu.command == UNBIND:
            self.answer(pdu, OK)
            raise Lost("The SMSC has ended the session.")
        elif pdu.command != ALERT:
            self._write(Pdu(NACK, BAD_COMMAND, pdu.sequence))

    async def _read(self) -> Pdu:
        try:
            length, command, status, sequence = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            if not HEADER.size <= length <= LONGEST:
                self._write(Pdu(NACK, BAD_LENGTH, sequence))
                raise Lost(f"The SMSC announces a packet of {length} octets.")
            return Pdu(command, status, sequence, await self._reader.readexactly(length - HEADER.size))
        except asyncio.IncompleteReadError:
            raise Lost("The SMSC has hung up.") from None
        except OSError as error:
            raise Lost(f"The SMSC is out of reach: {why(error)}.") from None

    def _write(self, pdu: Pdu) -> None:
        if self._lost:
            raise Lost("The connection is gone.")
        self._writer.write(pack(pdu))

    def _next(self) -> int:
        self.sequence = self.sequence + 1 if self.sequence < LAST else 1
        return self.sequence

    def _fail(self) -> None:
        """Tell everybody who waits that no answer will come."""
        self._lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Lost("it is closed."))
