from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from servers import telegram as telegram_server
from servers.telegram import TelegramServer
from servers.telegram_rules import RULES
from telegram import User

from roost.channels import telegram, telegram_http
from roost.channels.telegram import Telegram, TelegramConfig
from roost.channels.telegram_replies import data, write
from roost.channels.telegram_updates import read
from roost.contracts import Said
from roost.dialects import PLAIN, render
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, StoreError, Undeliverable
from roost.values import Attachment, Button, Event, Mention, Message, Place, Reply

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
ME = User(110201543, "Roost", True, username="roost_bot")
ANN = {"id": 42, "is_bot": False, "first_name": "Ann", "last_name": "Lee", "username": "ann"}
DIRECT = {"id": 42, "type": "private", "first_name": "Ann"}
GROUP = {"id": -1007, "type": "supergroup", "title": "Tea"}
HERE = Place("telegram", "42")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)

# ------------------------------------------------------------------------------------------------ reading


def update(
    text: str = "hello", chat: dict[str, Any] | None = None, kind: str = "message", **fields: Any
) -> dict[str, Any]:
    body = {"message_id": 5, "date": 1700000000, "chat": chat or DIRECT, "from": ANN, **fields}
    return {"update_id": 9, kind: body | ({"text": text} if text else {})}


def entity(kind: str, text: str, part: str, **fields: Any) -> dict[str, Any]:
    before, covered = text[: text.index(part)], part
    return {"type": kind, "offset": units(before), "length": units(covered), **fields}


def file(id: str, **fields: Any) -> dict[str, Any]:
    return {"file_id": id, "file_unique_id": f"u{id}", **fields}


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def said(*given: Any, **fields: Any) -> Message:
    message = read(update(*given, **fields), "telegram", ME)
    assert isinstance(message, Message)
    return message


def test_a_direct_message_becomes_a_message_with_its_place_and_sender() -> None:
    message = said("hello")
    assert (message.id, str(message.place), message.text, message.at) == ("5", "telegram:42", "hello", 1700000000.0)
    assert (str(message.sender), message.sender.name, message.sender.handle) == ("telegram:42", "Ann Lee", "ann")
    assert message.addressed and not message.edited
    assert message.place.kind == "direct"


@pytest.mark.parametrize(
    ("kind", "given", "part", "fields", "expected"),
    [
        ("bold", "say it now", "it", {}, "say **it** now"),
        ("italic", "say it now", "it", {}, "say *it* now"),
        ("strikethrough", "say it now", "it", {}, "say ~~it~~ now"),
        ("underline", "say it now", "it", {}, "say it now"),
        ("bold", "say it now", " it ", {}, "say **it** now"),
        ("bold", "one\n\ntwo", "one\n\ntwo", {}, "**one**\n\n**two**"),
        ("code", "run a`b now", "a`b", {}, "run ``a`b`` now"),
        ("pre", "x = 1", "x = 1", {"language": "python"}, "```python\nx = 1\n```"),
        ("pre", "see\na ``` b", "a ``` b", {}, "see\n\n````\na ``` b\n````"),
        ("text_link", "see here", "here", {"url": "https://a.b/c"}, "see [here](https://a.b/c)"),
        ("blockquote", "so\nit\nis\nyes", "it\nis", {}, "so\n\n> it\n> is\n\nyes"),
        ("expandable_blockquote", "it\nis", "it\nis", {}, "> it\n> is"),
        ("bold", "😀👨‍👩‍👧 hi 😀", "hi", {}, "😀👨‍👩‍👧 **hi** 😀"),
        ("url", "https://a.b/_c_/d", "https://a.b/_c_/d", {}, "<https://a.b/_c_/d>"),
        ("url", "see https://a.b/c_d", "https://a.b/c_d", {}, "see https://a.b/c_d"),
    ],
)
def test_an_entity_becomes_markdown(kind: str, given: str, part: str, fields: Any, expected: str) -> None:
    assert said(given, entities=[entity(kind, given, part, **fields)]).text == expected


def test_entities_may_stand_in_one_another_and_share_an_edge() -> None:
    text = "very 😀 good"
    entities = [
        entity("italic", text, "good"),
        entity("bold", text, "😀 good"),
        entity("text_link", text, text, url="x:y"),
    ]
    assert said(text, entities=entities).text == "[very **😀** ***good***](x:y)".replace("** ***good***", " *good***")


@pytest.mark.parametrize(
    "text", ["*a*", "_a_", "`a`", "# a", "> a", "- a", "1. a", "[a](b)", "~~a~~", "a\\*b", "&amp;", "<a:b>"]
)
def test_markdown_that_somebody_typed_stays_what_they_typed(text: str) -> None:
    assert render(said(text).text, PLAIN) == text


@pytest.mark.parametrize("text", ["2 * 3 = 6", "snake_case_name", "a [b] c", "/set a_b 1", "5 < 6 & 7 > 2", "@a_b hi"])
def test_what_means_nothing_in_markdown_is_not_escaped(text: str) -> None:
    assert said(text).text == text


