"""How good the embedded search is: it and random steps of one constant, at equally many experiments.

Run it with `.venv/bin/python -m tests.benchmarks.discovery [--landscape NAME ...] [--noise SD ...] [--seeds
N]`. Both change the constants of a program, are given the verdicts of `loop.engine.stages` and the noise of
three trainings of the baseline, and are judged by what their best program scores without noise. Each seed
is a landscape of its own, the same for both, with the same noise. The exit status is 1 where the search
misses a goal: the median gain at least 1.25 times that of random steps, the worst night better than theirs,
at most 2 % crashes, and where the noise is quiet at most 1.5 constants a proposal in the first 20.

With `--train` the programs are trained: the template's CPU profile, `--budget` seconds each, and the best
ones again with other seeds. That is 2 * seeds * (experiments + 4) + 3 trainings.
`--jobs` nights go on at once, each of them in a process and a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice, product
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, TypeAlias

from loop.engine.stages import KeepRule, decide
from loop.evaluation.noise import noise_of
from loop.experiment import Ending, Experiment, Outcome, Stage, Status, Training
from loop.program.constants import find_constants, replace_constants
from loop.program.fingerprint import fingerprint
from loop.proposers.protocol import Context, search_mode
from loop.proposers.search.space import find_axes
from loop.proposers.search.suggest import suggest
from tests.benchmarks.landscape import DEVICE, FILES, NAMES, Landscape, fits
from tests.benchmarks.template import Template
from tests.loop.proposers.contexts import run_of

RATIO, CRASHES, CONSTANTS = 1.25, 0.02, 1.5
"""The goals: gain in random steps' gains, share of crashes, constants a proposal in the first `EARLY`."""

EARLY = 20
QUIET = 0.0005
"""The largest noise at which constants are counted."""

NOISES = (0.0005, 0.002, 0.006)

Propose: TypeAlias = Callable[[Context], str]
"""From what is known to the next program."""


class Score(Protocol):
    """What programs are trained on."""

    def measure(self, source: str) -> float | None:
        """Return what one training prints, None for a crash."""

    def memory(self, source: str) -> float:
        """Return the MiB that it takes."""

    def true(self, source: str) -> float:
        """Return what the program is worth."""


@dataclass(frozen=True, slots=True)
class Night:
    """A run of one proposer: its best program, all experiments, and how many constants each changed."""

    best: str
    experiments: tuple[Experiment, ...]
    changed: tuple[int, ...]


def by_search(context: Context) -> str:
    """Propose as the bot does without a language model."""
    return suggest(context).source


def by_steps(context: Context) -> str:
    """Change one constant of the best program, whichever, to whatever."""
    chance = random.Random(f"{context.run.tag}/{len(context.experiments)}")
    axis = chance.choice(find_axes(find_constants(context.source), ()))
    value = chance.choice([value for value in axis.ladder if value != axis.current])
    name, whole = axis.constant.name, axis.constant.value
    return replace_constants(context.source, {name: axis.moved(value, whole)})


PROPOSERS: Mapping[str, Propose] = {"search": by_search, "random steps": by_steps}


def conduct(propose: Propose, score: Score, first: str, *, experiments: int, tag: str) -> Night:
    """Make so many experiments after the baseline, which is trained three times."""
    run = replace(run_of(), tag=tag)
    noise = noise_of([[value for _ in range(3) if (value := score.measure(first)) is not None]])
    best, made, changed = first, [judged(0, "", first, first, score, None)], []
    for number in range(1, experiments + 1):
        parent = next(each for each in reversed(made) if each.status is Status.KEEP)
        context = Context(run, best, parent.commit, tuple(made), files=FILES, device=DEVICE, noise=noise)
        source = propose(replace(context, search_mode=search_mode(made)))
        made.append(judged(number, parent.commit, best, source, score, parent.value))
        before = made[parent.number].constants
        changed.append(sum(before[name] != value for name, value in made[-1].constants.items()))
        best = source if made[-1].status is Status.KEEP else best
    return Night(best, tuple(made), tuple(changed))


def judged(number: int, parent: str, before: str, after: str, score: Score, best: float | None) -> Experiment:
    value = score.measure(after)
    memory = score.memory(after)
    numbers = {} if value is None else {"val_bpb": value, "peak_vram_mb": memory}
    outcome = Outcome(Ending.EXITED, int(value is None), 0.0, 1.0, numbers)
    error = "" if value is not None else "AssertionError" if fits(memory) else "CUDA out of memory"
    old, new = before.splitlines(), after.splitlines()
    verdict = decide(
        KeepRule(),
        outcome,
        best=best,
        net_lines=len(set(new) - set(old)) - len(set(old) - set(new)),
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
        training=Training(1, numbers=numbers, error=error),
        constants={constant.name: constant.value for constant in find_constants(after)},
        value=value,
        best_before=best,
        status=verdict.status,
        reason=verdict.reason,
        program=fingerprint(after),
    )


