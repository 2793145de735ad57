from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_core import TinyCore

from roost.channels import web as web_channel
from roost.channels.web import BadFrame, Hello, Press, Say, read, write
from roost.contracts import Channel, Said
from roost.values import Attachment, Button, Place, Reply

CHAT = "chat-0123456789"
PLACE = Place("web", CHAT)


@pytest.fixture
async def core() -> AsyncIterator[TinyCore]:
    core = TinyCore()
    await core.start()
    yield core
    await core.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Browser:
    """What the page does on its WebSocket, frame by frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, core: TinyCore, chat: str = CHAT) -> Browser:
        address = core.web.address
        browser = cls(await session.ws_connect(f"{address}/ws", headers={"Origin": address}, max_msg_size=0))
        await browser.say(type="hello", chat=chat)
        return browser

    async def say(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(await self.socket.receive_str(timeout=30))
        return heard


async def opened(session: aiohttp.ClientSession, core: TinyCore, chat: str = CHAT) -> Browser:
    browser = await Browser.open(session, core, chat)
    assert (await browser.hear())["type"] == "history"
    return browser


async def test_a_message_is_accepted_only_after_the_core_has_it(core: TinyCore, session: aiohttp.ClientSession) -> None:
    browser = await opened(session, core)
    core.accepting.clear()
    await browser.say(type="say", id="message-1", text="hello")
    with pytest.raises(TimeoutError):
        await browser.socket.receive(timeout=0.2)
    core.accepting.set()
    assert await browser.hear() == {"type": "accepted", "id": "message-1"}
    (message,) = core.received
    assert (message.text, str(message.place), message.addressed) == ("hello", f"web:{CHAT}", True)


async def test_the_same_message_again_is_accepted_again_and_received_once(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    browser = await opened(session, core)
    for _ in range(2):
        await browser.say(type="say", id="message-1", text="hello")
        assert (await browser.hear())["type"] == "accepted"
    assert len(core.received) == 1


async def test_the_other_tabs_of_a_conversation_see_what_was_said_and_other_conversations_do_not(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    one, two = await opened(session, core), await opened(session, core)
    stranger = await opened(session, core, "another-chat")
    await one.say(type="say", id="message-1", text="hello")
    heard = await two.hear()
    assert (heard["type"], heard["id"], heard["text"], heard["bot"]) == ("message", "message-1", "hello", False)
    await core.say(Place("web", "another-chat"), Reply("for the stranger"))
    assert "for the stranger" in (await stranger.hear())["html"]


async def test_a_press_arrives_as_a_message(core: TinyCore, session: aiohttp.ClientSession) -> None:
    browser = await opened(session, core)
    await browser.say(type="press", value="yes")
    assert (await browser.hear())["type"] == "accepted"
    assert core.received[0].text == "yes"


async def test_replies_edits_deletions_and_typing_reach_the_page(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    browser = await opened(session, core)
    await core.chat.type(PLACE)
    sent = await core.chat.send(PLACE, Reply("one", key="part-1", buttons=(Button("Yes", "y"),)))
    await core.chat.edit(sent, Reply("one two"))
    await core.chat.delete(sent)
    typing, message, edit, delete = [await browser.hear() for _ in range(4)]
    assert typing["type"] == "typing"
    assert (message["id"], message["author"], message["buttons"]) == (
        "part-1",
        "Roost",
        [{"text": "Yes", "value": "y"}],
    )
    assert "one two" in edit["html"]
    assert delete == {"type": "delete", "id": "part-1"}


async def test_a_reply_with_no_page_open_is_sent_and_in_the_history(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    id = await core.say(PLACE, Reply("are you *there*?"))
    core.lines[CHAT].append(Said("mine-0001", False, "You", "<b>yes</b>", 2.0))
    browser = await Browser.open(session, core)
    theirs, mine = (await browser.hear())["messages"]
    assert (theirs["id"], theirs["bot"]) == (id, True)
    assert "<em>there</em>" in theirs["html"]
    assert mine["text"] == "<b>yes</b>" and "html" not in mine


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "[]",
        "null",
        "[" * 200_000,
        '{"type":"shout"}',
        '{"type":"say"}',
        '{"type":"say","id":"short","text":"x"}',
        '{"type":"say","id":"message-1","text":7}',
        '{"type":"say","id":"message-1","text":"\\ud800"}',
        '{"type":"hello","chat":"../../etc/passwd"}',
        '{"type":"hello","chat":"abcdefgh\\n"}',
    ],
)
async def test_a_frame_that_is_none_is_answered_with_an_error_and_the_page_stays(
    core: TinyCore, session: aiohttp.ClientSession, frame: str
) -> None:
    browser = await opened(session, core)
    await browser.socket.send_str(frame)
    assert (await browser.hear())["type"] == "error"
    await browser.say(type="say", id="message-1", text="still here")
    assert (await browser.hear())["type"] == "accepted"


async def test_a_binary_frame_is_answered_with_an_error(core: TinyCore, session: aiohttp.ClientSession) -> None:
    browser = await opened(session, core)
    await browser.socket.send_bytes(b"\0\xff")
    assert (await browser.hear())["type"] == "error"


@pytest.mark.parametrize("text", ["", " \n", "x" * 200_000])
async def test_a_text_that_is_empty_or_too_long_is_refused_by_its_id(
    core: TinyCore, session: aiohttp.ClientSession, text: str
) -> None:
    browser = await opened(session, core)
    await browser.say(type="say", id="message-1", text=text)
    heard = await browser.hear()
    assert (heard["type"], heard["id"]) == ("error", "message-1")
    assert core.received == []


async def test_a_frame_that_is_not_utf8_closes_only_that_page(core: TinyCore, session: aiohttp.ClientSession) -> None:
    bad, good = await opened(session, core), await opened(session, core)
    await bad.socket._writer.send_frame(b"\xff\xfe{", aiohttp.WSMsgType.TEXT)
    assert (await bad.socket.receive(timeout=30)).data == aiohttp.WSCloseCode.INVALID_TEXT
    await good.say(type="say", id="message-1", text="fine")
    assert (await good.hear())["type"] == "accepted"


async def test_a_frame_over_the_limit_closes_only_that_page(core: TinyCore, session: aiohttp.ClientSession) -> None:
    bad = await opened(session, core)
    await bad.say(type="say", id="message-1", text="x" * (web_channel.MAX_FRAME + 1))
    assert (await bad.socket.receive(timeout=30)).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert core.received == []
    await opened(session, core)


@pytest.mark.parametrize("first", ['{"type":"say","id":"message-1","text":"x"}', "nonsense"])
async def test_a_page_that_does_not_say_hello_first_is_closed(
    core: TinyCore, session: aiohttp.ClientSession, first: str
) -> None:
    address = core.web.address
    socket = await session.ws_connect(f"{address}/ws", headers={"Origin": address})
    await socket.send_str(first)
    assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
    assert core.received == []


async def test_a_page_that_does_not_read_is_cut_off_and_one_that_reads_is_not(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    slow, quick = await opened(session, core), await opened(session, core, "another-chat")
    transport = slow.socket._response.connection.transport
    transport.pause_reading()
    text = "lorem ipsum " * 8000
    for number in range(web_channel.MAX_WAITING * 2):
        await core.chat.send(PLACE, Reply(attachments=(Attachment(name=text),)))
        await core.chat.send(Place("web", "another-chat"), Reply(attachments=(Attachment(name=text),)))
        assert (await quick.hear())["type"] == "message", number
    assert list(core.chat._pages) == ["another-chat"]
    transport.resume_reading()
    with pytest.raises(aiohttp.WSMessageTypeError):
        for _ in range(web_channel.MAX_WAITING * 2):
            await slow.hear()


async def test_edits_that_wait_replace_one_another(core: TinyCore, session: aiohttp.ClientSession) -> None:
    browser = await opened(session, core)
    sent = await core.chat.send(PLACE, Reply("0", key="part-1"))
    for number in range(1, 1001):
        await core.chat.edit(sent, Reply(str(number)))
    heard = [await browser.hear(), await browser.hear()]
    assert [frame["type"] for frame in heard] == ["message", "edit"]
    assert "1000" in heard[1]["html"]


async def test_a_core_that_fails_leaves_the_message_unaccepted_and_closes_the_page(
    core: TinyCore, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await opened(session, core)

    async def refuse(message: object) -> bool:
        raise OSError("disk full")

    core.chat._receive = refuse
    await browser.say(type="say", id="message-1", text="hello")
    assert (await browser.socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
    assert [record.getMessage() for record in caplog.records] == ["A page of the channel 'web' was cut off: OSError."]


async def test_a_history_that_cannot_be_read_closes_the_page_and_leaves_nothing_behind(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    core.lines = None  # type: ignore[assignment]
    browser = await Browser.open(session, core)
    assert (await browser.socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
    assert core.chat._pages == {}


async def test_an_edit_is_rendered_once_for_all_pages_and_not_at_all_for_none(
    core: TinyCore, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    monkeypatch.setattr(web_channel, "render", lambda text, dialect: rendered.append(text) or text)
    await core.chat.send(PLACE, Reply("for nobody"))
    one, two = await opened(session, core), await opened(session, core)
    await core.chat.send(PLACE, Reply("for both"))
    assert [(await page.hear())["html"] for page in (one, two)] == ["for both", "for both"]
    assert rendered == ["for both"]


async def test_pages_are_told_to_come_back_when_the_channel_stops(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    browser = await opened(session, core)
    core.running.cancel()
    assert (await browser.socket.receive(timeout=30)).data == aiohttp.WSCloseCode.GOING_AWAY
    async with session.get(f"{core.web.address}/ws") as answer:
        assert answer.status == 503


async def test_the_page_and_its_files_are_served_with_their_types(
    core: TinyCore, session: aiohttp.ClientSession
) -> None:
    for path, kind in (("/", "text/html"), ("/chat.css", "text/css"), ("/chat.js", "text/javascript")):
        async with session.get(core.web.address + path) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            assert "{name}" not in await answer.text()


def test_what_the_channel_can_do_is_read_off_its_methods() -> None:
    abilities = [name for name in ("edit", "delete", "react", "type", "fetch") if web_channel.WebChat.can(name)]
    assert abilities == ["edit", "delete", "type"]
    assert issubclass(web_channel.WebChat, Channel) and web_channel.WebChat.local


def test_links_and_buttons_carry_only_addresses_that_a_page_may_open() -> None:
    attachments = (Attachment(name="<x>", url="https://example.org/?a=1&b=2"), Attachment(url="javascript:alert(1)"))
    buttons = (Button("Go", url="https://example.org/"), Button("No", url="JavaScript:alert(1)"), Button("Say"))
    frame = write("message", "part-1", Reply("", attachments, buttons), "Roost")
    assert (
        '<a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer" target="_blank">&lt;x&gt;</a>'
        in frame["html"]
    )
    assert "javascript" not in frame["html"]
    assert [button.get("url") for button in frame["buttons"]] == ["https://example.org/", "", None]
    assert frame["buttons"][2]["value"] == "Say"


@given(st.text())
def test_reading_any_text_gives_a_frame_or_a_bad_frame(text: str) -> None:
    try:
        assert isinstance(read(text), Hello | Say | Press)
    except BadFrame as error:
        assert str(error).endswith(".")


@given(st.text(), st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True))
def test_what_a_page_says_is_read_back_as_it_was_typed(text: str, id: str) -> None:
    text = text.encode(errors="replace").decode()
    assert read(msgspec.json.encode({"type": "say", "id": id, "text": text}).decode()) == Say(id, text)
