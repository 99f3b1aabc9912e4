from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.engine.judging.verdicts import call_text
from loop.evaluation.noise import Noise
from loop.evidence import Certified, Finding, Invalidated, Rule, Severity
from loop.experiment import (
    Actor,
    Cause,
    Cost,
    Ending,
    Event,
    EventKind,
    Experiment,
    Family,
    Goal,
    Reason,
    Run,
    RunState,
    Stage,
    Status,
    Training,
)
from loop.gain import gain
from loop.results.ledger import Bill
from loop.results.report import WakeUpReport, make_report
from loop.store.experiments import Row
from notifiers.text.certainty import gain_text
from notifiers.text.digest import digest, message_of
from notifiers.text.notification import topic_of
from notifiers.text.report import report_message
from notifiers.text.results import results_message
from tests.loop.trainings import trained
from tests.notifiers.golden import check

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
)
CRASH = trained(replace(EXPERIMENT, status=Status.CRASH, value=None, reason="exit status 1"), numbers={})


def told(experiment: Experiment, run: Run = RUN, noise: Noise | None = None) -> str:
    return digest(experiment, run=run, noise=noise).text


DOUBTED = replace(
    EXPERIMENT,
    status=Status.QUARANTINE,
    doubts=("the gain is 12 times the largest before", "tokens do not fit the time on this device"),
)
UNBELIEVED = "prints 0.910000, evaluated 1.133000"
FINDINGS = tuple(
    Finding(Rule.FRAMES, 10 + line, f"reads what it should not, in way {line}", Severity.FLAG)
    for line in range(6)
)
DISCARDED = replace(EXPERIMENT, value=0.998, status=Status.DISCARD, lines_removed=0)
BASELINE = replace(
    EXPERIMENT,
    number=0,
    description="baseline",
    value=0.9979,
    best_before=None,
    lines_added=0,
    lines_removed=0,
)
MEMORY = "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: CUDA out of memory.\n\n"
LATE = replace(CRASH, reason="still running after 10.0 min: killed at the deadline")
CHANGES = ", ".join(
    f"{name}_LR 0.{i} → 0.0{i}" for i, name in enumerate(("EMBEDDING", "MATRIX", "HEAD", "X", "Y"))
)


def test_a_digest_reads_as_it_did() -> None:
    family, cost = Family.OPTIMIZER, Cost(20_000, 15_000, 900, 0.0231)
    experiments = {
        "kept": EXPERIMENT,
        "discarded": DISCARDED,
        "the baseline has nothing before it": BASELINE,
        "a crash shows the last line of its error": trained(CRASH, error=MEMORY, k=2),
        "killed": trained(LATE, ending=Ending.DEADLINE),
        "killed after an error": trained(LATE, ending=Ending.DEADLINE, error="ValueError: in a thread"),
        "with several constants at once": replace(EXPERIMENT, family=Family.COMBINATION, description=THREE),
        "skipped before it trained": replace(EXPERIMENT, status=Status.SKIP, value=None, training=None),
        "with a family and dollars": replace(EXPERIMENT, family=family, cost=cost),
        "with less than a cent": replace(EXPERIMENT, cost=Cost(20_000, 0, 900, 0.001)),
        "with tokens of unknown price": replace(EXPERIMENT, cost=Cost(20_000, 0, 900, None)),
        "with a family alone": replace(EXPERIMENT, family=Family.DATA_ORDER, cost=Cost(20_000, 0, 900, 0.0)),
        "many changes of constants": replace(EXPERIMENT, description=CHANGES),
        "in quarantine": DOUBTED,
        "in quarantine, with findings": replace(DOUBTED, findings=FINDINGS[:1]),
        "with many findings": replace(EXPERIMENT, findings=FINDINGS),
        "accepted": replace(DOUBTED, status=Status.KEEP, reason="accepted by ada"),
        "rejected": replace(
            DOUBTED, status=Status.DISCARD, reason="rejected by ada", invalidated=Invalidated.REJECTED
        ),
        "not believed": replace(
            EXPERIMENT,
            status=Status.DISCARD,
            reason=f"not believed: {UNBELIEVED}",
            doubts=(UNBELIEVED,),
            invalidated=Invalidated.NOT_BELIEVED,
        ),
        "a long description": replace(EXPERIMENT, description="widen the model, " * 5 + "then stop"),
    }
    check("digests", {title: told(experiment) for title, experiment in experiments.items()})


def test_a_digest_says_how_the_change_stands_to_the_noise() -> None:
    small, large = Noise(0.0004, 2), Noise(0.01, 2)
    crash = told(CRASH, noise=small)
    assert crash == told(CRASH)
    digests = {
        "better than the noise": told(EXPERIMENT, noise=small),
        "within the noise": told(EXPERIMENT, noise=large),
        "worse than the noise": told(replace(DISCARDED, value=1.02), noise=small),
        "the baseline": told(BASELINE, noise=small),
        "there is no noise": told(EXPERIMENT, noise=Noise(0.0, 2)),
    }
    check("digests_with_noise", digests)


