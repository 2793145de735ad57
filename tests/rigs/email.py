"""mail-devel, an IMAP and SMTP server, and Postfix with Dovecot; Ann on them uses the standard library's clients."""

from __future__ import annotations

import asyncio
import atexit
import imaplib
import os
import re
import smtplib
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from servers import postfix
from servers.apart import free_port


@dataclass(frozen=True)
class Server:
    imap: int
    smtp: int


@cache
def server(password: str = "secret") -> Server:
    """One for all tests: it takes seconds to start. Each test has accounts of its own."""
    found = Server(free_port(), free_port())
    options = (
        f"--host 127.0.0.1 --multi-user --user postbox@mail.test --password {password} --auth-required --no-http "
        f"--imap-port {found.imap} --smtp-port {found.smtp}"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.mail", *options.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    atexit.register(process.kill)
    return found


async def until_up(port: int) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)  # it is not up yet
            else:
                writer.close()
                await writer.wait_closed()
                return


class Doors(Gate):
    """The door to the SMTP server, and with it another to the IMAP server: what is cut, is cut on both."""

    def __init__(self, imap: Gate, smtp: int) -> None:
        super().__init__("127.0.0.1", smtp)
        self.imap = imap

    def cut(self) -> None:
        super().cut()
        self.imap.cut()

    def shut(self, shut: bool = True) -> None:
        super().shut(shut)
        self.imap.shut(shut)

    def hold(self) -> None:
        super().hold()
        self.imap.hold()

    def release(self) -> None:
        super().release()
        self.imap.release()


