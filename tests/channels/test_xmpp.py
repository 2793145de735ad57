from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.gate import Gate
from kit.scenarios import SCENARIOS
from kit.talk import Talk
from rigs.ear import Ear, running
from rigs.xmpp import REACTIONS, REPLACE, RETRACT, C, Client, XmppRig, message, room_id
from servers.prosody import HOST, NUMBERS, PASSWORD, PROGRAMS, Prosody, prosody
from test_markdown import MARKDOWN_TEXTS

from roost.channels.xmpp import Xmpp
from roost.channels.xmpp_read import UNREADABLE, Around, Envelope, follow, read
from roost.channels.xmpp_stream import XmppConfig
from roost.channels.xmpp_styling import to_markdown
from roost.channels.xmpp_write import ILLEGAL, write
from roost.dialects import PLAIN, STYLING, render
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Attachment, Event, Message, Place, Reply

GEO = "http://jabber.org/protocol/geoloc"
ROOM = "tea@conference.example.org"


def needs_prosody(test: Any) -> Any:
    for program in PROGRAMS:
        test = pytest.mark.system(*program)(test)
    return test


# ------------------------------------------------------------------------------------------------ styling


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("*bold* and _slanted_ and ~gone~ and `a_b*c`", "**bold** and *slanted* and ~~gone~~ and `a_b*c`"),
        ("*_both_* no*t th*is", "***both*** no\\*t th\\*is"),
        ("2 * 3 * 4, * no*", "2 * 3 * 4, * no\\*"),
        ("```python\nx = 1 < 2\n```\nbehind", "```python\nx = 1 < 2\n```\n\nbehind"),
        ("```\nopen", "```\nopen\n```"),
        ("> said\n> *before*\nanswer", "> said\n> **before**\n\nanswer"),
        ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
        ("# no heading", "\\# no heading"),
        ("", ""),
    ],
)
def test_styles_become_markdown(said: str, text: str) -> None:
    assert to_markdown(said) == text


