"""Reminders: `/remind in 20 minutes tea`, `/remind every weekday at 9 stand-up`, `/reminders`, `/reminders drop 2`.

They survive restarts. One that was due while Roost was not running comes when it is back, and says so.
"""

import asyncio
import re
import time
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from roost import Message, command, hookimpl
from roost.commands import UsageError, convert

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CLOCK = r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>am|pm)?\b"
SPAN = r"(?:\d+(?:\.\d+)?\s*(?:s|sec\w*|m|min\w*|h|hours?|d|days?|w|weeks?)(?![a-z])[\s,]*(?:and\s+)?)+"
IN = re.compile(rf"in\s+(?P<span>{SPAN})", re.I)
EVERY = re.compile(rf"every\s+(?P<what>day|weekday|weekend|hour|minute|week|{'|'.join(DAYS)}|{SPAN})", re.I)
ON = re.compile(rf"(?:on\s+)?(?P<day>today|tomorrow|\d{{4}}-\d\d-\d\d|{'|'.join(DAYS)})\b", re.I)
AT = re.compile(rf"\s*(?:at\s+)?{CLOCK}", re.I)
AT_ONLY = re.compile(rf"at\s+{CLOCK}", re.I)
MORNING = (9, 0)
LATE = 60.0  # seconds after which a reminder says that it is late
LONGEST_SLEEP = 60.0  # seconds, so that a clock that is set is noticed

HELP = "Write it like this: `in 20 minutes tea`, `tomorrow at 8 call Bob`, `every weekday at 9 stand-up`."


class Alarm(asyncio.Event):
    """Wakes the task that sends reminders; `ended` when another version of this file takes over."""

    ended = False


woken = Alarm()


@command
async def remind(bot, message: Message, when_and_what: str) -> str:
    """Remind you: `in 20 minutes tea`, `tomorrow at 8 …`, `every weekday at 9 …`."""
    now = datetime.now(zone(bot))
    found = read(when_and_what, now)
    if found is None:
        return f"I do not understand when. {HELP}"
    due, every, what = found
    what = re.sub(r"^(?:to|that|about)\s+", "", what.strip()) or "It is time."
    if due.timestamp() <= now.timestamp():
        return "That is in the past."
    shelf = bot.shelf("remind")
    numbers = [int(one.key) for one in await shelf.all()]
    row = {"what": what, "due": due.timestamp(), "every": every, "again": 0}
    await shelf.put(str(max(numbers, default=0) + 1), row, message.place, message.sender)
    woken.set()
    return f"{shown(due, now)}{f', and every {every}' if every else ''}: {what}"


@command
async def reminders(bot, message: Message, what: Literal["list", "drop"] = "list", number: int | None = None) -> str:
    """List your reminders here, or drop one."""
    shelf = bot.shelf("remind")
    mine = await shelf.all(message.place, message.sender)
    if what == "drop":
        if number is None or not 0 < number <= len(mine):
            return f"There is no reminder {number or ''}.".replace(" .", ".")
        await shelf.drop(mine[number - 1])
        return f"Dropped: {mine[number - 1].value['what']}"
    now = datetime.now(zone(bot))
    lines = [
        f"{place}. {shown(datetime.fromtimestamp(one.value['due'], now.tzinfo), now)}: {one.value['what']}"
        + (f" (every {one.value['every']})" if one.value["every"] else "")
        for place, one in enumerate(mine, 1)
    ]
    return "\n".join(lines) or f"You have none. {HELP}"


@hookimpl
def startup(bot) -> None:
    bot.do(deliver(bot))


@hookimpl
def shutdown(bot) -> None:
    woken.ended = True
    woken.set()


async def deliver(bot) -> None:
    """Send what is due, then sleep until the next is; whoever adds one wakes it."""
    ours = woken
    while not ours.ended:
        ours.clear()
        pause = await send_due(bot)
        try:
            async with asyncio.timeout(min(pause, LONGEST_SLEEP)):
                await ours.wait()
        except TimeoutError:
            pass


