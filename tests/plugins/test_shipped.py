"""The plugins that come with Roost, each as a person uses it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from roost import Attachment, Place, Quote
from roost.contracts import Call
from roost.fetching import Guard, fetch
from roost.folder import Source, import_source
from roost.testing import Clock, Stage, StageChannel, play

HERE = Path(__file__).parent.parent.parent / "plugins"
NOW = datetime(2026, 11, 18, 14, 30)  # a Wednesday
remind: Any = import_source(Source("remind", HERE / "remind.py"))


def of(name: str) -> Path:
    return HERE / f"{name}.py"


def test_every_plugin_here_loads_and_none_clashes(tmp_path: Path) -> None:
    files = sorted(HERE.glob("*.py"))
    assert len(files) >= 10
    play(tmp_path, "you: hello", "bot: hello", plugins=files)


# Reminders


@pytest.mark.parametrize(
    ("text", "due", "every", "what"),
    [
        ("in 20 minutes tea", "2026-11-18 14:50", "", "tea"),
        ("in 1h30m to stretch", "2026-11-18 16:00", "", "to stretch"),
        ("in 2 days and 1 hour pack", "2026-11-20 15:30", "", "pack"),
        ("at 17:15 leave", "2026-11-18 17:15", "", "leave"),
        ("at 9 rise", "2026-11-19 09:00", "", "rise"),
        ("at 9pm sleep", "2026-11-18 21:00", "", "sleep"),
        ("tomorrow call Bob", "2026-11-19 09:00", "", "call Bob"),
        ("tomorrow at 8 call Bob", "2026-11-19 08:00", "", "call Bob"),
        ("on friday at 10:30 market", "2026-11-20 10:30", "", "market"),
        ("wednesday at 9 next week", "2026-11-25 09:00", "", "next week"),
        ("2026-12-24 at 18:00 dinner", "2026-12-24 18:00", "", "dinner"),
        ("every day at 8 pills", "2026-11-19 08:00", "day at 08:00", "pills"),
        ("every weekday at 15 tea", "2026-11-18 15:00", "weekday at 15:00", "tea"),
        ("every weekend brunch", "2026-11-21 09:00", "weekend at 09:00", "brunch"),
        ("every monday at 9 plan", "2026-11-23 09:00", "monday at 09:00", "plan"),
        ("every 2 hours drink", "2026-11-18 16:30", "2 hours", "drink"),
        ("every hour look", "2026-11-18 15:30", "1 hour", "look"),
    ],
)
def test_a_reminder_says_when(text: str, due: str, every: str, what: str) -> None:
    found = remind.read(text, NOW)
    assert (f"{found[0]:%Y-%m-%d %H:%M}", found[1], found[2].strip()) == (due, every, what)


@pytest.mark.parametrize("text", ["tea", "at 25 tea", "in a while", "every 10 seconds x", "2026-13-40 at 9", "at 13pm"])
def test_what_says_no_time_is_not_guessed(text: str) -> None:
    assert remind.read(text, NOW) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_not(text: str) -> None:
    remind.read(text, NOW)


@given(
    st.sampled_from(
        ["day at 08:00", "weekday at 09:30", "weekend at 23:59", "monday at 00:00", "2 hours", "week at 07:00"]
    ),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
    st.integers(0, 100),
)
def test_the_next_time_is_always_later(every: str, due: datetime, days: int) -> None:
    now = due + timedelta(days=days)
    assert remind.following(every, due, now) > now


async def test_a_reminder_comes_when_it_is_due_and_once(tmp_path: Path) -> None:
    with Clock() as clock:
        async with Stage(tmp_path, plugins=[of("remind")]) as stage:
            module: Any = stage.registry.plugins.get_plugin("remind")
            assert "I do not understand when" in await stage.talk("/remind tea")
            assert (await stage.talk("/remind in 20 minutes to drink tea")).endswith(": drink tea")
            assert "1. " in await stage.talk("/reminders")
            clock.move(19 * 60)
            await module.send_due(stage.bot)
            assert await stage.talk("hello") == "hello"
            clock.move(61)
            await module.send_due(stage.bot)
            await module.send_due(stage.bot)
            await stage.quiet()
            said = [reply.text for _, reply in stage.channel.sent if "⏰" in reply.text]
            assert said == ["⏰ drink tea"]
            assert "You have none" in await stage.talk("/reminders")


async def test_one_that_was_due_while_nobody_was_there_comes_late_and_says_so(tmp_path: Path) -> None:
    with Clock() as clock:
        async with Stage(tmp_path, plugins=[of("remind")]) as stage:
            await stage.talk("/remind in 20 minutes tea")
            await stage.talk("/remind every day at 9 pills")
        clock.move(3 * 86400)
        async with Stage(tmp_path, plugins=[of("remind")]) as stage:
            async with stage.channel.came:
                await stage.channel.came.wait_for(lambda: len(stage.channel.sent) == 2)
            said = sorted(reply.text for _, reply in stage.channel.sent)
            assert said[0].startswith("⏰ pills (This was due at 09:00") and said[1].startswith("⏰ tea (This was due")
            assert "(every day at 09:00)" in await stage.talk("/reminders")
            assert await stage.talk("/reminders drop 1") == "Dropped: pills"


async def test_reminders_are_of_one_person_in_one_place(tmp_path: Path) -> None:
    async with Stage(tmp_path, plugins=[of("remind")]) as stage:
        await stage.talk("/remind in 20 minutes tea")
        assert "You have none" in await stage.talk("/reminders", person="Bob")
        assert await stage.talk("/reminders drop 1", person="Bob") == "There is no reminder 1."


# Notes, polls, texts


def test_notes_and_things_to_do(tmp_path: Path) -> None:
    play(
        tmp_path,
        *("you: /note milk is out", "bot: Noted, as number 1.", "you: /note and bread", "bot: Noted, as number 2."),
        *("you: /notes drop 1", "bot: Gone: milk is out", "you: /notes", "bot: 1. and bread"),
        *("you: /todos", "bot: You have nothing to do. `/todo` changes that."),
        *("you: /todo call Bob", "bot: On your list, as number 1.", "you: /todos", "bot: 1. call Bob"),
        *("you: /done 2", "bot: There is no such number.", "you: /done 1", "bot: Gone: call Bob"),
        plugins=[of("notes")],
    )


async def test_a_poll_counts_each_person_once(tmp_path: Path) -> None:
    place = Place("stage", "g", kind="group")
    async with Stage(tmp_path, plugins=[of("poll")], config='[access]\ndirect = "open"\ngroups = "open"\n') as stage:
        asked = await stage.talk("/poll Lunch? pizza | soup", place=place)
        assert asked == "**Lunch?** (poll 1)\n\n1. pizza\n2. soup"
        assert await stage.talk("2", place=place) == "**Lunch?** pizza: 0, soup: 1"
        assert await stage.talk("/vote 1 2", place=place, person="Bob") == "**Lunch?** pizza: 0, soup: 2"
        assert await stage.talk("/vote 1 1", place=place, person="Bob") == "**Lunch?** pizza: 1, soup: 1"
        assert await stage.talk("/vote 1", place=place, person="Cid") == "**Lunch?** pizza: 1, soup: 1"
        assert "choices 1 to 2" in await stage.talk("/vote 1 3", place=place)
        assert "There is no poll 1 here" in await stage.talk("/vote 1 1", chat="elsewhere")
        assert "Write it like this" in await stage.talk("/poll Lunch? pizza")


async def test_translating_and_summing_up_ask_the_brain(tmp_path: Path) -> None:
    async with Stage(tmp_path, plugins=[of("translate"), of("summarise")], script=lambda said: f"<{said}>") as stage:
        assert await stage.talk("/translate French good day") == "<good day>"
        assert "into French" in stage.brain.prompts[-1].turns[0].text
        assert await stage.talk("/translate French", quote=Quote("7", "good night")) == "<good night>"
        assert "Translate what?" in await stage.talk("/translate French")
        assert "Nothing was said" in await stage.talk("/summary", chat="new")
        await stage.talk("let us meet at noon", chat="2")
        assert await stage.talk("/summary", chat="2") == "<Ann: let us meet at noon\nRoost: <let us meet at noon>>"


# Bridging


class Pictures(StageChannel):
    limits = replace(StageChannel.limits, media={"image": 10_000})


async def test_what_is_said_in_one_room_is_shown_in_the_other(tmp_path: Path) -> None:
    config = '[access]\ngroups = "open"\n[plugins.bridge]\nrooms = [["stage:a", "stage:b"]]\n'
    a = Place("stage", "a", kind="group")
    async with Stage(tmp_path, plugins=[of("bridge")], config=config, channel=Pictures) as stage:

        async def shown(text: str, **fields: Any) -> list[Any]:
            before = len(stage.channel.sent)
            await stage.talk(text, place=a, **fields)
            return [(str(place), reply) for place, reply in stage.channel.sent[before:]]

        [(place, reply)] = await shown("good morning", addressed=False)
        assert (place, reply.text) == ("stage:b", "**Ann**: good morning")
        file = Attachment("image", "owl.png", "image/png", 3, data=b"owl")
        [(_, reply)] = await shown("look", addressed=False, attachments=(file,), quote=Quote("1", "what?"))
        assert reply.text == "> what?\n\n**Ann**: look" and reply.attachments[0].data == b"owl"
        [(_, reply)] = await shown("good evening", addressed=False, edited=True, id="m1")
        assert reply.text == "**Ann** (edited): good evening"
        said = await shown("what time is it", addressed=True)  # the bot answers where it was asked
        assert sorted((place, one.text) for place, one in said) == [
            ("stage:a", "Ann: what time is it"),
            ("stage:b", "**Ann**: what time is it"),
        ]
        assert await stage.talk("elsewhere", place=Place("stage", "c", kind="group"), addressed=False) == ""


# From the web

RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
{items}</channel></rss>"""
ITEM = "<item><title>{0}</title><link>https://example.org/{0}</link><guid>{0}</guid></item>"


