"""Where a run has its trainings and what stays of them. This imports next to nothing: `status` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop.logs.capture import LOG


@dataclass(frozen=True, slots=True)
class RunFolders:
    """Where a run keeps its trainings and the ends of their logs, in the state directory `home`."""

    home: Path
    run_id: int

    @property
    def trainings(self) -> Path:
        return self.home / "trainings" / str(self.run_id)

    @property
    def logs(self) -> Path:
        return self.home / "runs" / str(self.run_id)

    @property
    def losses(self) -> Path:
        """Where the evaluator's losses of each position lie, a file for each candidate."""
        return self.logs / "evaluations"

    def attempt(self, number: int, k: int) -> Path:
        return self.trainings / f"{number}-{k}"

    def printed(self, number: int, k: int) -> Path:
        return self.attempt(number, k) / LOG

    def log(self, number: int) -> Path:
        return self.logs / f"{number}.log"


def worktree(home: Path, tag: str) -> Path:
    return home / "worktrees" / tag
