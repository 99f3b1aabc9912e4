"""What reports ask of the experiments table, and what people want: ideas, more like one, never again.

`Journal` reads whole experiments; a row is their light form.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from loop.evidence import AGAIN, Invalidated, Wish
from loop.experiment import UNASKED, Asker, Cost, EventKind, Experiment, Family, Goal, Run, Status
from loop.gain import finite
from loop.store.evidence.repeats import Repeats
from loop.store.journal import Journal
from loop.store.tables.schema import decode, quoted, values_of
from loop.text import one_line

_MEASURED = (Status.KEEP, Status.DISCARD, Status.QUARANTINE)
_NOT_SHOWN = ("waited", "best_before")  # in JSON
_PAGE = 500
_RUNS = 10  # other runs that are remembered, the newest ones
TAKEN_OVER = "before the bot"  # the proposer of experiments that were made without it
_COMMIT = frozenset("0123456789abcdef")  # what is adopted may have a word in its place


@dataclass(frozen=True, slots=True)
class Row:
    """One decided experiment: the columns of `results.tsv`, then what only the journal knows.

    `commit` has seven characters, or is whatever word stands in a file of others. `value` is the metric,
    None where there is none: always for a crash and a skip. Times are seconds since the epoch. `family`,
    `expected`, `cost`, `waited`, `best_before` and `invalidated` are as in `Experiment`. `repeats` has what
    each repeat came to, None where it crashed.
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
    invalidated: Invalidated | None = None
    repeats: tuple[float | None, ...] = ()

    @property
    def is_believed(self) -> bool:
        return self.status is not Status.QUARANTINE and self.invalidated is None

    @property
    def is_taken_over(self) -> bool:
        return self.proposer == TAKEN_OVER

    def to_json(self, metric: str) -> dict[str, object]:
        """Return the experiment as `results --json` shows it, the value under the metric's name."""
        shown = {metric if name == "value" else name: value for name, value in asdict(self).items()}
        return {name: value for name, value in shown.items() if name not in _NOT_SHOWN}


def row_of(experiment: Experiment) -> Row:
    if experiment.status is None:
        raise ValueError(f"experiment {experiment.number} is not decided")
    return _row(**{name: getattr(experiment, name) for name in _READ})


