from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.gate import http
from kit.scenarios import MARK, PNG, letters
from kit.talk import Talk
from rigs.bluesky import BlueskyRig
from servers.bluesky import POST, BlueskyServer, iso
from servers.bluesky_lexicon import DEFS, check, graphemes

from roost.channels import bluesky_chat, bluesky_posts
from roost.channels import bluesky_text as rich
from roost.channels.bluesky import Bluesky
from roost.channels.bluesky_api import Answer, Api, NotAllowed, Outdated, pause, pds
from roost.channels.bluesky_posts import Aim, Ref, aimed, record_key, time_of
from roost.degrade import fit
from roost.dialects import LABELS, PLAIN, render
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.split import split
from roost.values import Attachment, Event, Message, Place, Reply

Json = dict[str, Any]
ME, ANN = "did:plc:botbotbotbotbotbotbotbot", "did:plc:annannannannannannannann"
CID = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
HELLO = f"at://{ANN}/{POST}/3m5aaaaaaaaaa"
AIM = Aim(Ref(HELLO, CID), Ref(HELLO, CID), 1767261600.0)


def notification(text: str = "hello", **record: Any) -> Json:
    whole = {"$type": POST, "text": text, "createdAt": "2026-01-01T10:00:00Z", **record}
    author = {"did": ANN, "handle": "ann.example.org", "displayName": "Ann"}
    told = {"uri": HELLO, "cid": CID, "author": author, "record": whole, "isRead": False}
    return told | {"reason": "mention", "indexedAt": "2026-01-01T10:00:00.000Z"}


def mention(start: int, end: int, did: str = ME) -> Json:
    feature = {"$type": "app.bsky.richtext.facet#mention", "did": did}
    return {"index": {"byteStart": start, "byteEnd": end}, "features": [feature]}


def message(told: Json, around: dict[str, Json] | None = None) -> Message:
    found = bluesky_posts.read(told, "bluesky", ME, around)
    assert found is not None
    return found


# Text and facets


def test_a_link_lies_on_its_label_and_is_measured_in_bytes() -> None:
    text, facets = rich.write("see [här 🦉](https://example.org/a_b), **now**, https://example.org")
    assert text == "see här 🦉, now, https://example.org"
    shown = [text.encode()[one["index"]["byteStart"] : one["index"]["byteEnd"]].decode() for one in facets]
    assert shown == ["här 🦉", "https://example.org"]
    assert [one["features"][0]["uri"] for one in facets] == ["https://example.org/a_b", "https://example.org"]


def test_nobody_is_called_in_by_what_the_bot_says() -> None:
    text, facets = rich.write("ask @bob.example.org about #tea")
    assert (text, facets) == ("ask @bob.example.org about #tea", [])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.tuples(st.text(min_size=1), st.integers(0, 9))))
def test_what_is_written_is_a_post_by_the_schema(text: str, links: list[tuple[str, int]]) -> None:
    words = " ".join([text, *(f"[{label}](https://example.org/{number})" for label, number in links)])
    for part in fit(Reply(words), bluesky_posts.LIMITS):
        record = bluesky_posts.write(part.text, AIM, ["en"], 0.0)
        check(DEFS[f"{POST}#main"], record)
        raw = record["text"].encode()
        for one in record.get("facets", ()):
            assert raw[one["index"]["byteStart"] : one["index"]["byteEnd"]].decode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_without_facets_stays_as_it_is(text: str) -> None:
    assert rich.read(text, [], ME) == (text, False)


@given(st.text(min_size=1), st.lists(st.tuples(st.integers(-2, 40), st.integers(-2, 40)), max_size=6))
def test_no_facets_however_wrong_lose_a_word(text: str, places: list[tuple[int, int]]) -> None:
    clean = text.encode("utf-8", "replace").decode()
    facets: list[Any] = [mention(start, end, ANN) for start, end in places]
    assert rich.read(clean, [*facets, None, {}, {"index": {"byteStart": "x", "byteEnd": 2}, "features": [{}]}], ME) == (
        clean,
        False,
    )


