"""What a mail says: its words, its author, and whether a person wrote it."""

from __future__ import annotations

import contextlib
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.channels.email_proof import named, verified
from roost.channels.email_proof import parse as results
from roost.channels.email_quotes import answer, flow, without_signature
from roost.channels.email_read import Reader, Stamp
from roost.channels.email_robots import bounce, parse
from roost.channels.email_write import Letterhead, recipient, write
from roost.errors import Undeliverable
from roost.media import Media
from roost.values import Attachment, Message, Place, Reply

STAMP = Stamp(b"s" * 16, "mail.test")
HEAD = Letterhead("Roost", "bot@mail.test", "A message", "", STAMP)

HISTORIES = {
    "Gmail": "On Sun, Nov 22, 2026 at 8:12 PM Roost <bot@mail.test> wrote:\n\n> Hello\n>\n> there",
    "Gmail, wrapped": "On Sun, Nov 22, 2026 at 8:12 PM Roost Rooster The Third\n<bot@mail.test> wrote:\n> Hello",
    "German": "Am 22.11.2026 um 20:12 schrieb Roost:\n> Hallo",
    "French": "Le dim. 22 nov. 2026 à 20:12, Roost <bot@mail.test> a écrit :\n> Bonjour\n> toi",
    "Japanese": "2026年11月22日(日) 20:12 Roost <bot@mail.test>:\n> こんにちは",
    "Chinese": "Roost <bot@mail.test> 于2026年11月22日周日 20:12写道：\n> 你好",
    "bare": "> Hello\n> there",
    "Outlook": "________________________________\nFrom: Roost <bot@mail.test>\nSent: Sunday, 22 November 2026 20:12\n"
    "To: Ann <ann@x.test>\nSubject: Re: tea\n\nHello\nthere",
    "Outlook, German": "Von: Roost <bot@mail.test>\nGesendet: Sonntag, 22. November 2026 20:12\nAn: Ann\n"
    "Betreff: AW: Tee\n\nHallo",
    "Outlook, HTML": "**From:** Roost <bot@mail.test>\n**Sent:** Sunday, 22 November 2026 20:12\n**To:** Ann\n\nHello",
    "Outlook on the web": "___\n\n**From:** Roost \\<bot@mail.test>\n**Sent:** 22 November 2026 20:12\n**To:** A\n\nTo",
    "Yahoo": "On Sunday, November 22, 2026 at 08:12:00 PM GMT+1, Roost \\<bot@mail.test> wrote:\n\nHow long?",
    "divider": "-----Original Message-----\nFrom: Roost\n\nHello",
    "divider, escaped": "\\-------- Ursprüngliche Nachricht --------\nHallo",
    "signature": "-- \nAnn Person\n+44 1",
    "signature and quote": "--\nAnn\n\nOn 22.11.2026 20:12, Roost wrote:\n> Hello",
    "quote and signature": "On 22.11.2026 20:12, Roost wrote:\n> Hello\n\n-- \nAnn",
    "telephone": "Sent from my iPhone\n\nOn 22 Nov 2026, at 20:12, Roost <bot@mail.test> wrote:\n\n> Hello",
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
def test_only_what_was_written_now_is_left_of_an_answer(history: str) -> None:
    said = "Yes, please.\n\n    indented()\n\nAnd a list:\n- one\n- two"
    assert answer(f"{said}\n\n{history}") == said
    assert answer(f"{said}\r\n\r\n{history}".replace("\n", "\r\n").replace("\r\r", "\r")) == said


def test_an_answer_below_the_quotation_is_found() -> None:
    assert answer("On 22.11.2026 20:12, Roost wrote:\n> Tea?\n> Milk?\n\nYes.\n") == "Yes."


def test_a_quotation_between_answers_stays_since_they_need_it() -> None:
    text = "> Tea?\n\nYes.\n\n> Milk?\n\nNo."
    assert answer(f"On 22.11.2026 20:12, Roost wrote:\n{text}") == "Yes.\n\n> Milk?\n\nNo."


def test_a_greeting_may_stand_above_the_quotation() -> None:
    text = "Hello,\n\nOn 22.11.2026 20:12, Roost <bot@mail.test> wrote:\n> Tea?\n\nYes."
    assert answer(text) == text


@pytest.mark.parametrize(
    "text", ["> only a quote", "Time: 10:30\nPlace: here\nWho: all", "One thing:\n- a", "a -- b\n\nc", "-- \nAnn"]
)
def test_what_only_looks_like_a_quotation_stays(text: str) -> None:
    assert answer(text) == text


def test_a_mail_that_answers_nothing_keeps_what_it_quotes() -> None:
    forwarded = "What do you think?\n\n---------- Forwarded message ---------\nFrom: Bob <bob@x.test>\n\n> old\n\nBye"
    assert without_signature(f"{forwarded}\n-- \nAnn") == forwarded


@given(st.text(alphabet="ab>- :\n年.@0123456789_*", max_size=200))
def test_nothing_that_was_said_becomes_nothing(text: str) -> None:
    assert bool(answer(text)) == bool(text.strip())
    assert all(line in text for line in answer(text).split("\n"))


@given(st.lists(st.text(alphabet="abc é👍", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=5))
def test_plain_lines_are_never_taken_away(lines: list[str]) -> None:
    said = "\n".join(lines).strip()
    assert answer(f"{said}\n\n{HISTORIES['Gmail']}") == said


def test_lines_that_a_program_broke_are_put_together() -> None:
    """The example of RFC 3676, section 4.2, and space-stuffing."""
    assert flow("Thou art a villainous \nill-breeding \nbug.\n From here\n>> a \n>> b\n> c\n-- \nAnn") == (
        "Thou art a villainous ill-breeding bug.\nFrom here\n>> a b\n> c\n-- \nAnn"
    )
    assert flow("日 \n本", delete_space=True) == "日本"


# ------------------------------------------------------------------------------------------ who wrote it

GOOGLE = (
    "mx.google.com;\r\n dkim=pass header.i=@x.test header.s=s header.b=abc;\r\n spf=pass (google.com: domain of "
    "a@x.test designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@x.test;"
    "\r\n dmarc=pass (p=NONE) header.from=x.test"
)


@pytest.mark.parametrize(
    ("fields", "proven"),
    [
        ([GOOGLE], True),
        (["mx.google.com; dmarc=fail header.from=x.test; dkim=pass header.d=x.test"], False),
        (["mx.google.com; dmarc=pass header.from=y.test"], False),
        (["mx.google.com; dmarc=none; dkim=pass header.d=x.test"], True),
        (["mx.google.com; dkim=pass header.d=test"], False),
        (["mx.google.com; dkim=pass header.d=evil.test"], False),
        (["mx.google.com; dkim=fail header.d=x.test; spf=pass smtp.mailfrom=a@x.test"], True),
        (["mx.google.com; spf=pass smtp.mailfrom=a@evil.test"], False),
        (["mx.google.com; none"], False),
        (["mx.evil.test; dmarc=pass header.from=x.test"], False),
        (["mx.google.com; none", GOOGLE], False),  # the lower one may have come with the mail
        (["mx.other.test; none", GOOGLE], True),
        (["mx.google.com (dmarc=pass header.from=x.test); none"], False),
        (['mx.google.com; spf=fail smtp.mailfrom="; dmarc=pass header.from=x.test "@evil.test'], False),
        (["mx.google.com; dmarc=fail header.from=x.test; dmarc=pass header.from=x.test"], False),
        (["spf=pass smtp.mailfrom=x.test; dmarc=pass header.from=x.test"], False),
        ([""], False),
        ([], False),
    ],
)
def test_only_the_own_provider_proves_who_wrote(fields: list[str], proven: bool) -> None:
    assert verified(fields, "mx.Google.com", "x.test") is proven


@given(st.text(alphabet='ab;=() "\\.@/', max_size=60))
def test_any_field_can_be_read(value: str) -> None:
    assert all(one.method and one.result for one in results(value))
    assert named(value) == named(value).lower()


# ------------------------------------------------------------------------------------------------ reading


def reader(folder: Path, **fields: object) -> Reader:
    return Reader("email", ("bot@mail.test", "help@mail.test"), STAMP, Media(folder / "media"), **fields)  # type: ignore[arg-type]


def read(folder: Path, raw: str, **fields: object) -> Message:
    return reader(folder, **fields).read(raw.replace("\n", "\r\n").encode(), 7.0)


PLAIN = "From: Ann Person <Ann@X.test>\nTo: Bot@mail.test\nMessage-ID: <m1@x.test>\n"


def test_a_mail_is_a_message_in_a_thread_with_its_author(tmp_path: Path) -> None:
    message = read(tmp_path, PLAIN + "\nhello\n")
    assert (message.text, message.id, message.at) == ("hello", "m1@x.test", 7.0)
    assert str(message.place) == "email:ann@x.test/m1@x.test"
    assert (str(message.sender), message.sender.name) == ("email:ann@x.test", "Ann Person")
    later = read(tmp_path, PLAIN.replace("m1", "m3") + "In-Reply-To: <m2@b>\nReferences: <m1@x.test> <m2@b>\n\nmore\n")
    assert later.place == message.place
    assert later.quote is not None and later.quote.id == "m2@b"
    one = read(tmp_path, PLAIN + "\nhello\n", threads=False)
    assert str(one.place) == "email:ann@x.test"


def test_a_subject_is_read_unless_it_stands_before_a_command_or_a_code(tmp_path: Path) -> None:
    subject = PLAIN + "Subject: =?utf-8?q?Caf=C3=A9?= tonight\n"
    assert read(tmp_path, subject + "\nshall we go?").text == "Café tonight\n\nshall we go?"
    assert read(tmp_path, subject + "\n").text == "Café tonight"
    assert read(tmp_path, subject + "\n/help me").text == "/help me"
    assert read(tmp_path, subject + "\nABCD2345").text == "ABCD2345"
    assert read(tmp_path, subject + "In-Reply-To: <a@b>\n\nshall we go?").text == "shall we go?"


def test_a_mail_without_an_id_has_the_same_one_each_time(tmp_path: Path) -> None:
    raw = "From: ann@x.test\n\nhello"
    assert read(tmp_path, raw).identity == read(tmp_path, raw).identity
    assert read(tmp_path, raw).identity != read(tmp_path, raw + "!").identity


def test_html_is_read_where_there_is_nothing_else_and_pictures_in_it_are_files(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["From"] = "ann@x.test"
    mail.set_content("<p>I am <b>bold</b></p><img src='cid:1'><script>x</script>", subtype="html")
    mail.add_related(b"PNG", "image", "png", cid="<1>")
    message = reader(tmp_path).read(mail.as_bytes(), 0.0)
    assert message.text == "I am **bold**"
    assert [(one.kind, one.mime, one.size) for one in message.attachments] == [("image", "image/png", 3)]


async def test_a_mail_that_is_attached_is_a_file(tmp_path: Path) -> None:
    inner = EmailMessage()
    inner["Subject"] = "old"
    inner.set_content("old words")
    mail = EmailMessage()
    mail["From"] = "ann@x.test"
    mail.set_content("see below")
    mail.add_attachment(inner)
    mail.add_attachment(b"%PDF", "application", "pdf", filename="../ä/b.pdf")
    read_by = reader(tmp_path)
    message = read_by.read(mail.as_bytes(), 0.0)
    assert message.text == "see below"
    assert [one.name for one in message.attachments] == ["mail.eml", ".._ä_b.pdf"]
    assert b"old words" in b"".join([chunk async for chunk in read_by.media.read(message.attachments[0].ref)])


def test_what_cannot_be_shown_is_named(tmp_path: Path) -> None:
    sealed = PLAIN + "Content-Type: multipart/encrypted; boundary=b\n\n--b\nContent-Type: text/plain\n\nx\n--b--\n"
    assert read(tmp_path, sealed).text == "[encrypted mail]"
    large = reader(tmp_path).read(PLAIN.encode() + b"Subject: holiday\n\n", 0.0, 45_000_000)
    assert large.text == "holiday\n\n[mail of 45 MB, too large to read]"


def test_an_unknown_charset_and_broken_bytes_are_read_as_far_as_they_can(tmp_path: Path) -> None:
    raw = b"From: ann@x.test\r\nContent-Type: text/plain; charset=martian\r\n\r\nhall\xc3\xb6 \xff"
    assert reader(tmp_path).read(raw, 0.0).text == "hallö \ufffd"


def test_who_is_not_proven_is_somebody_else(tmp_path: Path) -> None:
    forged = "Authentication-Results: mx.google.com; dmarc=fail header.from=x.test\n" + PLAIN + "\nit is me"
    message = read(tmp_path, forged, authserv_id="mx.google.com")
    assert str(message.sender) == "email:unverified:ann@x.test"
    assert message.place != read(tmp_path, PLAIN + "\nx").place
    proven = "Authentication-Results: mx.google.com; dmarc=pass header.from=x.test\n" + PLAIN + "\nit is me"
    assert str(read(tmp_path, proven, authserv_id="mx.google.com").sender) == "email:ann@x.test"
    assert Place.parse(str(message.place)) == message.place


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Auto-Submitted: auto-replied; owner-email=a", "program"),
        ("Auto-Submitted: auto-generated", "program"),
        ("Precedence: Bulk", "many"),
        ("List-Id: <tea.x.test>", "list-id"),
        ("X-Auto-Response-Suppress: OOF, AutoReply", "no automatic"),
        ("X-Autoreply: yes", "x-autoreply"),
        ("Return-Path: <>", "no return path"),
        ("X-Loop: bot@mail.test", "own"),
        ("Content-Type: multipart/report; boundary=x", "report"),
        ("Cc: bot@mail.test\nTo: bob@x.test", "copy"),
    ],
)
def test_what_no_person_wrote_is_not_answered(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(tmp_path, "From: ann@x.test\n" + line + "\n\nhello")


NOBODY = "MAILER-DAEMON@x.test no-reply@x.test noreply+1@x.test bounces-7@x.test bot@mail.test Bot+tag@mail.test"


@pytest.mark.parametrize("sender", [*NOBODY.split(), "root@localhost", "help@mail.test"])
def test_an_address_that_nobody_reads_gets_no_answer(tmp_path: Path, sender: str) -> None:
    with pytest.raises(ValueError):
        read(tmp_path, f"From: {sender}\n\nhello")


@pytest.mark.parametrize(
    "line", ["Auto-Submitted: no", "X-Auto-Response-Suppress: DR, RN", "Cc: bob@x.test", "To: a@b"]
)
def test_what_a_person_wrote_is_answered(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"From: ann@x.test\n{line}\n\nhello").text == "hello"


def test_two_bots_do_not_answer_each_other(tmp_path: Path) -> None:
    for reply in (Reply("hello"), Reply("hello", ticket='["a@b", [], "tea"]')):
        _, raw = write(Place("email", "other@mail.test"), reply, "k", HEAD)
        with pytest.raises(ValueError, match="program"):
            Reader("email", ("other@mail.test",), STAMP, Media(tmp_path)).read(raw, 0.0)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):
        Reader("email", ("bot@mail.test",), STAMP, Media(Path("/nonexistent"))).read(b"From: a@x.test\r\n" + raw, 0.0)
    bounce(b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n" + raw)


# ------------------------------------------------------------------------------------------------- writing


def test_an_answer_is_text_and_html_in_the_thread_of_the_question(tmp_path: Path) -> None:
    asked = read(tmp_path, PLAIN + "Subject: Re: AW: tea\nReferences: <m0@x>\n\nhow long?")
    id, raw = write(asked.place, Reply("**Four** minutes", ticket=asked.ticket), "k1", HEAD)
    mail = parse(raw)
    assert mail["Subject"] == "Re: tea" and mail["To"] == "ann@x.test" and mail["From"] == "Roost <bot@mail.test>"
    assert mail["In-Reply-To"] == "<m1@x.test>" and str(mail["References"]).split() == ["<m0@x>", "<m1@x.test>"]
    assert mail["Auto-Submitted"] == "auto-replied" and mail["Message-ID"] == f"<{id}>"
    assert mail.get_content_type() == "multipart/alternative"
    assert part(mail, "plain") == "Four minutes\n"
    assert "<strong>Four</strong> minutes" in part(mail, "html")
    assert write(asked.place, Reply("again"), "k1", HEAD)[0] == id
    assert write(asked.place, Reply("again"), "k2", HEAD)[0] != id


def test_what_answers_nothing_begins_a_conversation_that_the_answer_goes_on_with(tmp_path: Path) -> None:
    home = Place("email", "ann@x.test")
    id, raw = write(home, Reply("wake up"), "k", HEAD)
    assert parse(raw)["Subject"] == "A message" and parse(raw)["Auto-Submitted"] == "auto-generated"
    back = read(tmp_path, PLAIN.replace("m1", "m9") + f"In-Reply-To: <{id}>\nReferences: <{id}>\n\nI am up")
    assert back.place == home
    other = read(tmp_path, PLAIN.replace("Ann@X", "bob@x") + f"In-Reply-To: <{id}>\n\nI am up")
    assert other.place.thread, "only who got the mail can answer it"


def test_an_answer_that_names_only_what_it_answers_stays_in_its_thread(tmp_path: Path) -> None:
    asked = read(tmp_path, PLAIN + "\nhow long?")
    id, _ = write(asked.place, Reply("Four minutes", ticket=asked.ticket), "k1", HEAD)
    back = PLAIN.replace("m1", "m9") + f"In-Reply-To: <{id}>\n\nthanks"
    assert read(tmp_path, back, roots={id: "m1@x.test"}).place == asked.place
    assert read(tmp_path, back.replace("Ann@X", "bob@x"), roots={id: "m1@x.test"}).place.thread == id


def test_no_header_can_be_added_through_a_subject_a_name_or_a_thread() -> None:
    evil = Reply("x", ticket='["a@b", ["c@d"], "tea\\r\\nBcc: all@x.test\\r\\n\\r\\nbody"]')
    head = Letterhead("Roost\r\nBcc: a@b.c", "bot@mail.test", "s", "[bot]", STAMP)
    mail = parse(write(Place("email", "ann@x.test", "t"), evil, "k", head)[1])
    assert "Bcc" not in mail
    assert mail["Subject"] == "Re: [bot] tea Bcc: all@x.test body"


def test_long_threads_and_every_script_arrive() -> None:
    chain = [f"{'x' * 120}{n}@a.test" for n in range(9)]
    ticket = '["' + "y" * 200 + '@a.test", ["' + '", "'.join(chain) + '"], "你好 👋 ' + "é" * 100 + '"]'
    raw = write(Place("email", "ann@x.test", "t"), Reply("你好 \ud800 👋\n" + "z" * 3000, ticket=ticket), "k", HEAD)[1]
    assert raw.isascii() and max(map(len, raw.split(b"\r\n"))) <= 998
    mail = parse(raw)
    assert str(mail["References"]).split() == [f"<{one}>" for one in [*chain, "y" * 200 + "@a.test"]]
    assert str(mail["Subject"]).startswith("Re: 你好 👋 é")
    assert part(mail, "plain").startswith("你好 ? 👋") and "z" * 3000 in part(mail, "plain")


def test_files_go_out_as_they_are_and_what_is_too_much_is_named() -> None:
    files = (
        Attachment("image", "tée.png", "image/png", data=b"PNG"),
        Attachment("file", "a.bin", "not a mime", data=b"\x00" * 17_000_000),
        Attachment("file", "page", url="https://x.test/a b"),
    )
    mail = parse(write(Place("email", "ann@x.test"), Reply("here", files), "k", HEAD)[1])
    (one,) = mail.iter_attachments()
    assert (one.get_filename(), one.get_content_type(), one.get_content()) == ("tée.png", "image/png", b"PNG")
    body = mail.get_body(("plain",))
    assert body is not None
    assert "[a.bin: too large for this mail]" in body.get_content() and "https://x.test" in body.get_content()


@pytest.mark.parametrize("chat", ["ann", "ann@x.test\r\nRCPT TO:<b@c>", "a b@c.d", "ann@x.test,bob@x.test", "ä@x.test"])
def test_what_is_no_address_is_not_written_to(chat: str) -> None:
    with pytest.raises(Undeliverable):
        recipient(Place("email", chat))


# ------------------------------------------------------------------------------------------------- bounces

REPORT = """Return-Path: <>
From: MAILER-DAEMON@mail.test
To: bot@mail.test
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.mail.test

Final-Recipient: rfc822; Ann@x.test
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <ann@x.test>: unknown

--b
Content-Type: KIND

Message-ID: <ID>
Subject: Re: tea

--b--
"""


@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers"])
def test_a_report_says_what_was_not_delivered_and_to_whom(tmp_path: Path, kind: str) -> None:
    id = STAMP.make("k", "ann@x.test", "t")
    report = bounce(REPORT.replace("KIND", kind).replace("ID>", f"{id}>").encode())
    assert report is not None
    assert (report.recipient, report.original, report.status, report.final) == ("ann@x.test", id, "5.1.1", True)
    assert "unknown" in report.why
    assert STAMP.knows(report.original, report.recipient) and not STAMP.knows(report.original, "bob@x.test")
    assert not Stamp(b"t" * 16, "mail.test").knows(id, "ann@x.test")
    with pytest.raises(ValueError):
        read(tmp_path, REPORT)


def test_what_is_no_report_is_none() -> None:
    assert bounce(b"From: a@b\r\n\r\nx") is None
    assert bounce(b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--") is None


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")
