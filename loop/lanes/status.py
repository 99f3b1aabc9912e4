"""What people are shown and told of the lanes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loop.experiment import Cause, Experiment, Reason, Run, Stage
from loop.folders import RunFolders
from loop.lanes.protocol import Slot
from loop.logs.progress import Progress, read_progress
from loop.logs.tail import read_tail
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.lanes import LaneRecord, change_lane, lanes_of, write_lanes


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
    lanes = {each.lane: LaneStatus(each.lane, each.device, each.closed) for each in lanes_of(journal, run.id)}
    for lane, (experiment, is_repeat) in found.items():
        training = experiment.stage is Stage.TRAINING
        lanes[lane] = replace(
            lanes.get(lane) or LaneStatus(lane),
            experiment=experiment.number,
            stage=experiment.stage,
            description=experiment.description,
            repeat=is_repeat,
            training_since=experiment.started_at if training else None,
            progress=live_progress(journal, run, worktree, experiment) if training else None,
        )
    return tuple(lanes[lane] for lane in sorted(lanes))


def live_progress(journal: Journal, run: Run, worktree: Path, trains: Experiment) -> Progress | None:
    """Return how far a training is, by the end of its log; the first lane's lies in the worktree."""
    path = worktree / "run.log"
    if trains.lane:
        folders = RunFolders(journal.path.parent, run.id)
        path = folders.printed(trains.number, trains.attempt)
    return read_progress(read_tail(path, limit=4096))


# Told, of a run that has several


def record_lanes(journal: Journal, run: Run, slots: Sequence[Slot]) -> None:
    """Let `status` show these lanes; one that has the whole machine is nothing to tell."""
    wanted = [LaneRecord(slot.index, slot.device, slot.model) for slot in slots if slot.device]
    known = [lane for lane in lanes_of(journal, run.id) if lane.device]
    if wanted != known:
        write_lanes(journal, run.id, wanted)


def note_closed(journal: Journal, run: Run, slot: Slot, reason: Reason, left: int) -> None:
    """Record that a lane begins nothing, and notify people: of the lanes of a node once."""
    goes_on = "1 lane goes on" if left == 1 else f"{left} lanes go on" if left else "no lane is left"
    ends = "is retired" if reason.cause is Cause.GPU_GONE else "waits"
    why = _why(reason)
    known = reason.cause is Cause.NODE and any(lane.closed == why for lane in lanes_of(journal, run.id))
    record = LaneRecord(slot.index, slot.device, slot.model, reason.cause, why)
    notice = f"lane {slot.index} ({slot.device}) {ends}, {why}; {goes_on}"
    change_lane(journal, run.id, record, "" if known else notice)


def note_open(journal: Journal, run: Run, slot: Slot) -> None:
    """Record that a lane trains again, or at last; of those of a node people are notified once."""
    known = any(
        slot.node and lane.device.startswith(f"{slot.node} ") and not lane.closed
        for lane in lanes_of(journal, run.id)
    )
    record = LaneRecord(slot.index, slot.device, slot.model)
    notice = f"lane {slot.index} ({slot.device}) trains{'' if slot.node else ' again'}"
    change_lane(journal, run.id, record, "" if known else notice)


def _why(reason: Reason) -> str:
    if reason.cause is Cause.NODE:
        return str(reason.facts["error"])
    if reason.cause is Cause.GPU_GONE:
        return "its GPU is gone"
    return f"others use its GPU: {reason.facts.get('held_by', '')}"