@given(st.text(alphabet="ab 😀*_`~[]()<>#\n", min_size=1, max_size=30), st.data())
def test_any_entities_give_some_text_and_lose_no_letter(text: str, drawn: st.DataObject) -> None:
    spans = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["bold", "italic", "code", "pre", "blockquote", "text_link", "mention", "url"]),
            "offset": st.integers(0, 40),
            "length": st.integers(0, 40),
            "url": st.just("https://a.b"),
        }
    )
    written = said(text, entities=drawn.draw(st.lists(spans, max_size=5))).text
    assert [c for c in text if c in "ab😀"] == [c for c in written.replace("https://a.b", "") if c in "ab😀"]


def test_half_an_emoji_does_not_break_the_message() -> None:
    assert said("😀", entities=[{"type": "bold", "offset": 0, "length": 1}]).text == "😀"
    said("\ud83d alone").text.encode()


@pytest.mark.parametrize(
    ("text", "marked", "addressed", "expected"),
    [
        ("hello all", "", False, "hello all"),
        ("@roost_bot, what now", "mention", True, "what now"),
        ("@Roost_Bot what now", "mention", True, "what now"),
        ("ask @roost_bot", "mention", True, "ask @roost_bot"),
        ("@other_bot what now", "mention", False, "@other_bot what now"),
        ("/new", "bot_command", True, "/new"),
        ("/new@roost_bot now", "bot_command", True, "/new now"),
        ("/new@other_bot now", "bot_command", False, "/new@other_bot now"),
    ],
)
def test_in_a_group_only_some_messages_are_for_the_bot(text: str, marked: str, addressed: bool, expected: str) -> None:
    words = [word.strip(",") for word in text.split() if word[0] in "@/"]
    message = said(text, chat=GROUP, entities=[entity(marked, text, word) for word in words])
    assert (message.addressed, message.text) == (addressed, expected)


def test_an_answer_to_the_bot_is_for_the_bot_and_carries_what_it_answers() -> None:
    origin = update("the *whole* answer", chat=GROUP)["message"] | {"from": ME.to_dict(), "message_id": 3}
    message = said("why?", chat=GROUP, reply_to_message=origin, quote={"text": "whole", "position": 4})
    assert message.addressed
    assert message.quote is not None
    assert (message.quote.id, message.quote.text, message.quote.author) == ("3", "whole", "Roost")
    assert not said("why?", chat=GROUP, reply_to_message=origin | {"from": ANN}).addressed


def test_a_topic_is_a_thread_and_its_first_message_is_no_quote() -> None:
    root = {"message_id": 3, "date": 1, "chat": GROUP, "from": ME.to_dict(), "forum_topic_created": {"name": "Tea"}}
    message = said("hi", chat=GROUP, message_thread_id=3, is_topic_message=True, reply_to_message=root)
    assert (str(message.place), message.quote, message.addressed) == ("telegram:-1007/3", None, False)
    assert said("hi", chat=GROUP, message_thread_id=3).place.thread == ""


def test_what_a_web_app_sends_is_said() -> None:
    assert said("", web_app_data={"data": "two teas", "button_text": "Order"}).text == "[web app data two teas]"


def test_mentions_are_spans_of_the_text() -> None:
    text = "😀 ask *Bob* and @ann"
    entities = [entity("text_mention", text, "*Bob*", user={"id": 7}), entity("mention", text, "@ann")]
    message = said(text, entities=entities)
    assert [(message.text[one.start : one.end], one.person) for one in message.mentions] == [
        ("\\*Bob\\*", "7"),
        ("@ann", "@ann"),
    ]
    text = "@roost_bot ask @ann"
    message = said(text, entities=[entity("mention", text, "@roost_bot"), entity("mention", text, "@ann")])
    assert (message.text, message.mentions) == ("ask @ann", (Mention(4, 8, "@ann"),))
    assert said("@ann", entities=[entity("mention", "@ann", "@ann")]).mentions == (Mention(0, 4, "@ann"),)


def test_a_redelivery_has_the_same_identity_and_every_edit_another() -> None:
    first, edit = update("a"), update("b", kind="edited_message", edit_date=1700000005)
    later = update("c", kind="edited_message", edit_date=1700000005) | {"update_id": 10}
    keys = [read(one, "telegram", ME).identity for one in (first, update("a"), edit, later)]  # type: ignore[union-attr]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert said("b", kind="edited_message", edit_date=1700000005).edited