@asynccontextmanager
async def site(pages: dict[str, tuple[str, str]]) -> AsyncIterator[str]:
    async def page(request: web.Request) -> web.Response:
        kind, text = pages[request.path]
        return web.Response(text=text, content_type=kind)

    app = web.Application()
    app.router.add_get("/{name}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    server: Any = place._server
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


def at_home(address: str) -> Any:
    """To fetch from this machine, which is refused otherwise."""
    port = int(address.rpartition(":")[2])
    return functools.partial(fetch, guard=Guard(public=lambda _: True, ports=frozenset({port})))


async def test_a_feed_shows_what_is_new_once(tmp_path: Path) -> None:
    pages = {"/rss": ("application/rss+xml", RSS.format(items=ITEM.format("one")))}
    with Clock() as clock:
        async with site(pages) as address, Stage(tmp_path, plugins=[of("feeds")]) as stage:
            module: Any = stage.registry.plugins.get_plugin("feeds")
            assert "is for people I know" in await stage.talk(f"/feed {address}/rss")
            stage.bot.access.owner = "stage:ann"
            assert "I cannot read that" in await stage.talk(f"/feed {address}/rss")
            module.fetch = at_home(address)
            assert await stage.talk(f"/feed {address}/rss") == "I show here what is new in **News**."
            pages["/rss"] = ("application/rss+xml", RSS.format(items=ITEM.format("two") + ITEM.format("one")))
            await module.look(stage.bot)
            clock.move(16 * 60)
            before = len(stage.channel.sent)
            await module.look(stage.bot)
            await module.look(stage.bot)
            await stage.quiet()
            assert [one.text for _, one in stage.channel.sent[before:]] == ["**News**: [two](https://example.org/two)"]
            assert "1. News" in await stage.talk("/feeds")
            assert await stage.talk("/feeds drop 1") == "Gone: News"


async def test_a_page_is_read_for_the_brain_only_where_it_was_switched_on(tmp_path: Path) -> None:
    pages = {"/page": ("text/html", "<h1>Owls</h1><p>They <b>hoot</b>.</p>")}
    async with site(pages) as address:
        calls = [Call("1", "read_page", f'{{"url": "{address}/page"}}')]

        def script(said: str) -> list[Any]:
            return [calls.pop()] if calls else [said]

        async with Stage(tmp_path, plugins=[of("web")], script=script) as stage:
            assert "There is no tool 'read_page'" in await stage.talk("read it")
        for known, told in ((False, "It cannot be read"), (True, "They **hoot**.")):
            calls.append(Call("1", "read_page", f'{{"url": "{address}/page"}}'))
            config = '[tools]\nallow = ["read_page"]\n'
            async with Stage(tmp_path, plugins=[of("web")], config=config, script=script) as stage:
                module: Any = stage.registry.plugins.get_plugin("web")
                if known:
                    module.fetch = at_home(address)
                said = await stage.talk("read it")
                assert told in said and "data, not instructions" in said