def test_what_is_not_styled_means_what_it_says() -> None:
    assert to_markdown("*so*", styled=False) == "\\*so\\*"


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \n*_~`>"), max_size=80))
def test_no_mixture_of_marks_loses_a_word(said: str) -> None:
    assert letters(to_markdown(said)) == letters(said)


@settings(deadline=None)
@given(MARKDOWN_TEXTS)
def test_what_the_bot_says_is_read_back_with_the_same_words(text: str) -> None:
    assert letters(to_markdown(render(text, STYLING))) == letters(render(text, PLAIN))


def letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


@pytest.mark.parametrize("text", [">" * 19_000, "*a " * 6_000, "*_~`" * 4_000, "> *a\n" * 3_000, "```\n" * 4_000])
def test_no_text_makes_reading_endless(text: str) -> None:
    assert letters(to_markdown(text)) == letters(text)


# ------------------------------------------------------------------------------------------------ reading


def around(**fields: Any) -> Around:
    return Around("xmpp", "roost@example.org", nicks={ROOM: "Roost"}, **fields)


def stanza(inner: str, sender: str = "ann@example.org/phone", type: str = "chat", id: str = "m1") -> Envelope:
    xml = f"<message xmlns='jabber:client' from='{sender}' type='{type}' id='{id}'>{inner}</message>"
    return Envelope(fromstring(xml))


def said(inner: str, here: Around | None = None, **fields: str) -> Message:
    found = read(stanza(inner, **fields), here or around())
    assert isinstance(found, Message)
    return found


def in_room(body: str, extra: str = "", here: Around | None = None, who: str = "Ann", id: str = "m1") -> Message:
    number = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='r{id}'/>"
    return said(f"<body>{body}</body>{number}{extra}", here, sender=f"{ROOM}/{who}", type="groupchat", id=id)


def test_a_message_to_the_bot() -> None:
    message = said("<body>hi *there*</body><stanza-id xmlns='urn:xmpp:sid:0' by='roost@example.org' id='a1'/>")
    assert (message.id, message.text, message.addressed) == ("m1", "hi **there**", True)
    assert message.place == Place("xmpp", "ann@example.org") and message.sender.id == "ann@example.org"
    assert message.key == "roost@example.org#a1"


def test_an_id_that_anybody_can_invent_is_not_taken_for_the_servers() -> None:
    forged = "<body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' by='evil.example' id='a1'/>"
    assert said(forged).key == "ann@example.org/phone#m1"


@pytest.mark.parametrize(
    ("body", "addressed", "left"),
    [
        ("Roost: hello", True, "hello"),
        ("roost, hello", True, "hello"),
        ("@Roost hello", True, "hello"),
        ("ask @roost about it", True, "ask @roost about it"),
        ("mail me@roost.example", False, "mail me@roost.example"),
        ("Roosters: hello", False, "Roosters: hello"),
        ("Roost hello", False, "Roost hello"),
    ],
)
def test_who_is_meant_in_a_room(body: str, addressed: bool, left: str) -> None:
    message = in_room(body)
    assert (message.addressed, message.text, message.place) == (addressed, left, Place("xmpp", ROOM))
    assert message.id == "rm1"


def test_a_reference_to_the_bot_means_it() -> None:
    reference = "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:{}'/>"
    assert in_room("you there", reference.format("roost@example.org")).addressed
    assert in_room("you there", reference.format(f"{ROOM}/Roost")).addressed
    assert not in_room("you there", reference.format("ann@example.org")).addressed


def test_people_in_a_room_are_known_by_what_the_room_vouches_for() -> None:
    here = around()
    forged = "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='owner@example.org'/></x>"
    occupant = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>"
    assert in_room("hi", forged + occupant, here).sender.id == f"{ROOM}/Ann"
    presence = (
        f"<presence xmlns='jabber:client' from='{ROOM}/Ann'><x xmlns='http://jabber.org/protocol/muc#user'>"
        f"<item jid='ann@example.org/phone'/></x>{occupant}</presence>"
    )
    follow(fromstring(presence), here)
    assert in_room("hi", "", here).sender.id == "ann@example.org"
    kept = Envelope(stanza(f"<body>hi</body>{occupant}", f"{ROOM}/Ann", "groupchat").xml, "a1")
    old = Envelope(stanza("<body>hi</body>", f"{ROOM}/Ann", "groupchat").xml, "a2")
    known, unknown = read(kept, here), read(old, here)
    assert isinstance(known, Message) and known.sender.id == "ann@example.org"
    assert isinstance(unknown, Message) and unknown.sender.id == f"{ROOM}/Ann", "the nick may have changed hands"


def test_a_private_message_in_a_room_has_a_place_of_its_own() -> None:
    message = said("<body>psst</body>", sender=f"{ROOM}/Ann")
    assert message.place == Place("xmpp", f"{ROOM}/Ann") and message.addressed


def test_a_correction_keeps_the_id_of_what_it_corrects_and_only_its_author_can() -> None:
    here = around()
    in_room("tee", "", here)
    fixed = in_room("tea", "<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>", here, id="m2")
    assert (fixed.id, fixed.edited, fixed.text) == ("rm1", True, "tea")
    for id in ("m1", "rm1"):
        forged = in_room("beer", f"<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>", here, who="Bob", id="m3")
        assert forged.id != "rm1"
    direct = said("<body>tea</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/>", id="m2")
    assert direct.id == "m1" and direct.edited


def test_only_the_author_takes_a_message_back() -> None:
    here = around()
    in_room("oops", "", here)
    inner = "<body>gone</body><retract xmlns='urn:xmpp:message-retract:1' id='rm1'/>"
    mine = read(stanza(inner, f"{ROOM}/Ann", "groupchat", "m2"), here)
    assert isinstance(mine, Event) and (mine.kind, mine.message_id) == ("deleted", "rm1")
    assert read(stanza(inner, f"{ROOM}/Bob", "groupchat", "m3"), here) is None


def test_a_reaction_is_the_whole_of_somebodys_reactions() -> None:
    inner = "<reactions xmlns='urn:xmpp:reactions:0' id='m9'><reaction>👍</reaction><reaction>🍵</reaction></reactions>"
    found = read(stanza(inner), around())
    assert isinstance(found, Event) and (found.kind, found.message_id, found.value) == ("reacted", "m9", "👍🍵")


def test_an_answer_is_read_without_what_it_repeats() -> None:
    here = around()
    body = "&gt; what\n&gt; is it\ntea"
    quoted = len("> what\n> is it\n")
    inner = (
        f"<body>{body}</body><reply xmlns='urn:xmpp:reply:0' to='bob@example.org' id='m0'/><fallback "
        f"xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='{quoted}'/></fallback>"
    )
    message = said(inner, here)
    assert message.text == "tea" and message.quote is not None
    assert (message.quote.id, message.quote.text, message.quote.author) == ("m0", "what\nis it", "bob@example.org")


def test_a_reply_to_the_bot_in_a_room_is_for_the_bot() -> None:
    here = around()
    here.note_own("r7", "given")
    assert in_room("why", "<reply xmlns='urn:xmpp:reply:0' to='x' id='r7'/>", here).addressed
    assert not in_room("why", "<reply xmlns='urn:xmpp:reply:0' to='x' id='r8'/>", here).addressed


SHARE = (
    "<reference xmlns='urn:xmpp:reference:0' type='data'><media-sharing xmlns='urn:xmpp:sims:1'><file "
    "xmlns='urn:xmpp:jingle:apps:file-transfer:5'><media-type>image/png</media-type><name>../tea.png</name>"
    "<size>12</size></file><sources><reference xmlns='urn:xmpp:reference:0' type='data' uri='{0}'/></sources>"
    "</media-sharing></reference>"
)


def test_files_are_taken_from_peoples_own_servers_and_from_nowhere_else() -> None:
    url = "https://files.example.org/x/tea.png"
    inner = "<body>{0}</body><x xmlns='jabber:x:oob'><url>{0}</url></x>"
    message = said(inner.format(url))
    assert message.text == "" and message.attachments == (Attachment("image", "tea.png", "image/png", None, url),)
    (shared,) = said(f"<body>look</body>{SHARE.format(url)}").attachments
    assert (shared.name, shared.size, shared.ref) == ("tea.png", 12, url)
    for bad in (
        "https://elsewhere.example/tea.png",
        "http://files.example.org/tea.png",
        "https://127.0.0.1/tea.png",
        "https://notexample.org/tea.png",
        "https://files.example.org@evil.example/tea.png",
        "file:///etc/passwd",
    ):
        message = said(inner.format(bad))
        assert message.attachments == () and message.text, bad
    here = around(hosts=frozenset({"127.0.0.1"}))
    assert said(inner.format("http://127.0.0.1:5280/a.ogg"), here).attachments[0].kind == "audio"


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("<body>I sent you an OMEMO message</body><encrypted xmlns='eu.siacs.conversations.axolotl'/>", UNREADABLE),
        (
            "<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>52.1</lat><lon>4.3</lon></geoloc>",
            "[location 52.1, 4.3]",
        ),
        ("<body>/me waves *</body>", "*waves \\**"),
    ],
)
def test_what_is_no_text_is_told_in_words(inner: str, text: str) -> None:
    assert said(inner).text == text


@pytest.mark.parametrize(
    ("inner", "fields"),
    [
        ("<received xmlns='urn:xmpp:receipts' id='m0'/>", {}),
        ("<composing xmlns='http://jabber.org/protocol/chatstates'/>", {}),
        ("<body>hi</body>", {"sender": "roost@example.org/other"}),
        ("<body>hi</body>", {"sender": f"{ROOM}/Roost", "type": "groupchat"}),
        ("<body>hi</body>", {"sender": ROOM, "type": "groupchat"}),
        ("<body>hi</body>", {"type": "groupchat"}),
        ("<body>hi</body>", {"type": "headline"}),
        ("<body>come</body><x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>", {"sender": ROOM}),
        ("<sent xmlns='urn:xmpp:carbons:2'/><body>hi</body>", {}),
        ("<subject>tea</subject>", {"sender": f"{ROOM}/Ann", "type": "groupchat"}),
    ],
)
def test_what_is_not_said_to_the_bot_is_no_message(inner: str, fields: dict[str, str]) -> None:
    assert read(stanza(inner, **fields), around()) is None


# ------------------------------------------------------------------------------------------------ writing


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_can_break_the_stream(text: str) -> None:
    for part in write(Reply(text), {}):
        assert not ILLEGAL.search(part.body)


def test_a_file_is_a_message_of_its_own() -> None:
    parts = write(Reply("here", (Attachment(data=b"x"), Attachment(url="https://a.b/c")), quote="m1"), {})
    assert [part.body for part in parts] == ["here", "", ""]
    assert parts[0].extra[0].get("id") == "m1" and parts[1].file is not None


# --------------------------------------------------------------------------------------- with a real server


class Party:
    """One test's bot and people on a real server, all with names of their own."""

    def __init__(self, folder: Path, server: Prosody) -> None:
        self.folder = folder
        self.server = server
        number = next(NUMBERS)
        self.bot = server.account(f"bot{number}")
        self.room = f"room{number}@conference.{HOST}"
        self.people: list[Client] = []

    def make(self, **keys: Any) -> tuple[Xmpp, Ear]:
        plain = {"jid": self.bot, "password": PASSWORD, "host": "127.0.0.1", "port": self.server.port, "tls": "off"}
        ear = Ear(self.folder)
        return Xmpp("xmpp", XmppConfig(**{**plain, **keys}), ear), ear

    @asynccontextmanager
    async def run(self, **keys: Any) -> AsyncIterator[tuple[Xmpp, Ear]]:
        channel, ear = self.make(**keys)
        async with running(channel, ear):
            await ear.until(lambda: channel._ready)
            yield channel, ear

    async def person(self, name: str) -> Client:
        one = Client(self.server.account(f"{name}{next(NUMBERS)}"))
        self.people.append(one)
        await one.connect(self.server.port)
        return one


@pytest.fixture
async def party(tmp_path: Path) -> AsyncIterator[Party]:
    one = Party(tmp_path, prosody())
    yield one
    for person in one.people:
        await person.close()


def body(text: str) -> Any:
    return lambda one: one.findtext(f"{C}body") == text


def direct(person: Client) -> Place:
    return Place("xmpp", person.address)


@needs_prosody
@pytest.mark.parametrize("tls", ["on", "direct"])
async def test_connections_are_encrypted_and_certificates_checked(tls: str, party: Party) -> None:
    ca = str(party.server.folder / "server.pem")
    port = party.server.port if tls == "on" else party.server.tls_port
    ann = await party.person("ann")
    async with party.run(tls=tls, port=port, ca=ca) as (channel, _):
        await channel.send(direct(ann), Reply("hello"))
        await ann.seen(body("hello"))
        assert channel._stream is not None and channel._stream.xmpp.socket.cipher()


@needs_prosody
@pytest.mark.parametrize("tls", ["on", "direct"])
async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls: str, party: Party) -> None:
    channel, ear = party.make(tls=tls, port=party.server.port if tls == "on" else party.server.tls_port)
    task = asyncio.create_task(channel.run(ear.receive))
    await ear.until(lambda: "cannot be trusted" in ear.problem)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert channel._stream is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"tls": "off", "host": "xmpp.example.org"}, "on this machine only"),
        ({"ca": "/none.pem"}, r"\[channels.xmpp\] ca = '/none.pem' cannot be read"),
        ({"jid": "not an address@@"}, "is no address"),
        ({"jid": "roost"}, "'roost' is no address"),
        ({"jid": "example.org/roost"}, "is no address"),
    ],
)
async def test_what_can_never_work_is_said_at_once(keys: dict[str, Any], told: str, tmp_path: Path) -> None:
    config = XmppConfig(**{"jid": "roost@example.org", "password": "s3cret", "host": "127.0.0.1", **keys})
    with pytest.raises(LoginFailed, match=told) as failed:
        await Xmpp("xmpp", config, Ear(tmp_path)).run(Ear(tmp_path).receive)
    assert "s3cret" not in str(failed.value)


@needs_prosody
async def test_a_cut_connection_goes_on_where_it_was(party: Party) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Ann")
    async with (
        Gate("127.0.0.1", party.server.port) as gate,
        party.run(port=gate.port, rooms=[party.room]) as (bot, ear),
    ):
        stream = bot._stream
        assert stream is not None
        session = stream.xmpp.plugin["xep_0198"].sm_id
        gate.shut()
        await ear.until(lambda: not stream.up)
        ann.send(message(party.bot, "chat", "while away"))
        ann.send(message(party.room, "groupchat", "in the room"))
        gate.shut(False)
        await ear.until(lambda: len(ear.texts) == 2)
        assert stream.xmpp.plugin["xep_0198"].sm_id == session
        await bot.send(Place("xmpp", party.room), Reply("back"))
        await ann.seen(body("back"))
        left = [one for one in ann.stanzas if one.tag == f"{C}presence" and one.get("type") == "unavailable"]
        assert not left, "nobody saw it leave the room"


@needs_prosody
async def test_a_server_that_starts_anew_is_come_back_to(tmp_path: Path) -> None:
    party = Party(tmp_path, Prosody())
    try:
        ann = await party.person("ann")
        await ann.join(party.room, "Ann")
        async with party.run(rooms=[party.room]) as (bot, ear):
            stream = bot._stream
            assert stream is not None
            await bot.send(direct(ann), Reply("one"))
            party.server.halt()
            await ear.until(lambda: not stream.up)
            with pytest.raises(NotSent):
                await bot.send(direct(ann), Reply("two"))
            await ann.close()
            session = stream.xmpp.plugin["xep_0198"].sm_id
            party.server.start()
            await ann.connect(party.server.port)
            await ann.join(party.room, "Ann")
            await ear.until(lambda: stream.up and stream.xmpp.plugin["xep_0198"].sm_id not in {None, session})
            await ear.until(lambda: bot._ready)
            await bot.send(direct(ann), Reply("three"))
            await bot.send(Place("xmpp", party.room), Reply("four"))
            await ann.seen(body("four"))
        await ann.close()
    finally:
        party.server.stop()


@needs_prosody
async def test_what_was_said_in_a_room_while_the_bot_was_away_is_read_once_and_in_order(party: Party) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Ann")
    ann.send(message(party.room, "groupchat", "before its time"))
    keys = {"rooms": [party.room], "nick": "Roost"}
    async with party.run(**keys) as (bot, ear):
        await bot.send(Place("xmpp", party.room), Reply("mine"))
        ann.send(message(party.room, "groupchat", "one"))
        await ear.until(lambda: ear.texts == ["one"])
    for number in range(120):
        ann.send(message(party.room, "groupchat", f"Roost: n{number}"))
    ann.send(message(party.bot, "chat", "direct"))
    await ann.iq("<ping xmlns='urn:xmpp:ping'/>", to=HOST)
    async with party.run(**keys) as (_, again):
        ann.send(message(party.room, "groupchat", "last"))
        await again.until(lambda: "last" in again.texts)
        # One that was safe when the bot stopped may come again; the core knows it by its key.
        assert [text for text in again.texts if text not in {"one", "direct"}] == [
            *(f"n{number}" for number in range(120)),
            "last",
        ]
        assert len({one.identity for one in again.heard if one.text == "direct"}) == 1
    async with party.run(**keys) as (_, third):
        ann.send(message(party.bot, "chat", "now"))
        await third.until(lambda: "now" in third.texts)
        assert set(third.texts) <= {"last", "now"}


@needs_prosody
async def test_a_message_counts_as_read_only_when_it_is_safe(party: Party) -> None:
    ann = await party.person("ann")
    asked = message(party.bot, "chat", "hello", Element("{urn:xmpp:receipts}request"))
    async with party.run() as (_, ear):
        ear.deaf = True
        ann.send(asked)
        await ear.until(lambda: ear.heard)
        await ann.iq("<ping xmlns='urn:xmpp:ping'/>", to=HOST)
        assert not any(one.find("{urn:xmpp:receipts}received") is not None for one in ann.stanzas)
    async with party.run() as (_, ear):
        await ear.until(lambda: ear.texts == ["hello"])
        ann.send(message(party.bot, "chat", "again", Element("{urn:xmpp:receipts}request"), id="again"))
        receipt = await ann.seen(lambda one: one.find("{urn:xmpp:receipts}received") is not None)
        received = receipt.find("{urn:xmpp:receipts}received")
        assert received is not None and received.get("id") == "again"


@needs_prosody
async def test_nobody_is_written_to_who_is_not_there(party: Party) -> None:
    async with party.run() as (bot, _):
        with pytest.raises(Undeliverable, match="came back"):
            await bot.send(Place("xmpp", f"nobody@{HOST}"), Reply("hello"))
        with pytest.raises(NotSent, match="not in the room"):
            await bot.send(Place("xmpp", party.room, kind="group"), Reply("hello"))


@needs_prosody
async def test_a_message_that_comes_back_later_is_handed_on(party: Party) -> None:
    ann = await party.person("ann")
    async with party.run() as (bot, ear):
        sent = await bot.send(direct(ann), Reply("hello"))
        came = await ann.seen(body("hello"))
        error = Element(f"{C}error", type="wait")
        SubElement(error, "{urn:ietf:params:xml:ns:xmpp-stanzas}recipient-unavailable")
        ann.send(message(came.get("from", ""), "error", "", error, id=sent.ids[0]))
        await ear.until(lambda: ear.heard)
        why = "The message came back: recipient-unavailable"
        assert ear.heard == [Event("undelivered", direct(ann), message_id=sent.ids[0], value=why)]


@needs_prosody
async def test_messages_in_a_room_are_changed_taken_back_and_reacted_to(party: Party) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Ann")
    place = Place("xmpp", party.room)
    async with party.run(rooms=[party.room], nick="Roost") as (bot, ear):
        sent = await bot.send(place, Reply("tee"))
        first = await ann.seen(body("tee"))
        assert sent.ids == (room_id(first, party.room),)
        await bot.edit(sent, Reply("tea"))
        replaced = (await ann.seen(body("tea"))).find(REPLACE)
        assert replaced is not None and replaced.get("id") == first.get("id")
        await bot.delete(sent)
        retracted = (await ann.seen(lambda one: one.find(RETRACT) is not None)).find(RETRACT)
        assert retracted is not None and retracted.get("id") == sent.ids[0]
        ann.send(message(party.room, "groupchat", "well"))
        (heard,) = await ear.until(lambda: [one for one in ear.heard if isinstance(one, Message)])
        await bot.react(place, heard.id, "🍵")
        reacted = (await ann.seen(lambda one: one.find(REACTIONS) is not None)).find(REACTIONS)
        assert reacted is not None and (reacted.get("id"), reacted[0].text) == (heard.id, "🍵")


@needs_prosody
async def test_a_nick_that_is_taken_is_gone_round(party: Party) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Roost")
    async with party.run(rooms=[party.room], nick="Roost") as (bot, ear):
        assert bot._around.nicks[party.room] == "Roost_"
        ann.send(message(party.room, "groupchat", "Roost_: hello"))
        (heard,) = await ear.until(lambda: list(ear.heard))
        assert heard.addressed and heard.text == "hello"


@needs_prosody
async def test_a_room_that_was_left_is_come_back_to(party: Party) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Ann")
    async with party.run(rooms=[party.room], nick="Roost") as (bot, _):
        kick = "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Roost' role='none'/></query>"
        await ann.iq(kick, type="set", to=party.room)
        with pytest.raises(NotSent, match="not in"):
            await bot.send(Place("xmpp", party.room), Reply("hello"))
        assert bot._stream is not None
        await bot._care(bot._stream)
        await bot.send(Place("xmpp", party.room), Reply("hello"))
        await ann.seen(body("hello"))


@needs_prosody
async def test_a_room_with_a_password_is_entered_and_one_without_it_is_not(
    party: Party, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await party.person("ann")
    await ann.join(party.room, "Ann")
    field = "<field var='{}'><value>{}</value></field>"
    form = field.format("FORM_TYPE", "http://jabber.org/protocol/muc#roomconfig")
    form += field.format("muc#roomconfig_passwordprotectedroom", "1") + field.format(
        "muc#roomconfig_roomsecret", "sesame"
    )
    owner = "http://jabber.org/protocol/muc#owner"
    await ann.iq(f"<query xmlns='{owner}'><x xmlns='jabber:x:data' type='submit'>{form}</x></query>", "set", party.room)
    async with party.run(rooms=[party.room], room_passwords={party.room: "sesame"}) as (bot, _):
        await bot.send(Place("xmpp", party.room), Reply("open"))
    async with party.run(rooms=[party.room]) as (bot, _):
        assert "does not let the bot in" in caplog.text
        with pytest.raises(NotSent):
            await bot.send(Place("xmpp", party.room), Reply("hello"))


@needs_prosody
async def test_files_may_be_as_large_as_the_server_says(party: Party) -> None:
    ann = await party.person("ann")
    async with party.run() as (bot, _):
        assert set(bot.limits.media.values()) == {1024 * 1024}
        await bot.send(direct(ann), Reply("", (Attachment("file", "a b.txt", "text/plain", data=b"tea"),)))
        sent = await ann.seen(lambda one: one.find("{jabber:x:oob}x") is not None)
        url = sent.findtext("{jabber:x:oob}x/{jabber:x:oob}url", "")
        content = b"".join([chunk async for chunk in bot.fetch(Attachment(ref=url, name="a b.txt"))])
        assert content == b"tea"
        elsewhere = f"http://127.0.0.1:{party.server.http_port}"
        with pytest.raises(ValueError, match="404"):
            [chunk async for chunk in bot.fetch(Attachment(ref=f"{elsewhere}/none", name="other"))]
        with pytest.raises(Undeliverable, match="does not take the file"):
            await bot.send(direct(ann), Reply("", (Attachment("file", "big", data=bytes(2_000_000)),)))


@needs_prosody
@pytest.mark.parametrize(("policy", "answer"), [("accept", "subscribed"), ("refuse", "unsubscribed")])
async def test_who_wants_to_see_the_bot_online_is_let_or_not(policy: str, answer: str, party: Party) -> None:
    ann = await party.person("ann")
    await ann.iq("<query xmlns='jabber:iq:roster'/>")
    async with party.run(contacts=policy):
        ann.send(f"<presence type='subscribe' to='{party.bot}'/>")
        await ann.seen(lambda one: one.tag == f"{C}presence" and one.get("type") == answer)


class WithoutArchives(XmppRig):
    def _running(self) -> Prosody:
        return Prosody(archives=False)


@needs_prosody
async def test_without_archives_what_was_not_safe_at_a_crash_comes_again(tmp_path: Path) -> None:
    (tmp_path / "rig").mkdir()
    rig = WithoutArchives(tmp_path / "rig")
    await rig.start()
    try:
        await SCENARIOS["what_was_not_accepted_comes_again_after_a_crash"].run(Talk(rig, tmp_path))
    finally:
        await rig.stop()


@needs_prosody
async def test_a_server_without_extensions_will_do(tmp_path: Path) -> None:
    party = Party(tmp_path, Prosody(extensions=False))
    try:
        ann = await party.person("ann")
        await ann.join(party.room, "Ann")
        keys = {"rooms": [party.room], "nick": "Roost"}
        async with party.run(**keys) as (bot, ear):
            await bot.send(direct(ann), Reply("hello"))
            await ann.seen(body("hello"))
            with pytest.raises(Undeliverable):
                await bot.send(Place("xmpp", f"nobody@{HOST}"), Reply("hello"))
            assert bot.limits.media == {}
            ann.send(message(party.room, "groupchat", "one"))
            await ear.until(lambda: ear.texts == ["one"])
        ann.send(message(party.room, "groupchat", "two"))
        ann.send(message(party.bot, "chat", "kept"))
        await ann.iq("<ping xmlns='urn:xmpp:ping'/>", to=HOST)
        async with party.run(**keys) as (_, again):
            await again.until(lambda: {"two", "kept"} <= set(again.texts))
            identities = [one.identity for one in (*ear.heard, *again.heard)]
            assert len(set(identities)) == 3
        await ann.close()
    finally:
        party.server.stop()


@needs_prosody
async def test_an_answer_that_nobody_confirms_may_have_been_sent(party: Party) -> None:
    ann = await party.person("ann")
    async with Gate("127.0.0.1", party.server.port) as gate, party.run(port=gate.port) as (bot, _):
        gate.hold()
        sending = asyncio.create_task(bot.send(direct(ann), Reply("hello")))
        stream = bot._stream
        assert stream is not None
        while not stream._pending:
            await asyncio.sleep(0)
        stream.fail("the test says so.")
        with pytest.raises(MaybeSent):
            await sending
        gate.release()


@needs_prosody
async def test_nothing_of_a_channel_that_was_stopped_goes_on(party: Party) -> None:
    before = asyncio.all_tasks()
    async with party.run(rooms=[party.room]):
        assert asyncio.all_tasks() - before
    assert asyncio.all_tasks() - before == set()
