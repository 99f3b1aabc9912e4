"""An experiment's way from stage to stage: each value made from the one before it, nothing else touched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from loop.engine.decision import KeepRule, decide, overrun
from loop.experiment import Ending, Experiment, Outcome, Proposal, Run, Stage, Status, Training
from loop.git.workspace import Commit

BASELINE = Proposal("", "baseline", "the program as it is", "baseline")


def proposed(
    run: Run,
    number: int,
    proposal: Proposal,
    commit: Commit,
    constants: Mapping[str, object],
    now: float,
    *,
    lane: int = 0,
    program: str = "",
    waited: float = 0.0,
) -> tuple[Experiment, Experiment]:
    first = Experiment(
        run_id=run.id,
        number=number,
        stage=Stage.PROPOSED,
        description=proposal.description,
        rationale=proposal.rationale,
        proposer=proposal.proposer,
        parent=proposal.parent,
        lane=lane,
        constants=constants,
        lines_added=commit.lines_added,
        lines_removed=commit.lines_removed,
        proposed_at=now,
        idea=proposal.idea,
        expected=proposal.expected,
        family=proposal.family,
        repairs=proposal.repairs,
        cost=proposal.cost,
        program=program,
        waited=waited,
    )
    return first, replace(first, stage=Stage.COMMITTED, commit=commit.sha)


def training(experiment: Experiment, *, pid: int, started: float, now: float) -> Experiment:
    begun = Training(k=experiment.attempt + 1, supervisor_pid=pid, supervisor_started=started, started_at=now)
    return replace(experiment, stage=Stage.TRAINING, training=begun)


def put_back(experiment: Experiment, outcome: Outcome) -> Experiment:
    return replace(experiment, stage=Stage.COMMITTED, training=_ended(experiment, outcome))


def why_put_back(outcome: Outcome, *, ordered: bool, disturbed: bool, blocked: bool) -> str:
    """Say why a training is to be run again.

    It was `ordered` to end, `disturbed` in its files, or `blocked` by what else is on the machine.
    """
    if blocked:
        return "it ran out of memory while the machine was not free for it"
    if disturbed:
        return "files of the worktree were deleted while it trained"
    if outcome.ending is Ending.VANISHED:
        return f"its training vanished: {outcome.error or 'the machine or its supervisor died'}"
    return "by command" if ordered else "something on the machine ended its training"


def measured(experiment: Experiment, outcome: Outcome) -> Experiment:
    return replace(experiment, stage=Stage.MEASURED, training=_ended(experiment, outcome))


def decided(
    experiment: Experiment,
    run: Run,
    rule: KeepRule,
    *,
    best: float | None,
    tampered: tuple[str, ...],
    now: float,
) -> Experiment:
    """Return an experiment with its verdict; `best` and `tampered` are as in `decide`."""
    outcome = Outcome(
        ending=experiment.ending or Ending.EXITED,
        exit_code=experiment.exit_code,
        started_at=experiment.started_at or 0.0,
        ended_at=experiment.ended_at or 0.0,
        numbers=experiment.numbers,
        error=experiment.error,
    )
    verdict = decide(
        rule,
        outcome,
        best=best,
        lines_added=experiment.lines_added,
        lines_removed=experiment.lines_removed,
        tampered=tampered,
    )
    reason = verdict.reason
    finite = {key: value for key, value in outcome.numbers.items() if math.isfinite(value)}
    seconds = overrun(outcome, run.time_budget)
    if seconds is not None:
        reason += f"; anomalous: trained {seconds:.0f} s of a budget of {run.time_budget:.0f} s"
    return replace(
        experiment,
        stage=Stage.DECIDED,
        decided_at=now,
        best_before=best,
        training=replace(experiment.last_training, numbers=finite),
        status=verdict.status,
        reason=reason,
        value=None if verdict.status is Status.CRASH else outcome.numbers[rule.metric],
    )


def alarm(crashed: Experiment, streak: int, *, every: int) -> str:
    """Return what a person must know of a crash, the last of a `streak`; empty if nothing."""
    last = crashed.cause
    if crashed.ending is Ending.DEADLINE:
        last = f"{last}; raise DEADLINE_MINUTES or look at /log {crashed.number}"
    if crashed.number == 0 and crashed.ending is Ending.DEADLINE:
        return f"the baseline, the program as it is, crashed: {last}"
    if crashed.number == 0:
        # What to do comes first: an error may be long, and is cut.
        fix = "fix and commit it, then /stop and /start_run"
        return f"the baseline, the program as it is, crashed ({fix}): {last}"
    return "" if streak % every else f"{streak} experiments crashed in a row, the last with: {last}"


def skipped(experiment: Experiment, reason: str, best_before: float | None, *, now: float) -> Experiment:
    return replace(
        experiment,
        stage=Stage.DECIDED,
        decided_at=now,
        status=Status.SKIP,
        reason=reason,
        best_before=best_before,
    )


def _ended(experiment: Experiment, outcome: Outcome) -> Training:
    return replace(
        experiment.last_training,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        ending=outcome.ending,
        exit_code=outcome.exit_code,
        numbers=outcome.numbers,
        error=outcome.error,
    )
