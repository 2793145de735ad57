from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.talk import Talk
from rigs.mastodon import MastodonRig

from roost.channels.mastodon import Mastodon, check_server, fitted
from roost.channels.mastodon_api import Api, pause
from roost.channels.mastodon_posts import Aim, Me, aimed, attachment, read, without_mention, write
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Attachment, Message, Place, Reply

ME = Me("1", "bot", "https://social.example/@bot")
# As Mastodon itself writes a mention, a hashtag and an address.
MENTION = (
    '<p><span class="h-card" translate="no"><a href="https://social.example/@bot" class="u-url mention">@<span>bot'
    "</span></a></span> {}</p>"
)
LINK = (
    '<a href="https://example.org/a/long/path" target="_blank" rel="nofollow noopener" translate="no"><span '
    'class="invisible">https://</span><span class="ellipsis">example.org/a/lo</span><span class="invisible">ng/path'
    "</span></a>"
)
TAG = '<a href="https://social.example/tags/tea" class="mention hashtag" rel="tag">#<span>tea</span></a>'


def person(id: str, acct: str) -> dict[str, Any]:
    name = acct.partition("@")[0]
    return {"id": id, "acct": acct, "username": name, "display_name": "", "url": f"https://social.example/@{acct}"}


ANN, BOB, BOT = person("2", "ann@elsewhere.example"), person("3", "bob"), person("1", "bot")


def post(content: str = "", **more: Any) -> dict[str, Any]:
    told = {
        "id": "10",
        "account": ANN,
        "visibility": "direct",
        "mentions": [BOT],
        "created_at": "2026-01-01T10:00:00.000Z",
    }
    return {**told, "content": content or MENTION.format("hello"), **more}


def message(status: dict[str, Any], root: str = "10") -> Message:
    found = read(status, "mastodon", ME, root)
    assert found is not None
    return found


# What is read


def test_a_post_as_mastodon_writes_it() -> None:
    found = message(post(MENTION.format(f"look at {LINK}<br>for {TAG}") + "<p>second &amp; last</p>"))
    assert found.text.replace("\\", "") == "look at https://example.org/a/long/path\nfor #tea\n\nsecond & last"
    assert (str(found.sender), found.sender.handle) == ("mastodon:ann@elsewhere.example", "ann@elsewhere.example")
    assert (found.place.kind, found.addressed, found.at) == ("direct", True, 1767261600.0)


@pytest.mark.parametrize(
    ("text", "rest", "named"),
    [
        ("@bot hello", "hello", True),
        ("@bot@social.example hello", "hello", True),
        ("@bob @bot hello", "@bob hello", False),
        ("@bot @bob hello", "@bob hello", True),
        ("@bob ask @bot about it", "@bob ask @bot about it", True),
        ("hello @both", "hello @both", False),
        ("@bot@elsewhere.example hello", "@bot@elsewhere.example hello", False),
        ("@bot", "", True),
    ],
)
def test_the_bots_own_name_goes_from_the_beginning(text: str, rest: str, named: bool) -> None:
    assert without_mention(text, ME) == (rest, named)


@given(st.text(st.characters(exclude_characters="@")))
def test_a_text_without_names_stays_as_it_is(text: str) -> None:
    assert without_mention(text, ME) == (text, False)


def test_the_place_is_the_people_of_a_direct_post_and_the_thread_of_any_other() -> None:
    assert str(message(post()).place) == "mastodon:ann@elsewhere.example"
    several = message(post(mentions=[BOT, BOB], in_reply_to_account_id="3"))
    assert (several.place.chat, several.place.kind, several.addressed) == ("ann@elsewhere.example+bob", "group", True)
    public = message(post(visibility="public"), root="7")
    assert (public.place.chat, public.place.kind) == ("post:7", "group")
    names = "<p>@bob @bot fine with me</p>"
    among = message(post(names, mentions=[BOB, BOT], in_reply_to_account_id="3", visibility="public"))
    assert not among.addressed, "Ann answers Bob, and the bot is only among the names"
    assert message(post(names, mentions=[BOB, BOT], in_reply_to_account_id="1", visibility="public")).addressed


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("public", "unlisted"), ("unlisted", "unlisted"), ("private", "private"), ("direct", "direct"), ("new", "direct")],
)
def test_an_answer_is_never_more_public_than_its_question(asked: str, answered: str) -> None:
    found = message(post(visibility=asked, spoiler_text="food"))
    aim = aimed(found.place, found.ticket)
    assert (aim.visibility, aim.warning, aim.answers) == (answered, "food", "10")
    assert aim.to == ("ann@elsewhere.example",)
    assert "[content warning: food]" in found.text


