"""SIP MESSAGE: text over a PBX or registrar, as softphones and desk phones have it. RFC 3428 over RFC 3261.

The requests are read and written by sipmessage; the rest of a user agent is here, because no kept library sends and
takes MESSAGE: aiosipua 0.7.1 and sipua 0.5.7 know calls and registration only, aiosip has been dead since 2017.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from dataclasses import replace
from typing import Any

from sipmessage import URI, Address, CSeq, Parameters, Request, Response

from roost.channels.sip_config import HEADERS, SipConfig, check
from roost.channels.sip_link import Link, Lost, TooLong, top
from roost.channels.sip_login import ASKED, Login, stale
from roost.channels.sip_text import (
    ACCEPT,
    COMPOSING,
    STATE,
    call_id,
    chat_of,
    read,
    retry_after,
    shows_composing,
    sorted_out,
    uri_of,
    write,
)
from roost.contracts import Channel, Host, Limits, Receive
from roost.durable import Kept
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.pauses import pauses
from roost.reach import why
from roost.together import first
from roost.trust import trust
from roost.values import Place, Reply, Sent

log = logging.getLogger(__name__)

PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
ALLOW = "MESSAGE, OPTIONS"
FAREWELL = 1.0  # seconds for taking our name off the PBX
TRIES = 6
MAX_COMPOSING = 1000
PLAIN_TEXT = "text/plain;charset=UTF-8"


class Trouble(Exception):
    """The PBX does not let us in now; `pause` is what it asks for, in seconds."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class Sip(Channel):
    """One account of one PBX."""

    Config = SipConfig
    forgeable = "a PBX may pass on what a caller says of themselves without asking for a password"
    silence: float | None = 120.0
    # RFC 3428, section 8: a request has 1,300 bytes at most, its headers included.
    limits = Limits(max_text=1300 - HEADERS, unit="bytes")

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        check(config, name)
        self.limits = replace(self.limits, max_text=config.max_request - HEADERS)
        self.silence = 2 * config.keepalive + 2 * config.timeout
        self._domain = config.domain or config.host
        self._domain = f"[{self._domain}]" if ":" in self._domain else self._domain
        self._own = URI("sip", self._domain, config.username)
        self._login = Login(config.auth_user or config.username, config.password)
        self._composing = Kept(host.home / "composing.json")
        self._link: Link | None = None
        self._receive: Receive | None = None
        self._tasks: dict[asyncio.Task[None], Request] = {}
        self._tag, self._registration = secrets.token_hex(4), secrets.token_hex(12)
        self._sequence = 0
        self._contact: URI | None = None  # where we are, as the PBX sees it
        self._bound: URI | None = None  # where it brings messages to
        self._granted = 0.0

    # Being there

    async def run(self, receive: Receive) -> None:
        self._granted, waits = 0.0, pauses()
        self._receive = receive
        while True:
            pause = None
            try:
                await self._session()
            except (Trouble, Lost, OSError, TimeoutError) as error:
                pause = error.pause if isinstance(error, Trouble) else None
                self.host.trouble(
                    str(error) if isinstance(error, Trouble | Lost) else f"The PBX is out of reach: {why(error)}."
                )
            if self._granted:
                self._granted, waits = 0.0, pauses()
            await asyncio.sleep(pause if pause is not None else next(waits))

    async def _session(self) -> None:
        """Be known to the PBX until the way to it breaks."""
        link = await self._open()
        self._contact = URI("sip", link.host, self.config.username, None, link.port, self._reached_by())
        try:
            await self._register(link)
            self._link = link
            await first(self._stay(link), link.ended())
        finally:
            self._link = None
            await self._leave(link)

    async def _open(self) -> Link:
        config = self.config
        tls = trust(self.name, config.ca) if config.transport == "tls" else None
        address = config.host, config.port or PORTS[config.transport]
        async with asyncio.timeout(config.timeout):
            return await Link.open(address, config.transport, tls, config.local_port, self._heard, self._taken)

    def _heard(self) -> None:
        if self._granted:
            self.host.pulse()

    def _reached_by(self) -> Parameters:
        return Parameters() if self.config.transport == "udp" else Parameters(transport=self.config.transport)

    async def _stay(self, link: Link) -> None:
        """Look now and then whether the PBX is there and sees us where we were, and have our name renewed."""
        loop = asyncio.get_running_loop()
        renew = loop.time() + self._granted / 2
        while True:
            await asyncio.sleep(min(self.config.keepalive, max(0.0, renew - loop.time())))
            if loop.time() < renew:
                answer = await link.ask(self._request("OPTIONS", URI("sip", self._domain)), self.config.timeout)
                if self._seen_at(answer) == self._contact:
                    continue
            await self._register(link)
            renew = loop.time() + self._granted / 2

    async def _leave(self, link: Link) -> None:
        """Hand back what was not accepted, and take our name off the PBX, if that is quickly done."""
        link.leaving = True
        waiting = dict(self._tasks)
        if waiting:
            await asyncio.wait(waiting, timeout=FAREWELL)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for task, request in waiting.items():
            if task.cancelled():
                link.answer(request, 480)
        with contextlib.suppress(Lost, TimeoutError, Trouble, OSError):
            async with asyncio.timeout(FAREWELL):
                if self._granted and (await self._ask(link, lambda: self._registering(0))).code < 300:
                    self._bound = None
        await link.close()

    # The PBX's register

    async def _register(self, link: Link) -> None:
        """Tell the PBX where we are: under the address that it sees us at (RFC 3581), which may not be our own."""
        expires = self.config.expires
        for _ in range(TRIES):
            answer = await self._ask(link, lambda: self._registering(expires))  # noqa: B023
            seen = self._seen_at(answer)
            if answer.code == 423 and answer.min_expires and answer.min_expires > expires:
                expires = answer.min_expires
            elif answer.code >= 300:
                raise self._refused(answer)
            elif seen == self._contact:
                self._bound, self._granted = seen, self._term(answer, expires)
                self.host.pulse()
                return
            else:
                self._bound, self._contact = self._contact, seen
        raise Trouble("The PBX sees us at another address every time.")

    def _registering(self, expires: int) -> Request:
        """A REGISTER for where we are now, which forgets where we were before."""
        request = self._request("REGISTER", URI("sip", self._domain), to=self._own, call=self._registration)
        terms = {str(one): 0 for one in [self._bound] if one is not None} | {str(self._contact): expires}
        for uri, seconds in terms.items():
            request.headers.add("Contact", f"<{uri}>;expires={seconds}")
        request.expires = expires
        return request

    def _seen_at(self, answer: Response) -> URI | None:
        """Where the PBX sees us, by the parameters it puts into our Via."""
        via = top(answer)
        if self._contact is None:
            return None
        host, port = via.parameters.get("received") or via.host, via.parameters.get("rport")
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return replace(self._contact, host=host, port=int(port) if port and port.isdecimal() else self._contact.port)

    def _term(self, answer: Response, asked: int) -> float:
        """For how many seconds the PBX will know us."""
        try:
            known = answer.contact
        except ValueError:  # it knows others by contacts that nobody can read
            known = []
        for one in known:
            if self._contact is not None and (one.uri.host, one.uri.port) == (self._contact.host, self._contact.port):
                told = one.parameters.get("expires") or ""
                return float(told) if told.isdecimal() and int(told) else float(asked)
        return float(answer.expires or asked)

    def _refused(self, answer: Response) -> Exception:
        told = f"The PBX '{self.config.host}' answers {answer.code} {answer.phrase}"
        if answer.code in (401, 403, 404, 407):
            return LoginFailed(
                f"{told} to 'username' and 'password' of bot.toml: [channels.{self.name}]. Correct them there, and "
                f"'domain', which is '{self._domain}' now, as whoever runs the PBX gave them."
            )
        return Trouble(f"{told} when it is to know us.", retry_after(answer))

    # Requests

    def _request(self, method: str, uri: URI, *, to: URI | None = None, call: str = "", body: bytes = b"") -> Request:
        request = Request(method, uri, body)
        self._sequence += 1
        request.max_forwards = 70
        request.from_address = Address(self._own, parameters=Parameters(tag=self._tag))
        request.to_address = Address(to or uri)
        request.call_id = call or call_id("")
        request.cseq = CSeq(self._sequence, method)
        return request

    async def _ask(self, link: Link, make: Any, most: int = 0) -> Response:
        """Ask, and show the password when it is wanted. Raises Lost, TooLong and TimeoutError."""
        shown = False
        for _ in range(TRIES):
            request = make()
            self._login.sign(request)
            answer = await link.ask(request, self.config.timeout, most)
            refused = shown and answer.code in ASKED and not stale(answer)
            if answer.code not in ASKED or refused or not self._login.learn(request.method, answer):
                break
            shown = True
            if request.method == "REGISTER":
                self._contact = self._seen_at(answer)
        return answer

    # Taking messages in

    def _taken(self, link: Link, request: Request) -> None:
        """Begin with a request. Tasks begin in the order in which they are made, and that order the core keeps."""
        if request.method == "OPTIONS":
            link.answer(request, 200, allow=ALLOW, accept=ACCEPT)
        elif request.method != "MESSAGE":
            link.answer(request, 405, allow=ALLOW)
        elif link.leaving:
            link.answer(request, 480)
        elif request.require:
            link.answer(request, 420, unsupported=", ".join(request.require))
        elif (request.headers.get("Content-Encoding") or "identity").lower() != "identity":
            link.answer(request, 415, accept=ACCEPT, accept_encoding="identity")
        else:
            task = asyncio.create_task(self._accept(link, request))
            self._tasks[task] = request
            task.add_done_callback(self._tasks.pop)

    async def _accept(self, link: Link, request: Request) -> None:
        """Hand a message to the core, and answer once it is safe there."""
        try:
            await self._hand_over(request)
        except ValueError as error:
            log.warning("%s: A message cannot be read: %s", self.name, error)
            link.answer(request, 400)
        except Exception as error:
            log.warning("%s: A message cannot be kept (%s).", self.name, type(error).__name__)
            link.answer(request, 500)
        else:
            link.answer(request, 200)

    async def _hand_over(self, request: Request) -> None:
        found = read(request, self.name, chat_of(self._own))
        if shows_composing(request):
            self._shows(chat_of(request.from_address.uri), True)
        if found is not None and self._receive is not None:
            await self._receive(found)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        call = call_id(reply.key)
        answer = await self._say(place, write(reply), PLAIN_TEXT, call)
        if answer.code >= 300:
            raise sorted_out(answer, place)
        return Sent(place, (f"{call} {answer.cseq.sequence}",))

    async def _say(self, place: Place, body: bytes, kind: str, call: str) -> Response:
        """Have the PBX take one MESSAGE. Raises NotSent, MaybeSent or Undeliverable."""
        link = self._link
        if link is None:
            raise NotSent("The PBX is out of reach.")
        uri = uri_of(place.chat, self._domain)

        def make() -> Request:
            request = self._request("MESSAGE", uri, call=call, body=body)
            request.headers.set("Content-Type", kind)
            return request

        try:
            return await self._ask(link, make, self.config.max_request)
        except TooLong as error:
            raise Undeliverable(f"'{place}': the message is too long. {error}") from None
        except TimeoutError:
            raise MaybeSent(f"'{place}': nobody answered within {self.config.timeout:g} seconds.") from None
        except Lost as error:
            raise (MaybeSent(str(error)) if error.tried else NotSent(str(error))) from None

    async def type(self, place: Place) -> None:
        """Only to those whose client showed that it knows the sign: others would show it as text."""
        if not self.config.typing or not self._composing.get(place.chat):
            return
        with contextlib.suppress(ChannelError):
            answer = await self._say(place, STATE.encode(), COMPOSING, call_id(""))
            if answer.code == 415:
                self._shows(place.chat, False)

    def _shows(self, chat: str, composing: bool) -> None:
        """Keep in mind whose client shows that the bot is writing."""
        known = dict(self._composing.all())
        if bool(known.get(chat)) != composing:
            known.pop(chat, None)
            self._composing.replace(dict([*known.items(), (chat, composing)][-MAX_COMPOSING:]))
