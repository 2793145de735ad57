"""The Telegram server against clients that know nothing of it: plain HTTP and python-telegram-bot, unmodified."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import telegram
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from telegram.constants import ParseMode
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, NetworkError, RetryAfter, TimedOut

from servers.telegram import TERMINATED, TOKEN, WEBHOOK_ACTIVE, TelegramServer
from servers.telegram_chats import Chat
from servers.telegram_methods import NOT_MODIFIED
from servers.telegram_rules import Rates, Refused
from servers.telegram_text import cut, detect, parse, units

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x02\x00\x00\x00rest"
KEYBOARD = {"inline_keyboard": [[{"text": "Yes", "callback_data": "y"}, {"text": "No", "callback_data": "n"}]]}


class Wire:
    """A client that is nothing but HTTP."""

    def __init__(self, server: TelegramServer, session: aiohttp.ClientSession) -> None:
        self.server, self.session = server, session

    async def __call__(self, method: str, **params: Any) -> Any:
        """The result of a call by JSON; a refusal fails the test."""
        answer = await self.answer(method, **params)
        assert answer["ok"], answer
        return answer["result"]

    async def answer(self, method: str, **params: Any) -> Any:
        async with self.session.post(f"{self.server.base_url}/bot{TOKEN}/{method}", json=params) as answer:
            body = await answer.json()
            assert answer.status == body.get("error_code", 200)
            return body

    async def refused(self, method: str, **params: Any) -> str:
        """The description with which a call is refused."""
        answer = await self.answer(method, **params)
        assert not answer["ok"], answer
        return str(answer["description"])


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as running:
        yield running


@pytest.fixture
async def wire(server: TelegramServer) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession() as session:
        yield Wire(server, session)


@pytest.fixture
async def bot(server: TelegramServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[telegram.Bot]:
    monkeypatch.setenv("PTB_TIMEDELTA", "true")  # without it, every RetryAfter is also a deprecation warning
    address = server.base_url
    async with telegram.Bot(TOKEN, base_url=f"{address}/bot", base_file_url=f"{address}/file/bot") as bot:
        yield bot


@pytest.fixture
def chat(server: TelegramServer) -> Chat:
    return server.private(server.person("Ann", username="ann"))


# The token, the method and the four encodings


async def test_the_bot_learns_who_it_is(bot: telegram.Bot, server: TelegramServer) -> None:
    me = await bot.get_me()
    assert (me.id, me.username, me.is_bot) == (110201543, "roost_bot", True)
    assert not me.can_read_all_group_messages
    assert [call.method for call in server.calls] == ["getMe", "getMe"]


async def test_a_wrong_token_is_unauthorized(server: TelegramServer) -> None:
    with pytest.raises(InvalidToken):
        async with telegram.Bot("1:wrong", base_url=f"{server.base_url}/bot"):
            pass
    assert server.refusals == [("getMe", "Unauthorized")]


async def test_an_unknown_method_and_an_unknown_path_are_not_found(wire: Wire, server: TelegramServer) -> None:
    not_found = {"ok": False, "error_code": 404, "description": "Not Found"}
    assert await wire.answer("sendMesage", chat_id=1, text="x") == not_found
    async with wire.session.get(server.base_url + "/elsewhere") as answer:
        assert (answer.status, await answer.json()) == (404, not_found)


async def test_parameters_come_as_json_form_multipart_or_query(wire: Wire, server: TelegramServer, chat: Chat) -> None:
    address = f"{server.base_url}/bot{TOKEN}/sendMessage"
    fields = {"chat_id": str(chat.id), "text": "hi", "reply_markup": json.dumps(KEYBOARD)}
    parts = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        parts.add_field(name, value)
    bodies: list[dict[str, Any]] = [
        {"json": {**fields, "chat_id": chat.id, "reply_markup": KEYBOARD}},
        {"data": fields},
        {"data": parts},
        {"params": fields},
    ]
    for body in bodies:
        async with wire.session.post(address, **body) as answer:
            assert (await answer.json())["result"]["reply_markup"] == KEYBOARD
    async with wire.session.get(address.replace("sendMessage", "SENDMESSAGE"), params=fields) as answer:
        assert (await answer.json())["ok"], "method names are case-insensitive"
    assert [message["text"] for message in chat.messages] == ["hi"] * 5
    assert all(params["chat_id"] == chat.id for params in server.called("sendMessage"))
    assert server.complaints == []


async def test_an_unknown_parameter_is_ignored_and_noted(wire: Wire, server: TelegramServer, chat: Chat) -> None:
    await wire("sendMessage", chat_id=chat.id, text="x", colour="red", link_preview_options={"hidden": True})
    assert server.complaints == [
        "sendMessage: unknown parameter 'colour'",
        "link_preview_options: unknown parameter 'hidden'",
    ]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"text": "x"}, "chat_id is empty"),
        ({"chat_id": 5, "text": "x"}, "chat not found"),
        ({"chat_id": "@nobody", "text": "x"}, "chat not found"),
        ({"chat_id": "me", "text": "x"}, "chat not found"),
        ({"chat_id": 1001}, "message text is empty"),
        ({"chat_id": 1001, "text": ""}, "message text is empty"),
        ({"chat_id": 1001, "text": " \n "}, "text must be non-empty"),
        ({"chat_id": 1001, "text": 5}, "can't parse text: it must be of type String"),
        ({"chat_id": 1001, "text": "x" * 4097}, "message is too long"),
        ({"chat_id": 1001, "text": "x\ud83d"}, "strings must be encoded in UTF-8"),
        ({"chat_id": 1001, "text": "x", "disable_notification": "maybe"}, "can't parse disable_notification"),
        ({"chat_id": 1001, "text": "x", "parse_mode": "BBCode"}, "unsupported parse_mode"),
        ({"chat_id": 1001, "text": "<b>x", "parse_mode": "HTML"}, "can't parse entities: Can't find end tag"),
        ({"chat_id": 1001, "text": "x", "reply_parameters": {"message_id": 99}}, "message to be replied not found"),
        ({"chat_id": 1001, "text": "x", "reply_parameters": {}}, 'parameter "message_id" is required'),
        ({"chat_id": 1001, "text": "x", "reply_parameters": "{"}, "can't parse reply parameters JSON object"),
        ({"chat_id": 1001, "text": "x", "reply_parameters": 5}, "object expected as reply parameters"),
        ({"chat_id": 1001, "text": "x", "reply_markup": {"rows": []}}, "can't parse reply_markup"),
        ({"chat_id": 1001, "text": "x", "message_thread_id": 7}, "message thread not found"),
        ({"chat_id": 1001, "text": "x", "business_connection_id": "b"}, "business connection not found"),
        ({"chat_id": 1001, "text": "x", "entities": [{"type": "bold", "offset": 0, "length": 2}]}, "entity beginning"),
        ({"chat_id": 1001, "text": "x", "entities": [{"type": "loud", "offset": 0, "length": 1}]}, "can't parse Mess"),
    ],
)
async def test_a_message_is_refused_as_telegram_refuses_it(
    wire: Wire, chat: Chat, params: dict[str, Any], reason: str
) -> None:
    assert (await wire.refused("sendMessage", **params)).startswith(f"Bad Request: {reason}")
    assert chat.messages == []


@pytest.mark.parametrize(
    ("button", "reason"),
    [
        ({"text": "a", "callback_data": "é" * 33}, "BUTTON_DATA_INVALID"),
        ({"text": "a", "callback_data": ""}, "BUTTON_DATA_INVALID"),
        ({"text": "a"}, "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard"),
        ({"text": " ", "callback_data": "x"}, "can't parse inline keyboard button: Button text is empty"),
        ({"text": "a", "callback_data": "x", "url": "http://a.b"}, "can't parse inline keyboard button: it has more"),
        ({"text": "a", "url": "nowhere"}, "inline keyboard button URL 'nowhere' is invalid"),
        ({"callback_data": "x"}, 'parameter "text" is required'),
    ],
)
async def test_a_bad_button_is_refused(wire: Wire, chat: Chat, button: dict[str, Any], reason: str) -> None:
    markup = {"inline_keyboard": [[button]]}
    description = await wire.refused("sendMessage", chat_id=chat.id, text="x", reply_markup=markup)
    assert description.startswith(f"Bad Request: {reason}")


async def test_the_longest_texts_pass_and_are_counted_after_parsing(wire: Wire, chat: Chat) -> None:
    await wire("sendMessage", chat_id=chat.id, text="<b>" + "😀" * 4096 + "</b>", parse_mode="HTML")
    assert chat.messages[-1]["entities"] == [{"type": "bold", "offset": 0, "length": 8192}]
    markup = {"inline_keyboard": [[{"text": "a", "callback_data": "é" * 32}]]}
    await wire("sendMessage", chat_id=chat.id, text="x", reply_markup=markup)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"xx", "multipart/form-data"),
        (b"xx", "multipart/form-data; boundary=q"),
    ],
)
async def test_a_body_that_is_none_is_a_bad_request(wire: Wire, server: TelegramServer, body: bytes, kind: str) -> None:
    address = f"{server.base_url}/bot{TOKEN}/sendMessage"
    async with wire.session.post(address, data=body, headers={"Content-Type": kind}) as answer:
        assert answer.status == 400
        assert (await answer.json())["description"].startswith("Bad Request: can't parse request body")
    assert server.complaints == []


# Texts


def nobody(number: int) -> dict[str, Any] | None:
    return {"id": number, "first_name": "Ann"} if number == 1001 else None


def spans(text: str, mode: str) -> list[tuple[str, str]]:
    parsed = parse(text, mode, None, nobody)
    assert parsed.complaints == []
    return [(e["type"], cut(parsed.text, e["offset"], e["length"])) for e in parsed.entities]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<b>a</b><strong>b</strong>", [("bold", "a"), ("bold", "b")]),
        ("😀<i>a<u>b</u></i>", [("italic", "ab"), ("underline", "b")]),
        ("<s>a</s><strike>b</strike><del>c</del>", [("strikethrough", c) for c in "abc"]),
        ('<span class="tg-spoiler">a</span><tg-spoiler>b</tg-spoiler>', [("spoiler", "a"), ("spoiler", "b")]),
        ('<a href="http://a.com/?x=1&amp;y=2">a</a>', [("text_link", "a")]),
        ("<a href='tg://user?id=1001'>Ann</a>", [("text_mention", "Ann")]),
        ("<code>a &lt; b</code>", [("code", "a < b")]),
        ("<pre>a\nb</pre>", [("pre", "a\nb")]),
        ('<pre><code class="language-c">int</code></pre>', [("pre", "int")]),
        ("<blockquote>a <b>b</b></blockquote>", [("blockquote", "a b"), ("bold", "b")]),
        ("<blockquote expandable>a</blockquote>", [("expandable_blockquote", "a")]),
        ('<tg-emoji emoji-id="5368324170671202286">👍</tg-emoji>', [("custom_emoji", "👍")]),
        ('<tg-time unix="1647531900" format="wDT">soon</tg-time>', [("date_time", "soon")]),
        ("<B>a</B >", [("bold", "a")]),
        ("&#128512;&#x1F600;<b>&quot;</b>", [("bold", '"')]),
        ("<b></b>a", []),
    ],
)
def test_html_becomes_entities(source: str, expected: list[tuple[str, str]]) -> None:
    assert spans(source, "HTML") == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<b>a", 'Can\'t find end tag corresponding to start tag "b"'),
        ("é<p>a</p>", 'Unsupported start tag "p" at byte offset 2'),
        ("a < b", 'Unsupported start tag "" at byte offset 2'),
        ("a</b>", "Unexpected end tag at byte offset 1"),
        ("<b>a</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("<b><i>a</b></i>", 'Unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ('<a href="x', 'Unclosed start tag "a" at byte offset 0'),
        ("<b", "Unclosed start tag at byte offset 0"),
        ("<b>a</b", "Unclosed end tag at byte offset 4"),
        ("<span>a</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ('<tg-emoji emoji-id="x">a</tg-emoji>', "Invalid custom emoji identifier specified"),
    ],
)
def test_broken_html_is_refused_with_its_place(source: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(source, "HTML", None, nobody)
    assert refused.value.description == f"Bad Request: can't parse entities: {reason}"


@pytest.mark.parametrize("source", ["a & b", "a > b", "&nbsp;", "<code><b>a</b></code>", '<a href="x">a</a>'])
def test_html_that_telegram_repairs_in_silence_is_noted(source: str) -> None:
    assert len(parse(source, "HTML", None, nobody).complaints) == 1


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "*a* _b_ __c__ ~d~ ||e||",
            list(zip(("bold", "italic", "underline", "strikethrough", "spoiler"), "abcde", strict=True)),
        ),
        ("*a _b __c___ d*", [("bold", "a b c d"), ("italic", "b c"), ("underline", "c")]),
        (r"\*a\* 1\.5 \\", []),
        ("`a*b_`", [("code", "a*b_")]),
        (r"`a\`b`", [("code", "a`b")]),
        ("```py\nx = 1```", [("pre", "x = 1")]),
        ("```\nx\n```", [("pre", "x")]),
        (r"[a](http://a.com/\))", [("text_link", "a")]),
        ("[Ann](tg://user?id=1001)", [("text_mention", "Ann")]),
        ("![👍](tg://emoji?id=5368324170671202286)", [("custom_emoji", "👍")]),
        ("![soon](tg://time?unix=1647531900&format=t)", [("date_time", "soon")]),
        (">a\n>b\nc", [("blockquote", "a\nb")]),
        (">a\n**>b\n>c||", [("blockquote", "a"), ("expandable_blockquote", "b\nc")]),
        ("😀*a*", [("bold", "a")]),
    ],
)
def test_markdown_v2_becomes_entities(source: str, expected: list[tuple[str, str]]) -> None:
    assert spans(source, "MarkdownV2") == expected


@pytest.mark.parametrize("character", "_*[]()~`>#+-=|{}.!")
def test_every_reserved_character_of_markdown_v2_must_be_escaped(character: str) -> None:
    with pytest.raises(Refused, match="can't parse entities"):
        parse(f"a{character}b", "MarkdownV2", None, nobody)
    assert parse(f"a\\{character}b", "MarkdownV2", None, nobody).text == f"a{character}b"


def test_legacy_markdown_becomes_entities_and_unclosed_ones_are_refused() -> None:
    assert spans(r"*a* _b_ `c` [d](http://d.com) \_", "Markdown") == [
        *(("bold", "a"), ("italic", "b"), ("code", "c")),
        ("text_link", "d"),
    ]
    with pytest.raises(Refused, match="Can't find end of the entity starting at byte offset 2"):
        parse("a *b", "Markdown", None, nobody)


@given(st.text(), st.sampled_from(["HTML", "MarkdownV2", "Markdown", None]))
def test_any_text_is_parsed_or_refused_and_its_entities_lie_within(text: str, mode: str | None) -> None:
    try:
        parsed = parse(text, mode, None, nobody)
    except Refused as refused:
        assert refused.code == 400
        return
    assert all(0 <= e["offset"] < e["offset"] + e["length"] <= units(parsed.text) for e in parsed.entities)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_escaped_html_comes_back_as_it_was(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert parse(f"<b>{escaped}</b>", "HTML", None, nobody).text == text.strip()


def test_explicit_entities_must_not_split_a_character() -> None:
    with pytest.raises(Refused, match="begins in a middle of a UTF-16 symbol"):
        parse("😀a", None, [{"type": "bold", "offset": 1, "length": 2}], nobody)


def test_commands_mentions_and_links_are_found_in_plain_text() -> None:
    text = "😀 /ask@roost_bot @ann https://a.com/x. a/b #tag x@y.org"
    found = [(e["type"], cut(text, e["offset"], e["length"])) for e in detect(text)]
    assert found == [
        *(("bot_command", "/ask@roost_bot"), ("mention", "@ann"), ("url", "https://a.com/x")),
        *(("hashtag", "#tag"), ("email", "x@y.org")),
    ]


# Talking


async def test_python_telegram_bot_hears_and_answers(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    said = await chat.say("hello /start")
    (update,) = await bot.get_updates(timeout=5)
    assert update.message is not None
    assert update.message.text == "hello /start"
    assert [e.type for e in update.message.entities] == ["bot_command"]
    answer = await update.message.reply_html("<b>Hi</b>, Ann", do_quote=True)
    reply = await chat.next_reply()
    assert (reply["text"], reply["message_id"]) == ("Hi, Ann", answer.message_id)
    assert reply["reply_to_message"]["message_id"] == said["message_id"]
    assert server.complaints == []


async def test_edits_replace_text_and_keyboard_and_an_edit_without_change_is_refused(
    bot: telegram.Bot, chat: Chat
) -> None:
    keyboard = telegram.InlineKeyboardMarkup.from_button(telegram.InlineKeyboardButton("Go", callback_data="go"))
    sent = await bot.send_message(chat.id, "one", reply_markup=keyboard)
    await sent.edit_text("*two*", parse_mode=ParseMode.MARKDOWN_V2)
    assert chat.messages[-1]["text"] == "two"
    assert "reply_markup" not in chat.messages[-1]
    assert chat.edits == [(sent.message_id, "two")]
    with pytest.raises(BadRequest, match="Message is not modified"):
        await sent.edit_text("two", entities=[telegram.MessageEntity("bold", 0, 3)])
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("x", chat.id, 999)
    theirs = await chat.say("mine")
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("x", chat.id, theirs["message_id"])


async def test_not_modified_is_worded_as_telegram_words_it(wire: Wire, chat: Chat) -> None:
    sent = await wire("sendMessage", chat_id=chat.id, text="x")
    told = await wire.refused("editMessageText", chat_id=chat.id, message_id=sent["message_id"], text="x")
    assert told == f"Bad Request: {NOT_MODIFIED}"


async def test_messages_are_deleted_once(bot: telegram.Bot, chat: Chat) -> None:
    sent = await bot.send_message(chat.id, "x")
    await sent.delete()
    assert (chat.messages, len(chat.deleted)) == ([], 1)
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await sent.delete()


async def test_a_person_edits_what_was_said(bot: telegram.Bot, chat: Chat) -> None:
    said = await chat.say("hallo")
    await chat.edit(said, "hello")
    first, second = await bot.get_updates()
    assert first.message is not None and second.edited_message is not None
    assert (first.message.text, second.edited_message.text) == ("hallo", "hello")
    assert first.message.message_id == second.edited_message.message_id


async def test_a_button_is_pressed_and_the_press_is_answered(
    bot: telegram.Bot, server: TelegramServer, chat: Chat
) -> None:
    keyboard = telegram.InlineKeyboardMarkup.from_button(telegram.InlineKeyboardButton("Go", callback_data="go!"))
    await bot.send_message(chat.id, "Shall I?", reply_markup=keyboard)
    query = await chat.press(await chat.next_reply(), "Go")
    (update,) = await bot.get_updates()
    assert update.callback_query is not None
    assert (update.callback_query.data, update.callback_query.from_user.first_name) == ("go!", "Ann")
    await update.callback_query.answer("Going")
    assert server.answers[query["id"]]["text"] == "Going"
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query("12345")
    with pytest.raises(ValueError, match="'Stop' is no callback button"):
        await chat.press(1, "Stop")


async def test_reactions_go_both_ways(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    sent = await bot.send_message(chat.id, "x")
    await chat.react(sent.message_id, "👍")
    assert await bot.get_updates() == ()
    await bot.get_updates(allowed_updates=["message", "message_reaction"])
    await chat.react(sent.message_id, "🔥")
    (update,) = await bot.get_updates()
    assert update.message_reaction is not None
    assert update.message_reaction.old_reaction == (telegram.ReactionTypeEmoji("👍"),)
    said = await chat.say("thanks")
    await bot.set_message_reaction(chat.id, said["message_id"], "👍")
    assert chat.reactions[said["message_id"]][server.user["id"]] == [{"type": "emoji", "emoji": "👍"}]
    with pytest.raises(BadRequest, match="Reaction_invalid"):
        await bot.set_message_reaction(chat.id, said["message_id"], "🦆")
    with pytest.raises(BadRequest, match="Message to react not found"):
        await bot.set_message_reaction(chat.id, 999, "👍")


async def test_typing_drafts_commands_and_pins_are_recorded(
    bot: telegram.Bot, server: TelegramServer, chat: Chat
) -> None:
    await bot.send_chat_action(chat.id, "typing")
    await bot.set_my_commands([("help", "What I can do")])
    sent = await bot.send_message(chat.id, "x")
    await sent.pin()
    assert [(action.chat_id, action.action) for action in server.actions] == [(chat.id, "typing")]
    assert [command.command for command in await bot.get_my_commands()] == ["help"]
    assert chat.pinned == [sent.message_id]
    with pytest.raises(BadRequest, match="Wrong parameter action in request"):
        await bot.send_chat_action(chat.id, "dancing")
    with pytest.raises(BadRequest, match="Bot_command_invalid"):
        await bot.set_my_commands([("Help!", "x")])


async def test_drafts_are_for_private_chats(wire: Wire, server: TelegramServer, chat: Chat) -> None:
    assert await wire("sendMessageDraft", chat_id=chat.id, draft_id=1, text="Thin")
    assert server.drafts == [(chat.id, 1, "Thin")]
    assert chat.messages == []
    team = server.group("Team", [server.person("Bob")])
    assert "PEER_INVALID" in await wire.refused("sendMessageDraft", chat_id=team.id, draft_id=1, text="x")


async def test_next_reply_says_what_the_bot_did_instead(wire: Wire, chat: Chat) -> None:
    await wire.refused("sendMessage", chat_id=chat.id, text="")
    with pytest.raises(TimeoutError, match=r"the bot said nothing .*'sendMessage'.*message text is empty"):
        await chat.next_reply(timeout=0.01)


# Files


async def test_a_photo_and_a_document_come_and_go(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    await chat.say("look", photo=PNG)
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.caption == "look"
    largest = update.message.photo[-1]
    assert (largest.width, largest.height, largest.file_size) == (640, 480, len(PNG))
    assert bytes(await (await largest.get_file()).download_as_bytearray()) == PNG
    await bot.send_photo(chat.id, PNG, caption="<i>back</i>", parse_mode="HTML")
    await bot.send_document(chat.id, b"a,b", filename="a.csv")
    await bot.send_photo(chat.id, largest.file_id)
    photo, document, again = [await chat.next_reply() for _ in range(3)]
    assert (photo["caption"], photo["caption_entities"][0]["type"]) == ("back", "italic")
    assert document["document"]["file_name"] == "a.csv"
    assert server.files[document["document"]["file_id"]].data == b"a,b"
    assert again["photo"][-1]["file_id"] == largest.file_id
    assert server.complaints == []


async def test_an_album_is_several_messages(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    media = [telegram.InputMediaPhoto(PNG, caption="one"), telegram.InputMediaPhoto(PNG)]
    sent = await bot.send_media_group(chat.id, media)
    assert len({message.media_group_id for message in sent}) == 1
    assert [message.get("caption") for message in chat.messages] == ["one", None]
    assert server.complaints == []
    with pytest.raises(BadRequest, match="Wrong number of items"):
        await bot.send_media_group(chat.id, media[:1])


async def test_voice_and_location_reach_the_bot(bot: telegram.Bot, chat: Chat) -> None:
    await chat.say(voice=b"OggS")
    await chat.say(location=(52.1, 4.3))
    voice, location = [update.message for update in await bot.get_updates()]
    assert voice is not None and voice.voice is not None and location is not None and location.location is not None
    assert voice.voice.mime_type == "audio/ogg"
    assert (location.location.latitude, location.location.longitude) == (52.1, 4.3)


async def test_files_that_telegram_refuses_are_refused(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    tall = PNG.replace(struct.pack(">II", 640, 480), struct.pack(">II", 10, 480))
    refusals: list[tuple[Any, str]] = [
        (b"no picture", "IMAGE_PROCESS_FAILED"),
        (PNG + bytes(10 << 20), "is too big for a photo"),
        (tall, "PHOTO_INVALID_DIMENSIONS"),
        ("AgACunknown", "wrong file identifier/HTTP URL specified"),
        ("https://example.org/cat.png", "failed to get HTTP URL content"),
    ]
    for photo, reason in refusals:
        with pytest.raises(BadRequest, match=f"(?i){reason}"):
            await bot.send_photo(chat.id, photo)
    with pytest.raises(BadRequest, match="Message caption is too long"):
        await bot.send_photo(chat.id, PNG, caption="x" * 1025)
    with pytest.raises(NetworkError, match="Request Entity Too Large"):
        await bot.send_document(chat.id, bytes((50 << 20) + 1))
    document = (await chat.say(document=b"x"))["document"]["file_id"]
    with pytest.raises(BadRequest, match="use file of type document as photo"):
        await bot.send_photo(chat.id, document)
    server.web["https://example.org/cat.png"] = PNG
    await bot.send_photo(chat.id, "https://example.org/cat.png")


async def test_a_download_needs_the_token_and_a_known_path(wire: Wire, server: TelegramServer, chat: Chat) -> None:
    file_id = (await chat.say(document=b"data", name="a.txt"))["document"]["file_id"]
    path = (await wire("getFile", file_id=file_id))["file_path"]
    assert path.endswith(".txt")
    for address, status in ((f"bot{TOKEN}/{path}", 200), (f"bot1:x/{path}", 401), (f"bot{TOKEN}/none", 404)):
        async with wire.session.get(f"{server.base_url}/file/{address}") as answer:
            assert answer.status == status
    assert await wire.refused("getFile", file_id="x") == (
        "Bad Request: wrong file_id or the file is temporarily unavailable"
    )
    large = (await chat.say(document=bytes((20 << 20) + 1)))["document"]["file_id"]
    assert await wire.refused("getFile", file_id=large) == "Bad Request: file is too big"


# Groups, topics, channels


async def heard(bot: telegram.Bot) -> list[str]:
    """The texts of the updates that wait, each confirmed."""
    updates = await bot.get_updates()
    if updates:
        await bot.get_updates(offset=updates[-1].update_id + 1)
    return [(u.effective_message.text or "") if u.effective_message else "" for u in updates]


async def test_privacy_mode_hides_what_is_not_for_the_bot(bot: telegram.Bot, server: TelegramServer) -> None:
    ann, bob = server.person("Ann"), server.person("Bob")
    team = server.group("Team", [ann, bob])
    mine = await bot.send_message(team.id, "I am here")
    for text in ("lunch?", "/help", "/help@roost_bot", "/help@other_bot", "hey @Roost_Bot", "hey @roost_bottle"):
        await team.say(text, by=bob)
    await team.say("yes", reply_to=mine.message_id)
    assert await heard(bot) == ["/help", "/help@roost_bot", "hey @Roost_Bot", "yes"]
    server.privacy = False
    await team.say("lunch?")
    assert await heard(bot) == ["lunch?"]


async def test_an_administrator_hears_everything_and_sees_people_come_and_go(
    bot: telegram.Bot, server: TelegramServer
) -> None:
    ann, bob = server.person("Ann"), server.person("Bob")
    team = server.supergroup("Team", [ann], admin=True)
    await bot.get_updates(allowed_updates=["message", "chat_member"])
    await team.say("lunch?")
    await team.join(bob)
    await team.leave(bob)
    updates = await bot.get_updates()
    assert [bool(update.chat_member) for update in updates] == [False, False, True, False, True]
    assert updates[1].message is not None and updates[1].message.new_chat_members[0].first_name == "Bob"
    assert (await bot.get_chat_member(team.id, bob.id)).status == "left"
    assert (await bot.get_chat_member(team.id, bot.id)).status == "administrator"
    assert (await bot.get_chat(team.id)).title == "Team"
    with pytest.raises(ValueError, match="'Bob' is not in"):
        await team.say("still here?", by=bob)


async def test_topics_keep_their_messages_together(bot: telegram.Bot, server: TelegramServer) -> None:
    forum = server.forum("House", [server.person("Ann")], admin=True)
    garden = await forum.topic("Garden")
    await forum.say("water?", topic=garden)
    await forum.say("general")
    created, water, general = [update.message for update in await bot.get_updates()]
    assert created is not None and water is not None and general is not None
    assert created.forum_topic_created is not None
    assert (water.message_thread_id, water.is_topic_message) == (garden, True)
    assert general.message_thread_id is None
    sent = await bot.send_message(forum.id, "yes", message_thread_id=garden)
    assert sent.message_thread_id == garden
    for wrong in (1, garden + 100):
        with pytest.raises(BadRequest, match="Message thread not found"):
            await bot.send_message(forum.id, "x", message_thread_id=wrong)
    made = await bot.create_forum_topic(forum.id, "Roof")
    assert forum.topics[made.message_thread_id].name == "Roof"


async def test_a_channel_post_arrives_as_one(bot: telegram.Bot, server: TelegramServer) -> None:
    news = server.channel("News", username="news")
    await news.say("hello")
    (update,) = await bot.get_updates()
    assert update.channel_post is not None and update.channel_post.sender_chat is not None
    await bot.send_message("@news", "from me")
    assert news.messages[-1]["sender_chat"]["title"] == "News"


async def test_a_group_that_became_a_supergroup_names_its_new_id(bot: telegram.Bot, server: TelegramServer) -> None:
    team = server.group("Team", [server.person("Ann")])
    new = await team.migrate()
    with pytest.raises(telegram.error.ChatMigrated) as migrated:
        await bot.send_message(team.id, "x")
    assert migrated.value.new_chat_id == new.id
    moved = [update.message.migrate_to_chat_id for update in await bot.get_updates() if update.message]
    assert moved == [new.id, None]
    await bot.send_message(new.id, "x")


async def test_who_blocks_or_removes_the_bot_is_not_written_to(bot: telegram.Bot, server: TelegramServer) -> None:
    ann = server.person("Ann")
    chat, team = server.private(ann), server.group("Team", [ann])
    await ann.block()
    await team.kick_bot()
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(chat.id, "x")
    with pytest.raises(Forbidden, match="bot was kicked from the group chat"):
        await bot.send_message(team.id, "x")
    states = [u.my_chat_member.new_chat_member.status for u in await bot.get_updates() if u.my_chat_member]
    assert states == ["kicked", "kicked"]
    await ann.unblock()
    await bot.send_message(chat.id, "x")


# Updates by long poll


async def test_a_long_poll_waits_for_the_next_message(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    await server.until(lambda: server.polling)
    await chat.say("now")
    (update,) = await poll
    assert update.message is not None and update.message.text == "now"


async def test_updates_come_again_until_an_offset_confirms_them(bot: telegram.Bot, chat: Chat) -> None:
    for text in "abc":
        await chat.say(text)
    first, *_ = await bot.get_updates(limit=1)
    assert len(await bot.get_updates()) == 3
    assert len(await bot.get_updates(offset=first.update_id + 1)) == 2
    (last,) = await bot.get_updates(offset=-1)
    assert last.message is not None and last.message.text == "c"
    assert len(await bot.get_updates()) == 1


async def test_a_second_poller_ends_the_first(
    bot: telegram.Bot, wire: Wire, server: TelegramServer, chat: Chat
) -> None:
    old = asyncio.create_task(bot.get_updates(timeout=30))
    await server.until(lambda: server.polling)
    new = asyncio.create_task(wire("getUpdates", timeout=30))
    with pytest.raises(Conflict):
        await old
    assert server.refusals == [("getUpdates", TERMINATED)]
    await chat.say("hello")
    assert len(await new) == 1


async def test_a_poll_that_was_given_up_conflicts_with_nothing(wire: Wire, server: TelegramServer) -> None:
    given_up = asyncio.create_task(wire("getUpdates", timeout=30))
    await server.until(lambda: server.polling)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await server.until(lambda: not server.polling)
    assert await wire("getUpdates", timeout=0) == []
    assert server.refusals == []


async def test_allowed_updates_are_remembered_and_checked(wire: Wire, server: TelegramServer, chat: Chat) -> None:
    await wire("getUpdates", allowed_updates=["callback_query", "gossip"])
    await chat.say("unheard")
    assert await wire("getUpdates") == []
    assert server.complaints == ["allowed_updates: unknown type 'gossip'"]
    await wire("getUpdates", allowed_updates=[])
    await chat.say("heard")
    assert len(await wire("getUpdates")) == 1


# Updates by webhook


class Hook:
    """A web server that takes what Telegram posts and answers with the given statuses, then 200."""

    def __init__(self, *statuses: int, answer: dict[str, Any] | None = None) -> None:
        self.statuses, self.answer = list(statuses), answer
        self.got: asyncio.Queue[tuple[str | None, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Hook:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.got.put_nowait((request.headers.get("X-Telegram-Bot-Api-Secret-Token"), await request.json()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response(self.answer, status=status) if self.answer else web.Response(status=status)


async def test_a_webhook_gets_every_update_with_the_secret_until_it_takes_it(
    bot: telegram.Bot, server: TelegramServer, chat: Chat
) -> None:
    await chat.say("before")
    async with Hook(500, 302) as hook:
        await bot.set_webhook(hook.url, secret_token="s3cret")
        await chat.say("after")
        got = [await asyncio.wait_for(hook.got.get(), 30) for _ in range(4)]
        assert [(secret, body["message"]["text"]) for secret, body in got] == [
            *[("s3cret", "before")] * 3,
            ("s3cret", "after"),
        ]
        info = await bot.get_webhook_info()
        assert info.url == hook.url
        assert info.last_error_message == "Wrong response from the webhook: 302 Found"
        with pytest.raises(Conflict):
            await bot.get_updates()
        assert server.refusals == [("getUpdates", WEBHOOK_ACTIVE)]
        await bot.delete_webhook()
    await chat.say("by poll")
    assert [u.message.text for u in await bot.get_updates() if u.message] == ["by poll"]


async def test_undelivered_updates_wait_for_a_poll_after_the_webhook_is_gone(bot: telegram.Bot, chat: Chat) -> None:
    async with Hook(*[500] * 100) as hook:
        await bot.set_webhook(hook.url)
        await chat.say("one")
        await chat.say("two")
        await hook.got.get()
        await bot.delete_webhook()
    assert [u.message.text for u in await bot.get_updates() if u.message] == ["one", "two"]


async def test_the_answer_to_a_webhook_may_be_a_call(bot: telegram.Bot, chat: Chat) -> None:
    async with Hook(answer={"method": "sendMessage", "chat_id": chat.id, "text": "at once"}) as hook:
        await bot.set_webhook(hook.url)
        await chat.say("hello")
        assert (await chat.next_reply())["text"] == "at once"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"url": "http://example.org/hook"}, "bad webhook: An HTTPS URL must be provided for webhook"),
        ({"url": "https://example.org:8080/"}, "bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"),
        ({"url": "somewhere"}, "invalid webhook URL specified"),
        ({"url": "https://example.org/", "secret_token": "no spaces"}, "secret token contains unallowed characters"),
        ({"url": "https://example.org/", "secret_token": "x" * 257}, "secret token is too long"),
    ],
)
async def test_a_webhook_telegram_would_not_take_is_refused(wire: Wire, params: dict[str, Any], reason: str) -> None:
    assert await wire.refused("setWebhook", **params) == f"Bad Request: {reason}"


# Faults


async def test_asked_faults_happen_as_often_as_asked(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    server.fail("sendMessage", 429, times=2, retry_after=7)
    server.fail("*", "blocked")
    for _ in range(2):
        with pytest.raises(RetryAfter) as refused:
            await bot.send_message(chat.id, "x")
        assert refused.value.retry_after == timedelta(seconds=7)
    with pytest.raises(Forbidden):
        await bot.send_message(chat.id, "x")
    for fault in (500, 502, "invalid_json"):
        server.fail("getMe", fault)
        with pytest.raises(NetworkError if fault != "invalid_json" else telegram.error.TelegramError):
            await bot.get_me()
    assert chat.messages == []
    assert server.refusals[0] == ("sendMessage", "Too Many Requests: retry after 7")
    with pytest.raises(ValueError, match="'flood' is no fault"):
        server.fail("getMe", "flood")


async def test_a_dropped_connection_may_or_may_not_have_sent_the_message(
    bot: telegram.Bot, server: TelegramServer, chat: Chat
) -> None:
    server.fail("sendMessage", "drop_before_read")
    server.fail("sendMessage", "drop_after_processing")
    for sent in (0, 1):
        with pytest.raises(NetworkError):
            await bot.send_message(chat.id, "x")
        assert len(chat.messages) == sent


async def test_an_answer_may_drip_or_never_come(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    server.fail("sendMessage", "slow", interval=0.0001)
    assert (await bot.send_message(chat.id, "x")).text == "x"
    server.fail("sendMessage", "hang")
    with pytest.raises(TimedOut):
        await bot.send_message(chat.id, "y", read_timeout=0.05)
    assert len(chat.messages) == 1


async def test_a_hanging_call_ends_with_the_server() -> None:
    async with aiohttp.ClientSession() as session:
        async with TelegramServer() as server:
            server.fail("getMe", "hang")
            call = asyncio.create_task(session.get(f"{server.base_url}/bot{TOKEN}/getMe"))
            await server.until(lambda: server.called("getMe"))
        with pytest.raises(aiohttp.ClientError):
            await call


def test_rates_allow_a_burst_a_chat_thirty_in_all_and_twenty_a_minute_in_a_group() -> None:
    clock = [0.0]
    rates = Rates(lambda: clock[0])
    for _ in range(3):
        rates.take(1, group=False)
    with pytest.raises(Refused) as refused:
        rates.take(1, group=False)
    assert refused.value.body()["parameters"] == {"retry_after": 3}
    for chat in range(2, 29):
        rates.take(chat, group=False)
    with pytest.raises(Refused, match="retry after 1"):
        rates.take(99, group=False)
    for _ in range(20):
        clock[0] += 1.0
        rates.take(-1, group=True)
    clock[0] += 1.0
    with pytest.raises(Refused, match="retry after 40"):
        rates.take(-1, group=True)


async def test_rates_are_enforced_only_when_asked(bot: telegram.Bot, server: TelegramServer, chat: Chat) -> None:
    for _ in range(10):
        await bot.send_message(chat.id, "x")
    server.enforce_rates = True
    with pytest.raises(RetryAfter):
        for _ in range(10):
            await bot.send_message(chat.id, "x")


# Long runs and other processes


async def test_a_kept_transcript_stays_small(chat: Chat, server: TelegramServer, wire: Wire) -> None:
    server.keep = 5
    for number in range(50):
        await wire("sendMessage", chat_id=chat.id, text=str(number))
    assert 5 <= len(chat.messages) <= 10
    assert len(chat.by_id) == len(chat.messages)
    assert len(server.calls) <= 10
    assert chat.messages[-1]["text"] == "49"


async def test_it_runs_as_a_process_and_is_driven_from_outside() -> None:
    command = [sys.executable, "-m", "servers.telegram", "--token", TOKEN]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[1], stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    address = json.loads(await process.stdout.readline())["base_url"]
    async with aiohttp.ClientSession(address) as session:
        echo = asyncio.create_task(answer_everything(session))
        said = await (await session.post("/control/say", json={"chat": 0, "text": "hello"})).json()
        reply = await (await session.post("/control/next", json={"chat": 0})).json()
        burst = await (await session.post("/control/burst", json={"chats": 5, "each": 4, "text": "x"})).json()
        stats = await (await session.post("/control/stats")).json()
        numbered = {"chats": 2, "each": 2, "text": "y", "numbered": True}
        await session.post("/control/burst", json=numbered)
        texts = (await (await session.post("/control/texts", json={"chats": 2})).json())["texts"]
        polled = await (await session.post("/control/called", json={"method": "getUpdates"})).json()
        nothing = await session.post("/control/next", json={"chat": 9, "timeout": 0.01})
        echo.cancel()
    process.stdin.close()
    assert await process.wait() == 0
    assert (said["text"], reply["text"]) == ("hello", "hello!")
    assert burst["messages"] == 20 and burst["p50"] <= burst["p99"] <= burst["seconds"]
    assert stats["calls"]["sendMessage"] == 21
    assert [one[-2:] for one in texts] == [["y 0!", "y 1!"]] * 2
    assert polled["at"] <= time.monotonic()
    assert nothing.status == 408


async def test_a_talk_from_outside_waits_for_every_answer(server: TelegramServer) -> None:
    async with aiohttp.ClientSession(server.base_url) as session:
        echo = asyncio.create_task(answer_everything(session, ending=""))
        talk = await (await session.post("/control/talk", json={"count": 3, "text": "z"})).json()
        echo.cancel()
        silent = await session.post("/control/talk", json={"timeout": 0.01})
    chat = server.private(server.people[1001])
    assert [one["text"] for one in chat.messages[:6]] == ["z 0", "z 0", "z 1", "z 1", "z 2", "z 2"]
    assert len(talk["seconds"]) == 3
    assert silent.status == 408


async def answer_everything(session: aiohttp.ClientSession, ending: str = "!") -> None:
    """A small echo bot."""
    offset = 0
    while True:
        polled = await (await session.get(f"/bot{TOKEN}/getUpdates", params={"offset": offset, "timeout": 30})).json()
        for update in polled["result"]:
            offset = update["update_id"] + 1
            message = update["message"]
            body = {"chat_id": message["chat"]["id"], "text": message["text"] + ending}
            async with session.post(f"/bot{TOKEN}/sendMessage", json=body) as answer:
                assert answer.status == 200