def test_what_else_a_post_shows() -> None:
    picture = {"type": "image", "url": "https://files.example/x/tea.png?1", "description": "a cup"}
    found = message(post(media_attachments=[picture], poll={"options": [{"title": "tea"}, {"title": "coffee"}]}))
    assert found.text == "hello\n\n[image: a cup]\n\n[poll: tea, coffee]"
    (one,) = found.attachments
    assert (one.kind, one.name, one.mime, one.ref) == ("image", "tea.png", "image/png", picture["url"])
    assert (
        attachment({"type": "unknown", "url": None, "remote_url": "https://x.example/y"}).ref == "https://x.example/y"
    )


def test_what_is_no_message() -> None:
    assert read(post(account=BOT), "mastodon", ME, "10") is None
    assert read(post(MENTION.format("")), "mastodon", ME, "10") is None
    edited = read(post(edited_at="2026-01-01T11:00:00.000Z"), "mastodon", ME, "10", edited=True)
    assert edited is not None and edited.edited and edited.identity != message(post()).identity


# What is written


def test_an_answer_calls_whom_it_is_for_and_nobody_else() -> None:
    aim = Aim(("ann",), "direct", "food", "10")
    written = write("ask @bob@example.org, or mail bob@example.org", aim)
    assert written == {
        "status": "@ann ask @\u200bbob@example.org, or mail bob@example.org",
        "spoiler_text": "food",
    }


def test_in_public_those_who_do_not_fit_are_left_out_and_in_private_nobody() -> None:
    many = tuple(f"person{number}@a-long-name.example" for number in range(5))
    assert write("hi", Aim(many, "unlisted"))["status"] == f"@{many[0]} @{many[1]} hi"
    assert write("hi", Aim(many, "direct"))["status"].count("@person") == 5


def test_what_is_said_unasked_goes_to_the_people_or_under_the_thread() -> None:
    assert aimed(Place("mastodon", "ann"), "") == Aim(("ann",), "direct")
    assert aimed(Place("mastodon", "ann+bob"), "") == Aim(("ann", "bob"), "direct")
    assert aimed(Place("mastodon", "post:7"), "") == Aim((), "unlisted", answers="7")


def test_the_server_says_what_it_takes() -> None:
    told = {"statuses": {"max_characters": 5000}, "media_attachments": {"image_size_limit": 5, "video_size_limit": 7}}
    found = fitted(Mastodon.limits, told)
    assert (found.max_text, found.media["image"], found.media["video"]) == (4900, 5, 7)
    assert fitted(Mastodon.limits, {}) == Mastodon.limits


@pytest.mark.parametrize("server", ["", "mastodon.social", "ftp://mastodon.social", "https://"])
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(ConfigError, match="server"):
        check_server(server, "mastodon")


def test_a_pause_is_told_in_three_ways() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert pause({"x-ratelimit-reset": "2026-01-01T00:00:30.500000Z"}, at.timestamp()) == 30.5
    assert pause({"x-ratelimit-reset": str(int(at.timestamp()) + 7)}, at.timestamp()) == 7
    assert pause({"retry-after": "9"}, at.timestamp()) == 9
    assert pause({"x-ratelimit-reset": "soon"}, 0) is None
    assert pause({"x-ratelimit-reset": "5"}, 60) == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, LoginFailed), (429, NotSent), (503, NotSent), (500, MaybeSent), (302, MaybeSent), (422, Undeliverable)],
)
def test_a_refusal_is_what_it_means(status: int, kind: type[Exception]) -> None:
    told = Api("mastodon", "https://social.example", "secret-token")._explain(status, {"error": "No."}, {})
    assert isinstance(told, kind) and "secret-token" not in str(told)


