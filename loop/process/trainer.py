"""Starts trainings, waits for them, re-attaches to them and ends them, from the bot's event loop.

Each training has a supervisor process of its own (`supervisor.py`), which outlives the bot; the training ends
with it. All that passes between the two is one job line, two signals and the files in the attempt's folder.
The environment and the command of a training are chosen here too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, assert_never

from loop.errors import UserError
from loop.experiment import Ending, Limit, Outcome
from loop.logs.capture import LOG
from loop.logs.error_line import error_line, read_failure
from loop.logs.summary import read_numbers
from loop.logs.tail import read_tail
from loop.process import supervisor as program
from loop.process.environment import training_environment
from loop.process.supervisor import end_marked
from loop.process.worker import in_thread
from loop.text import without_secrets

GRACE = 3.0  # seconds between asking a training to end and killing it
SUPERVISE = """\
import os, sys
sys.path.append(sys.argv[1].rpartition("/loop/")[0])
from loop.process import supervisor
supervisor.main()
os._exit(0)  # skips the interpreter's own clean-up: the bot waits for its end
"""
"""The supervisor, as `python -c` starts it with its file: a module is compiled once, a program each time."""

AHEAD = "ahead"  # begins the names of folders made for the next trainings
POLL = 0.1  # seconds between looks at a process where the system has no pidfd

COMPLETE = frozenset({"training_seconds", "total_seconds", "peak_vram_mb"})
"""What every summary holds beside the metric: without these it was cut off."""


MEMORY_SHARE = 0.95  # of the machine's memory: with less left, the kernel ends what it likes


def _most_memory() -> int:
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # a container's; "max" where there is none
            sizes.append(int(Path(path).read_text()))
    return int(MEMORY_SHARE * min(sizes))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a training may use; one that uses more is ended. It never writes a core dump.

    `processes` and `memory` are of its whole tree, threads not counted and shared memory counted once: a
    large honest training, 8 GPUs with 16 data loaders and 32 compile workers each, has 400 processes.
    `disk_left` is what must stay free where its folder is, or half of what was free as it began. `log` is
    how much is kept of what it prints; it may print more.
    """

    file_size: int = 64 * 2**30  # bytes of one file
    processes: int = 4096
    memory: int = field(default_factory=_most_memory)  # bytes
    disk_left: int = 2**30  # bytes
    log: int = 16 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Job:
    """One training to run; `deadline` and `grace` are in seconds.

    `folder` is the attempt's own, for its supervisor; `log` is a copy of the log for people. `wrapped` says
    that `argv` starts the program within another, which reports a signal `n` as exit status `128 + n`. One
    that `waits` is started to wait for another job; that one `goes` if it is to become that. It may use the
    `cores`; empty: all.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    log: Path
    folder: Path
    deadline: float
    grace: float = GRACE
    wrapped: bool = False
    waits: bool = False
    goes: bool = False
    cores: tuple[int, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Process:
    """A process named for good: a pid comes again, a pid with its start time does not."""

    pid: int
    started: float

    def alive(self) -> bool:
        return program.start_time(self.pid) == self.started

    async def gone(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # gone, or there is no such call here
            while self.alive():  # noqa: ASYNC110 - there is nothing that could set an event
                await asyncio.sleep(POLL)
            return
        try:
            if self.alive():  # asked after the opening, so that the descriptor is of this process
                loop, ended = asyncio.get_running_loop(), asyncio.Event()
                loop.add_reader(pidfd, ended.set)
                try:
                    await ended.wait()
                finally:
                    loop.remove_reader(pidfd)
        finally:
            os.close(pidfd)


@dataclass(frozen=True, slots=True)
class Supervisor(Process):
    """A supervisor that waits for its job on a pipe. Without one it ends when we do."""

    pipe: int

    def give(self, job: Job, mark: str) -> None:
        """Hand over the job. One that died meanwhile takes none, and its training will have vanished."""
        line = json.dumps({**asdict(job), "mark": mark}, default=str).encode()
        with suppress(BrokenPipeError), os.fdopen(self.pipe, "wb", closefd=not job.waits) as pipe:
            pipe.write(line + b"\n")

    def dismiss(self) -> None:
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)  # a child not waited for yet: the pid is surely its own
        os.waitpid(self.pid, 0)


class Trainer:
    """Starts trainings and finds those started before.

    Their error lines are cleared of `secrets`; `pattern` is SUMMARY_PATTERN.
    """

    def __init__(self, secrets: Collection[str] = (), pattern: str = "") -> None:
        self.secrets = secrets
        self.pattern = pattern

    @staticmethod
    def arm() -> Supervisor:
        """Start a supervisor, which waits for its job."""
        flags = ("-I", "-S") if sys.platform == "linux" else ("-I",)  # psutil is needed elsewhere
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            pid = os.posix_spawn(
                sys.executable,
                (sys.executable, *flags, "-c", SUPERVISE, program.__file__),
                training_environment(os.environ, {}),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, old, new) for old, new in ((read, 0), (null, 1), (null, 2))
                ],
                setsid=True,
                setsigmask=tuple(program.REQUESTS),  # held back until it can take them: none is lost
            )
        except OSError as error:
            os.close(write)
            raise UserError(f"No supervisor can be started with {sys.executable}: {error}") from error
        finally:
            os.close(read)
            os.close(null)
        started = program.start_time(pid)
        if started is None:
            os.close(write)
            _reap(pid)
            raise UserError(f"A supervisor ended as soon as it was started with {sys.executable}.")
        return Supervisor(pid, started, write)

    @staticmethod
    def start_ahead(supervisor: Supervisor, job: Job) -> None:
        """Start what waits for the job that this supervisor is given next."""
        *_, mark = marks_of(job.folder)
        supervisor.give(job, mark)

    def start(self, supervisor: Supervisor, job: Job) -> TrainingProcess:
        for name in (program.STARTED, program.OUTCOME):
            (job.folder / name).unlink(missing_ok=True)
        supervisor.give(job, mark_of(job.folder))
        return TrainingProcess(job.folder, supervisor, self.secrets, self.pattern)

    def attach(
        self, folder: Path, supervisor_pid: int | None, supervisor_started: float | None
    ) -> TrainingProcess:
        recorded = None
        if supervisor_pid is not None and supervisor_started is not None:
            recorded = Process(supervisor_pid, supervisor_started)
        # The last release put another in the place of one that died.
        return TrainingProcess(folder, recorded_supervisor(folder) or recorded, self.secrets, self.pattern)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingProcess:
    """A training under way, or one that ended while no bot was running."""

    folder: Path
    supervisor: Process | None
    secrets: Collection[str] = ()
    pattern: str = ""

    def alive(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    async def end(self, ending: Ending) -> None:
        """Ask for the training's end, as `INTERRUPTED` or as `STALLED`; `wait` returns once it has come."""
        request = signal.SIGUSR1 if ending is Ending.STALLED else signal.SIGTERM
        if self.supervisor is not None and self.supervisor.alive():
            with suppress(ProcessLookupError):
                os.kill(self.supervisor.pid, request)

    async def wait(self) -> Outcome:
        if self.supervisor is not None:
            await self.supervisor.gone()
            _reap(self.supervisor.pid)
        return await in_thread(_outcome, self.folder, self.secrets, self.pattern)


