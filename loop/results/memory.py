"""What earlier experiments taught, over all runs of a repository.

Nothing is stored here: the journal has every experiment with its verdict. Of a run only so much is read as is
asked for, because this is done for every proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median

from loop.experiment import Experiment, Family, Goal, Run, Status
from loop.results.gains import FamilyRate, family_rates, gain
from loop.store.experiments import (
    Row,
    family_tries,
    largest_gains,
    last_discarded_values,
    last_failures,
    runs_like,
)
from loop.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an idea came to, where it was tried.

    `effect` is how much better the metric became, negative for worse, None without a number. `noise` bounds
    the chance part of an effect in that run, None where too little is known. `reason` is that of the verdict.
    """

    tag: str
    number: int
    description: str
    family: Family | None
    status: Status
    effect: float | None
    noise: float | None
    reason: str

    @property
    def is_plain(self) -> bool:
        """Whether the number says all of why it was judged so: kept for a gain, discarded for a loss."""
        if self.effect is None:
            return False
        return self.effect > 0 if self.status is Status.KEEP else self.effect <= 0


_FEW = 10  # effects, below which their spread says little: in simulated runs it is off by half and more
_RECENT = 200  # discarded experiments that tell the noise of a run
_RUNS = 10  # other runs that are remembered, the newest ones


def effect(experiment: Experiment, goal: Goal) -> float | None:
    """Return by how much the experiment was better than the best before it; None without a number."""
    return _effect(experiment.best_before, experiment.value, goal)


def noise(experiments: Iterable[Experiment], goal: Goal) -> float | None:
    """Return about an upper bound of the standard deviation of a measured effect, None with fewer than ten.

    It is 1.4826 times the median absolute deviation (Rousseeuw and Croux 1993) of the discarded effects: what
    they differ by is chance where most discarded changes hardly matter, and chance and harm where they do.
    """
    discarded = (experiment for experiment in experiments if experiment.status is Status.DISCARD)
    return _spread(effect(experiment, goal) for experiment in discarded)


def near_misses(experiments: Sequence[Experiment], goal: Goal, *, most: int = 5) -> list[Experiment]:
    """Return the discarded experiments that came nearest to being kept, the nearest first."""
    missed = [
        (change, experiment)
        for experiment in experiments
        if experiment.status is Status.DISCARD and (change := effect(experiment, goal)) is not None
    ]
    missed.sort(key=lambda pair: (-pair[0], pair[1].number))
    return [experiment for _, experiment in missed[:most]]


def lessons(journal: Journal, run: Run, *, most: int) -> list[Lesson]:
    """Return at most `most` lessons of a run, by number; the baseline is none, nor is what was skipped.

    Half of them, or fewer where fewer were kept, are the largest gains; the others are the last ones that
    were discarded or crashed.
    """
    gains = largest_gains(journal, run.id, most=(most + 1) // 2)
    failures = last_failures(journal, run.id, most=most - len(gains))
    recent = last_discarded_values(journal, run.id, most=_RECENT)
    spread = _spread(_effect(before, value, run.goal) for before, value in recent)
    rows = sorted([*gains, *failures], key=attrgetter("number"))
    return [_lesson(row, run, spread) for row in rows]


def lessons_of_others(journal: Journal, run: Run, *, most: int) -> list[Lesson]:
    """Return the lessons of the other runs that are remembered, at most `most` of each."""
    return [lesson for other in other_runs(journal, run) for lesson in lessons(journal, other, most=most)]


def hit_rates(journal: Journal, run: Run) -> tuple[FamilyRate, ...]:
    """Return how the families fared in this run and in the others that are remembered."""
    ids = [each.id for each in (*other_runs(journal, run), run)]
    return family_rates(
        (family, status, count, _effect(before, value, run.goal))
        for family, status, count, before, value in family_tries(journal, ids, run.goal)
    )


def other_runs(journal: Journal, run: Run) -> list[Run]:
    """Return the other runs that are remembered."""
    return runs_like(journal, run, most=_RUNS)


def most_valuable(found: Iterable[Lesson], most: int) -> list[Lesson]:
    """Return what is most worth knowing: what was kept, the surest gain first, then the nearest misses.

    A gain is the surer, the more of it is left without the noise; where that is unknown, nothing is.
    """
    measured = [(lesson.effect, lesson) for lesson in found if lesson.effect is not None]

    def worth(pair: tuple[float, Lesson]) -> tuple[bool, float, float]:
        change, lesson = pair
        if lesson.status is not Status.KEEP:
            return True, -change, 0.0
        sure = 0.0 if lesson.noise is None else change - lesson.noise
        return False, -sure, -change

    return [lesson for _, lesson in sorted(measured, key=worth)[:most]]


def _lesson(row: Row, run: Run, spread: float | None) -> Lesson:
    return Lesson(
        tag=run.tag,
        number=row.number,
        description=row.description,
        family=row.family,
        status=row.status,
        effect=_effect(row.best_before, row.value, run.goal),
        noise=spread,
        reason=row.reason,
    )


def _effect(best_before: float | None, value: float | None, goal: Goal) -> float | None:
    if best_before is None or value is None:
        return None
    return gain(best_before, value, goal)


def _spread(effects: Iterable[float | None]) -> float | None:
    known = [change for change in effects if change is not None]
    if len(known) < _FEW:
        return None
    middle = median(known)
    return 1.4826 * median(abs(change - middle) for change in known)
