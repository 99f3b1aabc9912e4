from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.engine.stages import KeepRule, decide, equal_within, usual_deadline
from loop.evaluation.noise import Noise
from loop.experiment import Ending, Goal, Outcome, Status
from loop.gain import gain
from loop.logs.summary import PAIRS


def outcome(
    value: float | None = None, *, ending: Ending = Ending.EXITED, exit_code: int | None = 0, **numbers: float
) -> Outcome:
    if value is not None:
        numbers["val_bpb"] = value
    return Outcome(ending, exit_code, started_at=0.0, ended_at=600.0, numbers=numbers)


def verdict(
    value: float, best: float | None, *, added: int = 1, removed: int = 1, rule: KeepRule | None = None
) -> Status:
    rule = rule or KeepRule()
    found = decide(rule, outcome(value), best=best, net_lines=added - removed)
    is_better = best is None or gain(best, value, rule.goal) > 0
    says_all = found.status is (Status.KEEP if is_better else Status.DISCARD)
    assert bool(found.reason) is not says_all
    return found.status


def test_the_first_number_is_kept_whatever_it_is() -> None:
    assert verdict(9.0, None) is Status.KEEP


def test_lower_is_kept_equal_and_worse_are_not() -> None:
    assert verdict(0.99, 1.0) is Status.KEEP
    assert verdict(1.0, 1.0) is Status.DISCARD
    assert verdict(1.01, 1.0) is Status.DISCARD


def test_with_the_other_goal_higher_is_kept() -> None:
    rule = KeepRule(goal=Goal.MAXIMIZE)
    assert verdict(1.01, 1.0, rule=rule) is Status.KEEP
    assert verdict(0.99, 1.0, rule=rule) is Status.DISCARD


def test_an_equal_result_from_less_code_is_kept() -> None:
    assert verdict(1.0, 1.0, added=1, removed=2) is Status.KEEP
    assert verdict(1.0, 1.0, added=2, removed=2) is Status.DISCARD


@pytest.mark.parametrize(
    ("better", "net_lines", "status"),
    [
        (0.0009, 20, Status.DISCARD),
        (0.0009, 19, Status.KEEP),
        (0.0011, 20, Status.KEEP),
        (0.0009, -20, Status.KEEP),
    ],
)
def test_a_small_gain_must_not_cost_much_code(better: float, net_lines: int, status: Status) -> None:
    assert verdict(1.0 - better, 1.0, added=max(net_lines, 0), removed=max(-net_lines, 0)) is status


@pytest.mark.parametrize(
    ("best", "better", "set_to", "status"),
    [
        (10640, 8, None, Status.DISCARD),
        (10640, 12, None, Status.KEEP),
        (1e-5, 8e-8, None, Status.DISCARD),
        (1e-5, 2e-7, None, Status.KEEP),
        (10640, 0.002, 0.001, Status.KEEP),
    ],
)
def test_what_is_a_small_gain_follows_the_metric_unless_it_is_set(
    best: float, better: float, set_to: float | None, status: Status
) -> None:
    rule = KeepRule("total", simplicity_gain=set_to)
    left = outcome(total=best - better)
    assert decide(rule, left, best=best, net_lines=20).status is status


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (outcome(exit_code=1), "exit status 1"),
        (outcome(exit_code=-9), "killed by signal 9"),
        (outcome(exit_code=0), "ended well but without val_bpb"),
        (outcome(exit_code=None), "ended without val_bpb"),
        (outcome(ending=Ending.DEADLINE), "still running after 10.0 min: killed at the deadline"),
        (
            replace(outcome(ending=Ending.DEADLINE, exit_code=-9), ended_at=2.04),
            "still running after 2.0 s: killed at the deadline",
        ),
        (outcome(ending=Ending.STALLED), "silent and idle for too long: killed after 10.0 min"),
        (outcome(ending=Ending.LIMIT), "used more than a training may: killed after 10.0 min"),
        (
            replace(outcome(ending=Ending.LIMIT), ended_at=-3600.0, seconds=5.0),  # the clock was set
            "used more than a training may: killed after 5.0 s",
        ),
        (outcome(float("nan")), "val_bpb is nan, which cannot be"),
        (outcome(float("nan"), exit_code=1), "val_bpb is nan, which cannot be"),
        (outcome(float("inf"), ending=Ending.DEADLINE), "val_bpb is inf, which cannot be"),
        (outcome(-float("inf")), "val_bpb is -inf, which cannot be"),
        (outcome(0.0), "val_bpb is 0, which cannot be"),
        (outcome(-0.5), "val_bpb is -0.5, which cannot be"),
    ],
)
@pytest.mark.parametrize("best", [None, 1.0])
def test_a_training_without_a_number_that_can_be_is_a_crash(
    left: Outcome, reason: str, best: float | None
) -> None:
    found = decide(KeepRule(), left, best=best)
    assert (found.status, found.reason) == (Status.CRASH, reason)


