from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import smpp34
from aiosmpplib.codec import find_codec_info
from hypothesis import given
from hypothesis import strategies as st
from kit.gate import Gate
from kit.listener import listening
from kit.talk import Talk
from rigs.ear import LIMIT, Ear, running
from rigs.smpp import SmppRig
from servers.inspircd import certificate
from servers.smsc import Smsc

from roost.channels import smpp_inbox
from roost.channels.smpp import Smpp
from roost.channels.smpp_config import SmppConfig
from roost.channels.smpp_inbox import Inbox, Whole
from roost.channels.smpp_messages import number, own_address, read, receipt, words, write
from roost.channels.smpp_pdu import BIND_TRANSCEIVER, DATA, DELIVER, UNBIND, Address, Pdu, Short, read_short, submit
from roost.channels.smpp_text import TABLE, coding, cut, decode, encode, letters, pack, unpack
from roost.channels.sms_segments import BASIC, EXTENSION, segments
from roost.dialects import PLAIN, render
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, StoreError, Undeliverable
from roost.letters import dead
from roost.values import Event, Message, Place, Reply

ANN, BOT = "14155550100", "15005550006"
HERE = Place("smpp", f"+{ANN}")
KEYS = SmppConfig(host="smsc.example.org", system_id="roost", password="secret-1", number=f"+{BOT}")
GSM = st.text(st.sampled_from(sorted((BASIC | EXTENSION) - {"\r"})), max_size=400)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
ADDRESS = st.builds(Address, st.integers(0, 6), st.integers(0, 18), st.from_regex(r"[0-9]{1,15}", fullmatch=True))


# Packets, held against smpp34's


@given(ADDRESS, ADDRESS, st.binary(max_size=254), st.integers(0, 255), st.sampled_from([0, 0x40]))
def test_a_submit_sm_is_what_another_implementation_reads(
    source: Address, target: Address, data: bytes, code: int, esm: int
) -> None:
    body = submit(Short(source, target, data, code, esm, 1, "CMT", {0x0204: b"\0\1"}))
    theirs: Any = smpp34.decode((16 + len(body)).to_bytes(4) + b"\0\0\0\4" + bytes(4) + b"\0\0\0\1" + body)
    assert (theirs.source_addr_ton, theirs.source_addr_npi, theirs.source_addr) == source
    assert (theirs.dest_addr_ton, theirs.dest_addr_npi, theirs.destination_addr) == target
    assert (theirs.short_message, theirs.data_coding, theirs.esm_class) == (data, code, esm)
    assert (theirs.service_type, theirs.registered_delivery) == ("CMT", 1)
    assert [(one.tag, one.value) for one in theirs.tlvs] == [(0x0204, b"\0\1")]


@given(ADDRESS, ADDRESS, st.binary(max_size=254), st.integers(0, 255), st.binary(min_size=1, max_size=2000))
def test_a_deliver_sm_of_another_implementation_is_read(
    source: Address, target: Address, data: bytes, code: int, payload: bytes
) -> None:
    options = [] if data else [smpp34.Tlv(smpp34.TLV_MESSAGE_PAYLOAD, payload)]
    theirs = smpp34.DeliverSm(
        source.number,
        target.number,
        data,
        source_addr_ton=source.ton,
        source_addr_npi=source.npi,
        dest_addr_ton=target.ton,
        dest_addr_npi=target.npi,
        data_coding=code,
        tlvs=options,
    )
    short = read_short(Pdu(DELIVER, 0, 1, theirs.encode()[16:]))
    assert (short.source, short.target, short.coding) == (source, target, code)
    assert short.data == (data or payload)


@given(st.binary(max_size=80), st.sampled_from([DELIVER, DATA]))
def test_a_packet_that_makes_no_sense_is_a_value_error(body: bytes, command: int) -> None:
    try:
        short = read_short(Pdu(command, 0, 1, body))
        receipt(short)
        words(Whole("k", 1, {1: short}), "gsm7")
    except ValueError:
        pass


# Texts, held against aiosmpplib's alphabet


def test_the_alphabet_in_order_is_the_one_that_segments_are_counted_by() -> None:
    assert len(TABLE) == 128
    assert set(TABLE) - {"\x1b"} == BASIC


