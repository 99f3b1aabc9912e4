"""What each lane of a run does at this moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from loop.experiment import Experiment, Run, Stage
from loop.folders import RunFolders
from loop.logs.progress import Progress, read_progress
from loop.logs.tail import read_tail
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.lanes import LaneRecord, lanes_of


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """A lane with its experiment, or the repeat of one; without a `device` it has the whole machine.

    `closed` says, as a clause, why it begins nothing.
    """

    lane: int
    device: str = ""
    closed: str = ""
    experiment: int | None = None
    stage: Stage | None = None
    description: str | None = None
    repeat: bool = False
    training_since: float | None = None
    progress: Progress | None = None


def lane_statuses(journal: Journal, run: Run, *, worktree: Path) -> tuple[LaneStatus, ...]:
    """Return the lanes of a run in their order, also those that it has no more but for what trains there."""
    found = {experiment.lane: (experiment, False) for experiment in journal.undecided(run.id)}
    for begun in Repeats(journal).under_way(run.id):
        if repeated := journal.experiment(run.id, begun.repeat.number):
            trains = replace(repeated, stage=Stage.TRAINING, training=begun.training, lane=begun.lane)
            found[begun.lane] = trains, True
    lanes = {record.lane: record for record in lanes_of(journal, run.id)}
    lanes |= {lane: LaneRecord(lane) for lane in found.keys() - lanes.keys()}
    return tuple(
        _status(journal, run, record, *found.get(lane, (None, False)), worktree=worktree)
        for lane, record in sorted(lanes.items())
    )


def _status(
    journal: Journal,
    run: Run,
    record: LaneRecord,
    experiment: Experiment | None,
    repeat: bool,
    *,
    worktree: Path,
) -> LaneStatus:
    known = LaneStatus(record.lane, record.device, record.closed)
    if experiment is None:
        return known
    training = experiment.stage is Stage.TRAINING
    return replace(
        known,
        experiment=experiment.number,
        stage=experiment.stage,
        description=experiment.description,
        repeat=repeat,
        training_since=experiment.started_at if training else None,
        progress=live_progress(journal, run, worktree, experiment) if training else None,
    )


def live_progress(journal: Journal, run: Run, worktree: Path, trains: Experiment) -> Progress | None:
    """Return how far a training is, by the end of its log; the first lane's lies in the worktree."""
    path = worktree / "run.log"
    if trains.lane:
        folders = RunFolders(journal.path.parent, run.id)
        path = folders.printed(trains.number, trains.attempt)
    return read_progress(read_tail(path, limit=4096))
