"""The channel against mail-devel, and against servers that say no."""

from __future__ import annotations

import asyncio
import imaplib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imapclient
import pytest
from kit.listener import listening
from kit.rig import LIMIT
from kit.scenarios import answered
from kit.talk import Talk
from rigs.email import EmailRig, server

from roost.channels.email import Email, EmailConfig, access
from roost.channels.email_box import Cut, Mailbox
from roost.channels.email_post import Post, Way
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.letters import dead
from roost.values import Place, Reply

MAIL = b"Subject: tea\r\n\r\nhello\r\n"
EHLO = "250-mail.test\r\n250 8BITMIME"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[EmailRig]:
    folder = tmp_path / "platform"
    folder.mkdir()
    one = EmailRig(folder)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


# ------------------------------------------------------------------------------------------ the way out


@asynccontextmanager
async def saying(**said: str) -> AsyncIterator[tuple[Way, list[str]]]:
    """A mail server with these answers, by the first word it hears; "cut" hangs up. BODY is for the mail itself."""
    heard: list[str] = []
    answers = {"EHLO": EHLO, "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go on", "BODY": "250 taken"} | said

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer, answers, heard)
        finally:
            writer.transport.abort()

    async with listening(serve) as port:
        yield Way("127.0.0.1", port, "", "", None, False), heard


async def converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: dict[str, str], heard: list[str]
) -> None:
    writer.write(b"220 mail.test\r\n")
    while line := (await reader.readline()).decode().strip():
        word = line.split()[0].upper()
        heard.append(word)
        if answers.get(word) == "cut":
            return
        writer.write(f"{answers.get(word, '502 what')}\r\n".encode())
        if word == "DATA" and answers[word].startswith("354"):
            await reader.readuntil(b"\r\n.\r\n")
            heard.append("BODY")
            if answers["BODY"] == "cut":
                return
            writer.write(f"{answers['BODY']}\r\n".encode())


@pytest.mark.parametrize(
    ("said", "error", "pause"),
    [
        ({"MAIL": "451 later"}, NotSent, 60.0),
        ({"RCPT": "450 greylisted"}, NotSent, 60.0),
        ({"RCPT": "421 closing"}, NotSent, None),
        ({"RCPT": "550 no such user"}, Undeliverable, None),
        ({"MAIL": "552 too large"}, Undeliverable, None),
        ({"MAIL": "530 log in first"}, LoginFailed, None),
        ({"DATA": "451 later"}, NotSent, 60.0),
        ({"BODY": "452 disk full"}, NotSent, 60.0),
        ({"BODY": "554 spam"}, Undeliverable, None),
        ({"EHLO": "cut"}, NotSent, None),
        ({"MAIL": "cut"}, NotSent, None),
        ({"RCPT": "cut"}, NotSent, None),
        ({"BODY": "cut"}, MaybeSent, None),
        ({"BODY": "200 hm"}, MaybeSent, None),
    ],
)
async def test_what_the_server_says_means_what_it_means(
    said: dict[str, str], error: type[Exception], pause: float | None
) -> None:
    async with saying(**said) as (way, _):
        post = Post(way, "bot@mail.test")
        with pytest.raises(error) as caught:
            await post.send("ann@x.test", MAIL)
        assert getattr(caught.value, "retry_after", None) == pause


async def test_one_connection_carries_many_mails_and_a_stale_one_is_made_again() -> None:
    async with saying() as (way, heard):
        post = Post(way, "bot@mail.test")
        for _ in range(3):
            await post.send("ann@x.test", MAIL)
        assert heard.count("EHLO") == 1 and heard.count("BODY") == 3
        smtp: Any = post._smtp
        smtp.transport.abort()
        await post.send("ann@x.test", MAIL)
        assert heard.count("EHLO") == 2 and heard.count("BODY") == 4
        post.close()


async def test_no_password_is_sent_where_encryption_was_asked_for_and_is_not_there() -> None:
    async with saying() as (way, heard):
        post = Post(Way(way.host, way.port, "bot", "secret", ssl.create_default_context(), True), "bot@mail.test")
        with pytest.raises((LoginFailed, NotSent)):
            await post.check()
        assert not {"AUTH", "MAIL"} & set(heard)


async def test_a_server_that_is_not_there_has_nothing() -> None:
    async with saying() as (way, _):
        pass
    with pytest.raises(NotSent, match=r"127\.0\.0\.1"):
        await Post(way, "bot@mail.test").send("ann@x.test", MAIL)


