"""SMPP: an SMSC whose protocol is smpp34's, with Ann's phone behind it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from kit.gate import Gate
from kit.rig import Chat, Rig, Shown
from servers.smsc import Smsc

ANN, BOT = "14155550100", "15005550006"


class SmppRig(Rig):
    kind = "smpp"
    written_by_others = True
    groups = False
    sending = ANN.encode()  # the receiver of a submit_sm; the bot says it nowhere else

    @property
    def server(self) -> str:
        return f"smpp34 {version('smpp34')}"

    async def start(self) -> None:
        self.smsc = await Smsc({"roost": "secret-1"}).__aenter__()
        self.gate = await Gate("127.0.0.1", self.smsc.port).__aenter__()
        self._said = 0

    async def stop(self) -> None:
        if self.gate is not None:
            await self.gate.__aexit__()
        await self.smsc.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {
            "host": "127.0.0.1",
            "port": self.gate.port,
            "system_id": "roost",
            "password": "secret-1",
            "number": f"+{BOT}",
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-1"}

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.smsc.changed.wait(), 0.05)
        self.smsc.changed.clear()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        data, coding = self.smsc.encode(text)
        self.smsc.bring(ANN, BOT, data, data_coding=coding)
        self._said += 1
        return str(self._said)

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [Shown(one.id, one.text, raw=one) for one in self.smsc.texts if one.to == ANN]

    async def garbage(self) -> None:
        # A header that is longer than its message, in a deliver_sm that is sound otherwise.
        self.smsc.bring(ANN, BOT, b"\xf0\x00\x03ab", esm_class=0x40)
        deliver = b"\0\1\1" + ANN.encode()  # it ends in the middle of a number
        odd = ((5, deliver), (5, b""), (0x999, b""), (0x80000004, b"x"), (0x80000000, b""), (0x102, b""))
        for command, body in odd:
            self.smsc.desk.inject(struct.pack("!4I", 16 + len(body), command, 0, 900_000) + body)


RIG = SmppRig
