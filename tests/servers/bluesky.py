"""Bluesky for tests: an account server (PDS) with the network's view, the chat service and the directory behind it.

Written from the lexicons, which every input and every output is checked against, and from how
https://github.com/bluesky-social/atproto answers (packages/pds, packages/bsky). The chat service is not open: what the
lexicons leave open about it is a guess, such as the size of a page of the log.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from servers.bluesky_lexicon import DEFS, Invalid, check

Json = dict[str, Any]
CHAT = "did:web:api.bsky.chat#bsky_chat"
CONVO = "chat.bsky.convo.defs"
POST = "app.bsky.feed.post"
UPLOAD = "com.atproto.repo.uploadBlob"
DEPTH = 5  # replies up to which who is above is told: REPLY_NOTIF_DEPTH of the view
LOG = 100


class Refusal(Exception):
    """An error as https://atproto.com/specs/xrpc#error-responses has it."""

    def __init__(self, status: int, error: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.error, self.headers = status, error, headers


@dataclass
class Account:
    """Whoever has a repository here. `privileged` says that the app password is for direct messages as well."""

    did: str
    handle: str
    password: str
    privileged: bool = True
    name: str = ""
    status: str = ""
    notifications: list[Json] = field(default_factory=list)
    log: list[Json] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def basic(self) -> Json:
        return {"did": self.did, "handle": self.handle} | ({"displayName": self.name} if self.name else {})


@dataclass
class Convo:
    id: str
    members: list[str]
    group: str = ""  # its name
    accepted: set[str] = field(default_factory=set)
    messages: list[Json] = field(default_factory=list)


class BlueskyServer:
    """`allowed` is how many points of writing an account has an hour, None for any number."""

    def __init__(self, allowed: int | None = None) -> None:
        self.allowed = allowed
        self.points: dict[str, int] = {}
        self.accounts: dict[str, Account] = {}
        self.records: dict[str, tuple[Json, str]] = {}
        self.blobs: dict[str, tuple[str, bytes]] = {}
        self.convos: dict[str, Convo] = {}
        self.tokens: dict[str, tuple[str, str]] = {}  # (kind, DID)
        self.expired: set[str] = set()
        self.lenient = False  # what it says is no longer checked
        self.asked: list[str] = []
        self.news: Callable[[], None] = lambda: None
        self._revs = itertools.count(1)
        self._times: dict[str, float] = {}
        self._latest = 0.0

    async def __aenter__(self) -> BlueskyServer:
        app = web.Application(client_max_size=60_000_000)
        app.router.add_get("/xrpc/{method}", self._answer)
        app.router.add_post("/xrpc/{method}", self._answer)
        app.router.add_get("/img/{did}/{cid}", self._image)
        app.router.add_get("/{did}", self._document)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        self.url = self.home = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    # What tests do

    def account(self, handle: str, name: str = "", privileged: bool = True) -> Account:
        did = "did:plc:" + base64.b32encode(hashlib.sha256(handle.encode()).digest()).decode().lower()[:24]
        made = Account(did, handle, "-".join(secrets.token_hex(2) for _ in range(4)), privileged, name)
        self.accounts[did] = made
        return made

    def expire(self) -> None:
        """Let every access token be too old."""
        self.expired |= {token for token, (kind, _) in self.tokens.items() if kind == "access"}

    def revoke(self) -> None:
        """Forget every session, as when the app password is deleted."""
        self.expire()
        self.tokens = {token: told for token, told in self.tokens.items() if told[0] == "access"}

    def converse(self, *people: Account, group: str = "", accepted: bool = True) -> Convo:
        made = Convo(secrets.token_hex(8), [one.did for one in people], group)
        made.accepted = {one.did for one in people} if accepted else {people[0].did}
        self.convos[made.id] = made
        for one in people:
            self._enter(one, "logBeginConvo", made)
        return made

    def message(self, who: Account, convo: Convo, **message: Any) -> Json:
        """Let somebody write."""
        check(DEFS[f"{CONVO}#messageInput"], message)
        view = {
            "$type": f"{CONVO}#messageView",
            "id": secrets.token_hex(8),
            "rev": self._rev(),
            "text": message["text"],
        }
        view |= {"sender": {"did": who.did}, "sentAt": iso(time.time()), "reactions": []}
        view |= {"facets": message["facets"]} if message.get("facets") else {}
        if message.get("replyTo"):
            view["replyTo"] = self._find(convo, message["replyTo"]["messageId"], "ReplyTargetNotFound")
        convo.messages.append(view)
        self._tell(convo, "logCreateMessage", view["rev"], message=view, relatedProfiles=[who.basic()])
        return view

    def again(self, convo: Convo, view: Json) -> None:
        """Bring a message once more."""
        self._tell(convo, "logCreateMessage", self._rev(), message=view)

    def reacted(self, who: Account, convo: Convo, id: str, value: str) -> Json:
        view = self._find(convo, id, "InvalidConvo")
        given = {"value": value, "sender": {"did": who.did}, "createdAt": iso(time.time())}
        if not [one for one in view["reactions"] if (one["value"], one["sender"]) == (value, given["sender"])]:
            view["reactions"] = [*view["reactions"], given]
            self._tell(convo, "logAddReaction", self._rev(), message=view, reaction=given)
        return view

    def post(self, who: Account, text: str, **record: Any) -> Json:
        """Let somebody post; returns the address and the version."""
        whole = {"$type": POST, "text": text, "createdAt": iso(time.time()), **record}
        return self._write(who, {"repo": who.did, "collection": POST, "rkey": tid(), "record": whole}, new=True)

    def like(self, who: Account, post: Json) -> None:
        """Let somebody like a post, which is told but nothing to answer."""
        record = {"$type": "app.bsky.feed.like", "subject": strong(post), "createdAt": iso(time.time())}
        uri = f"at://{who.did}/app.bsky.feed.like/{tid()}"
        self._inform(owner(post["uri"]), "like", post["uri"], who, uri, cid_of(uri.encode()), record)

    def mention(self, who: Account, text: str) -> list[Json]:
        """The facets of a text in which `@handle` of somebody is."""
        start = text.encode().index(f"@{who.handle}".encode())
        index = {"byteStart": start, "byteEnd": start + len(who.handle) + 1}
        return [{"index": index, "features": [{"$type": "app.bsky.richtext.facet#mention", "did": who.did}]}]

    def reply(self, to: Json, root: Json | None = None) -> Json:
        return {"root": strong(root or to), "parent": strong(to)}

    def blob(self, mime: str, data: bytes) -> Json:
        cid = cid_of(data, 0x55)
        self.blobs[cid] = (mime, data)
        return {"$type": "blob", "ref": {"$link": cid}, "mimeType": mime, "size": len(data)}

    def posts(self, who: Account) -> list[Json]:
        """Somebody's posts in the order they came."""
        mine = [uri for uri in self.records if uri.startswith(f"at://{who.did}/{POST}/")]
        return [{"uri": uri, "cid": self.records[uri][1], **self.records[uri][0]} for uri in mine]

    # Requests

    async def _answer(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.asked.append(method)
        try:
            body = await self._serve(request, method)
        except Refusal as error:
            told = {"error": error.error, "message": str(error)}
            return web.json_response(told, status=error.status, headers=error.headers)
        except Invalid as error:
            return web.json_response({"error": "InvalidRequest", "message": str(error)}, status=400)
        output = DEFS[f"{method}#main"].get("output", {}).get("schema")
        if output and not self.lenient:
            check(output, body, "output")
        return web.json_response(body)

    async def _serve(self, request: web.Request, method: str) -> Json:
        schema = DEFS.get(f"{method}#main")
        act = getattr(self, "_" + method.replace(".", "_"), None)
        if schema is None or (act is None and method != UPLOAD):
            raise Refusal(501, "MethodNotImplemented", "Method Not Implemented")
        if request.method != ("GET" if schema["type"] == "query" else "POST"):
            raise Refusal(400, "InvalidRequest", f"Incorrect HTTP method ({request.method})")
        who = self._who(request, method)
        if method == UPLOAD:
            return {"blob": self.blob(request.content_type, await request.read())}
        given = self._params(request, schema) if schema["type"] == "query" else await self._input(request, schema)
        return dict(act(who, given))

    def _who(self, request: web.Request, method: str) -> Account | None:
        if method in ("com.atproto.server.createSession", "com.atproto.identity.resolveHandle"):
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Refusal(401, "AuthMissing", "Authentication Required")
        kind, did = self.tokens.get(token, ("", ""))
        if not did:
            raise Refusal(400, "InvalidToken", "Token could not be verified")
        if kind != ("refresh" if method == "com.atproto.server.refreshSession" else "access"):
            raise Refusal(400, "InvalidToken", "Bad token scope")
        if token in self.expired:
            raise Refusal(400, "ExpiredToken", "Token has expired")
        who = self.accounts[did]
        if method.startswith("chat."):
            if not who.privileged:
                raise Refusal(400, "InvalidToken", "Bad token method")
            if request.headers.get("atproto-proxy") != CHAT:
                raise Refusal(501, "MethodNotImplemented", "Method Not Implemented")
        if kind == "refresh":
            del self.tokens[token]
        return who

    def _params(self, request: web.Request, schema: Json) -> Json:
        known = schema.get("parameters", {"type": "params", "properties": {}})
        given: Json = {}
        for name in request.query:
            values = request.query.getall(name)
            kind = known["properties"].get(name, {}).get("type")
            if kind == "integer" and values[0].isdecimal():
                given[name] = int(values[0])
            else:
                given[name] = values if kind == "array" else values[0]
        check(known, given, "params")
        return given

    async def _input(self, request: web.Request, schema: Json) -> Json:
        if "input" not in schema:
            if await request.read():
                raise Refusal(400, "InvalidRequest", "A request body was provided when none was expected")
            return {}
        if request.content_type != "application/json":
            raise Refusal(400, "InvalidRequest", f"Wrong request encoding (Content-Type): {request.content_type}")
        given = await request.json()
        check(schema["input"]["schema"], given)
        return dict(given)

    async def _document(self, request: web.Request) -> web.Response:
        who = self.accounts.get(request.match_info["did"])
        if who is None:
            return web.json_response({"message": f"DID not registered: {request.match_info['did']}"}, status=404)
        return web.json_response(self._did(who))

    def _did(self, who: Account) -> Json:
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self.home}
        return {"id": who.did, "alsoKnownAs": [f"at://{who.handle}"], "service": [service]}

    async def _image(self, request: web.Request) -> web.Response:
        mime, data = self.blobs[request.match_info["cid"]]
        return web.Response(body=data, content_type=mime)

    # Sessions

    def _com_atproto_identity_resolveHandle(self, _: None, given: Json) -> Json:
        for one in self.accounts.values():
            if one.handle == given["handle"]:
                return {"did": one.did}
        raise Refusal(400, "HandleNotFound", "Unable to resolve handle")

    def _com_atproto_server_createSession(self, _: None, given: Json) -> Json:
        found = [one for one in self.accounts.values() if given["identifier"] in (one.handle, one.did)]
        if not found or found[0].password != given["password"]:
            raise Refusal(401, "AuthenticationRequired", "Invalid identifier or password")
        if found[0].status == "takendown":
            raise Refusal(401, "AccountTakedown", "Account has been taken down")
        return self._session(found[0])

    def _com_atproto_server_refreshSession(self, who: Account, _: Json) -> Json:
        return self._session(who)

    def _com_atproto_server_getSession(self, who: Account, _: Json) -> Json:
        return {"did": who.did, "handle": who.handle}

    def _session(self, who: Account) -> Json:
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.tokens |= {access: ("access", who.did), refresh: ("refresh", who.did)}
        told = {"accessJwt": access, "refreshJwt": refresh, "did": who.did, "handle": who.handle}
        told |= {"active": not who.status} | ({"status": who.status} if who.status else {})
        return told | {"didDoc": self._did(who)}

    # Records

    def _com_atproto_repo_createRecord(self, who: Account, given: Json) -> Json:
        self._spend(who, 3)
        return self._write(who, given, new=True)

    def _com_atproto_repo_putRecord(self, who: Account, given: Json) -> Json:
        self._spend(who, 2)
        return self._write(who, given, new=False)

    def _write(self, who: Account, given: Json, new: bool) -> Json:
        self._mine(who, given)
        uri = f"at://{who.did}/{given['collection']}/{given.get('rkey') or tid()}"
        record = {"$type": given["collection"], **given["record"]}
        if record["$type"] != given["collection"]:
            raise Invalid(f"Invalid $type: expected {given['collection']}, got {record['$type']}")
        check(DEFS[f"{given['collection']}#main"], record, "record")
        check({"type": "string", "format": "tid"}, uri.rpartition("/")[2], "rkey")
        for cid in blobs_of(record):
            if cid not in self.blobs:
                raise Refusal(400, "BlobNotFound", f"Could not find blob: {cid}")
        cid = cid_of(json.dumps(record, sort_keys=True).encode())
        current = self.records.get(uri)
        if current is not None and current[1] != cid:
            if new:
                raise Refusal(500, "InternalServerError", "Internal Server Error")
            if "swapRecord" in given and given["swapRecord"] != current[1]:
                raise Refusal(400, "InvalidSwap", f"Record was at {current[1]}")
        self.records[uri] = (record, cid)
        if current is None:
            self._notify(who, uri, cid, record)
        return {"uri": uri, "cid": cid, "validationStatus": "valid"}

    def _com_atproto_repo_deleteRecord(self, who: Account, given: Json) -> Json:
        self._mine(who, given)
        self._spend(who, 1)
        self.records.pop(f"at://{who.did}/{given['collection']}/{given['rkey']}", None)
        self.news()
        return {}

    def _com_atproto_repo_getRecord(self, _: Account, given: Json) -> Json:
        uri = f"at://{given['repo']}/{given['collection']}/{given['rkey']}"
        if uri not in self.records:
            raise Refusal(400, "RecordNotFound", f"Could not locate record: {uri}")
        record, cid = self.records[uri]
        return {"uri": uri, "cid": cid, "value": record}

    def _mine(self, who: Account, given: Json) -> None:
        if given["repo"] not in (who.did, who.handle):
            raise Refusal(401, "AuthenticationRequired", "Authentication Required")

    def _spend(self, who: Account, points: int) -> None:
        spent = self.points[who.did] = self.points.get(who.did, 0) + points
        if self.allowed is not None and spent > self.allowed:
            reset = str(int(time.time()) + 3600)
            headers = {"ratelimit-limit": str(self.allowed), "ratelimit-remaining": "0", "ratelimit-reset": reset}
            raise Refusal(429, "RateLimitExceeded", "Rate Limit Exceeded", **headers)

    # The network's view

    def _notify(self, who: Account, uri: str, cid: str, record: Json) -> None:
        told = {who.did}
        self._times[uri] = time.time()
        for did, reason, subject in self._told(uri, record):
            if did not in told and did in self.accounts:
                told.add(did)
                self._inform(did, reason, subject, who, uri, cid, record)
        self.news()

    def _inform(self, did: str, reason: str, subject: str, who: Account, uri: str, cid: str, record: Json) -> None:
        self._latest = max(time.time(), self._latest + 0.001)
        view = {"uri": uri, "cid": cid, "author": who.basic(), "reason": reason, "record": record, "isRead": False}
        view |= {"indexedAt": iso(self._latest)} | ({"reasonSubject": subject} if subject else {})
        self.accounts[did].notifications.append(view)

    def _told(self, uri: str, record: Json) -> Iterable[tuple[str, str, str]]:
        for one in record.get("facets", ()):
            for feature in one["features"]:
                if feature["$type"].endswith("#mention"):
                    yield feature["did"], "mention", ""
        quoted = record.get("embed", {}).get("record", {})
        quoted = quoted.get("record", quoted).get("uri", "")
        if quoted:
            yield owner(quoted), "quote", quoted
        above = record.get("reply", {}).get("parent", {}).get("uri")
        for _ in range(DEPTH):
            if above not in self.records:
                return
            yield owner(above), "reply", above
            above = self.records[above][0].get("reply", {}).get("parent", {}).get("uri")

    def _app_bsky_notification_listNotifications(self, who: Account, given: Json) -> Json:
        before, limit = given.get("cursor", "9"), given.get("limit", 50)
        page = [one for one in reversed(who.notifications) if one["indexedAt"] < before][:limit]
        reasons = given.get("reasons")
        shown = [one for one in page if reasons is None or one["reason"] in reasons]
        return {"notifications": shown} | ({"cursor": page[-1]["indexedAt"]} if len(page) == limit else {})

    def _app_bsky_feed_getPosts(self, _: Account, given: Json) -> Json:
        return {"posts": [self._view(uri) for uri in given["uris"] if uri in self.records]}

    def _view(self, uri: str) -> Json:
        record, cid = self.records[uri]
        view = {"uri": uri, "cid": cid, "author": self.accounts[owner(uri)].basic(), "record": record}
        images = record.get("embed", {}).get("images")
        if images:
            address = f"{self.url}/img/{owner(uri)}/"
            shown = [(address + one["image"]["ref"]["$link"], one["alt"]) for one in images]
            views = [{"thumb": url, "fullsize": url, "alt": alt} for url, alt in shown]
            view["embed"] = {"$type": "app.bsky.embed.images#view", "images": views}
        return view | {"indexedAt": iso(self._times[uri])}

    # The chat service

    def _chat_bsky_convo_getLog(self, who: Account, given: Json) -> Json:
        cursor = given.get("cursor")
        if cursor is None:
            return {"logs": [], "cursor": who.log[-1]["rev"] if who.log else "0" * 13}
        first = next((n for n, one in enumerate(reversed(who.log)) if one["rev"] <= cursor), len(who.log))
        page = who.log[len(who.log) - first :][:LOG]
        return {"logs": page, "cursor": page[-1]["rev"] if page else cursor}

    def _chat_bsky_convo_getConvo(self, who: Account, given: Json) -> Json:
        convo = self._of(who, given)
        kind: Json = {"$type": f"{CONVO}#directConvo"}
        if convo.group:
            kind = {"$type": f"{CONVO}#groupConvo", "createdAt": iso(0), "lockStatus": "unlocked", "name": convo.group}
            kind |= {"lockStatusModerationOverride": False, "memberCount": len(convo.members), "memberLimit": 50}
        view = {"id": convo.id, "rev": self._rev(), "muted": False, "unreadCount": 0, "kind": kind}
        view |= {"status": "accepted" if who.did in convo.accepted else "request"}
        return {"convo": view | {"members": [self.accounts[did].basic() for did in convo.members]}}

    def _chat_bsky_convo_acceptConvo(self, who: Account, given: Json) -> Json:
        convo = self._of(who, given)
        fresh = who.did not in convo.accepted
        convo.accepted.add(who.did)
        return {"rev": self._rev()} if fresh else {}

    def _chat_bsky_convo_sendMessage(self, who: Account, given: Json) -> Json:
        convo = self._of(who, given)
        if who.did not in convo.accepted:
            raise Refusal(400, "InvalidConvo", "The conversation is a request")
        return self.message(who, convo, **given["message"])

    def _chat_bsky_convo_getMessages(self, who: Account, given: Json) -> Json:
        shown = [one for one in self._of(who, given).messages if one["id"] not in who.hidden]
        return {"messages": shown[::-1][: given.get("limit", 50)]}

    def _chat_bsky_convo_deleteMessageForSelf(self, who: Account, given: Json) -> Json:
        convo = self._of(who, given)
        view = self._find(convo, given["messageId"], "InvalidConvo")
        who.hidden.add(view["id"])
        deleted = {"$type": f"{CONVO}#deletedMessageView"} | {
            one: view[one] for one in ("id", "rev", "sender", "sentAt")
        }
        self._enter(who, "logDeleteMessage", convo, message=deleted)
        return deleted

    def _chat_bsky_convo_addReaction(self, who: Account, given: Json) -> Json:
        if given["value"].isascii():
            raise Refusal(400, "ReactionInvalidValue", "Not an emoji")
        return {"message": self.reacted(who, self._of(who, given), given["messageId"], given["value"])}

    def _chat_bsky_convo_removeReaction(self, who: Account, given: Json) -> Json:
        view = self._find(self._of(who, given), given["messageId"], "InvalidConvo")
        gone = (given["value"], {"did": who.did})
        view["reactions"] = [one for one in view["reactions"] if (one["value"], one["sender"]) != gone]
        self.news()
        return {"message": view}

    def _of(self, who: Account, given: Json) -> Convo:
        convo = self.convos.get(given["convoId"])
        if convo is None or who.did not in convo.members:
            raise Refusal(400, "InvalidConvo", "Convo not found")
        return convo

    def _find(self, convo: Convo, id: str, error: str) -> Json:
        for one in reversed(convo.messages):
            if one["id"] == id:
                return one
        raise Refusal(400, error, "Message not found")

    def _tell(self, convo: Convo, kind: str, rev: str, **entry: Any) -> None:
        for did in convo.members:
            self._enter(self.accounts[did], kind, convo, rev, **entry)

    def _enter(self, who: Account, kind: str, convo: Convo, rev: str = "", **entry: Any) -> None:
        who.log.append({"$type": f"{CONVO}#{kind}", "rev": rev or self._rev(), "convoId": convo.id, **entry})
        self.news()

    def _rev(self) -> str:
        return f"{next(self._revs):013}"


def owner(uri: str) -> str:
    return uri.split("/")[2]


def strong(ref: Json) -> Json:
    return {"uri": ref["uri"], "cid": ref["cid"]}


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tid() -> str:
    """https://atproto.com/specs/tid"""
    value = time.time_ns() // 1000 << 10 | secrets.randbelow(1024)
    letters = "234567abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[value >> shift & 31] for shift in range(60, -1, -5))


def cid_of(data: bytes, codec: int = 0x71) -> str:
    """A version 1 content identifier: https://atproto.com/specs/data-model#link-and-cid-formats"""
    raw = bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def blobs_of(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if value.get("$type") == "blob":
            yield value["ref"]["$link"]
        for one in value.values():
            yield from blobs_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from blobs_of(one)
