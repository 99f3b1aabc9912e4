from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.experiment import (
    Cost,
    Ending,
    Event,
    EventKind,
    Experiment,
    Family,
    Goal,
    Run,
    RunState,
    Stage,
    Status,
    Training,
)
from notifiers.text.digest import digest, message_of
from tests.loop.trainings import trained

RUN = Run(
    id=1,
    tag="mar12",
    repository=Path("/home/ada/nano"),
    base_branch="main",
    base_commit="228791f0000000000000000000000000000000000",
    metric="val_bpb",
    goal=Goal.MINIMIZE,
    time_budget=300.0,
    state=RunState.RUNNING,
    created_at=0.0,
)
EXPERIMENT = Experiment(
    run_id=1,
    number=12,
    stage=Stage.DECIDED,
    description="halve batch size",
    rationale="",
    proposer="search",
    parent="f" * 40,
    commit="0123456789abcdef0123456789abcdef01234567",
    lines_added=3,
    lines_removed=1,
    training=Training(
        1,
        started_at=1000.0,
        ended_at=1326.0,
        numbers={"val_bpb": 0.986041, "training_seconds": 300.1, "peak_vram_mb": 45060.2},
    ),
    value=0.986041,
    best_before=0.9979,
    status=Status.KEEP,
    reason="improved",
)
CRASH = trained(replace(EXPERIMENT, status=Status.CRASH, value=None, reason="exit status 1"), numbers={})


def told(experiment: Experiment, run: Run = RUN) -> str:
    return digest(experiment, run=run).text


def test_a_kept_experiment() -> None:
    assert told(EXPERIMENT) == (
        "Experiment #12: halve batch size\n"
        "val_bpb: 0.997900 → 0.986041 (-0.011859)\n"
        "Status: keep\n"
        "improved\n"
        "5 min 26 s · training 5 min · 44.0 GB\n"
        "+3 −1 lines · run mar12"
    )


@pytest.mark.parametrize(
    ("family", "cost", "line"),
    [
        (Family.OPTIMIZER, Cost(20_000, 15_000, 900, 0.0231), "optimizer · $0.02"),
        (Family.OPTIMIZER, None, "optimizer"),
        (None, Cost(20_000, 0, 900, 0.001), "under $0.01"),
        (Family.DATA_ORDER, Cost(20_000, 0, 900, None), "data order · 20,900 tokens"),
        (Family.BATCH, Cost(20_000, 0, 900, 0.0), "batch"),
        (Family.BATCH, Cost(dollars=None), "batch"),
        (None, Cost(), ""),
    ],
)
def test_where_the_idea_came_from_is_one_short_line(
    family: Family | None, cost: Cost | None, line: str
) -> None:
    lines = told(EXPERIMENT).split("\n")
    made = told(replace(EXPERIMENT, family=family, cost=cost)).split("\n")
    assert made == [*lines[:-1], *([line] if line else []), lines[-1]]


def test_a_discarded_experiment() -> None:
    discarded = replace(EXPERIMENT, value=0.998, status=Status.DISCARD, reason="worse", lines_removed=0)
    assert told(discarded) == (
        "Experiment #12: halve batch size\n"
        "val_bpb: 0.997900 → 0.998000 (+0.000100)\n"
        "Status: discard\n"
        "worse\n"
        "5 min 26 s · training 5 min · 44.0 GB\n"
        "+3 −0 lines · run mar12"
    )


def test_the_baseline_has_nothing_before_it() -> None:
    baseline = replace(
        EXPERIMENT,
        number=0,
        description="baseline",
        value=0.9979,
        best_before=None,
        lines_added=0,
        lines_removed=0,
        reason="the first number",
    )
    assert told(baseline) == (
        "Experiment #0: baseline\n"
        "val_bpb: 0.997900 (baseline)\n"
        "Status: keep\n"
        "the first number\n"
        "5 min 26 s · training 5 min · 44.0 GB\n"
        "run mar12"
    )


def test_a_crash_tells_the_last_line_of_its_error() -> None:
    error = "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: CUDA out of memory.\n\n"
    assert told(trained(CRASH, error=error, k=2)) == (
        "Experiment #12: halve batch size\n"
        "val_bpb: 0.997900 → crash\n"
        "Status: crash\n"
        "torch.OutOfMemoryError: CUDA out of memory.\n"
        "exit status 1\n"
        "5 min 26 s · attempt 2\n"
        "+3 −1 lines · run mar12"
    )


@pytest.mark.parametrize(
    ("error", "lines"), [("", ""), ("ValueError: in a thread", "ValueError: in a thread\n")]
)
def test_the_reason_leads_where_a_training_was_killed(error: str, lines: str) -> None:
    reason = "still running after 10.0 min: killed at the deadline"
    assert told(trained(replace(CRASH, reason=reason), ending=Ending.DEADLINE, error=error)) == (
        "Experiment #12: halve batch size\n"
        "val_bpb: 0.997900 → crash\n"
        "Status: crash\n"
        f"{reason}\n{lines}"
        "5 min 26 s\n"
        "+3 −1 lines · run mar12"
    )


def test_a_skipped_experiment_that_never_trained() -> None:
    skipped = replace(
        EXPERIMENT,
        status=Status.SKIP,
        value=None,
        training=None,
        reason="skipped by command",
    )
    assert told(skipped) == (
        "Experiment #12: halve batch size\n"
        "val_bpb: 0.997900 → skipped\n"
        "Status: skip\n"
        "skipped by command\n"
        "+3 −1 lines · run mar12"
    )


