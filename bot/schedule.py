"""What happens again and again, under APScheduler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from apscheduler.schedulers.asyncio import AsyncIOScheduler


def schedule(jobs: Mapping[Callable[[], Awaitable[None] | None], float]) -> AsyncIOScheduler:
    """Return a scheduler, not yet started, that makes each call every so many seconds.

    A call that comes late (the machine slept) is made up for once, and none is made while the last one runs.
    The experiments are no jobs of the scheduler: its end would cancel them.
    """
    scheduler = AsyncIOScheduler(timezone="UTC")
    for call, seconds in jobs.items():
        scheduler.add_job(
            call, "interval", seconds=seconds, coalesce=True, misfire_grace_time=None, max_instances=1
        )
    return scheduler
