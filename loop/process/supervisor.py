"""The small process beside train.py. It owns one training: its output, limits, processes and outcome.

It is started idle and waits for one line of JSON on stdin, a `Job` of `trainer.py`. Without a whole line it
ends and has done nothing. SIGTERM interrupts the training, SIGUSR1 ends it as stalled, also when they come
before the job. The folder gets `started.json`, `training.log`, last of all `outcome.json`, and
`supervisor.log` if something went wrong here. A training ends with its supervisor.

A line with `waits` may come before: its program is started at once, and waits on a socket, its stdin, for
the mark of a job that `goes`. It answers when it takes over; else the job's own program is started.

On Linux this runs without site-packages: what a repository installs cannot reach it.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import FileIO

from loop.logs.capture import CHUNK, LOG, Log, replace

TYPE_CHECKING = False  # typing takes long to import, and nothing here needs it
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Data: TypeAlias = Mapping[str, Any]  # of JSON
    Excess: TypeAlias = tuple[str, int, int]  # a limit, what was used and what is allowed

STARTED = "started.json"
OUTCOME = "outcome.json"
ERRORS = "supervisor.log"

MARK = "AUTORESEARCH_TRAINING"  # names the attempt in the environment of a training's processes
REQUESTS: dict[int, str] = {signal.SIGTERM: "interrupted", signal.SIGUSR1: "stalled"}  # the endings asked for
PATIENCE = 30.0  # seconds for killed processes to go; one stuck in a driver must not hold the result
SWEEP = 5.0  # seconds to go on killing what is left without us
POLL = 0.2  # seconds between looks at a training
COST = 0.02  # of one core: so much may looking at processes take
LULL = 0.02  # seconds for which lines that come one by one are gathered
OOM_SCORE = 500  # where the machine has no memory left, the kernel is to end the training, not the bot
NICE = -10  # of ours, where we may: among 4,000 busy processes of a training we must get our turn
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
KEYCTL, JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1  # keyctl(2), its number by the machine


if sys.platform == "linux":

    def start_time(pid: int) -> float | None:
        """Return when a process began, in seconds since boot; None where it is gone or a zombie."""
        fields = _stat(pid)
        living = fields and fields[0] not in b"ZX"
        return int(fields[19]) / os.sysconf("SC_CLK_TCK") if living else None

    def _processes() -> dict[int, tuple[int, int]]:
        """Return parent and resident bytes of each process, also of a zombie: its threads may run on."""
        stats = {pid: fields for pid in _pids() if (fields := _stat(pid))}
        return {pid: (int(f[1]), int(f[21]) * resource.getpagesize()) for pid, f in stats.items()}

    def _stat(pid: int) -> list[bytes]:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()

    def _marked(variables: set[bytes]) -> list[int]:
        found = ((pid, _read(f"/proc/{pid}/environ").split(b"\0")) for pid in _pids())
        return [pid for pid, environ in found if not variables.isdisjoint(environ)]

    def _pids() -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # twice as fast as scandir

else:
    import psutil

    def start_time(pid: int) -> float | None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
        return None

    def _processes() -> dict[int, tuple[int, int]]:
        found = psutil.process_iter(["ppid", "memory_info"])
        return {p.pid: (p.info["ppid"], getattr(p.info["memory_info"], "rss", 0)) for p in found}

    def _marked(variables: set[bytes]) -> list[int]:
        pairs = {tuple(os.fsdecode(variable).split("=", 1)) for variable in variables}
        found = psutil.process_iter(["environ"])
        return [process.pid for process in found if pairs & (process.info["environ"] or {}).items()]


def boot_id() -> str:
    """Name the running boot, empty where it has no name."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def descendants(*roots: int) -> dict[int, int]:
    """Return the processes below these, the nearest first, with the resident bytes of each."""
    processes = _processes()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    order = list(roots)
    for pid in order:
        order += children.pop(pid, ())
    return {pid: processes[pid][1] for pid in order[len(roots) :]}


def find_tree(*marks: str, root: int | None = None, variable: str = MARK) -> list[int]:
    """List the processes with one of these marks, and what descends from them or from `root`."""
    marked = _marked({os.fsencode(f"{variable}={mark}") for mark in marks})
    below = descendants(*marked, *(() if root is None else (root,)))
    return sorted({*marked, *below} - {os.getpid()})