# -------------------------------------------------------------------------------------------- the way in


async def test_mail_that_was_there_before_the_first_start_is_left_alone(rig: EmailRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    await rig.say("old news")
    async with talk.up():
        await rig.say("news")
        await rig.until(answered("echo news"))
        assert [message.text for message in talk.said] == ["news"]


async def test_when_the_numbering_changes_nothing_is_lost_and_nothing_is_answered_twice(
    rig: EmailRig, tmp_path: Path
) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up():
        await rig.say("one")
        await rig.until(answered("echo one"))
    (kept,) = tmp_path.rglob("mail.json")
    values = json.loads(kept.read_text())
    kept.write_text(json.dumps(values | {"validity": values["validity"] + 1, "uid": 10_000}))
    await rig.say("two")
    async with talk.up():
        await rig.until(answered("echo one", "echo two"))
        await rig.say("three")
        await rig.until(answered("echo one", "echo two", "echo three"))


async def test_a_server_that_does_not_push_is_asked(
    rig: EmailRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imapclient.IMAPClient, "has_capability", lambda self, name: False)
    async with Talk(rig, tmp_path).up(table=rig.table() | {"poll": 1.0}) as stage:
        async with asyncio.timeout(LIMIT):
            await stage.bot.channels["email"].up.wait()
        await rig.say("one")
        await rig.until(answered("echo one"))


async def test_what_was_answered_is_marked_as_seen_and_a_newsletter_is_not(rig: EmailRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        letter = rig.write()
        letter["List-Id"] = "<tea.mail.test>"
        letter.set_content("buy tea")
        await rig.send(letter)
        await rig.say("one")
        await rig.until(answered("echo one"))
        await rig.say("two")
        await rig.until(answered("echo one", "echo two"))
    flags = await asyncio.to_thread(flags_of_all, rig)
    assert [b"\\Seen" in one for one in flags] == [False, True, True]


def flags_of_all(rig: EmailRig) -> list[bytes]:
    inbox = imaplib.IMAP4("127.0.0.1", server().imap)
    inbox.login(rig.bot, "secret")
    inbox.select(readonly=True)
    _, told = inbox.fetch("1:*", "(FLAGS)")
    inbox.logout()
    return [bytes(one) for one in told]


async def test_a_report_that_an_address_does_not_exist_ends_writing_to_it(rig: EmailRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        await rig.say("one")
        (shown,) = await rig.until(answered("echo one"))
        report = REPORT.replace("BOT", rig.bot).replace("ANN", rig.ann).replace("<ID>", f"<{shown.id}>")
        await asyncio.to_thread(rig._put, report.encode())
        await rig.until(lambda shown: dead(stage.bot.journal.path))
        (letter,) = dead(stage.bot.journal.path)
        assert (letter.text, letter.error) == ("echo one", "A mail server could not deliver it: 5.1.1 550 unknown.")
        channel = talk.channel(stage)
        with pytest.raises(Undeliverable, match="no such address"):
            await channel.send(talk.said[-1].place, Reply("are you there"))
        await rig.say("I am back")
        await rig.until(answered("echo I am back"))


async def test_a_mail_that_is_only_late_or_that_somebody_made_up_has_not_come_back(
    rig: EmailRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Talk(rig, tmp_path).up() as stage:
        await rig.say("one")
        (shown,) = await rig.until(answered("echo one"))
        report = REPORT.replace("BOT", rig.bot).replace("ANN", rig.ann).replace("<ID>", f"<{shown.id}>")
        late = report.replace("failed", "delayed").replace("5.1.1", "4.4.1")
        forged = report.replace(shown.id, f"x{shown.id[1:]}")
        given_up = report.replace("5.1.1", "4.4.7").replace("550 unknown", "421 no answer for five days")
        for mail in (forged, late, given_up):
            await asyncio.to_thread(rig._put, mail.encode())
        await rig.until(lambda shown: dead(stage.bot.journal.path))
        (letter,) = dead(stage.bot.journal.path)
        assert letter.error.endswith("4.4.7 421 no answer for five days.")
        assert "was not delivered yet: 4.4.1" in caplog.text
        assert (
            await stage.bot.journal.do(
                lambda db: db.execute("SELECT count(*) FROM inbox WHERE kind = 'event'").fetchone()
            )
        ) == (1,)


REPORT = (
    "From: MAILER-DAEMON@mail.test\r\nTo: BOT\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
    "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; ANN\r\n"
    "Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 unknown\r\n\r\n--b\r\n"
    "Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <ID>\r\n\r\n--b--\r\n"
)


async def test_two_programs_that_answer_each_other_soon_fall_silent(
    rig: EmailRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Talk(rig, tmp_path).up(table=rig.table() | {"hourly": 2}) as stage:
        async with asyncio.timeout(LIMIT):
            await stage.bot.channels["email"].up.wait()
        for text in ("one", "two", "three"):
            await rig.say(text)
        async with asyncio.timeout(LIMIT):
            while "more than 2 mails an hour" not in caplog.text:
                await rig.news()
        await rig.until(answered("echo one", "echo two"))


async def test_a_mail_that_is_too_large_is_not_fetched(rig: EmailRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up(table=rig.table() | {"max_size": 5_000}) as stage:
        async with asyncio.timeout(LIMIT):
            await stage.bot.channels["email"].up.wait()
        await rig.say("word " * 5_000)
        await rig.until(bool)
        assert talk.said[0].text == "[mail of 0 MB, too large to read]"


async def test_neither_the_password_nor_a_mail_is_logged(
    rig: EmailRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("imapclient", "imapclient.imaplib", "aiosmtplib"):
        caplog.set_level(logging.getLogger(name).level, name)
    async with Talk(rig, tmp_path).up(table=rig.table() | {"password": "wrong-password"}) as stage:
        async with asyncio.timeout(LIMIT):
            while stage.bot.channels["email"].state != "stopped":
                await rig.news()
    assert "wrong-password" not in caplog.text
    assert stage.bot.channels["email"].problem.startswith("The mail server '127.0.0.1' does not let the bot in")


async def test_a_server_that_hangs_up_is_quoted_as_it_spoke(tmp_path: Path) -> None:
    async def bye(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* BYE Try again later\r\n")
        writer.close()

    async with listening(bye) as port:
        keys = EmailConfig(
            address="bot@mail.test", password="x", imap_host="127.0.0.1", imap_port=port, imap_tls="none"
        )
        box = Mailbox(access(keys, "email"))
        with pytest.raises(Cut, match=r"^'BYE Try again later'\.$"):
            await box.open()
        await box.close()


# ------------------------------------------------------------------------------------------------ the keys


def made(folder: Path, **keys: Any) -> Email:
    host: Any = SimpleNamespace(home=folder, bot_name="Roost", pulse=lambda: None)
    return Email("email", EmailConfig(password="secret", imap_host="localhost", **keys), host)


def test_an_address_that_is_none_and_a_certificate_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'bot' is no mail address"):
        made(tmp_path, address="bot")
    with pytest.raises(LoginFailed, match=r"none\.pem' cannot be read as certificates"):
        made(tmp_path, address="bot@mail.test", ca=str(tmp_path / "none.pem"))


def test_a_password_in_the_clear_is_warned_of_beyond_this_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path, address="bot@mail.test", smtp_tls="none")
    assert "unencrypted" not in caplog.text
    made(tmp_path, address="bot@mail.test", smtp_host="mail.test", smtp_tls="none")
    assert "The password goes to 'mail.test' unencrypted" in caplog.text


def test_that_warning_comes_once_for_a_server_however_often_the_line_to_it_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host: Any = SimpleNamespace(home=tmp_path, bot_name="Roost", pulse=lambda: None)
    config = EmailConfig(
        address="bot@mail.test", password="secret", imap_host="mail.test", imap_tls="none", smtp_tls="none"
    )
    Email("email", config, host)
    access(config, "email")
    assert caplog.text.count("unencrypted") == 1


def test_somebody_who_adds_it_is_asked_for_the_server_that_mail_is_sent_by() -> None:
    asked = [one.name for one in fields(EmailConfig) if one.metadata.get("ask")]
    assert asked == ["smtp_host"]


async def test_what_cannot_be_sent_while_nothing_runs_is_not_sent(tmp_path: Path) -> None:
    channel = made(tmp_path, address="bot@mail.test", smtp_port=1, smtp_tls="none")
    with pytest.raises(NotSent):
        await channel.send(Place("email", "ann@x.test"), Reply("hello"))
