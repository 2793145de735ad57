from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kit.gate import Gate, http
from kit.scenarios import MARK, PNG
from kit.talk import Talk
from rigs.sms import ANN, BOT, SmsRig
from servers.sms import Text, TwilioServer, sign
from servers.sms_rules import segments_of

from roost.channels import sms, sms_replies
from roost.channels.sms import Sms, SmsConfig, onward
from roost.channels.sms_http import authorization, explain
from roost.channels.sms_messages import as_form, read, signed, undelivered
from roost.channels.sms_replies import MAX_MEDIA_BYTES, Shelf, write
from roost.channels.sms_segments import longest, segments, surely
from roost.dialects import PLAIN, render
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.letters import dead
from roost.values import Attachment, Event, Message, Place, Reply

SID = "SM" + "a" * 32
ACCOUNT = "AC" + "b" * 32
FORM_TYPE = "application/x-www-form-urlencoded"
PICTURE = Attachment("image", "tea.png", "image/png", data=PNG)
WHATSAPP_ANN, WHATSAPP_BOT = f"whatsapp:{ANN}", "whatsapp:+14155238886"

# ------------------------------------------------------------------------------------------- segments


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),  # two units each
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # no escape is cut from its character
        ("é@£\n" * 40, 1),
        ("ê" + "a" * 69, 1),  # one letter out of the alphabet makes all of it UCS-2
        ("ê" + "a" * 70, 2),
        ("世" * 134, 2),
        ("世" * 135, 3),
        ("🦉" * 35, 1),
        ("🦉" * 36, 2),
        ("🦉" * 66, 2),
        ("🦉" * 67, 3),  # 33 of them fit into one of several, not 33 and a half
        ("`", 1),
    ],
)
def test_segments_are_counted_as_the_alphabets_of_sms_ask(text: str, count: int) -> None:
    assert segments(text) == count


@given(st.text(st.sampled_from("ab €{[é\nêł世🦉\x00"), max_size=700))
def test_segments_are_the_same_as_another_count_of_them(text: str) -> None:
    assert segments(text) == (segments_of(text) if text else 0)


@given(st.text(st.sampled_from("ab €{[é ê世🦉"), max_size=900), st.integers(1, 24))
def test_a_text_of_the_safe_length_fits_whatever_is_in_it(text: str, most: int) -> None:
    cut = text.encode("utf-16-le")[: 2 * surely(most)].decode("utf-16-le", "ignore")
    assert segments(cut) <= most
    assert surely(most) <= longest(most) <= 1600


# ------------------------------------------------------------------------------------------- signatures

