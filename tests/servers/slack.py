"""A Slack workspace for tests, written from https://docs.slack.dev: Web API, Socket Mode and events by HTTP.

    async with SlackServer() as slack:
        ann = slack.person("Ann", "ann")
        chat = slack.direct(ann)
        await chat.say(ann, "hello")          # the app gets an event
        assert slack.complaints == []         # nothing that Slack would ignore or repair in silence

Three things differ from Slack: what the app did not acknowledge comes again after a moment, not after minutes, and
for as long as it takes; a request URL may be plain HTTP; there are no limits of rate until `rates` is set.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from servers import slack_blocks as blocks
from servers.slack_methods import EMOJI, METHODS, SCOPES, Method

Json = dict[str, Any]
AGAIN = 0.05  # seconds between two deliveries of the same
TEXT_MAX, UPDATE_MAX, MARKDOWN_MAX = 40_000, 4_000, 12_000


class Refused(Exception):
    """Slack's `error`, with more fields of the answer."""

    def __init__(self, error: str, status: int = 200, **more: Any) -> None:
        super().__init__(error)
        self.error, self.status, self.more = error, status, more


@dataclass(frozen=True)
class Person:
    id: str
    name: str
    handle: str


@dataclass(eq=False)
class Delivery:
    """Something that the app has to acknowledge. `kind` is the type of its envelope."""

    kind: str
    payload: Json
    tries: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Link:
    socket: web.WebSocketResponse
    waiting: dict[str, Delivery] = field(default_factory=dict)
    ending: bool = False


class Conversation:
    """A direct conversation (D…) or a channel (C…). `messages` are as people see them now."""

    def __init__(self, server: SlackServer, id: str, name: str, members: list[Person]) -> None:
        self.server, self.id, self.name, self.members = server, id, name, members
        self.messages: list[Json] = []
        self.bot_in = True

    @property
    def kind(self) -> str:
        return "im" if self.id.startswith("D") else "channel"

    def find(self, ts: Any) -> Json | None:
        return next((one for one in self.messages if one["ts"] == ts), None)

    async def say(self, who: Person, text: str, **more: Any) -> Json:
        """A person writes. `text` is mrkdwn as Slack keeps it; plain words get the composer's rich text."""
        said = {"type": "message", "user": who.id, "text": text, "ts": self.server.ts(), "team": "T0ROOST"}
        if "<" not in text and "blocks" not in more:
            span = {"type": "text", "text": text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")}
            section = {"type": "rich_text_section", "elements": [span]}
            more["blocks"] = [{"type": "rich_text", "block_id": secrets.token_hex(2), "elements": [section]}]
        said |= {"client_msg_id": secrets.token_hex(16)} | more
        self.messages.append(said)
        root = self.find(said.get("thread_ts"))
        if root is not None and root is not said:
            said["parent_user_id"] = root["user"]
        await self.tell(said)
        return said

    async def tell(self, said: Json) -> None:
        """The events of a message: a mention of the app makes two."""
        event = said | {"channel": self.id, "event_ts": said["ts"], "channel_type": self.kind}
        await self.server.event(event)
        if f"<@{self.server.bot}>" in said["text"] and self.kind != "im" and "bot_id" not in said:
            mention = {name: value for name, value in event.items() if name != "channel_type"}
            await self.server.event(mention | {"type": "app_mention"})

    async def edit(self, ts: str, text: str) -> None:
        said = self.find(ts)
        assert said is not None
        before = dict(said)
        said |= {"text": text, "edited": {"user": said["user"], "ts": self.server.ts()}}
        span = {"type": "text", "text": text}
        said["blocks"] = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [span]}]}]
        await self.change("message_changed", message=dict(said), previous_message=before)

    async def remove(self, ts: str) -> None:
        said = self.find(ts)
        assert said is not None
        self.messages.remove(said)
        await self.change("message_deleted", deleted_ts=ts, previous_message=said)

    async def change(self, subtype: str, **more: Any) -> None:
        now = self.server.ts()
        event = {"type": "message", "subtype": subtype, "hidden": True, "channel": self.id, "channel_type": self.kind}
        await self.server.event(event | {"ts": now, "event_ts": now} | more)

    async def react(self, who: Person, ts: str, name: str, kind: str = "reaction_added") -> None:
        said = self.find(ts)
        assert said is not None
        item = {"type": "message", "channel": self.id, "ts": ts}
        event = {"type": kind, "user": who.id, "reaction": name, "item": item, "item_user": said["user"]}
        await self.server.event(event | {"event_ts": self.server.ts()})

    async def press(self, who: Person, ts: str, label: str) -> None:
        said = self.find(ts)
        assert said is not None
        button = next(one for one in blocks.buttons(said) if one["text"]["text"] == label)
        container = {"type": "message", "message_ts": ts, "channel_id": self.id, "is_ephemeral": False}
        container |= {"thread_ts": said["thread_ts"]} if "thread_ts" in said else {}
        user = {"id": who.id, "username": who.handle, "name": who.handle, "team_id": "T0ROOST"}
        payload = {"type": "block_actions", "user": user, "api_app_id": "A0ROOST", "container": container}
        payload |= {"trigger_id": secrets.token_hex(8), "channel": {"id": self.id, "name": self.name}, "message": said}
        payload["response_url"] = f"{self.server.url}/commands/{self.id}/{secrets.token_hex(8)}"
        action = button | {"block_id": "b1", "action_ts": self.server.ts()}
        await self.server.deliver("interactive", payload | {"actions": [action], "token": "deprecated"})

    async def command(self, who: Person, command: str, text: str) -> Json:
        payload = {"token": "deprecated", "team_id": "T0ROOST", "channel_id": self.id, "channel_name": self.name}
        payload |= {"user_id": who.id, "user_name": who.handle, "command": command, "text": text}
        payload |= {"api_app_id": "A0ROOST", "trigger_id": secrets.token_hex(8)}
        payload["response_url"] = f"{self.server.url}/commands/{self.id}/{secrets.token_hex(8)}"
        await self.server.deliver("slash_commands", payload)
        return payload


