"""A Python that waits for the next training, started in the folder made ahead: where, and what it fits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from loop.engine.ahead.program import waiting_command
from loop.process.machine import cores, look_at_gpus
from loop.process.trainer import Job
from loop.program.start import Start, find_start

FEWEST_CORES = 4
"""With fewer, its imports would take time from the training under way."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in place of `job`, the next training in the folder made ahead, and what it begins with."""

    command: tuple[str, ...]
    job: Job
    editable: str
    start: Start
    places: tuple[int, ...]

    def fits(self, job: Job) -> bool:
        """Tell whether it can become the training: in the same folders under another name, all else equal."""
        with suppress(OSError):
            if _places(job.folder) == self.places and _moved(job, self.job.folder) == self.job:
                source = (job.cwd / self.editable).read_text(encoding="utf-8", errors="replace")
                return self.start.serves(_start_of(source, job.cwd, self.editable))
        return False


def is_worthwhile(environ: Mapping[str, str]) -> bool:
    """Tell whether trainings with these variables compute on a GPU, beside which there are cores to spare."""
    if cores() < FEWEST_CORES:
        return False
    gpus = look_at_gpus()
    return bool(gpus and gpus.of(environ.get("CUDA_VISIBLE_DEVICES")).gpus)


def plan_waiting(job: Job, argv: Sequence[str], source: str, editable: str) -> Waiting | None:
    """Return what may wait in place of `job`, where `argv` starts `source` as `editable`; None if nothing."""
    start = _start_of(source, job.cwd, editable)
    command = waiting_command(argv, editable, start.imports, [astuple(each) for each in start.variables])
    paths = filter(None, job.env.get("PYTHONPATH", "").split(os.pathsep))
    if not start.imports or command is None or not all(map(os.path.isabs, paths)):
        return None
    return Waiting(command, job, editable, start, _places(job.folder))


def _start_of(source: str, work: Path, editable: str) -> Start:
    beside = (work / editable).parent

    def read(name: str) -> str | None:
        path = beside / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    return find_start(source, {*(path.name for path in beside.iterdir()), Path(editable).name}, read)


def _places(folder: Path) -> tuple[int, ...]:
    """Return what tells the folders of an attempt from others of these names."""
    own = sorted(path for path in folder.iterdir() if path.is_dir())
    return tuple(path.stat().st_ino for path in (folder, *own))


def _moved(job: Job, folder: Path) -> Job:
    """Return what the job would be in another folder of its run."""
    old, new = ("/".join(path.parts[-3:]) for path in (job.folder, folder))
    return replace(
        job,
        argv=tuple(word.replace(old, new) for word in job.argv),
        env={name: value.replace(old, new) for name, value in job.env.items()},
        cwd=folder / job.cwd.relative_to(job.folder),
        folder=folder,
    )
