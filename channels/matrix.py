"""Matrix, by matrix-nio: rooms of any homeserver, encrypted ones as well.

https://spec.matrix.org/v1.16/client-server-api/
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from roost.channels import matrix_media
from roost.channels.matrix_account import Account, part
from roost.channels.matrix_events import Known, relation
from roost.channels.matrix_keys import Keys
from roost.channels.matrix_replies import relate, transaction, write_edit, write_file, write_text
from roost.channels.matrix_rooms import PAGE, Asides, Recent, Rooms
from roost.channels.matrix_words import Json
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import HTML_CHAT
from roost.durable import Kept
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.keys import key
from roost.pauses import pauses, persist
from roost.values import Attachment, Place, Reply, Sent

log = logging.getLogger(__name__)

MB = 1024 * 1024
POLL, SOON = 30_000, 2_000  # milliseconds
TYPING_MS = 10_000
LONGEST_PAUSE = 300.0  # seconds between two logins of which nothing came
REFUSED_AT_ONCE = (
    "The Matrix server refuses the token that it has just given. Where it sends askers on to another address, write "
    "that one as the 'base_url' of bot.toml: [channels.{}]."
)
NOTHING: Json = {"not_types": ["*"]}
FILTER: Json = {
    "presence": NOTHING,
    "account_data": NOTHING,
    "room": {
        "state": {"lazy_load_members": True},
        "timeline": {"limit": PAGE, "lazy_load_members": True},
        "ephemeral": NOTHING,
        "account_data": NOTHING,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixConfig(ChannelConfig):
    """The keys of `[channels.matrix]`."""

    user: str = key("", help="The bot's Matrix ID, such as @roost:example.org.", ask=True)
    password: str = key("", help="The password of the bot's account; not needed with a token.", secret=True, ask=True)
    token: str = key("", help="An access token of the bot's account, instead of a password.", secret=True, ask=True)
    base_url: str = key("", help="The homeserver's address; found by the server's name in 'user' when absent.")
    device_name: str = key("Roost", help="What the bot's device is called in the list of the account's devices.")
    owner: str = key("", help='Your own Matrix ID: who may invite with invites = "owner", and verify the bot.')
    invites: Literal["accept", "owner", "ignore"] = key(
        "accept", help="Whose invitations are followed: everybody's, only the owner's, nobody's."
    )
    notice: bool = key(False, help="Send notices: other bots pass them over, and most phones stay silent.")
    receipts: bool = key(True, help="Whether people see that the bot has read their messages.")
    max_media: int = key(50 * MB, help="The largest file to fetch, in bytes.")


class Matrix(Channel):
    """One account on one homeserver."""

    Config = MatrixConfig
    hosts = ("{user}", "*.{user}")
    silence = 120.0  # a sync ends after 30 seconds
    limits = Limits(
        # An event has 65,536 bytes for the text, its HTML, and what encryption adds to both.
        # https://spec.matrix.org/v1.16/client-server-api/#size-limits
        max_text=12_000,
        unit="bytes",
        markup=HTML_CHAT,
        # What Synapse takes unless told otherwise.
        media=dict.fromkeys(("image", "audio", "voice", "video", "file"), 50 * MB),
        quotes=True,
        threads=True,
        # Every change is an event for the server to keep, and Synapse lets through ten, then one in five seconds.
        stream=3.0,
        idempotent=True,
    )

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        if config.invites == "owner" and not config.owner:
            raise ConfigError(
                f"bot.toml: [channels.{name}] has invites = 'owner' and no 'owner', so it would follow no invitation. "
                "Set it to your own Matrix ID, such as '@you:example.org'."
            )
        self._account = Account(name, config, host.home)
        self._state = Kept(host.home / "state.json")
        self._recent = Recent()
        self._asides = Asides(name)
        self._keys: Keys | None = None
        self._ready = asyncio.Event()
        self._typing: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses(LONGEST_PAUSE)
        try:
            while True:
                await persist(self._account.log_in, self.host)
                try:
                    await self._listen(receive)
                except LoginFailed:
                    if not self._account.forget_token():
                        raise
                served = self._ready.is_set()
                await self._close()
                if served:
                    log.info("%s: The server ended the session. I log in again.", self.name)
                    waits = pauses(LONGEST_PAUSE)
                else:
                    self.host.trouble(REFUSED_AT_ONCE.format(self.name))
                    await asyncio.sleep(next(waits))
        finally:
            await self._close()

    async def _close(self) -> None:
        self._ready.clear()
        await self._asides.stop()
        self._keys = None
        await self._account.close()

    async def _listen(self, receive: Receive) -> None:
        """Sync for ever (https://spec.matrix.org/v1.16/client-server-api/#syncing)."""
        keys = self._keys = Keys(self._account)
        rooms = Rooms(self._account, self._state, self._recent, self._asides, self._command_names)
        await persist(partial(self._learn_myself, rooms), self.host)
        while True:
            since = rooms.since
            answer = await persist(partial(self._sync, rooms), self.host)
            self._ready.set()
            self.host.pulse()
            await keys.tend()
            # Asking from the next point on acknowledges it, so by then all of it has been received.
            await persist(partial(rooms.take, answer, since, receive), self.host)
            self.host.pulse()

    def _command_names(self) -> list[str]:
        return [name for name, _ in self.host.commands()]

    async def _learn_myself(self, rooms: Rooms) -> None:
        client = self._account.client
        rooms.my_name = str((await self._account.ask(client.get_displayname())).displayname or "")
        status, found = await self._account.send("GET", "v1/media/config")
        most = found.get("m.upload.size") if status == 200 else None
        if isinstance(most, int):
            self.limits = replace(self.limits, media=dict.fromkeys(self.limits.media, most))

    async def _sync(self, rooms: Rooms) -> Any:
        """Ask for what is new. The first time it brings all rooms as they are, since matrix-nio keeps none."""
        client, since = self._account.client, rooms.since
        full = not self._ready.is_set()
        client.next_batch = ""  # or matrix-nio passes over an answer that ends where the last one did
        poll = 0 if full else SOON if rooms.waiting else POLL
        request = client.sync(poll, FILTER, since=since, full_state=full and bool(since))
        answer = await self._account.ask(request)
        rooms.note_invitations(answer)
        return answer

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        room = await self._room(place)
        contents = [write_text(reply.text, self._msgtype)] if reply.text.strip() else []
        contents += [await self._file(room, one) for one in reply.attachments]
        ids: list[str] = []
        for number, content in enumerate(contents):
            quote = reply.quote if not ids else ""
            last = self._recent.last(room, place.thread)
            related = relate(content, place.thread, last, quote, self._recent.author(quote))
            id = transaction(reply.key, (number,)) if reply.key else uuid.uuid4().hex
            ids.append(await self._put(room, "m.room.message", related, id))
            self._recent.keep(room, ids[-1], Known(self._account.client.user_id, content["body"], place.thread))
        if self._typing.pop(room, 0) > time.monotonic():
            self._asides.start(self._account.ask(self._account.client.room_typing(room, False)))
        return Sent(replace(place, chat=room), tuple(ids))

    @property
    def _msgtype(self) -> str:
        return "m.notice" if self.config.notice else "m.text"

    async def _put(self, room: str, kind: str, content: Json, transaction_id: str) -> str:
        """Send an event; returns its id. The server knows a repetition by the transaction id."""
        client = self._account.client
        known = client.rooms.get(room)
        if known is None:
            raise Undeliverable(f"The bot is not in the room '{room}'. Invite it there.")
        if known.encrypted and client.olm is None:
            raise Undeliverable("The room is encrypted. Install what that needs: pip install 'matrix-nio[e2e]'.")
        async with self._locks.setdefault(room, asyncio.Lock()):
            if known.encrypted and self._keys is not None:
                await self._keys.query()
            request = client.room_send(room, kind, content, transaction_id, ignore_unverified_devices=True)
            try:
                return str((await self._account.ask(request)).event_id)
            finally:
                # matrix-nio leaves it there when sharing a key fails, and waits for it for ever the next time.
                client.sharing_session.pop(room, None)

    async def _room(self, place: Place) -> str:
        """The room of a place, which may also be an alias or a person. Raises NotSent while nothing is known."""
        client = self._account.client
        if not self._ready.is_set():
            raise NotSent("The channel is still connecting to its Matrix server.")
        try:
            if place.chat.startswith("#"):
                return str((await self._account.ask(client.room_resolve_alias(place.chat))).room_id)
            if place.chat.startswith("@"):
                return await self._room_with(place.chat)
        except MaybeSent as error:
            raise NotSent(str(error)) from None
        return place.chat

    async def _room_with(self, user: str) -> str:
        """The direct room with a person, made when there is none and they have asked the bot into none."""
        client = self._account.client
        invited = any(one["by"] == user and one["direct"] for one in self._state.get("invites", {}).values())
        direct = (await self._account.direct()).get(user, [])
        known = [room for room in direct if room in client.rooms]
        if known:
            return str(known[-1])
        if invited or set(direct) & set(await self._account.joined()):
            raise NotSent(f"The room with '{user}' is about to be there.", 1.0)
        secret = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        body: Json = {"is_direct": True, "preset": "trusted_private_chat", "invite": [user]}
        body |= {"initial_state": [secret]} if client.olm is not None else {}
        room = str((await self._account.obtain("POST", "v3/createRoom", body))["room_id"])
        await self._account.mark_direct(user, room)
        raise NotSent(f"The room with '{user}' was just made.", 1.0)

    async def _file(self, room: str, attachment: Attachment) -> Json:
        """Put a file on the server; returns the message that shows it. An address is left to the reader to fetch."""
        if attachment.data is None:
            return write_text(f"{attachment.name} {attachment.url}".strip(), self._msgtype)
        rooms = self._account.client.rooms
        encrypt = room in rooms and rooms[room].encrypted
        address, opener = await matrix_media.upload(self._account, attachment, encrypt)
        return write_file(attachment, address, opener, len(attachment.data))

    async def edit(self, sent: Sent, reply: Reply) -> None:
        content = write_edit(sent.ids[0], write_text(reply.text, self._msgtype))
        await self._room(sent.place)
        await self._put(sent.place.chat, "m.room.message", content, uuid.uuid4().hex)
        if reply.attachments:
            # A message cannot get a file by being edited, so the files follow it.
            await self.send(sent.place, replace(reply, text="", buttons=(), quote=""))

    async def delete(self, sent: Sent) -> None:
        room = await self._room(sent.place)
        for id in sent.ids:
            await self._account.ask(self._account.client.room_redact(room, id))

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        room, me = await self._room(place), self._account.client.user_id
        path = f"v1/rooms/{part(room)}/relations/{part(message_id)}/m.annotation/m.reaction?limit=100"
        given = [one for one in (await self._account.obtain("GET", path))["chunk"] if one["sender"] == me]
        for one in given:
            if relation(one).get("key") != emoji:
                await self._account.ask(self._account.client.room_redact(room, one["event_id"]))
        if emoji and emoji not in {relation(one).get("key") for one in given}:
            relates = {"rel_type": "m.annotation", "event_id": message_id, "key": emoji}
            await self._put(room, "m.reaction", {"m.relates_to": relates}, uuid.uuid4().hex)

    async def type(self, place: Place) -> None:
        room = await self._room(place)
        self._typing[room] = time.monotonic() + TYPING_MS / 1000
        await self._account.ask(self._account.client.room_typing(room, True, TYPING_MS))

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        """Raises ValueError when the file is larger than `max_media`, or not what its sender encrypted."""
        return matrix_media.fetch(self._account, attachment, self.config.max_media)
