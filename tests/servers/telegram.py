"""A Telegram Bot API server for tests, written from https://core.telegram.org/bots/api (Bot API 10.1).

    async with TelegramServer(token="123:abc") as server:
        ann = server.person("Ann", username="ann")
        chat = server.private(ann)
        await chat.say("hello")                      # the bot gets an update, by long poll or by webhook
        reply = await chat.next_reply(timeout=5)     # the bot's next message, a Message object as a dict
        assert server.complaints == []               # nothing that Telegram would ignore or repair in silence

What the bot sends goes over a socket: `{base_url}/bot{token}/{method}` and `{base_url}/file/bot{token}/{path}`.
`python -m servers.telegram --token 123:abc` runs it as a process of its own, driven by JSON posts to /control/say,
/control/next, /control/talk, /control/burst, /control/texts, /control/called and /control/stats.

Three things differ from the vendor's server: a webhook on the loopback interface may be plain HTTP on any port,
failed webhook deliveries are repeated after milliseconds, and a Conflict is answered at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
from aiohttp import web

from servers import telegram_rules as rules
from servers.telegram_chats import FOLDERS, Chat, File, Json, Person, describe, wording
from servers.telegram_methods import Action, Methods
from servers.telegram_rules import RULES, Rates, Refused, Upload, bad
from servers.telegram_webhook import Webhook

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
TERMINATED = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
MAX_POLL = 50
BAD_GATEWAY = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"


class Call(NamedTuple):
    """One call the bot made: `params` are typed where they were valid, `at` is time.monotonic()."""

    method: str
    params: Json
    at: float


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of a method."""

    kind: str
    times: int
    retry_after: int = 1
    interval: float = 0.01


