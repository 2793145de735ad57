"""SIP: what packets say, what answers mean, and a real registrar over every transport."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.gate import Gate
from rigs.ear import LIMIT, Ear, running
from rigs.sip import COMPOSING, DOMAIN, WRITING, Door, Phone
from servers.kamailio import NUMBERS, PASSWORD, PROGRAMS, Kamailio, kamailio
from sipmessage import URI, Request, Response

from roost.channels.sip import Sip, SipConfig
from roost.channels.sip_config import HEADERS
from roost.channels.sip_link import parse
from roost.channels.sip_login import Login, read_challenge, stale
from roost.channels.sip_text import call_id, chat_of, read, retry_after, shows_composing, sorted_out, uri_of, write
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Place, Reply

SYSTEM = [pytest.mark.system(*pair) for pair in PROGRAMS]
ANN = Place("sip", "ann@example.org")
CPIM = b"From: <im:ann@example.org>\r\nTo: <im:bob@example.org>\r\n\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"


def message(body: bytes, kind: str = "text/plain", head: str = "") -> Request:
    lines = (
        'MESSAGE sip:roost@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1;x="odd"\r\n'
        'f: "Ann" <sip:ann@EXAMPLE.org>;tag=1\r\nTo :\r\n <sip:roost@example.org>\r\ni: c1\r\nCSeq: 7 MESSAGE\r\n'
        f"Content-Type: {kind}\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    )
    found = parse(lines.encode() + body)
    assert isinstance(found, Request)
    return found


def said(body: bytes, kind: str = "text/plain", head: str = "") -> str | None:
    found = read(message(body, kind, head), "sip", "roost@example.org")
    return found.text if found is not None else None


# What packets say


def test_a_message_is_read_with_folded_compact_and_spaced_headers() -> None:
    found = read(message(b"hello *you*"), "sip", "roost@example.org")
    assert found is not None
    assert (found.text, found.place.chat, found.sender.name) == (r"hello \*you\*", "ann@example.org", "Ann")
    assert found.key == "c1 7 1"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("caf\u00e9".encode("latin-1"), "text/plain; charset=iso-8859-1", "caf\u00e9"),
        ("caf\u00e9".encode(), 'Text/Plain; charset="UTF-8"', "caf\u00e9"),
        (b"caf\xe9", "text/plain", "caf\ufffd"),
        (b"x", "text/plain; charset=no-such-thing", "x"),
        (b"<p>so <b>bold</b></p>", "text/html", "so **bold**"),
        (CPIM + "\u00e9 one".encode(), "message/cpim", "\u00e9 one"),
        (b"\x89PNG", "image/png", "[image/png, 4 bytes]"),
        (b"--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\n12\r\n--b--", "multipart/mixed; boundary=b", None),
        (WRITING.encode(), COMPOSING, ""),
        (CPIM.replace(b"text/plain", b"message/imdn+xml") + b"<imdn/>", "message/cpim", ""),
        (b"", "text/plain", ""),
    ],
)
def test_every_content_becomes_text_or_is_not_said(body: bytes, kind: str, text: str | None) -> None:
    found = said(body, kind)
    if text is None:
        assert found is not None and found.startswith("one") and "image/png" in found
    else:
        assert (found or "") == text


@given(st.binary(max_size=200), st.sampled_from(["message/cpim", "multipart/mixed; boundary=x", "text/html", "x", ""]))
@example(b"\r\n\r\n", "message/cpim")
def test_no_body_is_too_odd_to_be_read(body: bytes, kind: str) -> None:
    said(body, kind or "text/plain")


@given(st.binary(max_size=300))
def test_what_is_no_packet_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data)


def test_our_own_words_and_receipts_are_not_delivered() -> None:
    assert read(message(b"hello"), "sip", "ann@example.org") is None
    assert said(b"<imdn/>", "message/imdn+xml") is None


def test_who_knows_the_sign_of_writing_is_told_by_its_use_or_its_accept() -> None:
    assert shows_composing(message(WRITING.encode(), COMPOSING))
    assert shows_composing(message(b"hello", head=f"Accept: text/plain, {COMPOSING}\r\n"))
    assert not shows_composing(message(b"hello"))


def test_a_body_that_was_cut_off_is_no_message() -> None:
    with pytest.raises(ValueError, match="cut off"):
        parse(b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 9\r\n\r\nhello")


@given(st.from_regex(r"[a-z0-9+_.!~*#?/ -]{1,20}", fullmatch=True).filter(str.strip))
def test_a_chat_leads_back_to_its_address(user: str) -> None:
    uri = URI("sip", "pbx.example.org", user.strip(), port=5070)
    assert uri_of(chat_of(uri), "elsewhere.org") == uri


def test_names_and_numbers_are_those_of_the_pbx() -> None:
    assert str(uri_of("201", "pbx.org")) == "sip:201@pbx.org"
    assert str(uri_of("+15551234567", "pbx.org")) == "sip:+15551234567@pbx.org;user=phone"
    assert chat_of(URI.parse("tel:+1-555-123-4567")) == "+15551234567"
    assert chat_of(URI.parse("sip:ann@Pbx.ORG;transport=tcp")) == "ann@pbx.org"
    with pytest.raises(Undeliverable, match="no address of SIP"):
        uri_of("ann smith@pbx.org", "pbx.org")


# Passwords


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_password_is_shown_as_rfc_7616_shows_it(algorithm: str, response: str) -> None:
    nonce = read_challenge(
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    assert nonce is not None
    nonce.client = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    shown = Login("Mufasa", "Circle of Life")._credentials(nonce, "GET", "/dir/index.html").parameters
    assert shown is not None and (shown["response"], shown["nc"]) == (response, "00000001")


def test_the_body_is_protected_where_nothing_less_is_offered() -> None:
    nonce = read_challenge('Digest realm="a", nonce="n", qop="auth-int", algorithm=SHA-256')
    assert nonce is not None
    nonce.client = "c"
    shown = Login("ann", "x")._credentials(nonce, "MESSAGE", "sip:bob@example.org", "é".encode()).parameters

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    what = digest(f"MESSAGE:sip:bob@example.org:{digest('é')}")
    expected = digest(f"{digest('ann:a:x')}:n:00000001:c:auth-int:{what}")
    assert shown is not None and (shown["response"], shown["qop"]) == (expected, "auth-int")


def challenge(*values: str, code: int = 401) -> Response:
    answer = Response(code, "Unauthorized")
    answer.headers.setlist("WWW-Authenticate" if code == 401 else "Proxy-Authenticate", list(values))
    return answer


def test_the_first_challenge_that_can_be_answered_counts() -> None:
    login, request = Login("ann", "x"), Request("MESSAGE", URI.parse("sip:bob@example.org"))
    odd = (
        'Basic realm="a"',
        'Digest realm="a", nonce="1", algorithm=NEW',
        'Digest realm="a", nonce="1", qop="auth-conf"',
    )
    assert not login.learn("MESSAGE", challenge(*odd))
    good = ('Digest realm="a", nonce="2", algorithm=SHA-256, stale=TRUE', 'Digest realm="a", nonce="3", algorithm=MD5')
    assert login.learn("MESSAGE", challenge(*odd, *good, code=407))
    assert stale(challenge(*odd, *good))
    login.sign(request)
    assert 'nonce="2"' in request.headers["Proxy-Authorization"]
    assert request.headers.get("Authorization") is None


class Script:
    """A way to a PBX that gives these answers, in turn."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)

    async def ask(self, request: Request, seconds: float, most: int = 0) -> Response:
        return self.answers.pop(0)