@pytest.mark.parametrize(
    ("fields", "kind", "name", "ref"),
    [
        ({"photo": [file("s", width=9, height=9), file("L", width=99, height=9)]}, "image", "photo-uL.jpg", "L"),
        ({"document": file("D", file_name="a.pdf", mime_type="application/pdf")}, "file", "a.pdf", "D"),
        ({"voice": file("V")}, "voice", "voice-uV.ogg", "V"),
        ({"sticker": file("S", is_animated=False, is_video=True)}, "sticker", "sticker-uS.webm", "S"),
        ({"animation": file("A"), "document": file("D")}, "video", "animation-uA.mp4", "A"),
        ({"video_note": file("N")}, "video", "video_note-uN.mp4", "N"),
    ],
)
def test_a_file_becomes_an_attachment(fields: Any, kind: str, name: str, ref: str) -> None:
    message = said("", caption="*look*", **fields)
    (attachment,) = message.attachments
    assert (attachment.kind, attachment.name, attachment.ref) == (kind, name, ref)
    assert message.text == "\\*look\\*"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"location": {"latitude": 52.1, "longitude": 4.3}}, "[location 52.1, 4.3]"),
        (
            {"venue": {"title": "Bar", "address": "A 1", "location": {"latitude": 1, "longitude": 2}}, "location": {}},
            "[venue Bar, A 1, 1, 2]",
        ),
        ({"contact": {"first_name": "Bob", "phone_number": "+311"}}, "[contact Bob, +311]"),
        ({"poll": {"question": "Tea?", "options": [{"text": "yes"}, {"text": "no"}]}}, "[poll Tea? / yes / no]"),
        ({"dice": {"emoji": "🎲", "value": 4}}, "[dice 🎲 4]"),
        ({"story": {"id": 1}}, "[story]"),
        ({"something_new": {"a": 1}}, "[something new]"),
        ({"rich_message": {"blocks": [{"type": "paragraph", "text": ["a ", {"text": "b"}]}]}}, "[rich message a b]"),
    ],
)
def test_what_is_no_text_is_described(fields: Any, expected: str) -> None:
    assert said("", **fields).text == expected


@pytest.mark.parametrize("fields", [{"new_chat_title": "x"}, {"pinned_message": {}}, {"migrate_to_chat_id": -1}])
def test_service_messages_are_not_said_by_anybody(fields: Any) -> None:
    assert read(update("", chat=GROUP, **fields), "telegram", ME) is None


def test_other_bots_are_not_heard_but_anonymous_admins_and_channels_are() -> None:
    robot = ANN | {"is_bot": True}
    assert read(update("hi", chat=GROUP, **{"from": robot}), "telegram", ME) is None
    admin = said("hi", chat=GROUP, sender_chat=GROUP, **{"from": robot})
    assert (admin.sender.id, admin.sender.name) == ("-1007", "Tea")
    channel = {"id": -1009, "type": "channel", "title": "News"}
    post = {"update_id": 1, "channel_post": {"message_id": 1, "date": 1, "chat": channel, "text": "hi"}}
    message = read(post, "telegram", ME)
    assert isinstance(message, Message)
    assert (message.place.kind, message.sender.name, message.addressed) == ("broadcast", "News", False)


def test_reactions_and_membership_become_events() -> None:
    thumb, heart = {"type": "emoji", "emoji": "👍"}, {"type": "emoji", "emoji": "❤"}
    change = {
        "chat": GROUP,
        "message_id": 5,
        "user": ANN,
        "date": 7,
        "old_reaction": [thumb],
        "new_reaction": [thumb, heart],
    }
    event = read({"update_id": 1, "message_reaction": change}, "telegram", ME)
    assert isinstance(event, Event)
    assert (event.kind, event.value, event.message_id, str(event.person)) == ("reacted", "❤", "5", "telegram:42")
    members = {"old_chat_member": {"status": "member"}, "new_chat_member": {"status": "kicked", "user": ME.to_dict()}}
    event = read(
        {"update_id": 1, "my_chat_member": {"chat": DIRECT, "from": ANN, "date": 1, **members}}, "telegram", ME
    )
    assert isinstance(event, Event)
    assert (event.kind, str(event.person)) == ("left", "telegram:42")
    event = read(update("", chat=GROUP, new_chat_members=[ME.to_dict(), ANN]), "telegram", ME)
    assert isinstance(event, Event)
    assert (event.kind, event.value) == ("joined", "Ann Lee")


# ------------------------------------------------------------------------------------------------ writing


def test_a_text_is_written_as_html_with_its_plain_self_in_reserve() -> None:
    (call,) = write(Place("telegram", "-1007", "3"), Reply("**hi** <b>", quote="5"))
    assert call.method == "send_message"
    assert call.parameters["text"] == "<b>hi</b> &lt;b&gt;"
    assert (call.parameters["chat_id"], call.parameters["message_thread_id"]) == (-1007, 3)
    assert call.parameters["reply_parameters"] == {"message_id": 5, "allow_sending_without_reply": True}
    assert call.plain is not None
    assert call.plain.parameters["text"] == "hi <b>"
    assert "parse_mode" not in call.plain.parameters


def test_a_short_text_is_a_caption_and_a_long_one_a_message_before_the_file() -> None:
    files = (Attachment("image", "a.png", data=PNG), Attachment("file", "b.bin", data=b"b"))
    first, second = write(HERE, Reply("look", files, buttons=(Button("OK", "ok"),)))
    assert (first.method, first.parameters["caption"], second.method) == ("send_photo", "look", "send_document")
    assert "caption" not in second.parameters
    assert "reply_markup" in second.parameters
    assert [call.method for call in write(HERE, Reply("x" * 1025, files))] == [
        "send_message",
        "send_photo",
        "send_document",
    ]


