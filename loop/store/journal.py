"""The journal: one SQLite file that is the truth about runs, experiments and events.

Every change of state is one transaction that also appends to `events`. The file is in WAL mode with
`synchronous=FULL`: what a method has written when it returns survives a power cut. Of its two connections one
writes and one only reads, so that no reader waits until a commit has reached the disk. Methods block all the
same: an event loop calls them by `in_thread`.

Where another program locks the file or the disk is full, a method waits and tries again (`Patience`).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from loop.errors import UserError
from loop.experiment import BY_COMMAND, Event, EventKind, Experiment, Goal, Reason, Run, RunState, Status
from loop.shell import own_command
from loop.store.patience import BUSY_SECONDS, PATIENCE, Blocked, MovedError, Patience, identity
from loop.store.tables.migrations import MIGRATIONS, statements
from loop.store.tables.schema import decode, encode, insertion, read_experiment, values_of

log = logging.getLogger(__name__)

StoreError = sqlite3.Error  # what every method raises where the file cannot be used

_BEGIN = "BEGIN IMMEDIATE"


class OlderStateError(UserError):
    """The state file is of an older version; a bot that starts migrates it."""


class Journal:
    """Runs, experiments and events on disk; safe to use from several threads.

    `clock` gives seconds since the epoch. Functions in `listeners` are called, in the writing thread, after
    every transaction that appended events; they must be quick and must not raise.

    With `read_only` the file is not made, migrated or written to, and its folder need not be writable.

    `patience` is for how many seconds a method waits for a file that cannot be used, until `ending` is set.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
        patience: float = PATIENCE,
        ending: threading.Event | None = None,
    ) -> None:
        self.path = path
        self.listeners: list[Callable[[], None]] = []
        self.clock = clock
        self._patience = Patience(path, patience, ending or threading.Event(), clock)
        self._read_only = read_only
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._writer: int | None = None  # the thread whose transaction is open
        self._steps: list[tuple[str, Sequence[object]]] = []  # of that transaction
        self._identity: tuple[int, int] | None = None  # of the file, by the file system
        try:
            self._patience.attempt(self._open_to_read if read_only else self._open, writes=not read_only)
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"The state file {path} cannot be used ({error}): repair it or move it away."
            ) from error

    def _open_to_read(self) -> None:
        with ExitStack() as opened:
            self._db = self._reader = opened.enter_context(closing(_open_read_only(self.path)))
            self._require_current()
            self._opened = opened.pop_all()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)  # SQLite gives the files beside it the same mode
        with ExitStack() as opened:
            self._db = opened.enter_context(closing(_connect(self.path)))
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._identity = identity(self.path)
            self._migrate()
            self._reader = opened.enter_context(closing(_connect(self.path)))
            self._reader.execute("PRAGMA query_only = ON")
            self._opened = opened.pop_all()

    @property
    def blocked(self) -> Blocked | None:
        """Why nothing can be written for now; every writer waits."""
        return self._patience.blocked

    def close(self) -> None:
        with self._writing, self._reading:
            self._opened.close()

    # Runs

    def create_run(
        self,
        *,
        tag: str,
        repository: Path,
        base_branch: str,
        base_commit: str,
        metric: str,
        goal: Goal,
        time_budget: float,
        adopted: Sequence[Experiment] = (),
        answered_in: str = "",
        remarks: Sequence[str] = (),
        lanes: tuple[int, ...] = (),
    ) -> Run:
        """Add a running run, with the decided experiments that it begins with where others made some.

        What was made elsewhere has no events of its own: it is not reported again. `remarks` are told with
        the start.
        """
        facts = (repository, base_branch, base_commit, metric, goal, time_budget)
        run = Run(0, tag, *facts, RunState.RUNNING, self.clock(), lanes=lanes)
        with self.transaction() as append:
            if self.run(tag):
                raise UserError(f"There is a run {tag} already: choose another tag.")
            run = replace(run, id=self.insert("runs", unique=(), **values_of(run, but="id")))
            for experiment in adopted:
                self.write(replace(experiment, run_id=run.id))
            told = {"remarks": [*remarks]} if remarks else {}
            append(run.id, EventKind.RUN_STARTED, answered_in=answered_in, **told)
        return run

    def run(self, tag: str) -> Run | None:
        return next(iter(self._runs("tag = ?", tag)), None)

    def run_by_id(self, run_id: int) -> Run:
        found = self._runs("id = ?", run_id)
        if not found:
            raise UserError(f"There is no run with id {run_id}.")
        return found[0]

    def runs(self) -> list[Run]:
        return self._runs("TRUE")

    def active_runs(self) -> list[Run]:
        return [run for run in self.runs() if run.state is not RunState.STOPPED]

    def set_state(self, run: Run, state: RunState, reason: Reason = BY_COMMAND) -> Run:
        with self.transaction() as append:
            self.execute(
                "UPDATE runs SET state = ?, state_by = ?, state_name = ?, state_cause = ?, state_facts = ? "
                "WHERE id = ?",
                *map(encode, (state, reason.by, reason.name, reason.cause, reason.facts)),
                run.id,
            )
            append(run.id, EventKind.RUN_STATE, state=state.value, **asdict(reason))
            return self.run_by_id(run.id)

    def retag(self, run: Run, new: str, *, answered_in: str = "") -> Run:
        """Give the run a new tag; `renamed_from` keeps the old one until `finish_retag`."""
        with self.transaction() as append:
            if self.run(new):
                raise UserError(f"There is a run {new} already: choose another tag.")
            self.execute("UPDATE runs SET tag = ?, renamed_from = ? WHERE id = ?", new, run.tag, run.id)
            append(run.id, EventKind.RUN_RETAGGED, old=run.tag, new=new, answered_in=answered_in)
            return self.run_by_id(run.id)

    def finish_retag(self, run: Run) -> Run:
        with self.transaction():
            self.execute("UPDATE runs SET renamed_from = '' WHERE id = ?", run.id)
            return self.run_by_id(run.id)

    # Experiments

    def record(self, *steps: Experiment, kind: EventKind | None = None, **data: Any) -> None:
        """Write each step of an experiment, in order, with an event a step, in one transaction.

        The event is named after the step's stage unless `kind` says otherwise; `data` goes with every event.
        """
        with self.transaction() as append:
            for step in steps:
                self.write(step)
                append(step.run_id, kind or EventKind(step.stage.value), number=step.number, **data)

    def experiment(self, run_id: int, number: int) -> Experiment | None:
        return self._experiment("number = ?", run_id, number)

    def experiments_at(self, run_id: int, numbers: Collection[int]) -> list[Experiment]:
        these = json.dumps([*numbers])
        return self.find("number IN (SELECT value FROM json_each(?)) ORDER BY number", run_id, these)

    def undecided(self, run_id: int) -> list[Experiment]:
        return self.find(
            "number IN (SELECT number FROM experiments INDEXED BY experiments_under_way "
            "WHERE run_id = ? AND status IS NULL) ORDER BY number",
            run_id,
            run_id,
        )

    def experiments(self, run_id: int, *, last: int = -1) -> list[Experiment]:
        return self.find("TRUE ORDER BY number DESC LIMIT ?", run_id, last)[::-1]

    def best(self, run_id: int, *, before: int = sys.maxsize) -> Experiment | None:
        """Return the last kept experiment below number `before`: none is worse than one kept before it."""
        return self._experiment(f"number = {_kept('max')}", run_id, run_id, before)

    def baseline(self, run_id: int) -> Experiment | None:
        return self._experiment(f"number = {_kept('min')}", run_id, run_id, sys.maxsize)

    def counts(self, run_id: int) -> dict[Status, int]:
        rows = self.query(
            "SELECT status, count(*) FROM experiments "
            "WHERE run_id = ? AND status IS NOT NULL GROUP BY status",
            run_id,
        )
        found = {Status(status): int(count) for status, count in rows}
        return {status: found.get(status, 0) for status in Status}

    def crash_streak(self, run_id: int) -> int:
        (row,) = self.query(
            "SELECT count(*) FROM experiments WHERE run_id = ? AND status = 'crash' AND number > "
            "(SELECT coalesce(max(number), -1) FROM experiments WHERE run_id = ? AND status != 'crash')",
            run_id,
            run_id,
        )
        return int(row[0])

    # Events

    def note(self, run_id: int, kind: EventKind, **data: object) -> None:
        with self.transaction() as append:
            append(run_id, kind, **data)

    def events_after(self, event_id: int, *, limit: int = 100) -> list[Event]:
        rows = self.query("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", event_id, limit)
        return [Event(**decode(row)) for row in rows]

    def last_event(self) -> int:
        (row,) = self.query("SELECT coalesce(max(id), 0) FROM events")
        return int(row[0])

    def cursor(self, channel: str) -> int | None:
        rows = self.query("SELECT event_id FROM cursors WHERE channel = ?", channel)
        return int(rows[0][0]) if rows else None

    def set_cursor(self, channel: str, event_id: int) -> None:
        with self.transaction():
            self.insert("cursors", unique=("channel",), channel=channel, event_id=event_id)

    # Heartbeats

    def beat(self) -> None:
        with self.transaction():
            self.insert("beats", unique=("id",), id=1, at=self.clock())

    def last_beat(self) -> float | None:
        rows = self.query("SELECT at FROM beats")
        return float(rows[0]["at"]) if rows else None

    # For the other modules of this package, and no other: all SQL is in `loop.store`

    def query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows of a SELECT, with what the present transaction of this thread has written."""
        if self._writer == threading.get_ident():
            return self._db.execute(sql, values).fetchall()
        with self._reading:
            return self._patience.attempt(lambda: self._reader.execute(sql, values).fetchall(), writes=False)

    def find(self, which: str, run_id: int, *values: object) -> list[Experiment]:
        """Return the experiments of a run that are `which`: a condition in SQL, perhaps with an order."""
        rows = self.query(f"SELECT * FROM experiment_rows WHERE run_id = ? AND {which}", run_id, *values)  # noqa: S608
        return [read_experiment(row) for row in rows]

    def execute(self, sql: str, *values: object) -> int:
        """Execute one statement, inside of `transaction`; return the id of the last row that was added."""
        self._steps.append((sql, values))
        pending = self._steps[-1:]

        def attempt() -> int:
            nonlocal pending
            steps, pending = pending, self._steps  # after an error the whole transaction is made again
            return self._perform(steps)

        return self._patience.attempt(attempt, writes=not self._read_only)

    def _perform(self, steps: Sequence[tuple[str, Sequence[object]]]) -> int:
        if len(steps) > 1 and self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if steps[0][0] == _BEGIN and identity(self.path) != self._identity and not self._read_only:
            self._put_back()
        for sql, values in steps:
            added = self._db.execute(sql, values).lastrowid
            if sql == _BEGIN:
                self._require_unchanged(first=len(steps) == 1)
        return added or 0

    def _put_back(self) -> None:
        """Write the file again where somebody has deleted it, while we have it open.

        Raises:
            MovedError: its folder is gone, or another file has its name.
        """
        if self.path.exists() or not self.path.parent.exists():
            raise MovedError("it was moved or replaced")
        fresh = self.path.with_name(f".{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh)) as copy:
            self._db.backup(copy)
        with self._reading, self._opened:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
            fresh.rename(self.path)
            self._open()
        log.warning("%s was deleted; it was written again, with everything in it", self.path)

    def _require_unchanged(self, *, first: bool) -> None:
        """Make sure that nobody else wrote since the first attempt: what it has read would be outdated."""
        (now,) = self._db.execute("PRAGMA data_version").fetchone()
        if first:
            self._data_version = now
        elif now != self._data_version:
            raise sqlite3.DatabaseError("another program has changed the state file")

    def insert(self, table: str, /, *, unique: tuple[str, ...] = (), **values: object) -> int:
        """Add a row or change the one that is alike in `unique`, inside of a transaction; return its id."""
        statement = insertion(table, (*values,), unique=unique)
        return self.execute(statement, *map(encode, values.values()))

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., None]]:
        """Open a transaction of this thread; yields a function that appends an event to it."""
        appended = 0

        def append(run_id: int, kind: EventKind, /, number: int | None = None, **data: object) -> None:
            nonlocal appended
            self.insert("events", at=self.clock(), run_id=run_id, number=number, kind=kind, data=data)
            appended += 1

        if self._writer == threading.get_ident():
            raise RuntimeError("a transaction of this thread is open already")
        with self._writing:
            self._writer = threading.get_ident()
            self._steps = []
            try:
                self.execute(_BEGIN)
                yield append
                self.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have rolled it back
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._writer = None
        if appended:
            for listener in self.listeners:
                listener()

    def write(self, experiment: Experiment) -> None:
        """Write an experiment with its training, inside of a transaction."""
        key, training = ("run_id", "number"), experiment.training
        row = values_of(experiment, but="training")
        self.insert("experiments", unique=key, **row, attempt=training.k if training else None)
        if training is not None:
            whose = {name: row[name] for name in (*key, "lane")}
            self.insert("trainings", unique=(*key, "k"), **whose, **values_of(training))

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self.transaction():
            # Read again: another process may have migrated the file while this one waited for its lock.
            for script in MIGRATIONS[self._version() :]:
                for statement in statements(script):
                    self.execute(statement)
            self.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _require_current(self) -> None:
        found, needed = self._version(), len(MIGRATIONS)
        if found < needed:
            up = own_command("up", self.path.parent)
            raise OlderStateError(
                f"The state file {self.path} has version {found}, but this program reads version {needed}: "
                f"start the bot with `{up}`, or restart it, to bring the file up to date."
            )

    def _version(self) -> int:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > len(MIGRATIONS):
            raise UserError(
                f"The state file {self.path} has version {found}, but this program knows versions up to "
                f"{len(MIGRATIONS)}: update autoresearch-bot."
            )
        return int(found)

    def _experiment(self, which: str, run_id: int, *values: object) -> Experiment | None:
        return next(iter(self.find(which, run_id, *values)), None)

    def _runs(self, which: str, *values: object) -> list[Run]:
        rows = self.query(f"SELECT * FROM runs WHERE {which} ORDER BY id", *values)  # noqa: S608
        return [Run(**decode(row)) for row in rows]


def _connect(database: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(
        database, uri=uri, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    db.row_factory = sqlite3.Row
    return db


def _open_read_only(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro"
    db = _connect(address, uri=True)
    try:
        db.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        # To read a file in WAL mode SQLite makes files beside it; in a folder that is not writable it cannot.
        # Where there is no log, no bot is writing either.
        return _connect(f"{address}&immutable=1", uri=True)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _kept(which: str) -> str:
    """Say in SQL which of the kept experiments below a number is meant: the `max` or the `min`."""
    return (
        f"(SELECT {which}(number) FROM experiments INDEXED BY experiments_by_status "  # noqa: S608
        "WHERE run_id = ? AND status = 'keep' AND number < ?)"
    )
