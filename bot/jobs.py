"""Jobs: a decorated function that runs at times. APScheduler keeps the times."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from roost.aside import aside
from roost.errors import PluginError

if TYPE_CHECKING:
    from roost.bot import Bot

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("roost.jobs")

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST = 366 * 86400.0  # seconds between two runs
MISFIRE_GRACE = 3600  # seconds: a run missed while the machine slept is made up for within the hour, once


@dataclass(slots=True)
class Job:
    """What runs, and when: `cron` is a crontab line, `every` a number of seconds, `at` one moment (ISO 8601)."""

    name: str
    function: Callable[..., Any]
    cron: str = ""
    every: float = 0.0
    at: str = ""
    plugin: str = ""

    def check(self) -> None:
        """Raises PluginError when its times cannot be read."""
        if not self.cron and not self.at and not 0 < self.every <= LONGEST:
            problem = (
                f"The job '{self.name}' has every = {self.every:g}. Write seconds, more than 0 and at most {LONGEST:g}."
            )
            raise PluginError(problem)
        try:
            self.trigger()
        except ValueError as error:
            given = (
                f"at = '{self.at}', which is no date and time"
                if self.at
                else f"cron = '{self.cron}', which is no crontab line"
            )
            problem = f"The job '{self.name}' has {given}: {error}."
            raise PluginError(problem) from error

    def trigger(self, timezone: tzinfo | None = None) -> Any:
        """When it runs, as APScheduler puts it."""
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.date import DateTrigger
        from apscheduler.triggers.interval import IntervalTrigger

        if self.at:
            return DateTrigger(datetime.fromisoformat(self.at), timezone)
        if self.cron:
            return CronTrigger.from_crontab(named_days(self.cron), timezone)
        return IntervalTrigger(seconds=self.every, timezone=timezone)


def named_days(cron: str) -> str:
    """A crontab line with its weekdays by name: crontab counts from Sunday, APScheduler from Monday.

    Raises ValueError for what is no weekday.
    """
    *others, days = cron.lower().split() or [""]
    return " ".join([*others, ",".join(_day_names(part) for part in days.split(","))])


def _day_names(part: str) -> str:
    """The days of `*`, `2`, `1-5`, `mon-fri/2` or `*/2`, one by one."""
    if part == "*":
        return part
    span, slash, step = part.partition("/")
    first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
    begin = _day(first)
    end = _day(last) if dash else 6 if slash else begin
    end = 7 if last == "sun" and begin else end  # a week may end with it
    if end < begin:
        raise ValueError(f"'{part}' ends before it begins")
    return ",".join(DAYS[number % 7] for number in range(begin, end + 1, int(step) if slash else 1))


def _day(word: str) -> int:
    if word in DAYS:
        return DAYS.index(word)
    if len(word) == 1 and word in "01234567":
        return int(word)
    raise ValueError(f"'{word}' is no weekday")


def job(*, cron: str = "", every: float = 0.0, at: str = "") -> Callable[[F], F]:
    """Make a function run at times: `@job(cron="0 9 * * 1-5")`, `@job(every=60)` (seconds), or once:
    `@job(at="2027-01-01 00:00")`, in the time zone of [bot] unless it names one.

    A parameter named `bot` is filled in. A run is never started while the last one goes on.
    """
    if sum(map(bool, (cron, every, at))) != 1:
        raise ValueError(
            "A job needs one of cron='minute hour day month weekday', every=seconds or at='2027-01-01 00:00'."
        )

    def mark(function: F) -> F:
        function.__roost_job__ = Job(function.__name__, function, cron, every, at)  # type: ignore[attr-defined]
        return function

    return mark


class Schedule:
    """Runs jobs. APScheduler is imported in a thread, after everything else: a start does not wait for it."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self._scheduler: Any = None
        self._timezone: tzinfo | None = None

    async def start(self, own: dict[str, Job]) -> None:
        """Run the jobs of all plugins and those of the bot's own."""
        module = await asyncio.to_thread(importlib.import_module, "apscheduler.schedulers.asyncio")

        timezone = ZoneInfo(self.bot.config.bot.timezone) if self.bot.config.bot.timezone else None
        settings = {"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE}
        scheduler = module.AsyncIOScheduler(job_defaults=settings, **({"timezone": timezone} if timezone else {}))
        self._scheduler, self._timezone = scheduler, timezone
        for name, one in {**own, **self.bot.registry.jobs}.items():
            self._add(name, one)
        scheduler.start()

    def _add(self, name: str, one: Job) -> None:
        self._scheduler.add_job(self._run, one.trigger(self._timezone), args=(one,), id=name)

    def change(self, plugin: str) -> None:
        """Run the jobs that a plugin has now, in place of those it had. A run that has begun goes on."""
        if self._scheduler is None:
            return  # they are read when it starts
        for known in self._scheduler.get_jobs():
            if known.args[0].plugin == plugin:
                known.remove()
        for name, one in self.bot.registry.jobs.items():
            if one.plugin == plugin:
                self._add(name, one)

    async def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def _run(self, one: Job) -> None:
        arguments = {"bot": self.bot} if "bot" in inspect.signature(one.function).parameters else {}
        try:
            with self.bot.dispatch.watch.of(one.plugin):
                if inspect.iscoroutinefunction(one.function):
                    await one.function(**arguments)
                else:
                    await aside(partial(one.function, **arguments))
        except (Exception, SystemExit) as error:
            log.exception("The job '%s' of plugin '%s' failed.", one.name, one.plugin)
            await self.bot.dispatch.all("on_error", bot=self.bot, error=error, message=None)
