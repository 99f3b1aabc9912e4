"""Prunes in the journal: which keeps are left out of the best program to see what they bring."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loop.evidence import Certified, RepeatFor
from loop.experiment import EventKind
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal


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

    def __init__(self, journal: Journal, *, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self._repeats = Repeats(journal, clock=clock)

    def ask(
        self, run_id: int, *, until: float | None = None, asked_by: str = "", answered_in: str = ""
    ) -> Prune:
        asked = Prune(0, run_id, self._clock(), until=until, asked_by=asked_by, answered_in=answered_in)
        with self._journal.transaction() as append:
            id_ = self._write(asked)
            append(run_id, EventKind.PRUNING, prune=id_, name=asked_by, answered_in=answered_in)
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
            self._write(replace(begun, ended_at=self._clock()))
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

    def _write(self, changed: Prune) -> int:
        names = ("run_id", "asked_at", "until", "asked_by", "answered_in", "head", "ended_at")
        row = {name: getattr(changed, name) for name in names}
        row |= {"keeps": json.dumps(changed.keeps), "blocked": json.dumps(changed.blocked)}
        if not changed.id:
            return self._journal.insert("prunes", **row)
        return self._journal.insert("prunes", unique=("id",), id=changed.id, **row)

    def _found(self, which: str, *values: object) -> list[Prune]:
        rows = self._journal.query(
            "SELECT id, run_id, asked_at, until, asked_by, answered_in, head, keeps, blocked, ended_at "  # noqa: S608
            f"FROM prunes WHERE {which}",
            *values,
        )
        found = (dict(zip(row.keys(), row, strict=True)) for row in rows)
        lists = ("keeps", "blocked")
        return [Prune(**{**row, **{name: tuple(json.loads(row[name])) for name in lists}}) for row in found]


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
