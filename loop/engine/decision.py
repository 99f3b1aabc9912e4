"""The verdict on an experiment: pure functions from numbers to keep, discard or crash."""

from __future__ import annotations

from dataclasses import dataclass

from loop.experiment import Ending, Goal, Outcome, Status, Verdict
from loop.gains import gain

ANOMALOUS_OVERRUN = 1.2
"""A training that counted more than this share of its budget is flagged: 360 s of 300 s in the practice."""

DEADLINE_FACTOR = 2.0
"""A training still running at this multiple of its budget is killed: 10 minutes for 300 s in the practice."""


@dataclass(frozen=True, slots=True)
class KeepRule:
    """When a measured experiment is kept.

    A gain below `simplicity_gain` that adds `simplicity_lines` or more net lines is not worth its code.
    The defaults are the practice's.
    """

    metric: str = "val_bpb"
    goal: Goal = Goal.MINIMIZE
    simplicity_gain: float = 0.001
    simplicity_lines: int = 20


def decide(
    rule: KeepRule,
    outcome: Outcome,
    *,
    best: float | None,
    lines_added: int,
    lines_removed: int,
    tampered: tuple[str, ...] = (),
) -> Verdict:
    """Judge `outcome` against the `best` value so far (None: there is none yet).

    `tampered` names fixed files that differ from the run's base commit; such a number is worth nothing.
    """
    if outcome.ending is Ending.DEADLINE:
        seconds = outcome.ended_at - outcome.started_at
        after = f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"
        return Verdict(Status.CRASH, f"still running after {after}, twice the time budget: killed")
    if outcome.ending is Ending.STALLED:
        return Verdict(Status.CRASH, "silent and idle for too long, killed")
    if tampered:
        return Verdict(Status.CRASH, f"{', '.join(tampered)} was changed during the training")
    value = outcome.numbers.get(rule.metric)
    if value is None:
        return Verdict(Status.CRASH, _why_no_value(rule.metric, outcome))
    if best is None:
        return Verdict(Status.KEEP, "the first number")
    better = gain(best, value, rule.goal)
    net_lines = lines_added - lines_removed
    if better < 0:
        return Verdict(Status.DISCARD, "worse")
    if better == 0:
        if net_lines < 0:
            return Verdict(Status.KEEP, f"equal with {-net_lines} fewer line{'' if net_lines == -1 else 's'}")
        return Verdict(Status.DISCARD, "no gain")
    if better < rule.simplicity_gain and net_lines >= rule.simplicity_lines:
        return Verdict(Status.DISCARD, f"a gain of {better:.6f} is too small for {net_lines} more lines")
    return Verdict(Status.KEEP, "improved")


def overrun(outcome: Outcome, time_budget: float) -> float | None:
    """Return the training seconds of an anomalously long training, None for a normal one."""
    seconds = outcome.numbers.get("training_seconds")
    return seconds if seconds is not None and seconds > ANOMALOUS_OVERRUN * time_budget else None


def _why_no_value(metric: str, outcome: Outcome) -> str:
    if outcome.exit_code is None:
        return f"ended without {metric}"
    if outcome.exit_code < 0:
        return f"killed by signal {-outcome.exit_code}"
    if outcome.exit_code > 0:
        return f"exit status {outcome.exit_code}"
    return f"ended well but without {metric}"
