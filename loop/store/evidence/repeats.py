"""Repeats in the journal: wanted, under way, measured or given up.

A repeat is one more training of an experiment that has its verdict, and never changes that. It waits while it
has no training (`k`) and is not given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias

from loop.evidence import Repeat, RepeatFor
from loop.experiment import UNASKED, Asker, EventKind, Purpose, Training
from loop.gain import finite
from loop.store.journal import Journal
from loop.store.tables.schema import OF_TRAINING, decode, values_of

Append: TypeAlias = Callable[..., None]  # as `Journal.transaction` yields it

_RANKS = " ".join(f"WHEN '{why}' THEN {rank}" for rank, why in enumerate(RepeatFor))
_TRAINING = ", ".join(OF_TRAINING)


@dataclass(frozen=True, slots=True)
class RepeatUnderWay:
    """A repeat that trains in a lane, or did when the bot before this one ended."""

    repeat: Repeat
    training: Training
    lane: int


class Repeats:
    """The repeats of all runs. Every change is a transaction with its event."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def ask(
        self,
        run_id: int,
        number: int,
        why: RepeatFor,
        by: Asker = UNASKED,
        *,
        times: int = 1,
        certification: int | None = None,
        seed: int | None = None,
        append: Append | None = None,
    ) -> list[Repeat]:
        """Want so many more trainings of a decided experiment; they wait until a lane is free.

        Within an open transaction `append` is its function to append events.
        """
        wanted = Repeat(
            0,
            run_id,
            number,
            why,
            self._journal.clock(),
            seed=seed,
            asked_by=by.name,
            answered_in=by.answered_in,
            certification=certification,
        )
        with nullcontext(append) if append else self._journal.transaction() as told:
            row = values_of(wanted, but="id")
            ids = [self._journal.insert("repeats", unique=(), **row) for _ in range(times)]
            told(run_id, EventKind.REPEAT_ASKED, number=number, why=why, times=times, **asdict(by))
        return [replace(wanted, id=id_) for id_ in ids]

    def waiting(self, run_id: int) -> list[Repeat]:
        """Return the repeats that wait, the next first: in the order of `RepeatFor`, then as they came.

        In a stopped run none does.
        """
        return self._repeats(
            "run_id = ? AND k IS NULL AND given_up = '' "  # noqa: S608
            "AND EXISTS (SELECT 1 FROM runs WHERE runs.id = run_id AND state != 'stopped') "
            f"ORDER BY CASE why {_RANKS} END, id",
            run_id,
        )

    def of(self, run_id: int, number: int) -> list[Repeat]:
        """Return all repeats that were ever wanted of an experiment, the oldest first."""
        return self._repeats("run_id = ? AND number = ? ORDER BY id", run_id, number)

    def of_certification(self, id_: int) -> list[Repeat]:
        return self._repeats("certification = ? ORDER BY id", id_)

    def trained_in(self, certification: int, lane: int) -> dict[int, int]:
        """Return how often a lane has trained each experiment of a certification."""
        rows = self._journal.query(
            "SELECT repeats.number AS number, count(*) AS times FROM repeats "
            "JOIN trainings USING (run_id, number, k) WHERE certification = ? AND lane = ? GROUP BY 1",
            certification,
            lane,
        )
        return {row["number"]: row["times"] for row in rows}

    def wanted_for(self, run_id: int, why: RepeatFor) -> list[Repeat]:
        return self._repeats("run_id = ? AND why = ? ORDER BY id", run_id, why.value)

    # Under way

    def next_k(self, run_id: int, number: int) -> int:
        (row,) = self._journal.query(
            "SELECT coalesce(max(k), 0) + 1 FROM trainings WHERE run_id = ? AND number = ?", run_id, number
        )
        return int(row[0])

    def begin(self, begun: RepeatUnderWay, **place: object) -> None:
        """Record a training that begins, before its supervisor gets its job; the event says the `place`."""
        repeat = begun.repeat
        facts = {"why": repeat.why, "k": repeat.k, "seed": repeat.seed, **place}
        self._record(EventKind.REPEAT_TRAINING, begun, **facts)

    def under_way(self, run_id: int) -> list[RepeatUnderWay]:
        rows = self._journal.query(
            f"SELECT repeats.*, lane, {_TRAINING} FROM repeats "  # noqa: S608
            "JOIN trainings USING (run_id, number, k) WHERE run_id = ? AND ending IS NULL ORDER BY lane",
            run_id,
        )
        found = []
        for values in map(decode, rows):
            lane, of_training = values.pop("lane"), {name: values.pop(name) for name in OF_TRAINING}
            found.append(RepeatUnderWay(Repeat(**values), Training(values["k"], **of_training), lane))
        return found

    def skip(self, begun: RepeatUnderWay, reason: str, *, answered_in: str = "") -> RepeatUnderWay:
        """Note that one is to be given up; `give_up` follows once its training has ended."""
        skipped = replace(begun, repeat=replace(begun.repeat, given_up=reason))
        self._record(EventKind.SKIP_REQUESTED, skipped, lane=begun.lane, answered_in=answered_in)
        return skipped

    def place(self, repeat: Repeat) -> tuple[int, int]:
        """Return which one it is of how many that were asked for together."""
        others = self.of(repeat.run_id, repeat.number)
        asked = [each for each in others if (each.why, each.asked_at) == (repeat.why, repeat.asked_at)]
        if repeat.certification is not None:
            asked = self.of_certification(repeat.certification)
        batch = [each.id for each in asked]
        return batch.index(repeat.id) + 1, len(batch)

    def in_vain(self, repeat: Repeat) -> int:
        """Return how many trainings of the experiment came to nothing since its last repeat that counts."""
        (row,) = self._journal.query(
            "SELECT count(*) FROM trainings WHERE run_id = ?1 AND number = ?2 AND purpose = ?3 "
            "AND ending IS NOT NULL AND k > "
            "(SELECT coalesce(max(k), 0) FROM repeats WHERE run_id = ?1 AND number = ?2 AND id != ?4)",
            repeat.run_id,
            repeat.number,
            Purpose.REPEAT.value,
            repeat.id,
        )
        return int(row[0])

    # What became of one

    def put_back(self, ended: RepeatUnderWay, reason: str, *, vanished: bool = False) -> None:
        """Let a repeat wait again whose training ended without saying anything about the program."""
        waits = replace(ended, repeat=replace(ended.repeat, k=None))
        facts = {"why": ended.repeat.why, "reason": reason, "vanished": vanished, "lane": ended.lane}
        self._record(EventKind.REPEAT_PUT_BACK, waits, **facts)

    def measured(self, ended: RepeatUnderWay, **facts: object) -> None:
        """Record what a repeat's training came to; the event has `facts` for the message about it."""
        repeat = replace(ended.repeat, given_up="")  # a number counts though it was to be skipped
        told = {"why": repeat.why, "k": repeat.k, "seed": repeat.seed, "lane": ended.lane, **facts}
        self._record(EventKind.REPEATED, replace(ended, repeat=repeat), **told)

    def give_up(
        self, repeat: Repeat, reason: str, *, ended: RepeatUnderWay | None = None, **facts: object
    ) -> None:
        """Record that there will be no number; `ended` is the repeat with its training, if that had begun."""
        given_up = replace(repeat, given_up=reason)
        place = {"k": repeat.k, "lane": ended.lane} if ended else {"k": None}
        told = {"why": repeat.why, "reason": reason, **place, **facts}
        changed = replace(ended, repeat=given_up) if ended else given_up
        self._record(EventKind.REPEAT_GIVEN_UP, changed, **told)

    def numbers(self, run_id: int, metric: str) -> dict[int, tuple[float | None, ...]]:
        """Return what repeats came to, by experiment, in the order of their trainings; None is no number."""
        rows = self._journal.query(
            "SELECT repeats.number AS number, numbers FROM repeats JOIN trainings USING (run_id, number, k) "
            "WHERE run_id = ? AND given_up = '' AND ending IS NOT NULL ORDER BY number, k",
            run_id,
        )
        found: dict[int, tuple[float | None, ...]] = {}
        for row in map(decode, rows):
            found[row["number"]] = (*found.get(row["number"], ()), finite(row["numbers"].get(metric)))
        return found

    def values(self, run_id: int, metric: str) -> dict[int, tuple[float, ...]]:
        """Return all numbers of each experiment that was repeated: its verdict's, then its repeats'."""
        repeated = self.numbers(run_id, metric)
        first = {each.number: each.value for each in self._journal.experiments_at(run_id, repeated)}
        return {
            number: tuple(value for value in (first[number], *again) if value is not None)
            for number, again in repeated.items()
        }

    # Parts

    def _record(self, kind: EventKind, changed: RepeatUnderWay | Repeat, **facts: object) -> None:
        """Write a repeat, and its training if it has one, with an event about it."""
        repeat = changed.repeat if isinstance(changed, RepeatUnderWay) else changed
        whose = {"run_id": repeat.run_id, "number": repeat.number}
        with self._journal.transaction() as append:
            self._journal.insert("repeats", unique=("id",), **values_of(repeat))
            if isinstance(changed, RepeatUnderWay):
                training = {**whose, "lane": changed.lane, **values_of(changed.training)}
                self._journal.insert("trainings", unique=(*whose, "k"), **training)
            append(repeat.run_id, kind, number=repeat.number, **facts)

    def _repeats(self, which: str, *values: object) -> list[Repeat]:
        rows = self._journal.query(f"SELECT * FROM repeats WHERE {which}", *values)  # noqa: S608
        return [Repeat(**decode(row)) for row in rows]


def trainings_under_way(journal: Journal, run_id: int) -> list[tuple[int, Training, int]]:
    """Return the trainings of a run that have not ended, each with its experiment's number and its lane."""
    rows = journal.query(
        f"SELECT number, lane, k, {_TRAINING} FROM trainings "  # noqa: S608
        "WHERE run_id = ? AND ending IS NULL ORDER BY lane",
        run_id,
    )
    found = []
    for values in map(decode, rows):
        number, lane = values.pop("number"), values.pop("lane")
        found.append((number, Training(**values), lane))
    return found


def measured_before(
    journal: Journal, run_id: int, number: int, k: int, *, most: int
) -> list[tuple[int, Mapping[str, float]]]:
    """Return what trainings of a run printed, with their experiments, the newest first; all but this one."""
    rows = journal.query(
        "SELECT number, numbers FROM trainings WHERE run_id = ? AND (number, k) != (?, ?) "
        "AND ending = 'exited' AND numbers != '{}' ORDER BY ended_at DESC LIMIT ?",
        run_id,
        number,
        k,
        most,
    )
    return [(row["number"], row["numbers"]) for row in map(decode, rows)]