@pytest.mark.parametrize(("hints", "code", "left"), [(("", "", ""), 401, 2), (("", ", stale=true", ""), 401, 1)])
async def test_a_password_counts_as_refused_once_a_fresh_challenge_was_answered_in_vain(
    hints: tuple[str, ...], code: int, left: int, tmp_path: Path
) -> None:
    channel = Sip("sip", SipConfig(host="pbx", username="ann"), Ear(tmp_path))
    asked = [challenge(f'Digest realm="a", nonce="{number}"{hint}') for number, hint in enumerate(hints)]
    link: Any = Script(*asked, Response(200, "OK"))
    answer = await channel._ask(link, lambda: Request("MESSAGE", URI.parse("sip:bob@pbx")))
    assert (answer.code, len(link.answers)) == (code, left)


def test_contacts_that_nobody_can_read_do_not_hide_how_long_the_bot_is_known(tmp_path: Path) -> None:
    channel = Sip("sip", SipConfig(host="pbx", username="ann"), Ear(tmp_path))
    channel._contact = URI.parse("sip:ann@192.0.2.1:5060")
    answer = Response(200, "OK")
    answer.headers.add("Contact", "<sip:ann@192.0.2.1:5060>;expires=60")
    assert channel._term(answer, 300) == 60
    answer.headers.add("Contact", "<sip:[>;expires=60")
    assert channel._term(answer, 300) == 300