def read_rows(journal: Journal, run_id: int, *, start: int = 0) -> list[Row]:
    """Return the rows of a run's decided experiments from number `start` on, as `row_of` gives them.

    Rows and pages, as whole experiments or all of SQLite's rows at once take several times the memory.
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
    repeated = Repeats(journal).numbers(run_id, journal.run_by_id(run_id).metric) if rows else {}
    return [replace(row, repeats=repeated[row.number]) if row.number in repeated else row for row in rows]


@dataclass(frozen=True, slots=True)
class Tried:
    """The constants of a decided experiment and what they came to; as in `Experiment`."""

    number: int
    parent: str
    commit: str
    constants: Mapping[str, object]
    status: Status
    value: float | None
    best_before: float | None
    invalidated: Invalidated | None

    @property
    def is_believed(self) -> bool:
        return self.status is not Status.QUARANTINE and self.invalidated is None


def read_tried(journal: Journal, run_id: int) -> list[Tried]:
    """Return all decided experiments of a run, in a third of the time that whole ones take."""
    columns = quoted([field.name for field in fields(Tried)])
    sql = f"SELECT {columns} FROM experiments WHERE run_id = ? AND status IS NOT NULL ORDER BY number"  # noqa: S608
    return [Tried(**decode(row)) for row in journal.query(sql, run_id)]


def count_taken_over(journal: Journal, run_id: int) -> int:
    """Return how many experiments of a run the bot did not train; they come before all that it did."""
    (row,) = journal.query(
        "SELECT count(*) FROM experiments WHERE run_id = ?1 AND status != 'skip' AND number < coalesce("
        "(SELECT number FROM trainings WHERE run_id = ?1 AND k > 0 ORDER BY number LIMIT 1), ?2)",
        run_id,
        2**62,
    )
    return int(row[0])


def largest_gains(journal: Journal, run_id: int, *, most: int) -> list[Row]:
    return _rows(
        journal,
        "run_id = ? AND number > 0 AND status = 'keep' "
        "ORDER BY abs(best_before - value) DESC, number LIMIT ?",
        run_id,
        most,
    )


def best_number(journal: Journal, run: Run) -> float | None:
    """Return the best number of any keep; that of the head is worse where it was kept as equal."""
    best = "min" if run.goal is Goal.MINIMIZE else "max"
    sql = f"SELECT {best}(value) FROM experiments WHERE run_id = ? AND status = 'keep'"  # noqa: S608
    (row,) = journal.query(sql, run.id)
    return None if row[0] is None else float(row[0])


def last_failures(journal: Journal, run_id: int, *, most: int) -> list[Row]:
    return _last(journal, run_id, "status IN ('discard', 'crash')", most)


def last_discarded_values(
    journal: Journal, run_id: int, *, most: int
) -> list[tuple[float | None, float | None]]:
    """Return the best before and the value of the experiments that were discarded last, the newest first."""
    which = "status = 'discard' AND invalidated IS NULL"
    return [(row.best_before, row.value) for row in _last(journal, run_id, which, most)]


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


def runs_like(journal: Journal, run: Run) -> list[Run]:
    """Return the newest other runs of the same repository and metric that have tried something, by age."""
    rows = journal.query(
        "SELECT * FROM runs WHERE id != ? AND repository = ? AND metric = ? AND goal = ? "
        "AND EXISTS (SELECT 1 FROM experiments WHERE run_id = runs.id AND number > 0 AND status IS NOT NULL) "
        "ORDER BY id DESC LIMIT ?",
        run.id,
        str(run.repository),
        run.metric,
        run.goal.value,
        _RUNS,
    )
    return [Run(**decode(row)) for row in reversed(rows)]


def with_program(journal: Journal, run_id: int, program: str) -> Experiment | None:
    """Return the first experiment of this program, but for those that are to be tried again."""
    which = "program = ? AND coalesce(invalidated, '') NOT IN (?, ?) ORDER BY number LIMIT 1"
    return next(iter(journal.find(which, run_id, program, *(why.value for why in AGAIN))), None)


def decided_by(journal: Journal, run_id: int, at: float) -> int:
    return _count(journal, "run_id = ? AND status IS NOT NULL AND coalesce(decided_at, 0) <= ?", run_id, at)


def waited_longer(journal: Journal, run_id: int, seconds: float) -> int:
    return _count(journal, "run_id = ? AND waited > ?", run_id, seconds)


def last_number_at(journal: Journal, run_id: int, *, until: float) -> float | None:
    (row,) = journal.query(
        "SELECT max(decided_at) FROM experiments INDEXED BY experiments_by_status "
        "WHERE run_id = ? AND status IN ('keep', 'discard', 'quarantine') AND decided_at <= ?",
        run_id,
        until,
    )
    return None if row[0] is None else float(row[0])


_MADE_HERE = ("memory_gb", "training_seconds", "total_seconds", "repeats")  # from numbers of trainings
_READ = (*(field.name for field in fields(Row) if field.name not in _MADE_HERE), "numbers")
_SELECT_ROW = f"SELECT {quoted(_READ)} FROM experiment_rows WHERE "  # noqa: S608


def _last(journal: Journal, run_id: int, which: str, most: int) -> list[Row]:
    which = f"run_id = ? AND number > 0 AND {which} ORDER BY number DESC LIMIT ?"
    return _rows(journal, which, run_id, most)


def _rows(journal: Journal, which: str, *values: object) -> list[Row]:
    return [_row(**decode(columns)) for columns in journal.query(_SELECT_ROW + which, *values)]


def _row(
    *, commit: str, value: float | None, description: str, numbers: Mapping[str, float], **alike: Any
) -> Row:
    return Row(
        commit=commit[:7] if len(commit) >= 7 and _COMMIT.issuperset(commit) else commit,
        value=value if alike["status"] in _MEASURED else None,
        memory_gb=(finite(numbers.get("peak_vram_mb")) or 0.0) / 1024,
        description=one_line(description),
        training_seconds=finite(numbers.get("training_seconds")),
        total_seconds=finite(numbers.get("total_seconds")),
        **alike,
    )


def _count(journal: Journal, which: str, *values: object) -> int:
    (row,) = journal.query("SELECT count(*) FROM experiments WHERE " + which, *values)  # noqa: S608
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Idea:
    """A person's idea for a run, said in `channel` as `message_id`, where its outcome is reported.

    `given_up` says why no experiment will be made of it, empty while one may. `removes` are the keeps that it
    takes out of the best program.
    """

    id: int
    run_id: int
    text: str
    author: str
    channel: str
    message_id: str
    given_up: str = ""
    removes: tuple[int, ...] = ()


class IdeaBox:
    """The ideas in the journal. One is waiting until an experiment refers to it or it is given up."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(
        self,
        run_id: int,
        text: str,
        *,
        author: str,
        channel: str = "",
        message_id: str = "",
        removes: tuple[int, ...] = (),
    ) -> Idea:
        idea = Idea(0, run_id, text, author, channel, message_id, removes=removes)
        with self._journal.transaction():
            return replace(idea, id=self._journal.insert("ideas", unique=(), **values_of(idea, but="id")))

    def give_up(self, idea: Idea, reason: str, *, answered_in: str = "") -> None:
        """Note that no experiment will be made of the idea, and notify people why, as a clause."""
        notice = f"idea #{idea.id} of {idea.author} is given up: {reason}"
        with self._journal.transaction() as append:
            self._journal.execute("UPDATE ideas SET given_up = ? WHERE id = ?", reason, idea.id)
            append(idea.run_id, EventKind.NOTED, reason=notice, answered_in=answered_in)

    def get(self, idea_id: int) -> Idea:
        (row,) = self._journal.query("SELECT * FROM ideas WHERE id = ?", idea_id)
        return Idea(**decode(row))

    def waiting(self, run_id: int) -> tuple[Idea, ...]:
        rows = self._journal.query(
            "SELECT * FROM ideas WHERE run_id = ? AND given_up = '' AND id NOT IN "
            "(SELECT idea FROM experiments WHERE run_id = ? AND idea IS NOT NULL) ORDER BY id",
            run_id,
            run_id,
        )
        return tuple(Idea(**decode(row)) for row in rows)

    def texts(self, run_id: int) -> frozenset[str]:
        rows = self._journal.query("SELECT text FROM ideas WHERE run_id = ?", run_id)
        return frozenset(row["text"] for row in rows)

    def made(self, run_id: int, *, last: int) -> list[tuple[Idea, Experiment]]:
        """Return the run's ideas that experiments were made of, the newest first, each with its last one."""
        rows = self._journal.query(
            "SELECT ideas.*, max(experiments.number) AS number FROM experiments "
            "JOIN ideas ON ideas.id = experiments.idea WHERE experiments.run_id = ? "
            "GROUP BY ideas.id ORDER BY number DESC LIMIT ?",
            run_id,
            last,
        )
        ideas = {columns.pop("number"): Idea(**columns) for columns in map(decode, rows)}
        made = {each.number: each for each in self._journal.experiments_at(run_id, ideas)}
        return [(idea, made[number]) for number, idea in ideas.items()]


