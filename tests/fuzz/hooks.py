"""Every webhook: how its platform signs, what keeps an old request out, and a bot on the other side of a socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from kit.rig import Rig
from rigs.slack import SlackHttpRig
from rigs.sms import BOT, SmsRig
from rigs.telegram import TelegramHookRig
from rigs.webhook import WebhookRig
from servers.sms import sign

from fuzz.oracle import outcome
from fuzz.targets import TARGETS
from roost.values import Message

Table = Mapping[str, Any]
Headers = dict[str, str]
NOWHERE = "https://bot.example"
SECRET, ANOTHER = ("whsec_" + base64.b64encode(bytes(range(first, first + 32))).decode() for first in (0, 32))


@dataclass(frozen=True, slots=True)
class Hook:
    """`sign` gives what the address ends with and the headers of a right request: from the channel's table, a body, a
    time and an id. `window` is how many seconds a signature counts; without one, `instead` says what there is, and
    `covers_body` is whether the signature is over the body at all. `clocks` are the names of what tells the time.
    """

    kind: str
    rig: type[Rig]
    target: str
    content_type: str
    sign: Callable[[Table, bytes, float, str], tuple[str, Headers]]
    table: Table
    window: float | None = None
    clocks: tuple[str, ...] = ()
    instead: str = ""
    covers_body: bool = True

    @property
    def path(self) -> str:
        return f"/channels/{self.kind}"

    def seeds(self) -> tuple[bytes, ...]:
        return TARGETS[self.target].seeds()

    def messages(self) -> tuple[bytes, ...]:
        """Those seeds that bring a message."""
        target = TARGETS[self.target]
        read = target.make()
        return tuple(
            seed for seed in self.seeds() if any(isinstance(one, Message) for one in outcome(target, read, seed))
        )


# How each platform signs


def by_telegram(table: Table, body: bytes, at: float, id: str) -> tuple[str, Headers]:
    """https://core.telegram.org/bots/api#setwebhook"""
    return "", {"X-Telegram-Bot-Api-Secret-Token": table["secret"]}


def by_slack(table: Table, body: bytes, at: float, id: str) -> tuple[str, Headers]:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    stamp = str(int(at))
    digest = hmac.new(table["signing_secret"].encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return "", {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}


def by_twilio(table: Table, body: bytes, at: float, id: str) -> tuple[str, Headers]:
    """https://www.twilio.com/docs/usage/security#validating-requests"""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        fields = []
    return "", {"X-Twilio-Signature": signed(table, f"{table['public_url']}/channels/sms", fields)}


def by_twilio_as_json(table: Table, body: bytes, at: float, id: str) -> tuple[str, Headers]:
    """The same page: a JSON body is covered by its hash in the address."""
    query = f"?bodySHA256={hashlib.sha256(body).hexdigest()}"
    return query, {"X-Twilio-Signature": signed(table, f"{table['public_url']}/channels/sms{query}", [])}


def signed(table: Table, url: str, fields: list[tuple[str, str]]) -> str:
    try:
        return sign(table["token"], url, fields)
    except UnicodeEncodeError:
        return "none"


def by_standard_webhooks(table: Table, body: bytes, at: float, id: str) -> tuple[str, Headers]:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    stamp, secret = str(int(at)), base64.b64decode(table["secret"].removeprefix("whsec_"))
    digest = hmac.new(secret, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    shown = f"v1,{base64.b64encode(digest).decode()}"
    return "", {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": shown}


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
TWILIO = {"account": "AC" + "0" * 32, "token": "a" * 32, "number": BOT, "mode": "webhook", "public_url": NOWHERE}
HOOKS = {
    "telegram": Hook(
        *("telegram", TelegramHookRig, "telegram", JSON, by_telegram),
        {"token": "1:x", "mode": "webhook", "public_url": NOWHERE, "secret": "s3cret-of-the-webhook"},
        instead="Telegram signs nothing: a secret header, and the number of a message counts once",
        covers_body=False,
    ),
    "slack": Hook(
        *("slack", SlackHttpRig, "slack", JSON, by_slack),
        {"token": "xoxb-1", "signing_secret": "8f742231b10e8888abcd99yyyzzz85a5", "mode": "http"},
        window=300,
        clocks=("slack_sdk.signature.time",),
    ),
    "sms": Hook(
        *("sms", SmsRig, "sms-form", FORM, by_twilio, TWILIO),
        instead="Twilio signs no time: the MessageSid, which it signs, counts once",
    ),
    "sms as JSON": Hook(
        *("sms", SmsRig, "sms", JSON, by_twilio_as_json, TWILIO),
        instead="Twilio signs no time: the MessageSid, which it signs, counts once",
    ),
    "webhook": Hook(
        *("webhook", WebhookRig, "webhook", JSON, by_standard_webhooks),
        {"secret": SECRET, "url": "http://127.0.0.1:9/replies"},
        window=300,
        clocks=("roost.channels.webhook.time.time",),
    ),
}
OTHER_ROUTES = {"web": "pages for people: a session and the Origin guard them, tests/test_web.py"}
"""Channels with routes that are no webhooks."""