def end_marked(*marks: str, variable: str = MARK) -> None:
    """Kill what is left with one of these marks, and what descends from it."""
    give_up = time.monotonic() + SWEEP
    while time.monotonic() < give_up and (left := find_tree(*marks, variable=variable)):
        for pid in left:
            _kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def kill_below(*, wrapped: bool = False) -> set[int]:
    """Kill all processes below us; return their pids."""
    pids = descendants(os.getpid())
    for pid in (*(namespace_init(pids) if wrapped else ()), *pids):
        _kill(pid, signal.SIGKILL)
    return set(pids)


def namespace_init(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if _numbers(f"/proc/{pid}/status", b"NSpid:")[1:][-1:] == [1]][:1]


class Usage:
    """Looks at what all below us use, as often as `POLL` and `COST` allow."""

    def __init__(self, limits: Data, *, wrapped: bool = False) -> None:
        self._limits, self._wrapped, self._next_look = limits, wrapped, time.monotonic() + POLL

    def excess(self) -> Excess | None:
        """Return what they use more of than is allowed, if anything."""
        if time.monotonic() < self._next_look:
            return None
        began = time.thread_time()
        resident = descendants(os.getpid())  # before the third starts, /dev/shm is the machine's
        init = namespace_init(resident) if self._wrapped and len(resident) > 2 else ()
        files = sum(_space(f"/proc/{pid}/root/dev/shm")[1] for pid in init)
        memory = files + sum(resident.values())
        if memory > self._limits["memory"]:  # what is shared was counted for each that shares it
            memory = sum(_share(pid, b"Pss:") or rss for pid, rss in resident.items())
            memory += max(0, files - sum(_share(pid, b"Pss_Shmem:") for pid in resident))
        self._next_look = time.monotonic() + max(POLL, (time.thread_time() - began) / COST)
        used = ("processes", len(resident)), ("memory", memory)
        return next(((name, n, self._limits[name]) for name, n in used if n > self._limits[name]), None)


def become_subreaper() -> bool:
    """Make orphans below us our children, also those in sessions of their own; False where that fails."""
    return _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _call(name: str, *arguments: int | None) -> bool:
    with suppress(ImportError, AttributeError):  # a Python that was built without it, or another system
        from ctypes import CDLL

        return bool(getattr(CDLL(None), name)(*arguments) >= 0)
    return False


def _numbers(path: str, field: bytes) -> list[int]:
    lines = [line.split() for line in _read(path).splitlines() if line.startswith(field)]
    return [int(word) for word in lines[0] if word.isdigit()] if lines else []


def _share(pid: int, field: bytes) -> int:  # in bytes
    return 1024 * sum(_numbers(f"/proc/{pid}/smaps_rollup", field))


def _read(path: str) -> bytes:
    try:
        with FileIO(path) as file:
            return file.readall()
    except OSError:  # gone, or another user's
        return b""