@pytest.mark.parametrize(
    ("left", "seen", "reason"),
    [
        (
            outcome(val_loss=3.0, val_acc=0.4, training_seconds=300.0, peak_vram_mb=1.0),
            (),
            (
                "no val_bpb in the summary; it has val_loss, val_acc, training_seconds, peak_vram_mb: "
                "set METRIC to one of val_acc, val_loss and METRIC_GOAL=maximize if more of it is better"
            ),
        ),
        (
            outcome(loss=3.0, lr=0.1),
            (),
            "no val_bpb in the summary; it has loss, lr: set METRIC=loss",
        ),
        (
            outcome(epoch=3.0, test_accuracy=0.4),
            (),
            (
                "no val_bpb in the summary; it has test_accuracy, epoch: "
                "set METRIC=test_accuracy and METRIC_GOAL=maximize"
            ),
        ),
        (
            outcome(a=1.0, b=1.0, c=1.0, d=1.0, e=1.0),
            (),
            "no val_bpb in the summary; it has a, b, c, d and 1 more: set METRIC to the one that decides",
        ),
        (
            outcome(),
            ("lr", "val_bpb"),
            (
                f"val_bpb is in the log but not in a summary: set SUMMARY_PATTERN='{PAIRS}', "
                "or print a line --- and then lines such as val_bpb: 1.0"
            ),
        ),
        (
            outcome(speed=12.5),  # METRIC speed=12.5 beside val_bpb=0.9
            ("val_bpb", "speed"),
            (
                f"val_bpb is in the log but not in a summary: set SUMMARY_PATTERN='{PAIRS}', "
                "or print a line --- and then lines such as val_bpb: 1.0"
            ),
        ),
        (
            outcome(exit_code=None),
            ("total_us",),
            (
                f"no summary in the log, which has total_us: set SUMMARY_PATTERN='{PAIRS}' and "
                "METRIC to the one that decides, or print a line --- and then lines such as val_bpb: 1.0"
            ),
        ),
        (
            outcome(),
            ("step", "val_accuracy", "loss"),
            (
                f"no summary in the log, which has val_accuracy, loss, step: set SUMMARY_PATTERN='{PAIRS}', "
                "METRIC=val_accuracy and METRIC_GOAL=maximize, "
                "or print a line --- and then lines such as val_bpb: 1.0"
            ),
        ),
        (
            outcome(ending=Ending.DEADLINE, val_loss=3.0),
            (),
            (
                "still running after 10.0 min: killed at the deadline; "
                "no val_bpb in the summary; it has val_loss: set METRIC=val_loss"
            ),
        ),
        (outcome(exit_code=1, val_loss=3.0), ("val_bpb",), "exit status 1"),
        (
            outcome(ending=Ending.STALLED),
            ("val_bpb",),
            "silent and idle for too long: killed after 10.0 min",
        ),
    ],
)
def test_a_missing_metric_is_told_with_what_is_there_and_the_setting(
    left: Outcome, seen: tuple[str, ...], reason: str
) -> None:
    found = decide(KeepRule(), left, best=None, seen=seen)
    assert (found.status, found.reason) == (Status.CRASH, reason)


