"""The proof that a sandbox holds: the probe runs in it as a training would; then we look at what it did."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from loop.files import remove
from loop.sandbox import probe
from loop.sandbox.sandbox import Sandbox, SandboxKind
from loop.sandbox.view import View, lay_out
from loop.shell import run

FIXED = "fixed"
_PREFIX = "proof-"
NO_GPU = ("no driver", "cuInit: error 100", "cuDeviceGetCount: error 100")


class Check(StrEnum):
    """What is checked. Beside the first two the values are names of the probe's attempts."""

    PYTHON = "python"  # the training's Python starts, and is the same as outside
    CUDA = "cuda"  # the GPU answers as it does outside
    WORK = "work"
    OUTSIDE = "write_outside"
    FIXED = "change_fixed"
    SECRET = "read_secret"  # noqa: S105
    GIT = "read_git"
    HOME = "list_home"
    TCP = "connect_tcp"
    UDP = "send_udp"
    VSOCK = "open_vsock"
    SOCKET = "connect_socket"
    PROCESSES = "see_processes"
    ENVIRON = "read_environ"
    KERNEL = "set_kernel"
    REMOUNT = "remount"
    SIGNAL = "send_signal"
    NAMESPACE = "open_namespace"


@dataclass(frozen=True, slots=True)
class Row:
    """One check. `held` is what a sandbox should do: let the work be done, refuse the rest."""

    check: Check
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was checked of a sandbox. What makes no sense here has no row: a GPU where there is none."""

    kind: SandboxKind
    rows: tuple[Row, ...]

    @property
    def summary(self) -> tuple[SandboxKind, tuple[Check, ...]]:
        """The kind, and what does not hold."""
        return self.kind, tuple(row.check for row in self.rows if not row.held)


@dataclass(frozen=True, slots=True)
class SandboxFacts:
    """What confines trainings: how many checks held, which did not, and what a setting opened."""

    sandbox: Sandbox
    held: int = 0
    leaks: tuple[Check, ...] = ()
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the probe is set upon."""

    view: View
    targets: Mapping[str, Any]
    process: subprocess.Popen[bytes]
    datagrams: socket.socket


def prove(
    sandbox: Sandbox,
    view: View,
    python: str,
    *,
    state: Path,
    repository: Path | None = None,
    seconds: float = 60.0,
) -> Proof:
    """Try `sandbox` with what trainings see, but with folders of its own in the state directory.

    It blocks, for half a second and longer where there is a GPU, `seconds` at most for each of two programs.
    Where the probe does not come to its end, nothing counts as held.

    Raises:
        OSError: the state directory takes no files or no sockets.
    """
    if sys.platform != "linux":
        return _nothing_held(sandbox.kind, "only Linux has a sandbox")
    with _held(state, fcntl.LOCK_SH):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=state.absolute() / "trainings"))
        try:
            with _stage(folder, view, python, repository) as stage:
                argv, environment = (python, "-I", str(stage.view.work / "probe.py")), stage.view.environment
                within = sandbox.wrap(stage.view, (*argv, str(stage.view.work / "targets.json")))
                answers = [run(one, environment, seconds) for one in (argv, within)]
                outside, inside = map(_read_answer, answers)
                if outside and inside:
                    return Proof(sandbox.kind, tuple(_judge(stage, outside, inside)))
            failed = answers[1] if outside else answers[0]
            detail = (failed.stderr.strip().splitlines() or [f"exit status {failed.returncode}"])[-1]
            return _nothing_held(sandbox.kind, detail)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_proofs(state: Path) -> None:
    """Remove what proofs that were killed left in a state directory, unless one is under way there."""
    with suppress(BlockingIOError), _held(state, fcntl.LOCK_EX | fcntl.LOCK_NB):
        for path in (*state.glob(f"{_PREFIX}*"), *(state / "trainings").glob(f"{_PREFIX}*")):
            remove(path)


@contextmanager
def _held(state: Path, kind: int) -> Iterator[None]:
    """Lock the folder of trainings: proofs share it, and it is nobody else's while their remains are cleared.

    Raises:
        BlockingIOError: it cannot be had now, and `kind` does not wait.
    """
    (state / "trainings").mkdir(parents=True, exist_ok=True)
    folder = os.open(state / "trainings", os.O_RDONLY)
    try:
        fcntl.flock(folder, kind)
        yield
    finally:
        os.close(folder)


def _nothing_held(kind: SandboxKind, detail: str) -> Proof:
    return Proof(kind, tuple(Row(check, held=False, detail=detail) for check in Check))