def test_numbers_of_any_metric_are_shown_by_their_size() -> None:
    metrics = {
        "val_accuracy": (Goal.MAXIMIZE, 0.84, 0.851, 0.0009),
        "tokens_per_second": (Goal.MAXIMIZE, 10640.0, 10912.5, 31.0),
        "total_us": (Goal.MINIMIZE, 1064.0, 871.0, 4.0),
        "val_loss": (Goal.MINIMIZE, 1e-5, 9.2e-6, 1.3e-7),
    }
    shown = {}
    for metric, (goal, before, after, sigma) in metrics.items():
        run, better = replace(RUN, metric=metric, goal=goal), replace(EXPERIMENT, value=after)
        rows = [Row(0, "a1b2c3d", before, 44.0, Status.KEEP, "baseline")]
        rows += [Row(1, "b2c3d4e", after, 44.0, Status.KEEP, "halve batch size", repeats=(after, before))]
        bill = Bill(gain(before, after, goal), 1.84, 5400.0, 2.0, before)
        report = make_report(rows, metric=metric, goal=goal, tag="mar12")
        texts = (
            digest(replace(better, best_before=before), run=run, noise=Noise(sigma, 2)).text,
            report_message(WakeUpReport(report=report, bill=bill)).text,
            results_message(rows, metric=metric, goal=goal, total=2).block,
            gain_text(Certified(report.gain or 0.0, 2 * sigma, 9 * sigma, 3), report.gain, goal, before),
        )
        shown[metric] = "\n\n".join(texts)
    check("other_metrics", shown)


def test_models_that_cost_nothing_known_are_not_mentioned() -> None:
    for cost in (None, Cost(), Cost(dollars=None), Cost(20_000, 0, 900, 0.0)):
        assert told(replace(EXPERIMENT, cost=cost)) == told(EXPERIMENT)


TWO = ", ".join(CHANGES.split(", ")[:2])
THREE = ", ".join(CHANGES.split(", ")[:3])


@pytest.mark.parametrize("changes", [THREE, CHANGES, f"ADAM_BETAS (0.8, 0.95) → (0.85, 0.92), {CHANGES}"])
def test_the_first_line_fits_a_lock_screen_and_all_changes_stand_below(changes: str) -> None:
    first, *rest = told(replace(EXPERIMENT, description=changes)).split("\n")
    assert len(first) <= 60
    assert changes in rest


def test_the_first_line_shows_two_changes_with_their_values() -> None:
    first, *rest = told(replace(EXPERIMENT, description=TWO)).split("\n")
    assert first.endswith(TWO)
    assert TWO not in rest


def test_a_long_description_is_cut_in_the_first_line_and_stands_whole_below() -> None:
    words = "widen the model where it is narrowest, and then train it for longer"
    first, *rest = told(replace(EXPERIMENT, description=words)).split("\n")
    assert len(first) <= 80
    assert first.endswith("…")
    assert words in rest


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
    assert len(rest) <= 5
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
    assert message_of(event(EventKind.DECIDED, noise=None), RUN, EXPERIMENT) == digest(EXPERIMENT, run=RUN)
    noisy = message_of(event(EventKind.DECIDED, noise=[0.01, 2]), RUN, EXPERIMENT)
    assert noisy == digest(EXPERIMENT, run=RUN, noise=Noise(0.01, 2))


def repeated(value: float | None, *others: float, why: str = "person", **data: object) -> Event:
    values = [number for number in (0.986041, *others, value) if number is not None]
    facts = {"why": why, "value": value, "first": 0.986041, "values": values, "last": True}
    return event(EventKind.REPEATED, **facts, **data)


