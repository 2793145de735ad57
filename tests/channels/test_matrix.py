from __future__ import annotations

import asyncio
import itertools
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote as part

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from rigs.ear import Ear
from servers import synapse
from servers.matrix_people import Host, Line, Member

from roost.channels import matrix
from roost.channels.matrix_account import Account
from roost.channels.matrix_events import Known, View, read, since_invited
from roost.channels.matrix_media import media_path
from roost.channels.matrix_replies import MAX_CONTENT, relate, write_edit, write_text
from roost.channels.matrix_words import OPEN
from roost.dialects import PLAIN, render
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.proxy import proxy
from roost.values import Attachment, Event, Mention, Message, Place, Reply, Sent

ME, ANN, BOB = "@roost:b.org", "@ann:b.org", "@bob:b.org"
ROOM = "!tea:b.org"
HTML = "org.matrix.custom.html"
VIEW = View("matrix", ME, "Roost", "direct", {ANN: "Ann", BOB: "Bob"}.get, commands=frozenset({"help"}))  # type: ignore[arg-type]
GROUP = replace(VIEW, kind="group")

# ------------------------------------------------------------------------------------------------ reading


def event(content: dict[str, Any], kind: str = "m.room.message", **fields: Any) -> dict[str, Any]:
    made = {"type": kind, "event_id": "$1", "sender": ANN, "origin_server_ts": 1700000000500, "content": content}
    return made | fields


def said(body: str = "hello", view: View = VIEW, **content: Any) -> Message:
    message = read(event({"msgtype": "m.text", "body": body, **content}), ROOM, view)
    assert isinstance(message, Message)
    return message


def formatted(html: str, view: View = VIEW, body: str = "plain", **content: Any) -> Message:
    return said(body, view, format=HTML, formatted_body=html, **content)


def pill(user: str, name: str) -> str:
    return f'<a href="https://matrix.to/#/{user}">{name}</a>'


def test_a_message_has_its_place_and_its_sender() -> None:
    message = said("hello")
    assert (message.id, message.place, message.place.kind) == ("$1", Place("matrix", ROOM), "direct")
    assert (message.text, message.at, message.key) == ("hello", 1700000000.5, "$1")
    assert (str(message.sender), message.sender.name, message.sender.handle) == (f"matrix:{ANN}", "Ann", ANN)
    assert message.addressed and not message.edited


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("a <strong>b</strong> <em>c</em>", "a **b** *c*"),
        ("<pre><code class='language-sh'>ls\n</code></pre>", "```sh\nls\n```"),
        ("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"),
        ("<span data-mx-spoiler>hidden</span>", "hidden"),
        ("", "plain"),
        ("<script>x</script>", "plain"),
    ],
)
def test_html_is_read_as_markdown(html: str, markdown: str) -> None:
    assert formatted(html).text == markdown


@given(st.text(alphabet="ab *_`<>[]()#&!~\\-+.1\n😀é", min_size=1).filter(str.strip))
def test_a_plain_body_means_only_its_letters(body: str) -> None:
    message = read(event({"msgtype": "m.text", "body": f"x{body}"}), ROOM, VIEW)
    assert isinstance(message, Message)
    shown = render(message.text, PLAIN)
    assert "".join(shown.split()) == "".join(f"x{body}".split())


