"""Ann and Bob with deltachat-rpc-server, as the bot has it, and mail-devel between them."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown

from rigs.email import GARBAGE, Doors, Server, server, until_up
from roost.channels.deltachat_core import Core

PASSWORD = "secret-of-all"
BOT = "Birdie"


def mail() -> Server:
    return server(PASSWORD)


class DeltaChatRig(Rig):
    kind = "deltachat"
    written_by_others = True
    sending = b"multipart/encrypted"
    # Each is encrypted, signed, handed over and fetched, and so is its answer: about 10 a second on two busy cores.
    burst = 100

    @property
    def server(self) -> str:
        return f"deltachat-rpc-server {version('deltachat-rpc-server')} over mail-devel {version('mail-devel')}"

    async def start(self) -> None:
        one = mail()
        await until_up(one.imap)
        await until_up(one.smtp)
        imap = await Gate("127.0.0.1", one.imap).__aenter__()
        self.gate = self._doors = await Doors(imap, one.smtp).__aenter__()
        mark = uuid.uuid4().hex[:8]
        self.bot = f"bot-{mark}@mail.test"
        self.events: list[Mapping[str, Any]] = []
        self._changed = asyncio.Event()
        self._numbers: dict[str, int] = {}
        self._read: dict[int, Mapping[str, Any]] = {}
        self._chats: dict[str, int] = {}
        self._people = await Core(self.folder / "people").__aenter__()
        self._listening = asyncio.create_task(self._listen())
        self.ann, self.bob = [await self._account(f"{name}-{mark}@mail.test", name) for name in ("ann", "bob")]

    async def stop(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._people.__aexit__()
        await self._doors.imap.__aexit__()
        await self._doors.__aexit__()

    async def _account(self, address: str, name: str) -> int:
        account: int = await self.ask("add_account")
        await self.ask("set_config", account, "displayname", name.title())
        await self.ask("set_config", account, "mdns_enabled", "0")
        servers = {
            "imapServer": "127.0.0.1",
            "imapPort": mail().imap,
            "imapSecurity": "plain",
        }
        servers |= {
            "smtpServer": "127.0.0.1",
            "smtpPort": mail().smtp,
            "smtpSecurity": "plain",
        }
        await self.ask("add_or_update_transport", account, {"addr": address, "password": PASSWORD, **servers})
        await self.ask("start_io", account)
        return account

    async def ask(self, method: str, *params: Any) -> Any:
        return await self._people.call(method, *params)

    async def _listen(self) -> None:
        while True:
            for one in await self.ask("get_next_event_batch"):
                self.events.append(one)
                self._read.pop(one["event"].get("msgId", 0), None)
            self._changed.set()

    async def news(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self._changed.wait()

    async def happens(self, account: int, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not any(one["contextId"] == account and wanted(one["event"]) for one in self.events):
                await self.news()

    def table(self) -> dict[str, Any]:
        return {
            "address": self.bot,
            "password": PASSWORD,
            "name": BOT,
            "imap_host": "127.0.0.1",
            "imap_port": self._doors.imap.port,
            "imap_tls": "none",
            "smtp_port": self._doors.port,
            "smtp_tls": "none",
            "rate": 0.0,
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-password"}

    async def opened(self, address: str) -> None:
        """Get to know the bot, by the invitation that it leaves in its folder."""
        invitation = next(self.folder.parent.rglob("invite.txt"), None)
        if self._chats or invitation is None:
            return
        link = invitation.read_text().strip()
        for person in (self.ann, self.bob):
            chat = await self.ask("secure_join", person, link)
            await self.happens(
                person, lambda event: event["kind"] == "SecurejoinJoinerProgress" and event["progress"] == 1000
            )
            if person == self.ann:
                self._chats["direct"] = chat
        (self.contact,) = await self.ask("get_chat_contacts", self.ann, self._chats["direct"])
        await self.meet()

    async def meet(self) -> None:
        """Have a group of Ann, Bob and the bot."""
        self._chats["group"] = group = await self.ask("create_group_chat", self.ann, "Lunch", False)
        vcard = await self.ask("make_vcard", self.bob, [1])
        (bob,) = await self.ask("import_vcard_contents", self.ann, vcard)
        for contact in (self.contact, bob):
            await self.ask("add_contact_to_chat", self.ann, group, contact)

    # Ann

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        return await self.send(chat, text=f"@{BOT} {text}" if mention else text, **self.quoting(quote))

    def quoting(self, id: str) -> dict[str, int]:
        return {"quotedMessageId": self._numbers.get(id) or int(id)} if id else {}

    async def send(self, to: str = "direct", **message: Any) -> str:
        self._last: int = await self.ask("send_msg", self.ann, self._chats[to], message)
        return str(self._last)

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        ids = await self.ask("get_message_ids", self.ann, self._chats[chat], False, False)
        fresh = [id for id in ids if id not in self._read]
        found = await self.ask("get_messages", self.ann, fresh)
        self._read |= {id: found[str(id)] for id in fresh}
        all_ = [self._read[id] for id in ids if id in self._read]
        shown = [show(one) for one in all_ if one.get("fromId") == self.contact and not one["isInfo"]]
        return [await self._as_the_bot_counts(one) for one in shown] if chat == "group" else shown

    async def _as_the_bot_counts(self, shown: Shown) -> Shown:
        """The bot's own number for a message: each database counts for itself, and only the Message-ID is the same."""
        info = await self.ask("get_message_info_object", self.ann, shown.raw["id"])
        (database,) = self.folder.parent.glob("home/**/accounts/*/dc.db")
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            ((number,),) = opened.execute("SELECT id FROM msgs WHERE rfc724_mid = ?", [info["rfc724Mid"]]).fetchall()
        self._numbers[str(number)] = shown.raw["id"]
        return replace(shown, id=str(number))

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        path = self.folder / name
        await asyncio.to_thread(path.write_bytes, content)
        await self.send(text=text, file=str(path), filename=name, viewtype="Image")

    async def edit(self, id: str, text: str) -> None:
        await self.ask("send_edit_request", self.ann, int(id), text)

    async def react(self, shown: Shown, emoji: str) -> None:
        await self.ask("send_reaction", self.ann, shown.raw["id"], [emoji])

    async def reactions(self, id: str) -> Sequence[str]:
        found = await self.ask("get_message_reactions", self.ann, int(id)) or {"reactionsByContact": {}}
        reactions: Sequence[str] = found["reactionsByContact"].get(str(self.contact), [])
        return reactions

    async def again(self) -> None:
        await self.ask("resend_messages", self.ann, [self._last])

    async def garbage(self) -> None:
        for raw in GARBAGE:
            await asyncio.to_thread(self._put, raw.replace(b"BOT", self.bot.encode()))

    def _put(self, raw: bytes) -> None:
        """Lay a mail into the bot's mailbox."""
        inbox = imaplib.IMAP4("127.0.0.1", mail().imap)
        inbox.login(self.bot, PASSWORD)
        answer, _ = inbox.append("INBOX", "", imaplib.Time2Internaldate(1_750_000_000), raw)
        inbox.logout()
        assert answer == "OK"


def show(found: Mapping[str, Any]) -> Shown:
    files = (Path(found["file"]).read_bytes(),) if found["file"] else ()
    quote = str((found["quote"] or {}).get("messageId", ""))
    return Shown(str(found["id"]), found["text"], quote, files=files, raw=found)


RIG = DeltaChatRig