def test_what_people_link_comes_in_whole() -> None:
    text = "look: example.org/a/lo... 🦉 https://example.org"
    start = text.encode().index(b"example")
    facet = rich.facet(text, 6, 25, "https://example.org/a/long/path_(1)")
    assert facet["index"]["byteStart"] == start
    bare = rich.facet(text, 28, 47, "https://example.org")
    read, named = rich.read(text, [bare, facet], ME)
    assert read == "look: [example.org/a/lo...](<https://example.org/a/long/path_(1)>) 🦉 https://example.org"
    assert not named


@given(st.integers(0, 3), st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
def test_every_piece_of_a_long_text_fits_and_no_letter_is_lost(kind: int, text: str) -> None:
    text = ["", "👨‍👩‍👧‍👦" * 150, "**b** [l](https://example.org) " * 60, "e\u0301" * 500][kind] + text
    pieces = split(text, LABELS, 300, "characters")
    shown = [render(piece, LABELS) for piece in pieces]
    assert all(graphemes(one) <= 300 and len(one.encode()) <= 3000 for one in shown)
    if kind != 2:
        assert letters("".join(shown)) == letters(render(text, LABELS))


# What is read


def test_a_mention_as_the_network_tells_it() -> None:
    text = "@bot.example.org: what about tea?"
    found = message(notification(text, facets=[mention(0, 16)]))
    assert (found.text, found.addressed, found.id, found.at) == ("what about tea?", True, HELLO, 1767261600.0)
    assert (str(found.place), found.place.kind) == (f"bluesky:{HELLO}".replace("/", "%2F"), "group")
    assert (found.sender.id, found.sender.name, found.sender.handle) == (ANN, "Ann", "ann.example.org")
    assert Place.parse(str(found.place)) == found.place
    assert aimed(found.ticket) == AIM


def test_only_a_reply_to_the_bot_itself_is_for_it() -> None:
    root = {"uri": f"at://{ME}/{POST}/3m5bbbbbbbbbb", "cid": CID}
    other = {"uri": f"at://{ANN}/{POST}/3m5cccccccccc", "cid": CID}
    to_me = message(notification(reply={"root": root, "parent": root}))
    to_ann = message(notification(reply={"root": root, "parent": other}))
    assert to_me.addressed and not to_ann.addressed
    assert to_me.place == to_ann.place and to_me.place.chat == root["uri"]
    assert to_me.quote is not None and to_me.quote.id == root["uri"]
    quoting = {"$type": "app.bsky.embed.record", "record": root}
    assert not message(notification(embed=quoting)).addressed, "a talk about the bot"


def test_what_a_mention_is_about_comes_with_it() -> None:
    above = {"uri": f"at://{ANN}/{POST}/3m5cccccccccc", "cid": CID}
    told = notification(reply={"root": above, "parent": above})
    told["record"]["embed"] = {"$type": "app.bsky.embed.record", "record": {"uri": HELLO, "cid": CID}}
    assert bluesky_posts.related(told, ME) == [above["uri"], HELLO]
    bob = {"handle": "bob.example.org", "did": "did:plc:bob"}
    around = {
        uri: {"uri": uri, "author": bob, "record": {"text": f"tea {n}"}} for n, uri in enumerate((above["uri"], HELLO))
    }
    found = message(told, around)
    assert found.quote is not None and (found.quote.text, found.quote.author) == ("tea 0", "bob.example.org")
    assert found.text == "hello\n\n[quotes bob.example.org: tea 1]"
    assert message(told).text == f"hello\n\n[quotes {HELLO}]"


def test_what_else_a_post_shows() -> None:
    blob = {"$type": "blob", "ref": {"$link": CID}, "mimeType": "image/png", "size": 9}
    shown = {"$type": "app.bsky.embed.images", "images": [{"image": blob, "alt": "a cup"}, {"image": blob, "alt": ""}]}
    found = message(notification(embed=shown))
    assert found.text == "hello\n\n[image: a cup]"
    assert [(one.kind, one.mime, one.ref) for one in found.attachments] == [
        ("image", "image/png", f"{HELLO} 0"),
        ("image", "image/png", f"{HELLO} 1"),
    ]
    card = {"uri": "https://example.org/x", "title": "An example", "description": ""}
    link = {"$type": "app.bsky.embed.external", "external": card}
    assert message(notification(embed=link)).text == "hello\n\n[link: An example https://example.org/x]"
    assert message(notification("https://example.org/x", embed=link)).text == "https://example.org/x"
    assert (
        message(notification(embed={"$type": "app.bsky.embed.video", "alt": "a cat"})).text == "hello\n\n[video: a cat]"
    )
    assert message(notification(embed={"$type": "app.bsky.embed.hologram"})).text == "hello\n\n[hologram]"
    both = {"$type": "app.bsky.embed.recordWithMedia", "record": {"record": {"uri": HELLO}}, "media": shown}
    assert message(notification(embed=both)).text == f"hello\n\n[quotes {HELLO}]\n\n[image: a cup]"


def test_what_is_no_message() -> None:
    mine = notification()
    mine["author"]["did"] = ME
    assert bluesky_posts.read(mine, "bluesky", ME) is None
    assert bluesky_posts.read(notification("@bot.example.org", facets=[mention(0, 16)]), "bluesky", ME) is None
    like = notification()
    like["record"] = {"$type": "app.bsky.feed.like"}
    assert bluesky_posts.read(like, "bluesky", ME) is None


def entry(kind: str = "logCreateMessage", **more: Any) -> Json:
    view = {
        "$type": f"{bluesky_chat.CONVO}#messageView",
        "id": "m1",
        "rev": "2",
        "text": "hello",
        "sender": {"did": ANN},
    }
    view |= {"sentAt": "2026-01-01T10:00:00Z"}
    return {"$type": f"{bluesky_chat.CONVO}#{kind}", "rev": "2", "convoId": "c1", "message": view | more}


def heard(told: Json, group: bool = False) -> Any:
    convo = bluesky_chat.Convo("c1", group, False, ({"did": ANN, "handle": "ann.example.org", "displayName": "Ann"},))
    return bluesky_chat.read(told, "bluesky", ME, "bot.example.org", convo)


def test_a_direct_message_as_the_log_tells_it() -> None:
    found = heard(entry())
    assert (found.text, found.addressed, found.sender.name) == ("hello", True, "Ann")
    assert (str(found.place), found.place.kind) == ("bluesky:c1", "direct")
    assert heard(entry(sender={"did": ME})) is None
    assert heard(entry("logDeleteMessage")) is None


def test_in_a_group_the_bot_is_meant_by_name_or_by_reply() -> None:
    assert not heard(entry(), group=True).addressed
    named = heard(entry(text="@Bot.example.org, tea?"), group=True)
    assert (named.text, named.addressed) == ("tea?", True)
    assert not heard(entry(text="@bot.example.organisation tea?"), group=True).addressed
    mine = {"$type": f"{bluesky_chat.CONVO}#messageView", "id": "m0", "text": "yes", "sender": {"did": ME}}
    answered = heard(entry(replyTo=mine), group=True)
    assert answered.addressed and (answered.quote.id, answered.quote.text) == ("m0", "yes")


def test_a_post_that_is_passed_on_in_a_message_is_read() -> None:
    record = {"uri": HELLO, "author": {"handle": "bob.example.org"}, "value": {"text": "tea!"}}
    embed = {"$type": "app.bsky.embed.record#view", "record": record}
    assert heard(entry(text="", embed=embed)).text == "[post by bob.example.org: tea!]"
    assert heard(entry(embed={"$type": "new"})).text == "hello\n\n[something]"


def test_a_reaction_of_somebody_else_is_an_event() -> None:
    given_ = {"value": "👍", "sender": {"did": ANN}, "createdAt": "2026-01-01T10:00:00Z"}
    found = heard({**entry("logAddReaction"), "reaction": given_})
    assert isinstance(found, Event) and (found.value, found.message_id) == ("👍", "m1")
    assert heard({**entry("logAddReaction"), "reaction": given_ | {"sender": {"did": ME}}}) is None


# What is written


@given(st.text(), st.floats(0, 9e9))
def test_the_name_of_a_post_is_always_the_same_and_says_when(once: str, at: float) -> None:
    once = once.encode("utf-8", "replace").decode()
    name = record_key(once, at)
    check({"type": "string", "format": "tid"}, name)
    assert name == record_key(once, at) != record_key(once + "x", at)
    assert int(at) <= time_of(name) < int(at) + 1


def test_other_names_have_no_time() -> None:
    assert time_of("self") == time_of("0000000000000") == 0.0
    assert 1.6e9 < time_of("3jui7kd54zh2y") < 1.9e9


# What servers say


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": "AuthenticationRequired", "message": "Invalid identifier or password"}, Outdated),
        (400, {"error": "ExpiredToken", "message": "Token has expired"}, Outdated),
        (400, {"error": "InvalidToken", "message": "Bad token method"}, NotAllowed),
        (401, {"error": "AccountTakedown", "message": "Account has been taken down"}, LoginFailed),
        (429, {"error": "RateLimitExceeded"}, NotSent),
        (502, {"error": "UpstreamFailure"}, MaybeSent),
        (503, None, MaybeSent),
        (302, None, MaybeSent),
        (400, {"error": "InvalidRequest", "message": "too long"}, Undeliverable),
    ],
)
def test_a_refusal_is_what_it_means(status: int, body: Json | None, kind: type[Exception]) -> None:
    api = Api("bluesky", "bot.example.org", "secret-password", "", "", "")
    told = api._explain("https://pds.example", Answer(status, {}, body))
    assert isinstance(told, kind) and "secret-password" not in str(told)


