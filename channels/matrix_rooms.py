"""What a sync of Matrix brings: the new events of all rooms, read, completed and handed to the core."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from nio import EncryptionError, MegolmEvent  # type: ignore[import-untyped]

from roost.channels.matrix_account import Account, part
from roost.channels.matrix_events import (
    Known,
    View,
    entry,
    note,
    read,
    referred,
    relation,
    since_invited,
    thread_of,
)
from roost.channels.matrix_words import Json
from roost.contracts import Receive
from roost.durable import Kept
from roost.errors import Undeliverable
from roost.values import Event, Message

log = logging.getLogger(__name__)

KEY_SECONDS = 60.0  # how long a message waits for its key
MAX_WAITING = 200
PAGE, MAX_PAGES = 100, 200
MAX_KNOWN = 5_000
MALFORMED = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError)
UNREADABLE = "a message that cannot be decrypted: its key did not come"
WITHOUT_KEYS = "a message that cannot be decrypted: encryption is not installed here"


class Asides:
    """What nobody waits for. Failing changes nothing that matters."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:
            log.debug("%s: %s", self._name, error)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Recent:
    """What was said lately, by event id, for what refers to it."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, Known] = OrderedDict()
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()

    def keep(self, room: str, id: str, known: Known) -> None:
        self.known[id] = known
        self._last[room, known.thread] = id
        for kept in (self.known, self._last):
            while len(kept) > MAX_KNOWN:
                kept.popitem(last=False)

    def last(self, room: str, thread: str) -> str:
        """The newest message of a thread, or of a room outside of threads."""
        return self._last.get((room, thread), "")

    def author(self, id: str) -> str:
        return self.known[id].sender if id in self.known else ""


class Rooms:
    """Everything that happens in the rooms of one login. `state` is what has to outlive it."""

    def __init__(
        self, account: Account, state: Kept, recent: Recent, asides: Asides, commands: Callable[[], Iterable[str]]
    ) -> None:
        self._account = account
        self._client = account.client
        self._me = str(account.client.user_id)
        self._state = state
        self._recent = recent
        self._asides = asides
        self._commands = commands
        self._sizes: dict[str, int] = {}
        self._joining: set[str] = set()
        self.my_name = ""

    async def take(self, answer: Any, since: str, receive: Receive) -> None:
        """Hand the core what a sync brought, and keep where it ended once all of that is safe. Raises ChannelErrors.

        The first sync of an account, which has no `since`, brings what was said before the bot was there: none of it
        is taken but the invitations.
        """
        found = await self._found(answer, since) if since else []
        late, waiting = self._late()
        fresh = [one for room, events in found for one in self._hold_back(room, events, waiting)]
        await self._hand_over(receive, [*late, *fresh])
        invites = self._state.get("invites", {}) | self._moved(fresh)
        self._state.replace({"user": self._me, "since": answer.next_batch, "waiting": waiting, "invites": invites})
        for room, invite in invites.items():
            if room not in self._joining:
                self._joining.add(room)
                self._asides.start(self._follow(room, invite))

    @property
    def since(self) -> str:
        """Where the last sync of this account ended, empty when there was none."""
        return str(self._state.get("since", "")) if self._state.get("user") == self._me else ""

    @property
    def waiting(self) -> bool:
        """Whether something is to be done again soon."""
        return bool(self._state.get("waiting") or self._state.get("invites"))

    # What is new

    async def _found(self, answer: Any, since: str) -> list[tuple[str, list[Any]]]:
        """The new events of every room, also those that did not fit into the answer."""
        found = []
        for room, info in answer.rooms.join.items():
            events = list(info.timeline.events)
            if info.timeline.limited or any(type_of(one) == "m.room.member" for one in [*events, *info.state]):
                self._sizes.pop(room, None)
            if info.timeline.limited and info.timeline.prev_batch:
                events = [*await self._backlog(room, info.timeline.prev_batch, since, events), *events]
            found.append((room, events))
        for room, info in answer.rooms.leave.items():
            self._sizes.pop(room, None)
            mine = [one for one in info.timeline.events if one.source.get("state_key") == self._me]
            found.append((room, [one for one in mine if type_of(one) == "m.room.member"]))
        return found

    async def _backlog(self, room: str, start: str, since: str, events: Sequence[Any]) -> list[Any]:
        """What lies between the last sync and the beginning of this one, back to where the bot was asked in.

        https://spec.matrix.org/v1.16/client-server-api/#syncing
        """
        older: list[Any] = []
        for _ in range(MAX_PAGES):
            if any(entry(opened(one), self._me) for one in (*older, *events)):
                break
            page = await self._account.ask(self._client.room_messages(room, start, since, limit=PAGE))
            older = [*reversed(page.chunk), *older]
            start = page.end
            if not page.chunk or not start:
                break
        return older

    # Encrypted messages whose key is missing

    def _hold_back(self, room: str, events: Sequence[Any], waiting: list[Json]) -> list[tuple[str, Json]]:
        """Put aside what cannot be read yet: its key may be on the way. Returns the rest."""
        kept = since_invited([opened(one) for one in events], self._me)
        rest = []
        for one in events[len(events) - len(kept) :]:
            if not isinstance(one, MegolmEvent):
                strange = type_of(one) == "m.room.encrypted" and "ciphertext" in one.source["content"]
                rest.append((room, unreadable(one.source, UNREADABLE) if strange else opened(one)))
            elif self._client.olm is None or len(waiting) >= MAX_WAITING:
                rest.append((room, unreadable(one.source, UNREADABLE if self._client.olm else WITHOUT_KEYS)))
            elif one.sender != self._me:
                self._asides.start(self._ask_for_key(one))
                waiting.append({"room": room, "event": one.source, "until": time.time() + KEY_SECONDS})
        return rest

    async def _ask_for_key(self, event: Any) -> None:
        if event.session_id not in self._client.outgoing_key_requests:
            await self._account.ask(self._client.request_room_key(event))

    def _late(self) -> tuple[list[tuple[str, Json]], list[Json]]:
        """Those put aside earlier that can be read by now, or never; and those that have to wait on."""
        ready, waiting = [], []
        for held in self._state.get("waiting", []):
            event = self._decrypted(held["room"], held["event"])
            if event is None and time.time() < held["until"]:
                waiting.append(held)
            else:
                ready.append((held["room"], event or unreadable(held["event"], UNREADABLE)))
        return ready, waiting

    def _decrypted(self, room: str, source: Json) -> Json | None:
        event = MegolmEvent.from_dict(source)
        if self._client.olm is None or not isinstance(event, MegolmEvent):
            return None
        event.room_id = room
        try:
            return opened(self._client.decrypt_event(event))
        except EncryptionError:
            return None

    # Handing over

    async def _hand_over(self, receive: Receive, events: Sequence[tuple[str, Json]]) -> None:
        """Hand events to the core, in order. One that makes no sense is left out, or it would come again for ever."""
        found: list[Message | Event] = []
        said: dict[str, str] = {}
        views: dict[str, View] = {}
        for room, event in events:
            try:
                one = await self._read(room, event, views)
            except MALFORMED as error:
                what = (str(event.get("event_id", "")), room, type(error).__name__)
                log.warning("The event '%s' in the room '%s' of Matrix cannot be read (%s). I leave it out.", *what)
                continue
            if one is not None:
                found.append(one)
            if isinstance(one, Message):
                said[room] = str(event["event_id"])
        # Tasks begin in the order in which they are made, and that is the order the core keeps.
        for done in await asyncio.gather(*(receive(one) for one in found), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        if self._account.config.receipts:
            for room, id in said.items():
                path = f"v3/rooms/{part(room)}/receipt/m.read/{part(id)}"
                self._asides.start(self._account.obtain("POST", path, {}))

    async def _read(self, room: str, event: Json, views: dict[str, View]) -> Message | Event | None:
        if event["sender"] == self._me:
            return None
        view = views[room] = views.get(room) or await self._view(room)
        for id in referred(event):
            await self._learn(room, id, view)
        found = read(event, room, view)
        if event["type"] == "m.reaction" or (isinstance(found, Message) and not found.edited):
            self._recent.keep(room, event["event_id"], note(event, view))
        return found

    async def _view(self, room: str) -> View:
        def name_of(user: str) -> str:
            members = self._client.rooms[room].users if room in self._client.rooms else {}
            return str(members[user].name) if user in members else user

        return View(
            self._account.name,
            self._me,
            (name_of(self._me) if name_of(self._me) != self._me else "") or self.my_name,
            "direct" if await self._size(room) <= 2 else "group",
            name_of,
            self._recent.known,
            frozenset(name.lower() for name in self._commands()),
        )

    async def _size(self, room: str) -> int:
        """How many people are in a room, counted again when its members may have changed."""
        if room not in self._client.rooms:
            return 0
        if room not in self._sizes:
            try:
                self._sizes[room] = len((await self._account.ask(self._client.joined_members(room))).members)
            except Undeliverable:
                return len(self._client.rooms[room].users) + 1
        return self._sizes[room]

    async def _learn(self, room: str, id: str, view: View) -> None:
        """Fetch an event that another one refers to, unless it is known. One that is not there stays unknown."""
        if id in self._recent.known:
            return
        try:
            event = (await self._account.ask(self._client.room_get_event(room, id))).event
        except Undeliverable:
            return
        source = self._decrypted(room, event.source) if isinstance(event, MegolmEvent) else opened(event)
        try:
            self._recent.keep(room, id, note(source or event.source, view))
        except MALFORMED:
            self._recent.keep(room, id, Known(str(event.source.get("sender", ""))))

    # Invitations

    def note_invitations(self, answer: Any) -> None:
        """Keep those to follow, before anything is sent: who asked the bot into a room is not to get another one."""
        if found := self._invited(answer):
            self._state.put("invites", self._state.get("invites", {}) | found)

    def _invited(self, answer: Any) -> Json:
        """Room -> who asked, for the invitations to follow."""
        found = {}
        for room, info in answer.rooms.invite.items():
            for event in info.invite_state:
                mine = event.source.get("state_key") == self._me
                if mine and getattr(event, "membership", "") == "invite" and self._welcome(event.sender):
                    found[room] = {"by": event.sender, "direct": event.content.get("is_direct") is True}
        return found

    def _moved(self, events: Sequence[tuple[str, Json]]) -> Json:
        """Rooms that were replaced by others (https://spec.matrix.org/v1.16/client-server-api/#room-upgrades)."""
        moves = [event for _, event in events if event["type"] == "m.room.tombstone" and "state_key" in event]
        return {
            event["content"]["replacement_room"]: {"by": event["sender"], "direct": False}
            for event in moves
            if isinstance(event["content"].get("replacement_room"), str) and self._welcome(event["sender"])
        }

    def _welcome(self, user: str) -> bool:
        policy = self._account.config.invites
        return bool(policy == "accept" or (policy == "owner" and user == self._account.config.owner))

    async def _follow(self, room: str, invite: Json) -> None:
        """Go where the bot was asked to. What fails for now is tried after the next sync."""
        try:
            server = invite["by"].partition(":")[2]
            await self._account.obtain("POST", f"v3/join/{part(room)}?via={part(server)}", {})
            if invite["direct"]:
                await self._account.mark_direct(invite["by"], room)
        except Undeliverable as error:
            log.info("An invitation to the room '%s' of Matrix cannot be followed: %s", room, error)
        finally:
            self._joining.discard(room)
        self._state.put("invites", {one: it for one, it in self._state.get("invites", {}).items() if one != room})


def type_of(event: Any) -> str:
    return str(event.source.get("type", ""))


def opened(event: Any) -> Json:
    """The event as an object. What was encrypted can neither be a state nor take anything back."""
    source: Json = event.source
    if "content" not in source:  # matrix-nio takes it out of some
        source = source | {"content": getattr(event, "content", {})}
    if not getattr(event, "decrypted", False):
        return source
    if source.get("type") in {"m.room.redaction", "m.room.member"}:
        return source | {"type": "m.room.encrypted", "content": {}}
    return {name: value for name, value in source.items() if name not in {"state_key", "unsigned", "redacts"}}


def unreadable(source: Json, text: str) -> Json:
    """A message that tells people, and the brain, that something was said."""
    relates = relation(source)
    content: Json = {"body": text, "m.mentions": {}} | ({"m.relates_to": relates} if thread_of(relates) else {})
    return source | {"type": "m.room.encrypted", "content": content}
