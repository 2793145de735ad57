"""Slack: what is pure, and what only this platform has. The scenarios of every channel are in test_conformance_*.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from kit.gate import http
from kit.rig import LIMIT
from kit.talk import Talk
from rigs.slack import SlackRig
from servers.slack import Delivery, Json
from servers.slack_blocks import check, seen
from servers.slack_methods import SCOPES
from slack_sdk.errors import SlackApiError

from roost.channels import slack_history, slack_mrkdwn, slack_names
from roost.channels.slack_errors import explain
from roost.channels.slack_history import History
from roost.channels.slack_names import Names, emoji, emoji_name
from roost.channels.slack_replies import plain, write
from roost.channels.slack_rich import rich, to_text, unrich
from roost.channels.slack_updates import Desk, read
from roost.channels.slack_web import Api
from roost.dialects import MRKDWN, PLAIN, render
from roost.draft import Draft
from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Attachment, Button, Event, Mention, Message, Person, Place, Reply

NAMES = {"U0ANN": "Ann", "U0ROOST": "roost", "C0TEA": "tea", "U0BOB": "bob_x"}
DESK = Desk("slack", "U0ROOST", lambda id: NAMES.get(id, id), lambda id: id.lower(), {"new"})
MARKDOWN = st.text(st.sampled_from("ab *_~`>#-1.\n[](:/)&<|é你👍\u200b\\"), max_size=80)


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def markdown_of(block: Json) -> str:
    return to_text(unrich(block, DESK.name))[0]


# ------------------------------------------------------------------------------------------------ rich text


@given(MARKDOWN)
@example("- a\n\n  ```\n  b\n  ```\n- c\n  1. d\n     > e")
@example("> - a\n> ```\n> b\n> ```\n> # c")
@example("[**a**](http://x.org) [b](ftp://y) ![c](https://z.org/c.png)")
def test_what_is_written_is_what_slack_takes_and_shows_every_word(text: str) -> None:
    block = rich(text)
    if block is None:
        assert not letters(render(text, PLAIN))
        return
    assert check([block]) == []
    assert letters(seen({"blocks": [block]})) == letters(seen({"text": render(text, MRKDWN)}))


@given(MARKDOWN)
@example("**a *b*** ~~c~~ `d`\n\n> e\n\n- f\n  - g\n\n3. h")
@example("1. a\n\n   b\n2. c")
def test_what_comes_back_shows_the_same_words(text: str) -> None:
    block = rich(text)
    again = rich(markdown_of(block)) if block else None
    assert letters(seen({"blocks": [again]} if again else {})) == letters(seen({"blocks": [block]} if block else {}))


@pytest.mark.parametrize(
    "text",
    [
        "**bold** *slanted* ~~gone~~ `a_b*c` ***both***",
        "one\ntwo\n\nthree",
        "```\nx = 1 < 2\n```",
        "> said\n> before",
        "- a\n  - b\n    1. c\n- d",
        "3. a\n4. b",
        "[here](https://x.org/a_b) <https://x.org>",
        "2 * 3 * 4 snake_case # > \\<!channel>",
    ],
)
def test_formatting_goes_out_and_comes_back_the_same(text: str) -> None:
    block = rich(text)
    assert block is not None
    assert markdown_of(block) == text


def test_a_list_goes_on_counting_after_what_interrupts_it() -> None:
    block = rich("1. a\n2. b\n\n   ```\n   x\n   ```\n3. c")
    assert block is not None
    kinds = [(one["type"], one.get("offset", 0), len(one["elements"])) for one in block["elements"]]
    assert kinds == [("rich_text_list", 0, 2), ("rich_text_preformatted", 0, 1), ("rich_text_list", 2, 1)]


def section(*elements: Json) -> Json:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


def text(said: str, **style: bool) -> Json:
    return {"type": "text", "text": said} | ({"style": style} if style else {})


@pytest.mark.parametrize(
    ("elements", "written"),
    [
        ([text("a "), text(" b ", bold=True), text("c")], "a  **b** c"),
        ([text("a", bold=True), text("b", bold=True, italic=True)], "**a*b***"),
        ([text("one\ntwo", bold=True)], "**one**\n**two**"),
        ([{"type": "emoji", "name": "tada", "unicode": "1f389"}, {"type": "emoji", "name": "own"}], "🎉:own:"),
        ([{"type": "channel", "channel_id": "C0TEA"}, {"type": "broadcast", "range": "here"}], "#tea@here"),
        ([{"type": "date", "timestamp": 1, "format": "{date}", "fallback": "May 1"}], "May 1"),
        ([{"type": "link", "url": "https://x.org/a b", "text": "x"}], "[x](https://x.org/a%20b)"),
        ([{"type": "novelty"}, text(" x")], "[novelty] x"),
        ([text("\n\na\n\n")], "a"),
        ([text("# no heading <b> 1. no list")], "\\# no heading \\<b> 1. no list"),
    ],
)
def test_the_composers_rich_text_is_read(elements: list[Json], written: str) -> None:
    assert markdown_of(section(*elements)) == written


# ------------------------------------------------------------------------------------------------ mrkdwn


def mrkdwn(said: str) -> str:
    return to_text(slack_mrkdwn.blocks(said, DESK.name), DESK.me)[0]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("*bold* _slanted_ ~gone~ `a*b`", "**bold** *slanted* ~~gone~~ `a*b`"),
        ("snake_case_name 2*3*4", "snake_case_name 2\\*3\\*4"),
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("<https://x.org/a_b|here> <https://x.org>", "[here](https://x.org/a_b) <https://x.org>"),
        ("<mailto:a@x.org|a@x.org>", "[a@x.org](mailto:a@x.org)"),
        ("<#C0TEA|tea> <#C0TEA> <!here> <!subteam^S1|@team> <!date^1^{date}|May 1>", "#tea #tea @here @team May 1"),
        ("<@U0ROOST> tea?", "tea?"),
        ("&gt; quoted\n&gt; more\nafter", "> quoted\n> more\n\nafter"),
        ("```x &lt; <http://a.b|a.b>```", "```\nx < a.b\n```"),
        ("*<https://x.org|x>*", "**[x](https://x.org)**"),
        ("_*both*_", "***both***"),
    ],
)
def test_mrkdwn_is_read(said: str, written: str) -> None:
    assert mrkdwn(said) == written


@given(st.text(st.sampled_from("ab *_~`<>@#!|&;lgt\n\ufdd0\ufdd2\ufdd30"), max_size=60))
def test_no_text_cannot_be_read(said: str) -> None:
    mrkdwn(said)


# ------------------------------------------------------------------------------------------------ what comes in


def event(**more: Any) -> Json:
    said = {"type": "message", "channel": "C0TEA", "user": "U0ANN", "text": "hi", "ts": "1700000000.000100"}
    return {"type": "event_callback", "event": said | more}


def message(body: Json) -> Message:
    found = read(body, DESK)
    assert isinstance(found, Message)
    return found


def test_a_message_in_a_channel_is_read() -> None:
    found = message(event(text="<@U0BOB> look at <#C0TEA|tea>"))
    assert found.text == "@bob_x look at #tea"
    assert found.mentions == (Mention(0, 6, "U0BOB"),)
    assert (found.place, found.place.kind, found.addressed) == (Place("slack", "C0TEA"), "group", False)
    assert found.sender == Person("slack", "U0ANN", "Ann", "u0ann")
    assert (found.id, found.key, found.at) == ("1700000000.000100", "C0TEA:1700000000.000100", 1700000000.0001)


def test_a_mention_is_one_message_although_slack_tells_of_it_twice() -> None:
    both = [message(event(type=kind, text="<@U0ROOST>, tea?")) for kind in ("message", "app_mention")]
    assert both[0].identity == both[1].identity
    assert [(one.text, one.addressed) for one in both] == [("tea?", True)] * 2


def test_threads_are_places_and_their_first_message_is_not_in_them() -> None:
    inside = message(event(thread_ts="1699999999.000000", parent_user_id="U0ROOST"))
    assert (inside.place.thread, inside.addressed) == ("1699999999.000000", True)
    assert message(event(thread_ts="1700000000.000100")).place.thread == ""


@pytest.mark.parametrize(
    "more",
    [
        {"bot_id": "B1"},
        {"user": "U0ROOST"},
        {"user": "USLACKBOT"},
        {"subtype": "channel_join"},
        {"subtype": "bot_message", "user": None},
        {"text": ""},
        {"type": "app_home_opened"},
    ],
)
def test_what_no_person_said_is_no_message(more: Json) -> None:
    assert read(event(**more), DESK) is None


def test_a_bot_id_that_is_null_makes_nobody_a_bot() -> None:
    assert message(event(bot_id=None)).text == "hi"


def changed(before: Json, after: Json) -> Json:
    said = {"user": "U0ANN", "ts": "1700000000.000100"}
    return event(subtype="message_changed", message=said | after, previous_message=said | before, event_ts="1700000009")


def test_an_edit_is_read_and_the_preview_of_a_link_is_none() -> None:
    edited = message(changed({"text": "Tom"}, {"text": "Tim", "edited": {"ts": "1700000005.0"}}))
    assert (edited.text, edited.edited, edited.id) == ("Tim", True, "1700000000.000100")
    again = message(changed({"text": "Tim"}, {"text": "Tom", "edited": {"ts": "1700000006.0"}}))
    assert edited.identity != again.identity
    assert read(changed({"text": "Tim"}, {"text": "Tim", "attachments": [{"title": "x"}]}), DESK) is None
    was = {"text": "Tim", "edited": {"ts": "1700000005.0"}}
    assert read(changed(was, was | {"attachments": [{"title": "x"}]}), DESK) is None


def test_a_deletion_is_an_event_and_the_bots_own_is_none() -> None:
    gone = event(subtype="message_deleted", deleted_ts="1.5", previous_message={"user": "U0ANN"}, event_ts="2.0")
    found = read(gone, DESK)
    assert isinstance(found, Event)
    assert (found.kind, found.message_id, found.at) == ("deleted", "1.5", 2.0)
    tomb = changed({"text": "x"}, {"subtype": "tombstone", "text": "This message was deleted."})
    assert isinstance(read(tomb, DESK), Event)
    own = event(subtype="message_deleted", deleted_ts="1.5", previous_message={"bot_id": "B1"}, event_ts="2.0")
    assert read(own, DESK) is None


def test_reactions_are_events_with_the_emoji_itself() -> None:
    said = {"item": {"type": "message", "channel": "C0TEA", "ts": "1.5"}, "event_ts": "2.0"}
    added = read(event(type="reaction_added", reaction="+1::skin-tone-3", **said), DESK)
    assert isinstance(added, Event)
    assert (added.value, added.message_id) == ("👍🏼", "1.5")
    removed = read(event(type="reaction_removed", reaction="+1", **said), DESK)
    assert isinstance(removed, Event) and removed.value == ""
    assert read(event(type="reaction_added", reaction="+1", **said | {"user": "U0ROOST"}), DESK) is None


def test_who_came_and_who_left_is_told() -> None:
    kinds = [read(event(type=f"member_{what}_channel"), DESK) for what in ("joined", "left")]
    assert [one.kind for one in kinds if isinstance(one, Event)] == ["joined", "left"]


def test_a_forwarded_message_is_quoted_and_a_preview_is_left_out() -> None:
    shared = {"is_share": True, "author_name": "Bob", "text": "*tea* at four"}
    assert message(event(text="see", attachments=[shared])).text == "see\n\n> Bob:\n>\n> **tea** at four"
    assert message(event(attachments=[{"title": "a page", "text": "long"}])).text == "hi"
    assert "a page" in message(event(text="", attachments=[{"title": "a page", "text": "long"}])).text


FILE = {"id": "F1", "name": "tea.png", "mimetype": "image/png", "size": 3, "url_private": "https://files.slack.com/1"}


def test_files_are_attachments_or_a_note_about_them() -> None:
    files = [
        FILE,
        FILE | {"mimetype": "audio/mp4", "subtype": "slack_audio"},
        FILE | {"file_access": "check_file_info"},
        FILE | {"mode": "tombstone"},
        FILE | {"is_external": True, "url_private": "https://docs.example.org/1"},
    ]
    found = message(event(text="", subtype="file_share", files=files))
    assert [(one.kind, one.ref) for one in found.attachments] == [
        ("image", "https://files.slack.com/1"),
        ("voice", "https://files.slack.com/1"),
        ("image", "F1"),
    ]
    assert "[file: deleted]" in found.text and "https://docs.example.org/1" in found.text


def press(**more: Any) -> Json:
    action = {"type": "button", "value": "yes", "action_ts": "1700000001.5", "action_id": "choice-0"} | more
    container = {"message_ts": "1700000000.1", "channel_id": "D0ANN", "thread_ts": "1699999999.0"}
    return {
        **{"type": "block_actions", "actions": [action], "container": container},
        **{"user": {"id": "U0ANN", "username": "ann", "name": "Ann"}},
    }


def test_a_press_says_its_value_where_the_button_is() -> None:
    found = message(press())
    assert (found.text, found.place.thread, found.sender.name) == ("yes", "1699999999.0", "Ann")
    assert found.identity != message(press(action_ts="1700000002.5")).identity
    link = press()
    del link["actions"][0]["value"]
    assert read(link, DESK) is None, "a button that opens an address"


def command(name: str, said: str) -> Message:
    body = {"command": name, "text": said, "channel_id": "C0TEA", "user_id": "U0ANN", "user_name": "ann"}
    return message(body | {"trigger_id": "t1", "response_url": "https://hooks.slack.com/commands/1"})


def test_a_slash_command_is_the_bots_own_or_a_way_to_speak_to_it() -> None:
    assert command("/new", "").text == "/new"
    assert command("/new", "topic *x*").text == "/new topic *x*"
    assert command("/roost", "is it *hot*?").text == "is it **hot**?"
    assert command("/roost", "").text == "/help"
    assert command("/roost", "tea").ticket == "https://hooks.slack.com/commands/1"
    assert command("/roost", "tea").addressed


# ------------------------------------------------------------------------------------------------ what goes out


def test_a_reply_is_rich_text_with_mrkdwn_for_notifications() -> None:
    found = write(Place("slack", "C0TEA", "1.5"), Reply("**a** <!channel> & b", buttons=(Button("Yes", "y"),)))
    assert (found["channel"], found["thread_ts"], found["text"]) == ("C0TEA", "1.5", "*a* &lt;!channel&gt; &amp; b")
    assert check(found["blocks"]) == []
    assert seen(found) == "a <!channel> & b"
    assert check(plain(found)["blocks"]) == []
    assert [block["type"] for block in plain(found)["blocks"]] == ["section", "actions"]
    assert plain(write(Place("slack", "C0TEA"), Reply("a")))["blocks"] == []


async def test_a_new_place_is_on_disk_soon_and_not_with_the_next_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slack_history, "SOON", 0.0)
    history = History(Api("slack", "xoxb-1", "http://127.0.0.1:9"), tmp_path / "newest.json")
    history.note("C1", "1.5")
    history.note("C2", "2.5")
    async with asyncio.timeout(30):
        while "C2" not in (tmp_path / "newest.json").read_text():
            await asyncio.sleep(0.01)


async def test_names_that_do_not_come_hold_up_one_delivery_and_not_every_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Deaf:
        async def api_call(self, method: str, params: dict[str, str], **more: Any) -> Any:
            asked.append(params["user"])
            await asyncio.sleep(3600)

    monkeypatch.setattr(slack_names, "LONGEST", 0.01)
    names = Names(Deaf())  # type: ignore[arg-type]
    for id in ("U1", "U2", "U3"):
        await names.learn([id])
    assert (asked, names.name("U1")) == (["U1"], "U1")
    monkeypatch.setattr(names, "_asks_from", 0.0)
    await names.learn(["U1"])
    assert asked == ["U1", "U1"], "it is asked for again later"


def test_a_value_that_slack_cuts_is_told(caplog: pytest.LogCaptureFixture) -> None:
    found = write(Place("slack", "D0ANN"), Reply("?", buttons=(Button("Yes", "y" * 2000), Button("No", "n" * 2001))))
    assert [len(one["value"]) for one in found["blocks"][-1]["elements"]] == [2000, 2000]
    assert [one.getMessage() for one in caplog.records] == [
        "Slack takes 2000 characters behind a button: the rest of 'No' is cut off."
    ]


@given(st.lists(st.builds(Button, st.text(min_size=1, max_size=90), st.text(max_size=2100)), min_size=1, max_size=25))
def test_buttons_are_what_slack_takes(buttons: list[Button]) -> None:
    assert check(write(Place("slack", "D0ANN"), Reply("?", buttons=tuple(buttons)))["blocks"]) == []


@pytest.mark.parametrize("chat", ["general", "#tea", "c0tea", "C"])
def test_a_place_that_slack_does_not_have_is_refused(chat: str) -> None:
    with pytest.raises(Undeliverable, match="no chat of Slack"):
        write(Place("slack", chat), Reply("hi"))


@pytest.mark.parametrize(
    ("char", "name"), [("👍", "+1"), ("❤️", "heart"), ("❤", "heart"), ("👩‍💻", "female-technologist")]
)
def test_emoji_have_slacks_names(char: str, name: str) -> None:
    assert emoji_name(char) == name
    assert emoji(name).replace("\ufe0f", "") == char.replace("\ufe0f", "")


def test_emoji_that_slack_does_not_have_keep_their_names() -> None:
    assert emoji("partyparrot") == ":partyparrot:"
    assert emoji("+1::skin-tone-9") == "👍"
    assert emoji_name(":partyparrot:") == "partyparrot"
    assert emoji_name("👍🏽") == "+1::skin-tone-4"
    assert emoji_name("x") is None


class Answer:
    """As much of slack_sdk's response as its errors are read from."""

    def __init__(self, error: str, status: int = 200, **headers: str) -> None:
        self.status_code, self.data = status, {"ok": False, "error": error} if error else ""
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refusal(error: str, status: int = 200, **headers: str) -> ChannelError:
    return explain(SlackApiError("no", Answer(error, status, **headers)), "slack")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("channel_not_found", Undeliverable),
        ("is_archived", Undeliverable),
        ("a_word_of_next_year", Undeliverable),
        ("token_revoked", LoginFailed),
        ("missing_scope", NotSent),
        ("service_unavailable", NotSent),
        ("rate_limited", NotSent),
        ("fatal_error", MaybeSent),
        ("", MaybeSent),
    ],
)
def test_errors_mean_what_they_say(error: str, kind: type[ChannelError]) -> None:
    assert type(refusal(error)).__mro__[0] is kind or isinstance(refusal(error), kind)


