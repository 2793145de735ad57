"""What `roost memory …` asks of the bot. Each returns what is printed."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, get_args

import msgspec

from roost.contracts import Compaction, Role, Turn
from roost.errors import RoostError, StoreError
from roost.memory.conversation import plain
from roost.memory.window import Window
from roost.values import Place, PlaceKind
from roost.wishes import offer

if TYPE_CHECKING:
    from roost.bot import Bot

WHOLE = "Everything can be read."
SHOWN = 200  # characters of a turn


def window(bot: Bot) -> Window:
    if not isinstance(bot.memory, Window):
        raise RoostError('This needs the memory that comes with Roost: [memory] use = "window" in bot.toml.')
    return bot.memory


def place_of(text: str) -> Place:
    try:
        return Place.parse(text)
    except ValueError as error:
        raise StoreError(str(error)) from error


@offer
async def places(bot: Bot) -> str:
    memory = window(bot)
    return "\n".join([await _place_line(memory, place) for place in await memory.places()]) or "Nothing is remembered."


async def _place_line(memory: Window, place: Place) -> str:
    size = await memory.size(place)
    return f"{place!s:<32} {size.kept:>6} turns, {size.folded} archived, {math.ceil(size.bytes / 1024)} KB"


@offer
async def log(bot: Bot, place: str = "") -> str:
    reports = [one for one in await window(bot).reports() if place in ("", one.place)]
    return "\n".join(map(_report_line, reports)) or "There was no compaction yet."


def _report_line(one: Compaction) -> str:
    when = f"{datetime.fromtimestamp(one.at).astimezone():%Y-%m-%d %H:%M}"
    what = f"{one.turns} turns, {one.tokens_before} -> {one.tokens_after} tokens, {one.action}"
    told = f"{when}  {one.place:<24} {one.trigger:<8} {what if one.done else 'nothing changed'}, {one.seconds:.1f} s"
    return f"{told}  {one.note}" if one.note else told


@offer
async def compact(bot: Bot, place: str = "", action: str = "") -> str:
    """Compact one place, or all that have something to fold. An extract needs no brain."""
    memory = window(bot)
    chosen = [place_of(place)] if place else await memory.places()
    lines = []
    async with bot.thinking() as brain:
        if action != "extract":
            await brain.load()
        for one in chosen:
            asked = None if action == "extract" else bot.leaving.for_summary(brain, one)
            report = await memory.compact(one, asked)
            lines += [_report_line(report)] if report else []
    return "\n".join(lines) or "There is nothing to fold."


@offer
async def forget(bot: Bot, whom: str) -> str:
    """Forget a place, or a person everywhere. `telegram:42` may be both: then it is both."""
    place = place_of(whom)
    turns = await bot.memory.forget(place)
    await bot.journal.forget(place)
    said = await bot.memory.forget_person(whom)
    await bot.journal.forget_person(whom)
    return f"Forgotten: {turns} turns in this place, {said} of this person elsewhere, and what was noted."


@offer
async def search(bot: Bot, place: str, words: str) -> str:
    hits = await bot.memory.search(place_of(place), words)
    stretches = ["\n".join(f"{turn.author or turn.role}: {turn.text[:SHOWN]}" for turn in hit.turns) for hit in hits]
    return "\n\n".join(stretches) or "Nothing was found."


@offer
async def check(bot: Bot) -> str:
    damage = await window(bot).damage()
    return "\n".join(damage) or WHOLE


@offer
async def write_out(bot: Bot, file: str, place: str = "") -> str:
    """One JSON object a line: a turn with its place, a summary, or a fact with its owner."""
    memory = window(bot)
    count = 0
    try:
        with _private(file) as out:
            async for line in _lines(memory, place):
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise StoreError(f"'{file}' cannot be written: {error}.") from error
    return f"{count} lines written to {file}"


def _private(file: str) -> TextIO:
    """A file to write that is its owner's alone."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)  # it may have been there, for others to read
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")


async def _lines(memory: Window, wanted: str) -> AsyncIterator[dict[str, Any]]:
    for place in [place_of(wanted)] if wanted else await memory.places():
        head = {"place": str(place), "kind": place.kind}
        for turn in await memory.turns(place):
            yield head | plain(turn)
        for turn in await memory.pinned(place):
            yield head | {"pin": turn.id, "role": turn.role}
        if summary := (await memory.size(place)).summary:
            yield head | {"summary": summary}
    for owner in await memory.owners():
        if wanted in ("", owner):
            for fact in await memory.facts(owner):
                yield {"owner": owner, "fact": fact.text, "at": fact.at}


@offer
async def read_in(bot: Bot, file: str) -> str:
    """What `write_out` wrote, or any JSON lines with `place`, `role` and `text`. What is here is not doubled."""
    memory = window(bot)
    turns = facts = 0
    batch: list[Turn] = []
    pins: list[tuple[Place, str, Role]] = []
    here: Place | None = None
    for number, row in enumerate(_rows(file), 1):
        if "fact" in row:
            await memory.note(str(place_of(str(row.get("owner", "")))), str(row["fact"]), _time(file, number, row))
            facts += 1
        if "pin" in row:
            role: Role = "assistant" if row.get("role") == "assistant" else "user"
            pins.append((_place(file, number, row), str(row["pin"]), role))
        if "text" not in row:
            continue
        place = _place(file, number, row)
        if here is not None and (place != here or len(batch) >= 500):
            await memory.remember(here, batch)
            batch = []
        here = place
        batch.append(_turn(file, number, row))
        turns += 1
    if here is not None:
        await memory.remember(here, batch)
    for place, id, role in pins:
        await memory.pin(place, id, True, role)
    return f"{turns} turn{'s' * (turns != 1)} and {facts} fact{'s' * (facts != 1)} read from {file}"


def _rows(file: str) -> Iterator[dict[str, Any]]:
    with Path(file).open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            yield _row(file, number, line)


def _row(file: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line) if line.strip() else {}
    except ValueError as error:
        raise StoreError(f"{file}, line {number} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise StoreError(f"{file}, line {number} is not a JSON object.")
    return row


def _place(file: str, number: int, row: dict[str, Any]) -> Place:
    kind = row.get("kind", "direct")
    if kind not in get_args(PlaceKind):
        raise StoreError(f"{file}, line {number} has the kind '{kind}'. There are: {', '.join(get_args(PlaceKind))}.")
    return replace(place_of(str(row.get("place", ""))), kind=kind)


def _time(file: str, number: int, row: dict[str, Any]) -> float:
    try:
        return msgspec.convert(row.get("at", 0.0), float)
    except msgspec.ValidationError as error:
        raise StoreError(f"{file}, line {number} has no time in 'at': {error}.") from error


def _turn(file: str, number: int, row: dict[str, Any]) -> Turn:
    """A row as a turn; without an id it gets one of its own content, so that reading it twice changes nothing."""
    try:
        turn = msgspec.convert({**row, "tokens": 0}, Turn)
    except msgspec.ValidationError as error:
        raise StoreError(f"{file}, line {number} is no turn: {error}.") from error
    return turn if turn.id else replace(turn, id=f"import-{number}-{hash_of(turn)}")


def hash_of(turn: Turn) -> str:
    return sha256(json.dumps(asdict(turn), sort_keys=True).encode()).hexdigest()[:12]