def test_the_text_that_old_programs_quote_is_left_out() -> None:
    quoted = {"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}
    message = said("> <@bob:b.org> tea?\n> now?\n\nyes", **quoted)
    assert message.text == "yes" and message.quote is not None and message.quote.id == "$0"
    assert said("> <@bob:b.org> tea?\n\nyes").text.startswith(("\\>", "> "))


@pytest.mark.parametrize(
    ("content", "addressed", "text"),
    [
        ({"body": "what is it?", "m.mentions": {}}, False, "what is it?"),
        ({"body": "what is it?", "m.mentions": {"user_ids": [ME]}}, True, "what is it?"),
        ({"body": "Roost: what is it?", "m.mentions": {}}, True, "what is it?"),
        ({"body": "@roost what is it?", "m.mentions": {}}, True, "what is it?"),
        ({"body": f"{ME}, what is it?"}, True, "what is it?"),
        ({"body": "ask roost, please"}, True, "ask roost, please"),
        ({"body": "ask roost, please", "m.mentions": {}}, False, "ask roost, please"),
        ({"body": "Roost is nice", "m.mentions": {}}, False, "Roost is nice"),
        ({"body": "roosters"}, False, "roosters"),
        ({"body": "@room tea", "m.mentions": {"room": True}}, False, "@room tea"),
        ({"body": "!help me", "m.mentions": {}}, True, "!help me"),
        ({"body": "/help"}, True, "/help"),
        ({"body": "/shrug", "m.mentions": {}}, False, "/shrug"),
        ({"body": "tea", "msgtype": "m.notice", "m.mentions": {"user_ids": [ME]}}, False, "tea"),
    ],
)
def test_in_a_group_who_is_meant_is_told_by_mentions_and_names(
    content: dict[str, Any], addressed: bool, text: str
) -> None:
    message = read(event({"msgtype": "m.text", **content}), ROOM, GROUP)
    assert isinstance(message, Message)
    assert (message.addressed, message.text) == (addressed, text)


def test_the_bots_own_leading_pill_is_left_out_and_others_are_mentions() -> None:
    html = f"{pill(ME, 'Roost')}: ask {pill(BOB, 'Bob B')} or {pill('%40cy%3Ab.org', 'Cy')}"
    message = formatted(html, GROUP)
    assert message.text == "ask Bob B or Cy" and message.addressed
    assert message.mentions == (Mention(4, 9, BOB), Mention(13, 15, "@cy:b.org"))
    elsewhere = formatted(f"{pill(BOB, 'Bob')}, ask {pill(ME, 'Roost')}", GROUP)
    assert elsewhere.text == "Bob, ask Roost" and elsewhere.addressed
    assert [one.person for one in elsewhere.mentions] == [BOB, ME]
    assert OPEN not in said(f"a {OPEN} b").text


def test_an_answer_to_the_bot_is_for_the_bot() -> None:
    view = replace(GROUP, known={"$7": Known(ME, "tea at four"), "$8": Known(BOB, "no")})
    meant = said("why?", view, **{"m.mentions": {}, "m.relates_to": {"m.in_reply_to": {"event_id": "$7"}}})
    assert meant.addressed and meant.quote is not None and meant.quote.text == "tea at four"
    other = said("why?", view, **{"m.mentions": {}, "m.relates_to": {"m.in_reply_to": {"event_id": "$8"}}})
    assert not other.addressed and other.quote is not None and other.quote.author == "Bob"


def test_a_thread_is_a_place_of_its_own_and_its_fallback_no_quote() -> None:
    fallback = {"rel_type": "m.thread", "event_id": "$t", "is_falling_back": True, "m.in_reply_to": {"event_id": "$9"}}
    message = said("in here", **{"m.relates_to": fallback})
    assert message.place.thread == "$t" and message.quote is None
    message = said("in here", **{"m.relates_to": fallback | {"is_falling_back": False}})
    assert message.place.thread == "$t" and message.quote is not None and message.quote.id == "$9"


def edit(target: str, body: str, **fields: Any) -> dict[str, Any]:
    fresh = {"msgtype": "m.text", "body": body}
    content = {"msgtype": "m.text", "body": f"* {body}", "m.new_content": fresh}
    return event(content | {"m.relates_to": {"rel_type": "m.replace", "event_id": target}}, event_id="$2", **fields)


def test_an_edit_is_the_whole_new_message_in_the_thread_of_the_old_one() -> None:
    view = replace(VIEW, known={"$1": Known(ANN, "old", "$t")})
    message = read(edit("$1", "new"), ROOM, view)
    assert isinstance(message, Message)
    assert (message.id, message.key, message.text, message.edited) == ("$1", "$2", "new", True)
    assert message.place.thread == "$t"
    assert read(edit("$1", "forged", sender=BOB), ROOM, view) is None, "nobody edits what another wrote"


def file(msgtype: str = "m.image", **content: Any) -> dict[str, Any]:
    info = {"mimetype": "image/png", "size": 12}
    return {"msgtype": msgtype, "body": "tea.png", "url": "mxc://b.org/x", "info": info, **content}


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (file(), "image", ""),
        (file(filename="tea.png"), "image", ""),
        (file(body="look **here**", filename="tea.png"), "image", "look \\*\\*here\\*\\*"),
        (file("m.audio"), "audio", ""),
        (file("m.audio", **{"org.matrix.msc3245.voice": {}}), "voice", ""),
        (file("m.video"), "video", ""),
        (file("m.file"), "file", ""),
    ],
)
def test_a_file_is_an_attachment_and_its_caption_the_text(content: dict[str, Any], kind: str, text: str) -> None:
    message = read(event(content), ROOM, VIEW)
    assert isinstance(message, Message)
    (attachment,) = message.attachments
    assert (attachment.kind, attachment.name, attachment.mime, attachment.size) == (kind, "tea.png", "image/png", 12)
    assert json.loads(attachment.ref) == {"url": "mxc://b.org/x"} and message.text == text


