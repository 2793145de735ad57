"""Feeds (RSS, Atom): `/feed https://example.org/news.xml` shows what is new there in this place, `/feeds` lists them.

[plugins.feeds]
minutes = 15
"""
# /// script
# dependencies = ["feedparser>=6"]
# ///

import logging
import time
from typing import Any, Literal

import feedparser

from roost import Message, command, job, key, options
from roost.fetching import NotFetched, fetch

log = logging.getLogger("roost.plugins")
KINDS = ("application/rss+xml", "application/atom+xml", "application/xml", "text/xml", "application/rdf+xml")
SHOWN = 5  # new entries that are shown at a time
KNOWN = 200  # entries that are remembered of each feed


@options
class Options:
    minutes: int = key(15, help="How often feeds are looked at.", least=1)


@command(role="person")
async def feed(bot, message: Message, url: str) -> str:
    """Show what is new in a feed here from now on."""
    try:
        found = await read(url)
    except NotFetched as error:
        return f"I cannot read that: {error}"
    if not found.entries and not found.feed.get("title"):
        return "There is no feed at that address."
    title = found.feed.get("title", url)
    row = {"title": title, "known": [name(one) for one in found.entries][:KNOWN], "at": time.time()}
    await bot.shelf("feeds").put(url, row, message.place)
    return f"I show here what is new in **{title}**."


@command
async def feeds(bot, message: Message, what: Literal["list", "drop"] = "list", number: int | None = None) -> str:
    """List the feeds of this place, or drop one."""
    mine = await bot.shelf("feeds").all(message.place)
    if what == "drop":
        if number is None or not 0 < number <= len(mine):
            return "There is no such number."
        await bot.shelf("feeds").drop(mine[number - 1])
        return f"Gone: {mine[number - 1].value['title']}"
    lines = [f"{number}. {one.value['title']} ({one.key})" for number, one in enumerate(mine, 1)]
    return "\n".join(lines) or "There are none. `/feed` and an address makes one."


@job(every=60)
async def look(bot) -> None:
    """Show what is new. What cannot be read is tried again the next time."""
    pause = bot.options(Options).minutes * 60
    for one in await bot.shelf("feeds").all():
        if one.value["at"] + pause > time.time():
            continue
        try:
            found = await read(one.key)
        except NotFetched as error:
            log.info("The feed '%s' cannot be read: %s", one.key, error)
            continue
        fresh = [entry for entry in found.entries if name(entry) not in one.value["known"]]
        known = [*map(name, fresh), *one.value["known"]][:KNOWN]
        await bot.shelf("feeds").put(one.key, {**one.value, "known": known, "at": time.time()}, one.place)
        for entry in reversed(fresh[:SHOWN]):
            await bot.send(
                one.place, f"**{one.value['title']}**: [{entry.get('title', 'untitled')}]({entry.get('link', '')})"
            )


async def read(url: str) -> Any:
    found = await fetch(url, kinds=KINDS)
    return feedparser.parse(found.data)


def name(entry: Any) -> str:
    return str(entry.get("id") or entry.get("link") or entry.get("title", ""))
