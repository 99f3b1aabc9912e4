"""The heartbeat: looks at every run and the machine, and does the smallest thing that fixes a problem.

It says nothing when all is well. `probe.py` looks, `decide.py` decides; here it is done, when
APScheduler says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import TypeAlias, assert_never

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bot.heartbeat.decide import (
    REPORTED,
    Action,
    CallOver,
    CallPerson,
    EndOrphan,
    EndTraining,
    LookAgain,
    Pause,
    Recovered,
    Restart,
    TendLane,
    Unpause,
    blocker,
    clock_lines,
    decide,
    end_training,
    lane_blocker,
    problems,
)
from bot.heartbeat.probe import Absence, Examiner, Outage
from bot.runs import LoopState, Runs
from loop.errors import UserError
from loop.experiment import EventKind, Reason, Run
from loop.lanes.protocol import Slot
from loop.machine import ClockChange, ClockWatch
from loop.process.liveness import Marked, end_orphan
from loop.process.trainer import Process
from loop.process.worker import in_thread
from loop.store.events import remind
from loop.store.journal import Journal, StoreError

log = logging.getLogger(__name__)

Jobs: TypeAlias = dict[Callable[[], Awaitable[None]], float]  # what is called, and every how many seconds
MISSED = 3  # beats in a row, after which the heartbeat is late
REMIND_SECONDS = 3600.0  # after which an unanswered call for a person is repeated once, also in quiet hours
LOOK_SECONDS = 5.0  # how often it is looked whether somebody has set the clock back
PATIENCE = 10.0  # seconds for the health check service to answer
BODY_BYTES = 10_000  # as much as healthchecks.io keeps of what is sent with a ping


async def find_blocker(examiner: Examiner, run: Run) -> Reason | None:
    vitals = await in_thread(examiner.examine, [LoopState(run)])
    return blocker(vitals.loops[0], vitals)


async def find_lane_blocker(examiner: Examiner, run: Run, slot: Slot) -> Reason | None:
    vitals = await in_thread(examiner.examine, [LoopState(run)])
    return lane_blocker(slot, vitals.loops[0], vitals)


@dataclass(eq=False)
class Heartbeat:
    """Looks after `runs`: `beat` checks everything, `watch` only what cannot wait for a beat.

    `run` beats every so many `minutes` and at once when the runs are in trouble. After each beat `report` is
    given the problems that only a person can fix. It is used from one event loop.
    """

    runs: Runs
    examiner: Examiner
    _: KW_ONLY
    journal: Journal
    minutes: float
    stall_minutes: float
    report: Callable[[Sequence[str]], Awaitable[None]]
    clock: ClockWatch = field(default_factory=ClockWatch)
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()  # one beat at a time
        self._last = self.now()
        self._next = inf  # seconds after which the last beat wants another one
        # What a beat must know of those before it:
        self._change = ClockChange()
        self._absences: Mapping[int, Absence] = {}
        self._outages: dict[int, Outage] = {}

    async def arrive(self) -> None:
        """Find out for how long each run had no bot.

        Call it once this bot's session has begun, and before the runs go on.
        """
        self._absences = await in_thread(self.examiner.absences)

    async def run(self) -> None:
        """Beat at the start, when the runs are in trouble, and when a beat wants another look soon.

        The beats in between are made by the schedule.
        """
        while True:
            self.runs.trouble.clear()
            await self.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next if self._next < inf else None):
                    await self.runs.trouble.wait()

    async def beat(self) -> None:
        async with self._lock:
            try:
                found = await self._beat()
            except Exception as error:
                log.exception("the heartbeat failed")
                found = (f"the heartbeat failed: {error}",)
            self._last = self.now()
        await self.report(found)

    async def watch(self) -> None:
        """Look for what cannot wait: a training that hangs, a machine that woke up, a moved branch."""
        self._look_at_clock()
        if self._change.slept >= REPORTED:
            await self.beat()
            return
        try:
            await self.runs.check_branches()
        except (UserError, StoreError) as error:
            log.warning("the branches of runs cannot be read: %s", error)
        async with self._lock:
            for loop in await in_thread(self.examiner.watch, self.runs.loops()):
                for action in end_training(loop, stall_minutes=self.stall_minutes):
                    await self._try(action)

    def on_time(self) -> bool:
        """Tell whether beats come; if not, something hangs."""
        return self.now() - self._last <= MISSED * 60 * self.minutes

    async def _beat(self) -> tuple[str, ...]:
        self._look_at_clock()
        vitals = await in_thread(
            self.examiner.examine,
            self.runs.loops(),
            outages=dict(self._outages),
            absences=self._absences,
            clock=self._change,
        )
        for line in clock_lines(self._change):
            log.warning("%s", line)
        self._next = inf
        for action in decide(vitals, stall_minutes=self.stall_minutes):
            await self._try(action)
        self._change, self._absences = ClockChange(), {}
        await in_thread(self._remind)
        await in_thread(self.journal.beat)
        return problems(vitals)

    def _remind(self) -> None:
        for run in self.journal.active_runs():
            remind(self.journal, run, now=time.time(), after=REMIND_SECONDS)

    def _look_at_clock(self) -> None:
        change = self.clock.look()
        self._change = ClockChange(self._change.jumped + change.jumped, self._change.slept + change.slept)

    async def _try(self, action: Action) -> None:
        try:
            await self._act(action)
        except (UserError, StoreError, OSError) as error:
            log.warning("%s failed: %s", action, error)

    async def _act(self, action: Action) -> None:
        match action:
            case Restart(run, outage):
                log.warning("run %s: restarting its loop after: %s", run.tag, outage.reason)
                self._outages[run.id] = outage
                self.runs.restart(run)
            case Recovered(run, reason, minutes):
                self._outages.pop(run.id, None)
                await self._note(run, EventKind.RUN_RECOVERED, reason=reason, minutes=round(minutes, 1))
            case EndTraining(run, folder, supervisor):
                await self._end_training(run, folder, supervisor)
            case EndOrphan(orphan):
                await in_thread(_kill, orphan)
            case Pause(run, reason):
                await self.runs.pause(run, reason)
            case Unpause(run):
                await self.runs.unpause(run)
            case TendLane(run, lane, reason):
                await self.runs.tend_lane(run, lane, reason)
            case CallPerson() | CallOver():
                await self._call(action)
            case LookAgain(seconds):
                self._next = min(self._next, seconds)
            case _:
                assert_never(action)

    async def _call(self, action: CallPerson | CallOver) -> None:
        about = {"cause": action.cause, "key": action.key}
        if isinstance(action, CallOver):
            await self._note(action.run, EventKind.RESOLVED, **about)
        else:
            told = {"reason": action.text, "halted": action.halted}
            await self._note(action.run, EventKind.NEEDS_ATTENTION, **about, **told)

    async def _end_training(self, run: Run, folder: Path, supervisor: Process | None) -> None:
        if supervisor is None:
            log.warning("run %s: the training in %s hangs", run.tag, folder)
            engine = await in_thread(self.runs.engine, run)
            await engine.end_stalled(folder)
        elif supervisor.alive():
            log.warning("killing supervisor %d, which missed its deadline", supervisor.pid)
            os.kill(supervisor.pid, signal.SIGKILL)

    async def _note(self, run: Run, kind: EventKind, **data: object) -> None:
        await in_thread(self.journal.note, run.id, kind, **data)


def _kill(orphan: Marked) -> None:
    if end_orphan(orphan):
        log.warning("killed pid %d, left over from a training that has ended", orphan.process.pid)


async def ping(url: str, problems: Sequence[str], *, patience: float = PATIENCE) -> None:
    """Call `url`, unless it is empty, as healthchecks.io wants it: as failed if there are problems.

    An error is only logged, and without the URL, which is a secret.
    """
    import aiohttp

    if not url:
        return
    base, mark, query = url.partition("?")
    address = f"{base.rstrip('/')}{'/fail' if problems else ''}{mark}{query}"
    data = "\n".join(problems).encode(errors="replace")[:BODY_BYTES]
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience), trust_env=True) as session,
            session.request("POST" if data else "GET", address, data=data or None) as response,
        ):
            if not response.ok:
                log.warning("HEALTHCHECK_URL answered with status %d", response.status)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        log.warning("HEALTHCHECK_URL cannot be reached (%s)", type(error).__name__)


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
