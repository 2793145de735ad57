"""Twilio's Programmable Messaging as its documentation describes it: REST API, webhooks, media.

https://www.twilio.com/docs/messaging/api/message-resource and the OpenAPI document of version 2010-04-01
https://www.twilio.com/docs/messaging/guides/webhook-request
https://www.twilio.com/docs/usage/security
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
from aiohttp import web

from servers.sms_rules import Refused, check_send, day_or_time, segments_of

Json = dict[str, Any]
ROOT = "/2010-04-01/Accounts"
OPT_OUT = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
OPT_IN = {"START", "YES", "UNSTOP"}
MAX_MEDIA_BYTES = 5 * 1024 * 1024


@dataclass
class Media:
    sid: str
    mime: str
    content: bytes


@dataclass
class Text:
    """A Message resource."""

    sid: str
    sender: str
    to: str
    body: str
    direction: str
    at: datetime
    status: str
    media: list[Media] = field(default_factory=list)
    service: str = ""
    error: int | None = None
    callback: str = ""
    urls: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)


def sid(prefix: str) -> str:
    return prefix + secrets.token_hex(16)


def sign(token: str, url: str, fields: list[tuple[str, str]]) -> str:
    """Base64 of the HMAC-SHA1 of the address and, sorted, every field's name and value right behind it."""
    said = url + "".join(name + value for name, value in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), said.encode(), hashlib.sha1).digest()).decode()