def test_a_file_goes_as_what_telegram_takes_it_for() -> None:
    big = Attachment("image", "big.png", data=bytes(10 * 1024 * 1024 + 1))
    gif = Attachment("image", "fun.gif", "image/gif", data=b"GIF89a")
    again = Attachment("voice", ref="AwAC")
    calls = write(HERE, Reply("", (big, gif, again, Attachment("sticker", data=b"x"))))
    assert [call.method for call in calls] == ["send_document", "send_animation", "send_voice", "send_document"]
    assert calls[2].parameters["voice"] == "AwAC"
    with pytest.raises(Undeliverable, match="empty"):
        write(HERE, Reply("", (Attachment(name="nothing"),)))


@pytest.mark.parametrize("place", [Place("telegram", "ann"), Place("telegram", "4 2")])
def test_a_place_that_is_no_chat_of_telegram_is_refused_with_a_sentence(place: Place) -> None:
    with pytest.raises(Undeliverable, match="is no chat of Telegram"):
        write(place, Reply("hi"))


def test_values_of_buttons_fit_into_64_bytes_and_never_collide() -> None:
    values = ["ok", "é" * 32, "é" * 33, "x" * 500, "~ok", data(Button("x", "x" * 500))]
    sent = [data(Button("label", value)) for value in values]
    assert all(len(one.encode()) <= 64 for one in sent)
    assert len(set(sent)) == len(values)
    assert sent[:2] == values[:2]
    assert data(Button("label")) == "label"


# ------------------------------------------------------------------------------------------------ the wire


class Core:
    """The host and the receiving end, as a channel sees them."""

    def __init__(self, home: Path) -> None:
        self.home, self.bot_name = home, "Roost"
        self.alive = asyncio.Event()
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []
        self.begun: list[str] = []
        self.troubles: list[str] = []

    def pulse(self) -> None:
        self.alive.set()

    def trouble(self, why: str) -> None:
        self.troubles.append(why)

    def address(self, path: str = "") -> str:
        return f"https://web.example{path}"

    def commands(self) -> Sequence[tuple[str, str]]:
        return [("help", "Tell what I can do."), ("Not-A-Name", "x"), ("new", "")]

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        return ()

    async def receive(self, message: Message | Event) -> bool:
        self.begun.append(getattr(message, "text", ""))
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.got.put_nowait(message)
        return True

    async def next(self) -> Any:
        async with asyncio.timeout(30):
            return await self.got.get()


class Line:
    """A server, a person on it, and the channel."""

    def __init__(self, server: TelegramServer, home: Path, **config: Any) -> None:
        self.server, self.core = server, Core(home)
        self.ann = server.person("Ann", username="ann")
        self.chat = server.private(self.ann)
        self.place = Place("telegram", str(self.chat.id))
        given = {"token": server.token, "base_url": server.base_url, **config}
        self.channel = Telegram("telegram", TelegramConfig(**given), self.core)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.channel.run(self.core.receive))
        self.core.alive.clear()
        ready = asyncio.create_task(self.core.alive.wait())
        try:
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=30)
            assert task.done() or ready.done(), "the channel did not come up"
            if task.done():
                task.result()
            yield
        finally:
            for one in (task, ready):
                one.cancel()
            await asyncio.gather(task, ready, return_exceptions=True)


PAUSES = telegram.pauses


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "pauses", lambda: itertools.repeat(0.02))


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer(TOKEN) as server:
        yield server
        assert server.complaints == []


@pytest.fixture
async def line(server: TelegramServer, tmp_path: Path) -> AsyncIterator[Line]:
    line = Line(server, tmp_path)
    async with line.running():
        yield line


async def test_what_a_person_says_arrives_and_the_answer_leaves(line: Line) -> None:
    await line.chat.say("hello 😀 **you**")
    message = await line.core.next()
    assert render(message.text, PLAIN) == "hello 😀 **you**"
    sent = await line.channel.send(message.place, Reply("**good** day, `x < 1` 😀 [a](https://a.b)", quote=message.id))
    reply = await line.chat.next_reply()
    assert sent.ids == (str(reply["message_id"]),)
    assert reply["text"] == "good day, x < 1 😀 a"
    assert [one["type"] for one in reply["entities"]] == ["bold", "code", "text_link"]
    assert reply["reply_to_message"]["message_id"] == int(message.id)


async def test_the_formatting_that_leaves_comes_back_the_same(line: Line) -> None:
    text = (
        "😀 **bold *both*** ~~no~~\n\n```py\nx = 1\n```\n\n> quoted **word**\n\n`a_b` [here](https://a.b/c) \\*not\\*"
    )
    await line.channel.send(line.place, Reply(text))
    reply = await line.chat.next_reply()
    assert said(reply["text"], entities=reply["entities"]).text == text


async def test_the_menu_shows_the_commands_whose_names_telegram_takes(line: Line) -> None:
    (commands,) = line.server.commands.values()
    assert [(one["command"], one["description"]) for one in commands] == [
        ("help", "Tell what I can do."),
        ("new", "new"),
    ]


async def test_in_a_group_the_bot_answers_in_the_topic_it_was_asked_in(line: Line) -> None:
    forum = line.server.forum("Tea", [line.ann])
    topic = await forum.topic("Green")
    await forum.say("@roost_bot how long?", topic=topic)
    message = await line.core.next()
    assert (message.text, message.addressed, message.place.thread) == ("how long?", True, str(topic))
    await line.channel.type(message.place)
    await line.channel.send(message.place, Reply("Two minutes.", quote=message.id))
    reply = await forum.next_reply()
    assert (reply["message_thread_id"], reply["reply_to_message"]["text"]) == (topic, "@roost_bot how long?")
    assert (line.server.actions[-1].action, line.server.actions[-1].topic) == ("typing", topic)


