"""Whose a process is: every process of a training carries the mark of its attempt's folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from loop.process.supervisor import MARK, find_tree, start_time
from loop.process.trainer import Process


@dataclass(frozen=True, slots=True)
class Marked:
    """A living process of the training whose attempt has this folder."""

    process: Process
    folder: Path


class Owner(StrEnum):
    """Whose a process is, seen from one state directory."""

    CURRENT = "ours"
    ORPHAN = "left over from an ended training of ours"
    FOREIGN = "not ours"
    UNSEEN = "not seen from here"  # its pid is of another container


def find_marked(home: Path) -> tuple[Marked, ...]:
    """Find the processes of all trainings whose attempts lie below `home`."""
    found = []
    for process in psutil.process_iter(["environ"]):
        mark = (process.info["environ"] or {}).get(MARK)
        if mark is None or not Path(mark).is_relative_to(home):
            continue
        started = start_time(process.pid)
        if started is not None:
            found.append(Marked(Process(process.pid, started), Path(mark)))
    return tuple(found)


def orphans(marked: Collection[Marked], attempts: Collection[Path]) -> tuple[Marked, ...]:
    """Return the processes of trainings other than `attempts`, the folders of those under way.

    Ask for `attempts` after looking for `marked`: a training is on record before it runs, so one that began
    in between is no orphan.
    """
    return tuple(process for process in marked if process.folder not in attempts)


def owner(pid: int, marked: Collection[Marked], attempts: Collection[Path]) -> Owner:
    """Say whose the process is."""
    folders: Mapping[int, Path] = {found.process.pid: found.folder for found in marked}
    if pid in folders:
        return Owner.CURRENT if folders[pid] in attempts else Owner.ORPHAN
    return Owner.FOREIGN if start_time(pid) is not None else Owner.UNSEEN


def end_orphan(orphan: Marked) -> bool:
    """Kill what is left of the orphan's training; False where it has gone by itself."""
    if not orphan.process.alive():
        return False
    for pid in find_tree(str(orphan.folder), orphan.process.pid):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return True
