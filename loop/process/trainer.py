"""Starts trainings, waits for them, re-attaches to them and ends them, from the bot's event loop.

Each training has a supervisor process of its own (`supervisor.py`), which outlives the bot. All that
passes between the two is one job line, two signals and the files in the attempt's folder. The environment and
the command of a training are chosen here too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loop.errors import UserError
from loop.experiment import Ending, Outcome
from loop.process import supervisor as program
from loop.process.error_line import error_line
from loop.process.log import read_tail
from loop.process.summary import read_numbers
from loop.process.worker import in_thread
from loop.text import is_secret, without_secrets

_ALLOWED = re.compile(
    r"""
    PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | LC_\w+ | TZ | TMPDIR
    | XDG_(?:CACHE|DATA|CONFIG)_HOME | AUTORESEARCH_CACHE
    | (?:LD|DYLD)_LIBRARY_PATH | LIBRARY_PATH | CPATH | CC | CXX                    # torch.compile compiles
    | (?:CUDA|NVIDIA|NCCL|CUDNN|CUBLAS|HIP|ROCR|ROCM|HSA|MIOPEN|AMD)_\w+
    | (?:OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|RAYON)_\w+ | TOKENIZERS_PARALLELISM
    | TORCH\w* | PYTORCH_\w+ | TRITON_\w+
    | HF_HOME | HF_HUB_(?:CACHE|OFFLINE) | HF_DATASETS_\w+ | TIKTOKEN_CACHE_DIR
    | UV_\w+ | VIRTUAL_ENV | CONDA_(?:PREFIX|DEFAULT_ENV)
    | (?i:(?:https?|all|no)_proxy) | SSL_CERT_(?:FILE|DIR) | REQUESTS_CA_BUNDLE     # uv may fetch packages
    """,
    re.VERBOSE,
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

_PREPARE = "prepare.py"
PROXIES = (*_PROXIES, *map(str.lower, _PROXIES))  # how the network is reached; one may want a login


def training_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Choose from `environ` what a training needs and add `extra`, without what looks like a secret."""
    wanted = {name: value for name, value in environ.items() if _ALLOWED.fullmatch(name)} | dict(extra)
    chosen = {
        name: value
        for name, value in wanted.items()
        if not is_secret(name) and without_secrets(value) == value
    }
    chosen["PYTHONUNBUFFERED"] = "1"  # progress and the last words of a killed training reach the log
    return chosen


def launch_command(worktree: Path, override: tuple[str, ...], editable: str = "train.py") -> tuple[str, ...]:
    """Return `override` (TRAIN_COMMAND), or `uv run` where uv and a `uv.lock` are, or the bot's Python."""
    if override:
        return override
    if (worktree / "uv.lock").is_file() and shutil.which("uv"):
        return ("uv", "run", editable)
    return (sys.executable, editable)


def prepare_line(repository: Path, override: tuple[str, ...] = (), editable: str = "train.py") -> str:
    """Return what to type to prepare the data, with the Python that trains."""
    command = launch_command(repository, override, editable)
    words = [_PREPARE if word == editable else word for word in command]
    known = words if _PREPARE in words else ["python", _PREPARE]
    return f"cd {shlex.quote(str(repository))} && {shlex.join(known)}"


GRACE = 3.0  # seconds between asking a training to end and killing it
POLL = 0.1  # seconds between looks at a process where the system has no pidfd
SWEEP = 5.0  # seconds to go on killing what is left of a training without a supervisor