@given(GSM)
def test_septets_are_what_another_implementation_makes_of_them(text: str) -> None:
    assert encode(text, 0, "gsm7") == find_codec_info("gsm0338").encode(text)[0]
    theirs = find_codec_info("gsm0338_packed").encode(text)[0]
    mine = encode(text, 0, "gsm7-packed")
    units = len(encode(text, 0, "gsm7"))
    assert mine == theirs or (units % 8 == 7 and mine[:-1] == theirs[:-1]), "all but what fills the last octet"


@given(GSM, st.sampled_from(["gsm7", "gsm7-packed"]), st.sampled_from([0, 6, 7]))
def test_a_text_comes_back_from_its_octets(text: str, alphabet: Any, offset: int) -> None:
    assert decode(encode(text, 0, alphabet, offset), 0, alphabet, offset) == text


def test_packed_octets_of_the_standard_s_own_example() -> None:
    """3GPP TS 23.038, section 6.1.2: "hellohello" is a common one, in nine octets."""
    assert pack(b"hellohello").hex() == "e8329bfd4697d9ec37"
    assert unpack(bytes.fromhex("e8329bfd4697d9ec37")) == b"hellohello"


def test_an_unknown_character_after_an_escape_is_itself() -> None:
    assert letters(b"\x1bA\x1be\x1b") == "A€ "


@given(st.one_of(GSM, ANY))
def test_a_text_is_cut_into_as_many_parts_as_are_counted(text: str) -> None:
    code = coding(text, "gsm7")
    parts = cut(text, code, "udh")
    assert len(parts) == max(1, segments(text))
    assert "".join(parts) == text


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"caf\xe9", 3, "café"),
        ("привет".encode("iso8859_5"), 6, "привет"),
        ("שלום".encode("iso8859_8"), 7, "שלום"),
        ("日本".encode("shift_jis"), 5, "日本"),
        ("👍 ok".encode("utf-16-be"), 8, "👍 ok"),
        (b"\x00\x01", 4, "[binary message, 2 bytes]"),
        (b"\x00\x01", 0xF5, "[binary message, 2 bytes]"),
        (b"flash", 0xF0, "flash"),
        (b"flash \x1b(x\x1b)", 0x10, "flash {x}"),
        ("привет".encode("utf-16-be"), 0x18, "привет"),
        (b"\x00\x01", 0x14, "[binary message, 2 bytes]"),
        (b"\x00\x01", 0x30, "[binary message, 2 bytes]"),
        (b"", 0, "[empty message]"),
    ],
)
def test_every_data_coding_is_read(data: bytes, code: int, text: str) -> None:
    assert render(words(whole(data, coding=code), "gsm7"), PLAIN) == text


def test_the_operator_s_default_is_what_bot_toml_says() -> None:
    assert words(whole(b"caf\xe9"), "latin1") == "café"
    assert words(whole(pack(b"hellohello")), "gsm7-packed") == "hellohello"


def whole(data: bytes, **more: Any) -> Whole:
    return Whole("k", 1, {1: short_of(data, **more)})


def short_of(data: bytes, **more: Any) -> Short:
    return Short(Address(1, 1, ANN), Address(1, 1, BOT), data, **more)


# Long messages


@given(
    st.one_of(GSM, ANY),
    st.sampled_from(["udh", "udh16", "sar", "payload"]),
    st.sampled_from(["gsm7", "gsm7-packed", "latin1"]),
    st.randoms(use_true_random=False),
)
def test_what_goes_out_in_parts_is_read_as_it_was(text: str, how: Any, alphabet: Any, chance: random.Random) -> None:
    keys = replace(KEYS, long=how, alphabet=alphabet, segments=24)
    plain = render(text, PLAIN)
    written = write(HERE, Reply(text), keys, chance.randrange(65_536))
    chance.shuffle(written)
    with TemporaryDirectory() as path:
        inbox = Inbox(Path(path) / "inbox.json", 60)
        found = [inbox.note(packet(one), 1)[1] for one in written]
    read_back = [render(words(one, alphabet), PLAIN) for one in found if one]
    assert read_back == ([squeezed(plain)] if plain.strip() else [])


def squeezed(text: str) -> str:
    return render(words(whole(text.encode("utf-16-be"), coding=8), "gsm7"), PLAIN)


def packet(short: Short) -> Pdu:
    """As the SMSC passes it on to the other side."""
    return Pdu(DELIVER, 0, 1, submit(short))


