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

from loop.experiment import Proposal
from loop.proposers.protocol import Context
from tests.benchmarks.toy_run import conduct_toys, make_repository

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


async def measure(folder: Path, *, model: float, training: float, experiments: int) -> Waiting:
    """Make so many experiments with a real engine."""
    # A constant for each experiment, far from the others: what is kept meanwhile does not touch it.
    train = "".join(f"{constant(number)} = 0\n\n\n\n\n" for number in range(experiments + 2))
    gaps, status = await conduct_toys(
        folder,
        make_repository(folder / "repository", train=train, toy=TOY),
        proposer=SlowModel(model),
        settings={"SECONDS_OF_TRAINING": str(training)},
        experiments=experiments,
    )
    return Waiting(model, training, tuple(gaps), status.queue_empty)


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