@contextmanager
def _stage(folder: Path, view: View, python: str, repository: Path | None) -> Iterator[_Stage]:
    """Set up a secret, listeners, a process and files, each of which no training may reach."""
    state, marker = folder.parents[1], f"{_PREFIX}{secrets.token_hex(8)}"
    work, fixed = folder / "work", folder / "work" / "fixed" / "file"
    fixed.parent.mkdir(parents=True)
    (folder / "tmp").mkdir()
    for path in (fixed, work / "remount"):
        path.write_text(FIXED)
    (folder / "secret").write_text(marker)
    shutil.copyfile(probe.__file__, work / "probe.py")
    environment = {**view.environment, "TMPDIR": str(folder / "tmp")}
    fixed_ones = (fixed, work / "remount")
    view = replace(view, work=work, tmp=folder / "tmp", fixed=fixed_ones, environment=environment)
    home, git = Path(view.environment.get("HOME") or Path.home()).resolve(), (repository or state) / ".git"
    directory = os.open(folder, os.O_RDONLY)
    idle = (sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()", marker)
    with (
        subprocess.Popen(idle, stdin=subprocess.PIPE, env={"SECRET": marker}) as process,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
    ):
        datagrams.bind(("127.0.0.1", 0))
        local.bind(f"/proc/self/fd/{directory}/socket")  # the path itself may be too long for an address
        local.listen()
        targets = {
            "marker": marker,
            "work": str(work),
            "fixed": str(fixed),
            "remount": str(work / "remount"),
            "outside": [str(state / marker), str(folder / marker)],
            "secret": str(folder / "secret"),
            "git": [str(path) for path in ((git / "HEAD", git) if repository else ())],
            "home": str(home),
            "of_home": _foreign(home, view, python),
            "tcp": listener.getsockname(),
            "udp": datagrams.getsockname(),
            "folder": str(folder),
            "process": process.pid,
        }
        (work / "targets.json").write_text(json.dumps(targets))
        try:
            yield _Stage(view, targets, process, datagrams)
        finally:
            process.kill()
            os.close(directory)
            (state / marker).unlink(missing_ok=True)


def _foreign(home: Path, view: View, python: str) -> list[str]:
    """Return the names in the home that lead to nothing that is to be seen."""
    layout = lay_out(view, python)
    seen = [*(mount.path for mount in layout.mounts if mount.path != home), *layout.links]
    try:
        entries = list(home.iterdir())
    except OSError:
        return []
    return [entry.name for entry in entries if not any(path.is_relative_to(entry) for path in seen)]


def _read_answer(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the probe printed, empty where it did not come to its end."""
    try:
        said: dict[str, Any] = json.loads(ran.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return said if ran.returncode == 0 else {}


def _judge(stage: _Stage, outside: dict[str, Any], inside: dict[str, Any]) -> Iterator[Row]:
    """Believe our own eyes where something would be left outside, else the probe."""
    targets, got, refused = stage.targets, inside["got"], inside["refused"]
    in_prefix = Path(outside["python"][1], targets["marker"])
    written = [path for path in (*map(Path, targets["outside"]), in_prefix) if path.exists()]
    in_prefix.unlink(missing_ok=True)
    if Check.SIGNAL in got:
        with suppress(subprocess.TimeoutExpired):
            stage.process.wait(2)
    seen = {
        Check.PYTHON: outside["python"] == inside["python"],
        Check.CUDA: outside["gpu"] == inside["gpu"],
        Check.WORK: Check.WORK in got and (stage.view.work / targets["marker"]).is_file(),
        Check.OUTSIDE: not written,
        Check.FIXED: _is_fixed(Path(targets["fixed"])),
        Check.UDP: not _heard(stage.datagrams),
        Check.SIGNAL: stage.process.poll() is None,
    }
    details = {
        Check.PYTHON: inside["python"][1],
        Check.CUDA: f"outside {outside['gpu']}, inside {inside['gpu']}",
        Check.OUTSIDE: ", ".join(map(str, written)),
    }
    left_out = {Check.TCP, Check.UDP, Check.VSOCK} if stage.view.network else set()
    left_out |= set() if targets["git"] else {Check.GIT}
    left_out |= {Check.CUDA} if outside["gpu"] in NO_GPU else set()
    for check in Check:
        if check not in left_out:
            said = refused.get(check) or str(got.get(check, ""))[:200]
            yield Row(check, seen.get(check, check not in got), details.get(check, said))


def _heard(datagrams: socket.socket) -> bool:
    datagrams.setblocking(False)
    try:
        return bool(datagrams.recv(100))
    except BlockingIOError:
        return False


def _is_fixed(path: Path) -> bool:
    try:
        return path.read_text() == FIXED
    except OSError:
        return False
