"""What a heartbeat looks at: the loops, their trainings, the GPUs, the disks and the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bot.runs import LoopState
from loop.experiment import Cause, Run, Stage
from loop.folders import RunFolders, worktree
from loop.machine import ClockChange, Disk, GpuProcess, GpuState, cannot_write, disks, look_at_gpus
from loop.process.liveness import (
    AFTER_SUMMARY,
    Marked,
    Owner,
    Quiet,
    find_marked,
    is_measured,
    is_overdue,
    orphans,
    owner,
    sample,
    supervisor_of,
    watch,
)
from loop.process.supervisor import OUTCOME
from loop.process.trainer import Process
from loop.store.events import WATCHED, Sessions, open_calls
from loop.store.evidence.repeats import trainings_under_way
from loop.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Outage:
    """A loop that first ended at `since`, the last time with `reason`, and was restarted so many times."""

    since: float
    reason: str
    restarts: int
    restarted_at: float


@dataclass(frozen=True, slots=True)
class Absence:
    """For how many seconds a run had no bot before this one began, at most; and why."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingVitals:
    """A training under way in a lane, and its supervisor if that should have ended it long ago.

    `measured` says whether it has printed its number; it is looked at only where the training is quiet.
    `over` says whether it has ended and its run has only to record that.
    """

    folder: Path
    quiet: Quiet
    measured: bool = False
    over: bool = False
    overdue_supervisor: Process | None = None
    lane: int = 0


