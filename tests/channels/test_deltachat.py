"""What Delta Chat has beyond the scenarios, and the pure functions."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.rig import LIMIT
from kit.scenarios import answered, place_of
from kit.talk import Talk
from rigs.deltachat import BOT, DeltaChatRig

from roost.channels.deltachat import DeltaChat
from roost.channels.deltachat_account import DeltaChatConfig, refusal, transport
from roost.channels.deltachat_core import Core, Gone, Refused
from roost.channels.deltachat_messages import (
    LINES,
    WIDTH,
    Around,
    Names,
    files,
    pieces,
    quoted,
    read,
    read_change,
    spoken_to,
    write,
)
from roost.errors import ChannelError, ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.letters import dead
from roost.values import Attachment, Event, Place, Quote, Reply, Sent

NAMES = Names("deltachat", "aa11")
ANN = {"id": 11, "displayName": "Ann", "address": "ann@mail.test"}
FOUND: dict[str, Any] = {
    "id": 20,
    "chatId": 12,
    "fromId": 11,
    "sender": ANN,
    "text": "hello",
    "timestamp": 1_750_000_000,
    "viewType": "Text",
    "file": None,
    "fileName": None,
    "fileMime": None,
    "fileBytes": 0,
    "quote": None,
    "error": None,
    "vcardContact": None,
    "systemMessageType": "Unknown",
}
FOLDER = Path("/accounts")


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    folder = tmp_path / "platform"
    folder.mkdir()
    rig = DeltaChatRig(folder)
    try:
        await rig.start()
        yield Talk(rig, tmp_path)
    finally:
        await rig.stop()


def rig_of(talk: Talk) -> DeltaChatRig:
    assert isinstance(talk.rig, DeltaChatRig)
    return talk.rig


async def until(condition: Any, talk: Talk) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await talk.rig.news()


# With the program


async def test_what_a_mail_server_refuses_becomes_a_dead_letter(talk: Talk) -> None:
    rig = rig_of(talk)
    async with talk.up() as stage:
        await rig.say("hello")
        await rig.until(answered("echo hello"))
        assert rig.gate is not None
        rig.gate.answer(b"RCPT TO:", b"550 5.1.1 No such user here\r\n")
        await stage.bot.send(place_of(talk), "are you there")
        await until(lambda: dead(stage.bot.journal.path), talk)
        (letter,) = dead(stage.bot.journal.path)
        assert letter.text == "are you there" and "No such user here" in letter.error


async def test_a_program_that_dies_is_started_again_and_one_that_is_not_needed_is_ended(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
        await stage.quiet(LIMIT)
        channel: Any = talk.channel(stage)
        first = channel._core.pid
        os.kill(first, signal.SIGKILL)
        await talk.rig.say("two")
        await talk.rig.until(answered("echo one", "echo two"))
        second = channel._core.pid
        assert second != first
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_files_above_the_limit_are_named_and_smaller_ones_come_whole(talk: Talk) -> None:
    large, larger = os.urandom(300_000), os.urandom(2_000_000)
    async with talk.up(table=talk.rig.table() | {"max_size": 1_000_000}) as stage:
        await talk.ready(stage)
        await talk.rig.opened("")
        for name, content in (("notes.bin", large), ("film.bin", larger)):
            path = rig_of(talk).folder / name
            path.write_bytes(content)
            await rig_of(talk).send(text=name, file=str(path), filename=name, viewtype="File")
            await until(lambda name=name: any(one.text.startswith(name) for one in talk.said), talk)
        small, big = talk.said
        assert await small.attachments[0].read() == large
        assert (small.attachments[0].name, small.attachments[0].size) == ("notes.bin", len(large))
        assert not big.attachments
        assert big.text == "film.bin [film.bin – 1.91 MiB]\n[too large to be fetched]"


async def test_what_is_neither_text_nor_file_becomes_words(talk: Talk) -> None:
    rig = rig_of(talk)
    async with talk.up():
        await rig.send(text="I am here", location=[52.1, 4.3])
        card = rig.folder / "bob.vcf"
        card.write_text(await rig.ask("make_vcard", rig.bob, [1]))
        await rig.send(file=str(card), viewtype="Vcard")
        await until(lambda: len(talk.said) == 2, talk)
        assert talk.said[0].text == "I am here\n[location 52.1, 4.3]"
        assert talk.said[1].text.startswith("[contact Bob bob-")


async def test_who_takes_a_message_back_and_who_joins_is_told(talk: Talk) -> None:
    rig = rig_of(talk)
    async with talk.up():
        id = await rig.say("never mind")
        await talk.rig.until(answered("echo never mind"))
        await rig.ask("delete_messages_for_all", rig.ann, [int(id)])
        await until(lambda: [one for one in talk.events if one.kind == "deleted"], talk)
        assert talk.events[-1].message_id == talk.said[0].id
        await rig.say("hello", "group", mention=True)
        await rig.until(answered("echo hello"), "group")
        members = await rig.ask("get_chat_contacts", rig.ann, rig._chats["group"])
        (bob,) = [one for one in members if one not in (1, rig.contact)]
        await rig.ask("remove_contact_from_chat", rig.ann, rig._chats["group"], bob)
        await until(lambda: [one for one in talk.events if one.kind == "left"], talk)
        assert talk.events[-1].place == talk.said[-1].place


async def test_a_quotation_at_the_beginning_and_forty_lines_are_seen_whole(talk: Talk) -> None:
    lines = "\n\n".join(f"line {number}" for number in range(40))
    answers = {"quote": "> said before\n\nand mine", "lines": lines}
    async with talk.up(lambda said: answers[said]):
        await talk.rig.say("quote")
        (shown,) = await talk.rig.answers(1)
        assert "said before" in shown.text and "and mine" in shown.text
        await talk.rig.say("lines")
        shown_all = await talk.rig.until(lambda shown: "line 39" in shown[-1].text)
        assert "[...]" not in "".join(one.text for one in shown_all)
        assert "".join(one.text for one in shown_all[1:]).replace("\n", "") == lines.replace("\n", "")


async def test_edits_of_a_split_message_and_deletions_of_what_is_gone(talk: Talk) -> None:
    async with talk.up() as stage:
        await talk.rig.say("hello")
        await talk.rig.until(answered("echo hello"))
        channel = talk.channel(stage)
        sent = await channel.send(place_of(talk), Reply("\n\n".join(f"line {number}" for number in range(30))))
        assert len(sent.ids) == 2
        await talk.rig.answers(3)
        await channel.edit(sent, Reply("short"))
        await talk.rig.until(answered("echo hello", "short"))
        await channel.edit(Sent(sent.place, sent.ids[:1]), Reply("\n\n".join(["a"] * 30)))
        await talk.rig.until(lambda shown: shown[-1].text.startswith("a\n"))
        await channel.delete(sent)
        await channel.delete(sent)
        await talk.rig.until(lambda shown: [one.text for one in shown] == ["echo hello"])


async def test_a_password_that_is_wrong_from_now_on_stops_an_account_that_has_worked(talk: Talk) -> None:
    async with talk.up():
        await talk.rig.say("one")
        await talk.rig.until(answered("echo one"))
    async with talk.up(table=talk.rig.bad_table()) as stage:
        bad = stage.bot.channels["deltachat"]
        await until(lambda: bad.state == "stopped", talk)
        assert "wrong-password" not in bad.problem and "[channels.deltachat]" in bad.problem
    async with talk.up():
        await talk.rig.say("two")
        await talk.rig.until(answered("echo one", "echo two"))


async def test_an_invitation_is_for_its_owners_eyes(talk: Talk) -> None:
    async with talk.up():
        (link,) = talk.folder.rglob("invite.txt")
        (picture,) = talk.folder.rglob("invite.svg")
        assert link.read_text().startswith("https://i.delta.chat/#") and "<svg" in picture.read_text()
        assert link.stat().st_mode & 0o077 == 0


async def test_requests_to_a_program_that_has_ended_or_refuses(tmp_path: Path) -> None:
    async with Core(tmp_path / "accounts") as core:
        with pytest.raises(Refused, match="account"):
            await core.call("start_io", 77)
        waiting = asyncio.create_task(core.call("get_next_event_batch"))
        await core.call("get_system_info")
        os.kill(core.pid, signal.SIGKILL)
        with pytest.raises(Gone) as gone:
            await waiting
        assert gone.value.asked
        with pytest.raises(Gone) as gone:
            await core.call("get_system_info")
        assert not gone.value.asked


async def test_a_folder_that_another_program_holds_is_told(tmp_path: Path) -> None:
    async with Core(tmp_path / "accounts") as first:
        await first.call("get_system_info")
        async with Core(tmp_path / "accounts") as second:
            with pytest.raises(Gone, match="lock"):
                await second.call("get_system_info")


# Without it


class Host(SimpleNamespace):
    def pulse(self) -> None: ...

    def trouble(self, why: str) -> None: ...


def channel(folder: Path, **keys: Any) -> DeltaChat:
    given = {"address": "bot@mail.test", "password": "p4ss"} | keys
    return DeltaChat("deltachat", DeltaChatConfig(**given), Host(home=folder, bot_name="Roost"))


def test_an_account_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dcaccount"):
        channel(tmp_path, password="")
    channel(tmp_path, address="", password="", account="dcaccount:https://chat.example/new")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('IMAP failed to login as b: no response: code: None, info: Some("[AUTHENTICATIONFAILED] no")', LoginFailed),
        ("SMTP failed to login: permanent: 5.7.8 p4ss is wrong", LoginFailed),
        ('Cannot login as "b". Please check if the email address and the password are correct.', LoginFailed),
        ('IMAP failed to login as b: no response: info: Some("[UNAVAILABLE] later")', ChannelError),
        ("IMAP failed to connect to mail.test: timeout", ChannelError),
    ],
)
def test_a_refused_password_is_told_from_a_server_in_trouble(said: str, kind: type) -> None:
    error = refusal(f"Error:\n\n“{said}”", DeltaChatConfig(address="b@mail.test", password="p4ss"), "deltachat")
    assert type(error) is kind
    assert "p4ss" not in str(error) and str(error).endswith(".")


class Scripted:
    """A program that answers as it is told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    async def call(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Gone(asked=True), MaybeSent),
        (Gone(asked=False), NotSent),
        (Refused("Cannot send to chat: not a member"), Undeliverable),
        (Refused("database or disk is full"), NotSent),
    ],
)
async def test_what_goes_wrong_while_sending_is_sorted(tmp_path: Path, answer: Exception, kind: type) -> None:
    one: Any = channel(tmp_path)
    with pytest.raises(NotSent):
        await one.send(Place("deltachat", "aa11.12"), Reply("hello"))
    one._core, one._names = Scripted(answer), NAMES
    with pytest.raises(kind):
        await one.send(Place("deltachat", "aa11.12"), Reply("hello"))
    with pytest.raises(Undeliverable, match="made anew"):
        await one.send(Place("deltachat", "bb22.12"), Reply("hello"))


