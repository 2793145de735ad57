from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Library
from standardwebhooks import WebhookVerificationError

from roost.channels.webhook import (
    BODY,
    TOLERANCE,
    check,
    check_body,
    check_url,
    follow,
    nameable,
    read,
    secret_bytes,
    signature,
    signed,
    verified,
    write,
)
from roost.dialects import HTML, MARKDOWN
from roost.errors import ConfigError, MaybeSent, NotSent, Undeliverable
from roost.media import Media
from roost.values import Attachment, Button, Place, Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLACE = Place("webhook", "tea", "7", "group")


def test_the_signature_is_that_of_the_specifications_example() -> None:
    body = b'{"test": 2432232314}'
    id, at = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
    assert signature(id, at, body, secret_bytes(SECRET, "w")) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_library_of_the_specification_takes_our_signature_and_we_take_its() -> None:
    import time

    now, secret, body = time.time(), secret_bytes(SECRET, "w"), b"{}"
    headers = signed("msg_1", body, secret, now)
    assert Library(SECRET).verify(body, headers) == {}
    with pytest.raises(WebhookVerificationError):
        Library(SECRET).verify(b"{ }", headers)
    assert verified(headers, body, secret, now)
    rotated = headers | {"webhook-signature": f"v1a,xx v1,wrong {headers['webhook-signature']}"}
    assert verified(rotated, body, secret, now)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "-5"},
    ],
)
def test_what_is_not_signed_as_it_stands_is_refused(changed: dict[str, str]) -> None:
    secret = secret_bytes(SECRET, "w")
    headers = signed("msg_1", b"{}", secret, 1000.0)
    assert verified(headers, b"{}", secret, 1000.0)
    assert not verified(headers | changed, b"{}", secret, 1000.0)


def test_an_old_post_and_one_from_the_future_are_refused() -> None:
    secret = secret_bytes(SECRET, "w")
    headers = signed("msg_1", b"{}", secret, 10_000.0)
    assert verified(headers, b"{}", secret, 10_000.0 + TOLERANCE)
    assert not verified(headers, b"{}", secret, 10_001.0 + TOLERANCE)
    assert not verified(headers, b"{}", secret, 9_999.0 - TOLERANCE)


def test_a_secret_that_is_none_comes_with_a_fresh_one() -> None:
    for wrong in ("", "whsec_", "whsec_c2hvcnQ=", "not base64!"):
        with pytest.raises(ConfigError, match="Here is a fresh one: whsec_") as caught:
            secret_bytes(wrong, "hook")
        secret_bytes(str(caught.value).rpartition(" ")[2], "hook")


@pytest.mark.parametrize("wrong", ["nonsense", "example.org/replies", "ftp://example.org/", "https://", "http://[x/"])
def test_a_place_for_replies_that_is_no_address_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"\[channels\.hook\] url = '.*' is no address"):
        check_url(wrong, "hook")
    check_url("http://127.0.0.1:8080/replies", "hook")


def test_a_post_is_read_by_the_paths_that_were_configured(tmp_path: Path) -> None:
    post = {"event": {"body": "hello", "from": [{"uid": 42, "nick": "Ann"}]}, "room": "tea", "group": True}
    paths = {"text": "event.body", "person": "event.from.0.uid", "name": "event.from.0.nick", "chat": "room"}
    message = read(post, "webhook", paths, "msg_1", Media(tmp_path))
    assert (message.text, str(message.place), message.place.kind) == ("hello", "webhook:tea", "group")
    assert (str(message.sender), message.sender.name, message.identity) == ("webhook:42", "Ann", "msg_1")
    assert follow(post, "event.from.1.uid") is None
    assert follow(post, "room.x") is None


@pytest.mark.parametrize(
    "post", [[], {}, {"text": 3.5, "person": []}, {"text": True}, {"text": "a", "files": [{"data": "!"}]}]
)
def test_a_post_without_a_message_says_what_is_missing(post: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        read(post, "webhook", {}, "msg_1", Media(tmp_path))


def test_a_reply_fills_the_template_and_nothing_in_it_can_break_out() -> None:
    reply = Reply('**a** "b" {chat} \\', (Attachment("image", "é.png", data=b"x"),), (Button("Yes", "y"),), quote="m1")
    body = json.loads(write(BODY, PLACE, reply, "id1", MARKDOWN))
    assert body["text"] == '**a** "b" {chat} \\\\' or body["text"] == '**a** "b" {chat} \\'
    assert (body["chat"], body["thread"], body["quote"], body["id"]) == ("tea", "7", "m1", "id1")
    assert base64.b64decode(body["files"][0]["data"]) == b"x"
    assert body["buttons"] == [{"text": "Yes", "value": "y", "url": ""}]
    own = json.loads(write('{"content": {text}, "to": {"room": {chat}}}', PLACE, reply, "id1", HTML))
    assert own["to"] == {"room": "tea"}
    assert "<strong>a</strong>" in own["content"]


def test_a_template_that_is_no_json_or_says_nothing_is_refused() -> None:
    for wrong, complaint in (("{text", "no JSON"), ('{"a": "{text}"}x', "no JSON"), ('{"a": {chat}}', "no {text}")):
        with pytest.raises(ConfigError, match=complaint):
            check_body(wrong, "hook")


def test_an_answers_status_tells_whether_to_send_again() -> None:
    check(204, {}, "u")
    with pytest.raises(NotSent) as caught:
        check(429, {"Retry-After": "7"}, "u")
    assert caught.value.retry_after == 7
    with pytest.raises(MaybeSent):
        check(502, {}, "u")
    for status in (301, 400, 404, 410):
        with pytest.raises(Undeliverable):
            check(status, {}, "u")


def test_the_secrets_of_an_address_are_in_no_sentence() -> None:
    assert nameable("https://bob:pw@example.org:8443/a/b?token=secret#x") == "https://example.org:8443/a/b"
    assert nameable("http://[::1]:80/") == "http://[::1]:80/"
