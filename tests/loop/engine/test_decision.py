from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.engine.decision import KeepRule, decide, overrun
from loop.experiment import Ending, Goal, Outcome, Status


def outcome(
    value: float | None = None, *, ending: Ending = Ending.EXITED, exit_code: int | None = 0, **numbers: float
) -> Outcome:
    if value is not None:
        numbers["val_bpb"] = value
    return Outcome(ending, exit_code, started_at=0.0, ended_at=600.0, numbers=numbers)


def verdict(
    value: float, best: float | None, *, added: int = 1, removed: int = 1, rule: KeepRule | None = None
) -> Status:
    found = decide(rule or KeepRule(), outcome(value), best=best, lines_added=added, lines_removed=removed)
    assert found.reason
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
    ("gain", "net_lines", "status"),
    [
        (0.0009, 20, Status.DISCARD),
        (0.0009, 19, Status.KEEP),
        (0.0011, 20, Status.KEEP),
        (0.0009, -20, Status.KEEP),
    ],
)
def test_a_small_gain_must_not_cost_much_code(gain: float, net_lines: int, status: Status) -> None:
    assert verdict(1.0 - gain, 1.0, added=max(net_lines, 0), removed=max(-net_lines, 0)) is status


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (outcome(exit_code=1), "exit status 1"),
        (outcome(exit_code=-9), "killed by signal 9"),
        (outcome(exit_code=0), "ended well but without val_bpb"),
        (outcome(exit_code=None), "ended without val_bpb"),
        (
            outcome(0.5, ending=Ending.DEADLINE),
            "still running after 10.0 min, twice the time budget: killed",
        ),
        (
            replace(outcome(ending=Ending.DEADLINE), ended_at=2.04),
            "still running after 2.0 s, twice the time budget: killed",
        ),
        (outcome(0.5, ending=Ending.STALLED), "silent and idle for too long, killed"),
    ],
)
def test_a_training_without_a_number_or_killed_is_a_crash(left: Outcome, reason: str) -> None:
    found = decide(KeepRule(), left, best=1.0, lines_added=0, lines_removed=0)
    assert (found.status, found.reason) == (Status.CRASH, reason)


def test_a_number_from_a_changed_evaluator_is_worth_nothing() -> None:
    found = decide(
        KeepRule(), outcome(0.1), best=1.0, lines_added=0, lines_removed=0, tampered=("prepare.py",)
    )
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


def test_only_a_training_well_over_its_budget_is_anomalous() -> None:
    assert overrun(outcome(1.0, training_seconds=360), 300) is None
    assert overrun(outcome(1.0, training_seconds=400), 300) == 400
    assert overrun(outcome(1.0), 300) is None