def parts(text: str, **keys: Any) -> list[Short]:
    return write(HERE, Reply(text), replace(KEYS, **keys), 7)


LONG = "All of this belongs together. " * 12


def test_the_rest_of_a_long_message_is_awaited_through_a_restart(tmp_path: Path) -> None:
    one, two, three = map(packet, parts(LONG))
    inbox = Inbox(tmp_path / "inbox.json", 60)
    assert inbox.note(three, 1)[1] is None
    assert inbox.note(one, 1)[1] is None
    inbox.written()
    again = Inbox(tmp_path / "inbox.json", 60)
    assert again.note(three, 2)[1] is None, "a part that comes twice counts once"
    _, found = again.note(two, 2)
    assert found is not None
    assert words(found, "gsm7") == LONG.strip()
    assert [one.key for one in again.due()] == [found.key], "until it is done"
    again.done(found.group)
    assert again.note(two, 2)[1] is None
    assert not list(again.due()), "what comes again of a message that is done begins no other"


def test_a_long_message_that_is_never_whole_arrives_as_far_as_it_goes(tmp_path: Path) -> None:
    one, _, three = map(packet, parts(LONG))
    inbox = Inbox(tmp_path / "inbox.json", 0.0)
    inbox.note(one, 1)
    inbox.note(three, 1)
    (found,) = inbox.due()
    text = words(found, "gsm7")
    assert "[part 2 of 3 is missing]" in text
    before, after = text.split("[part 2 of 3 is missing]")
    assert LONG.startswith(before) and LONG.strip().endswith(after)


def test_a_reference_that_is_used_again_begins_another_message(tmp_path: Path) -> None:
    old, new = parts(LONG), parts(LONG.replace("this", "that"))
    inbox = Inbox(tmp_path / "inbox.json", 600)
    inbox.note(packet(old[0]), 1)
    for one in new:
        _, found = inbox.note(packet(one), 1)
    assert found is not None and words(found, "gsm7") == LONG.replace("this", "that").strip()
    inbox.done(found.group)
    (rest,) = inbox.due()
    assert "[part 3 of 3 is missing]" in words(rest, "gsm7")


def test_parts_that_lead_nowhere_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpp_inbox, "MAX_GROUPS", 5)
    inbox = Inbox(tmp_path / "inbox.json", 600)
    for reference in range(50):
        inbox.note(packet(write(HERE, Reply(LONG), KEYS, reference)[0]), 1)
    gone = list(inbox.due())
    assert len(gone) == 45, "the oldest arrive as they are"
    for one in gone:
        inbox.done(one.group)
    inbox.written()
    assert not list(Inbox(tmp_path / "inbox.json", 600).due())


def test_a_damaged_inbox_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "inbox.json").write_text('{"records": [["a"]], "groups": 3}')
    assert not list(Inbox(tmp_path / "inbox.json", 60).due())


def test_a_message_is_the_same_only_where_its_answer_may_be_lost(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox.json", 60)
    pdu = packet(short_of(b"yes"))
    first, _ = inbox.note(pdu, 1)
    second, _ = inbox.note(pdu, 1)
    assert first.key != second.key, "two on one connection are two"
    first.after = 4
    inbox.confirm(1, 5)
    second.after = 5
    inbox.confirm(1, 5)
    inbox.written()
    again = Inbox(tmp_path / "inbox.json", 60)
    assert again.note(pdu, 2)[0].key == second.key, "the answer to this one was never confirmed"
    assert again.note(pdu, 2)[0].key not in (first.key, second.key)


# Numbers and words


@pytest.mark.parametrize(
    ("ton", "given", "keys", "expected"),
    [
        (1, "447700900123", {}, "+447700900123"),
        (0, "447700900123", {}, "+447700900123"),
        (0, "+447700900123", {}, "+447700900123"),
        (0, "00447700900123", {}, "+447700900123"),
        (0, "07700900123", {"country": "44"}, "+447700900123"),
        (2, "07700900123", {"country": "44"}, "+447700900123"),
        (2, "612345678", {"country": "34", "trunk": ""}, "+34612345678"),
        (2, "07700900123", {}, "07700900123"),
        (0, "72345", {}, "72345"),
        (3, "72345", {}, "72345"),
        (5, "BANK", {}, "BANK"),
        (5, "12345678901", {}, "12345678901"),
    ],
)
def test_numbers_are_written_with_their_country(ton: int, given: str, keys: dict[str, str], expected: str) -> None:
    assert number(Address(ton, 1, given), keys.get("country", ""), keys.get("trunk", "0")) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"number": "+15005550006"}, (1, 1, "15005550006")),
        ({"number": "72345"}, (3, 0, "72345")),
        ({"number": "ROOST"}, (5, 0, "ROOST")),
        ({"number": "72345", "source_ton": 0, "source_npi": 1}, (0, 1, "72345")),
    ],
)
def test_the_source_says_what_it_is(keys: dict[str, Any], expected: tuple[int, int, str]) -> None:
    assert own_address(replace(KEYS, **keys)) == expected