class TelegramServer:
    """The server, its state and the people. See the module's own text for use.

    `keep` bounds every transcript and the list of calls, for long runs. Public for tests to look at: `calls`,
    `refusals` (method, description), `complaints`, `actions`, `drafts`, `answers` by query id, `commands` by (scope,
    language), `keyboards` by chat, `updates` not yet confirmed. Public to set: `privacy`, `enforce_rates`, `web`
    (the internet, as address to bytes).
    """

    def __init__(
        self, token: str = TOKEN, *, username: str = "roost_bot", keep: int | None = None, port: int = 0
    ) -> None:
        self.token, self.keep, self._port = token, keep, port
        self.base_url = ""
        number = int(token.partition(":")[0])
        self.sender: Json = {"id": number, "is_bot": True, "first_name": "Roost", "username": username}
        self.privacy, self.enforce_rates = True, False
        self.rates = Rates(time.monotonic)
        self.people: dict[int, Person] = {}
        self.chats: dict[int, Chat] = {}
        self.files: dict[str, File] = {}
        self._paths: dict[str, File] = {}
        self.web: dict[str, bytes] = {}
        self.calls: list[Call] = []
        self.refusals: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self.actions: list[Action] = []
        self.drafts: list[tuple[int, int, str]] = []
        self.queries: dict[str, Json] = {}
        self.answers: dict[str, Json] = {}
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.keyboards: dict[int, Json] = {}
        self.card: Json = {"name": "Roost"}
        self.updates: deque[Json] = deque()
        self.allowed = rules.DEFAULT_UPDATES
        self.webhook: Webhook | None = None
        self._methods = Methods(self)
        self._faults: dict[str, list[Fault]] = {}
        self._next_update = 700_000_001
        self._poll: asyncio.Future[None] | None = None
        self._watchers: list[asyncio.Future[None]] = []
        self._released: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        self._released = asyncio.Event()
        self.client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        app = web.Application(client_max_size=rules.MAX_UPLOAD + (1 << 20))
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._released is not None
        self._released.set()
        if self._poll is not None and not self._poll.done():
            self._poll.set_exception(ConnectionAbortedError())
        if self.webhook is not None:
            self.webhook.close()
        await self.client.close()
        await self._runner.cleanup()

    @property
    def user(self) -> Json:
        """What getMe tells."""
        abilities = {"can_join_groups": True, "supports_inline_queries": False}
        return {**self.sender, **abilities, "can_read_all_group_messages": not self.privacy}

    # People and chats

    def person(self, name: str, username: str = "", language: str = "en") -> Person:
        person = Person(self, 1001 + len(self.people), name, username, language)
        self.people[person.id] = person
        return person

    def private(self, person: Person) -> Chat:
        """The chat between a person and the bot; the same one every time."""
        if person.id not in self.chats:
            info = {"id": person.id, "type": "private", "first_name": person.name}
            if person.username:
                info["username"] = person.username
            self.chats[person.id] = Chat(self, info, (person,))
        return self.chats[person.id]

    def group(self, title: str, people: Iterable[Person], admin: bool = False) -> Chat:
        return self._chat(-4001, {"type": "group", "title": title}, people, admin)

    def supergroup(self, title: str, people: Iterable[Person], admin: bool = False) -> Chat:
        return self._chat(-1002000000001, {"type": "supergroup", "title": title}, people, admin)

    def forum(self, title: str, people: Iterable[Person], admin: bool = False) -> Chat:
        return self._chat(-1002000000001, {"type": "supergroup", "title": title, "is_forum": True}, people, admin)

    def inbox(self, title: str, people: Iterable[Person]) -> Chat:
        """The direct messages of a channel, of which the bot is an administrator: each person is a topic."""
        info = {"type": "supergroup", "title": title, "is_direct_messages": True}
        return self._chat(-1003000000001, info, people, True)

    def channel(self, title: str, username: str = "") -> Chat:
        info = {"type": "channel", "title": title} | ({"username": username} if username else {})
        return self._chat(-1002000000001, info, (), True)

    def _chat(self, first: int, info: Json, people: Iterable[Person], admin: bool) -> Chat:
        chat = Chat(self, {"id": first - len(self.chats), **info}, tuple(people), admin)
        self.chats[chat.id] = chat
        return chat

    def named(self, handle: str) -> Chat | None:
        """A public chat by its @username. A person cannot be written to by name."""
        name = handle.removeprefix("@").lower()
        chats = (chat for chat in self.chats.values() if chat.kind != "private")
        return next((chat for chat in chats if str(chat.info.get("username", "")).lower() == name), None)

    def user_by_id(self, number: int) -> Json | None:
        person = self.people.get(number)
        return person.user if person else self.sender if number == self.sender["id"] else None

    def attach(self, kind: str, upload: Upload) -> Json:
        """Store a file; gives the fields of Message that show it."""
        folder, ending, mime = FOLDERS.get(kind, ("documents", "", upload.mime or "application/octet-stream"))
        number = len(self.files)
        name = upload.name or f"file_{number}{ending}"
        path = f"{folder}/file_{number}{ending or PurePosixPath(name).suffix}"
        identifier = f"{kind[:2].upper()}QAAxkBAAM{number:08d}"
        file = File(identifier, kind, path, upload.data, name, upload.mime or mime)
        self.files[identifier] = self._paths[path] = file
        return describe(file)

    # What a test waits for, makes fail and looks at

    async def until(self, predicate: Callable[[], Any], timeout: float = 5.0, otherwise: str = "") -> Any:
        """Wait until something is true of this server. Raises TimeoutError, saying what the bot did last."""
        try:
            async with asyncio.timeout(timeout):
                while not (value := predicate()):
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._watchers.append(future)
                    await future
                return value
        except TimeoutError:
            last = [call.method for call in self.calls[-5:]]
            what = otherwise or "nothing made the condition true"
            raise TimeoutError(
                f"Within {timeout} s {what}. Last calls: {last}; refused: {self.refusals[-3:]}."
            ) from None

    def changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of a method."""
        return [call.params for call in self.calls if call.method == method]

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def fail(
        self, method: str, with_: int | str = 500, times: int = 1, *, retry_after: int = 1, interval: float = 0.01
    ) -> None:
        """Make the next calls of a method ("*": of any) go wrong.

        `with_` is 429 (with `retry_after` seconds), 500, 502 (a page of HTML), "blocked", "drop_before_read",
        "drop_after_processing" (done, but the answer is lost), "slow" (done; the answer comes byte by byte, `interval`
        seconds apart), "invalid_json" (done), or "hang" (never answered).
        """
        known = ("429", "500", "502", "blocked", "drop_before_read", "drop_after_processing")
        if str(with_) not in (*known, "slow", "invalid_json", "hang"):
            raise ValueError(f"'{with_}' is no fault")
        self._faults.setdefault(method.lower(), []).append(Fault(str(with_), times, retry_after, interval))

    # Updates

    def push(self, kind: str, body: Json) -> None:
        """Tell the bot something, if it allowed this kind of update."""
        if kind not in self.allowed:
            return
        update = {"update_id": self._next_update, kind: body}
        self._next_update += 1
        if self.webhook is not None:
            self.webhook.push(update)
        else:
            self.updates.append(update)
            if self._poll is not None and not self._poll.done():
                self._poll.set_result(None)
        self.changed()

    def allow(self, kinds: list[str] | None) -> None:
        """Remember allowed_updates: None keeps the last setting, an empty list is the default."""
        if kinds is None:
            return
        self.complaints += [f"allowed_updates: unknown type '{k}'" for k in kinds if k not in rules.UPDATES]
        self.allowed = frozenset(kinds) or rules.DEFAULT_UPDATES

    def set_webhook(self, p: Json | None) -> None:
        if self.webhook is not None:
            self.updates.extend(self.webhook.close())
            self.webhook = None
        if p is None:
            return
        if self._poll is not None and not self._poll.done():
            self._poll.set_exception(Refused(409, "Conflict: terminated by setWebhook request"))
        self.webhook = Webhook(self, p)
        waiting = [] if p.get("drop_pending_updates") else list(self.updates)
        self.updates.clear()
        for update in waiting:
            self.webhook.push(update)

    async def _get_updates(self, p: Json) -> list[Json]:
        if self.webhook is not None:
            raise Refused(409, WEBHOOK_ACTIVE)
        limit, timeout = p.get("limit", 100), p.get("timeout", 0)
        if not 1 <= limit <= 100 or timeout < 0:
            raise bad("limit must be between 1 and 100, timeout must not be negative")
        self.allow(p.get("allowed_updates"))
        if self._poll is not None and not self._poll.done():
            self._poll.set_exception(Refused(409, TERMINATED))
        self._confirm(p.get("offset", 0))
        if not self.updates and timeout:
            await self._wait(min(timeout, MAX_POLL))
        return [update for update, _ in zip(self.updates, range(limit), strict=False)]

    def _confirm(self, offset: int) -> None:
        while offset < 0 and len(self.updates) > -offset:
            self.updates.popleft()
        while self.updates and self.updates[0]["update_id"] < offset:
            self.updates.popleft()

    async def _wait(self, timeout: float) -> None:
        poll = self._poll = asyncio.get_running_loop().create_future()
        self.changed()
        try:
            async with asyncio.timeout(timeout):
                await poll
        except TimeoutError:
            pass
        finally:
            if self._poll is poll:
                self._poll = None
                self.changed()

    @property
    def polling(self) -> bool:
        """Whether a long poll is waiting now."""
        return self._poll is not None and not self._poll.done()

    # HTTP

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = re.fullmatch(r"/bot([^/]+)/(\w+)", request.path)
        if found is None:
            return await self._other(request)
        fault = self._fault(found[2])
        if fault is not None and fault.kind == "drop_before_read":
            self.refusals.append((found[2], "dropped before it was read"))
            self.changed()
            return dropped(request)
        try:
            status, body = await self._answer(request, found[1], found[2], fault)
        except ConnectionAbortedError:
            return dropped(request)
        except Exception as error:
            self.complain(f"the server itself failed in {found[2]}: {error!r}")
            raise
        if fault is not None:
            return await self._spoil(request, fault, status, body)
        return answered(status, body)

    async def _answer(self, request: web.Request, token: str, method: str, fault: Fault | None) -> tuple[int, Json]:
        try:
            if token != self.token:
                raise Refused(401, "Unauthorized")
            if method.lower() not in RULES.methods:
                raise Refused(404, "Not Found")
            raw, attached = await read(request, self.complaints)
            if fault is not None:
                await self._refuse(fault, method, raw)
            if method.lower() == "getupdates":
                return 200, {"ok": True, "result": await self._get_updates(self._typed(method, raw, attached))}
            return 200, {"ok": True, "result": self.perform(method, raw, attached)}
        except Refused as refused:
            self.refusals.append((method, refused.description))
            self.changed()
            return refused.code, refused.body()

    def _typed(self, method: str, raw: Json, attached: dict[str, Upload]) -> Json:
        name, fields = RULES.methods[method.lower()]
        own = {key: attached.pop(key) for key in list(attached) if key in fields}
        self._record(name, raw)
        noted: list[str] = []
        params = RULES.read(name, raw | own, noted)
        self.calls[-1] = self.calls[-1]._replace(params=params)
        self.complaints += noted
        return params

    def _record(self, method: str, params: Json) -> None:
        self.calls.append(Call(method, params, time.monotonic()))
        if self.keep is not None:
            for kept in (self.calls, self.actions, self.drafts, self.refusals):
                if len(kept) > 2 * self.keep:
                    del kept[: -self.keep]

    def perform(self, method: str, raw: Json, attached: dict[str, Upload]) -> Any:
        """Do what a method does. Raises Refused."""
        if method.lower() not in self._methods.table:
            raise Refused(404, "Not Found")
        params = self._typed(method, raw, attached)
        self._methods.attached = attached
        result = self._methods.table[method.lower()](params)
        self.changed()
        return result

    def _fault(self, method: str) -> Fault | None:
        for key in (method.lower(), "*"):
            for fault in self._faults.get(key, ()):
                if fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    async def _refuse(self, fault: Fault, method: str, raw: Json) -> None:
        """Faults that come instead of an answer."""
        if fault.kind == "429":
            seconds = fault.retry_after
            reason = f"Too Many Requests: retry after {seconds}"
            refused = Refused(429, reason, retry_after=seconds)
        elif fault.kind == "blocked":
            refused = Refused(403, "Forbidden: bot was blocked by the user")
        elif fault.kind in ("500", "502"):
            refused = Refused(int(fault.kind), "Internal Server Error")
        elif fault.kind == "hang":
            self._record(RULES.methods[method.lower()][0], raw)
            self.changed()
            assert self._released is not None
            await self._released.wait()
            raise ConnectionAbortedError
        else:
            return
        self._record(RULES.methods[method.lower()][0], raw)
        raise refused

    async def _spoil(self, request: web.Request, fault: Fault, status: int, body: Json) -> web.StreamResponse:
        """Faults that come with the answer."""
        if fault.kind == "drop_after_processing":
            return dropped(request)
        if fault.kind == "502":
            return web.Response(status=502, text=BAD_GATEWAY, content_type="text/html")
        if fault.kind == "invalid_json":
            return web.Response(body=msgspec.json.encode(body)[:-7], content_type="application/json")
        if fault.kind != "slow":
            return answered(status, body)
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for byte in msgspec.json.encode(body):
            await response.write(bytes([byte]))
            await asyncio.sleep(fault.interval)
        await response.write_eof()
        return response

    async def _other(self, request: web.Request) -> web.StreamResponse:
        if found := re.fullmatch(r"/file/bot([^/]+)/(.+)", request.path):
            return self._download(found[1], found[2])
        if found := re.fullmatch(r"/control/(\w+)", request.path):
            return await control(self, found[1], request)
        return answered(404, Refused(404, "Not Found").body())

    def _download(self, token: str, path: str) -> web.Response:
        if token != self.token:
            return answered(401, Refused(401, "Unauthorized").body())
        file = self._paths.get(path)
        if file is None:
            return answered(404, Refused(404, "Not Found").body())
        return web.Response(body=file.data, content_type="application/octet-stream")


def answered(status: int, body: Json) -> web.Response:
    retry = body.get("parameters", {}).get("retry_after")
    headers = {"Retry-After": str(retry)} if retry else None
    content = msgspec.json.encode(body)
    return web.Response(status=status, body=content, content_type="application/json", headers=headers)


def dropped(request: web.Request) -> web.Response:
    """Cut the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def read(request: web.Request, complaints: list[str]) -> tuple[Json, dict[str, Upload]]:
    """Parameters and files of a call: query string, urlencoded form, JSON or multipart ("Making requests")."""
    raw: Json = dict(request.query)
    attached: dict[str, Upload] = {}
    kind = request.content_type
    if not request.can_read_body:
        return raw, attached
    if kind == "application/json":
        raw |= read_json(await request.read())
    elif kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        try:
            form = await request.post()
        except web.HTTPRequestEntityTooLarge:
            raise Refused(413, "Request Entity Too Large") from None
        except ValueError as error:
            raise bad(f"can't parse request body: {error}") from None
        for name, value in form.items():
            if isinstance(value, web.FileField):
                attached[name] = Upload(value.filename, value.content_type, value.file.read())
            else:
                raw[name] = value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")
    elif await request.read():
        complaints.append(f"a body of type '{kind}' is not read")
    return raw, attached


