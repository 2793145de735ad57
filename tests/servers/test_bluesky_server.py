from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from servers.bluesky import CHAT, POST, Account, BlueskyServer, cid_of, tid
from servers.bluesky_lexicon import Invalid, check, graphemes

Json = dict[str, Any]


class Client:
    def __init__(self, platform: BlueskyServer, who: Account, session: aiohttp.ClientSession) -> None:
        self.platform, self.who, self.session, self.token = platform, who, session, ""

    async def ask(self, method: str, body: Json | None = None, proxy: str = "", **params: Any) -> tuple[int, Json]:
        headers = {"Authorization": f"Bearer {self.token}"} | ({"atproto-proxy": proxy} if proxy else {})
        verb = "GET" if body is None else "POST"
        content = {"json": body} if body else {}
        url = f"{self.platform.url}/xrpc/{method}"
        async with self.session.request(verb, url, params=params, headers=headers, **content) as answer:
            return answer.status, await answer.json()

    async def enter(self) -> None:
        login = {"identifier": self.who.handle, "password": self.who.password}
        status, told = await self.ask("com.atproto.server.createSession", login)
        assert status == 200
        self.token = told["accessJwt"]

    async def put(self, text: str, rkey: str = "", **more: Any) -> tuple[int, Json]:
        record = {"$type": POST, "text": text, "createdAt": "2026-01-01T00:00:00.000Z", **more}
        body = {"repo": self.who.did, "collection": POST, "rkey": rkey or tid(), "record": record}
        return await self.ask("com.atproto.repo.putRecord", body | {"swapRecord": None})


@pytest.fixture
async def ann() -> AsyncIterator[Client]:
    async with BlueskyServer() as platform, aiohttp.ClientSession() as session:
        client = Client(platform, platform.account("ann.example.org"), session)
        await client.enter()
        yield client


async def test_only_the_right_password_and_a_fresh_token_let_in(ann: Client) -> None:
    login = {"identifier": ann.who.handle, "password": "wrong"}
    assert (await ann.ask("com.atproto.server.createSession", login))[0] == 401
    assert (await ann.put("hello"))[0] == 200
    ann.platform.expire()
    status, told = await ann.put("hello")
    assert (status, told["error"]) == (400, "ExpiredToken")
    ann.token = "made up"
    assert (await ann.put("hello"))[1]["error"] == "InvalidToken"
    ann.token = ""
    assert (await ann.put("hello"))[0] == 401


async def test_a_refresh_token_works_once_and_for_nothing_else(ann: Client) -> None:
    access = ann.token
    ann.token = next(token for token, (kind, _) in ann.platform.tokens.items() if kind == "refresh")
    assert (await ann.put("hello"))[1]["message"] == "Bad token scope"
    refresh = ann.token
    status, told = await ann.ask("com.atproto.server.refreshSession", {})
    assert status == 200 and told["accessJwt"] != access
    assert (await ann.ask("com.atproto.server.refreshSession", {}))[0] == 400
    assert refresh == ann.token


@pytest.mark.parametrize(
    ("text", "more", "problem"),
    [
        ("x" * 301, {}, "300 graphemes"),
        ("👨‍👩‍👧‍👦" * 121, {}, "3000 bytes"),
        ("hello", {"langs": ["english please"]}, "language"),
        ("hello", {"langs": ["en", "nl", "de", "fr"]}, "too many"),
        ("hello", {"createdAt": "yesterday"}, "datetime"),
        ("hello", {"facets": [{"index": {"byteStart": 0, "byteEnd": 5}}]}, "features"),
        ("hello", {"reply": {"root": {"uri": "at://did:plc:a/app.bsky.feed.post/b", "cid": "x"}}}, "parent"),
        ("hello", {"colour": "red"}, "unknown property"),
        ("hello", {"embed": {"$type": "app.bsky.embed.images", "images": [{"image": {}}]}}, "alt"),
    ],
)
async def test_a_post_is_held_to_its_schema(ann: Client, text: str, more: Json, problem: str) -> None:
    status, told = await ann.put(text, **more)
    assert (status, told["error"]) == (400, "InvalidRequest")
    assert problem in told["message"]
    assert not ann.platform.posts(ann.who)


async def test_a_name_is_given_to_one_record_only(ann: Client) -> None:
    rkey = tid()
    assert (await ann.put("hello", rkey))[0] == 200
    assert (await ann.put("hello", rkey))[0] == 200, "the same again changes nothing"
    status, told = await ann.put("other", rkey)
    assert (status, told["error"]) == (400, "InvalidSwap")
    record = {"$type": POST, "text": "other", "createdAt": "2026-01-01T00:00:00Z"}
    body = {"repo": ann.who.did, "collection": POST, "rkey": rkey, "record": record}
    assert (await ann.ask("com.atproto.repo.createRecord", body))[0] == 500
    assert [one["text"] for one in ann.platform.posts(ann.who)] == ["hello"]
    assert (await ann.put("hello", "not-a-tid"))[0] == 400


