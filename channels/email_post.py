"""The way out: an SMTP server that takes the bot's mail (RFC 6409), by aiosmtplib."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NoReturn

import aiosmtplib

from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.reach import why

ANSWER = 60.0  # seconds
TAKEN = 300.0  # seconds a server may take to say that it has a mail
IDLE = 20.0  # seconds after which a connection is not used again: servers hang up by themselves
PAUSE = 60.0  # seconds; servers that say "later" do not say when
LOST = (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Way:
    """Where mail is handed in. `tls` is None for a connection in the clear."""

    host: str
    port: int
    username: str
    password: str
    tls: ssl.SSLContext | None
    starttls: bool


class Post:
    """One connection, kept while there is mail to send."""

    def __init__(self, way: Way, address: str) -> None:
        self._way = way
        self._address = address
        self._smtp: aiosmtplib.SMTP | None = None
        self._lock = asyncio.Lock()
        self._used = 0.0

    @property
    def host(self) -> str:
        return self._way.host

    async def check(self) -> None:
        """Connect and log in. Raises LoginFailed with the reason alone, or NotSent."""
        async with self._lock:
            await self._connected()

    async def send(self, to: str, mail: bytes) -> None:
        """Hand in one mail. Raises LoginFailed, NotSent, MaybeSent or Undeliverable."""
        async with self._lock:
            try:
                smtp = await self._addressed(to)
                await self._hand_in(smtp, mail)
                self._used = asyncio.get_running_loop().time()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    async def _addressed(self, to: str) -> aiosmtplib.SMTP:
        """A connection that has heard from whom and to whom; a second one when the first has gone stale."""
        kept = self._smtp is not None
        smtp = await self._connected()
        try:
            await _asked(smtp.mail(self._address))
        except NotSent:
            if not kept or smtp.is_connected:
                raise
            self.close()
            smtp = await self._connected()
            await _asked(smtp.mail(self._address))
        await _asked(smtp.rcpt(to))
        return smtp

    async def _hand_in(self, smtp: aiosmtplib.SMTP, mail: bytes) -> None:
        try:
            await smtp.data(mail, timeout=TAKEN)
        except aiosmtplib.SMTPResponseException as error:
            _refused(error)
        except (*LOST, aiosmtplib.SMTPException) as error:
            raise MaybeSent(f"The mail server did not say that it has the mail: {why(error)}.") from error

    async def _connected(self) -> aiosmtplib.SMTP:
        now = asyncio.get_running_loop().time()
        if self._smtp is not None and self._smtp.is_connected and now - self._used < IDLE:
            return self._smtp
        self.close()
        way = self._way
        smtp = aiosmtplib.SMTP(
            hostname=way.host,
            port=way.port,
            local_hostname=self._address.rpartition("@")[2],
            use_tls=way.tls is not None and not way.starttls,
            start_tls=way.starttls,
            tls_context=way.tls,
            timeout=ANSWER,
        )
        try:
            await smtp.connect()
            if way.username:
                await smtp.login(way.username, way.password)
        except BaseException as error:
            smtp.close()
            _unconnected(error, way)
        self._smtp, self._used = smtp, now
        return smtp


def _unconnected(error: BaseException, way: Way) -> NoReturn:
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        raise LoginFailed(f"{error.code} {error.message.replace(way.password, '…')}") from None
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        raise LoginFailed(error.message) from None
    if isinstance(error, OSError | aiosmtplib.SMTPException):
        raise NotSent(f"The mail server '{way.host}' cannot be used: {why(error)}.") from error
    raise error


async def _asked(answer: Awaitable[object]) -> None:
    """Before the mail itself, nothing can have been sent."""
    try:
        await answer
    except aiosmtplib.SMTPResponseException as error:
        _refused(error)
    except (*LOST, aiosmtplib.SMTPException) as error:
        raise NotSent(f"The connection to the mail server is lost: {why(error)}.") from error


def _refused(error: aiosmtplib.SMTPResponseException) -> NoReturn:
    """What a reply code means (RFC 5321, section 4.2.1): 4 for later, 5 for never, 530 for a missing login."""
    said = f"{error.code} {' '.join(error.message.split())[:300]}"
    if error.code in (530, 535):
        raise LoginFailed(f"The mail server wants a login it accepts: {said}") from error
    if 400 <= error.code < 500:
        raise NotSent(f"The mail server puts the mail off: {said}", None if error.code == 421 else PAUSE) from error
    if error.code >= 500:
        raise Undeliverable(f"The mail server refuses the mail: {said}") from error
    raise MaybeSent(f"The mail server answered what no one knows: {said}") from error
