"""Twilio: a strict server written from its documentation. The bot is reached by a webhook at a public address, or not
at all: then it looks for what has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.gate import Front, Gate, http
from kit.rig import Chat, Rig, Shown
from servers.sms import Text, TwilioServer

ANN, BOT = "+14155550100", "+15005550006"
WHATSAPP = "whatsapp:+14155238886"


class SmsRig(Rig):
    kind = "sms"
    groups = False
    web = True
    sending = b"POST /2010-04-01/"
    way = "webhook"
    ann, bot = ANN, BOT

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.twilio = TwilioServer()

    @property
    def server(self) -> str:
        return "a server of our own, from Twilio's OpenAPI document (2010-04-01) and its pages on webhooks"

    async def start(self) -> None:
        await self.twilio.__aenter__()
        self.gate = await Gate("127.0.0.1", self.twilio.port).__aenter__()
        self.front = Front("127.0.0.1", 1)
        await self.front.__aenter__()
        if self.way == "webhook":
            self.twilio.webhooks[self.bot] = f"{self.front.url}/channels/sms"

    async def stop(self) -> None:
        await self.twilio.__aexit__()
        await self.front.__aexit__()
        if self.gate is not None:
            await self.gate.__aexit__()
        assert not self.twilio.complaints, self.twilio.complaints[:2]

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {
            "account": self.twilio.account,
            "token": self.twilio.token,
            "number": BOT,
            "mode": self.way,
            "public_url": self.front.url,
            "interval": 0.05,
            "base_url": self.gate.url,
            "place_rate": 0,
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"token": "0" * 32}

    async def opened(self, address: str) -> None:
        self.front.open_to(address)

    async def news(self) -> None:
        self.twilio.changed.clear()
        await super().news()

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        return (await self.twilio.receive(self.ann, self.bot, text)).sid

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        await self.twilio.receive(self.ann, self.bot, text, [(mime, content)])

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return [self._shown(one) for one in self.twilio.texts if one.to == self.ann and one.status != "failed"]

    def _shown(self, one: Text) -> Shown:
        return Shown(one.sid, one.body, files=tuple(media.content for media in one.media), raw=one)

    async def again(self) -> None:
        last = [one for one in self.twilio.texts if one.sender == self.ann][-1]
        assert await self._post(self.twilio.form(last)) == 200

    async def garbage(self) -> None:
        ann = ("From", self.ann)
        for fields in (
            [],
            [("Body", "no sender")],
            [("MessageSid", "SM1"), ("From", "")],
            [("MessageSid", ""), ann],
            [("MessageStatus", "odd"), ("\x00", "é;;")],
        ):
            await self._post(fields)

    async def forged(self) -> int:
        fields = [("MessageSid", "SM" + "0" * 32), ("From", self.ann), ("To", self.bot), ("Body", "forged")]
        return await self._post([*fields, ("NumMedia", "0")], "bm90IHNpZ25lZCBhdCBhbGw=")

    async def _post(self, fields: list[tuple[str, str]], signature: str | None = None) -> int:
        return await self.twilio.post(f"{self.front.url}/channels/sms", fields, signature)

    def too_fast(self, seconds: int) -> bytes:
        body = b'{"code": 20429, "message": "Too Many Requests", "more_info": "", "status": 429}'
        return http("429 Too Many Requests", body, retry_after=str(seconds))

    def broken(self) -> bytes:
        return http("503 Service Unavailable", b'{"code": 20503, "message": "Service unavailable", "status": 503}')


class WhatsappRig(SmsRig):
    """A WhatsApp sender, and no number."""

    mode = "WhatsApp"
    ann, bot = f"whatsapp:{ANN}", WHATSAPP

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.twilio.numbers.clear()
        self.twilio.whatsapp.add(WHATSAPP)

    def table(self) -> dict[str, Any]:
        return super().table() | {"number": "", "whatsapp": WHATSAPP.removeprefix("whatsapp:")}


class PollingRig(SmsRig):
    """Without any public address: nothing comes to the bot, and Twilio can fetch no files from it."""

    mode = "polling"
    way = "polling"
    web = False
    files = False
    burst = 200  # the way after the door is that of the default, which takes 1,000
    forged = Rig.forged

    def table(self) -> dict[str, Any]:
        return super().table() | {"public_url": ""}

    async def again(self) -> None:
        """Every look finds once more what the last ten minutes brought."""
        looks = self._looks()
        while self._looks() < looks + 2:
            await self.news()

    def _looks(self) -> int:
        return len([path for method, path in self.twilio.requests if method == "GET" and "/Messages.json" in path])

    async def garbage(self) -> None:
        here = {"direction": "inbound", "to": self.bot}
        self.twilio.odd += [3, None, {}, {"sid": []}, {**here, "sid": "SM1"}, {**here, "sid": "SM2", "from": 5}]
        self.twilio.odd += [{**here, "sid": "SM3", "from": self.ann, "date_sent": "soon", "num_media": "many"}]
        await self.again()


RIG = SmsRig
MODES = (PollingRig, WhatsappRig)
