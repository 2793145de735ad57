"""One account's stream: connecting, logging in, and going on where a broken connection left off (XEP-0198).

slixmpp (https://slixmpp.readthedocs.io) speaks the protocol; when to try again is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element

from slixmpp import JID, ClientXMPP, InvalidJID
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.plugins.xep_0198.stanza import Ack
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from slixmpp.xmlstream.xmlstream import NotConnectedError

from roost.contracts import ChannelConfig
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.hosts import is_loopback
from roost.keys import key
from roost.reach import why
from roost.trust import trust

# What goes wrong on a stream is handled here; slixmpp would say it again, and louder.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)

PLUGINS = ("xep_0030", "xep_0059", "xep_0115", "xep_0198", "xep_0199", "xep_0297", "xep_0313", "xep_0363")
FEATURES = (
    "urn:xmpp:receipts",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:reactions:0",
    "urn:xmpp:reply:0",
    "urn:xmpp:message-retract:1",
    "http://jabber.org/protocol/chatstates",
    "jabber:x:oob",
)
CONNECT = 60.0  # seconds from the first byte to a session
ANSWER = 60.0  # seconds that the server has to confirm a message
SOON = 5.0  # seconds until a message is tried again that a room or server did not take just now
LATER = {"wait"}
WORTH_TRYING_AGAIN = {"temporary-auth-failure", "temporary-failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class XmppConfig(ChannelConfig):
    """The keys of `[channels.xmpp]`."""

    jid: str = key(help="The bot's address, such as bot@example.org.", least=3)
    password: str = key(help="The password of its account.", secret=True)
    host: str = key("", help="The server to connect to; what DNS says for the address when absent.")
    port: int = key(5222, help="Its port, where 'host' is given.", least=1, most=65535)
    tls: Literal["on", "direct", "off"] = key(
        "on", help="on asks the server to encrypt; direct encrypts from the first byte, as on port 5223."
    )
    ca: str = key("", help="A file with the certificates to trust, for a server that made its own.")
    resource: str = key("roost", help="What tells this program from others that use the account.")
    nick: str = key("", help="The bot's nick in rooms; the first part of its address when absent.")
    rooms: list[str] = key(factory=list, help='Rooms to be in: ["tea@conference.example.org"].')
    room_passwords: dict[str, str] = key(factory=dict, help="Passwords of rooms, by address.", secret=True)
    contacts: Literal["accept", "refuse"] = key("accept", help="What becomes of people who want to see the bot online.")
    max_media: int = key(20 * 1024 * 1024, help="The largest file to fetch, in bytes.", least=1)
    media_hosts: list[str] = key(factory=list, help="Hosts that files may come from, beside people's own servers.")


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that waits to be confirmed; `reflected` ones by coming back from their room."""

    future: asyncio.Future[str]
    reflected: bool


class Trouble(ConnectionError):
    """Something that may be better at the next try, in words for the log."""