def mark_of(folder: Path) -> str:
    """Return the mark of an attempt: it tells a training nothing, and us its state directory and its attempt.

    The folder lies three levels below the state directory.
    """
    return f"{home_mark(folder.parents[2])}{_digest(folder)}"


def marks_of(folder: Path) -> tuple[str, ...]:
    """Return the marks of an attempt's processes; the second is of one that was started in the folder ahead.

    Then the folder had another name, so it is known by its place on the disk.
    """
    with suppress(OSError):  # it was deleted
        found = folder.stat()
        place = _digest(Path(f"{found.st_dev}-{found.st_ino}"))
        return mark_of(folder), f"{home_mark(folder.parents[2])}{place}"
    return (mark_of(folder),)


def home_mark(home: Path) -> str:
    """Return how the marks of all attempts in a state directory begin."""
    return f"{_digest(home)}-"


def _digest(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:16]


def _outcome(folder: Path, secrets: Collection[str], pattern: str) -> Outcome:
    """Say what a training without a supervisor left, and end what is left of it."""
    outcome = _recorded(read_json(folder / program.OUTCOME))
    if outcome is None or sys.platform != "linux":
        # Elsewhere a supervisor cannot follow one that called setsid. The last release marked by the folder.
        end_marked(*marks_of(folder), str(folder))
    log = folder / LOG
    text = read_tail(log)
    ended_well = outcome is not None and outcome.ending is Ending.EXITED and outcome.exit_code in (0, None)
    numbers, unread = {}, ""
    try:
        numbers = read_numbers(log, cut_off=not ended_well, pattern=pattern)
    except UserError as problem:
        unread = str(problem)
    if outcome is None:
        started_at = read_started(folder).get("started_at")
        if started_at is None or not text.endswith("\n") or not numbers.keys() >= COMPLETE:
            now, error = time.time(), error_line(read_tail(folder / program.ERRORS))
            return Outcome(Ending.VANISHED, None, started_at or now, now, error=error)
        outcome = Outcome(Ending.EXITED, None, started_at, log.stat().st_mtime)
    if outcome.ending is Ending.INTERRUPTED or (outcome.exit_code in (0, None) and numbers):
        return replace(outcome, numbers=numbers)
    if outcome.limit is not None:
        return replace(outcome, numbers=numbers, error=limit_line(outcome.limit, outcome))
    # What is killed by a signal says nothing either: its last line is whatever it was at.
    killed = outcome.ending in (Ending.DEADLINE, Ending.STALLED) or (outcome.exit_code or 0) < 0
    error = unread or error_line(without_secrets(read_failure(log), secrets), killed=killed)
    return replace(outcome, numbers=numbers, error=error)


