"""What a run keeps of its decided experiments beside the journal: results.tsv and the ends of logs."""

from __future__ import annotations

import logging
from pathlib import Path

from loop.engine.launcher import Launcher
from loop.experiment import Experiment
from loop.git.workspace import Workspace
from loop.results.table import append_result, write_results
from loop.store.experiments import read_rows, row_of
from loop.store.journal import Journal

log = logging.getLogger(__name__)


class Archive:
    """Takes in each experiment as it is decided, and files it when there is time for it.

    `folder` is where the logs are kept and `metric` the name of the results' column. What is not filed when
    the process ends is made up for by `mend`.
    """

    def __init__(
        self, *, journal: Journal, workspace: Workspace, launcher: Launcher, folder: Path, metric: str
    ) -> None:
        self._journal = journal
        self._workspace = workspace
        self._launcher = launcher
        self._folder = folder
        self._metric = metric
        self._waiting: list[Experiment] = []

    @property
    def complete(self) -> bool:
        """Whether everything is filed."""
        return not self._waiting

    def add(self, decided: Experiment) -> None:
        """Take in an experiment whose verdict is in the journal."""
        log.info("%s #%d: %s (%s)", self._workspace.tag, decided.number, decided.status, decided.reason)
        self._waiting.append(decided)

    def file(self) -> None:
        """Export the rows of what was taken in, keep the logs and remove the files of the trainings.

        Raises:
            LoopError, OSError: the disk does not take it.
        """
        while self._waiting:
            decided = self._waiting[0]
            append_result(self._results, row_of(decided), metric=self._metric)
            self._keep_log(decided)
            del self._waiting[0]

    def mend(self, run_id: int) -> None:
        """Export all rows anew and file what an engine before this one had no time for.

        Raises:
            LoopError, OSError: the disk does not take it.
        """
        rows = read_rows(self._journal, run_id)
        write_results(self._results, rows, metric=self._metric)
        last = self._journal.experiment(run_id, rows[-1].number) if rows else None
        if last is not None and not self.log_of(last.number).exists():
            self._keep_log(last)
        self._waiting.clear()

    def log_of(self, number: int) -> Path:
        """Return where the end of a decided experiment's log is kept."""
        return self._folder / f"{number}.log"

    def _keep_log(self, decided: Experiment) -> None:
        if decided.attempt:
            self._folder.mkdir(parents=True, exist_ok=True)
            tail = self._launcher.log_of(decided)
            self.log_of(decided.number).write_text(tail, encoding="utf-8", errors="replace")
        self._launcher.clear(decided)

    @property
    def _results(self) -> Path:
        return self._workspace.path / "results.tsv"