class SlackServer:
    """One workspace with one app in it. `url` is where it listens; the Web API is at `{url}/api/`."""

    def __init__(self, mode: str = "socket") -> None:
        self.mode = mode
        self.token, self.app_token = "xoxb-1-2-roost", "xapp-1-A0ROOST-1-abc"
        self.signing_secret = "8f742231b10e8888abcd99yyyzzz85a5"
        self.bot, self.bot_id = "U0ROOST", "B0ROOST"
        self.scopes = set(SCOPES)
        self.people: dict[str, Person] = {}
        self.conversations: dict[str, Conversation] = {}
        self.files: dict[str, Json] = {}
        self.contents: dict[str, bytes] = {}
        self.complaints: list[str] = []
        self.calls: list[tuple[str, Json]] = []
        self.statuses: list[Json] = []
        self.responses: list[tuple[str, Json]] = []
        self.acknowledged: list[Delivery] = []
        self.links: list[Link] = []
        self.request_url = ""
        self.socket_mode = True
        self.rates: float = 0.0  # seconds between two messages in one channel
        self.front = ""  # what addresses the server gives out begin with; its own when empty
        self.busy = 0  # calls that are being answered
        self._last: dict[str, float] = {}
        self._tickets: set[str] = set()
        self._queue: deque[Delivery] = deque()
        self._stirred = asyncio.Event()
        self._clock = time.time()
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/api/{method}", self._call)
        app.router.add_get("/link", self._link)
        app.router.add_post("/upload/{ticket}", self._upload)
        app.router.add_get("/files/{id}", self._file)
        app.router.add_post("/commands/{chat}/{ticket}", self._response)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        self._session = aiohttp.ClientSession()
        self._courier = asyncio.create_task(self._carry())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._courier.cancel()
        await asyncio.gather(self._courier, return_exceptions=True)
        await self._session.close()
        for link in self.links:
            await link.socket.close()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return self.front or f"http://127.0.0.1:{self.port}"

    def ts(self) -> str:
        """A timestamp that no other has."""
        self._clock = max(time.time(), self._clock + 0.000002)
        return f"{self._clock:.6f}"

    def person(self, name: str, handle: str) -> Person:
        person = Person(f"U0{handle.upper()}", name, handle)
        self.people[person.id] = person
        return person

    def direct(self, who: Person) -> Conversation:
        return self._open(f"D0{who.handle.upper()}", "directmessage", [who])

    def channel(self, name: str, members: list[Person]) -> Conversation:
        return self._open(f"C0{name.upper()}", name, members)

    def _open(self, id: str, name: str, members: list[Person]) -> Conversation:
        return self.conversations.setdefault(id, Conversation(self, id, name, members))

    # ----------------------------------------------------------------------------------- what the app gets

    async def event(self, event: Json) -> None:
        """https://docs.slack.dev/apis/events-api#callback-field"""
        outer = {"token": "deprecated", "team_id": "T0ROOST", "api_app_id": "A0ROOST", "type": "event_callback"}
        outer |= {"event_id": f"Ev{secrets.token_hex(5).upper()}", "event_time": int(time.time())}
        outer["authorizations"] = [{"team_id": "T0ROOST", "user_id": self.bot, "is_bot": True}]
        await self.deliver("events_api", outer | {"event": event})

    async def deliver(self, kind: str, payload: Json) -> Delivery:
        delivery = Delivery(kind, json.loads(json.dumps(payload)))
        self._queue.append(delivery)
        self._stirred.set()
        return delivery

    def give_up(self) -> None:
        """Bring nothing of what waits any more, as Slack does after some minutes."""
        self._queue.clear()

    async def _carry(self) -> None:
        while True:
            if not self._queue or not await self._bring(self._queue[0]):
                self._stirred.clear()
                if not self._queue:
                    await self._stirred.wait()
                else:
                    await asyncio.sleep(AGAIN)
            else:
                self._queue.popleft()

    async def _bring(self, delivery: Delivery) -> bool:
        if self.mode == "http":
            return await self._post(delivery)
        link = next((one for one in reversed(self.links) if not one.ending and not one.socket.closed), None)
        return link is not None and await self.give(link, delivery)

    async def give(self, link: Link, delivery: Delivery) -> bool:
        """https://docs.slack.dev/apis/events-api/using-socket-mode#events"""
        id = secrets.token_hex(16)
        envelope = {"envelope_id": id, "type": delivery.kind, "payload": delivery.payload}
        envelope["accepts_response_payload"] = delivery.kind == "slash_commands"
        if delivery.kind == "events_api":
            envelope |= {"retry_attempt": delivery.tries, "retry_reason": "timeout" if delivery.tries else ""}
        delivery.tries += 1
        link.waiting[id] = delivery
        try:
            await link.socket.send_str(json.dumps(envelope))
        except OSError:
            del link.waiting[id]
            return False
        return True

    async def _post(self, delivery: Delivery) -> bool:
        if not self.request_url:
            return False
        body, headers = self.signed(delivery)
        if delivery.tries:
            headers |= {"X-Slack-Retry-Num": str(delivery.tries), "X-Slack-Retry-Reason": "http_error"}
        delivery.tries += 1
        try:
            async with self._session.post(self.request_url, data=body, headers=headers) as answer:
                if answer.status == 200:
                    self.acknowledge(delivery)
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    def signed(self, delivery: Delivery, at: float | None = None) -> tuple[bytes, dict[str, str]]:
        """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
        stamp, kind = str(int(time.time() if at is None else at)), "application/json"
        body = json.dumps(delivery.payload).encode()
        if delivery.kind != "events_api":
            form = {"payload": json.dumps(delivery.payload)} if delivery.kind == "interactive" else delivery.payload
            body, kind = urlencode(form).encode(), "application/x-www-form-urlencoded"
        digest = hmac.new(self.signing_secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256)
        headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest.hexdigest()}"}
        return body, headers | {"Content-Type": kind}

    def acknowledge(self, delivery: Delivery) -> None:
        self.acknowledged.append(delivery)
        delivery.done.set()
        self.changed.set()

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("ticket") not in self._tickets:
            raise web.HTTPForbidden(text="The ticket is used up.")
        self._tickets.discard(request.query["ticket"])
        link = Link(web.WebSocketResponse(max_msg_size=1 << 20))
        await link.socket.prepare(request)
        info = {"app_id": "A0ROOST"}
        hello = {"type": "hello", "num_connections": len(self.links) + 1, "connection_info": info}
        await link.socket.send_str(json.dumps(hello))
        self.links.append(link)
        self._stirred.set()
        try:
            async for frame in link.socket:
                self._hear(link, frame)
        finally:
            self.links.remove(link)
            self._queue.extendleft(reversed(link.waiting.values()))
            self._stirred.set()
        return link.socket

    def _hear(self, link: Link, frame: aiohttp.WSMessage) -> None:
        try:
            answer = json.loads(frame.data)
            delivery = link.waiting.pop(answer["envelope_id"])
        except (ValueError, KeyError, TypeError):
            self.complaints.append(f"no acknowledgement of anything: {frame.data!r}")
            return
        if set(answer) - {"envelope_id", "payload"} or ("payload" in answer and delivery.kind != "slash_commands"):
            self.complaints.append(f"an odd acknowledgement: {frame.data!r}")
        self.acknowledge(delivery)

    async def disconnect(self, reason: str = "refresh_requested") -> Link:
        """Announce the end of the newest connection, which stays open until it is closed here or there."""
        link = self.links[-1]
        await self.frame(link, {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}})
        link.ending = True
        return link

    async def frame(self, link: Link, frame: Json | str) -> None:
        await link.socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    # ----------------------------------------------------------------------------------- the Web API

    async def _call(self, request: web.Request) -> web.Response:
        response = await self._respond(request)
        self.busy += 1
        try:
            await response.prepare(request)
            await response.write_eof()
        finally:
            self.busy -= 1
            self.changed.set()
        return response

    async def _respond(self, request: web.Request) -> web.Response:
        self.busy += 1
        try:
            return web.json_response({"ok": True} | await self._answer(request.match_info["method"], request))
        except Refused as refused:
            headers = {"Retry-After": str(refused.more.pop("retry_after"))} if "retry_after" in refused.more else {}
            body = {"ok": False, "error": refused.error} | refused.more
            return web.json_response(body, status=refused.status, headers=headers)
        finally:
            self.busy -= 1

    async def _answer(self, name: str, request: web.Request) -> Json:
        method = METHODS.get(name)
        if method is None:
            raise Refused("unknown_method", req_method=name)
        self._check_token(method, request)
        given = await self._parameters(name, method, request)
        self.calls.append((name, given))
        for needed in method.required:
            if given.get(needed) in ((None,) if needed == "status" else (None, "")):
                raise Refused(MISSING.get((name, needed), "invalid_arguments"))
        self.complaints += [f"{name}: {one}" for one in given if one not in {*method.required, *method.optional}]
        answer: Callable[[Json], Awaitable[Json]] = getattr(self, name.replace(".", "_"))
        return await answer(given)

    def _check_token(self, method: Method, request: web.Request) -> None:
        shown = request.headers.get("Authorization", "")
        if not shown.startswith("Bearer "):
            raise Refused("not_authed")
        token = shown.removeprefix("Bearer ")
        if token not in {self.token, self.app_token}:
            raise Refused("invalid_auth")
        if (token == self.app_token) != (method.holder == "app"):
            raise Refused("not_allowed_token_type")
        missing = [scope for scope in method.scopes if scope not in self.scopes]
        if missing:
            raise Refused("missing_scope", needed=missing[0], provided=",".join(sorted(self.scopes)))

    async def _parameters(self, name: str, method: Method, request: web.Request) -> Json:
        given: Json = dict(request.query)
        if request.method == "GET":
            return given
        if request.content_type == "application/json":
            try:
                body = await request.json()
            except ValueError:
                raise Refused("invalid_json") from None
            if not isinstance(body, dict):
                raise Refused("json_not_object")
            if not method.json:
                self.complaints.append(f"{name} takes no JSON")
                return given
            return given | body
        body = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
        for key in {"blocks", "files", "attachments"} & {*body, *given}:
            body[key] = json.loads(body.get(key, given.get(key)))
        return given | body

    def _conversation(self, id: Any) -> Conversation:
        found = self.conversations.get(id)
        if found is None and id in self.people:
            found = self.direct(self.people[id])
        if found is None:
            raise Refused("channel_not_found")
        return found

    def _message(self, chat: Conversation, ts: Any, mine: str = "") -> Json:
        found = chat.find(ts)
        if found is None:
            raise Refused("message_not_found")
        if mine and found.get("bot_id") != self.bot_id:
            raise Refused(mine)
        return found

    async def auth_test(self, given: Json) -> Json:
        names = {"url": "https://roost.slack.com/", "team": "Roost", "user": "roost"}
        return names | {"team_id": "T0ROOST", "user_id": self.bot, "bot_id": self.bot_id}

    async def apps_connections_open(self, given: Json) -> Json:
        if not self.socket_mode:
            raise Refused("forbidden_team")
        ticket = secrets.token_hex(8)
        self._tickets.add(ticket)
        return {"url": f"{self.url.replace('http', 'ws', 1)}/link?ticket={ticket}&app_id=A0ROOST"}

    def _content(self, given: Json) -> Json:
        text, shown = given.get("text", ""), given.get("blocks", [])
        if given.get("markdown_text") and (text or shown):
            raise Refused("markdown_text_conflict")
        if len(given.get("markdown_text", "")) > MARKDOWN_MAX:
            raise Refused("msg_too_long")
        if problems := blocks.check(shown):
            raise Refused("invalid_blocks", errors=problems, response_metadata={"messages": problems})
        if sum(len(blocks.see_block(block)) for block in shown if block["type"] != "actions") > 13_000:
            raise Refused("msg_blocks_too_long")
        if not isinstance(text, str) or not (text.strip() or shown or given.get("markdown_text")):
            raise Refused("no_text")
        return {"text": text or given.get("markdown_text", ""), "blocks": shown}

    async def chat_postMessage(self, given: Json) -> Json:
        chat = self._conversation(given["channel"])
        if not chat.bot_in:
            raise Refused("not_in_channel")
        self._pace(chat)
        content = self._content(given)
        if len(content["text"]) > TEXT_MAX:
            self.complaints.append("chat.postMessage: message_truncated")
            content["text"] = content["text"][:TEXT_MAX]
        root = given.get("thread_ts")
        if root is not None and chat.find(root) is None:
            raise Refused("thread_not_found")
        said = await self._say(chat, content | ({"thread_ts": root} if root else {}))
        return {"channel": chat.id, "ts": said["ts"], "message": said}

    def _pace(self, chat: Conversation) -> None:
        now = time.monotonic()
        if self.rates and now - self._last.get(chat.id, -1e9) < self.rates:
            raise Refused("ratelimited", 429, retry_after=1)
        self._last[chat.id] = now

    async def _say(self, chat: Conversation, content: Json) -> Json:
        said = {"type": "message", "user": self.bot, "bot_id": self.bot_id, "app_id": "A0ROOST", "team": "T0ROOST"}
        said |= {"ts": self.ts(), "bot_profile": {"id": self.bot_id, "name": "roost"}} | content
        chat.messages.append(said)
        await chat.tell(said)
        return said

    async def chat_update(self, given: Json) -> Json:
        chat = self._conversation(given["channel"])
        said = self._message(chat, given["ts"], "cant_update_message")
        content = self._content(given)
        if len(content["text"]) > UPDATE_MAX:
            raise Refused("msg_too_long")
        was_rich = any(block["type"] == "rich_text" for block in said["blocks"])
        if was_rich and content["blocks"] and not any(one["type"] == "rich_text" for one in content["blocks"]):
            raise Refused("block_mismatch")
        before = dict(said)
        said |= content | ({} if content["blocks"] else {"edited": {"user": self.bot, "ts": self.ts()}})
        await chat.change("message_changed", message=dict(said), previous_message=before)
        return {"channel": chat.id, "ts": said["ts"], "text": said["text"], "message": said}

    async def chat_delete(self, given: Json) -> Json:
        chat = self._conversation(given["channel"])
        said = self._message(chat, given["ts"], "cant_delete_message")
        await chat.remove(said["ts"])
        return {"channel": chat.id, "ts": said["ts"]}

    def _reaction(self, given: Json) -> tuple[list[Json], str]:
        said = self._message(self._conversation(given.get("channel")), given.get("timestamp"))
        if given["name"].partition("::")[0] not in EMOJI:
            raise Refused("invalid_name")
        return said.setdefault("reactions", []), given["name"]

    async def reactions_add(self, given: Json) -> Json:
        there, name = self._reaction(given)
        found = next((one for one in there if one["name"] == name), None)
        if found is None:
            there.append(found := {"name": name, "users": [], "count": 0})
        if self.bot in found["users"]:
            raise Refused("already_reacted")
        found["users"].append(self.bot)
        chat = self._conversation(given["channel"])
        item = {"type": "message", "channel": chat.id, "ts": given["timestamp"]}
        event = {"type": "reaction_added", "user": self.bot, "reaction": name, "item": item}
        await self.event(event | {"event_ts": self.ts()})
        return {}

    async def reactions_remove(self, given: Json) -> Json:
        there, name = self._reaction(given)
        found = next((one for one in there if one["name"] == name and self.bot in one["users"]), None)
        if found is None:
            raise Refused("no_reaction")
        found["users"].remove(self.bot)
        if not found["users"]:
            there.remove(found)
        return {}

    async def reactions_get(self, given: Json) -> Json:
        said = self._message(self._conversation(given.get("channel")), given.get("timestamp"))
        return {"type": "message", "channel": given["channel"], "message": said}

    async def conversations_info(self, given: Json) -> Json:
        chat = self._conversation(given["channel"])
        return {"channel": {"id": chat.id, "name": chat.name, "is_im": chat.kind == "im", "is_member": chat.bot_in}}

    async def conversations_history(self, given: Json) -> Json:
        chat = self._conversation(given["channel"])
        return self._page([one for one in chat.messages if one.get("thread_ts", one["ts"]) == one["ts"]][::-1], given)

    async def conversations_replies(self, given: Json) -> Json:
        chat, root = self._conversation(given["channel"]), given["ts"]
        if chat.find(root) is None:
            raise Refused("thread_not_found")
        return self._page([one for one in chat.messages if root in {one["ts"], one.get("thread_ts")}], given)

    def _page(self, messages: list[Json], given: Json) -> Json:
        """https://docs.slack.dev/apis/web-api/pagination; `oldest` is left out, a root of replies is not."""
        oldest, start = float(given.get("oldest", 0)), int(given.get("cursor") or 0)
        found = [one for one in messages if float(one["ts"]) > oldest or one["ts"] == given.get("ts")]
        end = start + int(given.get("limit", 100))
        more = end < len(found)
        return {
            "messages": found[start:end],
            "has_more": more,
            "response_metadata": {"next_cursor": str(end) if more else ""},
        }

    async def users_info(self, given: Json) -> Json:
        who = self.people.get(given["user"])
        if who is None:
            raise Refused("user_not_found")
        profile = {"real_name": f"{who.name} Example", "display_name": who.name}
        return {"user": {"id": who.id, "name": who.handle, "real_name": profile["real_name"], "profile": profile}}

    async def assistant_threads_setStatus(self, given: Json) -> Json:
        chat = self._conversation(given["channel_id"])
        if chat.find(given["thread_ts"]) is None:
            raise Refused("invalid_thread_ts")
        self.statuses.append(given)
        return {}

    # ----------------------------------------------------------------------------------- files

    async def files_getUploadURLExternal(self, given: Json) -> Json:
        size = int(given["length"])
        if size <= 0:
            raise Refused("missing_argument")
        id = f"F{secrets.token_hex(4).upper()}"
        self.files[id] = {
            "id": id,
            "name": given["filename"],
            "title": given["filename"],
            "size": size,
            "shared": False,
        }
        return {"upload_url": f"{self.url}/upload/{id}", "file_id": id}

    async def _upload(self, request: web.Request) -> web.Response:
        file = self.files.get(request.match_info["ticket"])
        body = await request.read()
        if file is None or len(body) != file["size"]:
            return web.Response(status=400, text="bad upload")
        self.contents[file["id"]] = body
        return web.Response(text=f"OK - {len(body)}")

    async def files_completeUploadExternal(self, given: Json) -> Json:
        chosen = [self.files.get(one.get("id")) for one in given["files"]]
        if not chosen or any(one is None or one["id"] not in self.contents for one in chosen):
            raise Refused("file_not_found")
        files = [one for one in chosen if one is not None]
        for file, one in zip(files, given["files"], strict=True):
            file |= {"title": one.get("title", file["name"]), "url_private": f"{self.url}/files/{file['id']}"}
        if given.get("channel_id"):
            if given["channel_id"][0] not in "CDGZ":
                # Unlike chat.postMessage, it takes no person: https://github.com/slackapi/bolt-js/issues/2115
                raise Refused("invalid_arguments")
            chat = self._conversation(given["channel_id"])
            if not chat.bot_in:
                raise Refused("not_in_channel")
            root = {"thread_ts": given["thread_ts"]} if given.get("thread_ts") else {}
            more = {"text": given.get("initial_comment", ""), "blocks": given.get("blocks", []), "files": files}
            await self._say(chat, more | root | {"subtype": "file_share"})
        return {"files": [{"id": file["id"], "title": file["title"]} for file in files]}

    async def files_info(self, given: Json) -> Json:
        file = self.files.get(given["file"])
        if file is None:
            raise Refused("file_not_found")
        return {"file": {name: value for name, value in file.items() if name != "file_access"}}

    async def files_delete(self, given: Json) -> Json:
        if self.files.pop(given["file"], None) is None:
            raise Refused("file_not_found")
        for chat in self.conversations.values():
            chat.messages = [
                one for one in chat.messages if not any(file["id"] == given["file"] for file in one.get("files", []))
            ]
        return {}

    def keep(self, name: str, mime: str, content: bytes) -> Json:
        """A file that a person uploads."""
        id = f"F{secrets.token_hex(4).upper()}"
        self.contents[id] = content
        self.files[id] = {
            **{"id": id, "name": name, "title": name, "mimetype": mime, "size": len(content), "mode": "hosted"},
            **{"is_external": False, "url_private": f"{self.url}/files/{id}"},
            **{"url_private_download": f"{self.url}/files/{id}"},
        }
        return self.files[id]

    async def _file(self, request: web.Request) -> web.Response:
        """Without the right token or scope people, and programs, get the login page."""
        content = self.contents.get(request.match_info["id"])
        allowed = request.headers.get("Authorization") == f"Bearer {self.token}" and "files:read" in self.scopes
        if content is None or not allowed:
            return web.Response(text="<html>Sign in to Slack</html>", content_type="text/html")
        mime = self.files[request.match_info["id"]].get("mimetype", "application/octet-stream")
        return web.Response(body=content, content_type=mime)

    async def _response(self, request: web.Request) -> web.Response:
        """A response_url: five answers within half an hour."""
        ticket = request.match_info["ticket"]
        if len([one for one, _ in self.responses if one == ticket]) >= 5:
            return web.Response(status=404, text="used_url")
        message = await request.json()
        if set(message) - {"text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts"}:
            return web.Response(status=400, text="invalid_payload")
        self.responses.append((ticket, message))
        self.changed.set()
        return web.Response(text="ok")


MISSING = {
    **{("chat.postMessage", "channel"): "channel_not_found", ("chat.update", "channel"): "channel_not_found"},
    **{("chat.update", "ts"): "message_not_found", ("reactions.add", "timestamp"): "no_item_specified"},
    **{("reactions.add", "name"): "invalid_name", ("users.info", "user"): "user_not_found"},
}
