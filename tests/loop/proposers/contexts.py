"""Contexts for tests of proposers, without a journal or git behind them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loop.experiment import Experiment, Goal, Run, RunState, Stage, Status
from loop.proposers.protocol import Context
from loop.store.experiments import Idea


def run_of(goal: Goal = Goal.MINIMIZE) -> Run:
    return Run(
        id=1,
        tag="mar12",
        repository=Path("/repository"),
        base_branch="main",
        base_commit="b" * 40,
        metric="val_bpb",
        goal=goal,
        time_budget=300.0,
        state=RunState.RUNNING,
        created_at=0.0,
    )


def trial(
    number: int,
    description: str,
    constants: Mapping[str, object],
    value: float | None,
    status: Status | None,
) -> Experiment:
    """Return an experiment as far as a search looks at it."""
    stage = Stage.DECIDED if status else Stage.TRAINING
    return Experiment(
        1, number, stage, description, "", "search", "", constants=constants, value=value, status=status
    )


def context_of(
    source: str, *experiments: Experiment, goal: Goal = Goal.MINIMIZE, ideas: tuple[Idea, ...] = ()
) -> Context:
    return Context(run_of(goal), source, "c0ffee", experiments, ideas)
