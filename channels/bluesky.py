"""Bluesky: mentions in public threads and direct messages, through the AT Protocol server of the bot's own account.

https://docs.bsky.app and https://atproto.com
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from roost.channels import bluesky_chat as chat
from roost.channels import bluesky_posts as posts
from roost.channels.bluesky_api import CHAT, Api, Json, NotAllowed, Refused
from roost.channels.bluesky_posts import POST, URI, Aim, Ref
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.durable import Kept
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.pauses import pauses
from roost.reach import Ways
from roost.values import Attachment, Place, Reply, Sent

log = logging.getLogger(__name__)

PAGE = 50  # notifications that are asked for at once
OVERLAP = 600.0  # seconds that are looked through once more: the network tells of some posts later than of others
UNSURE = 60.0  # seconds that two clocks may differ
REMEMBERED = 1000  # notifications, answers, conversations
RECENT = 20  # messages among which one is looked for that may have been sent
TRIES = (NotSent, MaybeSent)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueskyConfig(ChannelConfig):
    """The keys of `[channels.bluesky]`."""

    handle: str = key(help="The name of the bot's account, such as bot.bsky.social.")
    password: str = key(help="An app password of that account, made for direct messages as well.", secret=True)
    mentions: bool = key(True, help="Whether to answer mentions and replies in public.")
    messages: bool = key(True, help="Whether to answer direct messages.")
    languages: list[str] = key(factory=list, help='The languages the bot writes in, such as ["en"].', most=3)
    poll: float = key(5.0, help="Seconds between two looks for something new.", least=0.1, most=60)
    base_url: str = key("", help="The address of the server that holds the account; it is found out when absent.")
    resolver: str = key("https://public.api.bsky.app", help="Who is asked whose handle it is.")
    directory: str = key("https://plc.directory", help="Who is asked where an account lives.")


class Bluesky(Channel):
    """One account."""

    Config = BlueskyConfig
    limits = replace(chat.LIMITS, rate=2.0)
    silence = 200.0
    # Of accounts that Bluesky itself holds; for another, `base_url` names the server.
    hosts = ("*.bsky.network", "bsky.social", "public.api.bsky.app", "plc.directory", "cdn.bsky.app")

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        if not (config.mentions or config.messages):
            raise ConfigError(f"bot.toml: [channels.{name}] has nothing to do: set mentions or messages to true.")
        self._api = Api(name, config.handle, config.password, config.base_url, config.resolver, config.directory)
        self._past = Kept(host.home / "past.json")
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._followed: OrderedDict[str, Ref] = OrderedDict()
        self._convos: OrderedDict[str, chat.Convo] = OrderedDict()
        self._own: OrderedDict[str, None] = OrderedDict()
        self._looked: set[str] = set()
        self._ways = Ways(host, name, 2)

    # Listening

    async def run(self, receive: Receive) -> None:
        self._looked.clear()
        looks: dict[str, Callable[[Receive], Awaitable[bool]]] = {}
        looks |= {"mentions": self._mentions} if self.config.mentions else {}
        looks |= {"messages": self._messages} if self.config.messages else {}
        self._ways = Ways(self.host, self.name, len(looks))
        try:
            # One session for both; whoever is first enters.
            async with self._api.http.open(), asyncio.TaskGroup() as group:
                for name, look in looks.items():
                    group.create_task(self._keep_looking(name, look, len(looks), receive))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _keep_looking(
        self, name: str, look: Callable[[Receive], Awaitable[bool]], looks: int, receive: Receive
    ) -> None:
        waits = pauses()
        while True:
            try:
                news = await look(receive)
                waits = pauses()
                pause = 0.0 if news else self.config.poll
                self._ways.works(name)
                self._alive(name, looks)
            except NotAllowed as error:
                self._go_without_messages(error)
                self._alive(name, looks)
                return
            except (*TRIES, Refused) as error:
                pause = next(waits)
                if isinstance(error, NotSent) and error.retry_after is not None:
                    self._alive(name, looks)
                    pause = max(pause, error.retry_after)
                else:
                    (self._ways.fails(name, str(error)) if name in self._looked else self.host.trouble(str(error)))
            await asyncio.sleep(pause)

    def _alive(self, name: str, looks: int) -> None:
        """Answers wait until all looks have told what happened before, see `_arrived`."""
        self._looked.add(name)
        if len(self._looked) == looks:
            self.host.pulse()

    def _go_without_messages(self, error: NotAllowed) -> None:
        told = (
            f"The direct messages of bot.toml: [channels.{self.name}] cannot be read: {error} Make an app password "
            "with 'Allow access to your direct messages', or set messages = false."
        )
        if not self.config.mentions:
            raise LoginFailed(told)
        log.warning("%s", told)

    async def _mentions(self, receive: Receive) -> bool:
        """Take what is new among the notifications; the newest of what was taken is remembered."""
        me = (await self._api.enter()).did
        since = self._past.get("since")
        fresh = await self._fresh(since)
        if since is None:
            # Whatever was said before the bot was here has been seen by somebody else.
            newest = posts.seconds(fresh[0]["indexedAt"]) if fresh else time.time() - UNSURE
            self._past.replace({**self._past.all(), "since": newest, "began": newest})
            return False
        for notification in reversed(fresh):
            await self._take_post(notification, me, receive)
            remember(self._seen, notification["uri"], None)
        if fresh:
            self._past.put("since", max(since, posts.seconds(fresh[0]["indexedAt"])))
        return bool(fresh)

    async def _fresh(self, since: float | None) -> list[Json]:
        """The notifications that were not taken yet, newest first; when nothing ever was, the newest page."""
        found: list[Json] = []
        began, cursor = self._past.get("began", 0.0), ""
        while True:
            params = [("reasons", reason) for reason in ("mention", "reply", "quote")] + [("limit", str(PAGE))]
            params += [("cursor", cursor)] if cursor else []
            page = await self._api.query("app.bsky.notification.listNotifications", params)
            told = [(one, posts.seconds(one["indexedAt"])) for one in posts.dated(page.get("notifications"))]
            fresh = [one for one, at in told if since is None or (at > began and one["uri"] not in self._seen)]
            found += fresh
            cursor = page.get("cursor") or ""
            # A page may be empty and not the last: what is of another kind is left out of it.
            reached = told[-1][1] if told else posts.moment(cursor)
            if since is None or not cursor or (told and not fresh) or reached <= max(began, since - OVERLAP):
                return found

    async def _take_post(self, notification: Json, me: str, receive: Receive) -> None:
        try:
            around = await self._shown(posts.related(notification, me))
            message = posts.read(notification, self.name, me, around)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s: The post '%s' cannot be read: %r", self.name, notification.get("uri"), error)
            return
        if message is not None:
            await receive(message)

    async def _shown(self, uris: Sequence[str]) -> dict[str, Json]:
        """Posts as the network shows them, by address; those that are gone are left out."""
        if not uris:
            return {}
        found = await self._api.query("app.bsky.feed.getPosts", [("uris", uri) for uri in uris])
        return {str(view["uri"]): view for view in found.get("posts") or ()}

    async def _messages(self, receive: Receive) -> bool:
        """Take what is new in the log of conversations; it goes on where the last entry that was taken ended."""
        account = await self._api.enter()
        cursor = self._past.get("log")
        page = await self._api.query("chat.bsky.convo.getLog", [("cursor", cursor)] if cursor else [], CHAT)
        told = [one for one in page.get("logs") or () if isinstance(one, dict)]
        entries = [one for one in told if str(one.get("rev") or "") > (cursor or "")]
        if cursor is None:
            # Without a cursor, the log tells where it ends.
            revs = [str(one["rev"]) for one in entries]
            self._past.put("log", max([str(page.get("cursor") or ""), *revs]))
            return False
        for entry in entries:
            await self._take_entry(entry, account.did, account.handle, receive)
        if entries:
            self._past.put("log", max(str(one["rev"]) for one in entries))
        return bool(entries)

    async def _take_entry(self, entry: Json, me: str, handle: str, receive: Receive) -> None:
        if entry.get("$type") not in (f"{chat.CONVO}#logCreateMessage", f"{chat.CONVO}#logAddReaction"):
            return
        try:
            convo = await self._convo(entry["convoId"])
            found = chat.read(entry, self.name, me, handle, convo, self.host.bot_name)
        except Refused as error:
            log.warning("%s: A conversation cannot be read: %s", self.name, error)
            return
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s: An entry of the log cannot be read: %r", self.name, error)
            return
        if found is not None:
            await receive(found)

    async def _convo(self, id: str) -> chat.Convo:
        if id not in self._convos:
            told = await self._api.query("chat.bsky.convo.getConvo", [("convoId", id)], CHAT)
            remember(self._convos, id, chat.convo(told["convo"]))
        return self._convos[id]

    async def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        uri, _, number = attachment.ref.rpartition(" ")
        try:
            url = posts.picture((await self._shown([uri]))[uri], int(number))
        except (KeyError, IndexError, TypeError, ValueError):
            raise Undeliverable("The picture is no longer there.") from None
        async for chunk in self._api.download(url):
            yield chunk

    # Saying

    def limits_at(self, place: Place) -> Limits:
        return posts.LIMITS if is_public(place) else self.limits

    async def send(self, place: Place, reply: Reply) -> Sent:
        try:
            id = await (self._post(place, reply) if is_public(place) else self._tell(place, reply))
        except LoginFailed as error:
            # It is for `run` to stop the channel.
            raise NotSent(str(error)) from None
        return Sent(place, (id,))

    async def _post(self, place: Place, reply: Reply) -> str:
        """Post under the question, or under what was last said to it: so a long answer is read in its order."""
        aim = posts.aimed(reply.ticket) or await self._aim(place.chat)
        ref = await self._put(reply.text, reply.attachments, aim, reply.key or uuid.uuid4().hex)
        remember(self._followed, aim.parent.uri, ref)
        return ref.uri

    async def _aim(self, uri: str) -> Aim:
        """A thread that something is said in unasked."""
        view = (await self._shown([uri])).get(uri)
        if view is None:
            raise Undeliverable(f"The post '{uri}' is gone, and its thread with it.")
        root = Ref(uri, str(view["cid"]))
        return Aim(root, root, posts.time_of(posts.key_of(uri)))

    async def _put(self, text: str, files: Sequence[Attachment], aim: Aim, once: str) -> Ref:
        """Post once, however often this is called: the server has no second record of the same name."""
        did, rkey = self._api.account.did, posts.record_key(once, aim.at)
        name = {"repo": did, "collection": POST, "rkey": rkey}
        under = self._followed.get(aim.parent.uri, aim.parent)
        if under.uri == f"{URI}{did}/{POST}/{rkey}":
            return under
        blobs = [(await self._api.upload(one.mime, one.data or b""), one.name) for one in files]
        record = posts.write(text, replace(aim, parent=under), self.config.languages, time.time())
        body = {**name, "record": posts.with_pictures(record, blobs), "swapRecord": None}
        try:
            made = await self._api.procedure("com.atproto.repo.putRecord", body)
        except Refused as error:
            if error.error != "InvalidSwap":
                raise
            made = await self._api.query("com.atproto.repo.getRecord", list(name.items()))
        return Ref(str(made["uri"]), str(made["cid"]))

    async def _tell(self, place: Place, reply: Reply) -> str:
        told = await self._convo(place.chat)
        if told.asked:
            await self._api.procedure("chat.bsky.convo.acceptConvo", {"convoId": told.id}, CHAT)
            remember(self._convos, told.id, replace(told, asked=False))
        return await self._say(told.id, reply)

    async def _say(self, convo: str, reply: Reply) -> str:
        message = chat.write(reply.text, reply.quote)
        before = self._past.get("log") or ""
        body = {"convoId": convo, "message": message}
        try:
            id = str((await self._api.procedure("chat.bsky.convo.sendMessage", body, CHAT))["id"])
        except Refused as error:
            if error.error != "ReplyTargetNotFound" or not reply.quote:
                raise
            return await self._say(convo, replace(reply, quote=""))
        except MaybeSent:
            arrived = await self._arrived(convo, message["text"], before)
            if arrived is None:
                raise
            id = arrived
        remember(self._own, id, None)
        return id

    async def _arrived(self, convo: str, text: str, before: str) -> str | None:
        """A message that was sent, though no answer came: it is newer than what the log told of `before`."""
        me = self._api.account.did
        try:
            params = [("convoId", convo), ("limit", str(RECENT))]
            page = await self._api.query("chat.bsky.convo.getMessages", params, CHAT)
        except (*TRIES, Undeliverable):
            return None
        for one in page.get("messages") or ():
            mine = (one.get("sender") or {}).get("did") == me and one.get("text") == text
            if mine and str(one["rev"]) > before and one["id"] not in self._own:
                return str(one["id"])
        return None

    async def delete(self, sent: Sent) -> None:
        """Delete a post. Of a direct message, only the bot's own copy can be deleted."""
        for id in sent.ids:
            if id.startswith(URI):
                name = {"repo": posts.owner(id), "collection": POST, "rkey": posts.key_of(id)}
                await self._api.procedure("com.atproto.repo.deleteRecord", name)
                for above in [above for above, ref in self._followed.items() if ref.uri == id]:
                    del self._followed[above]
            else:
                body = {"convoId": sent.place.chat, "messageId": id}
                await self._api.procedure("chat.bsky.convo.deleteMessageForSelf", body, CHAT)

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        if is_public(place):
            raise Undeliverable("A post on Bluesky takes no reactions.")
        name = {"convoId": place.chat, "messageId": message_id}
        if emoji:
            await self._api.procedure("chat.bsky.convo.addReaction", name | {"value": emoji}, CHAT)
            return
        page = await self._api.query("chat.bsky.convo.getMessages", [("convoId", place.chat)], CHAT)
        for one in page.get("messages") or ():
            for given in (one.get("reactions") or ()) if one.get("id") == message_id else ():
                if given["sender"]["did"] == self._api.account.did:
                    await self._api.procedure("chat.bsky.convo.removeReaction", name | {"value": given["value"]}, CHAT)


def is_public(place: Place) -> bool:
    """Whether a place is a thread of posts, and not a conversation."""
    return place.chat.startswith(URI)


def remember(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    """Keep the latest of something."""
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
