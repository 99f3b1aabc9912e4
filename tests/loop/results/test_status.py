from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from loop.experiment import Cost, RunState, Status
from loop.results.report import run_status, to_json
from loop.store.journal import Journal
from loop.store.spending import Budget
from tests.loop.store.test_journal import make_experiment, make_run
from tests.notifiers.mornings import open_recorder


def test_what_models_cost_and_how_often_no_proposal_was_ready(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db")
    run, other = make_run(journal), make_run(journal, "other")
    for number, waited in enumerate((0.0, 0.05, 0.06, 20.0)):
        journal.record(replace(make_experiment(run, number, Status.KEEP), waited=waited))
    books = Budget(journal)
    books.pay(run.id, "model", Cost(1000, 800, 50, 0.5))
    books.pay(run.id, "model", Cost(100, 0, 5, None))
    books.pay(other.id, "model", Cost(7, 0, 7, 7.0))
    status = run_status(journal, run, worktree=tmp_path)
    assert (status.queue_empty, status.tokens, status.dollars) == (2, 1155, 0.5)
    assert json.loads(json.dumps(to_json(status)))["queue_empty"] == 2
    journal.close()


def test_where_no_model_was_asked_nothing_is_said_of_money(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.db")
    run = make_run(journal)
    status = run_status(journal, run, worktree=tmp_path)
    assert (status.queue_empty, status.tokens, status.dollars) == (0, None, None)
    Budget(journal).pay(run.id, "agent", Cost(dollars=None))
    status = run_status(journal, run, worktree=tmp_path)
    assert (status.tokens, status.dollars) == (0, None)
    journal.close()


def test_the_time_away_is_all_pauses_and_all_times_without_a_bot(tmp_path: Path) -> None:
    with open_recorder(tmp_path) as recorder:
        recorder.begin()
        recorder.at("12 23:58")
        recorder.state(RunState.PAUSED)
        recorder.at("13 00:58")
        recorder.state(RunState.RUNNING)
        recorder.at("13 01:58")
        recorder.away("13 03:58")
        recorder.at("13 04:58")
        status = run_status(recorder.journal, recorder.run, worktree=tmp_path)
    assert status.away_seconds == 3 * 3600
