"""The lanes of a run that has several: where each trains, and why one begins nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loop.experiment import Cause, EventKind
from loop.store.journal import Journal
from loop.store.tables.schema import decode


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """A lane as `status` shows it; `closed` says, as a clause, why it begins nothing, empty while it does.

    `cause` is that as a fact: one whose GPU is gone stays closed, one that others use opens again.
    """

    lane: int
    device: str = ""
    model: str = ""
    cause: Cause | None = None
    closed: str = ""


def write_lanes(journal: Journal, run_id: int, lanes: Sequence[LaneRecord]) -> None:
    with journal.transaction():
        journal.execute("DELETE FROM lanes WHERE run_id = ?", run_id)
        for lane in lanes:
            _write(journal, run_id, lane)


def change_lane(journal: Journal, run_id: int, lane: LaneRecord, notice: str) -> None:
    """Write what became of a lane, and notify people, as a clause; empty: of nothing new."""
    with journal.transaction() as append:
        _write(journal, run_id, lane)
        if notice:
            append(run_id, EventKind.NOTED, reason=notice)


def lanes_of(journal: Journal, run_id: int) -> tuple[LaneRecord, ...]:
    """Return the lanes of a run, the one that has the whole machine where it has no several."""
    rows = journal.query(
        "SELECT lane, device, model, cause, closed FROM lanes WHERE run_id = ? ORDER BY lane", run_id
    )
    return tuple(LaneRecord(**decode(row)) for row in rows) or (LaneRecord(0),)


def _write(journal: Journal, run_id: int, lane: LaneRecord) -> None:
    journal.insert("lanes", unique=("run_id", "lane"), run_id=run_id, **asdict(lane))
