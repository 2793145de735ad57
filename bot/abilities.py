"""What the bot does for another program on its machine, asked through the journal. Each answers with a JSON object.

Whoever can ask has the owner's power: they can read the journal, and may say anything anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from roost.contracts import Turn
from roost.errors import RoostError
from roost.values import Place
from roost.wishes import offer

if TYPE_CHECKING:
    from roost.bot import Bot

MOST = 200  # places, lines or facts of one answer
SHOWN = 2000  # characters of one line


@offer
async def send(bot: Bot, place: str, text: str) -> str:
    if bot.resting:
        raise RoostError("The bot does not run, so nothing can be sent. Start it: roost run")
    if not text.strip():
        raise RoostError("There is no text to be sent.")
    await bot.send(place_of(place), text)
    return answer(accepted=True, note="It is on disk, and is delivered as soon as the channel allows.")


@offer
async def places(bot: Bot) -> str:
    sql = (
        "SELECT place, MAX(at) FROM (SELECT place, at FROM inbox UNION ALL SELECT place, at FROM outbox)"
        " GROUP BY place ORDER BY MAX(at) DESC LIMIT ?"
    )
    rows: Sequence[Any] = await bot.journal.do(lambda db: db.execute(sql, (MOST,)).fetchall())
    return answer(places=[{"place": place, "last": moment(at)} for place, at in rows])


@offer
async def recent(bot: Bot, place: str, limit: str = "20") -> str:
    said = await bot.journal.history(place_of(place), between(limit), bot.name)
    lines = [{"author": one.author, "bot": one.bot, "at": moment(one.at), "text": one.text[:SHOWN]} for one in said]
    return answer(lines=lines)


@offer
async def search(bot: Bot, place: str, words: str) -> str:
    hits = await bot.memory.search(place_of(place), words)
    return answer(found=[{"score": round(hit.score, 3), "turns": [line(turn) for turn in hit.turns]} for hit in hits])


@offer
async def facts(bot: Bot, about: str) -> str:
    found = [fact for owner in await owners(bot, about) for fact in await bot.memory.facts(owner)]
    return answer(facts=[{"text": fact.text, "since": moment(fact.at)} for fact in found[:MOST]])


@offer
async def remember(bot: Bot, about: str, fact: str) -> str:
    if not fact.strip():
        raise RoostError("There is no fact to be remembered.")
    noted = await bot.memory.note((await owners(bot, about))[0], fact.strip())
    return answer(remembered=noted.text)


@offer
async def channels(bot: Bot) -> str:
    if bot.resting:
        found = [{"channel": name, "state": "the bot does not run"} for name in bot.config.channels]
    else:
        found = [
            {"channel": name, "state": one.state, "since": moment(one.since), "problem": one.problem}
            for name, one in bot.channels.items()
        ]
    return answer(channels=found)


async def owners(bot: Bot, about: str) -> list[str]:
    """Whose facts are meant: the person under every name, or the place."""
    return await bot.people.others(str(place_of(about)))


def place_of(text: str) -> Place:
    try:
        return Place.parse(text.strip())
    except ValueError as error:
        raise RoostError(str(error)) from error


def between(limit: str) -> int:
    return max(1, min(MOST, int(limit)))


def line(turn: Turn) -> dict[str, str]:
    return {"author": turn.author or turn.role, "text": turn.text[:SHOWN]}


def moment(at: float) -> str:
    """A time of this machine, in ISO 8601 with its offset; empty for none."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds") if at else ""


def answer(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)