async def test_each_person_in_the_direct_messages_of_a_channel_is_a_place_of_their_own(line: Line) -> None:
    bob = line.server.person("Bob", username="bob")
    inbox = line.server.inbox("Tea News", [line.ann, bob])
    for who in (line.ann, bob):
        await inbox.say("@roost_bot is it out?", by=who)
        message = await line.core.next()
        assert str(message.place) == f"telegram:{inbox.id}/direct-{who.id}"
        await line.channel.type(message.place)
        await line.channel.send(message.place, Reply("Tomorrow."))
        png = Attachment("image", "a.png", "image/png", data=PNG)
        await line.channel.send(message.place, Reply("Here.", (png,), quote=message.id))
        for _ in range(2):
            reply = await inbox.next_reply()
            assert reply["direct_messages_topic"]["topic_id"] == who.id


@pytest.mark.parametrize("thread", ["main", "direct-", "direct-x", "-5"])
def test_a_thread_that_is_no_topic_is_refused_in_a_sentence(thread: str) -> None:
    with pytest.raises(Undeliverable, match="is no topic of Telegram"):
        write(Place("telegram", "-1007", thread), Reply("hi"))


async def test_pictures_that_were_sent_as_one_are_known_as_such(line: Line) -> None:
    for caption in ("look", "", ""):
        await line.chat.say(caption, photo=PNG, media_group_id="13000000001")
    await line.chat.say("alone", photo=PNG)
    found = [await line.core.next() for _ in "1234"]
    assert [one.album for one in found] == ["13000000001"] * 3 + [""]


async def test_a_photo_is_fetched_and_one_is_sent(line: Line) -> None:
    await line.chat.say("look", photo=PNG)
    message = await line.core.next()
    assert b"".join([chunk async for chunk in line.channel.fetch(message.attachments[0])]) == PNG
    picture = Attachment("image", "tea.png", "image/png", data=PNG)
    note = Attachment("file", 'für "Ann"\n😀.txt', "text/plain", data=b"x" * 2_000_000)
    sent = await line.channel.send(line.place, Reply("**here**", (picture, note)))
    first, second = await line.chat.next_reply(), await line.chat.next_reply()
    assert (first["caption"], first["caption_entities"][0]["type"], "photo" in first) == ("here", "bold", True)
    assert (second["document"]["file_name"], second["document"]["file_size"]) == ("für _Ann__😀.txt", 2_000_000)
    assert sent.ids == (str(first["message_id"]), str(second["message_id"]))


async def test_a_file_larger_than_the_limit_is_not_fetched(server: TelegramServer, tmp_path: Path) -> None:
    line = Line(server, tmp_path, max_media=1000)
    async with line.running():
        await line.chat.say(document=bytes(2000))
        message = await line.core.next()
        with pytest.raises(ValueError, match="more than 1000 bytes"):
            await anext(line.channel.fetch(message.attachments[0]))
        with pytest.raises(Undeliverable):
            await anext(line.channel.fetch(Attachment(ref="nothing")))
        server._paths.clear()
        with pytest.raises(Undeliverable, match="404"):
            await anext(line.channel.fetch(message.attachments[0]))


async def test_an_address_that_telegram_cannot_fetch_is_sent_as_a_link(line: Line) -> None:
    line.server.web["https://a.b/there.jpg"] = PNG
    for name in ("there", "gone"):
        await line.channel.send(line.place, Reply("look", (Attachment("image", url=f"https://a.b/{name}.jpg"),)))
    assert "photo" in await line.chat.next_reply()
    assert (await line.chat.next_reply())["text"] == "look\n\nhttps://a.b/gone.jpg"


