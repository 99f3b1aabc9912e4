"""The heartbeat, under APScheduler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler


def heartbeat(beat: Callable[[], Awaitable[None]], *, minutes: float) -> AsyncIOScheduler:
    """Return a scheduler, not yet started, that calls `beat` every so many minutes.

    A beat that comes late (the machine slept) is made up for once. The experiments are no jobs of the
    scheduler: its end would cancel them.
    """
    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(
        beat,
        "interval",
        minutes=minutes,
        id="heartbeat",
        coalesce=True,
        misfire_grace_time=None,
        max_instances=1,
    )
    return scheduler