@pytest.mark.parametrize(
    ("left", "seen", "reason"),
    [
        (
            outcome(val_loss=3.0),
            (),
            "no val_bpb among what SUMMARY_PATTERN finds; it finds val_loss: set METRIC=val_loss",
        ),
        (
            outcome(),
            ("val_bpb",),
            f"SUMMARY_PATTERN finds no number in the log, which has val_bpb: set SUMMARY_PATTERN='{PAIRS}'",
        ),
        (outcome(), (), "SUMMARY_PATTERN finds no number in the log"),
    ],
)
def test_a_pattern_that_does_not_fit_is_named(left: Outcome, seen: tuple[str, ...], reason: str) -> None:
    rule = KeepRule(pattern=r"(?P<key>a)(?P<value>b)")
    assert decide(rule, left, best=None, seen=seen).reason == reason


@pytest.mark.parametrize(
    ("metric", "goal", "possible"),
    [
        ("val_bpb", Goal.MINIMIZE, False),
        ("val_loss", Goal.MINIMIZE, False),
        ("eval/loss", Goal.MINIMIZE, False),
        ("accuracy", Goal.MAXIMIZE, True),
        ("neg_loss", Goal.MAXIMIZE, True),
        ("energy", Goal.MINIMIZE, True),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_only_a_loss_must_be_above_zero(metric: str, goal: Goal, *, possible: bool, value: float) -> None:
    left = Outcome(Ending.EXITED, 0, 0.0, 600.0, {metric: value})
    found = decide(KeepRule(metric, goal), left, best=None)
    assert (found.status is Status.KEEP) is possible


@pytest.mark.parametrize(
    ("ending", "exit_code", "clause"),
    [
        (Ending.EXITED, 0, ""),
        (Ending.EXITED, None, ""),
        (Ending.EXITED, 1, "exit status 1 after its summary"),
        (Ending.EXITED, -11, "killed by signal 11 after its summary"),
        (Ending.DEADLINE, -15, "still running after its summary: killed after 10.0 min"),
        (Ending.STALLED, -15, "hung after its summary: killed after 10.0 min"),
        (Ending.LIMIT, -9, "used more than a training may after its summary, and was killed"),
        (Ending.INTERRUPTED, -15, "ended from outside after its summary"),
        (Ending.VANISHED, None, ""),
    ],
)
@pytest.mark.parametrize(
    ("value", "best", "removed", "status", "reason"),
    [
        (1.5, None, 0, Status.KEEP, ""),
        (0.9, 1.0, 0, Status.KEEP, ""),
        (1.0, 1.0, 0, Status.DISCARD, ""),
        (1.1, 1.0, 0, Status.DISCARD, ""),
        (1.0, 1.0, 3, Status.KEEP, "equal with 3 fewer lines"),
    ],
)
def test_a_number_decides_whatever_came_after_it(
    ending: Ending,
    exit_code: int | None,
    clause: str,
    *,
    value: float,
    best: float | None,
    removed: int,
    status: Status,
    reason: str,
) -> None:
    left = outcome(value, ending=ending, exit_code=exit_code)
    found = decide(KeepRule(), left, best=best, net_lines=-removed)
    assert (found.status, found.reason) == (status, "; ".join(filter(None, (reason, clause))))


def test_a_training_has_its_budget_once_more_and_at_least_five_minutes() -> None:
    assert usual_deadline(300) == 600
    assert usual_deadline(20) == 320
    assert usual_deadline(3600) == 7200


def test_a_number_from_a_changed_evaluator_is_worth_nothing() -> None:
    found = decide(KeepRule(), outcome(0.1), best=1.0, tampered=("prepare.py",))
    assert found.status is Status.CRASH
    assert "prepare.py" in found.reason


@given(
    best=st.floats(0.1, 10),
    value=st.floats(0.1, 10),
    added=st.integers(0, 100),
    removed=st.integers(0, 100),
    goal=st.sampled_from(Goal),
)
def test_nothing_worse_is_ever_kept(best: float, value: float, added: int, removed: int, goal: Goal) -> None:
    status = verdict(value, best, added=added, removed=removed, rule=KeepRule(goal=goal))
    worse = value > best if goal is Goal.MINIMIZE else value < best
    assert status is not Status.KEEP or not worse


NOISE = Noise(0.0004, 2)


@pytest.mark.parametrize(
    ("setting", "noise", "expected"),
    [
        (None, None, 0.0),
        (None, NOISE, 0.0002),
        (0.001, NOISE, 0.001),
        (0.0, NOISE, 0.0),
        (0.001, None, 0.001),
    ],
)
def test_half_the_noise_counts_as_equal_unless_set(
    setting: float | None, noise: Noise | None, expected: float
) -> None:
    assert equal_within(KeepRule(equal_within=setting), noise) == expected


@pytest.mark.parametrize(
    ("value", "net_lines", "reason"),
    [
        (1.0, -2, "equal with 2 fewer lines"),
        (1.0002, -1, "0.000200 worse, which counts as equal, with 1 fewer line"),
        (1.0002, 0, None),
        (1.0002, 1, None),
        (1.000201, -50, None),
        (0.9999, 0, ""),
    ],
)
@pytest.mark.parametrize("goal", Goal)
def test_less_code_may_be_worse_within_the_noise(
    goal: Goal, value: float, net_lines: int, reason: str | None
) -> None:
    value = value if goal is Goal.MINIMIZE else round(2 - value, 6)
    added, removed = max(net_lines, 0), max(-net_lines, 0)
    rule = KeepRule(goal=goal)
    found = decide(rule, outcome(value), best=1.0, net_lines=added - removed, noise=NOISE, record=1.0)
    assert found.status is (Status.DISCARD if reason is None else Status.KEEP)
    assert found.reason == (reason or "")


def test_a_row_of_equal_results_does_not_lead_downhill() -> None:
    def found(value: float) -> Status:
        left = outcome(value)
        return decide(KeepRule(), left, best=1.0002, net_lines=-5, noise=NOISE, record=1.0).status

    assert found(1.0002) is Status.KEEP
    assert found(1.0003) is Status.DISCARD
    assert found(1.0001) is Status.KEEP  # better than the head


@pytest.mark.parametrize(
    ("better", "noise", "status"),
    [
        (0.0005, None, Status.DISCARD),
        (0.0005, NOISE, Status.KEEP),
        (0.0003, NOISE, Status.DISCARD),
        (0.0015, None, Status.KEEP),
        (0.0015, Noise(0.002, 3), Status.DISCARD),
    ],
)
def test_a_gain_that_costs_much_code_must_be_above_the_noise_where_that_is_known(
    better: float, noise: Noise | None, status: Status
) -> None:
    left = outcome(round(1 - better, 6))
    found = decide(KeepRule(), left, best=1.0, net_lines=20, noise=noise)
    assert found.status is status


@given(
    best=st.floats(0.1, 10),
    value=st.floats(0.1, 10),
    removed=st.integers(0, 100),
    goal=st.sampled_from(Goal),
    sigma=st.floats(0, 1),
    setting=st.none() | st.floats(0, 1),
)
def test_nothing_is_kept_that_is_worse_by_more_than_counts_as_equal(
    best: float, value: float, removed: int, goal: Goal, sigma: float, setting: float | None
) -> None:
    rule, noise = KeepRule(goal=goal, equal_within=setting), Noise(sigma, 2)
    left = outcome(value)
    found = decide(rule, left, best=best, net_lines=-removed, noise=noise)
    behind = -gain(best, value, goal)
    assert (found.status is Status.KEEP) is (
        behind < 0 or (removed > 0 and behind <= equal_within(rule, noise))
    )