COMPLETE = frozenset({"training_seconds", "total_seconds", "peak_vram_mb"})
"""What every summary holds beside the metric: without these it was cut off."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training to run. `folder` is the attempt's own; `deadline` and `grace` are in seconds."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    log: Path
    folder: Path
    deadline: float
    grace: float = GRACE


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

    def give(self, job: Mapping[str, object]) -> None:
        """Hand over the job. One that died meanwhile takes none, and its training will have vanished."""
        with suppress(BrokenPipeError), os.fdopen(self.pipe, "wb") as pipe:
            pipe.write(json.dumps(job, default=str).encode() + b"\n")

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
                (sys.executable, *flags, program.__file__),
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

    def start(self, supervisor: Supervisor, job: Job) -> TrainingProcess:
        for name in (program.STARTED, program.OUTCOME):
            (job.folder / name).unlink(missing_ok=True)
        supervisor.give(asdict(job))
        return TrainingProcess(job.folder, job.log, supervisor, self.secrets, self.pattern)

    def attach(
        self, folder: Path, log: Path, supervisor_pid: int | None, supervisor_started: float | None
    ) -> TrainingProcess:
        recorded = None
        if supervisor_pid is not None and supervisor_started is not None:
            recorded = Process(supervisor_pid, supervisor_started)
        successor = process_on_record(folder, "supervisor", "supervisor_start")
        return TrainingProcess(folder, log, successor or recorded, self.secrets, self.pattern)


class TrainingProcess:
    """A training under way, or one that ended while no bot was running."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        supervisor: Process | None,
        secrets: Collection[str] = (),
        pattern: str = "",
    ) -> None:
        self.folder = folder
        self.log = log
        self._secrets = secrets
        self._pattern = pattern
        self._supervisor = supervisor
        self._request: signal.Signals | None = None

    def alive(self) -> bool:
        processes = (self._supervisor, process_on_record(self.folder, "pid", "start"))
        return any(process is not None and process.alive() for process in processes)

    async def end(self, ending: Ending) -> None:
        """Ask for the training's end, as `INTERRUPTED` or as `STALLED`; `wait` returns once it has come."""
        self._request = signal.SIGUSR1 if ending is Ending.STALLED else signal.SIGTERM
        self._ask()

    async def wait(self) -> Outcome:
        """Wait for the outcome. A supervisor that dies before its training is replaced by another."""
        lost = 0
        while (outcome := await self._ended()) is None:
            await asyncio.sleep(POLL * min(lost, 10))  # the first at once; not a storm of them
            lost += 1
            successor = Trainer.arm()
            successor.give({"adopt": True, "folder": self.folder})
            self._supervisor = successor
            self._ask()
        return outcome

    async def _ended(self) -> Outcome | None:
        """Wait for the supervisor's end; None when the training lives on."""
        if self._supervisor is not None:
            await self._supervisor.gone()
            _reap(self._supervisor.pid)
        return await in_thread(_outcome, self.folder, self.log, self._secrets, self._pattern)

    def _ask(self) -> None:
        if self._request is not None and self._supervisor is not None and self._supervisor.alive():
            with suppress(ProcessLookupError):
                os.kill(self._supervisor.pid, self._request)


def attempt_folder(folder: Path, number: int, k: int) -> Path:
    return folder / f"{number}-{k}"


def _outcome(folder: Path, log: Path, secrets: Collection[str], pattern: str) -> Outcome | None:
    """Say what a training without a supervisor left; None when it is still running."""
    started = _read(folder / program.STARTED)
    training = process_on_record(folder, "pid", "start")
    outcome = _recorded(_read(folder / program.OUTCOME))
    if outcome is None and training is not None and training.alive():
        return None
    if outcome is None or sys.platform != "linux":
        _sweep(folder)  # elsewhere a supervisor cannot follow a process that called setsid
    if (kept := folder / program.LOG).exists():  # else a supervisor of an earlier version wrote into `log`
        log = kept
    text = read_tail(log)
    ended_well = outcome is not None and outcome.ending is Ending.EXITED and outcome.exit_code in (0, None)
    numbers, unread = {}, ""
    try:
        numbers = read_numbers(log, cut_off=not ended_well, pattern=pattern)
    except UserError as problem:
        unread = str(problem)
    if outcome is None:
        started_at = started.get("started_at", time.time())
        if not started or not text.endswith("\n") or not numbers.keys() >= COMPLETE:
            error = error_line(read_tail(folder / program.ERRORS))
            return Outcome(Ending.VANISHED, None, started_at, time.time(), error=error)
        outcome = Outcome(Ending.EXITED, None, started_at, log.stat().st_mtime)
    if outcome.ending is Ending.INTERRUPTED or (outcome.exit_code in (0, None) and numbers):
        return replace(outcome, numbers=numbers)
    # What is killed by a signal says nothing either: its last line is whatever it was at.
    killed = outcome.ending in (Ending.DEADLINE, Ending.STALLED) or (outcome.exit_code or 0) < 0
    error = unread or error_line(without_secrets(text, secrets), killed=killed)
    return replace(outcome, numbers=numbers, error=error)


def _recorded(record: Mapping[str, Any]) -> Outcome | None:
    match record:
        case {
            "ending": str(ending),
            "exit_code": int() | None as exit_code,
            "started_at": int() | float() as started_at,
            "ended_at": int() | float() as ended_at,
        } if ending in tuple(Ending):
            return Outcome(Ending(ending), exit_code, started_at, ended_at)
    return None


def process_on_record(folder: Path, pid: str, start: str) -> Process | None:
    """Return a process that `started.json` in an attempt's folder names, None where it is of another boot."""
    record = read_started(folder)
    if record.get("boot") != program.boot_id() or record.get(pid) is None or record.get(start) is None:
        return None
    return Process(record[pid], record[start])


def read_started(folder: Path) -> dict[str, Any]:
    """Return what the supervisor recorded as the training began, empty where there is nothing whole."""
    return _read(folder / program.STARTED)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _sweep(folder: Path) -> None:
    give_up = time.monotonic() + SWEEP
    while (orphans := program.find_tree(str(folder))) and time.monotonic() < give_up:
        for pid in orphans:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # started by a bot before this one
        os.waitpid(pid, os.WNOHANG)