async def test_a_message_given_up_after_cuts_is_sent_again_and_a_refused_one_is_not(tmp_path: Path) -> None:
    one: Any = channel(tmp_path)
    one._names = NAMES
    came: list[Event] = []

    async def receive(item: Any) -> bool:
        came.append(item)
        return True

    for why, methods in (
        ("Number of retries exceeded the limit.", ["get_message", "resend_messages"]),
        ("550 no such user", ["get_message"]),
    ):
        core = Scripted({"error": why})
        await one._happened(core, {"kind": "MsgFailed", "chatId": 12, "msgId": 7}, receive)
        assert [asked[0] for asked in core.asked] == methods
    assert came == [Event("undelivered", NAMES.place(12), message_id="7", value="550 no such user")]


async def test_a_file_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for ref in ("../secret", "../../etc/passwd", "dc.db", ""):
        with pytest.raises(ValueError, match="no file"):
            _ = [chunk async for chunk in channel(tmp_path).fetch(Attachment(ref=ref))]


def cut_by_the_program(text: str) -> bool:
    """`truncate_by_lines`: https://github.com/chatmail/core/blob/main/src/tools.rs"""
    lines = length = 0
    for letter in text:
        length = 0 if letter == "\n" else length + 1
        if letter == "\n" or length > WIDTH:
            lines += 1
            length = min(length, 1)
        if lines == LINES:
            return True
    return False