# What answers mean


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, Undeliverable) for code in (302, 403, 404, 405, 410, 413, 415, 484, 501, 513, 603, 604, 606)),
        *((code, NotSent) for code in (480, 486, 500, 503, 600, 407)),
        *((code, MaybeSent) for code in (408, 504)),
    ],
)
def test_an_answer_means_what_it_says(code: int, kind: type[Exception]) -> None:
    assert type(sorted_out(Response(code, "Whatever"), ANN)) is kind


def test_a_pause_that_is_asked_for_is_read() -> None:
    answer = Response(503, "Service Unavailable")
    assert retry_after(answer) is None
    answer.headers.set("Retry-After", " 120 (in a talk);duration=60")
    assert retry_after(answer) == 120.0
    error = sorted_out(answer, ANN)
    assert isinstance(error, NotSent) and error.retry_after == 120.0


def test_the_same_reply_has_the_same_call_id() -> None:
    assert call_id("a") == call_id("a") != call_id("b")
    assert call_id("") != call_id("")
    assert write(Reply("so **bold**")) == b"so bold"


@pytest.mark.parametrize("wrong", [{"username": "sip:ann@example.org"}, {"host": "a b"}, {"host": ""}, {"domain": "é"}])
def test_what_can_be_no_address_is_said_at_once(wrong: dict[str, str], tmp_path: Path) -> None:
    config = SipConfig(**({"host": "pbx", "username": "ann"} | wrong))
    with pytest.raises(ConfigError, match=r"\[channels.sip\]"):
        Sip("sip", config, Ear(tmp_path))


# A registrar of a few lines


class Desk(asyncio.DatagramProtocol):
    """Lets everybody in, brings one message, and keeps the answer to it."""

    def __init__(self, via: str) -> None:
        self._via = via
        self.answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._way = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not data.strip():
            return
        packet = parse(data)
        if isinstance(packet, Response):
            self.answered.set_result(packet)
            return
        answer = Response(200, "OK")
        for name in ("Via", "From", "To", "Call-ID", "CSeq", "Contact"):
            answer.headers.setlist(name, list(packet.headers.getlist(name)))
        self._way.sendto(bytes(answer), addr)
        if packet.headers.get("Expires") != "0" and not self.answered.done():
            self._way.sendto(
                f"MESSAGE sip:bot@127.0.0.1 SIP/2.0\r\nVia: {self._via}\r\n"
                "Max-Forwards: 70\r\n"
                "From: <sip:ann@x>;tag=1\r\n"
                "To: <sip:bot@x>\r\nCall-ID: c1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n".encode(),
                addr,
            )


