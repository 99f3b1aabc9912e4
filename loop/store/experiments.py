"""What reports ask of the experiments table. `Journal` reads whole experiments; a row is their light form."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loop.experiment import Cost, Experiment, Family, Goal, Run, Status
from loop.store.journal import Journal
from loop.store.schema import decode, read_experiment
from loop.text import one_line

_MEASURED = (Status.KEEP, Status.DISCARD)
_PAGE = 500
_COMMIT = frozenset("0123456789abcdef")  # what is adopted may have a word in its place


@dataclass(frozen=True, slots=True)
class Row:
    """One decided experiment: the columns of `results.tsv`, then what only the journal knows.

    `commit` has seven characters, or is whatever word stands in a file of others. `value` is the metric,
    None where there is none: always for a crash and a skip. Times are seconds since the epoch. `family`,
    `expected`, `cost`, `waited` and `best_before` are as in `Experiment`.
    """

    number: int
    commit: str
    value: float | None
    memory_gb: float
    status: Status
    description: str
    reason: str = ""
    proposer: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    training_seconds: float | None = None
    total_seconds: float | None = None
    lines_added: int | None = None
    lines_removed: int | None = None
    family: Family | None = None
    expected: str = ""
    cost: Cost | None = None
    waited: float | None = None
    best_before: float | None = None

    def to_json(self, metric: str) -> dict[str, object]:
        """Return the experiment as `results --json` shows it, the value under the metric's name."""
        return {
            "number": self.number,
            "commit": self.commit,
            metric: self.value,
            "memory_gb": self.memory_gb,
            "status": self.status,
            "description": self.description,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "training_seconds": self.training_seconds,
            "total_seconds": self.total_seconds,
            "lines_added": self.lines_added,
            "lines_removed": self.lines_removed,
            "proposer": self.proposer,
            "family": self.family,
            "expected": self.expected,
            "cost": asdict(self.cost) if self.cost else None,
        }


def row_of(experiment: Experiment) -> Row:
    """Return the row of a decided experiment."""
    if experiment.status is None:
        raise ValueError(f"experiment {experiment.number} is not decided")
    return _row(**{name: getattr(experiment, name) for name in _TOLD})


def read_rows(journal: Journal, run_id: int, *, start: int = 0) -> list[Row]:
    """Return the rows of a run's decided experiments from number `start` on, as `row_of` gives them.

    Only what a row tells is read: whole experiments would take several times as long. And it is read page by
    page: SQLite's rows of a long run would take more memory than ours.
    """
    rows: list[Row] = []
    while found := _rows(
        journal,
        "run_id = ? AND number >= ? AND status IS NOT NULL ORDER BY number LIMIT ?",
        run_id,
        start,
        _PAGE,
    ):
        rows += found
        start = rows[-1].number + 1
    return rows


def largest_gains(journal: Journal, run_id: int, *, most: int) -> list[Row]:
    """Return the kept experiments but the baseline, those that changed the metric most first."""
    return _rows(
        journal,
        "run_id = ? AND number > 0 AND status = 'keep' "
        "ORDER BY abs(best_before - value) DESC, number LIMIT ?",
        run_id,
        most,
    )


def last_failures(journal: Journal, run_id: int, *, most: int) -> list[Row]:
    return _rows(
        journal,
        "run_id = ? AND number > 0 AND status IN ('discard', 'crash') ORDER BY number DESC LIMIT ?",
        run_id,
        most,
    )


def last_discarded_values(
    journal: Journal, run_id: int, *, most: int
) -> list[tuple[float | None, float | None]]:
    """Return the best before and the value of the experiments that were discarded last, the newest first."""
    rows = journal.query(
        "SELECT best_before, value FROM experiments "
        "WHERE run_id = ? AND number > 0 AND status = 'discard' ORDER BY number DESC LIMIT ?",
        run_id,
        most,
    )
    return [(row["best_before"], row["value"]) for row in rows]