def test_a_pause_is_as_long_as_slack_says() -> None:
    found = refusal("ratelimited", 429, Retry_After="7")
    assert isinstance(found, NotSent) and found.retry_after == 7.0
    silent = refusal("", 429)
    assert isinstance(silent, NotSent) and silent.retry_after is None
    assert isinstance(explain(aiohttp.ServerDisconnectedError(), "slack"), MaybeSent)
    assert isinstance(explain(aiohttp.ConnectionTimeoutError(), "slack"), NotSent)


# ------------------------------------------------------------------------------------------------ over the wire


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SlackRig]:
    one = SlackRig(tmp_path)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are there before a message goes on, however slow this machine is."""
    monkeypatch.setattr(slack_names, "LONGEST", LIMIT)


@pytest.fixture
def talk(rig: SlackRig, tmp_path: Path) -> Talk:
    return Talk(rig, tmp_path)


async def until(rig: SlackRig, condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await rig.news()


async def test_nothing_is_acknowledged_before_it_is_safe(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        accept, held = stage.bot.pipeline._accept, asyncio.Event()

        async def slowly(item: Any) -> bool:
            await held.wait()
            return await accept(item)

        stage.bot.pipeline._accept = slowly  # type: ignore[method-assign]
        link = rig._server.links[-1]
        await rig.say("one")
        await until(rig, lambda: link.waiting)
        for _ in range(5):
            await rig.news()
        assert not rig._server.acknowledged
        held.set()
        await rig.answers(1)
        await until(rig, lambda: rig._server.acknowledged)


async def test_a_connection_is_replaced_before_it_ends_and_both_deliver(rig: SlackRig, talk: Talk) -> None:
    server = rig._server
    async with talk.up():
        await rig.say("one")
        await rig.answers(1)
        old = await server.disconnect("warning")
        await until(rig, lambda: len(server.links) == 2)
        await rig.say("two")
        await rig.answers(2)
        first = next(one for one in server.acknowledged if one.payload["event"]["user"] == rig.ann.id)
        late = first.payload["event"] | {"text": "three", "ts": server.ts(), "blocks": []}
        await server.give(old, Delivery("events_api", first.payload | {"event": late, "event_id": "EvLate"}))
        await rig.until(lambda shown: shown[-1].text == "echo three")
        await until(rig, lambda: not old.waiting)
        await old.socket.close()
        await until(rig, lambda: len(server.links) == 1)
        await rig.say("four")
        shown = await rig.answers(4)
        assert [one.text for one in shown] == ["echo one", "echo two", "echo three", "echo four"]


async def test_what_slack_has_given_up_to_bring_is_read_from_the_history(rig: SlackRig, talk: Talk) -> None:
    async with talk.up():
        await rig.say("one")
        thread = await rig.open_thread()
        await rig.say("in here", "group", mention=True, thread=thread)
        await rig.answers(1)
        await rig.answers(1, "group")
    await rig.say("two")
    await rig.say("and you", "group", mention=True, thread=thread)
    await rig._direct.say(rig.ann, "", files=[rig._server.keep("a.txt", "text/plain", b"a")], subtype="file_share")
    rig._server.give_up()
    async with talk.up():
        await rig.until(lambda shown: any(one.text == "echo two" for one in shown))
        shown = await rig.answers(2, "group")
        assert [one.text for one in shown] == ["echo in here", "echo and you"]
        await until(rig, lambda: [one for one in talk.said if one.attachments])
        await rig.say("three")
        shown = await rig.until(lambda shown: shown[-1].text == "echo three")
        assert [one.text for one in shown].count("echo one") == 1


async def stopped(talk: Talk, **table: str) -> str:
    async with talk.up(table=talk.rig.table() | table) as stage:
        supervisor = stage.bot.channels["slack"]
        async with asyncio.timeout(LIMIT):
            while supervisor.state != "stopped":
                await talk.rig.news()
        return supervisor.problem


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"app_token": "xapp-wrong"}, "refuses the 'app_token' of bot.toml: [channels.slack] (invalid_auth)"),
        ({"app_token": ""}, "[channels.slack] has no 'app_token'"),
        ({"app_token": "xoxb-1-2-roost"}, "'app_token' of bot.toml: [channels.slack] does not begin with 'xapp-'"),
        ({"token": "xapp-1"}, "does not begin with 'xoxb-'"),
        ({"mode": "http"}, "[channels.slack] has no 'signing_secret'"),
    ],
)
async def test_wrong_keys_stop_the_channel_with_a_sentence(talk: Talk, table: dict[str, str], problem: str) -> None:
    said = await stopped(talk, **table)
    assert problem in said and said.endswith(".")
    assert not any(value in said for value in table.values() if "-" in value)


async def test_a_missing_scope_for_the_socket_is_named(rig: SlackRig, talk: Talk) -> None:
    rig._server.scopes.discard("connections:write")
    assert "connections:write" in await stopped(talk)


async def test_switching_socket_mode_off_stops_the_channel_with_a_sentence(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        await rig._server.disconnect("link_disabled")
        supervisor = stage.bot.channels["slack"]
        await until(rig, lambda: supervisor.state == "stopped")
        assert "Socket Mode is switched off" in supervisor.problem


async def test_frames_that_are_no_envelopes_are_passed_over(rig: SlackRig, talk: Talk) -> None:
    async with talk.up():
        for frame in ("", "no JSON", "[1]", "null", '{"type": 3}', '{"envelope_id": 3}', "[" * 100_000):
            await rig._server.frame(rig._server.links[-1], frame)
        await rig.say("one")
        await rig.answers(1)


async def test_a_command_is_answered_where_the_bot_is_no_member(rig: SlackRig, talk: Talk) -> None:
    async with talk.up():
        rig._group.bot_in = False
        await rig._group.command(rig.ann, "/roost", "tea?")
        await until(rig, lambda: rig._server.responses)
        ((_, answer),) = rig._server.responses
        assert (answer["response_type"], seen(answer)) == ("ephemeral", "echo tea?")
        assert await rig.shown("group") == []


async def test_a_press_is_answered_where_the_bot_is_no_member(rig: SlackRig, talk: Talk) -> None:
    """The button hangs under the bot's answer to a slash command, which only the person sees."""
    async with talk.up() as stage:
        asked = Reply("tea?", buttons=(Button("Yes", "yes please"),))
        sent = await talk.channel(stage).send(Place("slack", rig._group.id), asked)
        rig._group.bot_in = False
        await rig._group.press(rig.ann, sent.ids[0], "Yes")
        await until(rig, lambda: rig._server.responses)
        ((_, answer),) = rig._server.responses
        assert (answer["response_type"], answer["replace_original"]) == ("ephemeral", False)
        assert "yes please" in seen(answer)


