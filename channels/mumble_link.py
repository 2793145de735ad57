"""A connection to a Mumble server: its certificates, who is there, and what is said.

https://github.com/mumble-voip/mumble/blob/master/docs/dev/network-protocol/establishing_connection.md
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roost.channels.mumble_wire import Fields, Type, decode, frame, next_frame
from roost.durable import save
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable

log = logging.getLogger(__name__)

ANSWER = 30.0  # seconds for the connection, and for an answer
PING = 12.0  # seconds; a server closes a connection that has been silent for 30
VERSION = (1, 5, 0)
YEARS = 30  # that the bot's certificate is good for: with it, its registration would end
GONE = 0xFFFF_FFFF  # the user id of one who is registered no more

# Reject.RejectType
WRONG_VERSION, INVALID_USERNAME, WRONG_USER_PW, WRONG_SERVER_PW, NO_CERTIFICATE = 1, 2, 3, 4, 7
CURES = {
    WRONG_VERSION: "I have not the version of Mumble that the server wants",
    INVALID_USERNAME: "The server does not take the 'username'",
    WRONG_USER_PW: "The 'username' is registered for another certificate, or the 'password' is wrong",
    WRONG_SERVER_PW: "The server's password is another than 'password'",
    NO_CERTIFICATE: "The server does not take my certificate",
}
# PermissionDenied.DenyType, and the permissions that may be what is missing
PERMISSION = 1
DENIED = {4: "it is too long for the server", 7: "the server wants a registered user", 9: "the channel is full"}
MISSING = {0x4: "I may not go into that channel", 0x200: "I may not write there"}


@dataclass(frozen=True, slots=True)
class User:
    """Somebody on the server. `registered` is None for who is not; `hash` is that of their certificate."""

    session: int
    name: str = ""
    registered: int | None = None
    channel: int = 0
    hash: str = ""

    @property
    def id(self) -> str:
        """Who it is, the same the next time: a name alone can be anybody's."""
        if self.registered is not None:
            return f"#{self.registered}"
        return self.hash or f"~{self.name}"


@dataclass(frozen=True, slots=True)
class Room:
    """A channel of the server."""

    id: int
    name: str = ""
    parent: int | None = None


