"""What one heartbeat found, as data. Times are seconds of the monotonic clock, which sleep does not move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop.engine.prefetch import Dearth
from loop.experiment import Cause, Run
from loop.process.gpu import GpuProcess, GpuState
from loop.process.liveness import Quiet
from loop.process.machine import ClockChange, Disk
from loop.process.ownership import Marked, Owner
from loop.process.trainer import Process


@dataclass(frozen=True, slots=True)
class Ended:
    """When a loop that should go on ended, and with what."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A loop that first ended at `since` and was started again `resumes` times, the last at `resumed_at`.

    `reason` is what it ended with the last time.
    """

    since: float
    reason: str
    resumes: int
    resumed_at: float


@dataclass(frozen=True, slots=True)
class Absence:
    """For how many seconds nobody looked after a run before this bot began, at most; and why."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingVitals:
    """The training under way, and its supervisor if that should have ended it long ago.

    `measured` says whether it has printed its number; it is looked at only where the training is quiet.
    """

    folder: Path
    quiet: Quiet
    measured: bool = False
    overdue_supervisor: Process | None = None


@dataclass(frozen=True, slots=True)
class LoopVitals:
    """One run and the loop that conducts it.

    `ended` is None while the loop lives, `dearth` while its proposer works. `needed_mb` is the GPU
    memory that its trainings take at least, in MiB, None where that is not known. `called` are the causes and
    keys of what a heartbeat, of this bot or one before it, called a person for and is not over.
    """

    run: Run
    ended: Ended | None = None
    outage: Outage | None = None
    absence: Absence | None = None
    training: TrainingVitals | None = None
    needed_mb: float | None = None
    dearth: Dearth | None = None
    called: frozenset[tuple[Cause, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything that one beat looked at.

    `gpus` is None where nobody can tell; `had_gpu` says whether there was one before. `holders` are the
    processes on the GPUs, with whose they are. `unwritable` says why the state file cannot be written.
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
