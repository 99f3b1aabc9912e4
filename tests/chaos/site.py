"""Where the storm takes place: a repository, a state directory, and the processes that belong to it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loop.folders import RunFolders
from loop.process.supervisor import MARK
from loop.process.trainer import home_mark, mark_of, marks_of
from tests.chaos import toy
from tests.loop.real_git import git

HOME_SIZE = "32m"
"""Of the state directory where it is a file system of its own: small, so that it is full at once."""

TIME_BUDGET = 4
"""Seconds; a toy that hangs is killed after twice as long, as DEADLINE_MINUTES says."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the toys' ledger; `number` and `attempt` are of the experiment that trained."""

    what: str
    at: float
    number: int
    attempt: int
    digest: str
    value: float | None
    waited: bool  # what trained was started before its turn


class Site:
    """The files of one storm below `folder`; `small_home` says that the state directory can be filled."""

    def __init__(self, folder: Path, *, small_home: bool) -> None:
        self.folder = folder
        self.small_home = small_home
        self.home = folder / "home"
        self.repository = folder / "repository"
        self.ledger = folder / "ledger"
        self.output = folder / "bot.out"
        self.clock = folder / "clock"
        self.ledger.touch()
        self.clock.write_text("+0\n")
        self.repository.mkdir()
        (self.repository / "prepare.py").write_text(f"TIME_BUDGET = {TIME_BUDGET}\n")
        (self.repository / "train.py").write_bytes(Path(toy.__file__).read_bytes())
        (self.repository / "program.md").write_text("Lower val_bpb.\n")
        git(self.repository, "init", "--quiet", "--initial-branch=main")
        for key, value in (("user.name", "Researcher"), ("user.email", "researcher@example.org")):
            git(self.repository, "config", key, value)
        git(self.repository, "add", "--all")
        git(self.repository, "commit", "--quiet", "--message=first")
        self.base = git(self.repository, "rev-parse", "HEAD")

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a bot on this site."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "GIT_CONFIG_NOSYSTEM": "1",
            "AUTORESEARCH_HOME": str(self.home),
            "REPOSITORY": str(self.repository),
            "DATA_PATHS": "",
            "TRAIN_COMMAND": f"{sys.executable} -I -S train.py",
            "FROZEN_CONSTANTS": "ROUND",
            "HEARTBEAT_MINUTES": "0.05",
            "DEADLINE_MINUTES": f"{2 * TIME_BUDGET / 60}",
            "CRASH_STREAK": "20",
            "TORCH_LEDGER": str(self.ledger),
            "SANDBOX": "bwrap",
            "SANDBOX_WRITE": str(self.ledger),
            **settings,
        }

    def tag(self) -> str | None:
        """Return the run's tag of the moment, None while the state file cannot be read."""
        rows = self.query("SELECT tag FROM runs")
        return str(rows[0][0]) if rows else None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the state file, as anybody can; empty while there is none."""
        try:
            with closing(sqlite3.connect(f"file:{self.home / 'state.db'}?mode=ro", uri=True)) as db:
                return db.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return []

    def notes(self) -> list[Note]:
        """Read the ledger."""
        found = []
        attempts = {
            mark_of(RunFolders(self.home, run).attempt(number, k)): (number, k)
            for run, number, k in self.query("SELECT run_id, number, k FROM trainings")
        }
        for line in self.ledger.read_text().splitlines():
            entry = json.loads(line)
            number, attempt = attempts.get(entry["attempt"], (-1, -1))  # of none that is on record
            found.append(
                Note(
                    entry["what"],
                    entry["at"],
                    number,
                    attempt,
                    entry["digest"],
                    entry.get("value"),
                    entry.get("waited", False),
                )
            )
        return found

    def processes(self) -> list[psutil.Process]:
        """Return all living processes whose environment names this site, or that show it in a sandbox."""
        ours = _namespace(os.getpid())
        return [
            process
            for process, environ in self._environments()
            if str(self.folder) in environ or self._is_in_sandbox(process, ours)
        ]

    def _is_in_sandbox(self, process: psutil.Process, ours: str) -> bool:
        """Tell whether it lives in namespaces that show a training's folder, whatever its environment."""
        if _namespace(process.pid) in ("", ours):
            return False
        return any(path.startswith(f"{self.home}/trainings/") for path in _mounts(process.pid))

    def mounts(self) -> list[str]:
        """Return what is mounted below the site where we live, but for the state directory itself."""
        return [path for path in _mounts(os.getpid()) if path.startswith(f"{self.home}/")]

    def trainings(self, *, waiting: bool = False) -> list[psutil.Process]:
        """Return the living processes of trainings, what they left behind included, or also what waits."""
        mark = f"\0{MARK}={home_mark(self.home)}"
        ahead = self.home.glob("trainings/*/ahead-*")
        others = [] if waiting else [f"{MARK}={mark}" for folder in ahead for mark in marks_of(folder)[1:]]
        return [
            process
            for process, environ in self._environments()
            if mark in f"\0{environ}" and not any(other in environ for other in others)
        ]

    def parts_of_trainings(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of trainings by place: bwrap, process 1 of its namespace, programs."""
        parts: dict[str, list[psutil.Process]] = {"bwrap": [], "init": [], "program": []}
        for process in self.trainings(waiting=True):
            wraps = Path((process.info["cmdline"] or [""])[0]).name == "bwrap"
            place = "init" if namespace_init(process.pid) else "bwrap" if wraps else "program"
            parts[place].append(process)
        return parts

    def supervisors(self) -> list[psutil.Process]:
        """Return the supervisors, those that own a training first."""
        found = [p for p in self.processes() if p.info["cmdline"][-1:] == [str(_supervisor())]]
        return sorted(found, key=lambda process: not _children(process))

    @staticmethod
    def _environments() -> Iterator[tuple[psutil.Process, str]]:
        for process in psutil.process_iter(["environ", "cmdline", "status"]):
            environ = process.info["environ"]
            if environ and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield process, "\0".join(f"{name}={value}" for name, value in environ.items())


def _mounts(pid: int) -> list[str]:
    """Return the mount points that a process sees, none where it is gone or there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.split()[4] for line in lines]


def _namespace(pid: int) -> str:
    """Name the mounts that a process sees; empty where it is gone or there is no /proc."""
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""


def namespace_init(pid: int) -> bool:
    """Tell whether a process is number 1 of a namespace of processes below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def _supervisor() -> Path:
    from loop.process import supervisor

    return Path(supervisor.__file__)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


@contextmanager
def mounted(home: Path) -> Iterator[bool]:
    """Make the state directory a small file system of its own where we may; say whether it is one."""
    home.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={HOME_SIZE},mode=700", "tmpfs", str(home)]
    allowed = sys.platform == "linux" and subprocess.run(mount, capture_output=True, check=False)
    if not allowed or allowed.returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)