@pytest.mark.parametrize(
    ("via", "told"),
    [
        ("SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;rport", ";rport={port};received=127.0.0.1"),
        ("SIP/2.0/UDP 10.0.0.9;rport;branch=z9hG4bK1, SIP/2.0/UDP h;rport", ";rport={port};received=127.0.0.1"),
        ("SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1", ""),
    ],
)
async def test_who_asks_where_its_request_came_from_is_told(via: str, told: str, tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    way, desk = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Desk(via), ("127.0.0.1", 0))
    port = way.get_extra_info("sockname")[1]
    config = SipConfig(host="127.0.0.1", port=port, username="bot", domain="x")
    try:
        async with running(Sip("sip", config, ear), ear):
            answer = await asyncio.wait_for(desk.answered, LIMIT)
    finally:
        way.close()
    first, *others = answer.headers["Via"].split(",")
    expected = told.format(port=port)
    assert expected in first and ("received" in first) == bool(told)
    assert "received" not in "".join(others)


# A real registrar


@asynccontextmanager
async def up(folder: Path, server: Kamailio, port: int = 0, **keys: Any) -> AsyncIterator[tuple[Sip, Ear, Phone]]:
    number = next(NUMBERS)
    ear, phone = Ear(folder), Phone(f"ann{number}", ("127.0.0.1", server.port))
    table = {"host": "127.0.0.1", "port": port or server.port, "username": f"roost{number}", "domain": DOMAIN}
    channel = Sip("sip", SipConfig(**{**table, "password": PASSWORD, **keys}), ear)
    await phone.start()
    try:
        async with running(channel, ear):
            yield channel, ear, phone
    finally:
        phone.stop()


async def talk(channel: Sip, ear: Ear, phone: Phone) -> None:
    """A word from either side to the other."""
    before = len(ear.heard), len(phone.got)
    answer = await phone.write(channel.config.username, "hello there")
    assert answer.status_code == 200
    await channel.send(Place("sip", f"{phone.name}@{DOMAIN}"), Reply("hello yourself"))
    assert len(ear.heard) == before[0] + 1 and len(phone.got) == before[1] + 1
    assert phone.got[-1].text == "hello yourself"


class Real:
    """Marks that a test needs Kamailio."""

    pytestmark = SYSTEM