# https://www.twilio.com/docs/usage/security, and the tests of Twilio's own libraries
CALL = "CallSid=CA1234567890ABCDE&Caller=%2B{0}&Digits=1234&From=%2B{0}&To=%2B18005551212"
BODY = b'{"property": "value", "boolean": true}'
HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
APP = "https://mycompany.com/myapp.php?foo=1&bar=2"
VECTORS = [
    (APP.replace("mycompany", "example"), CALL.format("14158675310"), "L/OH5YylLD5NRKLltdqwSvS0BnU="),
    (APP, CALL.format("12349013030"), "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
    (APP, CALL.format("14158675309"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    (APP, "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234", "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    (APP.replace(".com", ".com:1234"), CALL.format("14158675309"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    (APP, CALL.format("14158675309"), "kvajT1Ptam85bY51eRf/AJRuM3w="),  # made with :443
    (APP.replace("https", "http"), CALL.format("14158675309"), "0ZXoZLH/DfblKGATFgpif+LLRf4="),  # made with :80
]


@pytest.mark.parametrize(("url", "body", "signature"), VECTORS)
def test_published_signatures_are_accepted_and_nothing_like_them(url: str, body: str, signature: str) -> None:
    assert signed("12345", url, FORM_TYPE, body.encode(), signature)
    assert not signed("12346", url, FORM_TYPE, body.encode(), signature)
    assert not signed("12345", url + "x", FORM_TYPE, body.encode(), signature)
    assert not signed("12345", url, FORM_TYPE, body.encode() + b"&More=1", signature)
    assert not signed("12345", url, FORM_TYPE, body.encode(), signature[:-1])


def test_json_is_accepted_by_the_hash_in_its_signed_address_only() -> None:
    url, signature = f"{APP}&bodySHA256={HASH}", "a9nBmqA0ju/hNViExpshrM61xv4="
    assert signed("12345", url, "application/json", BODY, signature)
    assert not signed("12345", url, "application/json", BODY + b" ", signature)
    assert not signed("12345", APP, "application/json", BODY, sign("12345", APP, []))
    assert not signed("12345", url, "application/json", b"\xff", signature)


@pytest.mark.parametrize("signature", ["", "é", "=" * 28])
def test_no_signature_is_none(signature: str) -> None:
    assert not signed("12345", APP, FORM_TYPE, b"", signature)
    assert not signed("", APP, FORM_TYPE, b"", sign("", APP, []))
    assert not signed("12345", APP, FORM_TYPE, b"&".join([b"a=1"] * 2000), signature)


# ------------------------------------------------------------------------------------------- reading


def posted(body: str = "hello", **more: str) -> dict[str, str]:
    return {"MessageSid": SID, "From": ANN, "To": BOT, "Body": body, "NumMedia": "0", **more}


def said(body: str = "hello", **more: str) -> Message:
    found = read(posted(body, **more), "sms", {BOT}, 5.0)
    assert isinstance(found, Message)
    return found


def happened(body: str, **more: str) -> str:
    found = read(posted(body, **more), "sms", {BOT}, 5.0)
    return f"{found.kind} {found.value}" if isinstance(found, Event) else ""


def test_a_message_is_read() -> None:
    message = said("hello *there*")
    assert (message.id, str(message.place), str(message.sender)) == (SID, f"sms:{ANN}", f"sms:{ANN}")
    assert render(message.text, PLAIN) == "hello *there*"
    assert message.text == r"hello \*there\*"
    assert message.addressed and message.at == 5.0


@given(st.text(st.sampled_from("ab1.*_`#->[]() \\~!&;:/+"), max_size=40))
def test_words_are_never_taken_for_markup(text: str) -> None:
    text = " ".join(text.split())
    found = read(posted(f"x{text}"), "sms", {BOT}, 0.0)
    assert isinstance(found, Message) and render(found.text, PLAIN) == f"x{text}"


def test_the_bots_own_messages_are_none() -> None:
    assert read(posted(From=BOT), "sms", {BOT}, 0.0) is None


def test_machines_that_only_send_are_listened_to_and_not_answered() -> None:
    for address in ("BANK", "72345", "+123"):
        message = said("Your code is 123456", From=address)
        assert (message.addressed, message.place.kind) == (False, "broadcast")


def test_what_is_not_words_is_in_brackets() -> None:
    place = {"Latitude": "52.1", "Longitude": "4.3", "Label": "Home", "Address": "Street 1"}
    assert said("", **place).text == "[location 52.1, 4.3, Home, Street 1]"
    assert said("", MessageType="sticker").text == "[sticker]"
    assert said("").text == "[empty message]"
    assert said("look", NumMedia="1", MediaUrl0="https://elsewhere.org/x").text == "look\n[file]"


def test_files_are_read_with_their_kinds() -> None:
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/MM{'c' * 32}/Media/ME{'d' * 32}"
    media = {f"MediaUrl{n}": f"https://api.twilio.com{path}" for n in range(4)}
    kinds = ["image/jpeg", "audio/ogg", "video/mp4", "text/vcard"]
    message = said("", NumMedia="4", **media, **{f"MediaContentType{n}": kind for n, kind in enumerate(kinds)})
    assert [one.kind for one in message.attachments] == ["image", "voice", "video", "file"]
    assert {one.ref for one in message.attachments} == {path}
    assert message.attachments[0].name == "image-1.jpg"
    assert message.text == ""


def test_whatsapp_brings_names_quotes_and_pressed_buttons() -> None:
    more = {"ProfileName": "Ann", "OriginalRepliedMessageSid": "SMx", "ButtonPayload": "yes", "ButtonText": "Yes"}
    message = said("Yes", From=WHATSAPP_ANN, **more)
    assert (str(message.place), message.sender.name, message.text) == (f"sms:{WHATSAPP_ANN}", "Ann", "yes")
    assert message.quote is not None and message.quote.id == "SMx"
    assert Place.parse(str(message.place)) == message.place


def test_stop_and_start_are_events_and_help_is_a_question() -> None:
    assert [happened(word) for word in ("STOP", " stop ", "Quit", "REVOKE")] == ["left STOP"] * 4
    assert [happened(word) for word in ("Start", "unstop")] == ["joined START"] * 2
    assert [happened(word) for word in ("help", "yes", "stop it", "please stop")] == [""] * 4
    assert happened("arrêt", OptOutType="STOP") == "left STOP"
    assert happened("yes", OptOutType="START") == "joined START"
    assert happened("aide", OptOutType="HELP") == ""
    assert happened("cancel", From=WHATSAPP_ANN) == "" and happened("stop", From=WHATSAPP_ANN) == "left STOP"


def test_an_event_seen_twice_is_the_same() -> None:
    assert read(posted("STOP"), "sms", {BOT}, 1.0) == read(posted("STOP"), "sms", {BOT}, 2.0)


@pytest.mark.parametrize("form", [{}, {"MessageSid": SID}, {"From": ANN}, {"MessageSid": "", "From": ANN}])
def test_what_is_no_message_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        read(form, "sms", {BOT}, 0.0)


def test_a_listed_message_reads_as_a_posted_one() -> None:
    row = {"sid": SID, "from": ANN, "to": BOT, "body": "hello", "num_media": "0", "direction": "inbound"}
    assert read(as_form(row, []), "sms", {BOT}, 5.0) == read(posted(), "sms", {BOT}, 5.0)


def test_a_listed_file_of_which_twilio_says_nothing_is_still_a_message() -> None:
    """Every property of a media is nullable: https://www.twilio.com/docs/messaging/api/media-resource"""
    row = {"sid": SID, "from": ANN, "to": BOT, "body": None, "num_media": "3", "direction": "inbound"}
    here = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media/ME{'c' * 32}.json"
    found = read(as_form(row, [{"uri": here, "content_type": None}, {"uri": None}, {}]), "sms", {BOT}, 5.0)
    assert isinstance(found, Message) and found.text == "[file]\n[file]"
    assert [(one.kind, one.mime) for one in found.attachments] == [("file", "application/octet-stream")]


# ------------------------------------------------------------------------------------------- writing

HERE = Place("sms", ANN)
THERE = Place("sms", WHATSAPP_ANN)


def test_text_and_files_share_a_message_on_sms_and_not_on_whatsapp() -> None:
    reply = Reply("here **it** is", (PICTURE, PICTURE))
    (part,) = write(HERE, reply, 10)
    assert (part.text, len(part.files)) == ("here it is", 2)
    assert [(part.text, len(part.files)) for part in write(THERE, reply, 10)] == [("here it is", 0), ("", 1), ("", 1)]


def test_files_are_parted_by_number_and_size() -> None:
    assert [len(part.files) for part in write(HERE, Reply("", (PICTURE,) * 21), 10)] == [10, 10, 1]
    large = Attachment("image", "big.png", "image/png", data=bytes(MAX_MEDIA_BYTES // 2 + 1))
    assert [len(part.files) for part in write(HERE, Reply("two", (large, large)), 10)] == [1, 1]


@given(st.text(st.sampled_from("ab cd. €{ê世🦉\n"), max_size=1600), st.integers(1, 24))
def test_no_message_takes_more_segments_than_it_may(text: str, most: int) -> None:
    parts = write(HERE, Reply(text[: longest(most)]), most)
    assert all(segments(part.text) <= most and len(part.text.encode("utf-16-le")) <= 3200 for part in parts)
    whole, cut = render(text[: longest(most)], PLAIN), "".join(part.text for part in parts)
    assert "".join(whole.split()) == "".join(cut.split())


@pytest.mark.parametrize("chat", ["BANK", "12345", "555-1234", "+0155", "whatsapp:Ann"])
def test_nobody_is_written_to_at_what_is_no_number(chat: str) -> None:
    with pytest.raises(Undeliverable):
        write(Place("sms", chat), Reply("hello"), 10)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(Undeliverable, match="empty"):
        write(HERE, Reply("x", (Attachment("image", "a.png", "image/png"),)), 10)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, 20003, LoginFailed),
        (403, 20008, LoginFailed),
        (429, 20429, NotSent),
        (400, 21611, NotSent),
        (500, 20500, MaybeSent),
        (503, 20503, MaybeSent),
        (302, 0, MaybeSent),
        (400, 21211, Undeliverable),
        (400, 21614, Undeliverable),
        (400, 21610, Undeliverable),
        (400, 63016, Undeliverable),
        (404, 20404, Undeliverable),
    ],
)
def test_errors_are_sorted_by_what_became_of_the_message(status: int, code: int, kind: type[ChannelError]) -> None:
    error = explain("sms", status, {"code": code, "message": "No.", "status": status}, {"Retry-After": "3"})
    assert type(error) is kind
    assert str(error)[0].isupper() and str(error).endswith(".")
    if isinstance(error, NotSent):
        assert error.retry_after == 3.0


def test_errors_that_a_person_can_mend_say_how() -> None:
    assert "START" in str(explain("sms", 400, {"code": 21610}, {}))
    assert "24 hours" in str(explain("sms", 400, {"code": 63016}, {}))
    assert "bot.toml: [channels.work]" in str(explain("work", 400, {"code": 21606}, {}))
    assert "bot.toml: [channels.work]" in str(explain("work", 401, {}, {}))
    assert explain("sms", 429, {}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}).args[0]


# ------------------------------------------------------------------------------------------- settings


def config(**keys: Any) -> SmsConfig:
    return SmsConfig(**{"account": ACCOUNT, "token": "secret", "number": BOT, **keys})


class HostStub:
    bot_name = "Roost"
    public_url = ""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pulses = 0

    def pulse(self) -> None:
        self.pulses += 1

    def trouble(self, why: str) -> None: ...

    def address(self, path: str = "") -> str:
        return self.public_url and self.public_url + path

    def commands(self) -> list[tuple[str, str]]:
        return []

    async def history(self, place: Place, limit: int) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("keys", "about"),
    [
        ({"account": "AC1"}, "account"),
        ({"token": ""}, "token"),
        ({"number": ""}, "number"),
        ({"number": "0612345678"}, "0612345678"),
        ({"whatsapp": "whatsapp:me"}, "me"),
        ({"service": "MG1"}, "service"),
        ({"mode": "webhook"}, "public_url"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_a_sentence(keys: Any, about: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=about) as refused:
        Sms("sms", config(**keys), HostStub(tmp_path))
    assert "bot.toml: [channels.sms]" in str(refused.value) and "secret" not in str(refused.value)


def test_limits_follow_the_settings(tmp_path: Path) -> None:
    plain = Sms("sms", config(), HostStub(tmp_path))
    assert (plain.limits.max_text, plain.limits.media, list(plain.routes())) == (1530, {}, [])
    public = Sms("sms", config(segments=1, public_url="https://bot.example/"), HostStub(tmp_path))
    assert (public.limits.max_text, public.limits.media["image"]) == (160, 5 * 1024 * 1024)
    whatsapp = public.limits_at(THERE)
    assert public.limits_at(HERE) == public.limits
    assert (whatsapp.max_text, whatsapp.files, whatsapp.media) == (1600, 1, public.limits.media)
    assert [(one.method, one.path) for one in public.routes()] == [
        ("POST", "/channels/sms/status"),
        ("GET", "/channels/sms/media/{file}"),
    ]
    hooked = Sms("sms", config(mode="webhook", public_url="https://bot.example"), HostStub(tmp_path))
    assert hooked.routes()[0].path == "/channels/sms"


def test_the_address_of_the_web_face_is_used_where_the_table_has_none(tmp_path: Path) -> None:
    host = HostStub(tmp_path)
    host.public_url = "https://web.example"
    assert Sms("sms", config(mode="webhook"), host)._public == "https://web.example"
    assert Sms("sms", config(public_url="https://own.example/"), host)._public == "https://own.example"


def test_a_shelf_forgets_what_is_old_and_what_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    old = shelf.put(PICTURE)
    assert shelf.get(old) is PICTURE and shelf.get(old[:-5]) is None and len(old) > 40
    monkeypatch.setattr(sms_replies, "SHELF_BYTES", 2 * len(PNG))
    names = [shelf.put(PICTURE) for _ in range(3)]
    assert [shelf.get(name) is PICTURE for name in (old, *names)] == [False, False, True, True]
    monkeypatch.setattr(sms_replies, "SHELF_SECONDS", -1.0)
    assert shelf.get(shelf.put(PICTURE)) is None


# ------------------------------------------------------------------------------------------- polling


class Bench:
    """A channel on a server, without a bot: what it receives, and what it is asked to send."""

    def __init__(self, folder: Path, server: TwilioServer, gate: Gate) -> None:
        self.folder, self.server, self.gate = folder, server, gate
        self.got: list[Message | Event] = []
        self.came = asyncio.Event()
        self.channel = self.make()

    def make(self, **keys: Any) -> Sms:
        given = {"account": self.server.account, "token": self.server.token, "interval": 0.05, **keys}
        self.host = HostStub(self.folder)
        return Sms("sms", config(**given, base_url=self.gate.url), self.host)

    async def receive(self, item: Message | Event) -> bool:
        self.got.append(item)
        self.came.set()
        return True

    @asynccontextmanager
    async def up(self, **keys: Any) -> AsyncIterator[Sms]:
        self.channel = self.make(**keys)
        task = asyncio.create_task(self.channel.run(self.receive))
        try:
            await self.until(lambda: self.host.pulses > 1 or task.done())
            yield self.channel
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def looks(self, count: int = 2) -> None:
        """Wait until it has looked for messages so many times."""
        pulses = self.host.pulses
        await self.until(lambda: self.host.pulses >= pulses + count)

    def texts(self) -> list[str]:
        return [item.text if isinstance(item, Message) else item.kind for item in self.got]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with TwilioServer() as server, Gate("127.0.0.1", server.port) as gate:
        yield Bench(tmp_path, server, gate)
        assert not server.complaints, server.complaints


def ago(text: Text, seconds: float) -> Text:
    text.at -= timedelta(seconds=seconds)
    return text


async def test_what_was_written_before_the_first_start_is_left_alone(bench: Bench) -> None:
    ago(await bench.server.receive(ANN, BOT, "long ago"), 3600)
    async with bench.up():
        await bench.server.receive(ANN, BOT, "now")
        await bench.until(lambda: bench.got)
        await bench.looks()
    assert bench.texts() == ["now"]


async def test_many_pages_are_read_to_their_end_and_in_order(bench: Bench) -> None:
    bench.server.page_limit = 3
    async with bench.up():
        for number in range(20):
            await bench.server.receive(ANN, BOT, f"n{number}")
        await bench.until(lambda: len(bench.got) >= 20)
        await bench.looks()
    assert bench.texts() == [f"n{number}" for number in range(20)]


@pytest.mark.parametrize("prefix", ["https://api.elsewhere.example", "/api/laml"])
async def test_the_next_page_is_found_whatever_stands_before_its_path(bench: Bench, prefix: str) -> None:
    bench.server.page_limit, bench.server.link_prefix = 3, prefix
    async with bench.up():
        for number in range(8):
            await bench.server.receive(ANN, BOT, f"n{number}")
        await bench.until(lambda: len(bench.got) >= 8)
    assert bench.texts() == [f"n{number}" for number in range(8)]


def test_a_link_that_leads_nowhere_is_none() -> None:
    assert [onward(one) for one in (None, "", 3, "https://a.example/", "/2010-04-01/Calls")] == [None] * 5


async def test_a_message_that_is_listed_late_is_found(bench: Bench) -> None:
    async with bench.up():
        await bench.server.receive(ANN, BOT, "first")
        await bench.until(lambda: bench.got)
        await bench.looks()
        kept = json.loads((bench.folder / "cursor.json").read_text())
        bench.channel._kept.put("begun", kept["begun"] - 7200)
        late = await bench.server.receive(ANN, BOT, "late")
        bench.server.texts.remove(late)
        bench.server.texts.insert(0, ago(late, 300))
        await bench.until(lambda: len(bench.got) > 1)
    assert bench.texts() == ["first", "late"]


async def test_a_message_whose_files_are_not_there_yet_is_waited_for(bench: Bench) -> None:
    async with bench.up():
        slow = await bench.server.receive(ANN, BOT, "slow", [("image/png", PNG)])
        slow.status = "receiving"
        ago(slow, -1)
        ago(await bench.server.receive(ANN, BOT, "quick"), -3)
        await bench.until(lambda: bench.got)
        await bench.looks()
        assert bench.texts() == ["quick"]
        assert bench.channel._kept.get("newest") <= slow.at.timestamp(), "the cursor does not pass it"
        slow.status = "received"
        await bench.until(lambda: len(bench.got) > 1)
    message = bench.got[1]
    assert isinstance(message, Message) and message.attachments[0].mime == "image/png"


async def test_what_the_core_does_not_take_is_brought_again(bench: Bench) -> None:
    taken = bench.receive
    failures = [OSError("disk full")]

    async def receive(item: Message | Event) -> bool:
        if failures:
            raise failures.pop()
        return await taken(item)

    bench.receive = receive  # type: ignore[method-assign]
    task = asyncio.create_task(bench.channel.run(receive))
    await bench.looks()
    await bench.server.receive(ANN, BOT, "hello")
    with pytest.raises(OSError, match="disk full"):
        await asyncio.wait_for(task, 20)
    async with bench.up():
        await bench.until(lambda: bench.got)
    assert bench.texts() == ["hello"]


async def test_a_service_hears_all_its_numbers_and_none_of_others(bench: Bench) -> None:
    service, other = "MG" + "e" * 32, "+15005550001"
    bench.server.numbers |= {other, "+15005550002"}
    bench.server.services[service] = {BOT, other}
    async with bench.up(service=service, number="") as channel:
        for number in (BOT, other, "+15005550002"):
            await bench.server.receive(ANN, number, f"to {number}")
        await bench.until(lambda: len(bench.got) > 1)
        await bench.looks()
        await channel.send(HERE, Reply("hello"))
    assert [one for one in bench.texts() if "0002" in one] == [] and len(bench.got) == 2
    assert bench.server.texts[-1].service == service


async def test_a_suspended_account_stops_the_channel_with_a_sentence(bench: Bench) -> None:
    bench.server.status = "suspended"
    with pytest.raises(LoginFailed, match=r"bot\.toml: \[channels\.sms\] is suspended\."):
        await asyncio.wait_for(bench.make().run(bench.receive), 20)


class Bare(TwilioServer):
    """One that speaks Twilio's language for messages, and says little or nothing of the account."""

    said: Any = None

    async def _account(self, request: web.Request) -> web.Response:
        missing = {"code": 20404, "message": "The requested resource was not found", "status": 404}
        return web.json_response(self.said or missing, status=200 if self.said else 404)


@pytest.mark.parametrize("said", [None, {"status": None}], ids=["nothing", "no status"])
async def test_an_account_that_is_not_shown_keeps_nobody_from_talking(said: Any, tmp_path: Path) -> None:
    async with Bare() as server, Gate("127.0.0.1", server.port) as gate:
        server.said = said
        bench = Bench(tmp_path, server, gate)
        async with bench.up() as channel:
            await server.receive(ANN, BOT, "hello")
            await bench.until(lambda: bench.got)
            await channel.send(HERE, Reply("hello"))


async def test_whatsapp_goes_in_and_out_of_the_same_channel(bench: Bench) -> None:
    bench.server.whatsapp.add(WHATSAPP_BOT)
    async with bench.up(whatsapp=WHATSAPP_BOT.removeprefix("whatsapp:")) as channel:
        await bench.server.receive(WHATSAPP_ANN, WHATSAPP_BOT, "hello")
        await bench.server.receive(ANN, BOT, "hello too")
        await bench.until(lambda: len(bench.got) > 1)
        for item in bench.got:
            await channel.send(item.place, Reply("answer"))
    pairs = [(one.sender, one.to) for one in bench.server.texts if one.direction != "inbound"]
    assert sorted(pairs) == sorted([(BOT, ANN), (WHATSAPP_BOT, WHATSAPP_ANN)])


async def test_where_there_is_no_sender_a_sentence_says_so(bench: Bench) -> None:
    with pytest.raises(Undeliverable, match="has no 'whatsapp'"):
        await bench.channel.send(THERE, Reply("hello"))


async def test_stop_is_never_answered_and_what_is_sent_after_it_comes_back(bench: Bench) -> None:
    async with bench.up() as channel:
        await bench.server.receive(ANN, BOT, "STOP")
        await bench.until(lambda: bench.got)
        assert bench.texts() == ["left"]
        with pytest.raises(Undeliverable, match="21610"):
            await channel.send(HERE, Reply("are you there?"))
        await bench.server.receive(ANN, BOT, "start")
        await bench.until(lambda: len(bench.got) > 1)
        await channel.send(HERE, Reply("welcome back"))


@pytest.mark.parametrize(("to", "code"), [("+15005550009", "21614"), (BOT, "21266")])
async def test_who_cannot_be_reached_is_undeliverable(bench: Bench, to: str, code: str) -> None:
    with pytest.raises(Undeliverable, match=code):
        await bench.channel.send(Place("sms", to), Reply("hello"))


async def test_a_number_that_is_not_ours_names_the_setting(bench: Bench) -> None:
    with pytest.raises(Undeliverable, match=r"Correct 'number'.* bot\.toml: \[channels\.sms\]"):
        await bench.make(number="+15005550001").send(HERE, Reply("hello"))


async def test_only_an_sms_is_encoded_smartly_and_only_where_it_is_asked_for(bench: Bench) -> None:
    bench.server.whatsapp.add(WHATSAPP_BOT)
    for keys, place, asked in (({}, HERE, False), ({"smart_encoding": True}, HERE, True)):
        await bench.make(**keys).send(place, Reply("“hello”"))
        assert ("SmartEncoded" in bench.server.texts[-1].given) is asked
    await bench.make(smart_encoding=True, whatsapp=WHATSAPP_BOT).send(THERE, Reply("“hello”"))
    assert "SmartEncoded" not in bench.server.texts[-1].given


async def test_nothing_is_sent_where_nobody_listens(bench: Bench) -> None:
    bench.gate.shut()
    with pytest.raises((NotSent, MaybeSent)):
        await bench.channel.send(HERE, Reply("hello"))
    channel = Sms("sms", config(base_url="http://127.0.0.1:1"), HostStub(bench.folder))
    with pytest.raises(NotSent):
        await channel.send(HERE, Reply("hello"))


async def test_the_surroundings_do_not_change_where_it_calls(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TWILIO_REGION": "ie1", "TWILIO_EDGE": "dublin", "TWILIO_AUTH_TOKEN": "other"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NETRC", str(bench.folder / "netrc"))
    (bench.folder / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    assert (await bench.make().send(HERE, Reply("hello"))).ids


# ------------------------------------------------------------------------------------------- several messages

SENDING = b"POST /2010-04-01/"
LONG = "🦉" * 300  # 600 code units of UCS-2: three messages of at most three segments


def sent(bench: Bench) -> list[str]:
    return [one.body for one in bench.server.texts if one.direction == "outbound-api"]


async def test_a_reply_that_failed_halfway_goes_on_where_it_was(bench: Bench) -> None:
    channel, reply = bench.make(segments=3), Reply(LONG, key="k1")
    bench.gate.answer(b"%F0%9F%A6%89&", http("429 Too Many Requests", b'{"code": 20429}', retry_after="1"))
    parts = [part.text for part in write(HERE, reply, 3)]
    assert len(parts) == 4
    bench.gate.answer(SENDING, http("429 Too Many Requests", b'{"code": 20429}', retry_after="1"))
    with pytest.raises(NotSent):
        await channel.send(HERE, reply)
    assert sent(bench) == []
    assert len((await channel.send(HERE, reply)).ids) == 4
    assert sent(bench) == parts


async def fail_at(bench: Bench, channel: Sms, reply: Reply, place: int, loss: Any) -> None:
    """Let the connection break at the message at `place` of a reply."""
    deliver = channel._deliver
    tries = 0

    async def counted(*given: Any) -> str:
        nonlocal tries
        if tries == place:
            loss()
        tries += 1
        return await deliver(*given)

    channel._deliver = counted  # type: ignore[method-assign]
    with pytest.raises((NotSent, MaybeSent)):
        await channel.send(HERE, reply)
    channel._deliver = deliver  # type: ignore[method-assign]


async def test_only_the_message_whose_answer_was_lost_is_repeated_and_marked(bench: Bench) -> None:
    channel, reply = bench.make(segments=3), Reply(LONG, key="k1")
    parts = [part.text for part in write(HERE, reply, 3)]
    await fail_at(bench, channel, reply, 1, lambda: bench.gate.lose(SENDING, "answer"))
    assert sent(bench) == parts[:2]
    done = await channel.send(HERE, Reply(f"{MARK}\n{LONG}", key="k1"))
    assert len(done.ids) == 4
    assert sent(bench) == [*parts[:2], f"{MARK}\n{parts[1]}", *parts[2:]]


async def test_a_second_loss_is_marked_too_and_a_refusal_is_not(bench: Bench) -> None:
    channel, reply, again = bench.make(segments=3), Reply(LONG, key="k1"), Reply(f"{MARK}\n{LONG}", key="k1")
    parts = [part.text for part in write(HERE, reply, 3)]
    await fail_at(bench, channel, reply, 0, lambda: bench.gate.lose(SENDING, "answer"))
    await fail_at(bench, channel, again, 1, lambda: bench.gate.lose(SENDING, "answer"))
    refusal = http("429 Too Many Requests", b'{"code": 20429}')
    await fail_at(bench, channel, again, 1, lambda: bench.gate.answer(SENDING, refusal))
    await channel.send(HERE, again)
    marked = [f"{MARK}\n{part}" for part in parts]
    assert sent(bench) == [parts[0], marked[0], parts[1], marked[1], parts[2], parts[3]]


async def test_without_a_key_half_a_reply_is_not_called_unsent(bench: Bench) -> None:
    channel, reply = bench.make(segments=3), Reply(LONG)
    refusal = http("429 Too Many Requests", b'{"code": 20429}')
    deliver, tries = channel._deliver, iter([None, lambda: bench.gate.answer(SENDING, refusal)])

    async def counted(*given: Any) -> str:
        if plan := next(tries, None):
            plan()
        return await deliver(*given)

    channel._deliver = counted  # type: ignore[method-assign]
    with pytest.raises(MaybeSent, match="out already"):
        await channel.send(HERE, reply)


# ------------------------------------------------------------------------------------------- webhook


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SmsRig]:
    (tmp_path / "platform").mkdir()
    rig = SmsRig(tmp_path / "platform")
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


def outcome(rig: SmsRig) -> list[int]:
    return [status for url, _, status in rig.twilio.hooks if not url.endswith("/status")]


async def test_a_webhook_is_answered_with_twiml_that_says_nothing(rig: SmsRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        await rig.say("hello")
        await rig.answers(1)
        await rig.until(lambda shown: rig.twilio.twiml)
    (said,) = rig.twilio.twiml
    assert said.startswith("<?xml") and "Message" not in said


async def test_what_the_webhook_missed_is_found_in_the_list(
    rig: SmsRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sms, "WATCH", 0.05)
    async with Talk(rig, tmp_path).up():
        await rig.say("one")
        await rig.answers(1)
        rig.front.shut()
        await rig.say("two")
        await rig.until(lambda shown: [one.text for one in shown] == ["echo one", "echo two"])
        rig.front.shut(False)
        await rig.say("three")
        await rig.until(lambda shown: [one.text for one in shown] == ["echo one", "echo two", "echo three"])
    assert 0 in outcome(rig) and 200 in outcome(rig)


async def test_a_message_as_signed_json_is_taken_too(rig: SmsRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        body = json.dumps(posted("as JSON", To=BOT)).encode()
        url = f"{rig.front.url}/channels/sms?bodySHA256={hashlib.sha256(body).hexdigest()}"
        headers = {"Content-Type": "application/json", "X-Twilio-Signature": sign(rig.twilio.token, url, [])}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(url, data=body) as answer:
                assert answer.status == 200
            async with session.post(url, data=body.replace(b"JSON", b"NOSJ")) as answer:
                assert answer.status == 401
        (shown,) = await rig.answers(1)
        assert shown.text == "echo as JSON"


@pytest.mark.parametrize("address", [True, False], ids=["told", "found"])
async def test_what_twilio_could_not_deliver_becomes_a_dead_letter(
    rig: SmsRig, tmp_path: Path, address: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sms, "WATCH", 0.05)
    rig.twilio.whatsapp.add(WHATSAPP_BOT)
    rig.twilio.numbers.add(BOT)
    table = rig.table() | {"whatsapp": WHATSAPP_BOT} | ({} if address else {"public_url": "", "mode": "polling"})
    async with Talk(rig, tmp_path).up(table=table) as stage:
        await stage.bot.send(HERE, "this arrives")
        await stage.bot.send(THERE, "a word out of the blue")
        await rig.until(lambda shown: dead(stage.bot.journal.path))
        (letter,) = dead(stage.bot.journal.path)
        assert (letter.place, letter.text) == (str(THERE), "a word out of the blue")
        assert letter.error.startswith("Twilio could not deliver it: error 63016, https://")
        await stage.quiet(30)
        assert len([one for one in rig.twilio.texts if one.direction == "outbound-api"]) == 2
    assert "out of the blue" not in caplog.text
    assert any(status == 200 for url, _, status in rig.twilio.hooks if url.endswith("/status")) == address


async def test_a_report_waits_for_nobody_while_the_channel_does_not_listen(rig: SmsRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        channel = talk.channel(stage)
        assert isinstance(channel, Sms)
        channel._receive = None
        url = f"{rig.front.url}/channels/sms/status"
        fields = [("MessageSid", "SM1"), ("MessageStatus", "failed"), ("To", ANN)]
        assert await rig.twilio.post(url, fields) == 503


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        ("failed", "30003", "Twilio could not deliver it: error 30003, https://www.twilio.com/docs/api/errors/30003."),
        ("undelivered", "", "Twilio could not deliver it."),
        ("undelivered", "<b>", "Twilio could not deliver it."),
        ("delivered", "", None),
        ("sent", "30003", None),
    ],
)
def test_a_report_is_read(status: str, code: str, why: str | None) -> None:
    form = {"MessageSid": "SM1", "MessageStatus": status, "To": ANN, "ErrorCode": code}
    expected = Event("undelivered", HERE, message_id="SM1", value=why) if why else None
    assert undelivered(form, "sms") == expected
    assert undelivered(form | {"MessageSid": ""}, "sms") is None


async def test_forged_reports_are_refused(rig: SmsRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        url = f"{rig.front.url}/channels/sms/status"
        assert await rig.twilio.post(url, [("MessageStatus", "failed")], "bm90") == 401


async def test_a_file_is_served_once_it_is_named_and_nothing_else_is(rig: SmsRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage, aiohttp.ClientSession() as session:
        page = Attachment("file", "page.html", "text/html", data=b"<script>alert(1)</script>")
        await talk.channel(stage).send(HERE, Reply("here", (page,)))
        shown = await rig.until(lambda shown: any(one.files for one in shown))
        (url,) = shown[-1].raw.urls
        async with session.get(url) as answer:
            assert (answer.status, answer.headers["Content-Disposition"]) == (200, "attachment")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for other in (f"{rig.front.url}/channels/sms/media/x.png", url[:-6], f"{rig.front.url}/channels/sms/media/"):
            async with session.get(other) as answer:
                assert answer.status == 404


async def test_inbound_files_are_capped(rig: SmsRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up(table=rig.table() | {"max_media": 100}):
        await rig.say_file("tea.png", "image/png", PNG)
        await rig.answers(1)
        with pytest.raises(ValueError, match="more than 100 bytes"):
            await talk.said[-1].attachments[0].read()


async def test_a_file_that_is_gone_is_no_crash(bench: Bench) -> None:
    async with bench.up() as channel:
        text = await bench.server.receive(ANN, BOT, "look", [("image/png", PNG)])
        await bench.until(lambda: bench.got)
        message = bench.got[0]
        assert isinstance(message, Message)
        text.media.clear()
        with pytest.raises(Undeliverable, match="404"):
            [chunk async for chunk in channel.fetch(message.attachments[0])]


def test_credentials_are_written_as_http_asks() -> None:
    assert authorization(("AC1", "é")) == {"Authorization": "Basic QUMxOsOp"}
    assert authorization(None) == {}


def test_a_listed_time_is_read_and_a_missing_one_is_none() -> None:
    assert (
        sms.moment({"date_sent": "Fri, 24 May 2019 17:44:50 +0000"})
        == datetime(2019, 5, 24, 17, 44, 50, tzinfo=UTC).timestamp()
    )
    assert sms.moment({"date_sent": None, "date_created": "rubbish"}) == 0.0
