"""Jobs: a decorated function that runs at times. APScheduler keeps the times."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from roost.bot import Bot

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("roost.jobs")

MISFIRE_GRACE = 3600  # seconds: a run missed while the machine slept is made up for within the hour, once


@dataclass(slots=True)
class Job:
    """What runs, and when: `cron` is a crontab line, `every` a number of seconds."""

    name: str
    function: Callable[..., Any]
    cron: str = ""
    every: float = 0.0
    plugin: str = ""


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
    """Runs the registered jobs. Without jobs it costs nothing: APScheduler is not even imported."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self._scheduler: Any = None

    def start(self, jobs: dict[str, Job]) -> None:
        if not jobs:
            return
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        self._scheduler = AsyncIOScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE}
        )
        for name, one in jobs.items():
            self._scheduler.add_job(self._run, self._trigger(one), args=(one,), id=name)
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def _trigger(self, one: Job) -> Any:
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.interval import IntervalTrigger

        if one.cron:
            return CronTrigger.from_crontab(one.cron)
        return IntervalTrigger(seconds=one.every)

    async def _run(self, one: Job) -> None:
        arguments = {"bot": self.bot} if "bot" in inspect.signature(one.function).parameters else {}
        try:
            if inspect.iscoroutinefunction(one.function):
                await one.function(**arguments)
            else:
                await asyncio.to_thread(one.function, **arguments)
        except Exception as error:
            log.exception("The job '%s' of plugin '%s' failed.", one.name, one.plugin)
            await self.bot.dispatch.all("on_error", bot=self.bot, error=error, message=None)
