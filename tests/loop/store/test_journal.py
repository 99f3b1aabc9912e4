from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop.errors import UserError
from loop.experiment import (
    BY_COMMAND,
    Cause,
    Ending,
    EventKind,
    Experiment,
    Goal,
    Run,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.results.report import run_status
from loop.store.events import Notes, open_calls
from loop.store.experiments import IdeaBox
from loop.store.journal import Journal
from loop.store.tables.migrations import MIGRATIONS

pytestmark = pytest.mark.usefixtures("tables_by_migrations")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    ticks = iter(range(1, 1_000_000))
    journal = Journal(tmp_path / "state.db", clock=lambda: float(next(ticks)))
    yield journal
    journal.close()


@pytest.fixture
def run(journal: Journal) -> Run:
    return make_run(journal)


def make_run(
    journal: Journal,
    tag: str = "mar12",
    *,
    repository: Path = Path("/somewhere"),
    base_commit: str = "a" * 40,
    time_budget: float = 300.0,
) -> Run:
    return journal.create_run(
        tag=tag,
        repository=repository,
        base_branch="main",
        base_commit=base_commit,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=time_budget,
    )


def make_experiment(run: Run, number: int = 0, status: Status | None = None) -> Experiment:
    return Experiment(
        run_id=run.id,
        number=number,
        stage=Stage.DECIDED if status else Stage.COMMITTED,
        description="EMBEDDING_LR 0.6 → 0.8",
        rationale="why not",
        proposer="search",
        parent="a" * 40,
        commit="b" * 40,
        constants={"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]},
        training=Training(1, ending=Ending.EXITED, numbers={"val_bpb": 1.25, "peak_vram_mb": 1024.0}),
        value=1.25,
        status=status,
    )


def write_version(path: Path, version: int) -> None:
    """Write an empty state file as that version of the schema left it."""
    with closing(sqlite3.connect(path)) as old:
        if not old.execute("PRAGMA user_version").fetchone()[0]:
            old.executescript(";".join(MIGRATIONS[:version]))
        old.execute(f"PRAGMA user_version = {version}")


class Recorder:
    """A connection that writes down what it is asked."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._asked: list[tuple[str, Sequence[Any]]] = []

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._asked.append((sql, values))
        return self._db.execute(sql, values)

    def plans(self) -> list[str]:
        """Return how SQLite goes about it, a line for each table."""
        return [
            row["detail"]
            for sql, values in self._asked
            for row in self._db.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        ]

    def close(self) -> None:
        self._db.close()


def test_what_was_recorded_is_read_back_by_another_journal(journal: Journal, run: Run) -> None:
    experiment = make_experiment(run, status=Status.KEEP)
    journal.record(experiment)
    other = Journal(journal.path)
    assert other.run("mar12") == run
    assert other.experiment(run.id, 0) == experiment
    other.close()


def test_each_step_of_an_experiment_leaves_an_event(journal: Journal, run: Run) -> None:
    committed = make_experiment(run)
    journal.record(replace(committed, stage=Stage.PROPOSED), committed)
    journal.record(committed, kind=EventKind.INTERRUPTED, reason="by command")
    events = journal.events_after(0)
    assert [event.kind for event in events] == [
        EventKind.RUN_STARTED,
        EventKind.PROPOSED,
        EventKind.COMMITTED,
        EventKind.INTERRUPTED,
    ]
    assert events[-1].data == {"reason": "by command"}
    assert journal.events_after(events[1].id, limit=1) == [events[2]]
    assert journal.last_event() == events[-1].id


def test_a_failed_transaction_leaves_neither_change_nor_event(journal: Journal, run: Run) -> None:
    before = journal.last_event()
    with pytest.raises(UserError, match="There is a run mar12 already"):
        make_run(journal)
    with pytest.raises(TypeError):  # what cannot be written as JSON
        journal.record(make_experiment(run), reason=object())
    assert journal.last_event() == before
    assert journal.undecided(run.id) == []


def test_the_best_is_the_last_kept_and_the_baseline_the_first(journal: Journal, run: Run) -> None:
    for number, status in enumerate((Status.CRASH, Status.KEEP, Status.DISCARD, Status.KEEP, Status.SKIP)):
        journal.record(make_experiment(run, number, status))
    journal.record(make_experiment(run, 5))
    best, baseline, undecided = journal.best(run.id), journal.baseline(run.id), journal.undecided(run.id)
    assert best is not None
    assert baseline is not None
    assert (best.number, baseline.number, [each.number for each in undecided]) == (3, 1, [5])
    assert journal.best(run.id, before=3) == baseline
    assert journal.best(run.id, before=1) is None
    assert journal.counts(run.id) == {
        Status.KEEP: 2,
        Status.DISCARD: 1,
        Status.CRASH: 1,
        Status.SKIP: 1,
        Status.QUARANTINE: 0,
    }
    assert [e.number for e in journal.experiments(run.id, last=2)] == [4, 5]
    assert journal.experiments(run.id)[0].number == 0


def test_what_is_asked_for_all_the_time_reads_no_whole_run(
    journal: Journal, run: Run, tmp_path: Path
) -> None:
    recorder = Recorder(journal._reader)
    journal._reader = recorder  # type: ignore[assignment]
    run_status(journal, run, worktree=tmp_path)
    IdeaBox(journal).waiting(run.id)
    Notes(journal).state(run.id, Cause.PROPOSER, "a model")
    open_calls(journal, run)
    plans = recorder.plans()
    assert "SEARCH experiments USING INDEX experiments_under_way (run_id=?)" in plans
    for whole in ("SCAN events", "SCAN experiments", "SEARCH experiments USING PRIMARY KEY (run_id=?)"):
        assert whole not in plans


def test_a_crash_streak_counts_back_to_the_last_other_verdict(journal: Journal, run: Run) -> None:
    assert journal.crash_streak(run.id) == 0
    for number, status in enumerate((Status.CRASH, Status.DISCARD, Status.CRASH, Status.CRASH)):
        journal.record(make_experiment(run, number, status))
    assert journal.crash_streak(run.id) == 2


def test_a_retag_is_known_as_unfinished_until_git_has_followed(journal: Journal, run: Run) -> None:
    make_run(journal, "taken")
    with pytest.raises(UserError, match="There is a run taken already"):
        journal.retag(run, "taken")
    renamed = journal.retag(run, "wide")
    assert (renamed.tag, renamed.renamed_from, renamed.branch) == ("wide", "mar12", "autoresearch/wide")
    assert journal.finish_retag(renamed).renamed_from == ""
    assert journal.run("mar12") is None


def test_a_stopped_run_is_no_longer_active(journal: Journal, run: Run) -> None:
    assert journal.active_runs() == [run]
    stopped = journal.set_state(run, RunState.STOPPED)
    assert stopped.reason == BY_COMMAND
    assert journal.active_runs() == []
    assert journal.runs() == [stopped]


def test_listeners_hear_of_events_and_of_nothing_else(journal: Journal, run: Run) -> None:
    heard: list[int] = []
    journal.listeners.append(lambda: heard.append(journal.last_event()))
    journal.beat()
    journal.set_cursor("terminal", 1)
    assert heard == []
    journal.note(run.id, EventKind.NEEDS_ATTENTION, reason="look")
    assert heard == [journal.last_event()]


def test_cursors_are_kept_for_each_channel(journal: Journal) -> None:
    assert journal.cursor("terminal") is None
    journal.set_cursor("terminal", 7)
    journal.set_cursor("terminal", 8)
    assert journal.cursor("terminal") == 8
    assert journal.cursor("telegram") is None


def test_the_last_beat_is_remembered(journal: Journal) -> None:
    assert journal.last_beat() is None
    journal.beat()
    first = journal.last_beat()
    journal.beat()
    last = journal.last_beat()
    assert first is not None
    assert last is not None
    assert last > first


def test_the_last_beat_is_the_one_that_came_last_though_the_clock_was_set_back(tmp_path: Path) -> None:
    times = iter([9000.0, 9600.0, 1200.0])
    with closing(Journal(tmp_path / "state.db", clock=times.__next__)) as journal:
        for _ in range(3):
            journal.beat()
        assert journal.last_beat() == 1200.0


@pytest.mark.parametrize("beats", [(), (600.0,), (600.0, 9000.0, 1200.0)])
def test_the_last_beat_of_an_older_version_is_kept_and_no_other(
    tmp_path: Path, beats: tuple[float, ...]
) -> None:
    before = next(number for number, script in enumerate(MIGRATIONS) if "DELETE FROM beats" in script)
    write_version(tmp_path / "state.db", before)
    with closing(sqlite3.connect(tmp_path / "state.db")) as old:
        old.executemany("INSERT INTO beats (at) VALUES (?)", [(at,) for at in beats])
        old.commit()
    with closing(Journal(tmp_path / "state.db", clock=lambda: 1800.0)) as journal:
        assert journal.last_beat() == (beats[-1] if beats else None)
        journal.beat()
        journal.beat()
        assert [tuple(row) for row in journal.query("SELECT * FROM beats")] == [(1, 1800.0)]


def test_of_the_oldest_beats_the_latest_is_kept(tmp_path: Path) -> None:
    before = next(number for number, script in enumerate(MIGRATIONS) if "beats_by_time" in script)
    write_version(tmp_path / "state.db", before)
    with closing(sqlite3.connect(tmp_path / "state.db")) as old:
        old.executemany("INSERT INTO beats VALUES (?)", [(600.0,), (1200.0,)])
        old.commit()
    with closing(Journal(tmp_path / "state.db")) as journal:
        assert journal.last_beat() == 1200.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE experiments SET status = 'kept'", "status of run_id 1 number 0 is 'kept'"),
        ("UPDATE trainings SET numbers = '{\"val_bpb\": 1.2'", "numbers of run_id 1 number 0 is '{"),
        ("UPDATE experiments SET stage = x'00ff'", "stage of run_id 1 number 0 is b"),
        ("UPDATE runs SET state = 'asleep'", "state of id 1 is 'asleep'"),
        ("UPDATE events SET kind = 'dreamt'", "kind of run_id 1 id 1 is 'dreamt'"),
        ("UPDATE events SET data = '{'", "data of run_id 1 id 1 is '{'"),
    ],
)
def test_a_damaged_row_is_named_and_nothing_of_it_is_lost(
    journal: Journal, run: Run, change: str, words: str
) -> None:
    journal.record(make_experiment(run, status=Status.KEEP))
    kept = journal.experiments(run.id), journal.runs(), journal.events_after(0)
    before = {
        table: journal.query(f"SELECT * FROM {table}")
        for table in ("experiments", "trainings", "runs", "events")
    }
    with journal.transaction():
        journal.execute(change)
    with pytest.raises(UserError) as told:
        _ = journal.experiments(run.id), journal.runs(), journal.events_after(0)
    assert words in str(told.value)
    with journal.transaction():
        for table, rows in before.items():
            for row in rows:
                marks = ", ".join("?" * len(row))
                journal.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", *row)
    assert (journal.experiments(run.id), journal.runs(), journal.events_after(0)) == kept


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("not a database, and longer than a header of one would be" * 10)
    with pytest.raises(UserError, match=r"state\.db cannot be used"):
        Journal(path)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(UserError, match="update autoresearch-bot"):
        Journal(path)


WRITER = """
import sys
from pathlib import Path
from loop.store.journal import Journal
from tests.loop.store.test_journal import make_experiment, make_run
journal = Journal(Path(sys.argv[1]))
run = make_run(journal)
for number in range(100_000):
    journal.record(make_experiment(run, number))
    print(number, flush=True)
"""


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    last = int([line for line in acknowledged if line.endswith("\n")][-1])
    journal = Journal(path)
    numbers = [experiment.number for experiment in journal.experiments(1)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > last
    assert sum(event.kind is EventKind.COMMITTED for event in journal.events_after(0, limit=10**6)) == len(
        numbers
    )
    journal.close()


OPENER = """
import sys
from pathlib import Path
from loop.store.journal import Journal
print("ready", flush=True)
for path in sys.stdin:
    try:
        Journal(Path(path.strip())).close()
        print("opened", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_processes_that_open_a_new_or_an_older_file_at_once_all_succeed(tmp_path: Path) -> None:
    """Each round is a file; the processes are told of it at the same moment."""
    with ExitStack() as stack:
        openers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(3)
        ]
        pipes = [(opener.stdin, opener.stdout) for opener in openers]

        def answers() -> list[str]:
            return [output.readline() for _, output in pipes if output]

        assert answers() == ["ready\n"] * 3
        for version in (0, 1, 8, 0, 1, 8, 0, 1, 8, 0, 0, 0):
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
            if version:
                write_version(path, version)
            for told, _ in pipes:
                assert told is not None
                told.write(f"{path}\n")
            for told, _ in pipes:
                assert told is not None
                told.flush()
            assert answers() == ["opened\n"] * 3
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


READER = """
import os, sys
from contextlib import closing
from pathlib import Path
from loop.store.journal import Journal
Path("/").as_uri()  # imports what it needs, which nobody else may be allowed to read
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
with closing(Journal(Path(sys.argv[1]), read_only=True)) as journal:
    print(*(f"{run.tag} {len(journal.experiments(run.id))}" for run in journal.runs()))
"""


@pytest.fixture
def exposed() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("bot", ["alive", "ended", "killed"])
def test_a_file_is_read_in_a_folder_that_is_not_writable(exposed: Path, bot: str) -> None:
    path = exposed / "state.db"
    with closing(Journal(path)) as journal:
        run = make_run(journal)
        journal.record(make_experiment(run))
        if bot == "killed":  # nobody has put the log into the file
            files = {file: file.read_bytes() for file in exposed.iterdir()}
        elif bot == "alive":
            assert read_as_nobody(path) == "mar12 1\n"
    if bot == "killed":
        for file, content in files.items():
            file.write_bytes(content)
        assert path.with_name("state.db-wal").stat().st_size > 0
    before = sorted(exposed.iterdir())
    assert read_as_nobody(path) == "mar12 1\n"
    assert sorted(exposed.iterdir()) == before


def read_as_nobody(path: Path) -> str:
    for file in path.parent.iterdir():
        file.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=False
        )
    finally:
        path.parent.chmod(0o755)
        for file in path.parent.iterdir():
            file.chmod(0o644)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_journal_that_is_read_only_sees_what_the_bot_writes_and_writes_nothing(
    journal: Journal, run: Run
) -> None:
    with closing(Journal(journal.path, read_only=True)) as reader:
        assert reader.runs() == [run]
        journal.record(make_experiment(run))
        assert reader.experiment(run.id, 0) == journal.experiment(run.id, 0)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.beat()


def test_a_file_that_is_not_there_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"state\.db cannot be used"):
        Journal(tmp_path / "home" / "state.db", read_only=True, patience=0.0)
    assert not list(tmp_path.iterdir())