def test_a_pause_is_told_in_two_ways() -> None:
    assert pause({"ratelimit-reset": "107"}, 100.0) == 7
    assert pause({"ratelimit-reset": "90"}, 100.0) == 0
    assert pause({"retry-after": "9", "ratelimit-reset": "200"}, 100.0) == 9
    assert pause({"ratelimit-reset": "soon"}, 0) is None


def test_the_server_of_an_account_is_in_its_description() -> None:
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.example/"}
    assert (
        pds({"service": [{"id": "#other", "serviceEndpoint": "https://x.example"}, service]}) == "https://pds.example"
    )
    for wrong in (None, {}, {"service": []}, {"service": [service | {"serviceEndpoint": "ftp://x"}]}, {"service": 3}):
        assert pds(wrong) is None


# On a server


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BlueskyRig]:
    folder = tmp_path / "platform"
    folder.mkdir()
    one = BlueskyRig(folder)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


def ask(rig: BlueskyRig, text: str, **record: Any) -> Json:
    """Let Ann mention the bot in public."""
    whole = f"@{rig.bot.handle} {text}"
    return rig.platform.post(rig.ann, whole, facets=rig.platform.mention(rig.bot, whole), **record)


async def posts(rig: BlueskyRig, count: int) -> list[Json]:
    """The bot's posts, once there are as many."""
    async with asyncio.timeout(30):
        while len(found := rig.platform.posts(rig.bot)) < count:
            await rig.news()
    return found