async def test_the_bots_own_commands_work_as_slash_commands(rig: SlackRig, talk: Talk) -> None:
    async with talk.up():
        await rig._direct.command(rig.ann, "/help", "")
        (shown,) = await rig.answers(1)
        assert "/new" in shown.text


async def test_an_answer_that_is_no_json_is_told_by_its_status(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        assert rig.gate is not None
        rig.gate.answer(rig.sending, http("503 Service Unavailable", b"<html>busy</html>"))
        with pytest.raises(MaybeSent, match="status 503"):
            await talk.channel(stage).send(Place("slack", rig._group.id), Reply("hi"))


async def test_formatting_that_slack_refuses_is_left_out(rig: SlackRig, talk: Talk) -> None:
    async with talk.up(lambda said: "**bold** words"):
        assert rig.gate is not None
        refused = json.dumps({"ok": False, "error": "invalid_blocks"}).encode()
        rig.gate.answer(rig.sending, http("200 OK", refused))
        await rig.say("hello")
        (shown,) = await rig.answers(1)
        assert (shown.text, shown.raw["text"], shown.raw["blocks"]) == ("bold words", "*bold* words", [])


async def test_a_text_that_is_out_is_not_sent_again_when_its_file_has_to_wait(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        await rig.say("hello")
        await rig.answers(1)
        assert rig.gate is not None
        rig.gate.answer(b"/files.completeUploadExternal", rig.too_fast(1))
        await stage.bot.send(talk.said[-1].place, Reply("here", (Attachment("file", "a.txt", data=b"tea"),)))
        shown = await rig.until(lambda shown: shown[-1].files)
        assert [(one.text, one.files) for one in shown[1:]] == [("here", ()), ("", (b"tea",))]
        sent = await talk.channel(stage).send(talk.said[-1].place, Reply("", (Attachment("file", "b", data=b"b"),)))
        await talk.channel(stage).delete(sent)
        assert len(await rig.shown()) == len(shown)


async def test_files_are_fetched_from_slack_alone_and_with_the_right_scope(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        channel, file = talk.channel(stage), rig._server.keep("a.txt", "text/plain", b"tea")

        async def fetched(ref: str) -> bytes:
            return b"".join(
                [chunk async for chunk in channel.fetch(Attachment("file", "a.txt", "text/plain", ref=ref))]
            )

        assert await fetched(file["url_private"]) == b"tea"
        assert await fetched(file["id"]) == b"tea"
        for foreign in ("https://files.example.org/a", "https://evilslack.com/a", "http://files.slack.com/a"):
            with pytest.raises(Undeliverable, match="not kept by Slack"):
                await fetched(foreign)
        rig._server.scopes.discard("files:read")
        with pytest.raises(Undeliverable, match="files:read"):
            await fetched(file["url_private"])


async def test_a_reaction_replaces_the_one_before_and_is_taken_away_even_after_a_restart(
    rig: SlackRig, talk: Talk
) -> None:
    async with talk.up() as stage:
        id = await rig.say("hello")
        await rig.answers(1)
        place, channel = talk.said[-1].place, talk.channel(stage)
        await channel.react(place, id, "👀")
        await channel.react(place, id, "👍")
        assert list(await rig.reactions(id)) == ["👍"]
        await channel.react(place, id, "👍")
    async with talk.up() as stage:
        await talk.channel(stage).react(place, id, "")
        assert list(await rig.reactions(id)) == []
        with pytest.raises(Undeliverable, match="no name"):
            await talk.channel(stage).react(place, id, "x")


async def test_the_sign_of_writing_goes_when_the_answer_is_there(
    rig: SlackRig, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Draft, "_begin", lambda draft: None)  # the core shows none, however long an answer takes
    async with talk.up() as stage:
        await rig.say("hello")
        await rig.answers(1)
        channel, place = talk.channel(stage), talk.said[-1].place
        await channel.type(place)
        await channel.send(place, Reply("there"))
        await until(rig, lambda: [one["status"] for one in rig._server.statuses] == ["is writing…", ""])
        inside = Place("slack", place.chat, talk.said[-1].id)
        await channel.type(inside)
        await channel.send(inside, Reply("there"))
        assert [one["status"] for one in rig._server.statuses][2:] == ["is writing…"], "Slack takes it away itself"


async def test_a_message_to_a_person_opens_the_direct_conversation(rig: SlackRig, talk: Talk) -> None:
    async with talk.up() as stage:
        sent = await talk.channel(stage).send(Place("slack", "U0ANN"), Reply("hello"))
        assert sent.place.chat == "D0ANN"
        await talk.channel(stage).edit(sent, Reply("hello again"))
        assert [one.text for one in await rig.shown()] == ["hello again"]


async def test_without_the_scope_for_names_ids_have_to_do(rig: SlackRig, talk: Talk) -> None:
    rig._server.scopes -= {"users:read", "channels:read"}
    async with talk.up():
        await rig.say("hello")
        await rig.answers(1)
        assert talk.said[-1].sender.name == "U0ANN"


async def test_a_file_for_a_person_goes_to_the_direct_conversation_even_when_it_has_to_wait(
    rig: SlackRig, talk: Talk
) -> None:
    async with talk.up() as stage:
        ann, file = Place("slack", "U0ANN"), Attachment("file", "tea_*a*.txt", data=b"tea")
        sent = await talk.channel(stage).send(ann, Reply("", (file,)))
        assert sent.place.chat == "D0ANN"
        assert rig.gate is not None
        rig.gate.answer(b"/files.completeUploadExternal", rig.too_fast(1))
        await stage.bot.send(ann, Reply("here", (file,)))
        shown = await rig.until(lambda shown: len(shown) == 4)
        assert [(one.text, one.files) for one in shown] == [
            ("tea_*a*.txt", ()),
            ("", (b"tea",)),
            ("here", ()),
            ("", (b"tea",)),
        ]


async def test_a_connection_that_is_lost_over_a_name_costs_the_name_and_not_the_message(
    rig: SlackRig, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond, asked = rig._server._respond, []

    async def cut(request: web.Request) -> web.Response:
        if request.match_info["method"] == "users.info" and request.transport is not None:
            asked.append(request.method)
            request.transport.abort()
        return await respond(request)

    monkeypatch.setattr(rig._server, "_respond", cut)
    async with talk.up():
        await rig.say("hello")
        await rig.answers(1)
        assert talk.said[-1].sender.name == "U0ANN"
    # https://docs.slack.dev/reference/methods/users.info
    assert asked and set(asked) == {"GET"}


def test_the_page_asks_for_every_scope_that_is_used() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "channels" / "slack.md").read_text(encoding="utf-8")
    assert [scope for scope in SCOPES if scope not in page] == []