def test_our_own_words_and_machines_that_only_send() -> None:
    own = Whole("k", 1, {1: replace(short_of(b"hi"), source=Address(1, 1, BOT))})
    assert read(own, "smpp", {f"+{BOT}"}, KEYS, 0.0) is None
    bank = read(Whole("k", 1, {1: replace(short_of(b"STOP"), source=Address(5, 0, "BANK"))}), "smpp", (), KEYS, 0.0)
    assert isinstance(bank, Message)
    assert (bank.place.kind, bank.addressed) == ("broadcast", False)
    with pytest.raises(Undeliverable, match="no number"):
        write(bank.place, Reply("hi"), KEYS, 0)


def test_stop_is_an_event_and_help_a_question() -> None:
    found = [read(whole(said), "smpp", (), KEYS, 0.0) for said in (b" stop\r\n", b"Start", b"HELP", b"stop it")]
    assert [one.kind if isinstance(one, Event) else "said" for one in found if one] == [
        "left",
        "joined",
        "said",
        "said",
    ]
    kept = read(whole(b"stop"), "smpp", (), replace(KEYS, stop_words=[]), 0.0)
    assert isinstance(kept, Message)


@pytest.mark.parametrize(
    "short",
    [
        short_of(
            b"id:m7 sub:001 dlvrd:000 submit date:2611222300 done date:2611222301 stat:UNDELIV err:01B text:", esm=4
        ),
        short_of(b"id:m7 stat:undeliv err:01B", esm=4),
        short_of(b"id: m7 sub: 001 dlvrd: 000 stat: UNDELIV err: 01B text: ", esm=4),
        short_of(b"stat:UNDELIV err:01B id:m7", esm=4),
        short_of(b"id:m7 stat:UNDELIVERABLE err:01B text:id:m8 stat:DELIVRD", esm=4),
        short_of(b"id:m7 sub:001 stat:FAILED", esm=4),
        short_of("id:m7 stat:UNDELIV err:01B".encode("utf-16-be"), esm=4, coding=8),
        short_of(b"", esm=4, options={0x1E: b"m7\0", 0x427: b"\5"}),
        short_of(b"", options={0x1E: b"m7\0", 0x427: b"\5"}),
    ],
)
def test_a_receipt_is_read_from_its_text_and_its_parameters(short: Short) -> None:
    found = receipt(short)
    assert found is not None
    assert found[:2] == ("m7", "UNDELIV")