def read_json(body: bytes) -> Json:
    try:
        values = json.loads(body) if body else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise bad("can't parse request body as a JSON object")
    return values


# Driving the server from another process


async def control(server: TelegramServer, verb: str, request: web.Request) -> web.Response:
    asked = read_json(await request.read())
    try:
        return answered(200, await CONTROLS[verb](server, asked))
    except KeyError as error:
        return answered(404, {"error": f"there is no {error}"})
    except TimeoutError as error:
        return answered(408, {"error": str(error)})


def booth(server: TelegramServer, number: int) -> Chat:
    """The private chat of the n-th person (from 0), who is made when needed."""
    while len(server.people) <= number:
        server.person(f"Person {len(server.people)}")
    return server.private(list(server.people.values())[number])


async def control_say(server: TelegramServer, asked: Json) -> Json:
    """{"chat": n, "text": "…"}"""
    return await booth(server, asked.get("chat", 0)).say(asked["text"])


async def control_next(server: TelegramServer, asked: Json) -> Json:
    """{"chat": n, "timeout": s}"""
    return await booth(server, asked.get("chat", 0)).next_reply(asked.get("timeout", 30))


async def control_burst(server: TelegramServer, asked: Json) -> Json:
    """{"chats": n, "each": n, "text": "…", "numbered": bool, "replies": n for each, "timeout": s}.

    Gives seconds, rate and latencies (s). With "numbered" each text ends in its number, from 0.
    """
    chats = [booth(server, number) for number in range(asked.get("chats", 1))]
    each, replies, numbered = asked.get("each", 1), asked.get("replies", 1), asked.get("numbered", False)
    said: dict[int, list[float]] = {chat.id: [] for chat in chats}
    for chat in chats:
        chat.trace = []
    begun = time.perf_counter()
    for number in range(each):
        text = asked.get("text", "hello") + (f" {number}" if numbered else "")
        for chat in chats:
            said[chat.id].append(time.perf_counter())
            await chat.say(text)
    want = each * replies
    await server.until(lambda: all(len(chat.trace or ()) >= want for chat in chats), asked.get("timeout", 60))
    seconds = time.perf_counter() - begun
    waits = sorted(
        (chat.trace or [])[(index + 1) * replies - 1] - at for chat in chats for index, at in enumerate(said[chat.id])
    )
    return {"messages": len(waits), "seconds": seconds, "rate": len(waits) / seconds, **percentiles(waits)}