@dataclass(frozen=True, slots=True)
class Wished:
    """What the person `name` wants of experiments like this one.

    `changed` are the constants that it changed, from which value to which.
    """

    wish: Wish
    number: int
    name: str
    description: str
    family: Family | None
    changed: Mapping[str, tuple[object, object]]


class Wishes:
    """What people want of experiments like one, in the journal: one wish an experiment."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def put(self, experiment: Experiment, wish: Wish | None, by: Asker = UNASKED) -> bool:
        """Note a wish, or with None that it is taken back; False where it changes nothing."""
        whose = experiment.run_id, experiment.number
        with self._journal.transaction() as append:
            rows = self._journal.query("SELECT wish FROM wishes WHERE run_id = ? AND number = ?", *whose)
            if (Wish(rows[0]["wish"]) if rows else None) is wish:
                return False
            if wish is None:
                self._journal.execute("DELETE FROM wishes WHERE run_id = ? AND number = ?", *whose)
            else:
                row = dict(zip(("run_id", "number"), whose, strict=True), wish=wish, name=by.name)
                self._journal.insert("wishes", unique=("run_id", "number"), **row)
            append(experiment.run_id, EventKind.WISHED, number=experiment.number, wish=wish, **asdict(by))
        return True

    def read(self, run_id: int) -> tuple[Wished, ...]:
        rows = self._journal.query(
            "SELECT wish, number, name, description, family, experiments.constants, "
            "(SELECT constants FROM experiments AS before WHERE before.run_id = wishes.run_id "
            'AND before."commit" = experiments.parent ORDER BY number LIMIT 1) AS before '
            "FROM wishes JOIN experiments USING (run_id, number) WHERE run_id = ? ORDER BY number",
            run_id,
        )
        found = []
        for row in map(decode, rows):
            after, before = row.pop("constants"), json.loads(row.pop("before") or "{}")
            moved = {name: (before[name], after[name]) for name in after.keys() & before.keys()}
            changed = {name: moved[name] for name in sorted(moved) if moved[name][0] != moved[name][1]}
            found.append(Wished(**row, changed=changed))
        return tuple(found)