async def test_a_picture_must_be_there_and_be_one(ann: Client) -> None:
    def shown(blob: Json) -> Json:
        return {"embed": {"$type": "app.bsky.embed.images", "images": [{"image": blob, "alt": ""}]}}

    assert (await ann.put("", **shown(ann.platform.blob("image/png", b"x"))))[0] == 200
    assert (await ann.put("", **shown(ann.platform.blob("text/plain", b"y"))))[0] == 400
    assert (await ann.put("", **shown(ann.platform.blob("image/png", b"z" * 2_000_001))))[0] == 400
    gone = {"$type": "blob", "ref": {"$link": cid_of(b"gone", 0x55)}, "mimeType": "image/png", "size": 4}
    assert (await ann.put("", **shown(gone)))[1]["error"] == "BlobNotFound"


async def test_messages_need_the_chat_service_a_privileged_password_and_an_accepted_conversation(ann: Client) -> None:
    bob = ann.platform.account("bob.example.org")
    convo = ann.platform.converse(bob, ann.who, accepted=False)
    body = {"convoId": convo.id, "message": {"text": "hello"}}
    assert (await ann.ask("chat.bsky.convo.sendMessage", body))[0] == 501
    assert (await ann.ask("chat.bsky.convo.sendMessage", body, CHAT))[1]["error"] == "InvalidConvo"
    assert (await ann.ask("chat.bsky.convo.acceptConvo", {"convoId": convo.id}, CHAT))[0] == 200
    assert (await ann.ask("chat.bsky.convo.sendMessage", body, CHAT))[0] == 200
    long = {"convoId": convo.id, "message": {"text": "x" * 1001}}
    assert (await ann.ask("chat.bsky.convo.sendMessage", long, CHAT))[0] == 400
    ann.who.privileged = False
    status, told = await ann.ask("chat.bsky.convo.getLog", None, CHAT)
    assert (status, told["message"]) == (400, "Bad token method")


async def test_the_log_goes_on_after_a_cursor(ann: Client) -> None:
    bob = ann.platform.account("bob.example.org")
    convo = ann.platform.converse(ann.who, bob)
    _, start = await ann.ask("chat.bsky.convo.getLog", None, CHAT)
    assert start["logs"] == []
    for number in range(130):
        ann.platform.message(bob, convo, text=f"n{number}")
    _, first = await ann.ask("chat.bsky.convo.getLog", None, CHAT, cursor=start["cursor"])
    _, rest = await ann.ask("chat.bsky.convo.getLog", None, CHAT, cursor=first["cursor"])
    told = [one["message"]["text"] for one in first["logs"] + rest["logs"]]
    assert told == [f"n{number}" for number in range(130)]


async def test_mentions_quotes_and_replies_up_to_five_above_are_told(ann: Client) -> None:
    platform = ann.platform
    bob = platform.account("bob.example.org")
    first = platform.post(bob, "first")
    above = first
    for number in range(6):
        above = platform.post(ann.who, f"reply {number}", reply=platform.reply(above, first))
    assert [one["reason"] for one in bob.notifications] == ["reply"] * 5
    text = f"@{ann.who.handle} look"
    platform.post(bob, text, facets=platform.mention(ann.who, text))
    quote = {"$type": "app.bsky.embed.record", "record": {"uri": above["uri"], "cid": above["cid"]}}
    platform.post(bob, "see", embed=quote)
    _, told = await ann.ask("app.bsky.notification.listNotifications", limit=1)
    assert [one["reason"] for one in told["notifications"]] == ["quote"]
    _, more = await ann.ask("app.bsky.notification.listNotifications", cursor=told["cursor"], reasons="mention")
    assert [one["reason"] for one in more["notifications"]] == ["mention"]


async def test_who_writes_too_much_is_told_until_when_to_wait(ann: Client) -> None:
    ann.platform.allowed = 3
    assert (await ann.put("one"))[0] == 200
    assert (await ann.put("two"))[0] == 429


def test_what_people_see_as_one_character_counts_as_one() -> None:
    assert graphemes("👨‍👩‍👧‍👦e\u0301🇳🇱") == 3
    with pytest.raises(Invalid, match="did"):
        check({"type": "string", "format": "did"}, "ann.example.org")
