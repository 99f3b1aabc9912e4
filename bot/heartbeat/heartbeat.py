"""The heartbeat: looks at every run and its machine, and does the smallest thing that mends what is wrong.

It says nothing when all is well. `probe.py` looks, `decide.py` decides; here it is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from bot.heartbeat.decide import (
    WORTH_TELLING,
    Action,
    AskPerson,
    CallOver,
    EndOrphan,
    EndStalled,
    EndSupervisor,
    LogNote,
    LookAgain,
    OfMachine,
    OfRun,
    Pause,
    Recovered,
    Resume,
    Unpause,
    blocker,
    decide,
    mend_training,
    troubles,
)
from bot.heartbeat.probe import Absence, Examiner, LoopState, LoopVitals, Outage, Trainings, Vitals
from loop.errors import UserError
from loop.experiment import EventKind, Reason, Run
from loop.process.liveness import end_orphan
from loop.process.machine import ClockChange, ClockWatch
from loop.process.worker import in_thread
from loop.store.journal import Journal, StoreError

log = logging.getLogger(__name__)

MISSED = 3
"""The heartbeat is not on time when so many beats in a row are missing."""


class Runs(Trainings, Protocol):
    """Whoever keeps the loops; these are called in the event loop."""

    def loops(self) -> Sequence[LoopState]:
        """Return the runs that should be conducted."""

    def resume(self, run: Run) -> None:
        """Start the loop of a run whose task has ended."""

    async def end_stalled(self, run: Run, folder: Path) -> None:
        """End the training as stalled, if it is still the one of that attempt."""

    async def pause(self, run: Run, reason: Reason) -> None:
        """Pause the run after the experiment under way."""

    async def unpause(self, run: Run) -> None:
        """Let a run go on that the heartbeat paused, and start its loop if it has ended."""


class Heartbeat:
    """Beats when it is called: `beat` every so many `minutes`, `watch` every few seconds in between.

    It is used from one event loop. After each beat `outside` is told the troubles that only a person can
    mend, most often none.
    """

    def __init__(
        self,
        host: Runs,
        *,
        journal: Journal,
        home: Path,
        minutes: float,
        stall_minutes: float,
        devices: str | None,
        outside: Callable[[Sequence[str]], Awaitable[None]],
        clock: ClockWatch | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._journal = journal
        self._examiner = Examiner(host, journal=journal, home=home, devices=devices, now=now)
        self._minutes = minutes
        self._stall_minutes = stall_minutes
        self._outside = outside
        self._clock = clock or ClockWatch()
        self._now = now
        self._lock = asyncio.Lock()  # one beat at a time
        self._timer: asyncio.TimerHandle | None = None
        self._extra: set[asyncio.Task[None]] = set()  # beats that `soon` began
        self._last = now()
        # What a beat must know of those before it:
        self._change = ClockChange()
        self._absences: Mapping[int, Absence] = {}
        self._outages: dict[int, Outage] = {}
        self._over: dict[int, Path | None] = {}  # trainings that ended, which the journal may not know yet

    async def arrive(self) -> None:
        """Find out for how long nobody looked after each run.

        Call it once this bot's session has begun, and before the runs are set going.
        """
        self._absences = await in_thread(self._examiner.absences)

    async def beat(self) -> None:
        """Look at everything and mend what is wrong."""
        await self._beat_once()

    async def hinders(self, run: Run) -> bool:
        """Beat now, the run's training having ended; say whether something is in the way of another.

        The run then pauses.
        """
        attempts = await in_thread(self._host.attempts)
        self._over[run.id] = attempts.get(run.id)
        return run.id in await self._beat_once()

    async def _beat_once(self) -> frozenset[int]:
        """Beat, and return the ids of the runs that something is in the way of."""
        blocked: frozenset[int] = frozenset()
        async with self._lock:
            try:
                vitals = await self._beat()
                found = troubles(vitals)
                blocked = frozenset(loop.run.id for loop in vitals.loops if blocker(loop, vitals) is not None)
            except (UserError, StoreError, OSError) as error:
                log.exception("the heartbeat failed")
                found = (f"the heartbeat failed: {error}",)
            self._last = self._now()
        await self._outside(found)
        return blocked

    async def watch(self) -> None:
        """Look only for what cannot wait for a beat: a training that hangs, a machine that woke up."""
        self._look_at_clock()
        if self._change.slept >= WORTH_TELLING:
            await self.beat()
            return
        async with self._lock:
            for loop in await in_thread(self._examiner.watch, self._host.loops()):
                for action in mend_training(loop, stall_minutes=self._stall_minutes):
                    await self._try(action)

    def soon(self, seconds: float) -> None:
        """Beat after so many seconds, unless that is going to happen before."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._beat_now)

    def on_time(self) -> bool:
        """Say whether beats come; if not, something hangs."""
        return self._now() - self._last <= MISSED * 60 * self._minutes

    async def close(self) -> None:
        """Give up the beats that `soon` asked for, and wait for one that was cancelled to let go."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._extra:
            task.cancel()
        if self._extra:
            await asyncio.wait(self._extra)
        async with self._lock:
            pass

    def _beat_now(self) -> None:
        self._timer = None
        task = asyncio.create_task(self.beat(), name="extra heartbeat")
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)

    async def _beat(self) -> Vitals:
        self._look_at_clock()
        vitals = await in_thread(
            self._examiner.examine,
            self._host.loops(),
            outages=dict(self._outages),
            absences=self._absences,
            clock=self._change,
        )
        vitals = replace(vitals, loops=tuple(map(self._without_ended, vitals.loops)))
        for action in decide(vitals, stall_minutes=self._stall_minutes):
            await self._try(action)
        self._change, self._absences = ClockChange(), {}
        await in_thread(self._journal.beat)
        return vitals

    def _without_ended(self, loop: LoopVitals) -> LoopVitals:
        over = self._over.get(loop.run.id)
        ended = loop.training is not None and loop.training.folder == over
        return replace(loop, training=None) if ended else loop

    def _look_at_clock(self) -> None:
        change = self._clock.look()
        self._change = ClockChange(self._change.jumped + change.jumped, self._change.slept + change.slept)

    async def _try(self, action: Action) -> bool:
        try:
            if isinstance(action, OfRun):
                await self._do_for_run(action)
            else:
                await self._do_on_machine(action)
        except (UserError, StoreError, OSError) as error:
            log.warning("%s could not be done: %s", action, error)
            return False
        return True

    async def _do_for_run(self, action: OfRun) -> None:
        match action:
            case Resume(run, outage):
                log.warning("run %s: starting its loop again after: %s", run.tag, outage.reason)
                self._outages[run.id] = outage
                self._host.resume(run)
            case Recovered(run, reason, minutes):
                self._outages.pop(run.id, None)
                await self._note(run, EventKind.RUN_RECOVERED, reason=reason, minutes=round(minutes, 1))
            case EndStalled(run, folder):
                log.warning("run %s: the training in %s hangs", run.tag, folder)
                await self._host.end_stalled(run, folder)
            case Pause(run, reason):
                await self._host.pause(run, reason)
            case Unpause(run):
                await self._host.unpause(run)
            case AskPerson(run, cause, key, _, halted):
                told = {"cause": cause, "key": key, "reason": action.text, "halted": halted}
                await self._note(run, EventKind.NEEDS_ATTENTION, **told)
            case CallOver(run, cause, key):
                await self._note(run, EventKind.RESOLVED, cause=cause, key=key)

    async def _do_on_machine(self, action: OfMachine) -> None:
        match action:
            case EndSupervisor(supervisor):
                if supervisor.alive():
                    log.warning("ending supervisor %d, which let its deadline pass", supervisor.pid)
                    os.kill(supervisor.pid, signal.SIGKILL)
            case EndOrphan(orphan):
                if await in_thread(end_orphan, orphan):
                    log.warning("ended what was left of the training in %s", orphan.folder)
            case LogNote(text):
                log.warning("%s", text)
            case LookAgain(seconds):
                self.soon(seconds)

    async def _note(self, run: Run, kind: EventKind, **data: object) -> None:
        await in_thread(self._journal.note, run.id, kind, **data)


State: TypeAlias = Literal["success", "start", "fail"]

PATIENCE = 10.0
"""Seconds for the service to answer."""

BODY_BYTES = 10_000
"""As much as healthchecks.io keeps of what is said with a ping."""

_PATHS: dict[State, str] = {"success": "", "start": "/start", "fail": "/fail"}


async def ping(url: str, *, state: State = "success", body: str = "", patience: float = PATIENCE) -> None:
    """Call `url` as healthchecks.io wants it, within `patience` seconds.

    A failure is only logged, and without the URL, which is a secret.
    """
    import aiohttp

    base, mark, query = url.partition("?")
    address = f"{base.rstrip('/')}{_PATHS[state]}{mark}{query}"
    limit = aiohttp.ClientTimeout(total=patience)
    data = body.encode(errors="replace")[:BODY_BYTES]
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
            session.request("POST" if data else "GET", address, data=data or None) as response,
        ):
            if not response.ok:
                log.warning("the health check service answered with status %d", response.status)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        log.warning("the health check service cannot be told anything (%s)", type(error).__name__)


async def report(url: str, troubles: Sequence[str]) -> None:
    """Tell what a heartbeat found: `troubles` only a person can mend. An empty `url` is nobody to tell."""
    if url:
        await ping(url, state="fail" if troubles else "success", body="\n".join(troubles))