def limit_line(limit: Limit, outcome: Outcome) -> str:
    used, allowed = f"{outcome.measured:,}", f"{outcome.allowed:,}"
    if limit is not Limit.PROCESSES:
        used, allowed = f"{outcome.measured / 1e9:,.1f} GB", f"{outcome.allowed / 1e9:,.1f} GB"
    match limit:
        case Limit.FILE_SIZE:
            return f"ended: a file larger than the {allowed} allowed"
        case Limit.PROCESSES:
            return f"ended: {used} processes, more than the {allowed} allowed"
        case Limit.MEMORY:
            return f"ended: {used} of memory, more than the {allowed} allowed"
        case Limit.DISK_LEFT:
            return f"ended: {used} left on the disk, less than the {allowed} required"
        case _:
            assert_never(limit)


def _recorded(record: Mapping[str, Any]) -> Outcome | None:
    match record:
        case {
            "ending": str(ending),
            "exit_code": int() | None as exit_code,
            "started_at": int() | float() as started_at,
            "ended_at": int() | float() as ended_at,
        } if ending in tuple(Ending):
            # Of the last release's supervisors there is no more than that.
            seconds, cpu_seconds = record.get("seconds"), record.get("cpu_seconds")
            outcome = Outcome(
                Ending(ending), exit_code, started_at, ended_at, seconds=seconds, cpu_seconds=cpu_seconds
            )
        case _:
            return None
    match record.get("limit"):
        case [str(limit), int(measured), int(allowed)]:
            return replace(outcome, limit=Limit(limit), measured=measured, allowed=allowed)
    return outcome


def recorded_supervisor(folder: Path) -> Process | None:
    """Return the supervisor that `started.json` names, None where it is of another boot."""
    match read_started(folder):
        case {"boot": boot, "supervisor": int(pid), "supervisor_start": int() | float() as started} if (
            boot == program.boot_id()
        ):
            return Process(pid, started)
    return None


def read_started(folder: Path) -> dict[str, Any]:
    """Return what the supervisor recorded as the training began, empty where there is nothing whole."""
    return read_json(folder / program.STARTED)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a small file says, empty where there is nothing whole."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # started by a bot before this one
        os.waitpid(pid, os.WNOHANG)
