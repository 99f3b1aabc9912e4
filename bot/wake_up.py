"""The wake-up: decides when people are to be told what a night brought, and notes it down once.

Whether the bot was there at that time or comes later does not matter: what counts is the last wake-up in the
journal. How and when each channel is told is up to its delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import tzinfo

from bot.setup.cron import next_after
from loop.experiment import EventKind, Run, RunState
from loop.process.threads import in_thread
from loop.store.events import has_events_after, last_event_of
from loop.store.journal import Journal, StoreError
from notifiers.clock import Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 20.0
"""How often the time is looked at, whatever was slept through or set."""


class WakeUp:
    """Wakes people when the cron expression comes true; `beat` also calls the health check."""

    def __init__(
        self,
        journal: Journal,
        *,
        cron: str,
        zone: tzinfo,
        beat: Callable[[], Awaitable[None]],
        clock: Clock | None = None,
    ) -> None:
        self._journal = journal
        self._cron = cron
        self._zone = zone
        self._beat = beat
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Wake people for ever, for a time that nobody was there at first; end it by cancelling."""
        due = 0.0
        while True:
            now = self._clock.now()
            if now >= due:
                await self.ring()
                due = next_after(self._cron, now, self._zone)
            await self._clock.sleep(min(LOOK_SECONDS, max(0.0, due - self._clock.now())))

    async def ring(self) -> None:
        """Note down the wake-ups that are due, then beat, so that the outside world hears of them too."""
        try:
            due = await in_thread(self.note)
        except StoreError:
            log.exception("nobody could be woken up")
        else:
            if due:
                await self._beat()

    def note(self) -> list[Run]:
        """Append a wake-up for each run that is due for one, and return these runs.

        A run is due once such a time has passed since its last wake-up, or since its start. One that rests
        or has ended is told of only if something happened in it meanwhile.
        """
        now, due = self._clock.now(), []
        with self._journal.transaction() as append:
            for run in self._journal.runs():
                last, since = self._last(run)
                if next_after(self._cron, since, self._zone) <= now and self._is_news(run, last):
                    append(run.id, EventKind.WAKE_UP, since=since)
                    due.append(run)
        return due

    def _last(self, run: Run) -> tuple[int, float]:
        """Return id and time of the run's last wake-up, of its start where there was none."""
        event = last_event_of(self._journal, run.id, (EventKind.WAKE_UP, EventKind.RUN_STARTED))
        return (event.id, event.at) if event else (0, run.created_at)

    def _is_news(self, run: Run, last: int) -> bool:
        if run.state in (RunState.RUNNING, RunState.PAUSING):
            return True
        return has_events_after(self._journal, run.id, last)
