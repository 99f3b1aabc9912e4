"""Whether a training is alive: does it write, compute, or use its GPU?

A compilation that writes nothing for minutes burns CPU and is alive; a process that waits for what never
comes is not. What is counted is change between two looks, never the age of a file, so that a clock that is
set kills nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from loop.errors import UserError
from loop.logs.capture import LOG
from loop.logs.summary import read_numbers
from loop.machine import GpuState
from loop.process import supervisor as program
from loop.process.supervisor import MARK, OUTCOME, PATIENCE, boot_id, find_tree, start_time
from loop.process.trainer import (
    AHEAD,
    Process,
    home_mark,
    mark_of,
    marks_of,
    read_json,
    read_started,
    recorded_supervisor,
)

IDLE_SHARE = 0.01
"""Part of one CPU that a tree may use which only waits.

Measured on an H200 machine: torch asleep beside 16 idle compile workers used 0.001, training used 1.9.
"""

AFTER_SUMMARY = 30.0  # seconds without a sign of life that end a training whose summary is complete
AWAY = "away.json"  # in an attempt's folder: what was last seen of a training on another machine
UNSEEN_SECONDS = 30.0  # after which nothing is known of it, so that it counts as alive
LATENESS = 60.0  # seconds beyond its own limits that a supervisor may need on a busy machine


@dataclass(frozen=True, slots=True)
class Activity:
    """A training at one moment, `at` of the monotonic clock; `gpu_busy` is None where that is unknown."""

    at: float
    log_size: int
    log_mtime: float
    cpu_seconds: float
    gpu_busy: bool | None


@dataclass(frozen=True, slots=True)
class Quiet:
    """For how many seconds a training has given no sign of life, as far as it was watched."""

    activity: Activity
    seconds: float = 0.0


def sample(
    folder: Path, gpus: GpuState | None = None, *, now: Callable[[], float] = time.monotonic
) -> Activity:
    """Look at the training whose attempt has this folder. Takes some milliseconds."""
    try:
        status = (folder / LOG).stat()
        size, mtime = status.st_size, status.st_mtime
    except OSError:  # not there yet
        size, mtime = 0, 0.0
    match read_json(folder / AWAY):
        case {"life": int() | float() as life, "at": int() | float() as at}:
            return Activity(now(), size, mtime, life, gpu_busy=time.monotonic() - at > UNSEEN_SECONDS or None)
    supervisor = supervisor_of(folder)
    pids = find_tree(*marks_of(folder), root=supervisor.pid if supervisor else None)
    return Activity(
        at=now(),
        log_size=size,
        log_mtime=mtime,
        cpu_seconds=sum(map(_cpu_seconds, pids)),
        gpu_busy=gpus.busy(pids) if gpus else None,
    )


def watch(before: Quiet | None, now: Activity) -> Quiet:
    if before is None or _lives(before.activity, now):
        return Quiet(now)
    return Quiet(now, before.seconds + now.at - before.activity.at)


def is_stalled(quiet: Quiet, stall_minutes: float, *, measured: bool = False) -> bool:
    """Tell whether the training should be ended; sooner where it is `measured`, as its number is there."""
    patience = 60.0 * stall_minutes
    return quiet.seconds >= (min(AFTER_SUMMARY, patience) if measured else patience)


def is_measured(folder: Path, metric: str, pattern: str = "") -> bool:
    """Tell whether the number is in the log; `pattern` is SUMMARY_PATTERN. Blocks."""
    try:
        return metric in read_numbers(folder / LOG, cut_off=True, pattern=pattern)
    except UserError:  # the pattern takes too long: the outcome will say so
        return False


def is_overdue(folder: Path, *, now: Callable[[], float] = time.monotonic) -> bool:
    """Tell whether the training's supervisor should have ended it long ago, and so does not work."""
    match read_started(folder):
        case {
            "boot": boot,
            "monotonic": int() | float() as began,
            "deadline": int() | float() as deadline,
            "grace": int() | float() as grace,
        } if boot == boot_id() and not (folder / OUTCOME).exists():
            return now() > began + deadline + grace + PATIENCE + LATENESS
    return False


