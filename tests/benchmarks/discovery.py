"""How good the embedded search is: it, single steps and whole points at random, at equally many experiments.

Run it with `.venv/bin/python -m tests.benchmarks.discovery [--seeds N] [--experiments N] [--noise SD]`. All
three change the training template's constants, are given the verdicts of `loop/decision.py`, and are judged
by what their best program scores without noise. Each seed is a landscape of its own, the same for all. The
exit status is 1 if the search does not come out first.

With `--train` the programs are trained: the template's CPU profile, `--budget` seconds each, and the best
ones again with other seeds. Then search and points alone take 2 * seeds * (experiments + 4) + 3 trainings.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import training
from loop.constants import find_constants, replace_constants
from loop.decision import KeepRule, decide
from loop.experiment import Ending, Experiment, Outcome, Stage, Status
from loop.fingerprint import fingerprint
from loop.proposers.protocol import Context
from loop.proposers.space import find_axes
from loop.proposers.suggest import suggest
from loop.stuck import urge
from loop.syntax import Value
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
class Night:
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


def by_points(first: str) -> Propose:
    """Change every constant of the `first` program to whatever."""
    constants = find_constants(first)
    axes = find_axes(constants, ())

    def propose(context: Context, seed: int) -> str:
        chance = random.Random(f"{seed}/{len(context.experiments)}")
        values: dict[str, Value] = {constant.name: constant.value for constant in constants}
        changes: dict[str, Value] = {}
        for axis in axes:
            name = axis.constant.name
            changes[name] = axis.moved(chance.choice(axis.ladder), changes.get(name, values[name]))
        return replace_constants(first, changes)

    return propose


def conduct(propose: Propose, score: Score, first: str, *, experiments: int, seed: int) -> Night:
    """Make so many experiments after the baseline."""
    run = run_of()
    best, made = [first], [_experiment(0, "", first, first, score, None)]
    for number in range(1, experiments + 1):
        parent = next(each for each in reversed(made) if each.status is Status.KEEP)
        context = Context(run, best[-1], parent.commit, tuple(made), urge=urge(made))
        source = propose(context, seed)
        made.append(_experiment(number, parent.commit, best[-1], source, score, parent.value))
        best.append(source if made[-1].status is Status.KEEP else best[-1])
    return Night(tuple(best), tuple(made))


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
class Row:
    """A proposer's nights: what each gained, and after how many experiments it had gained `GOAL`.

    `reached` is empty where only the ends of nights were looked at.
    """

    name: str
    gains: tuple[float, ...]
    reached: tuple[float, ...]
    nights: tuple[Night, ...]

    HEAD = (
        f"{'':14}{'gain: median':>14}{'worst':>10}{'best':>10}{f'{GOAL} after':>12}{'keeps':>7}{'crashes':>9}"
    )

    def __str__(self) -> str:
        """One line of the table."""
        reached = statistics.median_high(self.reached) if self.reached else math.inf
        keeps, crashes = (
            statistics.mean(night.count(status) for night in self.nights)
            for status in (Status.KEEP, Status.CRASH)
        )
        return (
            f"{self.name:14}{statistics.median(self.gains):14.4f}{min(self.gains):10.4f}"
            f"{max(self.gains):10.4f}{'-' if reached == math.inf else reached:>12}{keeps:7.1f}{crashes:9.1f}"
        )


def play(
    name: str, propose: Propose, scores: Sequence[Score], first: str, *, experiments: int, all_along: bool
) -> Row:
    """Conduct a night on each of the scores, and look at what the best programs are worth.

    They are looked at after the last experiment, or `all_along`.
    """
    gains, reached, nights = [], [], []
    for seed, score in enumerate(scores):
        night = conduct(propose, score, first, experiments=experiments, seed=seed)
        nights.append(night)
        start = score.true(first)
        gains.append(start - score.true(night.best[-1]))
        if all_along:
            gained = (start - score.true(source) for source in night.best)
            reached.append(next((number for number, gain in enumerate(gained) if gain >= GOAL), math.inf))
    return Row(name, tuple(gains), tuple(reached), tuple(nights))


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--noise", type=float, default=0.002, help="standard deviation of a score")
    parser.add_argument("--train", action="store_true", help="train the programs instead")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of a training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scores: list[Score]
        if arguments.train:
            template = Template(Path(folder), budget=arguments.budget)
            first, scores = template.program, [template] * arguments.seeds
        else:
            source = (Path(training.__file__).parent / "train.py").read_text(encoding="utf-8")
            # Only the constants: they are all that the landscape knows, and are read faster alone.
            first = "".join(f"{constant.name} = {constant.text}\n" for constant in find_constants(source))
            scores = [Landscape(first, seed=s, noise=arguments.noise) for s in range(arguments.seeds)]
        print(Row.HEAD, flush=True)
        proposers = {"search": by_search, "random points": by_points(first)}
        if not arguments.train:
            proposers["random steps"] = by_steps
        rows = []
        for name, propose in proposers.items():
            experiments, quick = arguments.experiments, not arguments.train
            rows.append(play(name, propose, scores, first, experiments=experiments, all_along=quick))
            print(rows[-1], flush=True)
    search, *others = (statistics.median(row.gains) for row in rows)
    if any(search <= other for other in others):
        sys.exit("The search does not come out first.")


if __name__ == "__main__":
    main()
