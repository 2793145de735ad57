"""What doctor says of a web face: what is missing in a configuration, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certificates import certificate, keys

from roost.settings import WebTable
from roost.web_doubts import web_doubts

TOKEN = "a-token-of-more-than-that"
PUBLIC: dict[str, Any] = {"token": TOKEN, "public_url": "https://bot.example.org"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"host": "0.0.0.0"}, "host = '0.0.0.0' lets other machines reach the web face, and there is no token"),
    ({"public_url": "https://a.example"}, "public_url lets other machines reach the web face"),
    ({"trusted_proxies": ["127.0.0.1"]}, "trusted_proxies lets other machines reach the web face"),
    ({"host": "0.0.0.0", "token": "short"}, "token has 5 characters"),
    ({"trusted_proxies": ["127.0.0.1"], "token": "short"}, "token has 5 characters"),
    ({"host": "0.0.0.0", "token": TOKEN}, "can be read on the way. Put a proxy with TLS before it"),
    ({"public_url": "http://a.example", "token": TOKEN}, "can be read on the way"),
    ({"trusted_proxies": ["127.0.0.1"], "token": TOKEN}, "can be read on the way"),
    (PUBLIC | {"trusted_proxies": ["0.0.0.0/0", "10.0.0.1"]}, "trusted_proxies has '0.0.0.0/0': anybody there can"),
    (PUBLIC | {"trusted_proxies": ["::/0"]}, "trusted_proxies has '::/0'"),
    (PUBLIC | {"trusted_proxies": ["nginx"]}, "trusted_proxies has 'nginx', which is no address or network"),
    (PUBLIC | {"certificate": "/no/such.pem"}, "certificate = '/no/such.pem' cannot be read"),
    (PUBLIC | {"certificate_key": "/key.pem", "trusted_proxies": ["127.0.0.1"]}, "certificate_key and no certificate"),
]
ADVICE: list[tuple[dict[str, Any], str]] = [
    ({"token": "short"}, "token has 5 characters"),
    (PUBLIC, "all visitors have the same address"),
    (PUBLIC | {"host": "0.0.0.0", "trusted_proxies": ["10.0.0.2"]}, "is also reached past the proxy of public_url"),
]
FINE: list[dict[str, Any]] = [
    {},
    {"token": TOKEN},
    PUBLIC | {"trusted_proxies": ["127.0.0.1", "10.1.0.0/16"]},
]


def said(table: dict[str, Any], wrong: bool) -> list[str]:
    return [one.text for one in web_doubts(WebTable(**table)) if one.wrong is wrong]


@pytest.mark.parametrize(("table", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_what_is_wrong_is_named(table: dict[str, Any], sentence: str) -> None:
    assert [one for one in said(table, True) if sentence in one], said(table, True)


@pytest.mark.parametrize(("table", "sentence"), ADVICE, ids=[sentence for _, sentence in ADVICE])
def test_what_may_be_meant_is_advice(table: dict[str, Any], sentence: str) -> None:
    assert [one for one in said(table, False) if sentence in one], said(table, False)
    assert said(table, True) == []


@pytest.mark.parametrize("table", FINE, ids=str)
def test_what_is_guarded_is_not_complained_of(table: dict[str, Any]) -> None:
    assert list(web_doubts(WebTable(**table))) == []


def test_with_a_certificate_of_its_own_it_needs_no_proxy(tmp_path: Path) -> None:
    certificate(tmp_path)
    assert list(web_doubts(WebTable(host="0.0.0.0", **PUBLIC, **keys(tmp_path)))) == []
    assert list(web_doubts(WebTable(host="0.0.0.0", token=TOKEN, **keys(tmp_path)))) == []


def test_no_token_is_in_what_is_said() -> None:
    assert "hush-hush" not in str(list(web_doubts(WebTable(host="0.0.0.0", token="hush-hush"))))