def test_an_encrypted_file_brings_what_opens_it() -> None:
    key = {"url": "mxc://b.org/y", "key": {"k": "k"}, "iv": "iv", "hashes": {"sha256": "h"}}
    content = file("m.file")
    del content["url"]
    message = read(event(content | {"file": key}), ROOM, VIEW)
    assert isinstance(message, Message)
    assert json.loads(message.attachments[0].ref) == {"file": key}


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        ({"msgtype": "m.location", "body": "here", "geo_uri": "geo:52.1,4.3;u=35"}, "m.room.message", "52.1, 4.3"),
        ({"msgtype": "m.emote", "body": "waves"}, "m.room.message", "\\* waves"),
        ({"msgtype": "org.example.dice", "body": "rolls 6"}, "m.room.message", "[org example dice] rolls 6"),
        ({"body": "a cat", "url": "mxc://b.org/z", "info": {}}, "m.sticker", ""),
        (
            {"org.matrix.msc3381.poll.start": {
                "question": {"org.matrix.msc1767.text": "Tea?"},
                "answers": [{"id": "1", "org.matrix.msc1767.text": "Yes"}, {"id": "2", "m.text": [{"body": "No"}]}],
            }},
            "org.matrix.msc3381.poll.start",
            "[poll Tea? / Yes / No]",
        ),
        ({"call_id": "1"}, "m.call.invite", "[call]"),
        ({"msgtype": "m.image", "body": "tea.png"}, "m.room.message", "[image] tea.png"),
        ({"msgtype": "m.file", "body": "tea.txt", "info": {}}, "m.room.message", "[file] tea.txt"),
    ],
)  # fmt: skip
def test_what_is_not_text_becomes_text(content: dict[str, Any], kind: str, text: str) -> None:
    message = read(event(content, kind), ROOM, VIEW)
    assert isinstance(message, Message)
    assert text in message.text and (text or message.attachments)


@pytest.mark.parametrize(
    "made",
    [
        event({"msgtype": "m.text", "body": "mine"}, sender=ME),
        event({"name": "Tea"}, "m.room.name", state_key=""),
        event({}, unsigned={"redacted_because": {}}),
        event({"msgtype": "m.key.verification.request", "body": "verify"}),
        event({"strange": 1}, "org.example.strange"),
        event(
            {"membership": "join"}, "m.room.member", state_key=ANN, unsigned={"prev_content": {"membership": "join"}}
        ),
        event({"msgtype": "m.text", "body": " "}),
    ],
)
def test_what_nobody_said_is_nothing(made: dict[str, Any]) -> None:
    assert read(made, ROOM, VIEW) is None