def test_a_reader_waits_for_no_transaction_and_the_transaction_reads_what_it_wrote(
    journal: Journal, run: Run
) -> None:
    with ThreadPoolExecutor(1) as elsewhere:
        with journal.transaction() as append:
            journal.execute("UPDATE runs SET tag = 'mar13' WHERE id = ?", run.id)
            append(run.id, EventKind.NOTED, reason="look")
            assert (journal.run_by_id(run.id).tag, journal.last_event()) == ("mar13", 2)
            assert elsewhere.submit(journal.run_by_id, run.id).result(timeout=60) == run
            assert elsewhere.submit(journal.last_event).result(timeout=60) == 1
        assert elsewhere.submit(journal.run_by_id, run.id).result(timeout=60).tag == "mar13"


def test_what_was_rolled_back_was_never_there(journal: Journal, run: Run) -> None:
    def fail() -> None:
        with journal.transaction():
            journal.execute("DELETE FROM events")
            assert journal.last_event() == 0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert journal.last_event() == 1


def test_a_transaction_inside_another_is_refused_and_the_outer_one_goes_on(
    journal: Journal, run: Run
) -> None:
    with journal.transaction():
        journal.execute("UPDATE runs SET tag = 'mar13' WHERE id = ?", run.id)
        with pytest.raises(RuntimeError, match="open already"), journal.transaction():
            pass
    assert journal.run_by_id(run.id).tag == "mar13"


def test_a_query_cannot_write(journal: Journal, run: Run) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        journal.query("DELETE FROM events")
    assert journal.last_event() == 1