class TwilioServer:
    """`async with TwilioServer() as server`: one account. `complaints` are what no client should do."""

    def __init__(self) -> None:
        self.account, self.token = sid("AC"), secrets.token_hex(16)
        self.numbers = {"+15005550006"}
        self.services: dict[str, set[str]] = {}
        self.whatsapp: set[str] = set()
        self.status = "active"
        self.webhooks: dict[str, str] = {}  # one of our numbers -> its address, for "A message comes in"
        self.texts: list[Text] = []
        self.stopped: set[tuple[str, str]] = set()
        self.requests: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self.hooks: list[tuple[str, list[tuple[str, str]], int]] = []  # address, fields, the bot's status
        self.twiml: list[str] = []
        self.page_limit = 1000
        self.link_prefix = ""  # before the path in links to further pages: Twilio has none, others do
        self.odd: list[Any] = []  # rows that no version of Twilio would list
        self.changed = asyncio.Event()
        self._queues: dict[str, deque[tuple[str, list[tuple[str, str]]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cdn: dict[str, Media] = {}
        self._ids = itertools.count()

    async def __aenter__(self) -> TwilioServer:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get(f"{ROOT}/{{account}}.json", self._account)
        app.router.add_post(f"{ROOT}/{{account}}/Messages.json", self._create)
        app.router.add_get(f"{ROOT}/{{account}}/Messages.json", self._list)
        app.router.add_get(f"{ROOT}/{{account}}/Messages/{{message}}.json", self._read)
        app.router.add_get(f"{ROOT}/{{account}}/Messages/{{message}}/Media.json", self._media_list)
        app.router.add_get(f"{ROOT}/{{account}}/Messages/{{message}}/Media/{{media}}", self._media)
        app.router.add_get("/cdn/{name}", self._content)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What people do

    async def receive(
        self, sender: str, to: str, body: str, media: list[tuple[str, bytes]] | None = None, **more: str
    ) -> Text:
        """Somebody writes to one of our numbers."""
        files = [Media(sid("ME"), mime, content) for mime, content in media or []]
        text = Text(sid("MM" if files else "SM"), sender, to, body, "inbound", datetime.now(UTC), "received", files)
        text.service = next((name for name, pool in self.services.items() if to in pool), "")
        self.texts.append(text)
        self._heed_keywords(text)
        if url := self.webhooks.get(to):
            self._queue(url, self.form(text) + list(more.items()))
        self.changed.set()
        return text

    def _heed_keywords(self, text: Text) -> None:
        """Twilio's default handling of opt-out keywords, on SMS; it answers them itself."""
        said, pair = text.body.strip().upper(), (text.sender, text.to)
        if text.to.startswith("whatsapp:"):
            return
        if said in OPT_OUT:
            self.stopped.add(pair)
        elif said in OPT_IN:
            self.stopped.discard(pair)

    def form(self, text: Text) -> list[tuple[str, str]]:
        """The parameters of the webhook for an incoming message."""
        fields = {
            "ToCountry": "US",
            "ToState": "",
            "SmsMessageSid": text.sid,
            "NumMedia": str(len(text.media)),
            "SmsSid": text.sid,
            "SmsStatus": "received",
            "Body": text.body,
            "To": text.to,
            "NumSegments": str(segments_of(text.body)),
            "MessageSid": text.sid,
            "AccountSid": self.account,
            "From": text.sender,
            "ApiVersion": "2010-04-01",
        }
        if text.service:
            fields["MessagingServiceSid"] = text.service
        if text.sender.startswith("whatsapp:"):
            fields |= {"ProfileName": "Ann", "WaId": text.sender.removeprefix("whatsapp:+"), "MessageType": "text"}
        for number, one in enumerate(text.media):
            path = f"https://api.twilio.com{ROOT}/{self.account}/Messages/{text.sid}/Media/{one.sid}"
            fields |= {f"MediaUrl{number}": path, f"MediaContentType{number}": one.mime}
        return list(fields.items())

    # Webhooks

    def _queue(self, url: str, fields: list[tuple[str, str]]) -> None:
        """Post it behind what this address still has to get. What fails is not posted again, as by Twilio's default."""
        if url not in self._queues:
            self._queues[url] = deque()
            self._start(self._drain(url))
        self._queues[url].append((url, fields))

    async def _drain(self, url: str) -> None:
        await asyncio.sleep(0)
        while self._queues[url]:
            await self.post(*self._queues[url].popleft())
        del self._queues[url]

    async def post(self, url: str, fields: list[tuple[str, str]], signature: str | None = None) -> int:
        """Post a signed form; returns the status, 0 when there is no answer."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "X-Twilio-Signature": sign(self.token, url, fields) if signature is None else signature,
            "User-Agent": "TwilioProxy/1.1",
        }
        try:
            async with self.session.post(url, data=urlencode(fields).encode(), headers=headers) as answer:
                status, said = answer.status, await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            status, said = 0, ""
        if status == 200 and "/status" not in url:
            self._take_twiml(answer.content_type, said)
        self.hooks.append((url, fields, status))
        self.changed.set()
        return status

    def _take_twiml(self, content_type: str, said: str) -> None:
        """Error 12300 for another type, 12100 for what is no document."""
        self.twiml.append(said)
        if content_type not in ("text/xml", "application/xml") or not re.search(r"<Response\s*/>|<Response>", said):
            self.complaints.append(f"An answer of {content_type} is no TwiML: {said[:100]}")

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The API

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        try:
            if request.path.startswith(ROOT):
                self._authenticate(request)
            elif "Authorization" in request.headers:
                self.complaints.append(f"{request.path} was shown our credentials.")
            response: web.StreamResponse = await handler(request)
            return response
        except Refused as error:
            about = f"https://www.twilio.com/docs/errors/{error.code}"
            body = {"code": error.code, "message": error.message, "more_info": about, "status": error.status}
            return web.json_response(body, status=error.status)

    def _authenticate(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "").removeprefix("Basic ")
        expected = base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        if not hmac.compare_digest(shown.encode(), expected.encode()):
            raise Refused(401, 20003, "Authenticate")
        if request.match_info.get("account") not in (None, self.account):
            raise Refused(404, 20404, f"The requested resource {request.path} was not found")

    async def _account(self, request: web.Request) -> web.Response:
        return web.json_response({"sid": self.account, "status": self.status, "type": "Full"})

    async def _create(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            raise Refused(400, 20001, "The body is no form")
        fields = parse_qsl((await request.read()).decode(), keep_blank_values=True, strict_parsing=True)
        sender, service = check_send(self, fields)
        given = dict(fields)
        text = Text(sid("SM"), sender, given["To"], given.get("Body", ""), "outbound-api", datetime.now(UTC), "queued")
        text.urls = [value for name, value in fields if name == "MediaUrl"]
        text.service, text.callback, text.given = service, given.get("StatusCallback", ""), given
        text.status = "accepted" if service else "queued"
        self.texts.append(text)
        made = self.row(text)
        self._start(self._carry(text))
        return web.json_response(made, status=201)

    async def _carry(self, text: Text) -> None:
        """Fetch the media and report how it went."""
        text.error = await self._fetch(text)
        if text.to.startswith("whatsapp:") and not self._window_open(text):
            text.error = 63016
        text.status = "failed" if text.error else "delivered"
        self.changed.set()
        for status in ["sent", "delivered"] if text.error is None else [text.status]:
            if text.callback:
                self._queue(text.callback, self._report(text, status))

    def _window_open(self, text: Text) -> bool:
        """WhatsApp: free-form messages for 24 hours after the person's last one."""
        return any(one.direction == "inbound" and one.sender == text.to for one in self.texts)

    async def _fetch(self, text: Text) -> int | None:
        """Error 11200 when a file cannot be had, 12300 without a type, 11751 when there is too much."""
        for url in text.urls:
            try:
                async with self.session.get(url) as answer:
                    if answer.status != 200:
                        return 11200
                    if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", answer.content_type):
                        return 12300
                    text.media.append(Media(sid("ME"), answer.content_type, await answer.read()))
            except (aiohttp.ClientError, OSError, TimeoutError):
                return 11200
        return 11751 if sum(len(one.content) for one in text.media) > MAX_MEDIA_BYTES else None

    def _report(self, text: Text, status: str) -> list[tuple[str, str]]:
        fields = [("SmsSid", text.sid), ("SmsStatus", status), ("MessageStatus", status), ("To", text.to)]
        fields += [("MessageSid", text.sid), ("AccountSid", self.account), ("From", text.sender)]
        fields += [("ApiVersion", "2010-04-01")]
        return fields + ([("ErrorCode", str(text.error))] if text.error else [])

    def row(self, text: Text) -> Json:
        """A Message resource as JSON: all of it strings or null, but for the error code."""
        here = f"{ROOT}/{self.account}/Messages/{text.sid}"
        at = format_datetime(text.at)
        return {
            "body": text.body,
            "num_segments": "0" if text.service else str(segments_of(text.body)),
            "direction": text.direction,
            "from": text.sender or None,
            "to": text.to,
            "date_updated": at,
            "price": None,
            "error_message": None,
            "uri": f"{here}.json",
            "account_sid": self.account,
            "num_media": str(max(len(text.media), len(text.urls))),
            "status": text.status,
            "messaging_service_sid": text.service or None,
            "sid": text.sid,
            "date_sent": None if text.status in ("queued", "accepted") else at,
            "date_created": at,
            "error_code": text.error,
            "price_unit": "USD",
            "api_version": "2010-04-01",
            "subresource_uris": {"media": f"{here}/Media.json"},
        }

    async def _list(self, request: web.Request) -> web.Response:
        """The newest first. PageToken is the last message of the page before."""
        query = dict(request.query)
        if odd := set(query) - {"To", "From", "DateSent", "DateSent<", "DateSent>", "PageSize", "Page", "PageToken"}:
            self.complaints.append(f"A list was asked for with {odd}.")
        size = int(query.get("PageSize", "50"))
        if not 1 <= size <= 1000:
            raise Refused(400, 20001, "Page size must be between 1 and 1000")
        size = min(size, self.page_limit)
        found = [one for one in reversed(self.texts) if self._matches(one, query)]
        if token := query.get("PageToken", "").removeprefix("PA"):
            found = found[1 + [one.sid for one in found].index(token) :]
        page, number = found[:size], int(query.get("Page", "0"))
        more = None
        if len(found) > size:
            follow = query | {"PageSize": str(size), "Page": str(number + 1), "PageToken": f"PA{page[-1].sid}"}
            more = f"{self.link_prefix}{request.path}?{urlencode(follow)}"
        told = {"messages": [*self.odd, *map(self.row, page)], "page": number, "page_size": size, "next_page_uri": more}
        return web.json_response(told | {"uri": request.path_qs, "previous_page_uri": None})

    def _matches(self, text: Text, query: dict[str, str]) -> bool:
        if query.get("To") not in (None, text.to) or query.get("From") not in (None, text.sender):
            return False
        second = text.at.replace(microsecond=0)
        if "DateSent>" in query and second < day_or_time(query["DateSent>"]):
            return False
        return not ("DateSent<" in query and second > day_or_time(query["DateSent<"]))

    def _find(self, request: web.Request) -> Text:
        for text in self.texts:
            if text.sid == request.match_info["message"]:
                return text
        raise Refused(404, 20404, f"The requested resource {request.path} was not found")

    async def _read(self, request: web.Request) -> web.Response:
        return web.json_response(self.row(self._find(request)))

    async def _media_list(self, request: web.Request) -> web.Response:
        text = self._find(request)
        here = f"{ROOT}/{self.account}/Messages/{text.sid}/Media"
        rows = [
            {"sid": one.sid, "parent_sid": text.sid, "content_type": one.mime, "uri": f"{here}/{one.sid}.json"}
            for one in text.media
        ]
        return web.json_response({"media_list": rows, "next_page_uri": None})

    async def _media(self, request: web.Request) -> web.Response:
        """The content lies elsewhere, at an address that says who may have it and for how long."""
        name = request.match_info["media"].removesuffix(".json")
        for one in self._find(request).media:
            if one.sid == name:
                key = secrets.token_hex(8)
                self._cdn[key] = one
                return web.Response(status=307, headers={"Location": f"{self.url}/cdn/{key}"})
        raise Refused(404, 20404, f"The requested resource {request.path} was not found")

    async def _content(self, request: web.Request) -> web.Response:
        one = self._cdn.pop(request.match_info["name"], None)
        if one is None:
            return web.Response(status=403)
        return web.Response(body=one.content, content_type=one.mime)