@pytest.mark.parametrize(
    "keys", [{"number": "much too long a name"}, {"number": ""}, {"system_id": "x" * 16}, {"country": "+44"}]
)
def test_what_an_smsc_would_refuse_is_refused_before(keys: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bot\.toml: \[channels\.smpp\]"):
        Smpp("smpp", replace(KEYS, **keys), Ear(tmp_path))


# Over the wire


@asynccontextmanager
async def smsc(**more: Any) -> AsyncIterator[tuple[Smsc, Gate]]:
    async with Smsc({"roost": "secret-1"}, **more) as server, Gate("127.0.0.1", server.port) as gate:
        yield server, gate


def channel(ear: Ear, port: int, **keys: Any) -> Smpp:
    return Smpp("smpp", replace(KEYS, host="127.0.0.1", port=port, **keys), ear)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_answer_that_is_lost_on_the_way_makes_no_second_message(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate), running(channel(ear, gate.port), ear):
        gate.lose(b"\x80\x00\x00\x05", "request")
        server.bring(ANN, BOT, b"yes")
        await ear.until(lambda: len(ear.heard) == 2)
        await until(lambda: not server.left)
        assert gate.happened.is_set()
        assert len({one.identity for one in ear.heard}) == 1
        server.bring(ANN, BOT, b"yes")
        await ear.until(lambda: len(ear.heard) == 3)
        assert len({one.identity for one in ear.heard}) == 2, "said once more, it is another"


async def test_nothing_is_answered_before_it_is_safe(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    ear.deaf = True
    async with smsc() as (server, gate):
        async with running(channel(ear, gate.port), ear):
            server.bring(ANN, BOT, b"keep me")
            await ear.until(lambda: ear.heard)
        assert server.left == 1 and not server.answers
        ear.deaf = False
        async with running(channel(ear, gate.port), ear):
            await until(lambda: not server.left)
        assert ear.heard[0].identity == ear.heard[1].identity


async def test_what_cannot_be_kept_is_brought_again(tmp_path: Path) -> None:
    ear = Ear(tmp_path)

    async def full(item: Any) -> bool:
        raise StoreError("No space left on device.")

    async with smsc() as (server, gate):
        with pytest.raises(StoreError, match="No space"):
            server.bring(ANN, BOT, b"keep me")
            await asyncio.wait_for(channel(ear, gate.port).run(full), LIMIT)
        async with running(channel(ear, gate.port), ear):
            await ear.until(lambda: ear.texts == ["keep me"])
            await until(lambda: not server.left)
        # The library does not always take an answer that comes with a goodbye behind it.
        assert server.answers in ([0], [0x64, 0])


async def test_parts_outlive_the_bot_between_them(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    pieces = parts("What is said in parts 👍 " * 12)
    assert len(pieces) > 3
    async with smsc() as (server, gate):
        for batch in (pieces[:2], pieces[2:]):
            async with running(channel(ear, gate.port), ear):
                for one in reversed(batch):
                    server.bring(ANN, BOT, one.data, esm_class=one.esm, data_coding=one.coding)
                await until(lambda: not server.left)
    assert [text.strip() for text in ear.texts] == [("What is said in parts 👍 " * 12).strip()]


async def test_a_rest_that_never_comes_is_not_awaited_for_ever(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    one = parts(LONG)[0]
    async with smsc() as (server, gate), running(channel(ear, gate.port, patience=0.1), ear):
        server.bring(ANN, BOT, one.data, esm_class=one.esm)
        await ear.until(lambda: ear.texts)
    assert ear.texts[0].endswith("[part 2 of 3 is missing][part 3 of 3 is missing]")


@pytest.mark.parametrize("how", ["udh", "udh16", "sar", "payload"])
async def test_a_long_answer_is_one_message_on_the_phone(how: str, tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    text = "line of many words 🦉 and more {x}\n" * 12
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port, long=how)
        async with running(bot, ear):
            sent = await bot.send(HERE, Reply(f"```\n{text}```"))
        (shown,) = server.texts
    assert shown.text.strip() == text.strip()
    assert len(sent.ids) == (1 if how == "payload" else shown.parts) == len(server.submitted)


async def test_a_long_answer_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port)
        async with running(bot, ear):
            server.refuse = [0, 0x58]
            with pytest.raises(NotSent):
                await bot.send(HERE, Reply(LONG, key="a"))
            bot._not_before = 0.0
            await bot.send(HERE, Reply(LONG, key="a"))
            assert [one.text.strip() for one in server.texts] == [LONG.strip()]
            gate.lose(ANN.encode(), "answer")
            with pytest.raises(MaybeSent):
                await bot.send(HERE, Reply(LONG, key="b"))
            await until(lambda: len(server.desk.binds) == 2 and bot._out is not None and not bot._out._lost)
            sent = await bot.send(HERE, Reply(f"(possibly repeated) {LONG}", key="b"))
    assert [one.text.strip() for one in server.texts] == [LONG.strip()] * 2
    assert len(sent.ids) == 3


@pytest.mark.parametrize(
    ("status", "error", "pause"),
    [(0x58, NotSent, 1.0), (0x14, NotSent, 5.0), (0x0B, Undeliverable, None), (8, NotSent, None)],
)
async def test_refusals_are_told_apart(
    status: int, error: type[Exception], pause: float | None, tmp_path: Path
) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port)
        async with running(bot, ear):
            server.refuse = [status]
            with pytest.raises(error, match=r"ESME_\w+") as raised:
                await bot.send(HERE, Reply("hi"))
            assert getattr(raised.value, "retry_after", None) == pause
            if status == 0x58:
                with pytest.raises(NotSent, match="slower pace") as raised:
                    await bot.send(HERE, Reply("hi"))
                assert 0 < getattr(raised.value, "retry_after", 0) <= 1, "the SMSC is not even asked"
            assert not server.texts


@pytest.mark.parametrize("wrong", [{"password": "no"}, {"system_id": "nobody"}])
async def test_a_login_that_is_refused_is_told_in_a_sentence(wrong: dict[str, str], tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (_, gate):
        with pytest.raises(LoginFailed, match=r"bot\.toml: \[channels\.smpp\] \(ESME_RINV") as raised:
            await asyncio.wait_for(channel(ear, gate.port, **wrong).run(ear.receive), LIMIT)
    assert raised.value.args[0].endswith(".")


async def test_a_receiver_and_a_transmitter_do_what_a_transceiver_does(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port, bind="separate")
        async with running(bot, ear):
            server.bring(ANN, BOT, b"hello")
            await ear.until(lambda: ear.texts == ["hello"])
            await bot.send(HERE, Reply("hi"))
        assert [one[0] for one in server.desk.binds] == [1, 2]
        assert [one.text for one in server.texts] == ["hi"]


async def test_what_was_not_delivered_is_handed_on(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port)
        async with running(bot, ear):
            for state in ("DELIVRD", "ACCEPTD", "UNKNOWN", "UNDELIV", "EXPIRED", "REJECTD", "DELETED"):
                server.receipts = state
                await bot.send(HERE, Reply("hi"))
            await until(lambda: len(server.answers) == 7)
    assert [(one.kind, one.message_id, one.place) for one in ear.heard] == [
        ("undelivered", f"m{number}", HERE) for number in range(4, 8)
    ]
    assert ear.heard[0].value == "The SMSC could not deliver it: UNDELIV, error 001."


async def test_a_receipt_that_cannot_be_kept_is_not_answered_as_if_it_were(tmp_path: Path) -> None:
    ear = Ear(tmp_path)

    async def full(item: Any) -> bool:
        raise StoreError("No space left on device.")

    async with smsc() as (server, gate):
        server.receipts = "UNDELIV"
        bot = channel(ear, gate.port)
        running = asyncio.create_task(bot.run(full))
        await asyncio.wait_for(ear.up.wait(), LIMIT)
        with suppress(MaybeSent):  # the receipt may come before the answer to what it is about
            await bot.send(HERE, Reply("hi"))
        with pytest.raises(StoreError, match="No space"):
            await asyncio.wait_for(running, LIMIT)
        assert server.answers in ([], [0x64])


async def test_a_receipt_makes_a_dead_letter_of_what_was_sent(tmp_path: Path) -> None:
    folder = tmp_path / "bot"
    folder.mkdir()
    rig = SmppRig(tmp_path)
    await rig.start()
    try:
        async with Talk(rig, folder).up() as stage:
            rig.smsc.receipts = "UNDELIV"
            await rig.say("hello")
            await rig.until(lambda shown: dead(stage.bot.journal.path))
            (letter,) = dead(stage.bot.journal.path)
            assert (letter.text, letter.error) == (
                "echo hello",
                "The SMSC could not deliver it: UNDELIV, error 001.",
            )
    finally:
        await rig.stop()


async def test_who_says_stop_gets_one_answer_and_no_more(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        async with running(channel(ear, gate.port), ear):
            for _ in range(2):
                server.bring(ANN, BOT, b"STOP")
            await until(lambda: not server.left and server.texts)
        bot = channel(ear, gate.port)
        async with running(bot, ear):
            with pytest.raises(Undeliverable, match="asked for no more"):
                await bot.send(HERE, Reply("hi"))
            server.bring(ANN, BOT, b"start")
            await until(lambda: not server.left)
            await bot.send(HERE, Reply("hi"))
    assert [one.text for one in server.texts] == [KEYS.stopped, "hi"]
    assert [one.kind for one in ear.heard] == ["left", "left", "joined"]


async def test_silence_is_asked_about_and_given_up(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate), running(channel(ear, gate.port, keepalive=0.05, timeout=0.3), ear):
        ear.up.clear()
        await asyncio.wait_for(ear.up.wait(), LIMIT)  # an answer to enquire_link
        gate.hold()
        await until(lambda: gate.connections > 1)
        gate.cut()
        gate.release()
        server.bring(ANN, BOT, b"hello")
        await ear.until(lambda: ear.texts == ["hello"])


async def test_requests_of_the_smsc_are_answered(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate), running(channel(ear, gate.port), ear):
        server.desk.inject(b"\0\0\0\x10\0\0\x09\x99" + bytes(4) + b"\0\0\0\x63")
        await until(lambda: server.desk.nacks == [3])
        server.desk.inject(b"\0\0\0\x10\0\0\0\x06" + bytes(4) + b"\0\0\0\x64")  # unbind
        await until(lambda: len(server.desk.binds) == 2)
        server.desk.inject(b"\xff\xff\xff\xff" + bytes(12))
        await until(lambda: len(server.desk.binds) == 3)
        assert 2 in server.desk.nacks
        server.bring(ANN, BOT, b"hello")
        await ear.until(lambda: ear.texts == ["hello"])


@asynccontextmanager
async def bare(status: int) -> AsyncIterator[tuple[int, list[int], asyncio.Event]]:
    """An SMSC that only lets in or refuses: its port, the commands it heard, and whether the bot has hung up."""
    commands: list[int] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.read(16):
            commands.append(int.from_bytes(header[4:8]))
            await reader.readexactly(int.from_bytes(header[:4]) - 16)
            answer = (0x80000000 | commands[-1]).to_bytes(4) + status.to_bytes(4) + header[12:]
            writer.write((len(answer) + 5).to_bytes(4) + answer + b"\0")
        writer.close()
        over.set()

    async with listening(serve) as port:
        yield port, commands, over


async def test_who_stops_says_goodbye_first(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with bare(0) as (port, commands, over):
        async with running(channel(ear, port), ear):
            await until(lambda: commands)
        await asyncio.wait_for(over.wait(), LIMIT)
        assert commands == [BIND_TRANSCEIVER, UNBIND]


async def test_who_was_not_let_in_has_nothing_to_say_goodbye_to(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with bare(0x0E) as (port, commands, over):
        with pytest.raises(LoginFailed):
            await asyncio.wait_for(channel(ear, port).run(ear.receive), LIMIT)
        await asyncio.wait_for(over.wait(), LIMIT)
        assert commands == [BIND_TRANSCEIVER]


async def test_a_receipt_that_says_nothing_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear(tmp_path)
    caplog.set_level("INFO")
    async with smsc() as (server, gate), running(channel(ear, gate.port), ear):
        server.bring(ANN, BOT, b"delivered", esm_class=4)
        await until(lambda: "does not say which message" in caplog.text)


async def test_a_certificate_is_checked(tmp_path: Path) -> None:
    certificate(tmp_path / "smsc", "smsc")
    pem = tmp_path / "smsc.pem"
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "smsc.both")
    ear = Ear(tmp_path)
    async with Smsc({"roost": "secret-1"}, tls) as server:
        async with running(channel(ear, server.port, tls=True, ca=str(pem)), ear):
            server.bring(ANN, BOT, b"hello")
            await ear.until(lambda: ear.texts == ["hello"])
        wary = Ear(tmp_path)
        task = asyncio.create_task(channel(wary, server.port, tls=True).run(wary.receive))
        await until(lambda: "its certificate cannot be trusted" in wary.problem)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(server.desk.binds) == 1


async def test_a_file_of_certificates_that_is_not_there_stops_the_channel(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    with pytest.raises(LoginFailed, match=r"\[channels.smpp\] ca = '/none.pem' cannot be read as certificates"):
        await asyncio.wait_for(channel(ear, 1, tls=True, ca="/none.pem").run(ear.receive), LIMIT)


async def test_no_more_than_a_window_is_under_way(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    async with smsc() as (server, gate):
        bot = channel(ear, gate.port, window=2, timeout=LIMIT)
        async with running(bot, ear):
            gate.hold()
            sends = [asyncio.create_task(bot.send(HERE, Reply(f"n{at}"))) for at in range(6)]
            await until(lambda: bot._out is not None and len(bot._out._waiting) == 2)
            assert bot._out is not None and bot._out.sequence == 3, "the bind and two messages"
            gate.release()
            await asyncio.gather(*sends)
        assert sorted(one.text for one in server.texts) == [f"n{at}" for at in range(6)]