class EmailRig(Rig):
    kind = "email"
    written_by_others = True
    # A mail to several people is answered to the one who wrote it: there is no place that all of them share.
    groups = False
    sending = b"Auto-Submitted: "

    @property
    def server(self) -> str:
        return f"mail-devel {version('mail-devel')} (pymap {version('pymap')}, aiosmtpd {version('aiosmtpd')})"

    async def _running(self) -> Server:
        return server()

    async def start(self) -> None:
        one = self._post = await self._running()
        await until_up(one.imap)
        await until_up(one.smtp)
        imap = await Gate("127.0.0.1", one.imap).__aenter__()
        self.gate = self._doors = await Doors(imap, one.smtp).__aenter__()
        mark = uuid.uuid4().hex[:8]
        self.bot, self.ann = f"bot-{mark}@mail.test", f"ann-{mark}@mail.test"
        self._shown: list[Shown] = []
        self._last_uid = 0
        self._threads: dict[str, list[str]] = {}
        self._last = EmailMessage()
        self._smtp = await asyncio.to_thread(smtplib.SMTP, "127.0.0.1", one.smtp)
        await asyncio.to_thread(self._smtp.login, self.ann, "secret")
        self._inbox = await asyncio.to_thread(imaplib.IMAP4, "127.0.0.1", one.imap)
        await asyncio.to_thread(self._inbox.login, self.ann, "secret")
        await asyncio.to_thread(self._inbox.select)

    async def stop(self) -> None:
        await asyncio.to_thread(self._smtp.close)
        await asyncio.to_thread(self._inbox.shutdown)
        await self._doors.imap.__aexit__()
        await self._doors.__aexit__()

    def table(self) -> dict[str, Any]:
        return {
            "address": self.bot,
            "password": "secret",
            "imap_host": "127.0.0.1",
            "imap_port": self._doors.imap.port,
            "imap_tls": "none",
            "smtp_port": self._doors.port,
            "smtp_tls": "none",
            "hourly": 0,
            "rate": 0.0,
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-password"}

    # Ann

    def write(self, thread: str = "") -> EmailMessage:
        """A mail of hers, in answer to the last one of a thread; without one, it begins one."""
        mail = EmailMessage(policy=policy.SMTP)
        mail["From"] = f"Ann <{self.ann}>"
        mail["To"] = self.bot
        mail["Message-ID"] = f"<{uuid.uuid4().hex}@ann.test>"
        if known := self._threads.get(thread):
            mail["In-Reply-To"] = known[-1]
            mail["References"] = " ".join(dict.fromkeys([known[0], *known[-8:]]))
        self._threads.setdefault(thread, []).append(mail["Message-ID"])
        return mail

    async def send(self, mail: EmailMessage) -> str:
        self._last = mail
        await asyncio.to_thread(self._smtp.sendmail, self.ann, [self.bot], mail.as_bytes())
        return str(mail["Message-ID"]).strip("<>")

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        mail = self.write(thread or chat)
        mail.set_content(text)
        return await self.send(mail)

    async def open_thread(self) -> str:
        id = f"{uuid.uuid4().hex}@ann.test"
        self._threads[id] = [f"<{id}>"]
        return id

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        for raw in await asyncio.to_thread(self._fetch):
            self._shown.append(show(raw))
        return list(self._shown)

    async def news(self) -> None:
        await asyncio.sleep(0.03)

    def _fetch(self) -> list[bytes]:
        self._inbox.noop()
        _, told = self._inbox.uid("FETCH", f"{self._last_uid + 1}:*", "(UID BODY.PEEK[])")
        found = []
        for one in told:
            if isinstance(one, tuple):
                uid = int(cast("re.Match[bytes]", re.search(rb"UID (\d+)", one[0]))[1])
                if uid > self._last_uid:
                    self._last_uid = uid
                    found.append(one[1])
        return found

    async def say_again(self, shown: Shown) -> None:
        """As webmail does that writes HTML only."""
        mail = self.write("direct")
        mail.set_content(shown.raw.get_body(("html",)).get_content(), subtype="html")
        await self.send(mail)

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        mail = self.write("direct")
        mail.set_content(text)
        main, _, sub = mime.partition("/")
        mail.add_attachment(content, maintype=main, subtype=sub, filename=name)
        await self.send(mail)

    async def again(self) -> None:
        await self.send(self._last)

    async def garbage(self) -> None:
        for raw in GARBAGE:
            await asyncio.to_thread(self._put, raw.replace(b"BOT", self.bot.encode()))

    def _put(self, raw: bytes) -> None:
        """Lay a mail into the bot's mailbox, past the SMTP server, which would not have some of these."""
        inbox = imaplib.IMAP4("127.0.0.1", self._post.imap)
        inbox.login(self.bot, "secret")
        answer, _ = inbox.append("INBOX", "", imaplib.Time2Internaldate(1_750_000_000), raw)
        inbox.logout()
        assert answer == "OK"


GARBAGE = (
    b"\r\n",
    b"no header at all",
    b"To: BOT\r\n\r\nwho am I",
    b"From: a@x.test\r\nFrom: b@x.test\r\nTo: BOT\r\n\r\ntwo authors",
    b"From: a@x.test, b@x.test\r\nTo: BOT\r\n\r\ntwo authors",
    b"From: <>\r\nTo: BOT\r\n\r\nnobody",
    b"From: =?x?q?=ff?= <@>\r\nTo: \x00\xff\r\n\r\n\xff\xfe\x00",
    b"From: c@x.test\r\nContent-Type: multipart/mixed\r\n\r\nno boundary",
    b"From: c@x.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b--\r\n",
    b"From: mailer-daemon@x.test\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: message/delivery-status\r\n\r\n\xff\r\n--b--\r\n",
)


def show(raw: bytes) -> Shown:
    mail = cast("EmailMessage", message_from_bytes(raw, policy=policy.default))
    references = str(mail.get("References", "")).split()
    body = cast("EmailMessage", mail.get_body(("plain",)))
    files = tuple(part.get_content() for part in mail.iter_attachments())
    return Shown(
        str(mail["Message-ID"]).strip("<>"),
        str(body.get_content()).replace("\r\n", "\n").rstrip("\n"),
        str(mail.get("In-Reply-To", "")).strip("<>"),
        references[0].strip("<>") if references else "",
        files=files,
        raw=mail,
    )


class PostfixRig(EmailRig):
    """The mail servers that most of the world's mail passes through."""

    mode = "Postfix, Dovecot"
    programs = postfix.PROGRAMS
    ordered = False  # mails that wait at the same time are delivered as the queue's folder happens to list them
    burst = 200  # the way after the door is that of the default, which takes 1,000

    @property
    def server(self) -> str:
        return postfix.running().version

    async def _running(self) -> Server:
        ports = (await asyncio.to_thread(postfix.running)).ports
        return Server(ports.imap, ports.smtp)


RIG = EmailRig
MODES = (PostfixRig,)