class Link:
    """One connection. `users` and `rooms` are as the server has told them."""

    def __init__(self, name: str, config: Any, home: Path) -> None:
        self._name, self._config, self._home = name, config, home
        self.users: dict[int, User] = {}
        self.rooms: dict[int, Room] = {}
        self.session = 0
        self.longest, self.largest = 0, 0  # characters of a text, and of one with a picture; 0 for no limit
        self.html = True
        self._writer: asyncio.StreamWriter | None = None
        self._marks: dict[int, asyncio.Future[str]] = {}
        self._denied = ""
        self._number = 0

    # Coming in

    async def open(self) -> asyncio.StreamReader:
        """Connect, and introduce the bot. Raises OSError, TimeoutError, LoginFailed."""
        context = await asyncio.to_thread(
            tls, self._home / "certificate.pem", self._config.username, self._config.verify
        )
        async with asyncio.timeout(ANSWER):
            try:
                where = self._config.host, self._config.port
                reader, self._writer = await asyncio.open_connection(*where, ssl=context)
            except ssl.SSLCertVerificationError as error:
                raise LoginFailed(
                    f"Nobody vouches for the server '{self._config.host}' ({error.verify_message.rstrip('.')}). "
                    f"Correct 'host' or set 'verify' to false in bot.toml: [channels.{self._name}]."
                ) from None
        self._check_server(self._writer.get_extra_info("ssl_object"))
        major, minor, patch = VERSION
        version: list[tuple[int, int | str | bytes]] = [
            (1, major << 16 | minor << 8 | patch),
            (5, major << 48 | minor << 32 | patch << 16),
            (2, "Roost"),
        ]
        self.say(Type.VERSION, *version)
        password = [(2, self._config.password)] if self._config.password else []
        self.say(Type.AUTHENTICATE, (1, self._config.username), *password, (5, 1), (6, 1))
        return reader

    def _check_server(self, connection: ssl.SSLObject) -> None:
        """Most servers sign their own certificate: the first that is seen is kept, as Mumble's clients do."""
        if self._config.verify:
            return
        seen = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        kept = self._home / "server.sha256"
        known = self._config.fingerprint.replace(":", "").lower()
        known = known or (kept.read_text(encoding="ascii").strip() if kept.exists() else "")
        if known and known != seen:
            raise LoginFailed(
                f"The server '{self._config.host}' shows another certificate than it did, and may be another server. "
                f"If it has a new one, put 'fingerprint = \"{seen}\"' into bot.toml: [channels.{self._name}]."
            )
        if not known:
            save(kept, seen)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer = None
        for waiting in self._marks.values():
            if not waiting.done():
                waiting.set_exception(MaybeSent("The connection to the Mumble server is lost."))
        self._marks.clear()

    async def next(self, reader: asyncio.StreamReader) -> tuple[int, Fields]:
        """The next message; what it tells of users and rooms is kept already. Raises OSError, EOFError, ValueError."""
        async with asyncio.timeout(ANSWER):
            kind, content = await next_frame(reader)
        try:
            fields = decode(content) if kind in NOTED else Fields({})
            if kind in NOTED:
                NOTED[kind](self, fields)
        except (ValueError, KeyError) as error:
            log.warning("%s: A message of the server cannot be read: %s", self._name, error)
            return -1, Fields({})
        return kind, fields

    def _user(self, fields: Fields) -> None:
        session = fields.number(1)
        user = self.users.get(session, User(session))
        if 3 in fields:
            user = replace(user, name=fields.text(3))
        if 4 in fields:
            user = replace(user, registered=None if fields.number(4) >= GONE else fields.number(4))
        if 5 in fields:
            user = replace(user, channel=fields.number(5))
        if 15 in fields:
            user = replace(user, hash=fields.text(15))
        self.users[session] = user

    def _user_left(self, fields: Fields) -> None:
        self.users.pop(fields.number(1), None)
        if fields.number(1) == self.session:
            log.warning("%s: I was sent away from the Mumble server: %s", self._name, fields.text(3) or "no reason")

    def _room(self, fields: Fields) -> None:
        id = fields.number(1)
        room = self.rooms.get(id, Room(id))
        if 3 in fields:
            room = replace(room, name=fields.text(3))
        if 2 in fields:
            room = replace(room, parent=fields.number(2))
        self.rooms[id] = room

    def _room_gone(self, fields: Fields) -> None:
        self.rooms.pop(fields.number(1), None)

    def _synced(self, fields: Fields) -> None:
        self.session = fields.number(1)

    def _configured(self, fields: Fields) -> None:
        self.html = bool(fields.number(3, int(self.html)))
        self.longest, self.largest = fields.number(4), fields.number(5)

    def _rejected(self, fields: Fields) -> None:
        kind, why = fields.number(1), fields.text(2).rstrip(".")
        if kind in CURES:
            where = f"Correct it in bot.toml: [channels.{self._name}]"
            raise LoginFailed(f"{CURES[kind]} ({why or 'no reason given'}). {where}.")
        raise ConnectionError(f"it lets the bot in later ({why or 'no reason given'})")

    def _refused(self, fields: Fields) -> None:
        kind, why = fields.number(5), fields.text(4)
        if kind == PERMISSION:
            self._denied = MISSING.get(fields.number(1), why or "I may not do that")
        else:
            self._denied = DENIED.get(kind, why or f"the server refuses it ({kind})")

    def _ponged(self, fields: Fields) -> None:
        waiting, denied = self._marks.pop(fields.number(1), None), self._denied
        self._denied = ""
        if waiting is not None and not waiting.done():
            waiting.set_result(denied)
        elif denied:
            log.warning("%s: The Mumble server did not let me: %s", self._name, denied)

    def _heard(self, fields: Fields) -> None:
        """What is said is for the channel."""

    # Going out

    def say(self, kind: Type, *fields: tuple[int, int | str | bytes]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise NotSent("The Mumble server is out of reach.")
        self._writer.write(frame(kind, fields))

    async def ping(self) -> None:
        """Keep the connection, for as long as it lasts."""
        while True:
            await asyncio.sleep(PING)
            self.say(Type.PING, (1, 0))

    async def confirm(self, *said: tuple[Type, list[tuple[int, int | str | bytes]]]) -> None:
        """Say something, and wait until the server has read it.

        The server confirms no text, but answers in order: a ping right behind it comes back when all is read, and after
        a refusal. Raises NotSent, MaybeSent, Undeliverable.
        """
        self._number += 1
        number = self._number
        waiting = self._marks[number] = asyncio.get_running_loop().create_future()
        try:
            for kind, fields in said:
                self.say(kind, *fields)
            self.say(Type.PING, (1, number))
            async with asyncio.timeout(ANSWER):
                denied = await waiting
        except TimeoutError as error:
            raise MaybeSent("The Mumble server did not answer.") from error
        finally:
            self._marks.pop(number, None)
        if denied:
            raise Undeliverable(f"The Mumble server did not take it: {denied}.")


NOTED: dict[int, Callable[[Link, Fields], None]] = {
    Type.PING: Link._ponged,
    Type.REJECT: Link._rejected,
    Type.SERVER_SYNC: Link._synced,
    Type.CHANNEL_REMOVE: Link._room_gone,
    Type.CHANNEL_STATE: Link._room,
    Type.USER_REMOVE: Link._user_left,
    Type.USER_STATE: Link._user,
    Type.TEXT_MESSAGE: Link._heard,
    Type.PERMISSION_DENIED: Link._refused,
    Type.SERVER_CONFIG: Link._configured,
}


def tls(path: Path, name: str, verify: bool) -> ssl.SSLContext:
    """How to talk to the server, with the bot's certificate, which is made at the first start."""
    if not path.exists():
        save(path, certificate(name))
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)
    return context


def certificate(name: str) -> str:
    """A key and a certificate that it has signed itself: what a Mumble server knows a user by."""
    private = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject_name=named, issuer_name=named)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (secret + made.public_bytes(serialization.Encoding.PEM)).decode()
