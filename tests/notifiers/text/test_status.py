from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from loop.experiment import BY_COMMAND, RunState, Stage
from loop.process.summary import Progress
from loop.results.status import RunStatus
from notifiers.text.status import progress_line, runs_message, status_message

START = 1_773_360_000.0  # 2026-03-13 00:00 UTC
TRAINING = RunStatus(
    tag="mar12",
    state=RunState.RUNNING,
    reason=None,
    metric="val_bpb",
    experiment=12,
    stage=Stage.TRAINING,
    description="EMBEDDING_LR 0.6 → 0.8",
    training_since=START + 3500,
    progress=Progress(123, 45.6, 4.123456, 163.0),
    best=0.986041,
    best_number=7,
    best_at=START + 1800,
    baseline=0.9979,
    keep=3,
    discard=8,
    crash=1,
    skipped=0,
    started_at=START,
    heartbeat_at=START + 3540,
)


def text(status: RunStatus, now: float = START + 3600) -> str:
    return status_message(status, now=now, zone=UTC).text


def test_a_running_experiment() -> None:
    assert text(TRAINING) == (
        "Run mar12: running\n"
        "Experiment #12 is training: EMBEDDING_LR 0.6 → 0.8\n"
        "step 123 · 46 % · loss 4.1235 · 2 min 43 s left\n"
        "Best val_bpb: 0.986041 (#7, 30 min ago), from 0.997900\n"
        "3 keep, 8 discard, 1 crash · 12.0 an hour\n"
        "Started 2026-03-13 00:00 · heartbeat 1 min ago"
    )


def test_what_the_models_cost() -> None:
    lines = text(replace(TRAINING, dollars=1.836, tokens=920_000)).split("\n")
    assert lines[-2] == "$1.84 for models"
    assert text(replace(TRAINING, dollars=0.0, tokens=920_000)) == text(TRAINING)


def test_a_training_that_has_said_nothing_yet() -> None:
    assert "started 1 min 40 s ago" in text(replace(TRAINING, progress=None))


def test_without_an_idea_it_says_why() -> None:
    waiting = replace(TRAINING, stage=None, description=None, progress=None, training_since=None)
    why = "The search finds no constant.\nIt needs one."
    told = "No idea yet: The search finds no constant. It needs one."
    assert told in status_message(waiting, now=START, zone=UTC, lacks=why).text.split("\n")
    assert progress_line(waiting, now=START, lacks=why) == told
    for status in (TRAINING, replace(waiting, state=RunState.PAUSED)):
        assert "No idea" not in status_message(status, now=START, zone=UTC, lacks=why).text
        assert "No idea" not in progress_line(status, now=START, lacks=why)


def test_a_paused_run_before_its_first_result() -> None:
    paused = replace(
        TRAINING,
        state=RunState.PAUSED,
        reason=BY_COMMAND,
        experiment=None,
        stage=None,
        description=None,
        training_since=None,
        progress=None,
        best=None,
        best_number=None,
        best_at=None,
        baseline=None,
        keep=0,
        discard=0,
        crash=0,
        heartbeat_at=None,
    )
    assert text(paused) == (
        "Run mar12: paused (by command)\nNo val_bpb yet\n0 keep, 0 discard, 0 crash\nStarted 2026-03-13 00:00"
    )


def test_the_baseline_as_best_is_called_so() -> None:
    assert "Best val_bpb: 0.997900, the baseline" in text(replace(TRAINING, best=0.9979, best_number=0))


def test_the_line_of_progress_is_empty_when_nothing_trains() -> None:
    line = progress_line(TRAINING, now=START + 3600)
    assert line == "#12 EMBEDDING_LR 0.6 → 0.8 · step 123 · 46 % · loss 4.1235 · 2 min 43 s left"
    assert progress_line(replace(TRAINING, stage=Stage.COMMITTED), now=START) == ""


def test_runs_are_listed_with_their_best() -> None:
    message = runs_message([TRAINING, replace(TRAINING, tag="mar13", best=None)], zone=UTC)
    assert message.text == "2 runs"
    assert message.block.splitlines() == [
        "mar12  running  12 experiments  0.986041  2026-03-13",
        "mar13  running  12 experiments  -  2026-03-13",
    ]
    assert "/start_run" in runs_message([], zone=UTC).text
