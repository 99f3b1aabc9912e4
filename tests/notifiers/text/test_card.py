from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import BY_COMMAND, RunState, Stage
from loop.process.summary import Progress
from loop.results.status import RunStatus
from notifiers.text.status import bar, card

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
    skipped=0,
    started_at=AT,
    heartbeat_at=AT,
)


def text(status: RunStatus) -> list[str]:
    return card(status, zone=timezone(timedelta(hours=1))).text.splitlines()


def test_the_card_of_a_run_that_trains() -> None:
    assert text(STATUS) == [
        "Run mar12: running",
        "Experiment #13: halve batch size",
        "█████░░░░░ 52 % · 2 min 24 s left",
        "Best val_bpb: 0.986041 (-0.011859), #12 at 02:32",
        "3 keep, 9 discard, 1 crash",
    ]


def test_the_card_says_what_is_known_and_no_more() -> None:
    assert text(replace(STATUS, progress=Progress(step=1200)))[2] == "step 1,200"
    assert text(replace(STATUS, progress=None))[2] == "training since 02:32"
    assert text(replace(STATUS, stage=Stage.MEASURED, training_since=None))[2] == "being judged"
    idle = replace(STATUS, stage=None, experiment=None, state=RunState.PAUSED, reason=BY_COMMAND)
    assert text(idle)[:2] == [
        "Run mar12: paused (by command)",
        "Best val_bpb: 0.986041 (-0.011859), #12 at 02:32",
    ]
    assert text(replace(idle, best=None))[1] == "No val_bpb yet"
    assert text(replace(idle, best_number=0))[1] == "Best val_bpb: 0.986041, the baseline"
    assert text(replace(idle, skipped=2))[-1] == "3 keep, 9 discard, 1 crash, 2 skipped"


@given(st.floats(allow_nan=False))
def test_a_bar_is_always_ten_wide(percent: float) -> None:
    assert len(bar(percent)) == 10


def test_a_bar_is_full_only_at_the_end() -> None:
    assert (bar(0), bar(99.9), bar(100)) == ("░" * 10, "█" * 9 + "░", "█" * 10)
