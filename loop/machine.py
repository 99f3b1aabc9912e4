"""What a run needs of its machine: room on the disk, a place to write, a clock that runs evenly."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loop.shell import NOT_RUN, run

PAUSE_BYTES, PAUSE_SHARE = 1e9, 0.05  # with less than both, the next training may lose its result
WARN_BYTES, WARN_SHARE = 5e9, 0.1  # with less than both, a night may not fit any more

_TRIAL_BYTES = 2**16
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> float:
    """Return how many cores we may use, in a container perhaps not whole ones."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with suppress(OSError, ValueError):  # no limit
        quota, period = map(float, QUOTA.read_text().split())
        count = min(count, quota / period)
    return count


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds `folder`; sizes are in bytes, `free` is what we may still use."""

    folder: Path
    free: float
    total: float

    @property
    def low(self) -> bool:
        return self.free < self._pause_limit

    @property
    def short(self) -> bool:
        return self.free < min(WARN_BYTES, WARN_SHARE * self.total)

    @property
    def ample(self) -> bool:
        """Say whether trainings may go on after it was low: not at the first byte above the limit."""
        return self.free >= 2 * self._pause_limit

    @property
    def _pause_limit(self) -> float:
        return min(PAUSE_BYTES, PAUSE_SHARE * self.total)


def disks(*folders: Path) -> tuple[Disk, ...]:
    """Measure the file systems of folders, each once, as far as they answer; a folder need not exist yet."""
    found: dict[int, Disk] = {}
    for folder in folders:
        with suppress(OSError):
            place = next(path for path in (folder, *folder.parents) if path.exists())
            usage = shutil.disk_usage(place)
            found.setdefault(place.stat().st_dev, Disk(folder, usage.free, usage.total))
    return tuple(found.values())


def cannot_write(path: Path) -> str:
    """Say why the file at `path`, or one beside it, cannot be written; empty where both can."""
    if path.exists() and not os.access(path, os.W_OK):
        return "permission denied"
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())  # some file systems refuse only here
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


@dataclass(frozen=True, slots=True)
class ClockChange:
    """What the wall clock did between two looks, in seconds.

    `jumped` is how far it was set, backwards below 0; `slept` is how long the machine was suspended.
    """

    jumped: float = 0.0
    slept: float = 0.0


def _since_boot() -> float:
    # The clock that runs on while the machine sleeps; `time.monotonic` stands still then.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ClockWatch:
    """Compares the clocks from look to look. `since_boot` counts sleep and `awake` does not."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = _since_boot,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clocks = (wall, since_boot, awake)
        self._last = self._read()

    def look(self) -> ClockChange:
        before, self._last = self._last, self._read()
        wall, since_boot, awake = (now - then for now, then in zip(self._last, before, strict=True))
        return ClockChange(jumped=wall - since_boot, slept=since_boot - awake)

    def _read(self) -> tuple[float, float, float]:
        wall, since_boot, awake = self._clocks
        return wall(), since_boot(), awake()


PATIENCE = 10.0  # seconds for nvidia-smi to answer: without persistence mode it first wakes the driver

_FORMAT = "--format=csv,noheader,nounits"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory is in MiB, `utilization` in percent; None where that is unknown, as under MIG."""

    index: int
    uuid: str
    memory_mb: float | None
    free_mb: float | None
    utilization: float | None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on the GPU `gpu` (a UUID). `pid` is the host's: a container may not know it."""

    pid: int
    memory_mb: float | None
    name: str
    gpu: str


@dataclass(frozen=True, slots=True)
class GpuState:
    """The GPUs at one moment; none where nvidia-smi finds none."""

    gpus: tuple[Gpu, ...]
    processes: tuple[GpuProcess, ...]

    def of(self, devices: str | None) -> GpuState:
        """Return what `devices`, a value of CUDA_VISIBLE_DEVICES, lets a training see; None: everything."""
        if devices is None:
            return self
        names = [name.strip() for name in devices.split(",")]
        gpus = tuple(gpu for gpu in self.gpus if any(matches(name, gpu) for name in names))
        uuids = {gpu.uuid for gpu in gpus}
        return GpuState(gpus, tuple(process for process in self.processes if process.gpu in uuids))

    def busy(self, pids: Collection[int]) -> bool | None:
        """Tell whether a GPU that one of `pids` uses computes just now; None where that cannot be known.

        Where none of them is seen on a GPU, as from within a container, any GPU that computes counts.
        """
        theirs = {process.gpu for process in self.processes if process.pid in pids}
        watched = [gpu.utilization for gpu in self.gpus if not theirs or gpu.uuid in theirs]
        known = [percent for percent in watched if percent is not None]
        return any(known) if known else None


def look_at_gpus() -> GpuState | None:
    """Ask nvidia-smi; None where it is not installed or does not answer. May take `PATIENCE` seconds."""
    gpus = ask_nvidia_smi("--query-gpu=index,uuid,memory.total,memory.free,utilization.gpu", _FORMAT)
    if gpus is None:
        return None
    # A name may contain a comma, so it comes last.
    processes = ask_nvidia_smi("--query-compute-apps=pid,used_gpu_memory,gpu_uuid,process_name", _FORMAT)
    return GpuState(
        tuple(
            Gpu(int(index), uuid, _number(total), _number(free), _number(percent))
            for index, uuid, total, free, percent in _rows(gpus, 5)
        ),
        tuple(
            GpuProcess(int(pid), _number(memory), name, uuid)
            for pid, memory, uuid, name in _rows(processes, 4)
        ),
    )


def ask_nvidia_smi(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    answer = run((program, *arguments), seconds=PATIENCE)
    return None if answer.returncode == NOT_RUN else answer


def _rows(answer: subprocess.CompletedProcess[str] | None, fields: int) -> list[list[str]]:
    """Split the lines that are rows, which begin with a number; errors stand among them."""
    lines = answer.stdout.splitlines() if answer else []
    rows = [line.split(", ", fields - 1) for line in lines]
    return [row for row in rows if len(row) == fields and row[0].isdecimal()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A], [Insufficient Permissions]
        return None


def matches(name: str, gpu: Gpu) -> bool:
    """Tell whether a name in CUDA_VISIBLE_DEVICES means this GPU."""
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))
