from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import BY_COMMAND, Actor, Cause, Reason, RunState, Stage
from loop.logs.progress import Progress
from loop.results.report import RunStatus
from loop.sandbox.proof import Check, SandboxFacts
from loop.sandbox.sandbox import Sandbox, SandboxKind
from notifiers.text.status import (
    bar,
    card,
    progress_line,
    runs_message,
    sandbox_text,
    start_card,
    status_message,
)
from tests.gallery.story import PLAN
from tests.notifiers.golden import check

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
    quarantine=0,
    skipped=0,
    started_at=START,
    heartbeat_at=START + 3540,
)


def text(status: RunStatus, now: float = START + 3600) -> str:
    return status_message(status, now=now, zone=UTC).text


WAITING = replace(TRAINING, stage=None, description=None, progress=None, training_since=None)
PAUSED = replace(
    WAITING,
    state=RunState.PAUSED,
    reason=BY_COMMAND,
    experiment=None,
    best=None,
    best_number=None,
    best_at=None,
    baseline=None,
    keep=0,
    discard=0,
    crash=0,
    heartbeat_at=None,
)
WHY = "Waiting for a proposal: The search finds no constant.\nIt needs one."
MOVED = (
    "Branch autoresearch/mar12 is at 1111111, not at 2222222 where the run left it. Save what you need from "
    f"it, then run `git -C /home/ann/nano update-ref refs/heads/autoresearch/mar12 {'2' * 40}` and /resume."
)


def test_the_status_reads_as_it_did() -> None:
    statuses = {
        "training": TRAINING,
        "no line yet": replace(TRAINING, progress=None),
        "with the cost of models": replace(TRAINING, dollars=1.836, tokens=920_000),
        "paused before the first result": PAUSED,
        "the baseline is the best": replace(TRAINING, best=0.9979, best_number=0),
        "a person is needed": replace(TRAINING, quarantine=1, calls=("#9 waits for /accept 9 or /reject 9",)),
        "the branch was moved": replace(
            PAUSED, reason=Reason(Actor.LOOP, cause=Cause.BRANCH, facts={"error": MOVED}), calls=(MOVED,)
        ),
        "the baseline crashed": replace(
            PAUSED, state=RunState.STOPPED, reason=Reason(Actor.LOOP, cause=Cause.BASELINE)
        ),
    }
    texts = {title: text(status) for title, status in statuses.items()}
    waiting = status_message(WAITING, now=START + 3600, zone=UTC, waits_for=WHY).text
    check("status", texts | {"waiting for a proposal": waiting})


def test_a_rate_needs_a_run_that_runs_and_a_few_results() -> None:
    rate = "experiments per hour"
    assert f"12.0 {rate}" in text(TRAINING)
    assert f"24.0 {rate}" in text(replace(TRAINING, away_seconds=1800.0))  # half the time it was paused
    made = TRAINING.experiments
    assert f"12.0 {rate}" in text(replace(TRAINING, keep=TRAINING.keep + 30, taken_over=30))
    assert rate not in text(replace(TRAINING, taken_over=made - 1))
    assert rate not in text(replace(TRAINING, state=RunState.DONE))
    assert rate not in text(replace(TRAINING, keep=1, discard=2))


def test_what_lacks_is_said_only_while_a_proposal_is_awaited() -> None:
    line = progress_line(WAITING, zone=UTC, waits_for=WHY)
    assert line.endswith("The search finds no constant. It needs one.")
    assert line in status_message(WAITING, now=START, zone=UTC, waits_for=WHY).text.split("\n")
    for status in (TRAINING, replace(WAITING, state=RunState.PAUSED)):
        assert status_message(status, now=START, zone=UTC, waits_for=WHY).text == text(status, START)
        assert "constant" not in progress_line(status, zone=UTC, waits_for=WHY)


def test_models_that_cost_nothing_are_not_mentioned() -> None:
    assert text(replace(TRAINING, dollars=0.0, tokens=920_000)) == text(TRAINING)


def test_the_line_of_progress_is_empty_when_nothing_trains() -> None:
    line = progress_line(TRAINING, zone=UTC)
    assert line == "#12 EMBEDDING_LR 0.6 → 0.8 · ████░░░░░░ 46 % · step 123 · loss 4.1235 · 2 min 43 s left"
    assert progress_line(replace(TRAINING, stage=Stage.COMMITTED), zone=UTC) == ""