def test_reactions_and_redactions_are_events() -> None:
    relates = {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$7", "key": "👍"}}
    view = replace(VIEW, known={"$5": Known(ANN, target="$7"), "$7": Known(ME, "tea", "$t")})
    given_ = read(event(relates, "m.reaction"), ROOM, view)
    assert isinstance(given_, Event)
    assert (given_.kind, given_.message_id, given_.value, given_.place.thread) == ("reacted", "$7", "👍", "$t")
    taken = read(event({"redacts": "$5"}, "m.room.redaction"), ROOM, view)
    assert isinstance(taken, Event) and (taken.kind, taken.message_id, taken.value) == ("reacted", "$7", "")
    for made in (event({"redacts": "$7"}, "m.room.redaction"), event({}, "m.room.redaction", redacts="$7")):
        deleted = read(made, ROOM, view)
        assert isinstance(deleted, Event) and (deleted.kind, deleted.message_id) == ("deleted", "$7")


def test_people_come_and_go() -> None:
    came = read(event({"membership": "join"}, "m.room.member", state_key=ANN), ROOM, GROUP)
    assert isinstance(came, Event) and came.kind == "joined" and str(came.person) == f"matrix:{ANN}"
    before = {"prev_content": {"membership": "join"}}
    out = read(event({"membership": "ban"}, "m.room.member", state_key=ME, unsigned=before), ROOM, GROUP)
    assert isinstance(out, Event) and out.kind == "left" and str(out.person) == f"matrix:{ME}"


def test_only_what_was_said_since_the_invitation_counts() -> None:
    asked = event({"membership": "invite"}, "m.room.member", state_key=ME)
    before = {"prev_content": {"membership": "invite"}}
    came = event({"membership": "join"}, "m.room.member", state_key=ME, unsigned=before)
    old, early, late = (event({"body": body}) for body in ("old", "early", "late"))
    assert since_invited([old, asked, early, came, late], ME) == [early, came, late]
    alone = event({"membership": "join"}, "m.room.member", state_key=ME)
    assert since_invited([old, alone, late], ME) == [late]
    assert since_invited([old, late], ME) == [old, late]


# ------------------------------------------------------------------------------------------------ writing


def test_a_plain_answer_has_no_html_and_a_formatted_one_has_both() -> None:
    assert write_text("tea & <cake>\n\nnow") == {"msgtype": "m.text", "body": "tea & <cake>\n\nnow"}
    content = write_text("**tea** [here](https://a.b)")
    assert content["body"] == "tea here (https://a.b)" and content["format"] == HTML
    assert content["formatted_body"] == '<p><strong>tea</strong> <a href="https://a.b">here</a></p>'


@pytest.mark.parametrize("letter", ["x", '"', "é", "茶", "😀", "&", "\\\\"])
def test_the_longest_answer_fits_into_an_event_also_encrypted(letter: str) -> None:
    most = matrix.Matrix.limits.max_text
    one = len(render(letter, matrix.HTML_CHAT).encode()) - len("<p></p>")
    text = "**x** " + letter * ((most - 50) // one)
    assert most - 60 < len(render(text, matrix.HTML_CHAT).encode()) <= most
    for content in (write_text(text), write_edit("$1", write_text(text))):
        assert len(json.dumps(content)) * 4 / 3 < 64_500
        assert len(json.dumps(content)) < MAX_CONTENT + 2_500


def test_an_answer_in_a_thread_or_to_a_message_says_so() -> None:
    assert relate({}, "", "", "", "") == {"m.mentions": {}}
    answer = relate({}, "", "$3", "$1", ANN)
    assert answer == {"m.mentions": {"user_ids": [ANN]}, "m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}}
    threaded = relate({}, "$t", "$3", "", "")["m.relates_to"]
    assert threaded["is_falling_back"] is True and threaded["m.in_reply_to"] == {"event_id": "$3"}
    both = relate({}, "$t", "$3", "$1", ANN)["m.relates_to"]
    assert both["is_falling_back"] is False and both["m.in_reply_to"] == {"event_id": "$1"}


def test_a_file_has_an_address_of_its_server_and_no_other() -> None:
    assert media_path("mxc://b.org:8448/aB-_9") == "/_matrix/client/v1/media/download/b.org:8448/aB-_9"
    for address in ("https://b.org/x", "mxc://b.org/../../x", "mxc://b.org/x?y", "mxc://b.org", "mxc://b@rg/x"):
        assert media_path(address) is None


def test_the_proxy_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.b.org:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert proxy("https://matrix.b.org") == "http://proxy.b.org:3128"
    assert proxy("https://127.0.0.1:8008") is None
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:9050")
    assert proxy("https://matrix.b.org", socks=True) == "socks5://127.0.0.1:9050"
    with pytest.raises(ConfigError, match="only HTTP proxies"):
        proxy("https://matrix.b.org")


# ---------------------------------------------------------------------------------------------- over the wire


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "pauses", lambda *_: itertools.repeat(0.02))


@pytest.fixture
async def ann() -> AsyncIterator[Member]:
    async with Member("Ann") as member:
        yield member


@pytest.fixture
async def bot() -> AsyncIterator[Member]:
    async with Member("Roost") as member:
        yield member


def is_message(one: Any) -> bool:
    return isinstance(one, Message)


async def heard(line: Line, text: str) -> Message:
    found: Message = await line.host.next(lambda one: isinstance(one, Message) and one.text == text)
    return found


def text(body: str) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body}


async def test_nothing_said_before_the_first_login_is_answered(ann: Member, bot: Member, tmp_path: Path) -> None:
    room = await ann.room(bot, name="Tea")
    await bot.ask("POST", f"v3/rooms/{part(room)}/join", {})
    await ann.send(room, text("long ago"))
    line = Line(bot, tmp_path)
    async with line.up():
        await line.joined(room)
        await ann.send(room, text("now"))
        assert (await line.host.next(is_message)).text == "now"


async def test_more_than_fits_into_a_sync_is_fetched_in_order(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    async with line.up():
        await ann.send(room, text("first"))
        await heard(line, "first")
    for number in range(230):
        await ann.send(room, text(f"n{number}"))
    async with line.up():
        await heard(line, "n0")
        rest = [await line.host.next() for _ in range(229)]
    assert [one.text for one in rest] == [f"n{number}" for number in range(1, 230)]


async def test_what_was_written_with_the_invitation_is_taken_and_what_was_before_is_not(
    ann: Member, bot: Member, tmp_path: Path
) -> None:
    room = await ann.room()
    await ann.send(room, text("to myself"))
    await ann.ask("POST", f"v3/rooms/{part(room)}/invite", {"user_id": bot.id})
    await ann.send(room, text("hello Roost"))
    line = Line(bot, tmp_path)
    async with line.up():
        message = await line.host.next(is_message)
        assert message.text == "hello Roost"


@pytest.mark.parametrize(("policy", "follows"), [("owner", True), ("owner", False), ("ignore", False)])
async def test_invitations_are_followed_as_configured(
    ann: Member, bot: Member, tmp_path: Path, policy: str, follows: bool
) -> None:
    line = Line(bot, tmp_path, invites=policy, owner=ann.id if follows else "@other:roost.test")
    async with line.up():
        room = await ann.room(bot, direct=True)
        if follows:
            await line.joined(room)
            return
        # A second room, in which the bot is already, tells when the first sync after the invitation is over.
        other = await bot.room(ann)
        await ann.ask("POST", f"v3/rooms/{part(other)}/join", {})
        await ann.send(other, text("done"))
        await heard(line, "done")
        state = await ann.ask("GET", f"v3/rooms/{part(room)}/state/m.room.member/{part(bot.id)}")
        assert state["membership"] == "invite"


def direct_path(bot: Member) -> str:
    return f"v3/user/{part(bot.id)}/account_data/m.direct"


async def test_a_direct_room_is_marked_as_one_and_found_by_the_person(ann: Member, bot: Member, tmp_path: Path) -> None:
    line = Line(bot, tmp_path)
    async with line.up():
        room = await ann.room(bot, direct=True)
        await line.joined(room)
        sent = await first_sent(line, ann)
        assert await ann.until(sent.place.chat, lambda one: one["sender"] == bot.id and "body" in one["content"])
        assert sent.place.chat == room


async def first_sent(line: Line, person: Member) -> Sent:
    """A message to somebody, sent as soon as it can be."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await line.channel.send(Place("matrix", person.id), Reply("hello Ann"))
            except NotSent:
                await asyncio.sleep(0.02)


async def test_who_has_asked_the_bot_into_a_room_gets_no_second_one(
    ann: Member, bot: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, may = Line(bot, tmp_path), asyncio.Event()
    mark = Account.mark_direct

    async def late(account: Account, user: str, room: str) -> None:
        await asyncio.wait_for(may.wait(), 30)
        await mark(account, user, room)

    monkeypatch.setattr(Account, "mark_direct", late)
    async with line.up():
        room = await ann.room(bot, direct=True)
        await line.joined(room)
        with pytest.raises(NotSent, match="about to be there"):
            await line.channel.send(Place("matrix", ann.id), Reply("hello"))
        may.set()
        assert (await first_sent(line, ann)).place.chat == room
        assert await bot.ask("GET", direct_path(bot)) == {ann.id: [room]}


async def test_a_room_of_which_no_sync_has_told_yet_is_waited_for(
    ann: Member, bot: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    async with line.up():
        assert (await first_sent(line, ann)).place.chat == room
        account = line.channel._account
        direct = account.direct

        async def before_the_sync() -> Any:
            marked = await direct()
            account.client.rooms.pop(room, None)
            return marked

        monkeypatch.setattr(account, "direct", before_the_sync)
        with pytest.raises(NotSent, match="about to be there"):
            await line.channel.send(Place("matrix", ann.id), Reply("hello"))
        assert await bot.ask("GET", direct_path(bot)) == {ann.id: [room]}


async def test_the_rooms_of_others_stay_marked_when_the_server_does_not_tell_them(
    ann: Member, bot: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(bot, tmp_path)
    async with line.up():
        await bot.ask("PUT", direct_path(bot), {"@bob:roost.test": ["!tea:roost.test"]})
        account = line.channel._account
        send = account.send

        async def failing(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            return (503, {}) if method == "GET" and path.endswith("m.direct") else await send(method, path, body)

        monkeypatch.setattr(account, "send", failing)
        with pytest.raises(MaybeSent):
            await account.mark_direct(ann.id, "!other:roost.test")
        with pytest.raises(NotSent, match="503"):
            await line.channel.send(Place("matrix", ann.id), Reply("hello"))
        assert await bot.ask("GET", direct_path(bot)) == {"@bob:roost.test": ["!tea:roost.test"]}


async def test_a_person_without_a_room_gets_one(ann: Member, bot: Member, tmp_path: Path) -> None:
    line = Line(bot, tmp_path)
    async with line.up():
        place = Place("matrix", ann.id)
        with pytest.raises(NotSent) as refused:
            await line.channel.send(place, Reply("hello"))
        assert refused.value.retry_after
        (room,) = (await bot.ask("GET", direct_path(bot)))[ann.id]
        await line.joined(room)
        await ann.ask("POST", f"v3/rooms/{part(room)}/join", {})
        sent = await line.channel.send(place, Reply("hello"))
        assert sent.place.chat == room


async def test_an_answer_sent_twice_with_one_key_is_there_once(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    picture = Attachment("image", "tea.png", "image/png", data=b"\x89PNG")
    async with line.up():
        await line.joined(room)
        first = await line.channel.send(Place("matrix", room), Reply("tea", (picture,), key="k/1"))
    async with line.up():
        again = await line.channel.send(Place("matrix", room), Reply("tea", (picture,), key="k/1"))
        assert again.ids == first.ids and len(first.ids) == 2
        other = await line.channel.send(Place("matrix", room), Reply("tea", key="k/2"))
        assert other.ids[0] not in first.ids


async def test_people_see_that_the_bot_has_read(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    async with line.up():
        sent = await ann.send(room, text("hello"))
        await heard(line, "hello")
        async with asyncio.timeout(30):
            while (sent, bot.id) not in ann.receipts:
                await ann.sync()


async def test_an_answer_to_the_bot_is_known_after_a_restart(ann: Member, bot: Member, tmp_path: Path) -> None:
    async with Member("Bob") as bob:
        room = await ann.room(bob, name="Tea")
        await bob.ask("POST", f"v3/rooms/{part(room)}/join", {})
        await ann.ask("POST", f"v3/rooms/{part(room)}/invite", {"user_id": bot.id})
        line = Line(bot, tmp_path)
        async with line.up():
            await line.joined(room)
            sent = await line.channel.send(Place("matrix", room), Reply("tea **now**"))
        async with line.up():
            relates = {"m.relates_to": {"m.in_reply_to": {"event_id": sent.ids[0]}}, "m.mentions": {}}
            await bob.send(room, text("why?") | relates)
            message = await heard(line, "why?")
            assert message.addressed and message.place.kind == "group"
            assert message.quote is not None and message.quote.text == "tea **now**"
            await bob.send(room, text("tea?") | {"m.mentions": {}})
            assert not (await heard(line, "tea?")).addressed


async def test_a_taken_back_reaction_and_message_are_events(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    async with line.up():
        message = await ann.send(room, text("hello"))
        relates = {"m.relates_to": {"rel_type": "m.annotation", "event_id": message, "key": "👍"}}
        reaction = await ann.send(room, relates, "m.reaction")
        await line.host.next(lambda one: isinstance(one, Event) and one.value == "👍")
        for number, id in enumerate((reaction, message)):
            await ann.ask("PUT", f"v3/rooms/{part(room)}/redact/{part(id)}/r{number}", {})
        taken = await line.host.next(lambda one: isinstance(one, Event))
        assert (taken.kind, taken.message_id, taken.value) == ("reacted", message, "")
        taken = await line.host.next(lambda one: isinstance(one, Event))
        assert (taken.kind, taken.message_id) == ("deleted", message)


async def test_a_reaction_replaces_the_last_and_none_takes_it_away(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    path = f"v1/rooms/{part(room)}/relations"
    async with line.up():
        message = await ann.send(room, text("hello"))
        await heard(line, "hello")
        for emoji in ("👍", "👍", "🎉", ""):
            await line.channel.react(Place("matrix", room), message, emoji)
            found = (await ann.ask("GET", f"{path}/{part(message)}/m.annotation"))["chunk"]
            keys = [one["content"]["m.relates_to"]["key"] for one in found if one["content"]]
            assert keys == ([emoji] if emoji else [])


async def test_a_room_that_was_replaced_is_followed(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, preset="public_chat"), Line(bot, tmp_path)
    async with line.up():
        await line.joined(room)
        fresh = (await ann.ask("POST", f"v3/rooms/{part(room)}/upgrade", {"new_version": "12"}))["replacement_room"]
        await line.joined(fresh)
        await ann.send(fresh, text("over here"))
        assert (await heard(line, "over here")).place.chat == fresh


async def test_what_cannot_be_delivered_is_told_apart(ann: Member, bot: Member, tmp_path: Path) -> None:
    room, line = await ann.room(bot, direct=True), Line(bot, tmp_path)
    place = Place("matrix", room)
    with pytest.raises(NotSent):
        await line.channel.send(place, Reply("too early"))
    async with line.up():
        await line.joined(room)
        with pytest.raises(Undeliverable, match="not in the room"):
            await line.channel.send(Place("matrix", "!gone:roost.test"), Reply("x"))
        with pytest.raises(Undeliverable, match="M_NOT_FOUND"):
            await line.channel.send(Place("matrix", "#gone:roost.test"), Reply("x"))
        with pytest.raises(Undeliverable, match="M_TOO_LARGE"):
            await line.channel.send(place, Reply("x" * 70_000))
        await ann.ask("POST", f"v3/rooms/{part(room)}/kick", {"user_id": bot.id})
        with pytest.raises(Undeliverable, match="M_FORBIDDEN"):
            await line.channel.send(place, Reply("x"))
        left = await line.host.next(lambda one: isinstance(one, Event) and one.kind == "left")
        assert str(left.person) == f"matrix:{bot.id}"


async def test_a_password_logs_in_once_and_keeps_its_device(ann: Member, bot: Member, tmp_path: Path) -> None:
    line = Line(bot, tmp_path, user=bot.id, password="secret")
    async with line.up():
        first = line.channel._account.client
        assert first.device_id != bot.account["device_id"]
    kept = json.loads((tmp_path / "session.json").read_text())
    assert stat.S_IMODE((tmp_path / "session.json").stat().st_mode) == 0o600
    async with line.up():
        client = line.channel._account.client
        assert (client.access_token, client.device_id) == (first.access_token, first.device_id)
        # Somebody ends the session: another begins on the same device.
        room = await ann.room(bot, direct=True)
        await line.joined(room)
        async with line.ended_session():
            await ann.send(room, text("still there?"))
            await heard(line, "still there?")
        client = line.channel._account.client
        assert client.device_id == kept["device"] and client.access_token != kept["token"]


@pytest.mark.parametrize(
    ("keys", "said_"),
    [
        ({"token": "syt_wrong"}, "'token'"),
        ({"user": "@roost:roost.test", "password": "wrong"}, "'password'"),
        ({"token": ""}, "no 'token'"),
        ({"user": "roost", "password": "x", "base_url": ""}, "no 'base_url'"),
    ],
)
async def test_refused_credentials_are_one_clear_sentence(
    bot: Member, tmp_path: Path, keys: dict[str, Any], said_: str
) -> None:
    with pytest.raises(LoginFailed, match=said_) as refused:
        async with Line(bot, tmp_path, **keys).up():
            pass
    assert "[channels.matrix]" in str(refused.value) and str(refused.value).endswith(".")
    assert str(refused.value).count("The Matrix server refuses") <= 1


async def test_another_account_begins_anew(ann: Member, bot: Member, tmp_path: Path) -> None:
    async with Line(bot, tmp_path).up():
        pass
    async with Member("Other") as other:
        room = await ann.room(other)
        await other.ask("POST", f"v3/rooms/{part(room)}/join", {})
        await ann.send(room, text("long ago"))
        line = Line(other, tmp_path)
        async with line.up():
            await line.joined(room)
            await ann.send(room, text("now"))
            assert (await line.host.next(is_message)).text == "now"


def test_invitations_of_an_owner_who_is_not_named_are_refused_at_the_start(tmp_path: Path) -> None:
    config = matrix.MatrixConfig(token="syt_x", base_url="http://127.0.0.1:1", invites="owner")
    with pytest.raises(ConfigError, match=r"\[channels\.matrix\] has invites = 'owner' and no 'owner'"):
        matrix.Matrix("matrix", config, Host(tmp_path))


async def test_a_name_that_leads_to_no_server_says_which_keys_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix.Account, "SCHEME", "http")
    config = matrix.MatrixConfig(user="@roost:127.0.0.1:1", password="x")
    account = matrix.Account("matrix", config, tmp_path)
    with pytest.raises(NotSent, match=r"'127\.0\.0\.1:1' does not tell where .* 'base_url'"):
        await account.log_in()


async def test_the_server_of_a_user_is_found(bot: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def known(request: web.Request) -> web.Response:
        return web.json_response({"m.homeserver": {"base_url": f"{synapse.running().url}/"}})

    app = web.Application()
    app.router.add_get("/.well-known/matrix/client", known)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(matrix.Account, "SCHEME", "http")
    try:
        address = f"127.0.0.1:{runner.addresses[0][1]}"
        line = Line(bot, tmp_path, base_url="", user=f"@roost:{address}")
        async with line.up():
            assert line.channel._account.client.homeserver == synapse.running().url
    finally:
        await runner.cleanup()


@asynccontextmanager
async def homeserver(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """A homeserver that is in no state to serve anybody; its address."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_server_that_refuses_the_token_it_has_just_given_is_not_asked_in_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As behind a redirection to another host, where the token does not follow (RFC 9110, section 15.4).
    logins = []

    def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/login"):
            logins.append(request.path)
            return web.json_response({"user_id": ME, "access_token": "syt_1", "device_id": "D"})
        return web.json_response({"errcode": "M_MISSING_TOKEN", "error": "Missing access token"}, status=401)

    monkeypatch.setattr(matrix, "pauses", lambda longest: itertools.repeat(3600.0))
    async with homeserver(answer) as url:
        host = Ear(tmp_path)
        config = matrix.MatrixConfig(user=ME, password="secret", base_url=url)
        running = asyncio.create_task(matrix.Matrix("matrix", config, host).run(host.receive))
        try:
            await host.until(lambda: host.problem or len(logins) > 1)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert len(logins) == 1
    assert "base_url" in host.problem


async def test_what_speaks_no_matrix_is_called_so(tmp_path: Path) -> None:
    async with homeserver(lambda _: web.Response(text="<html>Welcome</html>", content_type="text/html")) as url:
        account = matrix.Account("matrix", matrix.MatrixConfig(user=ME, password="secret", base_url=url), tmp_path)
        try:
            with pytest.raises(MaybeSent, match="does not speak Matrix"):
                await account.log_in()
        finally:
            await account.close()


async def test_in_a_room_the_bot_answers_to_the_name_it_has_there(ann: Member, bot: Member, tmp_path: Path) -> None:
    line = Line(bot, tmp_path)
    async with Member("Bob") as bob, line.up():
        room = await ann.room(bot, bob, name="Tea")
        await line.joined(room)
        await bob.ask("POST", f"v3/join/{part(room)}", {})  # with a third, it is a group
        path = f"v3/rooms/{part(room)}/state/m.room.member/{part(bot.id)}"
        await bot.ask("PUT", path, {"membership": "join", "displayname": "Robbie"})
        await ann.send(room, text("Robbie: hello"))
        assert (await heard(line, "hello")).addressed
