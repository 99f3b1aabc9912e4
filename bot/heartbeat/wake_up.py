"""The wake-up: its reports when they are due, and the certification of each run in time before that."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import tzinfo

from bot.heartbeat.cron import next_after
from bot.runs import Runs
from loop.errors import UserError
from loop.evaluation.certification import begins_at, fits_night
from loop.experiment import Cause, EventKind, Run, RunState
from loop.process.worker import in_thread
from loop.store.events import Notes, has_events_after, last_event_of
from loop.store.evidence.certifications import Certifications, usual_seconds
from loop.store.journal import Journal, StoreError
from notifiers.delivery.rate_limit import Clock
from notifiers.text.words import duration

log = logging.getLogger(__name__)

LOOK_SECONDS = 20.0  # how often the time is checked: the machine may have slept, or its clock been set


@dataclass(frozen=True, slots=True, eq=False)
class Certifying:
    """Looks at the runs that go on: a gain that is not certified yet is, `minutes` before the wake-up.

    That begins earlier where `pairs` trainings of both programs take longer, but never takes more than a
    quarter of the night: then a sentence says so. `wake_up` is a cron expression.
    """

    runs: Runs
    _: KW_ONLY
    journal: Journal
    wake_up: str
    minutes: float
    pairs: int
    zone: tzinfo

    async def look(self) -> None:
        due = next_after(self.wake_up, self.journal.clock(), self.zone)
        for loop in self.runs.loops():
            engine = self.runs.engine_if_made(loop.run)
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
        for loop in self.runs.loops():
            if engine := self.runs.engine_if_made(loop.run):
                try:
                    await engine.end_certification(self.journal.clock())
                except (UserError, StoreError) as error:  # the report is made without it
                    log.warning("the certification of %s is not ended: %s", engine.run.tag, error)

    def _is_time(self, run: Run, due: float, lanes: int) -> bool:
        if any(each.until == due for each in Certifications(self.journal).of(run.id)):
            return False
        seconds = usual_seconds(self.journal, run)
        if fits_night(
            due - _last_report(self.journal, run)[1], self.minutes, seconds, lanes, least=self.pairs
        ):
            return self.journal.clock() >= begins_at(due, self.minutes, seconds, lanes, least=self.pairs)
        if self.journal.clock() >= due - 60 * self.minutes:
            trainings = f"{2 * self.pairs} trainings of {duration(seconds)}"
            reason = f"not certified before the wake-up: {trainings} take too long; /certify makes them"
            Notes(self.journal).tell(run.id, Cause.CERTIFICATION, f"{due:.0f}", reason)
        return False


@dataclass(frozen=True, slots=True, eq=False)
class WakeUp:
    """Sends wake-up reports when the cron expression is due.

    `prepare` ends what a report waits for, `beat` also calls the health check.
    """

    journal: Journal
    _: KW_ONLY
    cron: str
    zone: tzinfo
    prepare: Callable[[], Awaitable[None]]
    beat: Callable[[], Awaitable[None]]
    clock: Clock = field(default_factory=Clock)

    async def run(self) -> None:
        """Send them until cancelled, first for a time at which the bot was not running."""
        due = 0.0
        while True:
            now = self.clock.now()
            if now >= due:
                await self.ring()
                due = next_after(self.cron, now, self.zone)
            await self.clock.sleep(min(LOOK_SECONDS, max(0.0, due - self.clock.now())))

    async def ring(self) -> None:
        """Record the wake-ups that are due, then beat, so that the health check is called too."""
        try:
            await self.prepare()
            due = await in_thread(self.note)
        except StoreError:
            log.exception("the wake-up report could not be recorded")
        else:
            if due:
                await self.beat()

    def note(self) -> list[Run]:
        """Append a wake-up for each run that is due for one, and return these runs.

        A run is due once such a time has passed since its last wake-up, or since its start, and where it does
        not run only if something happened in it meanwhile.
        """
        now, due = self.clock.now(), []
        with self.journal.transaction() as append:
            for run in self.journal.runs():
                last, since = _last_report(self.journal, run)
                if next_after(self.cron, since, self.zone) > now:
                    continue
                goes_on = run.state in (RunState.RUNNING, RunState.PAUSING)
                if goes_on or has_events_after(self.journal, run.id, last):
                    append(run.id, EventKind.WAKE_UP, since=since)
                    due.append(run)
        return due


def _last_report(journal: Journal, run: Run) -> tuple[int, float]:
    """Return the event of the last wake-up of a run, or of its start, and when it was."""
    event = last_event_of(journal, run.id, (EventKind.WAKE_UP, EventKind.RUN_STARTED))
    return (event.id, event.at) if event else (0, run.created_at)
