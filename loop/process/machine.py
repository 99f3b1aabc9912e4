"""What a run needs of its machine: room on the disk, a place to write, a clock that runs evenly."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAUSE_BYTES, PAUSE_SHARE = 1e9, 0.05
"""With less room than this, and than this part of the disk, the next training may lose its result."""

WARN_BYTES, WARN_SHARE = 5e9, 0.1
"""With less room than this, and than this part of the disk, a night may not fit any more."""

_TRIAL_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds `folder`; sizes are in bytes, `free` is what we may still use."""

    folder: Path
    free: float
    total: float

    @property
    def low(self) -> bool:
        """Say whether no training should be started."""
        return self.free < self._pause_limit

    @property
    def short(self) -> bool:
        """Say whether a person should hear of it."""
        return self.free < min(WARN_BYTES, WARN_SHARE * self.total)

    @property
    def ample(self) -> bool:
        """Say whether trainings may go on after it was low: not at the first byte above the limit."""
        return self.free >= 2 * self._pause_limit

    @property
    def _pause_limit(self) -> float:
        return min(PAUSE_BYTES, PAUSE_SHARE * self.total)


def disks(*folders: Path) -> tuple[Disk, ...]:
    """Measure the file systems of folders, each once; a folder need not exist yet.

    One that does not answer is left out: what needs it will say so.
    """
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

    `jumped` is how far somebody set it, backwards below 0; `slept` is how long the machine was suspended.
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
        """Say what happened since the last look, or since the watch was made."""
        before, self._last = self._last, self._read()
        wall, since_boot, awake = (now - then for now, then in zip(self._last, before, strict=True))
        return ClockChange(jumped=wall - since_boot, slept=since_boot - awake)

    def _read(self) -> tuple[float, float, float]:
        wall, since_boot, awake = self._clocks
        return wall(), since_boot(), awake()