def percentiles(values: list[float]) -> Json:
    return {f"p{n}": values[min(len(values) - 1, math.ceil(len(values) * n / 100) - 1)] for n in (50, 90, 99, 100)}


async def control_talk(server: TelegramServer, asked: Json) -> Json:
    """{"chat": n, "count": n, "text": "…", "timeout": s for each}: talk with a bot that says everything again.

    Each text ends in its number, from 0, and is said once the one before is on the screen. Gives the times (s) from
    saying it until it was said again, by a message or by an edit.
    """
    chat = booth(server, asked.get("chat", 0))
    seconds: list[float] = []
    for number in range(asked.get("count", 1)):
        text = f"{asked.get('text', 'hello')} {number}"
        begun = time.perf_counter()
        mine = await chat.say(text)
        await server.until(partial(answered_with, chat, mine, text), asked.get("timeout", 30))
        seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds}


def answered_with(chat: Chat, mine: Json, text: str) -> bool:
    last = chat.messages[-1]
    return last is not mine and wording(last) == text


async def control_texts(server: TelegramServer, asked: Json) -> Json:
    """{"chats": n}: what the bot said in each chat, oldest first, as it stands there now."""
    chats = [booth(server, number) for number in range(asked.get("chats", 1))]
    bot = server.sender["id"]
    return {"texts": [[wording(one) for one in chat.messages if one["from"]["id"] == bot] for chat in chats]}


