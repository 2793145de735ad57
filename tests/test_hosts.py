from __future__ import annotations

import socket

import pytest

from roost.hosts import bindable, is_address, is_loopback, own_names, reachable
from roost.settings import WebTable


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_these_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.5", "localhost.evil.example", "::ffff:192.168.1.5"])
def test_these_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_an_address_is_told_from_a_name() -> None:
    assert is_address("::1") and is_address("10.0.0.1")
    assert not is_address("[::1]") and not is_address("example.org") and not is_address("")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]"), ("nas", "nas")],
)
def test_what_listens_is_reachable_at(host: str, expected: str) -> None:
    assert reachable(host) == expected


def test_localhost_is_one_address_and_nothing_is_every_address() -> None:
    assert (bindable("localhost"), bindable(""), bindable("::1")) == ("127.0.0.1", None, "::1")


def test_the_machine_has_its_own_name_only_where_others_may_come_in() -> None:
    machine = socket.gethostname().lower()
    assert machine in own_names(WebTable(host="0.0.0.0"))
    assert machine not in own_names(WebTable()) or machine == "localhost"
    assert "bot.example.org" in own_names(WebTable(public_url="https://BOT.example.org:8443/"))
