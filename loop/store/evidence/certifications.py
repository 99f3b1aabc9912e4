"""Certifications and prunes in the journal: asked for, begun with their repeats, ended with what they found.

A certification tells how much of a gain is certain. A prune leaves keeps out of the best program, to see what
each brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

from loop.evidence import Certification, Certified, RepeatFor
from loop.experiment import UNASKED, Asker, EventKind, Run
from loop.gain import finite
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.tables.schema import decode, values_of

_RECENT = 9  # trainings, by which it is told how long the next one takes


class Certifications:
    """The certifications of all runs; of each at most one is open. Every change is a transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._repeats = Repeats(journal)

    def ask(
        self, run_id: int, pairs: int, by: Asker = UNASKED, *, until: float | None = None
    ) -> Certification:
        now, name, channel = self._journal.clock(), by.name, by.answered_in
        asked = Certification(0, run_id, pairs, now, until=until, asked_by=name, answered_in=channel)
        with self._journal.transaction() as append:
            id_ = self._journal.insert("certifications", unique=(), **values_of(asked, but="id"))
            append(run_id, EventKind.CERTIFYING, certification=id_, **asdict(by))
        return replace(asked, id=id_)

    def begin(
        self, asked: Certification, head: int, baseline: int, wanted: Sequence[tuple[int, int | None]]
    ) -> None:
        """Want its repeats, in this order, each an experiment's number and a seed."""
        with self._journal.transaction() as append:
            self._write(replace(asked, head=head, baseline=baseline, started_at=self._journal.clock()))
            for number, seed in wanted:
                self._repeats.ask(
                    asked.run_id,
                    number,
                    RepeatFor.CERTIFICATION,
                    Asker(asked.asked_by),
                    certification=asked.id,
                    seed=seed,
                    append=append,
                )

    def end(self, begun: Certification, found: Certified | None, reason: str, **facts: object) -> None:
        """Record what is certain; what was not trained yet is given up for the reason."""
        numbers = {} if found is None else {name: getattr(found, name) for name in Certified.__slots__}
        ended = replace(begun, ended_at=self._journal.clock(), **numbers)
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
            found.setdefault(row["number"], []).append(finite((row["numbers"] or {}).get(metric)))
        return found

    def _write(self, changed: Certification) -> None:
        self._journal.insert("certifications", unique=("id",), **values_of(changed))

    def _found(self, which: str, *values: object) -> list[Certification]:
        rows = self._journal.query(f"SELECT * FROM certifications WHERE {which}", *values)  # noqa: S608
        return [Certification(**decode(row)) for row in rows]


def usual_seconds(journal: Journal, run: Run) -> float:
    """Return how long a training of this run takes from start to end: its budget before one has ended."""
    rows = journal.query(
        "SELECT ended_at - started_at FROM trainings WHERE run_id = ? AND ending = 'exited' "
        "AND numbers != '{}' AND started_at IS NOT NULL ORDER BY ended_at DESC LIMIT ?",
        run.id,
        _RECENT,
    )
    return median(max(1.0, row[0]) for row in rows) if rows else run.time_budget


def leaves_no_time(journal: Journal, run: Run, until: float | None) -> bool:
    """Tell whether another training would end after `until`."""
    return until is not None and journal.clock() + usual_seconds(journal, run) > until


@dataclass(frozen=True, slots=True)
class Prune:
    """That keeps of a run are to be left out; it ends when each was trained twice, or at `until`.

    `head` is the best when it began, None before. `keeps` are left out in this order; what is `blocked`
    cannot be, as later keeps changed the same lines.
    """

    id: int
    run_id: int
    asked_at: float
    until: float | None = None
    asked_by: str = ""
    answered_in: str = ""
    head: int | None = None
    keeps: tuple[int, ...] = ()
    blocked: tuple[int, ...] = ()
    ended_at: float | None = None


class Prunes:
    """The prunes of all runs; of each at most one is open."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._repeats = Repeats(journal)

    def ask(self, run_id: int, by: Asker = UNASKED, *, until: float | None = None) -> Prune:
        now = self._journal.clock()
        asked = Prune(0, run_id, now, until=until, asked_by=by.name, answered_in=by.answered_in)
        with self._journal.transaction() as append:
            id_ = self._journal.insert("prunes", unique=(), **values_of(asked, but="id"))
            append(run_id, EventKind.PRUNING, prune=id_, **asdict(by))
        return replace(asked, id=id_)

    def begin(
        self, asked: Prune, head: int, keeps: Sequence[int], blocked: Sequence[int], *, repeats: int
    ) -> None:
        """Note what is left out of which program; that is to be trained again so often."""
        with self._journal.transaction() as append:
            self._write(replace(asked, head=head, keeps=tuple(keeps), blocked=tuple(blocked)))
            if repeats:
                self._repeats.ask(asked.run_id, head, RepeatFor.PRUNE, times=repeats, append=append)

    def end(
        self,
        begun: Prune,
        reason: str,
        *,
        own: Mapping[int, Certified],
        removable: Sequence[int],
        unmeasured: Sequence[int],
        value: float | None,
    ) -> None:
        measured = {str(keep): [found.gain, found.low, found.high] for keep, found in own.items()}
        facts = {"removable": [*removable], "unmeasured": [*unmeasured], "reason": reason, "value": value}
        with self._journal.transaction() as append:
            self._write(replace(begun, ended_at=self._journal.clock()))
            self._journal.execute(
                "UPDATE repeats SET given_up = ? "
                "WHERE run_id = ? AND why = ? AND k IS NULL AND given_up = ''",
                reason or "not needed",
                begun.run_id,
                RepeatFor.PRUNE.value,
            )
            append(begun.run_id, EventKind.PRUNED, prune=begun.id, head=begun.head, own=measured, **facts)

    def under_way(self, run_id: int) -> Prune | None:
        return next(iter(self._found("run_id = ? AND ended_at IS NULL", run_id)), None)

    def of(self, run_id: int) -> list[Prune]:
        return self._found("run_id = ? ORDER BY id", run_id)

    def _write(self, changed: Prune) -> None:
        self._journal.insert("prunes", unique=("id",), **values_of(changed))

    def _found(self, which: str, *values: object) -> list[Prune]:
        rows = self._journal.query(f"SELECT * FROM prunes WHERE {which}", *values)  # noqa: S608
        return [Prune(**decode(row)) for row in rows]


def left_out_of(journal: Journal, run_id: int, commit: str) -> dict[int, list[int]]:
    """Return the experiments that left a keep out of the program of a commit, by the keep."""
    rows = journal.query(
        "SELECT without, number FROM experiments "
        "WHERE run_id = ? AND parent = ? AND without IS NOT NULL ORDER BY number",
        run_id,
        commit,
    )
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["without"], []).append(row["number"])
    return found