class Wake:
    """Signals as something to wait for."""

    def __init__(self) -> None:
        self._pipe, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (*REQUESTS, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the number itself arrives through the pipe
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # we are started with requests held back

    def wait(self, timeout: float, log: Log) -> str | None:
        """Wait for a signal, output or `timeout` seconds; return a request if one came."""
        ready, _, _ = select.select([self._pipe, log.pipe], [], [], max(timeout, 0.0))
        if log.pipe in ready and log.take() < CHUNK // 16:
            select.select([self._pipe], [], [], LULL)
        numbers = os.read(self._pipe, 64) if self._pipe in ready else b""
        return next((REQUESTS[n] for n in numbers if n in REQUESTS), None)


class Waiting:
    """A program that was started ahead of its job; it ends with us."""

    def __init__(self, job: Data) -> None:
        from socket import socketpair  # takes time, and mostly nothing waits

        self.pipe = _pipe()
        self._socket, gate = socketpair()
        self._socket.setblocking(False)
        with gate:
            self.process = _start(job, gate.fileno(), self.pipe[1])

    def go(self, mark: str) -> subprocess.Popen[bytes]:
        """Let it be the training."""
        with suppress(OSError):  # it has just died
            self._socket.sendall(f"{mark}\n".encode())
        return self.process

    def took_over(self) -> bool:
        with suppress(OSError):
            return bool(self._socket.recv(1))
        return False


class Training:
    """The program and all processes that come of it; we have no other children.

    Where we are no subreaper, what leaves our tree is the bot's to find.
    """

    def __init__(self, job: Data, printed: int, waiting: Waiting | None, *, subreaper: bool) -> None:
        self.exit_code: int | None = None
        self.ended_at: tuple[float, float] | None = None  # by the wall clock and by the monotonic one
        self._job, self._printed, self._waiting = job, printed, waiting
        self._wrapped, self._folder = job["wrapped"], job["folder"]
        self._usage = Usage(job["limits"], wrapped=self._wrapped)
        # Where less than that is free from the start, it is not the training's doing.
        self._disk_left = min(job["limits"]["disk_left"], _space(self._folder)[0] // 2)
        self._childless = False
        self._subreaper = subreaper
        self._process = waiting.go(job["mark"]) if waiting else self._start()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)

    def _start(self) -> subprocess.Popen[bytes] | None:
        try:
            return _start(self._job, subprocess.DEVNULL, self._printed)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.write(self._printed, os.fsencode(f"cannot start {self._job['argv'][0]}: {error}\n"))
            self.exit_code, self.ended_at = 127, (time.time(), time.monotonic())
        return None

    def ended(self) -> bool:
        self._reap()
        return self.ended_at is not None

    def cleared(self) -> bool:
        self._reap()
        return self._childless if self._subreaper else not descendants(os.getpid())

    def terminate(self) -> None:
        """Send SIGTERM, to the program alone where it is wrapped: the wrapper would not pass it on."""
        self._waiting = None
        init = namespace_init(descendants(os.getpid())) if self._wrapped else ()
        inside = descendants(*init) if init else ()
        for pid in inside:
            _kill(pid, signal.SIGTERM)
        if not inside and self._process:
            with suppress(OSError):  # gone, or not ours to signal: it is killed next
                os.killpg(self._process.pid, signal.SIGTERM)

    def kill(self) -> set[int]:
        """Kill what there is of it; return the pids."""
        self._waiting = None
        return kill_below(wrapped=self._wrapped)

    def excess(self) -> Excess | None:
        """Return what it uses more of than is allowed, if anything."""
        if (free := _space(self._folder)[0]) < self._disk_left:
            return "disk_left", free, self._disk_left
        return self._usage.excess()

    def _reap(self) -> None:
        while not self._childless:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            if self._process and pid == self._process.pid and not self._started_again():
                self.ended_at = time.time(), time.monotonic()
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = 128 - code if self._wrapped and code > 128 else code

    def _started_again(self) -> bool:
        """Start the program itself in the place of one that waited for its turn and died before it."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.took_over():
            return False
        self._process = self._start()
        return True


def _start(job: Data, stdin: int, printed: int) -> subprocess.Popen[bytes]:
    us = os.getpid()
    return subprocess.Popen(
        job["argv"],
        cwd=job["cwd"],
        env={**job["env"], MARK: job["mark"]},
        stdin=stdin,
        stdout=printed,
        stderr=printed,
        start_new_session=True,  # a process group, and a share of the processor apart from ours
        preexec_fn=lambda: confine(job["limits"], us),  # noqa: PLW1509 - we have no threads
    )


def supervise(job: Data, began: float, training: Training, log: Log, wake: Wake) -> Data:
    """Return how the training ended, which began then by the monotonic clock."""
    ending = _watch(training, log, wake, until=began + job["deadline"])
    if isinstance(ending, str) and ending != "exited":
        training.terminate()
        _watch(training, log, wake, until=time.monotonic() + job["grace"])  # a second request ends it
    give_up = time.monotonic() + PATIENCE
    killed: set[int] = set()
    while not training.cleared() and time.monotonic() < give_up:
        new = training.kill() - killed
        killed |= new
        wake.wait(0.0 if new else POLL, log)  # while it forks on there is nothing to wait for
    log.drain()
    if ending == "exited" and training.exit_code == -signal.SIGXFSZ:
        size = job["limits"]["file_size"]
        ending = "file_size", size, size
    ended_at, ended = training.ended_at or (time.time(), time.monotonic())
    return {
        "ending": ending if isinstance(ending, str) else "limit",
        "limit": None if isinstance(ending, str) else ending,
        "exit_code": training.exit_code,
        "ended_at": ended_at,
        "seconds": ended - began,
        "cpu_seconds": sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
    }


def main() -> None:
    os.closerange(3, 65536)  # what the bot had inherited: who waits for its end must not wait for ours
    os.umask(0o077)
    wake = Wake()
    subreaper = become_subreaper()
    if sys.platform == "linux":  # no namespace hides the keys of the session, or what is added to them
        _call("syscall", KEYCTL.get(os.uname().machine, -1), JOIN_SESSION_KEYRING, None)
    ours = {"boot": boot_id(), "supervisor": os.getpid(), "supervisor_start": start_time(os.getpid())}
    job, waiting = _read_job(), None
    if job and job.get("waits"):
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            waiting = Waiting(job)
        job = _read_job()
    if job is None:
        return  # the bot died, or has no work for us
    folder = job["folder"]
    os.makedirs(folder, exist_ok=True)
    os.dup2(os.open(f"{folder}/{ERRORS}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.stat(job["cwd"])  # without it nothing runs, so nothing has crashed
    if waiting and (not job["goes"] or waiting.process.poll() is not None):
        kill_below(wrapped=True)
        waiting = None
    output, printed = waiting.pipe if waiting else _pipe()
    log = Log(output, f"{folder}/{LOG}", job["log"], job["limits"]["log"])
    began, started_at = time.monotonic(), time.time()
    times = {"deadline": job["deadline"], "grace": job["grace"], "monotonic": began, "started_at": started_at}
    replace(f"{folder}/{STARTED}", json.dumps({**ours, **times}).encode())
    training = Training(job, printed, waiting, subreaper=subreaper)
    outcome = {**supervise(job, began, training, log, wake), "started_at": started_at}
    replace(f"{folder}/{OUTCOME}", json.dumps(outcome).encode())
    if os.fork() == 0:  # the bot waits for our end, not for the disk
        for path in (f"{folder}/{LOG}", f"{folder}/{OUTCOME}", folder):
            with suppress(OSError):  # it was deleted
                os.fsync(os.open(path, os.O_RDONLY))


def _read_job() -> Data | None:
    line = sys.stdin.buffer.readline()
    job: Data | None = json.loads(line) if line.endswith(b"\n") else None
    if job and job.get("cores"):
        with suppress(OSError, AttributeError):  # a core was taken away meanwhile, or another system
            os.sched_setaffinity(0, job["cores"])  # what we start inherits it
    return job


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    with suppress(OSError, AttributeError):
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, CHUNK)
    return ends


def _watch(training: Training, log: Log, wake: Wake, *, until: float) -> str | Excess:
    """Wait until the training exits or is to be ended; return why."""
    while not training.ended():
        left = until - time.monotonic()
        if left <= 0:
            return "deadline"
        if excess := training.excess():
            return excess
        request = wake.wait(min(left, POLL), log)
        if request and not training.ended():
            return request
    return "exited"


def confine(limits: Data, parent: int) -> None:
    """Let this process, which will be the training, end with its `parent` and use only so much."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    for kind, most in ((resource.RLIMIT_FSIZE, limits["file_size"]), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        file.write(b"%d" % max(OOM_SCORE, int(file.read())))


def _space(folder: str) -> tuple[int, int]:  # bytes that are free, and that are used
    with suppress(OSError):  # it was deleted: what becomes of the training is found out at its end
        found = os.statvfs(folder)  # a file takes a block, so there are no more blocks than files
        blocks = min(found.f_bavail, found.f_favail if found.f_files else sys.maxsize)
        return found.f_frsize * blocks, found.f_frsize * (found.f_blocks - found.f_bfree)
    return sys.maxsize, 0


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(OSError):  # gone, or not ours
        os.kill(pid, number)