@dataclass(frozen=True, slots=True)
class LoopVitals(LoopState):
    """What else a beat finds out about a run and the loop that conducts it.

    `needed_mb` is the GPU memory that its trainings take at least, in MiB, None if unknown. `called` are the
    causes and keys of the open calls for a person, by a heartbeat of this bot or one before it.
    """

    outage: Outage | None = None
    absence: Absence | None = None
    trainings: tuple[TrainingVitals, ...] = ()
    needed_mb: float | None = None
    called: frozenset[tuple[Cause, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything that one beat looked at.

    `gpus` is None if unknown; `had_gpu` says whether there was one before. `holders` are the processes on the
    GPUs with their owners. `unwritable` says why the state file cannot be written.
    """

    at: float
    loops: tuple[LoopVitals, ...]
    disks: tuple[Disk, ...] = ()
    unwritable: str = ""
    gpus: GpuState | None = None
    had_gpu: bool = False
    holders: tuple[tuple[GpuProcess, Owner], ...] = ()
    orphans: tuple[Marked, ...] = ()
    clock: ClockChange | None = None


@dataclass(eq=False, kw_only=True)
class Examiner:
    """Looks, and remembers what it saw. Its methods block: call them in a worker thread.

    `home` is the state directory, `devices` the CUDA_VISIBLE_DEVICES of trainings, `now` a monotonic clock.
    """

    journal: Journal
    home: Path
    devices: str | None
    pattern: str = ""  # SUMMARY_PATTERN
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()  # of what it remembers
        self._quiet: dict[Path, Quiet] = {}
        self._had_gpu = False

    def examine(
        self,
        states: Sequence[LoopState],
        *,
        outages: Mapping[int, Outage] = MappingProxyType({}),
        absences: Mapping[int, Absence] = MappingProxyType({}),
        clock: ClockChange | None = None,
    ) -> Vitals:
        with self._lock:
            gpus = self._look_at_gpus()
            self._had_gpu = self._had_gpu or bool(gpus and gpus.gpus)
            marked = find_marked(self.home)
            attempts = self._attempts()  # after `marked`, as `orphans` says
            known = (folder for folders in attempts.values() for folder in folders)
            current: Collection[Path] = {*known, *self._evaluated()}
            quiet = self._watch(states, attempts, lambda: gpus)
            return Vitals(
                at=self.now(),
                loops=tuple(
                    LoopVitals(
                        state.run,
                        ended=state.ended,
                        outage=outages.get(state.run.id),
                        absence=absences.get(state.run.id),
                        trainings=quiet.get(state.run.id, ()),
                        needed_mb=self._needed_mb(state.run),
                        failure=state.failure,
                        lanes=state.lanes,
                        called=self._called(state.run),
                    )
                    for state in states
                ),
                disks=disks(self.home, *(state.run.repository for state in states)),
                unwritable=cannot_write(self.journal.path),
                gpus=gpus,
                had_gpu=self._had_gpu,
                holders=tuple((p, owner(p.pid, marked, current)) for p in (gpus.processes if gpus else ())),
                orphans=orphans(marked, current),
                clock=clock,
            )

    def watch(self, states: Sequence[LoopState]) -> tuple[LoopVitals, ...]:
        with self._lock:
            watched = self._watch(states, self._attempts(), self._look_at_gpus)
        return tuple(LoopVitals(state.run, trainings=watched.get(state.run.id, ())) for state in states)

    def absences(self) -> dict[int, Absence]:
        """Return for how long each active run had no bot, if the bot before this one was killed.

        The newest session must be this bot's. A training that went on without a bot lost no time.
        """
        sessions = Sessions(self.journal).all()[-2:]
        if len(sessions) < 2 or sessions[0].ended_at is not None:
            return {}
        before, own = sessions
        who = "the bot" if before.boot == own.boot else "the machine"
        return {
            run.id: Absence(own.started_at - max(before.seen_at, self._last_word(run)), f"{who} was down")
            for run in self.journal.active_runs()
        }

    def _watch(
        self,
        states: Sequence[LoopState],
        attempts: Mapping[int, Mapping[Path, int]],
        gpus: Callable[[], GpuState | None],
    ) -> dict[int, tuple[TrainingVitals, ...]]:
        found: dict[int, tuple[TrainingVitals, ...]] = {}
        each = ((s.run, *item) for s in states for item in attempts.get(s.run.id, {}).items())
        for run, folder, lane in each:
            before = self._quiet.get(folder)
            quiet = watch(before, sample(folder, now=self.now))
            if quiet.seconds:  # asking for the GPU starts a process: only where nothing else shows life
                quiet = watch(before, sample(folder, gpus(), now=self.now))
            overdue = supervisor_of(folder) if is_overdue(folder, now=self.now) else None
            measured = quiet.seconds >= AFTER_SUMMARY and is_measured(folder, run.metric, self.pattern)
            over = (folder / OUTCOME).exists()
            training = TrainingVitals(folder, quiet, measured, over, overdue, lane)
            found[run.id] = (*found.get(run.id, ()), training)
        known = self._quiet | {one.folder: one.quiet for several in found.values() for one in several}
        current = (folder for folders in attempts.values() for folder in folders)
        self._quiet = {folder: known[folder] for folder in current if folder in known}
        return found

    def _attempts(self) -> dict[int, dict[Path, int]]:
        """Return the folders of the trainings under way, with their lanes, by run."""
        found = {}
        for run in self.journal.runs():
            folders, under_way = RunFolders(self.home, run.id), trainings_under_way(self.journal, run.id)
            found[run.id] = {folders.attempt(number, each.k): lane for number, each, lane in under_way}
        return found

    def _evaluated(self) -> Iterator[Path]:
        """Yield the attempts whose models may be under evaluation."""
        for run in self.journal.active_runs():
            for experiment in self.journal.undecided(run.id):
                if experiment.stage is Stage.MEASURED:
                    yield RunFolders(self.home, run.id).attempt(experiment.number, experiment.attempt)

    def _look_at_gpus(self) -> GpuState | None:
        gpus = look_at_gpus()
        return gpus.of(self.devices) if gpus else None

    def _needed_mb(self, run: Run) -> float | None:
        best = self.journal.best(run.id)
        return best.numbers.get("peak_vram_mb") if best else None

    def _called(self, run: Run) -> frozenset[tuple[Cause, str]]:
        calls = open_calls(self.journal, run)
        return frozenset((call.cause, call.key) for call in calls if call.cause in WATCHED)

    def _last_word(self, run: Run) -> float:
        try:
            return (worktree(self.home, run.tag) / "run.log").stat().st_mtime
        except FileNotFoundError:
            return 0.0
