"""What earlier experiments taught, over all runs of a repository.

Nothing is stored here: the journal has every experiment with its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from loop.experiment import Experiment, Family, Goal, Run, Status
from loop.journal import Journal


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an idea came to, where it was tried.

    `effect` is how much better the metric became, negative for worse, None without a number. `noise` bounds
    the chance part of an effect in that run, None where too little is known.
    """

    tag: str
    number: int
    description: str
    family: Family | None
    status: Status
    effect: float | None
    noise: float | None
    reason: str


_FEW = 5  # effects, below which their spread says nothing


def effect(experiment: Experiment, goal: Goal) -> float | None:
    """Return by how much the experiment was better than the best before it; None without a number."""
    if experiment.value is None or experiment.best_before is None:
        return None
    change = experiment.value - experiment.best_before
    return -change if goal is Goal.MINIMIZE else change


def noise(experiments: Iterable[Experiment], goal: Goal) -> float | None:
    """Return an upper bound of the standard deviation of a measured effect, None with fewer than five.

    It is 1.4826 times the median absolute deviation (Rousseeuw and Croux 1993) of the discarded effects:
    most discarded changes hardly matter, so what their effects differ by is chance for the most part.
    """
    effects = [
        change
        for experiment in experiments
        if experiment.status is Status.DISCARD and (change := effect(experiment, goal)) is not None
    ]
    if len(effects) < _FEW:
        return None
    middle = median(effects)
    return 1.4826 * median(abs(change - middle) for change in effects)


def near_misses(experiments: Sequence[Experiment], goal: Goal, *, most: int = 5) -> list[Experiment]:
    """Return the discarded experiments that came nearest to being kept, the nearest first."""
    missed = [
        (change, experiment)
        for experiment in experiments
        if experiment.status is Status.DISCARD and (change := effect(experiment, goal)) is not None
    ]
    missed.sort(key=lambda pair: (-pair[0], pair[1].number))
    return [experiment for _, experiment in missed[:most]]


def lessons(run: Run, experiments: Iterable[Experiment]) -> list[Lesson]:
    """Return what each decided experiment of a run but its baseline taught."""
    experiments = list(experiments)
    spread = noise(experiments, run.goal)
    return [
        Lesson(
            tag=run.tag,
            number=experiment.number,
            description=experiment.description,
            family=experiment.family,
            status=experiment.status,
            effect=effect(experiment, run.goal),
            noise=spread,
            reason=experiment.reason,
        )
        for experiment in experiments
        if experiment.number and experiment.status not in (None, Status.SKIP)
    ]


def lessons_of_others(journal: Journal, run: Run, *, last: int) -> list[Lesson]:
    """Return the lessons of earlier runs of the same repository and metric, at most `last` of each run."""
    return [
        lesson
        for other in _earlier(journal, run)
        for lesson in lessons(other, journal.experiments(other.id))[-last:]
    ]


def _earlier(journal: Journal, run: Run) -> list[Run]:
    def is_alike(other: Run) -> bool:
        return (other.repository, other.metric, other.goal) == (run.repository, run.metric, run.goal)

    return [other for other in journal.runs() if other.id < run.id and is_alike(other)]