async def send_due(bot) -> float:
    """Send what is due; returns the seconds until the next is."""
    shelf = bot.shelf("remind")
    for one in await shelf.all():
        row, now = one.value, time.time()
        if row["due"] > now:
            continue
        again = row.get("again") == row["due"]
        await shelf.put(one.key, {**row, "again": row["due"]}, one.place, one.person)
        moment = datetime.fromtimestamp(row["due"], zone(bot))
        late = f" (This was due at {moment:%H:%M on %d %B}.)" if now - row["due"] > LATE else ""
        await bot.send(one.place, f"⏰ {row['what']}{late}{' (Perhaps I have told you before.)' if again else ''}")
        if row["every"]:
            due = following(row["every"], moment, datetime.fromtimestamp(now, zone(bot)))
            await shelf.put(one.key, {**row, "due": due.timestamp(), "again": 0}, one.place, one.person)
        else:
            await shelf.drop(one)
    return max(0.0, min((one.value["due"] for one in await shelf.all()), default=1e12) - time.time())


def zone(bot):
    name = bot.config.bot.timezone
    return ZoneInfo(name) if name else datetime.now().astimezone().tzinfo


def shown(due: datetime, now: datetime) -> str:
    if due.date() == now.date():
        return f"Today at {due:%H:%M}"
    if due.date() == (now + timedelta(days=1)).date():
        return f"Tomorrow at {due:%H:%M}"
    return f"{due:%A, %d %B %Y} at {due:%H:%M}"


def read(text: str, now: datetime) -> tuple[datetime, str, str] | None:
    """When, how often and what a text asks for; None when it does not say when."""
    text = text.strip()
    if match := IN.match(text):
        span = duration(match["span"])
        return (now + span, "", text[match.end() :]) if span else None
    if match := EVERY.match(text):
        return _every(match, text, now)
    if match := ON.match(text):
        at = AT.match(text, match.end())
        day = date_of(match["day"].lower(), now)
        clock = clock_of(at) if at else MORNING
        if day is None or clock is None:
            return None
        return on(day, clock), "", text[at.end() if at else match.end() :]
    if (match := AT_ONLY.match(text)) and (clock := clock_of(match)) is not None:
        due = on(now, clock)
        return due if due > now else on(now + timedelta(days=1), clock), "", text[match.end() :]
    return None


def _every(match: re.Match[str], text: str, now: datetime) -> tuple[datetime, str, str] | None:
    what, at = match["what"].strip(" ,").lower(), AT.match(text, match.end())
    named = what in DAYS or what in ("day", "weekday", "weekend", "week")
    if not named:
        what = {"hour": "1 hour", "minute": "1 minute"}.get(what, what)
        span = duration(what)
        return (now + span, what, text[match.end() :]) if span and span >= timedelta(minutes=1) else None
    clock = clock_of(at) if at else MORNING
    if clock is None:
        return None
    every = f"{what} at {clock[0]:02}:{clock[1]:02}"
    return following(every, now, now), every, text[at.end() if at else match.end() :]


def following(every: str, due: datetime, now: datetime) -> datetime:
    """The first time after `now` that `every` means. What was missed meanwhile is told once."""
    what, named, clock = every.partition(" at ")
    if not named:
        span = duration(what)
        assert span is not None
        missed = max(0, int((now - due) / span))
        return due + span * (missed + 1)
    hour, _, minute = clock.partition(":")
    day = now
    while True:
        found = on(day, (int(hour), int(minute)))
        if found > now and fits(what, found, due):
            return found
        day += timedelta(days=1)


def fits(what: str, day: datetime, due: datetime) -> bool:
    if what == "week":
        return day.weekday() == due.weekday()
    allowed = {"day": range(7), "weekday": range(5), "weekend": range(5, 7)}
    return day.weekday() in allowed[what] if what in allowed else DAYS[day.weekday()] == what


def on(day: datetime, clock: tuple[int, int]) -> datetime:
    """A day at a time of the clock on the wall, whatever that does in between."""
    return datetime(day.year, day.month, day.day, *clock, tzinfo=day.tzinfo)


def date_of(word: str, now: datetime) -> datetime | None:
    if word in ("today", "tomorrow"):
        return now + timedelta(days=word == "tomorrow")
    if word in DAYS:
        return now + timedelta(days=(DAYS.index(word) - now.weekday() - 1) % 7 + 1)
    try:
        return datetime.fromisoformat(word).replace(tzinfo=now.tzinfo)
    except ValueError:
        return None


def clock_of(match: re.Match[str]) -> tuple[int, int] | None:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"].lower() == "pm" else 0)
    return (hour, minute) if hour < 24 and minute < 60 else None


def duration(text: str) -> timedelta | None:
    try:
        return convert(text.strip(" ,"), timedelta, "the time")
    except UsageError:
        return None
