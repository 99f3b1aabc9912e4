"""What the trainings of a run have compiled: the next one begins with a copy of its own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from loop.files import remove, why_not_copied

log = logging.getLogger(__name__)

CACHE = "cache"  # its name in the folder of a training, and among these folders
MOST_BYTES, MOST_FILES = 4 * 2**30, 100_000  # of one that goes on


class CompileCache:
    """That of the last training whose program was kept, beside the folders of all `trainings`."""

    def __init__(self, trainings: Path) -> None:
        self._folder = trainings / CACHE

    def take(self, training: Path, ahead: Iterable[Path]) -> None:
        """Let the next ones begin with this one's, also in the folders made `ahead`."""
        if problem := why_not_copied(training / CACHE, MOST_BYTES, MOST_FILES):
            log.warning("the compile cache of %s is given up: %s", training.name, problem)
            return
        remove(self._folder)
        (training / CACHE).rename(self._folder)
        for folder in ahead:
            try:
                for old in (folder / CACHE).iterdir():  # the folder itself may be in use
                    remove(old)
                self.copy_into(folder)
            except OSError as error:  # the disk is full, perhaps: it is made when it is needed
                log.warning("no cache for the next training yet: %s", error)
                remove(folder)

    def copy_into(self, training: Path) -> None:
        (training / CACHE).mkdir(exist_ok=True)
        if self._folder.is_dir():  # no link that a training made is followed
            shutil.copytree(self._folder, training / CACHE, symlinks=True, dirs_exist_ok=True)