def supervisor_of(folder: Path) -> Process | None:
    process = recorded_supervisor(folder)
    return process if process and process.alive() else None


def _lives(before: Activity, now: Activity) -> bool:
    used = abs(now.cpu_seconds - before.cpu_seconds)  # it shrinks when a process ends: a sign of life too
    return (
        (now.log_size, now.log_mtime) != (before.log_size, before.log_mtime)
        or used > IDLE_SHARE * (now.at - before.at)
        or now.gpu_busy is True
    )


def _cpu_seconds(pid: int) -> float:
    """Return what the process and its children that have ended have used."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(sum(times[:4]))


@dataclass(frozen=True, slots=True)
class Marked:
    """A living process of the training whose attempt has this mark, or that `waits` for a training."""

    process: Process
    mark: str
    waits: bool = False


def is_of_training(pid: int) -> bool | None:
    """Tell whether a process is of a training, of whatever bot; None where it has ended and may have been.

    A training can change its environment, but not that its supervisor is above it.
    """
    try:
        process = psutil.Process(pid)
        return any(map(_is_training, (process, *process.parents())))
    except psutil.NoSuchProcess:
        return None


def _is_training(process: psutil.Process) -> bool:
    try:
        return str(program.__file__) in process.cmdline() or MARK in process.environ()
    except psutil.AccessDenied:  # another user's, such as root's: none of ours
        return False


class Owner(StrEnum):
    """Whose a process is, seen from one state directory."""

    CURRENT = "ours"
    ORPHAN = "left over from an ended training of ours"
    FOREIGN = "not ours"
    UNSEEN = "not seen from here"  # its pid is of another container


def find_marked(home: Path) -> tuple[Marked, ...]:
    """Return the processes of trainings of a state directory: those that have a mark, and what they started.

    A sandbox does not pass the mark on.
    """
    marks: dict[int, str] = {}
    parents: dict[int, int] = {}
    before = _folders(home)  # a folder may get its attempt's name meanwhile
    for process in psutil.process_iter(["environ", "ppid"]):
        parents[process.pid] = process.info["ppid"]
        mark = (process.info["environ"] or {}).get(MARK)
        if mark is None:
            continue
        if Path(mark).is_relative_to(home):  # of the last release
            mark = mark_of(Path(mark))
        if mark.startswith(home_mark(home)):
            marks[process.pid] = mark
    folders = _folders(home) | before
    found = []
    for pid in parents:
        line = [pid]
        while line[-1] not in marks and parents.get(line[-1], pid) not in line:
            line.append(parents[line[-1]])
        mark = marks.get(line[-1])
        if mark is not None and (started := start_time(pid)) is not None:
            folder = folders.get(mark)
            waits = folder is not None and folder.name.startswith(AHEAD)
            found.append(Marked(Process(pid, started), mark_of(folder) if folder else mark, waits))
    return tuple(found)


def _folders(home: Path) -> dict[str, Path]:
    """Return the folders of trainings by the marks of what was started in them ahead."""
    return {mark: folder for folder in home.glob("trainings/*/*-*") for mark in marks_of(folder)[1:]}


def orphans(marked: Collection[Marked], attempts: Collection[Path]) -> tuple[Marked, ...]:
    """Return the processes of trainings other than `attempts`, the folders of those under way.

    Ask for `attempts` after looking for `marked`: a training is on record before it runs, so one that began
    in between is no orphan.
    """
    current = set(map(mark_of, attempts))
    return tuple(process for process in marked if not process.waits and process.mark not in current)


def owner(pid: int, marked: Collection[Marked], attempts: Collection[Path]) -> Owner:
    if ours := [found for found in marked if found.process.pid == pid]:
        return Owner.ORPHAN if orphans(ours, attempts) else Owner.CURRENT
    return Owner.FOREIGN if start_time(pid) is not None else Owner.UNSEEN


def end_orphan(orphan: Marked) -> bool:
    if not orphan.process.alive():
        return False
    for pid in {orphan.process.pid, *find_tree(orphan.mark, root=orphan.process.pid)}:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return True