class Stream:
    """A stream to the server. `message` and `presence` are called with what comes in, in its order."""

    def __init__(
        self,
        config: XmppConfig,
        name: str,
        message: Callable[[Element], None],
        presence: Callable[[Element], None],
        pulse: Callable[[], None],
        when_safe: Callable[[Callable[[], None]], None],
    ) -> None:
        self.config = config
        self.name = name
        self.up = False
        self.lost = asyncio.Event()
        self._why = ""
        self._session: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending: dict[str, Pending] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self.xmpp = self._make()
        self._listen(message, presence, pulse)
        self._acknowledge(when_safe)

    def _make(self) -> ClientXMPP:
        config = self.config
        encrypted = config.tls != "off"
        options = {"feature_mechanisms": {"unencrypted_scram": not encrypted}}
        try:
            if not JID(config.jid).local:
                raise InvalidJID("it is a server's")
            xmpp = ClientXMPP(f"{config.jid}/{config.resource}", config.password, plugin_config=options)
        except InvalidJID:
            raise LoginFailed(
                f"'{config.jid}' is no address. Correct 'jid' in bot.toml: [channels.{self.name}]; it looks like "
                "'bot@example.org'."
            ) from None
        xmpp.ssl_context = trust(self.name, config.ca)
        xmpp.enable_plaintext = not encrypted
        xmpp.enable_starttls = config.tls == "on"
        xmpp.enable_direct_tls = config.tls == "direct" or (encrypted and not config.host)
        xmpp.auto_authorize, xmpp.auto_subscribe = None, False  # the channel answers people itself
        for plugin in PLUGINS:
            xmpp.register_plugin(plugin)
        disco = xmpp.plugin["xep_0030"]
        disco.add_identity(category="client", itype="bot", name="Roost")
        for feature in FEATURES:
            disco.add_feature(feature)
        return xmpp

    def _listen(
        self, message: Callable[[Element], None], presence: Callable[[Element], None], pulse: Callable[[], None]
    ) -> None:
        xmpp = self.xmpp
        for kind, take in (("message", message), ("presence", presence)):
            xmpp.register_handler(Callback(f"Roost {kind}", MatchXPath(f"{{jabber:client}}{kind}"), elements(take)))

        def alive(stanza: Any) -> Any:
            pulse()
            return stanza

        xmpp.add_filter("in", alive)
        xmpp.add_filter("out_sync", self._leaving)
        xmpp.add_event_handler("session_start", lambda _: self._begin(False))
        xmpp.add_event_handler("session_resumed", lambda _: self._begin(True))
        xmpp.add_event_handler("failed_auth", lambda failed: self._note(failed["condition"]))
        xmpp.add_event_handler("failed_all_auth", lambda _: self._refused())
        xmpp.add_event_handler("connection_failed", lambda error: self._note(unreachable(error, self.config)))
        xmpp.add_event_handler("reconnect_delay", lambda _: self._end(self._why))
        xmpp.add_event_handler("ssl_invalid_chain", self._untrusted)
        xmpp.add_event_handler("stream_error", lambda error: self._note(stream_error(error)))
        xmpp.add_event_handler("disconnected", self._disconnected)
        xmpp.add_event_handler("stanza_acked", lambda stanza: self.confirm(stanza["id"], stanza["id"]))

    def _acknowledge(self, when_safe: Callable[[Callable[[], None]], None]) -> None:
        """Tell the server that stanzas have come (XEP-0198) once they are safe; slixmpp does so as they come.

        What was not acknowledged when the bot died is delivered again, also by a server that keeps no archive.
        """
        plugin: Any = self.xmpp.plugin["xep_0198"]

        def owe() -> None:
            handled, session = plugin.handled, plugin.sm_id

            def pay() -> None:
                if self.up and plugin.sm_id == session:
                    ack = Ack(self.xmpp)
                    ack["h"] = handled
                    self.xmpp.send_raw(str(ack))

            when_safe(pay)

        plugin.send_ack = owe

    # Being connected

    async def connect(self) -> bool:
        """Connect and log in. Returns whether an earlier session goes on. Raises LoginFailed or Trouble."""
        if self.config.tls == "off" and not is_loopback(self.config.host):
            raise LoginFailed(
                f"bot.toml: [channels.{self.name}] has tls = \"off\", which is for a 'host' on this machine only. "
                'Set tls = "on".'
            )
        self._why = ""
        self.lost.clear()
        self._session = asyncio.get_running_loop().create_future()
        try:
            self.xmpp.connect(self.config.host or None, self.config.port if self.config.host else None)
            return await asyncio.wait_for(asyncio.shield(self._session), CONNECT)
        except TimeoutError:
            raise Trouble("The server does not answer.") from None
        finally:
            if not self.up:
                self.xmpp.cancel_connection_attempt()
                self.xmpp.abort()

    async def close(self) -> None:
        """End the stream for good, and what slixmpp keeps running."""
        self.xmpp.cancel_connection_attempt()
        if self.up:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.xmpp.disconnect(wait=1.0), 2.0)
        self.xmpp.abort()
        self.up = False
        self.fail("The connection was closed.")
        for task in self._asking:
            task.cancel()
        sending = self.xmpp._run_out_filters
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _begin(self, resumed: bool) -> None:
        self.up = True
        if not resumed:
            self.fail("The connection broke, and the server does not know it any more.")
        if not self._session.done():
            self._session.set_result(resumed)

    def _disconnected(self, reason: Any) -> None:
        told = unreachable(reason, self.config) if isinstance(reason, Exception) else str(reason or "")
        self._end(self._why or told)

    def _end(self, why: str) -> None:
        self.up = False
        self.lost.set()
        self._settle(Trouble(why or "The server closed the connection."))

    def _refused(self) -> None:
        encrypted = "starttls" in self.xmpp.features or self.config.tls != "on"
        if not encrypted and not self.xmpp.plugin["feature_mechanisms"].attempted_mechs:
            self._settle(Trouble("The server offers no encryption, so the password is not sent."))
        elif self._why in WORTH_TRYING_AGAIN:
            self._settle(Trouble("The server cannot check the password now."))
        else:
            self._settle(
                LoginFailed(
                    f"The server refuses to let '{self.config.jid}' in ({self._why or 'no way to log in'}). Correct "
                    f"'jid' and 'password' in bot.toml: [channels.{self.name}]."
                )
            )

    def _untrusted(self, error: ssl.SSLError) -> None:
        self._note(unreachable(error, self.config))
        self.xmpp.abort()

    def _note(self, why: str) -> None:
        self._why = why

    def _settle(self, error: Exception) -> None:
        if not self._session.done():
            self._session.set_exception(error)
            self._session.exception()  # nobody may be waiting

    # Sending

    async def deliver(self, message: Any, reflected: bool) -> str:
        """Send a message and wait until it is known to have arrived; returns its id.

        The server says so by an acknowledgement; a room by sending it to everybody, the bot included (`reflected`).
        Raises NotSent, MaybeSent or Undeliverable.
        """
        if not self.up:
            raise NotSent(f"The channel '{self.name}' is not connected.")
        id = message["id"]
        pending = self._pending[id] = Pending(asyncio.get_running_loop().create_future(), reflected)
        try:
            message.send()
            return await asyncio.wait_for(pending.future, ANSWER)
        except TimeoutError:
            raise MaybeSent("The server does not say whether the message arrived.") from None
        finally:
            del self._pending[id]

    def _leaving(self, stanza: Any) -> Any:
        """A stanza is about to be written. If somebody waits for it, the server is asked to confirm it right behind."""
        id = stanza.xml.get("id", "")
        pending = self._pending.get(id)
        if pending is not None and not pending.reflected:
            pending.future.get_loop().call_soon(self._ask, id)
        return stanza

    def _ask(self, id: str) -> None:
        if "stream_management" in self.xmpp.features:
            with contextlib.suppress(NotConnectedError):
                self.xmpp.plugin["xep_0198"].request_ack()  # type: ignore[no-untyped-call]
        elif self.up:
            task = asyncio.create_task(self._ask_otherwise(id))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask_otherwise(self, id: str) -> None:
        """Stanzas are carried out in order, so the answer to a ping speaks for what was sent before it."""
        if await self.ping(self.xmpp.boundjid.domain, ANSWER) != "timeout":
            self.confirm(id, id)

    def confirm(self, id: str, result: str, reflected: bool = False) -> None:
        """A message has arrived, under the id `result`."""
        pending = self._pending.get(id)
        if pending is not None and pending.reflected == reflected and not pending.future.done():
            pending.future.set_result(result)

    def refuse(self, id: str, error: Element) -> bool:
        """A message came back with an error; returns whether somebody was still waiting for it."""
        pending = self._pending.get(id)
        if pending is None or pending.future.done():
            return False
        pending.future.set_exception(refusal(error))
        return True

    def fail(self, why: str) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(MaybeSent(f"Nobody knows whether it arrived: {why}"))

    async def ping(self, address: str, limit: float = 30.0) -> str:
        """Ask for a sign of life (XEP-0199); returns the condition of an error, empty when there is none."""
        try:
            await self.xmpp.plugin["xep_0199"].send_ping(JID(address), timeout=limit)
        except IqError as error:
            return str(error.condition)
        except IqTimeout:
            return "timeout"
        return ""


def elements(take: Callable[[Element], None]) -> Callable[[Any], None]:
    return lambda stanza: take(stanza.xml)


def unreachable(error: Any, config: XmppConfig) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of the server of '{config.jid}' cannot be trusted: {error.verify_message}. If it is your "
            "own server, name its certificate: 'ca'."
        )
    return f"The server is out of reach: {why(error)}."


def stream_error(error: Any) -> str:
    condition = str(error["condition"])
    if condition == "conflict":
        return "Another program uses this account with the same 'resource'. Stop it, or give this one another."
    return f"The server ended the stream: {condition}. {error['text']}".strip()


def refusal(error: Element) -> ChannelError:
    """What an error means for a message (RFC 6120, section 8.3)."""
    conditions: Iterable[str] = (one.tag.partition("}")[2] for one in error if not one.tag.endswith("}text"))
    condition = next(iter(conditions), "") or "no reason given"
    text = next((one.text for one in error if one.tag.endswith("}text") and one.text), "")
    told = f"{condition} ({text})" if text else condition
    if error.get("type") in LATER:
        return NotSent(f"The message came back: {told}", SOON)
    if condition == "not-acceptable":
        return NotSent("The bot is not in this room now.", SOON)
    return Undeliverable(f"The message came back: {told}")
