"""The Slack server against clients that know nothing of it: plain HTTP, slack_sdk and Bolt, unmodified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from servers.slack import Conversation, SlackServer
from servers.slack_blocks import check, seen

RICH = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "hi"}]}]}


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer() as server:
        yield server


@pytest.fixture
def chat(slack: SlackServer) -> Conversation:
    return slack.direct(slack.person("Ann", "ann"))


@pytest.fixture
def client(slack: SlackServer) -> AsyncWebClient:
    return AsyncWebClient(slack.token, f"{slack.url}/api/", retry_handlers=[])


async def error(call: Any) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


async def test_an_unmodified_bolt_app_talks_by_socket_mode(slack: SlackServer, chat: Conversation) -> None:
    app = AsyncApp(client=AsyncWebClient(slack.token, f"{slack.url}/api/"))

    @app.message("hello")
    async def answer(message: Any, say: Any) -> None:
        await say(f"Hey <@{message['user']}>!")

    handler = AsyncSocketModeHandler(app, slack.app_token)
    await handler.connect_async()
    try:
        await chat.say(slack.people["U0ANN"], "hello there")
        async with asyncio.timeout(30):
            while not (chat.messages[-1].get("bot_id") and slack.acknowledged):
                await asyncio.sleep(0.01)
    finally:
        await handler.close_async()
    assert chat.messages[-1]["text"] == "Hey <@U0ANN>!"
    assert not [one for one in slack.complaints if "acknowledgement" in one]


async def test_tokens_and_scopes_are_checked(slack: SlackServer, client: AsyncWebClient) -> None:
    wrong = AsyncWebClient("xoxb-wrong", f"{slack.url}/api/", retry_handlers=[])
    assert await error(wrong.auth_test()) == "invalid_auth"
    swapped = AsyncWebClient(slack.app_token, f"{slack.url}/api/", retry_handlers=[])
    assert await error(swapped.auth_test()) == "not_allowed_token_type"
    assert await error(client.apps_connections_open(app_token=slack.token)) == "not_allowed_token_type"
    slack.scopes.discard("users:read")
    assert await error(client.users_info(user="U0ANN")) == "missing_scope"
    async with aiohttp.ClientSession() as session, session.post(f"{slack.url}/api/auth.test") as answer:
        assert await answer.json() == {"ok": False, "error": "not_authed"}


async def test_messages_are_checked_as_slack_checks_them(
    slack: SlackServer, chat: Conversation, client: AsyncWebClient
) -> None:
    assert await error(client.api_call("chat.postMessage", json={"text": "hi"})) == "channel_not_found"
    assert await error(client.api_call("chat.postMessage", json={"channel": "C0NONE", "text": "hi"})) == (
        "channel_not_found"
    )
    assert await error(client.api_call("chat.postMessage", json={"channel": chat.id})) == "no_text"
    sent = await client.chat_postMessage(channel=chat.id, text="hi", blocks=[RICH])
    long = {"channel": chat.id, "ts": sent["ts"], "text": "x" * 4001}
    assert await error(client.api_call("chat.update", json=long)) == "msg_too_long"
    other = {**long, "text": "x", "blocks": [{"type": "divider"}]}
    assert await error(client.api_call("chat.update", json=other)) == "block_mismatch"
    said = await chat.say(slack.people["U0ANN"], "mine")
    assert await error(client.chat_update(channel=chat.id, ts=said["ts"], text="x")) == "cant_update_message"
    assert await error(client.chat_delete(channel=chat.id, ts="1.0")) == "message_not_found"
    await client.chat_postMessage(channel=chat.id, text="x" * 40_001)
    await client.api_call("users.info", json={"user": "U0ANN"}, params={"user": "U0ANN", "odd": "1"})
    assert slack.complaints == ["chat.postMessage: message_truncated", "users.info takes no JSON", "users.info: odd"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "odd"},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": []}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": ""}]}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_list", "style": "odd", "elements": []}]},
        {"type": "rich_text", "elements": [], "odd": 1},
        {"type": "actions", "elements": []},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "x" * 76}}]},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "mrkdwn", "text": "x"}}]},
        {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}},
    ],
)
def test_a_block_that_slack_would_refuse_is_refused(block: Any) -> None:
    assert check([block])
    assert not check([RICH])


def test_people_see_words_and_no_markup() -> None:
    assert seen({"text": "*a* &lt;b&gt; <https://x.org|c>"}) == "a <b> c"
    assert seen({"text": "other", "blocks": [RICH]}) == "hi"


async def test_a_pause_is_asked_for_with_a_header(
    slack: SlackServer, chat: Conversation, client: AsyncWebClient
) -> None:
    slack.rates = 60.0
    await client.chat_postMessage(channel=chat.id, text="one")
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=chat.id, text="two")
    response = caught.value.response
    assert (response.status_code, response["error"], response.headers["Retry-After"]) == (429, "ratelimited", "1")


async def test_a_ticket_is_good_for_one_connection(slack: SlackServer, client: AsyncWebClient) -> None:
    url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)


async def test_what_was_not_acknowledged_comes_again_and_says_so(
    slack: SlackServer, chat: Conversation, client: AsyncWebClient
) -> None:
    await chat.say(slack.people["U0ANN"], "hello")
    tries = []
    async with aiohttp.ClientSession() as session:
        for acknowledge in (False, True):
            url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
            async with session.ws_connect(url) as socket:
                await socket.receive_json()
                envelope = await socket.receive_json()
                tries.append(envelope["retry_attempt"])
                if acknowledge:
                    await socket.send_str(json.dumps({"envelope_id": envelope["envelope_id"]}))
                    async with asyncio.timeout(30):
                        while not slack.acknowledged:
                            await asyncio.sleep(0.01)
    assert tries == [0, 1]


async def test_deliveries_by_http_are_signed_and_repeated(chat: Conversation, slack: SlackServer) -> None:
    delivery = await slack.deliver("slash_commands", {"command": "/roost", "text": "tea & cake"})
    body, headers = slack.signed(delivery)
    assert SignatureVerifier(slack.signing_secret).is_valid_request(body, headers)
    assert not SignatureVerifier(slack.signing_secret).is_valid_request(body, slack.signed(delivery, at=1.0)[1])


async def test_a_file_goes_up_in_three_steps_and_comes_down_with_a_token(
    slack: SlackServer, chat: Conversation, client: AsyncWebClient
) -> None:
    sent = await client.files_upload_v2(channel=chat.id, filename="tea.txt", content="tea", initial_comment="here")
    id = sent["files"][0]["id"]
    assert slack.contents[id] == b"tea"
    assert chat.messages[-1]["files"][0]["id"] == id
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {slack.token}"}) as session:
        async with session.get(f"{slack.url}/files/{id}") as answer:
            assert await answer.read() == b"tea"
        slack.scopes.discard("files:read")
        async with session.get(f"{slack.url}/files/{id}") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")


async def test_history_comes_newest_first_and_in_pages(
    slack: SlackServer, chat: Conversation, client: AsyncWebClient
) -> None:
    said = [await chat.say(slack.people["U0ANN"], f"n{number}") for number in range(5)]
    await chat.say(slack.people["U0ANN"], "aside", thread_ts=said[0]["ts"])
    texts, cursor = [], ""
    while True:
        page = await client.conversations_history(channel=chat.id, oldest=said[0]["ts"], limit=3, cursor=cursor)
        texts += [one["text"] for one in page["messages"]]
        cursor = page["response_metadata"]["next_cursor"]
        if not cursor:
            break
    assert texts == ["n4", "n3", "n2", "n1"]
    replies = await client.conversations_replies(channel=chat.id, ts=said[0]["ts"])
    assert [one["text"] for one in replies["messages"]] == ["n0", "aside"]
