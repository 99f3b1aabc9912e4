"""How long a GPU waits for who has the ideas: a real engine, a model that takes its time, a toy training.

Run it with `.venv/bin/python -m tests.benchmarks.waiting [--experiments N]`, which measures a slow and a fast
model in scaled-down seconds, or with `--model-seconds 60 --training-seconds 20` for seconds of one's own. A
proposal is made while the experiment before it trains, so a model that is slower than a training lets the GPU
wait for the difference, which the run counts as an empty queue, and a faster one for nothing. Every third
experiment is kept, so that proposals are carried over to a new best too. Exit status 1: it waited longer,
or something else was counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop.decision import KeepRule
from loop.engine import Engine, Plan
from loop.environment import training_environment
from loop.experiment import Goal, Proposal
from loop.journal import Journal
from loop.proposers.protocol import Context
from loop.status import run_status
from loop.trainer import Trainer
from loop.workspace import Workspace
from tests.loop.lab import git

OVERHEAD = 0.5
"""Seconds that one wait may be longer than expected: what the engine does in it, on a busy machine."""

SCALED = ((6.0, 2.0), (1.0, 2.0))
"""Seconds of a model and of a training, one slower and one faster than the other."""

TOY = """#!/bin/sh
date +%s%N >> "$TIMES"
sleep "$SECONDS_OF_TRAINING"
printf -- '---\\nval_bpb: %d.0\\ntraining_seconds: 1.0\\n' $((99 - $(grep -c '^BETTER_.* = 1' train.py)))
date +%s%N >> "$TIMES"
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What was measured with one model: the seconds from each training's end to the next one's start."""

    model: float
    training: float
    gaps: tuple[float, ...]
    queue_empty: int

    @property
    def expected(self) -> float:
        """Seconds that the GPU has to wait for the model each time."""
        return max(0.0, self.model - self.training)

    @property
    def is_as_expected(self) -> bool:
        """Say whether it waited for the model alone, and each wait was counted and nothing else."""
        counted = len(self.gaps) if self.expected else 0
        return max(self.gaps) <= self.expected + OVERHEAD and self.queue_empty == counted


class SlowModel:
    """Sets one more constant each time, after `seconds`; every third one helps."""

    name = "model"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def propose(self, context: Context) -> Proposal:
        """Return an edit that has never been tried."""
        await asyncio.sleep(self._seconds)
        number = context.experiments[-1].number + 1
        name = constant(number)
        source = context.source.replace(f"{name} = 0", f"{name} = 1")
        return Proposal(source, f"{name} 1", "", self.name, context.parent)


def constant(number: int) -> str:
    """Return the name of the constant that an experiment sets."""
    return f"{'OTHER' if number % 3 else 'BETTER'}_{number}"


def make_repository(folder: Path, experiments: int) -> Path:
    """Return a new repository that holds the toy and a constant for each experiment, far from the others."""
    folder.mkdir()
    lines = (f"{constant(number)} = 0\n\n\n\n\n" for number in range(experiments + 2))
    (folder / "train.py").write_text("".join(lines))
    (folder / "prepare.py").write_text("TIME_BUDGET = 600\n")
    (folder / "toy.sh").write_text(TOY)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=toy")
    return folder


async def measure(folder: Path, *, model: float, training: float, experiments: int) -> Waiting:
    """Make so many experiments with a real engine."""
    repository = make_repository(folder / "repository", experiments)
    times, base = folder / "times", git(repository, "rev-parse", "HEAD")
    journal = Journal(folder / "state.db")
    workspace = Workspace(repository=repository, path=folder / "worktrees" / "waiting", tag="waiting")
    workspace.create(base)
    run = journal.create_run(
        tag="waiting",
        repository=repository,
        base_branch="main",
        base_commit=base,
        metric="val_bpb",
        goal=Goal.MINIMIZE,
        time_budget=600,
    )
    toy = {"TIMES": str(times), "SECONDS_OF_TRAINING": str(training)}
    engine = Engine(
        run,
        plan=Plan(KeepRule(), training_environment({"PATH": "/usr/bin:/bin"}, toy), command=("sh", "toy.sh")),
        journal=journal,
        workspace=workspace,
        trainer=Trainer(),
        proposer=SlowModel(model),
        folder=folder / "run",
    )
    try:
        await engine.conduct(experiments)
        counted = run_status(journal, run, worktree=workspace.path).queue_empty
    finally:
        workspace.close()
        journal.close()
    stamps = [int(line) / 1e9 for line in times.read_text().split()]
    gaps = tuple(start - end for end, start in zip(stamps[1::2], stamps[2::2], strict=False))
    return Waiting(model, training, gaps, counted)


def table(measured: Sequence[Waiting]) -> str:
    """Return a row for each model; all columns but the counts are in seconds."""
    lines = ["model  training  expected wait  median   worst  queue empty"]
    for each in measured:
        count = f"{each.queue_empty} of {len(each.gaps)}"
        lines.append(
            f"{each.model:5g}  {each.training:8g}  {each.expected:13g}  {statistics.median(each.gaps):6.3f}"
            f"  {max(each.gaps):6.3f}  {count:>11}{'' if each.is_as_expected else '  not as expected'}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and say by the exit status whether the GPU waited for a model alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-seconds", type=float)
    parser.add_argument("--training-seconds", type=float)
    parser.add_argument("--experiments", type=int, default=4)
    arguments = parser.parse_args()
    given = (arguments.model_seconds, arguments.training_seconds)
    if (given[0] is None) != (given[1] is None):
        parser.error("--model-seconds and --training-seconds belong together")
    pairs = SCALED if given[0] is None else (given,)
    measured = []
    for model, training in pairs:
        with tempfile.TemporaryDirectory() as folder:
            made = measure(Path(folder), model=model, training=training, experiments=arguments.experiments)
            measured.append(asyncio.run(made))
    print(table(measured))
    sys.exit(0 if all(each.is_as_expected for each in measured) else 1)


if __name__ == "__main__":
    main()
