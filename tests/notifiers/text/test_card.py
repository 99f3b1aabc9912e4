from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import BY_COMMAND, RunState, Stage
from loop.process.summary import Progress
from loop.results.status import RunStatus
from notifiers.text.status import bar, card
from tests.notifiers.golden import check

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


IDLE = replace(STATUS, stage=None, experiment=None, state=RunState.PAUSED, reason=BY_COMMAND)


def test_the_card_says_what_is_known_and_no_more() -> None:
    statuses = {
        "training": STATUS,
        "a step without a share": replace(STATUS, progress=Progress(step=1200)),
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