async def control_called(server: TelegramServer, asked: Json) -> Json:
    """{"method": "…", "since": time.monotonic(), "timeout": s}: when the method was first called since then."""
    method, since = asked["method"], asked.get("since", 0.0)

    def when() -> float | None:
        return next((call.at for call in server.calls if call.at >= since and call.method == method), None)

    return {"at": await server.until(when, asked.get("timeout", 30), f"the bot did not call {method}")}


async def control_stats(server: TelegramServer, asked: Json) -> Json:
    counted: dict[str, int] = {}
    for call in server.calls:
        counted[call.method] = counted.get(call.method, 0) + 1
    kept: Json = {"calls": counted, "complaints": server.complaints[-20:], "refusals": server.refusals[-20:]}
    return kept | {"pending": len(server.updates), "polling": server.polling}


CONTROLS = {
    "say": control_say,
    "next": control_next,
    "talk": control_talk,
    "burst": control_burst,
    "texts": control_texts,
    "called": control_called,
    "stats": control_stats,
}


async def serve(token: str, port: int, keep: int | None) -> None:
    async with TelegramServer(token, port=port, keep=keep) as server:
        print(json.dumps({"base_url": server.base_url, "token": token}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description="A Telegram Bot API server; runs until its standard input ends.")
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", type=int, help="messages to keep a chat (all, when not given)")
    given = parser.parse_args()
    asyncio.run(serve(given.token, given.port, given.keep))


if __name__ == "__main__":
    main()
