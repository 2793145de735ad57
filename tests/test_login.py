from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.login import SESSION_SECONDS, STYLE_HASH, TRIES, TRY_SECONDS, Login, login_page

TOKEN = "correct horse battery"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_is_known_until_it_is_over() -> None:
    clock = Clock()
    login = Login(TOKEN, clock)
    session = login.session()
    assert login.knows(session)
    clock.now += SESSION_SECONDS
    assert not login.knows(session)


def test_a_session_outlives_a_restart_and_not_a_new_token() -> None:
    session = Login(TOKEN).session()
    assert Login(TOKEN).knows(session)
    assert not Login(TOKEN + "!").knows(session)


def test_a_session_does_not_hold_the_token_and_each_is_another() -> None:
    login = Login(TOKEN)
    assert TOKEN not in login.session()
    assert login.session() != login.session()


def test_a_session_with_another_expiry_is_not_known() -> None:
    login = Login(TOKEN)
    expiry, rest = login.session().split(".", 1)
    assert not login.knows(f"{int(expiry) + 1}.{rest}")


@given(st.text(st.characters()))
def test_nothing_but_a_session_is_known_and_nothing_but_the_token_matches(text: str) -> None:
    login = Login(TOKEN)
    assert not login.knows(text)
    assert not login.matches(text)


def test_a_header_that_is_not_utf8_is_simply_wrong() -> None:
    login = Login(TOKEN)
    assert not login.knows("1.x.\udcff")
    assert not login.matches("\udcff")


def test_token_and_session_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("roost.login.hmac.compare_digest", lambda one, other: seen.append((one, other)) or one == other)
    login = Login(TOKEN)
    assert login.matches(TOKEN) and not login.matches("guess") and login.knows(login.session())
    assert len(seen) == 3
    assert {len(one) for pair in seen[:2] for one in pair} == {32}, "also what is longer takes no longer"


def test_the_token_matches() -> None:
    assert Login("pässwort").matches("pässwort")


def test_after_some_failures_an_address_must_wait_a_minute_and_others_need_not() -> None:
    clock = Clock()
    login = Login(TOKEN, clock)
    for _ in range(TRIES):
        assert login.patient("192.0.2.1")
        login.failed("192.0.2.1")
    assert not login.patient("192.0.2.1")
    assert login.patient("192.0.2.2")
    clock.now += TRY_SECONDS
    assert login.patient("192.0.2.1")


def test_addresses_of_one_ipv6_subscriber_count_together() -> None:
    login = Login(TOKEN)
    for number in range(TRIES):
        login.failed(f"2001:db8::{number}")
    assert not login.patient("2001:db8::ffff")
    assert login.patient("2001:db8:0:1::1")


def test_the_number_of_addresses_kept_is_bounded() -> None:
    login = Login(TOKEN)
    for number in range(10_050):
        login.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(login._failures) == 10_000


def test_the_page_escapes_its_note_and_its_style_has_the_hash_of_the_policy() -> None:
    page = login_page("<b>no</b>")
    assert "&lt;b&gt;no&lt;/b&gt;" in page and "{note}" not in page
    found = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" == STYLE_HASH
