"""E-mail: comes by IMAP, pushed where the server can, and leaves by SMTP.

A mail thread with one person is one place. The chat is the sender's address, because whom one talks with decides what
may be said; the thread is the Message-ID of its first mail, because that is what people who write mail take for one
conversation. Answers go to the one who wrote, never to all and never to Reply-To: only From is what access knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from roost.channels.email_box import Access, Cut, Mail, Mailbox
from roost.channels.email_post import Post, Way
from roost.channels.email_read import UNVERIFIED, Reader, Stamp
from roost.channels.email_robots import bounce
from roost.channels.email_write import MOST, Letterhead, recipient, write
from roost.contracts import Channel, ChannelConfig, Host, Limits, Receive
from roost.dialects import HTML_CHAT
from roost.durable import Kept
from roost.errors import ConfigError, LoginFailed, NotSent, Undeliverable
from roost.hosts import is_loopback
from roost.keys import key
from roost.media import Media
from roost.pauses import pauses
from roost.trust import trust
from roost.values import Attachment, Event, Message, Place, Reply, Sent

log = logging.getLogger(__name__)

Tls = Literal["tls", "starttls", "none"]
# Seconds of IDLE at a time. Not every server tells of a mail that comes in the moment before, so the first is short.
SOON, LOOK = 1.0, 60.0
BATCH = 50
REFUSALS = 5  # logins in a row: of an account that has worked, the first may have another cause
HOUR, SENDERS = 3600.0, 10_000
THREADS = 500  # that are known by their subjects, and by the mails of ours in them
BOUNCED = 86_400.0  # seconds for which an address that does not exist is not written to


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailConfig(ChannelConfig):
    """The keys of `[channels.email]`."""

    address: str = key(help="The bot's own mail address.", least=3)
    aliases: list[str] = key(factory=list, help="Other addresses whose mail comes to the same mailbox.")
    name: str = key("", help="The name beside the address; the bot's own when absent.")
    username: str = key("", help="The name to log in with; the address when absent.")
    password: str = key(help="The password, or one made for this program where the provider offers that.", secret=True)
    imap_host: str = key(help="The server mail is read from.", least=1)
    imap_port: int = key(993, help="Its port: 993 for tls, 143 for starttls.", least=1, most=65535)
    imap_tls: Tls = key("tls", help="How the connection is encrypted; none only on one's own machine.")
    smtp_host: str = key("", help="The server mail is sent by; the one it is read from when absent.", ask=True)
    smtp_port: int = key(465, help="Its port: 465 for tls, 587 for starttls.", least=1, most=65535)
    smtp_tls: Tls = key("tls", help="The same for sending.")
    smtp_login: bool = key(True, help="Whether to log in for sending.")
    ca: str = key("", help="A file with the certificates to trust, for a server that made its own.")
    folder: str = key("INBOX", help="The folder mail is read from.")
    poll: float = key(60.0, help="Seconds between two looks, where the server does not push.", least=1, most=240)
    threads: bool = key(True, help="Whether each mail thread is a conversation of its own, or each person is one.")
    subject: str = key("A message for you", help="The subject of mails that answer none.")
    prefix: str = key("", help='What stands before every subject, such as "[roost]".')
    authserv_id: str = key(
        "",
        help="The name your provider puts first in Authentication-Results. With it, mail that is not proven to come "
        "from its sender is from 'unverified:ADDRESS'.",
    )
    hourly: int = key(60, help="Mails an hour that are taken from one sender; 0 for no limit.", least=0)
    max_size: int = key(30_000_000, help="Bytes of a mail beyond which only its subject is read.", least=1000)


class Email(Channel):
    """One address with its mailbox."""

    Config = EmailConfig
    # Mail has no limit of its own, but Gmail shows the first 102 kB of a mail and hides the rest.
    # A mail a second is more than people notice, and less than providers take for abuse.
    limits = Limits(
        max_text=90_000,
        unit="bytes",
        markup=HTML_CHAT,
        media={"image": MOST, "audio": MOST, "voice": MOST, "video": MOST, "file": MOST},
        threads=True,
        rate=1.0,
    )
    silence = 300.0

    @staticmethod
    def unproven(id: str, config: EmailConfig) -> str:
        """Anybody can write any address into a From; see `roost.proof`."""
        if id.startswith(UNVERIFIED):
            return "the mail did not prove that it comes from that address"
        return "" if config.authserv_id else "without 'authserv_id' in its table no mail is asked for a proof of that"

    def __init__(self, name: str, config: Any, host: Host) -> None:
        super().__init__(name, config, host)
        check(config, name)
        warn(config, name)
        address = config.address.lower()
        self._kept = Kept(host.home / "mail.json")
        if not self._kept.get("secret"):
            self._kept.put("secret", secrets.token_hex(16))
        self._stamp = Stamp(bytes.fromhex(self._kept.get("secret")), address.rpartition("@")[2])
        self._subjects: OrderedDict[str, str] = OrderedDict(self._kept.get("subjects", []))
        self._media = Media(host.home / "media")
        own = (address, *(one.lower() for one in config.aliases))
        self._roots: OrderedDict[str, str] = OrderedDict(self._kept.get("roots", []))
        self._reader = Reader(
            name, own, self._stamp, self._media, config.authserv_id, config.threads, roots=self._roots
        )
        self._head = Letterhead(
            config.name or host.bot_name, config.address, config.subject, config.prefix, self._stamp
        )
        self._bounced: dict[str, float] = dict(self._kept.get("bounced", {}))
        self._taken: dict[str, deque[float]] = {}
        self._post = Post(way(config, name), config.address)
        self._came_up = False
        self._refused = 0

    # Listening

    async def run(self, receive: Receive) -> None:
        waits = pauses()
        try:
            await self._check_post()
            while True:
                try:
                    await self._listen(receive)
                except Cut as error:
                    self.host.trouble(f"The mail server '{self.config.imap_host}' cannot be used: {error}")
                if self._came_up:
                    self._came_up, waits = False, pauses()
                await asyncio.sleep(next(waits))
        finally:
            self._post.close()

    async def _check_post(self) -> None:
        try:
            await self._post.check()
        except LoginFailed as error:
            raise LoginFailed(self._refusal(self._post.host, str(error))) from None
        except NotSent as error:
            log.warning("%s: %s Mail is read all the same, and answers wait.", self.name, error)

    def _refusal(self, host: str, why: str) -> str:
        return (
            f"The mail server '{host}' does not let the bot in: {' '.join(why.split()).rstrip('.')}. Check 'username', "
            f"'password' and the keys of this server in bot.toml: [channels.{self.name}]; many providers want a "
            "password made for one program."
        )

    async def _listen(self, receive: Receive) -> None:
        box = Mailbox(access(self.config, self.name))
        try:
            await box.open()
            await self._begin(box, receive)
            self._came_up, self._refused = True, 0
            look = SOON
            while True:
                self.host.pulse()
                if fresh := await box.after(self._kept.get("uid")):
                    await self._take(box, fresh, receive)
                    look = SOON
                else:
                    await box.wait(look, self.config.poll)
                    look = LOOK
        except LoginFailed as error:
            self._refused += 1
            if self._kept.get("validity") is not None and self._refused < REFUSALS:
                raise Cut(str(error)) from None
            raise LoginFailed(self._refusal(self.config.imap_host, str(error))) from None
        finally:
            await box.close()

    async def _begin(self, box: Mailbox, receive: Receive) -> None:
        """Where to go on. What was in the mailbox before the first start is left alone."""
        known = self._kept.get("validity")
        if known == box.validity:
            return
        if known is not None:
            # Every mail has another number now. What was taken is marked as seen, and known by its Message-ID.
            since = datetime.fromtimestamp(self._kept.get("at"), UTC) - timedelta(days=1)
            await self._take(box, await box.unseen(since.date()), receive, moving=False)
        self._keep(validity=box.validity, uid=box.next - 1, at=self._kept.get("at", time.time()))

    async def _take(self, box: Mailbox, uids: list[int], receive: Receive, moving: bool = True) -> None:
        """Hand mails over, and only then mark them as seen and move on."""
        for start in range(0, len(uids), BATCH):
            some = uids[start : start + BATCH]
            taken: list[int] = []
            at = 0.0
            async for mail in box.read(some, self.config.max_size):
                if await self._accept(mail, receive):
                    taken.append(mail.uid)
                self.host.pulse()
                at = mail.at
            await box.mark_seen(taken)
            self._keep(uid=some[-1] if moving else self._kept.get("uid"), at=at or self._kept.get("at"))

    async def _accept(self, mail: Mail, receive: Receive) -> bool:
        message = await asyncio.to_thread(self._read, mail)
        if isinstance(message, Event):
            await receive(message)
            return False
        if message is None or not self._within_rate(message.sender.id, mail.at):
            return False
        if message.place.thread:
            self._subjects[message.place.thread] = json.loads(message.ticket)[2]
            trim(self._subjects)
        self._bounced.pop(message.place.chat, None)
        await receive(message)
        return True

    def _read(self, mail: Mail) -> Message | Event | None:
        try:
            return self._understand(mail)
        except Exception:  # the standard library's parser fails in many ways, and no mail may stop the rest
            log.warning("%s: A mail cannot be read. It stays in the mailbox.", self.name, exc_info=True)
            return None

    def _understand(self, mail: Mail) -> Message | Event | None:
        try:
            return self._reader.read(mail.raw, mail.at or time.time(), mail.cut)
        except ValueError as error:
            log.info("%s: A mail is not answered: %s.", self.name, error)
        return self._report(mail)

    def _report(self, mail: Mail) -> Event | None:
        """What a mail server could not deliver, if it was ours."""
        report = bounce(mail.raw)
        if report is None or not self._stamp.knows(report.original, report.recipient):
            return None
        why = f"{report.status} {report.why}".strip()
        if not report.final:
            log.info("%s: A mail to '%s' was not delivered yet: %s.", self.name, report.recipient, why)
            return None
        if report.status.startswith("5.1."):
            self._bounced[report.recipient] = time.time()
        told = f"A mail server could not deliver it: {why}."
        return Event("undelivered", Place(self.name, report.recipient), message_id=report.original, value=told)

    def _within_rate(self, sender: str, at: float) -> bool:
        """The last guard against two programs that answer each other: by the time mails came, not were read."""
        most = self.config.hourly
        if not most:
            return True
        if len(self._taken) > SENDERS:
            self._taken.clear()
        times = self._taken.setdefault(sender, deque(maxlen=most))
        if len(times) == most and at - times[0] < HOUR:
            log.warning("%s: '%s' sends more than %d mails an hour. The rest is not answered.", self.name, sender, most)
            return False
        times.append(at)
        return True

    def _keep(self, **changes: Any) -> None:
        lasting = {address: at for address, at in self._bounced.items() if time.time() - at < BOUNCED}
        fresh = {"subjects": list(self._subjects.items()), "roots": list(self._roots.items()), "bounced": lasting}
        self._kept.replace({**self._kept.all(), **fresh, **changes})

    def fetch(self, attachment: Attachment) -> AsyncIterator[bytes]:
        return self._media.read(attachment.ref)

    # Saying

    async def send(self, place: Place, reply: Reply) -> Sent:
        to = recipient(place)
        if time.time() - self._bounced.get(to, 0.0) < BOUNCED:
            raise Undeliverable(f"The mail server of '{to}' said today that there is no such address.")
        subject = self._subjects.get(place.thread, "")
        id, mail = await asyncio.to_thread(write, place, reply, reply.key or uuid.uuid4().hex, self._head, subject)
        try:
            await self._post.send(to, mail)
        except LoginFailed as error:
            raise LoginFailed(self._refusal(self._post.host, str(error))) from None
        if place.thread:
            self._roots[id] = place.thread
            trim(self._roots)
        return Sent(place, (id,))


def trim(known: OrderedDict[str, str]) -> None:
    while len(known) > THREADS:
        known.popitem(last=False)


def check(config: EmailConfig, name: str) -> None:
    """Raises ConfigError for addresses that are none."""
    for address in (config.address, *config.aliases):
        if not re.fullmatch(r"[^\s@<>,]+@[^\s@<>,]+", address) or not address.isascii():
            raise ConfigError(f"bot.toml: [channels.{name}] '{address}' is no mail address such as 'bot@example.org'.")


def warn(config: EmailConfig, name: str) -> None:
    """Tell of each server that gets the password in the clear."""
    ways = ((config.imap_tls, config.imap_host), (config.smtp_tls, config.smtp_host or config.imap_host))
    for host in dict.fromkeys(host for kind, host in ways if kind == "none" and not is_loopback(host)):
        log.warning("%s: The password goes to '%s' unencrypted. Set 'tls' or 'starttls' for it.", name, host)


def access(config: EmailConfig, name: str) -> Access:
    tls = None if config.imap_tls == "none" else trust(name, config.ca)
    login = config.username or config.address, config.password
    return Access(config.imap_host, config.imap_port, *login, config.folder, tls, config.imap_tls == "starttls")


def way(config: EmailConfig, name: str) -> Way:
    host = config.smtp_host or config.imap_host
    tls = None if config.smtp_tls == "none" else trust(name, config.ca)
    login = (config.username or config.address, config.password) if config.smtp_login else ("", "")
    return Way(host, config.smtp_port, *login, tls, config.smtp_tls == "starttls")
