"""The small process beside train.py. It owns one training: its deadline, its process tree, its outcome.

    python -I -S supervisor.py < job

It is started idle and waits for one line of JSON on stdin: `argv cwd env log folder deadline grace`, or
`adopt` with the `folder` of a training whose supervisor died. Without a whole line it ends and has done
nothing. SIGTERM interrupts the training, SIGUSR1 ends it as stalled, also when they come before the job. The
folder gets `started.json`, `training.log`, last of all `outcome.json`, and `supervisor.log` if something went
wrong here.

This file runs alone and, on Linux, without site-packages: what a repository installs cannot reach it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

STARTED = "started.json"
OUTCOME = "outcome.json"
LOG = "training.log"
ERRORS = "supervisor.log"
ASIDE = "aside"

MARK = "AUTORESEARCH_TRAINING"  # names the attempt's folder in every process of a training

REQUESTS: dict[int, str] = {signal.SIGTERM: "interrupted", signal.SIGUSR1: "stalled"}
"""The signals that end a training early, and the ending that each stands for."""

PATIENCE = 30.0  # seconds for killed processes to go; one stuck in a driver must not hold the result
POLL = 0.1  # seconds between looks at killed processes
SHOW = 0.2  # seconds after which new lines of a training are seen in its worktree
CHUNK = 2**20  # bytes of a log that are copied at a time
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


if sys.platform == "linux":

    def start_time(pid: int) -> float | None:
        """Return when a process began, in seconds since boot, and None where it is gone or a zombie.

        With the pid this names a process for good. It does not move when the wall clock is set.
        """
        fields = _stat(pid)
        return int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else None

    def boot_id() -> str:
        """Name the running boot: pids and start times of another one mean nothing."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def find_tree(folder: str, root: int | None = None, *, mark: str = MARK) -> list[int]:
        """List the living processes that carry the mark of `folder` or descend from `root`."""
        marked = os.fsencode(f"{mark}={folder}")
        children: dict[int, list[int]] = {}
        found = set()
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            fields = _stat(pid)
            if fields:
                children.setdefault(int(fields[1]), []).append(pid)
                if marked in _environment(pid):
                    found.add(pid)
        pending = [] if root is None else list(children.get(root, ()))
        while pending:
            pid = pending.pop()
            found.add(pid)
            pending += children.get(pid, ())
        return sorted(found - {os.getpid()})

    def _stat(pid: int) -> list[bytes]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return []
        return [] if fields[0] in b"ZX" else fields

    def _environment(pid: int) -> list[bytes]:
        try:
            return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            return []

    def become_subreaper() -> bool:
        """Make orphans below us our children, also those in sessions of their own; False where that fails."""
        try:
            from ctypes import CDLL
        except ImportError:  # a Python that was built without it
            return False
        return bool(CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)

else:

    def start_time(pid: int) -> float | None:
        import psutil

        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
        except psutil.Error:
            return None

    def boot_id() -> str:
        return ""

    def find_tree(folder: str, root: int | None = None, *, mark: str = MARK) -> list[int]:
        import psutil

        found = {p.pid for p in psutil.Process(root).children(recursive=True)} if root else set()
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get(mark) == folder:
                found.add(process.pid)
        return sorted(found - {os.getpid()})

    def become_subreaper() -> bool:
        return False