class TestRegistrar(Real):
    async def test_passwords_are_shown_with_sha_256(self, tmp_path: Path) -> None:
        async with up(tmp_path, kamailio("SHA-256")) as (channel, ear, phone):
            await talk(channel, ear, phone)
            await talk(channel, ear, phone)

    async def test_text_travels_over_tcp_and_a_cut_is_mended(self, tmp_path: Path) -> None:
        server = kamailio()
        async with (
            Gate("127.0.0.1", server.port) as gate,
            up(tmp_path, server, gate.port, transport="tcp", keepalive=0.2) as (channel, ear, phone),
        ):
            await talk(channel, ear, phone)
            gate.cut()
            await ear.until(lambda: channel._link is None)
            await ear.until(lambda: channel._link is not None)
            await talk(channel, ear, phone)

    async def test_a_request_that_may_have_arrived_when_tcp_is_cut_is_told_apart(self, tmp_path: Path) -> None:
        server = kamailio()
        async with (
            Gate("127.0.0.1", server.port) as gate,
            up(tmp_path, server, gate.port, transport="tcp") as (channel, ear, phone),
        ):
            await talk(channel, ear, phone)
            gate.lose(b"text/plain", "answer")
            with pytest.raises(MaybeSent):
                await channel.send(Place("sip", f"{phone.name}@{DOMAIN}"), Reply("perhaps"))
            with pytest.raises(NotSent):
                await channel.send(Place("sip", f"{phone.name}@{DOMAIN}"), Reply("surely not"))

    async def test_answers_of_the_registrar_are_told_apart(self, tmp_path: Path) -> None:
        async with up(tmp_path, kamailio()) as (channel, _, _):
            for name, kind, pause in (
                ("nobody", Undeliverable, None),
                ("busy", NotSent, 7.0),
                ("away", NotSent, None),
                ("full", NotSent, 120.0),
                ("slow", MaybeSent, None),
            ):
                with pytest.raises(kind) as caught:
                    await channel.send(Place("sip", name), Reply("hello"))
                assert getattr(caught.value, "retry_after", None) == pause, name

    async def test_answers_of_the_person_are_told_apart(self, tmp_path: Path) -> None:
        async with up(tmp_path, kamailio()) as (channel, _, phone):
            place = Place("sip", f"{phone.name}@{DOMAIN}")
            phone.answers = [(486, "Busy Here"), (603, "Decline"), (415, "Unsupported Media Type")]
            for kind in (NotSent, Undeliverable, Undeliverable):
                with pytest.raises(kind):
                    await channel.send(place, Reply("hello"))
            assert not phone.got

    async def test_a_text_as_long_as_the_limits_allow_fits_and_a_longer_one_is_refused(self, tmp_path: Path) -> None:
        async with (
            Door("127.0.0.1", kamailio("SHA-256").port) as door,
            up(tmp_path, kamailio("SHA-256"), door.port) as (channel, _, phone),
        ):
            place = Place("sip", f"{phone.name}@{DOMAIN}")
            await channel.send(place, Reply("x" * channel.limits.max_text))
            assert max(map(len, door.sent)) + 4 * 40 < 1300, "with names of 40 letters more it still fits"
            assert channel.limits.max_text == 1300 - HEADERS
            with pytest.raises(Undeliverable, match="too long"):
                await channel.send(place, Reply("x" * 1300))

    async def test_the_sign_of_writing_goes_to_those_who_know_it_until_they_refuse_it(self, tmp_path: Path) -> None:
        async with up(tmp_path, kamailio()) as (channel, _, phone):
            place = Place("sip", f"{phone.name}@{DOMAIN}")
            await channel.type(place)
            assert not phone.got
            await phone.write(channel.config.username, WRITING, COMPOSING)
            await channel.type(place)
            assert [one.content_type for one in phone.got] == [COMPOSING]
            phone.answers = [(415, "Unsupported Media Type")]
            await channel.type(place)
            await channel.type(place)
            assert len(phone.got) == 1 and not phone.answers

    async def test_a_message_is_answered_only_once_it_is_safe_and_repetitions_alike(self, tmp_path: Path) -> None:
        async with (
            Door("127.0.0.1", kamailio().port) as door,
            up(tmp_path, kamailio(), door.port) as (channel, ear, phone),
        ):
            ear.deaf = True
            writing = asyncio.create_task(phone.write(channel.config.username, "hello"))
            await ear.until(lambda: ear.heard)
            door.inject(door.brought[-1])
            assert (await writing).status_code == 202, "Kamailio keeps what is not answered"
            assert len(ear.texts) == 1

    async def test_what_is_not_accepted_when_the_bot_stops_is_handed_back(self, tmp_path: Path) -> None:
        async with (
            Door("127.0.0.1", kamailio().port) as door,
            up(tmp_path, kamailio(), door.port) as (channel, ear, phone),
        ):
            ear.deaf = True
            writing = asyncio.create_task(phone.write(channel.config.username, "hello"))
            await ear.until(lambda: ear.heard)
        assert any(one.startswith(b"SIP/2.0 480 ") for one in door.sent)
        assert b"expires=0" in next(one for one in reversed(door.sent) if one.startswith(b"REGISTER "))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    async def test_other_requests_are_answered_as_the_rules_have_it(self, tmp_path: Path) -> None:
        async with (
            Door("127.0.0.1", kamailio().port) as door,
            up(tmp_path, kamailio(), door.port) as (channel, ear, phone),
        ):
            await phone.write(channel.config.username, "hello")
            last = door.brought[-1]
            for number, (old, new, code) in enumerate(
                (
                    (b"MESSAGE", b"OPTIONS", b"200 OK"),
                    (b"MESSAGE", b"INVITE", b"405 Method Not Allowed"),
                    (b"Max-Forwards", b"Require: tea\r\nMax-Forwards", b"420 Bad Extension"),
                    (b"Max-Forwards", b"Content-Encoding: gzip\r\nMax-Forwards", b"415 Unsupported Media Type"),
                    (b"From: ", b"From: !", b"400 Bad Request"),
                )
            ):
                door.sent.clear()
                door.inject(last.replace(old, new).replace(b"branch=z9hG4bK", b"branch=z9hG4bK%d" % number, 1))
                async with asyncio.timeout(LIMIT):
                    while not any(one.startswith(b"SIP/2.0 " + code) for one in door.sent):
                        await asyncio.sleep(0.01)
            assert ear.texts == ["hello"]

    async def test_a_challenge_that_is_no_longer_good_is_replaced(self, tmp_path: Path) -> None:
        async with up(tmp_path, kamailio()) as (channel, ear, phone):
            await talk(channel, ear, phone)
            for nonce in channel._login._nonces.values():
                nonce.challenge["nonce"] = "awOCOmsDgf4Td8jjVsny1ajSClYKBgL1XHRUuIA="
            await talk(channel, ear, phone)

    async def test_a_router_that_forgot_us_is_noticed_by_the_address_that_the_registrar_sees(
        self, tmp_path: Path
    ) -> None:
        async with (
            Door("127.0.0.1", kamailio().port) as door,
            up(tmp_path, kamailio(), door.port, keepalive=0.1) as (channel, ear, phone),
        ):
            before = channel._bound
            door.cut()
            await ear.until(lambda: channel._bound not in (before, None))
            await talk(channel, ear, phone)

    async def test_an_account_that_does_not_exist_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(LoginFailed, match=r"\[channels.sip\]"):
            async with up(tmp_path, kamailio(), username="nobody"):
                pass

    async def test_nobody_else_can_bring_a_message(self, tmp_path: Path) -> None:
        async with (
            Door("127.0.0.1", kamailio().port) as door,
            up(tmp_path, kamailio(), door.port) as (channel, ear, phone),
        ):
            await phone.write(channel.config.username, "hello")
            forged = door.brought[-1].replace(b"hello", b"HELLO").replace(b"Call-ID: ", b"Call-ID: other")
            phone._wire.sendto(forged.replace(b"branch=z9hG4bK", b"branch=z9hG4bKx", 1), door.client)
            await talk(channel, ear, phone)
            assert ear.texts == ["hello", "hello there"]