def test_events_read_as_they_did() -> None:
    by_ada = asdict(Reason(Actor.PERSON, "ada"))
    done = asdict(Reason(Actor.LOOP, facts={"made": 4}))
    events = {
        "started": event(EventKind.RUN_STARTED),
        "resumed, by an earlier release": event(EventKind.RUN_STATE, state="running", reason=""),
        "paused, by an earlier release": event(EventKind.RUN_STATE, state="paused", reason="by ada"),
        "paused": event(EventKind.RUN_STATE, state="paused", **by_ada),
        "stopped": event(EventKind.RUN_STATE, state="stopped", **by_ada),
        "done": event(EventKind.RUN_STATE, state="done", **done),
        "done, of repeats only": event(EventKind.RUN_STATE, state="done", **(done | {"facts": {"made": 0}})),
        "retagged": event(EventKind.RUN_RETAGGED, old="mar5", new="mar12"),
        "recovered": event(EventKind.RUN_RECOVERED, reason="the bot was away\nfor 3 h"),
        "needs attention": event(EventKind.NEEDS_ATTENTION, reason="3 experiments crashed in a row"),
        "noted": event(EventKind.NOTED, reason="no gain in 15 experiments"),
        "interrupted": event(EventKind.INTERRUPTED, reason="the training vanished", vanished=True),
        "woken up": event(EventKind.WAKE_UP),
        "more wanted": event(EventKind.WISHED, wish="more", name="ada"),
        "never again": event(EventKind.WISHED, wish="never", name=""),
        "no longer wanted": event(EventKind.WISHED, wish=None, name="ada"),
        "accepted": event(EventKind.ACCEPTED, name="ada", retried=[]),
        "accepted on an older head": event(EventKind.ACCEPTED, name="ada", retried=[12]),
        "rejected": event(EventKind.REJECTED, name="", retried=[]),
        "rejected, with what was built on it": event(EventKind.REJECTED, name="ada", retried=[13, 15]),
        "waits for a decision": event(
            EventKind.NEEDS_ATTENTION,
            cause=Cause.QUARANTINE,
            key="12",
            reason=call_text(DOUBTED, [0.98655], "val_bpb"),
        ),
        "repeated": repeated(0.986311, 0.985942, seed=7),
        "repeated once, without a seed": repeated(0.986311),
        "repeated with the same number": repeated(0.986041, 0.986041),
        "repeated and crashed": repeated(None, seed=7, error="ValueError: no"),
        "the noise": repeated(0.9865, 0.9859, why="noise"),
        "the noise of a program without any": repeated(0.986041, 0.986041, why="noise"),
        "the noise where repeats crashed": repeated(None, why="noise"),
        "a repeat vanished": event(
            EventKind.REPEAT_PUT_BACK, why="person", reason="its training vanished", vanished=True
        ),
        "certified": event(EventKind.CERTIFIED, **CERTIFIED),
        "certified, too little": event(EventKind.CERTIFIED, **CERTIFIED | {"low": -0.001, "repeats": 2}),
        "certified early": event(EventKind.CERTIFIED, **CERTIFIED | {"reason": "the run was stopped"}),
        "not certified": event(EventKind.CERTIFIED, head=12, recorded=0.0282, reason=""),
        "never begun": event(EventKind.CERTIFIED, head=None, recorded=None, reason="no time was left"),
        "pruned": event(EventKind.PRUNED, **PRUNED),
        "pruned, all bring something": event(
            EventKind.PRUNED, **PRUNED | {"own": {"4": [0.004, 0.003, 0.005]}, "removable": []}
        ),
        "pruned, one unsure": event(
            EventKind.PRUNED, **PRUNED | {"removable": [], "unmeasured": [2], "reason": "no time was left"}
        ),
        "pruned nothing": event(
            EventKind.PRUNED, head=12, own={}, removable=[], unmeasured=[3], reason="no time was left"
        ),
        "a repeat was skipped": event(EventKind.REPEAT_GIVEN_UP, why="person", reason="skipped by command"),
    }
    check("events", {title: message_of(happened, RUN).text for title, happened in events.items()})


CERTIFIED: dict[str, object] = {
    "head": 12,
    "recorded": 0.0282,
    "gain": 0.0205,
    "low": 0.0148,
    "high": 0.0262,
    "repeats": 3,
    "reason": "",
}
PRUNED: dict[str, object] = {
    "head": 12,
    "own": {"4": [0.004, 0.003, 0.005], "3": [0.0001, -0.0007, 0.0009], "9": [-0.0002, -0.001, 0.0006]},
    "removable": [9, 3],
    "unmeasured": [2],
    "reason": "",
}


@pytest.mark.parametrize(
    "happened",
    [
        event(EventKind.PROPOSED),
        event(EventKind.CERTIFYING),
        event(EventKind.PRUNING),
        event(EventKind.COMMITTED),
        event(EventKind.TRAINING),
        event(EventKind.MEASURED),
        event(EventKind.SKIP_REQUESTED),
        event(EventKind.INTERRUPTED, reason="by command", vanished=False),
        event(EventKind.RUN_STATE, state="pausing", reason=""),
        event(EventKind.DECIDED),  # of an experiment that is gone
        event(EventKind.REPEAT_ASKED, why="person"),
        event(EventKind.REPEAT_TRAINING, why="person"),
        event(EventKind.REPEAT_PUT_BACK, why="person", reason="by command", vanished=False),
        event(EventKind.REPEATED, why="certification", value=0.98),
        event(EventKind.REPEATED, why="noise", value=0.98, last=False),
        event(EventKind.REPEAT_GIVEN_UP, why="person", reason="the run was stopped", quiet=True),
    ],
)
def test_steps_on_the_way_are_not_told(happened: Event) -> None:
    assert topic_of(happened) is None


def test_every_kind_of_event_that_has_a_topic_has_a_message() -> None:
    repeat = {"why": "person", "value": 1.0, "values": [1.0]}
    data = {"state": "paused", "reason": "r", "old": "a", "new": "b", "vanished": True, **repeat}
    data |= {"wish": "more", "retried": [13, 15], "name": "ada", **PRUNED, **CERTIFIED}
    for kind in EventKind:
        if topic_of(event(kind, **data), EXPERIMENT) is not None:
            assert message_of(event(kind, **data), RUN, EXPERIMENT).text