# On a server


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[MastodonRig]:
    folder = tmp_path / "platform"
    folder.mkdir()
    one = MastodonRig(folder)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


async def answers_to(rig: MastodonRig, id: str, count: int) -> list[dict[str, Any]]:
    """The bot's posts somewhere under a post, oldest first."""
    async with asyncio.timeout(30):
        while True:
            below = (await rig.ask("GET", f"/api/v1/statuses/{id}/context"))["descendants"]
            if len(found := [one for one in below if one["account"]["acct"] == rig.bot]) >= count:
                return sorted(found, key=lambda one: int(one["id"]))
            await rig.news()


async def test_a_mention_in_public_is_answered_in_its_thread_and_not_in_public(
    rig: MastodonRig, tmp_path: Path
) -> None:
    async with Talk(rig, tmp_path).up() as stage:
        form = {"status": f"@{rig.bot} what about tea", "visibility": "public", "spoiler_text": "food"}
        first = await rig._post(form)
        (answer,) = await answers_to(rig, first, 1)
        assert (answer["visibility"], answer["spoiler_text"], answer["in_reply_to_id"]) == ("unlisted", "food", first)
        assert f"@{rig.ann}" in answer["content"]
        form = {"status": f"@{rig.bot} and coffee", "visibility": "public", "in_reply_to_id": answer["id"]}
        again = await rig.ask("POST", "/api/v1/statuses", form, who=rig.bob)
        (second,) = await answers_to(rig, again["id"], 1)
        assert f"@{rig.bob}" in second["content"]
        assert "what about tea" in str(stage.brain.prompts[-1].turns), "a thread is one conversation"


async def test_the_parts_of_a_long_answer_hang_on_each_other(rig: MastodonRig, tmp_path: Path) -> None:
    text = "\n\n".join(f"paragraph {number} " + "x" * 150 for number in range(6))
    async with Talk(rig, tmp_path).up(lambda said: text):
        asked = await rig._post({"status": f"@{rig.bot} tell me", "visibility": "public"})
        found = await answers_to(rig, asked, 3)
        assert [one["in_reply_to_id"] for one in found] == [asked, *(one["id"] for one in found[:-1])]


async def test_without_a_stream_the_bot_looks_by_itself(rig: MastodonRig, tmp_path: Path) -> None:
    table = rig.table() | {"streaming": "http://127.0.0.1:9", "poll": 1}
    talk = Talk(rig, tmp_path)
    async with talk.up(table=table) as stage:
        await asyncio.wait_for(stage.bot.channels["mastodon"].up.wait(), 30)
        await rig.say("hello")
        await rig.until(lambda shown: [one.text for one in shown] == ["echo hello"])


async def test_what_was_said_before_the_bots_first_start_is_left_alone(rig: MastodonRig, tmp_path: Path) -> None:
    await rig.say("to somebody else")
    talk = Talk(rig, tmp_path)
    async with talk.up():
        await rig.say("hello")
        await rig.until(lambda shown: [one.text for one in shown] == ["echo hello"])


