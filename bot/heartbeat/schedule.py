"""What happens again and again, under APScheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from apscheduler.schedulers.asyncio import AsyncIOScheduler

LOOK_SECONDS = 5.0
"""How often it is looked whether somebody has set the clock back."""


Jobs: TypeAlias = dict[Callable[[], Awaitable[None]], float]
"""What is called, and every how many seconds."""


@asynccontextmanager
async def scheduled(jobs: Jobs, *, look_seconds: float = LOOK_SECONDS) -> AsyncIterator[None]:
    """Make each call every so many seconds, until the end of the context.

    A call that comes late (the machine slept) is made up for once, and none is made while the last one runs.
    The experiments are no jobs of the scheduler: its end would cancel them.
    """
    scheduler = AsyncIOScheduler(timezone="UTC")
    for call, seconds in jobs.items():
        scheduler.add_job(
            call, "interval", seconds=seconds, coalesce=True, misfire_grace_time=None, max_instances=1
        )
    scheduler.start()
    looking = asyncio.create_task(_follow_clock(scheduler, look_seconds), name="schedule")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})
        scheduler.shutdown(wait=False)


async def _follow_clock(scheduler: AsyncIOScheduler, look_seconds: float) -> None:
    """Make the calls that a clock that was set back has put off; never returns.

    APScheduler goes by the wall clock: set back by three hours, it would make no call for three hours.
    """
    while True:
        await asyncio.sleep(look_seconds)
        now = datetime.now(UTC)
        for job in scheduler.get_jobs():
            if job.next_run_time > now + job.trigger.interval + timedelta(seconds=look_seconds):
                job.modify(next_run_time=now)