class Wake:
    """Signals as something to wait for."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (*REQUESTS, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # we are started with requests held back

    def wait(self, timeout: float) -> str | None:
        """Wait for a signal or `timeout` seconds; return a request if one came."""
        ready, _, _ = select.select([self._read], [], [], max(timeout, 0.0))
        numbers = os.read(self._read, 64) if ready else b""
        return next((REQUESTS[n] for n in numbers if n in REQUESTS), None)


class Log:
    """What a training prints. It goes into the attempt's folder and from there into a log that people see.

    The latter lies in the worktree, where any program may change or delete it: no result is read from it.
    """

    def __init__(self, kept: Path, seen: Path) -> None:
        self._kept = kept
        self._seen = seen
        self._copied = min(_size(kept), _size(seen))  # as far as one can tell after another supervisor

    def show(self) -> None:
        """Copy what is new. No failure matters: what a full disk did not take is copied the next time."""
        size = _size(self._kept)  # it may grow faster than we copy
        if size <= self._copied:
            return
        try:
            with self._kept.open("rb") as kept:
                # The training may have put a link or a pipe there: not to be followed, not to wait for.
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
                seen = os.open(self._seen, flags, 0o644)
                try:
                    while chunk := os.pread(kept.fileno(), min(CHUNK, size - self._copied), self._copied):
                        self._copied += os.write(seen, chunk)
                finally:
                    os.close(seen)
        except OSError:
            return


class ProcessTree:
    """The process in our care: a child of ours, or one taken over from a supervisor that died.

    `record` is what `started.json` holds. The exit code of a process that is not our child stays unknown.
    """

    def __init__(self, record: dict[str, Any], *, child: bool, subreaper: bool) -> None:
        self.record = record
        self.exit_code: int | None = None
        self.ended_at: float | None = None
        self._child = child
        self._childless = False
        self._subreaper = subreaper

    def ended(self) -> bool:
        self._reap()
        if (
            not self._child
            and self.ended_at is None
            and start_time(self.record["pid"]) != self.record["start"]
        ):
            self.ended_at = time.time()
        return self.ended_at is not None

    def cleared(self) -> bool:
        self._reap()
        if self._child and self._subreaper:
            return self._childless  # whatever is left of the tree would be our child by now
        return not self._tree()

    def terminate(self) -> None:
        with suppress(OSError):  # gone, or not ours to signal: it is killed next
            os.killpg(self.record["pid"], signal.SIGTERM)

    def kill(self) -> None:
        for pid in self._tree():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _tree(self) -> list[int]:
        pid = self.record["pid"]
        if self._child:
            return find_tree(self.record["folder"], os.getpid())
        alive = start_time(pid) == self.record["start"]
        return [pid, *find_tree(self.record["folder"], pid)] if alive else find_tree(self.record["folder"])

    def _reap(self) -> None:
        while not self._childless:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            if self._child and pid == self.record["pid"]:
                self.ended_at = time.time()
                self.exit_code = os.waitstatus_to_exitcode(status)


def launch(job: dict[str, Any], ours: dict[str, Any], *, subreaper: bool) -> ProcessTree:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    folder, seen = Path(job["folder"]), Path(job["log"])
    _clear(seen, folder / ASIDE)
    os.close(os.open(seen, flags, 0o644))
    log = os.open(folder / LOG, flags, 0o644)
    go, give_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(give_go)
        _become(job, go, log)
    os.setpgid(pid, pid)
    record = {
        "pid": pid,
        "start": start_time(pid),
        "started_at": time.time(),
        "monotonic": time.monotonic(),
        **{name: job[name] for name in ("deadline", "grace", "log", "folder")},
        **ours,
    }
    write_json(folder / STARTED, record)
    os.write(give_go, b"!")  # before this it does nothing, so no training runs that is not on record
    for fd in (go, give_go, log):
        os.close(fd)
    return ProcessTree(record, child=True, subreaper=subreaper)


def adopt(folder: Path, ours: dict[str, Any]) -> ProcessTree | None:
    """Take over the training of `folder`, whose supervisor died; None where there is none to take over."""
    record: dict[str, Any] = json.loads((folder / STARTED).read_bytes())
    training = ProcessTree(record, child=False, subreaper=False)
    if (folder / OUTCOME).exists() or training.ended():
        return None
    record.update(ours)
    try:
        write_json(folder / STARTED, record)
    except OSError as error:  # a full disk: a supervisor after us takes the training over once more
        sys.stderr.write(f"{error}\n")
    return training


def supervise(training: ProcessTree, log: Log, wake: Wake) -> dict[str, Any]:
    record = training.record
    reason = _watch(training, log, wake, until=record["monotonic"] + record["deadline"])
    if reason:
        training.terminate()
        grace = time.monotonic() + record["grace"]
        _watch(training, log, wake, until=grace)  # a second request ends it
    give_up = time.monotonic() + PATIENCE
    while not training.cleared() and time.monotonic() < give_up:
        training.kill()
        wake.wait(POLL)
    training.ended()
    return {
        "ending": reason or "exited",
        "exit_code": training.exit_code,
        "started_at": record["started_at"],
        "ended_at": training.ended_at or time.time(),
    }


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a file in one step, so that a reader finds the whole of it or nothing."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data), encoding="utf-8")
    temporary.replace(path)


def main() -> None:
    os.closerange(3, 65536)  # what the bot had inherited: who waits for its end must not wait for ours
    wake = Wake()
    subreaper = become_subreaper()
    ours = {"boot": boot_id(), "supervisor": os.getpid(), "supervisor_start": start_time(os.getpid())}
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the bot died, or has no work for us
    job = json.loads(line)
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    _redirect(Path(os.devnull), os.O_RDONLY, 0)
    _redirect(folder / ERRORS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 2)
    training = adopt(folder, ours) if job.get("adopt") else launch(job, ours, subreaper=subreaper)
    if training is None:
        return
    log = Log(folder / LOG, Path(training.record["log"]))
    outcome = supervise(training, log, wake)
    log.show()
    write_json(folder / OUTCOME, outcome)
    if os.fork() == 0:  # the bot waits for our end, not for the disk
        for path in (folder / LOG, folder / OUTCOME, folder):
            with suppress(OSError):  # it was deleted
                os.fsync(os.open(path, os.O_RDONLY))


def _watch(training: ProcessTree, log: Log, wake: Wake, *, until: float) -> str | None:
    while not training.ended():
        left = until - time.monotonic()
        if left <= 0:
            return "deadline"
        log.show()
        request = wake.wait(min(left, SHOW))
        if request and not training.ended():
            return request
    return None


def _become(job: dict[str, Any], go: int, log: int) -> None:
    """Turn this child into the training. It never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*REQUESTS, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if not os.read(go, 1):
            os._exit(1)  # our supervisor was killed in between
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(job["cwd"])
        os.execvpe(job["argv"][0], job["argv"], {**job["env"], MARK: job["folder"]})  # noqa: S606
    except (OSError, ValueError) as error:
        os.write(2, os.fsencode(f"cannot start {job['argv'][0]} in {job['cwd']}: {error}\n"))
    finally:
        os._exit(127)


def _redirect(path: Path, flags: int, fd: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, fd)
    os.close(opened)


def _clear(path: Path, aside: Path) -> None:
    """Move away what a training before this one put in the place of a file: a link, a pipe or a folder."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.rename(aside)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Be a handler: the number itself arrives through the wake-up pipe."""


if __name__ == "__main__":
    main()
    os._exit(0)  # skips the interpreter's own clean-up: the bot waits for our end
