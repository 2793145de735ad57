"""Slack with events by HTTP: what only this way has. The scenarios of every channel are in test_conformance_*.py."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kit.talk import Talk
from rigs.slack import SlackHttpRig
from servers.slack import Delivery

from roost.channels.slack_front import Front

# https://docs.slack.dev/authentication/verifying-requests-from-slack, the example
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
STAMP = "1531420618"
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SlackHttpRig]:
    one = SlackHttpRig(tmp_path)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


class Shown:
    """As much of a request as a signature needs."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def verified(monkeypatch: pytest.MonkeyPatch, now: float, body: bytes = BODY, **headers: str) -> bool:
    monkeypatch.setattr("slack_sdk.signature.time", lambda: now)
    request: Any = Shown(**headers)
    return Front("slack", SECRET, None).verify(request, body)  # type: ignore[arg-type]


def test_the_signature_that_slack_publishes_is_good_for_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"X_Slack_Signature": SIGNATURE, "X_Slack_Request_Timestamp": STAMP}
    assert verified(monkeypatch, float(STAMP) + 299, **shown)
    assert not verified(monkeypatch, float(STAMP) + 301, **shown)
    assert not verified(monkeypatch, float(STAMP) - 301, **shown)
    assert not verified(monkeypatch, float(STAMP), BODY + b"&a=1", **shown)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"X_Slack_Signature": SIGNATURE},
        {"X_Slack_Request_Timestamp": STAMP},
        {"X_Slack_Signature": SIGNATURE, "X_Slack_Request_Timestamp": "soon"},
        {"X_Slack_Signature": "v0=é", "X_Slack_Request_Timestamp": STAMP},
        {"X_Slack_Signature": "", "X_Slack_Request_Timestamp": STAMP},
    ],
)
def test_a_request_without_a_whole_signature_is_refused(shown: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not verified(monkeypatch, float(STAMP), **shown)


async def test_the_challenge_of_a_new_request_url_is_answered_only_when_it_is_signed(
    rig: SlackHttpRig, tmp_path: Path
) -> None:
    async with Talk(rig, tmp_path).up():
        body, headers = rig._server.signed(
            Delivery("events_api", {"type": "url_verification", "challenge": "abc", "token": "deprecated"})
        )
        async with aiohttp.ClientSession() as session:
            async with session.post(rig._server.request_url, data=body, headers=headers) as answer:
                assert (answer.status, await answer.json()) == (200, {"challenge": "abc"})
            async with session.post(rig._server.request_url, data=body) as answer:
                assert answer.status == 401


async def test_what_slack_brings_a_second_time_is_answered_once(rig: SlackHttpRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up():
        await rig.say("one")
        await rig.answers(1)
        again = rig._server.acknowledged[0]
        body, headers = rig._server.signed(again)
        headers |= {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        assert await rig._post(body, headers) == 200
        await rig.say("two")
        assert [one.text for one in await rig.answers(2)] == ["echo one", "echo two"]


async def test_buttons_and_commands_come_as_signed_forms(rig: SlackHttpRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up():
        await rig._direct.command(rig.ann, "/roost", "tea & <cake>?")
        await rig.answers(1)
        assert talk.said[-1].text == "tea & <cake>?" or "tea &" in talk.said[-1].text
        assert json.dumps(talk.said[-1].ticket).startswith('"http')
        assert time.time() - talk.said[-1].at < 60