@pytest.mark.parametrize(
    ("experiment", "line"),
    [
        (replace(EXPERIMENT, value=0.9979), "val_bpb: 0.997900 → 0.997900 (+0.000000)"),
        (replace(EXPERIMENT, value=0.9979 - 1e-9), "val_bpb: 0.997900 → 0.997900 (+0.000000)"),
        (replace(EXPERIMENT, best_before=None), "val_bpb: 0.986041 (the first)"),
        (replace(CRASH, best_before=None, number=0), "val_bpb: crash"),
        (replace(EXPERIMENT, value=None, status=Status.DISCARD), "val_bpb: 0.997900 → no number"),
    ],
)
def test_the_second_line_at_the_edges(experiment: Experiment, line: str) -> None:
    assert told(experiment).splitlines()[1] == line


def test_another_metric_has_its_own_name() -> None:
    run = replace(RUN, metric="accuracy", goal=Goal.MAXIMIZE)
    better = replace(EXPERIMENT, best_before=0.7, value=0.75)
    assert told(better, run).splitlines()[1] == "accuracy: 0.700000 → 0.750000 (+0.050000)"


def test_an_experiment_without_a_verdict_has_no_digest() -> None:
    with pytest.raises(ValueError, match="experiment 12 is not decided"):
        digest(replace(EXPERIMENT, status=None), run=RUN)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(), st.text(), st.text(), st.sampled_from(Status))
def test_no_text_breaks_the_form(description: str, error: str, reason: str, status: Status) -> None:
    text = told(
        trained(replace(EXPERIMENT, description=description, reason=reason, status=status), error=error)
    )
    first, second, third, *rest = text.split("\n")
    assert re.fullmatch(r"Experiment #12: \S.*", first)
    assert re.fullmatch(r"val_bpb: 0\.997900 → (0\.986041 \(-0\.011859\)|crash|skipped)", second)
    assert third == f"Status: {status}"
    assert rest[-1] == "+3 −1 lines · run mar12"
    assert len(rest) <= 4
    assert "Cc" not in {unicodedata.category(character) for character in text.replace("\n", "")}
    assert len(text.encode("utf-16-le")) / 2 <= 4096  # the shortest limit of a platform
    text.encode("utf-8")


def test_a_long_digest_fits_the_caption_of_a_picture() -> None:
    text = told(trained(replace(CRASH, description="d" * 9999, reason="r" * 9999), error="e" * 9999))
    assert len(text) < 1024


# Events


def event(kind: EventKind, **data: object) -> Event:
    return Event(id=7, at=0.0, run_id=1, number=12, kind=kind, data=data)


def test_a_decided_experiment_is_told_by_its_digest() -> None:
    assert message_of(event(EventKind.DECIDED), RUN, EXPERIMENT) == digest(EXPERIMENT, run=RUN)


def test_a_run_that_starts_is_introduced() -> None:
    message = message_of(event(EventKind.RUN_STARTED), RUN)
    assert message is not None
    assert message.text == (
        "Run mar12 started\n"
        "Repository: /home/ada/nano\n"
        "Branch: autoresearch/mar12, from main at 228791f\n"
        "Goal: lower val_bpb, 5 min a training"
    )


@pytest.mark.parametrize(
    ("happened", "text"),
    [
        (event(EventKind.RUN_STATE, state="running", reason=""), "Run mar12 goes on"),
        (event(EventKind.RUN_STATE, state="paused", reason="by ada"), "Run mar12 is paused: by ada"),
        (event(EventKind.RUN_STATE, state="stopped", reason=""), "Run mar12 is stopped"),
        (
            event(EventKind.RUN_RETAGGED, old="mar5", new="mar12"),
            "Run mar5 is now mar12\nBranch: autoresearch/mar12",
        ),
        (
            event(EventKind.RUN_RECOVERED, reason="the bot was away\nfor 3 h"),
            "Run mar12 goes on again: the bot was away for 3 h",
        ),
        (
            event(EventKind.NEEDS_ATTENTION, reason="3 experiments crashed in a row"),
            "Run mar12 needs a person: 3 experiments crashed in a row",
        ),
        (
            event(EventKind.NOTED, reason="no gain in 15 experiments"),
            "Run mar12: no gain in 15 experiments",
        ),
        (
            event(EventKind.INTERRUPTED, reason="the training vanished", vanished=True),
            "Experiment #12 will be trained again: the training vanished",
        ),
    ],
)
def test_events_are_told_in_a_sentence(happened: Event, text: str) -> None:
    message = message_of(happened, RUN)
    assert message is not None
    assert message.text == text


@pytest.mark.parametrize(
    "happened",
    [
        event(EventKind.PROPOSED),
        event(EventKind.COMMITTED),
        event(EventKind.TRAINING),
        event(EventKind.MEASURED),
        event(EventKind.SKIP_REQUESTED),
        event(EventKind.INTERRUPTED, reason="by command", vanished=False),
        event(EventKind.RUN_STATE, state="pausing", reason=""),
    ],
)
def test_steps_on_the_way_are_not_told(happened: Event) -> None:
    assert message_of(happened, RUN, EXPERIMENT) is None


def test_every_kind_of_event_is_told_or_passed_over() -> None:
    data = {"state": "paused", "reason": "r", "old": "a", "new": "b"}
    for kind in EventKind:
        message_of(event(kind, **data), RUN, EXPERIMENT)
