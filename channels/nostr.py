"""Nostr: private messages by NIP-17 through several relays at once, the old ones of NIP-04 too.

https://github.com/nostr-protocol/nips/blob/master/17.md
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from nostr_sdk import Keys, UnsignedEvent  # type: ignore[import-untyped]

from roost.channels import nostr_seal as seal
from roost.channels.nostr_relay import Filters, Lost, Relay, answers, first
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.durable import Kept, save
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.hosts import is_address, is_loopback
from roost.http import Http
from roost.keys import key
from roost.pauses import pauses
from roost.reach import Ways
from roost.values import Place, Reply, Sent

log = logging.getLogger(__name__)

Json = seal.Json
RELAYS = ["wss://relay.damus.io", "wss://nos.lol", "wss://relay.primal.net"]
# A gift wrap says that it is up to two days older than it is; a day more for who was out of reach when it was made.
OVERLAP = 3 * 86400
EARLIER = 600  # seconds that a clock elsewhere may be behind
MARK = 600.0  # seconds between two notes of how far we are
KNOWN = 50_000  # gift wraps, and people's relays, that are remembered
KEPT = 300  # replies whose time is remembered, so that a second try is the same message
OLD_KEPT = 30  # and of old messages the whole
LISTS = 86400.0  # seconds for which a person's list of relays holds
NO_LIST = 600.0  # and for which it holds that there is none
LIST_WAIT = 3.0  # seconds that relays have for a person's list when another has answered
OTHERS = 3  # relays of a person's own list that are asked beside ours


@dataclass(frozen=True, slots=True, kw_only=True)
class NostrConfig(ChannelConfig):
    """The keys of `[channels.nostr]`."""

    secret_key: str = key(
        "", help="The bot's key: nsec1… or 64 hexadecimal digits; made up and kept when absent.", secret=True
    )
    relays: list[str] = key(factory=lambda: list(RELAYS), help="Where messages come from and go to: wss://….")
    about: str = key("An assistant.", help="What the bot's profile says.")
    profile: bool = key(True, help="Whether the bot's name and its list of relays are published.")


class Nostr(Channel):
    """One key on some relays."""

    Config = NostrConfig
    # NIP-44 takes 65,535 bytes, and relays usually 64 KB for an event. Every one of its two wrappings makes a message
    # a third larger and pads it by up to an eighth more; quotes and newlines count twice.
    limits = Limits(max_text=10_000, unit="bytes", quotes=True, idempotent=True)
    silence = 180.0

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        self._past = Kept(host.home / "past.json")
        self._told = Kept(host.home / "told.json")
        self._replies = Kept(host.home / "replies.json")
        self._old = Kept(host.home / "old.json")
        check_relays(config.relays, name)
        self._ways = Ways(host, name, len(set(map(trimmed, config.relays))))
        self._relays = {url: Relay(url, self._login, host.pulse) for url in map(trimmed, config.relays)}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._inboxes: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._last: dict[Place, int] = {}
        self._reactions: dict[tuple[Place, str], str] = {}
        self._http = Http("Nostr")
        self._keys: Keys | None = None

    # Who we are

    def _identity(self) -> Keys:
        if self._keys is None:
            self._keys = self._read_key()
        return self._keys

    def _read_key(self) -> Keys:
        """The key of bot.toml, or our own. Raises LoginFailed."""
        path = self.host.home / "secret_key"
        given = self.config.secret_key
        if not given and not path.exists():
            save(path, seal.fresh_secret())
        try:
            return seal.keys_of(given or path.read_text(encoding="utf-8"))
        except ValueError:
            where = f"'secret_key' of bot.toml: [channels.{self.name}]" if given else f"'{path}'"
            what = "One is 'nsec1' and 58 characters, or 64 hexadecimal digits."
            raise LoginFailed(f"There is no key of Nostr in {where}. {what}") from None

    @property
    def _me(self) -> str:
        return str(self._identity().public_key().to_hex())

    def _login(self, challenge: str, url: str) -> Json:
        return seal.login(challenge, url, self._identity())

    # Listening

    async def run(self, receive: Receive) -> None:
        log.info("%s: The bot is %s.", self.name, seal.npub(self._me))
        if not self._past.get("born"):
            # A key that others know already may have messages that somebody else has answered.
            self._past.put("born", 1 if not self.config.secret_key else int(time.time()) - EARLIER)
        async with self._http.open():
            await first(*(self._keep(relay, receive) for relay in self._relays.values()))

    async def _keep(self, relay: Relay, receive: Receive) -> NoReturn:
        waits = pauses(120.0)
        while True:
            try:
                async with relay.open(self._http) as reading:
                    waits = pauses(120.0)
                    self._ways.works(relay.url)
                    await first(until(reading), self._follow(relay, receive), self._introduce(relay))
            except Lost as error:
                self._ways.fails(relay.url, str(error))
            await asyncio.sleep(next(waits))

    async def _follow(self, relay: Relay, receive: Receive) -> None:
        async def take(events: Sequence[Json]) -> None:
            await self._take(events, receive)
            self._note(relay)

        await relay.follow(self._filters(relay), take)

    def _filters(self, relay: Relay) -> Filters:
        born = self._past.get("born", 0)
        reached = self._past.get(relay.url) or (time.time() if born == 1 else born)
        wraps = {"kinds": [seal.WRAP], "#p": [self._me], "since": int(reached) - OVERLAP}
        return [wraps, {"kinds": [seal.OLD_MESSAGE], "#p": [self._me], "since": int(reached) - EARLIER}]

    def _note(self, relay: Relay) -> None:
        """Everything that this relay had is safe. Not every time: what lies in the overlap comes again anyway."""
        now = time.time()
        if now - self._past.get(relay.url, 0.0) > MARK:
            self._past.put(relay.url, now)

    async def _take(self, events: Sequence[Json], receive: Receive) -> None:
        """Hand over what is new, in the order it was said in."""
        found: list[tuple[seal.Rumor, str]] = []
        for event in events:
            if event["id"] in self._seen:
                continue
            try:
                found.append((seal.opened(event, self._identity()), event["id"]))
            except ValueError as error:
                log.debug("%s: An event cannot be read: %s", self.name, error)
            self._saw(event["id"])
        found.sort(key=lambda one: one[0].at)
        for number, (rumor, _) in enumerate(found):
            try:
                await self._hand_over(rumor, receive)
            except BaseException:
                for _, outer in found[number:]:
                    self._seen.pop(outer, None)
                raise

    def _saw(self, outer: str) -> None:
        self._seen[outer] = None
        while len(self._seen) > KNOWN:
            self._seen.popitem(last=False)

    async def _hand_over(self, rumor: seal.Rumor, receive: Receive) -> None:
        if rumor.at < self._past.get("born", 0):
            return
        try:
            item = seal.read(rumor, self.name, self._me, self.host.bot_name, self._own())
        except ValueError as error:
            log.debug("%s: A message cannot be read: %s", self.name, error)
            return
        if item is not None:
            await receive(item)

    def _own(self) -> set[str]:
        return {id for _, id in self._replies.all().values()}

    async def _introduce(self, relay: Relay) -> None:
        """Publish who we are, where that is not known yet, and then wait forever."""
        if self.config.profile:
            profile = json.dumps({"name": self.host.bot_name, "about": self.config.about, "bot": True})
            inboxes = [["relay", url] for url in list(self._relays)[:3]]
            version = hashlib.sha256(json.dumps([self._me, profile, inboxes]).encode()).hexdigest()
            if self._told.get(relay.url) != version:
                try:
                    await relay.publish(seal.signed(seal.PROFILE, profile, [], self._identity()))
                    await relay.publish(seal.signed(seal.INBOXES, "", inboxes, self._identity()))
                    self._told.put(relay.url, version)
                except ChannelError as error:
                    log.debug("%s: The profile is not published: %s", self.name, error)
        await asyncio.Event().wait()

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        people = self._members(place)
        if reply.ticket == seal.OLD and len(people) == 1:
            event = self._written_old(people[0], reply)
            await self._publish_all(event, self._relays)
            return Sent(place, (event["id"],))
        rumor = self._written(place, reply)
        await self._send(rumor, people)
        return Sent(place, (seal.id_of(rumor),))

    def _members(self, place: Place) -> list[str]:
        try:
            return seal.members(place)
        except ValueError as error:
            raise Undeliverable(f"'{place}' is nobody on Nostr: {error}") from None

    def _written(self, place: Place, reply: Reply) -> UnsignedEvent:
        """The message of a reply, which is the same, with the same id, when it is sent again."""
        kept = dict(self._replies.all())
        if reply.key in kept:
            return seal.written(place, reply, kept[reply.key][0], self._identity())
        rumor = seal.written(place, reply, self._time(place), self._identity())
        kept[reply.key or seal.id_of(rumor)] = rumor.created_at().as_secs(), seal.id_of(rumor)
        self._replies.replace(dict(list(kept.items())[-KEPT:]))
        return rumor

    def _written_old(self, person: str, reply: Reply) -> Json:
        """The same for an old message, whose signature is another each time: so the whole of it is kept."""
        kept = dict(self._old.all())
        if reply.key in kept:
            again: Json = kept[reply.key]
            return again
        event = seal.written_old(person, reply, self._identity())
        kept[reply.key or event["id"]] = event
        self._old.replace(dict(list(kept.items())[-OLD_KEPT:]))
        return event

    def _time(self, place: Place) -> int:
        """The time in seconds, never the same twice in a place: clients put messages in order by it."""
        self._last[place] = max(int(time.time()), self._last.get(place, 0) + 1)
        return self._last[place]

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        people = self._members(place)
        tags = [["p", one] for one in people]
        old = self._reactions.pop((place, message_id), "")
        if old:
            tags_of_deletion = [*tags, ["e", old], ["k", str(seal.REACTION)]]
            await self._send(self._rumor(seal.DELETION, "", tags_of_deletion), people)
        if emoji:
            rumor = self._rumor(seal.REACTION, emoji, [*tags, ["e", message_id], ["k", str(seal.MESSAGE)]])
            await self._send(rumor, people)
            self._reactions[place, message_id] = seal.id_of(rumor)

    async def delete(self, sent: Sent) -> None:
        people = self._members(sent.place)
        tags = [*(["p", one] for one in people), *(["e", id] for id in sent.ids), ["k", str(seal.MESSAGE)]]
        await self._send(self._rumor(seal.DELETION, "", tags), people)

    def _rumor(self, kind: int, content: str, tags: Sequence[Sequence[str]]) -> UnsignedEvent:
        return seal.rumor(kind, content, tags, int(time.time()), self._identity())

    async def _send(self, rumor: UnsignedEvent, people: Sequence[str]) -> None:
        """Wrap it for everyone. It is sent when it has reached one of them; the error is the last one otherwise."""
        done = await asyncio.gather(*(self._send_to(person, rumor) for person in people), return_exceptions=True)
        failed = [one for one in done if isinstance(one, BaseException)]
        if len(failed) == len(done):
            raise worst(failed)
        for error in failed:
            log.warning("%s: One person of a room was not reached: %s", self.name, error)

    async def _send_to(self, person: str, rumor: UnsignedEvent) -> None:
        await self._publish_all(seal.wrapped(rumor, person, self._identity()), await self._inboxes_of(person))

    async def _publish_all(self, event: Json, urls: Sequence[str] | dict[str, Relay]) -> None:
        """Give an event to several relays; one that takes it is enough."""
        done = await asyncio.gather(*(self._publish(event, url) for url in urls), return_exceptions=True)
        if None not in done:
            raise worst([one for one in done if isinstance(one, BaseException)])

    async def _publish(self, event: Json, url: str) -> None:
        if url in self._relays:
            await self._relays[url].publish(event)
            return
        relay = Relay(url, self._login)
        try:
            async with relay.open(self._http):
                await relay.publish(event)
        except Lost as error:
            raise NotSent(str(error)) from None

    async def _inboxes_of(self, person: str) -> tuple[str, ...]:
        """Where a person reads: their own list (kind 10050), or else where we are. It is looked up once a day."""
        until, urls = self._inboxes.get(person, (0.0, ()))
        if time.time() > until:
            listed = await self._look_up(person)
            urls = listed or tuple(self._relays)
            self._inboxes[person] = time.time() + (LISTS if listed else NO_LIST), urls
            while len(self._inboxes) > KNOWN:
                self._inboxes.popitem(last=False)
        return urls

    async def _look_up(self, person: str) -> tuple[str, ...]:
        filters = [{"kinds": [seal.INBOXES], "authors": [person]}]
        given = await answers(*(relay.query(filters) for relay in self._relays.values()), more=LIST_WAIT)
        if not given:
            raise NotSent("No relay is connected.")
        listed = seal.inboxes([event for events in given for event in events], person)
        urls = dict.fromkeys(map(trimmed, listed))
        ours = [url for url in urls if url in self._relays]
        others = [url for url in urls if url not in self._relays and public(url)][:OTHERS]
        return tuple(ours + others)


async def until(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def check_relays(relays: Sequence[str], name: str) -> None:
    """Raises ConfigError."""
    bad = [url for url in relays if not url.strip().startswith(("wss://", "ws://"))]
    if bad or not relays:
        what = f"'{bad[0]}' is no address of a relay" if bad else "there is no relay"
        raise ConfigError(f"bot.toml: [channels.{name}] relays: {what}. One looks like 'wss://relay.example.org'.")


def trimmed(url: str) -> str:
    return url.strip().rstrip("/")


def public(url: str) -> bool:
    """Whether a stranger may have us connect to this: encrypted, and by a name, so not to somewhere in here."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "wss" and "." in host and not is_address(host) and not is_loopback(host)


def worst(errors: Sequence[BaseException]) -> BaseException:
    """What is to be said when nobody took it: perhaps it arrived, or it may be tried again, or never."""
    for kind in (MaybeSent, NotSent, Undeliverable):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0] if errors else NotSent("There is no relay to send it to.")