async def test_a_file_of_certificates_that_is_not_there_stops_the_channel(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    config = SipConfig(host="127.0.0.1", username="roost", transport="tls", ca="/none.pem")
    with pytest.raises(LoginFailed, match=r"\[channels.sip\] ca = '/none.pem' cannot be read as certificates"):
        await asyncio.wait_for(Sip("sip", config, ear).run(ear.receive), 30)


@pytest.mark.system("kamailio", "kamailio")
@pytest.mark.system("/usr/lib/*/kamailio/modules/tls.so", "kamailio-tls-modules")
async def test_text_travels_over_tls_and_the_certificate_counts(tmp_path: Path) -> None:
    server = kamailio(tls=True)
    keys = {"transport": "tls", "ca": str(server.folder / "server.pem")}
    async with up(tmp_path, server, server.tls_port, **keys) as (channel, ear, phone):
        await talk(channel, ear, phone)
    ear = Ear(tmp_path)
    table = {"host": "127.0.0.1", "port": server.tls_port, "username": "roost", "password": PASSWORD}
    channel = Sip("sip", SipConfig(**table, transport="tls"), ear)
    task = asyncio.create_task(channel.run(ear.receive))
    await ear.until(lambda: ear.problem)
    assert "its certificate cannot be trusted" in ear.problem and not ear.up.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
