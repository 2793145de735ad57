"""Jobs: a decorated function that runs at times. APScheduler keeps the times."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

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
    """What runs, and when: `cron` is a crontab line, `every` a number of seconds."""

    name: str
    function: Callable[..., Any]
    cron: str = ""
    every: float = 0.0
    plugin: str = ""

    def check(self) -> None:
        """Raises PluginError when its times cannot be read."""
        if not self.cron and not 0 < self.every <= LONGEST:
            problem = (
                f"The job '{self.name}' has every = {self.every:g}. Write seconds, more than 0 and at most {LONGEST:g}."
            )
            raise PluginError(problem)
        try:
            self.trigger()
        except ValueError as error:
            problem = f"The job '{self.name}' has cron = '{self.cron}', which is no crontab line: {error}."
            raise PluginError(problem) from error

    def trigger(self, timezone: tzinfo | None = None) -> Any:
        """When it runs, as APScheduler puts it."""
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.interval import IntervalTrigger

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


def job(*, cron: str = "", every: float = 0.0) -> Callable[[F], F]:
    """Make a function run at times: `@job(cron="0 9 * * 1-5")` or `@job(every=60)` (seconds).

    A parameter named `bot` is filled in. A run is never started while the last one goes on.
    """
    if bool(cron) == bool(every):
        raise ValueError("A job needs either cron='minute hour day month weekday' or every=seconds.")

    def mark(function: F) -> F:
        function.__roost_job__ = Job(function.__name__, function, cron, every)  # type: ignore[attr-defined]
        return function

    return mark


class Schedule:
    """Runs jobs. APScheduler is imported in a thread, after everything else: a start does not wait for it."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self._scheduler: Any = None

    async def start(self, jobs: dict[str, Job]) -> None:
        module = await asyncio.to_thread(importlib.import_module, "apscheduler.schedulers.asyncio")

        timezone = ZoneInfo(self.bot.config.bot.timezone) if self.bot.config.bot.timezone else None
        settings = {"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE}
        scheduler = module.AsyncIOScheduler(job_defaults=settings, **({"timezone": timezone} if timezone else {}))
        for name, one in jobs.items():
            scheduler.add_job(self._run, one.trigger(timezone), args=(one,), id=name)
        scheduler.start()
        self._scheduler = scheduler

    async def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def _run(self, one: Job) -> None:
        arguments = {"bot": self.bot} if "bot" in inspect.signature(one.function).parameters else {}
        try:
            if inspect.iscoroutinefunction(one.function):
                await one.function(**arguments)
            else:
                await asyncio.to_thread(one.function, **arguments)
        except (Exception, SystemExit) as error:
            log.exception("The job '%s' of plugin '%s' failed.", one.name, one.plugin)
            await self.bot.dispatch.all("on_error", bot=self.bot, error=error, message=None)