async def test_html_that_telegram_cannot_parse_is_sent_as_plain_text(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = render
    monkeypatch.setattr(
        "roost.channels.telegram_replies.render", lambda text, dialect: real(text, dialect).replace("</b>", "</i>")
    )
    sent = await line.channel.send(line.place, Reply("**hi**"))
    assert (await line.chat.next_reply())["text"] == "hi"
    await line.channel.edit(sent, Reply("**ho**"))
    assert line.chat.edits[-1][1] == "ho"


async def test_an_answer_grows_by_edits_and_can_be_taken_back(line: Line) -> None:
    sent = await line.channel.send(line.place, Reply("one"))
    reply = await line.chat.next_reply()
    await line.channel.edit(sent, Reply("one **two**"))
    await line.channel.edit(sent, Reply("one **two**"))
    assert line.chat.edits == [(reply["message_id"], "one two")]
    await line.channel.edit(sent, Reply("one two three", (Attachment("file", "a.txt", data=b"a"),), key="k"))
    assert "document" in await line.chat.next_reply()
    assert reply["text"] == "one two three"
    await line.channel.delete(sent)
    await line.channel.delete(sent)
    assert line.chat.deleted == [reply]
    with pytest.raises(Undeliverable, match="not found"):
        await line.channel.edit(sent, Reply("four"))


async def test_the_caption_of_a_file_is_edited(line: Line) -> None:
    sent = await line.channel.send(line.place, Reply("one", (Attachment("image", "a.png", data=PNG),)))
    await line.channel.edit(sent, Reply("**two**"))
    assert (await line.chat.next_reply())["caption"] == "two"


async def test_a_pressed_button_says_its_value_even_after_a_restart(server: TelegramServer, tmp_path: Path) -> None:
    long = "a long value, " * 20
    line = Line(server, tmp_path)
    async with line.running():
        await line.channel.send(line.place, Reply("Well?", buttons=(Button("Yes", "yes"), Button("Long", long))))
        reply = await line.chat.next_reply()
    line = Line(server, tmp_path)
    line.chat = server.private(next(iter(server.people.values())))
    async with line.running():
        presses = [await line.chat.press(reply, label) for label in ("Yes", "Long", "Yes")]
        messages = [await line.core.next() for _ in presses]
        assert [message.text for message in messages] == ["yes", long, "yes"]
        assert len({message.identity for message in messages}) == 3
        await server.until(lambda: all(press["id"] in server.answers for press in presses))
        await line.channel.send(messages[0].place, Reply("Good.", quote=messages[0].id))
        assert "reply_to_message" not in await line.chat.next_reply()
    (tmp_path / "buttons.json").unlink()
    line.channel = Telegram("telegram", line.channel.config, line.core)
    async with line.running():
        await line.chat.press(reply, "Long")
        assert (await line.core.next()).text == "Long"


async def test_reactions_go_both_ways(line: Line) -> None:
    message = await line.chat.say("hi")
    await line.core.next()
    await line.chat.react(message, "👍")
    event = await line.core.next()
    assert (event.kind, event.value, event.message_id) == ("reacted", "👍", str(message["message_id"]))
    await line.channel.react(line.place, str(message["message_id"]), "❤️")
    await line.channel.react(line.place, str(message["message_id"]), "")
    assert [call["reaction"] for call in line.server.called("setMessageReaction")] == [
        [{"type": "emoji", "emoji": "❤"}],
        [],
    ]
    with pytest.raises(Undeliverable):
        await line.channel.react(line.place, "press:1", "👍")


async def test_an_edited_message_arrives_whole(line: Line) -> None:
    message = await line.chat.say("helo")
    first = await line.core.next()
    await line.chat.edit(message, "hello")
    second = await line.core.next()
    assert (second.id, second.text, second.edited) == (first.id, "hello", True)
    assert second.identity != first.identity


async def test_a_wrong_token_stops_the_channel_with_a_sentence(server: TelegramServer, tmp_path: Path) -> None:
    for token in ("110201543:wrong", "", "no token/at all"):
        line = Line(server, tmp_path, token=token)
        with pytest.raises(LoginFailed, match=r"bot\.toml: \[channels\.telegram\].*@BotFather") as caught:
            await line.channel.run(line.core.receive)
        assert "wrong" not in str(caught.value)
        assert not line.core.alive.is_set()


async def test_what_is_asked_for_stands_in_the_body_of_a_post_and_nothing_in_its_address(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = telegram_server.read, []

    async def noted(request: web.Request, complaints: list[str]) -> Any:
        asked.append((request.method, request.query_string))
        return await read(request, complaints)

    monkeypatch.setattr(telegram_server, "read", noted)
    for text in ("one", "two"):
        await line.chat.say(text)
        assert (await line.core.next()).text == text
    await line.channel.send(line.place, Reply("three"))
    assert set(asked) == {("POST", "")}


async def test_a_server_of_ones_own_that_is_too_old_for_a_method_is_no_wrong_token(
    server: TelegramServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that it does not know is answered as a token is that has not the form of one: with 404."""
    for method in ("setMyCommands", "getWebhookInfo", "setMessageReaction"):
        monkeypatch.delitem(RULES.methods, method.lower())
    line = Line(server, tmp_path)
    async with line.running():
        message = await line.chat.say("hello")
        assert (await line.core.next()).text == "hello"
        with pytest.raises(NotSent, match="no such method"):
            await line.channel.react(line.place, str(message["message_id"]), "👍")


async def test_errors_tell_whether_a_message_was_sent(line: Line) -> None:
    for fault, error, sent in (
        (429, NotSent, 0),
        (500, MaybeSent, 0),
        (502, MaybeSent, 0),
        ("drop_before_read", MaybeSent, 0),
        ("drop_after_processing", MaybeSent, 1),
        ("invalid_json", MaybeSent, 1),
        ("blocked", Undeliverable, 0),
    ):
        line.server.fail("sendMessage", fault, retry_after=7)
        before = len(line.chat.messages)
        with pytest.raises(error) as caught:
            await line.channel.send(line.place, Reply("hi"))
        assert len(line.chat.messages) - before == sent, fault
        assert getattr(caught.value, "retry_after", 7) == 7
        assert TOKEN not in str(caught.value)
    with pytest.raises(Undeliverable, match="Chat not found"):
        await line.channel.send(Place("telegram", "777"), Reply("hi"))


async def test_the_page_that_a_proxy_answers_with_is_not_part_of_the_error(line: Line) -> None:
    line.server.fail("sendMessage", 502)
    with pytest.raises(MaybeSent) as caught:
        await line.channel.send(line.place, Reply("hi"))
    assert str(caught.value) == "Telegram's answer got lost: Bad Gateway (502)."


async def test_nothing_was_sent_when_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        config = TelegramConfig(token=TOKEN, base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(NotSent, match="out of reach"):
            await Telegram("telegram", config, Core(tmp_path)).send(HERE, Reply("hi"))


async def test_an_answer_that_does_not_come_in_time_may_have_been_sent(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_http, "READ", 0.1)
    line.server.fail("sendMessage", "hang")
    with pytest.raises(MaybeSent, match="in time"):
        await line.channel.send(line.place, Reply("hi"))


async def test_a_redirection_is_not_followed_with_the_token(line: Line, tmp_path: Path) -> None:
    async def move(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{line.server.base_url}{request.path}")

    async with serving("POST", "/{path:.*}", move) as address:
        channel = Telegram("telegram", TelegramConfig(token=TOKEN, base_url=address), line.core)
        with pytest.raises(MaybeSent):
            await channel.send(line.place, Reply("hi"))
    assert line.chat.messages == []


async def test_an_http_proxy_of_the_environment_is_used(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        raise web.HTTPBadGateway

    async with serving("POST", "/{path:.*}", answer) as address:
        monkeypatch.setenv("http_proxy", address)
        channel = Telegram("telegram", TelegramConfig(token=TOKEN, base_url="http://telegram.invalid"), line.core)
        with pytest.raises(MaybeSent):
            await channel.send(line.place, Reply("hi"))
    assert asked == [f"http://telegram.invalid/bot{TOKEN}/sendMessage"]


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://ann:pass@127.0.0.1:1080")
    with pytest.raises(ConfigError, match="socks5") as caught:
        telegram_http.proxy("https://api.telegram.org")
    assert "pass" not in str(caught.value)
    monkeypatch.setenv("https_proxy", "127.0.0.1:3128")
    assert telegram_http.proxy("https://api.telegram.org") == "http://127.0.0.1:3128"
    monkeypatch.setenv("no_proxy", "api.telegram.org")
    assert telegram_http.proxy("https://api.telegram.org") is None


async def test_the_last_answers_leave_after_the_channel_has_stopped(
    line: Line, server: TelegramServer, tmp_path: Path
) -> None:
    other = Telegram("telegram", TelegramConfig(token=server.token, base_url=server.base_url), line.core)
    await other.send(line.place, Reply("bye"))
    assert (await line.chat.next_reply())["text"] == "bye"


async def test_a_reply_of_several_messages_goes_on_where_it_stopped(line: Line) -> None:
    files = tuple(Attachment("file", f"{number}.txt", data=b"x") for number in range(3))
    line.server.fail("sendDocument", "slow", times=2, interval=0)
    line.server.fail("sendDocument", 429)
    with pytest.raises(NotSent):
        await line.channel.send(line.place, Reply("here", files, key="k"))
    sent = await line.channel.send(line.place, Reply("here", files, key="k"))
    names = [(await line.chat.next_reply())["document"]["file_name"] for _ in files]
    assert names == ["0.txt", "1.txt", "2.txt"]
    assert len(sent.ids) == 3
    assert len(line.chat.messages) == 3


async def test_a_group_that_moved_is_found_again(line: Line) -> None:
    group = line.server.group("Tea", [line.ann])
    new = await group.migrate()
    sent = await line.channel.send(Place("telegram", str(group.id)), Reply("still here"))
    assert (await new.next_reply())["text"] == "still here"
    assert sent.place.chat == str(new.id)


async def test_updates_are_acknowledged_only_after_they_are_received(server: TelegramServer, tmp_path: Path) -> None:
    line = Line(server, tmp_path)
    line.core.gate.clear()
    texts = [str(number) for number in range(30)]
    for text in texts:
        await line.chat.say(text)
    async with line.running():
        with pytest.raises(TimeoutError):
            await server.until(lambda: len(server.updates) < 30, 0.2)
        # The core is given all of a batch at once, in order, so that it can store them together.
        assert line.core.begun == texts
        line.core.gate.set()
        assert [(await line.core.next()).text for _ in texts] == texts
        await server.until(lambda: server.polling and not server.updates)


async def test_what_the_core_could_not_store_comes_again(server: TelegramServer, tmp_path: Path) -> None:
    line = Line(server, tmp_path)
    line.core.errors.append(StoreError("The disk is full."))
    await line.chat.say("one")
    await line.chat.say("two")
    with pytest.raises(StoreError):
        await line.channel.run(line.core.receive)
    async with line.running():
        texts = [(await line.core.next()).text for _ in "123"]
    assert texts == ["two", "one", "two"]


async def test_one_update_that_makes_no_sense_does_not_hold_up_the_others(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.core.gate.clear()
    await line.chat.say("one")
    for body in ({"message_id": "secret"}, {"chat": 5}, 7, None, []):
        line.server.push("message", body)  # type: ignore[arg-type]
    await line.chat.say("two")
    line.core.gate.set()
    assert [(await line.core.next()).text for _ in "12"] == ["one", "two"]
    await line.server.until(lambda: not line.server.updates)
    assert "I leave it out" in caplog.text
    assert "secret" not in caplog.text


async def test_a_cut_is_survived_and_told_of(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for fault in ("drop_before_read", 502, 500, 429, "invalid_json", "drop_after_processing"):
        line.server.fail("getUpdates", fault, times=2, retry_after=0)
    await line.chat.say("one")
    await line.core.next()
    await line.server.until(lambda: not line.server.updates and line.server.polling)
    assert TOKEN not in caplog.text + "".join(line.core.troubles)
    assert {one.partition(":")[0] for one in line.core.troubles} == {
        "Telegram's answer got lost",
        "Telegram asks for a pause.",
    }


async def test_another_program_with_the_same_token_is_named(line: Line) -> None:
    address = f"{line.server.base_url}/bot{TOKEN}/getUpdates?timeout=1"
    async with line.server.client.get(address) as response:
        assert response.status in (200, 409)
    await line.server.until(lambda: line.server.polling)
    assert any("Another program uses this bot's token" in one for one in line.core.troubles)
    await line.chat.say("one")
    assert (await line.core.next()).text == "one"


async def test_polling_takes_away_a_webhook_and_its_waiting_messages_come(
    server: TelegramServer, tmp_path: Path
) -> None:
    line = Line(server, tmp_path)
    server.set_webhook({"url": "http://127.0.0.1:9/x"})
    await line.chat.say("one")
    async with line.running():
        assert (await line.core.next()).text == "one"
    assert len(server.called("deleteWebhook")) == 1


@asynccontextmanager
async def serving(method: str, path: str, answer: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route(method, path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_webhook_brings_messages_and_outlives_the_channel(server: TelegramServer, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        (route,) = line.channel.routes()
        assert (route.method, route.path) == ("POST", "/channels/telegram")
        if not route.verify(request, await request.read()):
            raise web.HTTPUnauthorized
        return await route.answer(request)

    async with serving("POST", "/channels/telegram", answer) as address:
        line = Line(server, tmp_path, mode="webhook", public_url=f"{address}/")
        async with line.running():
            await line.chat.say("one")
            assert (await line.core.next()).text == "one"
            server.push("message", {"message_id": 0, "chat": line.chat.info})
            await line.chat.say("two")
            assert (await line.core.next()).text == "two"
            for headers in ({}, {"X-Telegram-Bot-Api-Secret-Token": "gueß"}):
                assert await post(server, f"{address}/channels/telegram", headers) == 401
        secret = {"X-Telegram-Bot-Api-Secret-Token": (tmp_path / "secret").read_text()}
        assert await post(server, f"{address}/channels/telegram", secret) == 503
        await line.chat.say("three")
        async with line.running():
            assert (await line.core.next()).text == "three"
    assert server.webhook is not None


async def post(server: TelegramServer, address: str, headers: dict[str, str]) -> int:
    async with server.client.post(address, json={}, headers=headers) as response:
        return response.status


def test_a_webhook_is_at_the_address_of_the_web_face_where_the_table_has_none(tmp_path: Path) -> None:
    for key, address in (("", "https://web.example"), ("https://own.example/", "https://own.example")):
        config = TelegramConfig(token=TOKEN, mode="webhook", public_url=key)
        assert Telegram("telegram", config, Core(tmp_path))._address == f"{address}/channels/telegram"


async def test_a_webhook_that_telegram_refuses_stops_the_channel(server: TelegramServer, tmp_path: Path) -> None:
    line = Line(server, tmp_path, mode="webhook", public_url="http://roost.example")
    with pytest.raises(LoginFailed, match="public_url"):
        await line.channel.run(line.core.receive)


def test_a_webhook_without_an_address_is_refused_before_telegram_is_asked(tmp_path: Path) -> None:
    core = Core(tmp_path)
    core.address = lambda path="": path  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"\[channels\.telegram\] has mode = 'webhook' and no 'public_url'"):
        Telegram("telegram", TelegramConfig(token=TOKEN, mode="webhook"), core)
    Telegram("telegram", TelegramConfig(token=TOKEN), core)


def test_a_secret_that_was_lost_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    channel = Telegram("telegram", TelegramConfig(token=TOKEN, mode="webhook"), Core(tmp_path))
    (route,) = channel.routes()
    assert not route.verify(make_mocked_request("POST", route.path), b"{}")
    shown = {"X-Telegram-Bot-Api-Secret-Token": (tmp_path / "secret").read_text()}
    assert route.verify(make_mocked_request("POST", route.path, headers=shown), b"{}")


def test_pauses_grow_to_half_a_minute_and_differ() -> None:
    pauses = list(itertools.islice(PAUSES(), 20))
    assert 0.5 <= pauses[0] <= 1
    assert all(15 <= pause <= 30 for pause in pauses[6:])
    assert len(set(pauses)) == 20


def test_polling_opens_no_path_on_the_web_face(tmp_path: Path) -> None:
    assert Telegram("telegram", TelegramConfig(token=TOKEN), Core(tmp_path)).routes() == ()
