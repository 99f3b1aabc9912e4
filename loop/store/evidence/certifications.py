"""Certifications in the journal: asked for, begun with their repeats, ended with what is certain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from loop.evidence import Certification, Certified, RepeatFor
from loop.experiment import EventKind
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.tables.schema import decode, values_of

_RECENT = 9  # trainings, by which it is told how long the next one takes


class Certifications:
    """The certifications of all runs; of each at most one is open. Every change is a transaction."""

    def __init__(self, journal: Journal, *, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self._repeats = Repeats(journal, clock=clock)

    def ask(
        self,
        run_id: int,
        pairs: int,
        *,
        until: float | None = None,
        asked_by: str = "",
        answered_in: str = "",
    ) -> Certification:
        asked = Certification(
            0, run_id, pairs, self._clock(), until=until, asked_by=asked_by, answered_in=answered_in
        )
        with self._journal.transaction() as append:
            id_ = self._journal.insert("certifications", unique=(), **values_of(asked, but="id"))
            facts = {"certification": id_, "name": asked_by, "answered_in": answered_in}
            append(run_id, EventKind.CERTIFYING, **facts)
        return replace(asked, id=id_)

    def begin(
        self, asked: Certification, head: int, baseline: int, wanted: Sequence[tuple[int, int | None]]
    ) -> None:
        """Want its repeats, in this order, each an experiment's number and a seed."""
        with self._journal.transaction() as append:
            self._write(replace(asked, head=head, baseline=baseline, started_at=self._clock()))
            for number, seed in wanted:
                self._repeats.ask(
                    asked.run_id,
                    number,
                    RepeatFor.CERTIFICATION,
                    asked_by=asked.asked_by,
                    certification=asked.id,
                    seed=seed,
                    append=append,
                )

    def end(self, begun: Certification, found: Certified | None, reason: str, **facts: object) -> None:
        """Record what is certain; what was not trained yet is given up for the reason."""
        numbers = {} if found is None else {name: getattr(found, name) for name in Certified.__slots__}
        ended = replace(begun, ended_at=self._clock(), **numbers)
        with self._journal.transaction() as append:
            self._write(ended)
            self._journal.execute(
                "UPDATE repeats SET given_up = ? WHERE certification = ? AND given_up = '' AND (k IS NULL "
                "OR (run_id, number, k) IN (SELECT run_id, number, k FROM trainings WHERE ending IS NULL))",
                reason or "not needed",
                begun.id,
            )
            told = {"certification": begun.id, "head": begun.head, "baseline": begun.baseline}
            append(begun.run_id, EventKind.CERTIFIED, **told, **numbers, reason=reason, **facts)

    def under_way(self, run_id: int) -> Certification | None:
        """Return the one that is asked for or begun, and not ended."""
        return next(iter(self._found("run_id = ? AND ended_at IS NULL", run_id)), None)

    def of(self, run_id: int) -> list[Certification]:
        """Return all that were ever asked for, the oldest first."""
        return self._found("run_id = ? ORDER BY id", run_id)

    def numbers(self, begun: Certification, metric: str) -> dict[int, list[float | None]]:
        """Return what head and baseline came to, in their turns; None for what has no number yet, or none."""
        rows = self._journal.query(
            "SELECT repeats.number AS number, CASE WHEN given_up = '' THEN numbers ELSE '{}' END AS numbers "
            "FROM repeats LEFT JOIN trainings USING (run_id, number, k) "
            "WHERE certification = ? ORDER BY repeats.id",
            begun.id,
        )
        found: dict[int, list[float | None]] = {}
        for row in map(decode, rows):
            value = (row["numbers"] or {}).get(metric)
            known = value is not None and math.isfinite(value)
            found.setdefault(row["number"], []).append(value if known else None)
        return found

    def _write(self, changed: Certification) -> None:
        self._journal.insert("certifications", unique=("id",), **values_of(changed))

    def _found(self, which: str, *values: object) -> list[Certification]:
        rows = self._journal.query(f"SELECT * FROM certifications WHERE {which}", *values)  # noqa: S608
        return [Certification(**decode(row)) for row in rows]


def usual_seconds(journal: Journal, run_id: int) -> float | None:
    """Return how long a training of this run takes from start to end; None before the first has ended."""
    rows = journal.query(
        "SELECT ended_at - started_at FROM trainings WHERE run_id = ? AND ending = 'exited' "
        "AND numbers != '{}' AND started_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?",
        run_id,
        _RECENT,
    )
    return median(max(1.0, row[0]) for row in rows) if rows else None
