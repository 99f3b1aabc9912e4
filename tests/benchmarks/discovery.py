"""How good the embedded search is: it, single steps and whole points at random, at equally many experiments.

Run it with `.venv/bin/python -m tests.benchmarks.discovery [--seeds N] [--experiments N] [--noise SD]`. All
three change the training template's constants, are given the verdicts of `loop.engine.decision`, and are
judged by what their best program scores without noise. Each seed is a landscape of its own, the same for
all, with the same noise. The exit status is 1 if the search does not come out first, or not by as much as
`--ratio` asks.

With `--train` the programs are trained: the template's CPU profile, `--budget` seconds each, and the best
ones again with other seeds. Then search and points alone take 2 * seeds * (experiments + 4) + 3 trainings.
`--jobs` nights go on at once, each of them in a process and a folder of its own.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, TypeAlias

import training
from loop.engine.stages import KeepRule, decide
from loop.experiment import Ending, Experiment, Outcome, Stage, Status
from loop.program.constants import Value, find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, search_mode
from loop.proposers.search.space import find_axes
from loop.proposers.search.suggest import suggest
from tests.benchmarks.landscape import Landscape
from tests.benchmarks.template import Template
from tests.loop.proposers.contexts import run_of

GOAL = 0.01
"""The gain of which it is told after how many experiments it was reached."""

Propose: TypeAlias = Callable[[Context, int], str]
"""From what is known, and a seed, to the next program."""


class Score(Protocol):
    """What programs are trained on."""

    def measure(self, source: str) -> float | None:
        """Return what one training prints, None for a crash."""

    def true(self, source: str) -> float:
        """Return what the program is worth."""


@dataclass(frozen=True, slots=True)
class WakeUpReport:
    """A run of one proposer: the best program after each experiment, and all experiments."""

    best: tuple[str, ...]
    experiments: tuple[Experiment, ...]

    def count(self, status: Status) -> int:
        """Return how many experiments, without the baseline, got this verdict."""
        return sum(experiment.status is status for experiment in self.experiments[1:])


def by_search(context: Context, seed: int) -> str:
    """Propose as the bot does without a language model."""
    return suggest(context, seed=seed).source


def by_steps(context: Context, seed: int) -> str:
    """Change one constant of the best program, whichever, to whatever."""
    chance = random.Random(f"{seed}/{len(context.experiments)}")
    axis = chance.choice(find_axes(find_constants(context.source), ()))
    value = chance.choice([value for value in axis.ladder if value != axis.current])
    name, whole = axis.constant.name, axis.constant.value
    return replace_constants(context.source, {name: axis.moved(value, whole)})


def by_points(context: Context, seed: int) -> str:
    """Change every constant to whatever, on the ladders of the first program."""
    chance = random.Random(f"{seed}/{len(context.experiments)}")
    first = context.experiments[0].constants
    start = replace_constants(context.source, {name: _value(value) for name, value in first.items()})
    changes: dict[str, Value] = {}
    for axis in find_axes(find_constants(start), ()):
        name = axis.constant.name
        changes[name] = axis.moved(chance.choice(axis.ladder), changes.get(name, axis.constant.value))
    return replace_constants(start, changes)


def _value(value: object) -> Value:
    assert isinstance(value, bool | int | float | str | tuple)
    return value


PROPOSERS: Mapping[str, Propose] = {"search": by_search, "random points": by_points, "random steps": by_steps}


def conduct(propose: Propose, score: Score, first: str, *, experiments: int, seed: int) -> WakeUpReport:
    """Make so many experiments after the baseline."""
    run = run_of()
    best, made = [first], [_experiment(0, "", first, first, score, None)]
    for number in range(1, experiments + 1):
        parent = next(each for each in reversed(made) if each.status is Status.KEEP)
        context = Context(run, best[-1], parent.commit, tuple(made), search_mode=search_mode(made))
        source = propose(context, seed)
        made.append(_experiment(number, parent.commit, best[-1], source, score, parent.value))
        best.append(source if made[-1].status is Status.KEEP else best[-1])
    return WakeUpReport(tuple(best), tuple(made))


def _experiment(
    number: int, parent: str, before: str, after: str, score: Score, best: float | None
) -> Experiment:
    value = score.measure(after)
    numbers = {} if value is None else {"val_bpb": value}
    outcome = Outcome(Ending.EXITED, int(value is None), 0.0, 1.0, numbers)
    old, new = before.splitlines(), after.splitlines()
    verdict = decide(
        KeepRule(),
        outcome,
        best=best,
        lines_added=len(set(new) - set(old)),
        lines_removed=len(set(old) - set(new)),
    )
    return Experiment(
        run_id=1,
        number=number,
        stage=Stage.DECIDED,
        description=f"experiment {number}",
        rationale="",
        proposer="",
        parent=parent,
        commit=f"{number:07x}",
        constants={constant.name: constant.value for constant in find_constants(after)},
        value=value,
        best_before=best,
        status=verdict.status,
        reason=verdict.reason,
        program=fingerprint(after),
    )


@dataclass(frozen=True, slots=True)
class Task:
    """A night to be conducted by a proposer on a score of its own.

    `all_along` asks to look at the best program after each experiment, not only after the last.
    """

    proposer: str
    score: Landscape | Template
    first: str
    experiments: int
    seed: int
    all_along: bool


@dataclass(frozen=True, slots=True)
class Harvest:
    """What a night gained, and after how many experiments it had gained `GOAL`; None if nobody looked."""

    gain: float
    reached: float | None
    keeps: int
    crashes: int


def work(task: Task) -> Harvest:
    """Conduct a night, and look at what its best programs are worth."""
    with ExitStack() as stack:
        score = task.score
        if isinstance(score, Template):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            score = score.copy(Path(folder))
        propose = PROPOSERS[task.proposer]
        night = conduct(propose, score, task.first, experiments=task.experiments, seed=task.seed)
        start = score.true(task.first)
        reached = None
        if task.all_along:
            gained = (start - score.true(source) for source in night.best)
            reached = next((number for number, gain in enumerate(gained) if gain >= GOAL), math.inf)
        gain = start - score.true(night.best[-1])
        if isinstance(score, Template):  # nights of an hour: tell each of them
            print(f"{task.proposer}, seed {task.seed}: {gain:.4f}", file=sys.stderr, flush=True)
        return Harvest(gain, reached, night.count(Status.KEEP), night.count(Status.CRASH))


@dataclass(frozen=True, slots=True)
class Row:
    """A proposer and what its nights yielded."""

    name: str
    nights: tuple[Harvest, ...]

    HEAD = (
        f"{'':14}{'gain: median':>14}{'worst':>10}{'best':>10}{f'{GOAL} after':>12}{'keeps':>7}{'crashes':>9}"
    )

    @property
    def gain(self) -> float:
        """The median of what the nights gained."""
        return statistics.median(night.gain for night in self.nights)

    def __str__(self) -> str:
        """One line of the table."""
        gains = [night.gain for night in self.nights]
        looked = [night.reached for night in self.nights if night.reached is not None]
        reached = statistics.median_high(looked) if looked else math.inf
        keeps = statistics.mean(night.keeps for night in self.nights)
        crashes = statistics.mean(night.crashes for night in self.nights)
        return (
            f"{self.name:14}{self.gain:14.4f}{min(gains):10.4f}{max(gains):10.4f}"
            f"{'-' if reached == math.inf else reached:>12}{keeps:7.1f}{crashes:9.1f}"
        )


def tasks(arguments: argparse.Namespace, folder: Path) -> list[Task]:
    """Return all nights, those of a proposer together."""
    proposers = [*PROPOSERS]
    if arguments.train:
        proposers.remove("random steps")  # trainings are dear
        template = Template(folder, budget=arguments.budget)
        first = template.program
        template.true(first)  # once for all
    else:
        source = (Path(training.__file__).parent / "train.py").read_text(encoding="utf-8")
        # Only the constants: they are all that the landscape knows, and are read faster alone.
        first = "".join(f"{constant.name} = {constant.text}\n" for constant in find_constants(source))
    nights = []
    for name in proposers:
        for seed in range(arguments.seeds):
            score = template if arguments.train else Landscape(first, seed=seed, noise=arguments.noise)
            nights.append(Task(name, score, first, arguments.experiments, seed, not arguments.train))
    return nights


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--noise", type=float, default=0.002, help="standard deviation of a score")
    parser.add_argument("--ratio", type=float, default=1.0, help="to the better random, to be surpassed")
    parser.add_argument("--jobs", type=int, default=1, help="nights at once")
    parser.add_argument("--train", action="store_true", help="train the programs instead")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of a training")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # as the bot's worker has it; a job is one thread
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nights = tasks(arguments, folder)
        print(Row.HEAD, flush=True)
        if arguments.jobs > 1:
            done = stack.enter_context(ProcessPoolExecutor(arguments.jobs, get_context("spawn"))).map(
                work, nights
            )
        else:
            done = map(work, nights)
        rows = []
        for name in dict.fromkeys(task.proposer for task in nights):
            rows.append(Row(name, tuple(islice(done, arguments.seeds))))
            print(rows[-1], flush=True)
    search, *others = rows
    better = max(row.gain for row in others)
    ratio = search.gain / better if better > 0 else math.inf if search.gain > 0 else 0.0
    print(f"The search gains {ratio:.2f} times what the better random does.")
    if ratio <= arguments.ratio:
        sys.exit("The search does not come out first, or not clearly.")


if __name__ == "__main__":
    main()
