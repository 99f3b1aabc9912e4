"""The folders of a run's trainings, and the compile cache that passes from one to the next."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loop.evaluation.evaluator import MODEL
from loop.files import make_folders, remove, why_not_copied, writing
from loop.git.checkout import Source
from loop.process.programs import Program
from loop.process.trainer import AHEAD
from loop.sandbox.sandbox import Sandbox
from loop.sandbox.view import View, private_environment

log = logging.getLogger(__name__)

COMPILE_ONLY = "AUTORESEARCH_COMPILE_ONLY"  # with this variable a program compiles what it needs, and ends


def compiling_only(view: View, data: Sequence[Path]) -> View:
    """Return what a program sees that only compiles: no `data`, and that it is to do so."""
    environment = {**view.environment, COMPILE_ONLY: "1"}
    return replace(view, hidden=(*view.hidden, *data), environment=environment)


WORK, TMP = "work", "tmp"  # of a training's folder: the commit's files, and what is its own
CACHE = "cache"  # its name in the folder of a training, and among these folders
SECOND = "second"  # in the folder of a training: what the second process that answers for its model writes
MOST_BYTES, MOST_FILES = 4 * 2**30, 100_000  # of one that goes on


def fill_anew(source: Source, folder: Path, commit: str, program: str) -> None:
    """Make `folder` anew with the files of `commit` and `program` as its editable one."""
    remove(folder)
    source.fill(folder, commit)
    source.write_editable(folder, program)


class CompileCache:
    """What the trainings of a run have compiled: that of the last one whose program was kept.

    It lies beside the folders of all `trainings`; the next one begins with a copy of its own.
    """

    def __init__(self, trainings: Path) -> None:
        self._trainings = trainings
        self._folder = trainings / CACHE
        self._making = threading.Lock()  # of folders with a copy of it

    def make(self, training: Path, source: Source, commit: str) -> None:
        """Make the folder of a training, but for its editable file, as `commit` has it."""
        with self._making, writing(training):
            made = training.with_name(f"{training.name}.new")
            remove(made)
            made.mkdir(parents=True)
            source.fill(made / WORK, commit)
            (made / TMP).mkdir()
            self.copy_into(made)
            made.rename(training)

    def take(self, training: Path) -> None:
        """Let the next ones begin with this one's, also in the folders made ahead."""
        if problem := why_not_copied(training / CACHE, MOST_BYTES, MOST_FILES):
            log.warning("the compile cache of %s is given up: %s", training.name, problem)
            return
        with self._making:
            remove(self._folder)
            (training / CACHE).rename(self._folder)
            for folder in [made for made in self._trainings.glob(f"{AHEAD}-*") if not made.suffix]:
                try:
                    for old in (folder / CACHE).iterdir():  # the folder itself may be in use
                        remove(old)
                    self.copy_into(folder)
                except OSError as error:  # the disk is full, perhaps: it is made when it is needed
                    log.warning("no cache for the next training yet: %s", error)
                    remove(folder)

    def give(self, training: Path, compiled: Path) -> None:
        """Let a training that has not begun have what is new in another cache, which goes."""
        with self._making, writing(training):
            for folder, _, names in os.walk(compiled):  # neither link in either is followed
                for new in (Path(folder, name) for name in names):
                    path = new.relative_to(compiled)
                    if not os.path.lexists(training / CACHE / path):
                        make_folders(training / CACHE, str(path))
                        new.rename(training / CACHE / path)

    def answering(
        self, view: View, training: Path, sandbox: Sandbox, command: Sequence[str], count: int
    ) -> list[Program]:
        """Return what answers for the model of a training, whose `view` it has; nothing if it left none.

        Two of them can leave nothing for each other: what one may write, the other does not see. The second
        has its own temporary folder and copy of the cache, which are made.
        """
        if not (view.work / MODEL).is_file():
            return []
        views = [view]
        if count == 2:
            second = training / SECOND
            cache, tmp = second / CACHE, second / TMP
            remove(second)
            tmp.mkdir(parents=True)
            with self._making:
                self.copy_into(second)
            readable = (*view.readable, *(path for path in view.writable if path != training / CACHE))
            fixed, writable = (view.work,), (training / CACHE,)
            alone = replace(view, writable=writable, readable=readable, fixed=fixed, network=False)
            environment = {**view.environment, **private_environment(cache, tmp)}
            views = [alone, replace(alone, tmp=tmp, environment=environment, writable=(cache,))]
        return [Program(sandbox.wrap(each, command), each.work, each.environment) for each in views]

    def copy_into(self, training: Path) -> None:
        (training / CACHE).mkdir(exist_ok=True)
        if self._folder.is_dir():  # no link that a training made is followed
            shutil.copytree(self._folder, training / CACHE, symlinks=True, dirs_exist_ok=True)