async def test_a_mention_in_public_is_answered_under_it_and_a_thread_is_one_conversation(
    rig: BlueskyRig, tmp_path: Path
) -> None:
    async with Talk(rig, tmp_path).up(table=rig.table() | {"languages": ["en", "nl"]}) as stage:
        await asyncio.wait_for(stage.bot.channels["bluesky"].up.wait(), 30)
        first = ask(rig, "what about tea")
        (answer,) = await posts(rig, 1)
        assert (answer["text"], answer["langs"]) == ("echo what about tea", ["en", "nl"])
        assert answer["reply"] == rig.platform.reply(first)
        rig.platform.post(rig.bob, "and coffee", reply=rig.platform.reply(answer, first))
        (_, second) = await posts(rig, 2)
        assert second["text"] == "echo and coffee"
        assert second["reply"]["root"]["uri"] == first["uri"]
        assert "what about tea" in str(stage.brain.prompts[-1].turns)


async def test_who_does_not_address_the_bot_gets_no_answer(rig: BlueskyRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up() as stage:
        first = ask(rig, "what about tea")
        (answer,) = await posts(rig, 1)
        aside = rig.platform.post(rig.bob, "I agree", reply=rig.platform.reply(answer, first))
        await posts(rig, 2)
        rig.platform.post(rig.ann, "you always do", reply=rig.platform.reply(aside, first))
        quoted = {"$type": "app.bsky.embed.record", "record": {"uri": answer["uri"], "cid": answer["cid"]}}
        rig.platform.post(rig.bob, "look what it said", embed=quoted)
        ask(rig, "and now")
        found = await posts(rig, 3)
        await stage.quiet(30)
        assert [one["text"] for one in found] == ["echo what about tea", "echo I agree", "echo and now"]


async def test_a_long_answer_is_a_chain_of_posts_within_the_limits(rig: BlueskyRig, tmp_path: Path) -> None:
    text = "\n\n".join(f"paragraph {number} 👨‍👩‍👧‍👦 " + "wörds " * 30 for number in range(9))
    async with Talk(rig, tmp_path).up(lambda said: text):
        asked = ask(rig, "tell me")
        words = letters(render(text, PLAIN))
        async with asyncio.timeout(30):
            while len(letters("".join(one["text"] for one in rig.platform.posts(rig.bot)))) < len(words):
                await rig.news()
        found = rig.platform.posts(rig.bot)
        assert letters("".join(one["text"] for one in found)) == words
        assert [one["reply"]["parent"]["uri"] for one in found] == [asked["uri"], *(one["uri"] for one in found[:-1])]


async def test_the_same_key_is_the_same_posts(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        ask(rig, "hello")
        await posts(rig, 1)
        said, channel = talk.said[-1], talk.channel(stage)
        files = tuple(Attachment("image", f"cup-{n}.png", "image/png", data=PNG + bytes([n])) for n in range(4))
        reply = Reply("cups [here](https://example.org)", files, ticket=said.ticket, key="k")
        first = await channel.send(said.place, reply)
        assert await channel.send(said.place, reply) == first
        assert isinstance(channel, Bluesky)
        channel._followed.clear()  # as after a crash
        assert await channel.send(said.place, replace(reply, text="other cups")) == first
        _, *found = await posts(rig, 2)
        assert found[0]["text"] == "cups here"
        assert [one["uri"] for one in found] == list(first.ids)
        images = [image for one in found for image in one["embed"]["images"]]
        assert [image["alt"] for image in images] == [f"cup-{n}" for n in range(4)]
        stored = [rig.platform.blobs[image["image"]["ref"]["$link"]] for image in images]
        assert stored == [("image/png", file.data) for file in files]


async def test_many_pictures_are_several_posts_and_a_film_somewhere_is_a_link(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        ask(rig, "hello")
        await posts(rig, 1)
        cups = tuple(Attachment("image", f"cup-{n}.png", "image/png", data=PNG + bytes([n])) for n in range(6))
        film = Attachment("image", "film", url="https://example.org/film")
        await stage.bot.send(talk.said[-1].place, Reply("cups " * 60, (*cups, film)))
        _, *found = await posts(rig, 4)
        shown = [[image["alt"] for image in one.get("embed", {}).get("images", ())] for one in found]
        assert shown == [[], ["cup-0", "cup-1", "cup-2", "cup-3"], ["cup-4", "cup-5"]]
        assert found[1]["text"] == "film"


async def test_as_many_characters_as_people_see_fit_into_a_post(rig: BlueskyRig, tmp_path: Path) -> None:
    families, letters = "👨‍👩‍👧‍👦" * 120, "e\u0301" * 300
    async with Talk(rig, tmp_path).up(lambda said: families if "family" in said else letters):
        ask(rig, "a family")
        assert [one["text"] for one in await posts(rig, 1)] == [families], "3,000 bytes"
        ask(rig, "letters")
        assert [one["text"] for one in await posts(rig, 2)][1:] == [letters], "300 graphemes"


async def test_a_post_whose_answer_got_lost_is_not_posted_twice(rig: BlueskyRig, tmp_path: Path) -> None:
    assert rig.gate is not None
    async with Talk(rig, tmp_path).up() as stage:
        rig.gate.lose(b"com.atproto.repo.putRecord", "answer")
        ask(rig, "tea")
        await asyncio.wait_for(rig.gate.happened.wait(), 30)
        await stage.quiet(30)
        assert [one["text"] for one in rig.platform.posts(rig.bot)] == ["echo tea"]
        ask(rig, "more tea")
        assert [one["text"] for one in await posts(rig, 2)] == ["echo tea", "echo more tea"]


async def test_a_pause_after_too_many_posts_is_kept(rig: BlueskyRig, tmp_path: Path) -> None:
    assert rig.gate is not None
    async with Talk(rig, tmp_path).up():
        rig.gate.answer(b"com.atproto.repo.putRecord", rig.too_fast(1))
        began = asyncio.get_running_loop().time()
        ask(rig, "tea")
        assert [one["text"] for one in await posts(rig, 1)] == ["echo tea"]
        assert asyncio.get_running_loop().time() - began >= 1.0


async def test_posts_are_taken_back_and_said_unasked(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        first = ask(rig, "tea")
        await posts(rig, 1)
        place, channel = talk.said[-1].place, talk.channel(stage)
        sent = await channel.send(place, Reply("by the way", key="k"))
        answer, more = await posts(rig, 2)
        assert more["reply"] == rig.platform.reply(answer, first)
        await channel.delete(sent)
        assert [one["text"] for one in rig.platform.posts(rig.bot)] == ["echo tea"]
        await channel.delete(sent)
        await channel.send(place, Reply("another thing", key="j"))
        assert rig.platform.posts(rig.bot)[-1]["reply"] == rig.platform.reply(first), "not under what is gone"
        with pytest.raises(Undeliverable, match="reactions"):
            await channel.react(place, first["uri"], "👍")
        rig.platform.records.pop(first["uri"])
        with pytest.raises(Undeliverable, match="gone"):
            await channel.send(place, Reply("still there?", key="l"))


async def test_a_picture_is_fetched_and_one_that_a_message_cannot_carry_is_named(
    rig: BlueskyRig, tmp_path: Path
) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        shown = [{"image": rig.platform.blob("image/png", PNG), "alt": "a cup"}]
        asked = ask(rig, "what is this", embed={"$type": "app.bsky.embed.images", "images": shown})
        await posts(rig, 1)
        (attachment,) = talk.said[-1].attachments
        assert await attachment.read() == PNG
        rig.platform.records.pop(asked["uri"])
        with pytest.raises(Undeliverable, match="no longer"):
            await attachment.read()
        await rig.say("hello")
        await rig.answers(1)
        await stage.bot.send(talk.said[-1].place, Reply("here", (Attachment("image", "a.png", "image/png", data=PNG),)))
        found = await rig.answers(2)
        assert found[-1].text.startswith("here") and "a.png" in found[-1].text and "cannot carry" in found[-1].text


async def test_what_the_network_tells_late_is_still_answered(rig: BlueskyRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        ask(rig, "one")
        await posts(rig, 1)
        ask(rig, "two")
        await posts(rig, 2)
        late = ask(rig, "three")
        told = rig.bot.notifications.pop()
        rig.bot.notifications.insert(1, told | {"indexedAt": rig.bot.notifications[-1]["indexedAt"]})
        assert late["uri"] == told["uri"]
        assert [one["text"] for one in await posts(rig, 3)] == ["echo one", "echo two", "echo three"]


async def test_many_mentions_while_away_are_answered_in_order_and_old_ones_are_left_alone(
    rig: BlueskyRig, tmp_path: Path
) -> None:
    ask(rig, "to somebody else")
    talk = Talk(rig, tmp_path)
    async with talk.up():
        ask(rig, "first")
        await posts(rig, 1)
    for number in range(120):
        ask(rig, f"n{number}")
    async with talk.up() as stage:
        await posts(rig, 121)
        await stage.quiet(30)
        assert [message.text for message in talk.said] == ["first", *(f"n{number}" for number in range(120))]
        assert len(rig.platform.posts(rig.bot)) == 121


async def test_a_mention_below_many_likes_is_found(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up():
        ask(rig, "one")
        (answer,) = await posts(rig, 1)
    ask(rig, "two")
    for _ in range(170):
        rig.platform.like(rig.bob, answer)
    async with talk.up():
        assert [one["text"] for one in await posts(rig, 2)] == ["echo one", "echo two"]
    assert bluesky_posts.moment("not a time") == 0.0


async def test_old_mentions_below_many_likes_are_left_alone(rig: BlueskyRig, tmp_path: Path) -> None:
    mine = rig.platform.post(rig.bot, "by hand")
    ask(rig, "to somebody else")
    rig.bot.notifications[0]["indexedAt"] = iso(time.time() - 3600)
    for _ in range(60):
        rig.platform.like(rig.bob, mine)
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        ask(rig, "one")
        await posts(rig, 2)
        await stage.quiet(30)
        assert [message.text for message in talk.said] == ["one"]


async def test_the_server_is_found_by_the_name_of_the_account(rig: BlueskyRig, tmp_path: Path) -> None:
    url = rig.platform.url
    async with BlueskyServer() as elsewhere:
        # The account lives elsewhere than the one who knows its name, and the one who knows where.
        elsewhere.accounts, elsewhere.news = rig.platform.accounts, rig.platform.news
        elsewhere.convos, elsewhere.records = rig.platform.convos, rig.platform.records
        rig.platform.home = elsewhere.home
        table = rig.table() | {"base_url": "", "resolver": url, "directory": url, "handle": f"@{rig.bot.handle}"}
        async with Talk(rig, tmp_path).up(table=table) as stage:
            await asyncio.wait_for(stage.bot.channels["bluesky"].up.wait(), 30)
            await rig.say("hello")
            await rig.until(lambda shown: [one.text for one in shown] == ["echo hello"])
        assert set(rig.platform.asked) == {"com.atproto.identity.resolveHandle"}


@pytest.mark.parametrize("handle", ["nobody.example.org", "did:plc:nobody"])
async def test_an_account_that_is_none_stops_the_channel(rig: BlueskyRig, tmp_path: Path, handle: str) -> None:
    url = rig.platform.url
    table = rig.table() | {"base_url": "", "resolver": url, "directory": url, "handle": handle}
    assert "handle" in await stopped(rig, tmp_path, table)


async def test_an_account_that_was_closed_stops_the_channel(rig: BlueskyRig, tmp_path: Path) -> None:
    rig.bot.status = "deactivated"
    assert "deactivated" in await stopped(rig, tmp_path, rig.table())
    rig.bot.status = "takendown"
    assert "taken down" in await stopped(rig, tmp_path, rig.table())


async def stopped(rig: BlueskyRig, tmp_path: Path, table: Json) -> str:
    """Why the channel stopped."""
    async with Talk(rig, tmp_path).up(table=table) as stage:
        async with asyncio.timeout(30):
            while (bad := stage.bot.channels["bluesky"]).state != "stopped":
                await rig.news()
        assert "bot.toml: [channels.bluesky]" in bad.problem and bad.problem.endswith(".")
        return bad.problem


async def test_a_token_that_expires_is_renewed_and_the_password_is_asked_for_only_once(
    rig: BlueskyRig, tmp_path: Path
) -> None:
    async with Talk(rig, tmp_path).up():
        for text in ("one", "two", "three"):
            rig.platform.expire()
            await rig.say(text)
            await rig.until(lambda shown, text=text: [one.text for one in shown][-1:] == [f"echo {text}"])
        assert rig.platform.asked.count("com.atproto.server.createSession") == 1
        rig.platform.revoke()
        await rig.say("four")
        await rig.answers(4)
        assert rig.platform.asked.count("com.atproto.server.createSession") == 2


async def test_a_password_that_is_taken_back_stops_the_channel(rig: BlueskyRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up() as stage:
        rig.bot.password = "another"
        rig.platform.revoke()
        async with asyncio.timeout(30):
            while stage.bot.channels["bluesky"].state != "stopped":
                await rig.news()
        assert "password" in stage.bot.channels["bluesky"].problem


async def test_without_leave_for_messages_mentions_are_still_answered(
    rig: BlueskyRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.bot.privileged = False
    async with Talk(rig, tmp_path).up():
        ask(rig, "tea")
        await posts(rig, 1)
    assert "Allow access to your direct messages" in caplog.text
    assert "messages" in await stopped(rig, tmp_path, rig.table() | {"mentions": False})


async def test_a_stranger_who_asks_for_a_conversation_is_answered_in_it(rig: BlueskyRig, tmp_path: Path) -> None:
    eve = rig.platform.account("eve.example.org", "Eve")
    async with Talk(rig, tmp_path).up():
        rig.convos["direct"] = rig.platform.converse(eve, rig.bot, accepted=False)
        rig.platform.message(eve, rig.convos["direct"], text="hello")
        (shown,) = await rig.answers(1)
        assert shown.text == "echo hello"
        assert rig.bot.did in rig.convos["direct"].accepted


async def test_a_message_whose_answer_got_lost_is_found_and_an_older_one_like_it_is_not_taken_for_it(
    rig: BlueskyRig, tmp_path: Path
) -> None:
    assert rig.gate is not None
    async with Talk(rig, tmp_path).up() as stage:
        await rig.say("tea")
        await rig.answers(1)
        rig.gate.lose(rig.sending, "answer")
        await rig.say("tea")
        await rig.answers(2)
        await stage.quiet(30)
        assert [one.text for one in await rig.shown()] == ["echo tea"] * 2, "found, and not said again"
        rig.gate.lose(rig.sending, "request")
        await rig.say("tea")
        shown = await rig.answers(3)
        await stage.quiet(30)
        assert [one.text.replace(MARK, "").strip() for one in shown] == ["echo tea"] * 3
        assert len(await rig.shown()) == 3


async def test_a_reaction_is_taken_away(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        id = await rig.say("hello")
        await rig.answers(1)
        channel, place = talk.channel(stage), talk.said[-1].place
        await channel.react(place, id, "👍")
        assert await rig.reactions(id) == ["👍"]
        await channel.react(place, id, "")
        assert await rig.reactions(id) == []


async def test_an_answer_to_a_message_that_is_gone_is_said_without_it(rig: BlueskyRig, tmp_path: Path) -> None:
    talk = Talk(rig, tmp_path)
    async with talk.up() as stage:
        await rig.say("hello")
        await rig.answers(1)
        await talk.channel(stage).send(talk.said[-1].place, Reply("still there", quote="gone"))
        shown = await rig.answers(2)
        assert (shown[-1].text, shown[-1].quote) == ("still there", "")


async def test_one_look_that_fails_does_not_stop_the_other(rig: BlueskyRig, tmp_path: Path) -> None:
    assert rig.gate is not None
    body = json.dumps({"error": "InvalidRequest", "message": "Something new"}).encode()
    async with Talk(rig, tmp_path).up():
        rig.gate.answer(b"listNotifications", http("400 Bad Request", body))
        await rig.say("hello")
        await rig.answers(1)
        ask(rig, "tea")
        await posts(rig, 1)


def test_a_channel_with_nothing_to_do_says_so(tmp_path: Path) -> None:
    config = Bluesky.Config(handle="bot.example.org", password="p", mentions=False, messages=False)
    with pytest.raises(ConfigError, match="nothing to do"):
        Bluesky("bluesky", config, None)  # type: ignore[arg-type]


def test_times_are_what_they_say() -> None:
    assert bluesky_posts.seconds(iso(1767261600.25)) == 1767261600.25
    assert time.time() > bluesky_posts.seconds("2026-01-01T10:00:00.000+02:00")


async def test_a_notification_without_a_time_keeps_nothing_back(
    rig: BlueskyRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = [{"reason": "mention"}, {"reason": "mention", "uri": "at://x/y/z", "indexedAt": "soon"}, None]
    honest = Api.query

    async def query(self: Api, method: str, *given: Any) -> Json:
        told = await honest(self, method, *given)
        lists = {"app.bsky.notification.listNotifications": "notifications", "chat.bsky.convo.getLog": "logs"}
        return told | {lists[method]: [*damaged, *told[lists[method]]]} if method in lists else told

    monkeypatch.setattr(Api, "query", query)
    async with Talk(rig, tmp_path).up() as stage:
        await asyncio.wait_for(stage.bot.channels["bluesky"].up.wait(), 30)
        ask(rig, "one")
        assert [one["text"] for one in await posts(rig, 1)] == ["echo one"]
        await rig.say("two")
        (shown,) = await rig.answers(1)
        assert shown.text == "echo two"


@pytest.mark.parametrize("said", ["Roost: tea", "roost, tea", "@Roost: tea"])
def test_in_a_group_the_bot_is_called_by_its_name(said: str) -> None:
    assert bluesky_chat.without_name(said, "bot.example.org", "Roost") == ("tea", True)
    assert bluesky_chat.without_name(said, "bot.example.org") == (said, False)
    assert bluesky_chat.without_name("Roosters: tea", "bot.example.org", "Roost")[1] is False