def family_tries(
    journal: Journal, run_ids: Collection[int], goal: Goal
) -> list[tuple[Family, Status, int, float | None, float | None]]:
    """Return how often ideas of each family got each verdict in these runs.

    With each count come the best before and the value of the one among them that gained most.
    """
    better = "best_before - value" if goal is Goal.MINIMIZE else "value - best_before"
    # What stands beside a max() is of the row that has it: https://sqlite.org/lang_select.html#bareagg
    rows = journal.query(
        f"SELECT family, status, count(*) AS tries, best_before, value, max({better}) FROM experiments "  # noqa: S608
        "WHERE run_id IN (SELECT value FROM json_each(?)) AND family IS NOT NULL AND status IS NOT NULL "
        "GROUP BY family, status",
        json.dumps([*run_ids]),
    )
    return [
        (Family(row["family"]), Status(row["status"]), row["tries"], row["best_before"], row["value"])
        for row in rows
    ]


def runs_like(journal: Journal, run: Run, *, most: int) -> list[Run]:
    """Return the newest other runs of the same repository and metric that have tried something, by age."""
    rows = journal.query(
        "SELECT * FROM runs WHERE id != ? AND repository = ? AND metric = ? AND goal = ? "
        "AND EXISTS (SELECT 1 FROM experiments WHERE run_id = runs.id AND number > 0 AND status IS NOT NULL) "
        "ORDER BY id DESC LIMIT ?",
        run.id,
        str(run.repository),
        run.metric,
        run.goal.value,
        most,
    )
    return [Run(**decode(row)) for row in reversed(rows)]


def with_program(journal: Journal, run_id: int, program: str) -> Experiment | None:
    rows = journal.query(
        "SELECT * FROM experiment_rows WHERE run_id = ? AND program = ? ORDER BY number LIMIT 1",
        run_id,
        program,
    )
    return read_experiment(rows[0]) if rows else None


def decided_by(journal: Journal, run_id: int, at: float) -> int:
    """Return how many experiments were decided by then; they are in the order of their numbers."""
    return _count(journal, "run_id = ? AND status IS NOT NULL AND coalesce(decided_at, 0) <= ?", run_id, at)


def waited_longer(journal: Journal, run_id: int, seconds: float) -> int:
    return _count(journal, "run_id = ? AND waited > ?", run_id, seconds)


def last_number_at(journal: Journal, run_id: int, *, until: float) -> float | None:
    """Return when an experiment last brought a number, None where none has by `until`."""
    (row,) = journal.query(
        "SELECT max(decided_at) FROM experiments "
        "WHERE run_id = ? AND status IN ('keep', 'discard') AND decided_at <= ?",
        run_id,
        until,
    )
    return None if row[0] is None else float(row[0])


_ALIKE = (
    "number",
    "status",
    "reason",
    "proposer",
    "started_at",
    "ended_at",
    "lines_added",
    "lines_removed",
    "family",
    "expected",
    "cost",
    "waited",
    "best_before",
)
"""Fields of an experiment that a row has as they are."""

_TOLD = ("commit", "value", "description", "numbers", *_ALIKE)
_SELECT_ROW = "SELECT " + ", ".join(f'"{name}"' for name in _TOLD) + " FROM experiment_rows WHERE "  # noqa: S608


def _rows(journal: Journal, which: str, *values: object) -> list[Row]:
    return [_row(**decode(columns)) for columns in journal.query(_SELECT_ROW + which, *values)]


def _row(
    *, commit: str, value: float | None, description: str, numbers: Mapping[str, float], **alike: Any
) -> Row:
    return Row(
        commit=commit[:7] if len(commit) >= 7 and _COMMIT.issuperset(commit) else commit,
        value=value if alike["status"] in _MEASURED else None,
        memory_gb=(_finite(numbers.get("peak_vram_mb")) or 0.0) / 1024,
        description=one_line(description),
        training_seconds=_finite(numbers.get("training_seconds")),
        total_seconds=_finite(numbers.get("total_seconds")),
        **alike,
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _count(journal: Journal, which: str, *values: object) -> int:
    (row,) = journal.query("SELECT count(*) FROM experiments WHERE " + which, *values)  # noqa: S608
    return int(row[0])
