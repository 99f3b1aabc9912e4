"""Begins the certification of each run in time before the wake-up report, and ends it when that is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import tzinfo

from bot.heartbeat.cron import next_after
from bot.runs import Runs
from loop.errors import UserError
from loop.evaluation.certification import begins_at, fits_night
from loop.experiment import Cause, EventKind, Run, RunState
from loop.process.worker import in_thread
from loop.store.events import Notes, last_event_of
from loop.store.evidence.certifications import Certifications, usual_seconds
from loop.store.journal import Journal, StoreError
from notifiers.text.words import duration

log = logging.getLogger(__name__)


class Certifying:
    """Looks at the runs that go on: a gain that is not certified yet is, `minutes` before the wake-up.

    That begins earlier where `pairs` trainings of both programs take longer, but never takes more than a
    quarter of the night: then a sentence says so. `wake_up` is a cron expression.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        journal: Journal,
        wake_up: str,
        minutes: float,
        pairs: int,
        zone: tzinfo,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._journal = journal
        self._wake_up = wake_up
        self._minutes = minutes
        self._pairs = pairs
        self._zone = zone
        self._now = now

    async def look(self) -> None:
        due = next_after(self._wake_up, self._now(), self._zone)
        for loop in self._runs.loops():
            engine = self._runs.engine_if_made(loop.run)
            if engine is None or engine.run.state is not RunState.RUNNING:
                continue
            try:
                wanted = await in_thread(engine.certifier.wanted, engine.run)
                if wanted and await in_thread(self._is_time, engine.run, due, len(engine.slots)):
                    await engine.certify(until=due)
            except (UserError, StoreError) as error:
                log.warning("run %s is not certified: %s", engine.run.tag, error)

    async def finish(self) -> None:
        """End what was to be over by now, before the report is made."""
        for loop in self._runs.loops():
            if engine := self._runs.engine_if_made(loop.run):
                try:
                    await engine.end_certification(self._now())
                except (UserError, StoreError) as error:  # the report is made without it
                    log.warning("the certification of %s is not ended: %s", engine.run.tag, error)

    def _is_time(self, run: Run, due: float, lanes: int) -> bool:
        if any(each.until == due for each in Certifications(self._journal).of(run.id)):
            return False
        seconds = usual_seconds(self._journal, run.id) or run.time_budget
        if fits_night(due - self._since(run), self._minutes, seconds, lanes, least=self._pairs):
            return self._now() >= begins_at(due, self._minutes, seconds, lanes, least=self._pairs)
        if self._now() >= due - 60 * self._minutes:
            trainings = f"{2 * self._pairs} trainings of {duration(seconds)}"
            reason = f"not certified before the wake-up: {trainings} take too long; /certify makes them"
            Notes(self._journal).tell(run.id, Cause.CERTIFICATION, f"{due:.0f}", reason)
        return False

    def _since(self, run: Run) -> float:
        event = last_event_of(self._journal, run.id, (EventKind.WAKE_UP, EventKind.RUN_STARTED))
        return event.at if event else run.created_at