async def test_more_files_than_a_post_takes_are_several_posts(rig: MastodonRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        files = tuple(Attachment("image", f"{n}.png", "image/png", data=bytes([n]) * 9) for n in range(6))
        await stage.bot.send(Place("mastodon", rig.ann), Reply("pictures", files))
        shown = await rig.answers(2)
        assert [len(one.files) for one in shown] == [4, 2]
        assert [file for one in shown for file in one.files] == [file.data for file in files]
        few = Reply("pictures", files[:4], key="k")
        sent = await talk.channel(stage).send(Place("mastodon", rig.ann), few)
        again = await talk.channel(stage).send(Place("mastodon", rig.ann), few)
        assert sent == again and len(sent.ids) == 1, "the same key is the same post"


def test_another_bot_is_not_answered() -> None:
    assert read(post(account=ANN | {"bot": True}), "mastodon", ME, "10") is None
    assert message(post(account=ANN | {"bot": False})).sender.id == "ann@elsewhere.example"


async def test_an_edit_keeps_the_files_of_a_post_and_can_add_one(
    rig: MastodonRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mastodon takes away what `media_ids` does not name; the server here lets all of them be, so the call is read."""
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        channel = talk.channel(stage)
        assert isinstance(channel, Mastodon)
        png, other = (Attachment("image", f"{n}.png", "image/png", data=bytes([n]) * 9) for n in range(2))
        sent = await channel.send(Place("mastodon", rig.ann), Reply("a picture", (png,), key="k"))
        before = (await rig.ask("GET", f"/api/v1/statuses/{sent.ids[0]}", who=rig.bot))["media_attachments"]
        calls: list[Any] = []
        asked = channel._api.call

        async def call(method: str, path: str, form: Any = None, **more: Any) -> Any:
            calls.append((method, form))
            return await asked(method, path, form, **more)

        monkeypatch.setattr(channel._api, "call", call)
        await channel.edit(sent, Reply("the picture"))
        await channel.edit(sent, Reply("the pictures", (other,)))
        first, second = [form["media_ids"] for method, form in calls if method == "PUT"]
        assert first == [one["id"] for one in before] and len(first) == 1
        assert second[:1] == first and len(second) == 2


async def test_an_edit_heard_on_the_stream_is_the_whole_new_text(rig: MastodonRig, tmp_path: Path) -> None:
    """Heard by hand: the server sends edits of direct posts to nobody."""
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        id = await rig.say("my cat is called Tom")
        await rig.answers(1)
        channel = talk.channel(stage)
        assert isinstance(channel, Mastodon)
        came: list[Any] = []

        async def receive(item: Any) -> bool:
            came.append(item)
            return True

        status = await rig.ask("GET", f"/api/v1/statuses/{id}")
        status |= {"content": f"<p>@{rig.bot} my cat is called Tim</p>", "edited_at": "2026-01-01T00:00:00Z"}
        await channel._hear("status.update", json.dumps(status), asyncio.Event(), receive)
        for noise in ("[]", "no json", "{}", '{"mentions": [3]}'):
            await channel._hear("status.update", noise, asyncio.Event(), receive)
        (edited,) = came
        assert (edited.text, edited.edited, edited.id) == ("my cat is called Tim", True, id)


async def test_a_token_that_is_taken_back_later_stops_the_channel(rig: MastodonRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        assert rig.gate is not None
        refused = b'HTTP/1.1 401 Unauthorized\r\ncontent-length: 40\r\n\r\n{"error": "The access token is invalid"}'
        rig.gate.answer(b"GET /api/v1/notifications", refused)
        await rig.say("hello")
        async with asyncio.timeout(30):
            while stage.bot.channels["mastodon"].state != "stopped":
                await rig.news()
        assert "token" in stage.bot.channels["mastodon"].problem


def test_the_stream_is_where_the_server_says_and_never_less_safe(tmp_path: Path) -> None:
    class Home:
        home = tmp_path

    def at(server: str, told: str, given: str = "") -> str:
        config = Mastodon.Config(server=server, token="t", streaming=given)
        return Mastodon("m", config, Home())._stream_at({"configuration": {"urls": {"streaming": told}}})  # type: ignore[arg-type]

    assert at("https://a.example", "wss://stream.a.example") == "https://stream.a.example"
    assert at("https://a.example", "ws://stream.a.example") == "https://a.example"
    assert at("https://a.example/", "") == "https://a.example"
    assert at("https://a.example", "wss://x.example", "https://mine.example/") == "https://mine.example"