@dataclass(frozen=True, slots=True)
class Task:
    """A night to be conducted by a proposer on a score of its own."""

    proposer: str
    score: Landscape | Template
    experiments: int
    seed: int


@dataclass(frozen=True, slots=True)
class Harvest:
    """What a night gained, how many of its experiments crashed, and constants a proposal in the first 20."""

    gain: float
    crashes: float
    constants: float


def work(task: Task) -> Harvest:
    """Conduct a night, and look at what its best program is worth."""
    with ExitStack() as stack:
        score = task.score
        if isinstance(score, Template):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            score = score.copy(Path(folder))
        propose, first = PROPOSERS[task.proposer], score.program
        night = conduct(propose, score, first, experiments=task.experiments, tag=f"night{task.seed}")
        gain = score.true(first) - score.true(night.best)
        if isinstance(score, Template):  # nights of an hour: tell each of them
            print(f"{task.proposer}, seed {task.seed}: {gain:.4f}", file=sys.stderr, flush=True)
        crashes = sum(experiment.status is Status.CRASH for experiment in night.experiments)
        return Harvest(gain, crashes / task.experiments, statistics.mean(night.changed[:EARLY]))


@dataclass(frozen=True, slots=True)
class Row:
    """A proposer and what its nights yielded."""

    landscape: str
    noise: float | None
    proposer: str
    nights: tuple[Harvest, ...]

    HEAD = (
        f"{'':11}{'noise':8}{'':14}{'gain: median':>12}{'worst':>9}{'best':>9}{'crashes':>9}{'constants':>11}"
    )

    @property
    def gain(self) -> float:
        return statistics.median(night.gain for night in self.nights)

    @property
    def worst(self) -> float:
        return min(night.gain for night in self.nights)

    @property
    def crashes(self) -> float:
        return statistics.mean(night.crashes for night in self.nights)

    @property
    def constants(self) -> float:
        return statistics.mean(night.constants for night in self.nights)

    def __str__(self) -> str:
        best = max(night.gain for night in self.nights)
        return (
            f"{self.landscape:11}{self.noise or '':<8}{self.proposer:14}{self.gain:12.4f}{self.worst:9.4f}"
            f"{best:9.4f}{self.crashes:9.1%}{self.constants:11.2f}"
        )


def missed(search: Row, steps: Row, ratio: float) -> list[str]:
    """Return the goals that the search does not reach, a sentence each."""
    where = f"{search.landscape}, noise {search.noise}"
    found = []
    if search.gain < ratio * steps.gain or search.gain <= 0:
        found.append(f"{where}: the median is not {ratio:g} times that of random steps.")
    if search.worst <= steps.worst:
        found.append(f"{where}: the worst night is no better than that of random steps.")
    if search.crashes > CRASHES:
        found.append(f"{where}: more than {CRASHES:.0%} crashes.")
    if search.noise is not None and search.noise <= QUIET and search.constants > CONSTANTS:
        found.append(f"{where}: more than {CONSTANTS} constants a proposal in the first {EARLY}.")
    return found


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--landscape", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument(
        "--noise", nargs="+", type=float, default=NOISES, help="standard deviation of a score"
    )
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--ratio", type=float, default=RATIO, help="to random steps, to be reached")
    parser.add_argument("--jobs", type=int, default=1, help="nights at once")
    parser.add_argument("--train", action="store_true", help="train the programs instead")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of a training")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # as the bot's worker has it; a job is one thread
    settings: list[tuple[str, float | None]] = [*product(arguments.landscape, arguments.noise)]
    with ExitStack() as stack:
        template: Template | None = None
        if arguments.train:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            template = Template(folder, budget=arguments.budget)
            template.true(template.program)  # once for all
            settings = [("trained", None)]
        tasks = [
            Task(
                name,
                template or Landscape(landscape, seed=seed, noise=noise or 0.0),
                arguments.experiments,
                seed,
            )
            for landscape, noise in settings
            for name in PROPOSERS
            for seed in range(arguments.seeds)
        ]
        done: Iterator[Harvest] = map(work, tasks)
        if arguments.jobs > 1:
            pool = stack.enter_context(ProcessPoolExecutor(arguments.jobs, get_context("spawn")))
            done = pool.map(work, tasks)
        print(Row.HEAD, flush=True)
        misses = []
        for landscape, noise in settings:
            search, steps = (
                Row(landscape, noise, name, tuple(islice(done, arguments.seeds))) for name in PROPOSERS
            )
            print(search, steps, sep="\n", flush=True)
            misses += missed(search, steps, arguments.ratio)
    if misses:
        sys.exit("\n".join(misses))


if __name__ == "__main__":
    main()