def test_the_line_of_progress_says_which_repeat_it_is() -> None:
    line = progress_line(replace(TRAINING, repeat=2, repeats=3), zone=UTC)
    assert line.startswith("Repeat 2 of 3 of #12 EMBEDDING_LR 0.6 → 0.8 · ")


def test_runs_are_listed_with_their_best() -> None:
    message = runs_message([TRAINING, replace(TRAINING, tag="mar13", best=None)], zone=UTC)
    assert message.text == "2 runs"
    assert message.block.splitlines() == [
        "mar12  running  12 experiments  0.986041  2026-03-13",
        "mar13  running  12 experiments  -  2026-03-13",
    ]
    assert "/start_run" in runs_message([], zone=UTC).text


AT = datetime(2026, 3, 12, 1, 32, tzinfo=UTC).timestamp()
STATUS = RunStatus(
    tag="mar12",
    state=RunState.RUNNING,
    reason=None,
    metric="val_bpb",
    experiment=13,
    stage=Stage.TRAINING,
    description="halve batch size",
    training_since=AT,
    progress=Progress(step=120, percent=52.4, loss=3.1, remaining_seconds=144.0),
    best=0.986041,
    best_number=12,
    best_at=AT,
    baseline=0.9979,
    keep=3,
    discard=9,
    crash=1,
    quarantine=0,
    skipped=0,
    started_at=AT,
    heartbeat_at=AT,
)


IDLE = replace(STATUS, stage=None, experiment=None, state=RunState.PAUSED, reason=BY_COMMAND)


def test_the_card_says_what_is_known_and_no_more() -> None:
    statuses = {
        "training": STATUS,
        "a step without a share": replace(STATUS, progress=Progress(step=1200)),
        "a repeat": replace(STATUS, repeat=2, repeats=3),
        "no line yet": replace(STATUS, progress=None),
        "ended": replace(STATUS, stage=Stage.MEASURED, training_since=None, progress=None),
        "paused": IDLE,
        "no number yet": replace(IDLE, best=None),
        "only the baseline": replace(IDLE, best_number=0),
        "some were skipped": replace(IDLE, skipped=2),
    }
    zone = timezone(timedelta(hours=1))
    check("cards", {title: card(status, zone=zone).text for title, status in statuses.items()})


@given(st.floats(allow_nan=False))
def test_a_bar_is_always_ten_wide(percent: float) -> None:
    assert len(bar(percent)) == 10


def test_a_bar_is_full_only_at_the_end() -> None:
    assert (bar(0), bar(99.9), bar(100)) == ("░" * 10, "█" * 9 + "░", "█" * 10)


def test_a_run_can_be_started_where_its_data_is_found() -> None:
    card = start_card(PLAN)
    assert [button.command for row in card.buttons for button in row] == [
        "/start_run mar13 go",
        "/start_run mar13b",
        "/cancel",
        "/start_run mar13 all go",
        "/start_run mar13 hourly go",
        "/start_run mar13 morning go",
    ]


NO_DATA = (
    "Data: missing: /data/tokens (from prepare.py). "
    "Run: cd /home/ann/nano && python prepare.py; or set DATA_PATHS to where the data is."
)


def test_without_its_data_the_card_says_what_to_type_and_offers_no_start() -> None:
    card = start_card(replace(PLAN, lacking=(NO_DATA,)))
    noisy = start_card(replace(PLAN, noise_runs=2)).text
    cards = {"a run": start_card(PLAN).text, "with repeats": noisy, "without its data": card.text}
    check("start_card", cards)
    assert [button.command for row in card.buttons for button in row] == ["/cancel"]


BWRAP = SandboxFacts(Sandbox(SandboxKind.BWRAP, "/usr/bin/bwrap"), held=16)
OF_LANDLOCK = (Check.UDP, Check.SOCKET, Check.PROCESSES, Check.ENVIRON)
DATA, SCRATCH = Path("/data/corpus"), Path("/scratch")


def test_the_sandbox_is_named_with_what_it_leaves_open() -> None:
    landlock = Sandbox(SandboxKind.LANDLOCK, reason="This container forbids namespaces.")
    facts = {
        "bubblewrap": BWRAP,
        "with settings": replace(BWRAP, reads=(DATA,), writes=(SCRATCH,), network=True),
        "Landlock": SandboxFacts(landlock, held=12, leaks=OF_LANDLOCK),
        "with all that can fail": SandboxFacts(landlock, leaks=tuple(Check)),
        "none": SandboxFacts(Sandbox(SandboxKind.NONE, reason="Only Linux has a sandbox for trainings.")),
    }
    check("sandbox", {title: sandbox_text(each) for title, each in facts.items()})
