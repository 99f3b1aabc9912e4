"""How a run stands at this moment, read from the journal and the log of the training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop.experiment import Cost, Reason, Run, RunState, Stage, Status
from loop.process.log import read_tail
from loop.process.progress import Progress, read_progress
from loop.results.report import EMPTY_SECONDS
from loop.store.experiments import waited_longer
from loop.store.journal import Journal
from loop.store.spending import Budget


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run's state, the experiment under way, the best so far and the counts.

    `experiment`, `stage` and `description` are None between experiments. Times are seconds since the epoch;
    `best_at` is when the last kept experiment was decided. `queue_empty`, `dollars` and `tokens` are as in
    `Report`.
    """

    tag: str
    state: RunState
    reason: Reason | None
    metric: str
    experiment: int | None
    stage: Stage | None
    description: str | None
    training_since: float | None
    progress: Progress | None
    best: float | None
    best_number: int | None
    best_at: float | None
    baseline: float | None
    keep: int
    discard: int
    crash: int
    skipped: int
    started_at: float
    heartbeat_at: float | None
    queue_empty: int = 0
    dollars: float | None = None
    tokens: int | None = None

    @property
    def experiments(self) -> int:
        return self.keep + self.discard + self.crash


def run_status(journal: Journal, run: Run, *, worktree: Path) -> RunStatus:
    experiment = next(iter(journal.undecided(run.id)), None)  # of several lanes the first begun
    training = experiment is not None and experiment.stage is Stage.TRAINING
    best = journal.best(run.id)
    baseline = journal.baseline(run.id)
    counts = journal.counts(run.id)
    spent = Budget(journal).of_run(run.id)
    asked = spent != Cost()
    return RunStatus(
        tag=run.tag,
        state=run.state,
        reason=run.reason,
        metric=run.metric,
        experiment=experiment.number if experiment else None,
        stage=experiment.stage if experiment else None,
        description=experiment.description if experiment else None,
        training_since=experiment.started_at if experiment and training else None,
        progress=read_progress(read_tail(worktree / "run.log", limit=4096)) if training else None,
        best=best.value if best else None,
        best_number=best.number if best else None,
        best_at=best.decided_at if best else None,
        baseline=baseline.value if baseline else None,
        keep=counts[Status.KEEP],
        discard=counts[Status.DISCARD],
        crash=counts[Status.CRASH],
        skipped=counts[Status.SKIP],
        started_at=run.created_at,
        heartbeat_at=journal.last_beat(),
        queue_empty=waited_longer(journal, run.id, EMPTY_SECONDS),
        dollars=spent.dollars if asked else None,
        tokens=spent.tokens if asked else None,
    )
