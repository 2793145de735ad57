"""IRC: a bot on one network, with TLS, SASL and what the server has of IRCv3.

https://modern.ircdocs.horse, https://ircv3.net/irc/
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from roost import writing
from roost.channels.irc_config import IrcConfig
from roost.channels.irc_lines import Line, write
from roost.channels.irc_link import Link, Trouble
from roost.channels.irc_read import Around, ctcp, follow, is_given, made, read, read_reaction
from roost.contracts import Channel, Host, Limits, Receive
from roost.dialects import IRC
from roost.durable import Kept
from roost.errors import ChannelError, MaybeSent, NotSent, Undeliverable
from roost.pace import Bucket, first
from roost.pauses import pauses
from roost.reach import why
from roost.values import Event, Message, Place, Reply, Sent

log = logging.getLogger(__name__)

STEADY = 60.0  # seconds of being connected after which a cut counts as the first again
TICK = 60.0  # seconds between two looks at what should be but is not: the nick, channels, a quiet connection
ANSWER = 60.0  # seconds that the server has to confirm a message
FRESH = 600.0  # seconds for which somebody is taken to be where they last wrote from
AT_ONCE = 200  # messages on their way into the core
BEGUN = 1000
TYPING_ROOM = 3  # lines that must be left over for a sign that the bot is writing
BACK_SOON = 60.0  # seconds until somebody who is away is looked for again
TOO_FAST = ("439", "707")  # people were written to one after the other faster than the server likes
TOO_FAST_PAUSE = 15.0  # seconds


@dataclass(slots=True)
class Pending:
    """Lines to one target that the server has not confirmed. `ids` are those that came back."""

    target: str
    token: str
    written: int = 0
    ids: list[str] = field(default_factory=list)
    refused: str = ""
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Irc(Channel):
    """One account on one network."""

    Config = IrcConfig
    silence = 180.0  # a quiet connection is asked for a sign of life every minute
    limits = Limits(
        # A line of 512 bytes, less the sender and a channel's name at their longest, has room for some 350. Short
        # lines of one message are counted together. No pace is given here: the channel keeps it, line by line.
        max_text=400,
        unit="bytes",
        markup=IRC,
        quotes=True,
    )

    @staticmethod
    def unproven(id: str, config: IrcConfig) -> str:
        """An account is its owner's, a mask whoever's has the nick and the address; see `roost.proof`."""
        return "it is a nick without an account, which anybody can take" if "!" in id else ""

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        rate = first(config.rate, 0.5)  # RFC 1459, section 8.10
        self._pace = Bucket(rate, config.burst) if rate else None
        self._answers = Bucket(0.2, 3)  # to questions of clients, so that nobody makes the bot flood
        self._seen = Kept(host.home / "seen.json")
        self._turn = asyncio.Lock()
        self._tokens = itertools.count(1)
        self._link: Link | None = None
        self._around = Around(name)
        self._pending: Pending | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._begun: dict[str, tuple[str, ...]] = {}
        self._kept_out: dict[str, str] = {}  # what the server said last of channels that the bot cannot join

    # Listening

    async def run(self, receive: Receive) -> None:
        try:
            waits = pauses(60.0)
            while True:
                began = time.monotonic()
                await self._session(receive)
                if time.monotonic() - began > STEADY:
                    waits = pauses(60.0)
                await asyncio.sleep(next(waits))
        finally:
            for task in self._accepting:
                task.cancel()
            await asyncio.gather(*self._accepting, return_exceptions=True)

    async def _session(self, receive: Receive) -> None:
        """One connection, until it ends."""
        link: Link | None = None
        try:
            link = await Link.open(self.config, self.name)
            await self._listen(link, receive)
        except OSError as error:
            self.host.trouble(
                str(error) if isinstance(error, Trouble) else f"The server is out of reach: {why(error)}."
            )
        finally:
            if link is not None:
                self._leave(link)

    async def _listen(self, link: Link, receive: Receive) -> None:
        self._link = link
        self._around.nick = link.nick
        self._around.begin(link.support, "account-tag" in link.caps, self._seen.all())
        self._settle(link)
        self.host.pulse()
        care = asyncio.create_task(self._care(link))
        try:
            async for line in link.lines():
                self.host.pulse()
                self._around.nick, self._around.account = link.nick, link.account
                self._confirm(link, line)
                if line.command == "900" or (
                    line.command == "QUIT" and link.fold(line.nick) == link.fold(self.config.nick)
                ):
                    self._settle(link)
                found = self._read(link, line)
                if found is not None:
                    await self._accept(receive, found)
        finally:
            care.cancel()
            await asyncio.gather(care, return_exceptions=True)

    def _leave(self, link: Link) -> None:
        self._link = None
        link.close("Good bye")
        self._keep_seen()
        if self._pending is not None and not self._pending.done.done():
            self._pending.done.set_exception(Trouble("The connection broke before the server confirmed it."))

    def _keep_seen(self) -> None:
        if self._around.seen != self._seen.all():
            self._seen.replace(self._around.seen)

    async def _accept(self, receive: Receive, item: Message | Event) -> None:
        """Hand it to the core without keeping the connection waiting. Tasks begin in the order they are made in."""
        while len(self._accepting) >= AT_ONCE:
            await asyncio.wait(self._accepting, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._received(receive, item))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _received(self, receive: Receive, item: Message | Event) -> None:
        try:
            await receive(item)
        except Exception:
            # Nothing brings it again but a server with a history, and that only if it does not count as seen.
            log.exception("%s: A message could not be kept.", self.name)
            return
        if isinstance(item, Message):
            self._around.note_seen(item)

    def _read(self, link: Link, line: Line) -> Message | Event | None:
        try:
            match line.command:
                case "PRIVMSG":
                    self._answer_client(link, line)
                    return read(line, self._around)
                case "TAGMSG":
                    return read_reaction(line, self._around)
                case error if error.isdecimal() and error >= "400":
                    self._note_kept_out(link, line)
                    return None
                case _:
                    return follow(line, self._around)
        except (ValueError, LookupError) as error:
            log.warning("%s: A line cannot be read (%s). I leave it out.", self.name, error)
            return None

    def _note_kept_out(self, link: Link, line: Line) -> None:
        """Any error about a channel that the bot is to be in and is not in; every server has numbers of its own."""
        channel, told = link.fold(line.param(1)), " ".join(line.params[2:])
        wanted = channel in map(link.fold, self.config.channels) and channel not in self._around.joined
        if wanted and self._kept_out.get(channel) != told:
            self._kept_out[channel] = told
            log.warning(
                "%s: The bot cannot join '%s': %s. It tries again every minute.",
                self.name,
                line.param(1),
                told.rstrip("."),
            )

    def _answer_client(self, link: Link, line: Line) -> None:
        """CTCP (https://modern.ircdocs.horse/ctcp), asked directly only: a channel's answers would be many."""
        command, argument = ctcp(line.param(1))
        known = {"VERSION": "Roost", "CLIENTINFO": "ACTION CLIENTINFO PING VERSION", "PING": argument[:100]}
        if command not in known or not link.is_me(line.param(0)) or link.is_me(line.nick):
            return
        if self._answers.has(1):
            self._answers.take()
            link.write("NOTICE", line.nick, f"\x01{command} {known[command]}\x01")

    # Being where it should be

    def _settle(self, link: Link) -> None:
        """Log in where that was not done yet, get the nick back, join what is not joined."""
        config = self.config
        if config.login == "nickserv" and config.password and not link.account:
            link.write("PRIVMSG", "NickServ", f"IDENTIFY {config.account or config.nick} {config.password}")
        if link.fold(link.nick) != link.fold(config.nick):
            if link.account and config.regain:
                link.write("PRIVMSG", "NickServ", config.regain.format(nick=config.nick))
            link.write("NICK", config.nick)
        if "BOT" in link.support:
            link.write("MODE", link.nick, f"+{link.support['BOT']}")
        for channel in config.channels:
            if link.fold(channel) in self._around.joined:
                self._kept_out.pop(link.fold(channel), None)
            else:
                keys = [config.channel_keys[channel]] if channel in config.channel_keys else []
                link.write("JOIN", channel, *keys)

    async def _care(self, link: Link) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._keep_seen()
            with contextlib.suppress(OSError):
                self._settle(link)
                if asyncio.get_running_loop().time() - link.heard >= TICK / 2:
                    link.write("PING", "roost")

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        async with self._turn:
            link = self._connected()
            target = await self._target(link, place)
            lines = write(self._addressed(place, reply), link.room(target))
            out = self._begun.pop(reply.key, ())
            try:
                ids = await self._deliver(link, target, lines, reply.quote, out)
            except _Halfway as halfway:
                if halfway.ids and reply.key:
                    self._begun = dict([*self._begun.items(), (reply.key, halfway.ids)][-BEGUN:])
                raise halfway.error from None
        self._around.note_own(ids)
        return Sent(place, ids)

    def _connected(self) -> Link:
        if self._link is None:
            raise NotSent(f"The channel '{self.name}' is not connected.")
        return self._link

    def _addressed(self, place: Place, reply: Reply) -> str:
        known = self.config.address and reply.quote and place.kind != "direct" and reply.ticket
        return f"{writing.escape(reply.ticket)}: {reply.text}" if known else reply.text

    async def _deliver(
        self, link: Link, target: str, lines: list[str], quote: str, out: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Write those lines that are not `out` yet and wait until the server has taken them; returns all ids."""
        pending = self._pending = Pending(link.fold(target), f"roost-{next(self._tokens)}", ids=list(out))
        pending.written = len(out)
        try:
            for number, line in enumerate(lines[len(out) :], len(out) + 1):
                await self._wait()
                if pending.refused or pending.done.done():
                    break
                link.write("PRIVMSG", target, line, tags=self._tags(link, number, len(lines), quote))
                pending.written += 1
            # Lines are carried out in order, so the answer to this one speaks for those before it.
            link.write("PING", pending.token)
            await link.drain()
            await asyncio.wait_for(asyncio.shield(pending.done), ANSWER)
        except OSError as error:
            raise _Halfway(tuple(pending.ids), self._lost(pending, str(error) or "the server is silent.")) from None
        finally:
            self._pending = None
            if not pending.done.cancel() and not pending.done.cancelled():
                pending.done.exception()  # nobody may have waited for it
        return self._ids(link, target, pending)

    async def _wait(self) -> None:
        if self._pace is not None:
            await asyncio.sleep(self._pace.take())

    def _tags(self, link: Link, number: int, count: int, quote: str) -> dict[str, str]:
        """Clients' own tags: what is answered, and which line of a message of several lines it is."""
        if "message-tags" not in link.caps:
            return {}
        tags = {"+roost/line": f"{number}/{count}"} if count > 1 else {}
        return tags | ({"+draft/reply": quote} if quote and number == 1 and is_given(quote) else {})

    def _lost(self, pending: Pending, why: str) -> ChannelError:
        """The connection broke. What came back has arrived; of the rest that was written nobody knows."""
        if pending.written > len(pending.ids):
            return MaybeSent(f"Nobody knows whether it arrived: {why}")
        return NotSent(why)

    def _ids(self, link: Link, target: str, pending: Pending) -> tuple[str, ...]:
        if pending.refused:
            raise _refusal(link, target, pending.refused, self._around)
        missing = pending.written - len(pending.ids)
        if missing and "echo-message" in link.caps:
            raise Undeliverable(f"The server took a message to '{target}' and did not pass {missing} lines of it on.")
        return (*pending.ids, *(made() for _ in range(missing)))

    def _confirm(self, link: Link, line: Line) -> None:
        """What the server says of lines that wait for it."""
        pending = self._pending
        if pending is None:
            return
        if line.command == "PONG" and line.param(-1) == pending.token:
            if not pending.done.done():
                pending.done.set_result(None)
        elif line.command == "PRIVMSG" and link.is_me(line.nick) and link.fold(line.param(0)) == pending.target:
            pending.ids.append(line.tags.get("msgid") or made())
        elif line.command.isdecimal() and line.command >= "400" and link.fold(line.param(1)) == pending.target:
            pending.refused = f"{line.command} {line.param(-1)}"

    # Who and what else

    async def _target(self, link: Link, place: Place) -> str:
        """The channel, or the nick that somebody has now. Nobody gets what was meant for who had a nick before."""
        if link.is_channel(place.chat):
            if place.chat in map(link.fold, self.config.channels) and place.chat not in self._around.joined:
                raise NotSent(f"The bot is not in '{place.chat}' now.", 5.0)
            return place.chat
        nick, at = self._around.nicks.get(place.chat, (place.chat.partition("!")[0], 0.0))
        if at and time.monotonic() - at < FRESH:
            return nick
        try:
            known = await link.whois(nick)
        except Trouble as error:
            raise NotSent(str(error)) from None
        if known is None:
            raise _gone(place.chat)
        if not self._around.is_same(place.chat, known.mask, known.account):
            raise Undeliverable(f"The nick '{nick}' belongs to somebody else than '{place.chat}' now.")
        self._around.nicks[place.chat] = known.nick, time.monotonic()
        return known.nick

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        """https://ircv3.net/specs/client-tags/react"""
        tags = {"+draft/react" if emoji else "+draft/unreact": emoji or "👍", "+draft/reply": message_id}
        async with self._turn:
            link = self._connected()
            if "message-tags" not in link.caps or not is_given(message_id):
                raise Undeliverable("This server carries no reactions.")
            target = await self._target(link, place)
            await self._wait()
            link.write("TAGMSG", target, tags=tags)

    async def type(self, place: Place) -> None:
        """https://ircv3.net/specs/client-tags/typing; left out where it would delay an answer."""
        link = self._link
        if link is None or "message-tags" not in link.caps or self._turn.locked():
            return
        if self._pace is not None and not self._pace.has(TYPING_ROOM):
            return
        async with self._turn:
            target = await self._target(link, place)
            await self._wait()
            link.write("TAGMSG", target, tags={"+typing": "active"})


class _Halfway(Exception):
    """A message broke off; `ids` are of the lines that arrived."""

    def __init__(self, ids: tuple[str, ...], error: ChannelError) -> None:
        super().__init__(str(error))
        self.ids = ids
        self.error = error


def _gone(chat: str) -> ChannelError:
    if "!" in chat:
        return Undeliverable(f"'{chat}' has left, and nobody can tell who has that nick next.")
    return NotSent(f"'{chat}' is not on IRC now.", BACK_SOON)


def _refusal(link: Link, target: str, told: str, around: Around) -> ChannelError:
    if told.startswith("401"):
        chat = next((chat for chat, (nick, _) in around.nicks.items() if link.fold(nick) == link.fold(target)), target)
        around.nicks.pop(chat, None)
        return _gone(chat)
    if told.startswith(TOO_FAST):
        return NotSent(f"The IRC server wants more time between two people: {told}", TOO_FAST_PAUSE)
    return Undeliverable(f"The IRC server does not take it for '{target}': {told}")