@given(st.lists(st.text(alphabet="ab\n ", max_size=300), max_size=40).map("\n".join).filter(lambda t: len(t) < 3800))
def test_no_part_of_a_text_is_cut_and_no_letter_lost(text: str) -> None:
    parts = pieces(text)
    assert not any(cut_by_the_program(part) for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_the_bot_is_meant_where_it_is_named() -> None:
    assert spoken_to(f"@{BOT} hello", BOT) == ("hello", True)
    assert spoken_to("birdie: hello", BOT) == ("hello", True)
    assert spoken_to("ask @birdie, she knows", BOT) == ("ask @birdie, she knows", True)
    assert spoken_to("@birdies fly", BOT) == ("@birdies fly", False)
    assert spoken_to("birdie sings", BOT) == ("birdie sings", False)


def test_what_messages_say() -> None:
    direct = read(FOUND, NAMES, BOT, Around(), FOLDER)
    assert (direct.text, direct.addressed, str(direct.place)) == ("hello", True, "deltachat:aa11.12")
    assert (direct.sender.id, direct.sender.name) == ("aa11.11", "Ann")
    assert not read(FOUND, NAMES, BOT, Around("group"), FOLDER).addressed
    assert read(FOUND, NAMES, BOT, Around("group", quotes_bot=True), FOLDER).addressed
    assert not read(FOUND, NAMES, BOT, Around("broadcast", quotes_bot=True), FOLDER).addressed
    call = FOUND | {"viewType": "Call", "text": ""}
    assert read(call, NAMES, BOT, Around(), FOLDER).text == "[call]"
    broken = FOUND | {"text": "", "error": "cannot decrypt"}
    assert read(broken, NAMES, BOT, Around(), FOLDER).text == "[message that cannot be read: cannot decrypt]"
    assert quoted({"kind": "JustText", "text": "before"}) == Quote("", "before", "")


def test_files_are_named_by_where_they_are_in_the_folder() -> None:
    picture = {"file": "/accounts/u/dc.db-blobs/x.png", "fileName": "tea.png", "fileBytes": 9, "viewType": "Image"}
    (one,) = files(FOUND | picture | {"fileMime": "image/png"}, FOLDER)
    assert one == Attachment("image", "tea.png", "image/png", 9, "u/dc.db-blobs/x.png")
    assert files(FOUND | picture | {"file": "/etc/passwd"}, FOLDER) == ()
    assert files(FOUND | picture | {"viewType": "File"}, FOLDER)[0].kind == "image"
    assert files(FOUND | picture | {"viewType": "Webxdc", "fileName": "chess.xdc"}, FOLDER)[0].kind == "file"


def test_own_and_unknown_changes_are_no_events() -> None:
    added = FOUND | {"systemMessageType": "MemberAddedToGroup"}
    event = read_change(added, NAMES, ANN)
    assert event is not None and event.kind == "joined" and event.person == NAMES.person(ANN)
    assert read_change(added, NAMES, ANN | {"id": 1}) is None
    assert read_change(FOUND, NAMES, ANN) is None


def test_what_is_sent() -> None:
    picture = Attachment("image", "tea.png", "image/png", data=b"x")
    moving = Attachment("image", "", "image/gif", data=b"x")
    assert write(Reply("**hi**"), 7) == [{"text": "hi", "quotedMessageId": 7}]
    assert write(Reply("hi", (picture,))) == [{"viewtype": "Image", "filename": "tea.png", "text": "hi"}]
    assert write(Reply("hi\n" * 60, (moving,)))[-1] == {"viewtype": "Gif", "filename": "file"}


def test_servers_are_found_by_the_address_unless_named() -> None:
    bare = {name: value for name, value in transport(DeltaChatConfig(address="a@b.c", password="p")).items() if value}
    assert bare == {"addr": "a@b.c", "password": "p"}
    told = transport(DeltaChatConfig(address="a@b.c", password="p", imap_host="h", imap_tls="tls", verify=False))
    assert (told["imapServer"], told["smtpServer"], told["imapSecurity"]) == ("h", "h", "ssl")
    assert told["certificateChecks"] == "acceptInvalidCertificates"
