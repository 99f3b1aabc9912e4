"""Reads what proposers are shown: a run's state in the journal, in git and in the files of its trainings."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from loop.errors import UserError
from loop.experiment import Ending, Experiment, Run, Status
from loop.git.workspace import Workspace
from loop.process.error_line import tells_of_full_memory
from loop.process.log import read_tail
from loop.process.supervisor import LOG
from loop.process.trainer import attempt_folder
from loop.proposers.protocol import Context, Failure
from loop.results.gains import lessons_of_others, near_misses
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal

SHOWN = 1000
"""How many of the last experiments a proposer is shown."""

LESSONS = 100
"""How many lessons of each earlier run it is shown."""

DIFFS = 60
"""How many kept experiments it is shown with their diffs, the last ones."""

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # the latter by way of a shell or `uv run`

INSTRUCTIONS = "program.md"
"""What the human tells the researcher, in the repository."""


class ContextReader:
    """Reads contexts of one run. Blocks for git and SQLite: use it in a worker thread.

    `folder` holds the files of the run's trainings and the ends of their logs.
    """

    def __init__(self, *, journal: Journal, workspace: Workspace, folder: Path) -> None:
        self._journal = journal
        self._workspace = workspace
        self._folder = folder
        self._diff = lru_cache(maxsize=256)(workspace.diff)  # by commit: a diff never changes
        self._text = lru_cache(maxsize=16)(workspace.text)

    def read(self, run: Run) -> Context:
        best = self._journal.best(run.id)
        parent = best.commit if best else run.base_commit
        experiments = self._experiments(run)
        return Context(
            run=run,
            source=self._workspace.source(parent),
            parent=parent,
            experiments=experiments,
            ideas=IdeaBox(self._journal).waiting(run.id),
            changes=self._changes(run, experiments),
            files=self._files(run),
            lessons=tuple(lessons_of_others(self._journal, run, most=LESSONS)),
        )

    def failure(self, experiment: Experiment, parent: str) -> Failure:
        """Return what is known of a crash, with its program carried over to `parent`."""
        # A verdict is in the journal before its log is filed, after which that of the attempt is removed.
        text = read_tail(attempt_folder(self._folder, experiment.number, experiment.attempt) / LOG)
        text = text or read_tail(self._folder / f"{experiment.number}.log")
        crashed = self._workspace.source(experiment.commit)
        source = self._workspace.carry_over(crashed, experiment.parent, parent)
        if source is None:
            raise UserError("The crashed program conflicts with what was kept since.")
        return Failure(experiment, source, text, _is_out_of_memory(experiment, text))

    def _experiments(self, run: Run) -> tuple[Experiment, ...]:
        """Return the last experiments, and before them the best when the first of them was made.

        Without that one it is unknown what they changed.
        """
        shown = self._journal.experiments(run.id, last=SHOWN)
        best = self._journal.best(run.id, before=shown[0].number) if shown else None
        return (best, *shown) if best else tuple(shown)

    def _changes(self, run: Run, experiments: Sequence[Experiment]) -> dict[int, str]:
        kept = [e for e in experiments if e.status is Status.KEEP and e.number][-DIFFS:]
        changes = {}
        for experiment in (*kept, *near_misses(experiments, run.goal)):
            with suppress(UserError):  # git may have lost the commit of one that was adopted
                changes[experiment.number] = self._diff(experiment.commit)
        return changes

    def _files(self, run: Run) -> dict[str, str]:
        texts = {}
        for path in (INSTRUCTIONS, *self._workspace.frozen):
            try:
                texts[path] = self._text(run.base_commit, path)
            except UserError:  # a repository may be without instructions
                continue
        return texts


def _is_out_of_memory(experiment: Experiment, log: str) -> bool:
    """Return whether the memory was full: the log says so, unless the system killed the training."""
    killed = experiment.ending is Ending.EXITED and experiment.exit_code in _KILLED
    return killed or tells_of_full_memory(log)
