"""Experiments and their trainings in two tables, and a state file of the release that had them in one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loop.engine.plan import Plan
from loop.engine.run import Engine
from loop.engine.stages import KeepRule
from loop.engine.trainings import Trainings
from loop.experiment import Ending, Experiment, Purpose, RunState, Stage, Status, Training
from loop.folders import RunFolders
from loop.git.workspace import Workspace
from loop.process.environment import Launcher, training_environment
from loop.process.trainer import Trainer
from loop.store.journal import Journal
from tests.loop.lab import Ideas, git, value
from tests.loop.store.test_journal import make_experiment, make_run

pytestmark = pytest.mark.usefixtures("tables_by_migrations")

LAST_RELEASE = Path(__file__).with_name("last_release")
"""A run of the release before this one, at commit 3ac3b9d, whose machine died while #7 trained again."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "new.db")
    yield journal
    journal.close()


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Journal]:
    """The state file of the last release, with its repository beside it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(
        repository,
        "fetch",
        "--quiet",
        "--update-head-ok",
        str(LAST_RELEASE / "repository.bundle"),
        "refs/*:refs/*",
    )
    git(repository, "reset", "--quiet", "--hard")
    with sqlite3.connect(tmp_path / "state.db") as db:
        text = (LAST_RELEASE / "state.sql").read_text().replace("/old/repository", str(repository))
        db.executescript(text)
    db.close()
    journal = Journal(tmp_path / "state.db")
    yield journal
    journal.close()


def told(experiment: Experiment) -> tuple[object, ...]:
    return (
        experiment.status,
        experiment.value,
        experiment.best_before,
        experiment.attempt,
        experiment.ending,
    )


def test_experiments_of_the_last_release_keep_what_was_known_of_them(old: Journal) -> None:
    run, adopted = old.runs()
    assert list(map(told, old.experiments(run.id))) == [
        (Status.KEEP, 1.5, None, 1, Ending.EXITED),
        (Status.KEEP, 1.4, 1.5, 1, Ending.EXITED),
        (Status.CRASH, None, 1.4, 1, Ending.EXITED),
        (Status.DISCARD, 1.6, 1.4, 1, Ending.EXITED),
        (Status.SKIP, None, 1.4, 1, Ending.INTERRUPTED),
        (Status.KEEP, 1.3, 1.4, 1, Ending.EXITED),
        (Status.KEEP, 1.2, 1.3, 2, Ending.EXITED),
        (None, None, None, 2, None),
    ]
    crash = old.experiments(run.id)[2]
    assert (crash.error, crash.training and crash.training.exit_code) == ("RuntimeError: no such luck", 1)
    assert old.experiments(run.id)[6].numbers["val_bpb"] == 1.2
    assert list(map(told, old.experiments(adopted.id))) == [
        (Status.KEEP, 0.9979, None, 0, Ending.EXITED),
        (Status.CRASH, None, 0.9979, 0, Ending.EXITED),
    ]
    assert old.experiments(adopted.id)[0].memory_gb == 44.0


def test_trainings_that_were_run_again_are_rows_of_their_own_after_the_migration(old: Journal) -> None:
    rows = old.query("SELECT * FROM trainings WHERE run_id = 1 AND number IN (4, 6, 7) ORDER BY number, k")
    assert [(row["number"], row["k"], row["ending"]) for row in rows] == [
        (4, 1, "interrupted"),
        (6, 1, "interrupted"),
        (6, 2, "exited"),
        (7, 1, "interrupted"),
        (7, 2, None),
    ]
    assert all(row["started_at"] < row["ended_at"] for row in rows[:4])
    assert rows[3]["ended_at"] < rows[4]["started_at"]
    assert {(row["purpose"], row["lane"]) for row in rows} == {("verdict", 0)}


async def test_a_run_of_the_last_release_goes_on_where_its_machine_died(old: Journal, tmp_path: Path) -> None:
    run, _ = old.runs()
    workspace = Workspace(repository=run.repository, path=tmp_path / "worktrees" / run.tag, tag=run.tag)
    workspace.adopt()
    (tmp_path / "gate").touch()
    trainings = Trainings(
        Plan(
            KeepRule(),
            Launcher(
                tmp_path / "environments",
                override=(),
                editable="train.py",
                environ=training_environment(
                    {"PATH": "/usr/bin:/bin"}, {"TORCH_GATE": str(tmp_path / "gate")}
                ),
            ),
            deadline=600.0,
        ),
        journal=old,
        workspace=workspace,
        trainer=Trainer(),
        folders=RunFolders(tmp_path, run.id),
    )
    engine = Engine(run, trainings, Ideas(*[""] * 7, value(1.1)))
    await engine.conduct(2)
    seventh, eighth = old.experiments(run.id)[7:]
    assert told(seventh) == (Status.DISCARD, 1.25, 1.2, 3, Ending.EXITED)
    assert told(eighth) == (Status.KEEP, 1.1, 1.2, 1, Ending.EXITED)
    assert old.run_by_id(run.id).state is RunState.DONE
    assert git(run.repository, "rev-parse", run.branch) == eighth.commit
    endings = old.query("SELECT ending FROM trainings WHERE run_id = 1 AND number = 7 ORDER BY k")
    assert [row["ending"] for row in endings] == ["interrupted", "vanished", "exited"]


# Invariants


def test_a_lane_has_one_undecided_experiment_at_most(journal: Journal) -> None:
    run, other = make_run(journal), make_run(journal, "mar13")
    first, second = make_experiment(run, 0), make_experiment(run, 1)
    journal.record(first)
    with pytest.raises(sqlite3.IntegrityError):
        journal.record(second)
    assert journal.undecided(run.id) == [first]
    journal.record(replace(second, lane=1), make_experiment(other))
    assert [experiment.lane for experiment in journal.undecided(run.id)] == [0, 1]
    journal.record(replace(first, stage=Stage.DECIDED, status=Status.KEEP), replace(second, number=2))
    assert [experiment.number for experiment in journal.undecided(run.id)] == [1, 2]


def test_a_lane_has_one_training_under_way_at_most(journal: Journal) -> None:
    run = make_run(journal)
    decided = make_experiment(run, 0, Status.KEEP)
    running = replace(make_experiment(run, 1), training=Training(1, started_at=1.0))
    journal.record(decided, running)
    repeat = replace(decided, training=Training(2, purpose=Purpose.REPEAT, started_at=2.0))
    with pytest.raises(sqlite3.IntegrityError):
        journal.record(repeat)
    assert journal.experiment(run.id, 0) == decided
    journal.record(replace(running, training=Training(1, started_at=1.0, ending=Ending.VANISHED)), repeat)
    assert journal.experiment(run.id, 0) == repeat


def test_each_training_of_an_experiment_is_kept(journal: Journal) -> None:
    run = make_run(journal)
    committed = make_experiment(run)
    lost = Training(1, supervisor_pid=7, started_at=1.0, ended_at=2.0, ending=Ending.VANISHED)
    good = Training(
        *(2, Purpose.VERDICT, "an H200"),
        supervisor_pid=8,
        started_at=3.0,
        ended_at=4.0,
        ending=Ending.EXITED,
        numbers={"a": 1.0},
        cpu_seconds=1.5,
    )
    for training in (lost, good):
        journal.record(replace(committed, training=training))
    found = journal.experiment(run.id, 0)
    assert found is not None
    assert found.training == good
    rows = journal.query("SELECT k, supervisor_pid, ending FROM trainings ORDER BY k")
    assert [tuple(row) for row in rows] == [(1, 7, "vanished"), (2, 8, "exited")]
